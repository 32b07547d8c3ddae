//! Kills a host and waits until each of its questions answers from every survivor, with a higher epoch and its tally.

use super::Demo;
use crate::{
    failure::{Code, Failure, Outcome},
    output,
};
use poll::client::Client;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const TYPE: &str = "poll.question";
const ARCHIVE_TYPE: &str = "poll.archive";
const FAILOVER_WAIT: Duration = Duration::from_secs(30);

/// Kills the host with most questions that is not the archive's.
pub(super) async fn kill_one(demo: &mut Demo) -> Outcome {
    let names = names(demo).await?;
    let (victim, questions) = choose(&names)?;
    let index = demo.hosts.all.iter().position(|host| host.name == victim);
    let index = index.ok_or_else(|| Failure::failed(format!("demo: {victim} is none of the hosts")))?;
    let mut host = demo.hosts.all.remove(index);
    let pid = host.pid().unwrap_or_default();
    demo.say(&format!("killing {victim} (agent {pid}), which has {} questions", questions.len()));
    let killed = Instant::now();
    host.kill().await;
    let took = until_answered(demo, &questions, killed).await?;
    demo.report.killed = victim;
    demo.report.failover_ms = took.as_secs_f64() * 1e3;
    demo.report.lost_after_last_save = lost(demo, &questions).await;
    demo.say(&format!("each of them answers from both survivors, {:.1} s after the kill", took.as_secs_f64()));
    Ok(())
}

/// The questions of a host, by key, with their epochs.
type Questions = BTreeMap<String, u64>;

async fn names(demo: &Demo) -> Result<Value, Failure> {
    demo.hosts.all[0].client().await?.admin(json!({ "command": "names" })).await
}

fn questions_by_host(names: &Value) -> BTreeMap<String, Questions> {
    let mut hosts: BTreeMap<String, Questions> = BTreeMap::new();
    for name in names.as_array().into_iter().flatten().filter(|name| name["type"] == TYPE) {
        let whole = output::cell(&name["name"]);
        let key = whole.strip_prefix(TYPE).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&whole).to_owned();
        hosts.entry(output::cell(&name["host"])).or_default().insert(key, name["epoch"].as_u64().unwrap_or(0));
    }
    hosts
}

fn choose(names: &Value) -> Result<(String, Questions), Failure> {
    let bears_archive = |host: &str| {
        names.as_array().into_iter().flatten().any(|name| name["type"] == ARCHIVE_TYPE && name["host"] == host)
    };
    questions_by_host(names)
        .into_iter()
        .filter(|(host, _)| !bears_archive(host))
        .max_by_key(|(_, questions)| questions.len())
        .ok_or_else(|| Failure::failed("demo: all questions live on the archive's host"))
}

/// Asks for every question until all survivors give the tally that is expected, then until all epochs are higher.
async fn until_answered(demo: &Demo, questions: &Questions, killed: Instant) -> Result<Duration, Failure> {
    let urls = demo.urls();
    let mut pending: Vec<(usize, String)> =
        (0..urls.len()).flat_map(|url| questions.keys().map(move |key| (url, key.clone()))).collect();
    let mut clients: Vec<Client> =
        urls.iter().map(|url| Client::new(std::slice::from_ref(url), 0).patience(Duration::from_millis(300))).collect();
    loop {
        let mut left = Vec::new();
        for (url, key) in pending {
            let seen = clients[url].analytics(&key).await;
            if !matches!(seen, Ok(Some(ref seen)) if demo.expected.get(&key).is_none_or(|wanted| wanted == seen)) {
                left.push((url, key));
            }
        }
        pending = left;
        if pending.is_empty() && all_newer(&names(demo).await?, questions) {
            return Ok(killed.elapsed());
        }
        if killed.elapsed() > FAILOVER_WAIT {
            let first = match pending.first() {
                Some((url, key)) => format!(
                    "{key:?} at {}: {:?}",
                    urls[*url],
                    clients[*url].analytics(key).await.map(|seen| seen.map(|seen| seen.total))
                ),
                None => "all answer, but not all under a higher epoch".to_owned(),
            };
            let text = format!("demo: {} answers are missing {FAILOVER_WAIT:?} after the kill: {first}", pending.len());
            return Err(Failure::new(Code::TimedOut, text));
        }
    }
}

fn all_newer(names: &Value, before: &Questions) -> bool {
    let now: Questions = questions_by_host(names).into_values().flatten().collect();
    before.iter().all(|(key, epoch)| now.get(key).is_some_and(|after| after > epoch))
}

/// Responses that were accepted and are in no tally any more.
async fn lost(demo: &Demo, questions: &Questions) -> u64 {
    let mut client = Client::new(&demo.urls(), 0);
    let mut lost = 0;
    for key in questions.keys() {
        let wanted = demo.expected.get(key).map_or(0, |poll| poll.total);
        let counted = client.analytics(key).await.ok().flatten().map_or(0, |seen| seen.total);
        lost += wanted.saturating_sub(counted);
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_with_most_questions_that_is_not_the_archives_is_chosen() {
        let name = |name: &str, kind: &str, host: &str, epoch: u64| json!({ "name": name, "type": kind, "host": host, "epoch": epoch });
        let names = json!([
            name("poll.archive/archive", ARCHIVE_TYPE, "h1", 1),
            name("poll.question/a", TYPE, "h1", 2),
            name("poll.question/b", TYPE, "h1", 3),
            name("poll.question/c", TYPE, "h2", 4),
        ]);
        let (victim, questions) = choose(&names).unwrap();
        assert_eq!(victim, "h2");
        assert_eq!(questions, Questions::from([("c".to_owned(), 4)]));
        assert!(!all_newer(&names, &questions));
        assert!(all_newer(&json!([name("poll.question/c", TYPE, "h1", 5)]), &questions));
    }
}
