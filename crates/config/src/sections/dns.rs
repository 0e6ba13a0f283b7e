//! `dns`: a name that leads to the leader, kept by dynamic updates (RFC 2136).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use bellwether_types::HostPort;

use crate::{section::Section, sections::vip::servers};

const SPAN_HELP: &str = "write a number with a unit, for example `60s`";
const PORT: u16 = 53;

/// The records of a cluster in one zone. Applied on reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The zone, without a dot at its end.
    pub zone: String,
    /// The name that leads to the leader, with the zone.
    pub name: String,
    /// The name that leads to the replicas, with the zone.
    pub reader_name: Option<String>,
    /// Where updates go, in this order; empty: to the server that the zone's SOA names.
    pub servers: Vec<HostPort>,
    /// Where is looked whether an update has arrived; empty: at the zone's NS.
    pub verify_servers: Vec<HostPort>,
    pub auth: DnsAuth,
    /// Seconds.
    pub ttl: u32,
    /// What the name leads to when this member leads; empty: its virtual addresses, or else its own address.
    pub addresses: Vec<IpAddr>,
    /// What differs by the site of the leader or of the replicas: their tag `zone`.
    pub sites: BTreeMap<String, Site>,
    /// Whether the addresses lead back to the name.
    pub ptr: bool,
    /// Whether a TXT record beside the name keeps late updates of a former leader out.
    pub fence_txt: bool,
    /// After so long an update is repeated even if nothing has changed.
    pub refresh: Duration,
    /// How often the answer is looked at.
    pub check_interval: Duration,
    /// How long every server may take to answer as wanted.
    pub verify_timeout: Duration,
}

/// What there is of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// What the name of the leader leads to when a member of this site leads; empty: as without the site.
    pub addresses: Vec<IpAddr>,
    /// The name that leads to the replicas of this site, with the zone.
    pub reader_name: Option<String>,
}

/// How updates are authenticated. There is no way from one to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsAuth {
    /// Not at all.
    None,
    /// With a key that the server knows as well, in a file as `tsig-keygen` writes it.
    Tsig { key_file: PathBuf },
    /// With Kerberos.
    GssTsig(GssTsig),
}

/// Who we are to Kerberos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GssTsig {
    pub realm: String,
    /// Key distribution centres; empty: as DNS says.
    pub kdc: Vec<HostPort>,
    pub principal: String,
    pub secret: GssSecret,
}

/// What proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GssSecret {
    Keytab(PathBuf),
    PasswordFile(PathBuf),
}

#[derive(Clone, Copy)]
enum Method {
    None,
    Tsig,
    GssTsig,
}

