//! Telling and asking within one process: order, back-pressure, cancelling, deadlines, circles, replies that come later.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, reason = "a test's own actors")]
#![allow(clippy::unwrap_used, reason = "a test's helpers and actors may fail it")]

mod common;

use common::eventually;
use odeon::{Deferred, prelude::*};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

// ---- order and back-pressure ----

#[derive(Default)]
pub struct Sink {
    last: BTreeMap<u32, u64>,
    seen: u64,
    out_of_order: u64,
}
#[message]
pub struct Item {
    sender: u32,
    number: u64,
}
#[message(reply = (u64, u64))]
pub struct Seen;
#[message]
pub struct Block {
    millis: u64,
}

#[actor("test.sink", mailbox = 8)]
impl Sink {
    fn item(&mut self, item: Item) {
        let last = self.last.insert(item.sender, item.number);
        self.out_of_order +=
            u64::from(last.is_some_and(|last| last + 1 != item.number) || (last.is_none() && item.number != 0));
        self.seen += 1;
    }

    fn seen(&mut self, _: Seen) -> (u64, u64) {
        (self.seen, self.out_of_order)
    }

    async fn block(&mut self, block: Block) {
        tokio::time::sleep(Duration::from_millis(block.millis)).await;
    }
}

#[derive(Default)]
pub struct Source;
#[message]
pub struct Send {
    sender: u32,
    count: u64,
    to: ActorRef<Sink>,
}

