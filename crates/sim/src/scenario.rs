//! What kind of cluster a seed stands for, and which faults hit it when.

use std::time::Duration;

use bellwether_types::settings::{Settings, SyncMode};

use crate::{
    bug::Bug,
    calm::Jitter,
    event::HostId,
    faults::{self, Planned},
    founding::Disturbance,
    operations::WatchdogMode,
    random::Random,
    schedule::{MICROS, MILLIS, Nanos, SECONDS},
    store::StoreKind,
};

#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub members: usize,
    pub settings: Settings,
    pub ttl: Nanos,
    pub loop_wait: Nanos,
    /// Without one the agent alone fences, and faults of the agent itself are left out: nobody could survive them.
    pub guardian: bool,
    /// Of one message, at least; twice that at most.
    pub latency: Nanos,
    pub write_interval: Nanos,
    /// `wal_sender_timeout` and `wal_receiver_timeout`.
    pub wal_timeout: Nanos,
    /// How long faults go on, once the cluster was founded.
    pub fault_phase: Nanos,
    pub faults: Vec<Planned>,
    /// What goes wrong while the cluster is founded.
    pub founding: Option<Disturbance>,
    /// Whoever founds the cluster restores the same backup: all have one identifier, and WAL of their own from there on.
    pub same_backup: bool,
    /// How late everything is now and then; in calm worlds alone.
    pub jitter: Option<Jitter>,
    /// Whose rules leases and reads follow.
    pub store: StoreKind,
    pub watchdog: WatchdogMode,
    /// The member that is a Patroni.
    pub patroni: Option<HostId>,
    /// There is a `pre_promote` hook.
    pub pre_promote: bool,
    /// It takes so long.
    pub hook_lasts: Nanos,
    /// Agents look for gray failures, and try commits.
    pub gray: bool,
    /// Whoever founds the cluster restores a backup, and replays what is in the archive.
    pub restores: bool,
    /// A member without data that finds nobody to copy takes a backup.
    pub has_backup: bool,
    /// `wal_log_hints` or checksums: pg_rewind can work.
    pub rewindable: bool,
    /// Who is not there when the cluster is founded.
    pub late: Option<HostId>,
    /// The store is where the members are, in two sites and with a witness: see [`crate::sites`].
    pub sites: bool,
}

impl Scenario {
    /// The scenario of a seed. A bug narrows the choice to where it can show; all the rest is as for no bug.
    pub fn draw(seed: u64, bug: Bug) -> Self {
        let mut random = Random::new(seed ^ 0xBE11_0E74_E500_0000);
        let members = usize::try_from(*random.pick(&[2, 3, 3, 3, 3, 4, 5])).expect("a small number");
        let members = members.max(bug.fewest_members());
        // From a source of their own: worlds without changes stay as they were before there were any.
        let mut changes = Random::new(seed ^ 0xC4A6_6E50_0000_0006);
        let members = if bug == Bug::None && changes.percent(8) { 6 + changes.index(2) } else { members };
        let ttl_seconds = *random.pick(&[5, 5, 5, 8, 10, 15, 20, 30]);
        let ttl_seconds = bug.ttl_seconds().unwrap_or(ttl_seconds);
        let mode = random.between(0, 6);
        let guardian = random.percent(80);
        let settings = Self::settings(&mut random, mode, ttl_seconds, bug);
        let mut scenario = Self {
            seed,
            members,
            ttl: ttl_seconds * SECONDS,
            loop_wait: u64::try_from(settings.loop_wait.as_nanos()).expect("seconds"),
            settings,
            guardian: bug.guardian().unwrap_or(guardian),
            latency: random.between(100, 1_500) * MICROS,
            write_interval: random.between(200, 1_500) * MILLIS,
            wal_timeout: random.between(1_000, 8_000) * MILLIS,
            fault_phase: random.between(40, 200) * SECONDS,
            faults: Vec::new(),
            founding: None,
            same_backup: false,
            watchdog: WatchdogMode::Off,
            patroni: None,
            pre_promote: false,
            hook_lasts: 0,
            gray: false,
            restores: false,
            has_backup: false,
            rewindable: true,
            jitter: None,
            store: StoreKind::Embedded,
            late: None,
            sites: false,
        };
        scenario.faults = faults::plan(&scenario, bug, &mut random.fork(1));
        scenario.founding = Self::founding(&scenario, bug, &mut random.fork(2));
        scenario.same_backup = random.fork(3).percent(50);
        let takeover = random.fork(4).percent(75);
        scenario.settings.quorum_takeover =
            scenario.settings.synchronous_mode == SyncMode::Quorum && (takeover || bug.is_of_take_over());
        if bug == Bug::None {
            scenario.draw_sites(&mut random.fork(5));
        }
        scenario.store = bug.store().unwrap_or_else(|| StoreKind::draw(&scenario, &mut changes.fork(1)));
        if bug == Bug::None {
            scenario.draw_equipment(&mut changes.fork(2));
            scenario.draw_operations(&mut changes.fork(3));
        }
        if bug == Bug::None || bug.is_of_changes() {
            scenario.draw_changes(bug, &mut changes);
        }
        scenario.draw_patroni(bug, &mut changes.fork(4));
        if bug == Bug::None {
            scenario.draw_troubles(&mut changes.fork(5));
        }
        scenario.draw_remote(bug, &mut changes.fork(6));
        if bug == Bug::None {
            scenario.draw_wipes(&mut changes.fork(7));
        }
        scenario
    }

