//! What happens at limits.

use super::*;

#[tokio::test]
async fn a_full_link_gives_messages_back_with_their_bodies() {
    let mut world = World::new();
    *world.peers.full.lock() = true;
    world.take(W1, &message(Kind::Tell, at(ME, 2, 1), at(FAR, 2, 2), None));
    let out = world.out(W1).await;
    assert_eq!((out[0].header.kind, out[0].reason().unwrap().0), (Kind::Returned, Reason::Full));
    assert_eq!(&out[0].body()[..], b"body");
}

#[tokio::test]
async fn a_frame_with_full_extensions_comes_back_with_its_reason() {
    let mut world = World::new();
    let long = "x".repeat(1000);
    let header = Header { from: at(FAR, 2, 1), to: at(ME, 9, 1), ..Header::new(Kind::Tell) };
    let frame = Frame::new(
        header,
        &[Extension::From(&long), Extension::From(&long), Extension::Chain(long.as_bytes()), Extension::Message(&long)],
        b"body",
    );
    world.take_from_far(&frame);
    assert_eq!(world.far()[0].reason().map(|why| why.0), Some(Reason::NoSuchActor));
}

#[tokio::test]
async fn blocks_of_a_process_have_a_limit() {
    let mut world = World::new();
    let leased = (0u64..).take_while(|number| world.router.lease(1000 + number, W1)).count();
    assert_eq!(leased, odeon_protocol::limits::BLOCKS_MAX - 1, "it had one");
    assert!(world.router.lease(7, W2));
}

#[tokio::test]
async fn answers_that_find_no_room_are_counted_and_told_of_once() {
    let mut world = World::new();
    *world.peers.full.lock() = true;
    for sequence in 0..3 {
        let header = Header { from: at(ME, 2, 1), to: at(FAR, 2, 1), flow: 1, sequence, ..Header::new(Kind::Settled) };
        world.take(W1, &Frame::new(header, &[], &[]));
    }
    let told = world.events.take_now();
    assert_eq!(told.iter().filter(|event| matches!(event, Event::AnswersDropped { node: FAR })).count(), 1);
    assert_eq!(world.metrics.answers_dropped.get(), 3);
}

fn large(kind: Kind, from: Direct, to: Direct, bytes: usize) -> Frame {
    Frame::new(Header { from, to, ..Header::new(kind) }, &[], &vec![7; bytes])
}

#[tokio::test]
async fn a_process_that_takes_no_large_answers_is_closed_and_one_that_does_is_not() {
    let mut world = World::new();
    let (_, slow) = world.router.attach(WorkerId(3), "slow".into(), Outbox::default(), &[4]);
    let (_, deaf) = world.router.attach(WorkerId(4), "deaf".into(), Outbox::default(), &[5]);
    for block in [4, 5] {
        world.take(W1, &large(Kind::Reply, at(ME, 2, 1), at(ME, block, 1), 1 << 20));
    }
    let credit = Frame::new(Header { correlation: 1, ..Header::new(Kind::Credit) }, &[], b"");
    let outbox = world.router.outbox(WorkerId(3)).unwrap().clone();
    for _ in 0..2 {
        world.router.now = world.router.now + LARGE_UNREAD_FOR / 2;
        let mut taken = vec![BytesMut::from(&credit.bytes()[..])];
        Inlet::new(outbox.clone(), Gate::default()).take(&mut taken).unwrap();
        world.router.tick();
    }
    let told = |notify: Arc<Notify>| async move { timeout(Duration::from_millis(1), notify.notified()).await.is_ok() };
    assert!(told(deaf).await && !told(slow).await);
}

#[tokio::test]
async fn what_waits_shuts_the_gates_and_in_the_end_gives_messages_back_but_no_answers() {
    let mut world = World::new();
    let mut sent = 0;
    let mut fill = |world: &mut World, until: usize| {
        while sent < until {
            let frame = large(Kind::Reply, at(ME, 2, 1), at(FAR, 2, 1), 32 << 20);
            sent += frame.bytes().len();
            world.take(W1, &frame);
        }
        world.router.now = world.router.now + Duration::from_millis(5);
        world.router.tick();
        (world.router.budget.peers.is_open(), world.router.budget.processes.is_open())
    };
    assert_eq!(fill(&mut world, AGENT_LOCAL_BYTES), (true, true), "it waits for another agent");
    assert_eq!(fill(&mut world, AGENT_WAITING_BYTES), (true, false));
    world.take(W1, &message(Kind::Tell, at(ME, 2, 1), at(ME, 3, 1), None));
    fill(&mut world, AGENT_BYTES_MAX);
    world.take(W1, &message(Kind::Tell, at(ME, 2, 1), at(ME, 3, 1), None));
    world.take(W1, &message(Kind::Reply, at(ME, 2, 1), at(ME, 3, 1), None));
    let fence = message(Kind::Tell, at(ME, 2, 1), at(ME, 3, 1), None);
    world.take(W1, &fence.with_header(Header { class: Class::Urgent, flags: flags::FENCE, ..fence.header }));
    let came: Vec<_> = world.out(W2).await.iter().map(|frame| frame.header.kind).collect();
    assert_eq!(came, [Kind::Tell, Kind::Reply, Kind::Tell]);
    let back = world.out(W1).await;
    assert_eq!(back[0].reason().unwrap().0, Reason::Full);
    assert!(back[0].reason().unwrap().1.contains("256 MiB"), "{:?}", back[0].reason());
    world.peers.frames.lock().clear();
    assert_eq!(fill(&mut world, 0), (true, true));
}
