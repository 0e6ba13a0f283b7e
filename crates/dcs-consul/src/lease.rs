//! Leases: sessions with half the ttl.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bellwether_dcs::{Deadline, Key, Renewal, StoreError, store::now};
use bellwether_types::{LeaseId, Timestamp};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    http::Agent,
    read::{self, lease_id},
};

/// A server whose agent does not tell its minimum has this one.
const CONSULS_MINIMUM: Duration = Duration::from_secs(10);

/// Consul ends a session at the earliest after this many of its ttls (`SessionTTLMultiplier`).
const TTLS_UNTIL_IT_ENDS: u32 = 2;

/// How long after a doubtful renewal the end of the session, if it had begun, has arrived.
const SETTLED: Duration = Duration::from_secs(1);

/// The sessions that were made here, with what they are guaranteed for.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    sessions: Mutex<BTreeMap<LeaseId, Session>>,
}

#[derive(Clone, Debug)]
struct Session {
    id: String,
    ttl: Duration,
    /// When the last request was sent that has surely set the servers' timer back.
    proven: Timestamp,
    /// When a renewal was last believed to have come late.
    doubted: Option<Timestamp>,
}

impl Session {
    /// Enters a renewal that was sent and answered at these times, and says whether it counts.
    ///
    /// A server whose timer has run out destroys the session whatever is renewed meanwhile: its answer to a renewal that came at that
    /// moment, from a server that was frozen, say, is no proof. So one that may have come after the end of the timer is doubted, and
    /// only one that was sent some time after that one counts.
    fn renewed(&mut self, sent: Timestamp, answered: Timestamp) -> bool {
        let since = self.doubted.unwrap_or(self.proven);
        let in_time = since.until(answered) < self.ttl * TTLS_UNTIL_IT_ENDS;
        let settled = self.doubted.is_none_or(|doubted| doubted.until(sent) >= SETTLED);
        if in_time && settled {
            (self.proven, self.doubted) = (sent, None);
        } else if !in_time {
            self.doubted = Some(sent);
        }
        in_time && settled
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    #[serde(rename = "ID")]
    id: String,
}

impl Leases {
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<LeaseId, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn names(&self) -> BTreeMap<LeaseId, String> {
        self.sessions().iter().map(|(lease, session)| (*lease, session.id.clone())).collect()
    }

    fn forget(&self, lease: LeaseId) {
        self.sessions().remove(&lease);
    }

    /// Makes a session for a lease of this ttl. If that is less than the servers allow, the shortest that they do.
    pub(crate) async fn grant(
        &self,
        agent: &Agent,
        ttl: Duration,
        by: Deadline,
    ) -> Result<LeaseId, StoreError> {
        let half = (ttl / 2).max(agent.config().session_ttl_min);
        let session = match create(agent, half, by).await? {
            Some(session) => session,
            None => {
                let shortest = shortest(agent, by).await?;
                let rejected = || {
                    StoreError::Protocol(format!("session ttls of {half:?} and {shortest:?} are rejected"))
                };
                create(agent, shortest, by).await?.ok_or_else(rejected)?
            }
        };
        let lease = lease_id(&session.id);
        self.sessions().insert(lease, session);
        Ok(lease)
    }

    pub(crate) async fn keep_alive(
        &self,
        agent: &Agent,
        lease: LeaseId,
        holding: Option<&Key>,
        by: Deadline,
    ) -> Renewal {
        let Some(session) = self.sessions().get(&lease).cloned() else { return Renewal::Gone };
        let sent = now();
        let asked = async {
            let answer = agent.put(&["session", "renew", &session.id], &[], None::<&()>, by).await?;
            if answer.status == StatusCode::NOT_FOUND {
                self.forget(lease);
                return Ok::<_, StoreError>(Renewal::Gone);
            }
            answer.expect_success()?;
            if let Some(key) = holding {
                let content = read::read(agent, by).await?;
                if content.sessions.get(key) != Some(&session.id) {
                    return Ok(Renewal::NotHolding);
                }
            }
            let counts = self.sessions().get_mut(&lease).is_some_and(|session| session.renewed(sent, now()));
            if !counts {
                let late = "for so long that Consul may be ending the session; it is renewed once more";
                return Err(StoreError::Unreachable(late.into()));
            }
            Ok(Renewal::Valid { guaranteed: session.ttl })
        };
        asked.await.unwrap_or_else(Renewal::Unavailable)
    }