impl Dns {
    /// `None`: there is no such section, or it cannot be used.
    pub(crate) fn read(root: &Section<'_>) -> Option<Self> {
        let section = root.child("dns");
        let zone = section.filled_text("zone").map(|zone| trimmed(&zone));
        let (name, reader_name) = (section.filled_text("name"), section.filled_text("reader_name"));
        let auth = section
            .choice("auth", &[("none", Method::None), ("tsig", Method::Tsig), ("gss-tsig", Method::GssTsig)]);
        let (tsig_key_file, gss) = (section.file("tsig_key_file"), section.child("gss"));
        let gss = read_gss(&gss, matches!(auth, Some(Method::GssTsig)));
        let ttl = section.integer("ttl", 1..=604_800).and_then(|ttl| u32::try_from(ttl).ok()).unwrap_or(60);
        let (own, seen) = (servers(&section, "servers", PORT), servers(&section, "verify_servers", PORT));
        let addresses = read_addresses(&section);
        let written_sites = read_sites(&section.child("sites"));
        let span = |key, default: u64| {
            section.span(key, Duration::from_secs(1), SPAN_HELP).unwrap_or(Duration::from_secs(default))
        };
        let (refresh, check_interval, verify_timeout) =
            (span("refresh", 86_400), span("check_interval", 60), span("verify_timeout", 60));
        let (ptr, fence_txt) =
            (section.flag("ptr").unwrap_or(false), section.flag("fence_txt").unwrap_or(true));
        if !root.has("dns") {
            return None;
        }
        if zone.is_none() {
            section.missing("zone", "name the zone, for example `db.example.com`");
        }
        if !section.has("auth") {
            section.missing(
                "auth",
                "write `tsig`, `gss-tsig`, or `none` for a server that takes updates from anybody",
            );
        }
        let auth = match auth? {
            Method::None => DnsAuth::None,
            Method::Tsig => match tsig_key_file {
                Some(key_file) => DnsAuth::Tsig { key_file },
                None => {
                    section
                        .missing("tsig_key_file", "make one with `tsig-keygen` and name it here (mode 0600)");
                    return None;
                }
            },
            Method::GssTsig => DnsAuth::GssTsig(gss?),
        };
        let zone = zone?;
        let scope = root.filled_text("scope").unwrap_or_default().to_ascii_lowercase();
        let name = within(&section, "name", &name.unwrap_or(scope), &zone)?;
        let reader_name = match reader_name {
            Some(reader) => Some(within(&section, "reader_name", &reader, &zone)?),
            None => None,
        };
        if reader_name.as_ref() == Some(&name) {
            let problem = section.about("reader_name", "is the name of the leader as well");
            section.report.problem(problem.help("choose another one"));
        }
        let taken = [Some(&name), reader_name.as_ref()].into_iter().flatten().cloned().collect();
        let sites = named_sites(&section.child("sites"), written_sites, &zone, taken)?;
        let read = Self {
            zone,
            name,
            reader_name,
            servers: own,
            verify_servers: seen,
            auth,
            ttl,
            addresses,
            sites,
            ptr,
            fence_txt,
            refresh,
            check_interval,
            verify_timeout,
        };
        read.check(&section);
        read.warn_of_own_site(root);
        Some(read)
    }

    fn check(&self, section: &Section<'_>) {
        if matches!(self.auth, DnsAuth::GssTsig(_))
            && let Some(server) = self.servers.iter().find(|server| server.host.parse::<IpAddr>().is_ok())
        {
            let problem = section.about(
                "servers",
                format!("names {} by its address, and Kerberos knows servers by their names", server.host),
            );
            section.report.problem(problem.help("write the full name of the server"));
        }
    }

    /// A member that belongs to no site would lead the name elsewhere than its neighbours do.
    fn warn_of_own_site(&self, root: &Section<'_>) {
        if self.sites.is_empty() {
            return;
        }
        let tags = root.lenient().child("tags");
        let own = tags.filled_text("zone");
        let problem = match &own {
            Some(own) if self.sites.contains_key(own) => return,
            Some(_) => tags.about("zone", "names no site of `dns.sites`"),
            None => tags.about("zone", "is not defined, and `dns.sites` goes by it"),
        };
        let sites: Vec<&str> = self.sites.keys().map(String::as_str).collect();
        root.report.warn(problem.help(format!("name the site of this member: {}", sites.join(", "))));
    }
}

/// Addresses, and names as they are written.
fn read_sites(section: &Section<'_>) -> Vec<(String, Site)> {
    let read = |entry: &crate::node::Entry| {
        let site = section.child(&entry.key);
        let (addresses, reader_name) = (read_addresses(&site), site.filled_text("reader_name"));
        (entry.key.clone(), Site { addresses, reader_name })
    };
    section.entries().iter().map(read).collect()
}

/// The same with whole names, of which each is there once. `None`: a name cannot be used.
fn named_sites(
    section: &Section<'_>,
    written: Vec<(String, Site)>,
    zone: &str,
    mut taken: BTreeSet<String>,
) -> Option<BTreeMap<String, Site>> {
    let mut sites = BTreeMap::new();
    for (key, mut site) in written {
        if let Some(reader) = site.reader_name.take() {
            let at = section.child(&key);
            let reader = within(&at, "reader_name", &reader, zone)?;
            if !taken.insert(reader.clone()) {
                let problem = at.about("reader_name", format!("{reader} leads to others as well"));
                section.report.problem(problem.help("choose a name of its own"));
            }
            site.reader_name = Some(reader);
        }
        sites.insert(key, site);
    }
    Some(sites)
}

