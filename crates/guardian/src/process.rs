//! The guardian itself: a single loop over a timer, the dismissal signal and the agent's socket.
//!
//! [`main`] has two parts. [`Guarding::start`] may allocate, read files and fail. From then on the process is *sealed*:
//! everything it needs exists, its memory is locked, and [`Guarding::run`] neither allocates nor waits for a disk before the
//! killing is done. Tests run it under an allocator that aborts when [`is_sealed`] says so.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use bellwether_types::Timestamp;
use rustix::{
    event::{PollFd, PollFlags, poll},
    mm::{MlockAllFlags, mlockall},
    net::{RecvFlags, SendFlags, recv, send},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

use crate::{
    client::Mode,
    clock::{boottime, to_timespec, unix_millis},
    firing::{Numbers, Recorder, format_numbers},
    handover::{DISMISSAL, PidFile, boot_id},
    kill::Fence,
    protocol::{self, REQUEST_LEN, Reply, Request, Status},
    scratch::Scratch,
    state::State,
    sys,
    target::Target,
};

static SEALED: AtomicBool = AtomicBool::new(false);

/// Whether this process is a guardian past its start, which must not allocate any more. For allocators that check it.
pub fn is_sealed() -> bool {
    SEALED.load(Ordering::Relaxed)
}

/// Runs a guardian until it is dismissed or has nothing left to guard. `args` follow the word `guardian`.
///
/// To be called in a process that has no other thread and no async runtime, with the agent's socket as standard input: that
/// is how [`Guardian::spawn`](crate::Guardian::spawn) starts it, and nobody else should. Ends with 0, with 1 when it could
/// not start, with 2 when its arguments are wrong.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(problem) => {
            say(&Scratch::<256>::format(format_args!(
                "guardian: {problem}; `guardian` is started by `bellwether run` and not by hand\n"
            )));
            return ExitCode::from(2);
        }
    };
    let mut guarding = match Guarding::start(&options) {
        Ok(guarding) => guarding,
        Err((what, error)) => {
            say(&Scratch::<256>::format(format_args!("guardian: could not {what}: {error}\n")));
            return ExitCode::from(1);
        }
    };
    SEALED.store(true, Ordering::Relaxed);
    guarding.run();
    SEALED.store(false, Ordering::Relaxed);
    // Whoever finds it there later sees by pid and start time that we are gone.
    let _ = std::fs::remove_file(&guarding.pid_file);
    ExitCode::SUCCESS
}

struct Options {
    data_dir: PathBuf,
    runtime_dir: PathBuf,
    mode: Mode,
}

impl Options {
    fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, &'static str> {
        let (mut data_dir, mut runtime_dir, mut mode) = (None, None, Mode::Fence);
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--data-dir") => data_dir = args.next(),
                Some("--runtime-dir") => runtime_dir = args.next(),
                Some("--rehearse") => mode = Mode::Rehearse,
                _ => return Err("unknown argument"),
            }
        }
        let absolute = |path: Option<OsString>, missing| {
            path.map(PathBuf::from).filter(|path| path.is_absolute()).ok_or(missing)
        };
        Ok(Self {
            data_dir: absolute(data_dir, "--data-dir needs an absolute path")?,
            runtime_dir: absolute(runtime_dir, "--runtime-dir needs an absolute path")?,
            mode,
        })
    }
}

/// A guardian that is ready: all memory and all descriptors it will ever need.
struct Guarding {
    state: State,
    fence: Fence,
    recorder: Recorder,
    socket: OwnedFd,
    timer: OwnedFd,
    signals: OwnedFd,
    pid_file: PathBuf,
    rehearsal: bool,
    memory_locked: bool,
    real_time: bool,
}

impl Guarding {
    fn start(options: &Options) -> Result<Self, (&'static str, io::Error)> {
        let failed = |what: &'static str| move |error: io::Error| (what, error);
        let failed_call = |what: &'static str| move |errno: rustix::io::Errno| (what, errno.into());

        // In order: out of the agent's session before any of its signals can reach us, then deaf, then alone.
        // A session leader already, when somebody started us with `setsid`.
        let _ = rustix::process::setsid();
        sys::close_inherited_files().map_err(failed("close inherited files"))?;
        let signals = sys::block_all_signals_but_tell_of(DISMISSAL).map_err(failed("block signals"))?;
        rustix::process::chdir(c"/").map_err(failed_call("change to the root directory"))?;
        let _ = rustix::thread::set_name(c"bw-guardian");

        let socket = io::stdin().as_fd().try_clone_to_owned().map_err(failed("take the agent's socket"))?;
        rustix::net::getpeername(&socket)
            .map_err(failed_call("find the agent's socket on standard input"))?;
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)
            .map_err(failed_call("create a timer"))?;
        let boot = boot_id().map_err(failed("read the boot id"))?;
        let recorder = Recorder::new(&options.runtime_dir, &options.data_dir, &boot)
            .map_err(failed("open the runtime directory"))?;
        let mut fence =
            Fence::new(options.mode, &options.data_dir).map_err(failed("prepare the look at /proc"))?;