    /// Most clusters are founded without trouble, and who is left without a guardian has trouble enough.
    fn founding(scenario: &Self, bug: Bug, random: &mut Random) -> Option<Disturbance> {
        let is_drawn = scenario.guardian && random.percent(20);
        (is_drawn || bug.forgets_bootstraps()).then(|| Disturbance::draw(random))
    }

    fn settings(random: &mut Random, mode: u64, ttl_seconds: u64, bug: Bug) -> Settings {
        let loop_wait = (ttl_seconds / 5).max(1);
        let retry_timeout = ((ttl_seconds - loop_wait) / 2).max(1);
        let (sync, strict) = bug.sync_mode().unwrap_or(match mode {
            0 | 1 => (SyncMode::Off, false),
            2 => (SyncMode::On, false),
            3 => (SyncMode::On, true),
            4 => (SyncMode::Quorum, false),
            _ => (SyncMode::Quorum, true),
        });
        Settings {
            ttl: Duration::from_secs(ttl_seconds),
            loop_wait: Duration::from_secs(loop_wait),
            retry_timeout: Duration::from_secs(retry_timeout),
            synchronous_mode: sync,
            synchronous_mode_strict: strict,
            synchronous_node_count: u32::try_from(random.between(1, 3)).expect("one or two"),
            failsafe_mode: {
                let on = random.percent(50);
                bug.failsafe().unwrap_or(on)
            },
            primary_start_timeout: Duration::from_secs(*random.pick(&[0, 10, 30, 300])),
            maximum_lag_on_failover: *random.pick(&[100_000, 1_048_576]),
            use_pg_rewind: true,
            remove_data_directory_on_rewind_failure: true,
            remove_data_directory_on_diverged_timelines: random.percent(50),
            use_slots: true,
            check_timeline: random.percent(50),
            // Commits are not tried here: nothing in these worlds would answer.
            commit_probe: false,
            gray_failure_timeout: (bug != Bug::None).then_some(Duration::ZERO),
            ..Settings::default()
        }
    }

    pub fn is_synchronous(&self) -> bool {
        self.settings.sync_mode() != SyncMode::Off
    }

    /// How long the cluster may take to heal once faults have stopped: the lease runs out, a member recovers, wins, promotes, and
    /// the others compare histories, rewind or copy, start and stream.
    pub fn healing_budget(&self) -> Nanos {
        3 * self.ttl + 90 * SECONDS
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let Settings {
            synchronous_mode, synchronous_mode_strict, synchronous_node_count, failsafe_mode, ..
        } = &self.settings;
        format!(
            "seed {}: {} members{}{}, store {:?}, ttl {} s, loop_wait {} s, sync {:?} strict {} count {}, take-over {}, failsafe {}, \
             guardian {}, check_timeline {}, {} faults",
            self.seed,
            self.members,
            if self.sites { " in two sites" } else { "" },
            if self.patroni.is_some() { ", one of them Patroni" } else { "" },
            self.store,
            self.ttl / SECONDS,
            self.loop_wait / SECONDS,
            synchronous_mode,
            synchronous_mode_strict,
            synchronous_node_count,
            self.settings.quorum_takeover,
            failsafe_mode,
            self.guardian,
            self.settings.check_timeline,
            self.faults.len(),
        )
    }
}
