//! Threads: handlers that block do not stop others, blocking types run on a pool, idle systems cost nothing.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, reason = "a test's own actors")]
#![allow(clippy::unwrap_used, reason = "a test's helpers and actors may fail it")]
#![allow(clippy::disallowed_methods, reason = "blocking a thread is what is tested")]

mod common;

use common::eventually;
use odeon::prelude::*;
use std::{
    sync::{Condvar, Mutex},
    time::Instant,
};

/// Lets blocked threads go on.
static OPEN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

fn wait_for_open() {
    let mut open = OPEN.0.lock().unwrap();
    while !*open {
        open = OPEN.1.wait(open).unwrap();
    }
}

#[derive(Default)]
pub struct Blocker;
#[message(reply = u64)]
pub struct BlockThread;
#[actor("test.blocker")]
impl Blocker {
    fn block(&mut self, _: BlockThread) -> u64 {
        wait_for_open();
        1
    }
}

#[derive(Default)]
pub struct Pooled;
#[actor("test.pooled", blocking)]
impl Pooled {
    fn block(&mut self, _: BlockThread) -> u64 {
        wait_for_open();
        1
    }
}

#[derive(Default)]
pub struct Quick;
#[message(reply = u64)]
pub struct Ping;
#[actor("test.quick")]
impl Quick {
    fn ping(&mut self, _: Ping) -> u64 {
        7
    }
}

/// One test, as the threads that it blocks are those of the whole process's cores.
#[tokio::test(flavor = "multi_thread")]
async fn sixteen_blocked_handlers_stop_nobody_else() {
    let system = System::local();
    let quick = system.create::<Quick>(()).await.unwrap();
    let mut blocked = Vec::new();
    for _ in 0..16 {
        let blocker = system.create::<Blocker>(()).await.unwrap();
        blocked.push(tokio::spawn(blocker.ask(BlockThread).timeout(Duration::from_secs(60))));
    }
    for _ in 0..16 {
        let pooled = system.create::<Pooled>(()).await.unwrap();
        blocked.push(tokio::spawn(pooled.ask(BlockThread).timeout(Duration::from_secs(60))));
    }
    eventually("every blocked thread has a spare", async || system.stats().blocking == 16).await;
    assert_eq!(quick.ask(Ping).await.unwrap(), 7);
    *OPEN.0.lock().unwrap() = true;
    OPEN.1.notify_all();
    for ask in blocked {
        assert_eq!(ask.await.unwrap().unwrap(), 1);
    }
    system.stop().await;
}

/// How often a thread of this process has been put on a core.
fn switches(thread: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap_or_default();
    let count = |line: &str| line.split_whitespace().nth(1).and_then(|count| count.parse::<u64>().ok());
    status.lines().filter(|line| line.contains("ctxt_switches")).filter_map(count).sum()
}

#[test]
fn an_idle_system_runs_no_thread() {
    // In a process of its own: other tests of this binary have systems too.
    if std::env::var_os("ODEON_TEST_IDLE").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "an_idle_system_runs_no_thread", "--nocapture"])
            .env("ODEON_TEST_IDLE", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let system = System::local();
    runtime.block_on(async {
        for _ in 0..1_000 {
            system.create::<Quick>(()).await.unwrap().ask(Ping).await.unwrap();
        }
    });
    // Asks leave entries with their deadlines; the threads rest after those at the latest, and must then stay at rest.
    let until = Instant::now() + Duration::from_secs(30);
    let counts = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let ids = tasks.map(|task| task.file_name().to_string_lossy().into_owned());
        let own = std::process::id().to_string();
        let named = ids.filter(|id| {
            *id != own && {
                let name = std::fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap_or_default();
                name.starts_with("odeon-")
            }
        });
        named.map(|id| switches(&id)).sum::<u64>()
    };
    loop {
        let before = counts();
        std::thread::sleep(Duration::from_millis(1_500));
        if counts() == before {
            break;
        }
        assert!(Instant::now() < until, "the threads of an idle system do not rest");
    }
    runtime.block_on(system.stop());
}
