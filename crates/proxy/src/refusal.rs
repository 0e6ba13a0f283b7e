//! What a client is told when it cannot be served: an SQLSTATE that drivers act upon, a message, and what to do next.

use std::time::Duration;

use bellwether_pgwire::message::Report;
use bellwether_types::MemberName;

use crate::{
    quota::{Full, TooMany},
    routes::{NoPrimary, Target},
};

/// Why a client's connection ends, or never begins. One metric label each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoPrimary {
        why: NoPrimary,
        waited: Duration,
    },
    NoReplica {
        target: Target,
        waited: Duration,
    },
    QueueFull {
        limit: usize,
    },
    NotReached {
        member: MemberName,
        waited: Duration,
    },
    /// The server that a client was sent to as the primary is none.
    NotPrimary {
        member: MemberName,
    },
    TooManyConnections {
        limit: usize,
    },
    /// The member that served the session does so no longer.
    Cut {
        member: MemberName,
        target: Target,
    },
    /// No server of the pool became free.
    NoServer {
        waited: Duration,
        /// The limit that kept the pool from opening one more.
        full: Option<Full>,
        is_paused: bool,
        error: Option<String>,
    },
    /// Of a database, or of a user.
    TooManyClients(TooMany),
    TookTooLong(Late, Duration),
    /// The server was gone in the middle of something.
    ServerLost {
        member: MemberName,
        in_transaction: bool,
    },
    /// A server does not take the user.
    LoginFailed {
        sqlstate: String,
        what: String,
    },
    /// A session could not be restored on another server.
    SettingsFailed {
        what: String,
    },
    NoTransactions,
    NoReplication,
    /// What is known of a user's password cannot be found out.
    NoLookup {
        what: String,
    },
    Busy,
    NotAllowed {
        sqlstate: &'static str,
        what: String,
        hint: &'static str,
    },
    /// What a load balancer puts in front of a client's bytes is missing, or comes from somebody else.
    Heading {
        what: String,
        hint: &'static str,
    },
    /// By the console.
    Killed,
    Stopping,
    Protocol {
        problem: String,
    },
}

/// What took longer than is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    Login,
    Query,
    Transaction,
    IdleTransaction,
    IdleClient,
}

impl Late {
    fn label(self) -> &'static str {
        match self {
            Self::Login => "client_login_timeout",
            Self::Query => "query_timeout",
            Self::Transaction => "transaction_timeout",
            Self::IdleTransaction => "idle_transaction_timeout",
            Self::IdleClient => "client_idle_timeout",
        }
    }

    /// SQLSTATE, message, detail and hint; the SQLSTATE is PostgreSQL's for its own timeout of that kind.
    fn texts(self, limit: Duration) -> (&'static str, String, String, &'static str) {
        let limit = limit.as_secs_f64();
        let (sqlstate, message, detail, hint) = match self {
            Self::Login => (
                "57014",
                "client_login_timeout",
                format!("The login took longer than {limit} s."),
                "Look whether the network loses packets; the limit is pooler.client_login_timeout.",
            ),
            Self::Query => (
                "57014",
                "query timeout",
                format!("The server had no answer after {limit} s (query_timeout); the query was cancelled."),
                "Connect again. Raise pooler.query_timeout, or that of the user, if the query may take so long.",
            ),
            Self::Transaction => (
                "25P04",
                "transaction timeout",
                format!(
                    "The transaction took longer than {limit} s (transaction_timeout); it is rolled back."
                ),
                "Connect again. Raise pooler.transaction_timeout, or that of the user, if it may take so long.",
            ),
            Self::IdleTransaction => (
                "25P03",
                "idle transaction timeout",
                format!(
                    "Nothing came for {limit} s in a transaction (idle_transaction_timeout); it is rolled back."
                ),
                "Connect again. End transactions before you wait for something else.",
            ),
            Self::IdleClient => (
                "57P05",
                "client_idle_timeout",
                format!("Nothing came for {limit} s (client_idle_timeout)."),
                "Connect again when there is something to do.",
            ),
        };
        (sqlstate, message.to_owned(), detail, hint)
    }
}

