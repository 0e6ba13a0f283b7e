//! The guardian, and an agent with nothing but a guardian, as processes for the tests in `tests/it`.
//!
//! `stand-in guardian …` is what `bellwether guardian …` is, under an allocator that aborts the process if the guardian allocates
//! after its start. `stand-in agent DATA_DIR RUNTIME_DIR POSTMASTER LEASE_MS` arms a guardian, prints its pid, and extends it ten
//! times per lease, printing a line for each extension, until somebody stops or kills it. `stand-in allocate` shows
//! that the allocator bites.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env,
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bellwether_guardian::{Guardian, Mode, SpawnOptions, Target, boottime, is_sealed};

#[global_allocator]
static ALLOCATOR: AbortWhenSealed = AbortWhenSealed;

static PRETEND_SEALED: AtomicBool = AtomicBool::new(false);

struct AbortWhenSealed;

impl AbortWhenSealed {
    fn check() {
        if is_sealed() || PRETEND_SEALED.load(Ordering::Relaxed) {
            std::process::abort();
        }
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe to write; this one only forwards")]
// SAFETY: each call is forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for AbortWhenSealed {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::check();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let role = args.next().unwrap_or_default();
    match role.to_str() {
        Some("guardian") => bellwether_guardian::main(args),
        Some("agent") => agent(&args.collect::<Vec<_>>()),
        Some("allocate") => {
            PRETEND_SEALED.store(true, Ordering::Relaxed);
            let boxed = std::hint::black_box(Box::new(1));
            PRETEND_SEALED.store(false, Ordering::Relaxed);
            drop(boxed);
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(2),
    }
}

fn agent(args: &[OsString]) -> ExitCode {
    let [data_dir, runtime_dir, postmaster, lease_ms] = args else { return ExitCode::from(2) };
    let number = |text: &OsString| text.to_str().and_then(|text| text.parse::<u32>().ok()).expect("a number");
    let lease = Duration::from_millis(number(lease_ms).into());
    let guardian = Guardian::spawn(SpawnOptions {
        exe: "/proc/self/exe".into(),
        data_dir: data_dir.into(),
        runtime_dir: runtime_dir.into(),
        mode: Mode::Fence,
    })
    .expect("the guardian starts");
    let postmaster = Target::of_pid(number(postmaster).cast_signed()).expect("the postmaster runs");
    guardian.target(Some(postmaster)).expect("the guardian takes hold of the postmaster");
    guardian.arm(boottime() + lease).expect("the guardian is armed");
    let mut out = io::stdout();
    writeln!(out, "{}", guardian.pid()).expect("the test reads");
    loop {
        std::thread::sleep(lease / 10);
        if let Err(error) = guardian.extend(boottime() + lease) {
            // Woken after the firing: the truth has to come out.
            writeln!(out, "refused: {error:?}").expect("the test reads");
            return ExitCode::FAILURE;
        }
        writeln!(out, "extended").expect("the test reads");
    }
}
