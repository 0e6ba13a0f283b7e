//! libpq's password file, which spares people the option `--password`.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::PathBuf};

/// What a password is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The first line that fits, of `$PGPASSFILE` or `~/.pgpass`. As with libpq, a file that others may read does not count.
pub(super) fn password(env: &BTreeMap<String, String>, wanted: Wanted<'_>) -> Option<String> {
    let of_home = || env.get("HOME").map(|home| PathBuf::from(home).join(".pgpass"));
    let path = env.get("PGPASSFILE").map(PathBuf::from).or_else(of_home)?;
    let is_private = fs::metadata(&path).is_ok_and(|file| file.is_file() && file.mode() & 0o077 == 0);
    let text = is_private.then(|| fs::read_to_string(&path).ok()).flatten()?;
    text.lines().find_map(|line| fitting(line, wanted))
}

/// `host:port:database:user:password`, where `*` is anything and `\` makes the next character an ordinary one.
fn fitting(line: &str, wanted: Wanted<'_>) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields.last_mut()?.extend(characters.next()),
            other => fields.last_mut()?.push(other),
        }
    }
    let port = wanted.port.to_string();
    let asked = [wanted.host, &port, wanted.database, wanted.user];
    let fits =
        fields.len() == 5 && fields.iter().zip(asked).all(|(field, asked)| field == "*" || field == asked);
    if fits { fields.pop() } else { None }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const WANTED: Wanted<'_> = Wanted { host: "10.0.0.1", port: 5432, database: "postgres", user: "ann" };

    #[test]
    fn the_first_line_that_fits_counts() {
        for (line, expected) in [
            ("10.0.0.1:5432:postgres:ann:word", Some("word")),
            ("*:*:*:ann:a\\:b\\\\c", Some("a:b\\c")),
            ("*:*:*:ann:with:colons", Some("with:colons")),
            ("10.0.0.2:5432:postgres:ann:word", None),
            ("*:5433:*:ann:word", None),
            ("*:*:*:bob:word", None),
            ("#*:*:*:ann:word", None),
            ("*:*:*", None),
        ] {
            assert_eq!(fitting(line, WANTED).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pass");
        fs::write(&path, "*:*:*:bob:no\n*:*:*:ann:word\n").unwrap();
        let env = BTreeMap::from([("PGPASSFILE".to_owned(), path.display().to_string())]);
        for (mode, expected) in [(0o600, Some("word")), (0o640, None)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(password(&env, WANTED).as_deref(), expected, "{mode:o}");
        }
    }
}
