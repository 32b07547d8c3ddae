//! This agent's certificate: renewed at two thirds of its life, by itself where it has the authority's key, else by a
//! voter; by the join protocol and the known key where it has run out.

use super::{
    admission::authority,
    clock::wall,
    joining,
    shared::Shared,
    wire::{Reply, Request},
};
use odeon_transport::tls::Certificate;
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// The longest pause between two looks: clocks may be set.
const LOOK: Duration = Duration::from_secs(600);
/// Between two attempts.
const RETRY: Duration = Duration::from_secs(2);
/// For a voter to sign.
const SIGN: Duration = Duration::from_secs(5);

type Signed = (Vec<u8>, Vec<Vec<u8>>);

/// Keeps the certificate good until the agent stops.
pub(crate) async fn keep(shared: Arc<Shared>, ways_in: Vec<String>) {
    loop {
        let left = shared.identity.renew_at().duration_since(wall()).unwrap_or_default();
        if !left.is_zero() {
            sleep(left.min(LOOK)).await;
            continue;
        }
        match renew(&shared, &ways_in).await {
            Ok(signed) => match take(&shared, signed) {
                Ok(()) => tracing::info!("this host's certificate is renewed"),
                Err(error) => tracing::error!(%error, "a renewed certificate cannot be used"),
            },
            Err(error) => tracing::warn!(%error, "this host's certificate cannot be renewed now"),
        }
        sleep(RETRY).await;
    }
}

async fn renew(shared: &Shared, ways_in: &[String]) -> Result<Signed, String> {
    let key = shared.identity.key();
    let roots = || shared.identity.roots().iter().map(|root| root.to_vec()).collect();
    if let Some(group) = &shared.group
        && let Some(authority) = authority(&group.machine.read().directory)
    {
        let leaf = authority.issue(key.public(), wall()).map_err(|error| error.to_string())?;
        return Ok((leaf.to_vec(), roots()));
    }
    if shared.identity.not_after() > wall() {
        let request = key.request().map_err(|error| error.to_string())?;
        for node in shared.sources() {
            if let Ok(Reply::Certified { leaf, roots }) =
                shared.peers.ask(node, Request::Certify(request.clone()), SIGN).await
            {
                return Ok((leaf, roots));
            }
        }
        return Err("no voter answers".into());
    }
    let belonging = shared.data.belonging().ok_or("this host belongs to no convention")?;
    let mut ways: Vec<String> = ways_in.to_vec();
    ways.extend(belonging.peers.iter().map(|peer| peer.address.clone()));
    let says = (&*shared.says_address(), shared.feature_level);
    let joined =
        joining::return_by_key(&shared.data, key, &belonging, &ways, says).await.map_err(|error| error.to_string())?;
    Ok((joined.leaf.to_vec(), joined.roots.iter().map(|root| root.to_vec()).collect()))
}

fn take(shared: &Shared, (leaf, roots): Signed) -> Result<(), String> {
    let certificates = roots.iter().cloned().map(Certificate::from).collect();
    shared.identity.rotate(Certificate::from(leaf.clone()), certificates).map_err(|error| error.to_string())?;
    shared
        .data
        .update(|kept| {
            if let Some(kept) = kept {
                (kept.certificate, kept.roots) = (leaf, roots);
            }
        })
        .map_err(|error| error.to_string())
}
