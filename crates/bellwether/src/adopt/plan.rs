//! From what was found to what would happen. Pure: no look at anything, no change of anything.

use bellwether_types::cluster::{Cluster, Initialize, Member};

use super::findings::{Findings, Situation};

/// PostgreSQL versions that the agent runs.
const MAJORS: std::ops::RangeInclusive<u32> = 13..=18;

/// Texts for a person, in the order in which they are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// What is there now.
    pub(super) facts: Vec<String>,
    /// What to do, and what it costs.
    pub(super) steps: Vec<String>,
    /// What will be otherwise than before.
    pub(super) not_kept: Vec<String>,
    /// What must be changed first.
    pub(super) obstacles: Vec<String>,
}

pub(super) fn make(findings: &Findings) -> Plan {
    Plan {
        facts: facts(findings),
        steps: steps(findings),
        not_kept: not_kept(findings),
        obstacles: obstacles(findings),
    }
}

fn facts(findings: &Findings) -> Vec<String> {
    let mut facts = vec![match findings.situation() {
        Situation::Ours => "Bellwether runs this node already".to_owned(),
        Situation::Patroni => {
            let version = findings.agent.as_ref().and_then(|status| status["patroni"]["version"].as_str());
            format!("Patroni {} runs this node", version.unwrap_or("(of unknown version)"))
        }
        Situation::Bare => "PostgreSQL runs here without an agent".to_owned(),
        Situation::Stopped => "there is a data directory, and nothing runs".to_owned(),
        Situation::Empty => "there is no data directory here".to_owned(),
    }];
    if let Some(major) = findings.data.major {
        facts.push(format!("PostgreSQL {major} in {}", findings.data.path.display()));
    }
    if let Ok(cluster) = &findings.cluster {
        facts.push(whole_cluster(findings, cluster));
    }
    if let Some(server) = findings.server() {
        let role = if server.in_recovery { "a standby" } else { "a primary" };
        let mut text = format!("the server is {role}");
        if !server.standbys.is_empty() {
            text.push_str(&format!(", followed by {}", server.standbys.join(", ")));
        }
        facts.push(text);
    }
    facts
}

fn whole_cluster(findings: &Findings, cluster: &Cluster) -> String {
    if cluster.members.is_empty() && cluster.initialize.is_none() {
        return format!("the store holds nothing of a cluster `{}` yet", findings.scope);
    }
    let kind = |member: &Member| if member.bellwether.is_some() { "Bellwether" } else { "Patroni" };
    let members: Vec<String> =
        cluster.members.values().map(|member| format!("{} ({})", member.name, kind(member))).collect();
    let leader = cluster.leader_name().map_or("nobody".to_owned(), ToString::to_string);
    let paused = if findings.is_paused() { ", and it is paused" } else { "" };
    format!("the cluster `{}` has the members {}; {leader} leads{paused}", findings.scope, members.join(", "))
}

fn steps(findings: &Findings) -> Vec<String> {
    let unit = findings.units.first().and_then(|path| path.file_name()?.to_str()).unwrap_or(
        match findings.situation() {
            Situation::Patroni => "patroni.service",
            _ => "postgresql.service",
        },
    );
    let install =
        "`bellwether adopt CONFIG --install` writes the unit and the links `patroni` and `patronictl`; \
                   nothing is started by it"
            .to_owned();
    let start = "`systemctl enable --now bellwether`".to_owned();
    let look = "`bellwether -c CONFIG list`: the node is there, streams or leads, and has no lag".to_owned();
    match findings.situation() {
        Situation::Ours => vec!["nothing: `bellwether -c CONFIG list` shows the cluster".to_owned()],
        Situation::Empty => {
            vec![install, format!("{start}: founds the cluster, or copies the data from its leader"), look]
        }
        Situation::Stopped => vec![install, format!("{start}: starts PostgreSQL as what the store says"), look],
        Situation::Patroni if findings.is_paused() => vec![
            install,
            format!("`systemctl disable --now {unit}`: PostgreSQL runs on, since the cluster is paused"),
            format!("{start}: takes the running PostgreSQL over; no client notices"),
            look,
            "when every node is done: `bellwether resume`".to_owned(),
        ],
        Situation::Patroni if findings.is_leader() => vec![
            "do the replicas first".to_owned(),
            "`bellwether switchover` to one of them: open sessions end, as at every switchover. Or pause the cluster, \
             and no session ends"
                .to_owned(),
            format!("then this node as a replica: `--install`, `systemctl disable --now {unit}`, {start}"),
        ],
        Situation::Patroni => vec![
            install,
            format!("`systemctl disable --now {unit}`: PostgreSQL stops here; the primary is not touched"),
            format!("{start}: PostgreSQL starts and streams again"),
            look,
        ],
        Situation::Bare if findings.is_leader() => vec![
            install,
            format!("`systemctl disable {unit}`, without --now: PostgreSQL runs on, since only a running primary founds a cluster"),
            format!("{start}: takes the running PostgreSQL over; no client notices"),
            look,
            "`bellwether restart` when it suits: the settings that need it come into force, and the old unit is out of it".to_owned(),
        ],
        Situation::Bare => vec![
            install,
            format!("`systemctl disable --now {unit}`: PostgreSQL must have no other supervisor; readers of this node are cut off"),
            format!("{start}: starts PostgreSQL with the configuration of the agent, and follows the leader"),
            look,
        ],
    }
}

