//! The costs of the runtime inside one process: `cargo run --release -p odeon --example core_bench -- [PATH…]`.

use odeon::bench::{self, Metric, Scale};

type Path = fn(Scale) -> Vec<Metric>;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let paths: [(&str, Path); 8] = [
        ("tell", bench::tell),
        ("fanin", bench::fan_in),
        ("ask", bench::ask),
        ("ring", bench::ring),
        ("create", bench::create),
        ("lifecycle", bench::lifecycle),
        ("idle", bench::idle),
        ("busy", bench::busy),
    ];
    for (_, path) in paths.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|want| want == name)) {
        for Metric { path, metric, value, unit, min, max, .. } in path(Scale::default()) {
            #[expect(clippy::print_stdout, reason = "it is this program's purpose")]
            {
                println!("{path:18} {metric:12} {value:10.3} {unit:4} [{min:.3}..{max:.3}]");
            }
        }
    }
}
