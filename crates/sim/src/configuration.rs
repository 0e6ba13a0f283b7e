//! `/config`: what operators change while everything else goes wrong, how agents read it, and what it makes of the promises.

use std::time::Duration;

use bellwether_types::{
    cluster::ConfigDocument,
    settings::{Settings, StandbyCluster, SyncMode},
    slots::SlotKind,
};
use serde_json::{Value, json};

use crate::{
    event::HostId,
    faults::Fault,
    random::Random,
    scenario::Scenario,
    schedule::SECONDS,
    store::{Operation, Write},
    world::World,
};

/// One change of `/config`, which is undone at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    SyncMode {
        mode: SyncMode,
        strict: bool,
    },
    NodeCount {
        count: u32,
    },
    Failsafe {
        on: bool,
    },
    Takeover {
        on: bool,
    },
    /// Of the permanent logical slot.
    Plugin,
    CheckTimeline {
        on: bool,
    },
    MaximumLag {
        bytes: u64,
    },
    StartTimeout {
        seconds: u64,
    },
}

impl Change {
    pub fn draw(scenario: &Scenario, random: &mut Random) -> Self {
        let settings = &scenario.settings;
        match random.between(0, 12) {
            0..=3 => {
                let modes = [SyncMode::Off, SyncMode::On, SyncMode::Quorum];
                let others: Vec<_> =
                    modes.into_iter().filter(|mode| *mode != settings.synchronous_mode).collect();
                Self::SyncMode { mode: *random.pick(&others), strict: random.percent(30) }
            }
            4 | 5 => Self::NodeCount { count: u32::try_from(random.between(1, 4)).expect("few") },
            6 | 7 => Self::Failsafe { on: !settings.failsafe_mode },
            8 if !settings.slots.is_empty() && random.percent(50) => Self::Plugin,
            8 => Self::Takeover { on: !settings.quorum_takeover },
            9 => Self::CheckTimeline { on: !settings.check_timeline },
            10 => Self::MaximumLag { bytes: *random.pick(&[20_000, 10_000_000]) },
            _ => Self::StartTimeout { seconds: *random.pick(&[0, 5, 300]) },
        }
    }

    /// The keys of `/config` that make `settings` so.
    fn keys(&self, settings: &Settings) -> Vec<(&'static str, Value)> {
        match self {
            Self::SyncMode { .. } => vec![
                ("synchronous_mode", mode_text(settings.synchronous_mode).into()),
                ("synchronous_mode_strict", settings.synchronous_mode_strict.into()),
            ],
            Self::NodeCount { .. } => {
                vec![("synchronous_node_count", settings.synchronous_node_count.into())]
            }
            Self::Failsafe { .. } => vec![("failsafe_mode", settings.failsafe_mode.into())],
            Self::Plugin => vec![("slots", json!({"plugin": plugin_of(settings)}))],
            Self::Takeover { .. } => vec![("quorum_takeover", settings.quorum_takeover.into())],
            Self::CheckTimeline { .. } => vec![("check_timeline", settings.check_timeline.into())],
            Self::MaximumLag { .. } => {
                vec![("maximum_lag_on_failover", settings.maximum_lag_on_failover.into())]
            }
            Self::StartTimeout { .. } => {
                vec![("primary_start_timeout", settings.primary_start_timeout.as_secs().into())]
            }
        }
    }

    fn apply(&self, settings: &mut Settings) {
        match *self {
            Self::SyncMode { mode, strict } => {
                (settings.synchronous_mode, settings.synchronous_mode_strict) = (mode, strict);
            }
            Self::NodeCount { count } => settings.synchronous_node_count = count,
            Self::Failsafe { on } => settings.failsafe_mode = on,
            Self::Plugin => set_plugin(settings, "pgoutput"),
            Self::Takeover { on } => settings.quorum_takeover = on,
            Self::CheckTimeline { on } => settings.check_timeline = on,
            Self::MaximumLag { bytes } => settings.maximum_lag_on_failover = bytes,
            Self::StartTimeout { seconds } => settings.primary_start_timeout = Duration::from_secs(seconds),
        }
    }
}

/// The plugin of the permanent logical slot.
fn plugin_of(settings: &Settings) -> Option<&str> {
    settings.slots.values().find_map(|slot| match &slot.kind {
        SlotKind::Logical(logical) => Some(logical.plugin.as_str()),
        SlotKind::Physical => None,
    })
}

fn set_plugin(settings: &mut Settings, plugin: &str) {
    for slot in settings.slots.values_mut() {
        if let SlotKind::Logical(logical) = &mut slot.kind {
            plugin.clone_into(&mut logical.plugin);
        }
    }
}

fn mode_text(mode: SyncMode) -> &'static str {
    match mode {
        SyncMode::Off => "off",
        SyncMode::On => "on",
        SyncMode::Quorum => "quorum",
    }
}

