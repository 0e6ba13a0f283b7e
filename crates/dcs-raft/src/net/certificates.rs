//! Certificates from files, and their replacement while the node runs.
//!
//! A replacement is judged as the other nodes would judge it, before it is taken into use: a certificate that they refuse would
//! cut this node off at its next connection, which may be the one that a failover needs.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};

use super::credentials::{Credentials, CredentialsError, client_builder, provider, server_builder};
use crate::config::{TlsFiles, parse_address};

/// Reads the files; certificate and key must fit together.
pub(super) fn read(files: &TlsFiles) -> Result<Credentials, CredentialsError> {
    let chain = certificates(&files.cert)?;
    let key = || {
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| CredentialsError::File {
            file: files.key.display().to_string(),
            detail: error.to_string(),
        })
    };
    let roots = authorities(files)?;
    let client = client_builder()?
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain.clone(), key()?)?;
    let server = server_builder()?
        .with_client_cert_verifier(client_verifier(roots)?)
        .with_single_cert(chain, key()?)?;
    Ok(Credentials { client: Arc::new(client), server: Arc::new(server), pinned: false })
}

/// The same as [`read`], and an error unless the other nodes would accept the result from a node at `self_addr` (`None`: from a
/// client, which nobody connects to).
pub(super) fn read_acceptable(
    files: &TlsFiles,
    self_addr: Option<&str>,
) -> Result<Credentials, CredentialsError> {
    let credentials = read(files)?;
    let chain = certificates(&files.cert)?;
    let (leaf, intermediates) = chain.split_first().expect("a file without certificates was refused");
    let unacceptable =
        |detail: String| CredentialsError::Unacceptable { file: files.cert.display().to_string(), detail };
    let roots = authorities(files)?;
    let now = UnixTime::now();
    client_verifier(roots.clone())?
        .verify_client_cert(leaf, intermediates, now)
        .map_err(|error| unacceptable(error.to_string()))?;
    let Some(address) = self_addr else { return Ok(credentials) };
    let host = parse_address(address).map_err(unacceptable)?.0;
    let name = ServerName::try_from(host).map_err(|error| unacceptable(error.to_string()))?;
    WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?
        .verify_server_cert(leaf, intermediates, &name, &[], now)
        .map_err(|error| unacceptable(error.to_string()))?;
    Ok(credentials)
}

fn authorities(files: &TlsFiles) -> Result<Arc<RootCertStore>, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(&files.ca)? {
        roots.add(authority)?;
    }
    Ok(Arc::new(roots))
}

fn client_verifier(roots: Arc<RootCertStore>) -> Result<Arc<dyn ClientCertVerifier>, CredentialsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    Ok(verifier)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let failed = |detail: String| CredentialsError::File { file: file.display().to_string(), detail };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| failed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(failed("it has no certificate".to_owned()));
    }
    Ok(certificates)
}
