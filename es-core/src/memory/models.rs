//! Read models in memory, one of each type.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
};

use super::{projections::Turn, rows::Rows};

/// A read model of any type.
trait Model: Any + Send + Sync {
    fn duplicate(&self) -> Box<dyn Model>;
}

impl<T: Any + Clone + Send + Sync> Model for T {
    fn duplicate(&self) -> Box<dyn Model> {
        Box::new(self.clone())
    }
}

/// Read models by their types.
#[derive(Default)]
pub(super) struct Models(HashMap<TypeId, Box<dyn Model>>);

impl Models {
    pub(super) fn get<T: Default + Clone + Send + Sync + 'static>(&self) -> T {
        self.0
            .get(&TypeId::of::<T>())
            .and_then(|model| (&**model as &dyn Any).downcast_ref::<T>())
            .cloned()
            .unwrap_or_default()
    }
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} models", self.0.len())
    }
}

/// What a projection on a [`MemoryStore`](crate::MemoryStore) writes through: read models inside a
/// transaction.
pub struct MemoryModels {
    turn: Turn,
    changed: Models,
}

impl MemoryModels {
    pub(super) fn new(turn: Turn) -> Self {
        Self {
            turn,
            changed: Models::default(),
        }
    }

    /// The read model of type `T`, to be changed. Others see the change after the commit.
    pub fn model_mut<T: Default + Clone + Send + Sync + 'static>(&mut self) -> &mut T {
        let projections = &self.turn.projections;
        let model = self.changed.0.entry(TypeId::of::<T>()).or_insert_with(|| {
            match projections.committed().models.0.get(&TypeId::of::<T>()) {
                Some(model) => (**model).duplicate(),
                None => Box::new(T::default()),
            }
        });
        match (&mut **model as &mut dyn Any).downcast_mut() {
            Some(model) => model,
            None => unreachable!("models are kept under their own type"),
        }
    }

    /// Makes the read models and the rows visible together.
    pub(super) fn commit(self, rows: Rows) {
        let mut committed = self.turn.projections.committed();
        committed.models.0.extend(self.changed.0);
        committed.rows = rows;
    }
}

impl fmt::Debug for MemoryModels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryModels")
            .field("changed", &self.changed)
            .finish_non_exhaustive()
    }
}
