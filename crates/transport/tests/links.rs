//! The same suite over both transports of a host: a Unix socket pair and memory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::BytesMut;
use odeon_protocol::{
    frame::{Class, Frame, Header, Kind, kind_of},
    limits::{BODY_BYTES_MAX, CHUNK_BYTES, CHUNKS_AHEAD, LARGE_FRAME_BYTES, LARGE_QUEUE_BYTES},
};
use odeon_transport::{
    frame_io::{Gate, Inlet, Outbox, PushError, ReadError, read_frames, write_frames},
    socket::Socket,
    unix,
};
use std::{
    io::{ErrorKind, Write},
    net::{TcpListener, TcpStream},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, PermissionsExt},
    },
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{io::AsyncWriteExt, time::timeout};

const LONG: Duration = Duration::from_secs(20);

fn unix_pair() -> (Socket, Socket) {
    let (ours, theirs) = unix::pair().unwrap();
    (ours.into(), unix::adopt(theirs).unwrap().into())
}

fn frame(correlation: u64, body: usize) -> Frame {
    Frame::new(Header { correlation, ..Header::new(Kind::Tell) }, &[], &vec![correlation as u8; body])
}

fn correlation(frame: &BytesMut) -> u64 {
    Header::read(frame).unwrap().0.correlation
}

/// For a link in whose other direction nothing goes.
fn alone() -> Inlet {
    Inlet::new(Outbox::default(), Gate::default())
}

/// A message of a flow.
fn message(flow: u32, sequence: u32, body: usize) -> Frame {
    Frame::new(Header { flow, sequence, ..Header::new(Kind::Tell) }, &[], &vec![sequence as u8; body])
}

fn numbers(frame: &BytesMut) -> (u32, u32) {
    let header = Header::read(frame).unwrap().0;
    (header.flow, header.sequence)
}

/// Frames between two outboxes, each end reading for the other, until all of `wanted` have come.
async fn carry((left, right): (Socket, Socket), there: &Outbox, gate: Gate, wanted: usize) -> Vec<BytesMut> {
    let back = Outbox::default();
    let ((reader, writer), (far_reader, far_writer)) = (left.split(), right.split());
    let tasks = [
        tokio::spawn({
            let there = there.clone();
            async move { drop(write_frames(&there, writer).await) }
        }),
        tokio::spawn({
            let back = back.clone();
            async move { drop(write_frames(&back, far_writer).await) }
        }),
        tokio::spawn({
            let inlet = Inlet::new(there.clone(), Gate::default());
            async move { drop(read_frames(reader, inlet, |_| panic!("nothing comes back but credits")).await) }
        }),
    ];
    let (send, mut receive) = tokio::sync::mpsc::channel(wanted.max(1));
    let reading = tokio::spawn(read_frames(far_reader, Inlet::new(back, gate), move |batch| {
        batch.into_iter().for_each(|frame| send.try_send(frame).unwrap());
    }));
    let mut got = Vec::new();
    while got.len() < wanted {
        got.push(timeout(LONG, receive.recv()).await.unwrap().unwrap());
    }
    tasks.iter().for_each(|task| task.abort());
    reading.abort();
    got
}

/// The peer has taken whatever was sent, and says more than that.
fn credit(inlet: &mut Inlet) {
    let credit = Header { correlation: u64::MAX, ..Header::new(Kind::Credit) };
    inlet.take(&mut vec![BytesMut::from(&Frame::new(credit, &[], b"").bytes()[..])]).unwrap();
}

