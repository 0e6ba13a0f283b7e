//! Harm that can be done to a host or its links, and taken back.

mod campaign;

pub use campaign::{Campaign, Report, run};

use std::{fmt, fs, io, time::Duration};

use bellwether_acceptance::processes;
use clap::ValueEnum;
use rustix::{
    fs::{FallocateFlags, fallocate},
    process::Signal,
};
use tokio::time::{Instant, sleep};

use crate::{
    cluster::Cluster,
    host::Host,
    interposed::Machine,
    laboratory::Laboratory,
    network::{CLIENT, Link},
    stack::{AGENT, ETCD, Stack},
    store,
};

const CUT: Link = Link { cut: true, loss: 0.0, delay: Duration::ZERO };
const SLOW: Link = Link { cut: false, loss: 0.0, delay: Duration::from_millis(200) };
const LOSSY: Link = Link { cut: false, loss: 0.2, delay: Duration::ZERO };
/// How long a flapping link stays as it is.
const FLAP_EACH: Duration = Duration::from_millis(400);
/// By how many seconds a wall clock jumps: longer than anything that PostgreSQL measures with it.
const CLOCK_STEP: i64 = 600;
/// Takes the space of a host's file system.
const BALLAST: &str = "ballast";

/// One kind of harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// The host's link is down.
    Cut,
    /// The host sends and hears nothing.
    Deaf,
    /// The host hears and nobody hears it.
    Mute,
    /// The host is cut off from its peers; clients still reach it.
    Isolated,
    /// The host's link comes and goes.
    Flapping,
    /// Everything from and to the host takes 200 ms longer.
    Slow,
    /// A fifth of all frames from and to the host get lost.
    Lossy,
    AgentKilled,
    GuardianKilled,
    PostmasterKilled,
    /// All of PostgreSQL gets SIGSTOP.
    PostgresFrozen,
    /// The postmaster alone gets SIGSTOP: sessions work, new ones hang.
    PostmasterFrozen,
    AgentFrozen,
    /// The host's member of the store gets SIGKILL (etcd only; the embedded store dies with its agent).
    StoreKilled,
    /// Who leads the store gets SIGKILL, wherever it runs: etcd, or the agent with the embedded store.
    StoreLeaderKilled,
    /// Everything on the host dies at once.
    PowerOff,
    /// The same, and what the store and the agent wrote without syncing it is lost.
    PowerOffUnsynced,
    /// The host's wall clock jumps ten minutes ahead, and back when it is over.
    ClockAhead,
    /// The same in the other direction.
    ClockBehind,
    /// No byte is left on the host's file system.
    DiskFull,
    /// The members of the store do not hear each other.
    StoreSplit,
    /// Two hosts lose their power, one after the other.
    TwoPowerOff,
    /// Every agent is stopped in order and started again, one after the other.
    RollingRestart,
    /// A planned switchover: no harm at all.
    Switchover,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no kind is hidden");
        f.write_str(value.get_name())
    }
}

impl Fault {
    /// Whether it can be done to this stack.
    pub fn suits(self, stack: Stack) -> bool {
        match self {
            Self::StoreKilled => stack.uses_etcd(),
            // etcd is no program that could be taken in.
            Self::PowerOffUnsynced => !stack.uses_etcd(),
            Self::GuardianKilled => !stack.is_patroni(),
            _ => true,
        }
    }
}

/// Where harm is done.
#[derive(Debug)]
pub struct Victim<'a> {
    pub laboratory: &'a Laboratory,
    pub cluster: &'a Cluster,
    pub stack: Stack,
    pub host: &'a Host,
    pub leader: &'a str,
}

