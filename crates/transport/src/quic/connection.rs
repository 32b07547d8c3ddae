//! One greeted connection, and what is known of its other end.

use super::simulated;
use odeon_protocol::{Boot, ConventionId, NodeId};
use quinn::{ConnectionError, VarInt};
use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Requests, subscriptions, datagrams.
    Control,
    /// Frames that are not large.
    Data,
    /// Large frames: beside the others, on a thread of their own.
    Large,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Control, Self::Data, Self::Large];
    /// The ALPN names of all kinds.
    pub(super) const PROTOCOLS: [&'static [u8]; 3] = [b"odeon/1", b"odeon-data/1", b"odeon-large/1"];

    pub(super) const fn protocol(self) -> &'static [u8] {
        match self {
            Self::Control => Self::PROTOCOLS[0],
            Self::Data => Self::PROTOCOLS[1],
            Self::Large => Self::PROTOCOLS[2],
        }
    }

    pub(super) fn of_protocol(protocol: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.protocol() == protocol)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Data => "data",
            Self::Large => "large",
        })
    }
}

/// The other end of a connection, as its certificate and its greeting say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node, certified.
    pub node: NodeId,
    /// Its convention, certified; always this agent's own.
    pub convention: ConventionId,
    /// Its agent's start, as it says itself.
    pub boot: Boot,
    /// Where its packets come from; no identity.
    pub address: SocketAddr,
    /// The recovery of the directory that both ends went by when they greeted.
    pub recovery: u64,
    /// When its certificate ends. The connection outlives it: whoever holds the connection closes it then.
    pub not_after: SystemTime,
}

/// Why a connection was closed, on the wire. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Code {
    /// Its work is done, or the agent stops.
    Done = 0,
    /// Bytes that break the protocol.
    Garbage = 400,
    /// A protocol for members, and no certificate.
    NoCertificate = 401,
    /// The certificate is of another convention.
    OtherConvention = 402,
    /// The host is not let in: evicted, or no member.
    Refused = 403,
    /// Another connection of the same pair stays instead.
    Duplicate = 409,
    /// The certificate has run out.
    Expired = 410,
    /// The other end goes by another recovery of the directory.
    OtherRecovery = 412,
    /// Another protocol version.
    Version = 426,
}

impl Code {
    const ALL: [Self; 9] = [
        Self::Done,
        Self::Garbage,
        Self::NoCertificate,
        Self::OtherConvention,
        Self::Refused,
        Self::Duplicate,
        Self::Expired,
        Self::OtherRecovery,
        Self::Version,
    ];

    fn of(number: VarInt) -> Option<Self> {
        Self::ALL.into_iter().find(|code| VarInt::from(*code) == number)
    }
}

impl From<Code> for VarInt {
    fn from(code: Code) -> Self {
        Self::from_u32(code as u32)
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The code, if one of the two ends closed it.
    pub code: Option<Code>,
    /// Whether the other end did.
    pub by_peer: bool,
    /// In words.
    pub text: String,
}

impl From<ConnectionError> for Closed {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self {
                code: Code::of(close.error_code),
                by_peer: true,
                text: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::ConnectionClosed(close) => {
                let text = words(&String::from_utf8_lossy(&close.reason));
                Self { code: None, by_peer: true, text: if text.is_empty() { close.to_string() } else { text } }
            }
            ConnectionError::TransportError(error) => Self { code: None, by_peer: false, text: words(&error.reason) },
            ConnectionError::LocallyClosed => {
                Self { code: Some(Code::Done), by_peer: false, text: "closed by this agent".into() }
            }
            ConnectionError::TimedOut => Self { code: None, by_peer: false, text: "no sign of life".into() },
            other => Self { code: None, by_peer: false, text: other.to_string() },
        }
    }
}

