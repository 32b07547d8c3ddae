//! Programs that run actors: under an agent as one of its workers, or alone.
//!
//! An agent starts a worker with its end of a socket pair as descriptor 3 and `ODEON_WORKER_FD=3`. Started otherwise, the
//! same program is a system on its own, which binds its listening sockets itself.

use crate::{
    actor::Actor,
    core::ActorType,
    error::{Error, Result},
    link::{
        Link, State,
        beyond::Beyond,
        handshake::hello,
        thread::{Dial, greet},
    },
    system::{Capability, Config, Inner, System, end_all},
};
use odeon_protocol::{
    Reason,
    control::{Hello, Role, ToAgent, Value},
    limits::STOP_GRACE,
};
use odeon_transport::socket::Socket;
use std::{
    fmt,
    future::Future,
    net::TcpListener,
    os::fd::{AsFd, FromRawFd, OwnedFd},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Set by an agent for its workers.
const ENVIRONMENT: &str = "ODEON_WORKER_FD";
/// The descriptor at which a worker finds its socket.
const DESCRIPTOR: i32 = 3;
/// The exit code of a worker that lost its agent.
const EXIT_WITHOUT_AGENT: i32 = 70;

type Serve = Box<dyn FnOnce(System) -> Pin<Box<dyn Future<Output = Result> + Send>> + Send>;

/// A program that runs actors; made by [`worker!`](crate::worker).
#[must_use = "call `run()`"]
#[derive(Default)]
pub struct Worker {
    kinds: Vec<&'static ActorType>,
    listeners: Vec<(String, String)>,
    capabilities: Vec<(String, Value)>,
    /// Besides those, where there is no agent.
    alone: Vec<(String, Value)>,
    serve: Option<Serve>,
    restless: Option<bool>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("types", &self.kinds).field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

/// A worker that runs actors of the given types: `odeon::worker![Question, Cast].run()`.
///
/// It expands to `odeon::Worker::new().register::<Question>().register::<Cast>()`.
#[macro_export]
macro_rules! worker {
    ($($actor:ty),* $(,)?) => { $crate::Worker::new()$(.register::<$actor>())* };
}

impl Worker {
    /// A worker that runs nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an actor type.
    pub fn register<A: Actor>(mut self) -> Self {
        self.kinds.push(ActorType::of::<A>());
        self
    }

    /// Asks for a listening socket, which [`Worker::serve`] takes by `system.listener(name)`.
    ///
    /// Under an agent the agent binds it, where its operator said or at `address`; alone the program binds `address`.
    pub fn listen(mut self, name: impl Into<String>, address: impl Into<String>) -> Self {
        self.listeners.push((name.into(), address.into()));
        self
    }

    /// Gives the host a capability while this worker lives.
    pub fn capability(mut self, key: impl Into<String>, value: impl Into<Capability>) -> Self {
        self.capabilities.push((key.into(), value.into().0));
        self
    }

    /// Gives the host a capability where there is no agent, whose operator would say what a host can do.
    pub fn capability_if_alone(mut self, key: impl Into<String>, value: impl Into<Capability>) -> Self {
        self.alone.push((key.into(), value.into().0));
        self
    }

    /// Runs a function beside the actors, such as a web server. Its error ends the worker.
    pub fn serve<F, S>(mut self, serve: S) -> Self
    where
        S: FnOnce(System) -> F + Send + 'static,
        F: Future<Output = Result> + Send + 'static,
    {
        self.serve = Some(Box::new(|system| Box::pin(serve(system))));
        self
    }

    /// Whether every message takes its wire form on the way, inside the process too; for tests.
    pub fn restless(mut self, restless: bool) -> Self {
        self.restless = Some(restless);
        self
    }

    /// Runs until the agent, or a signal, says stop.
    ///
    /// Logs go to standard error, at level `info` unless `RUST_LOG` says otherwise.
    ///
    /// # Errors
    /// The agent refuses the worker, a socket cannot be bound, or `serve` answers an error.
    pub fn run(self) -> Result {
        log_to_stderr();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        if std::env::var_os(ENVIRONMENT).is_some_and(|value| value == "3") {
            runtime.block_on(self.run_under_agent(inherited_socket()?))
        } else {
            runtime.block_on(self.run_alone())
        }
    }

    /// Runs as a worker of the agent at the other end of `socket`, inside this process, until either of them stops.
    ///
    /// # Errors
    /// As [`Worker::run`]; also [`Error::Unreachable`] if the agent goes away.
    pub async fn run_in(self, socket: Socket) -> Result {
        let (system, link, served) = self.attached(Dial::Given(socket)).await?;
        let state = link.watch();
        match until_end(state, served).await {
            End::Stop => {
                stop(&system, &link).await;
                Ok(())
            }
            End::Served(result) => {
                stop(&system, &link).await;
                result
            }
            End::Lost(why) => {
                abandon(&system).await;
                Err(Error::new(Reason::Unreachable, why))
            }
        }
    }

    /// Becomes a worker of the agent at the other end of `socket`, and goes on by itself.
    ///
    /// # Errors
    /// The agent refuses it.
    pub async fn attach(self, socket: Socket) -> Result<System> {
        let (system, link, served) = self.attached(Dial::Given(socket)).await?;
        let (running, state) = (system.clone(), link.watch());
        tokio::spawn(async move {
            match until_end(state, served).await {
                End::Stop => stop(&running, &link).await,
                End::Served(result) => {
                    if let Err(error) = result {
                        tracing::error!(error = %crate::chain(&error), "the worker's own service failed");
                    }
                    stop(&running, &link).await;
                }
                End::Lost(_) => abandon(&running).await,
            }
        });
        Ok(system)
    }

    async fn run_under_agent(self, socket: OwnedFd) -> Result {
        let (system, link, served) = self.attached(Dial::Inherited(socket)).await?;
        tracing::info!(host = system.host(), "runs as a worker of the agent");
        let mut terminate = signal(SignalKind::terminate())?;
        // Ctrl-C goes to the whole group of processes: the agent gets it too, and says what is to be done.
        let _interrupt = signal(SignalKind::interrupt())?;
        let end = tokio::select! {
            end = until_end(link.watch(), served) => end,
            _ = terminate.recv() => End::Stop,
        };
        match end {
            End::Stop => {
                stop(&system, &link).await;
                Ok(())
            }
            End::Served(result) => {
                stop(&system, &link).await;
                result
            }
            End::Lost(why) => {
                tracing::error!("{why}: this worker ends");
                std::process::exit(EXIT_WITHOUT_AGENT);
            }
        }
    }

    async fn attached(mut self, dial: Dial) -> Result<(System, Arc<Link>, Option<JoinHandle<Result>>)> {
        let greeted = greet(dial, self.hello()).await?;
        let system = system_of(&greeted.link, &greeted.admitted.welcome, self.restless)?;
        self.kinds.iter().for_each(|kind| system.inner.know(kind));
        system.inner.capabilities.write().extend(std::mem::take(&mut self.capabilities));
        let names = greeted.admitted.welcome.listeners.clone();
        let mut greeted = greeted;
        for (name, descriptor) in names.into_iter().zip(std::mem::take(&mut greeted.admitted.listeners)) {
            system.add_listener(&name, TcpListener::from(descriptor));
        }
        let link = greeted.link.clone();
        greeted.begin(&system.inner);
        let served = self.serve.map(|serve| system.spawn(serve(system.clone())));
        link.say(&ToAgent::Listening);
        Ok((system, link, served))
    }

    /// Its actor types.
    pub(crate) fn types(&self) -> impl Iterator<Item = &'static ActorType> {
        self.kinds.iter().copied()
    }

    /// What it says of itself to an agent.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            types: self.kinds.iter().map(|kind| kind.info()).collect(),
            listeners: self.listeners.clone(),
            capabilities: self.capabilities.clone(),
            ..hello(Role::Worker)
        }
    }

    async fn run_alone(self) -> Result {
        // First of all: whoever reads that it runs may stop it.
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut system = System::local();
        if let Some(restless) = self.restless {
            system = system.restless(restless);
        }
        self.kinds.iter().for_each(|kind| system.inner.know(kind));
        system.inner.capabilities.write().extend(self.capabilities.into_iter().chain(self.alone));
        let mut bound = Vec::new();
        for (name, address) in &self.listeners {
            let listener = TcpListener::bind(address)
                .map_err(|error| Error::other(format!("cannot listen at {address} for {name}: {error}")))?;
            bound.push(format!("{name} at {}", listener.local_addr()?));
            system.add_listener(name, listener);
        }
        let listens = if bound.is_empty() { String::new() } else { format!(", {}", bound.join(", ")) };
        tracing::info!("runs alone, as no agent started it{listens}");
        let served = self.serve.map(|serve| system.spawn(serve(system.clone())));
        let result = tokio::select! {
            result = finished(served) => result,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        };
        tokio::select! {
            () = system.stop() => result,
            // Asked twice: at once.
            _ = interrupt.recv() => std::process::exit(130),
        }
    }
}

