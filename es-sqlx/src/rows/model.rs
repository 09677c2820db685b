//! A row type, and the macro that makes one of a struct.

use std::{fmt::Debug, hash::Hash};

use sqlx::{Database, Error};

/// A row of a table, as a struct. [`read_model!`](crate::read_model) implements it.
pub trait ReadModel: Clone + PartialEq + Send + Sync + 'static {
    /// What a row is found by: the type of the `#[key]` field, or a tuple of several.
    type Key: Clone + Debug + Hash + Ord + Send + Sync + 'static;

    /// The table.
    const TABLE: &'static str;
    /// The columns of the key.
    const KEY: &'static [&'static str];
    /// All columns.
    const COLUMNS: &'static [&'static str];

    /// The key of this row.
    fn key(&self) -> Self::Key;
}

/// How a row goes to and comes from the database `DB`. [`read_model!`](crate::read_model) implements it.
pub trait Stored<DB: Database>: ReadModel {
    /// The row as it was read, its columns in the order of [`ReadModel::COLUMNS`].
    ///
    /// # Errors
    ///
    /// If a column has another type than the field.
    fn decode(row: &DB::Row) -> Result<Self, Error>;

    /// Adds keys to the parameters of a statement.
    ///
    /// # Errors
    ///
    /// If a value cannot be encoded.
    fn bind_keys(keys: &[&Self::Key], parameters: &mut DB::Arguments) -> Result<(), Error>;

    /// Adds rows to the parameters of a statement.
    ///
    /// # Errors
    ///
    /// If a value cannot be encoded.
    fn bind_rows(rows: &[&Self], parameters: &mut DB::Arguments) -> Result<(), Error>;
}

/// Makes a struct the row of a table, to be used through [`Rows`](crate::rows::Rows).
///
/// Each field is the column of its name. `#[key]` marks the fields by which rows are found: the primary
/// key of the table, or columns with a unique index. The struct must be `Clone` and `PartialEq`, the key
/// also `Ord`, `Hash` and `Debug`. Columns that are not mentioned keep what they have, and their default in
/// a new row.
///
/// A field can be of any type that sqlx knows on each database whose feature of this crate is on. That is
/// true of `Uuid`, `String`, `i32`, `i64`, `f64`, `bool`, `DateTime<Utc>`, `Vec<u8>`, `serde_json::Value`
/// and an `Option` of each.
///
/// ```
/// use uuid::Uuid;
///
/// es_sqlx::read_model! {
///     /// How often a player has been in a room.
///     #[derive(Debug, Clone, PartialEq)]
///     pub struct Visits in "visits" {
///         #[key]
///         pub player_id: Uuid,
///         #[key]
///         pub room_id: Uuid,
///         /// How often.
///         pub count: i64,
///     }
/// }
/// ```
#[macro_export]
macro_rules! read_model {
    ($(#[$meta:meta])* $vis:vis struct $name:ident in $table:literal { $($fields:tt)* }) => {
        $crate::__read_model! {
            [$(#[$meta])* $vis] $name $table keys [] fields [] attributes [] column; $($fields)*
        }
    };
}

/// Takes one field after the other; then writes it all down.
#[doc(hidden)]
#[macro_export]
macro_rules! __read_model {
    ($head:tt $name:ident $table:literal keys $keys:tt fields $fields:tt
     attributes $attributes:tt $kind:ident; #[key] $($rest:tt)*) => {
        $crate::__read_model! {
            $head $name $table keys $keys fields $fields attributes $attributes key; $($rest)*
        }
    };
    ($head:tt $name:ident $table:literal keys $keys:tt fields $fields:tt
     attributes [$($attributes:tt)*] $kind:ident; #[$attribute:meta] $($rest:tt)*) => {
        $crate::__read_model! {
            $head $name $table keys $keys fields $fields
            attributes [$($attributes)* #[$attribute]] $kind; $($rest)*
        }
    };
    ($head:tt $name:ident $table:literal keys [$($keys:tt)*] fields [$($fields:tt)*]
     attributes [$($attributes:tt)*] key; $vis:vis $field:ident: $type:ty $(, $($rest:tt)*)?) => {
        $crate::__read_model! {
            $head $name $table keys [$($keys)* ($field $type)]
            fields [$($fields)* ([$($attributes)* $vis] $field $type)]
            attributes [] column; $($($rest)*)?
        }
    };
    ($head:tt $name:ident $table:literal keys $keys:tt fields [$($fields:tt)*]
     attributes [$($attributes:tt)*] column; $vis:vis $field:ident: $type:ty $(, $($rest:tt)*)?) => {
        $crate::__read_model! {
            $head $name $table keys $keys
            fields [$($fields)* ([$($attributes)* $vis] $field $type)]
            attributes [] column; $($($rest)*)?
        }
    };
    ($head:tt $name:ident $table:literal keys [] fields $fields:tt attributes [] column;) => {
        ::core::compile_error!(::core::concat!(
            "`", ::core::stringify!($name), "` has no key; put `#[key]` before the field that is the \
             primary key of `", $table, "`"
        ));
    };
    ([$($head:tt)*] $name:ident $table:literal keys [$(($key:ident $key_type:ty))+]
     fields [$(([$($before:tt)*] $field:ident $type:ty))+] attributes [] column;) => {
        $($head)* struct $name {
            $($($before)* $field: $type,)+
        }

        impl $crate::rows::ReadModel for $name {
            type Key = ($($key_type),+);
            const TABLE: &'static str = $table;
            const KEY: &'static [&'static str] = &[$(::core::stringify!($key)),+];
            const COLUMNS: &'static [&'static str] = &[$(::core::stringify!($field)),+];

            fn key(&self) -> Self::Key {
                ($(::core::clone::Clone::clone(&self.$key)),+)
            }
        }

        $crate::__postgres_row! { $name [$($key $key_type),+] [$($field),+] }
        $crate::__sqlite_row! { $name [$($key),+] [$($field),+] }
    };
}

/// The fields of a row, one after the other. For the code of [`read_model!`](crate::read_model).
#[doc(hidden)]
#[derive(Debug)]
pub struct Columns<'a, R> {
    row: &'a R,
    next: usize,
}

impl<'a, R: sqlx::Row> Columns<'a, R> {
    /// From the first column on.
    pub fn of(row: &'a R) -> Self {
        Self { row, next: 0 }
    }

    /// The next column.
    ///
    /// # Errors
    ///
    /// If it has another type.
    pub fn take<T>(&mut self) -> Result<T, Error>
    where
        T: sqlx::Decode<'a, R::Database> + sqlx::Type<R::Database>,
        usize: sqlx::ColumnIndex<R>,
    {
        let column = self.next;
        self.next += 1;
        self.row.try_get(column)
    }
}
