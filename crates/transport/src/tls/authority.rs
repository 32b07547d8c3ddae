//! The convention's certificate authority, held by its voters.

use super::{
    Certificate, Pin, PublicKey, TlsError,
    certificate::{authority_convention, authority_uri, dns_name, node_uri},
};
use odeon_protocol::ConventionId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ED25519, SanType,
};
use rustls::pki_types::pem::PemObject;
use std::{
    fmt,
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;

/// How long a leaf certificate is valid.
///
/// With the Cargo feature `brief-certificates` a minute, for tests that see certificates run out.
pub const LEAF_LIFE: Duration = Duration::from_secs(if cfg!(feature = "brief-certificates") { 60 } else { 24 * 3600 });
/// How far its start lies back, for hosts whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(if cfg!(feature = "brief-certificates") { 5 } else { 300 });
/// How long the authority is valid: a convention that outlives this rotates its root.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// The key and certificate that sign a convention's nodes.
pub struct Authority {
    convention: ConventionId,
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

impl Authority {
    /// Makes the authority of a new convention.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn create(convention: ConventionId, now: SystemTime) -> Result<Self, TlsError> {
        let failed = TlsError::failed("making a certificate authority");
        let pair = KeyPair::generate_for(&PKCS_ED25519).map_err(|why| failed(&why))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Odeon convention {convention}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(authority_uri(convention))?];
        (params.not_before, params.not_after) = (offset(now - BACKDATED), offset(now + AUTHORITY_LIFE));
        let certificate = params.self_signed(&pair).map_err(|why| failed(&why))?.der().clone();
        Ok(Self { convention, issuer: Issuer::new(params, pair), certificate })
    }

    /// Reads what [`Self::to_pem`] wrote.
    ///
    /// # Errors
    /// A part is missing or malformed.
    pub fn from_pem(pem: &str) -> Result<Self, TlsError> {
        let malformed = TlsError::malformed("certificate authority");
        let pair = KeyPair::from_pem(pem).map_err(|why| malformed(&why))?;
        let certificate = Certificate::from_pem_slice(pem.as_bytes()).map_err(|why| malformed(&why))?;
        let convention = authority_convention(&certificate)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, pair).map_err(|why| malformed(&why))?;
        Ok(Self { convention, issuer, certificate })
    }

    /// Key and certificate as text. Secret: whoever has it can make members.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let certificate = pem("CERTIFICATE", &self.certificate);
        format!("{}{certificate}", self.issuer.key().serialize_pem())
    }

    /// The convention that it signs for.
    #[must_use]
    pub fn convention(&self) -> ConventionId {
        self.convention
    }

    /// Its certificate, public.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What a token pins of it.
    #[must_use]
    pub fn pin(&self) -> Pin {
        Pin::of(&self.certificate)
    }

    /// Signs a leaf certificate for a node's key, valid for [`LEAF_LIFE`] from `now`.
    ///
    /// # Errors
    /// The cryptography refuses.
    pub fn issue(&self, key: &PublicKey, now: SystemTime) -> Result<Certificate, TlsError> {
        let failed = TlsError::failed("signing a certificate");
        let node = key.node();
        let mut params = CertificateParams::new([dns_name(self.convention, node)]).map_err(|why| failed(&why))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Odeon node {node}"));
        params.subject_alt_names.push(uri(node_uri(self.convention, node))?);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (offset(now - BACKDATED), offset(now + LEAF_LIFE));
        let info = rcgen::SubjectPublicKeyInfo::from_der(key.spki()).map_err(|why| failed(&why))?;
        let certificate = params.signed_by(&info, &self.issuer).map_err(|why| failed(&why))?;
        Ok(certificate.der().clone())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.convention)
    }
}

fn uri(text: String) -> Result<SanType, TlsError> {
    let text = text.try_into().map_err(|why: rcgen::Error| TlsError::failed("naming a node")(&why))?;
    Ok(SanType::URI(text))
}

fn offset(moment: SystemTime) -> OffsetDateTime {
    moment.into()
}

/// Wraps DER in PEM, 64 characters a line.
fn pem(label: &str, der: &[u8]) -> String {
    use std::fmt::Write as _;
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for triple in line.chunks(3) {
            let word =
                triple.iter().fold(0u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - triple.len()));
            for at in 0..4 {
                let character = char::from(ALPHABET[(word >> (18 - 6 * at)) as usize & 63]);
                text.push(if at <= triple.len() { character } else { '=' });
            }
        }
        text.push('\n');
    }
    let _ = writeln!(text, "-----END {label}-----");
    text
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};
    use odeon_protocol::NodeId;

    #[test]
    fn an_authority_survives_its_file() {
        let now = SystemTime::now();
        let authority = Authority::create(ConventionId(0xc0de), now).unwrap();
        let read = Authority::from_pem(&authority.to_pem()).unwrap();
        assert_eq!((read.convention(), read.pin()), (ConventionId(0xc0de), authority.pin()));
        let key = NodeKey::create().unwrap();
        let leaf = read.issue(key.public(), now).unwrap();
        assert!(Identity::new(key, leaf, vec![authority.certificate().clone()]).is_ok());
        assert!(!format!("{authority:?}").contains("PRIVATE"));
        assert!(Authority::from_pem("nothing").is_err());
    }

    #[test]
    fn a_leaf_says_what_the_signer_says_and_lives_a_day() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let authority = Authority::create(ConventionId(7), now).unwrap();
        let key = NodeKey::create().unwrap();
        let read = PeerCertificate::read(&authority.issue(key.public(), now).unwrap()).unwrap();
        assert_eq!((read.node, read.convention), (key.node(), ConventionId(7)));
        assert_eq!(read.key, *key.public());
        assert_eq!((read.not_before, read.not_after), (now - BACKDATED, now + LEAF_LIFE));
    }

    #[test]
    fn what_a_request_asks_for_beyond_its_key_is_not_signed() {
        let greedy_pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut greedy = CertificateParams::new(["leader.node.7.internal".to_owned()]).unwrap();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        greedy.subject_alt_names.push(uri("spiffe://odeon/7/node/1".into()).unwrap());
        let request = greedy.serialize_request(&greedy_pair).unwrap();
        let key = PublicKey::from_request(request.der()).unwrap();
        let now = SystemTime::now();
        let leaf = Authority::create(ConventionId(7), now).unwrap().issue(&key, now).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        assert!(!parsed.is_ca());
        assert_ne!(PeerCertificate::read(&leaf).unwrap().node, NodeId(1));
        assert!(!format!("{:?}", parsed.subject_alternative_name().unwrap()).contains("leader"));
    }
}
