//! TLS to etcd: who is trusted, and who we are.

use std::{path::Path, sync::Arc};

use bellwether_pem::trust::{self, Names};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::config::TlsFiles;

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    #[error("could not read `{file}`: {detail}")]
    File { file: String, detail: String },
    #[error("there is no usable certificate authority in {0}")]
    NoAuthority(String),
    #[error("the certificates cannot be used")]
    Rustls(#[from] rustls::Error),
}

/// Reads the files. Blocks for a moment.
pub(crate) fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let builder = match files.cacert.as_deref() {
        Some(file) => {
            let verifier = trust::server_verifier(certificates(file)?, Names::Checked)
                .map_err(|_| TlsError::NoAuthority(format!("`{}`", file.display())))?;
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
        None => builder.with_root_certificates(roots_of_the_system()?),
    };
    let mut config = match (&files.cert, &files.key) {
        (Some(cert), key) => {
            let file = key.as_deref().unwrap_or(cert);
            let key = PrivateKeyDer::from_pem_file(file).map_err(|error| unreadable(file, &error))?;
            builder.with_client_auth_cert(certificates(cert)?, key)?
        }
        (None, _) => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn roots_of_the_system() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 { Err(TlsError::NoAuthority("the system's store".to_owned())) } else { Ok(roots) }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, error: &rustls_pki_types::pem::Error) -> TlsError {
    TlsError::File { file: file.display().to_string(), detail: error.to_string() }
}
