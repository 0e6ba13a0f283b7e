use std::{fs, path::Path, sync::mpsc};

use bellwether_config::sections::watchdog::{SafetyMargin, WatchdogDriver};

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

/// For what must happen at once, on a machine that is busy.
const LONG: Duration = Duration::from_secs(60);

impl Watchdog {
    async fn told_to_ping(&self) {
        self.ping(clock::now() + LONG);
        self.settle(LONG).await;
    }

    async fn told_to_end(&self) -> bool {
        let was_active = self.disable();
        self.settle(LONG).await;
        was_active
    }
}

#[tokio::test]
async fn it_hears_its_timeout_then_pings_then_its_end_and_nothing_while_inactive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("device");
    fs::write(&path, "").unwrap();
    let watchdog = Watchdog::new(&section(&path, WatchdogMode::Required), &settings(30, 10));
    watchdog.told_to_ping().await;
    assert_eq!(heard(&path), "", "nobody leads");
    assert_eq!(watchdog.view(), view::Watchdog::Required { usable: true, active: false });
    assert!(watchdog.activate().await && watchdog.activate().await);
    assert_eq!(heard(&path), "Ctimeout=25\n1");
    watchdog.told_to_ping().await;
    watchdog.configure(&section(&path, WatchdogMode::Required), &settings(21, 10));
    watchdog.settle(LONG).await;
    assert_eq!(heard(&path), "Ctimeout=25\n11", "only a renewal may touch it");
    watchdog.told_to_ping().await;
    assert!(watchdog.told_to_end().await && !watchdog.told_to_end().await);
    watchdog.told_to_ping().await;
    assert_eq!(heard(&path), "Ctimeout=25\n111Ctimeout=16\nV");
}

#[tokio::test]
async fn a_required_device_that_does_not_work_keeps_this_member_out() {
    let missing = Path::new("/nonexistent/watchdog");
    let watchdog = Watchdog::new(&section(missing, WatchdogMode::Required), &settings(30, 10));
    assert!(watchdog.has_failed(), "others can be told before it is tried");
    assert!(!watchdog.activate().await);

    let optional = Watchdog::new(&section(missing, WatchdogMode::Automatic), &settings(30, 10));
    assert!(!optional.activate().await && !optional.has_failed());
    assert_eq!(optional.view(), view::Watchdog::Optional { active: false });

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("device");
    fs::write(&path, "").unwrap();
    let hasty = Watchdog::new(&section(&path, WatchdogMode::Required), &settings(20, 16));
    assert!(hasty.has_failed() && !hasty.activate().await, "15 seconds are too short for a loop of 16");
    hasty.configure(&section(&path, WatchdogMode::Required), &settings(30, 16));
    assert!(!hasty.has_failed() && hasty.activate().await, "a new configuration is a new chance");
}

#[tokio::test]
async fn a_device_that_nobody_needs_is_not_tried_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("device");
    let (automatic, settings) = (section(&path, WatchdogMode::Automatic), settings(30, 10));
    let watchdog = Watchdog::new(&automatic, &settings);
    assert!(!watchdog.activate().await, "there is none");
    watchdog.settle(LONG).await;
    fs::write(&path, "").unwrap();
    assert!(!watchdog.activate().await && heard(&path).is_empty(), "it was tried a moment ago");
    watchdog.shared().public.send_modify(|public| {
        public.failed_at = public.failed_at.map(|at| at.saturating_sub(TRY_AGAIN));
    });
    assert!(watchdog.activate().await, "a minute later");
}

#[tokio::test]
async fn what_is_no_device_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("precious");
    fs::write(&path, "data").unwrap();
    let section = Section { driver: WatchdogDriver::Default, ..section(&path, WatchdogMode::Required) };
    let watchdog = Watchdog::new(&section, &settings(30, 10));
    assert!(!watchdog.activate().await);
    watchdog.settle(LONG).await;
    assert!(watchdog.has_failed(), "it rests for a ttl");
    assert_eq!(heard(&path), "data");
}

#[tokio::test]
async fn switching_it_off_disarms_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("device");
    fs::write(&path, "").unwrap();
    let watchdog = Watchdog::new(&section(&path, WatchdogMode::Automatic), &settings(30, 10));
    assert!(watchdog.activate().await);
    watchdog.configure(&section(&path, WatchdogMode::Off), &settings(30, 10));
    assert_eq!(watchdog.view(), view::Watchdog::Off);
    watchdog.settle(LONG).await;
    assert_eq!(heard(&path), "Ctimeout=25\n1V");
}

