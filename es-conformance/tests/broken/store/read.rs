//! Reading with a mechanism taken out.

use chrono::TimeDelta;
use es_core::{
    Event, EventStore, Filter, LogPage, Position, ReadError, RecordedEvent, Scan, StreamErased,
    StreamId, Version,
};

use super::FaultyStore;
use crate::fault::Fault;

impl FaultyStore {
    pub(super) async fn faulty_read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        let (mut stream, mut after, mut limit) = (stream.clone(), after, limit);
        match self.fault {
            Fault::IgnoresTheAggregateType => stream = self.owner(&stream).await,
            Fault::ReadsStreamsFromTheVersionGiven => {
                after = Version::new(after.get().saturating_sub(1));
            }
            Fault::ReadsOneMore => limit = limit.saturating_add(1),
            _ => {}
        }
        let mut events = self.inner.read_stream(&stream, after, limit).await?;
        match self.fault {
            Fault::MissesMissingStreams if events.is_empty() && after == Version::EMPTY => {
                return Err(ReadError::Corrupt {
                    what: stream.to_string(),
                    problem: "it is not there".to_owned(),
                });
            }
            Fault::MixesStreams if after == Version::EMPTY => events = self.log().await,
            Fault::ForgetsPositions => {
                for event in &mut events {
                    event.position = Position::START;
                }
            }
            Fault::ReadsStale => self.hide_the_newest_once(&mut events),
            Fault::TakesEachWritersClock => {
                for event in &mut events {
                    event.created_at -=
                        TimeDelta::seconds(i64::from(event.event_version.get() % 2));
                }
            }
            Fault::ShowsErasedInStreams
            | Fault::KeepsErasedMetadata
            | Fault::TouchesTheTimeOfErased
            | Fault::ErasesInTwoSteps
            | Fault::ErasesOnlyWhatItHadRead
            | Fault::OverwritesOnRepetition => self.exchange(&mut events),
            _ => {}
        }
        Ok(events)
    }

    pub(super) async fn faulty_read_log(
        &self,
        filter: &Filter,
        after: Position,
        limit: u32,
    ) -> Result<LogPage, ReadError> {
        let (mut filter, mut from, mut most) = (filter, after, limit);
        match self.fault {
            Fault::IgnoresTheFilter => filter = &Filter::All,
            Fault::ReadsTheLogFromThePositionGiven => {
                from = Position::new(after.get().saturating_sub(1));
            }
            Fault::ReadsOneMore => most = limit.saturating_add(1),
            _ => {}
        }
        let mut page = self.inner.read_log(filter, from, most).await?;
        let full = page.events.len() == limit as usize;
        let settled = self.inner.settled().await?;
        match self.fault {
            Fault::ShowsSomeEventsLate => self.hide_some_once(&mut page),
            Fault::CoversMoreThanItRead if full => page.covered = settled,
            Fault::CoversMoreThanIsSettled if !full => {
                page.covered = Position::new(page.covered.get() + 1);
            }
            Fault::CoversAtMostTheLog => page.covered = page.covered.min(settled),
            Fault::CoversOnlyWhatMatched if page.events.is_empty() => page.covered = after,
            Fault::HidesTombstones => {
                page.events
                    .retain(|event| event.event_type != StreamErased::EVENT_TYPE);
            }
            Fault::ShowsErasedInTheLog => self.exchange(&mut page.events),
            _ => {}
        }
        Ok(page)
    }

    pub(super) async fn faulty_scan(
        &self,
        scan: &Scan,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        let (mut scan, mut limit) = (scan.clone(), limit);
        match self.fault {
            Fault::ScansAllTypes => {
                let mut all = self.log().await;
                all.retain(|event| {
                    scan.after
                        .is_none_or(|after| (event.created_at, event.position) > after)
                });
                all.truncate(limit as usize);
                return Ok(all);
            }
            Fault::ScansFromTheFirst => scan.from = None,
            Fault::ScansToTheEndInclusive => {
                scan.until = scan.until.map(|until| until + TimeDelta::microseconds(1));
            }
            Fault::ScansByTimeOnly => {
                scan.after = scan.after.map(|(time, _)| (time, Position::new(u64::MAX)));
            }
            Fault::ReadsOneMore => limit += 1,
            _ => {}
        }
        let mut events = self.inner.scan(&scan, limit).await?;
        if self.fault == Fault::ShowsErasedInScans {
            self.exchange(&mut events);
        }
        Ok(events)
    }

    fn exchange(&self, events: &mut [RecordedEvent]) {
        let instead = self.instead();
        for event in events {
            if let Some(shown) = instead.get(&event.event_id) {
                *event = shown.clone();
            }
        }
    }

    /// Leaves every seventh event out until a page has covered it once.
    fn hide_some_once(&self, page: &mut LogPage) {
        let mut shown = self.memory.shown.lock().expect("no check panics in here");
        page.events
            .retain(|event| event.position.get() % 7 != 0 || !shown.insert(event.position));
    }

    fn hide_the_newest_once(&self, events: &mut Vec<RecordedEvent>) {
        let mut shown = self.memory.shown.lock().expect("no check panics in here");
        if events
            .last()
            .is_some_and(|newest| shown.insert(newest.position))
        {
            events.pop();
        }
    }
}