impl Refusal {
    /// For the metric.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::NoPrimary { .. } => "no_primary",
            Self::NoReplica { .. } => "no_replica",
            Self::QueueFull { .. } => "queue_full",
            Self::NotReached { .. } => "not_reached",
            Self::NotPrimary { .. } => "not_primary",
            Self::TooManyConnections { .. } => "too_many_connections",
            Self::Cut { .. } => "role_change",
            Self::NoServer { .. } => "no_server",
            Self::TooManyClients(_) => "too_many_clients",
            Self::TookTooLong(late, _) => late.label(),
            Self::ServerLost { .. } => "server_lost",
            Self::LoginFailed { .. } => "server_login_failed",
            Self::SettingsFailed { .. } => "settings_failed",
            Self::NoTransactions => "no_transactions",
            Self::NoReplication => "no_replication",
            Self::NoLookup { .. } => "no_lookup",
            Self::Busy => "busy",
            Self::NotAllowed { .. } => "not_allowed",
            Self::Heading { .. } => "proxy_header",
            Self::Killed => "killed",
            Self::Stopping => "stopping",
            Self::Protocol { .. } => "protocol",
        }
    }

    /// Appends the message for the client.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let (sqlstate, message, detail, hint) = self.texts();
        Report { severity: "FATAL", sqlstate, message: &message, detail: &detail, hint }.write(out);
    }

    /// For the log.
    pub(crate) fn sentence(&self) -> String {
        self.texts().1
    }

    fn texts(&self) -> (&str, String, String, &'static str) {
        const AGAIN: &str =
            "Connect again in a few seconds. `bellwether list` shows the state of the cluster.";
        match self {
            Self::NoPrimary { why, waited } => (
                "57P03",
                "there is no primary that takes connections".into(),
                format!("{} Waited for {:.1} s.", why.sentence(), waited.as_secs_f64()),
                AGAIN,
            ),
            Self::NoReplica { target, waited } => (
                "57P03",
                format!("no member can serve the listener for {target}"),
                format!(
                    "No replica runs, follows and is near enough. Waited for {:.1} s.",
                    waited.as_secs_f64()
                ),
                AGAIN,
            ),
            Self::QueueFull { limit } => (
                "53300",
                "too many clients wait for a server already".into(),
                format!("{limit} may wait (router.queue_max)."),
                AGAIN,
            ),
            Self::NotReached { member, waited } => (
                "57P03",
                format!("member \"{member}\" does not take connections"),
                format!("Tried for {:.1} s.", waited.as_secs_f64()),
                AGAIN,
            ),
            Self::NotPrimary { member } => (
                "57P03",
                format!("member \"{member}\" is not the primary yet"),
                "It is in recovery.".into(),
                AGAIN,
            ),
            Self::TooManyConnections { limit } => (
                "53300",
                "sorry, too many clients already".into(),
                format!("The proxy takes {limit} connections (router.maxconn, pooler.max_client_conn)."),
                "Close connections that are not needed, or raise the limit.",
            ),
            Self::Cut { member, target } => (
                "57P01",
                format!("connection to member \"{member}\" was ended: it no longer serves {target}"),
                "The role of the member has changed.".into(),
                "Connect again and repeat the transaction; check first whether a commit that was in flight has happened.",
            ),
            Self::Killed => (
                "57P01",
                "the connection was ended by an administrator".into(),
                "KILL or KILL_CLIENT was said on the console.".into(),
                "Connect again, if the administrator has no objection.",
            ),
            Self::Stopping => (
                "57P01",
                "the proxy is stopping".into(),
                String::new(),
                "Connect again; another node's proxy serves the same cluster.",
            ),
            Self::NoServer { waited, full, is_paused, error } => {
                let (why, hint) = no_server(*full, *is_paused, error.as_deref());
                let detail = format!("Waited for {:.1} s. {why}", waited.as_secs_f64());
                ("57014", "query_wait_timeout".into(), detail, hint)
            }
            Self::TookTooLong(late, limit) => late.texts(*limit),
            Self::TooManyClients(TooMany::OfDatabase(limit)) => (
                "53300",
                "too many clients of this database".into(),
                format!("It may have {limit} (max_db_client_connections)."),
                "Close connections that are not needed, or raise the limit in pooler or pooler.databases.",
            ),
            Self::TooManyClients(TooMany::OfUser(limit)) => (
                "53300",
                "too many clients of this user".into(),
                format!("It may have {limit} (max_user_client_connections)."),
                "Close connections that are not needed, or raise the limit in pooler or pooler.users.",
            ),
            Self::ServerLost { member, in_transaction } => (
                "08006",
                format!("the connection to member \"{member}\" was lost"),
                if *in_transaction { "A transaction was in flight.".into() } else { String::new() },
                "Connect again and repeat the transaction; check first whether a commit that was in flight has happened.",
            ),
            Self::LoginFailed { sqlstate, what } => (
                sqlstate,
                what.clone(),
                "The server does not let the pool in.".into(),
                "Check pg_hba.conf of the members: the proxy logs in as the client's user, from its own address.",
            ),
            Self::SettingsFailed { what } => (
                "57P01",
                "the settings of the session could not be restored on another server".into(),
                what.clone(),
                "Connect again.",
            ),
            Self::NoTransactions => (
                "08P01",
                "transaction blocks not allowed in statement pooling mode".into(),
                String::new(),
                "Use a listener with mode transaction.",
            ),
            Self::NoReplication => (
                "0A000",
                "replication connections are not pooled".into(),
                String::new(),
                "Connect to a listener with mode tcp (port 5000 leads to the primary).",
            ),
            Self::NoLookup { what } => {
                ("57P03", "the password cannot be checked at present".into(), what.clone(), AGAIN)
            }
            Self::Busy => ("53300", "too many clients log in at the same time".into(), String::new(), AGAIN),
            Self::NotAllowed { sqlstate, what, hint } => (sqlstate, what.clone(), String::new(), hint),
            Self::Heading { what, hint } => ("08P01", what.clone(), String::new(), hint),
            Self::Protocol { problem } => (
                "08P01",
                problem.clone(),
                "The proxy has closed the connection: what follows cannot be told apart any more.".into(),
                "Look what connects to this port, and whether its driver speaks PostgreSQL's protocol 3.",
            ),
        }
    }
}

