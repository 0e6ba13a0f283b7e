//! What the core can say and decide is reached by the simulator, or stands here with the reason why it is not.

use bellwether_ha::Reason;
use bellwether_sim::Coverage;

/// Why, and the codes of reasons.
const NOT_REACHED: &[(&str, &[&str])] = &[
    (
        "members that share a slot never stream both, so a cluster of such is never whole and nothing begins",
        &["slot_name_shared"],
    ),
    ("a SIGKILL always ends a process of the model, so every stop succeeds", &["shutdown_stop_failed"]),
    (
        "peers and store of the model never tell of a timeline that is thousands away",
        &["timeline_not_believed"],
    ),
    (
        "no rule gives it: what it told of is refused by the revision of `/sync` and tried again",
        &["sync_changed_by_somebody"],
    ),
    (
        "a cluster that has led is never made the follower of one that answers: what it has would be given up",
        &["diverged_from_remote", "forgetting_other_past"],
    ),
    ("members come back empty only where the store keeps its keys", &["members_have_data"]),
    ("every server lets its agent in", &["login_refused"]),
    ("slots of the model are usable as soon as they are copied", &["logical_slot_held_back"]),
    (
        "seen in one of many thousand worlds, or not yet: two or three things must meet within milliseconds",
        &[
            "bootstrap_overtaken",
            "crash_recovery_timed_out",
            "diverged_beyond_rewind",
            "diverged_without_remedy",
            "former_leader_priority",
            "keys_refused_by",
            "leader_starting",
            "lost_lock_during",
            "not_allowed_demoting",
            "not_healthiest_demoting",
            "paused_renewal_failed",
            "postgres_starting",
            "replaced_by_takeover",
            "setting_rewind_aside",
            "request_needs_candidate",
            "start_lost_lock",
            "store_wiped_demoting",
            "system_id_mismatch_released",
            "takeover_not_replayed",
            "waiting_to_become_primary",
            "watchdog_unusable_replica",
        ],
    ),
];

const ACTIONS_NOT_REACHED: &[(&str, &str)] = &[];

/// After a long run.
#[track_caller]
pub(crate) fn assert_reached(coverage: &Coverage) {
    let excused: Vec<&str> = NOT_REACHED.iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
    let missing: Vec<&str> =
        coverage.unreached_reasons().into_iter().filter(|code| !excused.contains(code)).collect();
    assert!(missing.is_empty(), "no world of this test reaches {missing:?}: reach them, or say why not");
    let excused: Vec<&str> = ACTIONS_NOT_REACHED.iter().map(|(name, _)| *name).collect();
    let missing: Vec<&str> =
        coverage.unreached_actions().into_iter().filter(|name| !excused.contains(name)).collect();
    assert!(missing.is_empty(), "no world of this test decides on {missing:?}: reach them, or say why not");
}

#[test]
fn what_is_excused_exists() {
    let excused = NOT_REACHED.iter().flat_map(|(_, codes)| codes.iter().copied());
    let unknown: Vec<&str> = excused.filter(|code| !Reason::CODES.contains(code)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
