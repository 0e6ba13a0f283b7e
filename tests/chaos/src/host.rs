//! One host: a network namespace, a folder, and what runs there.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use bellwether_acceptance::{account::Account, processes, supervisor::Supervisor};
use rustix::process::Signal;

use crate::{interposed::Machine, network};

/// For what was killed to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// How to start a program on a host.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub log: PathBuf,
}

/// A host with power.
#[derive(Debug)]
pub struct Host {
    /// Its port of the switch, from 1.
    pub port: usize,
    pub name: String,
    pub dir: PathBuf,
    pub account: Account,
    /// What its programs may do besides what their account may, as `setpriv` writes it.
    pub capabilities: Option<&'static str>,
    /// Its own clock and disk, if it has them: to be given before anything is started.
    pub machine: Option<Machine>,
    services: Vec<(String, Supervisor)>,
}

impl Host {
    /// Makes the namespace and moves the interface with this name into it.
    pub fn plug_in(port: usize, interface: &str, dir: &Path, account: Account) -> io::Result<Self> {
        let name = format!("node{port}");
        let address = network::address(port);
        run(&["ip", "netns", "add", &name])?;
        run(&["ip", "link", "set", interface, "netns", &name, "name", "eth0"])?;
        for command in [
            format!("link set eth0 address {}", network::hardware_address(port)),
            format!("address add {address}/24 dev eth0"),
            "link set lo up".to_owned(),
            "link set eth0 up".to_owned(),
        ] {
            let words = command.split(' ');
            run(&["ip", "-n", &name].into_iter().chain(words).collect::<Vec<_>>())?;
        }
        let dir = dir.join(&name);
        account.make_dir(&dir);
        Ok(Self { port, name, dir, account, capabilities: None, machine: None, services: vec![] })
    }

    /// Its address.
    pub fn address(&self) -> String {
        network::address(self.port).to_string()
    }

    /// Where PostgreSQL's data are.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts a program here and keeps it running.
    pub fn start(&mut self, name: &str, recipe: Recipe) {
        let (namespace, account, dir) = (self.name.clone(), self.account, self.dir.clone());
        let capabilities = self.capabilities;
        let environment = self.machine.as_ref().map(Machine::environment).unwrap_or_default();
        let service = Supervisor::start(recipe.log.clone(), &[], move || {
            inside(&namespace, account, capabilities, &environment, &dir, &recipe)
        });
        self.services.push((name.to_owned(), service));
    }

    /// One of its programs.
    pub fn service(&self, name: &str) -> &Supervisor {
        let found = self.services.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no {name} runs on {}", self.name)).1
    }

    /// Whether this program runs here at all.
    pub fn has(&self, name: &str) -> bool {
        self.services.iter().any(|(known, _)| known == name)
    }

    /// Everything that runs in its namespace, found through /proc.
    pub fn processes(&self) -> Vec<i32> {
        let Some(its) = namespace_of(Path::new("/run/netns").join(&self.name)) else { return vec![] };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter(|entry| namespace_of(entry.path().join("ns/net")) == Some(its))
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// Power off: everything dies at one moment and stays dead.
    pub fn power_off(&self) -> io::Result<()> {
        for (_, service) in &self.services {
            service.hold();
        }
        let began = Instant::now();
        loop {
            let living = self.processes();
            if living.is_empty() {
                return Ok(());
            }
            if began.elapsed() > GONE_WITHIN {
                return Err(io::Error::other(format!("{living:?} of {} cannot be killed", self.name)));
            }
            processes::kill_at_once(&living);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Power on again.
    pub fn power_on(&self) {
        for (_, service) in &self.services {
            service.release();
        }
    }

    /// The postmaster alone.
    pub fn postmaster(&self) -> Option<i32> {
        processes::postmaster(&self.data_dir())
    }

    /// Sends a signal to PostgreSQL, all of it.
    pub fn signal_postgres(&self, signal: Signal) {
        for pid in processes::of_postgres(&self.data_dir()) {
            processes::send(pid, signal);
        }
    }

    /// Lets go on what somebody has stopped.
    pub fn thaw(&self) {
        for pid in self.processes() {
            processes::send(pid, Signal::CONT);
        }
    }
}

/// The program as a command inside the host, as the account of the nodes.
fn inside(
    namespace: &str,
    account: Account,
    capabilities: Option<&str>,
    environment: &[String],
    dir: &Path,
    recipe: &Recipe,
) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}"));
    let mut words = account.drop_to();
    if let Some(capabilities) = capabilities {
        // Before the end of the options.
        let last = words.pop();
        words.push(format!("--inh-caps={capabilities}"));
        words.push(format!("--ambient-caps={capabilities}"));
        words.extend(last);
    }
    command.args(words);
    command.arg("env").args(environment);
    command.arg(&recipe.program).args(&recipe.arguments);
    command.current_dir(dir).env("HOME", dir);
    command
}

fn namespace_of(path: PathBuf) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).ok().map(|found| found.ino())
}

/// Runs a command to its end.
pub(crate) fn run(words: &[&str]) -> io::Result<()> {
    let output = Command::new(words[0]).args(&words[1..]).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{}: {}", words.join(" "), said.trim())))
}
