//! The first frame each way: who this process is, and what the agent makes of it.

use crate::error::{Error, Result};
use odeon_protocol::{
    PROTOCOL_VERSION, Reason,
    control::{self, FromAgent, Hello, Role, ToAgent, Welcome},
    frame::{Class, Extension, Frame, Header, Kind},
    limits::HELLO_WAIT,
};
use odeon_transport::socket::Socket;
use std::os::fd::OwnedFd;
use tokio::time::timeout;

/// What a process learns when it is admitted.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) welcome: Welcome,
    /// The listening sockets, in the order of `welcome.listeners`.
    pub(crate) listeners: Vec<OwnedFd>,
}

/// A `Hello` without types and listeners.
pub(crate) fn hello(role: Role) -> Hello {
    let name = std::env::current_exe().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    Hello {
        protocol: PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role,
        name: name.unwrap_or_default(),
        pid: std::process::id(),
        types: Vec::new(),
        listeners: Vec::new(),
        capabilities: Vec::new(),
    }
}

/// A control message as a frame.
pub(crate) fn control_frame(message: &ToAgent) -> Frame {
    let header = Header { class: Class::Urgent, ..Header::new(Kind::Control) };
    const NONE: &[Extension<'_>] = &[];
    Frame::new(header, NONE, &control::encode(message))
}

/// Says hello and waits for the answer.
pub(crate) async fn handshake(socket: &mut Socket, hello: Hello) -> Result<Admitted> {
    let exchange = async {
        socket.send_first(control_frame(&ToAgent::Hello(hello)).bytes(), &[]).await?;
        socket.receive_first().await
    };
    let (bytes, listeners) = match timeout(HELLO_WAIT, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(Error::new(Reason::Unreachable, format!("the agent does not greet: {error}"))),
        Err(_) => {
            let text =
                format!("the agent does not answer within {HELLO_WAIT:?}: is it an Odeon agent, is it overloaded?");
            return Err(Error::new(Reason::Unreachable, text));
        }
    };
    let wrong = |text: String| Error::new(Reason::Protocol, format!("the agent's greeting: {text}"));
    let frame = Frame::read(bytes.freeze()).map_err(|error| wrong(error.to_string()))?;
    match control::decode::<FromAgent>(&frame.body()).map_err(|error| wrong(error.to_string()))? {
        FromAgent::Welcome(welcome) if welcome.listeners.len() == listeners.len() => {
            Ok(Admitted { welcome, listeners })
        }
        FromAgent::Welcome(welcome) => {
            Err(wrong(format!("{} listeners named, {} passed", welcome.listeners.len(), listeners.len())))
        }
        FromAgent::Refused { text } => {
            Err(Error::new(Reason::Protocol, format!("the agent refused this process: {text}")))
        }
        other => Err(wrong(format!("not a welcome: {other:?}"))),
    }
}
