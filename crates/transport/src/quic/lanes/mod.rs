//! Frames between two boots of two agents: a few long-lived streams each way, numbered, acknowledged, and resent on
//! the next connection if one breaks.
//!
//! ```text
//! stream 0   0x00, resume { session, the peer's session as known, received per lane }, then acknowledgements
//! stream 1…  0x01, lane, number of the first frame that follows, then frames, one after the other
//! ```
//!
//! The last lane is that of large frames. It has a connection of its own, carried by a thread of its own and with little
//! under way, so that the others do not wait behind it. A large frame leaves once the peer has received what came before on the lane of its order; what follows it
//! takes the lane of large frames too, until the peer has received it.
//!
//! Lanes outlive connections: one [`Lanes`] for each boot of each peer, into which each new connection of frames or of
//! large frames is put by [`Lanes::attach`]. Each says first, and acknowledges, what it carries. Frames are numbered by counting, so numbering costs no byte. An acknowledgement means that the
//! peer's [`Receive`] has taken the frames.
//!
//! - **L-1.** Between two live boots each frame is received exactly once, in order per lane, whatever happens to
//!   connections, unless it was given up.
//! - **L-2.** What is given up is told apart: surely not received, or perhaps.
//! - **L-3.** At most `LANE_QUEUE_BYTES` of a lane wait unsent and `LANE_KEPT_BYTES` unacknowledged, `LANE_BYTES_MAX`
//!   with urgent frames.
//! - **L-4.** A malformed stream closes its connection with a named reason; the frames before the fault are received.

pub(super) mod fuzz;
mod inbound;
mod large;
mod link;
mod outbound;
pub mod simulation;

use super::connection::{Closed, Connection, Kind};
use crate::frame_io::Gate;
use bytes::{Bytes, BytesMut};
use inbound::Inbound;
use large::Large;
use odeon_protocol::{
    Boot, NodeId,
    limits::{LANES, LARGE_LANE},
};
use outbound::Outbound;
use parking_lot::Mutex;
use std::{
    fmt,
    future::poll_fn,
    ops::Range,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};
use tokio::{sync::Notify, task::AbortHandle};

/// Whoever takes the frames of a peer.
pub trait Receive: Send + Sync + 'static {
    /// Takes frames, in order per lane; they count as received when this returns. Must not block, nor wait for the
    /// same lanes.
    fn frames(&self, from: NodeId, frames: Vec<BytesMut>);

    /// The attached connection of that kind has ended, and no other was attached in its place. Frames are kept for the
    /// next.
    fn detached(&self, from: NodeId, kind: Kind, why: Closed);

    /// While this is shut no large frames are read.
    fn gate(&self) -> Gate {
        Gate::default()
    }
}

/// The lanes to one boot of one peer. Clones are the same lanes; when the last one goes, they end.
#[derive(Clone)]
pub struct Lanes {
    shared: Arc<Shared>,
    /// Ends the link's tasks with the last handle.
    _guard: Arc<Guard>,
}

pub(super) struct Shared {
    node: NodeId,
    boot: Boot,
    /// Chosen at random for these lanes: tells the peer whether its counts are about the same numbering.
    session: u64,
    receive: Arc<dyn Receive>,
    outbound: [Mutex<Outbound>; LANES],
    inbound: [Mutex<Inbound>; LANES],
    wakers: [Mutex<Vec<Waker>>; LANES],
    large: Large,
    /// What carries the other lanes, and that of large frames.
    carriers: [Carrier; 2],
    /// The peer acknowledged something, or frames were taken back.
    heard: Notify,
}

/// The connection that carries some of the lanes.
#[derive(Default)]
struct Carrier {
    connected: AtomicBool,
    link: Mutex<Link>,
    acks: link::Acks,
}

#[derive(Default)]
struct Link {
    generation: u64,
    connection: Option<Connection>,
    task: Option<AbortHandle>,
}

struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        for carrier in &self.0.carriers {
            if let Some(task) = carrier.link.lock().task.take() {
                task.abort();
            }
        }
    }
}

/// Why a frame was not taken; it is given back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lane is full")]
pub struct SendError(pub Bytes);

/// Frames that were given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undelivered {
    /// Never handed to any connection: the peer has not received them.
    pub unsent: Vec<Bytes>,
    /// Handed to a connection and not acknowledged: the peer may have received them.
    pub unknown: Vec<Bytes>,
}

impl Lanes {
    /// Lanes to a peer's boot, not connected yet.
    #[must_use]
    pub fn new(node: NodeId, boot: Boot, receive: Arc<dyn Receive>) -> Self {
        let shared = Arc::new(Shared {
            node,
            boot,
            session: rand::random::<u64>().max(1),
            receive,
            outbound: std::array::from_fn(|lane| Mutex::new(large::outbound(lane))),
            inbound: Default::default(),
            wakers: Default::default(),
            large: Large::default(),
            carriers: Default::default(),
            heard: Notify::new(),
        });
        Self { _guard: Arc::new(Guard(shared.clone())), shared }
    }

