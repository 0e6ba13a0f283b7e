//! What would happen if a member were lost: the elections of all others, decided by the very core that would decide them.
//!
//! For each other member a [`View`] is made of what the store holds and of what the members tell when they are asked, as that member
//! would have it once the lease of the lost leader has run out; [`decide`] does the rest. So a rule that is changed there is changed
//! here, and no rule is written twice.
//!
//! What nobody can know beforehand is left out: what is written until then, and who of several equals is the fastest.

pub mod forecast;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bellwether_types::{
    MemberName, PostgresState, Role, SystemId, Tags, TimelineId, Timestamp, WallTime,
    cluster::{Cluster, Member, SyncState},
    settings::{Settings, SyncMode},
};

use crate::{
    Action, Memory, Reason, View, decide,
    view::{
        AsOf, DataDirectory, FailsafeView, Fencing, Guardian, LeaseView, Me, PeerAnswer, PeerReport, Peers,
        PostgresView, Process, Server, StoreView, TakeoverView, Watchdog, health::Health,
    },
};

/// When all this takes place. Any instant does: nothing but differences of times counts.
const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);

/// Everything that is known of a cluster from outside, at one instant.
#[derive(Clone, Debug)]
pub struct Situation<'s> {
    pub cluster: &'s Cluster,
    /// As they are in force.
    pub settings: &'s Settings,
    /// What the members answered when they were asked; who is missing did not answer.
    pub told: &'s BTreeMap<MemberName, Told>,
    /// For scheduled requests.
    pub wall: WallTime,
    /// The store has transactions over several keys.
    pub multi_key_transactions: bool,
}

/// What a member said about itself.
#[derive(Clone, Debug)]
pub struct Told {
    pub report: PeerReport,
    /// Its PostgreSQL runs and answers.
    pub is_running: bool,
    pub is_streaming: bool,
    pub tags: Tags,
    pub system_id: Option<SystemId>,
    /// 0 = unknown.
    pub server_version: u32,
}

/// What would happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    pub lost: MemberName,
    pub verdict: Verdict,
    /// What every other member would decide.
    pub others: BTreeMap<MemberName, Standing>,
    /// `None` while nobody new would lead.
    pub risk: Option<Risk>,
    pub commits: Commits,
}

/// Who would lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The lost member does not lead.
    LeaderStays {
        leader: MemberName,
    },
    /// One of these, equally fit: the first to ask for the lock gets it.
    Elected {
        candidates: Vec<MemberName>,
    },
    Nobody,
}

/// What a member would do in the race, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub takes_lock: bool,
    /// The deciding one first.
    pub reasons: Vec<Reason>,
}

/// What the new leader may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Risk {
    /// Bytes of WAL that the lost leader has and the worst of the candidates has not, by what they told.
    pub behind: u64,
    /// Every commit that waited for its synchronous standbys is with each candidate, or with enough of those whose votes it needs.
    pub is_synchronous: bool,
    /// Otherwise: how far a candidate may be behind the last position that the leader has published.
    pub tolerated: u64,
}

/// What becomes of commits while the leader stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commits {
    GoOn,
    /// Until the leader has taken the lost member off the list of synchronous standbys.
    WaitForList,
    /// Until a synchronous standby is back.
    WaitForStandby,
}

