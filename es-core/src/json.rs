//! JSON as text: stored as it is, parsed only when someone wants the value.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;

/// A JSON document as text. Cheap to clone.
///
/// `Debug` shows only its length: payloads do not belong in logs.
///
/// ```
/// use es_core::Json;
///
/// let json = Json::encode(&[1, 2])?;
/// assert_eq!(json.as_str(), "[1,2]");
/// assert_eq!(json.decode::<Vec<u8>>()?, [1, 2]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

impl Json {
    /// The JSON text of `value`.
    ///
    /// # Errors
    ///
    /// If `value` cannot be JSON, for example a map whose keys are not strings.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Self::from_stored)
    }

    /// Takes text after checking that it is one JSON document.
    ///
    /// # Errors
    ///
    /// Where the text stops being JSON.
    pub fn parse(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        serde_json::from_str::<serde::de::IgnoredAny>(&text)?;
        Ok(Self::from_stored(text))
    }

    /// Takes text that a database vouches for, unchecked: for backends. If it is not JSON,
    /// [`decode`](Self::decode) and `Serialize` say so later.
    #[must_use]
    pub fn from_stored(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// What stands in the place of a payload that was [erased](crate::EventStore::erase): for
    /// backends.
    #[must_use]
    pub fn erased() -> Self {
        Self::from_stored(crate::erasure::ERASED)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// If the text does not have the shape of `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(Box::<str>::from(raw).into()))
    }
}

/// What is wrong with a document, without quoting it: serde's message may repeat the content.
pub(crate) fn describe(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let (line, column) = (error.line(), error.column());
    let kind = match error.classify() {
        Category::Io => "could not be read",
        Category::Syntax => "not JSON",
        Category::Eof => "ends too early",
        Category::Data => return data_problem(error),
    };
    format!("{kind} at line {line} column {column}")
}

/// Serde names fields and types in `code quotes`, and quotes the content in the rest: keep the
/// sentences that cannot contain content.
fn data_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let safe = ["missing field", "duplicate field"]
        .iter()
        .any(|start| text.starts_with(start));
    if safe {
        return text;
    }
    let expected = text
        .rsplit_once(", expected ")
        .map(|(_, expected)| format!("expected {expected}"));
    expected.unwrap_or_else(|| {
        format!(
            "unexpected shape at line {} column {}",
            error.line(),
            error.column()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail without serde_json's feature `float_roundtrip`: a snapshot would differ from the replay.
    #[test]
    fn floats_come_back_as_they_were() {
        for float in [
            487.223_032_567_308_45,
            0.1 + 0.2,
            f64::MIN_POSITIVE,
            1.0e300,
        ] {
            let json = Json::encode(&float).unwrap();
            let back: f64 = json.decode().unwrap();
            assert_eq!(back.to_bits(), float.to_bits(), "{}", json.as_str());
        }
    }
}