/// Without what rustls puts before the words of our own verifiers.
fn words(reason: &str) -> String {
    reason.strip_prefix("unexpected error: ").unwrap_or(reason).to_owned()
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A connection to a certified, greeted peer. Clones are the same connection; dropping the last one closes it.
#[derive(Clone, Debug)]
pub struct Connection {
    inner: Inner,
    peer: Peer,
    kind: Kind,
    dialled: bool,
}

/// What carries a connection.
#[derive(Clone, Debug)]
pub(super) enum Inner {
    Quic(quinn::Connection),
    Simulated(Arc<simulated::Held>),
}

impl Connection {
    pub(super) const fn new(inner: quinn::Connection, peer: Peer, kind: Kind, dialled: bool) -> Self {
        Self { inner: Inner::Quic(inner), peer, kind, dialled }
    }

    pub(super) fn simulated(end: Arc<simulated::End>, kind: Kind, dialled: bool) -> Self {
        let peer = end.peer().clone();
        Self { inner: Inner::Simulated(Arc::new(simulated::Held(end))), peer, kind, dialled }
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What it is for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether this agent dialled it.
    #[must_use]
    pub const fn dialled(&self) -> bool {
        self.dialled
    }

    /// What [`stays`] has to know of it.
    #[must_use]
    pub const fn seen(&self) -> Seen {
        Seen { boot: self.peer.boot, dialled: self.dialled }
    }

    /// Whether it still works.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match &self.inner {
            Inner::Quic(connection) => connection.close_reason().is_none(),
            Inner::Simulated(held) => held.0.is_open(),
        }
    }

    /// Waits for its end.
    pub async fn closed(&self) -> Closed {
        match &self.inner {
            Inner::Quic(connection) => connection.closed().await.into(),
            Inner::Simulated(held) => held.0.closed().await,
        }
    }

    /// Closes it at once; the peer is told the code and the text. What is under way may be lost: on a data connection
    /// wait for [`super::Lanes::drained`] first.
    pub fn close(&self, code: Code, text: &str) {
        match &self.inner {
            // Closing once more would overwrite why it ended.
            Inner::Quic(connection) if self.is_open() => connection.close(code.into(), text.as_bytes()),
            Inner::Quic(_) => {}
            Inner::Simulated(held) => held.0.close(code, text),
        }
    }

    /// The round trip time now.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        match &self.inner {
            Inner::Quic(connection) => connection.rtt(),
            Inner::Simulated(_) => Duration::ZERO,
        }
    }

    pub(super) const fn inner(&self) -> &Inner {
        &self.inner
    }
}

/// What decides between two connections of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The peer's boot in its greeting.
    pub boot: Boot,
    /// Whether this agent dialled.
    pub dialled: bool,
}

/// Whether `held` stays when `new`, of the same kind and pair, has come; otherwise `new` takes its place.
///
/// A newer boot of the peer wins. Of two from the same side the later wins: that side has lost the earlier one. Of two
/// dialled at once by both sides the one dialled by the lower node id stays, so that both ends decide alike.
#[must_use]
pub fn stays(me: NodeId, peer: NodeId, held: Seen, new: Seen) -> bool {
    if held.boot != new.boot {
        return held.boot > new.boot;
    }
    held.dialled != new.dialled && held.dialled == (me < peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: NodeId = NodeId(1);
    const HIGH: NodeId = NodeId(2);

    fn seen(boot: u64, dialled: bool) -> Seen {
        Seen { boot: Boot(boot), dialled }
    }

    #[test]
    fn of_simultaneous_dials_both_ends_keep_the_one_of_the_lower_node() {
        for order in [[true, false], [false, true]] {
            // Each end may see the two in either order; what it dialled the other accepted.
            let [low_first, high_first] = order;
            let low_keeps_first = stays(LOW, HIGH, seen(1, low_first), seen(1, !low_first));
            let kept_by_low = if low_keeps_first { low_first } else { !low_first };
            let high_keeps_first = stays(HIGH, LOW, seen(1, high_first), seen(1, !high_first));
            let kept_by_high = if high_keeps_first { high_first } else { !high_first };
            assert!(kept_by_low, "the low node keeps what it dialled");
            assert!(!kept_by_high, "the high node keeps what it accepted");
        }
    }

    #[test]
    fn a_redial_and_a_newer_boot_win() {
        for dialled in [true, false] {
            assert!(!stays(LOW, HIGH, seen(1, dialled), seen(1, dialled)));
            assert!(!stays(LOW, HIGH, seen(1, dialled), seen(2, !dialled)));
            assert!(stays(LOW, HIGH, seen(2, dialled), seen(1, !dialled)));
        }
    }

    #[test]
    fn codes_are_read_back() {
        for code in Code::ALL {
            assert_eq!(Code::of(code.into()), Some(code));
        }
        assert_eq!(Code::of(VarInt::from_u32(999)), None);
    }
}
