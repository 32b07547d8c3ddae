//! Network namespaces on one bridge, and cuts between two of them.

use serde_json::Value;
use std::process::Command;

/// The hosts' namespaces, as many of them as a scenario takes.
pub(crate) const HOSTS: [&str; 5] = ["h1", "h2", "h3", "h4", "h5"];

/// What a slow line lets through.
const SLOW_RATE: &str = "300mbit";
/// What waits before a slow line.
const SLOW_QUEUE: &str = "1mb";

/// The address of a host.
pub(crate) fn address(host: usize) -> String {
    format!("10.77.0.{}", host + 1)
}

/// See the module's head. Gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Network {
    hosts: &'static [&'static str],
}

impl Network {
    /// So many hosts, at most all of [`HOSTS`].
    pub(crate) fn new(hosts: usize) -> Self {
        let network = Self { hosts: &HOSTS[..hosts] };
        run("ip link add odeon type bridge");
        run("ip link set odeon up");
        for (number, host) in network.hosts.iter().enumerate() {
            let address = address(number);
            run(&format!("ip netns add {host}"));
            run(&format!("ip link add {host} type veth peer name eth0 netns {host}"));
            run(&format!("ip link set {host} master odeon up"));
            run(&format!("ip -n {host} address add {address}/24 dev eth0"));
            run(&format!("ip -n {host} link set eth0 up"));
            run(&format!("ip -n {host} link set lo up"));
            run(&format!("ip netns exec {host} nft add table inet cut"));
            run(&format!(
                "ip netns exec {host} nft add chain inet cut input {{ type filter hook input priority 0 ; }}"
            ));
        }
        network
    }

    /// From now on a host sends no faster than [`SLOW_RATE`], and what it sends faster waits in a queue, as at a slow line.
    /// Packets go one by one, at every host, so that a cut counts what it would have dropped on the wire.
    pub(crate) fn slow_down(&self, host: usize) {
        for name in self.hosts {
            run(&format!("ip link set {name} gso_max_segs 1"));
            run(&format!("ip -n {name} link set eth0 gso_max_segs 1"));
        }
        run(&format!(
            "tc -n {0} qdisc add dev eth0 root tbf rate {SLOW_RATE} burst 32kb limit {SLOW_QUEUE}",
            HOSTS[host]
        ));
    }

    /// From now on a host lets in only what belongs to what it has begun itself, as firewalls and NAT do.
    pub(crate) fn wall_in(&self, host: usize) -> Cut<'_> {
        run(&format!(
            "ip netns exec {} nft add rule inet cut input ct state new udp dport 7400 counter drop",
            HOSTS[host]
        ));
        Cut(self)
    }

    /// Lets everything pass again, everywhere.
    pub(crate) fn mend(&self) {
        self.hosts.iter().for_each(|host| drop(run(&format!("ip netns exec {host} nft flush chain inet cut input"))));
    }

    /// From now on nothing arrives between the two hosts of each pair, in either direction.
    pub(crate) fn cut(&self, pairs: &[(usize, usize)]) -> Cut<'_> {
        for (one, other) in pairs {
            self.block(*one, *other);
            self.block(*other, *one);
        }
        Cut(self)
    }

    /// From now on nothing arrives at a host from another.
    pub(crate) fn block(&self, to: usize, from: usize) {
        run(&format!(
            "ip netns exec {} nft add rule inet cut input ip saddr {} counter drop",
            self.hosts[to],
            address(from)
        ));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What was not made yet cannot be removed. The link goes first: a namespace takes its time.
        for host in self.hosts {
            drop(Command::new("ip").args(["link", "delete", host]).output());
            drop(Command::new("ip").args(["netns", "delete", host]).output());
        }
        drop(Command::new("ip").args(["link", "delete", "odeon"]).output());
    }
}

/// Hosts that are cut off from each other.
#[derive(Debug)]
pub(crate) struct Cut<'a>(&'a Network);

impl Cut<'_> {
    /// How many packets a host would have got.
    pub(crate) fn dropped(&self, host: usize) -> u64 {
        let rules = run(&format!("ip netns exec {} nft -j list chain inet cut input", HOSTS[host]));
        let rules: Value = serde_json::from_str(&rules).expect("nft prints JSON");
        let rules = rules["nftables"].as_array().expect("a list");
        let counters = rules.iter().filter_map(|item| item["rule"]["expr"].as_array()).flatten();
        counters.filter_map(|part| part["counter"]["packets"].as_u64()).sum()
    }

    /// Lets everything pass again.
    pub(crate) fn mend(self) {
        self.0.mend();
    }
}

/// Runs a command of the system, words by blanks.
#[track_caller]
fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().expect("a command")).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
