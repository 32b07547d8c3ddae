//! What a message is.

#[odeon::message]
struct Generic<T> {
    item: T,
}

#[odeon::message]
struct Borrowed {
    text: &'static str,
}

#[odeon::message]
#[derive(Clone, serde::Serialize)]
struct Twice {
    text: String,
}

#[odeon::message(replies = u32)]
struct Typo;

#[odeon::message(name = "with a space")]
struct Misnamed;

#[odeon::message]
fn not_a_struct() {}

fn main() {}
