//! Every key of the local file: one table for unknown keys, editor completion and the reference page.
//!
//! What a key means is decided where it is read (`sections`); a test holds the two together. A file per part of the table; here are its
//! root, what a row is, and the rows that are alike in several parts.

mod bootstrap;
mod entrypoints;
mod member;
mod postgresql;
mod router;
mod stores;

use self::{
    Applies::{Bootstrap, Never, Reload, Restart},
    Form::{Any, Int, Named, Open, Section, Text, Words},
    bootstrap::BOOTSTRAP,
    entrypoints::{DNS, VIP, VIP_ENTRY},
    member::{CTL, LOG, RESTAPI, TAGS, WATCHDOG},
    postgresql::POSTGRESQL,
    router::{POOLER, ROUTER},
    stores::{CITUS, CONSUL, ETCD3, RAFT, ZOOKEEPER},
};

/// One key.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) applies: Applies,
    /// As a person would write it; empty if there is none.
    pub(crate) default: &'static str,
    pub(crate) doc: &'static str,
}

/// What stands behind a key.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Text,
    Secret,
    Flag,
    Int,
    Number,
    Words(&'static [&'static str]),
    /// A list of texts, or one text.
    Texts,
    /// Anything at all: not looked into.
    Any,
    /// A map of these keys.
    Section(&'static [Key]),
    /// A map of these keys, and of sections with the second ones under names that the file gives.
    Named(&'static [Key], &'static [Key]),
    /// A map of these keys and others.
    Open(&'static [Key]),
}

/// When a change of the key takes effect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applies {
    Reload,
    Restart,
    /// Read once, when a new cluster is created.
    Bootstrap,
    /// Never: the key has no effect in a local file.
    Never,
}

/// The root of the document.
pub(crate) const ROOT: &[Key] = &[
    key("name", Text, Restart, "", "Name of this member, unique in the cluster."),
    key("scope", Text, Restart, "", "Name of the cluster."),
    key("namespace", Text, Restart, "/service", "Prefix of the cluster's keys in the store."),
    key(
        "defaults",
        Words(&["auto", "patroni", "bellwether"]),
        Bootstrap,
        "auto",
        "Whose defaults a new cluster is created with.",
    ),
    key("thread_pool_size", Int, Restart, "5", "Accepted for Patroni's sake; has no effect."),
    key("thread_stack_size", Any, Restart, "512kB", "Accepted for Patroni's sake; has no effect."),
    key("log", Section(LOG), Reload, "", "Where and how the daemon logs."),
    key("restapi", Section(RESTAPI), Reload, "", "The REST server of this member."),
    key("ctl", Section(CTL), Reload, "", "How other members' REST APIs are called."),
    key("watchdog", Section(WATCHDOG), Reload, "", "What stops PostgreSQL when the agent cannot."),
    key("router", Section(ROUTER), Reload, "", "The proxy of this node; without the section there is none."),
    key("vip", Named(VIP, VIP_ENTRY), Reload, "", "Addresses that follow the leader, or another role."),
    key("dns", Section(DNS), Reload, "", "A name that leads to the leader, kept by dynamic updates."),
    key(
        "pooler",
        Section(POOLER),
        Reload,
        "",
        "Pools of servers, at port 6432; without the section there are none.",
    ),
    key("tags", Open(TAGS), Reload, "", "Tags of this member; any other name is published as it is."),
    key("bootstrap", Open(BOOTSTRAP), Bootstrap, "", "How a new cluster begins."),
    key("postgresql", Open(POSTGRESQL), Reload, "", "The PostgreSQL server of this member."),
    key("raft", Section(RAFT), Restart, "", "The embedded store."),
    key("citus", Section(CITUS), Restart, "", "The part of a Citus cluster that this member belongs to."),
    key("consul", Section(CONSUL), Restart, "", "Consul, through the agent on this machine."),
    key("etcd", Any, Restart, "", "etcd by its protocol v2: not supported, see `etcd3`."),
    key("etcd3", Section(ETCD3), Restart, "", "etcd by its protocol v3."),
    key("exhibitor", Any, Restart, "", "Not yet built in."),
    key("kubernetes", Any, Restart, "", "Not yet built in."),
    key("zookeeper", Section(ZOOKEEPER), Restart, "", "A ZooKeeper ensemble."),
    dynamic("ttl"),
    dynamic("loop_wait"),
    dynamic("retry_timeout"),
    dynamic("maximum_lag_on_failover"),
    dynamic("maximum_lag_on_syncnode"),
    dynamic("synchronous_mode"),
    dynamic("synchronous_mode_strict"),
    dynamic("synchronous_node_count"),
    dynamic("quorum_takeover"),
    dynamic("detect_timeout"),
    dynamic("failsafe_mode"),
    dynamic("pause"),
    dynamic("standby_cluster"),
    dynamic("slots"),
    dynamic("ignore_slots"),
];

