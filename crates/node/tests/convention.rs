//! Conventions of several hosts in this process, on loopback: joining, voters, leases, failover, refusals.

use bytes::{Bytes, BytesMut};
use odeon_cluster::directory::{Answer, Claim, Command, Declaration, NameState, Role};
use odeon_node::{
    config::{Bind, Config},
    convention::{Answering, Handle, HostRole, HostState, ProposeError, Service, StartError, now, start},
    identity::DataDir,
};
use odeon_protocol::{
    Direct, NodeId, Serial,
    control::{Policy, Value, WireCodec},
    frame::{Frame, Header, Kind},
    peer::{PeerReply, PeerRequest},
};
use odeon_transport::{
    quic::Undelivered,
    tls::{Authority, NodeKey, PeerCertificate},
};
use parking_lot::Mutex;
use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// For anything to become true.
const SOON: Duration = Duration::from_secs(20);

/// What a host was asked and sent.
#[derive(Default)]
struct Recorder {
    handle: Mutex<Option<Handle>>,
    frames: Mutex<Vec<(NodeId, Bytes)>>,
    adopted: Mutex<Vec<String>>,
    back: Mutex<Vec<(Bytes, bool)>>,
}

impl Service for Recorder {
    fn call(&self, _: NodeId, request: PeerRequest) -> Answering<PeerReply> {
        let handle = self.handle.lock().clone();
        let PeerRequest::Adopt(adoptions) = request else { return Box::pin(async { PeerReply::Done }) };
        self.adopted.lock().extend(adoptions.iter().map(|adoption| adoption.name.to_string()));
        Box::pin(async move {
            let handle = handle.expect("the host runs");
            let mut refused = Vec::new();
            for adoption in adoptions {
                let claim = claim(&handle, &adoption.name, adoption.epoch);
                if let Err(error) = handle.propose(claim).await {
                    refused.push((adoption.name, error.into()));
                }
            }
            PeerReply::Adopted { refused }
        })
    }

    fn frames(&self, from: NodeId, frames: Vec<BytesMut>) {
        self.frames.lock().extend(frames.into_iter().map(|frame| (from, frame.freeze())));
    }

    fn undelivered(&self, _: NodeId, frames: Undelivered) {
        let mut back = self.back.lock();
        back.extend(frames.unknown.into_iter().map(|frame| (frame, true)));
        back.extend(frames.unsent.into_iter().map(|frame| (frame, false)));
    }

    fn unreachable(&self, node: NodeId) {
        let handle = self.handle.lock().clone().expect("the host runs");
        self.undelivered(node, handle.take_back(node, &|_| true));
    }

    fn reachable(&self, _: NodeId, _: bool) {}
}

/// One host of the test: its agent's part in the convention, on a runtime of its own.
struct Host {
    handle: Handle,
    recorder: Arc<Recorder>,
    runtime: Option<Runtime>,
    config: Config,
    dir: TempDir,
}

impl Host {
    fn form(name: &str) -> Self {
        Self::start(name, |config| config.bootstrap = true).expect("the convention is formed")
    }

    fn join(name: &str, through: &Self, token: &str) -> Result<Self, StartError> {
        let address = through.handle.listens_on().to_string();
        Self::start(name, |config| (config.join, config.token) = (vec![address], Some(token.to_owned())))
    }

