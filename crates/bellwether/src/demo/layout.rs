//! What is where: the folder, the nodes in it, their ports and passwords.
//!
//! ```text
//! folder/                 0711, owned by the user the nodes run as
//!   pgpass                0600: the password for psql, never printed
//!   node1/                0700
//!     bellwether.yml      0600
//!     agent.log
//!     data/  store/       PostgreSQL's, and the embedded store's
//!   node2/ node3/
//! ```

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use super::{account::Account, configuration, ports};

pub(super) const CLUSTER: &str = "demo";
/// The role that the client writes as, and psql too.
pub(super) const SUPERUSER: &str = "postgres";
pub(super) const API_USER: &str = "demo";
/// Of one node.
const PORTS: usize = 7;
const NAMES: [&str; 3] = ["node1", "node2", "node3"];

/// One node of the demo.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) postgres_port: u16,
    pub(super) api_port: u16,
    pub(super) store_port: u16,
    pub(super) proxy: ProxyPorts,
}

/// The ports of a node's proxy.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProxyPorts {
    pub(super) primary: u16,
    pub(super) replicas: u16,
    pub(super) pooled: u16,
    pub(super) stats: u16,
}

impl Node {
    pub(super) fn configuration(&self) -> PathBuf {
        self.dir.join("bellwether.yml")
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(super) fn store_dir(&self) -> PathBuf {
        self.dir.join("store")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }
}

/// Made anew for each demo, at random.
#[derive(Clone)]
pub(super) struct Passwords {
    pub(super) superuser: String,
    pub(super) replication: String,
    pub(super) rewind: String,
    pub(super) api: String,
    pub(super) store: String,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Passwords {
    fn random() -> Self {
        let one = || format!("{:032x}", rand::random::<u128>());
        Self { superuser: one(), replication: one(), rewind: one(), api: one(), store: one() }
    }
}

#[derive(Debug)]
pub(super) struct Layout {
    folder: PathBuf,
    /// Whether we made the folder, and so may remove it.
    ours: bool,
    pub(super) nodes: Vec<Node>,
    pub(super) passwords: Passwords,
    pub(super) account: Option<Account>,
    pub(super) bin_dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("the folder `{}` is not empty; name a new one, or none at all", folder.display())]
    NotEmpty { folder: PathBuf },
    #[error("the nodes run as `{user}`, who may not pass through `{}`; name a folder elsewhere, e.g. in /tmp", path.display())]
    Unreachable { user: String, path: PathBuf },
    #[error("could not prepare `{}`", path.display())]
    Prepare {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("could not find free ports on 127.0.0.1")]
    Ports {
        #[source]
        cause: io::Error,
    },
}

impl Layout {
    /// Makes the folder with everything that the nodes need to start.
    pub(super) fn create(
        asked: Option<&Path>,
        account: Option<Account>,
        bin_dir: PathBuf,
    ) -> Result<Self, LayoutError> {
        let ports = ports::free(PORTS * NAMES.len()).map_err(|cause| LayoutError::Ports { cause })?;
        let (folder, ours) = make_folder(asked)?;
        let nodes = NAMES
            .iter()
            .zip(ports.chunks_exact(PORTS))
            .map(|(name, ports)| Node {
                name: (*name).to_owned(),
                dir: folder.join(name),
                postgres_port: ports[0],
                api_port: ports[1],
                store_port: ports[2],
                proxy: ProxyPorts {
                    primary: ports[3],
                    replicas: ports[4],
                    pooled: ports[5],
                    stats: ports[6],
                },
            })
            .collect();
        if let Some(account) = &account {
            require_passage(account, &folder)?;
        }
        let layout = Self { folder, ours, nodes, passwords: Passwords::random(), account, bin_dir };
        layout.fill()?;
        Ok(layout)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn is_ours(&self) -> bool {
        self.ours
    }

    pub(super) fn password_file(&self) -> PathBuf {
        self.folder.join("pgpass")
    }

    /// For psql and every other client on libpq; the password is in [`Layout::password_file`].
    pub(super) fn url(&self, session: &str) -> String {
        let hosts: Vec<_> =
            self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.postgres_port)).collect();
        format!("postgresql://{SUPERUSER}@{}/postgres?target_session_attrs={session}", hosts.join(","))
    }

    /// The same by the nodes' proxies, whose ports `which` chooses.
    pub(super) fn proxy_url(&self, which: fn(&ProxyPorts) -> u16) -> String {
        let hosts: Vec<_> =
            self.nodes.iter().map(|node| format!("127.0.0.1:{}", which(&node.proxy))).collect();
        format!("postgresql://{SUPERUSER}@{}/postgres", hosts.join(","))
    }

