use es_core::Projection;

#[derive(serde::Serialize, serde::Deserialize)]
struct Opened;

#[derive(Projection)]
#[projection(events(Opened))]
struct Openings;

fn main() {}
