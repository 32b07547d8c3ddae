//! Small worlds for this crate's tests.

use crate::directory::{Claim, Command, Convention, Declaration, Directory, Joiner, RequestId, Role, Secret};
use odeon_protocol::{
    Boot, ConventionId, Direct, NodeId, Serial,
    control::{Policy, WireCodec},
    level::FIRST_LEVEL,
};
use std::sync::Arc;

pub(crate) fn node(number: u64) -> NodeId {
    NodeId(number)
}

pub(crate) fn boot(number: u64) -> Boot {
    Boot(number)
}

pub(crate) fn named(name: &str) -> Arc<str> {
    name.into()
}

/// Every actor has serial 5, on its host's first boot unless another is said.
pub(crate) fn place(host: u64, boot_number: u64) -> Direct {
    Direct { node: node(host), boot: boot(boot_number), serial: Serial(5) }
}

/// A voter `host-<number>` in its first boot.
pub(crate) fn joiner(number: u64) -> Joiner {
    Joiner {
        node: node(number),
        key_hash: [number as u8; 32],
        name: format!("host-{number}"),
        address: format!("h{number}:7400"),
        boot: boot(1),
        role: Role::Voter,
        witness: false,
        level: FIRST_LEVEL,
    }
}

/// A convention of host 1.
pub(crate) fn founded() -> Directory {
    let mut directory = Directory::default();
    directory.apply(&Command::Found {
        convention: Convention { id: ConventionId(0xc0), ca_cert: vec![4, 5, 6] },
        ca_key: Secret(vec![1, 2, 3]),
        founder: joiner(1),
    });
    directory
}

pub(crate) fn declaration() -> Declaration {
    Declaration {
        type_name: named("poll.question"),
        args: b"key".to_vec(),
        codec: WireCodec::Key,
        policy: Policy::default(),
        on: None,
        parent: Direct::NONE,
    }
}

pub(crate) fn claim_of(request: u64, name: &str, host: u64, epoch_seen: u64) -> Claim {
    Claim {
        request: RequestId { node: node(host), boot: boot(1), number: request },
        name: named(name),
        declaration: declaration(),
        holder: place(host, 1),
        generation: 1,
        epoch_seen,
    }
}

pub(crate) fn claim(request: u64, name: &str, host: u64, epoch_seen: u64) -> Command {
    Command::Claim(claim_of(request, name, host, epoch_seen))
}
