//! From whom this member's WAL receiver hears, and when it last did: the evidence by which a lost primary is suspected.
//!
//! The end of the WAL receiver wakes the loop within milliseconds. What came last, PostgreSQL tells only while there is a receiver, so it
//! is remembered here.

use bellwether_ha::view::Hearing;
use bellwether_postgres::{
    observation::{Observation, WalReceiver},
    receiver::Receiver,
};
use bellwether_types::{MemberName, Timestamp, cluster::Cluster};
use tracing::debug;

use crate::{agent::Agent, event::Event, work};

/// What is known of the WAL receiver and of those before it.
#[derive(Debug, Default)]
pub(crate) struct Ear {
    hearing: Option<Hearing>,
    /// The process whose end is watched.
    watched: Option<i32>,
}

impl Ear {
    /// An answer of the server, asked at `asked_at`. `follows`: the upstream that is configured; `connected`: the member that the
    /// receiver is connected to, if there is one.
    fn listen(
        &mut self,
        observation: &Observation,
        asked_at: Timestamp,
        follows: Option<&MemberName>,
        connected: Option<MemberName>,
    ) {
        if !observation.in_recovery {
            self.hearing = None;
            return;
        }
        let known = self.hearing.take();
        self.hearing = match (&observation.receiver, connected) {
            (Some(receiver), Some(upstream)) => {
                let last = known.filter(|known| known.upstream == upstream).map(|known| known.heard_at);
                let heard_at = heard_at(receiver, asked_at).max(last).unwrap_or(asked_at);
                Some(Hearing { upstream, heard_at })
            }
            // It hears somebody who is no member.
            (Some(_), None) => None,
            (None, _) => match follows {
                Some(follows) if known.as_ref().is_none_or(|known| known.upstream != *follows) => {
                    Some(Hearing { upstream: follows.clone(), heard_at: asked_at })
                }
                _ => known,
            },
        };
    }

    pub(crate) fn hearing(&self) -> Option<&Hearing> {
        self.hearing.as_ref()
    }
}

/// When the last message came. The age is a little greater than at the time of the question, so this is never later than the truth.
fn heard_at(receiver: &WalReceiver, asked_at: Timestamp) -> Option<Timestamp> {
    let age = u64::try_from(receiver.last_message_age_millis?).unwrap_or(0);
    Some(asked_at.saturating_sub(std::time::Duration::from_millis(age)))
}

/// The member that listens at the address which the receiver is connected to.
fn member_at(cluster: &Cluster, receiver: &WalReceiver) -> Option<MemberName> {
    let (host, port) = (receiver.sender_host.as_ref()?, receiver.sender_port?);
    let found = cluster.members.values().find(|member| {
        let address = member.conn_url.as_deref().and_then(work::address_of);
        address.is_some_and(|address| address.host == *host && address.port == port)
    });
    found.map(|member| member.name.clone())
}

impl Agent {
    /// Takes the last answer of the server as evidence, and watches its WAL receiver.
    pub(crate) fn listen(&mut self) {
        let Some((asked_at, observation)) = self.local.observation.clone() else { return };
        let state = self.mirror.state();
        let connected = observation.receiver.as_ref().and_then(|receiver| {
            let by_address = state.cluster.as_deref().and_then(|cluster| member_at(cluster, receiver));
            // A former leader's key may be gone before its connection is.
            by_address.or_else(|| self.upstream_at(receiver))
        });
        let follows = self.local.upstream.as_ref().filter(|upstream| !upstream.is_remote);
        let follows = follows.map(|upstream| upstream.member.clone());
        if let Some(kept) = self.promise.present().filter(|_| observation.in_recovery) {
            // A receiver that is gone does not tell on which timeline it was; when it was gone, that was looked up.
            let promised = Some(kept.promise.position.timeline);
            self.local.received_timeline = self.local.received_timeline.max(promised);
        }
        self.ear.listen(&observation, asked_at, follows.as_ref(), connected);
        self.watch_receiver(observation.receiver.as_ref());
    }

    fn upstream_at(&self, receiver: &WalReceiver) -> Option<MemberName> {
        let upstream = self.local.upstream.as_ref().filter(|upstream| !upstream.is_remote)?;
        let address = work::address_of(&upstream.conn_url)?;
        let is_it = receiver.sender_host.as_ref() == Some(&address.host)
            && receiver.sender_port == Some(address.port);
        is_it.then(|| upstream.member.clone())
    }

