//! Why a decision was taken: one variant per rule, with a stable code for machines and a sentence for people.
//!
//! Sentences that Patroni's users grep for are literally Patroni's.

use bellwether_types::{Lsn, MemberName, SystemId, TimelineId};
use serde::{Deserialize, Serialize};

/// One line per rule: the variant with its facts, its code, its sentence.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $({ $($field:ident : $type:ty),+ })? = $code:literal, $sentence:literal;)+) => {
        /// A rule that fired.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $name $({ $($field: $type),+ })?),+ }

        impl Reason {
            /// Every code, in the order of the variants: for the reference page and for metrics.
            pub const CODES: &'static [&'static str] = &[$($code),+];

            /// Every code with its sentence, in which `{fact}` stands for a fact of the situation: for the reference page.
            pub const SENTENCES: &'static [(&'static str, &'static str)] = &[$(($code, $sentence)),+];

            /// Stable and snake_case: for the API, metrics and tests.
            pub fn code(&self) -> &'static str {
                match self { $(Self::$name $({ $($field: _),+ })? => $code),+ }
            }

            /// For people.
            #[allow(unused_variables, clippy::useless_format, reason = "not every sentence tells every fact")]
            pub fn sentence(&self) -> String {
                match self { $(Self::$name $({ $($field),+ })? => format!($sentence)),+ }
            }
        }
    };
}

