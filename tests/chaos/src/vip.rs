//! Virtual addresses on whole hosts: a client with a real ARP cache follows them through a switchover, a restarted agent, a loss of power
//! and a frozen agent; the addresses of every host are watched all the time.

mod watch;

use std::{
    fs,
    net::IpAddr,
    process::Command,
    time::{Duration, Instant},
};

use bellwether_acceptance::{
    rest::Api,
    sql::{self, Session},
};
use rustix::process::Signal;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use self::watch::Watch;
use crate::{
    cluster::{Cluster, within},
    host::Host,
    laboratory::Laboratory,
    network,
    stack::{AGENT, POSTGRES, REST},
};

pub const IPV4: &str = "10.77.0.200";
pub const IPV6: &str = "fd77::200";
const UP_WITHIN: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(40);
const LOOK_EACH: Duration = Duration::from_millis(10);
/// For one try of a client.
const ANSWERED_WITHIN: Duration = Duration::from_millis(250);
/// The lease of a new cluster, and what a busy machine may add to a look at it.
const LEASE: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_millis(300);

/// What came of it. Times in milliseconds.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub problems: Vec<String>,
    /// From the first `200` of the new leader's `/primary` to the first write through the address.
    pub answers_after_promotion_ms: Vec<u64>,
    /// From the loss of power, or the freezing of the agent, until the address was gone from that host.
    pub gone_after_ms: Vec<u64>,
    pub confirmed_by: Vec<String>,
}

