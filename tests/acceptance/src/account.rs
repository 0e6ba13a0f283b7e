//! As whom the nodes run: PostgreSQL refuses root.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

/// The account of the nodes: that of PostgreSQL if the tests run as root, otherwise our own.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    ids: Option<(u32, u32)>,
}

impl Account {
    /// Panics if we are root and there is no user `postgres`.
    pub fn of_nodes() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self { ids: None };
        }
        let passwd = fs::read_to_string("/etc/passwd").expect("every system has /etc/passwd");
        let line = passwd.lines().find(|line| line.starts_with("postgres:"));
        let line = line.expect("as root, these tests need the user `postgres` (apt install postgresql)");
        let ids: Vec<u32> = line.split(':').skip(2).take(2).filter_map(|id| id.parse().ok()).collect();
        Self { ids: Some((ids[0], ids[1])) }
    }

    /// Lets `command` run as this account.
    pub fn apply(self, command: &mut Command) {
        if let Some((user, group)) = self.ids {
            command.uid(user).gid(group);
        }
    }

    /// The words before a command that let it run as this account, where something else must run before as ours.
    pub fn drop_to(self) -> Vec<String> {
        let Some((user, group)) = self.ids else { return vec![] };
        let words =
            ["setpriv", &format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups", "--"];
        words.map(str::to_owned).to_vec()
    }

    /// Gives a file or directory to this account, with these permissions.
    pub fn own(self, path: &Path, mode: u32) {
        let (user, group) = self.ids.unzip();
        chown(path, user, group)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
            .unwrap_or_else(|error| panic!("{} cannot be given away: {error}", path.display()));
    }

    /// Makes a directory that belongs to this account alone.
    pub fn make_dir(self, path: &Path) {
        fs::create_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.own(path, 0o700);
    }

    /// Writes a file that this account alone can read.
    pub fn write(self, path: &Path, text: &str) {
        fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.own(path, 0o600);
    }
}
