//! `watchdog`: what stops PostgreSQL when the agent cannot.

use std::{path::PathBuf, time::Duration};

/// The kernel device and our guardian process. Applied on reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    pub mode: WatchdogMode,
    pub device: PathBuf,
    pub safety_margin: SafetyMargin,
    pub driver: WatchdogDriver,
    /// Ours.
    pub guardian: GuardianMode,
}

/// `watchdog.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogMode {
    Off,
    Automatic,
    /// No leadership without an active watchdog.
    Required,
}

/// `watchdog.safety_margin`: how long before the end of the ttl the device fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SafetyMargin {
    Seconds(u64),
    /// `-1`: the timeout is half of the ttl.
    HalfTtl,
}

/// `watchdog.driver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogDriver {
    Default,
    /// A rehearsal: neither device nor guardian acts.
    Testing,
}

/// `watchdog.guardian`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardianMode {
    /// On, except with `driver: testing`.
    Auto,
    On,
    Off,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self {
            mode: WatchdogMode::Automatic,
            device: PathBuf::from("/dev/watchdog"),
            safety_margin: SafetyMargin::Seconds(5),
            driver: WatchdogDriver::Default,
            guardian: GuardianMode::Auto,
        }
    }
}

impl Watchdog {
    /// Whether the guardian guards this member.
    pub fn guardian_enabled(&self) -> bool {
        match self.guardian {
            GuardianMode::Auto => self.driver != WatchdogDriver::Testing,
            GuardianMode::On => true,
            GuardianMode::Off => false,
        }
    }

    /// The timeout to program into the device, in whole seconds; zero if the margin eats the ttl.
    pub fn device_timeout(&self, ttl: Duration) -> Duration {
        match self.safety_margin {
            SafetyMargin::HalfTtl => Duration::from_secs(ttl.as_secs() / 2),
            SafetyMargin::Seconds(margin) => Duration::from_secs(ttl.as_secs().saturating_sub(margin)),
        }
    }
}
