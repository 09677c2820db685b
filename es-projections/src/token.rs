//! How far a reader must be to see what a writer has done, as text.

use std::{fmt, str::FromStr};

use es_core::{Appended, Position};

/// What a client must see: give it to the client with the answer to a command, take it back with the
/// next query, and [wait](crate::Monitor::wait_for) for it. It travels as text, in a header or a cookie.
///
/// ```
/// use es_core::{Appended, Position, Version};
/// use es_projections::Token;
///
/// let appended = Appended { version: Version::new(3), position: Position::new(120) };
/// let header = Token::from(appended).to_string();
/// assert_eq!(header, "es1-120");
///
/// let token: Token = header.parse()?;
/// assert_eq!(token.position(), Position::new(120));
/// // Several writes of one client: the latest counts.
/// assert_eq!(token.and(Token::from(Position::new(90))), token);
/// # Ok::<(), es_projections::TokenError>(())
/// ```
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(Position);

const PREFIX: &str = "es1-";

impl Token {
    /// The position that must be reached.
    #[must_use]
    pub fn position(self) -> Position {
        self.0
    }

    /// What must be reached to see both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.max(other)
    }
}

impl From<Position> for Token {
    fn from(position: Position) -> Self {
        Self(position)
    }
}

impl From<Appended> for Token {
    fn from(appended: Appended) -> Self {
        Self(appended.position)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let number = text.strip_prefix(PREFIX).ok_or(TokenError)?;
        // Only what `Display` writes: no sign, no zeros in front.
        let position: u64 = number.parse().map_err(|_| TokenError)?;
        match position.to_string() == number {
            true => Ok(Self(Position::new(position))),
            false => Err(TokenError),
        }
    }
}

/// A text that is not a [`Token`]. It comes from a client: answer 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a consistency token; it looks like `es1-120` and must come back as it was given")]
#[non_exhaustive]
pub struct TokenError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_did_not_write_is_refused() {
        for text in [
            "",
            "120",
            "es1-",
            "es1--1",
            "es1-+1",
            "es1-01",
            "es2-1",
            "es1-1 ",
            "es1-99999999999999999999",
        ] {
            assert_eq!(text.parse::<Token>(), Err(TokenError), "{text}");
        }
        let most = Token::from(Position::new(u64::MAX));
        assert_eq!(most.to_string().parse(), Ok(most));
    }
}
