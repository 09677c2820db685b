//! A bank, for what one aggregate alone cannot do: a transfer between two accounts, a letter that goes out
//! if and only if its event is recorded, balances that are never behind, and a customer who wants to be
//! forgotten. `cargo run --example bank`

mod account;
mod balances;

use std::{error::Error, process::ExitCode};

use es_core::{Chain, EventStore, Repository, StreamErased, save_all};
use es_sqlx::{SqliteStore, sqlite::SqliteOptions};
use sqlx::Executor;
use uuid::Uuid;

use self::{
    account::{Account, AccountOpened},
    balances::Balances,
};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bank: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bank.db");
    let store = SqliteOptions::new(file.to_string_lossy())
        .inline(Balances)
        .open()
        .await?;
    let accounts = Repository::<Account>::new(store.clone()).snapshot_every(100);

    let (alice, bob) = (Uuid::now_v7(), Uuid::now_v7());
    for (id, owner) in [(alice, "Alice"), (bob, "Bob")] {
        let owner = owner.to_owned();
        accounts.create(id, AccountOpened { owner }).await?;
    }
    accounts.update(alice, |a| a.deposit(10_000)).await?;
    show(&store, "Alice has paid in 100.00").await?;

    transfer(&store, &accounts, [alice, bob], 3_000).await?;
    show(&store, "Alice has sent Bob 30.00").await?;
    if let Err(refused) = transfer(&store, &accounts, [alice, bob], 50_000).await {
        println!("Alice cannot send 500.00: {refused}\n");
    }

    withdraw_by_letter(&store, &accounts, bob, 1_000).await?;
    show(
        &store,
        "Bob has taken out 10.00, and a letter waits for the post",
    )
    .await?;

    let tombstone = StreamErased::new("asked to be forgotten", "the clerk");
    store.erase(&accounts.stream(alice), &tombstone).await?;
    show(&store, "Alice has been forgotten").await?;
    if let Err(forgotten) = accounts.load(alice).await {
        let forgotten = forgotten.to_string().replace(&alice.to_string(), "…");
        println!("Nobody can read her account any more: {forgotten}");
    }
    store.close().await;
    Ok(())
}

/// Both accounts change, or neither. If somebody was faster, it is decided anew.
async fn transfer(
    store: &SqliteStore,
    accounts: &Repository<Account>,
    [from, to]: [Uuid; 2],
    cents: u64,
) -> Result<(), Failure> {
    loop {
        let (mut payer, mut payee) = (accounts.load(from).await?, accounts.load(to).await?);
        let (withdrawn, deposited) = (payer.withdraw(cents)?, payee.deposit(cents)?);
        payer.raise(withdrawn);
        payee.raise(deposited);
        match save_all(store, &mut [&mut payer, &mut payee]).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The letter stands in the outbox if and only if the event is in the log.
async fn withdraw_by_letter(
    store: &SqliteStore,
    accounts: &Repository<Account>,
    id: Uuid,
    cents: u64,
) -> Result<(), Failure> {
    let mut account = accounts.load(id).await?;
    account.raise(account.withdraw(cents)?);

    let mut transaction = store.begin().await?;
    let db = transaction.connection();
    db.execute("CREATE TABLE IF NOT EXISTS outbox (letter TEXT NOT NULL)")
        .await?;
    sqlx::query("INSERT INTO outbox VALUES (?1)")
        .bind(format!(
            "Dear {}, here are your {cents} cents.",
            account.owner
        ))
        .execute(db)
        .await?;
    let appended = transaction.append_all(&[account.to_append()?]).await?;
    transaction.commit().await?;
    for appended in appended {
        account.committed(appended);
    }
    Ok(())
}

async fn show(store: &SqliteStore, what: &str) -> Result<(), Failure> {
    println!("{what}:");
    for (owner, cents) in balances::all(store.pool()).await? {
        println!("  {owner:<6}{}.{:02}", cents / 100, cents % 100);
    }
    let letters: Result<Vec<String>, _> = sqlx::query_scalar("SELECT letter FROM outbox")
        .fetch_all(store.pool())
        .await;
    // Until the first letter there is no outbox.
    for letter in letters.unwrap_or_default() {
        println!("  in the outbox: {letter}");
    }
    println!();
    Ok(())
}
