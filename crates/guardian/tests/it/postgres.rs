//! A real PostgreSQL with backends that do not listen.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bellwether_guardian::{Mode, Target, boottime};
use rustix::process::Signal;

use crate::tree::{Node, PUNCTUAL, inhabitants, lives, signal, wait_for};

struct Server {
    node: Node,
    postmaster: Child,
    clients: Vec<Child>,
}

impl Server {
    fn start() -> Self {
        let node = Node::new();
        let (data, run) = (node.data_dir(), node.runtime_dir());
        let owner = account();
        if let Some((user, group)) = owner {
            let home = data.parent().unwrap();
            fs::set_permissions(home, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            for dir in [&data, &run] {
                chown(dir, Some(user), Some(group)).unwrap();
            }
        }
        let initdb =
            program("initdb").args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]).arg(&data).output();
        let initdb = initdb.unwrap();
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        let log = fs::File::create(run.join("postgres.log")).unwrap();
        let postmaster = program("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"])
            .arg(&run)
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { node, postmaster, clients: Vec::new() };
        wait_for("PostgreSQL to accept connections", || {
            server.psql("select 1").stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        });
        server
    }

    fn psql(&self, sql: &str) -> Command {
        let mut command = program("psql");
        command
            .args(["-X", "-U", "postgres", "-d", "postgres", "-h"])
            .arg(self.node.runtime_dir())
            .args(["-c", sql]);
        command
    }

    /// A backend that computes and does not look at its surroundings; the pid once it does.
    fn busy_backend(&mut self) -> i32 {
        let before = inhabitants(&self.node.data_dir());
        // A plain count that is not done for years, and that never waits for anything.
        let sql = "select count(*) from generate_series(1, 1000000000000) as busy";
        let client = self.psql(sql).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.clients.push(client);
        let mut backend = None;
        wait_for("the busy backend", || {
            backend = inhabitants(&self.node.data_dir()).into_iter().find(|pid| {
                !before.contains(pid)
                    && fs::read_to_string(format!("/proc/{pid}/cmdline"))
                        .is_ok_and(|title| title.contains("[local] SELECT"))
            });
            backend.is_some()
        });
        backend.unwrap()
    }

    fn id(&self) -> Target {
        Target::of_pid(self.postmaster.id() as i32).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.postmaster.kill();
        for pid in inhabitants(&self.node.data_dir()) {
            signal(pid, Signal::KILL);
        }
        for mut client in self.clients.drain(..) {
            let _ = client.kill();
            let _ = client.wait();
        }
        let _ = self.postmaster.wait();
    }
}

/// One of PostgreSQL's programs, as a user that it accepts.
fn program(name: &str) -> Command {
    let mut command = Command::new(newest_bin_dir().join(name));
    command.current_dir("/").stdin(Stdio::null());
    if let Some((user, group)) = account() {
        command.uid(user).gid(group);
    }
    command
}

fn newest_bin_dir() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed").flatten();
    let newest = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
    PathBuf::from(format!("/usr/lib/postgresql/{}/bin", newest.expect("PostgreSQL is installed")))
}

/// The account `postgres`, if we are root: PostgreSQL refuses to run as root.
fn account() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let mut fields =
        passwd.lines().find(|line| line.starts_with("postgres:")).expect("the account exists").split(':');
    let user = fields.nth(2)?.parse().ok()?;
    Some((user, fields.next()?.parse().ok()?))
}

#[test]
fn a_busy_postgresql_is_gone_at_the_deadline() {
    let mut server = Server::start();
    let backend = server.busy_backend();
    let guardian = server.node.guardian(Mode::Fence);
    guardian.target(Some(server.id())).unwrap();
    let mut everybody = inhabitants(&server.node.data_dir());
    // Nobody who leaves by himself: the backends of clients that are done, workers of autovacuum.
    everybody.retain(|&pid| {
        let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        pid == backend || !(title.contains("[local]") || title.contains("autovacuum worker"))
    });
    let deadline = boottime() + Duration::from_millis(500);
    guardian.arm(deadline).unwrap();
    // A dying process has left the directory already.
    wait_for("PostgreSQL to be gone", || {
        inhabitants(&server.node.data_dir()).is_empty() && !everybody.iter().any(|&pid| lives(pid))
    });
    assert!(everybody.contains(&backend));
    let firing = server.node.firing();
    assert_eq!(firing.left, 0);
    // A worker of autovacuum may have come after the look.
    assert!(firing.killed as usize >= everybody.len(), "{firing:?} {everybody:?}");
    assert!(firing.fired.since(deadline) < PUNCTUAL, "{firing:?}");
}

#[test]
fn a_backend_that_outlived_its_postmaster_is_killed() {
    for (case, named) in [("postmaster named while it ran", true), ("nobody named", false)] {
        let mut server = Server::start();
        let backend = server.busy_backend();
        let guardian = server.node.guardian(Mode::Fence);
        if named {
            guardian.target(Some(server.id())).unwrap();
        }
        server.postmaster.kill().unwrap();
        server.postmaster.wait().unwrap();
        // The idle ones notice and leave.
        wait_for("only the busy backend to be left", || inhabitants(&server.node.data_dir()) == [backend]);
        guardian.arm(boottime() + Duration::from_millis(300)).unwrap();
        wait_for("the orphan to be gone", || !lives(backend));
        let firing = server.node.firing();
        assert_eq!((firing.killed, firing.left, firing.postmaster), (1, 0, None), "{case}");
    }
}
