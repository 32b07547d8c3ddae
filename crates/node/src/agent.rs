//! One agent from its start to its end.

use crate::{
    clients,
    config::{Config, ConfigError},
    controller::{Controller, Parts, Seam},
    convention,
    event::{Continuation, Event, Greeting},
    http,
    links::Links,
    metrics::Metrics,
    queue::Queue,
    router,
    workers::{self, Kit, Spawner},
};
use odeon_cluster::{capability, lease::TIMING};
use odeon_transport::socket::Socket;
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU32},
    thread::available_parallelism,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Why an agent does not start: what, why, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The way into the convention.
    #[error(transparent)]
    Convention(#[from] convention::StartError),
    /// The socket for clients.
    #[error("the socket for clients: {0}")]
    Socket(io::Error),
    /// The HTTP interface.
    #[error("HTTP on {address}: {why}: give another address with --http, or `--http off`")]
    Http {
        /// The address.
        address: SocketAddr,
        /// Why not.
        why: io::Error,
    },
    /// The system refused something.
    #[error("starting the agent: {0}")]
    System(#[from] io::Error),
}

/// Why an agent ended although nobody asked it to: what, why, what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// The host was evicted.
    #[error("this host is no longer a member of its convention: to return it needs a new data directory and a token")]
    NotMember,
    /// The directory was recovered without this host's log.
    #[error("{}", convention::SUPERSEDED)]
    Superseded,
    /// The convention uses what this agent does not understand.
    #[error(
        "this Odeon is of feature level {has}, and its convention uses what came with level {needs}: install an Odeon of \
         level {needs} or later on this host, and start it again"
    )]
    Outdated {
        /// Its feature level.
        has: u16,
        /// The least that is let in.
        needs: u16,
    },
    /// The convention has given this start of the agent up. The next one may begin at once.
    #[error("the convention gave this start of the agent up, because it was silent for too long: start it again")]
    BootOver,
    /// The convention knows a later start of this host.
    #[error(
        "another agent goes on as this host: does it use a copy of the data directory? Stop one of them; the host that is \
         to be another one needs a data directory of its own"
    )]
    Replaced,
    /// A part of the agent cannot go on: its disk does not take what has to be kept, say.
    #[error("a part of the agent has failed, and the log says which: mend that, and start it again")]
    Failed,
}

/// A running agent. Dropping it asks it to stop.
#[derive(Debug)]
pub struct Agent {
    handle: Handle,
    ready: watch::Receiver<bool>,
    ended: watch::Receiver<Option<Result<(), Ended>>>,
    stop: CancellationToken,
    http: Option<SocketAddr>,
    socket: PathBuf,
    waits_for: watch::Receiver<Option<String>>,
}

/// What links of this process to the agent are made of.
#[derive(Clone)]
struct Handle {
    kit: Kit,
    convention: convention::Handle,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("node", &self.convention.me()).finish_non_exhaustive()
    }
}

