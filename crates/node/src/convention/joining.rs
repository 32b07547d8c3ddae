//! Entering a convention: through any of the addresses given, again and again until it works or cannot work.

use super::error::StartError;
use crate::{
    config::Config,
    identity::{Belonging, DataDir, Peer},
};
use odeon_protocol::{directory::Role, level::JoinDetails};
use odeon_transport::{
    join::{Ask, Credentials, JoinError, JoinToken, Joined, join},
    tls::{Certificate, NodeKey},
};
use std::{net::SocketAddr, path::Path, time::Duration};
use tokio::{net::lookup_host, time::sleep};

/// The first pause between two rounds through all addresses; each is twice as long as the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// For one attempt at one address.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Between two looks for a token file.
const FILE_POLL: Duration = Duration::from_millis(200);

/// Joins as `config` says and keeps what was granted in the data directory.
pub(crate) async fn enter(
    config: &Config,
    data: &DataDir,
    key: &NodeKey,
    address: &str,
) -> Result<Belonging, StartError> {
    let token = token(config).await?;
    if token.role == Role::Client {
        return Err(StartError::Refused("a client's token makes no host: make one with --role voter or member".into()));
    }
    let ask = || Ask {
        credentials: Credentials::Token(&token),
        key,
        name: config.name.clone(),
        address: address.to_owned(),
        boot: data.boot(),
        witness: config.witness,
        details: JoinDetails { level: config.feature_level }.write(),
        within: ATTEMPT,
    };
    let joined = ask_around(&config.join, ask).await.map_err(|error| StartError::Refused(error.to_string()))?;
    let belonging = belonging(joined, token.role == Role::Voter);
    data.update(|kept| *kept = Some(belonging.clone()))?;
    tracing::info!(convention = %belonging.convention, role = %token.role, "joined the convention");
    Ok(belonging)
}

fn belonging(joined: Joined, voter: bool) -> Belonging {
    Belonging {
        convention: joined.convention,
        voter,
        roots: joined.roots.iter().map(|root| root.to_vec()).collect(),
        certificate: joined.leaf.to_vec(),
        authority: None,
        formed: false,
        peers: joined.hosts.into_iter().map(|host| Peer { node: host.node, address: host.address }).collect(),
        raft: false,
        recovery: 0,
        superseded: false,
    }
}

/// Proves a known key instead of a token: for a member whose certificate ran out while it was away.
pub(crate) async fn return_by_key(
    data: &DataDir,
    key: &NodeKey,
    belonging: &Belonging,
    ways_in: &[String],
    (address, level): (&str, u16),
) -> Result<Joined, JoinError> {
    let pins: Vec<_> =
        belonging.roots.iter().map(|root| odeon_transport::tls::Pin::of(&Certificate::from(root.clone()))).collect();
    let role = if belonging.voter { Role::Voter } else { Role::Member };
    let ask = || Ask {
        credentials: Credentials::Key { pins: pins.clone(), role },
        key,
        name: data.host().to_owned(),
        address: address.to_owned(),
        boot: data.boot(),
        witness: false,
        details: JoinDetails { level }.write(),
        within: ATTEMPT,
    };
    ask_around(ways_in, ask).await
}

/// Tries every address in turn until one grants, or one refuses in a way that no other attempt would change.
async fn ask_around<'a>(ways_in: &[String], ask: impl Fn() -> Ask<'a>) -> Result<Joined, JoinError> {
    let mut pause = PAUSE_FIRST;
    loop {
        for way_in in ways_in {
            for address in resolve(way_in).await {
                match join(address, ask()).await {
                    Ok(joined) => return Ok(joined),
                    Err(error) if error.may_pass() => {
                        tracing::info!(through = %way_in, why = %error, "waiting to be let in");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn resolve(way_in: &str) -> Vec<SocketAddr> {
    match lookup_host(way_in).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            tracing::info!(address = way_in, why = %error, "waiting for the name to resolve");
            Vec::new()
        }
    }
}

async fn token(config: &Config) -> Result<JoinToken, StartError> {
    let text = match (&config.token, &config.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(file)) => awaited(file).await?,
        (None, None) => {
            return Err(StartError::Refused(
                "a token is needed: make one with `odeon token create` on a member and give it with --token".into(),
            ));
        }
    };
    text.parse().map_err(|error| StartError::Refused(format!("{error}")))
}

/// The file may be written later, by another host's `--token-out`.
async fn awaited(file: &Path) -> Result<String, StartError> {
    let mut said = false;
    loop {
        match std::fs::read_to_string(file) {
            Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(StartError::Refused(format!("the token file {}: {error}", file.display())));
            }
        }
        if !said {
            tracing::info!(file = %file.display(), "waiting for the token file");
            said = true;
        }
        sleep(FILE_POLL).await;
    }
}
