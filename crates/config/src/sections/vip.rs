//! `vip`: addresses that follow the leader, or another role, from host to host.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use bellwether_types::HostPort;

use crate::{
    duration,
    section::Section,
    value::{Unit, int_with_unit},
};

const SPAN_HELP: &str = "write a number with a unit, for example `100ms`";
const ADDRESS_HELP: &str = "write an IPv4 or IPv6 address, with `/prefix` behind it if you need one";
/// Keys of the section that are no names of entries.
const SETTINGS: [&str; 6] =
    ["kernel_lifetime", "announce", "announce_count", "announce_gap", "announce_delay", "announce_refresh"];

/// Virtual addresses. Applied on reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// The kernel drops an address by itself when the lease ends that it rests on.
    pub kernel_lifetime: bool,
    pub announce: Announce,
    /// By the names that the file gives them.
    pub entries: BTreeMap<String, VipEntry>,
}

/// How neighbours are told where an address is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Off where a routing daemon tells the world.
    pub on: bool,
    /// Pairs (IPv4: request and reply) in a burst.
    pub count: u32,
    /// Between the pairs of a burst.
    pub gap: Duration,
    /// From the first burst to the second one.
    pub delay: Duration,
    /// Between single pairs afterwards; `None`: none.
    pub refresh: Option<Duration>,
}

/// Addresses that move together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipEntry {
    pub kind: VipKind,
    pub addresses: Vec<VipAddress>,
    /// Otherwise the one interface whose network the address lies in.
    pub interface: Option<String>,
    /// Bytes of WAL that a replica may be behind; kinds `replica` and `sync`.
    pub max_lag: u64,
    pub fallback: Fallback,
    pub provider: Option<Provider>,
}

/// An address with the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VipAddress {
    pub ip: IpAddr,
    pub prefix_len: u8,
}

/// Whom an address follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VipKind {
    /// The leader, as soon as it takes writes.
    Leader,
    /// One healthy replica.
    Replica,
    /// One synchronous standby.
    Sync,
}

/// `fallback`: who holds an address for replicas when there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    Nobody,
    Leader,
}

/// What must be told besides the network itself that an address has moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    pub kind: ProviderKind,
    /// The base of the provider's API, or the address of the webhook.
    pub url: Option<String>,
    /// Ours, as the provider knows us: an address, a number, or the name of an instance.
    pub server: Option<String>,
    /// The provider's name of the address, where it is not the address itself.
    pub id: Option<String>,
    /// Holds the token, `user:password`, or whatever the provider asks for.
    pub credentials_file: Option<PathBuf>,
    /// Words of the command; kind `exec`.
    pub command: Vec<String>,
    /// For one call.
    pub timeout: Duration,
    /// How often is looked whether it is still so.
    pub verify: Duration,
}

/// `provider.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    HetznerRobot,
    HetznerCloud,
    AwsEip,
    Exec,
    Webhook,
}

impl ProviderKind {
    /// Every provider with its word.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("hetzner-robot", Self::HetznerRobot),
        ("hetzner-cloud", Self::HetznerCloud),
        ("aws-eip", Self::AwsEip),
        ("exec", Self::Exec),
        ("webhook", Self::Webhook),
    ];
}

impl Default for Announce {
    fn default() -> Self {
        Self {
            on: true,
            count: 4,
            gap: Duration::from_millis(100),
            delay: Duration::from_secs(5),
            refresh: Some(Duration::from_secs(60)),
        }
    }
}

impl Default for Vip {
    fn default() -> Self {
        Self { kernel_lifetime: true, announce: Announce::default(), entries: BTreeMap::new() }
    }
}

impl Vip {
    pub(crate) fn read(root: &Section<'_>) -> Self {
        let section = root.child("vip");
        let default = Announce::default();
        let announce = Announce {
            on: section.choice("announce", &[("on", true), ("true", true), ("none", false)]).unwrap_or(true),
            count: section
                .integer("announce_count", 1..=100)
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or(default.count),
            gap: section.span("announce_gap", Duration::from_secs(1), SPAN_HELP).unwrap_or(default.gap),
            delay: section.span("announce_delay", Duration::from_secs(1), SPAN_HELP).unwrap_or(default.delay),
            refresh: span_or_off(&section, "announce_refresh").unwrap_or(default.refresh),
        };
        let kernel_lifetime = section.flag("kernel_lifetime").unwrap_or(true);
        let names = section.entries().iter().map(|entry| entry.key.as_str());
        let names: Vec<&str> = names.filter(|name| !SETTINGS.contains(name) && section.has(name)).collect();
        let mut entries = BTreeMap::new();
        for name in names {
            if let Some(entry) = VipEntry::read(&section.child(name)) {
                entries.insert(name.to_owned(), entry);
            }
        }
        let vip = Self { kernel_lifetime, announce, entries };
        vip.check(&section);
        vip
    }

