//! The server that another one copies, follows or is compared with: from the URL that a member publishes to what PostgreSQL's tools take.

use std::collections::BTreeMap;

use bellwether_ha::view::{JobOutcome, Upstream};
use bellwether_postgres::{
    config::Upstream as PgUpstream,
    replication::{self, Target},
    settings::{Credentials, HostPort, PgSettings},
};

use super::chain;

/// `host` and `port` of a `postgres://host:port/database` URL; the first of several.
pub(crate) fn address_of(conn_url: &str) -> Option<HostPort> {
    addresses_of(conn_url)?.into_iter().next()
}

/// The same of `postgres://host:port,host:port/database`.
fn addresses_of(conn_url: &str) -> Option<Vec<HostPort>> {
    let rest = conn_url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    authority.split(',').map(|address| HostPort::parse(address, Some(5432)).ok()).collect()
}

/// The database of a connection URL.
pub(crate) fn database_of(conn_url: &str) -> Option<String> {
    let path = conn_url.split_once("://")?.1.split_once('/')?.1;
    let database = path.split('?').next()?;
    (!database.is_empty()).then(|| database.to_owned())
}

/// A decided upstream in the terms of the configuration files.
pub(crate) fn pg_upstream(upstream: &Upstream) -> Option<PgUpstream> {
    let mut addresses = addresses_of(&upstream.conn_url)?.into_iter();
    Some(PgUpstream {
        address: addresses.next()?,
        alternatives: addresses.collect(),
        slot: upstream.slot.clone(),
        credentials: None,
        database: database_of(&upstream.conn_url),
    })
}

pub(crate) fn target(upstream: &Upstream, credentials: &Credentials) -> Option<Target> {
    Some(Target { address: address_of(&upstream.conn_url)?, credentials: credentials.clone() })
}

/// Of several servers of a cluster elsewhere the one that may be written to, else the first that answers.
pub(super) async fn one_of_several(upstream: Upstream, settings: &PgSettings) -> Upstream {
    let addresses = addresses_of(&upstream.conn_url).unwrap_or_default();
    if addresses.len() < 2 {
        return upstream;
    }
    let mut answering = None;
    for address in &addresses {
        let target = Target { address: address.clone(), credentials: settings.replication.clone() };
        match replication::is_writable(&target).await {
            Ok(true) => {
                answering = Some(address);
                break;
            }
            Ok(false) => answering = answering.or(Some(address)),
            Err(error) => tracing::info!(%address, error = chain(&error), "no answer"),
        }
    }
    let address = answering.unwrap_or(&addresses[0]);
    Upstream { conn_url: format!("postgres://{address}"), ..upstream }
}

/// What a standby cluster says about the other cluster's archive, in the terms of the configuration files.
pub(crate) fn archive_settings(upstream: &Upstream) -> BTreeMap<String, String> {
    let archive = &upstream.archive;
    let given = [
        ("restore_command", &archive.restore_command),
        ("archive_cleanup_command", &archive.archive_cleanup_command),
        ("recovery_min_apply_delay", &archive.min_apply_delay),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
}

pub(super) fn no_address(upstream: &Upstream) -> JobOutcome {
    JobOutcome::Failed {
        why: format!("member {} publishes no usable address: `{}`", upstream.member, upstream.conn_url),
        source_unreachable: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_out_of_connection_urls() {
        for (url, host, port) in [
            ("postgres://10.0.0.1:5433/postgres", "10.0.0.1", 5433),
            ("postgres://u:p@db.example/x?y=z", "db.example", 5432),
            ("postgres://[::1]:5434/postgres", "::1", 5434),
            ("postgres://[::1]/postgres", "::1", 5432),
            ("postgres://:5433", "", 5433),
        ] {
            assert_eq!(address_of(url), Some(HostPort { host: host.into(), port }), "{url}");
        }
        let several = addresses_of("postgres://a:1,[::1]:2").unwrap();
        assert_eq!(several.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "[::1]:2"]);
        assert_eq!(addresses_of(""), None, "the other cluster is reached through its archive alone");
        assert_eq!(database_of("postgres://h:1/db?x=1").as_deref(), Some("db"));
    }
}
