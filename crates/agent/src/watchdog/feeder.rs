//! The thread that the device belongs to: nobody else waits for it.

use std::{io, sync::PoisonError};

use bellwether_config::sections::watchdog::{Watchdog as Section, WatchdogDriver, WatchdogMode};
use bellwether_types::Timestamp;
use tracing::{debug, info, warn};

use super::{Device, Inbox, Shared, Timing, linux::Linux, testing::Testing};
use crate::clock;

/// Opens the device that a configuration names.
pub(super) type Open = Box<dyn Fn(&Section) -> io::Result<Box<dyn Device>> + Send>;

pub(super) fn open(section: &Section) -> io::Result<Box<dyn Device>> {
    Ok(match section.driver {
        WatchdogDriver::Default => Box::new(Linux::open(&section.device)?),
        WatchdogDriver::Testing => Box::new(Testing::open(&section.device)?),
    })
}

pub(super) fn is_writable(section: &Section) -> bool {
    rustix::fs::access(&section.device, rustix::fs::Access::WRITE_OK).is_ok()
}

/// What the thread knows.
pub(super) struct Feeder {
    section: Section,
    timing: Timing,
    open: Open,
    active: Option<Active>,
    failed_at: Option<Timestamp>,
    /// Said already: the same failure is not told twice.
    told: String,
}

#[derive(Debug)]
struct Active {
    device: Box<dyn Device>,
    timing: Timing,
}

/// Why the device is not active.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(
        "the timeout of {timeout} s that `ttl` and `watchdog.safety_margin` leave is shorter than `loop_wait`: raise `ttl`, or set \
         `watchdog.safety_margin` to -1"
    )]
    TooShort { timeout: u32 },
    #[error("{0}")]
    Device(#[from] io::Error),
    #[error("its timeout is {actual} s and cannot be set to the {wanted} s that are needed")]
    TooLong { actual: u32, wanted: u32 },
    #[error("its timeout of {actual} s is shorter than `loop_wait`")]
    Hasty { actual: u32 },
}

impl Feeder {
    pub(super) fn new(section: Section, timing: Timing, open: Open) -> Self {
        Self { section, timing, open, active: None, failed_at: None, told: String::new() }
    }

    /// Does what it is asked for until nobody is left who could ask. An active device goes on counting then.
    pub(super) fn run(mut self, shared: &Shared) {
        while let Some(asked) = shared.next() {
            if let Some((section, timing)) = asked.configure {
                (self.section, self.timing, self.failed_at) = (section, timing, None);
            }
            if asked.disarm {
                self.disable();
            }
            if asked.activate {
                self.activate();
            }
            self.publish(shared);
            // Taken at the last moment: the lock may have been lost while the device was busy.
            if let Some(until) = shared.take_ping() {
                if clock::now() < until {
                    self.keep_alive();
                } else {
                    debug!("the watchdog device was busy: a confirmation is too old for a ping");
                }
                self.publish(shared);
            }
            if asked.look {
                let writable = is_writable(&self.section);
                shared
                    .public
                    .send_modify(|public| (public.writable, public.looked_at) = (writable, clock::now()));
            }
        }
    }

    /// What was asked for meanwhile is ahead of what is true.
    fn publish(&self, shared: &Shared) {
        let inbox = shared.lock();
        shared.public.send_modify(|public| {
            public.active = self.active.is_some() && !inbox.disarm;
            if inbox.configure.is_none() {
                public.failed_at = self.failed_at;
            }
        });
    }

    fn activate(&mut self) -> bool {
        if self.section.mode == WatchdogMode::Off {
            return false;
        }
        if self.active.is_some() {
            return true;
        }
        match self.set_up() {
            Ok(active) => {
                self.active = Some(active);
                self.failed_at = None;
                self.told.clear();
                true
            }
            Err(refusal) => {
                self.failed_at = Some(clock::now());
                self.tell(&refusal);
                false
            }
        }
    }

