//! The lease keeper: the one task that renews our lease in the store, and the only source of the right to lead.
//!
//! It renews every fifth of the time that the store guarantees with a timeout of the same length, and a long lease as seldom as
//! [`lease::renewal_pace`] says, whether the loop is busy or not; but it stops renewing a leadership when the loop has not decided
//! anything for a whole `ttl`: a hung agent must not keep the lock.
//! What it knows is published as [`LeaseState`]; nobody else derives leadership from anything.
//!
//! Here are the task and its renewals; [`handle`] is what the agent sees of it, and [`lock`] how it gets the lock and gives it up.

mod handle;
mod lock;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bellwether_dcs::{Deadline, Key, Renewal, Store, alarm::Alarm, codec::keys};
use bellwether_ha::{
    lease::{self, Rests},
    view::{LeaseView, Watchdog},
};
use bellwether_types::{MemberName, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::handle::Command;
pub(crate) use self::handle::{Acquired, Also, LeaseHandle, LeaseState, Over, Released, Wanted};
use crate::{clock, fencing::Fencing, measures::Measures};

/// The task. Spawn [`LeaseKeeper::run`] and await it.
#[derive(Debug)]
pub(crate) struct LeaseKeeper {
    store: Arc<dyn Store>,
    me: MemberName,
    ttl: watch::Receiver<Duration>,
    fencing: Fencing,
    heartbeat: Arc<AtomicU64>,
    commands: mpsc::Receiver<Command>,
    state: watch::Sender<LeaseState>,
    granted_ttl: Duration,
    /// For how long the store guaranteed the last renewal; `None` before the first one of a lease.
    guaranteed: Option<Duration>,
    next_renewal: Timestamp,
    /// How long renewals take.
    pub(crate) measures: Measures,
}

impl LeaseKeeper {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        me: MemberName,
        ttl: watch::Receiver<Duration>,
        fencing: Fencing,
    ) -> (Self, LeaseHandle) {
        // Few callers, all of which wait for the answer.
        let (sender, commands) = mpsc::channel(16);
        let (state, watched) = watch::channel(LeaseState { lease: None, view: LeaseView::NotHeld });
        let heartbeat = Arc::new(AtomicU64::new(clock::now().as_nanos()));
        let granted_ttl = *ttl.borrow();
        let next_renewal = clock::now();
        let handle = LeaseHandle { commands: sender, state: watched, heartbeat: heartbeat.clone() };
        (
            Self {
                store,
                me,
                ttl,
                fencing,
                heartbeat,
                commands,
                state,
                granted_ttl,
                guaranteed: None,
                next_renewal,
                measures: Measures::default(),
            },
            handle,
        )
    }

    /// Runs until `stop`. Does not revoke the lease: a stopped agent in pause leaves its keys to expire.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut alarm = Alarm::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                command = self.commands.recv() => match command {
                    None => return,
                    Some(command) => self.obey(command).await,
                },
                Ok(()) = self.ttl.changed() => self.renew().await,
                () = alarm.at(self.next_renewal) => self.renew().await,
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Acquire { wanted, answer } => {
                let acquired = self.acquire(*wanted).await;
                let _ = answer.send(acquired);
            }
            Command::Release { status, answer } => {
                let released = self.release(status).await;
                let _ = answer.send(released);
            }
            Command::Extend { began_at, good_for } => self.extend(began_at, good_for).await,
            Command::Forget => self.set_view(LeaseView::NotHeld),
        }
    }

    /// By the shorter one while a change of `ttl` is under way: a lease of the old length is still to be kept. Some stores guarantee
    /// less than they grant.
    fn period(&self) -> Duration {
        lease::renewal_period(self.at_most_guaranteed(self.granted_ttl.min(*self.ttl.borrow())))
    }

    /// How far apart renewals are while they are answered.
    fn pace(&self) -> Duration {
        let held = matches!(self.state.borrow().view, LeaseView::Held { .. });
        let rests = match self.fencing.watchdog.view() {
            _ if !held => Rests::Membership,
            Watchdog::Optional { active: true } | Watchdog::Required { active: true, .. } => Rests::Watchdog,
            _ => Rests::Leadership,
        };
        lease::renewal_pace(self.at_most_guaranteed(self.granted_ttl.min(*self.ttl.borrow())), rests)
    }

    fn at_most_guaranteed(&self, time: Duration) -> Duration {
        self.guaranteed.map_or(time, |guaranteed| time.min(guaranteed))
    }

    fn budget(&self) -> Deadline {
        Deadline::after(self.period())
    }

    fn set_view(&self, view: LeaseView) {
        if !matches!(view, LeaseView::Held { .. }) {
            self.fencing.lost();
        }
        self.state.send_if_modified(|state| {
            let changed = state.view != view;
            state.view = view;
            changed
        });
    }

    /// The lock is not ours any more. What the last confirmation promised stays true: nobody was to have it before then.
    fn rejected(&self) -> LeaseView {
        let good_until = match self.state.borrow().view {
            LeaseView::Held { demote_at, .. } => demote_at,
            LeaseView::Rejected { good_until, .. } => good_until,
            LeaseView::NotHeld => Timestamp::ZERO,
        };
        LeaseView::Rejected { at: clock::now(), good_until }
    }

    /// One renewal. Everything unexpected counts as "not renewed".
    async fn renew(&mut self) {
        self.next_renewal = clock::now() + self.period();
        if self.loop_is_stuck() {
            warn!("the loop has not decided anything for a whole ttl: the lease is not renewed");
            return;
        }
        // For all steps, like that of `acquire`.
        let by = self.budget();
        let Some(lease) = self.current_lease(by).await else {
            self.note_unavailable();
            return;
        };
        let holding = matches!(self.state.borrow().view, LeaseView::Held { .. });
        let leader = Key::new(keys::LEADER);
        let sent_at = clock::now();
        // A new lease for a new `ttl` could not be had: what that has cost must not cost the lease that there is.
        let by = if self.granted_ttl == *self.ttl.borrow() { by } else { self.budget() };
        let store = self.store.clone();
        let mut renewal = store.keep_alive(lease, holding.then_some(&leader), by);
        // A renewal that gets no answer takes its whole time. Nothing that is asked meanwhile may wait for it, least of all the
        // promises of the other members, which are what we need in just this silence.
        let renewal = loop {
            tokio::select! {
                renewal = &mut renewal => break renewal,
                Some(command) = self.commands.recv() => match command {
                    Command::Extend { began_at, good_for } => self.extend(began_at, good_for).await,
                    command => {
                        drop(renewal);
                        self.next_renewal = clock::now();
                        return self.obey(command).await;
                    }
                }
            }
        };
        self.conclude(renewal, sent_at, holding).await;
    }

    async fn conclude(&mut self, renewal: Renewal, sent_at: Timestamp, holding: bool) {
        if let Renewal::Valid { guaranteed } = renewal {
            self.measures.renewed(clock::now().since(sent_at));
            self.guaranteed = Some(guaranteed);
            self.next_renewal = sent_at + self.pace();
        }
        match renewal {
            Renewal::Valid { guaranteed } if holding => self.confirm(sent_at, guaranteed).await,
            Renewal::Valid { .. } => {}
            Renewal::Gone => {
                info!(holding, "the store has dropped our lease");
                self.state.send_modify(|state| state.lease = None);
                if holding {
                    self.set_view(self.rejected());
                }
                self.next_renewal = clock::now();
            }
            Renewal::NotHolding => {
                warn!("the leader lock is no longer ours");
                self.set_view(self.rejected());
            }
            Renewal::Unavailable(error) => {
                debug!(%error, "no answer to a lease renewal");
                self.note_unavailable();
                // Try again at once after a quick failure, but not faster than five times a period.
                self.next_renewal = self.next_renewal.min(clock::now() + self.period() / 5);
            }
        }
    }

    /// The guardian hears of it before anybody may rely on it.
    async fn confirm(&mut self, sent_at: Timestamp, guaranteed: Duration) {
        let limits = lease::limits(sent_at, guaranteed);
        self.fencing.extend(limits.until);
        self.state.send_modify(|state| {
            if let LeaseView::Held { until, demote_at, unavailable_since, .. } = &mut state.view {
                *until = limits.until.max(*until);
                *demote_at = limits.demote_at.max(*demote_at);
                *unavailable_since = None;
            }
        });
        self.fencing.ping(limits.until);
    }

    fn note_unavailable(&self) {
        self.state.send_if_modified(|state| match &mut state.view {
            LeaseView::Held { unavailable_since: since @ None, .. } => {
                *since = Some(clock::now());
                true
            }
            _ => false,
        });
    }

    fn loop_is_stuck(&self) -> bool {
        let last = Timestamp::from_nanos(self.heartbeat.load(Ordering::Relaxed));
        clock::now().since(last) > (*self.ttl.borrow()).max(Duration::from_secs(2))
    }
}
