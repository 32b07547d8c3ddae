//! Starts processes from one thread that lives as long as the agent.
//!
//! The kernel ends a child with the *thread* that started it (`PR_SET_PDEATHSIG`), so that thread has to be the agent's
//! longest-lived one. The second line is the end of the child's socket.

#![expect(unsafe_code, reason = "pre_exec and the registration of a pidfd; each says why it is sound")]

use super::{
    output::Tail,
    process::{Process, Spawn},
};
use crate::config::WorkerCommand;
use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{PidfdFlags, Signal, getpid, getppid, pidfd_open, set_parent_process_death_signal};
use std::{
    io::{self, PipeReader},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};
use tokio::{io::unix::AsyncFd, sync::oneshot};

/// Where a worker finds its agent's socket, as `ODEON_WORKER_FD` tells it.
const SOCKET_FD: i32 = 3;

/// A process that was started.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) child: Child,
    /// Readable once the process has ended.
    pub(super) pidfd: OwnedFd,
    /// Our end of its socket.
    pub(super) socket: UnixStream,
    /// What it writes to standard output and standard error.
    pub(super) output: PipeReader,
}

/// A process to be started.
#[derive(Debug)]
pub(crate) struct Job {
    command: WorkerCommand,
    reply: oneshot::Sender<io::Result<Spawned>>,
}

/// What starts processes.
#[derive(Clone, Debug)]
pub(crate) enum Spawner {
    /// The thread, which ends with the last of these.
    Thread(mpsc::SyncSender<Job>),
    /// A simulation.
    Simulated(Spawn),
}

impl Spawner {
    /// Starts the thread; `data` is the agent's data directory, which workers find in `ODEON_DATA`.
    pub(crate) fn start(data: PathBuf) -> io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel::<Job>(1024);
        thread::Builder::new().name("odeon-spawner".to_owned()).spawn(move || {
            for job in queue {
                // Nobody waits any more: the agent is ending, and the process ends with its socket.
                let _ = job.reply.send(spawn(&job.command, &data));
            }
        })?;
        Ok(Self::Thread(jobs))
    }

    /// Starts a worker's executable; what it writes goes into the log, under that name, and the last of it is kept.
    pub(super) async fn start_process(
        &self,
        command: &WorkerCommand,
        (name, tail): (&str, &Tail),
    ) -> io::Result<Process> {
        let jobs = match self {
            Self::Thread(jobs) => jobs,
            Self::Simulated(spawn) => return Ok(Process::simulated(spawn.0(command))),
        };
        let (reply, answer) = oneshot::channel();
        let gone = |_| io::Error::other("the agent is stopping");
        jobs.try_send(Job { command: command.clone(), reply }).map_err(|_| io::ErrorKind::WouldBlock)?;
        Process::new(answer.await.map_err(gone)??, name, tail)
    }
}

/// A pidfd to be waited for on the current runtime.
pub(super) fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd gives out the same open descriptor for as long as it lives, and closes it only when dropped.
    unsafe { AsyncFd::register(pidfd) }.map_err(io::Error::from)
}

fn spawn(worker: &WorkerCommand, data: &Path) -> io::Result<Spawned> {
    let (socket, theirs) = UnixStream::pair()?;
    let (output, writer) = io::pipe()?;
    let parent = getpid();
    let mut command = Command::new(&worker.path);
    command
        .args(&worker.args)
        .env("ODEON_WORKER_FD", "3")
        .env("ODEON_DATA", data)
        .env_remove("ODEON_TOKEN")
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        // Ctrl-C at a terminal is for the agent, which then stops its workers in order.
        .process_group(0)
        .fd_mappings(vec![FdMapping { parent_fd: theirs.into(), child_fd: SOCKET_FD }])
        .map_err(io::Error::other)?;
    let die_with_parent = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have ended before the line above: then nobody would send the signal.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(die_with_parent) };
    let mut child = command.spawn()?;
    let pidfd = rustix::process::Pid::from_raw(child.id().cast_signed())
        .ok_or(io::ErrorKind::NotFound.into())
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from));
    match pidfd {
        Ok(pidfd) => Ok(Spawned { child, pidfd, socket, output }),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}
