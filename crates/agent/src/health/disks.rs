//! The file systems that PostgreSQL writes to: what is free, and when it will be used up.

use std::{
    collections::VecDeque,
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::Duration,
};

use bellwether_ha::view::health::{Disk, Disks};
use bellwether_types::Timestamp;
use rustix::fs::{StatVfsMountFlags, statvfs};

use crate::clock;

/// Options of a file system that refuses writes, whatever the flags of its mount say.
const REFUSING: [&str; 3] = ["ro", "emergency_ro", "shutdown"];
/// What a list of mounts seldom exceeds, in bytes.
const MOUNTS: usize = 16 * 1024;
/// A trend is read from so much of the past at most, and at least.
const LONGEST: Duration = Duration::from_secs(600);
const SHORTEST: Duration = Duration::from_secs(60);

/// Blocks on a disk that hangs.
pub(super) fn look(data_dir: &Path) -> io::Result<Disks> {
    let on = device(data_dir)?;
    let data = disk(data_dir, on)?;
    // `pg_wal` may be a link to a disk of its own; before the first server there is none.
    let wal_dir = data_dir.join("pg_wal");
    let wal = match device(&wal_dir) {
        Ok(of_wal) if of_wal != on => disk(&wal_dir, of_wal).unwrap_or_else(|_| data.clone()),
        _ => data.clone(),
    };
    Ok(Disks { looked_at: clock::now(), wal, data })
}

/// Whether nothing of interest will happen within the next minutes.
pub(super) fn is_roomy(disks: &Disks) -> bool {
    let has_room = |disk: &Disk| disk.free > disk.size / 10 && !disk.read_only;
    has_room(&disks.wal) && has_room(&disks.data) && disks.wal.full_in.is_none_or(|left| left > LONGEST)
}

fn device(path: &Path) -> io::Result<u64> {
    Ok(path.metadata()?.dev())
}

fn disk(path: &Path, device: u64) -> io::Result<Disk> {
    let found = statvfs(path)?;
    let read_only = found.f_flag.contains(StatVfsMountFlags::RDONLY) || refuses_writes(device)?;
    Ok(Disk {
        size: found.f_blocks * found.f_frsize,
        // What is reserved for root is nothing that PostgreSQL gets.
        free: found.f_bavail * found.f_frsize,
        read_only,
        full_in: None,
    })
}

/// Whether the file system has stopped to take writes after an error. Linux 6.15 and later call it writable all the same and say so
/// among its options alone.
fn refuses_writes(device: u64) -> io::Result<bool> {
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    // The kernel does not know its length beforehand, and would be asked for it in a dozen small pieces.
    let mut mounts = String::with_capacity(MOUNTS);
    fs::File::open("/proc/self/mountinfo")?.read_to_string(&mut mounts)?;
    Ok(says_read_only(&mounts, &device))
}

/// `mounts` as in /proc/PID/mountinfo, `device` as `major:minor`.
fn says_read_only(mounts: &str, device: &str) -> bool {
    let of_device = |line: &&str| line.split(' ').nth(2) == Some(device);
    let options = mounts.lines().filter(of_device).filter_map(|line| line.rsplit(' ').next());
    options.flat_map(|options| options.split(',')).any(|option| REFUSING.contains(&option))
}

/// How a disk fills.
#[derive(Debug, Default)]
pub(super) struct Trend {
    seen: VecDeque<(Timestamp, u64)>,
}

impl Trend {
    /// Takes one more figure in. When nothing will be left, if it goes on as it did lately; `None`: it does not fill, or too little is
    /// known.
    pub(super) fn full_in(&mut self, now: Timestamp, free: u64) -> Option<Duration> {
        self.seen.push_back((now, free));
        while self.seen.front().is_some_and(|(at, _)| now.since(*at) > LONGEST) {
            self.seen.pop_front();
        }
        let (began_at, before) = *self.seen.front()?;
        let lasted = now.since(began_at);
        let used = before.checked_sub(free).filter(|used| *used > 0)?;
        if lasted < SHORTEST {
            return None;
        }
        Some(lasted.mul_f64((free as f64 / used as f64).min(1e6)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1024 * 1024;

    fn second(second: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + second * 1_000)
    }

    #[test]
    fn a_disk_that_fills_evenly_is_full_when_it_says() {
        let mut trend = Trend::default();
        assert_eq!(trend.full_in(second(0), 1_000 * MB), None);
        assert_eq!(trend.full_in(second(30), 970 * MB), None, "too little is known");
        assert_eq!(trend.full_in(second(100), 900 * MB), Some(Duration::from_secs(900)));
        assert_eq!(trend.full_in(second(200), 1_000 * MB), None, "a checkpoint has removed segments");
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let mut trend = Trend::default();
        trend.full_in(second(0), 2_000 * MB);
        trend.full_in(second(10), 1_000 * MB);
        for at in (20..=700).step_by(10) {
            trend.full_in(second(at), 1_000 * MB);
        }
        assert_eq!(trend.full_in(second(701), 1_000 * MB), None);
    }

    #[test]
    fn no_figure_is_too_large_or_too_small() {
        let mut trend = Trend::default();
        for (at, free) in [(0, u64::MAX), (100, u64::MAX - 1), (200, 0), (300, 1), (400, 0)] {
            trend.full_in(second(at), free);
        }
    }

    #[test]
    fn disks_that_fill_are_watched() {
        let disk = |free, read_only, full_in| Disk { size: 100 * MB, free, read_only, full_in };
        let roomy =
            |wal: Disk| is_roomy(&Disks { looked_at: second(0), data: disk(50 * MB, false, None), wal });
        assert!(
            roomy(disk(50 * MB, false, None)) && roomy(disk(50 * MB, false, Some(Duration::from_secs(601))))
        );
        assert!(!roomy(disk(9 * MB, false, None)) && !roomy(disk(50 * MB, true, None)));
        assert!(!roomy(disk(50 * MB, false, Some(Duration::from_secs(599)))));
    }

    #[test]
    fn a_file_system_that_gave_up_writing_says_so_among_its_options() {
        let mounts = "43 27 7:0 / /a rw,relatime - ext4 /dev/loop0 rw,errors=remount-ro,emergency_ro\n\
                      44 27 7:1 / /b rw,relatime shared:3 - ext4 /dev/loop1 rw,errors=remount-ro\n\
                      45 27 7:2 / /c ro,relatime - xfs /dev/loop2 ro,attr2\n\
                      46 27 7:3 / /ro ro - xfs /dev/loop3 rw\n";
        let refusing = ["7:0", "7:1", "7:2", "7:3", "7:4"].map(|device| says_read_only(mounts, device));
        assert_eq!(
            refusing,
            [true, false, true, false, false],
            "a mount that is read-only is told by statvfs"
        );
    }

    #[test]
    fn this_machine_has_disks() {
        let dir = tempfile::tempdir().unwrap();
        let disks = look(dir.path()).unwrap();
        assert_eq!(disks.wal, disks.data, "no pg_wal here");
        assert!(disks.data.size > 0 && disks.data.free <= disks.data.size && !disks.data.read_only);
    }
}
