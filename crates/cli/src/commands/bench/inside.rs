//! Paths inside one process, each measured in a process of its own: this executable, told to measure here.

use super::{Figure, Path, RUNS};
use crate::{
    failure::{Failure, Outcome},
    output,
};
use odeon::bench::{Metric, Scale};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::Value;
use std::process::Stdio;
use tokio::process::Command;

/// Measures the paths in this process and prints them for the one that started it.
pub(super) async fn here(paths: &[Path], seconds: u64) -> Outcome {
    // Ctrl-C at the terminal reaches both; a parent that is killed takes this process along.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(Failure::failed)?;
    let mut figures = Vec::new();
    for path in paths {
        let Path::Inside { name, measure, processes } = *path else { continue };
        // One figure a process: its size is part of what is measured, and is left as it is.
        let size = if processes > 1 { 1.0 } else { seconds as f64 };
        let measured = tokio::task::spawn_blocking(move || measure(Scale { runs: RUNS, size })).await;
        let measured = measured.map_err(|error| Failure::failed(format!("bench: {name}: {error}")))?;
        figures.extend(measured.into_iter().flat_map(with_rate));
    }
    output::json(&Value::Array(figures.iter().map(Figure::json).collect()));
    Ok(())
}

/// A time per hop is shown as a rate too.
fn with_rate(metric: Metric) -> Vec<Figure> {
    if metric.metric != "hop" {
        return vec![metric.into()];
    }
    let (value, min, max) = (1e9 / metric.value, 1e9 / metric.max, 1e9 / metric.min);
    let rate = Metric { metric: "rate", unit: "1/s", value, min, max, ..metric.clone() };
    vec![metric.into(), rate.into()]
}

/// Measures that path in so many new processes.
pub(super) async fn measure(name: &str, processes: u32, seconds: u64) -> Result<Vec<Figure>, Failure> {
    let mut each = Vec::new();
    for _ in 0..processes {
        each.push(process(name, seconds).await?);
    }
    let metrics = each.iter().map(Vec::len).min().unwrap_or_default();
    let merged = (0..metrics).filter_map(|place| {
        Figure::merged(each.iter().filter_map(|figures: &Vec<Figure>| figures.get(place).cloned()).collect())
    });
    Ok(merged.collect())
}

async fn process(name: &str, seconds: u64) -> Result<Vec<Figure>, Failure> {
    let executable = std::env::current_exe().map_err(Failure::failed)?;
    let child = Command::new(executable)
        .args(["bench", name, "--here", "--json", "--seconds", &seconds.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::failed(format!("bench: {name}: cannot start its process: {error}")))?;
    let output = child.wait_with_output().await.map_err(Failure::failed)?;
    if !output.status.success() {
        return Err(Failure::failed(format!("bench: {name}: its process ended ({})", output.status)));
    }
    let list: Vec<Value> = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::failed(format!("bench: {name}: its process answered no figures: {error}")))?;
    Ok(list.iter().filter_map(Figure::from_json).collect())
}
