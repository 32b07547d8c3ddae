//! The paths that are measured.

use super::{
    Metric, Scale,
    actors::{AskOften, Breed, Breeder, Busy, Echo, Hop, Link, Send, Sink, Source, Token, WhenAll, Work},
    at, rate,
};
use crate::{Result, System, prelude::ActorRef};
use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Waits longer than any run takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs a future to its end on a system of its own, then stops the system.
fn on_system<T: std::marker::Send + 'static, F>(work: impl FnOnce(System) -> F) -> T
where
    F: Future<Output = Result<T>> + std::marker::Send + 'static,
{
    let system = System::local().restless(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let worked = runtime.block_on(work(system.clone())).expect("a bench's own actors do not fail");
    runtime.block_on(system.stop());
    worked
}

async fn send_all(system: &System, senders: u64, count: u64) -> Result<f64> {
    let sink = system.create::<Sink>(()).await?;
    let began = Instant::now();
    for _ in 0..senders {
        let source = system.create::<Source>(()).await?;
        source.tell(Send { count: count / senders, to: sink.clone() }).await?;
    }
    sink.ask(WhenAll { count: count / senders * senders }).timeout(PATIENCE).await?;
    Ok(rate(count, began))
}

fn sending(path: &'static str, senders: u64, scale: Scale) -> Vec<Metric> {
    let count = scale.count(4_000_000);
    let values = on_system(move |system| async move {
        send_all(&system, senders, count).await?;
        let mut values = Vec::new();
        for _ in 0..scale.runs {
            values.push(send_all(&system, senders, count).await?);
        }
        Ok(values)
    });
    vec![Metric::of(path, "rate", "1/s", values)]
}

/// One actor tells another 64 bytes, again and again.
#[must_use]
pub fn tell(scale: Scale) -> Vec<Metric> {
    sending("local.tell", 1, scale)
}

/// Eight actors tell one.
#[must_use]
pub fn fan_in(scale: Scale) -> Vec<Metric> {
    sending("local.fanin", 8, scale)
}

/// One actor asks another, one at a time.
#[must_use]
pub fn ask(scale: Scale) -> Vec<Metric> {
    let count = scale.count(200_000);
    let runs = on_system(move |system| async move {
        let (source, whom) = (system.create::<Source>(()).await?, system.create::<Echo>(()).await?);
        let mut runs = Vec::new();
        for _ in 0..=scale.runs {
            let ask = source.ask(AskOften { count, whom: whom.clone() }).timeout(PATIENCE);
            let mut micros: Vec<_> = ask.await?.into_iter().map(|nanos| f64::from(nanos) / 1e3).collect();
            micros.sort_by(f64::total_cmp);
            runs.push(micros);
        }
        Ok(runs.split_off(1))
    });
    let share = |share| runs.iter().map(|run| at(run, share)).collect();
    vec![Metric::of("local.ask", "p50", "µs", share(0.5)), Metric::of("local.ask", "p99", "µs", share(0.99))]
}

/// A token goes round a thousand actors.
#[must_use]
pub fn ring(scale: Scale) -> Vec<Metric> {
    let hops = scale.count(2_000_000);
    let values = on_system(move |system| async move {
        let mut ring = Vec::new();
        for _ in 0..1000 {
            ring.push(system.create::<Hop>(()).await?);
        }
        let mut values = Vec::new();
        for _ in 0..=scale.runs {
            let end = system.create::<Sink>(()).await?;
            for (place, hop) in ring.iter().enumerate() {
                let next: ActorRef<Hop> = ring[(place + 1) % ring.len()].clone();
                hop.tell(Link { next, end: end.clone() }).await?;
            }
            let began = Instant::now();
            ring[0].tell(Token { left: hops }).await?;
            end.ask(WhenAll { count: 1 }).timeout(PATIENCE).await?;
            values.push(began.elapsed().as_nanos() as f64 / hops as f64);
        }
        Ok(values.split_off(1))
    });
    vec![Metric::of("local.ring", "hop", "ns", values)]
}

/// Actors are created, started, and kept.
#[must_use]
pub fn create(scale: Scale) -> Vec<Metric> {
    let count = scale.count(300_000);
    let values = (0..=scale.runs).map(|_| {
        on_system(move |system| async move {
            let began = Instant::now();
            for _ in 0..count {
                system.create::<Echo>(()).await?;
            }
            Ok(rate(count, began))
        })
    });
    vec![Metric::of("local.create", "rate", "1/s", values.skip(1).collect())]
}

/// Actors are created by another, told something, and stopped; their parent learns of each end.
#[must_use]
pub fn lifecycle(scale: Scale) -> Vec<Metric> {
    let count = scale.count(300_000);
    let values = on_system(move |system| async move {
        let mut values = Vec::new();
        for _ in 0..=scale.runs {
            let breeder = system.create::<Breeder>(()).await?;
            let began = Instant::now();
            breeder.ask(Breed { count, stop: true }).timeout(PATIENCE).await?;
            values.push(rate(count, began));
            breeder.stop();
        }
        Ok(values.split_off(1))
    });
    vec![Metric::of("local.lifecycle", "rate", "1/s", values)]
}

/// What an idle actor holds, and what a process full of them does.
#[must_use]
pub fn idle(scale: Scale) -> Vec<Metric> {
    let count = scale.count(1_000_000);
    let (bytes, cpu) = on_system(move |system| async move {
        let before = resident();
        let mut kept = Vec::with_capacity(count as usize);
        let own = resident() - before;
        for _ in 0..count {
            kept.push(system.create::<Echo>(()).await?);
        }
        while system.stats().actors < count || system.stats().waiting > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The monitor needs a moment to see that nothing runs.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let references = count as f64 * size_of::<ActorRef<Echo>>() as f64;
        let bytes = (resident() - before - own - references) / count as f64;
        let began = cpu_millis();
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok((bytes, cpu_millis() - began))
    });
    vec![Metric::of("local.idle", "memory", "B", vec![bytes]), Metric::of("local.idle", "cpu", "ms", vec![cpu])]
}

/// How long another actor takes to answer while four never rest.
#[must_use]
pub fn busy(scale: Scale) -> Vec<Metric> {
    let count = scale.count(1_500);
    let micros = on_system(move |system| async move {
        let whom = system.create::<Echo>(()).await?;
        for _ in 0..4 {
            system.create::<Busy>(()).await?.tell(Work).await?;
        }
        let mut micros = Vec::new();
        for number in 0..count {
            let began = Instant::now();
            whom.ask(super::actors::Ping { number }).await?;
            micros.push(began.elapsed().as_nanos() as f64 / 1e3);
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        micros.sort_by(f64::total_cmp);
        Ok(micros)
    });
    vec![
        Metric::of("local.busy", "p50", "µs", vec![at(&micros, 0.5)]),
        Metric::of("local.busy", "p99", "µs", vec![at(&micros, 0.99)]),
    ]
}

/// Bytes of this process in memory, Linux only.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
    kib * 1024.0
}

/// Processor time of this process.
fn cpu_millis() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}
