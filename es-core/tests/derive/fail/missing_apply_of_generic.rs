use es_core::{Aggregate, Event, Start};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
struct Opened;
#[derive(Event, Serialize, Deserialize)]
struct Sent<T>(T);

#[derive(Aggregate, Serialize, Deserialize)]
#[aggregate(starts(Opened), events(Sent<T>))]
struct Chat<T>(Option<T>);

impl<T> Start<Opened> for Chat<T> {
    fn start(_: &Opened) -> Self {
        Chat(None)
    }
}

fn main() {
    let _ = Chat::<u8>::begin(&Opened.into());
}
