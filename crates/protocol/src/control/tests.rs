//! Golden vectors: how each control message is written, for ever. A line that changes breaks every worker built before.

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn place() -> Direct {
    Direct { node: NodeId(0x0102_0304), boot: Boot(5), serial: Serial(6 << 20 | 7) }
}

fn policy() -> Policy {
    Policy {
        on_stop: OnStop::Dormant,
        restart: Restart::UpTo { max: 3, within_ms: 10_000 },
        own_process: true,
        requires: "gpu >= 1".into(),
        troupe: Some(Troupe { max: 16, idle: 2 }),
    }
}

fn refusal() -> Refusal {
    Refusal { reason: Reason::NoQuorum, text: "one of three voters is reached".into() }
}

fn values() -> Vec<(String, Value)> {
    vec![
        ("ssd".into(), Value::Bool(true)),
        ("gpu".into(), Value::Micros(2_000_000)),
        ("zone".into(), Value::Text("eu-1".into())),
    ]
}

fn hello() -> Hello {
    let message = MessageInfo { name: "poll.Analytics".into(), type_id: 0xfeed, fingerprint: 0xbeef, reply: Some(1) };
    Hello {
        protocol: 1,
        version: "0.1.0".into(),
        role: Role::Worker,
        name: "poll".into(),
        pid: 4711,
        types: vec![TypeInfo { name: "poll.question".into(), messages: vec![message], policy: policy() }],
        listeners: vec![("poll".into(), "127.0.0.1:8080".into())],
        capabilities: values(),
    }
}

fn spec() -> Spec {
    Spec {
        type_name: "poll.question".into(),
        args: vec![1, 2],
        codec: WireCodec::Json,
        global_name: Some("poll.question/pizza".into()),
        on: Some("eu-1".into()),
        near: Some(place()),
        policy: Some(policy()),
        parent: place(),
        remaining_ms: 5000,
    }
}

fn host() -> HostInfo {
    HostInfo {
        node: NodeId(9),
        boot: Boot(5),
        name: "eu-1".into(),
        suspect: false,
        draining: true,
        capabilities: values(),
    }
}

fn letter() -> DeadLetter {
    DeadLetter {
        host: "eu-1".into(),
        from: Address::Direct(place()),
        to: Address::named("c1", true),
        message: "poll.Response".into(),
        type_id: 0xfeed,
        reason: Reason::Failed,
        text: "text".into(),
        may_have_run: true,
        codec: Codec::Postcard,
        body: vec![1, 2],
        body_bytes: 5000,
        missed: 3,
        count: 300,
    }
}

fn counts() -> Counts {
    Counts {
        accepted: 1000,
        settled: 993,
        returned: vec![(Reason::ActorStopped, 1), (Reason::Unreachable, 2)],
        unsettled: 3,
        outstanding: 1,
        doubtful: 2,
        beside: 4,
        taken: 300,
        handled: 290,
        given_back: 7,
        waiting: 3,
    }
}

fn to_agent() -> Vec<ToAgent> {
    let actor = ActorInfo {
        serial: Serial(7),
        type_name: "poll.question".into(),
        global_name: Some("poll.question/pizza".into()),
        epoch: 8,
        parent: Direct::NONE,
        mailbox: 9,
        handled: 10,
    };
    vec![
        ToAgent::Hello(hello()),
        ToAgent::Listening,
        ToAgent::Create { request: 1, spec: spec() },
        ToAgent::Find { request: 2, name: "c1".into() },
        ToAgent::Lease { request: 3 },
        ToAgent::Started { serial: Serial(4) },
        ToAgent::Ended { serial: Serial(5), cause: ExitCause::Panicked("text".into()), not_found: false },
        ToAgent::Stopping { serial: Serial(6) },
        ToAgent::Capabilities(values()),
        ToAgent::End { target: Address::named("c1", false), kill: true },
        ToAgent::Admin { request: 7, json: "{}".into() },
        ToAgent::Listed { request: 8, actors: vec![actor] },
        ToAgent::Stopped,
        ToAgent::Load { actors: 9, waiting: 10 },
        ToAgent::ChildEnded {
            parent: place(),
            child: Address::Direct(place()),
            cause: ExitCause::WorkerKilled { signal: 9 },
        },
        ToAgent::ListenDeadLetters { listen: true },
        ToAgent::DeadLetter(Box::new(letter())),
        ToAgent::Counts(Box::new(counts())),
        ToAgent::AtRest { pause_at: Time::from_nanos(2_000_000_000) },
        ToAgent::WatchHosts,
    ]
}