fn read_gss(section: &Section<'_>, is_wanted: bool) -> Option<GssTsig> {
    let realm = section.filled_text("realm");
    let principal = section.filled_text("principal");
    let kdc = servers(section, "kdc", 88);
    let (keytab, password_file) = (section.file("keytab"), section.file("password_file"));
    if !is_wanted {
        return None;
    }
    for (key, remedy) in [
        ("realm", "name the Kerberos realm, for example `EXAMPLE.COM`"),
        ("principal", "name who the updates come from, for example `cluster$`"),
    ] {
        if !section.has(key) {
            section.missing(key, remedy);
        }
    }
    let secret = match (keytab, password_file) {
        (Some(keytab), None) => Some(GssSecret::Keytab(keytab)),
        (None, Some(file)) => Some(GssSecret::PasswordFile(file)),
        (Some(_), Some(_)) => {
            let problem =
                section.about("password_file", "stands beside `keytab`, and only one of them can count");
            section.report.problem(problem.help("remove one of them"));
            None
        }
        (None, None) => {
            section.missing(
                "keytab",
                "name a keytab, or a file with the password in `password_file` (mode 0600)",
            );
            None
        }
    };
    Some(GssTsig { realm: realm?, kdc, principal: principal?, secret: secret? })
}

fn read_addresses(section: &Section<'_>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for text in section.comma_texts("addresses").unwrap_or_default() {
        match text.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => section.report.problem(
                section
                    .about("addresses", format!("`{text}` is no address"))
                    .help("write IPv4 or IPv6 addresses"),
            ),
        }
    }
    addresses
}

fn trimmed(name: &str) -> String {
    name.trim_matches('.').to_ascii_lowercase()
}

