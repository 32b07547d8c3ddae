//! The workers that are built in: poll and probe for the demo, two for measuring between processes.

use crate::{
    bench_actors::{Asker, Driver, Echo},
    failure::{Failure, Outcome},
};
use odeon::Worker;

/// Runs the worker of that name until its agent ends it.
pub(crate) fn run(name: &str) -> Outcome {
    built_in(name)?.run().map_err(Failure::failed)
}

/// The worker of that name.
pub(crate) fn built_in(name: &str) -> Result<Worker, Failure> {
    match name {
        "poll" => Ok(poll::worker()),
        "probe" => Ok(probe::worker()),
        "bench-driver" => Ok(odeon::worker![Driver, Asker]),
        "bench-echo" => Ok(odeon::worker![Echo]),
        other => Err(Failure::usage(format!("worker: there is no {other:?}: poll, probe, bench-driver, bench-echo"))),
    }
}