fn from_agent() -> Vec<FromAgent> {
    let placed = Placed { address: Address::named("c1", true), created: true, host: "eu-1".into() };
    let start = Start {
        serial: Serial(4),
        type_name: "poll.question".into(),
        args: b"pizza".to_vec(),
        codec: WireCodec::Key,
        global_name: Some("poll.question/pizza".into()),
        epoch: 8,
        parent: place(),
        policy: policy(),
        troupe: Some(place()),
    };
    let welcome = Welcome {
        convention: ConventionId(3),
        host: "eu-1".into(),
        node: NodeId(0x0102_0304),
        boot: Boot(5),
        worker: WorkerId(1),
        block: 6,
        placed_block: 7,
        listeners: vec!["poll".into()],
        capabilities: values(),
    };
    vec![
        FromAgent::Welcome(welcome),
        FromAgent::Refused { text: "why".into() },
        FromAgent::Created { request: 1, result: Ok(placed) },
        FromAgent::Found { request: 2, result: Err(refusal()) },
        FromAgent::Leased { request: 3, block: 11 },
        FromAgent::Start(start),
        FromAgent::Resolved { name: "c1".into(), place: place(), epoch: 8 },
        FromAgent::Unresolved { name: "c1".into(), epoch: 8 },
        FromAgent::List { request: 4 },
        FromAgent::Stop,
        FromAgent::Admin { request: 5, result: Ok("[]".into()) },
        FromAgent::ChildExited { parent: place(), child: Address::Direct(place()), cause: ExitCause::HostLost },
        FromAgent::Troupe { troupe: place(), members: vec![place()] },
        FromAgent::Lost { node: NodeId(9), boot: Boot(5), blocks: vec![6], reason: Reason::WorkerLost },
        FromAgent::Lease { pause_at: Time::from_nanos(2_000_000_000), kill_at: Time::from_nanos(2_400_000_000) },
        FromAgent::PlaceLost { place: place(), reason: Reason::Unreachable },
        FromAgent::DeadLettersWanted { wanted: true },
        FromAgent::DeadLetter(Box::new(letter())),
        FromAgent::Host(Box::new(host())),
        FromAgent::HostGone { node: NodeId(9) },
    ]
}

/// One line a message: what it is, and its bytes.
fn lines<T: Serialize + std::fmt::Debug>(messages: &[T]) -> impl Iterator<Item = String> {
    messages.iter().map(|message| {
        let debug = format!("{message:?}");
        let name = debug.split([' ', '(']).next().unwrap_or_default().to_owned();
        format!("{name} {}", hex(&encode(message)))
    })
}

#[test]
fn golden_vectors() {
    let causes = [ExitCause::Drained, ExitCause::Unfit("gpu".into())];
    let (to_agent, from_agent) = (to_agent(), from_agent());
    let said = lines(&to_agent).chain(lines(&from_agent));
    let written: Vec<String> = said.chain(lines(&[Signal::Stop, Signal::Kill])).chain(lines(&causes)).collect();
    let golden: Vec<&str> = include_str!("../../golden/control.txt").lines().collect();
    let changed: Vec<&&str> = golden.iter().filter(|line| !written.iter().any(|written| written == *line)).collect();
    assert!(changed.is_empty(), "changed on the wire: {changed:#?}; fields and variants are added at the end only");
    let new: Vec<&String> = written.iter().filter(|line| !golden.contains(&line.as_str())).collect();
    assert!(new.is_empty(), "new messages, for golden/control.txt: {new:#?}");
}

#[test]
fn every_message_is_read_back() {
    for message in to_agent() {
        assert_eq!(decode::<ToAgent>(&encode(&message)), Ok(message));
    }
    for message in from_agent() {
        assert_eq!(decode::<FromAgent>(&encode(&message)), Ok(message));
    }
}

#[test]
fn every_message_has_its_number() {
    let numbers: Vec<usize> = to_agent().iter().map(|message| usize::from(encode(message)[0])).collect();
    assert_eq!(numbers, (0..to_agent().len()).collect::<Vec<_>>());
    let numbers: Vec<usize> = from_agent().iter().map(|message| usize::from(encode(message)[0])).collect();
    assert_eq!(numbers, (0..from_agent().len()).collect::<Vec<_>>());
}
