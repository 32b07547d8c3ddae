//! An agent's identity in use: key, current certificate, trusted roots; all but the key can change while it runs.

use super::{Certificate, NodeKey, PeerCertificate, TlsError, certificate::authority_convention, provider};
use arc_swap::ArcSwap;
use odeon_protocol::{ConventionId, NodeId};
use rustls::{
    RootCertStore,
    client::{ResolvesClientCert, WebPkiServerVerifier},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use std::{sync::Arc, time::SystemTime};

/// Who this agent is. Shared by its endpoint and by whoever renews its certificate.
#[derive(Debug)]
pub struct Identity {
    key: NodeKey,
    convention: ConventionId,
    current: ArcSwap<Current>,
}

/// What one rotation replaces at once.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) leaf: PeerCertificate,
    pub(super) roots: Vec<Certificate>,
    pub(super) server_verifier: Arc<WebPkiServerVerifier>,
    pub(super) client_verifier: Arc<dyn ClientCertVerifier>,
}

impl Identity {
    /// An identity from a node's key, its leaf certificate and the convention's roots (the newest first).
    ///
    /// # Errors
    /// The leaf belongs to another key, or a certificate is malformed.
    pub fn new(key: NodeKey, leaf: Certificate, roots: Vec<Certificate>) -> Result<Arc<Self>, TlsError> {
        let current = Current::new(&key, leaf, roots)?;
        Ok(Arc::new(Self { key, convention: current.leaf.convention, current: ArcSwap::from_pointee(current) }))
    }

    /// Takes a renewed leaf, and the roots to trust from now on. New connections use them; existing ones stay.
    ///
    /// # Errors
    /// The leaf belongs to another key or convention, or a certificate is malformed.
    pub fn rotate(&self, leaf: Certificate, roots: Vec<Certificate>) -> Result<(), TlsError> {
        let current = Current::new(&self.key, leaf, roots)?;
        if current.leaf.convention != self.convention {
            return Err(TlsError::OtherConvention { has: current.leaf.convention, wants: self.convention });
        }
        self.current.store(Arc::new(current));
        Ok(())
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.key.node()
    }

    /// Its convention.
    #[must_use]
    pub fn convention(&self) -> ConventionId {
        self.convention
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &NodeKey {
        &self.key
    }

    /// The certificate now in use.
    #[must_use]
    pub fn certificate(&self) -> Certificate {
        self.current.load().certified.cert[0].clone()
    }

    /// The roots now trusted.
    #[must_use]
    pub fn roots(&self) -> Vec<Certificate> {
        self.current.load().roots.clone()
    }

    /// When the certificate ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.current.load().leaf.not_after
    }

    /// When it is to be renewed: at two thirds of its life.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        let current = self.current.load();
        let life = current.leaf.not_after.duration_since(current.leaf.not_before).unwrap_or_default();
        current.leaf.not_before + life * 2 / 3
    }

    pub(super) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }
}

impl Current {
    fn new(key: &NodeKey, leaf: Certificate, roots: Vec<Certificate>) -> Result<Self, TlsError> {
        let says = PeerCertificate::read(&leaf)?;
        if says.node != key.node() {
            return Err(TlsError::OtherKey { has: says.node, wants: key.node() });
        }
        let newest = roots.first().ok_or(TlsError::NoRoots)?.clone();
        for root in &roots {
            let convention = authority_convention(root)?;
            if convention != says.convention {
                return Err(TlsError::OtherConvention { has: convention, wants: says.convention });
            }
        }
        let store = Arc::new(store(&roots)?);
        let failed = TlsError::failed("preparing TLS");
        let certified =
            CertifiedKey::from_der(vec![leaf, newest], key.private(), &provider()).map_err(|why| failed(&why))?;
        let server_verifier = WebPkiServerVerifier::builder_with_provider(store.clone(), provider()).build();
        let client_verifier =
            WebPkiClientVerifier::builder_with_provider(store, provider()).allow_unauthenticated().build();
        Ok(Self {
            certified: Arc::new(certified),
            leaf: says,
            roots,
            server_verifier: server_verifier.map_err(|why| failed(&why))?,
            client_verifier: client_verifier.map_err(|why| failed(&why))?,
        })
    }
}

pub(super) fn store(roots: &[Certificate]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|why| TlsError::malformed("authority's certificate")(&why))?;
    }
    Ok(store)
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().certified.clone())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Authority, *};
    use std::time::Duration;

    #[test]
    fn a_foreign_leaf_is_refused() {
        let now = SystemTime::now();
        let authority = Authority::create(ConventionId(1), now).unwrap();
        let other = Authority::create(ConventionId(2), now).unwrap();
        let (key, stranger) = (NodeKey::create().unwrap(), NodeKey::create().unwrap());
        let roots = vec![authority.certificate().clone()];
        let theirs = authority.issue(stranger.public(), now).unwrap();
        let error = Identity::new(key.clone(), theirs, roots.clone()).unwrap_err();
        assert_eq!(error, TlsError::OtherKey { has: stranger.node(), wants: key.node() });
        let identity = Identity::new(key.clone(), authority.issue(key.public(), now).unwrap(), roots).unwrap();
        let elsewhere = other.issue(key.public(), now).unwrap();
        let error = identity.rotate(elsewhere, vec![other.certificate().clone()]).unwrap_err();
        assert_eq!(error, TlsError::OtherConvention { has: ConventionId(2), wants: ConventionId(1) });
    }

    #[test]
    fn renewal_is_due_at_two_thirds() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let authority = Authority::create(ConventionId(1), now).unwrap();
        let key = NodeKey::create().unwrap();
        let leaf = authority.issue(key.public(), now).unwrap();
        let identity = Identity::new(key, leaf, vec![authority.certificate().clone()]).unwrap();
        assert!(identity.renew_at() > now + Duration::from_secs(15 * 3600));
        assert!(identity.renew_at() < identity.not_after() - Duration::from_secs(7 * 3600));
    }
}
