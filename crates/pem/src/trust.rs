//! Whom a TLS connection trusts, where a file names the authorities.
//!
//! `openssl req -x509` makes a certificate that is its own authority, and many clusters have no other: the same file is `certfile` and
//! `cafile`. OpenSSL accepts such a certificate from whoever has its key; webpki never takes an authority for an end of a connection.
//! The verifiers here do what OpenSSL does. Dates, signatures and (where they count) names are checked as ever.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::ring::default_provider,
    server::{
        ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Why nobody can be trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    #[error("a certificate is no authority")]
    Authority(#[source] Error),
    #[error("there are no authorities that could be used")]
    Verifier(#[source] VerifierBuilderError),
}

/// Whether the name in a server's certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    Checked,
    Ignored,
}

/// Trusts servers with a certificate of one of these authorities, and the authorities themselves.
pub fn server_verifier(
    authorities: Vec<CertificateDer<'static>>,
    names: Names,
) -> Result<Arc<dyn ServerCertVerifier>, TrustError> {
    let inner = WebPkiServerVerifier::builder_with_provider(roots(&authorities)?, default_provider().into())
        .build()
        .map_err(TrustError::Verifier)?;
    Ok(Arc::new(Servers { inner, authorities, names }))
}

/// Trusts clients with a certificate of one of these authorities, and the authorities themselves. Whether those without a
/// certificate are let in says `anonymous`.
pub fn client_verifier(
    authorities: Vec<CertificateDer<'static>>,
    anonymous: bool,
) -> Result<Arc<dyn ClientCertVerifier>, TrustError> {
    let builder =
        WebPkiClientVerifier::builder_with_provider(roots(&authorities)?, default_provider().into());
    let builder = if anonymous { builder.allow_unauthenticated() } else { builder };
    let inner = builder.build().map_err(TrustError::Verifier)?;
    Ok(Arc::new(Clients { inner, authorities }))
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, TrustError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(TrustError::Authority)?;
    }
    Ok(Arc::new(roots))
}

/// Whether all that is wrong with this certificate is that it is one of the authorities. webpki looks at its dates before that.
fn is_authority_itself(
    error: &Error,
    certificate: &CertificateDer<'_>,
    authorities: &[CertificateDer<'static>],
) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    let found = other.0.downcast_ref::<webpki::Error>();
    found == Some(&webpki::Error::CaUsedAsEndEntity) && authorities.iter().any(|known| known == certificate)
}

#[derive(Debug)]
struct Servers {
    inner: Arc<WebPkiServerVerifier>,
    authorities: Vec<CertificateDer<'static>>,
    names: Names,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = match self.inner.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(error) if is_authority_itself(&error, certificate, &self.authorities) => {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
                    .map(|()| ServerCertVerified::assertion())
            }
            verdict => verdict,
        };
        match verdict {
            // The name is checked last: everything else was in order.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.names == Names::Ignored => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct Clients {
    inner: Arc<dyn ClientCertVerifier>,
    authorities: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.inner.verify_client_cert(certificate, intermediates, now) {
            Err(error) if is_authority_itself(&error, certificate, &self.authorities) => {
                Ok(ClientCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    fn own_authority(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let certificate: Certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        certificate.der().clone()
    }

    fn now() -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000))
    }

    #[test]
    fn a_certificate_that_is_its_own_authority_is_trusted_by_whoever_names_it() {
        let (mine, foreign) = (own_authority(|_| ()), own_authority(|_| ()));
        let clients = client_verifier(vec![mine.clone()], false).unwrap();
        assert!(clients.verify_client_cert(&mine, &[], now()).is_ok());
        assert!(clients.verify_client_cert(&foreign, &[], now()).is_err());

        let servers = |names| server_verifier(vec![mine.clone()], names).unwrap();
        let verdict = |names, certificate: &CertificateDer<'_>, name: &'static str| {
            let name = ServerName::try_from(name).unwrap();
            servers(names).verify_server_cert(certificate, &[], &name, &[], now()).is_ok()
        };
        assert!(verdict(Names::Checked, &mine, "localhost"));
        assert!(!verdict(Names::Checked, &mine, "elsewhere"));
        assert!(verdict(Names::Ignored, &mine, "elsewhere"));
        assert!(!verdict(Names::Ignored, &foreign, "localhost"));
    }

    #[test]
    fn one_that_has_expired_is_not() {
        let expired = own_authority(|params| {
            (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        });
        let clients = client_verifier(vec![expired.clone()], true).unwrap();
        assert!(clients.verify_client_cert(&expired, &[], now()).is_err());
    }
}