    fn start(name: &str, change: impl FnOnce(&mut Config)) -> Result<Self, StartError> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::new(name, dir.path());
        config.listen = Bind::asked((Ipv4Addr::LOCALHOST, 0).into());
        change(&mut config);
        Self::start_in(config, dir)
    }

    fn start_in(config: Config, dir: TempDir) -> Result<Self, StartError> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let handle = runtime.block_on(start(&config, runtime.handle().clone()))?;
        let recorder = Arc::new(Recorder::default());
        *recorder.handle.lock() = Some(handle.clone());
        handle.serve(recorder.clone());
        handle.set_types(["test.type".into()].into());
        Ok(Self { handle, recorder, runtime: Some(runtime), config, dir })
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("the host runs").block_on(future)
    }

    fn ready(&self) {
        self.run(async { tokio::time::timeout(SOON, self.handle.ready()).await }).expect("ready in time");
    }

    fn token(&self, role: Role) -> String {
        self.run(self.handle.create_token(role, Duration::from_secs(600), None)).expect("a token")
    }

    fn claim(&self, name: &str) -> Answer {
        self.run(self.handle.propose(claim(&self.handle, name, 0))).expect("decided")
    }

    fn state(&self, name: &str) -> Option<(NameState, NodeId)> {
        self.handle.directory(|directory| directory.name(name).map(|record| (record.state, record.host)))
    }

    /// Nothing reaches it any more, and soon nothing comes from it.
    fn cut_off(&mut self) {
        *self.recorder.handle.lock() = None;
        self.runtime.take().expect("the host runs").shutdown_background();
    }

    /// Ends it gracefully; answers what it can be started with again.
    fn stop(mut self) -> (Config, TempDir) {
        self.run(self.handle.stop());
        *self.recorder.handle.lock() = None;
        self.runtime.take().expect("the host runs").shutdown_background();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a temporary directory"));
        (self.config.clone(), dir)
    }

    /// Ends it gracefully, then starts it again on the same data directory.
    fn restart(self, change: impl FnOnce(&mut Config)) -> Self {
        let (mut config, dir) = self.stop();
        change(&mut config);
        Self::start_in(config, dir).expect("it starts again")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        *self.recorder.handle.lock() = None;
        if let Some(runtime) = self.runtime.take() {
            let _ = runtime.block_on(async { tokio::time::timeout(SOON, self.handle.stop()).await });
            runtime.shutdown_background();
        }
    }
}

fn claim(handle: &Handle, name: &str, epoch_seen: u64) -> Command {
    Command::Claim(Claim {
        request: handle.next_request(),
        name: name.into(),
        declaration: Declaration {
            type_name: "test.type".into(),
            args: Vec::new(),
            codec: WireCodec::Postcard,
            policy: Policy::default(),
            on: None,
            parent: Direct::NONE,
        },
        holder: Direct { node: handle.me(), boot: handle.boot(), serial: Serial(7) },
        generation: handle.lease().borrow().generation,
        epoch_seen,
    })
}

#[expect(clippy::disallowed_methods, reason = "polls a condition, on the test's own thread")]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TEST_LOG").unwrap_or_else(|_| "off".into());
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// Three voters, all ready.
fn three() -> [Host; 3] {
    log();
    let one = Host::form("one");
    one.ready();
    let token = one.token(Role::Voter);
    let two = Host::join("two", &one, &token).expect("the second joins");
    two.ready();
    // Through one that does not lead.
    let three = Host::join("three", &two, &token).expect("the third joins");
    three.ready();
    for host in [&one, &two, &three] {
        eventually("three voters", || host.handle.status().voters.len() == 3);
        eventually("everybody up", || host.handle.status().up == 3);
    }
    [one, two, three]
}

#[test]
fn one_host_keeps_its_directory_over_a_restart() {
    log();
    let host = Host::form("one");
    host.ready();
    assert!(matches!(host.claim("test.type/a"), Answer::Granted { epoch: 1 }));
    assert!(host.handle.lease().borrow().pause_at > now());
    let token = host.token(Role::Member);
    assert!(token.starts_with("odeon1-member-"));
    let (id, me, boot) = (host.handle.id(), host.handle.me(), host.handle.boot());

    let host = host.restart(|_| {});
    host.ready();
    assert_eq!((host.handle.id(), host.handle.me()), (id, me));
    assert!(host.handle.boot() > boot);
    assert_eq!(host.handle.tokens().len(), 1);
    let status = host.handle.status();
    assert_eq!((status.leader.as_deref(), status.hosts, status.names, status.failover), (Some("one"), 1, 1, false));
    // The boot before held it; nobody else has started it yet.
    assert_eq!(host.state("test.type/a").map(|(_, node)| node), Some(me));
    assert!(matches!(host.claim("test.type/b"), Answer::Granted { epoch } if epoch >= 2));
}

#[test]
fn a_data_directory_without_a_convention_forms_none() {
    let error = Host::start("one", |_| {}).err().expect("refused").to_string();
    assert!(error.contains("--bootstrap") && error.contains("--join"), "{error}");
}

