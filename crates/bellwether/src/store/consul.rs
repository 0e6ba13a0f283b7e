//! What the section `consul` means to the adapter.

use bellwether_config::sections::consul::Consul;
use bellwether_dcs_consul::{Config, ConfigError, Tls};
use bellwether_types::Failure;

use super::Of;

pub(crate) fn config(section: &Consul, of: &Of<'_>) -> Config {
    let scheme = if section.tls { "https" } else { "http" };
    let session_name = match of.member {
        Some(member) => format!("{}-{member}", of.cluster),
        None => of.cluster.to_string(),
    };
    let mut config = Config::new(format!("{scheme}://{}", section.address), of.prefix(), session_name);
    config.token.clone_from(&section.token);
    config.dc.clone_from(&section.dc);
    config.checks.clone_from(&section.checks);
    config.session_ttl_min = section.session_ttl_min;
    // Files without TLS have been warned of, and must not keep the agent from starting.
    if section.tls {
        config.tls = Tls {
            verify: section.verify,
            cacert: section.cacert.clone(),
            cert: section.cert.clone(),
            key: section.key.clone(),
        };
    }
    config
}

/// The code under which the book explains it.
pub(crate) fn failure(error: &ConfigError) -> Failure {
    match error {
        ConfigError::Read { .. } => Failure::StoreCredentials,
        _ => Failure::StoreSettings,
    }
}
