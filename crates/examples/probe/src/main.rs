//! The worker on its own: under an agent a worker, else a process by itself.

fn main() -> odeon::Result {
    probe::worker().run()
}