    /// One address belongs to one entry.
    fn check(&self, section: &Section<'_>) {
        let mut seen: BTreeMap<IpAddr, &str> = BTreeMap::new();
        for (name, entry) in &self.entries {
            for address in &entry.addresses {
                if let Some(other) = seen.insert(address.ip, name) {
                    let at = section.child(name);
                    let problem =
                        at.about("addresses", format!("{} stands in `{other}` as well", address.ip));
                    section.report.problem(problem.help("name each address once"));
                }
            }
        }
    }

    /// Every address of every entry.
    pub fn addresses(&self) -> impl Iterator<Item = VipAddress> {
        self.entries.values().flat_map(|entry| entry.addresses.iter().copied())
    }
}

impl VipEntry {
    fn read(section: &Section<'_>) -> Option<Self> {
        let kind = section.choice(
            "kind",
            &[
                ("leader", VipKind::Leader),
                ("site", VipKind::Leader),
                ("replica", VipKind::Replica),
                ("sync", VipKind::Sync),
            ],
        );
        let fallback =
            section.choice("fallback", &[("none", Fallback::Nobody), ("leader", Fallback::Leader)]);
        let prefix_len = section.integer("prefix_len", 0..=128).and_then(|length| u8::try_from(length).ok());
        let written = section.comma_texts("addresses").unwrap_or_default();
        if written.is_empty() {
            section.missing("addresses", "list the addresses, for example `[10.0.0.100]`");
            return None;
        }
        let mut addresses = Vec::new();
        for text in &written {
            match parse_address(text, prefix_len) {
                Ok(address) => addresses.push(address),
                Err(reason) => {
                    let problem = section.about("addresses", format!("`{text}`: {reason}"));
                    section.report.problem(problem.help(ADDRESS_HELP));
                }
            }
        }
        let max_lag = section.parsed("max_lag", "write a number with a unit, for example `100MB`", |text| {
            let bytes = int_with_unit(&text.into(), Some(Unit::Bytes));
            bytes.filter(|lag| *lag >= 0).ok_or("is no number of bytes")
        });
        let interface = section.filled_text("interface");
        if interface.as_deref() == Some("lo") {
            let problem = section.about("interface", "has no neighbours that could be told of an address");
            section.report.problem(problem.help("name the interface that clients reach this host by"));
        }
        Some(Self {
            kind: kind.unwrap_or(VipKind::Leader),
            addresses,
            interface,
            max_lag: max_lag.and_then(|lag| u64::try_from(lag).ok()).unwrap_or(100 << 20),
            fallback: fallback.unwrap_or(Fallback::Nobody),
            provider: section.has("provider").then(|| Provider::read(&section.child("provider"))).flatten(),
        })
    }
}

impl Provider {
    fn read(section: &Section<'_>) -> Option<Self> {
        let kind = section.choice("type", &ProviderKind::WORDS);
        if !section.has("type") {
            section
                .missing("type", "name the provider: hetzner-robot, hetzner-cloud, aws-eip, exec or webhook");
        }
        let command = section.texts("command").unwrap_or_default();
        let read = Self {
            kind: kind?,
            url: section.filled_text("url"),
            server: section.filled_text("server"),
            id: section.filled_text("id"),
            credentials_file: section.file("credentials_file"),
            command,
            timeout: section
                .span("timeout", Duration::from_secs(1), SPAN_HELP)
                .unwrap_or(Duration::from_secs(180)),
            verify: section
                .span("verify", Duration::from_secs(1), SPAN_HELP)
                .unwrap_or(Duration::from_secs(900)),
        };
        for (key, remedy) in read.needs() {
            if !section.has(key) {
                section.missing(key, remedy);
            }
        }
        Some(read)
    }

    /// What each kind cannot do without.
    fn needs(&self) -> &'static [(&'static str, &'static str)] {
        const CREDENTIALS: (&str, &str) =
            ("credentials_file", "name a file (mode 0600) that holds `user:password`, or the token");
        match self.kind {
            ProviderKind::HetznerRobot => &[("server", "give the main address of this server"), CREDENTIALS],
            ProviderKind::HetznerCloud => &[
                ("server", "give the number of this server"),
                ("id", "give the number of the floating IP"),
                CREDENTIALS,
            ],
            ProviderKind::AwsEip => &[
                ("server", "give the id of this instance, `i-...`"),
                ("id", "give the allocation id of the Elastic IP, `eipalloc-...`"),
            ],
            ProviderKind::Exec => &[("command", "list the program and its arguments")],
            ProviderKind::Webhook => &[("url", "give the address that is called")],
        }
    }
}

