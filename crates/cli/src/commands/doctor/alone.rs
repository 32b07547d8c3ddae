//! Where no agent answers: what this process can look at by itself, and how to start one.

use super::{Finding, machine};
use crate::failure::Failure;
use odeon_node::{config::DEFAULT_PORT, doctor};
use odeon_transport::quic::try_socket;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

pub(super) async fn look(failure: &Failure, socket: &Path) -> Vec<Finding> {
    let mut findings = vec![agent(failure)];
    findings.extend(port((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into()));
    let beside = socket.parent().filter(|path| !path.as_os_str().is_empty());
    findings.extend(data(beside.unwrap_or(Path::new("."))).await);
    findings.push(machine::open_files(doctor::open_files()));
    findings
}

fn agent(failure: &Failure) -> Finding {
    let how = "the first host's by `odeon agent --bootstrap`, another host's by `odeon agent --join HOST:7400 --token T` \
               with a token from `odeon token create` there";
    Finding::look("agent", format!("{}: {how}", failure.text))
}

/// The port that an agent would take, and what its socket would be given.
fn port(address: SocketAddr) -> Vec<Finding> {
    let what = "udp";
    let (port, other) = (address.port(), SocketAddr::new(address.ip(), 0));
    let mut findings = match try_socket(address) {
        Ok(_) => vec![Finding::good(what, format!("port {port} is free for an agent"))],
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => vec![Finding::look(
            what,
            format!(
                "port {port} is taken by another process: if that is an agent, name its socket with --agent or ODEON_AGENT; \
                 if not, an agent takes a free port, which joiners and firewalls have to know: choose one with --listen"
            ),
        )],
        Err(error) => {
            let text = format!("port {port} cannot be opened: {error}: agents need UDP: see to this machine's network");
            vec![Finding::look(what, text)]
        }
    };
    // Any port tells what the system gives.
    if let Ok(facts) = try_socket(other) {
        findings.extend(machine::socket(&facts.into()));
    }
    findings
}

/// The agent's data directory, if its socket is where it usually is.
async fn data(path: &Path) -> Vec<Finding> {
    let (what, shown) = ("data directory", path.display());
    match path.try_exists() {
        Ok(true) => machine::disk(&doctor::disk(path.to_owned(), doctor::Turn::default()).await),
        Ok(false) => {
            vec![Finding::good(what, format!("{shown} does not exist yet: an agent makes it at its first start"))]
        }
        Err(error) => {
            let text = format!("{shown} cannot be looked into: {error}: run this as the user that the agent runs as");
            vec![Finding::look(what, text)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;

    fn only(findings: &[Finding], what: &str) -> Finding {
        let found: Vec<&Finding> = findings.iter().filter(|finding| finding.what == what).collect();
        assert_eq!(found.len(), 1, "{findings:?}");
        found[0].clone()
    }

    #[tokio::test]
    async fn a_port_is_free_or_taken() {
        let taken = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        let found = only(&port(address), "udp");
        assert!(!found.ok && found.text.contains("taken by another process"), "{found:?}");
        drop(taken);
        let findings = port((Ipv4Addr::LOCALHOST, 0).into());
        assert!(only(&findings, "udp").ok);
        only(&findings, "socket buffers");
        only(&findings, "batched sending");
    }

    #[tokio::test]
    async fn without_an_agent_it_is_said_how_to_start_one() {
        let dir = tempfile::tempdir().unwrap();
        let failure = Failure::new(Code::NoAgent, "no agent listens here");
        let findings = look(&failure, &dir.path().join("agent.sock")).await;
        let agent = only(&findings, "agent");
        assert!(!agent.ok && agent.text.contains("--bootstrap") && agent.text.contains("--join"), "{agent:?}");
        assert!(only(&findings, "data directory").text.contains("free of"));
        only(&findings, "disk writes");
        let findings = look(&failure, &dir.path().join("new/agent.sock")).await;
        let data = only(&findings, "data directory");
        assert!(data.ok && data.text.contains("does not exist yet"), "{data:?}");
    }
}
