//! The data directory: what is in it, and how to get rid of it.
//!
//! Everything here blocks on the file system; [`crate::server::Server`] has the async forms.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What a look into the data directory says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDirState {
    Missing,
    Empty,
    /// It exists but could not be read: never treat it as empty.
    Unreadable {
        reason: String,
    },
    /// There are files, but no complete database cluster (no `PG_VERSION` or no `global/pg_control`).
    Incomplete {
        reason: String,
    },
    Present {
        major: u32,
    },
}

impl DataDirState {
    pub fn major(&self) -> Option<u32> {
        match self {
            Self::Present { major } => Some(*major),
            _ => None,
        }
    }
}

/// Why a data directory could not be removed or set aside.
#[derive(Debug, thiserror::Error)]
#[error("could not remove or rename `{}`", path.display())]
pub struct WipeError {
    pub path: PathBuf,
    #[source]
    pub cause: io::Error,
}

/// What became of a directory that was to be wiped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wiped {
    Removed,
    /// It could not be removed, so it was renamed to this.
    SetAside(PathBuf),
}

/// Looks into `dir`. Cheap.
pub fn inspect(dir: &Path) -> DataDirState {
    match has_entries(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return DataDirState::Missing,
        Err(error) => return DataDirState::Unreadable { reason: error.to_string() },
        Ok(false) => return DataDirState::Empty,
        Ok(true) => {}
    }
    let version = match fs::read_to_string(dir.join("PG_VERSION")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return DataDirState::Incomplete { reason: "there is no PG_VERSION".to_owned() };
        }
        Err(error) => return DataDirState::Unreadable { reason: error.to_string() },
    };
    let Ok(major) = version.trim().parse() else {
        return DataDirState::Incomplete { reason: format!("PG_VERSION says `{}`", version.trim()) };
    };
    match dir.join("global/pg_control").try_exists() {
        Ok(true) => DataDirState::Present { major },
        Ok(false) => DataDirState::Incomplete { reason: "there is no global/pg_control".to_owned() },
        Err(error) => DataDirState::Unreadable { reason: error.to_string() },
    }
}

/// `lost+found` does not count: a fresh file system has one.
fn has_entries(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        if entry?.file_name() != "lost+found" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the data directory together with what its links lead to: itself being a link, the WAL directory, tablespaces.
/// What can't be removed (busy mount points are emptied instead) is renamed aside.
pub fn wipe(dir: &Path) -> Result<Wiped, WipeError> {
    let real = match fs::canonicalize(dir) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Wiped::Removed),
        Err(cause) => return Err(WipeError { path: dir.to_owned(), cause }),
    };
    match remove_all(&real) {
        Ok(()) => Ok(Wiped::Removed),
        Err(error) => {
            tracing::warn!(path = %dir.display(), %error, "data directory could not be removed, setting it aside");
            set_aside(dir).map(Wiped::SetAside)
        }
    }
}

fn remove_all(real: &Path) -> Result<(), WipeError> {
    for target in linked_directories(real) {
        empty(&target)?;
    }
    empty(real)?;
    // The directory itself stays if it is a mount point or its parent is not ours.
    match fs::remove_dir(real) {
        Ok(()) => {}
        Err(error) => tracing::debug!(path = %real.display(), %error, "the emptied data directory stays"),
    }
    Ok(())
}

/// What the links of a data directory lead to: `pg_wal` and each tablespace, with absolute real paths.
fn linked_directories(real: &Path) -> Vec<PathBuf> {
    let spaces = fs::read_dir(real.join("pg_tblspc")).into_iter().flatten().flatten();
    let links = spaces.map(|entry| entry.path()).chain([real.join("pg_wal"), real.join("pg_xlog")]);
    links.filter(|path| path.is_symlink()).filter_map(|path| fs::canonicalize(path).ok()).collect()
}

