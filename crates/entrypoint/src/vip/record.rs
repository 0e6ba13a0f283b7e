//! What we have added to this host, in a file: so that the next agent, or `bellwether vip release`, can take it back.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The name of the file, beside the member's other ones.
const FILE: &str = "addresses.json";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// An address that was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    pub entry: String,
    pub interface: String,
    pub address: IpAddr,
    pub prefix_len: u8,
    /// The kernel drops it by itself.
    pub is_finite: bool,
    /// Left on purpose by an agent that was stopped in a pause.
    #[serde(default)]
    pub is_kept: bool,
}

/// The file.
#[derive(Clone, Debug)]
pub struct Record {
    path: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    boot_id: String,
    addresses: Vec<Recorded>,
}

impl Record {
    /// In the directory of the member's runtime files.
    pub fn within(runtime_dir: &Path) -> Self {
        Self { path: runtime_dir.join(FILE) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was added since the machine was started; nothing if there is no file.
    pub fn read(&self) -> io::Result<Vec<Recorded>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let content: Content = serde_json::from_str(&text)?;
        Ok(if content.boot_id == boot_id() { content.addresses } else { Vec::new() })
    }

    /// Replaces the file as a whole.
    pub fn write(&self, addresses: &[Recorded]) -> io::Result<()> {
        let content = Content { boot_id: boot_id(), addresses: addresses.to_vec() };
        let new = self.path.with_extension("new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        io::Write::write_all(&mut file, serde_json::to_string_pretty(&content)?.as_bytes())?;
        fs::rename(&new, &self.path)
    }
}

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_known_until_the_next_boot() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::within(dir.path());
        assert_eq!(record.read().unwrap(), []);
        let added = Recorded {
            entry: "main".into(),
            interface: "eth0".into(),
            address: "10.0.0.10".parse().unwrap(),
            prefix_len: 32,
            is_finite: true,
            is_kept: false,
        };
        record.write(std::slice::from_ref(&added)).unwrap();
        assert_eq!(record.read().unwrap(), [added]);
        let text = fs::read_to_string(record.path()).unwrap().replace(&boot_id(), "another boot");
        fs::write(record.path(), text).unwrap();
        assert_eq!(record.read().unwrap(), []);
        fs::write(record.path(), "{").unwrap();
        assert!(record.read().is_err(), "a file that cannot be read is told of");
    }
}
