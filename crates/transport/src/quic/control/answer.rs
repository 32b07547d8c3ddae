//! The end of a control connection that answers.

use super::{ANSWER, Publisher, REQUEST, Room, SUBSCRIBE, Serve, Subscriber, URGENT, URGENT_PRIORITY, Urgency};
use crate::quic::{
    connection::{Code, Peer},
    message,
};
use odeon_protocol::limits::CONTROL_BYTES_MAX;
use std::{io, sync::Arc};

/// Takes streams as long as the connection lives; each is answered in a task of its own. QUIC bounds how many wait here for
/// room, which those of a peer that keeps CO-1 do not.
pub(super) async fn answer_all(connection: quinn::Connection, peer: Peer, serve: Arc<dyn Serve>) {
    let (room, peer) = (Arc::<Room>::default(), Arc::new(peer));
    while let Ok((send, receive)) = connection.accept_bi().await {
        let (connection, peer, serve, room) = (connection.clone(), peer.clone(), serve.clone(), room.clone());
        tokio::spawn(async move {
            let outcome = answer(&peer, &*serve, (send, receive), &room).await;
            if let Err(why) = outcome {
                if matches!(why.kind(), io::ErrorKind::InvalidData) {
                    connection.close(Code::Garbage.into(), why.to_string().as_bytes());
                }
                tracing::debug!(node = %peer.node, %why, "a request broke off");
            }
        });
    }
}

async fn answer(
    peer: &Peer,
    serve: &dyn Serve,
    (mut send, mut receive): (quinn::SendStream, quinn::RecvStream),
    room: &Room,
) -> io::Result<()> {
    let garbage = |text: String| Err(io::Error::new(io::ErrorKind::InvalidData, text));
    let Some((kind, bytes)) = message::begin(&mut receive, CONTROL_BYTES_MAX).await? else {
        return garbage("an empty control stream".into());
    };
    let urgency = if kind == REQUEST { Urgency::Ordinary } else { Urgency::Urgent };
    let permit = room.of(urgency).acquire_owned().await.map_err(io::Error::other)?;
    match kind {
        REQUEST | URGENT => {
            let body = message::rest(&mut receive, bytes).await?;
            let answer = serve.request(peer, body).await;
            if answer.len() > CONTROL_BYTES_MAX {
                let _ = send.reset(Code::Garbage.into());
                return Err(io::Error::other(format!("an answer of {} bytes is over the limit", answer.len())));
            }
            if kind == URGENT {
                let _ = send.set_priority(URGENT_PRIORITY);
            }
            message::write(&mut send, ANSWER, answer).await?;
            drop(permit);
            send.finish().map_err(io::Error::other)
        }
        SUBSCRIBE => {
            let body = message::rest(&mut receive, bytes).await?;
            drop(permit);
            let gone = send.stopped();
            let serving = serve.subscribe(peer, body, Publisher { subscriber: Subscriber::Quic(send) });
            // Dropping the publisher finishes the stream: the subscriber sees the end.
            tokio::select! {
                () = serving => {}
                _ = gone => {}
            }
            Ok(())
        }
        kind => garbage(format!("a control stream of unknown kind {kind}")),
    }
}

pub(super) async fn take_datagrams(connection: quinn::Connection, peer: Peer, serve: Arc<dyn Serve>) {
    while let Ok(body) = connection.read_datagram().await {
        serve.datagram(&peer, body);
    }
}
