//! The workers that are built in: poll and probe for the demo, two for measuring between processes.

use crate::{
    bench_actors::{Asker, Driver, Echo},
    failure::{Failure, Outcome},
};

/// Runs the worker of that name until its agent ends it.
pub(crate) fn run(name: &str) -> Outcome {
    let ended = match name {
        "poll" => poll::worker().run(),
        "probe" => probe::worker().run(),
        "bench-driver" => odeon::worker![Driver, Asker].run(),
        "bench-echo" => odeon::worker![Echo].run(),
        other => {
            return Err(Failure::usage(format!("worker: there is no {other:?}: poll, probe, bench-driver, bench-echo")));
        }
    };
    ended.map_err(Failure::failed)
}
