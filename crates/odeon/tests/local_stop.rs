//! What outlasts a system: the order in which it stops, and epochs that a later one does not repeat.
#![allow(clippy::unwrap_used, reason = "a test's helpers and actors may fail it")]
#![allow(missing_docs, missing_debug_implementations, reason = "a test's own actors")]

use odeon::prelude::*;
use std::sync::Mutex;

#[message]
struct Keep {
    key: String,
}

/// Notes what it keeps, and when it stops.
struct Store {
    notebook: String,
}

/// Each test's notes, by the name of its notebook.
static NOTES: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());

fn note(notebook: &str, what: String) {
    NOTES.lock().unwrap().entry(notebook.to_owned()).or_default().push(what);
}

#[actor("test.store", stops = last)]
impl Store {
    fn start(notebook: String) -> odeon::Result<Self> {
        Ok(Self { notebook })
    }
    fn keep(&mut self, keep: Keep) {
        note(&self.notebook, keep.key);
    }
    fn stopping(&mut self) {
        note(&self.notebook, "closed".to_owned());
    }
}

#[message(reply = u64)]
struct Open;

struct Record {
    store: ActorRef<Store>,
    key: String,
}

#[actor("test.record")]
impl Record {
    fn start(args: (ActorRef<Store>, String)) -> odeon::Result<Self> {
        Ok(Self { store: args.0, key: args.1 })
    }
    fn open(&mut self, _: Open, ctx: &mut Context<Self>) -> u64 {
        ctx.epoch()
    }
    async fn stopping(&mut self) -> odeon::Result {
        self.store.ask(Keep { key: self.key.clone() }).await
    }
}

#[tokio::test]
async fn who_stops_last_serves_the_others_until_then() {
    let system = System::local();
    let store = system.create::<Store>("stop".to_owned()).await.unwrap();
    for key in 0..100 {
        system.create::<Record>((store.clone(), key.to_string())).await.unwrap().ask(Open).await.unwrap();
    }
    system.stop().await;
    let kept = NOTES.lock().unwrap()["stop"].clone();
    assert_eq!(kept.len(), 101, "{kept:?}");
    assert_eq!(kept.last().unwrap(), "closed");
}

#[tokio::test]
async fn a_later_system_grants_later_epochs() {
    let mut last = 0;
    for _ in 0..3 {
        let system = System::local();
        let store = system.create::<Store>("epoch".to_owned()).await.unwrap();
        for key in 0..10 {
            let named = system.create::<Record>((store.clone(), key.to_string())).global_name(format!("record/{key}"));
            let epoch = named.await.unwrap().ask(Open).await.unwrap();
            assert!(epoch > last, "{epoch} after {last}");
            last = epoch;
        }
        system.stop().await;
    }
}
