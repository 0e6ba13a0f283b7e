//! What the section `etcd3` means to the adapter.

use bellwether_config::sections::etcd::Etcd;
use bellwether_dcs_etcd::{Credentials, Endpoint, EtcdConfig, Srv, TlsFiles};

/// `prefix`: what the cluster's keys begin with.
pub(super) fn config(section: &Etcd, prefix: String) -> EtcdConfig {
    let endpoints =
        section.hosts.iter().map(|at| Endpoint::new(section.tls, at.host.as_str(), at.port)).collect();
    let mut config = EtcdConfig::new(prefix, endpoints);
    config.srv = section.srv.clone().map(|domain| Srv {
        domain,
        suffix: section.srv_suffix.clone(),
        name_server: None,
    });
    config.discover_members = !section.use_proxies;
    config.credentials = credentials(section);
    config.tls =
        TlsFiles { cacert: section.cacert.clone(), cert: section.cert.clone(), key: section.key.clone() };
    config
}

/// Who we are to etcd.
pub(super) fn credentials(section: &Etcd) -> Option<Credentials> {
    let login = section.username.clone().zip(section.password.clone());
    login.map(|(username, password)| Credentials { username, password })
}
