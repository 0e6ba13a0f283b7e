//! System calls without a safe wrapper in our dependencies: the only unsafe code of the guardian.
#![expect(
    unsafe_code,
    reason = "close_range, sched_setscheduler, sigprocmask and signalfd are needed, and rustix lacks them"
)]

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// Closes everything above standard error that the agent may have left open.
///
/// To be called before anything else of this process is opened.
pub(crate) fn close_inherited_files() -> io::Result<()> {
    // SAFETY: the caller has opened nothing yet, so no owner of a descriptor in this range exists in this process;
    // the standard library itself keeps only 0, 1 and 2.
    check(unsafe { libc::close_range(3, libc::c_uint::MAX, 0) })
}

/// Blocks all signals that can be blocked, and returns a descriptor that tells of `wanted` ones.
///
/// Blocked rather than ignored: then none of them can interrupt a system call, stop signals included.
pub(crate) fn block_all_signals_but_tell_of(wanted: rustix::process::Signal) -> io::Result<OwnedFd> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut one = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both pointers are valid for writes of a `sigset_t`; the sets are initialised by the first three calls before
    // the others read them; a null pointer for the old mask is allowed; the descriptor is new, and nobody else owns it.
    unsafe {
        check(libc::sigfillset(all.as_mut_ptr()))?;
        check(libc::sigemptyset(one.as_mut_ptr()))?;
        check(libc::sigaddset(one.as_mut_ptr(), wanted.as_raw()))?;
        check(libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut()))?;
        let descriptor = libc::signalfd(-1, one.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(descriptor)?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// Asks for the lowest real-time priority, which is above every ordinary process.
pub(crate) fn ask_for_real_time() -> io::Result<()> {
    // SAFETY: `sched_param` is plain numbers, for which zero is valid on every libc.
    let mut parameter: libc::sched_param = unsafe { MaybeUninit::zeroed().assume_init() };
    parameter.sched_priority = 1;
    // SAFETY: the pointer is valid for reads during the call, and 0 means this thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
