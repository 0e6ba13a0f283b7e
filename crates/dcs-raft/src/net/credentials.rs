//! Who may talk to the store: everybody who has the shared secret, or a certificate of the store's own authority.
//!
//! From a secret every node derives the same Ed25519 key. Both sides of a connection prove in the TLS 1.3 handshake
//! that they have it, which gives mutual authentication, encryption and forward secrecy without distributing files.

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex},
};

use ring::{digest, pbkdf2, signature::KeyPair as _};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature_with_raw_key},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};

use super::certificates;
use crate::config::{Secret, TlsFiles, parse_address};

/// Makes guessing the password from a recorded handshake expensive. Paid once per process and secret.
const DERIVATION_ROUNDS: u32 = 600_000;
/// DER around the 32 bytes of an Ed25519 private key (RFC 8410) and public key.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Goes by in the handshake; the key is what counts.
const CERTIFICATE_NAME: &str = "bellwether-store";

/// Why no credentials could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    #[error("could not read `{file}`: {detail}")]
    File { file: String, detail: String },
    #[error("the TLS files cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error("could not make a certificate from the password: {0}")]
    Derive(String),
    #[error("the other nodes would refuse the certificate in `{file}`: {detail}")]
    Unacceptable { file: String, detail: String },
    #[error(
        "the store runs with a password: certificates instead of it (or the other way round) need a restart of every node"
    )]
    OtherKind,
}

#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    pub(super) pinned: bool,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.pinned { "shared secret" } else { "certificates" })
    }
}

impl Credentials {
    /// Certificates if there are any, else the password (or, where that is allowed, none). Blocks for a moment.
    pub(crate) fn new(
        cluster: &str,
        password: Option<&Secret>,
        tls: Option<&TlsFiles>,
    ) -> Result<Self, CredentialsError> {
        match tls {
            Some(files) => certificates::read(files),
            None => Self::from_secret(cluster, password.map_or("", Secret::expose)),
        }
    }

    fn from_secret(cluster: &str, secret: &str) -> Result<Self, CredentialsError> {
        let derive = |error: rcgen::Error| CredentialsError::Derive(error.to_string());
        let seed = derive_seed(cluster, secret);
        let pkcs8 = [PKCS8_PREFIX.as_slice(), &seed].concat();
        let key = PrivatePkcs8KeyDer::from(pkcs8);
        let pair =
            rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ED25519).map_err(derive)?;
        let certificate = rcgen::CertificateParams::new(vec![CERTIFICATE_NAME.to_owned()])
            .and_then(|params| params.self_signed(&pair))
            .map_err(derive)?
            .der()
            .clone();
        let public = ring::signature::Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|error| CredentialsError::Derive(error.to_string()))?;
        let pin = Arc::new(Pin::new([SPKI_PREFIX.as_slice(), public.public_key().as_ref()].concat()));
        let client = client_builder()?
            .dangerous()
            .with_custom_certificate_verifier(pin.clone())
            .with_client_auth_cert(vec![certificate.clone()], PrivateKeyDer::from(key.clone_key()))?;
        let server = server_builder()?
            .with_client_cert_verifier(pin)
            .with_single_cert(vec![certificate], PrivateKeyDer::from(key))?;
        Ok(Self { client: Arc::new(client), server: Arc::new(server), pinned: true })
    }

    /// The name to expect in the certificate of the node at `address`.
    pub(crate) fn server_name(&self, address: &str) -> Result<ServerName<'static>, String> {
        let host = if self.pinned { CERTIFICATE_NAME } else { parse_address(address)?.0 };
        ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())
    }
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(super) fn client_builder()
-> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, CredentialsError> {
    Ok(ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?)
}

pub(super) fn server_builder()
-> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, CredentialsError> {
    Ok(ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?)
}

/// The same seed on every node that knows the secret. Two clusters with one password have different keys.
fn derive_seed(cluster: &str, secret: &str) -> [u8; 32] {
    static DERIVED: Mutex<BTreeMap<[u8; 32], [u8; 32]>> = Mutex::new(BTreeMap::new());
    let salt = [b"bellwether store key 1\0".as_slice(), cluster.as_bytes()].concat();
    let memo = digest::digest(&digest::SHA256, &[&salt, b"\0".as_slice(), secret.as_bytes()].concat());
    let memo: [u8; 32] = memo.as_ref().try_into().expect("SHA-256 has 32 bytes");
    let mut derived = DERIVED.lock().expect("no code panics while it holds the derived keys");
    *derived.entry(memo).or_insert_with(|| {
        let mut seed = [0; 32];
        let rounds = NonZeroU32::new(DERIVATION_ROUNDS).expect("it is not zero");
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, secret.as_bytes(), &mut seed);
        seed
    })
}

/// Accepts exactly one public key, whatever certificate it comes in.
#[derive(Debug)]
struct Pin {
    key: SubjectPublicKeyInfoDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl Pin {
    fn new(key: Vec<u8>) -> Self {
        Self { key: SubjectPublicKeyInfoDer::from(key), provider: provider() }
    }

    /// The peer signed this handshake with our key: only who has the secret can.
    fn verify(
        &self,
        message: &[u8],
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &self.key,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }
}

const ONLY_TLS13: rustls::Error =
    rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOfferedOrEnabled);

impl ServerCertVerifier for Pin {
    // The certificate is only a vessel: `verify_tls13_signature` below is the check.
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(ONLY_TLS13)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Pin {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(ONLY_TLS13)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
