//! Conversations with other agents: status polls before a race, and the failsafe protocol when the store is silent.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use bellwether_ha::{
    lease,
    view::{AsOf, FailsafeAcceptance, FailsafeRound, LeaseView, PeerAnswer, PeerReport, Peers},
};
use bellwether_types::{Lsn, PostgresState, Role, Timestamp};

use crate::{
    agent::Members,
    event::{AgentEvent, Event, HostId},
    operations::WatchdogMode,
    pg::Files,
    schedule::MILLIS,
    world::World,
};

/// How long the answer to a status call takes: with a look, and if none comes in time.
const A_LOOK: u64 = MILLIS;
const PATIENCE: u64 = 75 * MILLIS;

#[derive(Debug)]
pub enum PeerQuestion {
    /// GET /patroni
    Status,
    /// POST /failsafe
    Failsafe { leader: HostId, rely_on: Duration },
}

#[derive(Debug)]
pub enum PeerAnswerBody {
    Status(Box<PeerReport>),
    /// Nobody listens on the port.
    Refused,
    /// For how long it was promised; `None`: refused.
    Failsafe {
        promised: Option<Duration>,
    },
}

/// What was asked of others and what came back.
#[derive(Debug, Default)]
pub struct Rounds {
    pub peers: Peers,
    pub failsafe: Option<FailsafeRound>,
    polling: Option<Poll>,
    failsafe_number: u64,
    next: u64,
}

#[derive(Debug)]
struct Poll {
    number: u64,
    began_at: Timestamp,
    open: BTreeSet<HostId>,
    answers: BTreeMap<HostId, PeerAnswer>,
}

impl World {
    pub(crate) fn poll_peers(&mut self, host: HostId, members: &Members, timeout: Duration) {
        let began_at = self.hosts[host].clock(self.now);
        let asked: BTreeSet<HostId> = members.keys().map(|name| self.names.index_of(name)).collect();
        let rounds = &mut self.hosts[host].agent.mind.rounds;
        if rounds.polling.is_some() {
            return;
        }
        rounds.next += 1;
        let number = rounds.next;
        rounds.polling = Some(Poll { number, began_at, open: asked.clone(), answers: BTreeMap::new() });
        for to in asked {
            self.ask_peer(host, to, number, PeerQuestion::Status);
        }
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        self.later(host, timeout, AgentEvent::PeersTimedOut { round: number, failsafe: false });
        self.end_poll_if_complete(host);
    }

    pub(crate) fn ask_failsafe(&mut self, host: HostId, members: &Members, rely_on: Duration) {
        let began_at = self.hosts[host].clock(self.now);
        let asked: BTreeSet<_> = members.keys().cloned().collect();
        let rounds = &mut self.hosts[host].agent.mind.rounds;
        rounds.next += 1;
        let number = rounds.next;
        rounds.failsafe_number = number;
        rounds.failsafe = Some(FailsafeRound {
            began_at,
            asked,
            accepted: BTreeSet::new(),
            good_for: rely_on,
            running: true,
            positions: BTreeMap::new(),
        });
        for name in members.keys() {
            let to = self.names.index_of(name);
            self.ask_peer(host, to, number, PeerQuestion::Failsafe { leader: host, rely_on });
        }
        self.later(host, self.scenario.ttl / 5, AgentEvent::PeersTimedOut { round: number, failsafe: true });
        self.end_failsafe_if_complete(host);
    }

    fn ask_peer(&mut self, from: HostId, to: HostId, round: u64, question: PeerQuestion) {
        if self.is_way_open(from, to) {
            let delay = self.delay(from, to);
            let agent = self.hosts[from].agent.incarnation;
            let question = Rc::new(question);
            self.schedule.push(self.now + delay, Event::Question { from, agent, to, round, question });
        }
    }

    /// A question arrives; the agent's API answers from what the agent knows, or from a look that others wait for.
    pub(crate) fn answer_question(
        &mut self,
        (from, agent): (HostId, u32),
        to: HostId,
        round: u64,
        question: &PeerQuestion,
    ) {
        if !self.is_way_open(from, to) {
            return;
        }
        let mut delay = 0;
        let body = if !self.hosts[to].agent.alive {
            PeerAnswerBody::Refused
        } else {
            match question {
                PeerQuestion::Status => {
                    delay = if self.looks_again(to) { A_LOOK } else { PATIENCE };
                    let report = self.report(to);
                    let report = if self.is_patroni(to) { Self::as_patroni_reports(report) } else { report };
                    PeerAnswerBody::Status(Box::new(report))
                }
                PeerQuestion::Failsafe { leader, rely_on } => {
                    // Written to disk before it is said.
                    delay = self.random.between(MILLIS / 2, 5 * MILLIS);
                    let promised = self.accept_failsafe(to, *leader, *rely_on);
                    let unsaid = self.is_patroni(to).then_some(lease::UNSAID_PROMISE);
                    PeerAnswerBody::Failsafe { promised: promised.map(|said| unsaid.unwrap_or(said)) }
                }
            }
        };
        if self.is_way_open(to, from) {
            let delay = delay + self.delay(to, from);
            let what = AgentEvent::PeerAnswered { from: to, round, body };
            self.schedule.push(self.now + delay, Event::Agent { host: from, agent, what });
        }
    }

    /// The agent looks again if it has nothing else to do and PostgreSQL answers; else what it published last must do.
    fn looks_again(&self, host: HostId) -> bool {
        let h = &self.hosts[host];
        h.pg.server().is_some() && !h.pg.frozen && h.agent.mind.execution.is_none() && self.bug.looks_again()
    }

