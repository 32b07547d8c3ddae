//! Rules of the code base that the compiler does not know: which crate may see which, and what stays out of where.

#![expect(clippy::unwrap_used, reason = "a rule that cannot be checked is broken")]

use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Every crate, and the workspace's crates that it may depend on (not counting its tests).
///
/// The arrows that are absent matter most: `cluster` decides without doing, `odeon` does not know `node`, and `node`
/// knows no user type. A new crate or a new arrow needs a decision record.
const ARROWS: [(&str, &[&str]); 11] = [
    ("odeon-protocol", &[]),
    ("odeon-macros", &[]),
    ("odeon-cluster", &["odeon-protocol"]),
    ("odeon-transport", &["odeon-protocol"]),
    ("odeon-node", &["odeon-protocol", "odeon-cluster", "odeon-transport"]),
    ("odeon", &["odeon-protocol", "odeon-cluster", "odeon-transport", "odeon-macros"]),
    ("poll", &["odeon"]),
    ("probe", &["odeon"]),
    ("odeon-cli", &["odeon-protocol", "odeon-transport", "odeon-node", "odeon", "poll", "probe"]),
    (
        "odeon-testkit",
        &["odeon-protocol", "odeon-cluster", "odeon-transport", "odeon-node", "odeon", "poll", "probe", "odeon-cli"],
    ),
    ("odeon-tests", &["odeon-protocol"]),
];

/// What the crates that only say and decide must not do. Time and chance are their arguments.
const DOING: [&str; 12] = [
    "tokio",
    "Instant::now",
    "SystemTime",
    "std::fs",
    "std::io",
    "std::thread",
    "std::process",
    "std::env",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "rand::rng",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).arg("--offline").current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The files below a directory whose names end in one of `endings`, without what is built.
fn files(directory: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["target", ".git"].contains(&name.as_str()) {
            files(&path, endings, found);
        } else if path.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
}

fn rust_files(directory: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&root().join(directory), &[".rs"], &mut found);
    assert!(!found.is_empty(), "nothing in {directory}");
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn the_arrows_between_crates_are_those_of_the_design() {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, known, "a new crate needs a decision record and a line in ARROWS");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) = ARROWS.iter().find(|(known, _)| *known == name).unwrap();
        let dependencies = package["dependencies"].as_array().unwrap();
        for dependency in dependencies.iter().filter(|dependency| dependency["kind"].is_null()) {
            let on = dependency["name"].as_str().unwrap();
            assert!(!known.contains(on) || allowed.contains(&on), "{name} must not depend on {on}");
        }
    }
}

#[test]
fn users_of_odeon_build_no_quic_and_no_tls() {
    let tree = cargo(&["tree", "--package", "odeon", "--edges", "normal", "--prefix", "none"]);
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains("odeon-protocol"), "the tree is not read: {tree}");
    for heavy in ["quinn", "quinn-proto", "rustls", "ring", "aws-lc-rs", "rcgen", "openraft", "redb", "odeon-node"] {
        assert!(
            !crates.contains(heavy),
            "odeon depends on {heavy}: `cargo tree -p odeon -e normal -i {heavy}` says why"
        );
    }
}

#[test]
fn what_decides_does_nothing() {
    for package in ["odeon-cluster", "odeon-protocol"] {
        let tree = cargo(&["tree", "--package", package, "--edges", "normal", "--prefix", "none"]);
        let doing = tree.lines().find(|line| ["tokio ", "rustix ", "mio "].iter().any(|name| line.starts_with(name)));
        assert_eq!(doing, None, "{package} depends on what does I/O");
    }
    for (path, text) in rust_files("crates/cluster/src").into_iter().chain(rust_files("crates/protocol/src")) {
        for (number, line) in product_lines(&text) {
            let found = DOING.iter().find(|word| line.contains(**word));
            assert!(
                found.is_none(),
                "{}:{number}: `{}` in a crate without I/O and clock",
                path.display(),
                found.unwrap()
            );
        }
    }
}

/// The numbered lines of a source file without comments and without what follows its `#[cfg(test)]`.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| (at + 1, line))
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    // In two pieces, so that this file passes.
    let machine = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["/home", "/"].concat()];
    let mut found = Vec::new();
    files(&root(), &[".rs", ".toml", ".md", ".sh", ".yaml", ".yml", ".stderr", "Dockerfile", ".service"], &mut found);
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        for (at, line) in text.lines().enumerate() {
            let hit = machine.iter().find(|prefix| line.contains(prefix.as_str()));
            assert!(hit.is_none(), "{}:{}: {line}", path.display(), at + 1);
        }
    }
}

#[test]
fn what_references_offer_themselves_is_no_handlers_name() {
    let references = rust_files("crates/odeon/src/reference");
    let of_actors = |(_, text): &(PathBuf, String)| Some(text.split_once("impl<A: Actor> ActorRef<A> {")?.1.to_owned());
    let own = references.iter().find_map(of_actors).unwrap();
    let (own, _) = own.split_once("\n}").unwrap();
    let methods: Vec<&str> = own
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub "))
        .filter_map(|line| line.trim_start_matches("async ").strip_prefix("fn "))
        .filter_map(|line| line.split(['(', '<']).next())
        .collect();
    assert!(methods.contains(&"tell"), "the methods are not found: {methods:?}");
    let block = fs::read_to_string(root().join("crates/macros/src/actor/block.rs")).unwrap();
    for method in methods {
        assert!(block.contains(&format!("\"{method}\"")), "`TAKEN` in the macros lacks `{method}`");
    }
}

#[test]
fn the_macros_know_how_long_a_name_may_be() {
    let text = fs::read_to_string(root().join("crates/macros/src/attribute.rs")).unwrap();
    let expected = format!("const NAME_BYTES_MAX: usize = {};", odeon_protocol::limits::TYPE_NAME_BYTES_MAX);
    assert!(text.contains(&expected), "the macros lack `{expected}`");
}

#[test]
fn rust_in_the_book_is_compiled() {
    let compiled = fs::read_to_string(root().join("crates/odeon/src/lib.rs")).unwrap();
    let mut pages = vec![root().join("README.md")];
    files(&root().join("docs"), &[".md"], &mut pages);
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let rust = text.lines().any(|line| line.starts_with("```rust"));
        let path = page.strip_prefix(root()).unwrap().display().to_string();
        let included = compiled.contains(&format!("include_str!(\"../../../{path}\")"));
        assert!(!rust || included, "{path} has Rust in it: name it in `mod book` of crates/odeon/src/lib.rs");
    }
}
