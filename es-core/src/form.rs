//! The public JSON form: what is wrong in a document is named by its field.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serializer, de::Error};
use uuid::Uuid;

use crate::{Json, Metadata, Name, Position, Version};

/// Deserialisers that put the field's name before the error. serde alone says what is wrong with a
/// value, but not where.
macro_rules! fields {
    ($($field:ident: $type:ty),* $(,)?) => {$(
        pub(crate) fn $field<'de, D: Deserializer<'de>>(input: D) -> Result<$type, D::Error> {
            <$type>::deserialize(input)
                .map_err(|error| D::Error::custom(format_args!("{}: {error}", stringify!($field))))
        }
    )*};
}

fields! {
    event_id: Uuid,
    snapshot_id: Uuid,
    aggregate_id: Uuid,
    aggregate_type: Name,
    event_type: Name,
    event_version: Version,
    version: Version,
    created_at: DateTime<Utc>,
    event_data: Json,
    state: Json,
    position: Position,
    schema_version: u32,
    metadata: Metadata,
}

/// RFC 3339 in UTC with a `Z`, and only as many decimals as there are.
pub(crate) fn rfc3339<S: Serializer>(
    time: &DateTime<Utc>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

pub(crate) fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
pub(crate) fn is_one(version: &u32) -> bool {
    *version == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
pub(crate) fn is_start(position: &Position) -> bool {
    *position == Position::START
}
