//! A node's key: made once, kept in the data directory, never leaves the host.

use super::{TlsError, provider};
use odeon_protocol::NodeId;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, KeyPair, PKCS_ED25519, PublicKeyData,
    SigningKey,
};
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{fmt, sync::Arc};

/// A node's Ed25519 key pair. Cheap to clone.
#[derive(Clone)]
pub struct NodeKey {
    pair: Arc<KeyPair>,
    public: PublicKey,
}

impl NodeKey {
    /// Makes a new key from the system's randomness.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn create() -> Result<Self, TlsError> {
        let pair = KeyPair::generate_for(&PKCS_ED25519).map_err(|why| TlsError::failed("making a key")(&why))?;
        Self::of(pair)
    }

    /// Reads what [`Self::to_pem`] wrote.
    ///
    /// # Errors
    /// It is no Ed25519 key in PKCS #8 PEM.
    pub fn from_pem(pem: &str) -> Result<Self, TlsError> {
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ED25519)
            .map_err(|why| TlsError::malformed("node key")(&why))?;
        Self::of(pair)
    }

    fn of(pair: KeyPair) -> Result<Self, TlsError> {
        let public = PublicKey::from_spki(&pair.subject_public_key_info())?;
        Ok(Self { pair: Arc::new(pair), public })
    }

    /// The secret key as text, for a file that only this user may read.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.pair.serialize_pem()
    }

    /// The id that follows from the key.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.public.node()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A certificate request (DER): the public key, signed by itself; it asks for nothing else.
    ///
    /// # Errors
    /// The cryptography refuses.
    pub fn request(&self) -> Result<Vec<u8>, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params
            .serialize_request(&*self.pair)
            .map_err(|why| TlsError::failed("making a certificate request")(&why))?;
        Ok(request.der().to_vec())
    }

    /// Signs bytes, to be checked by [`PublicKey::verify`].
    ///
    /// # Errors
    /// The cryptography refuses.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, TlsError> {
        self.pair.sign(bytes).map_err(|why| TlsError::failed("signing")(&why))
    }

    pub(super) fn private(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pair.serialize_der()).into()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.node())
    }
}

/// A node's Ed25519 public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// SubjectPublicKeyInfo in DER.
    spki: Vec<u8>,
    /// The 32 bytes of the key itself.
    raw: Vec<u8>,
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` in DER.
    ///
    /// # Errors
    /// It is none, or not of an Ed25519 key.
    pub fn from_spki(spki: &[u8]) -> Result<Self, TlsError> {
        let malformed = TlsError::malformed("public key");
        let info = rcgen::SubjectPublicKeyInfo::from_der(spki).map_err(|why| malformed(&why))?;
        if info.algorithm() != &PKCS_ED25519 {
            return Err(malformed(&"not an Ed25519 key"));
        }
        Ok(Self { spki: spki.to_vec(), raw: info.der_bytes().to_vec() })
    }

    /// Takes the public key, and nothing else, out of a certificate request whose own signature is right.
    ///
    /// # Errors
    /// It is no certificate request, its signature is wrong, or its key is not Ed25519.
    pub fn from_request(request: &[u8]) -> Result<Self, TlsError> {
        let malformed = TlsError::malformed("certificate request");
        let parsed = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(|why| malformed(&why))?;
        Self::from_spki(&parsed.public_key.subject_public_key_info())
    }

    /// The key as `SubjectPublicKeyInfo` in DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The node id that follows from the key: the first eight bytes of its hash.
    #[must_use]
    pub fn node(&self) -> NodeId {
        let hash = self.hash();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        NodeId(u64::from_be_bytes(first))
    }

    /// The whole hash, by which the directory knows the key.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.spki).as_bytes()
    }

    /// Whether `signature` is this key's over `bytes`.
    #[must_use]
    pub fn verify(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let ed25519 = rustls::pki_types::alg_id::ED25519;
        provider()
            .signature_verification_algorithms
            .all
            .iter()
            .find(|algorithm| algorithm.signature_alg_id() == ed25519)
            .is_some_and(|algorithm| algorithm.verify_signature(&self.raw, bytes, signature).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.node())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file_and_keeps_its_node_id() {
        let key = NodeKey::create().unwrap();
        let read = NodeKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(read.node(), key.node());
        assert_eq!(PublicKey::from_request(&read.request().unwrap()).unwrap(), *key.public());
        assert_ne!(NodeKey::create().unwrap().node(), key.node());
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    #[test]
    fn signatures_are_checked() {
        let (key, other) = (NodeKey::create().unwrap(), NodeKey::create().unwrap());
        let signature = key.sign(b"bytes").unwrap();
        assert!(key.public().verify(b"bytes", &signature));
        assert!(!key.public().verify(b"other", &signature));
        assert!(!other.public().verify(b"bytes", &signature));
        assert!(!key.public().verify(b"bytes", b"short"));
    }

    #[test]
    fn a_damaged_request_is_refused() {
        let request = NodeKey::create().unwrap().request().unwrap();
        for at in [0, request.len() / 2, request.len() - 1] {
            let mut damaged = request.clone();
            damaged[at] ^= 0x55;
            assert!(PublicKey::from_request(&damaged).is_err(), "byte {at}");
        }
        assert!(PublicKey::from_request(b"").is_err());
    }
}
