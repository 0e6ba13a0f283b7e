//! As the first process of a container: somebody must take care of orphans, and the agent, which waits for children of its own, must
//! not. So the first process only starts the agent, hands signals on to it, and waits for whoever dies.

use std::{
    ffi::OsString,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Command, ExitCode, ExitStatus},
};

use bellwether_config::sections::log::Log;
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, kill_process, wait},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, error, info};

use crate::logging;

/// What is handed on.
const HANDED_ON: [(SignalKind, Signal); 7] = [
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::quit(), Signal::QUIT),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::from_raw(6), Signal::ABORT),
    (SignalKind::terminate(), Signal::TERM),
];
/// What a shell adds to the number of the signal that ended a program.
const BY_SIGNAL: u8 = 128;

/// Whether this process is the first one.
pub(crate) fn is_first_process() -> bool {
    std::process::id() == 1
}

/// Starts this program again with the same arguments, and stays with it until it ends.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    logging::init(&Log::default());
    let mut again = Command::new("/proc/self/exe");
    if let Some((name, rest)) = arguments.split_first() {
        again.arg0(name).args(rest);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the kernel gives a process its first threads");
    match runtime.block_on(stay_with(again)) {
        Ok(status) => ExitCode::from(code_of(status)),
        Err(error) => {
            error!(%error, "the first process cannot do its work");
            ExitCode::FAILURE
        }
    }
}

fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    let signal = status.signal().and_then(|signal| u8::try_from(signal).ok());
    code.or(signal.map(|signal| BY_SIGNAL + signal)).unwrap_or(1)
}

/// Starts `command`, and reaps whoever dies until that is it.
async fn stay_with(mut command: Command) -> std::io::Result<ExitStatus> {
    // Before the start: nothing that comes meanwhile is lost.
    let mut died = signal(SignalKind::child())?;
    let mut asked = Vec::new();
    for (kind, number) in HANDED_ON {
        asked.push((signal(kind)?, number));
    }
    let child = command.spawn()?;
    let main = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has a pid");
    for (mut asked, number) in asked {
        tokio::spawn(async move {
            while asked.recv().await.is_some() {
                debug!(?number, "handing a signal on");
                // It may have ended: then we end, too.
                let _ = kill_process(main, number);
            }
        });
    }
    loop {
        if let Some(status) = reap(main)? {
            return Ok(status);
        }
        died.recv().await;
    }
}

/// Takes all who are dead. How `main` ended, if it has.
fn reap(main: Pid) -> std::io::Result<Option<ExitStatus>> {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let status = ExitStatus::from_raw(status.as_raw());
                if pid == main {
                    ended = Some(status);
                } else {
                    info!("Reaped pid={}, exit status={}", pid.as_raw_nonzero(), code_of(status));
                }
            }
            Ok(None) | Err(Errno::CHILD) => return Ok(ended),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Orphans come to us as they would to the first process. Every test is a process of its own under nextest; all is in one for
    /// other runners.
    #[tokio::test]
    async fn orphans_are_reaped_and_signals_handed_on_until_the_program_ends() {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let script = format!(
            "trap 'echo asked >{asked}; exit 7' USR1; (sh -c 'exit 3' & echo $! >{orphan}); echo up >{up}; \
             while :; do sleep 0.05; done",
            asked = file("asked").display(),
            orphan = file("orphan").display(),
            up = file("up").display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        let staying = tokio::spawn(stay_with(command));
        let is_gone = |pid: &str| !pid.is_empty() && !fs::exists(format!("/proc/{pid}")).unwrap();
        let reaped = async {
            loop {
                let orphan = fs::read_to_string(file("orphan")).unwrap_or_default();
                if file("up").exists() && is_gone(orphan.trim()) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), reaped).await.expect("the orphan is reaped");
        kill_process(rustix::process::getpid(), Signal::USR1).unwrap();
        let status = staying.await.unwrap().unwrap();
        assert_eq!(code_of(status), 7);
        assert_eq!(fs::read_to_string(file("asked")).unwrap(), "asked\n");
    }

    #[test]
    fn the_end_of_the_program_is_ours() {
        for (raw, code) in [(0, 0), (7 << 8, 7), (9, 137)] {
            assert_eq!(code_of(ExitStatus::from_raw(raw)), code);
        }
    }
}
