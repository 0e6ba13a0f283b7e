//! Certificates of the HTTPS server.

use std::{path::PathBuf, sync::Arc};

use bellwether_pem::{
    KeyError,
    trust::{self, TrustError},
};
use ring::digest::{SHA256, digest};
use rustls::{ServerConfig, ServerConnection, server::danger::ClientCertVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};

use crate::{TlsFiles, VerifyClient};

/// Why the certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    #[error("could not read `{}` (`restapi.{key}`)", path.display())]
    Read {
        key: &'static str,
        path: PathBuf,
        #[source]
        cause: pem::Error,
    },
    #[error("`{}` has no certificate (`restapi.{key}`)", path.display())]
    NoCertificate { key: &'static str, path: PathBuf },
    #[error(
        "`restapi.verify_client` needs `restapi.cafile`: without it no client certificate can be checked"
    )]
    NoAuthority,
    #[error("the key in `{}` cannot be used (`restapi.keyfile`, `restapi.keyfile_password`)", path.display())]
    EncryptedKey {
        path: PathBuf,
        #[source]
        cause: KeyError,
    },
    #[error("`{}` has a certificate that is no authority (`restapi.cafile`)", path.display())]
    BadAuthority {
        path: PathBuf,
        #[source]
        cause: rustls::Error,
    },
    #[error("client certificates cannot be verified with `{}` (`restapi.cafile`)", path.display())]
    Verifier {
        path: PathBuf,
        #[source]
        cause: TrustError,
    },
    #[error("`{}` and its key do not fit together (`restapi.certfile`, `restapi.keyfile`)", path.display())]
    KeyMismatch {
        path: PathBuf,
        #[source]
        cause: rustls::Error,
    },
}

/// Reads the files and checks that they fit together.
pub(crate) fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates("certfile", &files.certfile)?;
    let key_path = files.keyfile.as_ref().unwrap_or(&files.certfile);
    let key = private_key(key_path, files.keyfile_password.as_ref())?;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions of TLS");
    let builder = match client_verifier(files)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|cause| TlsError::KeyMismatch { path: files.certfile.clone(), cause })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn private_key(path: &PathBuf, password: Option<&SecretString>) -> Result<PrivateKeyDer<'static>, TlsError> {
    let read = |cause| TlsError::Read { key: "keyfile", path: path.clone(), cause };
    let pem = std::fs::read(path).map_err(|cause| read(pem::Error::Io(cause)))?;
    let pem = bellwether_pem::decrypted(pem, password)
        .map_err(|cause| TlsError::EncryptedKey { path: path.clone(), cause })?;
    PrivateKeyDer::from_pem_slice(pem.expose_secret()).map_err(read)
}

fn client_verifier(files: &TlsFiles) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if files.verify_client == VerifyClient::None {
        return Ok(None);
    }
    let path = files.cafile.as_ref().ok_or(TlsError::NoAuthority)?;
    let anonymous = files.verify_client != VerifyClient::Required;
    let verifier =
        trust::client_verifier(certificates("cafile", path)?, anonymous).map_err(|error| match error {
            TrustError::Authority(cause) => TlsError::BadAuthority { path: path.clone(), cause },
            cause => TlsError::Verifier { path: path.clone(), cause },
        })?;
    Ok(Some(verifier))
}

fn certificates(key: &'static str, path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |cause| TlsError::Read { key, path: path.clone(), cause };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<_, _>>().map_err(read)?;
    if chain.is_empty() { Err(TlsError::NoCertificate { key, path: path.clone() }) } else { Ok(chain) }
}

/// SHA-256 of the verified client certificate in hexadecimal.
pub(crate) fn client_fingerprint(connection: &ServerConnection) -> Option<String> {
    let leaf = connection.peer_certificates()?.first()?;
    Some(digest(&SHA256, leaf).as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}
