//! What an administrator types.

use bellwether_sql::token::{Strings, Token, scan};
use bellwether_types::Duty;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Show(Show),
    /// Of one database, or of all.
    Pause(Option<String>),
    Resume(Option<String>),
    Reconnect(Option<String>),
    Kill(Option<String>),
    WaitClose(Option<String>),
    KillClient(u64),
    /// Whether a member takes readers.
    Duty(Duty, String),
    Disable(String),
    Enable(String),
    Suspend,
    Reload,
    Shutdown(Shutdown),
    Set {
        key: String,
        value: String,
    },
}

/// When the proxy ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    AtOnce,
    WaitForServers,
    WaitForClients,
}

/// Why a command is none. Told to the administrator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    #[error("invalid command {0:?}, use SHOW HELP;")]
    Unknown(String),
    #[error("{0} needs {1}")]
    Needs(&'static str, &'static str),
    #[error("one command at a time")]
    Several,
}

macro_rules! shows {
    ($($variant:ident = $word:literal),+ $(,)?) => {
        /// What `SHOW` can show.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Show { $($variant),+ }

        impl Show {
            pub const ALL: &'static [Show] = &[$(Show::$variant),+];

            /// As it is typed.
            pub fn word(self) -> &'static str {
                match self { $(Show::$variant => $word),+ }
            }
        }
    };
}

shows! {
    Help = "HELP",
    Config = "CONFIG",
    Databases = "DATABASES",
    Pools = "POOLS",
    Clients = "CLIENTS",
    Servers = "SERVERS",
    Sockets = "SOCKETS",
    ActiveSockets = "ACTIVE_SOCKETS",
    Lists = "LISTS",
    Stats = "STATS",
    StatsTotals = "STATS_TOTALS",
    StatsAverages = "STATS_AVERAGES",
    Totals = "TOTALS",
    Users = "USERS",
    Mem = "MEM",
    DnsHosts = "DNS_HOSTS",
    DnsZones = "DNS_ZONES",
    Peers = "PEERS",
    PeerPools = "PEER_POOLS",
    Fds = "FDS",
    Version = "VERSION",
    State = "STATE",
}

impl Command {
    /// Reads one command; a semicolon may follow. `None`: there is nothing but space.
    pub fn parse(text: &str) -> Result<Option<Command>, CommandError> {
        let unknown = || CommandError::Unknown(text.trim().chars().take(80).collect());
        let scan = scan(text, Strings::Standard).map_err(|_| unknown())?;
        let mut statements = scan.statements();
        let Some(words) = statements.next() else { return Ok(None) };
        if statements.next().is_some() {
            return Err(CommandError::Several);
        }
        let verb = words[0].raw.to_ascii_uppercase();
        let rest = &words[1..];
        let database = || one_name(rest).map_err(|()| unknown());
        Ok(Some(match verb.as_str() {
            "SHOW" => Command::Show(show(rest).ok_or_else(unknown)?),
            "PAUSE" => Command::Pause(database()?),
            "RESUME" => Command::Resume(database()?),
            "RECONNECT" => Command::Reconnect(database()?),
            "KILL" => Command::Kill(database()?),
            "WAIT_CLOSE" => Command::WaitClose(database()?),
            "DISABLE" => Command::Disable(database()?.ok_or(CommandError::Needs("DISABLE", "a database"))?),
            "ENABLE" => Command::Enable(database()?.ok_or(CommandError::Needs("ENABLE", "a database"))?),
            "KILL_CLIENT" => match rest {
                [id] => Command::KillClient(id.raw.parse().map_err(|_| unknown())?),
                _ => return Err(CommandError::Needs("KILL_CLIENT", "the id of SHOW CLIENTS")),
            },
            "DRAIN" | "MAINT" | "READY" => {
                let member = database()?
                    .ok_or(CommandError::Needs("it", "a member, as `bellwether list` shows it"))?;
                Command::Duty(verb.parse().map_err(|()| unknown())?, member)
            }
            "SUSPEND" if rest.is_empty() => Command::Suspend,
            "RELOAD" if rest.is_empty() => Command::Reload,
            "SHUTDOWN" => Command::Shutdown(match rest {
                [] => Shutdown::AtOnce,
                [when] if when.is("wait_for_servers") => Shutdown::WaitForServers,
                [when] if when.is("wait_for_clients") => Shutdown::WaitForClients,
                _ => return Err(unknown()),
            }),
            "SET" => match rest {
                [key, sign, value] if sign.raw == "=" || sign.is("to") => Command::Set {
                    key: key.name().ok_or_else(unknown)?.into_owned(),
                    value: value.plain_text().unwrap_or(value.raw.into()).into_owned(),
                },
                _ => return Err(CommandError::Needs("SET", "a key and a value: SET key = 'value'")),
            },
            _ => return Err(unknown()),
        }))
    }
}

fn one_name(rest: &[Token<'_>]) -> Result<Option<String>, ()> {
    match rest {
        [] => Ok(None),
        [name] => name.name().map(|name| Some(name.into_owned())).ok_or(()),
        _ => Err(()),
    }
}

fn show(rest: &[Token<'_>]) -> Option<Show> {
    let [what] = rest else { return None };
    let word = what.name()?;
    Show::ALL.iter().copied().find(|show| show.word().eq_ignore_ascii_case(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Command {
        Command::parse(text).unwrap().unwrap()
    }

    #[test]
    fn what_administrators_type() {
        for show in Show::ALL {
            assert_eq!(parsed(&format!("show {};", show.word().to_lowercase())), Command::Show(*show));
        }
        assert_eq!(parsed("PAUSE"), Command::Pause(None));
        assert_eq!(parsed("pause \"My DB\";"), Command::Pause(Some("My DB".into())));
        assert_eq!(parsed("RESUME app"), Command::Resume(Some("app".into())));
        assert_eq!(parsed("KILL_CLIENT 17"), Command::KillClient(17));
        assert_eq!(parsed("DRAIN \"pg-2\""), Command::Duty(Duty::Drain, "pg-2".into()));
        assert_eq!(parsed("ready pg2"), Command::Duty(Duty::Ready, "pg2".into()));
        assert_eq!(parsed("SHUTDOWN WAIT_FOR_CLIENTS"), Command::Shutdown(Shutdown::WaitForClients));
        let set = Command::Set { key: "query_wait_timeout".into(), value: "5".into() };
        assert_eq!(parsed("SET query_wait_timeout = '5'"), set);
        assert_eq!(parsed("SET query_wait_timeout TO 5;"), set);
        assert_eq!(Command::parse(" -- nothing\n;"), Ok(None));
    }

    #[test]
    fn what_is_none_is_told() {
        for wrong in
            ["", "SHOW", "SHOW MOON", "PAUSE a b", "KILL_CLIENT x", "RELOAD now", "SELECT 1", "SHOW 'POOLS"]
        {
            assert!(!matches!(Command::parse(wrong), Ok(Some(_))), "{wrong}");
        }
        assert_eq!(Command::parse("DISABLE"), Err(CommandError::Needs("DISABLE", "a database")));
        assert_eq!(Command::parse("PAUSE; RESUME"), Err(CommandError::Several));
    }
}
