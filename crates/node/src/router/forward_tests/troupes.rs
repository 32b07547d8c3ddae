//! Messages for troupes.

use super::*;

/// A tell of W1's in flow 5 to a troupe of this agent.
fn to_troupe(sequence: u32, troupe: Direct) -> Frame {
    let header =
        Header { to: troupe, from: at(ME, 2, 1), flow: 5, sequence, flags: flags::TROUPE, ..Header::new(Kind::Tell) };
    Frame::new(header, &[], b"body")
}

fn told_lost(frames: &[Frame]) -> Vec<u32> {
    let lost = |frame: &&Frame| frame.header.kind == Kind::Settled && frame.header.has(flags::MAY_HAVE_RUN);
    frames.iter().filter(lost).map(|frame| frame.header.sequence).collect()
}

/// An ask or tell of that actor's for the name, in its flow 5.
fn for_name(kind: Kind, from: Direct) -> Frame {
    let message = message(kind, from, Direct::NONE, Some("n"));
    message.with_header(Header { flow: 5, ..message.header })
}

/// The name belongs to a troupe of the other agent's with that member.
fn with_far_troupe(member: Direct) -> (World, Direct) {
    let (mut world, troupe) = (World::new(), at(FAR, Serial::TROUPES, 1));
    world.router.resolved(&"n".into(), Known { place: troupe, epoch: 3 });
    world.router.troupe(troupe, &[member, troupe], false);
    (world, troupe)
}

#[tokio::test]
async fn the_senders_agent_chooses_the_member_of_a_troupe_of_another_agent() {
    let (mut world, troupe) = with_far_troupe(at(ME, 3, 7));
    world.take(W1, &for_name(Kind::Tell, at(ME, 2, 1)));
    let out = world.out(W2).await;
    assert_eq!(
        out.iter().map(|frame| (frame.header.to, frame.troupe())).collect::<Vec<_>>(),
        [(at(ME, 3, 7), Some(troupe))]
    );
    assert!(world.far().is_empty() && world.out(W1).await.is_empty());
}

#[tokio::test]
async fn another_agents_message_for_a_troupe_goes_back_to_that_agent_which_chooses() {
    let mut world = World::new();
    let troupe = at(ME, Serial::TROUPES, 1);
    world.router.troupe(troupe, &[at(ME, 3, 7)], false);
    let tell = for_name(Kind::Tell, at(FAR, 2, 1));
    world.take_from_far(&tell.with_header(Header { to: troupe, ..tell.header }));
    let back = world.far().pop().unwrap();
    assert_eq!(
        (back.header.kind, back.troupe(), back.reason().unwrap().0),
        (Kind::Returned, Some(troupe), Reason::Moved)
    );
    assert!(world.out(W2).await.is_empty());
    // There it is sent to a member.
    let (mut world, troupe) = with_far_troupe(at(FAR, 3, 7));
    let header = Header { to: troupe, ..for_name(Kind::Tell, at(ME, 2, 1)).header };
    let tell = Frame::new(header, &[Extension::To("n"), Extension::Troupe(troupe)], b"body");
    let back = back::returned(&tell, &Why::not_run(Reason::Moved, "a troupe"));
    world.take_from_far(&Frame::read(back.freeze()).unwrap());
    assert_eq!(world.far().pop().unwrap().header.to, at(FAR, 3, 7));
}

#[tokio::test]
async fn what_waits_for_a_troupe_that_is_gone_waits_for_the_names_next_bearer() {
    let (mut world, troupe) = with_far_troupe(at(FAR, 3, 7));
    world.router.troupe_missing(troupe, &Why::not_run(Reason::HostLost, "gone"));
    world.take(W1, &for_name(Kind::Tell, at(ME, 2, 1)));
    world.router.place_lost(troupe, &Why::not_run(Reason::HostLost, "gone"));
    assert_eq!((world.missed().await, world.far().len()), (1, 0));
    // Known to be gone, it is not asked about again.
    world.take(W1, &for_name(Kind::Tell, at(ME, 2, 1)));
    world.router.resolved(&"n".into(), Known { place: at(FAR, 3, 9), epoch: 4 });
    let sent: Vec<_> = world.far().iter().map(|frame| (frame.header.to, frame.troupe())).collect();
    assert_eq!(sent, [(at(FAR, 3, 9), None); 2]);
}

#[tokio::test]
async fn what_a_lost_member_had_is_told_to_its_sender_and_what_it_had_not_goes_to_another() {
    let mut world = World::new();
    let (troupe, here, there) = (at(ME, 1, 1), at(ME, 3, 7), at(FAR, 3, 7));
    world.router.troupe(troupe, &[here], false);
    (0..3).for_each(|sequence| world.take(W1, &to_troupe(sequence, troupe)));
    // The first was handled; the third never left this agent.
    let report = Header { to: at(ME, 2, 1), from: here, flow: 5, correlation: 1, ..Header::new(Kind::Settled) };
    world.take(W2, &Frame::new(report, &[], b""));
    let unsent =
        Frame::new(Header { to: here, flags: 0, ..to_troupe(2, troupe).header }, &[Extension::Troupe(troupe)], b"");
    world.router.troupe(troupe, &[here, there], false);
    world.router.lost(W2, vec![BytesMut::from(&unsent.bytes()[..])]);
    let sent: Vec<_> = world.peers.frames.lock().iter().map(|(_, frame)| frame.header.sequence).collect();
    assert_eq!(sent, [2], "another member may take it");
    assert_eq!(told_lost(&world.out(W1).await), [1]);
}

#[tokio::test]
async fn what_a_lost_member_had_is_told_only_once_its_host_is_reached_or_dead() {
    let mut world = World::new();
    let (troupe, there) = (at(ME, 1, 1), at(FAR, 3, 7));
    world.router.troupe(troupe, &[there], false);
    (0..3).for_each(|sequence| world.take(W1, &to_troupe(sequence, troupe)));
    // The other agent has received the messages, and is cut off with the fence.
    world.peers.frames.lock().clear();
    world.router.blocks_lost(FAR, Boot(10), vec![3]);
    world.router.peer_unreachable(FAR, &Why::not_run(Reason::Unreachable, "cut off"));
    assert_eq!(world.peers.frames.lock().len(), 1, "it may send the messages back before the fence");
    world.router.host_dead(FAR, Boot(10), &Why::not_run(Reason::HostLost, "dead"));
    let out = world.out(W1).await;
    assert_eq!(told_lost(&out), [0]);
    assert_eq!((out.len(), out[0].header.correlation), (1, 3), "all three at once, and no fence");
}

#[tokio::test]
async fn a_member_elsewhere_is_asked_first_what_comes_back() {
    let mut world = World::new();
    let (troupe, there) = (at(ME, 1, 1), at(FAR, 3, 7));
    world.router.troupe(troupe, &[there], false);
    (0..2).for_each(|sequence| world.take(W1, &to_troupe(sequence, troupe)));
    world.router.blocks_lost(FAR, Boot(10), vec![3]);
    let fence = world.peers.frames.lock().pop().unwrap().1;
    assert!(fence.header.has(flags::FENCE));
    // Its agent had not handed the second one out.
    let why = Why::not_run(Reason::WorkerLost, "gone");
    let second = world.peers.frames.lock()[1].1.clone();
    for frame in [second, fence] {
        world.take_from_far(&Frame::read(back::returned(&frame, &why).freeze()).unwrap());
    }
    assert_eq!(told_lost(&world.out(W1).await), [0]);
}
