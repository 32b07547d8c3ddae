//! The program starts, says what it is, and refuses what is wrong. What it does is tested by the scenarios in `tests/`,
//! which take the executable that this test has built.

use std::process::{Command, Output};

fn odeon(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_odeon"));
    // No agent of this machine, and none of its settings.
    command.env_clear().args(["--agent", "/nonexistent/agent.sock"]).args(args);
    command.output().expect("odeon starts")
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn it_says_its_version() {
    let said = odeon(&["--version"]);
    assert!(said.status.success());
    assert_eq!(text(&said.stdout), format!("odeon {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_2_and_says_what_is_wrong() {
    let cases: [(&[&str], &str); 6] = [
        (&[], "Usage"),
        (&["frobnicate"], "frobnicate"),
        (&["ask", "c1"], "MESSAGE"),
        (&["ask", "c1", "Get", "--timeout", "5 apples"], "5 apples"),
        (&["token", "create", "--role", "king"], "king"),
        (&["agent", "--token", "a", "--token-file", "b"], "--token-file"),
    ];
    for (args, says) in cases {
        let wrong = odeon(args);
        let err = text(&wrong.stderr);
        assert_eq!(wrong.status.code(), Some(2), "{args:?}: {err}");
        assert!(err.contains(says) && wrong.stdout.is_empty(), "{args:?}: {err}");
    }
}

#[test]
fn without_an_agent_commands_are_3() {
    for args in
        [["status"].as_slice(), &["ask", "c1", "Get"], &["--json", "hosts"], &["dead-letters"], &["token", "create"]]
    {
        let lost = odeon(args);
        let err = text(&lost.stderr);
        assert_eq!(lost.status.code(), Some(3), "{args:?}: {err}");
        assert!(err.starts_with("odeon: ") && err.lines().count() == 1, "{args:?}: {err}");
        assert!(lost.stdout.is_empty(), "{args:?}");
    }
}
