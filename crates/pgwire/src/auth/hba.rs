//! Which connections must pass which check: PostgreSQL's `pg_hba.conf`, as far as a proxy can follow it.
//!
//! The first line that matches decides; if none does, the connection is refused. What needs a look into the database (`+role`,
//! `samerole`), the name service, the network cards (`samenet`) or a library of regular expressions is refused when the file is
//! read, with its line: a rule that is not understood must not be passed over.

pub mod parse;
pub mod tokens;

use std::net::IpAddr;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    pub problem: String,
}

/// The rules of a file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub line: usize,
    pub(crate) transport: Transport,
    pub(crate) databases: Vec<Database>,
    pub(crate) users: Vec<User>,
    pub(crate) from: From,
    pub check: Check,
}

/// The word that a line begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Local,
    Host,
    HostSsl,
    HostNoSsl,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    All,
    SameUser,
    Replication,
    Named(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum User {
    All,
    Named(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Anywhere,
    Network { address: IpAddr, bits: u8 },
}

/// What a connection must pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub method: Method,
    /// A certificate that our authorities have signed is wanted besides.
    pub certificate: Option<Certificate>,
    /// The map between names from outside (of certificates, of the operating system) and users.
    pub map: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Trust,
    Reject,
    /// The password itself. The caller refuses it without TLS.
    Password,
    Md5,
    Scram,
    Cert,
    /// The operating system's user at the other end of a Unix socket.
    Peer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Any that is valid (`clientcert=verify-ca`).
    Valid,
    /// One that names the user (`clientcert=verify-full`).
    NamesUser,
}

/// What is known of a connection before anybody has shown anything.
#[derive(Clone, Debug)]
pub struct Connection<'a> {
    pub origin: Origin,
    pub database: &'a str,
    pub user: &'a str,
    /// `replication=true` or its like; not `replication=database`, which is a connection to that database.
    pub physical_replication: bool,
}

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    UnixSocket,
    Tcp { address: IpAddr, tls: bool },
}

impl Rules {
    /// The rule that decides; `None` refuses, as `reject` does.
    pub fn rule_for(&self, connection: &Connection<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.matches(connection))
    }
}

impl Rule {
    fn matches(&self, connection: &Connection<'_>) -> bool {
        self.is_from_there(connection.origin)
            && self.databases.iter().any(|database| database.matches(connection))
            && self.users.iter().any(|user| match user {
                User::All => true,
                User::Named(name) => name == connection.user,
            })
    }

    fn is_from_there(&self, origin: Origin) -> bool {
        match (self.transport, origin) {
            (Transport::Local, Origin::UnixSocket) => true,
            (Transport::Local, _) | (_, Origin::UnixSocket) => false,
            (Transport::HostSsl, Origin::Tcp { tls: false, .. })
            | (Transport::HostNoSsl, Origin::Tcp { tls: true, .. }) => false,
            (_, Origin::Tcp { address, .. }) => match self.from {
                From::Anywhere => true,
                From::Network { address: network, bits } => is_within(address, network, bits),
            },
        }
    }
}

impl Database {
    fn matches(&self, connection: &Connection<'_>) -> bool {
        // As PostgreSQL: physical replication is let in by its own word alone, which lets nothing else in.
        match self {
            Database::Replication => connection.physical_replication,
            _ if connection.physical_replication => false,
            Database::All => true,
            Database::SameUser => connection.database == connection.user,
            Database::Named(name) => name == connection.database,
        }
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    // An IPv4 client of a socket for both families arrives as ::ffff:a.b.c.d.
    match (address.to_canonical(), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differing = address.to_bits() ^ network.to_bits();
            differing.checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differing = address.to_bits() ^ network.to_bits();
            differing.checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &Rules, origin: Origin, database: &str, user: &str) -> Option<Method> {
        let connection = Connection { origin, database, user, physical_replication: false };
        rules.rule_for(&connection).map(|rule| rule.check.method)
    }

    fn tcp(address: &str, tls: bool) -> Origin {
        Origin::Tcp { address: address.parse().unwrap(), tls }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = Rules::parse(
            "local all postgres trust\n\
             hostnossl all all 0.0.0.0/0 reject\n\
             hostssl app,\"my db\" alice,bob 10.1.0.0/16 scram-sha-256\n\
             host sameuser all 10.0.0.0 255.0.0.0 md5\n\
             host all all ::1/128 cert map=staff\n",
        )
        .unwrap();
        assert_eq!(check(&rules, Origin::UnixSocket, "app", "postgres"), Some(Method::Trust));
        assert_eq!(check(&rules, Origin::UnixSocket, "app", "alice"), None);
        assert_eq!(check(&rules, tcp("10.1.2.3", false), "app", "alice"), Some(Method::Reject));
        assert_eq!(check(&rules, tcp("10.1.2.3", true), "app", "alice"), Some(Method::Scram));
        assert_eq!(check(&rules, tcp("::ffff:10.1.2.3", true), "my db", "bob"), Some(Method::Scram));
        assert_eq!(check(&rules, tcp("10.2.2.3", true), "app", "alice"), None);
        assert_eq!(check(&rules, tcp("10.2.2.3", true), "alice", "alice"), Some(Method::Md5));
        assert_eq!(check(&rules, tcp("::1", true), "x", "y"), Some(Method::Cert));
        assert_eq!(check(&rules, tcp("::2", true), "x", "y"), None);
    }

    #[test]
    fn replication_is_let_in_by_its_own_word_alone() {
        let rules =
            Rules::parse("host all all 0.0.0.0/0 trust\nhost replication rep 0.0.0.0/0 md5\n").unwrap();
        let origin = tcp("10.0.0.1", true);
        let mut connection =
            Connection { origin, database: "replication", user: "rep", physical_replication: true };
        assert_eq!(rules.rule_for(&connection).map(|rule| rule.line), Some(2));
        connection.user = "other";
        assert_eq!(rules.rule_for(&connection), None);
        connection.physical_replication = false;
        assert_eq!(rules.rule_for(&connection).map(|rule| rule.line), Some(1));
    }

    #[test]
    fn a_network_of_no_bits_holds_everybody() {
        assert!(is_within("1.2.3.4".parse().unwrap(), "0.0.0.0".parse().unwrap(), 0));
        assert!(is_within("fe80::1".parse().unwrap(), "::".parse().unwrap(), 0));
        assert!(!is_within("1.2.3.4".parse().unwrap(), "::".parse().unwrap(), 0), "of the same family only");
        assert!(!is_within("1.2.3.5".parse().unwrap(), "1.2.3.4".parse().unwrap(), 32));
        assert!(is_within("1.2.3.5".parse().unwrap(), "1.2.3.4".parse().unwrap(), 31));
    }
}