impl Victim<'_> {
    /// Does harm for this long and takes it back. What dies comes back by itself or with the power.
    pub async fn suffer(&self, fault: Fault, time: Duration) -> Result<(), String> {
        match fault {
            Fault::RollingRestart => return self.restart_all().await,
            Fault::Switchover => return self.switch_over().await,
            Fault::StoreLeaderKilled => {
                let leads = store::leader(self.laboratory, self.stack).await?;
                let service = if self.stack.uses_etcd() { ETCD } else { AGENT };
                self.laboratory.host(&leads).service(service).signal(Signal::KILL);
                sleep(time).await;
            }
            Fault::Flapping => self.flap(time).await,
            Fault::TwoPowerOff => {
                let second = self.laboratory.hosts.iter().find(|host| host.port != self.host.port);
                let second = second.ok_or("there is no second host")?;
                self.host.power_off().map_err(text)?;
                sleep(time / 4).await;
                second.power_off().map_err(text)?;
                sleep(time).await;
                second.power_on();
            }
            fault => {
                self.begin(fault).map_err(text)?;
                sleep(time).await;
            }
        }
        self.end(fault)
    }

    /// Does harm that lasts until [`Victim::end`].
    pub fn begin(&self, fault: Fault) -> io::Result<()> {
        let host = self.host;
        match fault {
            Fault::Cut => self.links_with_all(CUT, CUT),
            Fault::Deaf => self.links_with_all(Link::default(), CUT),
            Fault::Mute => self.links_with_all(CUT, Link::default()),
            Fault::Slow => self.links_with_all(SLOW, SLOW),
            Fault::Lossy => self.links_with_all(LOSSY, LOSSY),
            Fault::Isolated => self.links_with(&self.laboratory.others(host), CUT, CUT),
            Fault::StoreSplit => self.laboratory.switch.rules().close_port(self.stack.store_port()),
            Fault::AgentKilled => self.signal(AGENT, Signal::KILL)?,
            Fault::AgentFrozen => self.signal(AGENT, Signal::STOP)?,
            Fault::StoreKilled => self.signal(ETCD, Signal::KILL)?,
            Fault::GuardianKilled => {
                for guardian in processes::guardians(&host.data_dir()) {
                    processes::send(guardian, Signal::KILL);
                }
            }
            Fault::PostmasterKilled => self.signal_postmaster(Signal::KILL)?,
            Fault::PostmasterFrozen => self.signal_postmaster(Signal::STOP)?,
            Fault::PostgresFrozen => host.signal_postgres(Signal::STOP),
            Fault::PowerOff => host.power_off()?,
            Fault::PowerOffUnsynced => {
                host.power_off()?;
                machine(host)?.lose_unsynced()?;
            }
            Fault::ClockAhead => machine(host)?.step_clock(CLOCK_STEP)?,
            Fault::ClockBehind => machine(host)?.step_clock(-CLOCK_STEP)?,
            Fault::DiskFull => fill(host)?,
            Fault::StoreLeaderKilled
            | Fault::Flapping
            | Fault::TwoPowerOff
            | Fault::RollingRestart
            | Fault::Switchover => {
                return Err(io::Error::other(format!("{fault} is a sequence: see Victim::suffer")));
            }
        }
        Ok(())
    }

    /// Takes the harm back.
    pub fn end(&self, fault: Fault) -> Result<(), String> {
        if fault == Fault::DiskFull {
            fs::remove_file(self.host.dir.join(BALLAST)).map_err(text)?;
        }
        self.laboratory.heal();
        self.host.power_on();
        Ok(())
    }

    fn links_with_all(&self, from_host: Link, to_host: Link) {
        let mut all = self.laboratory.others(self.host);
        all.push(CLIENT);
        self.links_with(&all, from_host, to_host);
    }

    fn links_with(&self, others: &[usize], from_host: Link, to_host: Link) {
        let mut rules = self.laboratory.switch.rules();
        for &other in others {
            rules.set(self.host.port, other, from_host);
            rules.set(other, self.host.port, to_host);
        }
    }

    fn signal(&self, service: &str, signal: Signal) -> io::Result<()> {
        match self.host.service(service).signal(signal) {
            true => Ok(()),
            false => Err(io::Error::other(format!("no {service} runs on {}", self.host.name))),
        }
    }

    fn signal_postmaster(&self, signal: Signal) -> io::Result<()> {
        let postmaster = self.host.postmaster();
        let none = || io::Error::other(format!("no PostgreSQL runs on {}", self.host.name));
        processes::send(postmaster.ok_or_else(none)?, signal);
        Ok(())
    }

    async fn flap(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.links_with_all(CUT, CUT);
            sleep(FLAP_EACH).await;
            self.laboratory.switch.rules().heal();
            sleep(FLAP_EACH).await;
        }
    }

    async fn restart_all(&self) -> Result<(), String> {
        for host in &self.laboratory.hosts {
            if !host.service(AGENT).signal(Signal::TERM) {
                return Err(format!("no agent runs on {}", host.name));
            }
            self.cluster.whole_within(campaign::WHOLE_WITHIN).await?;
        }
        Ok(())
    }

    async fn switch_over(&self) -> Result<(), String> {
        let others = self.laboratory.hosts.iter().filter(|host| host.name != self.leader);
        let candidate = others.map(|host| host.name.clone()).next().ok_or("there is no candidate")?;
        self.cluster.switch_over(self.leader, &candidate).await
    }
}

fn machine(host: &Host) -> io::Result<&Machine> {
    host.machine.as_ref().ok_or_else(|| io::Error::other(format!("{} has no machine of its own", host.name)))
}

/// Takes all the space that is left.
fn fill(host: &Host) -> io::Result<()> {
    let ballast = fs::File::create(host.dir.join(BALLAST))?;
    let mut size = 1 << 30;
    let mut end = 0;
    while size >= 4096 {
        match fallocate(&ballast, FallocateFlags::empty(), end, size) {
            Ok(()) => end += size,
            Err(_) => size /= 2,
        }
    }
    Ok(())
}

fn text(error: io::Error) -> String {
    error.to_string()
}