macro_rules! both {
    ($($name:ident),*) => {
        mod over_unix { $(#[tokio::test] async fn $name() { super::$name(super::unix_pair()).await; })* }
        mod over_memory { $(#[tokio::test] async fn $name() { super::$name(super::Socket::memory()).await; })* }
    };
}
both!(
    frames_of_many_threads_arrive_whole_and_in_order,
    the_first_frame_carries_descriptors,
    garbage_is_refused,
    good_frames_before_garbage_are_delivered,
    an_end_within_a_frame_is_an_error,
    a_peer_that_is_gone_leaves_the_unsent,
    closing_sends_what_is_queued,
    small_frames_pass_a_large_one_and_its_own_flow_does_not,
    the_largest_frame_travels_whole
);

async fn small_frames_pass_a_large_one_and_its_own_flow_does_not(sockets: (Socket, Socket)) {
    let outbox = Outbox::default();
    outbox.try_push_bytes(Class::Normal, message(1, 0, 10).bytes()).unwrap();
    outbox.try_push_bytes(Class::Normal, message(1, 1, LARGE_FRAME_BYTES).bytes()).unwrap();
    for sequence in 0..10 {
        outbox.try_push_bytes(Class::Normal, message(1, 2 + sequence, 10).bytes()).unwrap();
        outbox.try_push_bytes(Class::Normal, message(2, sequence, 10).bytes()).unwrap();
    }
    let bulk = Header { class: Class::Bulk, flow: 3, ..Header::new(Kind::Control) };
    outbox.try_push_bytes(Class::Urgent, Frame::new(bulk, &[], b"last").bytes()).unwrap();
    let got = carry(sockets, &outbox, Gate::default(), 23).await;
    let order: Vec<_> = got.iter().map(numbers).collect();
    let expected =
        [(1, 0)].into_iter().chain((0..10).map(|number| (2, number))).chain((1..12).map(|number| (1, number)));
    assert!(order.iter().copied().eq(expected.chain([(3, 0)])), "{order:?}");
    assert_eq!(got[11], message(1, 1, LARGE_FRAME_BYTES).bytes());
    assert_eq!(outbox.queued(), 0);
}

async fn the_largest_frame_travels_whole(sockets: (Socket, Socket)) {
    let outbox = Outbox::default();
    let frame = message(1, 7, BODY_BYTES_MAX);
    outbox.try_push_large(Class::Normal, frame.bytes().clone()).unwrap();
    assert_eq!(outbox.try_push_large(Class::Normal, frame.bytes().clone()), Err(PushError::Full));
    assert_eq!(outbox.try_push_bytes(Class::Normal, message(2, 0, 0).bytes()), Ok(()));
    let got = carry(sockets, &outbox, Gate::default(), 2).await;
    assert_eq!(numbers(&got[0]), (2, 0));
    assert!(got[1] == frame.bytes());
    // The last credits may be on their way.
    let ((left, credited), chunks) = (outbox.large(), frame.bytes().len().div_ceil(CHUNK_BYTES) as u64);
    assert!(left == 0 && credited <= chunks && credited + u64::from(CHUNKS_AHEAD) >= chunks, "{credited} of {chunks}");
}

#[tokio::test]
async fn no_more_is_under_way_than_was_credited() {
    let outbox = Outbox::default();
    outbox.try_push_large(Class::Normal, message(1, 0, 20 * CHUNK_BYTES).bytes().clone()).unwrap();
    let mut inlet = Inlet::new(outbox.clone(), Gate::default());
    let mut chunks = 0;
    let take = |limit| {
        let mut splitter = odeon_protocol::frame::Splitter::default();
        *splitter.buffer() = outbox.take_queued(limit);
        std::iter::from_fn(|| splitter.next_frame().unwrap())
            .inspect(|frame| assert_eq!(kind_of(frame), Some(Kind::Chunk)))
            .count() as u32
    };
    for _ in 0..10 {
        chunks += take(usize::MAX);
    }
    assert_eq!(chunks, CHUNKS_AHEAD);
    // A credit for more than was sent is one for what was sent.
    credit(&mut inlet);
    for _ in 0..10 {
        chunks += take(usize::MAX);
    }
    assert_eq!(chunks, 2 * CHUNKS_AHEAD);
}

#[tokio::test]
async fn a_shut_gate_holds_large_frames_back_and_no_others() {
    let (outbox, gate) = (Outbox::default(), Gate::default());
    gate.set(false);
    outbox.try_push_large(Class::Normal, message(1, 0, 20 * CHUNK_BYTES).bytes().clone()).unwrap();
    outbox.try_push_bytes(Class::Normal, message(2, 0, 10).bytes()).unwrap();
    let watching = tokio::spawn({
        let (outbox, gate) = (outbox.clone(), gate.clone());
        async move {
            let left = 20 * CHUNK_BYTES + 112 - CHUNKS_AHEAD as usize * CHUNK_BYTES;
            timeout(LONG, async {
                while outbox.queued() > left {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .unwrap();
            assert_eq!(outbox.large(), (left, 0));
            gate.set(true);
        }
    });
    let got = carry(Socket::memory(), &outbox, gate, 2).await;
    watching.await.unwrap();
    assert_eq!(got.iter().map(numbers).collect::<Vec<_>>(), [(2, 0), (1, 0)]);
}

#[tokio::test]
async fn a_large_frame_of_which_the_peer_has_a_part_is_unsent() {
    let outbox = Outbox::default();
    let sizes = [10, LARGE_FRAME_BYTES, 2 * LARGE_FRAME_BYTES, 10];
    for (sequence, size) in sizes.into_iter().enumerate() {
        outbox.try_push_bytes(Class::Normal, message(1, sequence as u32, size).bytes()).unwrap();
    }
    let mut inlet = Inlet::new(outbox.clone(), Gate::default());
    for _ in 0..2 * LARGE_FRAME_BYTES / CHUNK_BYTES {
        let _ = outbox.take_queued(usize::MAX);
        credit(&mut inlet);
    }
    outbox.abandon();
    assert_eq!(outbox.take_unsent().iter().map(numbers).collect::<Vec<_>>(), [(1, 2), (1, 3)]);
}

#[test]
fn chunks_that_are_no_frames_are_refused() {
    let chunk = |body: &[u8]| BytesMut::from(&Frame::new(Header::new(Kind::Chunk), &[], body).bytes()[..]);
    let mut inlet = alone();
    let mut frames = vec![BytesMut::from(&message(1, 0, 1).bytes()[..]), chunk(&[0xff; 50]), chunk(b"")];
    inlet.take(&mut frames).unwrap_err();
    assert_eq!(frames.iter().map(numbers).collect::<Vec<_>>(), [(1, 0)]);
    // A part is no frame, and a frame may be cut anywhere.
    let (mut inlet, whole) = (alone(), message(1, 0, LARGE_FRAME_BYTES));
    let mut frames = whole.bytes().chunks(997).map(chunk).collect::<Vec<_>>();
    let last = frames.pop().unwrap();
    inlet.take(&mut frames).unwrap();
    assert_eq!((frames.len(), inlet.begun()), (0, whole.bytes().len() / 997 * 997));
    let mut frames = vec![last];
    inlet.take(&mut frames).unwrap();
    assert!(frames == [whole.bytes()] && inlet.begun() == 0);
}

#[tokio::test]
async fn who_waits_with_a_large_frame_gets_in() {
    let outbox = Outbox::default();
    outbox.try_push_large(Class::Normal, message(0, 0, LARGE_QUEUE_BYTES).bytes().clone()).unwrap();
    let waiting: Vec<_> = (1..4)
        .map(|flow| {
            let outbox = outbox.clone();
            tokio::spawn(
                async move { outbox.push_bytes(Class::Normal, message(flow, 0, LARGE_FRAME_BYTES).bytes()).await },
            )
        })
        .collect();
    tokio::task::yield_now().await;
    let got = carry(Socket::memory(), &outbox, Gate::default(), 4).await;
    assert_eq!(got.len(), 4);
    for waiting in waiting {
        timeout(LONG, waiting).await.unwrap().unwrap().unwrap();
    }
}

async fn frames_of_many_threads_arrive_whole_and_in_order((left, right): (Socket, Socket)) {
    const THREADS: u64 = 4;
    const EACH: u64 = 5000;
    let outbox = Outbox::new(64 << 10);
    let (_, writer) = left.split();
    let (reader, _) = right.split();
    let mut senders = Vec::new();
    for sender in 0..THREADS {
        let outbox = outbox.clone();
        senders.push(tokio::spawn(async move {
            for number in 0..EACH {
                let body = (number % 97) as usize * 5;
                outbox.push_bytes(Class::Normal, frame(sender << 32 | number, body).bytes()).await.unwrap();
            }
        }));
    }
    let received = Arc::new(Mutex::new(vec![Vec::new(); THREADS as usize]));
    let into = received.clone();
    let reading = tokio::spawn(read_frames(reader, alone(), move |batch| {
        for frame in batch {
            let correlation = correlation(&frame);
            into.lock().unwrap()[(correlation >> 32) as usize].push(correlation & 0xffff_ffff);
        }
    }));
    let writing = {
        let outbox = outbox.clone();
        tokio::spawn(async move { write_frames(&outbox, writer).await })
    };
    for sender in senders {
        timeout(LONG, sender).await.unwrap().unwrap();
    }
    outbox.close();
    timeout(LONG, writing).await.unwrap().unwrap().unwrap();
    timeout(LONG, reading).await.unwrap().unwrap().unwrap();
    for numbers in received.lock().unwrap().iter() {
        assert!(numbers.iter().copied().eq(0..EACH));
    }
}

async fn the_first_frame_carries_descriptors((mut left, mut right): (Socket, Socket)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let first = frame(1, 300_000);
    let sending = tokio::spawn({
        let first = first.bytes().clone();
        async move {
            left.send_first(&first, &[listener.as_fd()]).await.unwrap();
            left.send_first(frame(2, 10).bytes(), &[]).await.unwrap();
            left
        }
    });
    let (got, mut descriptors) = timeout(LONG, right.receive_first()).await.unwrap().unwrap();
    assert_eq!(got, first.bytes());
    assert_eq!(descriptors.len(), 1);
    let passed = TcpListener::from(descriptors.remove(0));
    TcpStream::connect(passed.local_addr().unwrap()).unwrap();
    let (second, none) = timeout(LONG, right.receive_first()).await.unwrap().unwrap();
    assert_eq!((correlation(&second), none.len()), (2, 0));
    drop(sending.await.unwrap());
    assert_eq!(right.receive_first().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

async fn garbage_is_refused((left, mut right): (Socket, Socket)) {
    let (_reader, mut writer) = left.split();
    writer.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let error = timeout(LONG, right.receive_first()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("protocol version"), "{error}");
}

async fn good_frames_before_garbage_are_delivered((left, right): (Socket, Socket)) {
    let (_reader, mut writer) = left.split();
    writer.write_all(frame(7, 9).bytes()).await.unwrap();
    writer.write_all(&[0xff; 40]).await.unwrap();
    let mut got = Vec::new();
    let end = timeout(LONG, read_frames(right.split().0, alone(), |batch| got.extend(batch.iter().map(correlation))))
        .await
        .unwrap();
    assert!(matches!(end, Err(ReadError::Frame(_))), "{end:?}");
    assert_eq!(got, [7]);
}

async fn an_end_within_a_frame_is_an_error((left, right): (Socket, Socket)) {
    let (reader, mut writer) = left.split();
    let whole = frame(7, 100);
    writer.write_all(&whole.bytes()[..150]).await.unwrap();
    drop((reader, writer));
    let end = timeout(LONG, read_frames(right.split().0, alone(), |_| panic!("no frame came"))).await.unwrap();
    assert!(matches!(end, Err(ReadError::Cut { bytes: 150 })), "{end:?}");
}

async fn a_peer_that_is_gone_leaves_the_unsent((left, right): (Socket, Socket)) {
    let outbox = Outbox::new(64 << 20);
    for number in 0..200 {
        outbox.try_push_bytes(Class::Normal, frame(number, 50_000).bytes()).unwrap();
    }
    let writing = {
        let (outbox, (_, writer)) = (outbox.clone(), left.split());
        tokio::spawn(async move { write_frames(&outbox, writer).await })
    };
    let mut got = 0;
    let (mut reader, other) = right.split();
    let mut chunk = vec![0; 120_000];
    while got < 120_000 {
        got += tokio::io::AsyncReadExt::read(&mut reader, &mut chunk).await.unwrap();
    }
    drop((reader, other));
    timeout(LONG, writing).await.unwrap().unwrap().unwrap_err();
    assert_eq!(outbox.try_push_bytes(Class::Urgent, frame(0, 0).bytes()), Err(PushError::Closed));
    let unsent: Vec<_> = outbox.take_unsent().iter().map(correlation).collect();
    // Every frame that the writer did not hand over whole is there, up to the last; none twice.
    assert!(unsent.len() > 50 && unsent[0] > 0, "{unsent:?}");
    assert!(unsent.iter().copied().eq(unsent[0]..200));
}

async fn closing_sends_what_is_queued((left, right): (Socket, Socket)) {
    let outbox = Outbox::default();
    (0..100).for_each(|number| outbox.try_push_bytes(Class::Normal, frame(number, 10).bytes()).unwrap());
    outbox.close();
    let mut got = Vec::new();
    let (written, read) = tokio::join!(
        write_frames(&outbox, left.split().1),
        read_frames(right.split().0, alone(), |batch| got.extend(batch.iter().map(correlation)))
    );
    written.unwrap();
    read.unwrap();
    assert!(got.into_iter().eq(0..100));
    assert!(outbox.take_unsent().is_empty());
}

#[tokio::test]
async fn the_bound_holds_and_waiters_get_in() {
    let outbox = Outbox::new(1000);
    let mut pushed = 0u64;
    while outbox.try_push_bytes(Class::Normal, frame(pushed, 88).bytes()) == Ok(()) {
        pushed += 1;
    }
    assert_eq!((pushed, outbox.queued()), (5, 1000));
    assert_eq!(outbox.try_push_bytes(Class::Normal, frame(9, 0).bytes()), Err(PushError::Full));
    outbox.try_push_bytes(Class::Urgent, frame(5, 0).bytes()).unwrap();
    let waiting = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.push_bytes(Class::Normal, frame(6, 0).bytes()).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    let (left, right) = Socket::memory();
    let ((_keep, writer), (reader, _other)) = (left.split(), right.split());
    let writing = tokio::spawn({
        let outbox = outbox.clone();
        async move { write_frames(&outbox, writer).await }
    });
    timeout(LONG, waiting).await.unwrap().unwrap().unwrap();
    outbox.close();
    let mut got = Vec::new();
    timeout(LONG, read_frames(reader, alone(), |batch| got.extend(batch.iter().map(correlation))))
        .await
        .unwrap()
        .unwrap();
    writing.await.unwrap().unwrap();
    assert!(got.into_iter().eq(0..=6));
}

#[tokio::test]
async fn closing_frees_waiters() {
    let outbox = Outbox::new(1);
    outbox.try_push_bytes(Class::Normal, frame(1, 0).bytes()).unwrap();
    let waiting = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.push_bytes(Class::Normal, frame(2, 0).bytes()).await }
    });
    tokio::task::yield_now().await;
    outbox.close();
    assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap(), Err(PushError::Closed));
}

#[tokio::test]
async fn a_left_socket_is_replaced_and_a_living_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    drop(unix::listen(&path).unwrap());
    assert!(path.metadata().unwrap().file_type().is_socket());
    let listener = unix::listen(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(unix::listen(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    // The probe above made a connection of its own; ours is the next.
    let _ours = unix::connect(&path).await.unwrap();
    for _ in 0..2 {
        timeout(LONG, listener.accept()).await.unwrap().unwrap();
    }
    let long = directory.path().join("x".repeat(120));
    assert!(unix::listen(&long).unwrap_err().to_string().contains("at most"));
}

#[tokio::test]
async fn a_plain_file_in_the_way_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    std::fs::File::create(&path).unwrap().write_all(b"data").unwrap();
    assert!(unix::listen(&path).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"data");
}
