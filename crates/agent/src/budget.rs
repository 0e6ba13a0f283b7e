//! Where the time of a failover went, as the member that took over saw it.

use bellwether_types::{MemberName, Timestamp};
use serde_json::{Value, json};

/// Takes the times of one failover and gives the budget when it is over.
#[derive(Debug, Default)]
pub(crate) struct FailoverClock {
    /// The last sign of the leader before it was gone.
    last_sign: Option<Timestamp>,
    old_leader: Option<MemberName>,
    /// The lock of a leader that is taken over stays until it is somebody else's: this is when the others began to do without it.
    suspected_at: Option<Timestamp>,
    unlocked_at: Option<Timestamp>,
    acquired_at: Option<Timestamp>,
    promoting_since: Option<Timestamp>,
    server_lost_at: Option<Timestamp>,
    writable_at: Option<Timestamp>,
}

impl FailoverClock {
    /// Somebody else leads; `sign_at`: when it was last heard, if that is known.
    pub(crate) fn led_by(&mut self, leader: &MemberName, sign_at: Option<Timestamp>) {
        self.forget_attempt();
        self.unlocked_at = None;
        self.old_leader = Some(leader.clone());
        self.last_sign = self.last_sign.max(sign_at);
        if self.suspected_at < sign_at {
            self.suspected_at = None;
        }
    }

    /// This member is sure that the leader is gone, though its lock is not.
    pub(crate) fn suspected(&mut self, at: Timestamp) {
        self.suspected_at.get_or_insert(at);
    }

    /// Nobody leads.
    pub(crate) fn unlocked(&mut self, at: Timestamp) {
        self.forget_attempt();
        self.unlocked_at.get_or_insert(at);
    }

    /// A lock that was taken before, and led to nothing.
    fn forget_attempt(&mut self) {
        (self.acquired_at, self.promoting_since) = (None, None);
    }

    pub(crate) fn acquired(&mut self, at: Timestamp) {
        self.acquired_at = Some(at);
    }

    pub(crate) fn promoting(&mut self, at: Timestamp) {
        self.promoting_since.get_or_insert(at);
    }

    /// PostgreSQL ended by itself: a restart in place is an outage too. Whatever was under way before is over.
    pub(crate) fn server_lost(&mut self, at: Timestamp) {
        *self = Self { server_lost_at: Some(at), ..Self::default() };
    }

    /// PostgreSQL has ended by itself and was not seen to write since.
    pub(crate) fn waits_for_server(&self) -> bool {
        self.server_lost_at.is_some()
    }

    pub(crate) fn writable(&mut self, at: Timestamp) {
        self.writable_at = Some(at);
    }

    /// The picture with the new primary is out: the budget, once.
    pub(crate) fn published(&mut self, at: Timestamp) -> Option<Value> {
        let writable_at = self.writable_at.take()?;
        let between =
            |from: Option<Timestamp>, to: Timestamp| from.map(|from| to.since(from).as_millis() as u64);
        let record = if let Some(acquired_at) = self.acquired_at {
            let lost_at = self.unlocked_at.or(self.suspected_at);
            let began = self.last_sign.or(lost_at).unwrap_or(acquired_at);
            json!({
                "event": "takeover",
                "old_leader": self.old_leader,
                "detect_ms": lost_at.map(|lost| lost.since(began).as_millis() as u64),
                "decide_ms": between(lost_at, acquired_at),
                "fence_ms": between(Some(acquired_at), self.promoting_since.unwrap_or(acquired_at)),
                "promote_ms": between(Some(self.promoting_since.unwrap_or(acquired_at)), writable_at),
                "route_ms": between(Some(writable_at), at),
                "total_ms": at.since(began).as_millis() as u64,
            })
        } else {
            let lost_at = self.server_lost_at?;
            json!({
                "event": "restart_in_place",
                "promote_ms": writable_at.since(lost_at).as_millis() as u64,
                "route_ms": at.since(writable_at).as_millis() as u64,
                "total_ms": at.since(lost_at).as_millis() as u64,
            })
        };
        *self = Self::default();
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn a() -> MemberName {
        MemberName::new("a").unwrap()
    }

    fn steps(budget: &Value) -> [Option<u64>; 5] {
        ["detect_ms", "decide_ms", "fence_ms", "promote_ms", "total_ms"].map(|step| budget[step].as_u64())
    }

    #[test]
    fn a_quorum_takeover_is_detected_by_silence_and_decided_by_the_lock() {
        let mut clock = FailoverClock::default();
        // An attempt that led to nothing: the leader was heard again.
        clock.led_by(&a(), Some(ms(100)));
        clock.suspected(ms(1_200));
        clock.led_by(&a(), Some(ms(5_000)));
        clock.suspected(ms(6_050));
        clock.suspected(ms(6_080));
        // The view of the store is behind for a moment; a connection that stands is no sign.
        clock.led_by(&a(), None);
        clock.acquired(ms(6_150));
        clock.promoting(ms(6_160));
        clock.writable(ms(6_250));
        let budget = clock.published(ms(6_255)).unwrap();
        assert_eq!(steps(&budget), [Some(1_050), Some(100), Some(10), Some(90), Some(1_255)]);
        assert_eq!(budget["old_leader"], "a");
    }

    #[test]
    fn a_time_without_leader_that_somebody_else_ended_is_not_part_of_the_next_one() {
        let mut clock = FailoverClock::default();
        clock.unlocked(ms(10));
        // Somebody else leads, and nothing streams from it yet.
        clock.led_by(&a(), None);
        // A lock that was taken and given up again.
        clock.unlocked(ms(20_000));
        clock.acquired(ms(20_010));
        clock.promoting(ms(20_020));
        clock.led_by(&a(), Some(ms(30_000)));
        clock.unlocked(ms(38_000));
        clock.acquired(ms(38_020));
        clock.writable(ms(38_100));
        let budget = clock.published(ms(38_100)).unwrap();
        assert_eq!(steps(&budget), [Some(8_000), Some(20), Some(0), Some(80), Some(8_100)]);
    }

    #[test]
    fn a_takeover_is_split_into_its_steps() {
        let mut clock = FailoverClock::default();
        clock.led_by(&a(), Some(ms(1_000)));
        clock.unlocked(ms(5_500));
        clock.unlocked(ms(5_510));
        clock.acquired(ms(5_530));
        clock.promoting(ms(5_540));
        clock.writable(ms(5_600));
        let budget = clock.published(ms(5_605)).unwrap();
        assert_eq!(budget["detect_ms"], 4_500);
        assert_eq!(budget["decide_ms"], 30);
        assert_eq!(budget["fence_ms"], 10);
        assert_eq!(budget["promote_ms"], 60);
        assert_eq!(budget["route_ms"], 5);
        assert_eq!(budget["total_ms"], 4_605);
        assert_eq!(clock.published(ms(6_000)), None, "told once");
    }

    #[test]
    fn a_restart_in_place_is_an_outage_too() {
        let mut clock = FailoverClock::default();
        // The lock was taken at the bootstrap, which was no failover.
        clock.unlocked(ms(10));
        clock.acquired(ms(20));
        clock.server_lost(ms(100));
        clock.writable(ms(700));
        assert_eq!(clock.published(ms(710)).unwrap()["total_ms"], 610);
    }
}
