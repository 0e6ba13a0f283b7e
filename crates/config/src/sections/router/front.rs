//! How clients come to a listener besides its addresses: by a Unix socket, and by way of a load balancer.

use std::path::PathBuf;

use bellwether_types::Network;

use super::ListenerMode;
use crate::{node::Kind, section::Section};

/// The longest path that the kernel takes for a socket.
const LONGEST_PATH: usize = 107;
/// Whoever reaches the folder may connect, as with PgBouncer and PostgreSQL.
const EVERYBODY: u32 = 0o777;

/// `accept_proxy`, `send_proxy` and `unix_socket_*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Front {
    /// Who puts a PROXY header in front of what its clients say.
    pub accept_proxy: Vec<Network>,
    /// Members are sent one.
    pub send_proxy: bool,
    pub unix_socket: Option<UnixSocket>,
}

/// A Unix socket of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    pub path: PathBuf,
    /// Permissions.
    pub mode: u32,
    pub group: Option<String>,
}

impl Front {
    pub(super) fn read(section: &Section<'_>, port: u16, mode: ListenerMode) -> Self {
        Self { send_proxy: read_send(section, mode), ..Self::of_pools(section, port) }
    }

    /// Of the pools' own section: where servers are shared, nothing can be said of a client.
    pub(super) fn of_pools(section: &Section<'_>, port: u16) -> Self {
        Self {
            accept_proxy: read_networks(section),
            send_proxy: false,
            unix_socket: read_socket(section, port),
        }
    }
}

fn read_networks(section: &Section<'_>) -> Vec<Network> {
    let mut networks = Vec::new();
    for text in section.comma_texts("accept_proxy").unwrap_or_default() {
        match text.parse() {
            Ok(network) => networks.push(network),
            Err(error) => {
                let error: bellwether_types::InvalidNetwork = error;
                let problem = section.about("accept_proxy", error.to_string());
                section.report.problem(problem.help(
                    "write where the load balancers connect from, for example `10.0.0.7, 10.0.1.0/24`",
                ));
            }
        }
    }
    networks
}

fn read_send(section: &Section<'_>, mode: ListenerMode) -> bool {
    let wanted = section.flag("send_proxy").unwrap_or(false);
    if wanted && mode != ListenerMode::Tcp {
        let problem = section.about("send_proxy", "has no meaning where clients share servers");
        section.report.problem(problem.help("write `mode: tcp`, or remove it"));
        return false;
    }
    wanted
}

fn read_socket(section: &Section<'_>, port: u16) -> Option<UnixSocket> {
    let mode = read_mode(section);
    let group = section.filled_text("unix_socket_group");
    let folder = section.filled_text("unix_socket_dir")?;
    let path = PathBuf::from(folder).join(format!(".s.PGSQL.{port}"));
    if !path.is_absolute() || path.as_os_str().len() > LONGEST_PATH {
        let problem = section.about("unix_socket_dir", "is no absolute path, or too long for a socket");
        section.report.problem(problem.help("write a short one, for example /run/bellwether"));
        return None;
    }
    Some(UnixSocket { path, mode: mode.unwrap_or(EVERYBODY), group })
}

/// Octal, as it is written: for YAML it would be another number.
fn read_mode(section: &Section<'_>) -> Option<u32> {
    let Kind::Scalar(scalar) = &section.node("unix_socket_mode")?.kind else { return None };
    let digits = scalar.written.trim().trim_start_matches("0o");
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        let problem = section.about("unix_socket_mode", "is no permission of a socket");
        section.report.problem(problem.help("write it in octal, for example 0770"));
    }
    mode
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{section::Report, sections::router::Router};

    fn read(text: &str) -> (Router, String) {
        let (root, _) = crate::yaml::parse(text, &"t.yml".into()).unwrap();
        let report = Report::default();
        let router = Router::read(&Section::root(&root, &report)).unwrap();
        let problems: Vec<String> = report.into_parts().0.iter().map(ToString::to_string).collect();
        (router, problems.join("\n"))
    }

    #[test]
    fn clients_come_by_sockets_and_by_balancers() {
        let text = "\
router:
  listeners:
    primary: {accept_proxy: '10.0.0.7, 10.1.0.0/16', send_proxy: true}
pooler: {unix_socket_dir: /run/bellwether, unix_socket_mode: 0770, unix_socket_group: app}
";
        let (router, problems) = read(text);
        assert_eq!(problems, "");
        let primary = &router.listeners[0].front;
        assert_eq!(primary.accept_proxy, ["10.0.0.7/32", "10.1.0.0/16"].map(|text| text.parse().unwrap()));
        assert!(primary.send_proxy && primary.unix_socket.is_none());
        let path = PathBuf::from("/run/bellwether/.s.PGSQL.6432");
        let socket = UnixSocket { path, mode: 0o770, group: Some("app".to_owned()) };
        assert_eq!(router.listeners.last().unwrap().front.unix_socket, Some(socket));
    }

    #[test]
    fn slips_are_told() {
        for (text, expected) in [
            ("router: {listeners: {primary: {accept_proxy: lb.example}}}", "`lb.example` is no address"),
            ("router: {listeners: {primary: {mode: session, send_proxy: true}}}", "share servers"),
            ("pooler: {unix_socket_dir: run}", "no absolute path"),
            ("pooler: {unix_socket_dir: /run, unix_socket_mode: 0888}", "pooler.unix_socket_mode"),
        ] {
            let (_, problems) = read(text);
            assert!(problems.contains(expected), "{text}: {problems}");
        }
    }
}
