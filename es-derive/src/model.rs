//! What the derives know about an item once it is checked. No behaviour.

use proc_macro2::Span;
use syn::{Generics, Ident, Path, Visibility};

/// The item a derive stands on.
pub(crate) struct Item {
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
    /// Where `es-core` is: `::es_core`, or what `crate = …` says.
    pub(crate) krate: Path,
    /// The stored name.
    pub(crate) name: String,
}

/// An event struct.
pub(crate) struct Event {
    pub(crate) item: Item,
    pub(crate) schema_version: u32,
}

/// An aggregate and its events.
pub(crate) struct Aggregate {
    pub(crate) item: Item,
    pub(crate) fingerprint: u64,
    pub(crate) events: EventSet,
}

/// A projection and its events.
pub(crate) struct Projection {
    pub(crate) item: Item,
    pub(crate) version: u32,
    pub(crate) repeatable: bool,
    pub(crate) events: EventSet,
}

/// The enum to generate.
pub(crate) struct EventSet {
    pub(crate) ident: Ident,
    pub(crate) vis: Visibility,
    pub(crate) derives: Vec<Path>,
    /// Those of the item's generics that the events mention.
    pub(crate) generics: Generics,
    pub(crate) variants: Vec<Variant>,
    /// Where to report what concerns the list as a whole.
    pub(crate) span: Span,
}

/// One event of the enum.
pub(crate) struct Variant {
    pub(crate) ident: Ident,
    /// The event struct as the user wrote it.
    pub(crate) path: Path,
    pub(crate) role: Role,
    /// Whether the path mentions a type parameter.
    pub(crate) generic: bool,
    /// The event's name in the list: where to report what concerns this event.
    pub(crate) span: Span,
}

/// Where in a history an event stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It begins one.
    Start,
    /// It continues one. Also the events of a projection, which do not care.
    Next,
}
