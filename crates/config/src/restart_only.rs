//! Settings that a running agent keeps, whatever a reload brings: names and places that everything else hangs on.

use std::mem;

use crate::Config;

impl Config {
    /// Takes back what is applied only when the agent starts, and names the keys that differ.
    ///
    /// An agent that took another data directory or another name in the middle of its life would look after a server that it
    /// does not run, or lead under two names.
    pub fn keep_what_needs_a_restart(&mut self, running: &Config) -> Vec<&'static str> {
        let mut waiting = Vec::new();
        let mut keep = |key: &'static str, differs: bool| {
            if differs {
                waiting.push(key);
            }
        };
        keep("name", mem::replace(&mut self.name, running.name.clone()) != running.name);
        keep("scope", mem::replace(&mut self.scope, running.scope.clone()) != running.scope);
        keep("namespace", mem::replace(&mut self.namespace, running.namespace.clone()) != running.namespace);
        keep("citus", mem::replace(&mut self.citus, running.citus.clone()) != running.citus);
        let (own, old) = (&mut self.postgresql, &running.postgresql);
        let place =
            |new: &mut std::path::PathBuf, old: &std::path::PathBuf| mem::replace(new, old.clone()) != *old;
        keep("postgresql.data_dir", place(&mut own.data_dir, &old.data_dir));
        keep("postgresql.config_dir", place(&mut own.config_dir, &old.config_dir));
        keep("postgresql.pgpass", place(&mut own.pgpass, &old.pgpass));
        keep("postgresql.bin_dir", mem::replace(&mut own.bin_dir, old.bin_dir.clone()) != old.bin_dir);
        keep("postgresql.database", mem::replace(&mut own.database, old.database.clone()) != old.database);
        let base_name = mem::replace(&mut own.config_base_name, old.config_base_name.clone());
        keep("postgresql.config_base_name", base_name != old.config_base_name);
        // What stands behind a running server is chosen with its start; a rehearsal must not go on unnoticed after its end.
        let (own, old) = (&mut self.watchdog, &running.watchdog);
        keep("watchdog.driver", mem::replace(&mut own.driver, old.driver) != old.driver);
        keep("watchdog.guardian", mem::replace(&mut own.guardian, old.guardian) != old.guardian);
        // A client stays with its thread for as long as it is connected.
        if let (Some(own), Some(old)) = (&mut self.router, &running.router) {
            keep("router.threads", mem::replace(&mut own.threads, old.threads) != old.threads);
        }
        waiting
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::{Config, load};

    fn config(text: &str) -> Config {
        let env = BTreeMap::from([("PATRONI_CONFIGURATION".to_owned(), text.to_owned())]);
        load(None, &env).unwrap_or_else(|error| panic!("{error}")).config
    }

    const BEFORE: &str = "\
scope: s
name: n
restapi: {listen: '127.0.0.1:1'}
etcd3: {hosts: '127.0.0.1:2'}
tags: {nosync: true}
router: {threads: 2, maxconn: 10}
postgresql:
  listen: 127.0.0.1:3
  data_dir: /d
  authentication: {superuser: {username: u}, replication: {username: r}}
";

    #[test]
    fn names_and_places_stay_and_are_told_and_the_rest_is_new() {
        let before = config(BEFORE);
        let text = BEFORE
            .replace("scope: s", "scope: t")
            .replace("name: n", "name: m\nnamespace: other")
            .replace("/d", "/elsewhere\n  bin_dir: /b\n  pgpass: /p\n  database: db\n  config_base_name: x")
            .replace("nosync", "nofailover")
            .replace("tags:", "citus: {group: 1, database: d}\ntags:")
            .replace("tags:", "watchdog: {driver: testing, guardian: 'off'}\ntags:")
            .replace("threads: 2, maxconn: 10", "threads: 3, maxconn: 20")
            .replace("username: r", "username: new");
        let mut after = config(&text);
        let waiting = after.keep_what_needs_a_restart(&before);
        assert_eq!(
            waiting,
            [
                "name",
                "scope",
                "namespace",
                "citus",
                "postgresql.data_dir",
                "postgresql.config_dir",
                "postgresql.pgpass",
                "postgresql.bin_dir",
                "postgresql.database",
                "postgresql.config_base_name",
                "watchdog.driver",
                "watchdog.guardian",
                "router.threads"
            ]
        );
        assert_eq!((after.name, after.scope, after.namespace), (before.name, before.scope, before.namespace));
        assert_eq!(after.postgresql.data_dir, before.postgresql.data_dir);
        assert_eq!(after.postgresql.config_dir, before.postgresql.config_dir);
        assert_eq!(after.postgresql.bin_dir, None);
        assert_eq!(after.watchdog, before.watchdog);
        assert!(after.tags.nofailover());
        let (router, old) = (after.router.as_ref().unwrap(), before.router.as_ref().unwrap());
        assert_eq!((router.threads, router.maxconn), (old.threads, 20));
        assert_eq!(after.postgresql.authentication.replication.username.as_deref(), Some("new"));
        assert_eq!(config(BEFORE).keep_what_needs_a_restart(&config(BEFORE)), Vec::<&str>::new());
    }
}
