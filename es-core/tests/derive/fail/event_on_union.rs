use es_core::Event;

#[derive(Event)]
union Opened {
    by: u8,
    at: u8,
}

fn main() {}