impl Situation<'_> {
    /// What would happen if the host of `lost` went down now, without a word.
    pub fn after_loss_of(&self, lost: &MemberName) -> Outlook {
        let leads = self.cluster.leader_name().is_none_or(|leader| leader == lost);
        let others: BTreeMap<MemberName, Standing> = match leads {
            true => self
                .survivors(lost)
                .map(|member| (member.name.clone(), self.standing(member, lost)))
                .collect(),
            false => BTreeMap::new(),
        };
        let candidates: Vec<MemberName> =
            others.iter().filter(|(_, standing)| standing.takes_lock).map(|(name, _)| name.clone()).collect();
        let verdict = match self.cluster.leader_name() {
            Some(leader) if !leads => Verdict::LeaderStays { leader: leader.clone() },
            _ if candidates.is_empty() => Verdict::Nobody,
            _ => Verdict::Elected { candidates: candidates.clone() },
        };
        Outlook {
            lost: lost.clone(),
            verdict,
            risk: self.risk(lost, &candidates),
            commits: if leads { Commits::GoOn } else { self.commits(lost) },
            others,
        }
    }

    fn survivors<'a>(&'a self, lost: &'a MemberName) -> impl Iterator<Item = &'a Member> {
        self.cluster.members.values().filter(move |member| member.name != *lost)
    }

    fn standing(&self, member: &Member, lost: &MemberName) -> Standing {
        let Some(told) = self.told.get(&member.name) else {
            let reasons = vec![Reason::MemberUnreachable { name: member.name.clone() }];
            return Standing { takes_lock: false, reasons };
        };
        let decision = decide(&self.view(member, told, lost));
        let takes_lock = decision.actions.iter().any(|action| matches!(action, Action::AcquireLease { .. }));
        Standing { takes_lock, reasons: decision.reasons }
    }

    /// What `member` would know when it sees the lock free and has asked all others.
    fn view(&self, member: &Member, told: &Told, lost: &MemberName) -> View {
        let mut cluster = self.cluster.clone();
        cluster.leader = None;
        // Its member key hangs on the lease that has run out.
        cluster.members.remove(lost);
        let asked = self
            .cluster
            .members
            .keys()
            .chain(self.cluster.failsafe.iter().flat_map(|map| map.value.0.keys()));
        let asked: BTreeSet<&MemberName> = asked.filter(|name| **name != member.name).collect();
        let answers = asked.into_iter().map(|name| (name.clone(), self.answer(name, lost))).collect();
        let role = told.report.role;
        View {
            now: NOW,
            wall: self.wall,
            me: Me {
                name: member.name.clone(),
                tags: told.tags.clone(),
                api_url: member.api_url.clone().unwrap_or_default(),
                conn_url: member.conn_url.clone().unwrap_or_default(),
                may_bootstrap: false,
                clones_without_leader: false,
                has_pre_promote: false,
                failed_bootstraps: None,
            },
            settings: self.settings.clone(),
            store: StoreView {
                cluster: Some(Arc::new(cluster)),
                confirmed_at: NOW,
                unavailable_since: None,
                multi_key_transactions: self.multi_key_transactions,
                owns_claim: false,
            },
            lease: LeaseView::NotHeld,
            postgres: postgres(told),
            peers: Peers { polled_at: Some(NOW), answers },
            failsafe: FailsafeView::default(),
            takeover: TakeoverView::default(),
            fencing: Fencing {
                guardian: Guardian::Ready,
                watchdog: match told.report.watchdog_failed {
                    true => Watchdog::Required { usable: false, active: false },
                    false => Watchdog::Off,
                },
            },
            health: Health::default(),
            job: None,
            last_job: None,
            requests: Vec::new(),
            stopping: false,
            memory: Memory {
                last_healthy: Some(Arc::new(self.cluster.clone())),
                unlocked_since: Some(NOW),
                need_peers_since: Some(NOW),
                was_paused: self.settings.pause,
                callback_fired: true,
                announced_role: Some(role),
                followed: self.cluster.leader_name().map(|leader| (leader.clone(), told.report.timeline)),
                ..Memory::default()
            },
        }
    }

    fn answer(&self, name: &MemberName, lost: &MemberName) -> PeerAnswer {
        match self.told.get(name).filter(|_| name != lost) {
            // Where it is now is where it is then: nothing is written meanwhile.
            Some(told) => PeerAnswer::Answered(PeerReport { as_of: AsOf::Asked, ..told.report.clone() }),
            None => PeerAnswer::Unreachable { refused: false },
        }
    }

    fn risk(&self, lost: &MemberName, candidates: &[MemberName]) -> Option<Risk> {
        let position = |name| self.told.get(name).and_then(|told| told.report.position);
        let worst = candidates.iter().filter_map(position).min()?;
        let end = position(lost).unwrap_or_default().max(self.cluster.optime());
        let sync = self.cluster.active_sync().filter(|_| self.settings.sync_mode() != SyncMode::Off);
        Some(Risk {
            behind: end - worst,
            is_synchronous: sync.is_some(),
            tolerated: self.settings.maximum_lag_on_failover,
        })
    }

    fn commits(&self, lost: &MemberName) -> Commits {
        let sync = self.cluster.active_sync().filter(|_| self.settings.sync_mode() != SyncMode::Off);
        let Some(sync) = sync.filter(|sync| sync.has_voter(lost)) else { return Commits::GoOn };
        let standbys = self.survivors(lost).filter(|member| Some(&member.name) != self.cluster.leader_name());
        let standbys: Vec<&MemberName> = standbys
            .map(|member| &member.name)
            .filter(|name| self.told.get(*name).is_some_and(|told| told.is_running && told.is_streaming))
            .collect();
        let voters = standbys.iter().filter(|name| sync.has_voter(name)).count();
        if voters >= acknowledging(sync, self.settings.sync_mode()) {
            return Commits::GoOn;
        }
        let left =
            standbys.iter().filter(|name| self.told.get(**name).is_some_and(|told| !told.tags.nosync()));
        if left.count() < self.settings.min_sync() as usize {
            return Commits::WaitForStandby;
        }
        Commits::WaitForList
    }
}

/// How many of the listed standbys a commit waits for.
fn acknowledging(sync: &SyncState, mode: SyncMode) -> usize {
    match mode {
        SyncMode::Quorum => sync.voters.len().saturating_sub(sync.quorum as usize),
        _ => sync.voters.len(),
    }
}

/// The local server of a member by what it told.
fn postgres(told: &Told) -> PostgresView {
    let since = NOW.saturating_sub(Duration::from_secs(3600));
    let is_running = told.is_running;
    PostgresView {
        data: DataDirectory::Present,
        founding: None,
        process: if is_running { Process::Running { since } } else { Process::NotRunning },
        state: if is_running { PostgresState::Running } else { PostgresState::Stopped },
        role: told.report.role,
        system_id: told.system_id,
        server_version: told.server_version,
        control: None,
        server: told.is_running.then(|| server(told)),
        refuses_login: None,
        upstream: None,
        pending_restart: false,
        divergence: None,
        sync_names_in_files: None,
        local_history: None,
        checkpointer_read_at: None,
        archives_wal: false,
        postmaster_started_at: None,
        feedback_forced: false,
        leader_slots: None,
        unusable_slots: BTreeSet::new(),
    }
}

fn server(told: &Told) -> Server {
    let position = told.report.position.unwrap_or_default();
    Server {
        answered_at: NOW,
        in_recovery: !matches!(told.report.role, Role::Primary | Role::Promoted),
        timeline: told.report.timeline.filter(|timeline| *timeline != TimelineId(0)),
        position,
        has_read_own_wal: true,
        received: position,
        replayed: position,
        replay_paused: false,
        // The upstream is gone.
        streaming: false,
        receiver_source: None,
        synchronous_standby_names: String::new(),
        synchronous_commit: "on".to_owned(),
        standbys: Vec::new(),
        slots: Vec::new(),
        hot_standby_feedback: false,
        wal_level: String::new(),
        max_replication_slots: 0,
        kept_wal: 0,
    }
}
