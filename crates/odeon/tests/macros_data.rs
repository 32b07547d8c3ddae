//! `#[message]` and `#[data]`: names, fingerprints, and the two forms of what is sent.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use odeon::{Json, Message, Schema, data, message};
use serde_json::json;
use std::collections::BTreeMap;

#[message]
#[derive(Debug, PartialEq)]
struct Response {
    question: String,
    answer: Option<String>,
    respondent: BTreeMap<String, String>,
}

#[message(reply = Vec<Shape>, name = "drawing.List", idempotent)]
struct List;

#[data]
#[derive(Debug, PartialEq)]
enum Shape {
    Point,
    Circle { radius: f64 },
    Line(f64, f64),
}

#[message]
#[derive(Debug, PartialEq)]
struct Free {
    #[serde(rename = "type")]
    kind: String,
    detail: Json,
}

#[data(opaque = "v1")]
#[derive(Debug, PartialEq)]
struct Tree {
    name: String,
    children: Vec<Self>,
}

#[data(opaque = "v1")]
struct Folder {
    files: Vec<File>,
}

#[data]
struct File {
    name: String,
    inside: Option<Box<Folder>>,
}

#[data]
struct Page<T> {
    items: Vec<T>,
}

/// Not a `Schema`, as a type of another crate.
mod foreign {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub(super) struct Moment(pub(super) u64);
}

#[message(opaque = "2026")]
struct Whole {
    _at: foreign::Moment,
}

#[message]
struct InPart {
    #[message(opaque = "v1")]
    at: foreign::Moment,
    note: String,
}

fn through_postcard<M: Message>(message: &M) -> M {
    postcard::from_bytes(&postcard::to_stdvec(message).unwrap()).unwrap()
}

fn through_json<M: Message>(message: &M) -> M {
    serde_json::from_str(&serde_json::to_string(message).unwrap()).unwrap()
}

fn response() -> Response {
    Response { question: "pizza".into(), answer: None, respondent: BTreeMap::from([("sex".into(), "f".into())]) }
}

#[test]
fn the_wire_name_is_crate_and_struct_unless_given() {
    assert_eq!(Response::NAME, concat!(env!("CARGO_CRATE_NAME"), ".Response"));
    assert_eq!(List::NAME, "drawing.List");
    assert_eq!(List::TYPE_ID, odeon::hidden::fnv1a("drawing.List"));
    assert_eq!((List::IDEMPOTENT, Response::IDEMPOTENT), (true, false));
}

#[test]
fn messages_survive_both_codecs() {
    assert_eq!(through_postcard(&response()), response());
    assert_eq!(through_json(&response()), response());
    let free = Free { kind: "note".into(), detail: Json(json!({"a": [1, {"b": null}]})) };
    assert_eq!(through_postcard(&free), free);
    assert_eq!(serde_json::to_value(&free).unwrap(), json!({"type": "note", "detail": {"a": [1, {"b": null}]}}));
    let shapes = vec![Shape::Point, Shape::Circle { radius: 1.0 }, Shape::Line(0.0, 2.0)];
    assert_eq!(postcard::from_bytes::<Vec<Shape>>(&postcard::to_stdvec(&shapes).unwrap()).unwrap(), shapes);
    let archive = File { name: "a.zip".into(), inside: Some(Box::new(Folder { files: vec![] })) };
    let read: File = postcard::from_bytes(&postcard::to_stdvec(&archive).unwrap()).unwrap();
    assert_eq!((read.name.as_str(), read.inside.map(|folder| folder.files.len())), ("a.zip", Some(0)));
    let tree = Tree { name: "a".into(), children: vec![Tree { name: "b".into(), children: vec![] }] };
    assert_eq!(postcard::from_bytes::<Tree>(&postcard::to_stdvec(&tree).unwrap()).unwrap(), tree);
}

#[test]
fn a_change_of_shape_is_another_fingerprint_and_a_change_of_name_is_not() {
    mod base {
        #[odeon::data]
        pub(super) struct A {
            one: u32,
            two: String,
        }
    }
    mod same_shape {
        #[odeon::data]
        pub(super) struct Renamed {
            one: u32,
            two: Box<str>,
        }
    }
    mod order {
        #[odeon::data]
        pub(super) struct A {
            two: String,
            one: u32,
        }
    }
    mod more {
        #[odeon::data]
        pub(super) struct A {
            one: u32,
            two: String,
            #[serde(default)]
            three: Option<u8>,
        }
    }
    mod renamed_field {
        #[odeon::data]
        pub(super) struct A {
            one: u32,
            zwei: String,
        }
    }
    mod kept_by_rename {
        #[odeon::data]
        pub(super) struct A {
            one: u32,
            #[serde(rename = "two")]
            zwei: String,
        }
    }
    assert_eq!(base::A::FINGERPRINT, same_shape::Renamed::FINGERPRINT);
    assert_eq!(base::A::FINGERPRINT, kept_by_rename::A::FINGERPRINT);
    for other in [order::A::FINGERPRINT, more::A::FINGERPRINT, renamed_field::A::FINGERPRINT] {
        assert_ne!(base::A::FINGERPRINT, other);
    }
    assert_ne!(Page::<u8>::FINGERPRINT, Page::<u16>::FINGERPRINT);
}

#[test]
fn the_fingerprint_reaches_nested_types() {
    mod one {
        #[odeon::data]
        pub(super) struct Inner(pub u8);
        #[odeon::message]
        pub(super) struct Outer {
            pub inner: Vec<Inner>,
        }
    }
    mod two {
        #[odeon::data]
        pub(super) struct Inner(pub u16);
        #[odeon::message]
        pub(super) struct Outer {
            pub inner: Vec<Inner>,
        }
    }
    assert_ne!(one::Outer::FINGERPRINT, two::Outer::FINGERPRINT);
}

#[test]
fn an_opaque_label_is_the_fingerprint_of_what_it_covers() {
    mod newer {
        #[odeon::message(opaque = "2027")]
        pub(super) struct Whole {
            pub _at: u8,
        }
    }
    assert_ne!(Whole::FINGERPRINT, newer::Whole::FINGERPRINT);
    let sent = through_postcard(&InPart { at: foreign::Moment(7), note: "x".into() });
    assert_eq!((sent.at.0, sent.note.as_str()), (7, "x"));
}

#[test]
fn what_the_macro_writes_can_be_written_by_hand() {
    use odeon::hidden::Fingerprint;
    let by_hand = Fingerprint::new("enum")
        .part("Point", Fingerprint::new("variant").finish())
        .part("Circle", Fingerprint::new("variant").part("radius", f64::FINGERPRINT).finish())
        .part("Line", Fingerprint::new("variant").part("0", f64::FINGERPRINT).part("1", f64::FINGERPRINT).finish())
        .finish();
    assert_eq!(Shape::FINGERPRINT, by_hand);
}
