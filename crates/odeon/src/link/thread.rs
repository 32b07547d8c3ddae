//! The link's own thread: reading, writing and lazy reports, beside the runners and whatever the program's own tasks do.

use super::{
    Link,
    handshake::{Admitted, handshake},
    receiving::LAZY,
};
use crate::{
    error::{Error, Result},
    system::{Inner, own_serial},
};
use odeon_protocol::{
    Direct, Reason,
    control::{Hello, ToAgent},
};
use odeon_transport::{
    frame_io::{read_frames, write_frames},
    socket::Socket,
    unix,
};
use std::{os::fd::OwnedFd, path::PathBuf, pin::pin, sync::Arc, thread, time::Duration};
use tokio::{
    runtime::Builder,
    sync::oneshot,
    time::{sleep, timeout},
};

/// What each side gives the other to finish once the link is being closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// How often the load is looked at.
const LOAD_EVERY: Duration = Duration::from_secs(1);
/// Beyond so many actors their mailboxes are not looked into: it would cost more than it tells.
const WEIGHED_MAX: u64 = 4096;
const CLOSED: &str = "this process has closed its link to the agent";

/// How the agent is reached.
#[derive(Debug)]
pub(crate) enum Dial {
    /// Over a socket that this process inherited.
    Inherited(OwnedFd),
    /// By its path.
    Path(PathBuf),
    /// Over a link that is there already.
    Given(Socket),
}

/// A link that has been greeted and does not read yet, as there is no system for it.
pub(crate) struct Greeted {
    pub(crate) link: Arc<Link>,
    pub(crate) admitted: Admitted,
    begin: oneshot::Sender<()>,
}

impl Greeted {
    /// From now on what comes is for that system.
    pub(crate) fn begin(self, system: &Arc<Inner>) {
        self.link.bind(system);
        let _ = self.begin.send(());
    }
}

/// Greets the agent on a new thread, which then keeps the link until either side closes it.
pub(crate) async fn greet(dial: Dial, hello: Hello) -> Result<Greeted> {
    let (sender, greeted) = oneshot::channel();
    let started =
        thread::Builder::new().name("odeon-link".to_owned()).spawn(move || {
            match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(keep(dial, hello, sender)),
                Err(error) => drop(sender.send(Err(Error::other(error)))),
            }
        });
    started.map_err(Error::other)?;
    match greeted.await {
        Ok(greeted) => greeted,
        Err(_) => Err(Error::new(Reason::Unreachable, "the link's thread ended before the agent greeted")),
    }
}

async fn keep(dial: Dial, hello: Hello, sender: oneshot::Sender<Result<Greeted>>) {
    let greeting = async {
        let mut socket = dial.connect().await?;
        let admitted = handshake(&mut socket, hello).await?;
        Ok((socket, admitted))
    };
    let (socket, admitted) = match greeting.await {
        Ok(greeting) => greeting,
        Err(error) => return drop(sender.send(Err(error))),
    };
    let welcome = &admitted.welcome;
    let link = Link::new(Direct { node: welcome.node, boot: welcome.boot, serial: own_serial(welcome.block) });
    let (begin, begun) = oneshot::channel();
    if sender.send(Ok(Greeted { link: link.clone(), admitted, begin })).is_err() || begun.await.is_err() {
        return;
    }
    serve(link, socket).await;
}

async fn serve(link: Arc<Link>, socket: Socket) {
    let (reader, writer) = socket.split();
    let outbox = link.outbox.clone();
    let mut writing = tokio::spawn(async move { write_frames(&outbox, writer).await });
    let reporting = tokio::spawn(report_lazily(link.clone()));
    let weighing = tokio::spawn(report_load(link.clone()));
    let counting = tokio::spawn(link.clone().report_counts());
    let taking = link.clone();
    let mut reading = pin!(read_frames(reader, link.inlet(), move |batch| {
        taking.take_batch(batch);
        taking.start_reading_large();
    }));
    let said = |end| match end {
        Ok(()) => "the agent has gone away".to_owned(),
        Err(error) => format!("the link to the agent broke: {error}"),
    };
    let why = tokio::select! {
        end = &mut reading => said(end),
        () = link.broken.notified() => "the agent does not keep to the protocol".to_owned(),
        _ = &mut writing => {
            // Closed from this side, or no longer writable: what the agent sent before is still read.
            link.say_lost(CLOSED);
            match timeout(FAREWELL, reading).await {
                Ok(end) => said(end),
                Err(_) => CLOSED.to_owned(),
            }
        }
    };
    reporting.abort();
    weighing.abort();
    counting.abort();
    link.lose(&why);
    if !writing.is_finished() {
        // What was queued before the end may still go.
        let _ = timeout(FAREWELL, writing).await;
    }
}

async fn report_lazily(link: Arc<Link>) {
    loop {
        link.reports.notified().await;
        sleep(LAZY).await;
        link.report();
    }
}

/// Tells the agent how much is to do here, whenever that has changed.
async fn report_load(link: Arc<Link>) {
    let mut told = (0, 0);
    loop {
        sleep(LOAD_EVERY).await;
        let Some(system) = link.system() else { continue };
        let actors = system.registry.len() as u64;
        let cells = if actors <= WEIGHED_MAX { system.registry.all() } else { Vec::new() };
        let waiting = cells.iter().map(|cell| cell.head().load().0 as u64).sum();
        drop((cells, system));
        if told != (actors, waiting) {
            told = (actors, waiting);
            link.say(&ToAgent::Load { actors, waiting });
        }
    }
}

impl Dial {
    async fn connect(self) -> Result<Socket> {
        match self {
            Self::Given(socket) => Ok(socket),
            Self::Inherited(descriptor) => match unix::adopt(descriptor) {
                Ok(stream) => Ok(stream.into()),
                Err(error) => {
                    Err(Error::new(Reason::Unreachable, format!("the inherited socket is not usable: {error}")))
                }
            },
            Self::Path(path) => match unix::connect(&path).await {
                Ok(stream) => Ok(stream.into()),
                Err(error) => {
                    let text = format!(
                        "no agent listens at {}: {error}: start one with `odeon agent`, or name its socket with ODEON_AGENT",
                        path.display()
                    );
                    Err(Error::new(Reason::Unreachable, text))
                }
            },
        }
    }
}
