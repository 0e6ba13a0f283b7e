//! The agent's side: starting a guardian and telling it the deadline.
//!
//! Plain blocking calls, each bounded by a timeout; an answer normally takes a tenth of a millisecond. In asynchronous code
//! call them from a blocking section, and watch [`Guardian::pidfd`] for the guardian's death.

mod channel;
mod error;

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bellwether_types::Timestamp;
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    process::{PidfdFlags, pidfd_open},
};

use self::channel::{Channel, ReceiveError};
pub use self::error::{ControlError, SpawnError};
use crate::{
    clock::boottime,
    handover::{self, Dismissed, HandoverError},
    protocol::{Malformed, Request, Status},
    target::Target,
    wait::wait_readable,
};

/// How long a guardian may take to get ready: reading its binary, locking its memory.
const READY_WITHIN: Duration = Duration::from_secs(3);

/// How long a dismissed guardian may take to exit.
const EXIT_WITHIN: Duration = Duration::from_secs(1);

/// A log that has grown past this is begun anew by the next guardian.
const LOG_BYTES_MAX: u64 = 64 * 1024;

/// What a guardian does at the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Kills PostgreSQL.
    Fence,
    /// Records whom it would have killed, and kills nobody (`watchdog.driver: testing`).
    Rehearse,
}

/// How to start a guardian.
#[derive(Clone, Debug)]
pub struct SpawnOptions {
    /// The binary whose subcommand `guardian` calls [`crate::main`]. `/proc/self/exe` is right for the agent: it is the same
    /// binary, even after a package upgrade has replaced the file.
    pub exe: PathBuf,
    /// Whose processes to kill. It need not exist yet.
    pub data_dir: PathBuf,
    /// An existing directory of this node, for the pid file, the log and the record of a firing; not in `data_dir`.
    pub runtime_dir: PathBuf,
    pub mode: Mode,
}

/// What the guardian confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// The deadline now in force; `None` when disarmed.
    pub armed: Option<Timestamp>,
    /// How often this guardian has fired since its start.
    pub firings: u32,
}

/// A running guardian.
///
/// Dropping it does not stop the guardian: it sees the closed socket like the death of the agent, and stays until its
/// deadline has passed or, when it is not armed, exits.
#[derive(Debug)]
pub struct Guardian {
    id: Target,
    pidfd: OwnedFd,
    child: Mutex<Child>,
    channel: Mutex<Channel>,
    runtime_dir: PathBuf,
    memory_locked: bool,
    real_time: bool,
}

impl Guardian {
    /// Starts a guardian, not armed, and waits until it is ready (some milliseconds; three seconds at most).
    ///
    /// It lives in a session of its own with nothing open but its socket, `/dev/null` and its log, and survives the agent.
    pub fn spawn(options: SpawnOptions) -> Result<Self, SpawnError> {
        let data_dir = absolute(&options.data_dir)?;
        let runtime_dir = absolute(&options.runtime_dir)?;
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(|errno| SpawnError::Socket { cause: errno.into() })?;
        let log = runtime_dir.join("guardian.log");
        let stderr = open_log(&log).map_err(|cause| SpawnError::Log { path: log.clone(), cause })?;

        // The socket travels as standard input: the standard library puts it there in the child alone, so that no other
        // process started at the same moment can inherit it.
        let mut command = Command::new(&options.exe);
        command
            .arg0("bellwether")
            .arg("guardian")
            .args([OsStr::new("--data-dir"), data_dir.as_os_str()])
            .args([OsStr::new("--runtime-dir"), runtime_dir.as_os_str()])
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::from(stderr));
        if options.mode == Mode::Rehearse {
            command.arg("--rehearse");
        }
        let start = |cause| SpawnError::Start { exe: options.exe.clone(), cause };
        let mut child = command.spawn().map_err(start)?;
        // The command holds the guardian's end of the socket; while it is open we would not see the guardian die.
        drop(command);

