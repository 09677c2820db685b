//! The account: its events, and what may happen to it.

use es_core::{Aggregate, Apply, Event, Start};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize, Debug)]
pub(crate) struct AccountOpened {
    pub(crate) owner: String,
}

#[derive(Event, Serialize, Deserialize, Debug)]
pub(crate) struct MoneyDeposited {
    pub(crate) cents: u64,
}

#[derive(Event, Serialize, Deserialize, Debug)]
pub(crate) struct MoneyWithdrawn {
    pub(crate) cents: u64,
}

#[derive(Aggregate, Serialize, Deserialize, Debug)]
#[aggregate(starts(AccountOpened), events(MoneyDeposited, MoneyWithdrawn))]
pub(crate) struct Account {
    pub(crate) owner: String,
    pub(crate) cents: u64,
}

/// Why the bank says no.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{owner} has {has} cents, not {wanted}")]
    TooPoor {
        owner: String,
        has: u64,
        wanted: u64,
    },
}

impl Account {
    pub(crate) fn deposit(&self, cents: u64) -> Result<MoneyDeposited, Refused> {
        Ok(MoneyDeposited { cents })
    }

    pub(crate) fn withdraw(&self, cents: u64) -> Result<MoneyWithdrawn, Refused> {
        if cents > self.cents {
            return Err(Refused::TooPoor {
                owner: self.owner.clone(),
                has: self.cents,
                wanted: cents,
            });
        }
        Ok(MoneyWithdrawn { cents })
    }
}

impl Start<AccountOpened> for Account {
    fn start(event: &AccountOpened) -> Self {
        Self {
            owner: event.owner.clone(),
            cents: 0,
        }
    }
}

impl Apply<MoneyDeposited> for Account {
    fn apply(&mut self, event: &MoneyDeposited) {
        self.cents = self.cents.saturating_add(event.cents);
    }
}

impl Apply<MoneyWithdrawn> for Account {
    fn apply(&mut self, event: &MoneyWithdrawn) {
        self.cents = self.cents.saturating_sub(event.cents);
    }
}
