//! `odeon bench`: measures this machine, along the paths that messages take.
//!
//! - `local.*`: inside one process. Each path runs in a child process of its own, so that none finds the memory or the
//!   threads of another; what a run can give only one figure of (idle memory) is run in several.
//! - `host.*`: one agent with two worker processes, the driver in one and the echo in the other.
//! - `hosts.*`: two agents on loopback addresses of their own, TLS on, one worker each.
//! - `embedded.*`: the same, the actors inside the agents' processes.
//!
//! Every figure is the median of several runs after one to warm up. Nothing that was started outlives the command.

mod between;
mod figures;
mod inside;

use crate::{
    args::BenchArgs,
    failure::{Failure, Outcome},
    output, signals,
};
use between::{Kind, Layout};
use figures::Figure;
use odeon::bench::{self, Metric, Scale};
use serde_json::Value;

/// Runs after the one to warm up.
const RUNS: u32 = 5;
/// Processes that measure what one of them measures once.
const PROCESSES: u32 = 3;

/// What one path measures.
#[derive(Clone, Copy, Debug)]
enum Path {
    /// Inside a process, by that function.
    Inside { name: &'static str, measure: fn(Scale) -> Vec<Metric>, processes: u32 },
    /// Between processes.
    Between { name: &'static str, layout: Layout, kind: Kind },
}

impl Path {
    const fn name(self) -> &'static str {
        match self {
            Self::Inside { name, .. } | Self::Between { name, .. } => name,
        }
    }

    /// Named itself, or by the word before its dot.
    fn is_named(self, wanted: &str) -> bool {
        self.name() == wanted || self.name().split_once('.').is_some_and(|(group, _)| group == wanted)
    }
}

const fn inside(name: &'static str, measure: fn(Scale) -> Vec<Metric>, processes: u32) -> Path {
    Path::Inside { name, measure, processes }
}

const fn between(name: &'static str, layout: Layout, kind: Kind) -> Path {
    Path::Between { name, layout, kind }
}

/// All paths, in the order in which they are measured and shown.
const PATHS: [Path; 17] = [
    inside("local.tell", bench::tell, 1),
    inside("local.fanin", bench::fan_in, 1),
    inside("local.ask", bench::ask, 1),
    inside("local.ring", bench::ring, 1),
    inside("local.create", bench::create, 1),
    inside("local.lifecycle", bench::lifecycle, 1),
    inside("local.idle", bench::idle, PROCESSES),
    inside("local.busy", bench::busy, PROCESSES),
    between("host.tell", Layout::Host, Kind::Tell),
    between("host.ask", Layout::Host, Kind::Ask),
    between("host.ask1000", Layout::Host, Kind::AskMany),
    between("hosts.tell", Layout::Hosts, Kind::Tell),
    between("hosts.ask", Layout::Hosts, Kind::Ask),
    between("hosts.ask1000", Layout::Hosts, Kind::AskMany),
    between("embedded.tell", Layout::Embedded, Kind::Tell),
    between("embedded.ask", Layout::Embedded, Kind::Ask),
    between("embedded.ask1000", Layout::Embedded, Kind::AskMany),
];

/// Measures the wanted paths, or all, and prints the figures.
pub(crate) async fn run(args: BenchArgs, as_json: bool) -> Outcome {
    let paths = wanted(&args.paths)?;
    if args.here {
        return inside::here(&paths, args.seconds).await;
    }
    let measured = tokio::select! {
        measured = measure(&paths, args.seconds) => measured?,
        stopped = signals::wait() => {
            // What was started ends with this process.
            stopped?;
            return Err(Failure::failed("bench: stopped by a signal"));
        }
    };
    if as_json {
        output::json(&Value::Array(measured.iter().map(Figure::json).collect()));
    } else {
        figures::print(&measured);
    }
    Ok(())
}

fn wanted(names: &[String]) -> Result<Vec<Path>, Failure> {
    if let Some(unknown) = names.iter().find(|name| !PATHS.iter().any(|path| path.is_named(name))) {
        let known: Vec<_> = PATHS.iter().map(|path| path.name()).collect();
        return Err(Failure::usage(format!("bench: there is no path {unknown:?}: {}", known.join(", "))));
    }
    let is_wanted = |path: &Path| names.is_empty() || names.iter().any(|name| path.is_named(name));
    Ok(PATHS.into_iter().filter(is_wanted).collect())
}

async fn measure(paths: &[Path], seconds: u64) -> Result<Vec<Figure>, Failure> {
    if cfg!(debug_assertions) {
        eprintln!("bench: this is a debug build: its figures say nothing of a release");
    }
    let mut measured = Vec::new();
    for path in paths {
        if let Path::Inside { name, processes, .. } = *path {
            eprintln!("measuring {name}");
            measured.extend(inside::measure(name, processes, seconds).await?);
        }
    }
    for layout in [Layout::Host, Layout::Hosts, Layout::Embedded] {
        let of_layout = |path: &Path| match *path {
            Path::Between { name, layout: own, kind } if own == layout => Some((name, kind)),
            _ => None,
        };
        let kinds: Vec<_> = paths.iter().filter_map(of_layout).collect();
        if !kinds.is_empty() {
            measured.extend(between::measure(layout, &kinds, seconds).await?);
        }
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_alone_or_by_its_group() {
        let names = |wanted_names: &[&str]| {
            let wanted_names: Vec<_> = wanted_names.iter().map(|name| (*name).to_owned()).collect();
            wanted(&wanted_names).map(|paths| paths.into_iter().map(Path::name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["hosts.ask"]).expect("known"), ["hosts.ask"]);
        assert_eq!(names(&["host"]).expect("known"), ["host.tell", "host.ask", "host.ask1000"]);
        assert_eq!(names(&[]).expect("all").len(), PATHS.len());
        assert!(names(&["nothing"]).expect_err("unknown").text.contains("local.tell"));
    }
}
