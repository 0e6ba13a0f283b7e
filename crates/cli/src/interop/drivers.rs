//! Connection strings with every member in them, by which drivers find the leader, or a replica, by themselves.

use clap::ValueEnum;

use super::{Place, bracketed};

/// Seconds that one host may take; a lost one answers nothing.
const TIMEOUT: u32 = 3;

/// Whose form it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// Words for libpq: psql, and what is built on it.
    Libpq,
    /// The same as a URL.
    Url,
    /// Java.
    Jdbc,
    /// .NET.
    Npgsql,
    /// pgx.
    Go,
    /// psycopg, asyncpg.
    Python,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    Writes,
    /// A replica, or the leader where there is none.
    Reads,
}

/// The string for this driver and database.
pub(crate) fn connection_string(driver: Driver, places: &[Place], database: &str, purpose: For) -> String {
    let hosts = |write: fn(&Place) -> String| places.iter().map(write).collect::<Vec<_>>().join(",");
    let with_ports = hosts(|place| format!("{}:{}", bracketed(&place.host), place.port));
    // Every version since 10 knows this one.
    let attributes = if purpose == For::Writes { "read-write" } else { "prefer-standby" };
    match driver {
        Driver::Libpq => format!(
            "host={} port={} dbname={} target_session_attrs={attributes} connect_timeout={TIMEOUT}",
            hosts(|place| place.host.clone()),
            hosts(|place| place.port.to_string()),
            quoted(database),
        ),
        Driver::Url | Driver::Go | Driver::Python => format!(
            "postgresql://{with_ports}/{}?target_session_attrs={attributes}{}",
            encoded(database),
            // asyncpg takes it for a setting of the server.
            if driver == Driver::Python { String::new() } else { format!("&connect_timeout={TIMEOUT}") },
        ),
        Driver::Jdbc => {
            let server = match purpose {
                For::Writes => "targetServerType=primary&hostRecheckSeconds=2",
                For::Reads => "targetServerType=preferSecondary&loadBalanceHosts=true&hostRecheckSeconds=2",
            };
            format!("jdbc:postgresql://{with_ports}/{}?{server}&connectTimeout={TIMEOUT}", encoded(database))
        }
        Driver::Npgsql => {
            let server = match purpose {
                For::Writes => "Target Session Attributes=primary",
                For::Reads => "Target Session Attributes=prefer-standby;Load Balance Hosts=true",
            };
            format!("Host={with_ports};Database={database};{server};Timeout={TIMEOUT}")
        }
    }
}

/// A word for libpq.
fn quoted(text: &str) -> String {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if is_plain && !text.is_empty() {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn encoded(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interop::tests::two;

    #[test]
    fn every_driver_is_told_of_every_member_in_its_own_form() {
        for (driver, expected) in [
            (
                Driver::Libpq,
                "host=10.0.0.1,2001:db8::2 port=5432,5432 dbname=a b target_session_attrs=read-write connect_timeout=3",
            ),
            (
                Driver::Url,
                "postgresql://10.0.0.1:5432,[2001:db8::2]:5432/a%20b?target_session_attrs=read-write&connect_timeout=3",
            ),
            (
                Driver::Python,
                "postgresql://10.0.0.1:5432,[2001:db8::2]:5432/a%20b?target_session_attrs=read-write",
            ),
            (
                Driver::Jdbc,
                "jdbc:postgresql://10.0.0.1:5432,[2001:db8::2]:5432/a%20b?targetServerType=primary&hostRecheckSeconds=2&connectTimeout=3",
            ),
            (
                Driver::Npgsql,
                "Host=10.0.0.1:5432,[2001:db8::2]:5432;Database=a b;Target Session Attributes=primary;Timeout=3",
            ),
        ] {
            assert_eq!(
                connection_string(driver, &two(), "a b", For::Writes),
                expected.replace("dbname=a b", "dbname='a b'")
            );
        }
        let reads = connection_string(Driver::Go, &two(), "x", For::Reads);
        assert!(reads.contains("target_session_attrs=prefer-standby"), "{reads}");
    }
}
