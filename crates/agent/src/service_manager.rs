//! What the service manager is told that started this process (systemd's `Type=notify` and `notify-reload`). Without one, nothing.

use std::{future::Future, pin::pin, time::Duration};

use bellwether_types::Timestamp;
use sd_notify::NotifyState;
use tracing::debug;

use crate::clock;

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

    /// Goes on telling that the loop lives while it waits for `work` that may take as long as it takes: the removal of terabytes is no
    /// reason to be killed in the middle of it.
    pub(crate) async fn alive_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.tell_during(work, |manager| manager.alive(clock::now())).await
    }

    async fn tell_during<T>(&mut self, work: impl Future<Output = T>, mut alive: impl FnMut(&mut Self)) -> T {
        let mut work = pin!(work);
        loop {
            alive(self);
            let Some(period) = self.alive_every else { return work.await };
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(period) => {}
            }
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

    #[tokio::test]
    async fn a_long_removal_is_no_silence() {
        let period = Duration::from_millis(5);
        let mut manager = ServiceManager { alive_every: Some(period), told_alive_at: None };
        let (told, telling) = tokio::sync::watch::channel(0);
        let removal = async move {
            let mut telling = telling;
            telling.wait_for(|times| *times >= 4).await.map(|times| *times)
        };
        let told_meanwhile = manager.tell_during(removal, |_| told.send_modify(|times| *times += 1));
        let heard = tokio::time::timeout(Duration::from_secs(60), told_meanwhile).await;
        assert!(heard.expect("it is told while the removal runs").is_ok());
    }
}
