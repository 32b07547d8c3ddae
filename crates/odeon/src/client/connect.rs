//! A whole system as a client of the host's agent.

use super::socket_path;
use crate::{
    core::current,
    error::Result,
    link::{
        handshake::hello,
        thread::{Dial, greet},
    },
    system::System,
    worker::system_of,
};
use odeon_protocol::control::Role;
use odeon_transport::socket::Socket;
use std::path::Path;

impl System {
    /// Connects to the agent of this host, named by `ODEON_AGENT` or at its default path.
    ///
    /// Inside an actor it is the actor's own system, without another hop.
    ///
    /// # Errors
    /// [`Error::Unreachable`](crate::Error::Unreachable) if there is no agent, with what to do; the agent's refusal.
    pub async fn connect() -> Result<Self> {
        if let Some(inner) = current::system() {
            return Ok(Self { inner });
        }
        Self::connect_to(&socket_path()).await
    }

    /// Connects to the agent that listens at `path`.
    ///
    /// # Errors
    /// As [`System::connect`].
    pub async fn connect_to(path: &Path) -> Result<Self> {
        client(Dial::Path(path.to_owned())).await
    }

    /// Becomes a client of the agent at the other end of a link inside this process.
    ///
    /// # Errors
    /// The agent refuses it.
    pub async fn connect_in(socket: Socket) -> Result<Self> {
        client(Dial::Given(socket)).await
    }
}

async fn client(dial: Dial) -> Result<System> {
    let greeted = greet(dial, hello(Role::Client)).await?;
    let system = system_of(&greeted.link, &greeted.admitted.welcome, None)?;
    greeted.begin(&system.inner);
    Ok(system)
}