    /// Removes the folder. What cannot be removed stays; it is in the temporary directory.
    pub(super) fn remove(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }

    fn fill(&self) -> Result<(), LayoutError> {
        // psql, run by another user, has to get to the sockets of the nodes; it need not list anything.
        self.own(&self.folder, 0o711)?;
        for node in &self.nodes {
            let prepare = |cause| LayoutError::Prepare { path: node.dir.clone(), cause };
            fs::create_dir(&node.dir).map_err(prepare)?;
            self.own(&node.dir, 0o700)?;
            self.write(&node.configuration(), &configuration::text(self, node))?;
        }
        let Passwords { superuser, .. } = &self.passwords;
        self.write(&self.password_file(), &format!("127.0.0.1:*:*:{SUPERUSER}:{superuser}\n"))
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), LayoutError> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|cause| LayoutError::Prepare { path: path.to_owned(), cause })?;
        self.own(path, 0o600)
    }

    fn own(&self, path: &Path, mode: u32) -> Result<(), LayoutError> {
        let owner = self.account.as_ref();
        chown(path, owner.map(|account| account.user), owner.map(|account| account.group))
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
            .map_err(|cause| LayoutError::Prepare { path: path.to_owned(), cause })
    }
}

/// The folder, and whether it was made here.
fn make_folder(asked: Option<&Path>) -> Result<(PathBuf, bool), LayoutError> {
    let prepare = |path: &Path| {
        let path = path.to_owned();
        move |cause| LayoutError::Prepare { path, cause }
    };
    let Some(asked) = asked else {
        let folder = std::env::temp_dir().join(format!("bellwether-demo-{:08x}", rand::random::<u32>()));
        fs::create_dir(&folder).map_err(prepare(&folder))?;
        return Ok((folder, true));
    };
    let folder = std::path::absolute(asked).map_err(prepare(asked))?;
    match fs::read_dir(&folder).map(Iterator::count) {
        Ok(0) => Ok((folder, false)),
        Ok(_) => Err(LayoutError::NotEmpty { folder }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(&folder).map_err(prepare(&folder))?;
            Ok((folder, false))
        }
        Err(cause) => Err(LayoutError::Prepare { path: folder, cause }),
    }
}

/// Whether the nodes' user can get to the folder, which itself will be theirs.
fn require_passage(account: &Account, folder: &Path) -> Result<(), LayoutError> {
    for above in folder.ancestors().skip(1) {
        let metadata =
            fs::metadata(above).map_err(|cause| LayoutError::Prepare { path: above.to_owned(), cause })?;
        let needed = if metadata.uid() == account.user {
            0o100
        } else if metadata.gid() == account.group {
            0o010
        } else {
            0o001
        };
        if metadata.mode() & needed == 0 {
            return Err(LayoutError::Unreachable { user: account.name.clone(), path: above.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(folder: &Path) -> Result<Layout, LayoutError> {
        Layout::create(Some(folder), None, PathBuf::from("/usr/lib/postgresql/15/bin"))
    }

    #[test]
    fn nobody_else_can_read_the_passwords() {
        let temporary = tempfile::tempdir().unwrap();
        let layout = layout(&temporary.path().join("new")).unwrap();
        for path in layout.nodes.iter().map(Node::configuration).chain([layout.password_file()]) {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
        assert!(!format!("{layout:?}").contains(&layout.passwords.superuser));
        assert!(!layout.url("read-write").contains(&layout.passwords.superuser));
    }

    #[test]
    fn a_folder_that_the_nodes_cannot_reach_is_refused_before_they_try() {
        let temporary = tempfile::tempdir().unwrap();
        let above = temporary.path().join("above");
        fs::create_dir(&above).unwrap();
        let nobody = Account { name: "nobody".into(), user: 65_534, group: 65_534 };
        for (mode, passes) in [(0o711, true), (0o700, false), (0o744, false)] {
            fs::set_permissions(temporary.path(), Permissions::from_mode(0o711)).unwrap();
            fs::set_permissions(&above, Permissions::from_mode(mode)).unwrap();
            assert_eq!(require_passage(&nobody, &above.join("folder")).is_ok(), passes, "{mode:o}");
        }
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join("precious"), "data").unwrap();
        let refused = layout(temporary.path());
        assert!(matches!(refused, Err(LayoutError::NotEmpty { .. })), "{refused:?}");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
    }
}
