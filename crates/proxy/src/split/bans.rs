//! Replicas that have failed, and until when they are left alone.

use super::SplitSettings;
use bellwether_types::{MemberName, Timestamp};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct Bans {
    bans: BTreeMap<MemberName, Ban>,
}

#[derive(Clone, Copy, Debug)]
struct Ban {
    until: Timestamp,
    /// Failures in a row.
    failures: u32,
}

impl Bans {
    /// A replica could not be connected to, or was shut down.
    pub fn failed(&mut self, member: &MemberName, now: Timestamp, settings: &SplitSettings) {
        let ban = self.bans.entry(member.clone()).or_insert(Ban { until: now, failures: 0 });
        // What fails while it is banned was under way before.
        if ban.failures > 0 && now < ban.until {
            return;
        }
        let doubled = settings.ban_time.saturating_mul(1 << ban.failures.min(20));
        ban.until = now + doubled.min(settings.ban_time_most);
        ban.failures += 1;
    }

    /// It has answered: the next failure counts as the first.
    pub fn answered(&mut self, member: &MemberName) {
        self.bans.remove(member);
    }

    pub fn is_banned(&self, member: &MemberName, now: Timestamp) -> bool {
        self.bans.get(member).is_some_and(|ban| now < ban.until)
    }

    /// Who is banned, and until when.
    pub fn list(&self, now: Timestamp) -> impl Iterator<Item = (&MemberName, Timestamp)> {
        let banned = self.bans.iter().filter(move |(_, ban)| now < ban.until);
        banned.map(|(member, ban)| (member, ban.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_ban_doubles_with_each_failure_and_ends_with_an_answer() {
        let settings = SplitSettings::default();
        let member = MemberName::new("b").unwrap();
        let mut bans = Bans::default();
        let mut now = Timestamp::from_millis(1_000);
        for seconds in [5, 10, 20, 40, 60, 60] {
            bans.failed(&member, now, &settings);
            bans.failed(&member, now, &settings);
            let end = now + Duration::from_secs(seconds);
            assert!(bans.is_banned(&member, end.saturating_sub(Duration::from_millis(1))), "{seconds}");
            assert!(!bans.is_banned(&member, end), "{seconds}");
            now = end;
        }
        bans.answered(&member);
        bans.failed(&member, now, &settings);
        assert!(!bans.is_banned(&member, now + Duration::from_secs(5)));
        assert_eq!(bans.list(now).count(), 1);
    }
}
