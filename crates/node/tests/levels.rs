//! Agents of two feature levels in one convention: what they say of themselves is all that differs here, so that one build
//! plays both. `tests/levels.rs` of the workspace has two builds.

mod common;

use common::until;
use odeon_cluster::directory::{Answer, Command, Denied, Role};
use odeon_node::{Agent, Bind, Config, Ended, StartError, convention::ProposeError};
use odeon_protocol::level::FEATURE_LEVEL;
use std::time::Duration;
use tempfile::TempDir;

const NEXT: u16 = FEATURE_LEVEL + 1;

struct Host {
    agent: Agent,
    config: Config,
    _data: TempDir,
}

impl Host {
    async fn form(level: u16) -> Self {
        let host = Self::start("h1", level, |config| config.bootstrap = true).await.expect("it forms a convention");
        assert!(host.agent.ready().await);
        host
    }

    /// Joins through this host.
    async fn join(&self, name: &str, level: u16, role: Role) -> Result<Self, StartError> {
        let convention = self.agent.convention();
        let token = convention.create_token(role, Duration::from_secs(600), None).await.expect("a token");
        let through = convention.listens_on().to_string();
        Self::start(name, level, |config| (config.join, config.token) = (vec![through], Some(token))).await
    }

    async fn start(name: &str, level: u16, change: impl FnOnce(&mut Config)) -> Result<Self, StartError> {
        let data = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::new(name, data.path());
        config.listen = Bind::asked(([127, 0, 0, 1], 0).into());
        (config.http, config.feature_level) = (None, level);
        change(&mut config);
        Ok(Self { agent: Agent::start(config.clone()).await?, config, _data: data })
    }

    /// Another build takes the place of this one.
    async fn replaced(&mut self, level: u16) {
        self.agent.stop().await;
        self.config.feature_level = level;
        self.agent = Agent::start(self.config.clone()).await.expect("it starts again");
    }

    async fn upgraded(&mut self) {
        self.replaced(NEXT).await;
        assert!(self.agent.ready().await);
    }

    /// As a leader does before it logs a command of the next level.
    async fn raise(&self) -> Result<Answer, ProposeError> {
        let leads = || (self.agent.convention().status().leader.as_deref() == Some("h1")).then_some(());
        until("the first host to lead", leads).await;
        let raise = Command::RaiseLevel { level: NEXT, voters: Vec::new() };
        self.agent.convention().propose(raise).await
    }

    fn level(&self) -> u16 {
        self.agent.convention().directory(odeon_cluster::Directory::level)
    }
}

fn behind(outcome: Result<Answer, ProposeError>) -> Vec<String> {
    match outcome {
        Err(ProposeError::Denied(Denied::HostsBehind { needs: NEXT, hosts, more: 0 })) => {
            assert!(hosts.iter().all(|behind| behind.level == FEATURE_LEVEL), "{hosts:?}");
            hosts.into_iter().map(|behind| behind.host).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_new_waits_until_every_host_is_upgraded() {
    let first = Host::form(NEXT).await;
    let mut voter = first.join("h2", FEATURE_LEVEL, Role::Voter).await.expect("it joins");
    let mut member = first.join("h3", FEATURE_LEVEL, Role::Member).await.expect("it joins");
    assert!(voter.agent.ready().await && member.agent.ready().await);
    assert_eq!(behind(first.raise().await), ["h2", "h3"]);
    voter.upgraded().await;
    assert_eq!(behind(first.raise().await), ["h3"], "a host that follows has to understand it too");
    member.upgraded().await;
    // Nothing needs the level yet: going back is free.
    voter.replaced(FEATURE_LEVEL).await;
    assert!(voter.agent.ready().await);
    assert_eq!(behind(first.raise().await), ["h2"]);
    voter.upgraded().await;
    assert_eq!(first.raise().await, Ok(Answer::Done));
    for host in [&first, &voter, &member] {
        until("every copy to know", || (host.level() == NEXT).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_too_old_is_refused_at_joining_and_at_its_start() {
    let first = Host::form(NEXT).await;
    let mut member = first.join("h2", NEXT, Role::Member).await.expect("it joins");
    assert!(member.agent.ready().await);
    assert_eq!(first.raise().await, Ok(Answer::Done));
    let refused = first.join("h3", FEATURE_LEVEL, Role::Voter).await.err().expect("it is too old").to_string();
    let wanted = format!("the host \"h3\" runs an Odeon of feature level {FEATURE_LEVEL}");
    assert!(refused.contains(&wanted) && refused.contains("install"), "{refused}");

    member.replaced(FEATURE_LEVEL).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), member.agent.wait()).await.expect("it ends");
    let outdated = Ended::Outdated { has: FEATURE_LEVEL, needs: NEXT };
    assert_eq!(ended, Err(outdated));
    assert!(outdated.to_string().contains("install"), "{outdated}");
    member.upgraded().await;
}
