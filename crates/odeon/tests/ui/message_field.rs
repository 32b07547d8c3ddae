//! A field's type must be known to messages, however deep.

struct Plain {
    number: u32,
}

#[odeon::message]
struct Direct {
    plain: Plain,
}

fn main() {}
