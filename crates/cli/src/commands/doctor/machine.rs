//! What the facts say of the machine: certificate, socket, disk, limits.

use super::{Finding, convention::span};
use odeon_node::doctor::{Certificate, Disk, Socket, Writes};

/// An agent looks every ten minutes whether its certificate is to be renewed, and tries again until it is.
const OVERDUE_S: i64 = 900;
/// Voters that write more slowly lose leases.
const SLOW_US: u64 = 100_000;
/// Free on the disk: bytes, and as a part of all.
const FREE_BYTES: u64 = 1 << 30;
const FREE_PART: u64 = 20;
const FILES: u64 = 1024;

pub(super) fn certificate(certificate: Certificate) -> Finding {
    let what = "certificate";
    let Certificate { left_s, renewal_in_s } = certificate;
    let ago = |seconds: i64| span(seconds.unsigned_abs());
    let advice = "any voter that this host reaches renews it: mend the findings above, and see the agent's log";
    if left_s <= 0 {
        let text = format!("it ended {} ago, so other hosts refuse this one: {advice}", ago(left_s));
        return Finding::look(what, text);
    }
    if renewal_in_s < -OVERDUE_S {
        let text = format!(
            "its renewal is overdue since {}; in {} it ends and other hosts refuse this one: {advice}",
            ago(renewal_in_s),
            ago(left_s)
        );
        return Finding::look(what, text);
    }
    let renewal = if renewal_in_s > 0 { format!("in {}", ago(renewal_in_s)) } else { "now".to_owned() };
    Finding::good(what, format!("holds for {}; is renewed {renewal}", ago(left_s)))
}

pub(super) fn socket(socket: &Socket) -> [Finding; 2] {
    [buffers(socket), batches(socket)]
}

fn buffers(socket: &Socket) -> Finding {
    let what = "socket buffers";
    let Socket { send_bytes, receive_bytes, wanted_bytes, .. } = *socket;
    let has = format!("the UDP socket has {} to send and {} to receive", bytes(send_bytes), bytes(receive_bytes));
    if send_bytes.min(receive_bytes) >= wanted_bytes {
        return Finding::good(what, has);
    }
    let text = format!(
        "{has}, {} were asked for: bursts between hosts lose packets and slow down: \
         sysctl -w net.core.rmem_max={wanted_bytes} net.core.wmem_max={wanted_bytes}, then restart the agent",
        bytes(wanted_bytes)
    );
    Finding::look(what, text)
}

fn batches(socket: &Socket) -> Finding {
    let what = "batched sending";
    match socket.segments {
        0 | 1 => Finding::look(
            what,
            "off: the kernel takes one packet a system call (no UDP GSO), so traffic between hosts costs several times the \
             processor time: use Linux 4.18 or later, and a network driver and container runtime that allow it",
        ),
        segments => Finding::good(what, format!("up to {segments} packets leave by one system call (UDP GSO)")),
    }
}

pub(super) fn disk(disk: &Disk) -> Vec<Finding> {
    let mut findings = vec![data_directory(disk)];
    findings.extend(disk.writes.map(disk_writes));
    findings
}

fn data_directory(disk: &Disk) -> Finding {
    let (what, path) = ("data directory", disk.path.display());
    if let Some(why) = &disk.failed {
        return Finding::look(
            what,
            format!(
                "{path}: a test write failed: {why}: the agent keeps this host's identity and the directory there: see to \
                 its owner, its space and its disk"
            ),
        );
    }
    if !disk.exposed.is_empty() {
        let text = format!(
            "other users of this machine may read {} in {path}, which hold keys of this host and convention: chmod 700 {path}",
            disk.exposed.join(" and ")
        );
        return Finding::look(what, text);
    }
    let free = format!("{path} has {} free of {}", bytes(disk.free_bytes), bytes(disk.bytes));
    if disk.free_bytes < FREE_BYTES || disk.free_bytes < disk.bytes / FREE_PART {
        let text = format!("{free}: an agent whose disk is full ends, and its names move to other hosts: make room");
        return Finding::look(what, text);
    }
    Finding::good(what, free)
}

fn disk_writes(writes: Writes) -> Finding {
    let what = "disk writes";
    let took = format!(
        "a small write and its fsync take {} (median), {} (p99), of {} tried",
        millis(writes.median_us),
        millis(writes.p99_us),
        writes.count
    );
    if writes.p99_us <= SLOW_US {
        return Finding::good(what, took);
    }
    let text = format!(
        "{took}: leases may run out, and global names move, while a voter writes so slowly: use a local SSD for --data, and \
         nothing else that writes much to it"
    );
    Finding::look(what, text)
}

pub(super) fn open_files(limit: Option<u64>) -> Finding {
    let what = "open files";
    match limit {
        Some(files) if files < FILES => Finding::look(
            what,
            format!(
                "the limit is {files}: each worker, client and HTTP connection takes one: raise it (ulimit -n 4096, or \
                 LimitNOFILE= in the unit), then restart the agent"
            ),
        ),
        Some(files) => Finding::good(what, format!("the limit is {files}")),
        None => Finding::good(what, "no limit"),
    }
}

fn millis(micros: u64) -> String {
    match micros {
        0..=9999 => format!("{:.1} ms", micros as f64 / 1000.0),
        _ => format!("{} ms", micros / 1000),
    }
}

/// A size as people say it.
fn bytes(bytes: impl TryInto<u64>) -> String {
    let bytes = bytes.try_into().unwrap_or(u64::MAX);
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests;