        let own_pid = rustix::process::getpid().as_raw_nonzero().get();
        let guardian = Target::of_pid(own_pid).map_err(failed("read its own start time"))?;
        let pid_file = PidFile { guardian, boot };
        pid_file.write(&options.runtime_dir).map_err(failed("write its pid file"))?;

        // Best effort from here on: the agent is told what could not be had. Only what is touched gets locked, and the rehearsal
        // that follows touches what a firing needs; locking whole mappings would make an allocator's reserve resident.
        let memory_locked =
            mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok();
        let real_time = sys::ask_for_real_time().is_ok();
        let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
        fence.warm_up();

        Ok(Self {
            state: State::default(),
            fence,
            recorder,
            socket,
            timer,
            signals,
            pid_file: pid_file.path(&options.runtime_dir),
            rehearsal: options.mode == Mode::Rehearse,
            memory_locked,
            real_time,
        })
    }

    fn run(&mut self) {
        self.reply(0, Status::Done);
        loop {
            // The deadline before everything else that may have happened while we slept.
            if let Some(deadline) = self.state.due(boottime()) {
                self.fire(deadline);
                continue;
            }
            if self.state.is_over() {
                return;
            }
            self.set_timer();
            let woken = self.sleep();
            if self.state.due(boottime()).is_some() {
                continue;
            }
            if woken.dismissed {
                self.state.dismiss();
            } else if woken.message {
                self.receive();
            }
        }
    }

    fn sleep(&self) -> Woken {
        let mut fds = [
            PollFd::new(&self.timer, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.socket, PollFlags::IN),
        ];
        // A socket whose other end is closed is ready for ever.
        let watched = if self.state.agent_gone() { &mut fds[..2] } else { &mut fds[..] };
        // All signals are blocked, so only a broken kernel fails here; the loop looks at the deadline and tries again.
        let _ = poll(watched, None);
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        Woken { dismissed: ready(&fds[1]), message: ready(&fds[2]) }
    }

    fn set_timer(&self) {
        let at = self.state.armed().map_or(Timespec { tv_sec: 0, tv_nsec: 0 }, to_timespec);
        let setting = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        // Cannot fail with a valid time. Setting it also clears an expiry that was not read.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &setting);
    }

    fn receive(&mut self) {
        let mut buffer = [0_u8; REQUEST_LEN];
        let received = recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT);
        let message = match received {
            Ok((0, _)) => return self.state.agent_lost(),
            Ok((length, _)) => &buffer[..length],
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            // A socket that is broken in any way carries no more words of the agent.
            Err(_) => return self.state.agent_lost(),
        };
        let Ok((seq, request)) = protocol::decode_request(message) else {
            return self.reply(0, Status::NotUnderstood);
        };
        let mut status = self.state.apply(request, boottime());
        if status == Status::Done {
            match request {
                Request::Arm { .. } => self.fence.remember_directory(),
                Request::Target(target) if self.fence.set_postmaster(target).is_err() => {
                    status = Status::NoSuchProcess;
                }
                _ => {}
            }
        }
        self.reply(seq, status);
    }

    fn reply(&self, seq: u64, status: Status) {
        let reply = Reply {
            seq,
            status,
            armed: self.state.armed(),
            firings: self.state.firings(),
            memory_locked: self.memory_locked,
            real_time: self.real_time,
        };
        // An agent that does not read its answers will miss this one too; it must not hold us up.
        let _ = send(&self.socket, &protocol::encode_reply(reply), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    fn fire(&mut self, deadline: Timestamp) {
        let fired = boottime();
        let outcome = self.fence.fire();
        self.state.fired();
        let numbers = Numbers {
            deadline,
            fired,
            fired_at_millis: unix_millis(),
            took_ms: u64::try_from(boottime().since(fired).as_millis()).unwrap_or(u64::MAX),
            rehearsal: self.rehearsal,
            agent_connected: !self.state.agent_gone(),
            postmaster: outcome.postmaster,
            killed: outcome.killed,
            left: outcome.left,
        };
        // Only now may a hung disk hold us up.
        let recorded = self.recorder.write(numbers);
        say(&Scratch::<64>::format(format_args!("guardian: the lease deadline passed:")));
        say(&format_numbers(numbers));
        if let Err(error) = recorded {
            say(&Scratch::<256>::format(format_args!(
                "guardian: could not record it: {:?}\n",
                error.raw_os_error()
            )));
        }
    }
}

struct Woken {
    dismissed: bool,
    message: bool,
}

/// Writes to the log without allocating. A log that cannot be written must not matter.
fn say<const N: usize>(text: &Scratch<N>) {
    let _ = rustix::io::write(io::stderr(), text.as_bytes());
}
