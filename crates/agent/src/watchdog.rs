//! The watchdog device: the second line of fencing, for a kernel that hangs or an agent that is frozen with it.
//!
//! While it is active, the machine is reset unless somebody pings it. It is pinged after each confirmed renewal of the leader lock
//! (or failsafe round) and at no other time: that is what makes it worth something. When it is activated and disabled is decided in
//! `bellwether-ha`; the arithmetic is Patroni's: it fires `ttl - safety_margin` after the last ping.
//!
//! Drivers may be slow, or hang. So the device belongs to a thread of its own ([`feeder`]): the loop and the lease keeper leave word
//! for it and read what it has published, and never wait for the device.

mod feeder;
mod linux;
mod testing;

use std::{
    fmt, io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bellwether_config::sections::watchdog::{Watchdog as Section, WatchdogMode};
use bellwether_ha::view;
use bellwether_types::{Timestamp, settings::Settings};
use tokio::sync::watch;

use self::feeder::{Feeder, Open};
use crate::clock;

/// How long the loop waits for a device to be set up: healthy ones take less, and count before what comes after them.
const MOMENT: Duration = Duration::from_millis(250);
/// A device that has not answered for so long does not work.
const HUNG: Duration = Duration::from_secs(5);
/// How soon a device is tried again that did not work and need not: most machines have none, and each attempt wakes two threads.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// How old what is known about the file of a device may be that is not open.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A device that is open, and so counts.
trait Device: fmt::Debug + Send {
    /// What it calls itself.
    fn identity(&self) -> String;
    /// Sets the time after which it fires, if it can, and returns the one in force. In seconds.
    fn set_timeout(&mut self, seconds: u32) -> io::Result<u32>;
    fn ping(&mut self) -> io::Result<()>;
    /// Whether a disarmed device stops counting.
    fn can_be_disarmed(&self) -> bool;
    fn disarm(&mut self) -> io::Result<()>;
}

/// The one watchdog of this agent. Cheap to clone; no call waits for the device, except for a moment where it says so.
#[derive(Clone, Debug)]
pub(crate) struct Watchdog(Arc<Owner>);

/// The last one of them ends the thread, and leaves an active device counting.
#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.wake.notify_all();
    }
}

/// Between the thread and everybody else. The lock is never held while anything is done to the device.
#[derive(Debug)]
struct Shared {
    inbox: Mutex<Inbox>,
    wake: Condvar,
    public: watch::Sender<Public>,
}

/// What the thread is to do, in the order of the fields. Of each the latest counts, so it never grows.
#[derive(Debug, Default)]
struct Inbox {
    configure: Option<(Section, Timing)>,
    disarm: bool,
    activate: bool,
    /// The lock was confirmed, until then: nobody may ping later on its account.
    ping: Option<Timestamp>,
    look: bool,
    closed: bool,
}

/// What is known about the device without asking it.
#[derive(Clone, Debug)]
struct Public {
    section: Section,
    timing: Timing,
    active: bool,
    /// When an attempt failed, so that a member that needs the device leaves the lock to others for a while.
    failed_at: Option<Timestamp>,
    writable: bool,
    looked_at: Timestamp,
    /// What was left for the thread is not done.
    busy_since: Option<Timestamp>,
}

impl Public {
    fn view(&self) -> view::Watchdog {
        let active = self.active;
        match self.section.mode {
            WatchdogMode::Off => view::Watchdog::Off,
            WatchdogMode::Automatic => view::Watchdog::Optional { active },
            WatchdogMode::Required => {
                view::Watchdog::Required { usable: active || self.is_usable(clock::now()), active }
            }
        }
    }

    fn is_usable(&self, now: Timestamp) -> bool {
        let resting = self.failed_at.is_some_and(|at| now.since(at) < self.timing.ttl);
        let hung = self.busy_since.is_some_and(|at| now.since(at) >= HUNG);
        !resting && !hung && self.timing.slack().is_some() && self.writable
    }

    /// It failed a moment ago, and nobody needs it.
    fn is_given_up(&self, now: Timestamp) -> bool {
        let failed = self.failed_at.is_some_and(|at| now.since(at) < TRY_AGAIN);
        failed && self.section.mode == WatchdogMode::Automatic
    }
}

impl Watchdog {
    pub(crate) fn new(section: &Section, settings: &Settings) -> Self {
        Self::with_devices(section, settings, Box::new(feeder::open))
    }

