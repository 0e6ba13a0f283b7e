//! What the core can say and decide is reached by the simulator, or stands here with the reason why it is not.

use bellwether_ha::Reason;
use bellwether_sim::Coverage;

/// Why, and the codes of reasons.
const NOT_REACHED: &[(&str, &[&str])] = &[
    (
        "the model has no such fault: files and their identities are never tampered with",
        &[
            "data_dir_unreadable",
            "released_data_dir_unreadable",
            "released_data_dir_empty",
            "stopping_without_data_dir",
            "system_id_invalid",
            "system_id_mismatch",
            "system_id_mismatch_released",
            "forgetting_other_past",
        ],
    ),
    (
        "keys of the store are never removed by hand",
        &[
            "no_initialize_key",
            "replica_without_initialize",
            "writing_initialize",
            "sync_changed_by_somebody",
        ],
    ),
    (
        "the other cluster of a standby cluster never answers",
        &[
            "bootstrap_standby_leader",
            "waiting_for_standby_leader",
            "diverged_from_remote",
            "clone_without_leader",
        ],
    ),
    (
        "PostgreSQL of the model is well behaved: it answers IDENTIFY_SYSTEM, replays at once, and is promoted within a second",
        &[
            "timeline_unknown",
            "timeline_not_believed",
            "member_replays_own_wal",
            "takeover_not_replayed",
            "promotion_timed_out",
            "crash_recovery_timed_out",
            "bootstrap_in_recovery",
            "shutdown_stop_failed",
        ],
    ),
    (
        "slots are named and configured as they should be",
        &[
            "logical_slot_mismatch",
            "logical_slot_held_back",
            "logical_slots_have_no_room",
            "slot_name_shared",
            "slot_name_taken",
            "feedback_is_off",
        ],
    ),
    ("agents remember no failed bootstrap of a former process", &["bootstrap_has_failed_before"]),
    ("guardians can always be started anew", &["guardian_stays_dead"]),
    (
        "operators ask for what the command line lets through",
        &["request_already_leader", "request_needs_candidate", "failover_demoting"],
    ),
    ("calm worlds alone try commits", &["standby_left_out"]),
    ("members may remove their data after a rewind that failed", &["setting_rewind_aside"]),
    ("every server lets its agent in", &["login_refused"]),
    (
        "one of the worlds of this test in thousands, or none",
        &[
            "leader_starting",
            "not_healthiest_demoting",
            "not_allowed_demoting",
            "replaced_by_takeover",
            "lost_lock_during",
            "lost_before_promote",
            "failsafe_refused",
            "initialize_lost",
            "reinitializing_failed_rewind",
            "diverged_beyond_rewind",
            "diverged_without_remedy",
            "start_lost_lock",
            "waiting_to_become_primary",
            "paused_renewal_failed",
            "bootstrap_overtaken",
            "former_leader_priority",
            "member_lagging",
            "peer_priority",
            "postgres_starting",
            "released_after_failed_start",
            "watchdog_unusable_replica",
            "member_no_watchdog",
            "no_heir_starting_again",
            "paused_released_not_running",
            "start_timeout_stopped",
        ],
    ),
];

const ACTIONS_NOT_REACHED: &[(&str, &str)] = &[
    ("BootstrapStandby", "the other cluster of a standby cluster never answers"),
    ("ProbeCommit", "calm worlds alone try commits"),
    ("CancelJob", "rare"),
    ("WipeDataDirectory", "rare"),
];

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
