//! Does what README and the book say, word by word, with the built executables.
//!
//! Every command line of these pages is taken from the page itself. A machine of the book is a loopback address, a home
//! directory and an environment here, so that lines that need no flags on a machine of their own need none here either.

mod doctor;
mod page;

use crate::harness::{Convention, executable, wait_for};
use page::{Page, curl, root, words};
use serde_json::{Value, json};
use std::{
    fs::File,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
};
use tempfile::TempDir;

/// A machine of the book. What runs on it ends with the test.
struct Machine {
    ip: String,
    home: PathBuf,
    /// Where its command lines are typed.
    directory: PathBuf,
    environment: Vec<(&'static str, String)>,
    /// What a line says, and what it is here: `10.0.0.1:7400`, `TOKEN`.
    spelling: Vec<(String, String)>,
    running: Vec<Child>,
}

impl Machine {
    fn new(ip: &str, home: &Path) -> Self {
        std::fs::create_dir_all(home).expect("a home directory");
        let programs = executable("odeon").parent().expect("target/PROFILE").display().to_string();
        Self {
            ip: ip.to_owned(),
            home: home.to_owned(),
            directory: home.to_owned(),
            environment: vec![("XDG_STATE_HOME", home.display().to_string())],
            spelling: vec![("target/release".to_owned(), programs)],
            running: Vec::new(),
        }
    }

    /// With the default ports and the host name that a machine of its own would have.
    fn on_its_own(ip: &str, home: &Path, name: &str) -> Self {
        let mut machine = Self::new(ip, home);
        let settings = [("ODEON_NAME", name.to_owned()), ("ODEON_LISTEN", udp(ip)), ("ODEON_HTTP", tcp(ip))];
        machine.environment.extend(settings);
        machine
    }