    fn report(&self, host: HostId) -> PeerReport {
        let h = &self.hosts[host];
        let server = h.pg.server().filter(|server| server.stop.is_none());
        let published =
            h.agent.mind.last_server.as_ref().filter(|_| server.is_some() && !self.is_silent(host));
        let ago =
            published.map_or(Duration::ZERO, |published| h.clock(self.now).since(published.answered_at));
        let (position, timeline, as_of): (Option<Lsn>, _, _) = if self.looks_again(host) {
            let flushed = server.map(|_| h.pg.data.flushed);
            let timeline = flushed.map(|at| self.wal.timeline(at)).filter(|_| h.troubles.no_connections == 0);
            match self.is_reading_own_wal(host) {
                Some(own) => (Some(own), timeline, AsOf::AtLeast),
                None => (flushed.map(|at| self.wal.lsn(at)), timeline, AsOf::Asked),
            }
        } else {
            let position = published.map(|published| published.position);
            (position, published.and_then(|published| published.timeline), self.bug.as_of(ago))
        };
        let (position, as_of) = match h.pg.data.files {
            Files::Present => (position, as_of),
            _ => self.bug.position_without_data(as_of),
        };
        PeerReport {
            role: h.agent.mind.role,
            is_running_primary: server.is_some_and(|server| !server.in_recovery),
            position,
            as_of,
            timeline,
            nofailover: h.tags.nofailover(),
            failover_priority: h.tags.failover_priority(),
            watchdog_failed: h.watchdog_broken > 0 && self.scenario.watchdog == WatchdogMode::Required,
            at_rest: h.pg.is_down()
                && h.pg.orphans.is_none()
                && !matches!(h.agent.mind.lease_view, LeaseView::Held { .. }),
            holds_lock: matches!(h.agent.mind.lease_view, LeaseView::Held { .. }),
            system_id: h.pg.data.system_id,
            takeover: self.word(host),
            unfit: self.is_unfit(host),
        }
    }

    fn accept_failsafe(&mut self, host: HostId, leader: HostId, rely_on: Duration) -> Option<Duration> {
        let now = self.hosts[host].clock(self.now);
        let mind = &self.hosts[host].agent.mind;
        let leads = mind.state == PostgresState::Running && mind.role == Role::Primary;
        if !mind.settings.failsafe_mode || leads || self.hosts[host].pg.is_primary() {
            return None;
        }
        if self.is_bound_against(host, leader) {
            return None;
        }
        let promised = self.bug.failsafe_promise(mind.settings.ttl, rely_on);
        let earlier = self.hosts[host].acceptance.as_ref().map(|acceptance| acceptance.until);
        let until = earlier.map_or(now + promised, |earlier| earlier.max(now + promised));
        self.hosts[host].acceptance = Some(FailsafeAcceptance {
            leader: self.names.of(leader).clone(),
            conn_url: self.names.conn_url(leader),
            api_url: self.names.api_url(leader),
            until,
            slots: BTreeMap::new(),
        });
        Some(promised)
    }

    pub(crate) fn peer_answered(&mut self, host: HostId, from: HostId, round: u64, body: PeerAnswerBody) {
        let name = self.names.of(from).clone();
        let rounds = &mut self.hosts[host].agent.mind.rounds;
        if let Some(poll) = rounds.polling.as_mut().filter(|poll| poll.number == round) {
            let answer = match body {
                PeerAnswerBody::Status(report) => PeerAnswer::Answered(*report),
                _ => PeerAnswer::Unreachable { refused: true },
            };
            if poll.open.remove(&from) {
                poll.answers.insert(from, answer);
            }
            self.end_poll_if_complete(host);
        } else if rounds.failsafe_number == round
            && let Some(failsafe) = rounds.failsafe.as_mut().filter(|failsafe| failsafe.running)
        {
            if let PeerAnswerBody::Failsafe { promised: Some(promised) } = body {
                failsafe.good_for = self.bug.failsafe_belief(failsafe.good_for, promised);
                failsafe.accepted.insert(name);
            }
            self.end_failsafe_if_complete(host);
        }
    }

    pub(crate) fn peers_timed_out(&mut self, host: HostId, round: u64, failsafe: bool) {
        let rounds = &mut self.hosts[host].agent.mind.rounds;
        if failsafe {
            if rounds.failsafe_number == round {
                if let Some(failsafe) = rounds.failsafe.as_mut() {
                    failsafe.running = false;
                }
                self.wake(host);
            }
        } else if let Some(poll) = rounds.polling.as_mut().filter(|poll| poll.number == round) {
            for silent in std::mem::take(&mut poll.open) {
                poll.answers.insert(silent, PeerAnswer::Unreachable { refused: false });
            }
            self.end_poll_if_complete(host);
        }
    }

    fn end_poll_if_complete(&mut self, host: HostId) {
        let rounds = &mut self.hosts[host].agent.mind.rounds;
        if rounds.polling.as_ref().is_none_or(|poll| !poll.open.is_empty()) {
            return;
        }
        let poll = rounds.polling.take().expect("just seen");
        let names = &self.names;
        let answers =
            poll.answers.into_iter().map(|(from, answer)| (names.of(from).clone(), answer)).collect();
        rounds.peers = Peers { polled_at: Some(poll.began_at), answers };
        self.wake(host);
    }

    fn end_failsafe_if_complete(&mut self, host: HostId) {
        let rounds = &mut self.hosts[host].agent.mind.rounds;
        let Some(round) = rounds.failsafe.as_mut().filter(|round| round.running) else { return };
        if round.accepted.is_superset(&round.asked) {
            round.running = false;
            let (began_at, good_for) = (round.began_at, round.good_for);
            self.extend_by_failsafe(host, began_at, good_for);
            self.wake(host);
        }
    }
}
