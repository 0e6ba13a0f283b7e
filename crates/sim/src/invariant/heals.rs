//! Once faults stop, the cluster heals within its budget: one primary that holds the lock, all others streaming from it, writes
//! acknowledged. And at no time does an agent spin.
//!
//! In quorum mode the votes that a promotion needs may be gone for good, and in every mode members and their disks. Then nobody may lead until an operator, who knows more, says
//! who shall: the reason of the refusal names the command, and where somebody is gone for good whose word failsafe mode would wait for, that is
//! switched off. The model operator does both after [`OPERATOR_AFTER`] without a leader.

use crate::{
    event::{Event, HostId},
    names::letter,
    schedule::{MILLIS, Nanos, SECONDS},
    trouble::keys::LostKey,
    world::World,
};

const PERIOD: Nanos = 500 * MILLIS;
/// Founding a cluster of five, copies included, besides the leases of founders that died.
const FOUNDING_BUDGET: Nanos = 120 * SECONDS;
/// How long an operator leaves members to themselves, besides two `ttl`.
const OPERATOR_AFTER: Nanos = 30 * SECONDS;
/// What was asked for may have failed: a checkpointer was busy, say.
const ASK_AGAIN: Nanos = 15 * SECONDS;
/// Decisions of all members within one period; far more than any story needs.
const SPIN: u64 = 3_000;

impl World {
    pub(crate) fn inspect_later(&mut self) {
        self.schedule.push(self.now + PERIOD, Event::Inspect);
    }

    pub(crate) fn inspect(&mut self) {
        self.inspect_later();
        if self.stats.decisions - self.checks.decisions_seen > SPIN {
            self.violated("heals", "agents decide without pause".to_owned());
        }
        self.checks.decisions_seen = self.stats.decisions;
        self.remote_writes();
        if !self.checks.founded {
            return self.inspect_founding();
        }
        if self.now < self.heal_from {
            return;
        }
        match self.illness() {
            None => {
                self.stats.healed_after = self.now - self.heal_from;
                let leader = self.head().expect("healthy");
                self.check_final_loss(leader);
                self.finished = true;
            }
            Some(why) if self.now > self.heal_from + self.scenario.healing_budget() => {
                self.violated("heals", format!("not healed within the budget: {why}"));
            }
            Some(_) => {
                self.call_operator();
                self.copy_anew();
            }
        }
    }

    /// `bellwether failover --candidate`, if nobody leads for want of votes; again if that led to nothing.
    fn call_operator(&mut self) {
        let is_early = self.now < self.heal_from + 2 * self.scenario.ttl + OPERATOR_AFTER
            || self.checks.operator_asked_at.is_some_and(|at| self.now < at + ASK_AGAIN);
        let votes = self.store.cluster().active_sync().is_some_and(|sync| sync.quorum > 0);
        let votes = votes || self.checks.members_lost || self.checks.wiped.is_some();
        if is_early || !votes || self.store.leader().is_some() {
            return;
        }
        let tip = |host: &HostId| {
            let flushed = self.hosts[*host].pg.data.flushed;
            (self.wal.timeline(flushed), self.wal.lsn(flushed))
        };
        let standbys = (0..self.hosts.len()).filter(|host| self.hosts[*host].pg.server().is_some());
        let Some(candidate) = standbys.max_by_key(tip) else { return };
        let asked_before = self.checks.operator_asked_at.replace(self.now).is_some();
        self.checks.named_by_operator = Some(candidate);
        self.stats.operator_failovers += 1;
        self.note_world(&[4], || format!("the operator asks for a failover to {}", letter(candidate)));
        if self.checks.members_lost && self.in_force.failsafe_mode {
            // Nobody who is named in `/failsafe` and never comes back will ever say that it does not lead.
            self.set_config("failsafe_mode", false.into());
        }
        if self.checks.wiped.is_some() {
            self.gives_sync_up();
            if asked_before {
                // Agents that were started since take no lock in a store that knows of no cluster, and end.
                self.checks.wiped = None;
                self.key_put_back(LostKey::Initialize);
            }
        }
        self.request_failover(candidate);
    }