fn not_kept(findings: &Findings) -> Vec<String> {
    let mut texts = findings.doubts.clone();
    if findings.data.allows_rewind == Some(false) {
        texts.push(
            "neither data checksums nor wal_log_hints are on: a diverged member cannot be rewound and is copied anew. \
             wal_log_hints is switched on at the next restart"
                .to_owned(),
        );
    }
    if let Some(server) = findings.server() {
        for (name, present, coming) in &server.other_values {
            texts.push(format!("{name} is {present} and becomes {coming} at the next start of PostgreSQL"));
        }
        if findings.situation() == Situation::Bare {
            texts.push(
                "postgresql.conf is kept as postgresql.base.conf and included; pg_hba.conf is replaced if the \
                 configuration has `postgresql.pg_hba`"
                    .to_owned(),
            );
            if !server.slots.is_empty() {
                let slots: Vec<&str> = server.slots.iter().map(String::as_str).collect();
                texts.push(format!(
                    "replication slots that belong to no member are dropped: list those of others under `slots` or \
                     `ignore_slots` ({})",
                    slots.join(", ")
                ));
            }
        }
    }
    if findings.situation() == Situation::Patroni {
        texts.push(
            "while a member runs Patroni its limits hold everywhere: ttl 20 s, retry_timeout 3 s".to_owned(),
        );
    }
    texts
}

fn obstacles(findings: &Findings) -> Vec<String> {
    let mut texts = Vec::new();
    let situation = findings.situation();
    match &findings.cluster {
        Err(reason) => texts.push(format!("the store does not answer: {reason}")),
        Ok(cluster) => texts.extend(of_cluster(findings, cluster)),
    }
    if situation == Situation::Patroni && findings.store_is_embedded {
        texts.push(
            "Patroni's `raft` and the embedded store do not understand each other: move the cluster to etcd while \
             Patroni runs it"
                .to_owned(),
        );
    }
    if let Some(reason) = &findings.data.unusable {
        texts.push(format!("{}: {reason}", findings.data.path.display()));
    }
    if let Some(major) = findings.data.major.filter(|major| !MAJORS.contains(major)) {
        texts.push(format!("PostgreSQL {major} is not supported ({} to {})", MAJORS.start(), MAJORS.end()));
    }
    match &findings.server {
        Some(Err(reason)) => texts.push(format!("PostgreSQL cannot be asked as the superuser: {reason}")),
        Some(Ok(server)) => {
            texts.extend(server.missing_roles.iter().map(|role| format!("PostgreSQL lacks the {role}")));
        }
        None => {}
    }
    texts
}

fn of_cluster(findings: &Findings, cluster: &Cluster) -> Vec<String> {
    let mut texts = Vec::new();
    let stored = cluster.initialize.as_ref().map(|keyed| &keyed.value);
    match (stored, findings.data.system_id) {
        (Some(Initialize::Done(theirs)), Some(mine)) if *theirs != mine => texts.push(format!(
            "the data directory belongs to another cluster: system identifier {mine}, that of the cluster is {theirs}"
        )),
        (None, Some(_)) if findings.situation() == Situation::Stopped => texts.push(
            "nothing runs, and the cluster has no identity yet: start PostgreSQL on the primary by hand, since only a \
             running primary founds a cluster"
                .to_owned(),
        ),
        (None, Some(_)) if findings.server().is_some_and(|server| server.in_recovery) => {
            texts.push("this is a standby, and the cluster has no primary yet: begin with the primary".to_owned());
        }
        _ => {}
    }
    if cluster.failover_request().is_some() {
        texts.push("a switchover or failover is asked for: let it happen, or take it back".to_owned());
    }
    for member in cluster.members.values().filter(|member| member.bellwether.is_none()) {
        if !is_late_enough(member.version.as_deref()) {
            let version = member.version.as_deref().unwrap_or("an unknown version");
            texts.push(format!("{} runs Patroni {version}: bring it to 4.1 first", member.name));
        }
    }
    texts
}

/// Patroni 4.0 and later write and read what we do.
fn is_late_enough(version: Option<&str>) -> bool {
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    major.is_some_and(|major| major >= 4)
}

#[cfg(test)]
mod tests;
