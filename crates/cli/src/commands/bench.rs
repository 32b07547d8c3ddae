//! `odeon bench`: measures this machine.
use crate::{
    args::BenchArgs,
    failure::{Failure, Outcome},
};
pub(crate) async fn run(args: BenchArgs, _as_json: bool) -> Outcome {
    Err(Failure::usage(format!("bench: {:?} {}", args.paths, args.seconds)))
}
