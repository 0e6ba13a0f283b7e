//! Which addresses may make unsafe calls.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bellwether_types::cluster::Cluster;

/// How long the resolution of one host name may take. A name that does not resolve allows nobody.
const RESOLVE_LIMIT: Duration = Duration::from_secs(2);

/// The list of the configuration, parsed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowlist {
    entries: Vec<Entry>,
    include_members: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Network { base: IpAddr, prefix: u8 },
    Host(String),
}

impl Allowlist {
    /// Anything that is neither an address nor a network is a host name.
    pub(crate) fn new(texts: &[String], include_members: bool) -> Self {
        Self { entries: texts.iter().map(|text| Entry::parse(text.trim())).collect(), include_members }
    }

    /// The list without the members: what `POST /failsafe` is checked against, because a leader that lost the store must
    /// reach members that may not know each other's addresses any more.
    pub(crate) fn without_members(&self) -> Self {
        Self { entries: self.entries.clone(), include_members: false }
    }

    /// Whether `origin` may call. Names are looked up only if no plain entry matches.
    pub(crate) async fn allows(&self, origin: IpAddr, view: Option<&Cluster>) -> bool {
        if self.entries.is_empty() && !self.include_members {
            return true;
        }
        let members =
            view.filter(|_| self.include_members).into_iter().flat_map(|view| view.members.values());
        let member_hosts = members.filter_map(|member| host_of(member.api_url.as_deref()?));
        let hosts = self.entries.iter().filter_map(Entry::host).map(str::to_owned);
        let hosts: Vec<_> = hosts.chain(member_hosts).collect();

        if self.entries.iter().any(|entry| entry.contains(origin))
            || hosts.iter().any(|host| host.parse() == Ok(origin))
        {
            return true;
        }
        for host in hosts.iter().filter(|host| host.parse::<IpAddr>().is_err()) {
            if resolves_to(host, origin).await {
                return true;
            }
        }
        false
    }
}

impl Entry {
    fn parse(text: &str) -> Self {
        let (address, mask) = match text.split_once('/') {
            Some((address, mask)) => (address, Some(mask)),
            None => (text, None),
        };
        let parsed = address.parse::<IpAddr>().ok().and_then(|base| {
            let bits = if base.is_ipv4() { 32 } else { 128 };
            let prefix = mask.map_or(Some(bits), |mask| parse_mask(mask, bits))?;
            Some(Self::Network { base, prefix })
        });
        parsed.unwrap_or_else(|| Self::Host(text.to_owned()))
    }

    fn host(&self) -> Option<&str> {
        match self {
            Self::Host(host) => Some(host),
            Self::Network { .. } => None,
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let Self::Network { base, prefix } = self else { return false };
        match (base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
                u32::from(*base) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(*prefix)).unwrap_or(0);
                u128::from(*base) & mask == u128::from(address) & mask
            }
            _ => false,
        }
    }
}

/// `24` or `255.255.255.0`.
fn parse_mask(text: &str, bits: u8) -> Option<u8> {
    if let Ok(prefix) = text.parse::<u8>() {
        return (prefix <= bits).then_some(prefix);
    }
    let mask = u32::from(text.parse::<Ipv4Addr>().ok()?);
    let is_contiguous = mask.leading_ones() + mask.trailing_zeros() == 32;
    (bits == 32 && is_contiguous).then(|| u8::try_from(mask.leading_ones()).expect("at most 32"))
}

/// The host of `http://host:port/patroni`.
fn host_of(api_url: &str) -> Option<String> {
    let uri: axum::http::Uri = api_url.parse().ok()?;
    Some(uri.host()?.trim_matches(['[', ']']).to_owned())
}

async fn resolves_to(host: &str, origin: IpAddr) -> bool {
    let lookup = tokio::net::lookup_host((host, 0));
    match tokio::time::timeout(RESOLVE_LIMIT, lookup).await {
        Ok(Ok(mut found)) => found.any(|address| address.ip().to_canonical() == origin),
        Ok(Err(error)) => {
            tracing::debug!(%host, %error, "could not resolve a host of the allowlist");
            false
        }
        Err(_) => {
            tracing::debug!(%host, "a host of the allowlist did not resolve in time");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use bellwether_types::{MemberName, cluster::Member};

    use super::*;

    async fn allows(entries: &[&str], origin: &str) -> bool {
        let entries: Vec<_> = entries.iter().map(|&text| text.to_owned()).collect();
        Allowlist::new(&entries, false).allows(origin.parse().unwrap(), None).await
    }

    #[tokio::test]
    async fn addresses_networks_and_names_are_allowed() {
        for (entries, origin, expected) in [
            (&[][..], "10.0.0.1", true),
            (&["10.0.0.1"], "10.0.0.1", true),
            (&["10.0.0.1"], "10.0.0.2", false),
            (&["192.168.0.0/16", "10.0.0.0/8"], "10.255.0.2", true),
            (&["10.0.0.77/255.255.255.0"], "10.0.0.2", true),
            (&["10.0.0.0/255.255.255.0"], "10.0.1.2", false),
            (&["0.0.0.0/0"], "10.0.0.2", true),
            (&["0.0.0.0/0"], "::1", false),
            (&["fd00::/8"], "fd12::1", true),
            (&["fd00::/8"], "fe80::1", false),
            (&["10.0.0.0/33"], "10.0.0.1", false),
            (&["localhost"], "127.0.0.1", true),
            (&["localhost"], "10.0.0.1", false),
        ] {
            assert_eq!(allows(entries, origin).await, expected, "{entries:?} {origin}");
        }
    }

    #[tokio::test]
    async fn members_count_when_they_are_included() {
        let name = MemberName::new("b").unwrap();
        let mut member = Member::unknown(name.clone());
        member.api_url = Some("http://10.0.0.7:8008/patroni".to_owned());
        let mut view = Cluster::default();
        view.members.insert(name, member);

        let list = Allowlist::new(&[], true);
        assert!(list.allows("10.0.0.7".parse().unwrap(), Some(&view)).await);
        assert!(!list.allows("10.0.0.8".parse().unwrap(), Some(&view)).await);
        assert!(!list.allows("10.0.0.7".parse().unwrap(), None).await, "without a view nobody is a member");
        assert!(list.without_members().allows("10.0.0.8".parse().unwrap(), None).await, "no list, no check");
    }
}
