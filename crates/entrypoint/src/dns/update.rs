//! One change of a zone, which happens as a whole or not at all.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Data of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Txt(String),
    Ptr(String),
}

/// Kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    A,
    Aaaa,
    Txt,
    Ptr,
    Soa,
    Ns,
}

/// A record without its time to live.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub name: String,
    pub data: Data,
}

/// What must be so, or nothing is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prerequisite {
    /// There is no such record.
    Absent { name: String, kind: Kind },
    /// There is this one, and no other of its kind.
    Only(Entry),
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub zone: String,
    pub prerequisites: Vec<Prerequisite>,
    /// All records of a kind at a name.
    pub delete_sets: Vec<(String, Kind)>,
    pub delete: Vec<Entry>,
    pub add: Vec<Entry>,
    /// Of the added ones, in seconds.
    pub ttl: u32,
}

impl Data {
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::A(address),
            IpAddr::V6(address) => Self::Aaaa(address),
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::A(_) => Kind::A,
            Self::Aaaa(_) => Kind::Aaaa,
            Self::Txt(_) => Kind::Txt,
            Self::Ptr(_) => Kind::Ptr,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Txt => "TXT",
            Self::Ptr => "PTR",
            Self::Soa => "SOA",
            Self::Ns => "NS",
        })
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => write!(f, "A {address}"),
            Self::Aaaa(address) => write!(f, "AAAA {address}"),
            // Ours hold no quotes.
            Self::Txt(text) => write!(f, "TXT \"{text}\""),
            Self::Ptr(name) => write!(f, "PTR {name}."),
        }
    }
}

/// The name that an address leads back to.
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits = address.octets().map(|octet| format!("{:x}.{:x}", octet & 15, octet >> 4));
            let reversed: Vec<String> = digits.into_iter().rev().collect();
            format!("{}.ip6.arpa", reversed.join("."))
        }
    }
}

impl Update {
    /// As `nsupdate` reads it; `server` with its port.
    pub fn script(&self, server: &str, port: u16) -> String {
        use fmt::Write as _;
        let mut text = format!("server {server} {port}\nzone {}.\n", self.zone);
        for prerequisite in &self.prerequisites {
            let _ = match prerequisite {
                Prerequisite::Absent { name, kind } => writeln!(text, "prereq nxrrset {name}. {kind}"),
                Prerequisite::Only(entry) => writeln!(text, "prereq yxrrset {}. {}", entry.name, entry.data),
            };
        }
        for (name, kind) in &self.delete_sets {
            let _ = writeln!(text, "update delete {name}. {kind}");
        }
        for entry in &self.delete {
            let _ = writeln!(text, "update delete {}. {}", entry.name, entry.data);
        }
        for entry in &self.add {
            let _ = writeln!(text, "update add {}. {} {}", entry.name, self.ttl, entry.data);
        }
        text.push_str("send\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_back_through_reversed_names() {
        assert_eq!(reverse_name("10.0.0.200".parse().unwrap()), "200.0.0.10.in-addr.arpa");
        assert_eq!(
            reverse_name("2001:db8::1f".parse().unwrap()),
            "f.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }

    #[test]
    fn nsupdate_reads_the_whole_change_before_it_sends() {
        let entry = |data| Entry { name: "main.z".into(), data };
        let update = Update {
            zone: "z".into(),
            prerequisites: vec![
                Prerequisite::Absent { name: "f.z".into(), kind: Kind::Txt },
                Prerequisite::Only(Entry { name: "f.z".into(), data: Data::Txt("a=b c".into()) }),
            ],
            delete_sets: vec![("main.z".into(), Kind::A)],
            delete: vec![entry(Data::Ptr("x.z".into()))],
            add: vec![entry(Data::of("10.0.0.1".parse().unwrap()))],
            ttl: 60,
        };
        assert_eq!(
            update.script("ns.z", 53),
            "server ns.z 53\nzone z.\nprereq nxrrset f.z. TXT\nprereq yxrrset f.z. TXT \"a=b c\"\nupdate delete main.z. A\n\
             update delete main.z. PTR x.z.\nupdate add main.z. 60 A 10.0.0.1\nsend\n"
        );
    }
}
