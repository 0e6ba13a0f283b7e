//! One world: hosts, network, store, and everything that happens between them, from a seed to its end.

use std::collections::BTreeMap;

use bellwether_types::settings::Settings;

use crate::{
    agent::Agent,
    bug::Bug,
    coverage::Coverage,
    event::{Event, HostId},
    host::Host,
    invariant::{Checks, Violation},
    names::Names,
    network::Network,
    pg::{backup::Backup, replication::Connection},
    random::Random,
    remote::Remote,
    scenario::Scenario,
    schedule::{MILLIS, Nanos, Schedule},
    sites::Seat,
    store::Store,
    trace::{Trace, Verbosity},
    wal::{Forest, RecordKind},
};

#[derive(Debug)]
pub struct World {
    pub(crate) now: Nanos,
    pub(crate) schedule: Schedule<Event>,
    pub(crate) random: Random,
    pub(crate) trace: Trace,
    pub(crate) scenario: Scenario,
    /// What `/config` says now.
    pub(crate) in_force: Settings,
    pub(crate) bug: Bug,
    pub(crate) names: Names,
    pub(crate) hosts: Vec<Host>,
    pub(crate) network: Network,
    pub(crate) store: Store,
    pub(crate) seat: Seat,
    pub(crate) wal: Forest,
    pub(crate) connections: Vec<Connection>,
    pub(crate) backup: Option<Backup>,
    pub(crate) remote: Option<Remote>,
    pub(crate) checks: Checks,
    pub(crate) violation: Option<Violation>,
    pub(crate) stats: Stats,
    pub(crate) coverage: Coverage,
    pub(crate) active_faults: u32,
    /// Faults are over from then on.
    pub(crate) heal_from: Nanos,
    pub(crate) finished: bool,
    /// The last decision written to the trace, per host: repetitions are left out.
    pub(crate) said: BTreeMap<HostId, String>,
}

/// Numbers of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub decisions: u64,
    pub events: u64,
    pub writes: u64,
    pub acknowledged: u64,
    /// Acknowledged writes that a promotion gave up; only without synchronous replication.
    pub lost: u64,
    pub promotions: u64,
    /// When each of them was, in virtual time.
    pub promoted_at: Vec<Nanos>,
    pub rewinds: u64,
    pub clones: u64,
    pub guardian_kills: u64,
    pub requests_accepted: u64,
    /// Epochs that were opened in calm worlds.
    pub suspicions: u64,
    pub takeovers: u64,
    /// Leaders lost their power where the others could take over.
    pub takeovers_expected: u64,
    /// The longest time from the last write before a take-over to the first one after it.
    pub takeover_took: Nanos,
    /// Failovers that an operator had to ask for because the members could not agree.
    pub operator_failovers: u64,
    /// Promotions that gave a timeline a number which another one bears.
    pub passed_over_timelines: u64,
    pub healed_after: Nanos,
    /// Virtual time.
    pub lasted: Nanos,
}

impl Stats {
    /// The sum of several runs, or the worst of them.
    pub fn add(&mut self, other: &Self) {
        self.decisions += other.decisions;
        self.events += other.events;
        self.writes += other.writes;
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.promotions += other.promotions;
        self.rewinds += other.rewinds;
        self.clones += other.clones;
        self.guardian_kills += other.guardian_kills;
        self.requests_accepted += other.requests_accepted;
        self.suspicions += other.suspicions;
        self.takeovers += other.takeovers;
        self.takeovers_expected += other.takeovers_expected;
        self.takeover_took = self.takeover_took.max(other.takeover_took);
        self.operator_failovers += other.operator_failovers;
        self.passed_over_timelines += other.passed_over_timelines;
        self.healed_after = self.healed_after.max(other.healed_after);
        self.lasted += other.lasted;
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    pub scenario: Scenario,
    pub stats: Stats,
    pub coverage: Coverage,
    /// Equal for equal runs, and only for them.
    pub hash: u64,
    pub violation: Option<Violation>,
    pub trace: Vec<String>,
}

/// Runs the world of a seed to its end.
pub fn run(seed: u64, bug: Bug, verbosity: Verbosity) -> Outcome {
    World::new(Scenario::draw(seed, bug), bug, verbosity).run()
}

/// The same for a calm world, see [`crate::calm`].
pub fn run_calm(seed: u64, bug: Bug, verbosity: Verbosity) -> Outcome {
    World::new(Scenario::draw_calm(seed, bug), bug, verbosity).run()
}

impl World {
    pub fn new(scenario: Scenario, bug: Bug, verbosity: Verbosity) -> Self {
        let mut random = Random::new(scenario.seed);
        let mut hosts: Vec<Host> = (0..scenario.members)
            .map(|_| {
                let epoch = random.between(1_000_000_000, 900_000_000_000_000);
                let skew = i64::try_from(random.between(0, 20_000)).expect("small") - 10_000;
                Host::new(Agent::new(scenario.settings.clone()), epoch, skew)
            })
            .collect();
        if let Some(late) = scenario.late {
            (hosts[late].powered, hosts[late].absent) = (false, true);
        }
        Self {
            now: 0,
            schedule: Schedule::default(),
            random,
            trace: Trace::new(verbosity),
            bug,
            names: Names::new(scenario.members),
            hosts,
            network: Network::new(scenario.members),
            store: Store::new(scenario.store, scenario.seed),
            seat: Seat::default(),
            wal: Forest::default(),
            connections: Vec::new(),
            backup: None,
            remote: None,
            checks: Checks::default(),
            violation: None,
            stats: Stats::default(),
            coverage: Coverage::default(),
            active_faults: 0,
            heal_from: Nanos::MAX,
            finished: false,
            said: BTreeMap::new(),
            in_force: scenario.settings.clone(),
            scenario,
        }
    }