/// Removes everything in `dir`, but not `dir`. Links are removed, not followed.
fn empty(dir: &Path) -> Result<(), WipeError> {
    let error = |path: &Path, cause| WipeError { path: path.to_owned(), cause };
    for entry in fs::read_dir(dir).map_err(|cause| error(dir, cause))? {
        let path = entry.map_err(|cause| error(dir, cause))?.path();
        let kind = fs::symlink_metadata(&path).map_err(|cause| error(&path, cause))?;
        let removed = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(cause)
                if cause.kind() != io::ErrorKind::NotFound
                    && path.file_name() != Some("lost+found".as_ref()) =>
            {
                return Err(error(&path, cause));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Renames `dir` to `<dir>.failed`, and so what its links lead to; what stood there from an earlier failure is removed.
/// Returns the new name.
pub fn set_aside(dir: &Path) -> Result<PathBuf, WipeError> {
    let aside = failed_name(dir);
    if fs::symlink_metadata(dir).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        // A command that failed may have made nothing.
        return Ok(aside);
    }
    let error = |path: &Path, cause| WipeError { path: path.to_owned(), cause };
    if let Ok(real) = fs::canonicalize(&aside) {
        remove_all(&real)?;
        // A link to the old one, or a directory that could not be removed: the rename below needs the name free.
        if aside.is_symlink() {
            fs::remove_file(&aside).map_err(|cause| error(&aside, cause))?;
        }
    }
    let links: Vec<(PathBuf, PathBuf)> = links_of(dir);
    fs::rename(dir, &aside).map_err(|cause| error(dir, cause))?;
    for (link, target) in links {
        let moved = failed_name(&target);
        let relinked = aside.join(link);
        let move_target = || -> io::Result<()> {
            if moved.exists() {
                fs::remove_dir_all(&moved)?;
            }
            fs::rename(&target, &moved)?;
            fs::remove_file(&relinked)?;
            std::os::unix::fs::symlink(&moved, &relinked)
        };
        move_target().map_err(|cause| error(&target, cause))?;
    }
    Ok(aside)
}

/// As [`set_aside`], for data that somebody may miss: refused if anything stands under one of the new names already, so that nothing is
/// ever removed.
pub fn keep_aside(dir: &Path) -> Result<PathBuf, WipeError> {
    let targets = links_of(dir).into_iter().map(|(_, target)| target);
    let mut names = targets.chain([dir.to_owned()]).map(|path| failed_name(&path));
    match names.find(|name| fs::symlink_metadata(name).is_ok()) {
        Some(path) if dir.exists() => {
            let cause = io::Error::other(
                "it was set aside earlier and nothing removes it by itself: remove it if nobody needs it any more, or copy this \
                 member anew without keeping what it has: bellwether reinit",
            );
            Err(WipeError { path, cause })
        }
        _ => set_aside(dir),
    }
}

/// Links inside the data directory (relative path) and their real targets.
fn links_of(dir: &Path) -> Vec<(PathBuf, PathBuf)> {
    let spaces = fs::read_dir(dir.join("pg_tblspc")).into_iter().flatten().flatten();
    let names = spaces.map(|entry| Path::new("pg_tblspc").join(entry.file_name()));
    names
        .chain([PathBuf::from("pg_wal")])
        .filter(|name| dir.join(name).is_symlink())
        .filter_map(|name| fs::canonicalize(dir.join(&name)).ok().map(|target| (name, target)))
        .collect()
}

fn failed_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".failed");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A data directory with a linked WAL directory and one tablespace.
    fn with_links(root: &Path) -> PathBuf {
        let dir = root.join("data");
        for path in ["data/global", "data/pg_tblspc", "wal", "space/PG_15_1"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        fs::write(dir.join("PG_VERSION"), "15\n").unwrap();
        fs::write(dir.join("global/pg_control"), "x").unwrap();
        fs::write(root.join("wal/000000010000000000000001"), "x").unwrap();
        fs::write(root.join("space/PG_15_1/1"), "x").unwrap();
        symlink(root.join("wal"), dir.join("pg_wal")).unwrap();
        symlink(root.join("space"), dir.join("pg_tblspc/16400")).unwrap();
        dir
    }

    #[test]
    fn there_may_be_nothing_to_set_aside() {
        let root = tempfile::tempdir().unwrap();
        let earlier = root.path().join("data.failed");
        fs::create_dir(&earlier).unwrap();
        assert_eq!(set_aside(&root.path().join("data")).unwrap(), earlier);
        assert!(earlier.exists(), "what an earlier bootstrap left is still worth a look");
    }

    #[test]
    fn each_kind_of_directory_is_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("data");
        assert_eq!(inspect(&dir), DataDirState::Missing);
        fs::create_dir_all(dir.join("lost+found")).unwrap();
        assert_eq!(inspect(&dir), DataDirState::Empty);
        fs::write(dir.join("notes.txt"), "").unwrap();
        assert!(matches!(inspect(&dir), DataDirState::Incomplete { .. }));
        fs::write(dir.join("PG_VERSION"), "16\n").unwrap();
        assert!(matches!(inspect(&dir), DataDirState::Incomplete { .. }));
        fs::create_dir(dir.join("global")).unwrap();
        fs::write(dir.join("global/pg_control"), "x").unwrap();
        assert_eq!(inspect(&dir), DataDirState::Present { major: 16 });
        fs::write(root.path().join("file"), "").unwrap();
        assert!(matches!(inspect(&root.path().join("file")), DataDirState::Unreadable { .. }));
    }

    #[test]
    fn wiping_empties_linked_wal_and_tablespaces() {
        let root = tempfile::tempdir().unwrap();
        let dir = with_links(root.path());
        assert_eq!(wipe(&dir).unwrap(), Wiped::Removed);
        assert_eq!(inspect(&dir), DataDirState::Missing);
        for emptied in ["wal", "space"] {
            assert_eq!(fs::read_dir(root.path().join(emptied)).unwrap().count(), 0, "{emptied}");
        }
        assert_eq!(wipe(&dir).unwrap(), Wiped::Removed, "a second time is harmless");
    }

    #[test]
    fn wiping_a_linked_data_directory_empties_its_target() {
        let root = tempfile::tempdir().unwrap();
        let dir = with_links(root.path());
        let link = root.path().join("link");
        symlink(&dir, &link).unwrap();
        wipe(&link).unwrap();
        assert!(!dir.join("PG_VERSION").exists());
    }

    #[test]
    fn at_most_one_failed_directory_is_kept() {
        let root = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let dir = with_links(root.path());
            assert_eq!(set_aside(&dir).unwrap(), root.path().join("data.failed"));
            assert_eq!(inspect(&dir), DataDirState::Missing);
        }
        let aside = root.path().join("data.failed");
        assert_eq!(inspect(&aside), DataDirState::Present { major: 15 });
        assert!(aside.join("pg_wal/000000010000000000000001").exists(), "links follow their moved targets");
        assert!(root.path().join("space.failed/PG_15_1/1").exists());
    }

    #[test]
    fn what_somebody_may_miss_is_never_replaced() {
        let root = tempfile::tempdir().unwrap();
        let dir = with_links(root.path());
        fs::create_dir(root.path().join("space.failed")).unwrap();
        let refused = keep_aside(&dir).unwrap_err();
        assert_eq!(refused.path, root.path().join("space.failed"), "not even a tablespace");
        assert_eq!(inspect(&dir), DataDirState::Present { major: 15 });
        fs::remove_dir(root.path().join("space.failed")).unwrap();
        assert_eq!(keep_aside(&dir).unwrap(), root.path().join("data.failed"));
        assert_eq!(keep_aside(&dir).unwrap(), root.path().join("data.failed"), "it is done");

        fs::remove_dir_all(root.path().join("wal.failed")).unwrap();
        fs::remove_dir_all(root.path().join("space.failed")).unwrap();
        let again = with_links(root.path());
        assert_eq!(keep_aside(&again).unwrap_err().path, root.path().join("data.failed"));
        assert_eq!(inspect(&again), DataDirState::Present { major: 15 });
    }
}
