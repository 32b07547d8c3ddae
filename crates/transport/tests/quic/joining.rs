//! Joining, end to end: what is granted, each refusal.

use crate::common::{Agent, authority, identity, soon};
use odeon_protocol::{
    Boot, PROTOCOL_VERSION,
    directory::{Denied, Role, TokenId},
};
use odeon_transport::{
    BoxFuture,
    join::{
        Admit, Ask, Attempt, Credentials, Grant, JoinError, JoinHost, JoinToken, Joined, Refused, StoredSecret, join,
    },
    quic::{Connection, Kind},
    tls::{Authority, NodeKey, Pin},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

type Stored = (StoredSecret, Role, Option<Denied>);

/// A directory of tokens and members, as small as can be.
struct Registry {
    authority: Arc<Authority>,
    tokens: Mutex<HashMap<TokenId, Stored>>,
    members: Mutex<Vec<[u8; 32]>>,
    attempts: Mutex<Vec<Attempt>>,
}

impl Registry {
    fn decide(&self, attempt: &Attempt) -> Result<Grant, Refused> {
        let (key, joiner) = attempt.joiner()?;
        match attempt.token() {
            Some(id) => {
                let tokens = self.tokens.lock().unwrap();
                let (stored, role, denied) = tokens.get(&id).ok_or(Denied::TokenUnknown(id))?;
                attempt.check_token(stored)?;
                if let Some(denied) = denied {
                    return Err(denied.clone().into());
                }
                if !role.allows(joiner.role) {
                    return Err(Denied::TokenRole { token: id, has: *role, wanted: joiner.role }.into());
                }
            }
            None => {
                let key = attempt.check_key()?;
                if !self.members.lock().unwrap().contains(&key.hash()) {
                    return Err(Denied::NotMember(key.node()).into());
                }
            }
        }
        self.members.lock().unwrap().push(key.hash());
        let leaf = self.authority.issue(&key, SystemTime::now()).map_err(|error| Refused::Other(error.to_string()))?;
        Ok(Grant {
            convention: self.authority.convention(),
            leaf: leaf.to_vec(),
            roots: vec![self.authority.certificate().to_vec()],
            hosts: vec![JoinHost { node: joiner.node, name: joiner.name, address: joiner.address }],
            details: attempt.request.details.clone(),
        })
    }
}

struct Admitting(Arc<Registry>);

impl Admit for Admitting {
    fn join(&self, attempt: Attempt) -> BoxFuture<'static, Result<Grant, Refused>> {
        let registry = self.0.clone();
        Box::pin(async move {
            let outcome = registry.decide(&attempt);
            registry.attempts.lock().unwrap().push(attempt);
            outcome
        })
    }
}

struct Setup {
    authority: Arc<Authority>,
    registry: Arc<Registry>,
    agent: Agent,
    key: NodeKey,
}

fn setup() -> Setup {
    let authority = Arc::new(authority(0xc0de));
    let registry = Arc::new(Registry {
        authority: authority.clone(),
        tokens: Mutex::default(),
        members: Mutex::default(),
        attempts: Mutex::default(),
    });
    let own = identity(&authority, &NodeKey::create().unwrap(), SystemTime::now());
    let agent = Agent::with(own, 1, Some(Arc::new(Admitting(registry.clone()))));
    Setup { authority, registry, agent, key: NodeKey::create().unwrap() }
}

impl Setup {
    fn token(&self, role: Role, denied: Option<Denied>) -> JoinToken {
        let token = JoinToken::create(role, self.authority.pin()).unwrap();
        self.registry.tokens.lock().unwrap().insert(token.id, (token.stored(), role, denied));
        token
    }

    fn ask<'a>(&'a self, credentials: Credentials<'a>) -> Ask<'a> {
        Ask {
            credentials,
            key: &self.key,
            name: "eu-1".into(),
            address: "10.0.0.1:7700".into(),
            boot: Boot(5),
            witness: false,
            details: vec![1, 2, 3],
            within: Duration::from_secs(10),
        }
    }

