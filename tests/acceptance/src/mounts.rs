//! Small file systems in memory, for disks that are full.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A mounted file system. Dropping it takes it away, whoever still uses it.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
}

impl Mount {
    /// An empty file system of so many MB. Takes root, as the gate has it.
    pub fn in_memory(at: &Path, megabytes: u32) -> Self {
        run("mount", &["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"], at);
        Self { at: at.to_owned() }
    }

    pub fn resize(&self, megabytes: u32) {
        run("mount", &["-o", &format!("remount,size={megabytes}m")], &self.at);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn run(program: &str, arguments: &[&str], at: &Path) {
    let ended = Command::new(program).args(arguments).arg(at).output().expect("the program can be started");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{program} {arguments:?} {}: {told} (root is needed)", at.display());
}
