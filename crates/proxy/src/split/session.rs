//! A client's session, as far as it decides between primary and replica.

use super::{Consistency, Mode, Position, SplitSettings};
use bellwether_sql::effect::Span;
use bellwether_sql::facts::{Access, Because, Class};
use bellwether_sql::hint::Role;
use bellwether_types::{MemberName, Timestamp};

/// What a session remembers. One for each client.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// By `SET bellwether.role`, or in the startup packet.
    role: Option<Role>,
    /// By `SET LOCAL bellwether.role`.
    role_of_transaction: Option<Role>,
    transaction: Transaction,
    last_write: Option<Timestamp>,
    token: Token,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Transaction {
    #[default]
    None,
    /// `BEGIN` was held back: its first statement decides.
    Open,
    OnPrimary,
    OnReplica(MemberName),
}

/// Where in the WAL the client's last write ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Token {
    /// It has written nothing.
    #[default]
    None,
    /// It has written, and the primary has not told yet where that ended. Nothing less than the primary will do.
    Unknown,
    At(Position),
}

/// Where a statement goes, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub place: Place,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Primary,
    /// Any replica that may be asked, once it shows `after`.
    Replica {
        after: Option<Position>,
    },
    /// The replica on which its transaction runs.
    This(MemberName),
    /// Nowhere yet: the client is told `BEGIN`, and the `BEGIN` goes in front of its next statement.
    HoldBegin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// No replica may have the statement.
    Statement(Because),
    /// It may be read on a replica.
    Read,
    ReadOnlyTransaction,
    /// It goes where its transaction runs.
    Transaction,
    /// A transaction that does not say whether it will write.
    MayWrite,
    FirstStatementDecides,
    Off,
    /// Splitting is manual, and there was no hint.
    NoHint,
    /// By a comment or a setting.
    Hint,
    /// The session has left something behind in its server connection.
    Pinned,
    /// The client has written a moment ago.
    Sticky,
    /// Where the client's, or the cluster's, last write ended is not known.
    PositionUnknown,
}

impl Why {
    /// Its name in metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Why::Statement(because) => because.code(),
            Why::Read => "read",
            Why::ReadOnlyTransaction => "read_only_transaction",
            Why::Transaction => "transaction",
            Why::MayWrite => "may_write",
            Why::FirstStatementDecides => "first_statement_decides",
            Why::Off => "off",
            Why::NoHint => "no_hint",
            Why::Hint => "hint",
            Why::Pinned => "pinned",
            Why::Sticky => "sticky",
            Why::PositionUnknown => "position_unknown",
        }
    }
}

/// A statement, and what is known around it.
#[derive(Clone, Debug)]
pub struct Statement<'a> {
    pub class: &'a Class,
    /// Of a comment in it.
    pub hint: Option<Role>,
    /// The session has left something behind in its server connection (`bellwether_sql::pins`).
    pub pinned: bool,
    /// The newest position of the cluster's primary, asked after this statement has arrived; only `global` consistency needs it.
    pub newest: Option<Position>,
    /// By the limits of lag.
    pub at_least: AtLeast,
}

/// What a replica must have replayed, whoever wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtLeast {
    /// Lag is not limited.
    #[default]
    Anything,
    /// How far the primary is is not known, or not recently enough.
    Unknown,
    Position(Position),
}

impl Session {
    /// A session whose client has, or has not, asked for a role in its startup packet.
    pub fn new(role: Option<Role>) -> Session {
        Session { role, ..Session::default() }
    }

