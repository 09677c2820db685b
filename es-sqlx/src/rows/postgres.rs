//! Rows on Postgres: each statement takes a whole column as one array.

use sqlx::{AssertSqlSafe, PgConnection, Postgres, SqlSafeStr, postgres::PgArguments};

use super::{
    HasTable, ReadModel, RunSql, Stored,
    sql::{columns_of, names, on_conflict, same_key},
    table::sealed,
};

impl sealed::Connection for PgConnection {}

impl RunSql for PgConnection {
    async fn run(&mut self, statements: impl SqlSafeStr + Send) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(statements).execute(self).await.map(drop)
    }
}

impl<R: Stored<Postgres>> HasTable<R> for PgConnection {
    async fn fetch(&mut self, keys: &[&R::Key]) -> Result<Vec<R>, sqlx::Error> {
        let mut parameters = PgArguments::default();
        R::bind_keys(keys, &mut parameters)?;
        let rows = sqlx::query_with(AssertSqlSafe(fetch::<R>()), parameters)
            .fetch_all(self)
            .await?;
        rows.iter().map(R::decode).collect()
    }

    async fn upsert(&mut self, rows: &[&R]) -> Result<(), sqlx::Error> {
        let mut parameters = PgArguments::default();
        R::bind_rows(rows, &mut parameters)?;
        let statement = sqlx::query_with(AssertSqlSafe(upsert::<R>()), parameters);
        statement.execute(self).await.map(drop)
    }

    async fn delete(&mut self, keys: &[&R::Key]) -> Result<(), sqlx::Error> {
        let mut parameters = PgArguments::default();
        R::bind_keys(keys, &mut parameters)?;
        let statement = sqlx::query_with(AssertSqlSafe(delete::<R>()), parameters);
        statement.execute(self).await.map(drop)
    }
}

/// One look into the index for each key. `OFFSET 0` keeps the planner from joining instead: a plan made
/// while the table was small would go on to read all of it.
fn fetch<R: ReadModel>() -> String {
    format!(
        "SELECT t.* FROM {} CROSS JOIN LATERAL (SELECT {} FROM {} t WHERE {} OFFSET 0) t",
        keys::<R>(),
        columns_of::<R>("t"),
        R::TABLE,
        same_key::<R>("t", |i| format!("k.k{i}")),
    )
}

fn upsert<R: ReadModel>() -> String {
    format!(
        "INSERT INTO {} ({}) SELECT * FROM {} {}",
        R::TABLE,
        names(R::COLUMNS),
        unnest(R::COLUMNS.len()),
        on_conflict::<R>(),
    )
}

fn delete<R: ReadModel>() -> String {
    format!(
        "DELETE FROM {} t USING {} WHERE {}",
        R::TABLE,
        keys::<R>(),
        same_key::<R>("t", |i| format!("k.k{i}")),
    )
}

/// `unnest(…) AS k(k1, k2)`.
fn keys<R: ReadModel>() -> String {
    let columns: Vec<_> = (1..=R::KEY.len()).map(|i| format!("k{i}")).collect();
    format!("{} AS k({})", unnest(R::KEY.len()), columns.join(", "))
}

/// Arrays in a sub-select are unknown to the planner also when it sees them: else it would plan small
/// batches anew each time.
fn unnest(arrays: usize) -> String {
    let arrays: Vec<_> = (1..=arrays).map(|i| format!("(SELECT ${i})")).collect();
    format!("unnest({})", arrays.join(", "))
}

/// Implements [`Stored`] for Postgres.
#[doc(hidden)]
#[macro_export]
macro_rules! __postgres_row {
    ($name:ident [$($key:ident $key_type:ty),+] [$($field:ident),+]) => {
        impl $crate::rows::Stored<$crate::rows::__private::Postgres> for $name {
            fn decode(
                row: &$crate::rows::__private::PgRow,
            ) -> ::core::result::Result<Self, $crate::rows::__private::Error> {
                let mut columns = $crate::rows::__private::Columns::of(row);
                ::core::result::Result::Ok(Self { $($field: columns.take()?),+ })
            }

            fn bind_keys(
                keys: &[&<Self as $crate::rows::ReadModel>::Key],
                parameters: &mut $crate::rows::__private::PgArguments,
            ) -> ::core::result::Result<(), $crate::rows::__private::Error> {
                struct Arrays<'a> { $($key: ::std::vec::Vec<&'a $key_type>),+ }
                let mut arrays = Arrays { $($key: ::std::vec::Vec::with_capacity(keys.len())),+ };
                for ($($key),+) in keys {
                    $(arrays.$key.push($key);)+
                }
                $($crate::rows::__private::add(parameters, arrays.$key)?;)+
                ::core::result::Result::Ok(())
            }

            fn bind_rows(
                rows: &[&Self],
                parameters: &mut $crate::rows::__private::PgArguments,
            ) -> ::core::result::Result<(), $crate::rows::__private::Error> {
                $($crate::rows::__private::add(
                    parameters,
                    rows.iter().map(|row| &row.$field).collect::<::std::vec::Vec<_>>(),
                )?;)+
                ::core::result::Result::Ok(())
            }
        }
    };
}
