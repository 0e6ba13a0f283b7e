//! A disk that can hang and fail: a file system on a file, through a loop device.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::wait::{PATIENCE, until};

/// A mounted file system on a disk of its own. Dropping it lets it go on and takes it away, whoever still uses it.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// Whether this machine has what it takes: root and loop devices, which few containers have. Says so if not.
    #[expect(clippy::print_stderr, reason = "whoever runs the tests should know what they did not do")]
    pub fn can_be_made() -> bool {
        let can = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
        if !can {
            eprintln!("no root or no /dev/loop-control: nothing was tested");
        }
        can
    }

    /// An empty disk of so many MB, whose contents are in `image`. After an error of its own it takes no writes any more.
    pub fn make(image: &Path, at: &Path, megabytes: u32) -> Self {
        let file = fs::File::create(image).expect("an image can be made");
        file.set_len(u64::from(megabytes) << 20).expect("a sparse file");
        run("mkfs.ext4", &["-q", "-F", "-m", "0"], image);
        let disk = Self { image: image.to_owned(), at: at.to_owned() };
        disk.mount();
        disk
    }

    /// From now on who writes waits, in a sleep from which no signal wakes it; what is read from memory is read.
    pub fn hang(&self) {
        run("fsfreeze", &["--freeze"], &self.at);
    }

    /// It goes on as if nothing had been.
    pub fn go_on(&self) {
        run("fsfreeze", &["--unfreeze"], &self.at);
    }

    /// The file system finds an error in itself and refuses writes.
    pub fn fail(&self) {
        let device = self.device();
        let name = device.file_name().and_then(|name| name.to_str()).expect("a device has a name");
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1").expect("ext4 can be made to fail");
    }

    /// What an operator does after such an error, once nobody uses it any more.
    pub async fn repair(&self) {
        let unmounted = || {
            let ended = Command::new("umount").arg(&self.at).output();
            ended.is_ok_and(|ended| ended.status.success())
        };
        until(format!("nobody uses {}", self.at.display()), PATIENCE, unmounted).await;
        // It says with its status that it has repaired something.
        let ended = Command::new("e2fsck").args(["-f", "-y"]).arg(&self.image).output();
        let status = ended.expect("e2fsck can be started").status;
        assert!(status.code().is_some_and(|code| code < 4), "e2fsck: {status}");
        self.mount();
        // e2fsck makes it again, and pg_rewind may not look into it.
        let _ = fs::remove_dir(self.at.join("lost+found"));
    }

    fn mount(&self) {
        // The device goes with the mount.
        let image = self.image.display().to_string();
        run("mount", &["-o", "loop,errors=remount-ro", &image], &self.at);
    }

    fn device(&self) -> PathBuf {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("every Linux has it");
        let at = self.at.display().to_string();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(&at));
        line.and_then(|line| line.split(' ').next()).map(PathBuf::from).expect("it is mounted")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for (program, argument) in [("fsfreeze", "--unfreeze"), ("umount", "-l")] {
            let _ = Command::new(program).arg(argument).arg(&self.at).output();
        }
    }
}

fn run(program: &str, arguments: &[&str], at: &Path) {
    let ended = Command::new(program).args(arguments).arg(at).output().expect("the program can be started");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{program} {arguments:?} {}: {told}", at.display());
}