    fn set_up(&self) -> Result<Active, Refusal> {
        let timing = self.timing;
        let slack = timing.slack().ok_or(Refusal::TooShort { timeout: timing.timeout })?;
        let path = &self.section.device;
        let mut device = (self.open)(&self.section)?;
        match self.fit(device.as_mut()) {
            Ok(actual) => {
                info!(
                    device = %path.display(),
                    actual,
                    "{} activated with {} second timeout, timing slack {slack} seconds", device.identity(), timing.timeout
                );
                Ok(Active { device, timing })
            }
            Err(refusal) => {
                if let Err(error) = device.disarm() {
                    warn!(%error, "a watchdog device that is of no use cannot be disarmed: the machine may be reset");
                }
                Err(refusal)
            }
        }
    }

    /// Gives the device its time, and finds out whether it is of use with the one that it takes.
    fn fit(&self, device: &mut dyn Device) -> Result<u32, Refusal> {
        let wanted = self.timing.timeout;
        let actual = device.set_timeout(wanted)?;
        if actual > wanted {
            let refusal = Refusal::TooLong { actual, wanted };
            if self.section.mode == WatchdogMode::Required {
                return Err(refusal);
            }
            warn!(%refusal, "the watchdog may fire only after the leader lock has expired");
        }
        if actual < self.timing.loop_wait && device.can_be_disarmed() {
            return Err(Refusal::Hasty { actual });
        }
        device.ping()?;
        Ok(actual)
    }

    fn keep_alive(&mut self) {
        let timing = self.timing;
        let Some(active) = &mut self.active else { return };
        if let Err(error) = active.device.ping() {
            warn!(%error, "the watchdog device could not be pinged");
        }
        if active.timing == timing {
            return;
        }
        active.timing = timing;
        let Some(slack) = timing.slack() else {
            self.tell(&Refusal::TooShort { timeout: timing.timeout });
            self.disable();
            return;
        };
        match active.device.set_timeout(timing.timeout) {
            Ok(actual) => info!(
                actual,
                "{} updated with {} second timeout, timing slack {slack} seconds",
                active.device.identity(),
                timing.timeout
            ),
            Err(error) => warn!(%error, "the watchdog device keeps its old timeout"),
        }
    }

    fn disable(&mut self) -> bool {
        let Some(mut active) = self.active.take() else { return false };
        if !active.device.can_be_disarmed() {
            let _ = active.device.ping();
            warn!(
                "{} cannot be disarmed: the machine is reset {} seconds from now, unless this member leads again",
                active.device.identity(),
                active.timing.timeout
            );
            return true;
        }
        match active.device.disarm() {
            Ok(()) => info!("{} disabled", active.device.identity()),
            Err(error) => {
                warn!(%error, "the watchdog device could not be disarmed: the machine may be reset")
            }
        }
        true
    }

    fn tell(&mut self, refusal: &Refusal) {
        let text = format!("Could not activate Linux watchdog device: {refusal}");
        if text == self.told {
            return;
        }
        let device = self.section.device.display();
        let is_usual = match refusal {
            Refusal::TooShort { .. } => true,
            Refusal::Device(error) => error.kind() == io::ErrorKind::NotFound,
            _ => false,
        };
        if is_usual && self.section.mode == WatchdogMode::Automatic {
            // Most machines have none, leases may be shorter than it can be, and nobody asked for one.
            debug!(%device, "{text}");
        } else {
            warn!(%device, "{text}");
        }
        self.told = text;
    }
}

impl Shared {
    /// Waits for something to do, all but pings. `None`: nobody is left who could ask.
    fn next(&self) -> Option<Inbox> {
        let mut inbox = self.lock();
        while inbox.is_empty() {
            self.public.send_modify(|public| public.busy_since = None);
            inbox = self.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        self.public.send_modify(|public| public.busy_since = Some(clock::now()));
        let ping = inbox.ping;
        let asked = std::mem::replace(&mut *inbox, Inbox { ping, ..Inbox::default() });
        (!asked.closed).then_some(asked)
    }

    fn take_ping(&self) -> Option<Timestamp> {
        self.lock().ping.take()
    }
}
