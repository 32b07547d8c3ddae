//! What an agent finds when it looks at itself, for `odeon doctor` to judge. Facts only: what is good and what is not is
//! decided where they are shown.
//!
//! They travel as JSON. A field that an agent does not know yet is missing there and has its default here.

mod disk;

use crate::convention;
pub use disk::{Turn, disk};
use odeon_transport::quic::SocketFacts;
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// This host's name.
    pub host: String,
    /// Its agent's version.
    pub version: String,
    /// The newest command of the directory that its agent understands.
    pub feature_level: u16,
    /// Who leads, by name.
    pub leader: Option<String>,
    /// The UDP address that its agent listens on.
    pub listens_on: String,
    /// What others dial.
    pub address: String,
    /// The other hosts: those that were asked, and those that are not up.
    pub hosts: Vec<Host>,
    /// How many of the convention's were not asked.
    pub not_asked: usize,
    /// What hosts say that dialled this one on request.
    pub dialled_back: Vec<DialBack>,
    /// The agent's UDP socket.
    pub socket: Option<Socket>,
    /// This host's certificate.
    pub certificate: Option<Certificate>,
    /// The data directory.
    pub disk: Option<Disk>,
    /// Files that the agent may have open; nothing if there is no limit.
    pub open_files: Option<u64>,
}

/// Another host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// What is dialled to reach it.
    pub address: String,
    /// How it is, as `odeon hosts` shows it.
    pub state: String,
    /// Whether it was asked: there may be too many for that.
    pub asked: bool,
    /// Set if it was asked and did not answer.
    pub silence: Option<Silence>,
    /// Its agent's version; nothing if it did not say.
    pub version: Option<String>,
    /// See [`Facts::feature_level`].
    pub feature_level: Option<u16>,
    /// Its clock.
    pub clock: Option<Clock>,
}

/// Why a host did not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Silence {
    /// What the last dial came to.
    pub why: String,
    /// Dials that came to nothing since it was connected last.
    pub dials: u32,
    /// Since the first of these.
    pub seconds: u64,
}

/// Another host's time of day beside this one's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clock {
    /// How far it is ahead, give or take half the round trip; negative if it is behind.
    pub ahead_us: i64,
    /// The round trip in which that was found.
    pub round_trip_us: u64,
}

/// What became of a host's dial to this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DialBack {
    /// Which host.
    pub by: String,
    /// What it dialled; nothing if it did not.
    pub address: Option<String>,
    /// Why it did not reach this host, or did not try.
    pub failed: Option<String>,
}

/// A UDP socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Socket {
    /// Bytes that may wait to be sent.
    pub send_bytes: usize,
    /// Bytes that may wait to be read.
    pub receive_bytes: usize,
    /// What was asked for, each way.
    pub wanted_bytes: usize,
    /// Datagrams that one system call may send.
    pub segments: usize,
}

impl From<SocketFacts> for Socket {
    fn from(facts: SocketFacts) -> Self {
        let SocketFacts { send_bytes, receive_bytes, wanted_bytes, segments } = facts;
        Self { send_bytes, receive_bytes, wanted_bytes, segments }
    }
}

/// How long a certificate holds. Negative seconds are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// Until it ends.
    pub left_s: i64,
    /// Until it is to be renewed.
    pub renewal_in_s: i64,
}

/// A data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// Where.
    pub path: PathBuf,
    /// What its file system has, and what of it is free for this user.
    pub bytes: u64,
    /// See `bytes`.
    pub free_bytes: u64,
    /// Files with keys in it that other users of the machine may read.
    pub exposed: Vec<String>,
    /// Small writes, each brought to the disk.
    pub writes: Option<Writes>,
    /// What could not be done.
    pub failed: Option<String>,
}

/// How long a small write and its fsync take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Writes {
    /// How many were done.
    pub count: usize,
    /// The middle one, in microseconds.
    pub median_us: u64,
    /// 99 of 100 take no longer.
    pub p99_us: u64,
}

/// Looks at everything. Takes about 7 s at most.
pub async fn gather(convention: convention::Handle, data: PathBuf, turn: Turn) -> Facts {
    let (facts, disk) = tokio::join!(convention.examine(), disk(data, turn));
    Facts { disk: Some(disk), open_files: open_files(), ..facts }
}

/// Files that this process may have open; nothing if there is no limit.
#[must_use]
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_another_version_are_read() {
        let facts: Facts = serde_json::from_str(r#"{ "host": "h1", "hosts": [{ "name": "h2", "new": 1 }] }"#).unwrap();
        assert_eq!((facts.host.as_str(), facts.hosts[0].name.as_str(), facts.disk), ("h1", "h2", None));
    }
}
