//! Endpoints that nobody wrote down: SRV records, and what the cluster says of itself.

use std::net::SocketAddr;

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::rr::RData,
};

use crate::{
    config::{CLIENT_PORT, Endpoint, Srv},
    proto::Member,
};

/// The services to ask for, in Patroni's order: with TLS or without, and whether the record has the port of clients. Records
/// of the members among themselves have another one, so that etcd's usual one is taken instead.
const SERVICES: [(&str, bool, bool); 6] = [
    ("_etcd-client-ssl", true, true),
    ("_etcd-client", false, true),
    ("_etcd-ssl", true, true),
    ("_etcd", false, true),
    ("_etcd-server-ssl", true, false),
    ("_etcd-server", false, false),
];

/// The endpoints of the first service that has records, by priority and weight.
pub(crate) async fn look_up(srv: &Srv) -> Result<Vec<Endpoint>, String> {
    let resolver = resolver(srv.name_server)?;
    let mut last = String::new();
    for (service, tls, is_client_port) in SERVICES {
        let suffix = srv.suffix.as_ref().map(|suffix| format!("-{suffix}")).unwrap_or_default();
        let name = format!("{service}{suffix}._tcp.{}.", srv.domain.trim_end_matches('.'));
        match resolver.srv_lookup(name.as_str()).await {
            Ok(found) => {
                let mut records: Vec<_> = found
                    .answers()
                    .iter()
                    .filter_map(|record| match &record.data {
                        RData::SRV(srv) => Some(srv),
                        _ => None,
                    })
                    .collect();
                records.sort_by_key(|record| (record.priority, u16::MAX - record.weight));
                let endpoint = |record: &&hickory_resolver::proto::rr::rdata::SRV| {
                    let host = record.target.to_utf8();
                    let port = if is_client_port { record.port } else { CLIENT_PORT };
                    Endpoint::new(tls, host.trim_end_matches('.'), port)
                };
                let endpoints: Vec<Endpoint> = records.iter().map(endpoint).collect();
                if !endpoints.is_empty() {
                    return Ok(endpoints);
                }
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(format!("no SRV record of etcd at {}: {last}", srv.domain))
}

fn resolver(name_server: Option<SocketAddr>) -> Result<TokioResolver, String> {
    let mut builder = match name_server {
        None => TokioResolver::builder_tokio().map_err(|error| error.to_string())?,
        Some(address) => {
            let mut udp = ConnectionConfig::udp();
            udp.port = address.port();
            let server = NameServerConfig::new(address.ip(), true, vec![udp]);
            let config = ResolverConfig::from_parts(None, vec![], vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    // Whoever wants more asks again; meanwhile the endpoints that are known can be tried.
    builder.options_mut().attempts = 1;
    builder.build().map_err(|error| error.to_string())
}

/// What the members say that clients should connect to.
pub(crate) fn advertised(members: &[Member]) -> Vec<Endpoint> {
    let voters = members.iter().filter(|member| !member.is_learner);
    voters.flat_map(|member| &member.client_urls).filter_map(|url| url.parse().ok()).collect()
}