    /// The peer.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.shared.node
    }

    /// Its boot.
    #[must_use]
    pub fn boot(&self) -> Boot {
        self.shared.boot
    }

    /// Carries on over this connection of frames or of large frames, in tasks on the current runtime; an earlier one of
    /// its kind is closed. Its peer has to be the same boot of the same node.
    pub fn attach(&self, connection: Connection) {
        let peer = connection.peer();
        debug_assert!(connection.kind() != Kind::Control, "no lanes over control connections");
        debug_assert_eq!((peer.node, peer.boot), (self.shared.node, self.shared.boot));
        link::attach(&self.shared, connection);
    }

    /// The attached connection of that kind, if it is open.
    #[must_use]
    pub fn connection(&self, kind: Kind) -> Option<Connection> {
        self.shared.carrier(kind).link.lock().connection.clone().filter(Connection::is_open)
    }

    /// Whether frames flow: a connection is attached and both ends know where to go on.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.carrier(Kind::Data).is_connected()
    }

    /// Whether large frames wait, and there is no connection for them.
    #[must_use]
    pub fn wants_large(&self) -> bool {
        self.shared.large.may_have() && !self.shared.carrier(Kind::Large).is_connected() && self.shared.has_large()
    }

    /// Queues a whole frame. `order` is any number that is the same for all frames that must keep order.
    ///
    /// # Errors
    /// The lane is full, and the frame not of class urgent; see [`Self::room`].
    pub fn send(&self, order: u64, frame: Bytes) -> Result<(), SendError> {
        let shared = &self.shared;
        let writer = if shared.takes_large_lane(order, &frame) {
            shared.push_large(order, frame)
        } else {
            shared.outbound[lane_of(order)].lock().push(frame)
        };
        if let Some(writer) = writer.map_err(SendError)? {
            writer.wake();
        }
        Ok(())
    }

    /// Waits until the lane that such a frame takes has room. Others may take it first: send again in a loop.
    pub async fn room(&self, order: u64, like: &[u8]) {
        let shared = &self.shared;
        let lane = if shared.takes_large_lane(order, like) { LARGE_LANE } else { lane_of(order) };
        poll_fn(|context| {
            // Registered first: room made between the look and the registration must wake.
            let mut wakers = shared.wakers[lane].lock();
            if shared.outbound[lane].lock().has_room() {
                return Poll::Ready(());
            }
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Bytes queued or not acknowledged, on all lanes.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.outbound.iter().map(|lane| lane.lock().bytes()).sum()
    }

    /// Waits until the peer has received everything; for ever, if it never does.
    pub async fn drained(&self) {
        loop {
            // Listening before looking: an acknowledgement in between must not be missed.
            let mut heard = pin!(self.shared.heard.notified());
            heard.as_mut().enable();
            if self.queued() == 0 {
                return;
            }
            heard.await;
        }
    }

    /// Takes back whatever the peer has not acknowledged. The lanes stay usable: later frames are numbered on, and
    /// the peer, if it comes back, is told to skip what was given up.
    #[must_use]
    pub fn give_up(&self) -> Undelivered {
        self.take(Outbound::give_up)
    }

    /// Takes back the frames that fit, of those that the peer has not acknowledged. All others stay, and are received
    /// exactly once.
    #[must_use]
    pub fn take_back(&self, fits: impl Fn(&[u8]) -> bool) -> Undelivered {
        self.take(|lane| lane.take_back(&fits))
    }

    fn take(&self, take: impl Fn(&mut Outbound) -> Undelivered) -> Undelivered {
        let mut all = Undelivered::default();
        for lane in 0..LANES {
            let taken = take(&mut self.shared.outbound[lane].lock());
            all.unsent.extend(taken.unsent);
            all.unknown.extend(taken.unknown);
            self.shared.wake_room(lane);
        }
        self.shared.wake_large();
        self.shared.heard.notify_waiters();
        all
    }
}

impl Carrier {
    fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }
}

impl Shared {
    fn carrier(&self, kind: Kind) -> &Carrier {
        &self.carriers[usize::from(kind == Kind::Large)]
    }

    fn wake_room(&self, lane: usize) {
        let wakers = std::mem::take(&mut *self.wakers[lane].lock());
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The lanes that a connection carries.
fn lanes_of(kind: Kind) -> Range<usize> {
    if kind == Kind::Large { LARGE_LANE..LANES } else { 0..LARGE_LANE }
}

/// The lane of an order. Both halves count: callers hash in different ways.
fn lane_of(order: u64) -> usize {
    ((order ^ (order >> 32)) % LARGE_LANE as u64) as usize
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes")
            .field("node", &self.shared.node)
            .field("boot", &self.shared.boot)
            .field("connected", &self.is_connected())
            .field("queued", &self.queued())
            .finish()
    }
}
