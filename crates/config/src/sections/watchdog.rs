//! `watchdog`: what stops PostgreSQL when the agent cannot.

use std::{path::PathBuf, time::Duration};

use crate::{section::Section, value::lenient_bool};

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

impl Watchdog {
    pub(crate) fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        // The guardian is not Patroni's: its word must be right.
        let strict = section.strict();
        let device = section.file("device").unwrap_or(default.device);
        let margin = section.integer("safety_margin", -1..=i64::from(u32::MAX));
        Self {
            mode: read_mode(section).unwrap_or(default.mode),
            device,
            safety_margin: margin.map_or(default.safety_margin, |margin| {
                u64::try_from(margin).map_or(SafetyMargin::HalfTtl, SafetyMargin::Seconds)
            }),
            driver: section
                .choice(
                    "driver",
                    &[("default", WatchdogDriver::Default), ("testing", WatchdogDriver::Testing)],
                )
                .unwrap_or(default.driver),
            guardian: strict
                .choice(
                    "guardian",
                    &[
                        ("auto", GuardianMode::Auto),
                        ("on", GuardianMode::On),
                        ("off", GuardianMode::Off),
                        ("true", GuardianMode::On),
                        ("false", GuardianMode::Off),
                        ("yes", GuardianMode::On),
                        ("no", GuardianMode::Off),
                    ],
                )
                .unwrap_or(default.guardian),
        }
    }
}

/// A word that is not known turns the device off, as in Patroni, and is warned about.
fn read_mode(section: &Section<'_>) -> Option<WatchdogMode> {
    let written = section.node("mode")?.to_value();
    let word = written.as_str().map(str::to_ascii_lowercase);
    Some(match (word.as_deref(), lenient_bool(&written)) {
        (Some("automatic" | "auto"), _) => WatchdogMode::Automatic,
        (Some("required" | "require"), _) => WatchdogMode::Required,
        (Some("off" | "disable" | "disabled"), _) | (_, Some(false)) => WatchdogMode::Off,
        _ => {
            let warning =
                section.about("mode", "is not a word that is known here, and turns the watchdog off");
            section.report.warn(warning.help("use one of: off, automatic, required"));
            WatchdogMode::Off
        }
    })
}