    fn watch_receiver(&mut self, receiver: Option<&WalReceiver>) {
        let (Some(postmaster), Some(receiver)) = (&self.local.postmaster, receiver) else { return };
        if self.ear.watched == Some(receiver.pid) {
            return;
        }
        let process = match Receiver::open(postmaster.id(), receiver.pid) {
            Ok(Some(process)) => process,
            // It has just ended: the next look knows.
            Ok(None) => return,
            Err(error) => {
                debug!(%error, "the WAL receiver cannot be watched: its end will be seen late");
                return;
            }
        };
        self.ear.watched = Some(receiver.pid);
        let (events, stop) = (self.events_in.clone(), self.children.child_token());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ended = process.exited() => if ended.is_ok() {
                    let _ = events.send(Event::ReceiverEnded).await;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::local::tests::standby_observation;

    fn name(text: &str) -> MemberName {
        MemberName::new(text).unwrap()
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn receiver(age_ms: Option<i64>) -> WalReceiver {
        WalReceiver {
            pid: 7,
            status: "streaming".into(),
            received_timeline: None,
            written: None,
            flushed: None,
            latest_end: None,
            last_message_age_millis: age_ms,
            slot_name: None,
            sender_host: Some("10.0.0.1".into()),
            sender_port: Some(5432),
            conninfo: String::new(),
        }
    }

    fn hears(ear: &Ear) -> Option<(&str, u64)> {
        ear.hearing().map(|hearing| (hearing.upstream.as_str(), hearing.heard_at.as_millis()))
    }

    #[test]
    fn what_was_heard_last_is_remembered_when_the_receiver_is_gone() {
        let (mut ear, a, b) = (Ear::default(), name("a"), name("b"));
        let silent = Observation { receiver: None, ..standby_observation() };
        let hearing = |age| Observation { receiver: Some(receiver(age)), ..standby_observation() };

        ear.listen(&silent, at(1_000), Some(&a), None);
        assert_eq!(hears(&ear), Some(("a", 1_000)), "nothing came yet: since it listens");
        ear.listen(&silent, at(1_500), Some(&a), None);
        assert_eq!(hears(&ear), Some(("a", 1_000)), "and still nothing");
        ear.listen(&hearing(Some(20)), at(2_000), Some(&a), Some(a.clone()));
        assert_eq!(hears(&ear), Some(("a", 1_980)));
        ear.listen(&hearing(None), at(2_100), Some(&a), Some(a.clone()));
        assert_eq!(hears(&ear), Some(("a", 1_980)), "a new connection that nothing came through");
        ear.listen(&silent, at(2_500), Some(&a), None);
        ear.listen(&silent, at(3_500), None, None);
        assert_eq!(hears(&ear), Some(("a", 1_980)), "nor when it was detached");
        ear.listen(&silent, at(4_000), Some(&b), None);
        assert_eq!(hears(&ear), Some(("b", 4_000)), "another one begins anew");
        ear.listen(&hearing(Some(0)), at(4_100), Some(&b), Some(a.clone()));
        assert_eq!(hears(&ear), Some(("a", 4_100)), "what is connected counts, not what is configured");
        ear.listen(&hearing(Some(0)), at(4_200), Some(&b), None);
        assert_eq!(hears(&ear), None, "a stranger");
        ear.listen(&silent, at(5_000), Some(&a), None);
        ear.listen(&Observation { in_recovery: false, ..silent }, at(6_000), None, None);
        assert_eq!(hears(&ear), None, "a primary hears nobody");
    }

    #[test]
    fn a_message_is_never_taken_for_younger_than_it_is() {
        assert_eq!(heard_at(&receiver(Some(250)), at(1_000)), Some(at(750)));
        assert_eq!(heard_at(&receiver(Some(-3)), at(1_000)), Some(at(1_000)), "the clock was stepped");
        assert_eq!(heard_at(&receiver(Some(5_000)), at(1_000)), Some(at(0)));
        assert_eq!(at(1_000).since(at(750)), Duration::from_millis(250));
    }
}
