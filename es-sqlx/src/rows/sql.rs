//! The parts of statements that both databases share.

use super::ReadModel;

/// `t."player_id", t."name"`: a name that is no column is then an error also on SQLite, which would take it
/// for a text.
pub(super) fn columns_of<R: ReadModel>(table: &str) -> String {
    list(R::COLUMNS, |column| format!("{table}.{}", quoted(column)))
}

/// `"player_id", "name"`.
pub(super) fn names(columns: &[&str]) -> String {
    list(columns, quoted)
}

/// What follows the values of an INSERT, so that it replaces rows.
pub(super) fn on_conflict<R: ReadModel>() -> String {
    let key = names(R::KEY);
    let others: Vec<_> = R::COLUMNS
        .iter()
        .copied()
        .filter(|column| !R::KEY.contains(column))
        .collect();
    if others.is_empty() {
        return format!("ON CONFLICT ({key}) DO NOTHING");
    }
    let set = list(&others, |column| {
        let column = quoted(column);
        format!("{column} = excluded.{column}")
    });
    format!("ON CONFLICT ({key}) DO UPDATE SET {set}")
}

/// A column of `table` for each of the key, compared with the columns `of` names.
pub(super) fn same_key<R: ReadModel>(table: &str, of: impl Fn(usize) -> String) -> String {
    let parts: Vec<_> = R::KEY
        .iter()
        .enumerate()
        .map(|(i, column)| format!("{table}.{} = {}", quoted(column), of(i + 1)))
        .collect();
    parts.join(" AND ")
}

/// Names may be words of SQL, and fields raw identifiers.
fn quoted(column: &str) -> String {
    format!("\"{}\"", column.trim_start_matches("r#"))
}

fn list(columns: &[&str], shown: impl Fn(&str) -> String) -> String {
    let shown: Vec<_> = columns.iter().map(|column| shown(column)).collect();
    shown.join(", ")
}
