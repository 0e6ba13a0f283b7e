//! Which answers count: those of the cluster that we know, from members that are not behind.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bellwether_dcs::store;
use bellwether_types::Timestamp;

use crate::proto::ResponseHeader;

/// Another cluster in the place of ours (restored from a backup, say) is believed only after ours was silent for so long.
/// Until then an answer of it is a mistake in somebody's list of endpoints.
const ADOPT_AFTER: Duration = Duration::from_secs(10);

/// Remembers the cluster and the highest raft term that answered.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    known: Mutex<Option<Known>>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    cluster: u64,
    term: u64,
    heard_at: Timestamp,
}

impl Guard {
    /// Takes an answer in, or says why it does not count.
    pub(crate) fn admit(&self, header: Option<&ResponseHeader>) -> Result<(), String> {
        self.admit_at(header, store::now())
    }

    fn admit_at(&self, header: Option<&ResponseHeader>, now: Timestamp) -> Result<(), String> {
        let Some(header) = header else { return Err("an answer without a header".to_owned()) };
        let mut known = self.lock();
        let present = Known { cluster: header.cluster_id, term: header.raft_term, heard_at: now };
        match &mut *known {
            Some(known) if known.cluster == present.cluster && present.term < known.term => Err(format!(
                "member {:x} lags behind: it is at raft term {}, others at {}",
                header.member_id, present.term, known.term
            )),
            Some(known) if known.cluster != present.cluster && now.since(known.heard_at) < ADOPT_AFTER => {
                Err(format!(
                    "member {:x} belongs to the etcd cluster {:x}, ours is {:x}",
                    header.member_id, present.cluster, known.cluster
                ))
            }
            Some(known) if known.cluster != present.cluster => {
                let (gone, here) = (format!("{:x}", known.cluster), format!("{:x}", present.cluster));
                tracing::warn!(gone, here, "another etcd cluster answers in the place of the one we knew");
                *known = present;
                Ok(())
            }
            _ => {
                *known = Some(present);
                Ok(())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_lag_and_foreign_clusters_do_not_count() {
        let guard = Guard::default();
        let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let ask = |cluster_id, raft_term, seconds| {
            let header = ResponseHeader { cluster_id, member_id: 1, revision: 1, raft_term };
            guard.admit_at(Some(&header), at(seconds)).is_ok()
        };
        assert!(ask(1, 5, 100));
        assert!(!ask(1, 4, 101), "an older term");
        assert!(ask(1, 6, 102));
        assert!(!ask(1, 5, 103), "a term that was overtaken");
        assert!(!ask(2, 9, 104), "another cluster while ours answers");
        assert!(ask(1, 6, 105));
        assert!(!ask(2, 1, 114), "another cluster soon after ours answered");
        assert!(ask(2, 1, 116), "ours is gone");
        assert!(!ask(1, 7, 117), "the old one is foreign now");
        assert!(guard.admit_at(None, at(118)).is_err());
    }
}