/// What stands for a name that the file gives.
pub(crate) const ANY: &str = "NAME";

const fn key(
    name: &'static str,
    form: Form,
    applies: Applies,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key { name, form, applies, default, doc }
}

/// Names the file of a secret.
const fn secret_file(name: &'static str, applies: Applies) -> Key {
    let doc =
        "File that holds it, instead: an absolute path, or the name of a credential of the service manager.";
    key(name, Text, applies, "", doc)
}

/// A key of the dynamic configuration: in a local file it has no effect, and is told so.
const fn dynamic(name: &'static str) -> Key {
    key(name, Any, Never, "", "")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{node::Node, section::Report, yaml};

    /// Every path of the table below `keys`, and whether somebody must read it.
    fn paths(keys: &[Key], above: &str, all: &mut Vec<(String, bool)>) {
        for key in keys {
            let path = if above.is_empty() { key.name.to_owned() } else { format!("{above}.{}", key.name) };
            let read = key.applies != Never && !key.doc.starts_with("Accepted for Patroni's sake");
            all.push((path.clone(), read));
            if let Section(inner) | Open(inner) | Named(inner, _) = key.form {
                paths(inner, &path, all);
            }
            if let Named(_, each) = key.form {
                let named = format!("{path}.{ANY}");
                all.push((named.clone(), true));
                paths(each, &named, all);
            }
        }
    }

    fn asked_of(text: &str) -> BTreeSet<String> {
        let (root, _): (Node, _) = yaml::parse(text, &"t.yml".into()).unwrap();
        let report = Report::default();
        crate::load::read_member(&crate::section::Section::root(&root, &report))
            .expect("the text is complete");
        report.asked.borrow().clone()
    }

    #[test]
    fn the_table_and_what_is_read_agree() {
        let text = "\
scope: s
name: n
restapi: {listen: '127.0.0.1:1', authentication: {username: u, password: p}}
ctl: {authentication: {username: u, password: p}}
log: {loggers: {}}
bootstrap: {dcs: {}, initdb: []}
vip: {NAME: {addresses: 10.0.0.1, provider: {type: webhook, url: 'http://x'}}}
dns: {zone: z, auth: gss-tsig, gss: {realm: R, principal: p, keytab: /k}, sites: {NAME: {}}}
raft: {self_addr: '127.0.0.1:2', data_dir: /d}
citus: {group: 1, database: d}
postgresql:
  listen: 127.0.0.1:3
  data_dir: /d
  parameters: {}
  authentication: {superuser: {username: u}, replication: {username: u}, rewind: {username: u}}
router: {listeners: {NAME: {port: 5005, mode: transaction, split: conservative}}}
pooler: {databases: {NAME: {}}, users: {NAME: {}}}
";
        let mut asked = asked_of(text);
        let raft = text.find("raft:").unwrap()..text.find("citus:").unwrap();
        for store in
            ["etcd3: {hosts: '127.0.0.1:2'}\n", "consul: {}\n", "zookeeper: {hosts: '127.0.0.1:2'}\n"]
        {
            let mut other = text.to_owned();
            other.replace_range(raft.clone(), store);
            asked.extend(asked_of(&other));
        }

        let mut table = Vec::new();
        paths(ROOT, "", &mut table);
        let known: BTreeSet<&str> = table.iter().map(|(path, _)| path.as_str()).collect();
        let unlisted: Vec<&String> = asked.iter().filter(|path| !known.contains(path.as_str())).collect();
        assert_eq!(unlisted, Vec::<&String>::new(), "read, but not in the table");

        // Tags, the dynamic document and keys shared with it are taken as a whole, and so are stores not built in.
        // Files of secrets are read before anything else.
        let whole = ["tags.", "bootstrap.dcs.", "postgresql.", "exhibitor", "kubernetes", "tags"];
        let unread: Vec<&str> = table
            .iter()
            .filter(|(path, read)| *read && !asked.contains(path))
            .map(|(path, _)| path.as_str())
            .filter(|path| !whole.iter().any(|prefix| path.starts_with(prefix)))
            .filter(|path| crate::secret_files::of(path.rsplit('.').next().unwrap_or_default()).is_none())
            .collect();
        assert_eq!(unread, Vec::<&str>::new(), "in the table, but not read");
    }
}
