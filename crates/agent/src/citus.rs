//! Citus, beside the loop: a worker's leader tells the coordinator's what happens to its primary ([`worker`]), and the coordinator's
//! leader keeps the metadata ([`coordinator`]). No decision about who leads looks at any of it, and none waits for it: a planned
//! stop alone waits for its announcement, for as long as the contract says.

mod coordinator;
mod worker;

use std::sync::Arc;

use bellwether_api_client::ApiClient;
use bellwether_config::sections::citus::Citus;
use bellwether_dcs::Store;
use bellwether_postgres::settings::PgSettings;
use bellwether_types::{
    MemberName, PostgresState, Role, Timestamp,
    citus::{CitusEvent, CitusEventKind},
    status::NodeStatus,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::{
    coordinator::{Coordinator, Heard},
    worker::{Told, Worker},
};
use crate::journal::Journal;

/// Reports that wait; more would come from somebody who is not well.
const QUEUE: usize = 64;

/// Where the other groups are found. A coordinator follows all groups, a worker looks at the coordinator's.
pub type Groups = Arc<dyn Store>;

/// What this member's group is to a Citus cluster. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) enum CitusPart {
    #[default]
    None,
    Coordinator {
        reports: mpsc::Sender<Heard>,
        settings: watch::Sender<Arc<PgSettings>>,
    },
    Worker(mpsc::Sender<Told>),
}

/// What the tasks are made from.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) me: MemberName,
    pub(crate) groups: Groups,
    pub(crate) client: ApiClient,
    pub(crate) status: watch::Receiver<Arc<NodeStatus>>,
    pub(crate) settings: Arc<PgSettings>,
    pub(crate) journal: Journal,
}

impl CitusPart {
    /// Starts the task of a member with a part; it ends with `stop`.
    pub(crate) fn start(
        citus: &Citus,
        around: Surroundings,
        services: &mut JoinSet<&'static str>,
        stop: CancellationToken,
    ) -> Self {
        if citus.is_coordinator() {
            let (reports, heard) = mpsc::channel(QUEUE);
            let (settings, seen) = watch::channel(around.settings.clone());
            let coordinator = Coordinator::new(citus.database.clone(), around, seen, heard);
            services.spawn(async move {
                coordinator.run(stop).await;
                "the keeper of Citus's metadata"
            });
            Self::Coordinator { reports, settings }
        } else {
            let (tell, told) = mpsc::channel(QUEUE);
            let worker = Worker::new(citus.group, around, told);
            services.spawn(async move {
                worker.run(stop).await;
                "the reports to Citus's coordinator"
            });
            Self::Worker(tell)
        }
    }

    /// Reports without waiting for anything.
    pub(crate) fn tell(&self, kind: CitusEventKind) {
        if let Self::Worker(tell) = self {
            let _ = tell.try_send(Told { kind, done: None });
        }
    }

    /// The report that is owed before the primary is stopped in order.
    pub(crate) fn notice_of_stop(&self) -> Notice {
        match self {
            Self::Worker(tell) => Notice(Some(tell.clone())),
            _ => Notice(None),
        }
    }

    /// Takes the report of a worker's leader; returns when it was dealt with, if it is one to wait for.
    pub(crate) async fn hear(&self, event: CitusEvent) {
        let Self::Coordinator { reports, .. } = self else { return };
        let waits = event.kind == CitusEventKind::BeforeDemote;
        let (done, dealt_with) = oneshot::channel();
        if reports.try_send(Heard { event, done }).is_ok() && waits {
            let _ = dealt_with.await;
        }
    }

    pub(crate) fn set_settings(&self, settings: Arc<PgSettings>) {
        if let Self::Coordinator { settings: present, .. } = self {
            present.send_replace(settings);
        }
    }
}

/// Something to be said before a primary is stopped; nothing where nobody needs to know.
#[derive(Debug, Default)]
pub(crate) struct Notice(Option<mpsc::Sender<Told>>);

impl Notice {
    /// Says it, and waits until it was taken in or may not be waited for any longer.
    pub(crate) async fn given(self) {
        let Some(tell) = self.0 else { return };
        let (done, dealt_with) = oneshot::channel();
        let told = Told { kind: CitusEventKind::BeforeDemote, done: Some(done) };
        if tell.send(told).await.is_ok() {
            let _ = dealt_with.await;
        }
    }
}

/// Whether this member may write to its PostgreSQL, now.
fn leads(status: &NodeStatus, now: Timestamp) -> bool {
    status.state == PostgresState::Running && status.role == Role::Primary && status.holds_lease_at(now)
}