impl Agent {
    /// Starts an agent. Returns as soon as it serves; [`Agent::ready`] says when it has its place.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.validate()?;
        let thread = router::Thread::start()?;
        let convention = join(&thread, &config).await?;
        let spawner = Spawner::start(config.data.clone())?;
        let cores = available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
        Self::assemble(config, thread, convention, Machine { spawner, cores, has_files: true }).await
    }

    /// Starts an agent of a simulation, all of it on the current runtime.
    ///
    /// # Errors
    /// See [`StartError`].
    #[doc(hidden)]
    pub async fn start_simulated(
        config: Config,
        simulated: convention::Simulated,
        spawn: workers::Spawn,
    ) -> Result<Self, StartError> {
        let convention = convention::start_simulated(&config, simulated).await?;
        let machine = Machine { spawner: Spawner::Simulated(spawn), cores: 2, has_files: false };
        Self::assemble(config, router::Thread::current(), convention, machine).await
    }

    async fn assemble(
        config: Config,
        thread: router::Thread,
        convention: convention::Handle,
        machine: Machine,
    ) -> Result<Self, StartError> {
        let (events, metrics) = (Arc::new(Queue::default()), Arc::new(Metrics::default()));
        let router = router::Handle::new(
            &thread,
            (convention.me(), convention.boot()),
            Arc::new(Links::new(convention.clone(), thread.runtime().clone())),
            (events.clone(), metrics.clone()),
        );
        let kit = Kit {
            spawner: machine.spawner,
            router: router.clone(),
            events: events.clone(),
            ids: Arc::new(AtomicU32::new(1)),
        };
        let stop = CancellationToken::new();
        let (registered, waits_for) = watch::channel(None);
        let config = Arc::new(config);
        let parts = Parts {
            config: config.clone(),
            convention: convention.clone(),
            router: router.clone(),
            kit: kit.clone(),
            metrics: metrics.clone(),
            cores: machine.cores,
            stop: stop.clone(),
            registered,
        };
        let controller = Controller::new(parts, events.clone());
        convention.serve(Arc::new(Seam { events: events.clone(), router }));
        let handle = Handle { kit, convention };
        let outside = Outside {
            config: &config,
            thread: &thread,
            handle: &handle,
            events: &events,
            metrics: &metrics,
            stop: &stop,
        };
        let opened = if machine.has_files { outside.open().await } else { Ok((config.socket_path(), None)) };
        let (socket, http) = match opened {
            Ok(open) => open,
            Err(error) => {
                stop.cancel();
                // The error is what the caller gets.
                let _ = finish(controller, handle.convention, config.socket_path()).await;
                return Err(error);
            }
        };
        let (over, ended) = watch::channel(None);
        let ready = watch_ready(&handle.convention, waits_for.clone(), metrics);
        let (convention, path) = (handle.convention.clone(), socket.clone());
        tokio::spawn(async move {
            let how = finish(controller, convention, path).await;
            drop(thread);
            // Nobody may wait.
            let _ = over.send(Some(how));
        });
        Ok(Self { handle, ready, ended, stop, http, socket, waits_for })
    }

    /// Returns once the agent has its place in the convention and its workers are registered; false if it ended before.
    pub async fn ready(&self) -> bool {
        let (mut ready, mut ended) = (self.ready.clone(), self.ended.clone());
        tokio::select! {
            is = ready.wait_for(|ready| *ready) => is.is_ok(),
            _ = ended.wait_for(Option::is_some) => false,
        }
    }

    /// Stops gracefully: workers first, then names, then the links to other agents.
    pub async fn stop(&self) {
        self.stop.cancel();
        // How it ended says `wait`.
        let _ = self.wait().await;
    }

    /// Waits until the agent has ended, by [`Agent::stop`], because its host leaves, or by itself.
    ///
    /// # Errors
    /// It ended although nobody asked it to.
    pub async fn wait(&self) -> Result<(), Ended> {
        let mut ended = self.ended.clone();
        ended.wait_for(Option::is_some).await.ok().and_then(|how| *how).unwrap_or(Ok(()))
    }

    /// How it ended, if it has; see [`Agent::wait`].
    #[must_use]
    pub fn ended(&self) -> Option<Result<(), Ended>> {
        *self.ended.borrow()
    }

    /// Takes the capabilities of a configuration that was read again. Those that were set while the agent runs stay,
    /// except where the configuration has changed since. What is too much, with those, is not taken, and logged.
    pub fn configure_capabilities(&self, configured: capability::Map) {
        let configure = move |controller: &mut Controller| controller.configure_capabilities(configured);
        self.handle.kit.events.push(Event::Done(Continuation(Box::new(configure))));
    }

    /// A link for a client that lives in this process.
    #[must_use]
    pub fn connect(&self) -> Socket {
        self.handle.connect()
    }

    /// The convention, for whoever embeds an agent.
    #[must_use]
    pub fn convention(&self) -> &convention::Handle {
        &self.handle.convention
    }

    /// Where HTTP is served.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// The Unix socket for clients.
    #[must_use]
    pub fn socket_path(&self) -> &Path {
        &self.socket
    }

    /// The asks without an answer that its router knows, and the messages that wait for their names.
    #[doc(hidden)]
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        self.handle.kit.router.waiting()
    }

    /// What keeps the agent's workers from being registered, if anything does.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        self.waits_for.borrow().clone()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Handle {
    fn connect(&self) -> Socket {
        let (ours, theirs) = Socket::memory();
        let (kit, id) = (self.kit.clone(), self.kit.next_id());
        self.kit.router.spawn(async move {
            if let Err(why) = workers::greet(&kit, id, Greeting::Embedded, ours).await {
                warn!(process = %id, "link closed: {why}");
            }
        });
        theirs
    }
}