#[actor("test.source")]
impl Source {
    async fn send(&mut self, send: Send) -> odeon::Result {
        for number in 0..send.count {
            send.to.tell(Item { sender: send.sender, number }).await?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_senders_messages_arrive_in_order_through_a_small_mailbox() {
    let system = System::local();
    let sink = system.create::<Sink>(()).await.unwrap();
    for sender in 0..8 {
        let source = system.create::<Source>(()).await.unwrap();
        source.tell(Send { sender, count: 2_000, to: sink.clone() }).await.unwrap();
    }
    let outside = (100..104).map(|sender| {
        let sink = sink.clone();
        tokio::spawn(async move {
            for number in 0..2_000 {
                sink.tell(Item { sender, number }).await.unwrap();
            }
        })
    });
    for task in outside.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    eventually("all 24,000 arrive", async || sink.ask(Seen).await.unwrap().0 == 24_000).await;
    assert_eq!(sink.ask(Seen).await.unwrap().1, 0, "out of order");
    system.stop().await;
}

#[tokio::test]
async fn a_full_mailbox_says_so_and_gives_the_message_back() {
    let system = System::local();
    let sink = system.create::<Sink>(()).await.unwrap();
    sink.tell(Block { millis: 600_000 }).await.unwrap();
    eventually("the handler runs", async || system.stats().waiting == 0).await;
    for number in 0..8 {
        sink.try_tell(Item { sender: 1, number }).unwrap();
    }
    let back = sink.try_tell(Item { sender: 1, number: 8 }).unwrap_err();
    assert_eq!(back.message.number, 8);
    assert_eq!(Error::from(back).kind(), "full");
    sink.kill();
    system.stop().await;
}

#[tokio::test]
async fn a_tell_that_waits_is_sent_when_there_is_room_and_not_if_it_is_dropped() {
    let system = System::local();
    let sink = system.create::<Sink>(()).await.unwrap();
    sink.tell(Block { millis: 50 }).await.unwrap();
    eventually("the handler runs", async || system.stats().waiting == 0).await;
    for number in 0..8 {
        sink.try_tell(Item { sender: 1, number }).unwrap();
    }
    let dropped = tokio::time::timeout(Duration::from_millis(1), sink.tell(Item { sender: 2, number: 99 })).await;
    assert!(dropped.is_err(), "there was no room");
    sink.tell(Item { sender: 1, number: 8 }).await.unwrap();
    eventually("nine arrive", async || sink.ask(Seen).await.unwrap() == (9, 0)).await;
    system.stop().await;
}

#[tokio::test]
async fn a_sender_that_waits_learns_that_the_receiver_ended() {
    let system = System::local();
    let sink = system.create::<Sink>(()).await.unwrap();
    sink.tell(Block { millis: 600_000 }).await.unwrap();
    eventually("the handler runs", async || system.stats().waiting == 0).await;
    for number in 0..8 {
        sink.try_tell(Item { sender: 1, number }).unwrap();
    }
    let waiting = tokio::spawn({
        let sink = sink.clone();
        async move { sink.tell(Item { sender: 1, number: 8 }).await }
    });
    tokio::task::yield_now().await;
    sink.kill();
    let back = waiting.await.unwrap().unwrap_err();
    assert_eq!(back.message.number, 8);
    assert!(!back.error.may_have_run());
    system.stop().await;
}

// ---- asks ----

#[derive(Default)]
pub struct Calculator {
    kept: VecDeque<ReplyTo<u64>>,
    added: u64,
}
#[message(reply = u64)]
pub struct Add {
    one: u64,
    two: u64,
}
#[message(reply = u64)]
pub struct Slow;
#[message(reply = u64)]
pub struct Later;
#[message(reply = u64)]
pub struct Passed {
    by: ActorRef<Calculator>,
}
#[message]
pub struct Release;
#[message(reply = u64)]
pub struct Wrong;
#[message(reply = u64)]
pub struct Added;
#[message(reply = u64)]
pub struct Remaining;

#[actor("test.calculator")]
impl Calculator {
    fn add(&mut self, add: Add) -> u64 {
        self.added += 1;
        add.one + add.two
    }

    async fn slow(&mut self, _: Slow) -> u64 {
        tokio::time::sleep(Duration::from_secs(600)).await;
        0
    }

    fn later(&mut self, _: Later, ctx: &mut Context<Self>) -> Deferred {
        let (reply, deferred) = ctx.defer();
        self.kept.push_back(reply);
        deferred
    }

    fn release(&mut self, _: Release) {
        for (place, reply) in self.kept.drain(..).enumerate() {
            if place == 0 { reply.send(40) } else { drop(reply) }
        }
    }

    fn passed(&mut self, passed: Passed, ctx: &mut Context<Self>) -> Forwarded {
        ctx.forward(&passed.by, Add { one: 20, two: 1 })
    }

    fn wrong(&mut self, _: Wrong) -> Result<u64, String> {
        Err("it does not add up".to_owned())
    }

    fn added(&mut self, _: Added) -> u64 {
        self.added
    }

    fn remaining(&mut self, _: Remaining, ctx: &mut Context<Self>) -> u64 {
        ctx.remaining().map_or(0, |left| left.as_millis() as u64)
    }
}

#[tokio::test]
async fn an_ask_is_answered_at_once_later_or_by_another() {
    let system = System::local();
    let one = system.create::<Calculator>(()).await.unwrap();
    let two = system.create::<Calculator>(()).await.unwrap();
    assert_eq!(one.ask(Add { one: 2, two: 3 }).await.unwrap(), 5);
    assert_eq!(one.add(Add { one: 2, two: 4 }).await.unwrap(), 6);
    assert_eq!(one.passed(Passed { by: two.clone() }).await.unwrap(), 21);
    assert_eq!(two.added(Added).await.unwrap(), 1);
    let (first, second) = (tokio::spawn(one.ask(Later)), tokio::spawn(one.ask(Later)));
    eventually("both are kept", async || {
        one.tell(Release).await.unwrap();
        first.is_finished() && second.is_finished()
    })
    .await;
    let answers = [first.await.unwrap(), second.await.unwrap()];
    let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).map(Error::kind).collect();
    assert!(answers.iter().any(|answer| matches!(answer, Ok(40))), "{answers:?}");
    assert!(failed.iter().all(|kind| *kind == "handler"), "a dropped reply is an error: {failed:?}");
    system.stop().await;
}

#[tokio::test]
async fn an_error_of_a_handler_reaches_the_asker() {
    let system = System::local();
    let calculator = system.create::<Calculator>(()).await.unwrap();
    let error = calculator.ask(Wrong).await.unwrap_err();
    assert_eq!(error.kind(), "handler");
    assert!(error.to_string().contains("it does not add up"), "{error}");
    assert_eq!(system.stats().failed, 1);
    system.stop().await;
}

#[tokio::test]
async fn an_ask_ends_with_its_deadline_and_a_late_message_is_not_handled() {
    let system = System::local();
    let calculator = system.create::<Calculator>(()).await.unwrap();
    // Told, so it is in the mailbox before what follows.
    calculator.tell(Slow).await.unwrap();
    let slow = tokio::spawn(calculator.ask(Slow).timeout(Duration::from_millis(60)));
    let error = calculator.ask(Add { one: 1, two: 1 }).timeout(Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(error.kind(), "deadline");
    assert!(error.to_string().contains("Add"), "{error}");
    assert_eq!(slow.await.unwrap().unwrap_err().kind(), "deadline");
    calculator.kill();
    system.stop().await;
}

#[tokio::test]
async fn messages_whose_asker_waits_no_more_are_dropped_and_counted() {
    let system = System::local();
    let calculator = system.create::<Calculator>(()).await.unwrap();
    // Holds the actor for a while, then goes on.
    let sink = system.create::<Sink>(()).await.unwrap();
    sink.tell(Block { millis: 100 }).await.unwrap();
    let error = sink.ask(Seen).timeout(Duration::from_millis(10)).await.unwrap_err();
    assert_eq!(error.kind(), "deadline");
    eventually("the late one is dropped", async || system.stats().late == 1).await;
    assert!(calculator.ask(Remaining).await.unwrap() > 3_000, "5 s by default");
    assert!(calculator.ask(Remaining).timeout(Duration::from_secs(1)).await.unwrap() <= 1_000);
    system.stop().await;
}

#[tokio::test]
async fn an_ask_that_is_dropped_harms_nobody() {
    let system = System::local();
    let calculator = system.create::<Calculator>(()).await.unwrap();
    for _ in 0..200 {
        let asked = calculator.ask(Add { one: 1, two: 1 });
        tokio::select! {
            biased;
            _ = asked => {}
            () = std::future::ready(()) => {}
        }
    }
    assert_eq!(calculator.ask(Add { one: 1, two: 1 }).await.unwrap(), 2);
    system.stop().await;
}

// ---- circles ----

#[derive(Default)]
pub struct Peer {
    seen: Arc<AtomicU64>,
}
#[message(reply = u64)]
pub struct Around {
    rest: Vec<ActorRef<Peer>>,
}
#[message(reply = u64)]
pub struct Beside;

#[actor("test.peer")]
impl Peer {
    async fn around(&mut self, mut around: Around, ctx: &mut Context<Self>) -> odeon::Result<u64> {
        self.seen.fetch_add(1, Ordering::Relaxed);
        match around.rest.pop() {
            Some(next) => Ok(next.ask(Around { rest: around.rest }).await? + 1),
            None => Ok(ctx.remaining().map_or(0, |_| 1)),
        }
    }

    fn beside(&mut self, _: Beside, ctx: &mut Context<Self>) -> Deferred {
        let (reply, deferred) = ctx.defer();
        let me = ctx.me();
        // A task of the actor may ask it: the actor goes on meanwhile.
        ctx.spawn(async move { reply.send(me.ask(Around { rest: vec![] }).await.unwrap_or(99)) });
        deferred
    }
}

#[tokio::test]
async fn a_circle_of_asks_is_an_error_that_names_its_actors() {
    let system = System::local();
    let mut peers = Vec::new();
    for name in ["ann", "bob", "cid"] {
        peers.push(system.create::<Peer>(()).global_name(format!("peer/{name}")).await.unwrap());
    }
    let [ann, bob, cid] = &peers[..] else { unreachable!() };
    let error = ann.ask(Around { rest: vec![ann.clone()] }).await.unwrap_err();
    assert!(error.to_string().contains("peer/ann → peer/ann"), "{error}");
    let error = ann.ask(Around { rest: vec![ann.clone(), cid.clone(), bob.clone()] }).await.unwrap_err();
    assert!(error.to_string().contains("peer/ann → peer/bob → peer/cid → peer/ann"), "{error}");
    let error = ann.ask(Around { rest: vec![bob.clone(), cid.clone(), bob.clone()] }).await.unwrap_err();
    assert!(error.to_string().contains("circle: peer/bob → peer/cid → peer/bob"), "{error}");
    assert_eq!(ann.ask(Around { rest: vec![cid.clone(), bob.clone()] }).await.unwrap(), 3, "no circle, no error");
    assert_eq!(ann.ask(Beside).await.unwrap(), 1);
    system.stop().await;
}

// ---- references ----

#[tokio::test]
async fn references_are_values() {
    let system = System::local();
    let one = system.create::<Calculator>(()).await.unwrap();
    let two = system.create::<Calculator>(()).await.unwrap();
    assert_ne!(one, two);
    let text = serde_json::to_string(&one).unwrap();
    let unbound: ActorRef<Calculator> = serde_json::from_str(&text).unwrap();
    assert_eq!(unbound.ask(Add { one: 1, two: 1 }).await.unwrap_err().kind(), "unbound");
    let bound = system.bind(&unbound);
    assert_eq!(bound, one);
    assert_eq!(bound.ask(Add { one: 1, two: 1 }).await.unwrap(), 2);
    let adder = bound.recipient::<Add>();
    assert_eq!(adder.ask(Add { one: 1, two: 2 }).await.unwrap(), 3);
    let foreign = system.recipient::<Note>(one.address());
    assert_eq!(foreign.ask(Note { text: String::new() }).await.unwrap_err().kind(), "unsupported");
    assert_eq!(foreign.try_tell(Note { text: "x".into() }).unwrap_err().message.text, "x");
    system.stop().await;
}

use common::Note;

#[message(reply = u64)]
pub struct Large {
    bytes: Vec<u64>,
    more: [u64; 20],
}
#[derive(Default)]
pub struct Heavy;
#[actor("test.heavy")]
impl Heavy {
    async fn large(&mut self, large: Large) -> u64 {
        let before = [large.bytes.len() as u64; 300];
        tokio::task::yield_now().await;
        large.more.iter().sum::<u64>() + before.iter().sum::<u64>() / 300
    }
}

#[tokio::test]
async fn large_messages_and_large_futures_are_boxed() {
    let system = System::local().restless(false);
    let heavy = system.create::<Heavy>(()).await.unwrap();
    for round in 0..50 {
        let large = Large { bytes: vec![1; 7], more: [round; 20] };
        assert_eq!(heavy.ask(large).await.unwrap(), round * 20 + 7);
    }
    system.stop().await;
}

// ---- what comes back to a program ----

#[derive(Default)]
pub struct Refuser;
#[message]
pub struct Refuse {
    number: u64,
}

#[actor("test.refuser", mailbox = 4096)]
impl Refuser {
    fn refuse(&mut self, refuse: Refuse) -> odeon::Result {
        Err(Error::other(format!("{} is refused", refuse.number)))
    }
}

#[tokio::test]
async fn what_a_program_told_comes_back_to_it() {
    let system = System::local();
    let (refuser, sink) = (system.create::<Refuser>(()).await.unwrap(), system.create::<Sink>(()).await.unwrap());
    let mut returned = system.returned().unwrap();
    assert!(returned.try_next().is_none());
    let second = system.returned().unwrap_err();
    assert!(second.to_string().contains("taken already"), "{second}");
    refuser.tell(Refuse { number: 1 }).await.unwrap();
    let back = returned.next().await.unwrap();
    assert!(back.is::<Refuse>() && back.may_have_run(), "{back:?}");
    assert!(back.text().contains("1 is refused"), "{back:?}");
    sink.tell(Block { millis: 10_000 }).await.unwrap();
    eventually("the handler runs", async || system.stats().waiting == 0).await;
    sink.tell(Item { sender: 1, number: 7 }).await.unwrap();
    sink.kill();
    let begun = returned.next().await.unwrap();
    assert!(begun.is::<Block>() && begun.may_have_run(), "what was cut off at an await comes back, too: {begun:?}");
    assert!(begun.text().contains("killed while it handled"), "{begun:?}");
    let mut back = returned.next().await.unwrap();
    assert_eq!((back.take::<Item>().unwrap().number, back.may_have_run()), (7, false));
    drop(returned);
    let mut again = system.returned().unwrap();
    system.stop().await;
    while again.next().await.is_some() {}
}

#[tokio::test]
async fn what_comes_back_to_nobody_is_counted() {
    let system = System::local();
    let heard = Arc::new(AtomicU64::new(0));
    let counted = heard.clone();
    system.on_dead_letter(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let refuser = system.create::<Refuser>(()).await.unwrap();
    refuser.tell(Refuse { number: 0 }).await.unwrap();
    eventually("it came back to nobody", async || system.stats().unheard == 1).await;
    let mut returned = system.returned().unwrap();
    for number in 0..1500 {
        refuser.tell(Refuse { number }).await.unwrap();
    }
    eventually("all have come back", async || system.stats().unheard == 477).await;
    assert_eq!((returned.missed(), system.stats().dead_letters, heard.load(Ordering::SeqCst)), (476, 1501, 1501));
    let mut taken = 0;
    while let Some(back) = returned.try_next() {
        assert!(back.text().contains(&format!(" {taken} is refused")), "{back:?}");
        taken += 1;
    }
    assert_eq!(taken, 1024);
    system.stop().await;
}

#[tokio::test]
async fn dead_letters_are_heard_of_while_somebody_listens() {
    let system = System::local();
    let (refuser, sink) = (system.create::<Refuser>(()).await.unwrap(), system.create::<Sink>(()).await.unwrap());
    refuser.tell(Refuse { number: 0 }).await.unwrap();
    eventually("it came back", async || system.stats().dead_letters == 1).await;
    let (mut one, mut two) = (system.dead_letters().unwrap(), system.dead_letters().unwrap());
    refuser.tell(Refuse { number: 1 }).await.unwrap();
    let letter = one.next().await.unwrap();
    assert_eq!(two.next().await.unwrap(), letter);
    assert_eq!((&letter.to, letter.reason, letter.may_have_run), (&refuser.address(), odeon::Reason::Failed, true));
    assert!(letter.message.ends_with(".Refuse") && letter.text.contains("1 is refused"), "{letter:?}");
    assert_eq!((letter.codec, letter.body_bytes), (odeon::Codec::Raw, 0));
    drop(two);
    // What its receiver had begun, then what it had not: with its body, an ask that waited as well.
    sink.tell(Block { millis: 10_000 }).await.unwrap();
    eventually("the handler runs", async || system.stats().waiting == 0).await;
    sink.tell(Item { sender: 1, number: 7 }).await.unwrap();
    let asking = sink.ask(Seen);
    let (asked, ()) = tokio::join!(asking, async {
        eventually("both wait", async || system.stats().waiting == 2).await;
        sink.kill();
    });
    assert!(asked.is_err());
    for (name, body_bytes, may_have_run) in [(".Block", 0, true), (".Item", 2, false), (".Seen", 0, false)] {
        let letter = one.next().await.unwrap();
        assert!(letter.message.ends_with(name), "{letter:?}");
        assert_eq!((letter.body_bytes, letter.may_have_run), (body_bytes, may_have_run), "{letter:?}");
    }
    system.stop().await;
    assert!(one.next().await.is_none());
    assert!(system.dead_letters().is_err());
}

#[tokio::test]
async fn a_listener_that_is_behind_learns_how_many_it_missed() {
    let system = System::local();
    let refuser = system.create::<Refuser>(()).await.unwrap();
    let mut letters = system.dead_letters().unwrap();
    let mut told = 0;
    // More than wait for a listener, and more than are told of in a second.
    let letter = loop {
        while system.stats().dead_letters < told {
            tokio::task::yield_now().await;
        }
        refuser.tell(Refuse { number: told }).await.unwrap();
        told += 1;
        if told > 1500
            && let Some(letter) = letters.try_next()
            && letter.missed > 0
        {
            break letter;
        }
    };
    assert!(letter.text.contains("is refused"), "{letter:?}");
    system.stop().await;
}
