//! What postcard cannot carry.

#[odeon::message]
struct Skipping {
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[odeon::message]
struct Flat {
    #[serde(flatten)]
    inner: Inner,
}

#[odeon::data]
struct Inner {
    #[serde(skip)]
    cache: u32,
}

#[odeon::data]
#[serde(untagged)]
enum Untagged {
    Number(u32),
    Text(String),
}

#[odeon::data]
#[serde(tag = "type")]
enum Tagged {
    Circle { radius: f64 },
}

#[odeon::message]
struct Hidden {
    #[serde(with = "elsewhere")]
    at: u64,
}

#[odeon::message]
struct Allowed {
    #[serde(rename = "type", default, alias = "kind")]
    kind: String,
}

mod elsewhere {
    use odeon::hidden::serde::{Deserialize, Deserializer, Serialize, Serializer};
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        u64::deserialize(deserializer)
    }
}

fn main() {}
