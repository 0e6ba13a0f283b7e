//! As whom the nodes run: PostgreSQL refuses to run as root.

use std::{fs, io};

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) user: u32,
    pub(super) group: u32,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    #[error("could not read /etc/passwd to find an unprivileged user")]
    Passwd {
        #[source]
        cause: io::Error,
    },
    #[error(
        "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`; run the demo as an ordinary user"
    )]
    Nobody,
}

/// The user for the nodes if we are root; `None` if we are not and they simply run as we do.
pub(super) fn unprivileged() -> Result<Option<Account>, AccountError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").map_err(|cause| AccountError::Passwd { cause })?;
    choose(&passwd).map(Some).ok_or(AccountError::Nobody)
}

fn choose(passwd: &str) -> Option<Account> {
    ["postgres", "nobody"].iter().find_map(|name| passwd.lines().find_map(|line| parse(line, name)))
}

fn parse(line: &str, wanted: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|&name| name == wanted)?;
    let user = fields.nth(1)?.parse().ok().filter(|&user| user != 0)?;
    let group = fields.next()?.parse().ok()?;
    Some(Account { name: name.to_owned(), user, group })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_of_postgresql_comes_before_nobody_and_root_is_never_taken() {
        let nobody = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
        let both = format!(
            "root:x:0:0::/root:/bin/bash\n{nobody}postgres:x:105:111::/var/lib/postgresql:/bin/bash\n"
        );
        let postgres = Account { name: "postgres".into(), user: 105, group: 111 };
        assert_eq!(choose(&both), Some(postgres));
        assert_eq!(choose(nobody).map(|account| account.user), Some(65534));
        assert_eq!(choose("postgres:x:0:0::/:/bin/sh\n"), None);
    }
}