/// What a document makes of the settings that the cluster began with.
pub(crate) fn in_force(base: &Settings, document: &Value) -> Settings {
    let mut settings = base.clone();
    let flag = |key: &str| document[key].as_bool();
    let number = |key: &str| document[key].as_u64();
    settings.pause = document["pause"] == true;
    settings.ttl = number("ttl").map_or(settings.ttl, Duration::from_secs);
    settings.synchronous_mode = match document["synchronous_mode"].as_str() {
        Some("off") => SyncMode::Off,
        Some("on") => SyncMode::On,
        Some("quorum") => SyncMode::Quorum,
        _ => settings.synchronous_mode,
    };
    settings.synchronous_mode_strict =
        flag("synchronous_mode_strict").unwrap_or(settings.synchronous_mode_strict);
    let count = number("synchronous_node_count").and_then(|count| u32::try_from(count).ok());
    settings.synchronous_node_count = count.unwrap_or(settings.synchronous_node_count);
    settings.failsafe_mode = flag("failsafe_mode").unwrap_or(settings.failsafe_mode);
    settings.quorum_takeover = flag("quorum_takeover").unwrap_or(settings.quorum_takeover);
    settings.check_timeline = flag("check_timeline").unwrap_or(settings.check_timeline);
    settings.maximum_lag_on_failover =
        number("maximum_lag_on_failover").unwrap_or(settings.maximum_lag_on_failover);
    settings.primary_start_timeout =
        number("primary_start_timeout").map_or(settings.primary_start_timeout, Duration::from_secs);
    if let Some(plugin) = document["slots"]["plugin"].as_str() {
        set_plugin(&mut settings, plugin);
    }
    settings.standby_cluster = document["standby_cluster"]["host"]
        .as_str()
        .map(|host| StandbyCluster { host: Some(host.to_owned()), ..StandbyCluster::default() });
    settings
}

impl Scenario {
    /// A leader may go on without the store at some time.
    pub fn may_use_failsafe(&self) -> bool {
        let is_switched_on = |change: &Change| matches!(change, Change::Failsafe { on: true });
        self.settings.failsafe_mode || self.changes().any(is_switched_on)
    }

    fn changes(&self) -> impl Iterator<Item = &Change> {
        self.faults.iter().filter_map(|planned| match &planned.fault {
            Fault::Configure { change } => Some(change),
            _ => None,
        })
    }

    /// The largest lag that is allowed at some time.
    pub(crate) fn largest_lag(&self) -> u64 {
        let lags = self.changes().filter_map(|change| match change {
            Change::MaximumLag { bytes } => Some(*bytes),
            _ => None,
        });
        lags.max().unwrap_or(0).max(self.settings.maximum_lag_on_failover)
    }

    /// Whether members compare timelines all the time.
    pub(crate) fn always_checks_timeline(&self) -> bool {
        let is_changed = self.changes().any(|change| matches!(change, Change::CheckTimeline { .. }));
        self.settings.check_timeline && !is_changed
    }
}

impl World {
    pub(crate) fn change_configuration(&mut self, change: &Change) {
        let mut settings = self.in_force.clone();
        change.apply(&mut settings);
        self.write_configuration(change.keys(&settings));
    }

    /// As the cluster was founded.
    pub(crate) fn undo_configuration(&mut self, change: &Change) {
        self.write_configuration(change.keys(&self.scenario.settings));
    }

    pub(crate) fn set_config(&mut self, key: &'static str, to: Value) {
        self.write_configuration(vec![(key, to)]);
    }

    pub(crate) fn set_pause(&mut self, pause: bool) {
        self.set_config("pause", pause.into());
    }

    pub(crate) fn set_ttl_back(&mut self) {
        self.set_config("ttl", (self.scenario.ttl / SECONDS).into());
    }

    pub(crate) fn follow_another(&mut self) {
        self.set_config("standby_cluster", json!({"host": "elsewhere"}));
    }

    fn write_configuration(&mut self, keys: Vec<(&'static str, Value)>) {
        let cluster = self.store.cluster();
        let Some(ConfigDocument::Valid(value)) = cluster.config.as_ref().map(|keyed| &keyed.value) else {
            // There is nothing to change before somebody has written it anew.
            return self.checks.changes_to_come.extend(keys);
        };
        let mut value = value.clone();
        for (key, to) in keys {
            value[key] = to;
        }
        self.operate(vec![Write::Config(ConfigDocument::Valid(value))]);
    }

    /// The document that an agent writes anew: as it saw it last.
    pub(crate) fn document_of(&self, host: HostId) -> Value {
        let last = self.hosts[host].agent.mind.memory.last_healthy.as_ref();
        match last.and_then(|last| last.config.as_ref()).map(|config| &config.value) {
            Some(ConfigDocument::Valid(value)) => value.clone(),
            _ => json!({ "pause": false }),
        }
    }

    /// What an operator writes.
    pub(crate) fn operate(&mut self, writes: Vec<Write>) {
        let before = self.store.cluster().clone();
        self.store.carry_out(self.now, Operation::Commit { checks: Vec::new(), writes });
        self.store_changed(&before);
    }

    /// The store holds another `/config`.
    pub(crate) fn note_configuration(&mut self) {
        let config = self.store.cluster().config.as_ref();
        let Some(ConfigDocument::Valid(value)) = config.map(|keyed| &keyed.value) else { return };
        self.in_force = in_force(&self.scenario.settings, value);
        let changes = std::mem::take(&mut self.checks.changes_to_come);
        if !changes.is_empty() {
            return self.write_configuration(changes);
        }
        if self.in_force.synchronous_mode == SyncMode::Off {
            // Who switches it off gives up what it promised: from now on members race without `/sync`.
            self.gives_sync_up();
        }
    }
}
