//! What the server said, without what was to be stored.

use es_core::BoxError;

use crate::error::{explain, next_step};

/// The server's answer to a statement that stores content. Its detail may quote the row ("Failing
/// row contains …"), and so would `Debug`: only the message is kept.
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
struct Refused {
    message: String,
    code: String,
}

pub(super) fn without_content(error: sqlx::Error) -> BoxError {
    match error.as_database_error() {
        Some(database) if next_step(&error).is_none() => Refused {
            message: database.message().to_owned(),
            code: database.code().unwrap_or_default().into_owned(),
        }
        .into(),
        _ => explain(error),
    }
}

/// Whether the server cannot store the text as JSON: not JSON, wrongly encoded, nested too deeply.
pub(super) fn is_bad_content(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    // invalid_text_representation, untranslatable_character, character_not_in_repertoire,
    // invalid_json_text, statement_too_complex
    matches!(
        code.as_deref(),
        Some("22P02" | "22P05" | "22021" | "22032" | "54001")
    )
}
