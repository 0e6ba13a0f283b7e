//! Asking the other members directly: their state before a race, and their consent in failsafe mode.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bellwether_api_client::{ApiClient, ClientError, FailsafeReply, Observed, PeerStatus};
use bellwether_ha::{
    lease,
    view::{AsOf, FailsafeRound, PeerAnswer, PeerReport},
};
use bellwether_types::{MemberName, Role, failsafe::FailsafeRequest};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::clock;

/// Whom to ask, and how long to wait for each.
#[derive(Debug)]
pub(crate) struct PollWish {
    pub(crate) members: BTreeMap<MemberName, String>,
    pub(crate) timeout: Duration,
}

/// One round at a time. What is asked for meanwhile is asked afterwards: its answers must be younger than the wish, so those of the
/// round that runs do not count for it.
#[derive(Debug, Default)]
pub(crate) struct PollQueue {
    running: bool,
    next: Option<PollWish>,
}

impl PollQueue {
    /// The round to begin now, if none runs. Of several that wait the latest counts.
    pub(crate) fn ask(&mut self, wish: PollWish) -> Option<PollWish> {
        if self.running {
            self.next = Some(wish);
            return None;
        }
        self.running = true;
        Some(wish)
    }

    /// A round has ended: the one to begin now.
    pub(crate) fn ended(&mut self) -> Option<PollWish> {
        let next = self.next.take();
        self.running = next.is_some();
        next
    }
}

/// Asks all `members` (name and `api_url`) at once, and tells the answers at `told`.
pub(crate) async fn poll(
    client: &ApiClient,
    members: BTreeMap<MemberName, String>,
    limit: Duration,
    told: Told,
) -> BTreeMap<MemberName, PeerAnswer> {
    let mut calls = JoinSet::new();
    for (name, url) in members {
        let client = client.clone();
        calls.spawn(async move {
            let answer = match client.get_status_text(&url, limit).await {
                Ok((status, text)) => {
                    told.answer(&name, &url, &text);
                    PeerAnswer::Answered(report(&status))
                }
                Err(error) => {
                    told.failure(&name, "GET", &url, &error);
                    PeerAnswer::Unreachable { refused: matches!(error, ClientError::Refused { .. }) }
                }
            };
            (name, answer)
        });
    }
    let mut answers = BTreeMap::new();
    while let Some(call) = calls.join_next().await {
        let (name, answer) = call.expect("a poll neither panics nor is aborted");
        answers.insert(name, answer);
    }
    answers
}

fn report(status: &PeerStatus) -> PeerReport {
    PeerReport {
        role: status.role.unwrap_or(Role::Uninitialized),
        is_running_primary: status.may_be_primary(),
        position: status.position(),
        as_of: match status.observed {
            _ if status.replays_own_wal => AsOf::AtLeast,
            None => AsOf::Unsaid,
            Some(Observed { since_asked: true, .. }) => AsOf::Asked,
            Some(Observed { ago, .. }) => AsOf::Earlier { ago },
        },
        timeline: status.timeline,
        nofailover: status.tags.nofailover(),
        failover_priority: status.tags.failover_priority(),
        watchdog_failed: status.watchdog_failed,
        takeover: status.takeover.clone(),
        at_rest: status.at_rest,
        holds_lock: status.holds_lock,
        system_id: status.system_id,
        unfit: status.alarms.iter().any(|alarm| alarm.makes_unfit()),
    }
}

/// Tells all `members` that their leader lives. The round counts from before the first request, and is good for as long as the
/// shortest promise.
pub(crate) async fn ask_failsafe(
    client: &ApiClient,
    members: BTreeMap<MemberName, String>,
    request: FailsafeRequest,
    limit: Duration,
    told: Told,
) -> FailsafeRound {
    let began_at = clock::now();
    let asked: BTreeSet<MemberName> = members.keys().cloned().collect();
    let mut calls = JoinSet::new();
    for (name, url) in members {
        let (client, request) = (client.clone(), request.clone());
        calls.spawn(async move {
            let answer = client.post_failsafe(&url, &request, limit).await;
            let url = url.trim_end_matches("patroni").to_owned() + "failsafe";
            match answer {
                Ok(FailsafeReply::Accepted { promised, lsn }) => {
                    told.answer(&name, &url, "Accepted");
                    (name, Some((promised, lsn)))
                }
                Ok(refusal) => {
                    told.answer(&name, &url, &format!("{refusal:?}"));
                    (name, None)
                }
                Err(error) => {
                    told.failure(&name, "POST", &url, &error);
                    (name, None)
                }
            }
        });
    }
    let (mut accepted, mut positions) = (BTreeSet::new(), BTreeMap::new());
    let mut good_for = request.rely_on().unwrap_or(lease::UNSAID_PROMISE);
    while let Some(call) = calls.join_next().await {
        let (name, consent) = call.expect("a call neither panics nor is aborted");
        if let Some((promised, lsn)) = consent {
            positions.extend(lsn.map(|lsn| (name.clone(), lsn)));
            good_for = lease::failsafe_belief(good_for, promised);
            accepted.insert(name);
        }
    }
    FailsafeRound { began_at, asked, accepted, good_for, running: false, positions }
}

/// How loud a round is. In a race it comes once a second, while a lock is handed over twenty times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Aloud,
    Quietly,
}

impl Told {
    fn answer(self, name: &MemberName, url: &str, answer: &str) {
        match self {
            Self::Aloud => info!("Got response from {name} {url}: {answer}"),
            Self::Quietly => debug!("Got response from {name} {url}: {answer}"),
        }
    }

    fn failure(self, name: &MemberName, method: &str, url: &str, error: &ClientError) {
        match self {
            Self::Aloud => warn!("Request failed to {name}: {method} {url} ({error})"),
            Self::Quietly => debug!("Request failed to {name}: {method} {url} ({error})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(timeout_ms: u64) -> PollWish {
        PollWish { members: BTreeMap::new(), timeout: Duration::from_millis(timeout_ms) }
    }

    #[test]
    fn what_is_asked_for_while_a_round_runs_is_asked_after_it() {
        let mut polls = PollQueue::default();
        let begun = |wish: Option<PollWish>| wish.map(|wish| wish.timeout.as_millis());
        assert_eq!(begun(polls.ask(wish(1))), Some(1));
        assert_eq!(begun(polls.ask(wish(2))), None);
        assert_eq!(begun(polls.ask(wish(3))), None);
        assert_eq!(begun(polls.ended()), Some(3), "the latest wish");
        assert_eq!(begun(polls.ask(wish(4))), None, "that round runs");
        assert_eq!(begun(polls.ended()), Some(4));
        assert_eq!(begun(polls.ended()), None);
        assert_eq!(begun(polls.ask(wish(5))), Some(5), "nothing runs any more");
    }
}
