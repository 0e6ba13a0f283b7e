//! What a host has besides its network: a wall clock of its own, and a disk that forgets what was not synced when the power goes.
//!
//! Neither can be had from the kernel for one host of many: time namespaces leave the wall clock alone, and device mapper is missing in
//! most containers. So a library of ours stands between the host's programs and their C library (`interposed/preload.c`). A program
//! without a C library, such as etcd, has the clock of the machine and loses nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bellwether_acceptance::account::Account;

const SOURCE: &str = include_str!("interposed/preload.c");
/// What is kept of synced files; in memory, since it is written at every sync.
const ROOM: &str = "size=512m";

/// The library, for all hosts.
#[derive(Clone, Debug)]
pub struct Preload {
    library: PathBuf,
    /// Where each host has its clock and its disk.
    dir: PathBuf,
}

impl Preload {
    /// Compiles it, below `dir`.
    pub fn build(dir: &Path, account: Account) -> io::Result<Self> {
        let (source, library) = (dir.join("preload.c"), dir.join("preload.so"));
        fs::write(&source, SOURCE)?;
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(&source).arg("-ldl");
        let output = compile.output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("cc: {}", String::from_utf8_lossy(&output.stderr))));
        }
        let dir = dir.join("interposed");
        account.make_dir(&dir);
        crate::host::run(&["mount", "-t", "tmpfs", "-o", ROOM, "tmpfs", &dir.display().to_string()])?;
        account.own(&dir, 0o700);
        Ok(Self { library, dir })
    }

    /// The machine of the host whose files are in `host_dir`; what is in `roots` below that is lost with the power unless synced.
    pub fn machine(&self, host_dir: &Path, roots: &[&str], account: Account) -> io::Result<Machine> {
        let dir = self.dir.join(host_dir.file_name().unwrap_or_default());
        for made in [dir.clone(), dir.join("files"), dir.join("names")] {
            account.make_dir(&made);
        }
        let machine = Machine {
            library: self.library.clone(),
            dir,
            roots: roots.iter().map(|root| host_dir.join(root)).collect(),
            account,
        };
        machine.step_clock(0)?;
        Ok(machine)
    }
}

/// One host's clock and disk.
#[derive(Clone, Debug)]
pub struct Machine {
    library: PathBuf,
    dir: PathBuf,
    roots: Vec<PathBuf>,
    account: Account,
}

impl Machine {
    /// What its programs need in their environment.
    pub fn environment(&self) -> Vec<String> {
        let roots: Vec<String> = self.roots.iter().map(|root| root.display().to_string()).collect();
        vec![
            format!("LD_PRELOAD={}", self.library.display()),
            format!("CHAOS_CLOCK={}", self.clock().display()),
            format!("CHAOS_SYNCED={}", self.dir.display()),
            format!("CHAOS_ROOTS={}", roots.join(":")),
        ]
    }

    /// From now on its wall clock is so many seconds ahead of the machine's, or behind it.
    pub fn step_clock(&self, ahead: i64) -> io::Result<()> {
        let nanos = ahead * i64::try_from(Duration::from_secs(1).as_nanos()).expect("a small number");
        // In place: those who look at it have it open.
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(self.clock())?;
        io::Write::write_all(&mut &file, &nanos.to_ne_bytes())?;
        self.account.own(&self.clock(), 0o600);
        Ok(())
    }

    /// The power is gone: what was not synced is not there when it comes back. Nothing runs on the host. How many files are older than
    /// they were, or not there any more.
    pub fn lose_unsynced(&self) -> io::Result<usize> {
        self.roots.iter().map(|root| self.restore(root)).sum()
    }

    fn restore(&self, directory: &Path) -> io::Result<usize> {
        let names = directory.display().to_string().replace('/', "%");
        let kept = match fs::read_to_string(self.dir.join("names").join(names)) {
            Ok(kept) => kept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let entries: Vec<Entry> = kept.lines().map(Entry::parse).collect::<io::Result<_>>()?;
        let mut changed = 0;
        for found in fs::read_dir(directory)? {
            let found = found?;
            if !entries.iter().any(|entry| found.file_name() == *entry.name) {
                changed += 1;
                let path = found.path();
                if found.file_type()?.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
            }
        }
        for entry in entries {
            let path = directory.join(&entry.name);
            if entry.is_directory {
                if !path.exists() {
                    self.account.make_dir(&path);
                }
                changed += self.restore(&path)?;
                continue;
            }
            let synced = fs::read(self.dir.join("files").join(&entry.inode)).unwrap_or_default();
            if fs::read(&path).ok().as_ref() != Some(&synced) {
                changed += 1;
                fs::write(&path, &synced)?;
            }
            self.account.own(&path, entry.mode);
        }
        Ok(changed)
    }

    fn clock(&self) -> PathBuf {
        self.dir.join("clock")
    }
}

/// A name that was synced.
struct Entry {
    inode: String,
    is_directory: bool,
    mode: u32,
    name: String,
}

impl Entry {
    fn parse(line: &str) -> io::Result<Self> {
        let odd = || io::Error::other(format!("a kept name has another form: {line}"));
        let mut fields = line.splitn(4, ' ');
        let mut field = || fields.next().ok_or_else(odd);
        let (inode, kind, mode, name) = (field()?, field()?, field()?, field()?);
        Ok(Self {
            inode: inode.to_owned(),
            is_directory: kind == "d",
            mode: u32::from_str_radix(mode, 8).map_err(|_| odd())?,
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(dir: &Path) -> Machine {
        let account = Account::of_nodes();
        account.own(dir, 0o711);
        let (source, library) = (dir.join("preload.c"), dir.join("preload.so"));
        fs::write(&source, SOURCE).unwrap();
        let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
        assert!(made.unwrap().success());
        let preload = Preload { library, dir: dir.join("interposed") };
        account.make_dir(&preload.dir);
        account.make_dir(&dir.join("node1"));
        preload.machine(&dir.join("node1"), &["store"], account).unwrap()
    }

    fn run(machine: &Machine, script: &str) -> String {
        let output =
            Command::new("env").args(machine.environment()).args(["bash", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn a_host_has_a_clock_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let machine = machine(dir.path());
        let seconds = |text: String| text.parse::<i64>().unwrap();
        let here = || seconds(run(&machine, "date +%s"));
        let there = || i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
        assert!((here() - there()).abs() <= 5);
        machine.step_clock(-3_600).unwrap();
        assert!((here() - there() + 3_600).abs() <= 5);
    }

    #[test]
    fn what_was_not_synced_is_gone_with_the_power() {
        let dir = tempfile::tempdir().unwrap();
        let machine = machine(dir.path());
        let store = dir.path().join("node1/store");
        let at = store.display();
        // `sync FILE` is fsync, also of a directory.
        let script = format!(
            "mkdir {at}; cd {at}; echo 1 > kept; echo 1 > renamed; sync kept renamed .; echo 2 >> kept; sync kept; echo 3 >> kept; \
             echo 2 > new; sync new; mv new renamed; echo 1 > unnamed; sync unnamed"
        );
        run(&machine, &script);
        assert_eq!(machine.lose_unsynced().unwrap(), 3);
        let text = |name: &str| fs::read_to_string(store.join(name)).ok();
        assert_eq!(text("kept").as_deref(), Some("1\n2\n"), "not its last line");
        assert_eq!(text("renamed").as_deref(), Some("1\n"), "the new name was not synced");
        assert_eq!((text("unnamed"), text("new")), (None, None));
    }
}
