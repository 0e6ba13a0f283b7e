//! Certificates from files, and their replacement while the node runs.
//!
//! A replacement is judged as the other nodes would judge it, before it is taken into use: a certificate that they refuse would
//! cut this node off at its next connection, which may be the one that a failover needs.

use std::{error::Error as _, path::Path, sync::Arc};

use bellwether_pem::trust::{self, Names, TrustError};
use rustls::{client::danger::ServerCertVerifier, server::danger::ClientCertVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};

use super::credentials::{Credentials, CredentialsError, client_builder, server_builder};
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
    let client = client_builder()?
        .dangerous()
        .with_custom_certificate_verifier(server_verifier(files)?)
        .with_client_auth_cert(chain.clone(), key()?)?;
    let server = server_builder()?
        .with_client_cert_verifier(client_verifier(files)?)
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
    let now = UnixTime::now();
    client_verifier(files)?
        .verify_client_cert(leaf, intermediates, now)
        .map_err(|error| unacceptable(error.to_string()))?;
    let Some(address) = self_addr else { return Ok(credentials) };
    let host = parse_address(address).map_err(unacceptable)?.0;
    let name = ServerName::try_from(host).map_err(|error| unacceptable(error.to_string()))?;
    server_verifier(files)?
        .verify_server_cert(leaf, intermediates, &name, &[], now)
        .map_err(|error| unacceptable(error.to_string()))?;
    Ok(credentials)
}

fn server_verifier(files: &TlsFiles) -> Result<Arc<dyn ServerCertVerifier>, CredentialsError> {
    trust::server_verifier(certificates(&files.ca)?, Names::Checked).map_err(|error| untrusted(files, &error))
}

fn client_verifier(files: &TlsFiles) -> Result<Arc<dyn ClientCertVerifier>, CredentialsError> {
    trust::client_verifier(certificates(&files.ca)?, false).map_err(|error| untrusted(files, &error))
}

fn untrusted(files: &TlsFiles, error: &TrustError) -> CredentialsError {
    let why = error.source().map(|why| format!(": {why}")).unwrap_or_default();
    CredentialsError::File { file: files.ca.display().to_string(), detail: format!("{error}{why}") }
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
