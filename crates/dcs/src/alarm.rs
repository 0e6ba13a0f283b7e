//! Waiting for a point in time by CLOCK_BOOTTIME.

use std::{io, os::fd::OwnedFd};

use bellwether_types::Timestamp;
use rustix::{
    io::{Errno, read},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::store;

/// A timer that one waits for again and again. Unlike tokio's it goes on while the machine is suspended, and wakes its process once for
/// each wait, however long: tokio's wheel takes up to three turns for what is minutes away.
#[derive(Debug)]
pub struct Alarm {
    /// `None` where the kernel gave none: then tokio's timers do.
    timer: Option<AsyncFd<OwnedFd>>,
    set_for: Option<Timestamp>,
}

impl Alarm {
    /// Must be called within a runtime of tokio.
    pub fn new() -> Self {
        let timer = make().inspect_err(|error| tracing::debug!(%error, "there is no timer to be had")).ok();
        Self { timer, set_for: None }
    }

    /// Completes at `time`, at once if that has passed. Safe to cancel; the next call may name another time.
    pub async fn at(&mut self, time: Timestamp) {
        let now = store::now();
        if time <= now {
            return;
        }
        if let Some(timer) = &self.timer {
            if self.set_for != Some(time) {
                self.set_for = set(timer, time).ok().map(|()| time);
            }
            if self.set_for.is_some() && rings(timer).await.is_ok() {
                self.set_for = None;
                return;
            }
        }
        tokio::time::sleep(now.until(time)).await;
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(deprecated, reason = "the safe constructor is fit for a descriptor that the AsyncFd owns")]
fn make() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    AsyncFd::with_interest(timerfd_create(TimerfdClockId::Boottime, flags)?, Interest::READABLE)
}

fn set(timer: &AsyncFd<OwnedFd>, time: Timestamp) -> io::Result<()> {
    let nanos = time.as_nanos();
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    let at = Timespec {
        tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
    };
    let wanted = Itimerspec { it_interval: never, it_value: at };
    timerfd_settime(timer.get_ref(), TimerfdTimerFlags::ABSTIME, &wanted)?;
    Ok(())
}

/// Setting it anew has taken back what it told of an earlier time, so a wake-up may be an old one.
async fn rings(timer: &AsyncFd<OwnedFd>) -> io::Result<()> {
    loop {
        let mut ready = timer.readable().await?;
        match read(timer.get_ref(), &mut [0; 8]) {
            Ok(_) => return Ok(()),
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn it_rings_at_its_time_and_not_before() {
        let mut alarm = Alarm::new();
        assert!(alarm.timer.is_some());
        for _ in 0..3 {
            let time = store::now() + Duration::from_millis(20);
            alarm.at(time).await;
            assert!(store::now() >= time);
        }
        alarm.at(Timestamp::ZERO).await;
    }

    #[tokio::test]
    async fn a_wait_that_was_given_up_does_not_ring_for_the_next() {
        let mut alarm = Alarm::new();
        let soon = store::now() + Duration::from_millis(5);
        tokio::select! {
            biased;
            () = alarm.at(soon) => panic!("it is not time"),
            () = std::future::ready(()) => {}
        }
        // It rings unheard, and is then set for later.
        while store::now() < soon + Duration::from_millis(5) {
            tokio::task::yield_now().await;
        }
        let later = tokio::time::timeout(Duration::from_millis(50), alarm.at(store::now() + LONG)).await;
        assert!(later.is_err(), "it rang for the earlier time");
        let time = store::now() + Duration::from_millis(5);
        tokio::time::timeout(LONG, alarm.at(time)).await.expect("an earlier time than before");
        assert!(store::now() >= time);
    }

    #[tokio::test]
    async fn without_a_timer_of_the_kernel_it_waits_all_the_same() {
        let mut alarm = Alarm { timer: None, set_for: None };
        let time = store::now() + Duration::from_millis(5);
        alarm.at(time).await;
        assert!(store::now() >= time);
    }
}
