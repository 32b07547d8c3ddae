//! A relay on one host sends to a sequence on another at a rate that does not depend on what happens, while the link
//! between them is cut, its connection closed, and the receiving worker killed. Every message is accounted for.

use crate::{
    figures, full,
    harness::{Agent, alive, kill, wait_for},
    world::{Asking, World, ask_meanwhile, pass, worker},
};
use odeon_protocol::limits::FLOW_WINDOW;
use serde_json::{Value, json};
use std::{
    fmt, fs, thread,
    time::{Duration, Instant},
};

/// What happens to the messages on their way.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing gets through, in either direction, for so many seconds.
    Cut(u64),
    /// The data connection is closed.
    Close,
    /// The receiving worker is killed.
    Kill,
}

/// What a run consists of.
#[derive(Debug)]
struct Plan {
    rate: u64,
    /// How long it sends.
    seconds: u64,
    /// The global name of the receiver, or none.
    name: Option<&'static str>,
    /// One after the other, the times between them alike.
    faults: Vec<Fault>,
}

/// The padding of each message.
const BYTES: usize = 64;
/// A second sender's messages a second, and their padding. They are large: 256 KiB of one are on their way at once, so
/// that a cut has something to drop, and the line keeps room for the first sender's.
const BULK: (u64, usize) = (20, 512 << 10);
/// Packets that have to fall victim to each cut, or it was none.
const DROPPED_MIN: u64 = 100;

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn cut_and_closed_links_lose_double_and_reorder_nothing() {
    use Fault::{Close, Cut};
    // After a long cut the line needs a while to be used in full again: a close comes next.
    let faults = if full() { [Cut(1), Cut(6), Close].repeat(5) } else { vec![Cut(1), Cut(6), Close, Close, Cut(1)] };
    let seconds = if full() { 60 } else { 20 };
    let ledger = run(&Plan { rate: 50_000, seconds, name: None, faults });
    assert_eq!(ledger.count("gaps") + ledger.count("duplicates") + ledger.count("reordered"), 0, "{ledger}");
    let accepted = ledger.count("accepted");
    assert_eq!((ledger.count("received"), ledger.handled), (accepted, accepted), "{ledger}");
    assert_eq!(ledger.count("returned") + ledger.count("unsettled"), 0, "{ledger}");
}

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn a_killed_worker_under_a_global_name_lives_again_and_every_message_is_accounted_for() {
    killed(Some("probe.sequence/survivor"));
}

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn a_killed_workers_anonymous_actor_is_gone_and_every_message_is_accounted_for() {
    killed(None);
}

fn killed(name: Option<&'static str>) {
    use Fault::{Close, Cut, Kill};
    let faults = if full() {
        vec![Cut(1), Close, Kill, Cut(6), Close, Cut(1), Kill, Cut(6), Close]
    } else {
        vec![Kill, Close, Kill]
    };
    let ledger = run(&Plan { rate: 50_000, seconds: if full() { 60 } else { 8 }, name, faults });
    assert_eq!(ledger.count("duplicates") + ledger.count("reordered"), 0, "{ledger}");
    // Some may have been handled before the kill, and their report lost with the worker: these are unsettled as well.
    let (handled, returned, unsettled) = (ledger.handled, ledger.count("returned"), ledger.count("unsettled"));
    let accepted = ledger.count("accepted");
    assert!(handled + returned <= accepted, "what came back as not handled was handled: {ledger}");
    assert!(accepted <= handled + returned + unsettled, "some messages are nowhere: {ledger}");
    assert!(unsettled > 0 || handled + returned == accepted, "{ledger}");
    // At most a window of each sender was with each killed worker.
    assert!(unsettled <= 2 * 2 * u64::from(FLOW_WINDOW), "{ledger}");
}

fn run(plan: &Plan) -> Ledger {
    let world = World::start();
    if plan.faults.iter().any(|fault| matches!(fault, Fault::Cut(_))) {
        world.slow_down();
    }
    let sequence = world.create(world.receiver(), "probe.sequence", plan.name);
    let relays = [(plan.rate, BYTES), BULK].map(|(rate, bytes)| {
        let send = json!({ "to": sequence, "count": rate * plan.seconds, "bytes": bytes, "rate": rate });
        (world.create(world.sender(), "probe.relay", None), send)
    });
    let within = Duration::from_secs(3 * plan.seconds + 60);
    let mut ledger = Ledger::default();
    thread::scope(|scope| {
        let sending = relays
            .each_ref()
            .map(|(relay, send)| ask_meanwhile(scope, world.sender(), (relay, "Send"), send.clone(), within));
        let mut run = Run { world: &world, plan, sequence: &sequence, sending: &sending[0], ledger: &mut ledger };
        plan.faults.iter().for_each(|fault| run.suffer(*fault));
        ledger.sent = sending.map(|sending| sending.join().expect("the relay answers")).into();
    });
    ledger.report = report(&world, &sequence).unwrap_or_default();
    ledger.handled = handled(world.receiver());
    figures(&format!("{plan}: {ledger}"));
    assert!(ledger.dropped.iter().flatten().all(|packets| *packets > 0), "a cut goes both ways: {ledger}");
    let are_cuts = ledger.dropped.iter().all(|dropped| dropped.iter().sum::<u64>() >= DROPPED_MIN);
    assert!(are_cuts, "a cut has to drop {DROPPED_MIN} packets: {ledger}");
    ledger
}

