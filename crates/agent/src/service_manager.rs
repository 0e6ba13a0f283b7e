//! What the service manager is told that started this process (systemd's `Type=notify` and `notify-reload`). Without one, nothing.

use std::time::Duration;

use bellwether_types::Timestamp;
use sd_notify::NotifyState;
use tracing::debug;

/// Tells how far the agent is. A message that is lost changes nothing here.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    /// It wants to hear that often that the loop is alive, and kills the process otherwise.
    alive_every: Option<Duration>,
    told_alive_at: Option<Timestamp>,
}

impl ServiceManager {
    /// The one that the environment names.
    pub(crate) fn of_environment() -> Self {
        // Half of its patience, as its manual asks for; and a bit less, for timers are late.
        let alive_every = sd_notify::watchdog_enabled().map(|patience| patience * 2 / 5);
        Self { alive_every, told_alive_at: None }
    }

    /// The first decision comes next; or a reload is done.
    pub(crate) fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    pub(crate) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    pub(crate) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// The loop has just decided something.
    pub(crate) fn alive(&mut self, now: Timestamp) {
        if let Some(period) = self.alive_every
            && self.told_alive_at.is_none_or(|at| now.since(at) >= period)
        {
            self.told_alive_at = Some(now);
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// When the loop must be awake to tell that it is.
    pub(crate) fn wake_at(&self) -> Timestamp {
        match (self.alive_every, self.told_alive_at) {
            (Some(period), Some(at)) => at + period,
            _ => Timestamp::MAX,
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "the service manager could not be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_is_woken_to_tell_that_it_lives() {
        let mut manager = ServiceManager { alive_every: Some(Duration::from_secs(4)), told_alive_at: None };
        let now = Timestamp::from_millis(1_000);
        assert_eq!(manager.wake_at(), Timestamp::MAX, "the first tick comes by itself");
        manager.alive(now);
        manager.alive(now + Duration::from_secs(3));
        assert_eq!(manager.wake_at(), now + Duration::from_secs(4));
        manager.alive(now + Duration::from_secs(4));
        assert_eq!(manager.wake_at(), now + Duration::from_secs(8));
    }
}
