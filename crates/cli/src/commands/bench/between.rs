//! Paths between processes: a driver measures how it reaches an echo in another process, or on another host.

use super::{Figure, RUNS};
use crate::{
    args::CreateArgs,
    client::Client,
    failure::{Code, Failure},
    local_hosts::{Hosts, Plan},
    output,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Until the hosts know each other's types.
const KNOWN_WAIT: Duration = Duration::from_secs(20);
/// Beyond the time that a run takes.
const PATIENCE: Duration = Duration::from_secs(60);
const WARM_UP: Duration = Duration::from_millis(300);

/// Where driver and echo are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Two workers of one host.
    Host,
    /// Workers of two hosts.
    Hosts,
    /// In the agents of two hosts.
    Embedded,
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Tells, as many as are taken.
    Tell,
    /// Asks, one at a time.
    Ask,
    /// A thousand asks at once.
    AskMany,
}

impl Layout {
    fn plan(self) -> Result<Plan, Failure> {
        let executable = std::env::current_exe().map_err(Failure::failed)?;
        let worker = |name: &str| format!("'{}' worker {name}", executable.display());
        let plan = match self {
            Self::Host => {
                Plan { hosts: 1, workers: vec![worker("bench-driver"), worker("bench-echo")], ..Plan::default() }
            }
            Self::Hosts => Plan {
                hosts: 2,
                workers_of: vec![(1, worker("bench-driver")), (2, worker("bench-echo"))],
                ..Plan::default()
            },
            Self::Embedded => Plan {
                hosts: 2,
                embedded: vec![(1, "bench-driver".to_owned()), (2, "bench-echo".to_owned())],
                ..Plan::default()
            },
        };
        Ok(plan)
    }

    const fn host_of_echo(self) -> &'static str {
        if matches!(self, Self::Host) { "h1" } else { "h2" }
    }
}

impl Kind {
    const fn message(self) -> &'static str {
        match self {
            Self::Tell => "Tell",
            Self::Ask => "AskOne",
            Self::AskMany => "AskMany",
        }
    }

    /// Metrics and their units.
    const fn metrics(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Tell | Self::AskMany => &[("rate", "1/s")],
            Self::Ask => &[("p50", "µs"), ("p99", "µs")],
        }
    }
}

/// Measures these paths of one layout, on hosts that are started for it and stopped after it.
pub(super) async fn measure(layout: Layout, paths: &[(&str, Kind)], seconds: u64) -> Result<Vec<Figure>, Failure> {
    let root = tempfile::Builder::new().prefix("odeon-bench-").tempdir().map_err(Failure::failed)?;
    let hosts = Hosts::start(&layout.plan()?, root.path()).await?;
    let measured = measure_on(&hosts, layout, paths, seconds).await;
    hosts.stop().await;
    measured.map_err(|failure| {
        let logs = root.keep();
        Failure::new(failure.code, format!("{}: the agents' logs are in {}", failure.text, logs.display()))
    })
}

async fn measure_on(
    hosts: &Hosts,
    layout: Layout,
    paths: &[(&str, Kind)],
    seconds: u64,
) -> Result<Vec<Figure>, Failure> {
    let client = hosts.all[0].client().await?;
    let driver = driver(&client, layout).await?;
    let mut figures = Vec::new();
    for (name, kind) in paths {
        eprintln!("measuring {name}");
        run(&client, &driver, layout, *kind, WARM_UP).await?;
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(run(&client, &driver, layout, *kind, Duration::from_secs(seconds)).await?);
        }
        figures.extend(kind.metrics().iter().map(|(metric, unit)| {
            let values = runs.iter().filter_map(|run| run[*metric].as_f64()).collect();
            Figure::of(name, metric, unit, values)
        }));
    }
    Ok(figures)
}

/// The driver, once a first run shows that it reaches an echo: hosts learn of each other's types by gossip.
async fn driver(client: &Client, layout: Layout) -> Result<String, Failure> {
    let args = CreateArgs {
        type_name: "bench.driver".into(),
        args: None,
        name: None,
        requires: None,
        on: None,
        wait: Duration::ZERO,
    };
    let deadline = Instant::now() + KNOWN_WAIT;
    let mut driver = None;
    loop {
        let failure = match &driver {
            None => match client.create(&args, None).await {
                Ok(created) => {
                    driver = Some(output::cell(&created["address"]));
                    continue;
                }
                Err(failure) => failure,
            },
            Some(driver) => match run(client, driver, layout, Kind::Ask, Duration::from_millis(10)).await {
                Ok(_) => return Ok(driver.clone()),
                Err(failure) => failure,
            },
        };
        if Instant::now() > deadline {
            return Err(Failure::new(
                Code::TimedOut,
                format!("bench: the hosts do not find each other: {}", failure.text),
            ));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn run(client: &Client, driver: &str, layout: Layout, kind: Kind, length: Duration) -> Result<Value, Failure> {
    let ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let fields = json!({ "host": layout.host_of_echo(), "ms": ms });
    client.ask(driver, kind.message(), fields, length + PATIENCE).await
}
