//! The decoders of this crate, and what takes what they decode, as functions that no bytes may make panic; `tests/fuzz`
//! calls them. No part of the interface.

use crate::{
    Directory, Requirement,
    anti_entropy::{Delta, Digest, Facts, Hint},
    capability::{self, Map},
    directory::{Command, Feed},
    gossip::{Datagram, Gossip},
    host::HostView,
};
use odeon_protocol::{
    Boot, NodeId, Time,
    control::{Value, decode, encode},
    directory::Delta as Step,
    fuzz::{Target, again},
    limits::REQUIREMENT_BYTES_MAX,
};
use std::time::Duration;

/// Every decoder.
pub const TARGETS: &[Target] = &[
    ("capability", capability_text),
    ("requirement", requirement),
    ("gossip", gossip),
    ("digest", again::<Digest>),
    ("hint", again::<Hint>),
    ("facts", facts),
    ("directory", directory),
    ("directory_copy", again::<Directory>),
];

fn capability_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok((key, value)) = capability::parse(text) {
        assert_eq!(capability::parse(&format!("{key}={value}")), Ok((key, value)));
    }
}

fn requirement(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Requirement>() {
        Ok(requirement) => {
            let understood = requirement.understood();
            // Shown with parentheses around every part, what was at the limit of their depth is beyond it.
            if text.matches(['!', '(']).count() < 16 && understood.len() <= REQUIREMENT_BYTES_MAX {
                assert_eq!(understood.parse::<Requirement>().map(|read| read.understood()), Ok(understood));
            }
            let host = Map::from([("a".to_owned(), Value::Bool(true)), ("gpu".to_owned(), Value::Micros(2_000_000))]);
            assert_eq!(requirement.explain(&host).is_none(), requirement.fits(&host));
        }
        Err(error) => assert!(error.to_string().len() < 4 * text.len() + 4096, "{error}"),
    }
}

/// What a peer sends to a host that knows two others.
fn gossip(bytes: &[u8]) {
    let Some(datagram) = Datagram::decode(bytes) else { return };
    assert_eq!(Datagram::decode(&datagram.encode()), Some(datagram.clone()));
    let Datagram::Swim(body) = datagram else { return };
    let mut gossip = Gossip::new(NodeId(1), Boot(1), 7);
    let mut now = Time::ZERO;
    gossip.set_members([(NodeId(2), Boot(1)), (NodeId(3), Boot(1))], now);
    let _ = gossip.received(&body, now);
    for _ in 0..4 {
        now = gossip.due().unwrap_or(now) + Duration::from_millis(1);
        gossip.tick(now);
    }
    let known = [NodeId(1), NodeId(2), NodeId(3)];
    assert!(gossip.states().keys().all(|node| known.contains(node)), "strangers are not seen");
    for (to, body) in gossip.take_datagrams() {
        assert!(known[1..].contains(&to) && body.len() <= 1200, "{} bytes to {to}", body.len());
    }
}

/// What a peer sends of the hosts that it knows, to two hosts one after the other.
fn facts(bytes: &[u8]) {
    let Ok(delta) = decode::<Delta>(bytes) else { return };
    again::<Delta>(bytes);
    let host = |node: u64| {
        let mut facts = Facts::new(NodeId(node), Boot(1));
        facts.set_members((1..=4).map(NodeId));
        facts
    };
    let (mut one, mut two) = (host(1), host(2));
    one.take(delta);
    two.take(one.answer(&two.digest()));
    let view = |facts: &Facts, node: u64, boot: Boot| {
        let mut view = HostView { node: NodeId(node), boot, ..HostView::default() };
        facts.fill(&mut view).then_some(view)
    };
    for (node, boot) in (3..=4).flat_map(|node| (0..4).map(move |boot| (node, Boot(boot)))) {
        assert_eq!(view(&one, node, boot), view(&two, node, boot), "the next host learns the same");
    }
}

/// Commands that a member proposes, steps that a voter sends, and from where a follower asks for more.
fn directory(bytes: &[u8]) {
    let Ok((commands, steps, after)) = decode::<(Vec<Command>, Vec<Step>, u64)>(bytes) else { return };
    let (mut leader, mut follower, mut feed) = (Directory::default(), Directory::default(), Feed::default());
    for command in &commands {
        let applied = leader.apply(command);
        again::<odeon_protocol::directory::Answer>(&encode(&applied.answer));
        if let Some(step) = applied.delta {
            assert_eq!(follower.follow(&step), Ok(()));
            feed.push(step.into());
        }
    }
    assert_eq!(leader.without_secrets(), follower, "a follower has what the leader has");
    let _ = feed.since(after, leader.version(), 10);
    for step in steps {
        let _ = follower.follow(&step);
        feed.push(step.into());
    }
    let _ = feed.since(after, follower.version(), 10);
    let copy = decode::<Directory>(&encode(&follower));
    assert_eq!(copy, Ok(follower), "a copy of it is the same");
}
