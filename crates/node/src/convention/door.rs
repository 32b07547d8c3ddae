//! Who may come in.

use super::{
    admission::Admission,
    peers::{Home, Peers},
    server::Server,
};
use odeon_transport::{
    join::Admit,
    quic::{Connection, Door, Kind, Peer},
};
use std::sync::{Arc, Weak};

/// Takes incoming connections, those of large frames on their own runtime and all others on the router's.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) peers: Weak<Peers>,
    pub(crate) server: Arc<Server>,
    pub(crate) admission: Arc<Admission>,
}

impl Door for Entrance {
    fn admits(&self, peer: &Peer, _: Kind) -> Result<(), String> {
        self.server.admits(peer.node)
    }

    fn recovered(&self, recovery: u64) {
        Home::recovered(&*self.server, recovery);
    }

    fn accepted(&self, connection: Connection) {
        let Some(peers) = self.peers.upgrade() else { return };
        match connection.kind() {
            Kind::Control => drop(peers.take_control(connection)),
            Kind::Data | Kind::Large => peers.links.take(connection),
        }
    }

    fn join(&self) -> Option<Arc<dyn Admit>> {
        Some(self.admission.clone())
    }
}
