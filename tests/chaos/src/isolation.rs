//! Namespaces for the whole run: network, mounts and process ids. When the process ends, however it ends, the kernel takes
//! everything back that was made inside.

use std::{env, io, os::unix::process::CommandExt as _, process::Command};

/// Says to the process that it already runs inside.
const INSIDE: &str = "BELLWETHER_CHAOS_INSIDE";

/// The first process inside must bury orphans: a killed PostgreSQL that nobody buries would look alive to the others.
const FIRST_PROCESS: &str = "\"$@\" & child=$!; trap 'kill -TERM $child' TERM INT; wait $child; exit $?";

/// Runs this program again inside namespaces of its own, and returns only if it already is inside, or cannot be.
pub fn enter() -> io::Result<()> {
    if env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(io::Error::other("namespaces and a switch need root: sudo -E make chaos"));
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.args(["bash", "-c", FIRST_PROCESS, "bash"]);
    command.arg(env::current_exe()?).args(env::args_os().skip(1)).env(INSIDE, "yes");
    Err(command.exec())
}
