//! Hosts, the switch between them, and a place for their files.

use std::{fs, io, path::Path, path::PathBuf};

use bellwether_acceptance::account::Account;

use crate::{
    host::{Host, run},
    interposed::Preload,
    network::{self, CLIENT, Switch},
};

const NAMESPACES: &str = "/run/netns";
/// How large a small file system is.
const SMALL: &str = "size=768m";
/// Directories of ours on a host whose unsynced files a loss of power takes along: the embedded store, and what an agent promised.
const SYNCED: [&str; 2] = ["store", "data.bellwether"];
/// What a host has to tell.
const EVIDENCE: [&str; 4] = ["agent.log", "etcd.log", "postgres.log", "data.bellwether/journal.jsonl"];

/// A number of hosts with power, and nothing that runs on them. The clients are this process, at a port of its own.
#[derive(Debug)]
pub struct Laboratory {
    pub hosts: Vec<Host>,
    pub switch: Switch,
    /// Where all files are.
    pub dir: PathBuf,
    pub account: Account,
}

impl Laboratory {
    /// Builds it, below `dir`. To be called inside [`crate::isolation`], once.
    pub fn build(hosts: usize, dir: &Path) -> io::Result<Self> {
        let account = Account::of_nodes();
        account.own(dir, 0o711);
        // The files that name the namespaces are ours alone, too.
        fs::create_dir_all(NAMESPACES)?;
        run(&["mount", "-t", "tmpfs", "tmpfs", NAMESPACES])?;
        let interfaces: Vec<String> = (CLIENT..=hosts).map(|port| format!("port{port}")).collect();
        let switch = Switch::start(&interfaces)?;
        join(&interfaces[CLIENT])?;
        let hosts = (1..=hosts).map(|port| Host::plug_in(port, &interfaces[port], dir, account));
        Ok(Self { hosts: hosts.collect::<io::Result<_>>()?, switch, dir: dir.to_owned(), account })
    }

    /// Gives every host a file system of its own, small enough to be filled. Before anything is installed.
    pub fn give_small_disks(&self) -> io::Result<()> {
        for host in &self.hosts {
            let dir = host.dir.display().to_string();
            run(&["mount", "-t", "tmpfs", "-o", SMALL, "tmpfs", &dir])?;
            self.account.own(&host.dir, 0o700);
        }
        Ok(())
    }

    /// Gives every host a wall clock and a disk of its own. Before anything is installed, and after [`Laboratory::give_small_disks`].
    pub fn give_machines(&mut self) -> io::Result<()> {
        let preload = Preload::build(&self.dir, self.account)?;
        for host in &mut self.hosts {
            host.machine = Some(preload.machine(&host.dir, &SYNCED, host.account)?);
        }
        Ok(())
    }

    /// Copies logs, journals and histories to where they outlive the laboratory.
    pub fn keep_evidence(&self, to: &Path) -> io::Result<()> {
        let of_all = ["history.jsonl"].map(|file| (self.dir.join(file), to.join(file)));
        let of_hosts = self.hosts.iter().flat_map(|host| {
            EVIDENCE.map(|file| {
                let name = file.rsplit('/').next().unwrap_or(file);
                (host.dir.join(file), to.join(format!("{}-{name}", host.name)))
            })
        });
        for (from, to) in of_all.into_iter().chain(of_hosts) {
            if from.exists() {
                fs::copy(&from, &to)?;
            }
        }
        Ok(())
    }

    /// The host with this name.
    pub fn host(&self, name: &str) -> &Host {
        let found = self.hosts.iter().find(|host| host.name == name);
        found.unwrap_or_else(|| panic!("there is no host {name}"))
    }

    /// The ports of all hosts but this one.
    pub fn others(&self, host: &Host) -> Vec<usize> {
        self.hosts.iter().map(|other| other.port).filter(|&port| port != host.port).collect()
    }

    /// Nothing is wrong any more: links work, what was stopped runs, and clocks are right. Hosts without power stay so.
    pub fn heal(&self) {
        self.switch.rules().heal();
        for host in &self.hosts {
            host.thaw();
            if let Some(machine) = &host.machine {
                machine.step_clock(0).expect("its clock is a file of ours");
            }
        }
    }
}

/// Gives this process its place in the network.
fn join(interface: &str) -> io::Result<()> {
    let address = format!("{}/24", network::address(CLIENT));
    run(&["ip", "link", "set", "lo", "up"])?;
    run(&["ip", "link", "set", interface, "address", &network::hardware_address(CLIENT)])?;
    run(&["ip", "address", "add", &address, "dev", interface])?;
    run(&["ip", "link", "set", interface, "up"])
}
