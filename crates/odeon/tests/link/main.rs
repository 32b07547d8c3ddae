//! Two workers in one process, each with its own runtime, and a tiny agent between them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod actors;
#[path = "../agent/mod.rs"]
#[expect(dead_code, reason = "each test uses its part of the agent")]
mod agent;

use actors::{
    AskDouble, BACK, Double, Fail, ForwardDouble, Gated, KEPT, Record, Recorder, Seen, TellFail, TellGated, TellMany,
    Teller, Wait, WhoAsks, accepted, gate,
};
use agent::{Agent, until};
use odeon::{AskError, System, client::Admin, prelude::*};
use odeon_protocol::{
    Address, Reason, Time,
    control::{FromAgent, ToAgent},
    frame::{Class, Extension, Frame, Header, Kind},
    limits::FLOW_WINDOW,
};
use std::{sync::atomic::Ordering, time::Duration};

struct Pair {
    agent: Agent,
    one: System,
    two: System,
}

async fn pair() -> Pair {
    let agent = Agent::new();
    let mut systems = Vec::new();
    for _ in 0..2 {
        let worker = odeon::worker![Recorder, Gated, Teller];
        systems.push(worker.attach(agent.socket()).await.unwrap());
    }
    let two = systems.pop().unwrap();
    Pair { agent, one: systems.pop().unwrap(), two }
}

impl Pair {
    /// A nameless recorder in the second worker, referred to from the first.
    async fn recorder(&self) -> ActorRef<Recorder> {
        let there = self.two.create::<Recorder>(()).await.unwrap();
        self.one.reference(there.address())
    }

    async fn teller(&self, test: &str) -> ActorRef<Teller> {
        self.one.create::<Teller>(test.to_owned()).await.unwrap()
    }

