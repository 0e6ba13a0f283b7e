//! 6.H: logical slots on standbys.

mod copies;
mod restarts;
mod safety;

use std::{collections::BTreeSet, time::Duration};

use bellwether_types::{
    Lsn, PostgresState,
    settings::SyncMode,
    slots::{LogicalSlot, PermanentSlot, SlotKind},
};
use serde_json::json;

use crate::{
    Action, Decision,
    action::{DropWhy, LogicalAdvance},
    testing::{NOW, POSITION, Scene, leader, name, replica},
    view::{FailsafeAcceptance, JobKind, JobOutcome, LeaderSlot, LeaderSlots, Slot},
};

fn logical() -> LogicalSlot {
    LogicalSlot { database: "shop".to_owned(), plugin: "pgoutput".to_owned(), failover: false }
}

/// The configuration has the permanent logical slot `feed`.
fn with_feed(scene: Scene) -> Scene {
    scene
        .settings(|settings| {
            let slot = PermanentSlot { kind: SlotKind::Logical(logical()), cluster_type: None };
            settings.slots = [("feed".to_owned(), slot)].into();
        })
        .view(|view| view.postgres.feedback_forced = true)
        .cluster(|cluster| {
            let slots = cluster.status.as_mut().unwrap().value.slots.as_mut().unwrap();
            slots.insert("feed".to_owned(), POSITION);
        })
}

fn copied(scene: Scene, change: impl FnOnce(&mut Slot)) -> Scene {
    scene.slot("feed", |slot| {
        slot.physical = false;
        slot.active = false;
        slot.database = Some("shop".to_owned());
        slot.plugin = Some("pgoutput".to_owned());
        slot.confirmed_flush_lsn = Some(POSITION);
        slot.catalog_xmin = Some(700);
        change(slot);
    })
}

/// The primary keeps `kept` for this standby, and the original slot is at `original`.
fn answered(scene: Scene, kept: Option<u32>, original: u32) -> Scene {
    scene.view(|view| {
        let feed = LeaderSlot {
            database: Some("shop".to_owned()),
            plugin: Some("pgoutput".to_owned()),
            catalog_xmin: Some(original),
            failover: false,
            has_state: true,
        };
        let mine = LeaderSlot { catalog_xmin: kept, ..LeaderSlot::default() };
        let slots = [("feed".to_owned(), feed), ("b".to_owned(), mine)].into();
        view.postgres.leader_slots = Some(LeaderSlots { asked_at: view.now, leader: name("a"), slots });
    })
}

fn original(scene: Scene, change: impl FnOnce(&mut LeaderSlot)) -> Scene {
    scene.view(|view| {
        let answer = view.postgres.leader_slots.as_mut().expect("an answer");
        change(answer.slots.get_mut("feed").expect("it tells of the slot"));
    })
}

fn copies(decision: &Decision) -> BTreeSet<String> {
    let copied = decision.actions.iter().find_map(|action| match action {
        Action::CopySlots { names, .. } => Some(names.clone()),
        _ => None,
    });
    copied.unwrap_or_default()
}

fn asks(decision: &Decision) -> bool {
    decision.actions.iter().any(|action| matches!(action, Action::AskLeaderSlots { .. }))
}

fn feed() -> BTreeSet<String> {
    ["feed".to_owned()].into()
}
