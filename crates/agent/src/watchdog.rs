//! The watchdog device: the second line of fencing, for a kernel that hangs or an agent that is frozen with it.
//!
//! While it is active, the machine is reset unless somebody pings it. It is pinged after each confirmed renewal of the leader lock
//! (or failsafe round) and at no other time: that is what makes it worth something. When it is activated and disabled is decided in
//! `bellwether-ha`; the arithmetic is Patroni's: it fires `ttl - safety_margin` after the last ping.

mod linux;
mod testing;

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bellwether_config::sections::watchdog::{Watchdog as Section, WatchdogDriver, WatchdogMode};
use bellwether_ha::view;
use bellwether_types::{Timestamp, settings::Settings};
use tracing::{debug, info, warn};

use crate::clock;

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

/// The one watchdog of this agent. Cheap to clone; calls are writes of a few bytes to a device.
#[derive(Clone, Debug)]
pub(crate) struct Watchdog(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    section: Section,
    timing: Timing,
    active: Option<Active>,
    /// When an attempt failed, so that a member that needs the device leaves the lock to others for a while.
    failed_at: Option<Timestamp>,
    /// Said already: the same failure is not told twice.
    told: String,
}

#[derive(Debug)]
struct Active {
    device: Box<dyn Device>,
    timing: Timing,
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

impl Watchdog {
    pub(crate) fn new(section: &Section, settings: &Settings) -> Self {
        let timing = Timing::new(section, settings);
        let section = section.clone();
        let state = State { section, timing, active: None, failed_at: None, told: String::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Takes a new configuration. An active device hears of it with its next ping, unless it is switched off.
    pub(crate) fn configure(&self, section: &Section, settings: &Settings) {
        let mut state = self.lock();
        let timing = Timing::new(section, settings);
        if state.section == *section && state.timing == timing {
            return;
        }
        let other_device = (&state.section.device, state.section.driver) != (&section.device, section.driver);
        (state.section, state.timing, state.failed_at) = (section.clone(), timing, None);
        if section.mode == WatchdogMode::Off || other_device {
            state.disable();
        }
    }

    /// What decisions know about it.
    pub(crate) fn view(&self) -> view::Watchdog {
        let state = self.lock();
        let active = state.active.is_some();
        match state.section.mode {
            WatchdogMode::Off => view::Watchdog::Off,
            WatchdogMode::Automatic => view::Watchdog::Optional { active },
            WatchdogMode::Required => {
                view::Watchdog::Required { usable: active || state.is_usable(), active }
            }
        }
    }

    /// It is required and would not work: others need not wait for this member.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.view(), view::Watchdog::Required { usable: false, .. })
    }

    /// Opens the device and sets it up. Whether it is active.
    pub(crate) fn activate(&self) -> bool {
        self.lock().activate()
    }

    /// Nothing is left that the device would have to end. Whether it was active.
    pub(crate) fn disable(&self) -> bool {
        self.lock().disable()
    }

    /// The store has confirmed that we lead.
    pub(crate) fn keep_alive(&self) {
        self.lock().keep_alive();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_usable(&self) -> bool {
        let resting = self.failed_at.is_some_and(|at| clock::now().since(at) < self.timing.ttl);
        let path = &self.section.device;
        let writable = rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
        !resting && self.timing.slack().is_some() && writable
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
        let mut device: Box<dyn Device> = match self.section.driver {
            WatchdogDriver::Default => Box::new(linux::Linux::open(path)?),
            WatchdogDriver::Testing => Box::new(testing::Testing::open(path)?),
        };
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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use bellwether_config::sections::watchdog::SafetyMargin;

    use super::*;

    fn section(device: &Path, mode: WatchdogMode) -> Section {
        Section { mode, device: device.to_owned(), driver: WatchdogDriver::Testing, ..Section::default() }
    }

    fn settings(ttl: u64, loop_wait: u64) -> Settings {
        Settings {
            ttl: Duration::from_secs(ttl),
            loop_wait: Duration::from_secs(loop_wait),
            ..Settings::default()
        }
    }

    /// What the device has heard since it was read last. (A file takes it at its beginning, like a device.)
    fn heard(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_timing_is_patronis() {
        let device = Path::new("/dev/watchdog");
        for (ttl, loop_wait, margin, timeout, slack) in [
            (30, 10, SafetyMargin::Seconds(5), 25, Some(15)),
            (21, 10, SafetyMargin::Seconds(5), 16, Some(6)),
            (30, 10, SafetyMargin::HalfTtl, 15, Some(5)),
            (30, 20, SafetyMargin::HalfTtl, 15, None),
            (5, 1, SafetyMargin::Seconds(5), 0, None),
        ] {
            let section = Section { safety_margin: margin, ..section(device, WatchdogMode::Automatic) };
            let timing = Timing::new(&section, &settings(ttl, loop_wait));
            assert_eq!((timing.timeout, timing.slack()), (timeout, slack), "{ttl} {loop_wait} {margin:?}");
        }
    }

    #[test]
    fn it_hears_its_timeout_then_pings_then_its_end_and_nothing_while_inactive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device");
        fs::write(&path, "").unwrap();
        let watchdog = Watchdog::new(&section(&path, WatchdogMode::Required), &settings(30, 10));
        watchdog.keep_alive();
        assert_eq!(heard(&path), "", "nobody leads");
        assert_eq!(watchdog.view(), view::Watchdog::Required { usable: true, active: false });
        assert!(watchdog.activate() && watchdog.activate());
        assert_eq!(heard(&path), "Ctimeout=25\n1");
        watchdog.keep_alive();
        watchdog.configure(&section(&path, WatchdogMode::Required), &settings(21, 10));
        assert_eq!(heard(&path), "Ctimeout=25\n11", "only a renewal may touch it");
        watchdog.keep_alive();
        assert!(watchdog.disable() && !watchdog.disable());
        watchdog.keep_alive();
        assert_eq!(heard(&path), "Ctimeout=25\n111Ctimeout=16\nV");
    }

    #[test]
    fn a_required_device_that_does_not_work_keeps_this_member_out() {
        let missing = Path::new("/nonexistent/watchdog");
        let watchdog = Watchdog::new(&section(missing, WatchdogMode::Required), &settings(30, 10));
        assert!(watchdog.has_failed(), "others can be told before it is tried");
        assert!(!watchdog.activate());

        let optional = Watchdog::new(&section(missing, WatchdogMode::Automatic), &settings(30, 10));
        assert!(!optional.activate() && !optional.has_failed());
        assert_eq!(optional.view(), view::Watchdog::Optional { active: false });

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device");
        fs::write(&path, "").unwrap();
        let hasty = Watchdog::new(&section(&path, WatchdogMode::Required), &settings(20, 16));
        assert!(hasty.has_failed() && !hasty.activate(), "15 seconds are too short for a loop of 16");
        hasty.configure(&section(&path, WatchdogMode::Required), &settings(30, 16));
        assert!(!hasty.has_failed() && hasty.activate(), "a new configuration is a new chance");
    }

    #[test]
    fn what_is_no_device_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();
        let section = Section { driver: WatchdogDriver::Default, ..section(&path, WatchdogMode::Required) };
        let watchdog = Watchdog::new(&section, &settings(30, 10));
        assert!(!watchdog.activate());
        assert!(watchdog.has_failed(), "it rests for a ttl");
        assert_eq!(heard(&path), "data");
    }

    #[test]
    fn switching_it_off_disarms_it_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device");
        fs::write(&path, "").unwrap();
        let watchdog = Watchdog::new(&section(&path, WatchdogMode::Automatic), &settings(30, 10));
        assert!(watchdog.activate());
        watchdog.configure(&section(&path, WatchdogMode::Off), &settings(30, 10));
        assert_eq!(heard(&path), "Ctimeout=25\n1V");
        assert_eq!(watchdog.view(), view::Watchdog::Off);
    }
}