reasons! {
    // --- leading ---
    LeaderWithTheLock { me: MemberName } = "leader_with_the_lock", "no action. I am ({me}), the leader with the lock";
    PromotedByAcquiringLock = "promoted_by_acquiring_lock", "promoted self to leader by acquiring session lock";
    PromotedHavingLock = "promoted_having_lock", "promoted self to leader because I had the session lock";
    AcquiredAsLeader = "acquired_as_leader", "acquired session lock as a leader";
    ArmingGuardian = "arming_guardian", "waiting for the guardian to acknowledge the lease deadline";
    RespawningGuardian = "respawning_guardian", "the guardian is dead, starting a new one";
    GuardianStaysDead = "guardian_stays_dead", "demoting self because no guardian could be started and armed";
    ActivatingWatchdog = "activating_watchdog", "activating the watchdog before leading";
    WatchdogDemote = "watchdog_unusable_primary", "Demoting self because watchdog could not be activated";
    WatchdogNoPromotion = "watchdog_unusable_replica", "Not promoting self because watchdog could not be activated";
    PrePromoteFailed = "pre_promote_failed", "Promotion cancelled because the pre-promote script failed";
    SyncChangedBySomebody = "sync_changed_by_somebody", "Postponing promotion because synchronous replication state was updated by somebody else";
    PostgresSilent = "postgres_silent", "Error communicating with PostgreSQL. Will try again later";
    ResumingLock = "resuming_lock", "the leader key bears my name, but this process does not hold it; resuming it";
    NotPromotingWithoutRenewal = "not_promoting_without_renewal", "not promoting because failed to update leader lock in DCS";
    PromotionUnderWay = "promotion_under_way", "waiting until PostgreSQL has left recovery";
    PromotionTimedOut = "promotion_timed_out", "stopped PostgreSQL because it has not left recovery within primary_start_timeout, to fail over";
    LeaderNotDoneStarting = "leader_starting", "waiting for PostgreSQL to start";

    // --- following ---
    SecondaryFollowing { me: MemberName, leader: MemberName } = "secondary_following", "no action. I am ({me}), a secondary, and following a leader ({leader})";
    NothingToFollow { me: MemberName } = "nothing_to_follow", "no action. I am ({me})";
    FollowingNewUpstream { upstream: MemberName } = "following_new_upstream", "changing primary_conninfo to follow {upstream}";

    // --- replication slots ---
    CopyingLogicalSlots { names: String } = "copying_logical_slots", "Copying logical slots [{names}] from the primary";
    LogicalSlotReady { slot: String } = "logical_slot_ready", "Logical slot {slot} is safe to be used after a failover";
    LogicalSlotsNotReady { names: String } = "logical_slots_not_ready", "Logical replication slots that might be unsafe to use after promote: {names}";
    LogicalSlotMismatch { slot: String } = "logical_slot_mismatch", "Will not copy the logical slot \"{slot}\" due to the configuration mismatch: the one on the primary has another database or plugin";
    LogicalSlotHeldBack { slot: String } = "logical_slot_held_back", "The copy of logical slot '{slot}' cannot be used, and another one could not either: a long transaction on the primary holds the original where it was";
    LogicalSlotsTakeTurns { names: String } = "logical_slots_take_turns", "waiting for the turn to be restarted for copies of logical slots [{names}]: one standby after the other";
    LogicalSlotsHaveNoRoom { names: String } = "logical_slots_have_no_room", "logical slots {names} are not copied: this server must run with wal_level=logical and have room for them in max_replication_slots";
    FeedbackIsOff = "feedback_is_off", "Logical slot failover requires \"hot_standby_feedback\". Please check postgresql.auto.conf";
    SlotMissingOnPrimary { slot: String } = "slot_missing_on_primary", "Physical slot {slot} does not exist on the primary";
    SlotNameShared { slot: String, members: String } = "slot_name_shared", "Following cluster members share a replication slot name: {members} map to {slot}";
    SlotNameTaken { slot: String } = "slot_name_taken", "Permanent logical replication slot {slot} is conflicting with physical replication slot for cluster member";

    // --- the race ---
    PollingPeers = "polling_peers", "asking the other members before the leader race";
    LostRace = "lost_race", "following new leader after trying and failing to obtain lock";
    AcquiringLock = "acquiring_lock", "trying to acquire the leader lock";
    NotHealthiest = "not_healthiest", "following a different leader because i am not the healthiest node";
    NotAllowedToPromote = "not_allowed_to_promote", "following a different leader because I am not allowed to promote";
    NotHealthiestDemoting = "not_healthiest_demoting", "demoting self because i am not the healthiest node";
    NotAllowedDemoting = "not_allowed_demoting", "demoting self because I am not allowed to become primary";
    LagTooHigh { optime: Lsn, position: Lsn } = "lag_too_high", "My wal position exceeds maximum replication lag";
    TimelineUnknown = "timeline_unknown", "Can not figure out my timeline";
    TimelineBehind { mine: TimelineId, cluster: TimelineId } = "timeline_behind", "My timeline {mine} is behind last known cluster timeline {cluster}";
    PrimaryAlive { name: MemberName } = "primary_alive", "Primary ({name}) is still alive";
    PeerAhead { name: MemberName } = "peer_ahead", "Wal position of {name} is ahead of my wal position";
    FormerLeaderAhead = "former_leader_ahead", "Ignoring the former leader being ahead of us";
    FormerLeaderPriority { name: MemberName, theirs: i64, mine: i64 } = "former_leader_priority", "Ignoring former leader {name} having priority {theirs} higher than this nodes {mine} priority";
    PeerPriority { name: MemberName, theirs: i64, mine: i64 } = "peer_priority", "{name} has equally tolerable WAL position and priority {theirs}, while this node has priority {mine}";
    QuorumVote { name: MemberName } = "quorum_vote", "Got quorum vote from {name}";
    QuorumUnreachable { quorum: u32 } = "quorum_unreachable", "Quorum requirement {quorum} can not be reached; if the missing members do not come back, let one lead that may lack the last commits: bellwether failover --candidate";
    MemberUnreachable { name: MemberName } = "member_unreachable", "Member {name} is not reachable";
    MemberNotPromotable { name: MemberName } = "member_not_promotable", "Member {name} is not allowed to promote";
    MemberNoWatchdog { name: MemberName } = "member_no_watchdog", "Member {name} is not watchdog capable";
    /// Where it is now is not known, so it counts neither as a vote nor as not ahead.
    MemberReplaysOwnWal { name: MemberName } = "member_replays_own_wal", "Member {name} was restarted and replays WAL of its own: it cannot tell yet how much it has";
    MemberPositionOld { name: MemberName, ago_ms: u128 } = "member_position_old", "Member {name} tells only where it was {ago_ms} ms ago, before it was asked";
    MemberLagging { name: MemberName } = "member_lagging", "Member {name} exceeds maximum replication lag";
    TakingTimeline = "taking_timeline", "taking the number of the next timeline before the promotion";
    TimelineNotBelieved { timeline: TimelineId, mine: TimelineId } = "timeline_not_believed", "Ignoring timeline {timeline}, which is too far from {mine} to be one of this cluster";
    MemberTimelineBehind { name: MemberName, theirs: TimelineId, cluster: TimelineId } = "member_timeline_behind", "Timeline {theirs} of member {name} is behind the cluster timeline {cluster}";
    NotInFailsafe = "not_in_failsafe", "not healthy enough for leader race: not listed in /failsafe";
    NotSynchronous = "not_synchronous", "not healthy enough for leader race: not a synchronous standby";
    WatchdogNotUsable = "watchdog_not_usable", "Watchdog device is not usable";
    PrePromoteBackoff = "pre_promote_backoff", "not healthy enough for leader race: the pre-promote script failed a short time ago";
    ReleasedShortlyAgo = "released_shortly_ago", "not healthy enough for leader race: gave the lock up a short time ago";
    PostgresStarting = "postgres_starting", "not healthy enough for leader race: PostgreSQL is starting";
    RaceBackoff { me: MemberName, seconds: u64 } = "race_backoff", "My ({me}) wal position moved since last heart beat loop, {seconds} seconds until leader race";
    LeaderAliveByFailsafe { name: MemberName } = "leader_alive_by_failsafe", "not racing: leader {name} told us through failsafe that it lives";

    FormerLeaderMayBePaused { name: MemberName } = "former_leader_may_be_paused", "not racing: the former leader {name} was paused when it was last seen and does not answer, so it may still be writing; when it is known to be down, use: bellwether failover --candidate";

    // --- quorum take-over ---
    TakeoverOff { why: String } = "takeover_off", "quorum take-over is off, so the end of the lease is waited for: {why}";
    SuspectingLeader { leader: MemberName } = "suspecting_leader", "nothing has come from {leader}: asking it and the voters whether it lives";
    TakeoverLeaderAnswers { leader: MemberName } = "takeover_leader_answers", "nothing has come from {leader}, but its agent answers: it decides";
    TakeoverVeto { name: MemberName, leader: MemberName } = "takeover_veto", "no take-over: {name} still hears {leader}";
    TakeoverTooFew { quorum: u32 } = "takeover_too_few", "no take-over yet: more than {quorum} voters must have stopped listening";
    TakeoverFailedShortlyAgo = "takeover_failed_shortly_ago", "no take-over: an attempt was given up a short time ago";
    TakeoverLeavesRequest = "takeover_leaves_request", "no take-over: an operator has asked for a change of leader, which the race decides";
    OpeningEpoch { leader: MemberName, epoch: u64 } = "opening_epoch", "nobody hears {leader} any more: opening epoch {epoch} of take-over";
    Promising { leader: MemberName, epoch: u64 } = "promising", "detaching, and promising for epoch {epoch} to receive nothing from {leader}";
    TakeoverCannotPromise = "takeover_cannot_promise", "no promise: PostgreSQL does not say where this member is, or is busy";
    BoundByPromise { leader: MemberName, epoch: u64 } = "bound_by_promise", "promised to receive nothing from {leader}: waiting for the end of epoch {epoch}";
    TakeoverLeftTo { name: MemberName } = "takeover_left_to", "leaving the take-over to {name}, which has more or is preferred";
    TakeoverRollCall = "takeover_roll_call", "waiting a moment for the promises of all who do not hear the leader";
    TakeoverNotReplayed { timeline: TimelineId } = "takeover_not_replayed", "not taking over: this member does not have, or has not replayed, what it promised on timeline {timeline}";
    TakingOver { leader: MemberName, promised: usize } = "taking_over", "taking over from {leader}: {promised} voters have stopped listening to it, and none has more than I have";
    ClosingEpoch { epoch: u64, why: String } = "closing_epoch", "giving epoch {epoch} of take-over up: {why}";
    ReplacedByTakeover { by: MemberName } = "replaced_by_takeover", "not going on as the primary that I was: {by} took over from me";

    // --- losing the right to lead ---
    LostLeaderLock { held_by: MemberName } = "lost_leader_lock", "demoting self because I do not have the lock and I was a leader";
    RenewalRejected = "renewal_rejected", "demoted self because failed to update leader lock in DCS";
    LeaseRunningOut = "lease_running_out", "demoted self because DCS is not accessible and I was a leader";
    LostLockDuring { action: String } = "lost_lock_during", "lost leader lock during {action}";
    LostBeforePromote = "lost_before_promote", "lost leader before promote";
    Demoting { mode: String } = "demoting", "Demoting self ({mode})";
    HandedOver { to: MemberName } = "handed_over", "Leader key released: {to} has the shutdown checkpoint";
    WaitingForCheckpointAtPeer = "waiting_for_checkpoint_at_peer", "waiting until a candidate has received the shutdown checkpoint";
    ReleasedAfterStop = "released_after_stop", "Leader key released";

    NoHeirStartingAgain = "no_heir_starting_again", "nobody has received the shutdown checkpoint: keeping the leader key and starting PostgreSQL again as primary";
    CheckpointBeforeStepDown { action: String } = "checkpoint_before_step_down", "{action}: waiting for the checkpoint after the promotion";

    // --- trouble of a server that runs ---
    TroubleHandingOver { alarm: String, heir: MemberName } = "trouble_handing_over", "stepping down because of trouble here ({alarm}): {heir} is well and has everything";
    TroubleWithoutHeir { alarm: String } = "trouble_without_heir", "there is trouble here ({alarm}), and nobody who is better off could take over; `bellwether what-if` tells why each is passed over";
    StandingBack = "standing_back", "there is trouble here: leaving the leader race to others for a moment";
    StandbyLeftOut { name: String } = "standby_left_out", "{name} keeps commits waiting: it does not count as synchronous standby until it has caught up";

    // --- the store is silent ---
    ViewOlderThanOurLock = "view_older_than_our_lock", "What the store was last seen to hold is from before this member was given the lock: nobody is followed by it";
    StoreUnreachable = "store_unreachable", "DCS is not accessible";
    ContinueByFailsafe = "continue_by_failsafe", "continue to run as a leader because failsafe mode is enabled and all members are accessible";
    AskingFailsafe = "asking_failsafe", "the DCS does not answer: asking all members whether to go on as leader";

    // --- bootstrap ---
    BootstrapStarted = "bootstrap_started", "trying to bootstrap a new cluster";
    CloneFromLeader { name: MemberName } = "clone_from_leader", "trying to bootstrap from leader '{name}'";
    CloneFromReplica { name: MemberName } = "clone_from_replica", "trying to bootstrap from replica '{name}'";
    CloneWithoutLeader = "clone_without_leader", "trying to bootstrap (without leader)";
    WaitingForLeader = "waiting_for_leader", "waiting for leader to bootstrap";
    PostBootstrapRunning = "post_bootstrap", "running post_bootstrap";
    LoginRefused { why: String } = "login_refused", "PostgreSQL runs, but refuses the agent's own login: {why}";
    BootstrapInRecovery = "bootstrap_in_recovery", "waiting for end of recovery after bootstrap";
    Initialized = "initialized", "initialized a new cluster";
    BootstrapPublishing = "bootstrap_publishing", "writing the entries of the new cluster";
    BootstrapLeftover = "bootstrap_leftover", "an earlier agent did not finish the bootstrap of this data directory: setting it aside";
    BootstrapOvertaken = "bootstrap_overtaken", "somebody else has founded the cluster meanwhile: setting the own beginning aside";
    BootstrapHasFailedBefore { times: u32, minutes: u64 } = "bootstrap_has_failed_before", "the bootstrap has failed here {times} time(s): trying again in about {minutes} minute(s), or copying the cluster if somebody else founds it; to try at once, remove failed-bootstraps.json from DATA_DIR.bellwether and restart the agent";
    BootstrapFailed = "bootstrap_failed", "Failed to bootstrap cluster";

    // --- jobs ---
    InProgress { action: String } = "in_progress", "{action} in progress";
    UpdatedLockDuring { action: String } = "updated_lock_during", "updated leader lock during {action}";
    WaitingToRetry { action: String } = "waiting_to_retry", "{action} failed a short time ago, waiting before the next attempt";

    // --- recovery ---
    StartingPrimary = "starting_primary", "starting primary after failure";
    StartingSecondary = "starting_secondary", "starting as a secondary";
    StartingReadonly = "starting_readonly", "starting as readonly because i had the session lock";
    FailingOverAfterCrash = "failing_over_after_crash", "stopped PostgreSQL to fail over after a crash";
    CrashRecoveryRunning = "crash_recovery", "doing crash recovery in a single user mode";
    CrashRecoveryTimedOut = "crash_recovery_timed_out", "terminated crash recovery because of startup timeout";
    StartFailed = "start_failed", "failed to start postgres";
    ReleasedAfterFailedStart = "released_after_failed_start", "removed leader key after trying and failing to start postgres";
    CheckingDivergence { leader: MemberName } = "checking_divergence", "comparing histories with {leader}";
    RewindRunning { source: MemberName } = "rewind", "running pg_rewind from {source}";
    RewindWaitsForCheckpoint { source: MemberName } = "rewind_waits_for_checkpoint", "waiting for the checkpoint on {source} before running pg_rewind";
    ReinitializingDiverged = "reinitializing_diverged", "reinitializing due to diverged timelines";
    ReinitializingFailedRewind = "reinitializing_failed_rewind", "reinitializing because pg_rewind failed";
    SettingRewindAside = "setting_rewind_aside", "pg_rewind cannot make this data directory whole any more; it is renamed to `.failed` and kept, and the leader is copied";
    RewindInterrupted = "rewind_interrupted", "a rewind of this data directory was interrupted; it is not started before it is rewound or copied anew";
    DivergedBeyondRewind = "diverged_beyond_rewind", "this member and the leader wrote different timelines of the same number, which pg_rewind cannot undo; copy this member anew: bellwether reinit";
    DivergedFromRemote = "diverged_from_remote", "this member and the remote member of standby_cluster wrote different timelines of the same number, which pg_rewind cannot undo; see that standby_cluster names the right host, and copy this member anew: bellwether reinit";
    DivergedWithoutRemedy = "diverged_without_remedy", "timelines have diverged and neither pg_rewind nor removing the data directory is allowed; reinitialize this member";
    StillStarting { seconds: u64 } = "still_starting", "PostgreSQL is still starting up, {seconds} seconds until timeout";
    StartTimeoutStopped = "start_timeout_stopped", "stopped PostgreSQL because of startup timeout";
    StartLostLock = "start_lost_lock", "stopped PostgreSQL while starting up because leader key was lost";
    StartTimeoutNoFailover = "start_timeout_no_failover", "primary start has timed out, but continuing to wait because failover is not possible";

    // --- data directory and identity ---
    ReleasedDataDirEmpty = "released_data_dir_empty", "released leader key voluntarily as data dir empty and currently leader";
    ReleasedDataDirUnreadable = "released_data_dir_unreadable", "released leader key voluntarily as data dir not accessible and currently leader";
    DataDirUnreadable { error: String } = "data_dir_unreadable", "data directory is not accessible: {error}";
    StoppingWithoutDataDir = "stopping_without_data_dir", "stopping the PostgreSQL that lost its data directory";
    SystemIdInvalid = "system_id_invalid", "data dir for the cluster is not empty, but system ID is invalid; consider doing reinitialize";
    SystemIdMismatch { me: MemberName, mine: SystemId, theirs: SystemId } = "system_id_mismatch", "system ID mismatch, node {me} belongs to a different cluster: {theirs} != {mine}";
    NoInitializeKey = "no_initialize_key", "not healthy enough for leader race: the initialize key is missing and PostgreSQL runs as a replica";
    SystemIdMismatchReleased = "system_id_mismatch_released", "released leader key voluntarily due to the system ID mismatch";
    ReplicaWithoutInitialize = "replica_without_initialize", "No initialize key in DCS and PostgreSQL is running as replica, aborting start";
    StoreWiped = "store_wiped", "the store has lost the keys of this cluster: going on as the leader while every member is asked whether anybody led since";
    RestoringKeys = "restoring_keys", "the store has lost the keys of this cluster: taking the leader lock and writing them anew";
    StoreWipedDemoting = "store_wiped_demoting", "demoting self because the store has lost the keys of this cluster and somebody else may have led since";
    KeysWaitFor { name: MemberName, why: String } = "keys_wait_for", "not writing the lost keys anew: {name} {why}; if that stays so, name the member to lead: bellwether failover --candidate";
    KeysRefusedBy { name: MemberName, why: String } = "keys_refused_by", "not writing the lost keys anew: {name} {why}; see which member has what was written last, and name it: bellwether failover --candidate";
    MembersHaveData { name: MemberName } = "members_have_data", "not founding a cluster: the store knows of none, but {name} has the data of one; it is waited for";
    WritingInitialize = "writing_initialize", "writing the system identifier to the initialize key";

    // --- requests of operators ---
    SwitchoverDemoting = "switchover_demoting", "switchover: demoting myself";
    FailoverDemoting = "failover_demoting", "manual failover: demoting myself";
    RequestLeaderMismatch { action: String, named: MemberName, actual: MemberName } = "request_leader_mismatch", "{action}: leader name does not match: {named} != {actual}";
    RequestAlreadyLeader { action: String } = "request_already_leader", "{action}: I am already the leader, no need to {action}";
    RequestNeedsCandidate { action: String } = "request_needs_candidate", "{action} is possible only to a specific candidate in a paused state";
    RequestNoHealthyMembers { action: String } = "request_no_healthy_members", "{action}: no healthy members found, {action} is not possible";
    RequestNoCandidates { action: String } = "request_no_candidates", "{action}: candidates list is empty";
    RequestNotInSync { action: String, candidate: MemberName } = "request_not_in_sync", "{action} candidate={candidate} does not match with sync_standbys";
    AwaitingScheduled { action: String, at: String, seconds: i64 } = "awaiting_scheduled", "Awaiting {action} at {at} (in {seconds} seconds)";
    StaleScheduled { action: String, at: String } = "stale_scheduled", "Found a stale {action} value, cleaning up: {at}";
    ScheduledNow { action: String, at: String } = "scheduled_now", "Manual scheduled {action} at {at}";
    LeavingItToCandidate { candidate: MemberName } = "leaving_it_to_candidate", "not healthy enough for leader race: {candidate} was asked to lead";
    SteppedDown = "stepped_down", "not healthy enough for leader race: I was asked to step down and others can lead";
    CleaningFailoverKey = "cleaning_failover_key", "Cleaning up failover key";
    CleaningFailoverKeyAfterLock = "cleaning_failover_key_after_lock", "Cleaning up failover key after acquiring leader lock...";
    WaitingToBecomePrimary = "waiting_to_become_primary", "waiting to become primary after promote...";
    RestartInitiated = "restart_initiated", "restart initiated";
    RestartConditionsNotMet { why: String } = "restart_conditions_not_met", "not proceeding with the restart: {why}";
    ScheduledRestartVoid { at: String } = "scheduled_restart_void", "Cancelling scheduled restart: postgres restart has already happened at {at}";
    ReinitializeStarted { from: MemberName } = "reinitialize_started", "reinitialize from {from}";
    ReinitializeRefused { why: String } = "reinitialize_refused", "{why}";
    RequestBusy { action: String, running: String } = "request_busy", "Failed to run {action}, {running} is already in progress";
    ReleasingSyncDuty = "releasing_sync_duty", "Waiting for primary to release us from synchronous standby";

    // --- synchronous replication ---
    SyncEnabled = "sync_enabled", "Enabled synchronous replication";
    SyncDisabled = "sync_disabled", "Disabled synchronous replication";
    SyncNamesAssigned { names: String } = "sync_names_assigned", "Assigning synchronous_standby_names to {names}";
    SyncStatusAssigned { standbys: String } = "sync_status_assigned", "Synchronous standby status assigned to [{standbys}]";
    SyncShrunk { from: String, to: String } = "sync_shrunk", "Updating /sync key temporarily from [{from}] to [{to}]";
    QuorumChanged { leader: String, quorum: usize, of: usize, voters: String } = "quorum_changed", "Setting leader to {leader}, quorum to {quorum} of {of} ({voters})";
    SyncStrictDelays { keeping: String } = "sync_strict_delays", "No active replication connections from Patroni members and synchronous_mode_strict is requested. {keeping}Commits will be delayed.";
    SyncNotYetProven { names: String } = "sync_not_yet_proven", "waiting until every walsender acts by synchronous_standby_names = '{names}' and standbys have caught up";
    SyncNamesNotInForce { names: String } = "sync_names_not_in_force", "waiting until PostgreSQL's checkpointer has read synchronous_standby_names = '{names}': until then commits do not wait";
    SyncNamesStuck = "sync_names_stuck", "Not promoting self: PostgreSQL's checkpointer does not read its configuration, so commits would not wait for standbys";
    PreparingSync = "preparing_sync", "preparing synchronous replication before the promotion";

    // --- pause ---
    PausedPrimaryWithoutLock = "paused_primary_without_lock", "continue to run as primary without lock";
    PausedNotRunning = "paused_not_running", "postgres is not running";
    PausedEmptyDataDir = "paused_empty_data_dir", "running with empty data directory";
    PausedReleasedNotRunning = "paused_released_not_running", "removed leader lock because postgres is not running";
    PausedReleasedNotPrimary = "paused_released_not_primary", "removed leader lock because postgres is not running as primary";
    PausedRenewalFailed = "paused_renewal_failed", "continue to run as primary after failing to update leader lock in DCS";
    Paused = "paused", "the cluster is paused: no automatic action";

    // --- standby cluster ---
    StandbyLeaderWithTheLock { me: MemberName } = "standby_leader_with_the_lock", "no action. I am ({me}), the standby leader with the lock";
    StandbyLeaderByAcquiringLock = "standby_leader_by_acquiring_lock", "promoted self to a standby leader by acquiring session lock";
    StandbyLeaderHavingLock = "standby_leader_having_lock", "promoted self to a standby leader because i had the session lock";
    SecondaryOfStandbyLeader { me: MemberName, leader: MemberName } = "secondary_of_standby_leader", "no action. I am ({me}), a secondary, and following a standby leader ({leader})";
    StartingStandbyLeader = "starting_standby_leader", "starting as a standby leader because i had the session lock";
    FollowingRemoteMember = "following_remote_member", "trying to follow a remote member because standby cluster is unhealthy";
    BootstrapStandbyLeader = "bootstrap_standby_leader", "trying to bootstrap a new standby leader";
    WaitingForStandbyLeader = "waiting_for_standby_leader", "waiting for standby_leader to bootstrap";
    PrimaryInStandbyCluster = "primary_in_standby_cluster", "cannot be a real primary in a standby cluster";

    LedWithoutElection { me: MemberName } = "led_without_election", "not promoting: this member came to lead while the cluster followed another one, and may lack what was acknowledged before; giving the lock up to those who have it. If none of them comes back, use: bellwether failover --candidate {me}";
    ForgettingOtherPast = "forgetting_other_past", "/history and /sync tell of another past than the one of the cluster that is followed here: replacing them";

    // --- shutdown ---
    ShuttingDown = "shutting_down", "stopping PostgreSQL because the agent was told to stop";
    ShutdownPaused = "shutdown_paused", "Leader key is not deleted and Postgresql is not stopped due paused state";
    ShutdownStopFailed = "shutdown_stop_failed", "PostgreSQL shutdown failed, leader key not removed.";
    ShutdownDone = "shutdown_done", "PostgreSQL is stopped, the agent ends";
}
