use es_core::Aggregate;

#[derive(Aggregate)]
union Door {
    open: bool,
    code: u8,
}

fn main() {}
