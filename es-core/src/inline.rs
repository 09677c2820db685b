//! Projections that a store runs inside the append's own transaction.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{BoxError, EventSet, EventType, Project, ProjectionId, Recorded, RecordedEvent};

/// A projection of any type that writes through `C`, for a store to run in the transaction of each
/// append: the read model is never behind the log. For backends; a program hands the projection to its
/// store's options.
///
/// ```
/// use es_core::{BoxError, Event, Inline, MemoryModels, Project, Projection, Recorded};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Serialize, Deserialize)]
/// struct Switched { on: bool }
///
/// #[derive(Projection)]
/// #[projection(name = "switches", events(Switched))]
/// struct Switches;
///
/// impl Project<MemoryModels> for Switches {
///     async fn project(
///         &self,
///         models: &mut MemoryModels,
///         events: &[Recorded<SwitchesEvent>],
///     ) -> Result<(), BoxError> {
///         *models.model_mut::<usize>() += events.len();
///         Ok(())
///     }
/// }
///
/// let inline = Inline::<MemoryModels>::new(Switches);
/// assert_eq!(inline.id().to_string(), "switches v1");
/// ```
pub struct Inline<C>(Arc<dyn Erased<C>>);

impl<C: Send + 'static> Inline<C> {
    /// Forgets the projection's type.
    pub fn new<P: Project<C>>(projection: P) -> Self {
        Self(Arc::new(projection))
    }

    /// Its name and version.
    #[must_use]
    pub fn id(&self) -> ProjectionId {
        self.0.id()
    }

    /// The events it wants.
    #[must_use]
    pub fn event_types(&self) -> &'static [EventType] {
        self.0.event_types()
    }

    /// Creates the read model.
    ///
    /// # Errors
    ///
    /// Whatever the projection's `set_up` says.
    pub async fn set_up(&self, connection: &mut C) -> Result<(), BoxError> {
        self.0.set_up(connection).await
    }

    /// Applies those of `records` that the projection wants, in their order. Erased events are left
    /// out.
    ///
    /// # Errors
    ///
    /// If an event cannot be decoded, or what the projection itself says; the transaction must then be
    /// rolled back.
    pub async fn project(
        &self,
        connection: &mut C,
        records: &[RecordedEvent],
    ) -> Result<(), BoxError> {
        self.0.project(connection, records).await
    }
}

impl<C> Clone for Inline<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> fmt::Debug for Inline<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inline").field(&self.0.id()).finish()
    }
}

#[async_trait]
trait Erased<C>: Send + Sync {
    fn id(&self) -> ProjectionId;
    fn event_types(&self) -> &'static [EventType];
    async fn set_up(&self, connection: &mut C) -> Result<(), BoxError>;
    async fn project(&self, connection: &mut C, records: &[RecordedEvent]) -> Result<(), BoxError>;
}

#[async_trait]
impl<C: Send + 'static, P: Project<C>> Erased<C> for P {
    fn id(&self) -> ProjectionId {
        ProjectionId::of::<P>()
    }

    fn event_types(&self) -> &'static [EventType] {
        P::Event::EVENT_TYPES
    }

    async fn set_up(&self, connection: &mut C) -> Result<(), BoxError> {
        Project::set_up(self, connection).await
    }

    async fn project(&self, connection: &mut C, records: &[RecordedEvent]) -> Result<(), BoxError> {
        let wanted = records.iter().filter(|record| {
            let mut types = P::Event::EVENT_TYPES.iter();
            !record.is_erased() && types.any(|known| record.event_type == known.name)
        });
        let events: Vec<_> = wanted
            .cloned()
            .map(Recorded::decode)
            .collect::<Result<_, _>>()?;
        if events.is_empty() {
            return Ok(());
        }
        Project::project(self, connection, &events).await
    }
}