    pub fn run(mut self) -> Outcome {
        for host in 0..self.hosts.len() {
            let delay = self.random.between(1, 2_000) * MILLIS;
            self.respawn_agent(host, delay);
        }
        self.begin_remote();
        self.begin_without_majority();
        self.inspect_later();
        while self.violation.is_none() && !self.finished {
            let Some((at, sequence, event)) = self.schedule.pop() else { break };
            self.now = at;
            self.stats.events += 1;
            self.trace.mix(&[at, sequence]);
            self.happen(event);
        }
        self.stats.lasted = self.now;
        let hash = self.trace.hash();
        let Self { scenario, stats, coverage, violation, trace, .. } = self;
        Outcome { scenario, stats, coverage, hash, violation, trace: trace.into_lines() }
    }

    pub(crate) fn happen(&mut self, event: Event) {
        let Some(event) = self.admit(event) else { return };
        match event {
            Event::FaultBegins(fault) => self.fault_begins(&fault),
            Event::FaultEnds(fault) => self.fault_ends(&fault),
            Event::Operator => self.operator_tries_again(),
            Event::Inspect => self.inspect(),
            Event::TakenOver { from, disturbance } => self.check_taken_over(from, disturbance),
            Event::StoreRequest { from, agent, id, operation } => {
                self.store_request(from, agent, id, *operation)
            }
            Event::LeaseExpiry { lease } => self.lease_expiry(lease),
            Event::StoreElected { change } => self.store_elected(change),
            Event::AgentStarts { host, .. } => self.agent_starts(host),
            Event::Agent { host, what, .. } => self.on_agent(host, what),
            Event::Question { from, agent, to, round, question } => {
                self.answer_question((from, agent), to, round, &question);
            }
            Event::GuardianDeadline { host, sequence, .. } => self.guardian_deadline(host, sequence),
            Event::GuardianKills { host, .. } => self.guardian_kills(host),
            Event::Postgres { host, what, .. } => self.on_postgres(host, what),
            Event::OrphanCommits { host, .. } => self.orphan_commits(host),
            Event::OrphansEnd { host, .. } => self.hosts[host].pg.orphans = None,
            Event::Deliver { connection, upto } => self.delivered(connection, upto),
            Event::Acknowledge { connection, upto } => self.acknowledged(connection, upto),
            Event::SenderClosed { connection } => self.sender_closed(connection),
            Event::ReceiverClosed { connection } => self.receiver_closed(connection),
            Event::ConnectionTimeout { connection } => self.connection_timeout(connection),
        }
    }

    /// What was meant for somebody who is gone is dropped; what reaches somebody who is stopped waits.
    fn admit(&mut self, event: Event) -> Option<Event> {
        let (host, current, stopped) = match &event {
            Event::AgentStarts { host, boot }
            | Event::GuardianDeadline { host, boot, .. }
            | Event::GuardianKills { host, boot }
            | Event::OrphanCommits { host, boot }
            | Event::OrphansEnd { host, boot } => (*host, self.hosts[*host].boot == *boot, false),
            Event::Agent { host, agent, .. } => {
                let known = &self.hosts[*host].agent;
                (*host, known.alive && known.incarnation == *agent, known.frozen)
            }
            Event::Question { to, .. } => {
                let agent = &self.hosts[*to].agent;
                (*to, self.hosts[*to].powered, agent.alive && agent.frozen)
            }
            Event::Postgres { host, generation, .. } => {
                let pg = &self.hosts[*host].pg;
                (*host, pg.generation == *generation, pg.frozen)
            }
            Event::Deliver { connection, .. } | Event::ReceiverClosed { connection } => {
                let connection = &self.connections[*connection as usize];
                let pg = &self.hosts[connection.down].pg;
                (connection.down, pg.generation == connection.down_generation, pg.frozen)
            }
            Event::Acknowledge { connection, .. } | Event::SenderClosed { connection } => {
                let connection = &self.connections[*connection as usize];
                let pg = &self.hosts[connection.up].pg;
                (connection.up, pg.generation == connection.up_generation, pg.frozen)
            }
            _ => return Some(event),
        };
        if !current || !self.hosts[host].powered {
            return None;
        }
        if stopped || self.hosts[host].suspended {
            self.hosts[host].deferred.push(event);
            return None;
        }
        Some(event)
    }

    /// Something on a host runs again: what waited for it happens now, in the order in which it came.
    pub(crate) fn release_deferred(&mut self, host: HostId) {
        for event in std::mem::take(&mut self.hosts[host].deferred) {
            self.schedule.push(self.now, event);
        }
    }

    /// Writes a line about a host into the trace, and mixes `words` into the hash.
    pub(crate) fn note(
        &mut self,
        host: HostId,
        topic: &'static str,
        words: &[u64],
        text: impl FnOnce() -> String,
    ) {
        self.trace.mix(&[self.now, host as u64]);
        self.trace.mix_text(topic);
        self.trace.mix(words);
        if self.trace.is_on() {
            let who = self.names.of(host).to_string();
            self.trace.line(self.now, &who, || format!("{topic}: {}", text()));
        }
    }

    pub(crate) fn note_world(&mut self, words: &[u64], text: impl FnOnce() -> String) {
        self.trace.mix(words);
        self.trace.line(self.now, "world", text);
    }

    /// `pg_logical_emit_message` with local commit: a little WAL that waits for nobody.
    pub(crate) fn pg_generate_wal(&mut self, host: HostId) {
        let Some(server) = self.hosts[host].pg.server_mut() else { return };
        if !server.in_recovery && server.stop.is_none() {
            server.inserted = self.wal.append(server.inserted, 0x30, RecordKind::Noise, host);
            self.flush_soon(host);
        }
    }
}
