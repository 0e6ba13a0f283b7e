//! Builders of views: start from a healthy cluster and state only what differs.
//!
//! The cluster has the members `a` (leader), `b` and `c`, all running, at the same position on timeline 1. The clock stands at
//! 100,000 s, the lease was renewed a moment ago, the guardian is armed.
//!
//! Here are the scenes and what fits any of them; `store` and `postgres` have what differs there, `healthy` what the cluster consists of.

mod healthy;
mod postgres;
mod store;

use std::{sync::Arc, time::Duration};

use bellwether_types::{
    Lsn, MemberName, Revision, Role, Tags, TimelineId, Timestamp, WallTime,
    cluster::{Cluster, Member},
    settings::Settings,
};

use self::healthy::{armed, control, held_in_term};
pub use self::healthy::{held, member, silence, standby, standby_at, upstream};
use crate::{
    Action, Decision, View, decide,
    memory::Memory,
    view::{
        FailsafeView, Fencing, Guardian, LeaseView, Me, Peers, Server, StoreView, TakeoverView, Watchdog,
        health::Health,
    },
};

/// When the story begins.
pub const NOW: Timestamp = Timestamp::from_millis(100_000_000);

/// Where everybody is.
pub const POSITION: Lsn = Lsn(0x500_0000);

/// The cluster's identity.
pub const SYSTEM_ID: &str = "7421833905512378144";

/// A member's name.
///
/// # Panics
/// If the text is no name.
pub fn name(text: &str) -> MemberName {
    MemberName::new(text).expect("a name")
}

/// A view in the making.
#[derive(Clone, Debug)]
pub struct Scene {
    pub view: View,
    pub cluster: Cluster,
}

/// `a`, the healthy leader.
pub fn leader() -> Scene {
    Scene::of("a")
}

/// `b`, a healthy replica of `a`.
pub fn replica() -> Scene {
    Scene::of("b")
}

/// `b`, in a cluster whose leader `a` has vanished together with its member key.
pub fn orphan() -> Scene {
    replica().without_leader()
}

/// `a` with an empty data directory, in a store without any key.
pub fn newcomer() -> Scene {
    let mut scene = Scene::of("a").empty();
    scene.cluster = Cluster { revision: Revision(1), ..Cluster::default() };
    scene.view.lease = LeaseView::NotHeld;
    scene.view.fencing.guardian = Guardian::Ready;
    scene.view.memory = Memory::default();
    scene
}

impl Scene {
    /// The healthy cluster as `me` sees it.
    pub fn of(me: &str) -> Self {
        let settings = Settings {
            ttl: Duration::from_secs(5),
            loop_wait: Duration::from_secs(1),
            retry_timeout: Duration::from_secs(2),
            ..Settings::default()
        };
        let is_leader = me == "a";
        let view = View {
            now: NOW,
            wall: WallTime::from_unix_millis(1_800_000_000_000),
            me: Me {
                name: name(me),
                tags: Tags::default(),
                api_url: format!("http://{me}:8008/patroni"),
                conn_url: format!("postgres://{me}:5432/postgres"),
                may_bootstrap: true,
                clones_without_leader: false,
                has_pre_promote: false,
                failed_bootstraps: None,
            },
            settings,
            store: StoreView {
                cluster: None,
                confirmed_at: NOW,
                unavailable_since: None,
                multi_key_transactions: true,
                owns_claim: false,
            },
            lease: if is_leader { held(NOW) } else { LeaseView::NotHeld },
            postgres: healthy::postgres(me, is_leader),
            peers: Peers::default(),
            failsafe: FailsafeView::default(),
            takeover: TakeoverView::default(),
            fencing: Fencing {
                guardian: if is_leader { armed(NOW) } else { Guardian::Ready },
                watchdog: Watchdog::Off,
            },
            health: Health::default(),
            job: None,
            last_job: None,
            requests: Vec::new(),
            stopping: false,
            memory: Memory::default(),
        };
        let mut scene = Self { view, cluster: healthy::cluster() };
        scene.view.memory.callback_fired = true;
        let role = if is_leader { Role::Primary } else { Role::Replica };
        scene.view.memory.announced_role = Some(role);
        scene.view.memory.followed = (!is_leader).then(|| (name("a"), Some(TimelineId(1))));
        scene.view.memory.last_healthy = Some(Arc::new(scene.cluster.clone()));
        scene
    }

    /// The finished view.
    pub fn build(self) -> View {
        let Self { mut view, cluster } = self;
        if view.store.cluster.is_none() {
            view.store.cluster = Some(Arc::new(cluster));
        }
        view
    }

    /// What is decided in it.
    pub fn decide(&self) -> Decision {
        decide(&self.clone().build())
    }

    pub fn view(mut self, change: impl FnOnce(&mut View)) -> Self {
        change(&mut self.view);
        self
    }

    pub fn cluster(mut self, change: impl FnOnce(&mut Cluster)) -> Self {
        change(&mut self.cluster);
        self
    }

    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.view.settings);
        self
    }

    pub fn memory(mut self, change: impl FnOnce(&mut Memory)) -> Self {
        change(&mut self.view.memory);
        self
    }

    /// The server's last answer.
    ///
    /// # Panics
    /// If the scene has no running server.
    pub fn server(mut self, change: impl FnOnce(&mut Server)) -> Self {
        change(self.view.postgres.server.as_mut().expect("a running server"));
        self
    }

    /// What a member publishes.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn member(mut self, member: &str, change: impl FnOnce(&mut Member)) -> Self {
        change(self.cluster.members.get_mut(&name(member)).expect("a member"));
        self
    }

    /// Time passes, and store and server keep answering.
    pub fn later(mut self, by: Duration) -> Self {
        self.view.now = self.view.now + by;
        self.view.wall.unix_millis += i64::try_from(by.as_millis()).expect("a short time");
        self.view.store.confirmed_at = self.view.now;
        if let Some(server) = &mut self.view.postgres.server {
            server.answered_at = self.view.now;
        }
        self
    }

    /// The server has not answered for so long.
    pub fn hanging_for(self, silence: Duration) -> Self {
        let answered_at = self.view.now.saturating_sub(silence);
        self.server(|server| server.answered_at = answered_at)
    }

    /// The next tick of the same member: with what it remembers.
    pub fn after(self, decision: &Decision) -> Self {
        self.memory(|memory| *memory = decision.memory.clone())
    }
}

impl Decision {
    /// The actions that do something to the world, without what every tick publishes and without callbacks. That the healthy cluster has a
    /// `/failsafe` though the mode is off, which the leader empties, is no deed either.
    pub fn deeds(&self) -> Vec<&Action> {
        let is_deed = |action: &&Action| match action {
            Action::WriteFailsafe { map } => !map.0.is_empty(),
            action => !matches!(
                action,
                Action::PublishMember { .. } | Action::WriteStatus { .. } | Action::RunCallback { .. }
            ),
        };
        self.actions.iter().filter(is_deed).collect()
    }

    /// The code of the deciding reason.
    pub fn code(&self) -> &'static str {
        self.reasons[0].code()
    }

    /// Whether this rule was among those that fired.
    pub fn says(&self, code: &str) -> bool {
        self.reasons.iter().any(|reason| reason.code() == code)
    }
}
