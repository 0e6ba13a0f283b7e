//! TLS for our own connections, with libpq's words: `sslmode`, `sslrootcert`, `sslcert`, `sslkey`.
//!
//! Names are checked against the certificate's alternative names only (libpq also takes the common name). Channel binding and
//! encrypted keys are not supported.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bellwether_pem::trust::{self, Names, TrustError};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

use crate::settings::Credentials;

/// The TLS options of a role can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    #[error("`{0}` is no sslmode (disable, allow, prefer, require, verify-ca, verify-full)")]
    Mode(String),
    #[error("sslmode {mode} needs `sslrootcert`: a file with the certificates to trust")]
    NoRoots { mode: String },
    #[error("could not read `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: rustls_pki_types::pem::Error,
    },
    #[error("the TLS options do not fit together")]
    Setup(#[source] rustls::Error),
    #[error("`{0}` can't be trusted to verify servers with")]
    Verifier(String),
}

/// Whether and how to encrypt.
#[derive(Clone, Debug)]
pub(crate) enum Tls {
    Never,
    /// If the server can.
    Preferred(Connector),
    Required(Connector),
}

impl Tls {
    /// Reads the files that the options name. Blocking.
    pub(crate) fn of(credentials: &Credentials) -> Result<Self, TlsError> {
        let option =
            |name: &str| credentials.options.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let mode = option("sslmode").unwrap_or("prefer");
        let roots = option("sslrootcert");
        let names = match mode {
            "disable" => return Ok(Self::Never),
            "allow" | "prefer" => None,
            // With certificates to trust, `require` means `verify-ca`: so libpq has it.
            "require" if roots.is_none() => None,
            "require" | "verify-ca" => Some(Names::Ignored),
            "verify-full" => Some(Names::Checked),
            other => return Err(TlsError::Mode(other.to_owned())),
        };
        let verifier: Arc<dyn ServerCertVerifier> = match (names, roots) {
            (None, _) => Arc::new(Anybody { provider: provider() }),
            (Some(_), None) => return Err(TlsError::NoRoots { mode: mode.to_owned() }),
            (Some(names), Some(path)) => verifier(path, names)?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match (option("sslcert"), option("sslkey")) {
            (Some(certificate), Some(key)) => {
                let key = PrivateKeyDer::from_pem_file(key).map_err(file_error(key))?;
                builder.with_client_auth_cert(certificates(certificate)?, key).map_err(TlsError::Setup)?
            }
            _ => builder.with_no_client_auth(),
        };
        let connector = Connector(Arc::new(config));
        Ok(if ["allow", "prefer"].contains(&mode) {
            Self::Preferred(connector)
        } else {
            Self::Required(connector)
        })
    }
}

/// How to encrypt connections that others open, by libpq's options (`sslmode`, `sslrootcert`, `sslcert`, `sslkey`), and whether a server must
/// encrypt; `None`: never. Reads files; blocking.
pub fn client_config(
    options: BTreeMap<String, String>,
) -> Result<Option<(Arc<ClientConfig>, bool)>, TlsError> {
    Ok(match Tls::of(&Credentials { options, ..Credentials::default() })? {
        Tls::Never => None,
        Tls::Preferred(connector) => Some((connector.0, false)),
        Tls::Required(connector) => Some((connector.0, true)),
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn file_error(path: &str) -> impl FnOnce(rustls_pki_types::pem::Error) -> TlsError {
    let path = PathBuf::from(path);
    move |cause| TlsError::File { path, cause }
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    read().map_err(file_error(path))
}

fn verifier(path: &str, names: Names) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    trust::server_verifier(certificates(path)?, names).map_err(|error| match error {
        TrustError::Authority(cause) => TlsError::Setup(cause),
        error => TlsError::Verifier(format!("{path}: {error}")),
    })
}

/// Takes any certificate. The handshake's signatures are checked all the same.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Makes encrypted streams, for our own protocol code and for tokio-postgres.
#[derive(Clone, Debug)]
pub(crate) struct Connector(Arc<ClientConfig>);

impl Connector {
    pub(crate) async fn encrypt<S>(&self, host: &str, stream: S) -> io::Result<Encrypted<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.0));
        connector.connect(name, stream).await.map(Encrypted)
    }
}

impl<S> MakeTlsConnect<S> for Connector
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type TlsConnect = ToHost;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<ToHost> {
        Ok(ToHost { connector: self.clone(), host: host.to_owned() })
    }
}

/// A [`Connector`] with the name to check.
pub(crate) struct ToHost {
    connector: Connector,
    host: String,
}

impl<S> TlsConnect<S> for ToHost
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { self.connector.encrypt(&self.host, stream).await })
    }
}

/// An encrypted stream.
pub(crate) struct Encrypted<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(options: &[(&str, &str)]) -> Credentials {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Credentials { options: options.collect(), ..Credentials::default() }
    }

    #[test]
    fn modes_mean_what_libpq_says() {
        assert!(matches!(Tls::of(&with(&[])), Ok(Tls::Preferred(_))));
        assert!(matches!(Tls::of(&with(&[("sslmode", "disable")])), Ok(Tls::Never)));
        assert!(matches!(Tls::of(&with(&[("sslmode", "require")])), Ok(Tls::Required(_))));
        assert!(matches!(Tls::of(&with(&[("sslmode", "verify-full")])), Err(TlsError::NoRoots { .. })));
        assert!(matches!(Tls::of(&with(&[("sslmode", "always")])), Err(TlsError::Mode(_))));
        let missing = with(&[("sslmode", "require"), ("sslrootcert", "/nowhere/ca.pem")]);
        assert!(matches!(Tls::of(&missing), Err(TlsError::File { .. })), "a missing file is never no check");
    }
}
