//! The rows of a batch, in memory.

use std::{collections::HashMap, future::Future};

use super::{HasTable, ReadModel, RowsError};

/// The rows that a batch of events is about: [loaded](Self::load) with one SELECT, changed in memory, and
/// [saved](Self::save) with one INSERT that replaces and one DELETE. SQLite takes several where there are
/// many rows.
///
/// Only rows that differ from what was loaded are written, and **nothing is written without `save`**.
///
/// What is read and written back later must not be changed by somebody else in between. Rows whose key is
/// the aggregate's id are safe: all events of an aggregate are in one shard, one batch after the other. A
/// row that events of several aggregates change, a counter of them all for example, needs a projection of
/// one shard.
///
#[cfg_attr(feature = "sqlite", doc = "```")]
#[cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
/// use es_sqlx::rows::{Rows, RunSql};
/// use sqlx::{Connection, SqliteConnection};
///
/// es_sqlx::read_model! {
///     /// A word, and how often it was said.
///     #[derive(Debug, Clone, PartialEq)]
///     struct Word in "words" {
///         #[key]
///         word: String,
///         times: i64,
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut db = SqliteConnection::connect("sqlite::memory:").await?;
/// db.run("CREATE TABLE words (word TEXT PRIMARY KEY, times INT NOT NULL)").await?;
///
/// let said = ["knock", "knock", "who"].map(str::to_owned);
/// let mut words = Rows::<Word>::load(&mut db, said.clone()).await?;
/// for word in said {
///     words.or_insert(Word { word, times: 0 })?.times += 1;
/// }
/// words.save(&mut db).await?;
///
/// let words = Rows::<Word>::load(&mut db, ["knock".to_owned()]).await?;
/// assert_eq!(words.get(&"knock".to_owned())?.map(|word| word.times), Some(2));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is written without `save`"]
pub struct Rows<R: ReadModel> {
    /// Where the slot of a key is.
    places: HashMap<R::Key, usize>,
    /// In the order in which their keys came, in which they are written.
    slots: Vec<Slot<R>>,
}

/// One key, and whether it has a row.
#[derive(Debug)]
struct Slot<R: ReadModel> {
    key: R::Key,
    row: Option<R>,
    before: Before<R>,
}

/// What the database has for a key.
#[derive(Debug)]
enum Before<R> {
    /// What the slot has.
    Same,
    /// No row.
    Nothing,
    /// Another row.
    Row(R),
    /// Nobody looked.
    Unknown,
}

impl<R: ReadModel> Rows<R> {
    /// Loads the rows of all keys that the batch may touch. Keys may be given more than once.
    ///
    /// # Errors
    ///
    /// [`RowsError::Database`].
    pub fn load<C: HasTable<R>>(
        connection: &mut C,
        keys: impl IntoIterator<Item = R::Key>,
    ) -> impl Future<Output = Result<Self, RowsError>> + Send {
        let mut rows = Self {
            places: HashMap::new(),
            slots: Vec::new(),
        };
        let keys = rows.unknown(keys);
        async move {
            rows.fetch(connection, keys).await?;
            Ok(rows)
        }
    }

    /// Loads more rows, whose keys are known only from those that are there already. What was loaded or
    /// changed before stays as it is.
    ///
    /// # Errors
    ///
    /// [`RowsError::Database`].
    pub fn load_more<C: HasTable<R>>(
        &mut self,
        connection: &mut C,
        keys: impl IntoIterator<Item = R::Key>,
    ) -> impl Future<Output = Result<(), RowsError>> + Send {
        let keys = self.unknown(keys);
        self.fetch(connection, keys)
    }

    /// The row, if there is one.
    ///
    /// # Errors
    ///
    /// [`RowsError::NotLoaded`].
    pub fn get(&self, key: &R::Key) -> Result<Option<&R>, RowsError> {
        Ok(self.slots[self.place(key)?].row.as_ref())
    }

    /// The row, to change it, if there is one. Its key must stay what it is.
    ///
    /// # Errors
    ///
    /// [`RowsError::NotLoaded`].
    pub fn get_mut(&mut self, key: &R::Key) -> Result<Option<&mut R>, RowsError> {
        let place = self.place(key)?;
        Ok(self.slots[place].change())
    }

    /// The row, to change it; that there is none is an error. Its key must stay what it is.
    ///
    /// # Errors
    ///
    /// [`RowsError::Missing`], [`RowsError::NotLoaded`].
    pub fn update(&mut self, key: &R::Key) -> Result<&mut R, RowsError> {
        self.get_mut(key)?
            .ok_or_else(|| RowsError::missing::<R>(key))
    }