/// The whole name: one without a dot at its end, and outside the zone, is meant within it.
fn within(section: &Section<'_>, key: &str, name: &str, zone: &str) -> Option<String> {
    let is_whole = name.ends_with('.');
    let name = trimmed(name);
    let whole = if is_whole || name == zone || name.ends_with(&format!(".{zone}")) {
        name
    } else {
        format!("{name}.{zone}")
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let problem = if whole != zone && !whole.ends_with(&format!(".{zone}")) {
        Some(format!("{whole} does not lie in the zone {zone}"))
    } else if !whole.split('.').all(label) {
        Some(format!("{whole} is no name that DNS knows"))
    } else {
        None
    };
    match problem {
        None => Some(whole),
        Some(reason) => {
            section
                .report
                .problem(section.about(key, reason).help("use letters, digits and hyphens, within the zone"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{section::Report, yaml};

    fn read(text: &str) -> (Option<Dns>, Vec<String>) {
        let (root, _) = yaml::parse(&format!("scope: Main\n{text}"), &"t.yml".into()).unwrap();
        let report = Report::default();
        let dns = Dns::read(&Section::root(&root, &report));
        let (problems, _) = report.into_parts();
        (dns, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn names_lie_in_the_zone() {
        for (text, name) in [
            ("dns: {zone: Db.Example.com., auth: none}", "main.db.example.com"),
            ("dns: {zone: db.example.com, name: writer, auth: none}", "writer.db.example.com"),
            ("dns: {zone: db.example.com, name: a.b.db.example.com, auth: none}", "a.b.db.example.com"),
        ] {
            let (dns, problems) = read(text);
            assert_eq!(problems, Vec::<String>::new(), "{text}");
            assert_eq!(dns.unwrap().name, name, "{text}");
        }
        assert_eq!(read("").0, None);
    }

    #[test]
    fn sites_have_addresses_and_names_of_their_own() {
        let text = "dns:\n  zone: z.example\n  auth: none\n  sites:\n    dc1: {addresses: [10.1.0.1, '2001:db8::1'], \
                    reader_name: ro-dc1}\n    dc2: {reader_name: ro.dc2.z.example}\ntags: {zone: dc1}\n";
        let (dns, problems) = read(text);
        assert_eq!(problems, Vec::<String>::new());
        let sites = dns.unwrap().sites;
        assert_eq!(sites["dc1"].addresses.len(), 2);
        assert_eq!(sites["dc1"].reader_name.as_deref(), Some("ro-dc1.z.example"));
        let other = Site { addresses: vec![], reader_name: Some("ro.dc2.z.example".into()) };
        assert_eq!(sites["dc2"], other);
        for (section, expected) in [
            ("dc1: {addresses: x}", "dns.sites.dc1.addresses: `x` is no address"),
            ("dc1: {reader_name: main}", "dns.sites.dc1.reader_name: main.z.example leads to others as well"),
            (
                "dc1: {reader_name: r}, dc2: {reader_name: r}",
                "dns.sites.dc2.reader_name: r.z.example leads to",
            ),
            ("dc1: {reader_name: other.example.}", "dns.sites.dc1.reader_name: other.example does not lie"),
            ("dc1: 10.0.0.1", "dns.sites.dc1: expects a map"),
        ] {
            let (_, problems) = read(&format!(
                "dns: {{zone: z.example, auth: none, sites: {{{section}}}}}\ntags: {{zone: dc1}}"
            ));
            assert_eq!(problems.len(), 1, "{section}: {problems:?}");
            assert!(problems[0].contains(expected), "{section}: {problems:?}");
        }
    }

    #[test]
    fn a_member_without_a_site_is_told() {
        for (tags, expected) in [
            ("", Some("tags.zone: is not defined, and `dns.sites` goes by it")),
            ("tags: {zone: dc3}", Some("tags.zone: names no site of `dns.sites`")),
            ("tags: {zone: dc2}", None),
        ] {
            let text =
                format!("dns: {{zone: z.example, auth: none, sites: {{dc1: {{}}, dc2: {{}}}}}}\n{tags}\n");
            let (root, _) = yaml::parse(&format!("scope: Main\n{text}"), &"t.yml".into()).unwrap();
            let report = Report::default();
            assert!(Dns::read(&Section::root(&root, &report)).is_some());
            let (problems, warnings) = report.into_parts();
            assert!(problems.is_empty(), "{problems:?}");
            let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            assert_eq!(warnings.len(), usize::from(expected.is_some()), "{warnings:?}");
            if let Some(expected) = expected {
                assert!(warnings[0].contains(expected) && warnings[0].contains("dc1, dc2"), "{warnings:?}");
            }
        }
    }

    #[test]
    fn nothing_is_unauthenticated_unless_asked_for() {
        for (text, expected) in [
            ("dns: {zone: z.example}", "t.yml:2: dns.auth: is not defined"),
            ("dns: {auth: none}", "t.yml:2: dns.zone: is not defined"),
            ("dns: {zone: z.example, auth: tsig}", "t.yml:2: dns.tsig_key_file: is not defined"),
            (
                "dns: {zone: z.example, auth: gss-tsig, gss: {realm: R, principal: p}}",
                "t.yml:2: dns.gss.keytab: is not defined",
            ),
            (
                "dns: {zone: z.example, auth: none, name: other.example.}",
                "t.yml:2: dns.name: other.example does not lie",
            ),
            (
                "dns: {zone: z.example, auth: none, name: 'a b'}",
                "t.yml:2: dns.name: a b.z.example is no name",
            ),
            (
                "dns: {zone: z.example, auth: none, addresses: [x]}",
                "t.yml:2: dns.addresses: `x` is no address",
            ),
            (
                "dns: {zone: z.example, auth: gss-tsig, servers: 10.0.0.1, gss: {realm: R, principal: p, keytab: /k}}",
                "t.yml:2: dns.servers: names 10.0.0.1 by its address",
            ),
        ] {
            let (_, problems) = read(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(
                problems[0].starts_with(expected) || problems[0].contains(&expected[9..]),
                "{text}: {problems:?}"
            );
            assert!(problems[0].contains("help: "), "{text}: {problems:?}");
        }
    }
}
