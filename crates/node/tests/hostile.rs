//! Processes that do what they must not: each loses its own link at most, and nobody else notices.

mod common;

use common::{Does, Process, agent, spec, until};
use odeon_node::Agent;
use odeon_protocol::{
    Address, Boot, Direct, Reason, Serial,
    control::{FromAgent, Policy, Role, ToAgent},
    frame::{Class, Codec, Extension, Frame, Header, Kind},
    limits::{HELD_BYTES, UNREAD_BYTES},
};
use odeon_transport::socket::{Reader, Socket, Writer};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

const NONE: &[Extension<'_>] = &[];
/// An ask between two processes that have nothing to do with the hostile one is answered within this.
const DEADLINE: Duration = Duration::from_secs(5);

/// An agent, and two processes that mind their own business.
struct World {
    agent: Agent,
    _dir: tempfile::TempDir,
    worker: Process,
    client: Process,
    place: Direct,
}

impl World {
    async fn new() -> Self {
        let (agent, dir) = agent("h1").await;
        let worker = Process::worker(&agent, &[("t.echo", Policy::default())]).await;
        let client = Process::client(&agent).await;
        let place = create(&client, "t.echo").await;
        Self { agent, _dir: dir, worker, client, place }
    }

    async fn is_undisturbed(&self) {
        for _ in 0..3 {
            let number = self.client.number() + 1_000_000;
            self.client.send(&self.client.direct(Kind::Ask, self.place, number));
            let answer = timeout(DEADLINE, self.client.back(number)).await.expect("an answer in time");
            assert_eq!(answer.header.kind, Kind::Reply);
        }
    }

    /// A client that was let in and may now do anything.
    async fn rogue(&self) -> Rogue {
        let (welcome, socket) = Process::raw(&self.agent, Role::Client, Vec::new()).await;
        let serial = Serial(Serial::first_of(welcome.block).0 + 1);
        let (reader, writer) = socket.split();
        Rogue { me: Direct { node: welcome.node, boot: welcome.boot, serial }, reader, writer }
    }
}

struct Rogue {
    me: Direct,
    reader: Reader,
    writer: Writer,
}

impl Rogue {
    /// Whether the agent closed the link; what it said before is read.
    async fn is_closed(&mut self) {
        let mut said = Vec::new();
        let read = self.reader.read_to_end(&mut said);
        // An error is an end, too.
        let _ = timeout(common::PATIENCE, read).await.expect("the agent closes the link");
    }

    fn tell(&self, to: Direct, body: &[u8]) -> Frame {
        let header = Header { to, from: self.me, codec: Codec::Postcard, ..Header::new(Kind::Tell) };
        Frame::new(header, NONE, body)
    }
}

async fn create(process: &Process, type_name: &str) -> Direct {
    let request = process.number();
    process.say(&ToAgent::Create { request, spec: spec(type_name, None) });
    match process.answer(request).await {
        FromAgent::Created { result: Ok(placed), .. } => match placed.address {
            Address::Direct(place) => place,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn with_byte(mut bytes: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    bytes[at] = byte;
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_the_link_it_came_on() {
    let world = World::new().await;
    let rogue = world.rogue().await;
    let good = rogue.tell(world.place, b"body").bytes().to_vec();
    let no_message = Frame::new(Header::new(Kind::Control), NONE, &[0xff; 40]).bytes().to_vec();
    for garbage in [
        vec![0xff; 4096],
        vec![0; 64],
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        with_byte(good.clone(), 0, 20),
        with_byte(good.clone(), 3, 0x7f),
        with_byte(good.clone(), 4, 9),
        with_byte(good.clone(), 5, 77),
        with_byte(good.clone(), 10, 0xff),
        no_message,
    ] {
        let mut rogue = world.rogue().await;
        // The agent may close before all is written.
        let _ = rogue.writer.write_all(&garbage).await;
        rogue.is_closed().await;
        world.is_undisturbed().await;
    }
    world.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_says_hello_keeps_nobody_out() {
    let world = World::new().await;
    let mut silent: Vec<Socket> = (0..200).map(|_| world.agent.connect()).collect();
    // The head of a first frame that is announced large and never comes.
    for socket in &mut silent {
        socket.send_first(&[0xff, 0xff, 0x3f, 0, 1], &[]).await.unwrap();
    }
    let late = Process::client(&world.agent).await;
    assert!(late.admin(r#"{"command":"status"}"#).await.is_ok());
    world.is_undisturbed().await;
    world.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_for_another_or_for_an_older_boot() {
    let world = World::new().await;
    let mut rogue = world.rogue().await;
    let before = world.worker.all_got().len();
    for from in [
        world.client.me(),
        world.place,
        Direct { boot: Boot(rogue.me.boot.0 - 1), ..rogue.me },
        Direct { serial: Serial(u64::MAX), ..rogue.me },
        Direct::NONE,
    ] {
        let header = Header { to: world.place, from, ..Header::new(Kind::Tell) };
        rogue.writer.write_all(Frame::new(header, NONE, b"forged").bytes()).await.unwrap();
    }
    let own = rogue.tell(world.place, b"own");
    rogue.writer.write_all(own.bytes()).await.unwrap();
    let got = world.worker.got(before).await;
    assert_eq!((&got.frame.body()[..], got.frame.header.from), (&b"own"[..], rogue.me));
    world.is_undisturbed().await;
    world.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_an_older_boot_comes_back() {
    let world = World::new().await;
    let old = Direct { boot: Boot(world.place.boot.0 - 1), ..world.place };
    world.client.send(&world.client.direct(Kind::Ask, old, 77));
    assert_eq!(world.client.reason(77).await, (Reason::HostLost, false));
    world.is_undisturbed().await;
    world.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_reading_costs_its_own_senders_only() {
    let world = World::new().await;
    let policy = Policy::default();
    let deaf = Process::worker(&world.agent, &[("t.deaf", policy)]).await;
    deaf.actors_do(Does::Hangs);
    let place = create(&world.client, "t.deaf").await;
    let frozen = deaf.freeze();
    let sender = Process::client(&world.agent).await;
    let body = vec![7; 1 << 20];
    for number in 0..(HELD_BYTES >> 20) as u64 + 8 {
        let header = Header { to: place, from: sender.me(), correlation: number + 1, ..Header::new(Kind::Ask) };
        sender.send_when_room(&Frame::new(header, NONE, &body)).await;
        if number % 16 == 0 {
            world.is_undisturbed().await;
        }
    }
    let returned = until("a message that comes back", || sender.any_back(Reason::Full)).await;
    let (_, text) = returned.reason().unwrap();
    assert!(text.contains("too slowly") && text.contains("64 MiB"), "{text}");
    assert_eq!(returned.body().len(), body.len(), "with its body");
    world.is_undisturbed().await;
    drop(frozen);
    world.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_and_never_reads_is_cut_off() {
    let world = World::new().await;
    let mut rogue = world.rogue().await;
    // Each answer repeats the word that it does not know.
    let json = format!(r#"{{"command":"{}"}}"#, "x".repeat(256 << 10));
    let request = common::control(&ToAgent::Admin { request: 1, json });
    let (begun, mut sent) = (Instant::now(), 0);
    for number in 1.. {
        if rogue.writer.write_all(request.bytes()).await.is_err() {
            break;
        }
        sent += request.bytes().len();
        assert!(sent < 4 * UNREAD_BYTES, "it is never cut off");
        assert!(begun.elapsed() < 3 * common::PATIENCE);
        if number % 64 == 0 {
            world.is_undisturbed().await;
        }
    }
    assert!(sent > UNREAD_BYTES / 2, "it was cut off after {sent} bytes");
    world.is_undisturbed().await;
    world.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_is_slowed_down() {
    let world = World::new().await;
    let Rogue { mut reader, mut writer, .. } = world.rogue().await;
    let mut flood = Vec::new();
    for request in 0..50_000 {
        flood.extend_from_slice(common::control(&ToAgent::Find { request, name: "nobody".into() }).bytes());
    }
    let flooding = tokio::spawn(async move { writer.write_all(&flood).await });
    let reading = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    while !flooding.is_finished() {
        world.is_undisturbed().await;
    }
    flooding.await.unwrap().unwrap();
    reading.abort();
    world.is_undisturbed().await;
    world.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_messages_to_one_actor_leaves_the_others_alone() {
    let world = World::new().await;
    let other = create(&world.client, "t.echo").await;
    let Rogue { me, mut reader, mut writer } = world.rogue().await;
    let header = Header { to: other, from: me, class: Class::Urgent, ..Header::new(Kind::Tell) };
    let one = Frame::new(header, NONE, &[1; 64]);
    let flooding = tokio::spawn(async move {
        let many = one.bytes().repeat(1000);
        for _ in 0..100 {
            writer.write_all(&many).await?;
        }
        std::io::Result::Ok(writer)
    });
    let reading = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    while !flooding.is_finished() {
        world.is_undisturbed().await;
    }
    let _writer = flooding.await.unwrap().unwrap();
    until("all of them", || (world.worker.count() >= 100_000).then_some(())).await;
    reading.abort();
    world.agent.stop().await;
}