    async fn try_token(&self, token: &JoinToken) -> Result<Joined, JoinError> {
        soon(join(self.agent.address, self.ask(Credentials::Token(token)))).await
    }

    fn refused(&self, refused: impl Into<Refused>) -> JoinError {
        JoinError::Refused { address: self.agent.address, refused: refused.into() }
    }
}

#[tokio::test]
async fn a_token_makes_a_member() {
    let mut setup = setup();
    let joined = setup.try_token(&setup.token(Role::Voter, None)).await.unwrap();
    assert_eq!(joined.convention, setup.authority.convention());
    assert_eq!((joined.hosts[0].name.as_str(), joined.hosts[0].node), ("eu-1", setup.key.node()));
    assert_eq!(joined.details, [1, 2, 3]);
    let attempt = setup.registry.attempts.lock().unwrap().pop().unwrap();
    let (_, joiner) = attempt.joiner().unwrap();
    assert_eq!((joiner.boot, joiner.role, joiner.address.as_str()), (Boot(5), Role::Voter, "10.0.0.1:7700"));
    let member = Agent::with(joined.identity(setup.key.clone()).unwrap(), 5, None);
    let (_, accepted): (Connection, Connection) = member.dial(&mut setup.agent, Kind::Control).await;
    assert_eq!(accepted.peer().node, setup.key.node());
}

