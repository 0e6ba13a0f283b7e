//! The cluster as its members tell it, each about itself, over their REST API.

use std::{fmt, sync::Arc, time::Duration};

use bellwether_api_client::{
    Answer, ApiClient, BasicAuth, ClientConfig, ClientError, Method, PeerStatus, PeerWal,
};
use bellwether_types::{Lsn, PostgresState, ReplicationState, Role, TimelineId};
use serde_json::json;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};

use super::layout::{API_USER, Layout};

const LOOK_EACH: Duration = Duration::from_millis(100);
/// A member that takes longer is shown as silent. Answers come within a few milliseconds.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);
/// The switchover request answers when it is over.
const SWITCHOVER_WITHIN: Duration = Duration::from_secs(60);

/// What one member said about itself; nothing if it did not answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) answers: bool,
    pub(super) role: Option<Role>,
    pub(super) state: Option<PostgresState>,
    pub(super) timeline: Option<TimelineId>,
    pub(super) position: Option<Lsn>,
    pub(super) streaming: bool,
}

impl Member {
    fn silent(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    fn read(name: &str, status: &PeerStatus) -> Self {
        Self {
            name: name.to_owned(),
            answers: true,
            role: status.role,
            state: status.state,
            timeline: status.timeline,
            position: status.wal.map(|wal| match wal {
                PeerWal::Primary { location } => location,
                PeerWal::Standby { received, replayed } => received.max(replayed),
            }),
            streaming: status.replication_state == Some(ReplicationState::Streaming),
        }
    }

    fn is_primary(&self) -> bool {
        self.role == Some(Role::Primary) && self.state == Some(PostgresState::Running)
    }

    /// What to show for it: replication says more about a replica than `running`.
    pub(super) fn condition(&self) -> &str {
        match self.state {
            _ if !self.answers => "no answer",
            Some(PostgresState::Running) if self.streaming => ReplicationState::Streaming.as_str(),
            Some(state) => state.as_str(),
            None => "unknown",
        }
    }
}

/// All members at one moment, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Picture {
    pub(super) members: Vec<Member>,
}

/// Why a cluster is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Primary,
    /// More than one member says that it is the primary.
    OnePrimary,
    Replica {
        name: String,
        condition: String,
    },
    Timeline {
        name: String,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("no member is a running primary"),
            Self::OnePrimary => f.write_str("more than one member says it is the primary"),
            Self::Replica { name, condition } => {
                write!(f, "{name} is no streaming replica ({condition})")
            }
            Self::Timeline { name } => write!(f, "{name} is on another timeline than the primary"),
        }
    }
}

impl Picture {
    /// The only running primary.
    pub(super) fn leader(&self) -> Option<&Member> {
        let mut primaries = self.members.iter().filter(|member| member.is_primary());
        primaries.next().filter(|_| primaries.next().is_none())
    }

    /// The leader if all is well: one running primary, and everybody else streams on its timeline.
    pub(super) fn whole(&self) -> Result<&Member, Missing> {
        let leader = self.leader().ok_or_else(|| {
            if self.members.iter().any(Member::is_primary) { Missing::OnePrimary } else { Missing::Primary }
        })?;
        for member in self.members.iter().filter(|member| member.name != leader.name) {
            if !(member.role == Some(Role::Replica) && member.streaming) {
                let condition = member.condition().to_owned();
                return Err(Missing::Replica { name: member.name.clone(), condition });
            }
            if member.timeline != leader.timeline {
                return Err(Missing::Timeline { name: member.name.clone() });
            }
        }
        Ok(leader)
    }

    /// How far a member is behind the leader, if both are known.
    pub(super) fn lag_bytes(&self, member: &Member) -> Option<u64> {
        let (end, reached) = (self.leader()?.position?, member.position?);
        Some(end.0.saturating_sub(reached.0))
    }
}

/// Looks at all members ten times a second until it is dropped.
#[derive(Debug)]
pub(super) struct Members {
    client: ApiClient,
    urls: Arc<[(String, String)]>,
    pictures: watch::Receiver<Picture>,
    looking: JoinHandle<()>,
}

