//! Poll analytics: HTTP in, a troupe that translates, one named actor per question, a cast that retires idle ones.
//!
//! - [`actors`]: the service itself; read this first. [`archive`], [`tally`]: what it keeps, and how it counts.
//! - [`http`]: the front. [`worker`] puts all of it into a process.
//! - [`survey`], [`client`], [`mod@replay`], [`mod@load`], [`mod@expected`]: real input for it, and whether it was counted right.

pub mod actors;
pub mod archive;
pub mod client;
pub mod expected;
pub mod http;
pub mod load;
pub mod replay;
pub mod settings;
pub mod survey;
pub mod tally;

pub use expected::{Mismatch, expected, verify};
pub use load::load;
pub use replay::replay;

use actors::{Cast, Question, Translator};
use archive::Archive;
use odeon::{Error, System};

/// The poll as a worker: under an agent it joins its host's, else it serves on `System::local()`.
///
/// ```no_run
/// fn main() -> odeon::Result {
///     poll::worker().run()
/// }
/// ```
pub fn worker() -> odeon::Worker {
    odeon::worker![Question, Translator, Cast, Archive]
        .listen("poll", settings::listen())
        .serve(serve)
        .capability_if_alone("archive", true) // else the operator says which host keeps the file
}

async fn serve(system: System) -> odeon::Result {
    let entry = system.create::<Translator>(()).await?; // once; kept for every request
    axum::serve(system.listener("poll")?, http::routes(entry))
        .with_graceful_shutdown(system.stopping())
        .await
        .map_err(Error::other)
}