fn parse_address(text: &str, prefix_len: Option<u8>) -> Result<VipAddress, String> {
    let (ip, prefix) = match text.split_once('/') {
        Some((ip, prefix)) => (ip, Some(prefix)),
        None => (text, None),
    };
    let ip: IpAddr = ip.trim().parse().map_err(|_| "is no address".to_owned())?;
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
        return Err("cannot move between hosts".to_owned());
    }
    let whole = if ip.is_ipv4() { 32 } else { 128 };
    let prefix_len = match prefix {
        Some(prefix) => prefix.parse().map_err(|_| "has no number behind the slash".to_owned())?,
        // A length that is meant for IPv6 says nothing about IPv4.
        None => prefix_len.filter(|length| *length <= whole).unwrap_or(whole),
    };
    if prefix_len > whole {
        return Err(format!("has a prefix longer than {whole}"));
    }
    Ok(VipAddress { ip, prefix_len })
}

/// A span, or `off` and `0` for none. `None`: not given.
pub(crate) fn span_or_off(section: &Section<'_>, key: &str) -> Option<Option<Duration>> {
    // Without a text of it: YAML takes some of these words for booleans.
    let words = ["0", "off", "none", "false", "no"].map(|word| (word, ()));
    if section.is_one_of(key, &words) {
        return Some(None);
    }
    let written = section.filled_text(key)?;
    let span = duration::parse(&written, Duration::from_secs(1));
    if span.is_none() {
        section
            .report
            .problem(section.about(key, "is no span of time").help("write for example `60s`, or `off`"));
    }
    span.map(Some)
}

/// An address with a port, for a server that may be named by its address alone.
pub(crate) fn servers(section: &Section<'_>, key: &str, port: u16) -> Vec<HostPort> {
    let mut servers = Vec::new();
    for text in section.comma_texts(key).unwrap_or_default() {
        // An IPv6 address without brackets is all address.
        let parsed = match text.parse::<IpAddr>() {
            Ok(_) => Ok(HostPort::new(text.clone(), port)),
            Err(_) => HostPort::parse(&text, Some(port)),
        };
        match parsed {
            Ok(server) => servers.push(server),
            Err(error) => section.report.problem(
                section.about(key, format!("`{text}`: {error}")).help("write `host` or `host:port`"),
            ),
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{section::Report, yaml};

    fn read(text: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
        let (root, _) = yaml::parse(text, &"t.yml".into()).unwrap();
        let report = Report::default();
        let vip = Vip::read(&Section::root(&root, &report));
        let addresses = vip.addresses().map(|address| format!("{}/{}", address.ip, address.prefix_len));
        let addresses = addresses.collect();
        let (problems, warnings) = report.into_parts();
        let texts = |list: Vec<crate::Problem>| list.iter().map(ToString::to_string).collect();
        (addresses, texts(problems), texts(warnings))
    }

    #[test]
    fn several_addresses_move_together_and_stand_alone_unless_told_otherwise() {
        let text = "vip:\n  announce_refresh: off\n  main:\n    addresses: [10.0.0.10, 10.1.0.10/24, '2001:db8::10']\n";
        let (addresses, problems, warnings) = read(text);
        assert_eq!(addresses, ["10.0.0.10/32", "10.1.0.10/24", "2001:db8::10/128"]);
        assert_eq!((problems, warnings), (vec![], vec![]));
    }

    #[test]
    fn every_problem_is_told_with_its_line_and_a_remedy() {
        for (text, expected) in [
            ("vip:\n  main: {}\n", "t.yml:2: vip.main.addresses: is not defined"),
            (
                "vip:\n  main:\n    addresses: [10.0.0.300]\n",
                "t.yml:3: vip.main.addresses: `10.0.0.300`: is no address",
            ),
            (
                "vip:\n  main:\n    addresses: [127.0.0.1]\n",
                "t.yml:3: vip.main.addresses: `127.0.0.1`: cannot move",
            ),
            (
                "vip:\n  main:\n    addresses: [10.0.0.1/33]\n",
                "t.yml:3: vip.main.addresses: `10.0.0.1/33`: has a prefix",
            ),
            (
                "vip:\n  a:\n    addresses: 10.0.0.1\n  b:\n    addresses: 10.0.0.1\n",
                "t.yml:5: vip.b.addresses: 10.0.0.1 stands in `a` as well",
            ),
            ("vip:\n  a:\n    addresses: 10.0.0.1\n    interface: lo\n", "t.yml:4: vip.a.interface"),
            ("vip:\n  a:\n    addresses: 10.0.0.1\n    kind: proxy\n", "t.yml:4: vip.a.kind"),
            (
                "vip:\n  a:\n    addresses: 10.0.0.1\n    provider: {type: exec}\n",
                "t.yml:4: vip.a.provider.command: is not defined",
            ),
        ] {
            let (_, problems, _) = read(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].starts_with(expected), "{text}: {problems:?}");
            assert!(problems[0].contains("help: "), "{text}: {problems:?}");
        }
    }
}