#[test]
fn three_hosts_agree() {
    let hosts = three();
    for (index, host) in hosts.iter().enumerate() {
        let name = format!("test.type/{index}");
        assert!(matches!(host.claim(&name), Answer::Granted { .. }));
        for other in &hosts {
            eventually("the name is seen everywhere", || other.state(&name).is_some());
        }
        let read = host.run(host.handle.linear_read_name(&name)).expect("a majority answers");
        assert_eq!(read.map(|record| record.host), Some(host.handle.me()));
    }
    let held = hosts[1].claim("test.type/0");
    assert!(matches!(&held, Answer::Held(record) if record.host == hosts[0].handle.me()), "{held:?}");
    assert!(hosts[2].handle.status().failover);
    hosts[1].handle.set_capabilities([("gpu".to_owned(), Value::Bool(true))].into());
    for host in &hosts {
        eventually("a capability spreads", || {
            host.handle.hosts().iter().any(|seen| seen.name == "two" && seen.capabilities.contains_key("gpu"))
        });
    }
}

#[test]
fn frames_reach_the_other_host_in_order() {
    let hosts = three();
    let frame = |number: u64| {
        let to = Direct { node: hosts[2].handle.me(), boot: hosts[2].handle.boot(), serial: Serial(1) };
        let header = Header { to, correlation: number, ..Header::new(Kind::Tell) };
        Frame::new(header, &[], b"body").bytes().clone()
    };
    for number in 0..1000 {
        hosts[1].handle.send(hosts[2].handle.me(), frame(number)).expect("there is room");
    }
    let received = &hosts[2].recorder.frames;
    eventually("all frames arrive", || received.lock().len() == 1000);
    let received = received.lock();
    let numbers = received.iter().map(|(from, bytes)| {
        assert_eq!(*from, hosts[1].handle.me());
        Frame::read(bytes.clone()).expect("a frame").header.correlation
    });
    assert!(numbers.eq(0..1000));
}

#[test]
fn a_lost_leader_is_replaced_and_its_names_move() {
    let mut hosts = three();
    assert!(matches!(hosts[0].claim("test.type/a"), Answer::Granted { .. }));
    let leader = hosts[0].handle.status().leader;
    assert_eq!(leader.as_deref(), Some("one"));
    hosts[0].cut_off();
    let (lost, [left, right]) = hosts.split_first().map(|(lost, rest)| (lost, [&rest[0], &rest[1]])).expect("three");
    eventually("another leads", || left.handle.status().leader.is_some_and(|leader| leader != "one"));
    assert!(matches!(left.claim("test.type/b"), Answer::Granted { .. }));
    eventually("the name has moved", || right.state("test.type/a").is_some_and(|(_, node)| node != lost.handle.me()));
    let adopted: usize = [left, right].iter().map(|host| host.recorder.adopted.lock().len()).sum();
    assert!(adopted >= 1);
    assert!(lost.handle.lease().borrow().pause_at < now(), "the old holder may not run any more");
    let alone = left.run(lost.handle.propose(claim(&lost.handle, "test.type/c", 0)));
    assert_eq!(alone, Err(ProposeError::NoQuorum), "the minority grants nothing");
    assert_eq!(right.state("test.type/c"), None);
    eventually("it is seen as down", || {
        left.handle.members().iter().any(|host| host.name == "one" && host.state == HostState::Down)
    });
}

#[test]
fn a_follower_is_no_voter_and_sees_everything() {
    log();
    let one = Host::form("one");
    one.ready();
    assert!(matches!(one.claim("test.type/before"), Answer::Granted { .. }));
    let member = Host::join("two", &one, &one.token(Role::Member)).expect("it joins");
    member.ready();
    eventually("what was before", || member.state("test.type/before").is_some());
    assert!(matches!(one.claim("test.type/after"), Answer::Granted { .. }));
    eventually("what came after", || member.state("test.type/after").is_some());
    assert!(matches!(member.claim("test.type/own"), Answer::Granted { .. }));
    eventually("its own", || member.state("test.type/own").is_some());
    let roles: Vec<HostRole> = member.handle.members().iter().map(|host| host.role).collect();
    assert!(roles.contains(&HostRole::Leader) && roles.contains(&HostRole::Member), "{roles:?}");
    let secretless = member.handle.directory(|directory| directory.ca_key().is_none());
    assert!(secretless, "a follower gets no secrets");
}

#[test]
fn a_host_comes_back_with_its_data() {
    let [one, two, three] = three();
    let me = two.handle.me();
    let two = two.restart(|config| (config.join, config.token) = (Vec::new(), None));
    two.ready();
    assert_eq!(two.handle.me(), me);
    assert!(matches!(two.claim("test.type/back"), Answer::Granted { .. }));
    for host in [&one, &two, &three] {
        eventually("three voters", || host.handle.status().voters.len() == 3);
        eventually("the new name", || host.state("test.type/back").is_some());
    }
}

