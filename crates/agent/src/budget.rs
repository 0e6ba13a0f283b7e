//! Where the time of a failover went, as the member that took over saw it.

use bellwether_types::{MemberName, Timestamp};
use serde_json::{Value, json};

/// Takes the times of one failover and gives the budget when it is over.
#[derive(Debug, Default)]
pub(crate) struct FailoverClock {
    /// The last time that WAL was seen to stream from the leader before it was gone.
    last_sign: Option<Timestamp>,
    old_leader: Option<MemberName>,
    unlocked_at: Option<Timestamp>,
    acquired_at: Option<Timestamp>,
    promoting_since: Option<Timestamp>,
    server_lost_at: Option<Timestamp>,
    writable_at: Option<Timestamp>,
}

impl FailoverClock {
    /// Somebody leads, and this was its last sign.
    pub(crate) fn leader_seen(&mut self, leader: &MemberName, sign_at: Timestamp) {
        if self.acquired_at.is_none() {
            self.last_sign = Some(self.last_sign.map_or(sign_at, |last| last.max(sign_at)));
            self.old_leader = Some(leader.clone());
            self.unlocked_at = None;
        }
    }

    pub(crate) fn unlocked(&mut self, at: Timestamp) {
        self.unlocked_at.get_or_insert(at);
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
            let began = self.last_sign.or(self.unlocked_at).unwrap_or(acquired_at);
            json!({
                "event": "takeover",
                "old_leader": self.old_leader,
                "detect_ms": self.unlocked_at.map(|unlocked| unlocked.since(began).as_millis() as u64),
                "decide_ms": between(self.unlocked_at, acquired_at),
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

    #[test]
    fn a_takeover_is_split_into_its_steps() {
        let mut clock = FailoverClock::default();
        clock.leader_seen(&MemberName::new("a").unwrap(), ms(1_000));
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