    /// Decides. Does not change the session: what then happens is told by the other methods.
    pub fn decide(&self, statement: &Statement<'_>, settings: &SplitSettings, now: Timestamp) -> Decision {
        let primary = |why| Decision { place: Place::Primary, why };
        match &self.transaction {
            Transaction::OnPrimary => return primary(Why::Transaction),
            Transaction::OnReplica(member) => {
                return Decision { place: Place::This(member.clone()), why: Why::Transaction };
            }
            Transaction::None | Transaction::Open => {}
        }
        if settings.mode == Mode::Off {
            return primary(Why::Off);
        }
        if statement.pinned {
            return primary(Why::Pinned);
        }
        match statement.hint.or(self.role_of_transaction).or(self.role) {
            Some(Role::Primary) => return primary(Why::Hint),
            // Whoever demands a replica gets it, also for what that will refuse, and as old as it is.
            Some(Role::Replica) => return Decision { place: Place::Replica { after: None }, why: Why::Hint },
            None if settings.mode == Mode::Manual => return primary(Why::NoHint),
            Some(Role::Auto) | None => {}
        }
        match (statement.class, &self.transaction) {
            (Class::Primary(because), _) => primary(Why::Statement(because.clone())),
            (Class::Read, _) => self.read(Why::Read, statement, settings, now),
            // Within a transaction that is held back, `BEGIN` is only a warning of the server's.
            (Class::Begin(_), Transaction::Open) => primary(Why::Transaction),
            (Class::Begin(Access::ReadOnly), _) => {
                self.read(Why::ReadOnlyTransaction, statement, settings, now)
            }
            (Class::Begin(Access::Unstated), _) if settings.mode == Mode::Transaction => {
                Decision { place: Place::HoldBegin, why: Why::FirstStatementDecides }
            }
            (Class::Begin(_), _) => primary(Why::MayWrite),
        }
    }

    fn read(
        &self,
        why: Why,
        statement: &Statement<'_>,
        settings: &SplitSettings,
        now: Timestamp,
    ) -> Decision {
        let primary = |why| Decision { place: Place::Primary, why };
        let after = match settings.consistency {
            Consistency::Eventual | Consistency::Bounded => {
                let sticky = self.last_write.is_some_and(|at| now.since(at) < settings.sticky);
                if sticky {
                    return primary(Why::Sticky);
                }
                None
            }
            Consistency::Session => match self.token {
                Token::None => None,
                Token::Unknown => return primary(Why::PositionUnknown),
                Token::At(position) => Some(position),
            },
            Consistency::Global => match (self.token, statement.newest) {
                (Token::Unknown, _) | (_, None) => return primary(Why::PositionUnknown),
                // Its own last write is no newer than the cluster's newest.
                (_, Some(newest)) => Some(newest),
            },
        };
        let after = match (statement.at_least, after) {
            (AtLeast::Anything, after) => after,
            (AtLeast::Unknown, _) => return primary(Why::PositionUnknown),
            (AtLeast::Position(bound), None) => Some(bound),
            (AtLeast::Position(bound), Some(own)) => Some(own.and(bound)),
        };
        Decision { place: Place::Replica { after }, why }
    }

    /// `BEGIN` was held back, and the client was told that it is in a transaction.
    pub fn begin_held(&mut self) {
        self.transaction = Transaction::Open;
    }

    /// A server has said that a transaction block is open there; `replica` names it if it is one.
    pub fn in_block(&mut self, replica: Option<&MemberName>) {
        self.transaction = match replica {
            Some(member) => Transaction::OnReplica(member.clone()),
            None => Transaction::OnPrimary,
        };
    }

    /// The transaction block has ended; also if its connection was lost.
    pub fn block_ended(&mut self) {
        self.transaction = Transaction::None;
        self.role_of_transaction = None;
    }

    /// The primary has executed something that may have written. Until [`Session::write_ended_at`] tells where that ended, reads
    /// that must show it go to the primary.
    pub fn wrote(&mut self, now: Timestamp) {
        self.last_write = Some(now);
        self.token = Token::Unknown;
    }

    /// The primary's answer about its position, asked after the write had ended.
    pub fn write_ended_at(&mut self, position: Position) {
        self.token = Token::At(position);
    }

    /// The client has set the role; `None`: as configured.
    pub fn set_role(&mut self, role: Option<Role>, span: Span) {
        match span {
            Span::Session => self.role = role,
            Span::Transaction if self.transaction != Transaction::None => self.role_of_transaction = role,
            // As PostgreSQL: SET LOCAL outside of a transaction has no effect.
            Span::Transaction => {}
        }
    }

    /// For `SHOW bellwether.role`.
    pub fn role(&self) -> Role {
        self.role_of_transaction.or(self.role).unwrap_or(Role::Auto)
    }

    /// Whether a `BEGIN` was held back and must go in front of the next statement.
    pub fn holds_begin(&self) -> bool {
        self.transaction == Transaction::Open
    }
}