#[tokio::test]
async fn a_device_that_appears_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("device");
    let watchdog = Watchdog::new(&section(&path, WatchdogMode::Required), &settings(30, 10));
    let mut news = watchdog.news();
    assert!(watchdog.has_failed());
    fs::write(&path, "").unwrap();
    let found = async {
        while watchdog.has_failed() {
            let _ = tokio::time::timeout(LOOK_EVERY / 10, news.arrives()).await;
        }
    };
    tokio::time::timeout(LONG, found).await.expect("it is looked for now and then");
}

/// The other end of a device that answers a ping only when it is told to.
pub(crate) struct Hanging {
    pings: mpsc::Receiver<()>,
    answers: mpsc::Sender<()>,
}

#[derive(Debug)]
struct HangingDevice {
    pings: mpsc::Sender<()>,
    answers: mpsc::Receiver<()>,
}

impl Device for HangingDevice {
    fn identity(&self) -> String {
        "hanging".to_owned()
    }

    fn set_timeout(&mut self, seconds: u32) -> io::Result<u32> {
        Ok(seconds)
    }

    fn ping(&mut self) -> io::Result<()> {
        self.pings.send(()).map_err(io::Error::other)?;
        self.answers.recv_timeout(LONG).map_err(io::Error::other)
    }

    fn can_be_disarmed(&self) -> bool {
        true
    }

    fn disarm(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Hanging {
    /// An active watchdog whose device hangs from now on.
    pub(crate) async fn active() -> (Watchdog, Self) {
        let (pings_in, pings) = mpsc::channel();
        let (answers, answers_out) = mpsc::channel();
        let device = HangingDevice { pings: pings_in, answers: answers_out };
        let device = Mutex::new(Some(device));
        let open: Open = Box::new(move |_: &Section| {
            let device = device.lock().unwrap().take();
            device.map(|device| Box::new(device) as Box<dyn Device>).ok_or(io::ErrorKind::NotFound.into())
        });
        let section = section(Path::new("/dev/null"), WatchdogMode::Required);
        let watchdog = Watchdog::with_devices(&section, &settings(30, 10), open);
        answers.send(()).unwrap();
        watchdog.activate().await;
        watchdog.settle(LONG).await;
        assert_eq!(watchdog.view(), view::Watchdog::Required { usable: true, active: true });
        pings.recv_timeout(LONG).expect("it is tried when it is opened");
        (watchdog, Self { pings, answers })
    }

    /// Waits for the ping in which the device hangs.
    pub(crate) fn wait_for_ping(&self) {
        self.pings.recv_timeout(LONG).expect("it is pinged");
    }

    /// It answers that ping. How many came after it that were left for it meanwhile.
    pub(crate) async fn recover(&self, watchdog: &Watchdog) -> usize {
        self.answers.send(()).expect("it hangs");
        for _ in 0..9 {
            // For more pings. It is closed as soon as it has answered if its end is wanted.
            let _ = self.answers.send(());
        }
        watchdog.settle(LONG).await;
        self.pings.try_iter().count()
    }
}

#[tokio::test]
async fn a_device_that_hangs_holds_nobody_up() {
    let (watchdog, device) = Hanging::active().await;
    let began = clock::now();
    watchdog.ping(clock::now() + LONG);
    device.wait_for_ping();
    for _ in 0..5 {
        watchdog.ping(clock::now() + LONG);
        assert!(!watchdog.has_failed(), "it still guards: it counts");
    }
    assert!(watchdog.disable(), "nor has its end to wait");
    assert!(matches!(watchdog.view(), view::Watchdog::Required { active: false, .. }));
    assert!(!watchdog.activate().await, "it must not be relied on yet");
    assert!(clock::now().since(began) < LONG / 2, "nobody waited for the device");
    assert_eq!(device.recover(&watchdog).await, 0, "what it was to hear is over");
}

#[tokio::test]
async fn a_ping_that_comes_too_late_is_none() {
    let (watchdog, device) = Hanging::active().await;
    watchdog.ping(clock::now() + LONG);
    device.wait_for_ping();
    for _ in 0..5 {
        watchdog.ping(clock::now() + LONG);
    }
    // What it stands for is over before the device answers.
    watchdog.ping(clock::now());
    assert_eq!(device.recover(&watchdog).await, 0);
    watchdog.told_to_ping().await;
    assert_eq!(device.pings.try_iter().count(), 1, "one that is in time arrives");
}