    /// Ends a session, also one of somebody else's if a key hangs on it.
    pub(crate) async fn revoke(&self, agent: &Agent, lease: LeaseId, by: Deadline) -> Result<(), StoreError> {
        let own = self.sessions().get(&lease).map(|session| session.id.clone());
        let session = match own {
            Some(session) => session,
            None => {
                let mut sessions = read::read(agent, by).await?.sessions.into_values();
                match sessions.find(|session| lease_id(session) == lease) {
                    Some(session) => session,
                    None => return Ok(()),
                }
            }
        };
        agent.put(&["session", "destroy", &session], &[], None::<&()>, by).await?.expect_success()?;
        self.forget(lease);
        Ok(())
    }
}

/// `None` if the servers reject the ttl.
async fn create(agent: &Agent, ttl: Duration, by: Deadline) -> Result<Option<Session>, StoreError> {
    let config = agent.config();
    let wish = json!({
        "Name": config.session_name,
        "TTL": format!("{}ms", ttl.as_millis()),
        // Nothing waits for a lock longer than its keys exist. Zero would mean 15 s.
        "LockDelay": "1ms",
        "Behavior": "delete",
        "Checks": config.checks,
    });
    let rejected = |text: &str| text.contains("Session TTL");
    let proven = now();
    match agent.put(&["session", "create"], &[], Some(&wish), by).await {
        Err(StoreError::NoQuorum(text)) if rejected(&text) => Ok(None),
        Err(error) => Err(error),
        Ok(answer) if !answer.status.is_success() && rejected(&answer.text()) => Ok(None),
        Ok(answer) => {
            let Created { id } = answer.expect_success()?.json()?;
            Ok(Some(Session { id, ttl, proven, doubted: None }))
        }
    }
}

/// The shortest ttl that the servers allow, as far as the agent knows.
async fn shortest(agent: &Agent, by: Deadline) -> Result<Duration, StoreError> {
    let answer = agent.get(&["agent", "self"], &[], by.remaining()).await?.expect_success()?;
    let own: Value = answer.json()?;
    let told = own.pointer("/DebugConfig/SessionTTLMin").and_then(Value::as_str).and_then(parse_go_duration);
    Ok(told.filter(|shortest| !shortest.is_zero()).unwrap_or(CONSULS_MINIMUM))
}

/// `1m30s`, `10s`, `200ms`.
fn parse_go_duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        let unit_ends =
            rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let seconds = match &rest[digits..unit_ends] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        total += amount * seconds;
        rest = &rest[unit_ends..];
    }
    Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_consul_writes_them() {
        for (text, millis) in [
            ("10s", Some(10_000)),
            ("1m30s", Some(90_000)),
            ("200ms", Some(200)),
            ("1.5h", Some(5_400_000)),
            ("10", None),
        ] {
            assert_eq!(parse_go_duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_renewal_that_may_have_come_too_late_does_not_count() {
        let at = |millis: u64| Timestamp::from_nanos(millis * 1_000_000);
        let (id, ttl) = (String::new(), Duration::from_secs(10));
        let mut session = Session { id, ttl, proven: at(0), doubted: None };
        for (sent, answered, counts) in [
            (9_000, 9_010, true),
            (28_990, 29_000, false), // 20 s after the last one that counted
            (29_020, 29_030, false), // the end of the session may still be on its way
            (29_995, 30_000, true),
            (40_000, 49_994, true), // frozen, but not for long enough
            (60_000, 60_010, false),
            (90_000, 90_010, false), // late again, so doubted anew
            (91_000, 91_010, true),
        ] {
            assert_eq!(session.renewed(at(sent), at(answered)), counts, "{sent}");
        }
    }

    #[test]
    fn a_lease_has_the_first_half_of_its_sessions_id() {
        assert_eq!(lease_id("adf4238a-882b-9ddc-4a9d-5b6758e4159e"), LeaseId(0xadf4_238a_882b_9ddc));
    }
}