/// Why a client of a pool was not given a server, and what helps.
fn no_server(full: Option<Full>, is_paused: bool, error: Option<&str>) -> (String, &'static str) {
    const LONG: &str = "Look for long transactions (SHOW SERVERS on the console)";
    if is_paused {
        return ("The pools are paused.".into(), "An administrator says RESUME on the console.");
    }
    if let Some(error) = error {
        let why = format!("The last attempt to reach a server: {error}");
        return (why, "`bellwether list` shows the state of the cluster.");
    }
    match full {
        Some(Full::Pool(limit)) => (
            format!("All {limit} servers of the pool were in use (pool_size)."),
            "Look for long transactions (SHOW SERVERS on the console), or raise pooler.default_pool_size.",
        ),
        Some(Full::Database(limit)) => (
            format!("The database has all of its {limit} servers (max_db_connections)."),
            "Look for long transactions (SHOW SERVERS on the console), or raise pooler.max_db_connections.",
        ),
        Some(Full::User(limit)) => (
            format!("The user has all of its {limit} servers (max_user_connections)."),
            "Look for long transactions (SHOW SERVERS on the console), or raise pooler.max_user_connections.",
        ),
        None => ("No server came free.".into(), LONG),
    }
}

#[cfg(test)]
mod tests {
    use bellwether_pgwire::message::report_field;

    use super::*;

    #[test]
    fn who_finds_no_primary_is_told_why_and_may_come_again() {
        let refusal = Refusal::NoPrimary { why: NoPrimary::NoLeader, waited: Duration::from_millis(5040) };
        let mut out = Vec::new();
        refusal.write(&mut out);
        assert_eq!(report_field(&out[5..], b'C'), Some(&b"57P03"[..]));
        let detail = &b"No member holds the leader lock at present. Waited for 5.0 s."[..];
        assert_eq!(report_field(&out[5..], b'D'), Some(detail));
    }
}