/// What an agent has of its machine.
struct Machine {
    spawner: Spawner,
    cores: u32,
    /// It can be reached by sockets with a path or an address.
    has_files: bool,
}

/// What this agent opens to the rest of its machine.
struct Outside<'a> {
    config: &'a Arc<Config>,
    thread: &'a router::Thread,
    handle: &'a Handle,
    events: &'a Arc<Queue<Event>>,
    metrics: &'a Arc<Metrics>,
    stop: &'a CancellationToken,
}

impl Outside<'_> {
    async fn open(&self) -> Result<(PathBuf, Option<SocketAddr>), StartError> {
        let path = self.config.socket_path();
        let listener = {
            let _router = self.thread.runtime().enter();
            clients::listen(&path).map_err(StartError::Socket)?
        };
        self.handle.kit.router.spawn(clients::accept(self.handle.kit.clone(), listener));
        let address = self.config.http.as_ref().map(|bind| bind.address);
        let fault = |why| StartError::Http { address: address.unwrap_or_else(|| ([0, 0, 0, 0], 0).into()), why };
        let Some(listener) = http::bind(self.config).await.map_err(fault)? else { return Ok((path, None)) };
        let bound = listener.local_addr()?;
        info!(address = %bound, "HTTP");
        let (config, socket) = (self.config.clone(), self.handle.connect());
        let (shared, stop) = ((self.events.clone(), self.metrics.clone()), self.stop.clone());
        tokio::spawn(async move {
            if let Err(error) = http::serve(&config, listener, socket, shared, stop).await {
                warn!("HTTP ended: {error}");
            }
        });
        Ok((path, Some(bound)))
    }
}

/// Data connections belong to the router's thread.
async fn join(thread: &router::Thread, config: &Config) -> Result<convention::Handle, StartError> {
    let (config, large) = (config.clone(), thread.large().clone());
    let started = thread.runtime().spawn(async move { convention::start(&config, large).await });
    Ok(started.await.map_err(io::Error::other)??)
}

/// Runs the controller to its end, then takes the rest down.
async fn finish(controller: Controller, convention: convention::Handle, socket: PathBuf) -> Result<(), Ended> {
    let begun = convention::now();
    let how = controller.run().await;
    if how.leaves
        && let Err(error) = convention.leave().await
    {
        warn!(%error, "the convention was not told that this host leaves: evict it from another host");
    }
    convention.stop().await;
    // It may be gone already.
    let _ = std::fs::remove_file(socket);
    info!("stopped");
    match how.ended {
        // Sooner than for its silence.
        Err(Ended::BootOver) if convention::now().since(begun) < TIMING.dead => Err(Ended::Replaced),
        ended => ended,
    }
}

/// Says `ready` once the host has its place and its workers are registered.
fn watch_ready(
    convention: &convention::Handle,
    mut waits_for: watch::Receiver<Option<String>>,
    metrics: Arc<Metrics>,
) -> watch::Receiver<bool> {
    let (sender, ready) = watch::channel(false);
    let convention = convention.clone();
    tokio::spawn(async move {
        convention.ready().await;
        // It may be stopping instead.
        if !convention.is_ready() || waits_for.wait_for(Option::is_none).await.is_err() {
            return;
        }
        metrics.ready.set(1);
        info!(host = convention.name(), address = %convention.listens_on(), "ready");
        // Nobody may wait.
        let _ = sender.send(true);
        sender.closed().await;
    });
    ready
}
