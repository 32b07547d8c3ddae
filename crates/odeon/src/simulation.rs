//! A process of a simulation: the shipped runtime and link, without threads, sockets and timers of their own.
//!
//! Whoever simulates carries the bytes to and from the agent, and says when actors run, reports go and timers are looked
//! at. Nothing here decides anything. Where nobody calls [`Process::turn`], no limit of time is kept.

use crate::{
    core::timers::Timers,
    error::Result,
    link::{Link, State, beyond::Beyond, handshake::handshake},
    system::{Config, Inner, System, end_all, own_serial},
    worker::Worker,
};
use bytes::BytesMut;
use odeon_protocol::{Boot, Counts, Direct, NodeId, control::ToAgent};
use odeon_transport::{frame_io::Inlet, socket::Socket};
use parking_lot::Mutex;
use std::sync::Arc;

/// See the module's head.
#[derive(Debug)]
pub struct Process {
    system: System,
    link: Arc<Link>,
    inlet: Mutex<Inlet>,
}

impl Process {
    /// A process of the agent `node` in its start `boot`. Serials come from the first block; those of the second one are
    /// given out by its agent. `tokio` is never used.
    #[must_use]
    pub fn new(
        (node, boot): (NodeId, Boot),
        (block, placed): (u64, u64),
        worker: &Worker,
        tokio: tokio::runtime::Handle,
    ) -> Self {
        let config = Config { node, boot, block, runners: 1, host: node.to_string(), ..Config::default() };
        let inner = Inner::new(config, tokio, Timers::still());
        let link = Link::new(Direct { node, boot, serial: own_serial(block) });
        link.bind(&inner);
        inner.set_outside(Arc::new(Beyond(link.clone())));
        inner.own_block(placed);
        worker.types().for_each(|kind| inner.know(kind));
        let inlet = Mutex::new(link.inlet());
        Self { system: System { inner }, link, inlet }
    }

    /// Greets the agent at the other end of `socket`, as a worker does.
    ///
    /// # Errors
    /// The agent refuses it.
    pub async fn join(socket: &mut Socket, worker: Worker, tokio: tokio::runtime::Handle) -> Result<Self> {
        let welcome = handshake(socket, worker.hello()).await?.welcome;
        let blocks = (welcome.block, welcome.placed_block);
        let process = Self::new((welcome.node, welcome.boot), blocks, &worker, tokio);
        process.link.say(&ToAgent::Listening);
        Ok(process)
    }

    /// Once the agent wants it to, stops all actors in order.
    pub async fn stop_when_told(&self) {
        let mut state = self.link.watch();
        if state.wait_for(|state| matches!(state, State::Stop)).await.is_ok() {
            self.system.stop().await;
        }
    }

    /// Lets happen what is due by the simulated clock.
    pub fn turn(&self) {
        self.system.inner.timers.turn();
    }

    /// The process's system.
    #[must_use]
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Takes frames from the agent.
    ///
    /// # Panics
    /// They are none.
    pub fn take(&self, mut frames: Vec<BytesMut>) {
        self.inlet.lock().take(&mut frames).expect("whole frames");
        self.link.take_batch(frames);
    }

    /// Whether a part of a large frame has come.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.inlet.lock().begun() > 0
    }

    /// Runs actors until all wait. Answers how many turns they had.
    pub fn run(&self) -> usize {
        usize::from(self.link.read_next_large()) + self.system.inner.scheduler.run_ready()
    }

    /// Takes at most about so many bytes of whole frames for the agent.
    #[must_use]
    pub fn outgoing(&self, limit: usize) -> BytesMut {
        self.link.take_outgoing(limit)
    }

    /// Whether reports wait, and for how long they may: see [`Process::report`].
    #[must_use]
    pub fn has_reports(&self) -> bool {
        self.link.has_reports()
    }

    /// The flows with something outstanding, in words.
    #[must_use]
    pub fn open_flows(&self) -> Vec<String> {
        self.link.open_flows()
    }

    /// Whether any of its flows waits to learn what a loss has taken.
    #[must_use]
    pub fn is_fencing(&self) -> bool {
        self.link.is_fencing()
    }

    /// Sends the reports that wait.
    pub fn report(&self) {
        self.link.report();
    }

    /// Messages to and from other processes, by how they ended.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.link.counts()
    }

    /// Ends all actors at once, as far as they are not in the middle of something: the process is over.
    pub fn end(&self) {
        end_all(&self.system.inner, true);
        self.run();
    }
}
