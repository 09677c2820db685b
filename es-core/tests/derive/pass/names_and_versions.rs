//! Stored names and versions: the defaults and the chosen ones.
#![deny(warnings, missing_docs)]

use es_core::{Aggregate, Apply, Event, EventSet, Projection, Start};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
struct HTTPServerStarted;

#[derive(Event, Serialize, Deserialize)]
struct Renamed(String);

#[derive(Event, Serialize, Deserialize)]
#[event(name = "server.stopped", schema_version = 3)]
struct Stopped {
    code: i32,
}

#[derive(Aggregate, Serialize, Deserialize)]
#[aggregate(
    name = "http-server",
    starts(HTTPServerStarted),
    events(Renamed, Stopped)
)]
struct Server {
    name: Option<String>,
}

impl Start<HTTPServerStarted> for Server {
    fn start(_: &HTTPServerStarted) -> Self {
        Server { name: None }
    }
}
impl Apply<Renamed> for Server {
    fn apply(&mut self, event: &Renamed) {
        self.name = Some(event.0.clone());
    }
}
impl Apply<Stopped> for Server {
    fn apply(&mut self, event: &Stopped) {
        self.name = Some(event.code.to_string());
    }
}

#[derive(Projection)]
#[projection(events(Stopped))]
struct StopCount;

#[derive(Projection)]
#[projection(name = "names", version = 4, repeatable, events(Renamed, Stopped))]
struct Names;

fn main() {
    assert_eq!(HTTPServerStarted::EVENT_TYPE, "http_server_started");
    assert_eq!(HTTPServerStarted::SCHEMA_VERSION, 1);
    assert_eq!(Stopped::EVENT_TYPE, "server.stopped");
    assert_eq!(Stopped::SCHEMA_VERSION, 3);
    assert_eq!(Server::AGGREGATE_TYPE, "http-server");
    assert_eq!((StopCount::NAME, StopCount::VERSION), ("stop_count", 1));
    assert_eq!((Names::NAME, Names::VERSION), ("names", 4));
    assert_eq!((StopCount::REPEATABLE, Names::REPEATABLE), (false, true));

    let types: Vec<_> = ServerEvent::EVENT_TYPES
        .iter()
        .map(|t| (t.name, t.schema_version))
        .collect();
    assert_eq!(
        types,
        [
            ("http_server_started", 1),
            ("renamed", 1),
            ("server.stopped", 3)
        ]
    );
    assert_eq!(NamesEvent::EVENT_TYPES.len(), 2);
}
