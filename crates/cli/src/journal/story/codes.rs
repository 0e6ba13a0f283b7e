//! What the codes of decisions mean to a story.

/// Codes of decisions that tell nothing new.
pub(super) const ROUTINE: [&str; 8] = [
    "leader_with_the_lock",
    "standby_leader_with_the_lock",
    "secondary_following",
    "nothing_to_follow",
    "in_progress",
    "updated_lock_during",
    "polling_peers",
    "leader_starting",
];

/// Codes that say why a member did not become the leader, whoever noted them.
pub(super) const PASSED_OVER: &[&str] = &[
    "lost_race",
    "not_healthiest",
    "not_allowed_to_promote",
    "lag_too_high",
    "timeline_unknown",
    "timeline_behind",
    "primary_alive",
    "peer_ahead",
    "former_leader_priority",
    "peer_priority",
    "quorum_unreachable",
    "not_in_failsafe",
    "not_synchronous",
    "watchdog_not_usable",
    "watchdog_unusable_replica",
    "pre_promote_backoff",
    "pre_promote_failed",
    "sync_names_not_in_force",
    "sync_names_stuck",
    "released_shortly_ago",
    "postgres_starting",
    "race_backoff",
    "leader_alive_by_failsafe",
    "leaving_it_to_candidate",
    "stepped_down",
    "no_initialize_key",
    "system_id_mismatch",
    "system_id_invalid",
    "sync_changed_by_somebody",
    "arming_guardian",
    "guardian_stays_dead",
    "waiting_for_leader",
    "store_unreachable",
];

/// Codes in the winner's journal that tell about another member.
pub(super) const ABOUT_OTHERS: [&str; 5] = [
    "member_unreachable",
    "member_not_promotable",
    "member_no_watchdog",
    "member_lagging",
    "member_timeline_behind",
];

/// Codes with which a leader gives up.
pub(super) const GAVE_UP: [&str; 13] = [
    "switchover_demoting",
    "failover_demoting",
    "lost_leader_lock",
    "renewal_rejected",
    "lease_running_out",
    "handed_over",
    "released_after_stop",
    "failing_over_after_crash",
    "released_after_failed_start",
    "watchdog_unusable_primary",
    "guardian_stays_dead",
    "start_timeout_stopped",
    "trouble_handing_over",
];
