use es_core::{Aggregate, Event, Start};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
struct Sent<T>(T);

#[derive(Aggregate, Serialize, Deserialize)]
#[aggregate(starts(Sent<T>), name = 7)]
struct Chat<T: Clone>(T);

impl<T: Clone> Start<Sent<T>> for Chat<T>
where
    Sent<T>: Event,
{
    fn start(sent: &Sent<T>) -> Self {
        Chat(sent.0.clone())
    }
}

fn main() {
    let _ = Chat::<u8>::begin(&Sent(1).into());
}
