//! Rows on SQLite: statements for a fixed number of rows, which stay prepared.

use std::iter;

use sqlx::{AssertSqlSafe, SqlSafeStr, Sqlite, SqliteConnection, sqlite::SqliteArguments};

use super::{
    HasTable, ReadModel, RunSql, Stored,
    sql::{columns_of, names, on_conflict, same_key},
    table::sealed,
};

impl sealed::Connection for SqliteConnection {}

impl RunSql for SqliteConnection {
    async fn run(&mut self, statements: impl SqlSafeStr + Send) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(statements).execute(self).await.map(drop)
    }
}

impl<R: Stored<Sqlite>> HasTable<R> for SqliteConnection {
    async fn fetch(&mut self, keys: &[&R::Key]) -> Result<Vec<R>, sqlx::Error> {
        let mut rows = Vec::with_capacity(keys.len());
        for keys in portions(keys, R::KEY.len()) {
            let mut parameters = SqliteArguments::default();
            R::bind_keys(keys, &mut parameters)?;
            let found = sqlx::query_with(AssertSqlSafe(fetch::<R>(keys.len())), parameters)
                .fetch_all(&mut *self)
                .await?;
            for row in &found {
                rows.push(R::decode(row)?);
            }
        }
        Ok(rows)
    }

    async fn upsert(&mut self, rows: &[&R]) -> Result<(), sqlx::Error> {
        for rows in portions(rows, R::COLUMNS.len()) {
            let mut parameters = SqliteArguments::default();
            R::bind_rows(rows, &mut parameters)?;
            let statement = AssertSqlSafe(upsert::<R>(rows.len()));
            sqlx::query_with(statement, parameters)
                .execute(&mut *self)
                .await?;
        }
        Ok(())
    }

    async fn delete(&mut self, keys: &[&R::Key]) -> Result<(), sqlx::Error> {
        for keys in portions(keys, R::KEY.len()) {
            let mut parameters = SqliteArguments::default();
            R::bind_keys(keys, &mut parameters)?;
            let statement = AssertSqlSafe(delete::<R>(keys.len()));
            sqlx::query_with(statement, parameters)
                .execute(&mut *self)
                .await?;
        }
        Ok(())
    }
}

/// One look into the index for each key: a CROSS JOIN is done in the order in which it is written.
fn fetch<R: ReadModel>(count: usize) -> String {
    format!(
        "SELECT {} FROM ({}) k CROSS JOIN {} t WHERE {}",
        columns_of::<R>("t"),
        values(R::KEY.len(), count),
        R::TABLE,
        same_key::<R>("t", |i| format!("k.column{i}")),
    )
}

fn upsert<R: ReadModel>(count: usize) -> String {
    format!(
        "INSERT INTO {} ({}) {} {}",
        R::TABLE,
        names(R::COLUMNS),
        values(R::COLUMNS.len(), count),
        on_conflict::<R>(),
    )
}

fn delete<R: ReadModel>(count: usize) -> String {
    format!(
        "DELETE FROM {} WHERE ({}) IN ({})",
        R::TABLE,
        names(R::KEY),
        values(R::KEY.len(), count),
    )
}

/// `VALUES (?, ?), (?, ?)`.
fn values(columns: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    format!("VALUES {}", vec![row; rows].join(","))
}

/// SQLite's limit of parameters in a statement.
const PARAMETERS: usize = 32_766;
/// How many rows a statement may have. Few sizes, because each is a statement that is kept prepared; not
/// too few, because each statement is a trip to the driver's thread.
const SIZES: [usize; 6] = [1024, 256, 64, 16, 4, 1];

/// Divides rows into portions of the sizes.
fn portions<T>(mut rows: &[T], columns: usize) -> impl Iterator<Item = &[T]> {
    iter::from_fn(move || {
        let size = SIZES
            .into_iter()
            .find(|size| *size <= rows.len() && size * columns <= PARAMETERS)?;
        let (portion, others) = rows.split_at(size);
        rows = others;
        Some(portion)
    })
}

/// Implements [`Stored`] for SQLite.
#[doc(hidden)]
#[macro_export]
macro_rules! __sqlite_row {
    ($name:ident [$($key:ident),+] [$($field:ident),+]) => {
        impl $crate::rows::Stored<$crate::rows::__private::Sqlite> for $name {
            fn decode(
                row: &$crate::rows::__private::SqliteRow,
            ) -> ::core::result::Result<Self, $crate::rows::__private::Error> {
                let mut columns = $crate::rows::__private::Columns::of(row);
                ::core::result::Result::Ok(Self { $($field: columns.take()?),+ })
            }

            fn bind_keys(
                keys: &[&<Self as $crate::rows::ReadModel>::Key],
                parameters: &mut $crate::rows::__private::SqliteArguments,
            ) -> ::core::result::Result<(), $crate::rows::__private::Error> {
                for ($($key),+) in keys {
                    $($crate::rows::__private::add(parameters, $key)?;)+
                }
                ::core::result::Result::Ok(())
            }

            fn bind_rows(
                rows: &[&Self],
                parameters: &mut $crate::rows::__private::SqliteArguments,
            ) -> ::core::result::Result<(), $crate::rows::__private::Error> {
                for row in rows {
                    $($crate::rows::__private::add(parameters, &row.$field)?;)+
                }
                ::core::result::Result::Ok(())
            }
        }
    };
}
