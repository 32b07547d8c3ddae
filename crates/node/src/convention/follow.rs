//! The change stream: every agent that the Raft log does not feed follows a voter's directory.
//!
//! - **F-1.** The stream resumes after the version that the copy has; where a voter has forgotten the steps between, it
//!   sends the whole directory, without secrets.
//! - **F-2.** A stream that is silent for [`SILENT_MAX`] is given up for another voter's.

use super::{
    shared::Shared,
    store::SharedMachine,
    wire::{Request, Step},
};
use odeon_cluster::directory::Directory;
use odeon_protocol::{NodeId, control::encode, level::decode_known};
use odeon_transport::quic::{Publisher, Subscription};
use std::{io, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// Steps in one message.
const STEPS: usize = 512;
/// Bytes of the directory in one message.
const PIECE: usize = 1 << 20;
/// Between two signs of life of a stream.
const ALIVE: Duration = Duration::from_millis(500);
/// A stream without a sign of life for this long is broken.
pub(crate) const SILENT_MAX: Duration = Duration::from_secs(2);
/// For a voter to be reached: others may be nearer.
const DIAL: Duration = Duration::from_millis(1500);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(100);

/// Follows some voter while the log does not feed this agent, until the agent stops.
pub(crate) async fn follow(shared: Arc<Shared>) {
    loop {
        if shared.is_fed() {
            shared.copies.log_feeds();
        } else if shared.copies.is_by_log() {
            shared.copies.log_ended();
        }
        if shared.copies.is_by_log() {
            sleep(ALIVE).await;
            continue;
        }
        for voter in shared.sources() {
            if let Err(error) = follow_one(&shared, voter).await {
                tracing::debug!(%voter, %error, "the change stream ended");
            }
            if shared.copies.is_by_log() {
                break;
            }
        }
        sleep(RETRY).await;
    }
}

async fn follow_one(shared: &Shared, voter: NodeId) -> io::Result<()> {
    let control = timeout(DIAL, shared.peers.control(voter)).await.map_err(|_| io::ErrorKind::TimedOut)?;
    let control = control.map_err(io::Error::other)?;
    let request = Request::Follow { after: shared.copies.version() };
    let mut stream = control.subscribe(encode(&request).into()).await.map_err(io::Error::other)?;
    let mut pieces = Vec::new();
    while let Some(step) = next(&mut stream).await? {
        match step {
            Step::Snapshot { piece, last } => {
                pieces.extend_from_slice(&piece);
                if last {
                    shared.copies.take_snapshot(decode_known::<Directory>(&pieces).map_err(io::Error::other)?);
                    pieces = Vec::new();
                }
            }
            Step::Deltas(deltas) => {
                for delta in deltas {
                    shared.copies.take_delta(&delta).map_err(io::Error::other)?;
                }
            }
            Step::Leadership(leadership) => shared.hear_leadership(&leadership),
        }
        if shared.is_fed() {
            shared.copies.log_feeds();
            if shared.copies.is_by_log() {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn next(stream: &mut Subscription) -> io::Result<Option<Step>> {
    let body = timeout(SILENT_MAX, stream.next()).await.map_err(|_| io::ErrorKind::TimedOut)??;
    body.map(|body| decode_known(&body).map_err(io::Error::other)).transpose()
}

/// Serves a follower until it goes, or this agent is no longer fed by the log.
pub(crate) async fn lead_on(shared: Arc<Shared>, after: u64, mut publisher: Publisher) -> io::Result<()> {
    let Some(group) = &shared.group else { return Ok(()) };
    let (mut at, mut changes) = (after, shared.copies.changes());
    let mut said = Instant::now();
    send(&mut publisher, &Step::Leadership(shared.leadership())).await?;
    while shared.copies.is_by_log() {
        changes.mark_unchanged();
        at = catch_up(&group.machine, at, &mut publisher).await?;
        if said.elapsed() >= ALIVE {
            send(&mut publisher, &Step::Leadership(shared.leadership())).await?;
            said = Instant::now();
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            () = sleep(ALIVE) => {}
            () = shared.leader_changes() => said = Instant::now() - ALIVE,
        }
    }
    Ok(())
}

/// Sends what the follower lacks; answers the version that it has then.
async fn catch_up(machine: &SharedMachine, mut at: u64, publisher: &mut Publisher) -> io::Result<u64> {
    loop {
        let (now, steps) = {
            let machine = machine.read();
            (machine.directory.version(), machine.since(at, STEPS))
        };
        if now == at {
            return Ok(at);
        }
        match steps {
            Some(deltas) => {
                at = deltas.last().map_or(at, |delta| delta.version);
                send(publisher, &Step::Deltas(deltas)).await?;
            }
            None => {
                let copy = machine.read().directory.without_secrets();
                at = copy.version();
                let bytes = encode(&copy);
                let mut pieces = bytes.chunks(PIECE).peekable();
                while let Some(piece) = pieces.next() {
                    let last = pieces.peek().is_none();
                    send(publisher, &Step::Snapshot { piece: piece.to_vec(), last }).await?;
                }
            }
        }
    }
}

async fn send(publisher: &mut Publisher, step: &Step) -> io::Result<()> {
    publisher.send(encode(step).into()).await
}