/// Why a worker ends.
enum End {
    Stop,
    Served(Result),
    Lost(String),
}

async fn until_end(mut state: watch::Receiver<State>, served: Option<JoinHandle<Result>>) -> End {
    let told = async {
        match state.wait_for(|state| !matches!(state, State::Up)).await.as_deref() {
            Ok(State::Lost(why)) => End::Lost(why.clone()),
            Ok(State::Up | State::Stop) => End::Stop,
            Err(_) => End::Lost("the link to the agent is gone".to_owned()),
        }
    };
    tokio::select! {
        end = told => end,
        result = finished(served) => End::Served(result),
    }
}

/// The end of `serve`, if there is one and it is an error or says that all is done.
async fn finished(served: Option<JoinHandle<Result>>) -> Result {
    let Some(served) = served else { return std::future::pending().await };
    match served.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(Error::other(format!("the worker's own service panicked: {error}"))),
        Err(_) => std::future::pending().await,
    }
}

/// Stops gracefully: actors run `stopping`, then the agent is told.
async fn stop(system: &System, link: &Arc<Link>) {
    system.stop().await;
    // Until the link's thread has sent the last word.
    let mut state = link.watch();
    let _ = timeout(STOP_GRACE, state.wait_for(|state| matches!(state, State::Lost(_)))).await;
}