/// A run under way.
struct Run<'a, 'scope> {
    world: &'a World,
    plan: &'a Plan,
    sequence: &'a str,
    sending: &'a Asking<'scope>,
    ledger: &'a mut Ledger,
}

impl Run<'_, '_> {
    fn suffer(&mut self, fault: Fault) {
        pass(self.plan.pause());
        assert!(!self.sending.is_finished(), "the relay is done before {fault:?}: {}", self.ledger);
        match fault {
            Fault::Cut(seconds) => {
                let dropped = self.world.cut(Duration::from_secs(seconds));
                let mended = Instant::now();
                self.ledger.dropped.push(dropped);
                self.flows();
                self.ledger.outages.push(mended.elapsed());
            }
            Fault::Close => {
                self.world.close();
                let closed = Instant::now();
                self.flows();
                self.ledger.outages.push(closed.elapsed());
            }
            Fault::Kill => self.kill(),
        }
    }

    fn kill(&self) {
        let receiver = self.world.receiver();
        let victim = worker(receiver);
        kill(victim);
        wait_for("the worker to die", || (!alive(victim)).then_some(()));
        wait_for("another worker to be started", || {
            receiver.json(&["workers"])[0]["pid"].as_u64().filter(|pid| *pid != victim)
        });
        if self.plan.name.is_some() {
            self.flows();
        }
    }

    /// Waits until the receiver has got one more message.
    fn flows(&self) {
        // An anonymous one whose worker was killed is gone for good.
        let received = || report(self.world, self.sequence).map(|report| report["received"].as_u64());
        let Some(before) = received() else { return };
        wait_for("messages to arrive again", || received().filter(|now| *now > before));
    }
}

impl Plan {
    /// The time between two faults.
    fn pause(&self) -> Duration {
        let cuts: u64 =
            self.faults.iter().map(|fault| if let Fault::Cut(seconds) = fault { *seconds } else { 0 }).sum();
        let left = Duration::from_secs(self.seconds.saturating_sub(cuts));
        // The other half is for what takes its time after each.
        left / 2 / u32::try_from(self.faults.len() + 1).expect("a few")
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |fits: fn(&Fault) -> bool| self.faults.iter().filter(|fault| fits(fault)).count();
        write!(
            f,
            "{}/s for {} s to {}, {} cuts, {} closes, {} kills",
            self.rate,
            self.seconds,
            self.name.unwrap_or("an anonymous actor"),
            count(|fault| matches!(fault, Fault::Cut(_))),
            count(|fault| matches!(fault, Fault::Close)),
            count(|fault| matches!(fault, Fault::Kill)),
        )
    }
}

/// What both ends counted.
#[derive(Debug, Default)]
struct Ledger {
    /// What the relays counted; the first is the one with the rate.
    sent: Vec<Value>,
    /// What the receiver counted in its last life, if that lasts.
    report: Value,
    /// What it was given in all its lives, by its own log.
    handled: u64,
    /// Packets that each cut dropped, at the sender's host and at the receiver's.
    dropped: Vec<[u64; 2]>,
    /// How long after each mend or close the next message arrived.
    outages: Vec<Duration>,
}

impl Ledger {
    /// What was neither handled nor came back as not handled. None if some of it was both.
    fn with_workers(&self) -> Option<u64> {
        self.count("accepted").checked_sub(self.handled + self.count("returned"))
    }

    /// A count of the senders', or of the receiver's in its last life.
    fn count(&self, what: &str) -> u64 {
        self.sent.iter().chain([&self.report]).filter_map(|report| report[what].as_u64()).sum()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handled {}, with killed workers {:?}, ", self.handled, self.with_workers())?;
        for what in ["accepted", "received", "returned", "unsettled", "refused", "gaps", "duplicates", "reordered"] {
            write!(f, "{what} {}, ", self.count(what))?;
        }
        let number = |what: &str| self.sent.first().and_then(|sent| sent[what].as_f64()).unwrap_or_default();
        let (rate, behind, seconds) = (number("rate"), number("behind"), number("seconds"));
        write!(f, "{rate:.0}/s, at most {behind:.2} s behind, settled after {seconds:.2} s; ")?;
        write!(f, "dropped {:?}; flowing again after {:.2?}", self.dropped, self.outages)
    }
}

/// What the receiver counted; nothing if it is gone.
fn report(world: &World, sequence: &str) -> Option<Value> {
    let ran = world.receiver().odeon(&["ask", sequence, "Gaps", "--timeout", "20s"]);
    (ran.code == 0).then(|| ran.json())
}

/// How many messages the sequences of a host were given, by the logs that they keep: the killed ones', too.
fn handled(host: &Agent) -> u64 {
    let logs = fs::read_dir(host.data.join("probe")).expect("the directory of the logs");
    let counts = logs.map(|log| fs::read(log.expect("a log").path()).expect("it can be read"));
    counts.map(|count| count.try_into().map_or(0, u64::from_le_bytes)).sum()
}