        let pid = i32::try_from(child.id()).expect("a Linux pid fits in an i32");
        let channel = Channel { socket: ours, last_seq: 0 };
        let ready = (|| {
            let id = Target::of_pid(pid).map_err(start)?;
            let raw = rustix::process::Pid::from_child(&child);
            let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(|errno| start(errno.into()))?;
            let reply = channel.receive(0, boottime() + READY_WITHIN).map_err(|error| match error {
                ReceiveError::Timeout => SpawnError::NotReady { within: READY_WITHIN },
                ReceiveError::Gone => SpawnError::Ended { status: None, log: log.clone() },
                ReceiveError::Malformed(Malformed::Version { theirs }) => SpawnError::Version { theirs },
                ReceiveError::Malformed(_) => start(io::ErrorKind::InvalidData.into()),
                ReceiveError::Socket(cause) => SpawnError::Socket { cause },
            })?;
            Ok((id, pidfd, reply))
        })();
        match ready {
            Ok((id, pidfd, reply)) => Ok(Self {
                id,
                pidfd,
                child: Mutex::new(child),
                channel: Mutex::new(channel),
                runtime_dir,
                memory_locked: reply.memory_locked,
                real_time: reply.real_time,
            }),
            Err(error) => {
                // It was never armed: nothing rests on it yet.
                let _ = child.kill();
                let status = child.wait().ok();
                Err(match error {
                    SpawnError::Ended { log, .. } => SpawnError::Ended { status, log },
                    other => other,
                })
            }
        }
    }

    /// Sets the deadline, whether or not one is in force, and returns once the guardian has confirmed it.
    ///
    /// To be called, and its success awaited, before a promotion, a start as primary or the adoption of a running primary.
    /// The guardian takes notice of the data directory's identity at this moment.
    pub fn arm(&self, deadline: Timestamp) -> Result<Acked, ControlError> {
        self.call(Request::Arm { deadline })
    }

    /// Moves the deadline of an armed guardian. It never arms one that has fired.
    ///
    /// `deadline` is the moment the last *confirmed* renewal was sent, plus what the store guaranteed, minus the margin.
    pub fn extend(&self, deadline: Timestamp) -> Result<Acked, ControlError> {
        self.call(Request::Extend { deadline })
    }

    /// Tells who the postmaster is, or takes it back. Without it the guardian finds PostgreSQL by its data directory alone.
    pub fn target(&self, postmaster: Option<Target>) -> Result<Acked, ControlError> {
        self.call(Request::Target(postmaster))
    }

    /// Takes the deadline away. Only after the last process of PostgreSQL has ended, in pause, or on becoming a replica.
    pub fn disarm(&self) -> Result<Acked, ControlError> {
        self.call(Request::Disarm)
    }

    /// Ends the guardian, armed or not, and waits until it is gone.
    pub fn dismiss(&self) -> Result<(), ControlError> {
        match self.call(Request::Dismiss) {
            Ok(_) | Err(ControlError::Gone) => {}
            Err(other) => return Err(other),
        }
        if !wait_readable(self.pidfd.as_fd(), boottime() + EXIT_WITHIN)
            .map_err(|cause| ControlError::Socket { cause })?
        {
            return Err(ControlError::Timeout { within: EXIT_WITHIN });
        }
        self.reap();
        Ok(())
    }

    /// Ends every other guardian of this node, those that earlier agents left behind; [`dismiss_previous`] has the
    /// details. Only after this one has confirmed its deadline.
    ///
    /// [`dismiss_previous`]: crate::dismiss_previous
    pub fn dismiss_others(&self) -> Result<Vec<Dismissed>, HandoverError> {
        handover::dismiss_all_but(&self.runtime_dir, Some(self.id))
    }

    /// Whether the process runs. A dead one is reaped.
    pub fn is_alive(&self) -> bool {
        let dead = wait_readable(self.pidfd.as_fd(), Timestamp::ZERO).unwrap_or(true);
        if dead {
            self.reap();
        }
        !dead
    }

    /// Becomes readable when the guardian exits; fit for an event loop. Do not read from it.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub fn pid(&self) -> i32 {
        self.id.pid
    }

    /// The guardian itself, as a process.
    pub fn id(&self) -> Target {
        self.id
    }

    /// Whether its memory cannot be paged out. Needs CAP_IPC_LOCK or a high RLIMIT_MEMLOCK.
    pub fn memory_locked(&self) -> bool {
        self.memory_locked
    }

    /// Whether it runs in a real-time scheduling class. Needs CAP_SYS_NICE or RLIMIT_RTPRIO.
    pub fn real_time(&self) -> bool {
        self.real_time
    }

    fn call(&self, request: Request) -> Result<Acked, ControlError> {
        // A panic between send and receive leaves only an answer behind, which the next call skips by its number.
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = channel.exchange(request)?;
        let acked = Acked { armed: reply.armed, firings: reply.firings };
        match (reply.status, request) {
            (Status::Done, _) => Ok(acked),
            (Status::NotArmed, _) => Err(ControlError::NotArmed { firings: reply.firings }),
            (Status::DeadlinePassed, _) => Err(ControlError::DeadlinePassed { armed: reply.armed }),
            (Status::TooLate, _) => Err(ControlError::TooLate),
            (Status::NoSuchProcess, Request::Target(Some(target))) => {
                Err(ControlError::NoSuchProcess { target })
            }
            (Status::NoSuchProcess | Status::NotUnderstood, _) => Err(ControlError::NotUnderstood),
        }
    }

    /// Takes the exit status, so that no zombie stays. As process 1 the agent may have reaped it already.
    fn reap(&self) {
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
    }
}

fn absolute(path: &Path) -> Result<PathBuf, SpawnError> {
    std::path::absolute(path).map_err(|cause| SpawnError::Path { path: path.to_owned(), cause })
}

fn open_log(path: &Path) -> io::Result<File> {
    let log = OpenOptions::new().create(true).append(true).open(path)?;
    if log.metadata()?.len() > LOG_BYTES_MAX {
        log.set_len(0)?;
    }
    Ok(log)
}
