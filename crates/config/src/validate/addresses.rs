//! Addresses: those that others are told, our own, and those of the stores.

use serde_json::Value;

use super::{Given, Judge, Probe, joined, raw, rules};
use crate::{
    HostPort, Problem,
    node::{Kind, Node},
};

impl Judge {
    /// An address that other members are told.
    pub(super) fn published(&mut self, given: Given<'_>, value: &Value) {
        const REMEDY: &str = "write an address that the other members reach, for example `10.0.0.11:5432`";
        let Some(text) = value.as_str() else {
            self.tell(given.problem("is not a string"), REMEDY);
            return;
        };
        match HostPort::parse(text, Some(1)) {
            Err(_) => self.tell(given.failed("contains a wrong value"), REMEDY),
            Ok(address)
                if ["127.0.0.1", "0.0.0.0", "*", "::1", "localhost"].contains(&address.host.as_str()) =>
            {
                let reason = "must not contain \"127.0.0.1\", \"0.0.0.0\", \"*\", \"::1\", \"localhost\"";
                self.tell(given.failed(reason), REMEDY);
            }
            Ok(_) => {}
        }
    }

    /// An address of our own, where nobody else may answer.
    pub(super) fn listen(&mut self, given: Given<'_>, value: &Value, several: bool) {
        let Some(text) = value.as_str() else {
            self.tell(given.problem("is not a string"), "write `address:port`, for example `0.0.0.0:5432`");
            return;
        };
        let Ok(HostPort { host, port }) = HostPort::parse(text, Some(1)) else {
            self.tell(
                given.failed("contains a wrong value"),
                "write `address:port`, for example `0.0.0.0:5432`",
            );
            return;
        };
        let hosts: Vec<&str> = if several { host.split(',').map(str::trim).collect() } else { vec![&host] };
        if hosts.len() > 1 && hosts.contains(&"*") {
            self.tell(given.failed("expecting '*' alone"), "name addresses, or `*` for all of them");
            return;
        }
        let local =
            |host: &&str| if matches!(*host, "*" | "") { "localhost".to_owned() } else { (*host).to_owned() };
        let addresses = hosts.iter().map(local).map(|host| HostPort::new(host, port)).collect();
        let problem = given.failed(&format!("Port {port} is already in use."));
        let problem = problem.help("choose another port, or pass --ignore-listen-port while the member runs");
        self.probes.push(Probe::Free { addresses, problem });
    }

    /// One of the sections that name a store is needed, and its servers must answer.
    pub(super) fn stores(&mut self, root: &Node) {
        if !rules::STORES.iter().any(|field| raw(root, field.key).is_some()) {
            for field in rules::STORES {
                let missing = Problem::new(field.key, "is not defined.").at(&root.origin);
                self.tell(missing, "add the section of the store that the cluster uses, one of these");
            }
        }
        self.fields(root, rules::STORES, "");
        for (section, ways, port) in rules::SERVERS {
            let Some(node) = raw(root, section).map(|entry| &entry.node).filter(|node| node.is_map()) else {
                continue;
            };
            if !ways.iter().any(|way| raw(node, way).is_some()) {
                for way in *ways {
                    let missing = Problem::new(joined(section, way), "is not defined.").at(&node.origin);
                    self.tell(missing, "say where the servers are, in one of these ways");
                }
            }
            for key in ["host", "hosts"].into_iter().filter(|key| ways.contains(key)) {
                if let Some(entry) = raw(node, key) {
                    let path = joined(section, key);
                    self.servers(Given { path: &path, node: &entry.node }, key == "hosts", *port);
                }
            }
        }
    }

    fn servers(&mut self, given: Given<'_>, several: bool, port: u16) {
        match &given.node.kind {
            Kind::Scalar(scalar) if scalar.value.is_string() => {
                let hosts = scalar.written.split(',').filter(|_| several);
                let single = (!several).then_some(scalar.written.as_str());
                for host in hosts.chain(single) {
                    self.server(given, host.trim(), port);
                }
            }
            Kind::List(items) if several && items.is_empty() => {
                self.tell(given.problem("is an empty list"), "name a server");
            }
            Kind::List(items) if several => {
                for (at, item) in items.iter().enumerate() {
                    let path = format!("{}.{at}", given.path);
                    let given = Given { path: &path, node: item };
                    match item.to_value().as_str() {
                        Some(host) => self.server(given, host, port),
                        None => self.tell(given.problem("is not a string"), "write `host:port`"),
                    }
                }
            }
            _ => {
                self.tell(given.problem("is not a string"), "write `host:port`");
                if several {
                    self.problems.push(given.problem("is not a list"));
                }
            }
        }
    }

    fn server(&mut self, given: Given<'_>, host: &str, port: u16) {
        match HostPort::parse(host, Some(port)) {
            Err(_) => self.tell(given.failed("contains a wrong value"), "write `host:port`"),
            Ok(address) => {
                let problem = given.failed(&format!("{host} is not reachable"));
                let problem = problem.help("start the server, or correct the address");
                self.probes.push(Probe::Reachable { address, problem });
            }
        }
    }
}