    async fn settled(&self) {
        until("all is settled and forgotten", || self.one.stats().flows == 0 && self.two.stats().flows == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_and_asks_cross_in_order_and_are_settled() {
    let pair = pair().await;
    let (recorder, teller) = (pair.recorder().await, pair.teller("order").await);
    const COUNT: u64 = 20_000;
    assert_eq!(
        teller.ask(TellMany { to: recorder.clone(), from: 0, count: COUNT }).timeout(LONG).await.unwrap(),
        COUNT
    );
    assert_eq!(teller.ask(AskDouble { to: recorder.clone(), n: 21 }).await.unwrap(), 42);
    let seen = recorder.ask(Seen).await.unwrap();
    assert!(seen.into_iter().eq(0..COUNT));
    pair.settled().await;
    let reports = pair.agent.frames(Kind::Settled);
    assert!(reports > 0 && reports < COUNT / 10, "{reports} reports for {COUNT} messages");
    assert_eq!(recorder.ask(Double { n: 4 }).await.unwrap(), 8);
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_of_asks_needs_no_reports() {
    let pair = pair().await;
    let recorder = pair.recorder().await;
    let before = pair.agent.frames(Kind::Settled);
    for n in 0..500 {
        assert_eq!(recorder.ask(Double { n }).await.unwrap(), 2 * n);
    }
    assert_eq!(pair.agent.frames(Kind::Settled), before);
    assert_eq!(pair.agent.frames(Kind::Reply), 500);
    pair.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_ask_is_answered_by_the_other() {
    let pair = pair().await;
    let recorder = pair.recorder().await;
    // The asker is in the second worker, the forwarder in the first, the answer comes from the second.
    let teller = pair.two.reference::<Teller>(pair.teller("forward").await.address());
    let there = pair.two.reference::<Recorder>(recorder.address());
    assert_eq!(teller.ask(ForwardDouble { to: there, n: 8 }).await.unwrap(), 16);
    // And from the forwarder's own worker.
    let teller = pair.teller("forward").await;
    assert_eq!(teller.ask(ForwardDouble { to: recorder, n: 9 }).await.unwrap(), 18);
    pair.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_actor_makes_its_sender_wait_and_nobody_else() {
    let pair = pair().await;
    pair.agent.place_at(1);
    let slow = pair.one.named::<Gated>("slow");
    let teller = pair.teller("slow").await;
    const COUNT: u64 = 2000;
    teller.tell(TellGated { to: slow.clone(), count: COUNT }).await.unwrap();
    let accepted = accepted("slow");
    until("the window is used up", || accepted.load(Ordering::SeqCst) == u64::from(FLOW_WINDOW)).await;
    // Others get through.
    let recorder = pair.recorder().await;
    for n in 0..50 {
        assert_eq!(recorder.ask(Double { n }).await.unwrap(), 2 * n);
    }
    assert_eq!(accepted.load(Ordering::SeqCst), u64::from(FLOW_WINDOW));
    assert!(slow.try_tell(Record { n: 1 }).is_ok(), "another sender has a window of its own");
    gate("slow").add_permits(COUNT as usize + 1);
    until("all is accepted", || accepted.load(Ordering::SeqCst) == COUNT).await;
    let seen = slow.ask(Seen).await.unwrap();
    assert_eq!(seen.len() as u64, COUNT + 1);
    pair.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_tell_comes_back_and_a_failed_ask_says_why() {
    let pair = pair().await;
    let (recorder, teller) = (pair.recorder().await, pair.teller("failed").await);
    teller.tell(TellFail { to: recorder.clone() }).await.unwrap();
    until("it came back", || BACK.lock().unwrap().get("failed").is_some_and(|back| back == &[(Reason::Failed, None)]))
        .await;
    let error = recorder.ask(Fail).await.unwrap_err();
    assert!(matches!(&error, AskError::Handler(text) if text.contains("on purpose")), "{error:?}");
    pair.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_ended_actor_gets_comes_back() {
    let pair = pair().await;
    let (recorder, teller) = (pair.recorder().await, pair.teller("ended").await);
    assert_eq!(recorder.ask(Double { n: 1 }).await.unwrap(), 2);
    recorder.stop();
    let address = recorder.address();
    until("it has ended", || pair.two.stats().actors == 0).await;
    teller.ask(TellMany { to: pair.one.reference(address), from: 5, count: 2 }).await.unwrap();
    let want = [(Reason::NoSuchActor, Some(5)), (Reason::NoSuchActor, Some(6))];
    until("both came back", || BACK.lock().unwrap().get("ended").is_some_and(|back| back == &want)).await;
    let error = recorder.ask(Double { n: 1 }).await.unwrap_err();
    assert!(matches!(error, AskError::NoSuchActor(_)) && !error.may_have_run(), "{error:?}");
    pair.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_told_comes_back_to_it() {
    let pair = pair().await;
    let client = System::connect_in(pair.agent.socket()).await.unwrap();
    let recorder = client.reference::<Recorder>(pair.recorder().await.address());
    let mut returned = client.returned().unwrap();
    recorder.tell(Fail).await.unwrap();
    let back = returned.next().await.unwrap();
    assert!(back.is::<Fail>() && back.reason() == Reason::Failed && back.may_have_run(), "{back:?}");
    recorder.stop();
    until("it has ended", || pair.two.stats().actors == 0).await;
    recorder.tell(Record { n: 9 }).await.unwrap();
    let mut back = returned.next().await.unwrap();
    assert_eq!((back.reason(), back.may_have_run()), (Reason::NoSuchActor, false));
    assert_eq!(back.to(), &recorder.address());
    assert_eq!(back.take::<Record>().unwrap().n, 9);
    assert_eq!((client.stats().dead_letters, client.stats().unheard), (2, 0));
    // What an actor told is its own matter, even if it has ended since.
    let teller = pair.teller("program").await;
    let mut ours = pair.one.returned().unwrap();
    teller.ask(TellMany { to: pair.one.reference(recorder.address()), from: 5, count: 1 }).await.unwrap();
    until("it came back to its sender", || BACK.lock().unwrap().contains_key("program")).await;
    assert!(ours.try_next().is_none());
    pair.settled().await;
    client.stop().await;
    assert!(returned.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_tells_its_agent_of_dead_letters_while_they_are_wanted() {
    let pair = pair().await;
    let recorder = pair.one.create::<Recorder>(()).await.unwrap();
    let mut letters = pair.one.dead_letters().unwrap();
    let said = |wanted: ToAgent| move |process, message: &ToAgent| process == 0 && *message == wanted;
    until("it says that it listens", || pair.agent.was_told(said(ToAgent::ListenDeadLetters { listen: true }))).await;
    // The agent has not said that anybody listens.
    recorder.tell(Fail).await.unwrap();
    until("it came back", || pair.one.stats().dead_letters == 1).await;
    pair.agent.say(0, &FromAgent::DeadLettersWanted { wanted: true });
    let told = |process, message: &ToAgent| process == 0 && matches!(message, ToAgent::DeadLetter(_));
    until("it tells of one", || {
        assert!(recorder.try_tell(Fail).is_ok());
        pair.agent.was_told(told)
    })
    .await;
    assert!(pair.agent.was_told(|_, message| {
        matches!(message, ToAgent::DeadLetter(letter) if letter.message.ends_with(".Fail") && letter.may_have_run)
    }));
    assert!(letters.try_next().is_none(), "what is heard comes from the agent");
    let frame = Frame::new(Header::new(Kind::Returned), &[Extension::Message("t.Lost")], b"{}");
    let letter = odeon::DeadLetter::of_frame(&frame, "h2");
    pair.agent.say(0, &FromAgent::DeadLetter(Box::new(letter.clone())));
    assert_eq!(letters.next().await.unwrap(), letter);
    drop(letters);
    until("it says that it does not", || pair.agent.was_told(said(ToAgent::ListenDeadLetters { listen: false }))).await;
    let mut letters = pair.one.dead_letters().unwrap();
    pair.agent.cut(0);
    assert!(letters.next().await.is_none(), "without an agent nothing is heard");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_for_a_resting_actor_survive_its_stop() {
    let pair = pair().await;
    pair.agent.place_at(1);
    let gated = pair.one.named::<Gated>("rest");
    let teller = pair.teller("rest").await;
    teller.tell(TellGated { to: gated.clone(), count: 100 }).await.unwrap();
    let accepted = accepted("rest");
    until("all is on its way", || accepted.load(Ordering::SeqCst) == 100).await;
    let started = |process, message: &ToAgent| process == 1 && matches!(message, ToAgent::Started { .. });
    until("it has started", || pair.agent.was_told(started)).await;
    gate("rest").add_permits(10);
    // It stops after what was queued before; what comes later goes to the next instance, on the other worker.
    gated.stop();
    pair.agent.place_at(0);
    teller.tell(TellGated { to: gated.clone(), count: 100 }).await.unwrap();
    gate("rest").add_permits(1000);
    until("all is accepted", || accepted.load(Ordering::SeqCst) == 200).await;
    until("all is handled", || pair.one.stats().flows == 0 && pair.two.stats().flows == 0).await;
    let seen = gated.ask(Seen).await.unwrap();
    assert!(seen.into_iter().eq((0..100).chain(0..100)));
    for process in 0..2 {
        let told = |fits: fn(&ToAgent) -> bool| pair.agent.was_told(|from, message| from == process && fits(message));
        let stopping = told(|message| matches!(message, ToAgent::Stopping { .. }));
        let ended = told(|message| matches!(message, ToAgent::Ended { .. }));
        assert_eq!((stopping, ended), (process == 1, process == 1), "{process}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_named_actor_gives_the_next_instance_what_it_had_not_begun() {
    let pair = pair().await;
    pair.agent.place_at(1);
    let gated = pair.one.named::<Gated>("killed");
    let teller = pair.teller("killed").await;
    teller.tell(TellGated { to: gated.clone(), count: 50 }).await.unwrap();
    let accepted = accepted("killed");
    until("all is on its way", || accepted.load(Ordering::SeqCst) == 50).await;
    gate("killed").add_permits(10);
    until("ten were handled", || gate("killed").available_permits() == 0).await;
    gated.kill();
    until("it has ended", || pair.agent.was_told(|_, message| matches!(message, ToAgent::Ended { .. }))).await;
    gate("killed").add_permits(1000);
    let seen = gated.ask(Seen).timeout(LONG).await.unwrap();
    let cut_off = [(Reason::ActorStopped, None)];
    until("what it had in hand comes back", || BACK.lock().unwrap().get("killed").is_some_and(|back| *back == cut_off))
        .await;
    // The killed one had its state for itself, and one message in hand, which came back.
    assert!(seen.len() >= 39, "{seen:?}");
    assert!(seen.windows(2).all(|pair| pair[0] + 1 == pair[1]) && seen.last() == Some(&49), "{seen:?}");
    pair.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_fails_asks_and_frees_its_senders() {
    let pair = pair().await;
    pair.agent.place_at(1);
    pair.agent.say(0, &FromAgent::DeadLettersWanted { wanted: true });
    let gated = pair.one.named::<Gated>("lost");
    let teller = pair.teller("lost").await;
    teller.tell(TellGated { to: gated.clone(), count: 300 }).await.unwrap();
    let accepted = accepted("lost");
    until("the window is used up", || accepted.load(Ordering::SeqCst) == u64::from(FLOW_WINDOW)).await;
    let asking = gated.clone();
    let ask = tokio::spawn(async move { asking.ask(Wait).timeout(LONG).await });
    until("the ask is under way", || pair.agent.frames(Kind::Ask) == 1).await;
    pair.agent.cut(1);
    let error = ask.await.unwrap().unwrap_err();
    assert!(matches!(error, AskError::WorkerLost { may_have_run: true, .. }), "{error:?}");
    let letter = |_, message: &ToAgent| {
        matches!(message, ToAgent::DeadLetter(letter)
            if letter.count > 1 && letter.message.is_empty() && letter.may_have_run && letter.reason == Reason::WorkerLost)
    };
    until("one letter tells how many were lost", || pair.agent.was_told(letter)).await;
    until("the teller goes on", || {
        pair.one.stats().flows == 0 || accepted.load(Ordering::SeqCst) > u64::from(FLOW_WINDOW)
    })
    .await;
    assert!(pair.one.stats().unsettled >= u64::from(FLOW_WINDOW));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_agent_a_process_says_so() {
    let pair = pair().await;
    pair.agent.place_at(1);
    let gated = pair.one.named::<Gated>("alone");
    let asking = gated.clone();
    let ask = tokio::spawn(async move { asking.ask(Wait).timeout(LONG).await });
    until("the ask is under way", || pair.agent.frames(Kind::Ask) == 1).await;
    pair.agent.cut(0);
    let error = ask.await.unwrap().unwrap_err();
    assert!(matches!(error, AskError::Unreachable { may_have_run: true, .. }), "{error:?}");
    let error = gated.ask(Seen).await.unwrap_err();
    assert!(matches!(error, AskError::Unreachable { may_have_run: false, .. }), "{error:?}");
    assert!(gated.try_tell(Record { n: 1 }).is_err());
    assert!(pair.one.find::<Gated>("alone").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_flip_keep_each_senders_order() {
    let pair = pair().await;
    let gated = pair.one.named::<Gated>("flip");
    let teller = pair.teller("flip").await;
    gate("flip").add_permits(1_000_000);
    for round in 0..6 {
        pair.agent.place_at(round % 2);
        teller.tell(TellGated { to: gated.clone(), count: 300 }).await.unwrap();
        gated.stop();
    }
    let accepted = accepted("flip");
    until("all is accepted", || accepted.load(Ordering::SeqCst) == 1800).await;
    let expected: Vec<_> = (0..6).flat_map(|_| 0..300).collect();
    let begun = std::time::Instant::now();
    loop {
        let seen = gated.ask(Seen).timeout(LONG).await.unwrap();
        if seen.len() >= expected.len() {
            let wrong = seen.iter().zip(&expected).position(|(one, two)| one != two);
            assert_eq!((seen.len(), wrong), (expected.len(), None), "{:?}", wrong.map(|at| &seen[at..at + 5]));
            break;
        }
        assert!(begun.elapsed() < LONG, "{} of {}", seen.len(), expected.len());
    }
    pair.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn named_actors_rest_while_their_hosts_lease_is_in_doubt() {
    let pair = pair().await;
    pair.agent.place_at(1);
    let gated = pair.one.named::<Gated>("lease");
    gate("lease").add_permits(1000);
    assert!(gated.ask(Seen).await.unwrap().is_empty());
    let nameless = pair.recorder().await;
    let lease = |pause_at| FromAgent::Lease { pause_at, kill_at: Time::from_nanos(u64::MAX) };
    pair.agent.say(1, &lease(Time::from_nanos(1)));
    let asked = tokio::spawn(gated.ask(Seen).timeout(LONG));
    for n in 0..20 {
        assert_eq!(nameless.ask(Double { n }).await.unwrap(), 2 * n, "nameless actors go on");
    }
    assert!(!asked.is_finished());
    pair.agent.say(1, &lease(Time::from_nanos(u64::MAX / 2)));
    assert!(asked.await.unwrap().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_spoken_at_the_edge() {
    let pair = pair().await;
    let admin = Admin::over(pair.agent.socket()).await.unwrap();
    let recorder = pair.recorder().await;
    let target: Address = recorder.address();
    assert_eq!(admin.ask_json(&target, "Double", r#"{"n": 4}"#, LONG).await.unwrap(), "8");
    assert_eq!(admin.ask_json(&target, "link.Double", r#"{"n": 5}"#, LONG).await.unwrap(), "10");
    assert!(admin.tell_json(&target, "Record", r#"{"n": 3}"#, LONG).await.unwrap());
    for empty in ["", "null", "{}"] {
        assert_eq!(admin.ask_json(&target, "Seen", empty, LONG).await.unwrap(), "[3]", "{empty:?}");
    }
    let failure = admin.ask_json(&target, "Double", r#"{"n": "x"}"#, LONG).await.unwrap_err();
    assert_eq!((failure.reason, failure.may_have_run), (Reason::Decode, false));
    let failure = admin.ask_json(&target, "Dubble", "{}", LONG).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Unsupported);
    assert!(failure.text.contains("link.Double"), "{}", failure.text);
    let failure = admin.tell_json(&target, "Fail", "{}", LONG).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Failed);
    let nobody: Address = "odeon:a9.1.12345".parse().unwrap();
    assert_eq!(admin.ask_json(&nobody, "Seen", "", LONG).await.unwrap_err().reason, Reason::NoSuchActor);
    // A forwarded ask stays JSON all the way.
    let teller = pair.one.create::<Teller>("json".to_owned()).await.unwrap();
    let body = format!(r#"{{"to": "{target}", "n": 11}}"#);
    assert_eq!(admin.ask_json(&teller.address(), "ForwardDouble", &body, LONG).await.unwrap(), "22");
    assert_eq!(admin.admin(r#"{"command":"hosts"}"#).await.unwrap(), r#"{"command":"hosts"}"#);
    pair.agent.cut(2);
    assert_eq!(admin.admin("{}").await.unwrap_err().reason, Reason::Unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn restless_systems_do_the_same() {
    let agent = Agent::new();
    let worker = || odeon::worker![Recorder, Gated, Teller].restless(true);
    let one = worker().attach(agent.socket()).await.unwrap();
    let two = worker().attach(agent.socket()).await.unwrap();
    agent.place_at(1);
    let recorder = one.create::<Recorder>(()).global_name("restless").await.unwrap();
    let teller = one.create::<Teller>("restless".to_owned()).await.unwrap();
    teller.ask(TellMany { to: recorder.clone(), from: 0, count: 1000 }).timeout(LONG).await.unwrap();
    assert!(recorder.ask(Seen).await.unwrap().into_iter().eq(0..1000));
    let near = two.find_name::<Recorder>("restless").await.unwrap().unwrap();
    assert_eq!(near.ask(Double { n: 3 }).await.unwrap(), 6);
    assert!(recorder.ask(WhoAsks).await.unwrap().starts_with("odeon:a9.1."));
    until("all is settled", || one.stats().flows == 0 && two.stats().flows == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_actor_here_is_reached_without_the_agent() {
    let pair = pair().await;
    pair.agent.place_at(0);
    let gated = pair.one.named::<Gated>("here");
    gate("here").add_permits(1000);
    assert!(gated.ask(Seen).await.unwrap().is_empty());
    pair.settled().await;
    let before = pair.agent.frames(Kind::Tell) + pair.agent.frames(Kind::Ask);
    for n in 0..100 {
        gated.tell(Record { n }).await.unwrap();
    }
    assert!(gated.ask(Seen).await.unwrap().into_iter().eq(0..100));
    assert_eq!(pair.agent.frames(Kind::Tell) + pair.agent.frames(Kind::Ask), before);
    // From the other worker it goes by the agent.
    assert_eq!(pair.two.named::<Gated>("here").ask(Seen).await.unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn creations_and_lookups_go_by_the_agent() {
    let pair = pair().await;
    pair.agent.place_at(1);
    assert!(pair.one.find_name::<Recorder>("r1").await.unwrap().is_none());
    let made = pair.one.create::<Recorder>(()).global_name("r1").await.unwrap();
    assert_eq!(made.ask(Double { n: 1 }).await.unwrap(), 2);
    let found = pair.one.find_name::<Recorder>("r1").await.unwrap().unwrap();
    assert_eq!(found.ask(Double { n: 2 }).await.unwrap(), 4);
    assert_eq!((pair.one.stats().actors, pair.two.stats().actors), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_stops_its_actors() {
    let agent = Agent::new();
    let (sender, system) = tokio::sync::oneshot::channel();
    let worker = odeon::worker![Recorder, Gated, Teller].serve(|system: System| async move {
        let _ = sender.send(system.clone());
        system.stopping().await;
        Ok(())
    });
    let running = tokio::spawn(worker.run_in(agent.socket()));
    let system = system.await.unwrap();
    let gated = system.named::<Gated>("told");
    gate("told").add_permits(10);
    gated.tell(Record { n: 1 }).await.unwrap();
    assert_eq!(gated.ask(Seen).await.unwrap(), [1]);
    agent.say(0, &FromAgent::Stop);
    tokio::time::timeout(LONG, running).await.unwrap().unwrap().unwrap();
    assert_eq!(KEPT.lock().unwrap().get("told"), Some(&vec![1]));
    until("it said goodbye", || agent.was_told(|_, message| matches!(message, ToAgent::Stopped))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_from_the_agent_ends_the_link_and_nothing_else() {
    let pair = pair().await;
    let recorder = pair.recorder().await;
    assert_eq!(recorder.ask(Double { n: 1 }).await.unwrap(), 2);
    // Frames that are well formed and mean nothing are survived.
    let to = recorder.address().to_string().parse::<Address>().unwrap();
    let Address::Direct(place) = to else { panic!("{to}") };
    const NONE: &[Extension<'_>] = &[];
    for kind in [Kind::Reply, Kind::Failure, Kind::Returned, Kind::Settled, Kind::Tell, Kind::Ask] {
        for type_id in [0, 1] {
            let header = Header { to: place, from: place, flow: 9, correlation: 77, type_id, ..Header::new(kind) };
            pair.agent.push_raw(1, Frame::new(header, NONE, &[0xff; 9]).bytes());
        }
    }
    assert_eq!(recorder.ask(Double { n: 2 }).await.unwrap(), 4);
    // A control message that does not decode is the end of the link.
    let header = Header { class: Class::Urgent, ..Header::new(Kind::Control) };
    pair.agent.push_raw(1, Frame::new(header, NONE, &[0xff; 9]).bytes());
    let error = recorder.ask(Double { n: 3 }).timeout(LONG).await.unwrap_err();
    assert!(matches!(error, AskError::WorkerLost { .. } | AskError::NoSuchActor(_)), "{error:?}");
}
