//! One worker process from its start to its end: a child of the agent, or one of a simulation.

use super::{
    output::{self, Tail},
    spawner::{self, Spawned},
};
use crate::config::WorkerCommand;
use odeon_protocol::ExitCause;
use odeon_transport::socket::Socket;
use std::{
    fmt, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};
use tokio::{io::unix::AsyncFd, net, sync::watch, task::JoinHandle, time};
use tokio_util::sync::CancellationToken;

/// The rest of a process's output is waited for so long after its end.
const OUTPUT_WAIT: Duration = Duration::from_millis(200);
/// `SIGKILL`.
const KILLED: i32 = 9;

/// A worker process of a simulation.
#[derive(Debug)]
pub struct Simulated {
    /// Its number.
    pub pid: u32,
    /// The agent's end of its socket.
    pub socket: Socket,
    /// Cancelled when the agent kills it.
    pub kill: CancellationToken,
    /// How it ended, once it has.
    pub ended: watch::Receiver<Option<ExitCause>>,
}

/// Starts such processes.
#[derive(Clone)]
pub struct Spawn(pub Arc<dyn Fn(&WorkerCommand) -> Simulated + Send + Sync>);

impl fmt::Debug for Spawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spawn")
    }
}

/// A process and what is watched of it. Dropping it ends it.
pub(super) struct Process {
    body: Body,
    socket: Option<Unopened>,
}

enum Body {
    Child(Child),
    Simulated { pid: u32, kill: CancellationToken, ended: watch::Receiver<Option<ExitCause>> },
}

struct Child {
    child: std::process::Child,
    pidfd: AsyncFd<OwnedFd>,
    output: JoinHandle<io::Result<()>>,
    ended: Option<ExitStatus>,
}

/// A socket that becomes one of the runtime on which it is opened.
pub(super) enum Unopened {
    Unix(UnixStream),
    Memory(Socket),
}

impl Unopened {
    pub(super) fn open(self) -> io::Result<Socket> {
        match self {
            Self::Unix(socket) => {
                socket.set_nonblocking(true)?;
                Ok(net::UnixStream::from_std(socket)?.into())
            }
            Self::Memory(socket) => Ok(socket),
        }
    }
}

impl Process {
    pub(super) fn new(spawned: Spawned, name: &str, tail: &Tail) -> io::Result<Self> {
        let Spawned { child, pidfd, socket, output } = spawned;
        let output = tokio::spawn(output::follow(output.into(), name.to_owned(), tail.clone()));
        let body = Body::Child(Child { child, pidfd: spawner::watch(pidfd)?, output, ended: None });
        Ok(Self { body, socket: Some(Unopened::Unix(socket)) })
    }

    pub(super) fn simulated(Simulated { pid, socket, kill, ended }: Simulated) -> Self {
        Self { body: Body::Simulated { pid, kill, ended }, socket: Some(Unopened::Memory(socket)) }
    }

    pub(super) fn take_socket(&mut self) -> Option<Unopened> {
        self.socket.take()
    }

    pub(super) fn pid(&self) -> u32 {
        match &self.body {
            Body::Child(child) => child.child.id(),
            Body::Simulated { pid, .. } => *pid,
        }
    }

    pub(super) fn kill(&self) {
        match &self.body {
            Body::Child(child) => child.kill(),
            Body::Simulated { kill, .. } => kill.cancel(),
        }
    }

    /// Waits for the end; may be called, and dropped, any number of times.
    pub(super) async fn wait(&mut self) -> ExitCause {
        match &mut self.body {
            Body::Child(child) => child.wait().await,
            Body::Simulated { ended, .. } => {
                let end = ended.wait_for(Option::is_some).await;
                end.ok().and_then(|end| end.clone()).unwrap_or(ExitCause::WorkerKilled { signal: KILLED })
            }
        }
    }

    pub(super) async fn rest_of_output(&mut self) {
        if let Body::Child(child) = &mut self.body {
            // Something that it started may hold the pipe open.
            let _ = time::timeout(OUTPUT_WAIT, &mut child.output).await;
            child.output.abort();
        }
    }
}

impl Child {
    fn kill(&self) {
        // It may have ended by itself just now.
        let _ = rustix::process::pidfd_send_signal(self.pidfd.as_fd(), rustix::process::Signal::KILL);
    }

    async fn wait(&mut self) -> ExitCause {
        loop {
            if let Some(status) = self.ended {
                return cause_of(status);
            }
            match self.child.try_wait() {
                Ok(Some(status)) => self.ended = Some(status),
                Ok(None) => match self.pidfd.readable().await {
                    Ok(mut ready) if matches!(self.child.try_wait(), Ok(None)) => ready.clear_ready(),
                    _ => {}
                },
                Err(error) => return ExitCause::Failed(format!("its end was not seen: {error}")),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        match &mut self.body {
            Body::Child(child) if child.ended.is_none() => {
                child.kill();
                let _ = child.child.wait();
            }
            Body::Child(_) => {}
            Body::Simulated { kill, .. } => kill.cancel(),
        }
    }
}

fn cause_of(status: ExitStatus) -> ExitCause {
    match (status.signal(), status.code()) {
        (Some(signal), _) => ExitCause::WorkerKilled { signal },
        (None, code) => ExitCause::WorkerExited { code: code.unwrap_or(0) },
    }
}