/// Ends everything at once: what these actors were is the agent's to decide, and it is gone.
async fn abandon(system: &System) {
    const PATIENCE: Duration = Duration::from_secs(1);
    system.inner.stopping.send_replace(true);
    end_all(&system.inner, true);
    let emptied = async {
        while system.inner.registry.len() > 0 {
            sleep(Duration::from_millis(2)).await;
        }
    };
    let _ = timeout(PATIENCE, emptied).await;
    system.inner.shut_down();
}

/// A system whose outside is that link.
pub(crate) fn system_of(
    link: &Arc<Link>,
    welcome: &odeon_protocol::control::Welcome,
    restless: Option<bool>,
) -> Result<System> {
    let config = Config {
        node: welcome.node,
        boot: welcome.boot,
        host: welcome.host.clone(),
        block: welcome.block,
        restless: restless.unwrap_or(false),
        ..Config::default()
    };
    let inner = Inner::start(config)?;
    inner.set_outside(Arc::new(Beyond(link.clone())));
    inner.own_block(welcome.placed_block);
    inner.capabilities.write().extend(welcome.capabilities.iter().cloned());
    Ok(System { inner })
}

/// The socket that the agent left at descriptor 3.
#[expect(unsafe_code, reason = "an inherited descriptor is known by its number alone")]
fn inherited_socket() -> Result<OwnedFd> {
    // SAFETY: `ODEON_WORKER_FD=3` is the agent's word that descriptor 3 is open and this process's to own; `run` is called
    // once, and it is checked below that it is a socket.
    let socket = unsafe { OwnedFd::from_raw_fd(DESCRIPTOR) };
    if let Err(error) = rustix::net::sockopt::socket_type(socket.as_fd()) {
        // Not ours to close.
        std::mem::forget(socket);
        let text = format!(
            "{ENVIRONMENT}=3 is set, but descriptor {DESCRIPTOR} is no socket ({error}): let an agent start it"
        );
        return Err(Error::new(Reason::Unreachable, text));
    }
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).map_err(std::io::Error::from)?;
    Ok(socket)
}

fn log_to_stderr() {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // The program may have its own by now.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}