impl Report {
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

/// What every member's configuration has in addition.
pub fn configuration() -> Value {
    json!({
        "vip": {"main": {"addresses": [IPV4, IPV6]}},
        "postgresql": {"listen": format!("*:{POSTGRES}")},
    })
}

/// Gives every host, and the client, an IPv6 network.
pub fn add_ipv6(laboratory: &Laboratory) -> std::io::Result<()> {
    let add = |words: &[&str], port: usize, device: &str| {
        let address = format!("fd77::{}/64", 10 + port);
        let rest = ["address", "add", &address, "dev", device, "nodad"];
        crate::host::run(&[&["ip"], words, &rest[..]].concat())
    };
    add(&[], network::CLIENT, &format!("port{}", network::CLIENT))?;
    laboratory.hosts.iter().try_for_each(|host| add(&["-n", &host.name], host.port, "eth0"))
}

/// Runs the whole story.
pub async fn run(laboratory: &Laboratory, tell: impl Fn(&str)) -> Report {
    let mut report = Report::default();
    if let Err(problem) = story(laboratory, &mut report, &tell).await {
        report.problems.push(problem);
    }
    report
}

async fn story(laboratory: &Laboratory, report: &mut Report, tell: &impl Fn(&str)) -> Result<(), String> {
    let cluster = Cluster::of(laboratory, true);
    let first = cluster.whole_within(UP_WITHIN).await?;
    let watch = Watch::over(laboratory)?;
    is_only_with(&watch, laboratory, &first).await?;
    session(IPV4, laboratory.host(&first)).await?;
    session(IPV6, laboratory.host(&first)).await?;
    has_no_more_rights_than_it_needs(laboratory.host(&first))?;
    tell("the address is with the leader");

    let second = other_than(laboratory, &first);
    watch.forget();
    cluster.switch_over(&first, &second).await?;
    is_only_with(&watch, laboratory, &second).await?;
    answers(laboratory.host(&second)).await?;
    if watch.overlapped() {
        report.problems.push("in a switchover two hosts had the address at one time".into());
    }
    report.confirmed_by = confirmed(laboratory.host(&second)).await?;
    cluster.whole_within(PATIENCE).await?;
    tell("a switchover has moved it");

    watch.forget();
    let old = laboratory.host(&second);
    old.service(AGENT).signal(Signal::KILL);
    cluster.whole_within(PATIENCE).await?;
    within(PATIENCE, || async {
        let log = fs::read_to_string(old.dir.join("agent.log")).unwrap_or_default();
        if log.contains("took over the virtual address") { Ok(()) } else { Err("not adopted".to_owned()) }
    })
    .await?;
    if watch.changed() {
        report.problems.push("an agent that was killed and started again did not keep the address".into());
    }
    tell("a killed agent's successor has kept it");

    lose(laboratory, &cluster, &watch, report, &second, Harm::PowerOff).await?;
    tell("a loss of power has moved it");
    laboratory.host(&second).power_on();
    let third = cluster.whole_within(PATIENCE).await?;
    is_only_with(&watch, laboratory, &third).await?;

    lose(laboratory, &cluster, &watch, report, &third, Harm::AgentFrozen).await?;
    tell("a frozen agent has lost it");
    laboratory.host(&third).thaw();
    let last = cluster.whole_within(PATIENCE).await?;
    is_only_with(&watch, laboratory, &last).await?;

    // Stopped in order, everybody gives it back.
    for host in &laboratory.hosts {
        host.service(AGENT).hold();
        host.service(AGENT).signal(Signal::TERM);
    }
    within(PATIENCE, || async {
        if watch.holders().is_empty() { Ok(()) } else { Err(format!("still with {:?}", watch.holders())) }
    })
    .await
}

#[derive(Clone, Copy, PartialEq)]
enum Harm {
    PowerOff,
    AgentFrozen,
}

/// Does this to the leader: the address answers elsewhere within a second of the promotion, and is gone here with the lease.
async fn lose(
    laboratory: &Laboratory,
    cluster: &Cluster,
    watch: &Watch,
    report: &mut Report,
    leader: &str,
    harm: Harm,
) -> Result<(), String> {
    let host = laboratory.host(leader);
    // The client knows where it is.
    answers(host).await?;
    watch.forget();
    let began = Instant::now();
    match harm {
        Harm::PowerOff => host.power_off().map_err(|error| error.to_string())?,
        Harm::AgentFrozen => {
            host.service(AGENT).signal(Signal::STOP);
        }
    }
    let promoted = async {
        let apis = laboratory.hosts.iter().filter(|other| other.name != leader);
        let apis: Vec<Api> = apis.map(|other| Api::at(&format!("{}:{REST}", other.address()))).collect();
        loop {
            for api in &apis {
                if api.get("/primary").await.is_ok_and(|reply| reply.status == 200) {
                    return Instant::now();
                }
            }
            sleep(LOOK_EACH).await;
        }
    };
    let answered = async {
        loop {
            if began.elapsed() > Duration::ZERO && write(IPV4, Some(host)).await.is_ok() {
                return Instant::now();
            }
            sleep(LOOK_EACH).await;
        }
    };
    let (promoted, answered) = timeout(PATIENCE, async { tokio::join!(promoted, answered) })
        .await
        .map_err(|_| "nobody took the address over".to_owned())?;
    let late = answered.saturating_duration_since(promoted);
    report.answers_after_promotion_ms.push(millis(late));
    if late > Duration::from_secs(1) {
        report.problems.push(format!("the address answered {} ms after the promotion", millis(late)));
    }
    write(IPV6, Some(host)).await.map_err(|error| format!("IPv6 does not answer: {error}"))?;
    within(PATIENCE, || async {
        if watch.holders().contains(&host.name) { Err(format!("still with {leader}")) } else { Ok(()) }
    })
    .await?;
    let gone = watch.gone_from(&host.name).ok_or("it was never seen there")?;
    let gone = gone.saturating_duration_since(began);
    report.gone_after_ms.push(millis(gone));
    if gone > LEASE + SLACK {
        report.problems.push(format!("the address stayed for {} ms, longer than the lease", millis(gone)));
    }
    let _ = cluster;
    Ok(())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

async fn is_only_with(watch: &Watch, laboratory: &Laboratory, leader: &str) -> Result<(), String> {
    let wanted = vec![laboratory.host(leader).name.clone()];
    within(PATIENCE, || async {
        let holders = watch.holders();
        if holders == wanted {
            Ok(())
        } else {
            Err(format!("the address is with {holders:?}, not {wanted:?}"))
        }
    })
    .await
}

fn other_than(laboratory: &Laboratory, leader: &str) -> String {
    let other = laboratory.hosts.iter().find(|host| host.name != leader);
    other.expect("there are several hosts").name.clone()
}

/// A session through the address that can write, and leads to this host.
async fn session(address: &str, host: &Host) -> Result<(), String> {
    within(PATIENCE, || write(address, None)).await?;
    let neighbour = neighbour(address)?;
    let expected = network::hardware_address(host.port);
    if neighbour == expected { Ok(()) } else { Err(format!("{address} is at {neighbour}, not {expected}")) }
}

async fn answers(host: &Host) -> Result<(), String> {
    within(PATIENCE, || session(IPV4, host)).await
}

/// Writes through the address; `not` is a host that it must not lead to any more.
async fn write(address: &str, not: Option<&Host>) -> Result<(), String> {
    let config = sql::server(address, POSTGRES);
    let work = async {
        let session = Session::open(&config).await.map_err(|error| error.to_string())?;
        let created = "CREATE TABLE IF NOT EXISTS through_the_address (id int)";
        session.client.execute(created, &[]).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(())
    };
    timeout(ANSWERED_WITHIN, work).await.map_err(|_| "no answer".to_owned())??;
    let at = neighbour(address)?;
    match not {
        Some(host) if at == network::hardware_address(host.port) => Err(format!("still with {}", host.name)),
        _ => Ok(()),
    }
}

/// What the client's own cache says about the address.
fn neighbour(address: &str) -> Result<String, String> {
    let ip: IpAddr = address.parse().map_err(|_| "no address".to_owned())?;
    let family = if ip.is_ipv4() { "-4" } else { "-6" };
    let output = Command::new("ip").args([family, "neighbour", "show", address]).output();
    let text = String::from_utf8_lossy(&output.map_err(|error| error.to_string())?.stdout).into_owned();
    let mut words = text.split_whitespace().skip_while(|word| *word != "lladdr").skip(1);
    words.next().map(str::to_owned).ok_or_else(|| format!("nobody is known at {address}: {text}"))
}

/// Another member has seen the address at its new place.
async fn confirmed(host: &Host) -> Result<Vec<String>, String> {
    let api = Api::at(&format!("{}:{REST}", host.address()));
    within(PATIENCE, || async {
        let entries = api.get("/entrypoints").await?.json();
        let names = entries[0]["confirmed_by"].as_array().cloned().unwrap_or_default();
        if names.is_empty() { Err(format!("nobody has confirmed: {entries}")) } else { Ok(names) }
    })
    .await
    .map(|names| names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

/// The agent has two capabilities, and passes them to nobody.
fn has_no_more_rights_than_it_needs(host: &Host) -> Result<(), String> {
    let effective = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:").map(str::trim));
        line.unwrap_or("nothing is known").to_owned()
    };
    let agent = host.service(AGENT).pid().map(effective).unwrap_or_default();
    let postmaster = host.postmaster().map(effective).unwrap_or_default();
    match (agent.as_str(), postmaster.as_str()) {
        ("0000000000003000", "0000000000000000") => Ok(()),
        other => Err(format!("capabilities of the agent and of PostgreSQL: {other:?}")),
    }
}