impl Members {
    pub(super) fn watch(layout: &Layout) -> Self {
        let password = layout.passwords.api.clone().into();
        let authentication = Some(BasicAuth { username: API_USER.to_owned(), password });
        let config = ClientConfig { authentication, ..ClientConfig::default() };
        let client = ApiClient::new(config).expect("a client without certificates needs no files");
        let url = |port: u16| format!("http://127.0.0.1:{port}/patroni");
        let urls: Arc<[_]> =
            layout.nodes.iter().map(|node| (node.name.clone(), url(node.api_port))).collect();
        let (publish, pictures) = watch::channel(Picture::default());
        let looking = tokio::spawn(look(client.clone(), Arc::clone(&urls), publish));
        Self { client, urls, pictures, looking }
    }

    pub(super) fn now(&self) -> Picture {
        self.pictures.borrow().clone()
    }

    /// Tells of each new look, whether or not it differs from the last.
    pub(super) fn subscribe(&self) -> watch::Receiver<Picture> {
        self.pictures.clone()
    }

    /// Asks the leader for a planned switchover and waits for its answer.
    pub(super) async fn switch_over(&self, leader: &str, candidate: &str) -> Result<Answer, ClientError> {
        let (_, url) =
            self.urls.iter().find(|(name, _)| name == leader).expect("names come from the same layout");
        let body = json!({"leader": leader, "candidate": candidate});
        self.client.call(Method::POST, url, "switchover", Some(&body), SWITCHOVER_WITHIN).await
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

async fn look(client: ApiClient, urls: Arc<[(String, String)]>, publish: watch::Sender<Picture>) {
    let mut beat = interval(LOOK_EACH);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !publish.is_closed() {
        beat.tick().await;
        let mut asked = JoinSet::new();
        for index in 0..urls.len() {
            let (client, urls) = (client.clone(), Arc::clone(&urls));
            asked.spawn(async move {
                let (name, url) = &urls[index];
                match client.get_status(url, ANSWERS_WITHIN).await {
                    Ok(status) => Member::read(name, &status),
                    Err(_) => Member::silent(name),
                }
            });
        }
        let mut members = asked.join_all().await;
        members.sort_by(|one, other| one.name.cmp(&other.name));
        let _ = publish.send(Picture { members });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn member(name: &str, document: Value) -> Member {
        Member::read(name, &PeerStatus::parse(&document).unwrap())
    }

    fn primary(name: &str, timeline: u32) -> Member {
        member(
            name,
            json!({"role": "primary", "state": "running", "timeline": timeline, "xlog": {"location": 1000}}),
        )
    }

    fn replica(name: &str, timeline: u32) -> Member {
        member(
            name,
            json!({
                "role": "replica", "state": "running", "timeline": timeline, "replication_state": "streaming",
                "xlog": {"received_location": 990, "replayed_location": 980},
            }),
        )
    }

    #[test]
    fn a_cluster_is_whole_with_one_primary_and_all_others_streaming_on_its_timeline() {
        let whole = Picture { members: vec![replica("a", 3), primary("b", 3), replica("c", 3)] };
        assert_eq!(whole.whole().map(|leader| leader.name.as_str()), Ok("b"));
        assert_eq!(whole.lag_bytes(&whole.members[0]), Some(10));

        let with = |index: usize, member: Member| {
            let mut picture = whole.clone();
            picture.members[index] = member;
            picture
        };
        let starting = member("c", json!({"role": "replica", "state": "starting"}));
        for (case, picture, missing) in [
            ("nobody leads", with(1, replica("b", 3)), Missing::Primary),
            ("two lead", with(0, primary("a", 4)), Missing::OnePrimary),
            (
                "one is silent",
                with(0, Member::silent("a")),
                Missing::Replica { name: "a".into(), condition: "no answer".into() },
            ),
            (
                "one starts",
                with(2, starting),
                Missing::Replica { name: "c".into(), condition: "starting".into() },
            ),
            ("one stayed behind", with(2, replica("c", 2)), Missing::Timeline { name: "c".into() }),
        ] {
            assert_eq!(picture.whole().map(|leader| leader.name.clone()), Err(missing), "{case}");
        }
    }
}