    /// The row with this row's key, to change it; if there is none, this one.
    ///
    /// # Errors
    ///
    /// [`RowsError::NotLoaded`].
    pub fn or_insert(&mut self, row: R) -> Result<&mut R, RowsError> {
        let place = self.place(&row.key())?;
        let slot = &mut self.slots[place];
        slot.keep();
        Ok(slot.row.get_or_insert(row))
    }

    /// Adds a row; that there is one of its key is an error.
    ///
    /// # Errors
    ///
    /// [`RowsError::Exists`], [`RowsError::NotLoaded`].
    pub fn insert(&mut self, row: R) -> Result<(), RowsError> {
        let key = row.key();
        let place = self.place(&key)?;
        match &mut self.slots[place].row {
            Some(_) => Err(RowsError::exists::<R>(&key)),
            none => {
                *none = Some(row);
                Ok(())
            }
        }
    }

    /// Adds a row, or replaces the one that has its key, which need not have been loaded.
    pub fn put(&mut self, row: R) {
        let key = row.key();
        match self.places.get(&key) {
            Some(place) => {
                let slot = &mut self.slots[*place];
                slot.keep();
                slot.row = Some(row);
            }
            None => self.add(key, Some(row), Before::Unknown),
        }
    }

    /// Removes the row; `false` if there was none.
    ///
    /// # Errors
    ///
    /// [`RowsError::NotLoaded`].
    pub fn remove(&mut self, key: &R::Key) -> Result<bool, RowsError> {
        let place = self.place(key)?;
        let slot = &mut self.slots[place];
        slot.keep();
        Ok(slot.row.take().is_some())
    }

    /// Writes what has changed: first the rows that are gone, then those that are new or different.
    ///
    /// # Errors
    ///
    /// [`RowsError::KeyChanged`]; [`RowsError::Database`].
    pub async fn save<C: HasTable<R>>(self, connection: &mut C) -> Result<(), RowsError> {
        let mut gone = Vec::new();
        let mut changed = Vec::new();
        for slot in &self.slots {
            match (&slot.row, &slot.before) {
                (_, Before::Same) | (None, Before::Nothing) => {}
                (Some(row), Before::Row(before)) if row == before => {}
                (Some(row), _) if row.key() != slot.key => {
                    return Err(RowsError::key_changed::<R>(&slot.key));
                }
                (Some(row), _) => changed.push(row),
                (None, _) => gone.push(&slot.key),
            }
        }
        if !gone.is_empty() {
            let deleted = connection.delete(&gone).await;
            deleted.map_err(RowsError::database::<R>("delete"))?;
        }
        if !changed.is_empty() {
            let written = connection.upsert(&changed).await;
            written.map_err(RowsError::database::<R>("write"))?;
        }
        Ok(())
    }

    /// Those of the keys that nobody has asked for yet, each once. In order, because neighbours share pages,
    /// and because batches that touch the same rows then wait for each other instead of locking each
    /// other out.
    fn unknown(&self, keys: impl IntoIterator<Item = R::Key>) -> Vec<R::Key> {
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| !self.places.contains_key(key));
        keys
    }

    async fn fetch<C: HasTable<R>>(
        &mut self,
        connection: &mut C,
        keys: Vec<R::Key>,
    ) -> Result<(), RowsError> {
        if keys.is_empty() {
            return Ok(());
        }
        let found = connection.fetch(&keys.iter().collect::<Vec<_>>()).await;
        let found = found.map_err(RowsError::database::<R>("load"))?;
        self.places.reserve(keys.len());
        for key in keys {
            self.add(key, None, Before::Nothing);
        }
        for row in found {
            let key = row.key();
            let place = *self
                .places
                .get(&key)
                .ok_or_else(|| RowsError::not_asked::<R>(&key))?;
            self.slots[place].row = Some(row);
            self.slots[place].before = Before::Same;
        }
        Ok(())
    }

    fn place(&self, key: &R::Key) -> Result<usize, RowsError> {
        let place = self.places.get(key).copied();
        place.ok_or_else(|| RowsError::not_loaded::<R>(key))
    }

    fn add(&mut self, key: R::Key, row: Option<R>, before: Before<R>) {
        self.places.insert(key.clone(), self.slots.len());
        self.slots.push(Slot { key, row, before });
    }
}

impl<R: ReadModel> Slot<R> {
    /// The row, after what the database has was noted down.
    fn change(&mut self) -> Option<&mut R> {
        self.keep();
        self.row.as_mut()
    }

    /// Notes down what the database has, before the row is changed.
    fn keep(&mut self) {
        if let (Before::Same, Some(row)) = (&self.before, &self.row) {
            self.before = Before::Row(row.clone());
        }
    }
}
