//! Measures three nodes in this process: `cargo run -p bellwether-dcs-raft --example measure`.
#![allow(clippy::print_stdout, reason = "it is for reading")]

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use bellwether_dcs::{CommitOutcome, Deadline, Renewal, Store, Write};
use bellwether_dcs_raft::{Config, RaftStore, Secret};

const ADDRESSES: [&str; 3] = ["127.0.0.1:24801", "127.0.0.1:24802", "127.0.0.1:24803"];
const IDLE: Duration = Duration::from_secs(10);

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("{what:<40} p50 {:>9.3?}  p95 {:>9.3?}  max {:>9.3?}", at(50), at(95), at(100));
}

/// CPU time of this process, user and system.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    println!("{:<40} {}", "resident before", resident());
    let mut nodes = Vec::new();
    for (index, address) in ADDRESSES.iter().enumerate() {
        let mut config = Config::new("measure", *address, folder.path().join(index.to_string()));
        config.partner_addrs = ADDRESSES.iter().map(|address| (*address).to_owned()).collect();
        config.password = Some(Secret::new("measure"));
        nodes.push(Arc::new(RaftStore::start(config).await?));
    }
    while !nodes.iter().all(|node| node.status().leader.is_some()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("{:<40} {}", "resident with three nodes", resident());
    let leads = |nodes: &[Arc<RaftStore>]| nodes.iter().position(|node| node.status().state == "leader");
    let leader = leads(&nodes).ok_or("nobody leads")?;
    let follower = nodes[(leader + 1) % 3].clone();

    for (what, store) in [("put at the leader", &nodes[leader]), ("put at a follower", &follower)] {
        let mut times = Vec::new();
        for number in 0..300 {
            let began = Instant::now();
            let write = Write::put("status", format!("{number:0>256}"));
            let CommitOutcome::Applied(_) = store.commit(&[], &[write], soon()).await else { continue };
            times.push(began.elapsed());
        }
        report(what, times);
    }
    let lease = follower.grant_lease(Duration::from_secs(5), soon()).await?;
    let mut times = Vec::new();
    for _ in 0..300 {
        let began = Instant::now();
        let Renewal::Valid { .. } = follower.keep_alive(lease, None, soon()).await else { continue };
        times.push(began.elapsed());
    }
    report("renewal at a follower", times);
    let mut times = Vec::new();
    for _ in 0..300 {
        let began = Instant::now();
        follower.snapshot(soon()).await?;
        times.push(began.elapsed());
    }
    report("snapshot at a follower", times);

    let (cpu, began) = (cpu_time(), Instant::now());
    tokio::time::sleep(IDLE).await;
    let share = (cpu_time() - cpu).as_secs_f64() / began.elapsed().as_secs_f64() / 3.0 * 100.0;
    println!("{:<40} {share:.2} % of a core", "idle, one node");
    println!("{:<40} {}", "resident at the end", resident());

    let mut times = Vec::new();
    for _ in 0..10 {
        let cut = leads(&nodes).ok_or("nobody leads")?;
        nodes[cut].set_isolated(true);
        let began = Instant::now();
        let other = &nodes[(cut + 1) % 3];
        loop {
            let by = Deadline::after(Duration::from_secs(3));
            if let CommitOutcome::Applied(_) = other.commit(&[], &[Write::put("a", "b")], by).await {
                break;
            }
        }
        times.push(began.elapsed());
        nodes[cut].set_isolated(false);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    report("leader cut off silently -> write", times);
    Ok(())
}
