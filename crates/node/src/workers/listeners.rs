//! The workers' listening sockets: bound by the agent, passed on, kept while workers come and go.
//!
//! A connection that arrives while a worker restarts waits in the kernel's queue for the next one.

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs},
    os::fd::{AsFd, OwnedFd},
};
use tracing::info;

#[derive(Debug)]
struct Bound {
    socket: TcpListener,
    address: SocketAddr,
    unit: u32,
}

/// All listening sockets of this agent's workers.
#[derive(Debug)]
pub(crate) struct Listeners {
    asked: BTreeMap<String, String>,
    host: Option<Ipv4Addr>,
    bound: HashMap<String, Bound>,
}

impl Listeners {
    /// `asked` replaces declared addresses by name; `host` is where declared loopback addresses are bound.
    pub(crate) fn new(asked: BTreeMap<String, String>, host: Option<Ipv4Addr>) -> Self {
        Self { asked, host, bound: HashMap::new() }
    }

    /// The sockets that a unit's worker declares, bound now or before. An error is one line: what, why, what to do.
    pub(crate) fn take(&mut self, unit: u32, declared: &[(String, String)]) -> Result<Vec<OwnedFd>, String> {
        declared.iter().map(|(name, default)| self.one(unit, name, default)).collect()
    }

    /// Names and addresses of a unit's sockets.
    pub(crate) fn of(&self, unit: u32) -> Vec<(String, String)> {
        let mut own: Vec<_> = self
            .bound
            .iter()
            .filter(|(_, bound)| bound.unit == unit)
            .map(|(name, bound)| (name.clone(), bound.address.to_string()))
            .collect();
        own.sort();
        own
    }

    /// The unit runs no more: its sockets are closed.
    pub(crate) fn release(&mut self, unit: u32) {
        self.bound.retain(|_, bound| bound.unit != unit);
    }

    fn one(&mut self, unit: u32, name: &str, default: &str) -> Result<OwnedFd, String> {
        if let Some(bound) = self.bound.get(name) {
            if bound.unit != unit {
                let address = bound.address;
                return Err(format!(
                    "listener {name:?}: another worker listens on it ({address}): give one of them another name"
                ));
            }
            return copy(&bound.socket, name);
        }
        let socket = match self.asked.get(name) {
            Some(asked) => bind(asked).map_err(|why| {
                format!("listener {name:?} on {asked}: {why}: give another address with --worker-listen {name}=ADDR")
            })?,
            None => self.bind_default(name, default)?,
        };
        let address = socket.local_addr().map_err(|error| format!("listener {name:?}: {error}"))?;
        info!(listener = name, %address, "listening");
        let passed = copy(&socket, name);
        self.bound.insert(name.to_owned(), Bound { socket, address, unit });
        passed
    }

    /// A declared port that is taken moves to a free one.
    fn bind_default(&self, name: &str, default: &str) -> Result<TcpListener, String> {
        let fault = |why: String| {
            format!("listener {name:?} on {default}: {why}: give an address with --worker-listen {name}=ADDR")
        };
        let mut address = resolve(default).map_err(fault)?;
        if let Some(host) = self.host
            && address.ip().is_loopback()
        {
            address.set_ip(host.into());
        }
        TcpListener::bind(address).or_else(|taken| {
            let socket = TcpListener::bind((address.ip(), 0)).map_err(|error| fault(error.to_string()))?;
            info!(listener = name, %address, why = %taken, "the declared port is taken, another one is used");
            Ok(socket)
        })
    }
}

fn bind(address: &str) -> Result<TcpListener, String> {
    TcpListener::bind(resolve(address)?).map_err(|error| error.to_string())
}

fn resolve(address: &str) -> Result<SocketAddr, String> {
    let mut found = address.to_socket_addrs().map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "the name has no address".to_owned())
}

fn copy(socket: &TcpListener, name: &str) -> Result<OwnedFd, String> {
    socket.as_fd().try_clone_to_owned().map_err(|error| format!("listener {name:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(asked: &[(&str, &str)]) -> Listeners {
        Listeners::new(asked.iter().map(|(name, address)| ((*name).to_owned(), (*address).to_owned())).collect(), None)
    }

    fn declared(address: &str) -> Vec<(String, String)> {
        vec![("http".to_owned(), address.to_owned())]
    }

    #[test]
    fn a_socket_is_kept_for_the_next_worker_of_the_unit() {
        let mut listeners = listeners(&[]);
        listeners.take(1, &declared("127.0.0.1:0")).unwrap();
        let address = listeners.of(1);
        listeners.take(1, &declared("127.0.0.1:0")).unwrap();
        assert_eq!(listeners.of(1), address);
        assert!(listeners.take(2, &declared("127.0.0.1:0")).unwrap_err().contains("another worker"));
        listeners.release(1);
        assert!(listeners.take(2, &declared("127.0.0.1:0")).is_ok());
    }

    #[test]
    fn a_declared_port_moves_and_an_asked_one_does_not() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        assert!(listeners(&[]).take(1, &declared(&address)).is_ok());
        let refused = listeners(&[("http", &address)]).take(1, &declared("127.0.0.1:0")).unwrap_err();
        assert!(refused.contains("--worker-listen"), "{refused}");
    }

    #[test]
    fn a_declared_loopback_address_is_bound_on_the_hosts_own() {
        let mut listeners = Listeners::new(BTreeMap::new(), Some(Ipv4Addr::new(127, 0, 0, 2)));
        listeners.take(1, &declared("127.0.0.1:0")).unwrap();
        assert!(listeners.of(1)[0].1.starts_with("127.0.0.2:"));
    }
}
