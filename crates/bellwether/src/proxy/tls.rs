//! Certificates of the pools: what clients are shown, and how servers are checked.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use bellwether_config::sections::pooler::{PoolerTls, TlsMode};
use bellwether_proxy::settings::Tls;
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};

/// Who begins without asking must name the protocol.
const PROTOCOL: &[u8] = b"postgresql";

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("could not read `{}` (`pooler.{key}`)", path.display())]
    Read {
        key: &'static str,
        path: PathBuf,
        #[source]
        cause: pem::Error,
    },
    #[error(
        "the certificate and the key do not fit together (`pooler.client_tls_cert_file`, `pooler.client_tls_key_file`)"
    )]
    Mismatch(#[source] rustls::Error),
    #[error("client certificates cannot be verified (`pooler.client_tls_ca_file`): {0}")]
    Verifier(String),
    #[error(
        "`pooler.client_tls_sslmode` needs `pooler.client_tls_cert_file` and `pooler.client_tls_key_file`"
    )]
    NoCertificate,
    #[error("servers cannot be verified (`pooler.server_tls_ca_file`, `pooler.server_tls_sslmode`)")]
    Servers(#[source] bellwether_postgres::tls::TlsError),
}

/// Reads all files. Blocking.
pub(super) fn read(written: &PoolerTls) -> Result<Tls, TlsError> {
    let mut tls = Tls { clients: clients(written)?, ..Tls::default() };
    tls.clients_must = written.client_mode >= TlsMode::Require;
    let mut options = BTreeMap::from([("sslmode".to_owned(), written.server_mode.as_str().to_owned())]);
    for (name, file) in [
        ("sslrootcert", &written.server_ca_file),
        ("sslcert", &written.server_cert_file),
        ("sslkey", &written.server_key_file),
    ] {
        if let Some(file) = file {
            options.insert(name.to_owned(), file.display().to_string());
        }
    }
    if let Some((config, must)) =
        bellwether_postgres::tls::client_config(options).map_err(TlsError::Servers)?
    {
        (tls.servers, tls.servers_must) = (Some(config), must);
    }
    Ok(tls)
}

fn clients(written: &PoolerTls) -> Result<Option<Arc<ServerConfig>>, TlsError> {
    let (certificate, key) = match (&written.client_cert_file, &written.client_key_file) {
        (Some(certificate), Some(key)) if written.client_mode != TlsMode::Disable => (certificate, key),
        _ if written.client_mode >= TlsMode::Require => return Err(TlsError::NoCertificate),
        _ => return Ok(None),
    };
    let chain = certificates("client_tls_cert_file", certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|cause| TlsError::Read {
        key: "client_tls_key_file",
        path: key.clone(),
        cause,
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions of TLS");
    let builder = match &written.client_ca_file {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("client_tls_ca_file", path)? {
                roots.add(authority).map_err(|error| TlsError::Verifier(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if written.client_mode >= TlsMode::VerifyCa {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            let verifier = verifier.build().map_err(|error| TlsError::Verifier(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        None if written.client_mode >= TlsMode::VerifyCa => {
            return Err(TlsError::Verifier("it is not given".to_owned()));
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, private).map_err(TlsError::Mismatch)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Some(Arc::new(config)))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    read().map_err(|cause| TlsError::Read { key, path: path.to_owned(), cause })
}
