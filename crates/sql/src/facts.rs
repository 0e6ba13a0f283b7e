//! What is known of a text, whatever the database; and what follows with the database's catalogue.

use crate::catalogue::Catalogue;
use crate::effect::Effect;
use crate::hint::Role;
use std::collections::BTreeSet;

/// What was read from a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub shape: Shape,
    pub names: Names,
    /// What a comment in it wishes.
    pub hint: Option<Role>,
    pub effects: Vec<Effect>,
    /// Other values in its plain numbers and strings would change nothing about it, for a replica.
    pub is_steady: bool,
}

/// The kind of statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing but space and comments.
    Empty,
    /// It reads, if what it names permits.
    Query,
    /// `BEGIN` or `START TRANSACTION`.
    Begin(Access),
    /// No replica may have it.
    Primary(Because),
}

/// What a transaction says of itself when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Unstated,
    /// `READ ONLY`, and not `SERIALIZABLE`, which a replica cannot be.
    ReadOnly,
    /// `READ WRITE`, or what only a primary offers.
    NeedsPrimary,
}

/// What a query mentions. More than is there does no harm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Of functions that it calls.
    pub calls: BTreeSet<String>,
    pub operators: BTreeSet<String>,
    /// Of relations, types and fields.
    pub others: BTreeSet<String>,
}

/// Whether a replica may have a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    Read,
    Begin(Access),
    Primary(Because),
}

/// Why a statement is not for a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Because {
    /// It changes data, definitions or rights, or is a command of the server or the session.
    Command,
    /// `COMMIT`, `SAVEPOINT` and their like go where the transaction is.
    EndsTransaction,
    /// `FOR UPDATE`, `FOR SHARE` and their like.
    LocksRows,
    SelectsInto,
    /// `WITH ... (INSERT ...)`
    WritesInside,
    SeveralStatements,
    ExplainsByRunning,
    /// `COPY` from the client, or with a file or program of the server.
    Copies,
    /// It asks whether it talks to a primary.
    AsksForRole,
    Empty,
    TooLong,
    /// The grammar does not know it, or it is nested too deeply.
    NotUnderstood,
    /// The function may write, or is not known.
    Calls(String),
    /// Of such a table or view a replica knows nothing, or another thing; or reading it may write.
    Names(String),
    UsesOperator(String),
    /// A replica has refused it, as it would write.
    RefusedByReplica,
    /// What the functions of this database do is not known yet.
    NoCatalogue,
}

impl Because {
    /// Its name in metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Because::Command => "command",
            Because::EndsTransaction => "ends_transaction",
            Because::LocksRows => "locks_rows",
            Because::SelectsInto => "selects_into",
            Because::WritesInside => "writes_inside",
            Because::SeveralStatements => "several_statements",
            Because::ExplainsByRunning => "explains_by_running",
            Because::Copies => "copies",
            Because::AsksForRole => "asks_for_role",
            Because::Empty => "empty",
            Because::TooLong => "too_long",
            Because::NotUnderstood => "not_understood",
            Because::Calls(_) => "calls_function",
            Because::Names(_) => "names_relation",
            Because::UsesOperator(_) => "uses_operator",
            Because::RefusedByReplica => "refused_by_replica",
            Because::NoCatalogue => "no_catalogue",
        }
    }
}

impl Facts {
    /// Facts of a text that no replica may have, whatever is in it.
    pub fn primary(because: Because) -> Facts {
        Facts {
            shape: Shape::Primary(because),
            names: Names::default(),
            hint: None,
            effects: Vec::new(),
            is_steady: false,
        }
    }

    /// Whether a replica may have it. `None`: the catalogue was not read yet.
    pub fn class(&self, catalogue: Option<&Catalogue>) -> Class {
        match &self.shape {
            Shape::Empty => Class::Primary(Because::Empty),
            Shape::Begin(access) => Class::Begin(*access),
            Shape::Primary(because) => Class::Primary(because.clone()),
            // A read that leaves something behind in its session belongs to the one connection where it is looked for.
            Shape::Query if !self.effects.is_empty() => Class::Primary(Because::Command),
            Shape::Query => match catalogue {
                None => Class::Primary(Because::NoCatalogue),
                Some(catalogue) => match catalogue.objection(&self.names) {
                    Some(because) => Class::Primary(because),
                    None => Class::Read,
                },
            },
        }
    }
}
