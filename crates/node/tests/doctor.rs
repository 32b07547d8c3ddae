//! What agents of one process find when they look at themselves, and what they do when others ask too much.

mod common;

use common::{PATIENCE, hosts};
use odeon_node::doctor::{Facts, Turn, gather};
use tokio::time::timeout;

async fn looked(host: &common::Host) -> Facts {
    timeout(PATIENCE, host.agent.convention().examine()).await.expect("it is bounded")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_see_each_other_and_themselves() {
    let hosts = hosts(2).await;
    let data = tempfile::tempdir().expect("a directory");
    let facts = gather(hosts[0].agent.convention().clone(), data.path().to_owned(), Turn::default()).await;
    let [other] = &facts.hosts[..] else { panic!("one other host: {facts:?}") };
    assert!(other.name == "h2" && other.asked && other.silence.is_none(), "{facts:?}");
    assert_eq!((other.version.as_ref(), other.feature_level), (Some(&facts.version), Some(facts.feature_level)));
    let clock = other.clock.expect("its clock");
    // One machine, one clock.
    assert!(clock.ahead_us.unsigned_abs() <= clock.round_trip_us, "{clock:?}");
    let [dialled] = &facts.dialled_back[..] else { panic!("one dial: {facts:?}") };
    assert_eq!((dialled.address.as_ref(), &dialled.failed), (Some(&facts.address), &None));
    assert!(facts.socket.is_some_and(|socket| socket.receive_bytes > 0) && facts.leader.is_some(), "{facts:?}");
    let certificate = facts.certificate.expect("a certificate");
    assert!(0 < certificate.renewal_in_s && certificate.renewal_in_s < certificate.left_s, "{certificate:?}");
    assert!(facts.disk.expect("the disk").writes.is_some_and(|writes| writes.count > 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_fell_silent_is_told_with_what_its_dials_came_to() {
    let hosts = hosts(2).await;
    hosts[1].fall_silent().await;
    let dialled = async {
        loop {
            let facts = looked(&hosts[0]).await;
            let [other] = &facts.hosts[..] else { panic!("one other host: {facts:?}") };
            assert!(facts.dialled_back.is_empty() || other.silence.is_none(), "{facts:?}");
            if let Some(silence) = other.silence.as_ref().filter(|silence| silence.dials > 0) {
                assert!(other.version.is_none() && other.clock.is_none() && !silence.why.is_empty(), "{other:?}");
                break;
            }
        }
    };
    timeout(PATIENCE, dialled).await.expect("a dial to fail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_asked_to_dial_too_often_refuses() {
    let hosts = hosts(2).await;
    let looks: Vec<_> = (0..24)
        .map(|_| {
            let convention = hosts[0].agent.convention().clone();
            tokio::spawn(async move { convention.examine().await })
        })
        .collect();
    let mut refused = 0;
    for look in looks {
        let facts = timeout(PATIENCE, look).await.expect("it is bounded").expect("it does not panic");
        let [dialled] = &facts.dialled_back[..] else { panic!("one dial: {facts:?}") };
        let busy = dialled.failed.as_ref().is_some_and(|why| why.contains("dials back for others"));
        assert!(busy != dialled.address.is_some(), "{dialled:?}");
        refused += usize::from(busy);
    }
    assert!(refused > 0, "at most four in a second");
    // Later it dials again.
    let dials = async {
        while looked(&hosts[0]).await.dialled_back.iter().any(|dialled| dialled.failed.is_some()) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, dials).await.expect("a second later");
}
