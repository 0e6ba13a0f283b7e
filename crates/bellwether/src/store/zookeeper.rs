//! What the section `zookeeper` means to the adapter.

use bellwether_config::sections::zookeeper::ZooKeeper;
use bellwether_dcs_zookeeper::{AclRule, Config, ConfigError, TlsFiles};

/// `prefix`: what the cluster's keys begin with.
pub(super) fn config(section: &ZooKeeper, prefix: String) -> Result<Config, ConfigError> {
    let mut config = Config::new(section.hosts.iter().map(ToString::to_string).collect(), prefix);
    let rules = section.set_acls.iter();
    config.acls = rules
        .map(|(principal, words)| AclRule::parse(principal, words.iter().map(String::as_str)))
        .collect::<Result<_, _>>()?;
    config.auth_data =
        section.auth_data.iter().map(|(scheme, secret)| (scheme.clone(), secret.clone())).collect();
    config.tick_time = section.tick_time;
    config.tls = section.tls.as_ref().map(|tls| TlsFiles {
        cacert: tls.cacert.clone(),
        cert: tls.cert.clone(),
        key: tls.key.clone(),
        key_password: tls.key_password.clone(),
        check_hostname: tls.check_hostname,
    });
    Ok(config)
}