    fn command(&self, line: &str) -> Command {
        let mut words: Vec<String> = words(line).iter().map(|word| self.spell(word)).collect();
        let program = match words.remove(0) {
            name if name == "odeon" => executable("odeon"),
            name if name == "cargo" => env!("CARGO").into(),
            path => path.into(),
        };
        let mut command = Command::new(program);
        command.args(words).current_dir(&self.directory).env_remove("ODEON_AGENT");
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    fn spell(&self, word: &str) -> String {
        self.spelling.iter().fold(word.to_owned(), |word, (book, here)| word.replace(book, here))
    }

    /// Types a line and waits for its end; what it printed.
    #[track_caller]
    fn types(&self, line: &str) -> String {
        let Output { status, stdout, stderr } = self.command(line).stdin(Stdio::null()).output().expect("it starts");
        let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{line}: {status}\n{out}\n{err}");
        out.into_owned()
    }

    /// Types a line that goes on running; the file that takes what it says.
    fn runs(&mut self, line: &str, more: &[&str]) -> PathBuf {
        let log_path = self.home.join(format!("{}.log", self.running.len()));
        let log = File::create(&log_path).expect("a log");
        let mut command = self.command(line);
        command.args(more).stdin(Stdio::piped()).stdout(log.try_clone().expect("a log")).stderr(log);
        self.running.push(command.spawn().expect("it starts"));
        log_path
    }

    /// Starts an agent as the line says and waits until it is ready.
    #[track_caller]
    fn runs_agent(&mut self, line: &str) {
        let socket = words(line)
            .iter()
            .position(|word| word == "--data")
            .map(|at| format!("--agent {}/agent.sock ", words(line)[at + 1]));
        // No agent outlives this test, however it ends.
        let log = self.runs(line, &["--stop-on-eof"]);
        let health = format!("odeon {}health", socket.unwrap_or_default());
        wait_for("the agent to be ready", || {
            if let Some(status) = self.last().try_wait().expect("it can be waited for") {
                panic!("{line}: {status}: {}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            self.command(&health).output().is_ok_and(|ran| ran.status.success()).then_some(())
        });
    }

    fn last(&mut self) -> &mut Child {
        self.running.last_mut().expect("something runs")
    }

    /// Ctrl-C at the last thing started; whether it ended well.
    fn interrupts(&mut self) -> bool {
        let mut child = self.running.pop().expect("something runs");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
        wait_for("it to end", || child.try_wait().expect("it can be waited for")).success()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn udp(ip: &str) -> String {
    UdpSocket::bind((ip, 0)).and_then(|socket| socket.local_addr()).expect("a free port").to_string()
}

fn tcp(ip: &str) -> String {
    TcpListener::bind((ip, 0)).and_then(|socket| socket.local_addr()).expect("a free port").to_string()
}

fn parsed(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

fn home() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn getting_started_with_dev() {
    let (home, mut page) = (home(), Page::open("docs/getting-started.md"));
    // The demo has a step of its own in `.ci/run`; the build is that of these tests.
    page.take("cargo run --release -- demo");
    page.take("cargo build --release -p odeon-cli -p probe");
    let mut machine = Machine::new("127.0.0.1", home.path());
    let said = machine.runs(&page.take("target/release/odeon dev"), &[]);
    wait_for("dev to say that it runs", || {
        let said = std::fs::read_to_string(&said).unwrap_or_default();
        assert!(machine.last().try_wait().expect("it can be waited for").is_none(), "dev ended: {said}");
        said.contains("Ctrl-C stops everything").then_some(())
    });
    page.take("alias odeon=target/release/odeon");
    machine.types(&page.take("odeon --host h1 create"));
    machine.types(&page.take("odeon --host h2 tell"));
    let got = wait_for("the counter to have counted", || {
        let got = parsed(&machine.types("odeon --host h3 ask c1 Get"));
        (got["value"] == 5).then_some(got)
    });
    assert_eq!(page.take("odeon --host h3 ask"), "odeon --host h3 ask c1 Get");
    let others = parsed(&machine.types("odeon --host h2 ask c1 Get"));
    assert_eq!((&got["pid"], &got["host"]), (&others["pid"], &others["host"]));
    let hosts = machine.types(&page.take("odeon --host h1 hosts"));
    assert!(["h1", "h2", "h3"].iter().all(|name| hosts.contains(name)), "{hosts}");
    assert!(machine.interrupts(), "Ctrl-C ends it well");
}

#[test]
fn getting_started_one_agent_at_a_time() {
    let (home, mut page) = (home(), Page::open("docs/getting-started.md"));
    (0..8).for_each(|_| drop(page.take("")));
    let mut machine = Machine::new("127.0.9.1", home.path());
    for host in 1..=3 {
        let (ip, book) = (format!("127.0.9.{host}"), format!("127.0.0.{host}"));
        machine.spelling.push((format!("{book}:7400"), udp(&ip)));
        machine.spelling.push((format!("{book}:7480"), tcp(&ip)));
        // Not all of /tmp: the sources themselves may be there.
        machine.spelling.push((format!("/tmp/h{host}"), format!("{}/h{host}", home.path().display())));
    }
    machine.runs_agent(&page.take("odeon agent --name h1 --bootstrap"));
    let made = machine.types(&page.take("odeon --agent /tmp/h1/agent.sock token create"));
    let token = made.lines().next().expect("a token").to_owned();
    assert!(
        made.contains(&format!("odeon agent --join {} --token {token}", machine.spell("127.0.0.1:7400"))),
        "{made}"
    );
    machine.spelling.push(("TOKEN".to_owned(), token));
    let second = page.take("odeon agent --name h2 --join");
    machine.runs_agent(&second);
    machine.runs_agent(&page.take("odeon agent --name h3 --join"));
    let status = machine.types(&page.take("odeon --agent /tmp/h2/agent.sock status"));
    assert!(status.lines().any(|line| line.starts_with("failover") && line.ends_with("yes")), "{status}");
    page.end();

    // "Start it again with the same directory and it rejoins by itself, with neither `--bootstrap` nor `--join`."
    let mut child = machine.running.remove(1);
    child.kill().and_then(|()| child.wait()).expect("h2 ran");
    let (before, after) = second.split_once("--join 127.0.0.1:7400 --token TOKEN ").expect("h2 joined");
    machine.runs_agent(&format!("{before}{after}"));
    machine.types("odeon --agent /tmp/h2/agent.sock create probe.counter --name again");
}

/// Where the crate of `docs/your-own-crate.md` is, written and built as the page says.
///
/// Not with `--release`: what is shown is the same, and it builds in a third of the time.
fn counter() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let (home, mut page) = (home(), Page::open("docs/your-own-crate.md"));
        let mut machine = Machine::new("127.0.0.1", home.path());
        machine.spelling.push(("../odeon".to_owned(), root().display().to_string()));
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("book");
        machine.environment.extend([
            ("CARGO_TARGET_DIR", target.display().to_string()),
            ("CARGO_PROFILE_DEV_DEBUG", "0".to_owned()),
            // What the workspace was built from is here; nothing else is needed.
            ("CARGO_NET_OFFLINE", "true".to_owned()),
            // Beside it run tests with agents in them.
            ("CARGO_BUILD_JOBS", "1".to_owned()),
        ]);
        let first = page.take("cargo new counter && cd counter");
        machine.types(first.split(" && ").next().unwrap_or_default());
        machine.directory = home.path().join("counter");
        machine.types(&page.take("cargo add odeon --path"));
        std::fs::copy(root().join("Cargo.lock"), machine.directory.join("Cargo.lock")).expect("its versions");
        std::fs::write(machine.directory.join("src/main.rs"), page.block("rust")).expect("its source");
        machine.types("cargo build");
        target.join("debug")
    })
}

#[test]
fn your_own_crate_alone() {
    let (home, mut page) = (home(), Page::open("docs/your-own-crate.md"));
    (0..2).for_each(|_| drop(page.take("cargo ")));
    assert_eq!(page.take("cargo run"), "cargo run");
    let mut machine = Machine::new("127.0.0.1", home.path());
    let said = machine.runs(&counter().join("counter").display().to_string(), &[]);
    wait_for("it to say what it is", || {
        std::fs::read_to_string(&said)
            .is_ok_and(|said| said.contains("runs alone, as no agent started it"))
            .then_some(())
    });
    assert!(machine.interrupts(), "Ctrl-C ends it well");
}

/// Two machines with the counter's executable, and the token that the second joins with.
fn two_machines(home: &Path, third_byte: u8, page: &mut Page) -> (Machine, Machine) {
    let ips = [1, 2].map(|host| format!("127.0.{third_byte}.{host}"));
    let [mut first, mut second] =
        [0, 1].map(|at| Machine::on_its_own(&ips[at], &home.join(format!("m{at}")), ["one", "two"][at]));
    for machine in [&mut first, &mut second] {
        machine.spelling = vec![("target/release".to_owned(), counter().display().to_string())];
    }
    first.runs_agent(&page.take("odeon agent --bootstrap"));
    let made = first.types(&page.take("odeon token create"));
    let (token, join) = made.split_once('\n').expect("a token and a line for people");
    let address = join.split(' ').skip_while(|word| *word != "--join").nth(1).expect("the address to join");
    assert!(address.starts_with(&first.ip), "{join}");
    second.spelling.push(("10.0.0.1:7400".to_owned(), address.to_owned()));
    second.spelling.push(("odeon1-voter-…".to_owned(), token.to_owned()));
    second.runs_agent(&page.take("odeon agent --join 10.0.0.1:7400"));
    (first, second)
}

#[test]
fn your_own_crate_on_two_machines() {
    let (home, mut page) = (home(), Page::open("docs/your-own-crate.md"));
    (0..3).for_each(|_| drop(page.take("cargo ")));
    let (first, second) = two_machines(home.path(), 8, &mut page);
    let hosts = first.types(&page.take("odeon hosts"));
    assert!(hosts.contains("one") && hosts.contains("two"), "{hosts}");
    let create = page.take("odeon create counter.counter");
    assert_eq!(first.types(&create), second.types(&create), "create it twice and you get one actor");
    second.types(&page.take("odeon tell visits"));
    let ask = page.take("odeon ask visits");
    wait_for("the count", || (first.types(&ask).trim() == "3").then_some(()));
    assert_eq!(second.types(&ask).trim(), "3");
    page.end();

    let status = first.types("odeon status");
    let failover: Vec<&str> = status.lines().filter(|line| line.starts_with("failover")).collect();
    assert!(matches!(failover[..], [line] if line.ends_with("no (1 voter)")), "{status}");
}

#[test]
fn the_readme() {
    let (home, mut page) = (home(), Page::open("README.md"));
    page.take("cargo run --release -- demo");
    page.take("cargo test --workspace");
    let (first, second) = two_machines(home.path(), 7, &mut page);
    first.types(&page.take("odeon create counter.counter"));
    assert_eq!(second.types(&page.take("odeon ask visits Count")).trim(), "0");
    page.end();
}

#[test]
fn when_voters_are_lost() {
    let (home, mut page) = (home(), Page::open("docs/recovery.md"));
    let mut machine = Machine::on_its_own("127.0.5.1", home.path(), "h1");
    for (book, here) in [("/var/lib/odeon-new", "new"), ("/backup", "backup")] {
        machine.spelling.push((book.to_owned(), home.path().join(here).display().to_string()));
    }
    std::fs::create_dir(home.path().join("backup")).expect("a directory");
    machine.runs_agent("odeon agent --bootstrap");
    assert!(machine.interrupts());
    // Nobody is there to be asked.
    let recovered = machine.types(&format!("{} --yes", page.take("odeon recover")));
    assert!(recovered.contains("what may be lost"), "{recovered}");
    machine.runs_agent(&page.take("odeon agent --name h1"));
    assert!(machine.types(&page.take("odeon token create")).starts_with("odeon1-voter-"));
    machine.types(&page.take("odeon backup /backup/"));
    assert!(machine.interrupts());
    machine.types(&page.take("odeon restore /backup/"));
    machine.runs_agent(&page.take("odeon agent --name h1 --data"));
    page.end();
    assert_eq!(machine.types("odeon --agent /var/lib/odeon-new/agent.sock token list").lines().count(), 2);
}

#[test]
fn capabilities() {
    let (home, mut page) = (home(), Page::open("docs/capabilities.md"));
    let mut machine = Machine::on_its_own("127.0.7.1", home.path(), "one");
    machine.runs_agent(&format!("odeon agent --bootstrap --worker {}", executable("probe").display()));
    machine.types(&page.take("odeon capability set gpu=2 zone=eu-1"));
    let listed = machine.types(&page.take("odeon capability list"));
    let rows: Vec<Vec<&str>> = listed.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, [["gpu", "2", "set"], ["zone", "eu-1", "set"]], "{listed}");
    machine.types(&page.take("odeon create probe.echo --requires"));
    let left = machine.types(&page.take("odeon capability unset zone"));
    assert!(left.contains("gpu") && !left.contains("zone"), "{left}");
    page.end();
}

#[test]
fn how_do_i_get_in() {
    let (http, mut page) = (tcp("127.0.6.1"), Page::open("docs/how-do-i-get-in.md"));
    let worker = executable("probe").display().to_string();
    let convention = Convention::one(&["--http", &http, "--worker", &worker]);
    let created = curl(&page.take("curl -X POST localhost:7480/v1/actors"), &http);
    assert_eq!((created.status, &created.body["created"]), (201, &json!(true)), "{created:?}");
    let told = curl(&page.take("curl -X POST localhost:7480/v1/tell/c1/Add"), &http);
    assert_eq!(told.status, 202, "{told:?}");
    let asked = curl(&page.take("curl -X POST localhost:7480/v1/ask/c1/Get"), &http);
    assert_eq!((asked.status, &asked.body["value"]), (200, &json!(5)), "{asked:?}");
    let settled = curl(&page.take("curl -X POST 'localhost:7480/v1/tell/c1/Add?settled=1"), &http);
    assert_eq!((settled.status, &settled.body), (200, &json!({})), "{settled:?}");
    page.end();

    let nobody = curl(&format!("curl -X POST {http}/v1/ask/nobody/Get"), &http);
    assert_eq!((nobody.status, &nobody.body["error"]["may_have_run"]), (404, &json!(false)), "{nobody:?}");
    assert_eq!(convention.agents[0].ask("c1", "Get", "")["value"], 10);
}
