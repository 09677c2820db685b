//! The port itself: each method in a file of its own.

use std::time::Duration;

use async_trait::async_trait;
use es_core::{
    Append, AppendError, Appended, Blocker, Capabilities, EraseError, EventStore, ExpectedVersion,
    Filter, Horizon, LogPage, NewEvent, Position, ReadError, RecordedEvent, Scan, StreamErased,
    StreamId, Version,
};

use super::{FaultyStore, Ordering};
use crate::fault::Fault;

#[async_trait]
impl EventStore for FaultyStore {
    async fn append(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: &[NewEvent],
    ) -> Result<Appended, AppendError> {
        if self.memory.waiting.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.faulty_append(stream, expected, events).await
    }

    async fn append_all(&self, appends: &[Append]) -> Result<Vec<Appended>, AppendError> {
        self.faulty_append_all(appends).await
    }

    async fn erase(
        &self,
        stream: &StreamId,
        tombstone: &StreamErased,
    ) -> Result<Appended, EraseError> {
        self.faulty_erase(stream, tombstone).await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.faulty_read_stream(stream, after, limit).await
    }

    async fn read_log(
        &self,
        filter: &Filter,
        after: Position,
        limit: u32,
    ) -> Result<LogPage, ReadError> {
        self.faulty_read_log(filter, after, limit).await
    }

    async fn scan(&self, scan: &Scan, limit: u32) -> Result<Vec<RecordedEvent>, ReadError> {
        self.faulty_scan(scan, limit).await
    }

    async fn settled(&self) -> Result<Position, ReadError> {
        match self.fault {
            Fault::NeverSettles => Ok(Position::START),
            Fault::SettlesBackwards if self.every_second_time() => Ok(Position::START),
            _ => self.inner.settled().await,
        }
    }

    async fn horizon(&self) -> Result<Horizon, ReadError> {
        let mut horizon = self.inner.horizon().await?;
        match self.fault {
            Fault::SettlesAboveTheEnd => {
                horizon.settled = Position::new(horizon.settled.get() + 1);
            }
            Fault::EndsAtTheStart => horizon.end = Position::START,
            Fault::InventsABlocker => {
                horizon.blocker = Some(Blocker {
                    pid: None,
                    name: "nobody".to_owned(),
                    age: Duration::ZERO,
                });
            }
            _ => {}
        }
        Ok(horizon)
    }

    async fn wait_for_events(&self, after: Position) -> Result<(), ReadError> {
        match self.fault {
            Fault::NeverWakes => std::future::pending().await,
            Fault::WaitsWithALock => {
                self.memory.waiting.store(true, Ordering::SeqCst);
                self.inner.wait_for_events(after).await?;
                self.memory.waiting.store(false, Ordering::SeqCst);
                Ok(())
            }
            _ => self.inner.wait_for_events(after).await,
        }
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