#[test]
fn a_leader_that_stops_is_replaced() {
    let [one, two, three] = three();
    one.run(one.handle.stop());
    let leads = |host: &Host| host.handle.status().leader.is_some_and(|leader| leader != "one");
    assert!(leads(&two) || leads(&three), "another leads when the stop is over");
    eventually("both know the new leader", || leads(&two) && leads(&three));
    assert!(matches!(three.claim("test.type/a"), Answer::Granted { .. }));
}

#[test]
fn strangers_are_refused_in_one_line() {
    log();
    let (one, other) = (Host::form("one"), Host::form("other"));
    one.ready();
    other.ready();
    let refusal = |joined: Result<Host, StartError>| {
        let text = joined.err().expect("refused").to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    };
    let token = one.token(Role::Voter);
    let elsewhere = refusal(Host::join("two", &other, &token));
    assert!(elsewhere.contains("another convention"), "{elsewhere}");

    let revoked = one.token(Role::Member);
    let id = one.handle.tokens().iter().find(|token| token.role == Role::Member).expect("it is listed").id;
    one.run(one.handle.revoke_token(id)).expect("revoked");
    let unknown = refusal(Host::join("two", &one, &revoked));
    assert!(unknown.contains("revoked"), "{unknown}");

    let taken = refusal(Host::join("one", &one, &token));
    assert!(taken.contains("--name"), "{taken}");
    let garbled = refusal(Host::join("two", &one, "odeon1-nonsense"));
    assert!(garbled.contains("token"), "{garbled}");
}

#[test]
fn an_evicted_host_is_kept_out() {
    let [one, two, three] = three();
    one.run(one.handle.evict(three.handle.me())).expect("evicted");
    let mut over = three.handle.over();
    three
        .run(async { tokio::time::timeout(SOON, over.wait_for(Option::is_some)).await.map(drop) })
        .expect("it hears of it");
    eventually("one voter is left", || two.handle.status().voters.len() == 1);
    assert!(matches!(two.claim("test.type/a"), Answer::Granted { .. }));
}

#[test]
fn a_host_that_stands_by_takes_the_place_of_a_voter() {
    let [one, two, three] = three();
    let four = Host::join("four", &one, &one.token(Role::Voter)).expect("the fourth joins");
    four.ready();
    for host in [&one, &two, &three, &four] {
        eventually("the fourth stands by", || host.handle.status().stand_bys == ["four"]);
        assert_eq!(host.handle.status().voters.len(), 3);
    }
    one.run(one.handle.evict(three.handle.me())).expect("evicted");
    for host in [&one, &two, &four] {
        eventually("it votes", || {
            let status = host.handle.status();
            status.voters.len() == 3 && status.voters.contains(&"four".to_owned()) && status.stand_bys.is_empty()
        });
    }
    assert!(matches!(four.claim("test.type/a"), Answer::Granted { .. }));
}

#[test]
fn a_whole_convention_comes_back() {
    let hosts = three();
    assert!(matches!(hosts[1].claim("test.type/a"), Answer::Granted { .. }));
    let ids: Vec<NodeId> = hosts.iter().map(|host| host.handle.me()).collect();
    // All of them are down before the first one starts again, and every one has another port.
    let stopped: Vec<_> = hosts.into_iter().map(Host::stop).collect();
    let hosts: Vec<Host> = std::thread::scope(|scope| {
        let join: Arc<Mutex<Vec<String>>> = Arc::default();
        let starting: Vec<_> = stopped
            .into_iter()
            .map(|(mut config, dir)| {
                config.token = None;
                config.bootstrap = false;
                // As a resolvable name would, the first address leads to a member wherever it listens now.
                config.join = join.lock().clone();
                let host = Host::start_in(config, dir).expect("it starts again");
                join.lock().push(host.handle.listens_on().to_string());
                scope.spawn(move || {
                    host.ready();
                    host
                })
            })
            .collect();
        starting.into_iter().map(|host| host.join().expect("it is ready")).collect()
    });
    for (host, id) in hosts.iter().zip(ids) {
        assert_eq!(host.handle.me(), id);
        eventually("three voters", || host.handle.status().voters.len() == 3);
        eventually("the name is there", || host.state("test.type/a").is_some());
    }
    assert!(matches!(hosts[2].claim("test.type/b"), Answer::Granted { .. }));
}

