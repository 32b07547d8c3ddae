//! Free-form JSON has a type of its own.

#[odeon::message]
struct Event {
    kind: String,
    detail: Vec<serde_json::Value>,
}

fn main() {}