    fn with_devices(section: &Section, settings: &Settings, open: Open) -> Self {
        let timing = Timing::new(section, settings);
        let public = Public {
            section: section.clone(),
            timing,
            active: false,
            failed_at: None,
            writable: feeder::is_writable(section),
            looked_at: clock::now(),
            busy_since: None,
        };
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            wake: Condvar::new(),
            public: watch::Sender::new(public),
        });
        let feeder = Feeder::new(section.clone(), timing, open);
        let for_thread = shared.clone();
        std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || feeder.run(&for_thread))
            .expect("the kernel gives a process its first threads");
        Self(Arc::new(Owner(shared)))
    }

    /// Takes a new configuration. An active device hears of it with its next ping, unless it is switched off.
    pub(crate) fn configure(&self, section: &Section, settings: &Settings) {
        let timing = Timing::new(section, settings);
        let (same, other_device) = {
            let public = self.shared().public.borrow();
            let before = &public.section;
            let other = (&before.device, before.driver) != (&section.device, section.driver);
            (*before == *section && public.timing == timing, other)
        };
        if same {
            return;
        }
        self.shared().post(|inbox, public| {
            (public.section, public.timing, public.failed_at) = (section.clone(), timing, None);
            if other_device {
                // Known in a moment. Nothing is promoted before it is open.
                public.writable = true;
            }
            if section.mode == WatchdogMode::Off || other_device {
                inbox.give_up(public);
            }
            (inbox.configure, inbox.look) = (Some((section.clone(), timing)), true);
        });
    }

    /// What decisions know about it.
    pub(crate) fn view(&self) -> view::Watchdog {
        let (view, is_old) = {
            let public = self.shared().public.borrow();
            let is_old = public.busy_since.is_none() && clock::now().since(public.looked_at) >= LOOK_EVERY;
            (public.view(), is_old)
        };
        if is_old && matches!(view, view::Watchdog::Required { active: false, .. }) {
            self.shared().post(|inbox, _| inbox.look = true);
        }
        view
    }

    /// It is required and would not work: others need not wait for this member.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.view(), view::Watchdog::Required { usable: false, .. })
    }

    /// Has the device opened and set up. Whether it is active; what takes longer than a moment is told by [`Watchdog::news`].
    pub(crate) async fn activate(&self) -> bool {
        let (is_active, is_idle, is_slow) = {
            let (public, now) = (self.shared().public.borrow(), clock::now());
            let is_slow = public.busy_since.is_some_and(|at| now.since(at) >= MOMENT);
            (public.active, public.section.mode == WatchdogMode::Off || public.is_given_up(now), is_slow)
        };
        if is_active || is_idle {
            return is_active;
        }
        self.shared().post(|inbox, _| inbox.activate = true);
        if !is_slow {
            self.settle(MOMENT).await;
        }
        self.shared().public.borrow().active
    }

    /// Nothing is left that the device would have to end. Whether it was active.
    pub(crate) fn disable(&self) -> bool {
        self.shared().post(|inbox, public| inbox.give_up(public))
    }

    /// The right to lead was confirmed, `until` then. Tells an active device, unless it is too late for that when its turn comes.
    pub(crate) fn ping(&self, until: Timestamp) {
        if self.shared().public.borrow().active {
            self.shared().post(|inbox, _| inbox.ping = Some(until));
        }
    }

    /// The right to lead is gone: what was confirmed before counts no more.
    pub(crate) fn drop_ping(&self) {
        self.shared().lock().ping = None;
    }

    /// Waits until everything is done that was asked for, but not longer than `patience`.
    pub(crate) async fn settle(&self, patience: Duration) {
        let mut public = self.shared().public.subscribe();
        let done = public.wait_for(|public| public.busy_since.is_none());
        drop(tokio::time::timeout(patience, done).await);
    }

    /// Tells when decisions would see another device than now.
    pub(crate) fn news(&self) -> WatchdogNews {
        let public = self.shared().public.subscribe();
        let known = public.borrow().view();
        WatchdogNews { public, known }
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }
}

/// Wakes the loop. Pings are no news.
#[derive(Debug)]
pub(crate) struct WatchdogNews {
    public: watch::Receiver<Public>,
    known: view::Watchdog,
}

impl WatchdogNews {
    pub(crate) async fn arrives(&mut self) {
        while self.public.changed().await.is_ok() {
            let view = self.public.borrow_and_update().view();
            if std::mem::replace(&mut self.known, view) != view {
                return;
            }
        }
        std::future::pending().await
    }
}

impl Inbox {
    /// From now on it counts as inactive. Whether it was active.
    fn give_up(&mut self, public: &mut Public) -> bool {
        (self.disarm, self.activate, self.ping) = (true, false, None);
        std::mem::replace(&mut public.active, false)
    }

    fn is_empty(&self) -> bool {
        let Self { configure, disarm, activate, ping, look, closed } = self;
        configure.is_none() && !disarm && !activate && ping.is_none() && !look && !closed
    }
}

impl Shared {
    /// Leaves word for the thread.
    fn post<T>(&self, change: impl FnOnce(&mut Inbox, &mut Public) -> T) -> T {
        let mut inbox = self.lock();
        let mut result = None;
        self.public.send_modify(|public| {
            result = Some(change(&mut inbox, public));
            public.busy_since.get_or_insert_with(clock::now);
        });
        self.wake.notify_all();
        result.expect("it has been called")
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the device is set up, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timing {
    timeout: u32,
    loop_wait: u32,
    ttl: Duration,
}

impl Timing {
    fn new(section: &Section, settings: &Settings) -> Self {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        Self {
            timeout: seconds(section.device_timeout(settings.ttl)),
            loop_wait: seconds(settings.loop_wait),
            ttl: settings.ttl,
        }
    }

    /// For a loop that is late. `None`: the device would fire between two loops that are in time.
    fn slack(self) -> Option<u32> {
        self.timeout.checked_sub(self.loop_wait).filter(|_| self.timeout > 0)
    }
}

#[cfg(test)]
pub(crate) mod tests;