#[test]
fn frames_for_a_lost_host_come_back() {
    let [one, two, mut three] = three();
    let to = Direct { node: three.handle.me(), boot: three.handle.boot(), serial: Serial(1) };
    let frame = |number| {
        let header = Header { to, correlation: number, ..Header::new(Kind::Tell) };
        Frame::new(header, &[], b"body").bytes().clone()
    };
    two.handle.send(to.node, frame(0)).expect("there is room");
    eventually("the first arrives", || three.recorder.frames.lock().len() == 1);
    three.cut_off();
    eventually("it is missed", || {
        one.handle.members().iter().any(|host| host.name == "three" && host.state == HostState::Down)
    });
    two.handle.send(to.node, frame(1)).expect("there is room");
    let back = || two.recorder.back.lock().iter().find(|(bytes, _)| *bytes == frame(1)).cloned();
    eventually("the second comes back", || back().is_some());
    assert_eq!(back(), Some((frame(1), false)), "nobody has seen it");
}

#[test]
fn a_host_that_left_needs_a_token_again() {
    log();
    let one = Host::form("one");
    one.ready();
    let token = one.token(Role::Member);
    let two = Host::join("two", &one, &token).expect("it joins");
    two.ready();
    two.run(two.handle.leave()).expect("it leaves");
    eventually("it has left", || {
        one.handle.members().iter().any(|host| host.name == "two" && host.state == HostState::Left)
    });
    let (config, dir) = two.stop();
    let without = Host::start_in(Config { token: None, ..config.clone() }, dir).err().expect("refused");
    assert!(without.to_string().contains("odeon token create"), "{without}");
}

#[test]
fn a_way_into_another_convention_is_refused() {
    log();
    let (one, other) = (Host::form("one"), Host::form("other"));
    one.ready();
    other.ready();
    let there = other.handle.listens_on().to_string();
    let (config, dir) = one.stop();
    let config = Config { bootstrap: false, join: vec![there], ..config };
    let error = Host::start_in(config, dir).err().expect("refused").to_string();
    assert!(error.contains("--join") && error.contains(&other.handle.id().to_string()), "{error}");
}

/// Stops a host and gives it a certificate as old as `age`, signed as its own was.
fn age_certificate(host: Host, authority: &Authority, age: Duration) -> (Config, TempDir) {
    let (config, dir) = host.stop();
    let data = DataDir::open(dir.path(), &config.name, || unreachable!("it has a key")).expect("its data");
    let key = NodeKey::from_pem(&data.key()).expect("its key");
    let leaf = authority.issue(key.public(), SystemTime::now() - age).expect("a certificate");
    data.update(|kept| kept.as_mut().expect("it belongs").certificate = leaf.to_vec()).expect("written");
    data.close();
    (config, dir)
}

/// When the certificate ends that a host keeps in its data directory.
fn certified_until(dir: &TempDir) -> SystemTime {
    let text = std::fs::read(dir.path().join("identity.json")).expect("its record");
    let record: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let hex = record["belonging"]["certificate"].as_str().expect("its certificate");
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    let certificate: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    PeerCertificate::read(&certificate).expect("a certificate").not_after
}

#[test]
fn an_old_certificate_is_renewed_and_an_expired_one_keeps_nobody_out() {
    log();
    let one = Host::form("one");
    one.ready();
    let pem = one.handle.directory(|directory| directory.ca_key().expect("a voter has it").0.clone());
    let authority = Authority::from_pem(std::str::from_utf8(&pem).expect("text")).expect("the authority");
    let mut two = Host::join("two", &one, &one.token(Role::Member)).expect("it joins");
    two.ready();
    let hour = Duration::from_secs(3600);
    for age in [20 * hour, 72 * hour] {
        let (config, dir) = age_certificate(two, &authority, age);
        two = Host::start_in(Config { join: Vec::new(), token: None, ..config }, dir).expect("it starts");
        two.ready();
        assert!(matches!(two.claim(&format!("test.type/{}", age.as_secs())), Answer::Granted { .. }));
        eventually("a new certificate is kept", || certified_until(&two.dir) > SystemTime::now() + 20 * hour);
    }
}