#[tokio::test]
async fn each_bad_token_is_refused_with_its_reason() {
    let setup = setup();
    let unknown = JoinToken::create(Role::Member, setup.authority.pin()).unwrap();
    assert_eq!(setup.try_token(&unknown).await.unwrap_err(), setup.refused(Denied::TokenUnknown(unknown.id)));
    for denied in [Denied::TokenExpired(TokenId(1)), Denied::TokenUsedUp(TokenId(1)), Denied::TokenUnknown(TokenId(1))]
    {
        let token = setup.token(Role::Member, Some(denied.clone()));
        assert_eq!(setup.try_token(&token).await.unwrap_err(), setup.refused(denied));
    }
    // The id of a good token with the secret of another one.
    let (good, mut forged) = (setup.token(Role::Member, None), setup.token(Role::Member, None));
    forged.id = good.id;
    assert_eq!(setup.try_token(&forged).await.unwrap_err(), setup.refused(Refused::NotProven));
    // A client's token with the word changed to "voter": the role is proven, and the directory knows better.
    let mut client = setup.token(Role::Client, None);
    client.role = Role::Voter;
    let denied = Denied::TokenRole { token: client.id, has: Role::Client, wanted: Role::Voter };
    assert_eq!(setup.try_token(&client).await.unwrap_err(), setup.refused(denied));
    assert!(setup.registry.members.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_joiner_says_nothing_to_another_convention() {
    let setup = setup();
    let elsewhere = authority(0xbad);
    let token = JoinToken::create(Role::Member, elsewhere.pin()).unwrap();
    let error = setup.try_token(&token).await.unwrap_err();
    let (pin, has) = (elsewhere.pin(), setup.authority.pin());
    assert_eq!(error, JoinError::WrongPin { address: setup.agent.address, pin, has });
    assert!(error.to_string().contains("belongs to another convention than the token"));
    assert!(setup.registry.attempts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_root_alone_does_not_make_an_agent_of_the_convention() {
    let setup = setup();
    let token = setup.token(Role::Member, None);
    // An impostor: a leaf of its own authority, and the public root of the one it pretends to belong to.
    let own = authority(0xc0de);
    let key = NodeKey::create().unwrap();
    let chain = vec![own.issue(key.public(), SystemTime::now()).unwrap(), setup.authority.certificate().clone()];
    let (impostor, address) = crate::common::server(chain, &key, odeon_transport::join::PROTOCOL);
    let accepting = tokio::spawn(async move {
        let connection = impostor.accept().await.unwrap().await?;
        connection.accept_bi().await.map(|_| ())
    });
    let error = soon(join(address, setup.ask(Credentials::Token(&token)))).await.unwrap_err();
    assert!(matches!(&error, JoinError::Unreachable { why, .. } if why.contains("certificate")), "{error:?}");
    assert!(soon(accepting).await.unwrap().is_err(), "the joiner spoke to an impostor");
}

#[tokio::test]
async fn a_member_whose_certificate_ran_out_proves_its_key() {
    let setup = setup();
    let by_key = || Credentials::Key { pins: vec![setup.authority.pin()], role: Role::Member };
    let stranger = soon(join(setup.agent.address, setup.ask(by_key()))).await.unwrap_err();
    assert_eq!(stranger, setup.refused(Denied::NotMember(setup.key.node())));
    setup.try_token(&setup.token(Role::Member, None)).await.unwrap();
    let joined = soon(join(setup.agent.address, setup.ask(by_key()))).await.unwrap();
    assert!(joined.identity(setup.key.clone()).unwrap().not_after() > SystemTime::now());
}

#[tokio::test]
async fn a_proof_is_worth_nothing_on_another_connection() {
    let setup = setup();
    let token = setup.token(Role::Member, None);
    setup.try_token(&token).await.unwrap();
    let attempt = setup.registry.attempts.lock().unwrap().pop().unwrap();
    assert_eq!(attempt.check_token(&token.stored()), Ok(()));
    let replayed = Attempt { binding: [0; 32], ..attempt.clone() };
    assert_eq!(replayed.check_token(&token.stored()), Err(Refused::NotProven));
    let mut changed = attempt;
    changed.request.name = "other".into();
    assert_eq!(changed.check_token(&token.stored()), Err(Refused::NotProven));
}

#[tokio::test]
async fn an_agent_that_admits_nobody_says_so() {
    let authority = authority(7);
    let agent = Agent::start(&authority);
    let token = JoinToken::create(Role::Member, authority.pin()).unwrap();
    let setup = setup();
    let error = soon(join(agent.address, setup.ask(Credentials::Token(&token)))).await.unwrap_err();
    assert!(error.may_pass() && error.to_string().contains("ask another"), "{error}");
}

#[tokio::test]
async fn nobody_there_and_other_versions_are_told_apart() {
    let setup = setup();
    let token = setup.token(Role::Member, None);
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut ask = setup.ask(Credentials::Token(&token));
    ask.within = Duration::from_millis(300);
    let error = soon(join(free.local_addr().unwrap(), ask)).await.unwrap_err();
    assert!(matches!(error, JoinError::Unreachable { .. }) && error.may_pass(), "{error:?}");
    // A request of another version, from somebody who has pinned the agent properly.
    let stranger = crate::common::stranger();
    let config = crate::common::stranger_config("odeon-join/1");
    let connection = soon(stranger.connect_with(config, setup.agent.address, "any.internal").unwrap()).await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&[PROTOCOL_VERSION + 1, 1, 2, 3]).await.unwrap();
    send.finish().unwrap();
    let answer = soon(receive.read_to_end(1000)).await.unwrap();
    let answer: odeon_transport::join::JoinAnswer = odeon_protocol::control::decode(&answer).unwrap();
    let refused = Refused::Protocol { has: PROTOCOL_VERSION + 1, wants: PROTOCOL_VERSION };
    assert_eq!(answer, odeon_transport::join::JoinAnswer::Refused(refused));
    // A peer that knows no form of the join protocol that this one does.
}

#[tokio::test]
async fn the_pin_is_the_whole_hash_of_the_root() {
    let authority = authority(7);
    let text = authority.pin().to_string();
    assert_eq!(text.len(), 52);
    assert_eq!(text.parse::<Pin>().unwrap(), Pin::of(authority.certificate()));
}