    /// `bellwether reinit`, once per member, where the reason that it gives says that nothing else helps. Who came from another cluster's timeline of the
    /// same number, begun at the same place, cannot tell: people see that it does not stream.
    fn copy_anew(&mut self) {
        if self.now < self.heal_from + OPERATOR_AFTER || self.store.leader().is_none() {
            return;
        }
        let is_cut_off = |host: HostId| {
            let server = self.hosts[host].pg.server().filter(|server| server.in_recovery);
            self.remote.is_some()
                && server.is_some_and(|server| server.receiver.is_none())
                && self.head() != Some(host)
        };
        let asks = |host: &HostId| self.hosts[*host].agent.mind.asks_for_copy || is_cut_off(*host);
        let asking: Vec<HostId> = (0..self.hosts.len()).filter(asks).collect();
        for host in asking {
            if self.checks.copied_by_operator.insert(host) {
                self.request_copy(host, false, false);
            }
        }
    }

    fn inspect_founding(&mut self) {
        match self.illness() {
            None => {
                let leader = self.head().expect("healthy");
                self.check_founded_whole(leader);
                self.checks.founded = true;
                self.back_up(leader);
                self.heal_from = self.now + self.scenario.fault_phase + SECONDS;
                self.note_world(&[3], || "the cluster is founded; faults begin".to_owned());
                self.schedule_faults();
            }
            Some(why) if self.now > FOUNDING_BUDGET + 4 * self.scenario.ttl => {
                self.violated("heals", format!("the cluster was not founded: {why}"));
            }
            Some(_) => {}
        }
    }

    pub(super) fn primary(&self) -> Option<HostId> {
        (0..self.hosts.len()).find(|host| self.hosts[*host].pg.is_primary())
    }

    /// Who leads, as a primary or in a standby cluster.
    fn head(&self) -> Option<HostId> {
        self.primary().or_else(|| self.store.cluster().leader_name().map(|name| self.names.index_of(name)))
    }

    /// Why commits on `host` may be waiting.
    fn commit_state(&self, host: HostId) -> String {
        let Some(server) = self.hosts[host].pg.server() else { return "no server".to_owned() };
        let senders: Vec<String> = server
            .senders
            .iter()
            .zip(self.senders_of(host))
            .map(|(id, sender)| {
                let connection = &self.connections[*id as usize];
                format!("{} {:?} {:?}", letter(connection.down), connection.rule.text, sender)
            })
            .collect();
        format!(
            "names {:?}, in force {}, {} waiting from {:?}, flushed {}, senders {senders:?}",
            server.rule.text,
            server.sync_defined,
            server.waiting.len(),
            server.waiting.first().map(|commit| commit.lsn),
            self.wal.lsn(self.hosts[host].pg.data.flushed),
        )
    }

    /// What is wrong with the cluster now, for people; `None` if nothing is.
    pub(super) fn illness(&self) -> Option<String> {
        let primaries: Vec<char> =
            (0..self.hosts.len()).filter(|host| self.hosts[*host].pg.is_primary()).map(letter).collect();
        let leader = self.store.cluster().leader_name().cloned();
        let follows = self.in_force.standby_cluster.is_some();
        let (true, Some(leader)) = (primaries.len() == usize::from(!follows), leader) else {
            let leader = self.store.cluster().leader_name().map(ToString::to_string);
            return Some(format!("primaries {primaries:?}, leader {leader:?}"));
        };
        let leader = self.names.index_of(&leader);
        if follows && let Some(why) = self.illness_of_follower(leader) {
            return Some(why);
        }
        if !follows && !self.hosts[leader].pg.is_primary() {
            return Some(format!("leader {} is no primary", letter(leader)));
        }
        for host in (0..self.hosts.len()).filter(|host| *host != leader && !self.hosts[*host].absent) {
            let pg = &self.hosts[host].pg;
            let receiver = pg.server().and_then(|server| server.receiver);
            let streams = receiver.is_some_and(|id| {
                let connection = &self.connections[id as usize];
                connection.up == leader && connection.sender_open && connection.streaming
            });
            let timeline = self.wal.timeline(pg.data.flushed);
            let theirs = self.wal.timeline(self.hosts[leader].pg.data.flushed);
            if !streams || timeline != theirs {
                return Some(format!(
                    "{} does not stream from {} (timeline {timeline} of {theirs}, {:?})",
                    letter(host),
                    letter(leader),
                    pg.data.control.state,
                ));
            }
        }
        if !follows && self.checks.last_acknowledged_at + 2 * SECONDS < self.now {
            return Some(format!(
                "no write was acknowledged for two seconds ({})",
                self.commit_state(leader)
            ));
        }
        None
    }
}
