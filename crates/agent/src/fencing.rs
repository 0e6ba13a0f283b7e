//! What ends PostgreSQL if the agent cannot: the watchdog device, and the guardian process as the agent holds it: started before it
//! is needed, armed before PostgreSQL may write, extended with every confirmed renewal, replaced when it dies.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bellwether_guardian::{ControlError, Guardian, Mode, SpawnOptions};
use bellwether_ha::view;
use bellwether_types::Timestamp;
use tracing::{debug, error, info, warn};

use crate::watchdog::Watchdog;

/// Whether and how this member is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuardianUse {
    On,
    /// `watchdog.driver: testing`: it records what it would do and stops nobody.
    Rehearsal,
    Off,
}

/// The one guardian of this agent. Cheap to clone; calls take a tenth of a millisecond, 200 ms at worst.
#[derive(Clone, Debug)]
pub(crate) struct Fencing {
    usage: GuardianUse,
    data_dir: PathBuf,
    runtime_dir: PathBuf,
    pub(crate) watchdog: Watchdog,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    guardian: Option<Arc<Guardian>>,
    armed_until: Option<Timestamp>,
}

impl Fencing {
    pub(crate) fn new(
        usage: GuardianUse,
        data_dir: PathBuf,
        runtime_dir: PathBuf,
        watchdog: Watchdog,
    ) -> Self {
        Self { usage, data_dir, runtime_dir, watchdog, state: Arc::default() }
    }

    /// What decisions know about it. A rehearsal is decided on like the real thing, or it would prove nothing.
    pub(crate) fn view(&self) -> view::Guardian {
        if self.usage == GuardianUse::Off {
            return view::Guardian::Off;
        }
        let state = self.lock();
        match (&state.guardian, state.armed_until) {
            (Some(guardian), _) if !guardian.is_alive() => view::Guardian::Dead,
            (None, _) => view::Guardian::Dead,
            (Some(_), Some(until)) => view::Guardian::Armed { until },
            (Some(_), None) => view::Guardian::Ready,
        }
    }

    /// Starts a guardian if there is none that lives. Blocking, some milliseconds. Earlier ones stay until this one is armed.
    pub(crate) fn respawn(&self) -> bool {
        if self.usage == GuardianUse::Off {
            return true;
        }
        if self.lock().guardian.as_ref().is_some_and(|guardian| guardian.is_alive()) {
            return true;
        }
        // Without the lock: the lease keeper must not wait for a process to start.
        let options = SpawnOptions {
            exe: PathBuf::from("/proc/self/exe"),
            data_dir: self.data_dir.clone(),
            runtime_dir: self.runtime_dir.clone(),
            mode: if self.usage == GuardianUse::Rehearsal { Mode::Rehearse } else { Mode::Fence },
        };
        match Guardian::spawn(options) {
            Ok(guardian) => {
                debug!(pid = guardian.pid(), locked = guardian.memory_locked(), "guardian started");
                *self.lock() = State { guardian: Some(Arc::new(guardian)), armed_until: None };
                true
            }
            Err(error) => {
                error!(
                    error = &error as &dyn std::error::Error,
                    "no guardian: this member cannot be promoted"
                );
                false
            }
        }
    }

    /// Sets the deadline and reads the acknowledgement; then ends the guardians that earlier agents left behind.
    pub(crate) fn arm(&self, until: Timestamp) -> bool {
        let mut state = self.lock();
        let Some(guardian) = state.guardian.clone() else { return self.usage == GuardianUse::Off };
        match guardian.arm(until) {
            Ok(acked) => {
                state.armed_until = acked.armed;
                // One that hangs is waited for: not by us.
                std::thread::spawn(move || dismiss_others(&guardian));
                true
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "the guardian did not take the deadline");
                // It may have taken it all the same: then it must be extended and disarmed like an armed one.
                if guardian.is_alive() {
                    state.armed_until.get_or_insert(until);
                }
                false
            }
        }
    }

    /// The right to lead was confirmed: moves the deadline if one is set. The watchdog is to be pinged by [`Fencing::ping`].
    pub(crate) fn extend(&self, until: Timestamp) {
        let mut state = self.lock();
        if state.armed_until.is_none_or(|armed| armed >= until) {
            return;
        }
        let Some(guardian) = &state.guardian else { return };
        match guardian.extend(until) {
            Ok(acked) => state.armed_until = acked.armed,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "the guardian did not take the new deadline");
                // It has fired, or it is gone: nothing guards this member until it is armed anew.
                if matches!(error, ControlError::NotArmed { .. }) || !guardian.is_alive() {
                    state.armed_until = None;
                }
            }
        }
    }

    /// The same for the watchdog, once everybody knows who relies on the lock: last, for it is the last to be needed.
    pub(crate) fn ping(&self, until: Timestamp) {
        self.watchdog.ping(until);
    }

    /// The right to lead is gone.
    pub(crate) fn lost(&self) {
        self.watchdog.drop_ping();
    }

    /// Takes the deadline away: PostgreSQL is gone, a replica, or paused.
    pub(crate) fn disarm(&self) -> bool {
        let mut state = self.lock();
        let Some(guardian) = &state.guardian else { return true };
        match guardian.disarm() {
            Ok(_) => {
                state.armed_until = None;
                true
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "the guardian could not be disarmed");
                false
            }
        }
    }

    /// Ends the guardians that earlier agents left behind, whose deadlines would end a server that is no primary any more.
    /// Only when it is certain that PostgreSQL does not run as a primary. Blocking: for a thread of its own.
    pub(crate) fn dismiss_earlier(&self) {
        if let Some(guardian) = self.lock().guardian.clone() {
            dismiss_others(&guardian);
        }
    }

    /// Ends the guardian: the agent stops and nothing is left to guard.
    pub(crate) fn dismiss(&self) {
        if let Some(guardian) = self.lock().guardian.take()
            && let Err(error) = guardian.dismiss()
        {
            warn!(error = &error as &dyn std::error::Error, "the guardian could not be dismissed");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn dismiss_others(guardian: &Guardian) {
    match guardian.dismiss_others() {
        Ok(dismissed) if !dismissed.is_empty() => {
            info!(count = dismissed.len(), "earlier guardians dismissed");
        }
        Ok(_) => {}
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "an earlier guardian could not be dismissed");
        }
    }
}
