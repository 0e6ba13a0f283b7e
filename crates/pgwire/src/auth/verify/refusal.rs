//! Why a client is turned away: what it is told, and what only the log says.

/// Why a client is turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    #[error("password authentication failed for user {user:?}: {}", why.for_log())]
    Failed { user: String, why: Why },
    #[error("the client broke the protocol: {0}")]
    Protocol(String),
}

/// What only the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    NoSuchUser,
    WrongPassword,
    EmptyPassword,
    /// The stored secret cannot be checked by this method.
    MethodDoesNotFit,
}

impl Why {
    fn for_log(self) -> &'static str {
        match self {
            Why::NoSuchUser => "no secret is known of such a user",
            Why::WrongPassword => "the password does not fit",
            Why::EmptyPassword => "the client sent no password",
            Why::MethodDoesNotFit => {
                "the secret is an MD5 hash, which SCRAM cannot check: set the password again"
            }
        }
    }
}

impl Refusal {
    /// What the client is told: never whether the user exists.
    pub fn message(&self) -> String {
        match self {
            Refusal::Failed { user, .. } => format!("password authentication failed for user \"{user}\""),
            Refusal::Protocol(problem) => problem.clone(),
        }
    }

    /// What may help, whatever the reason is.
    pub fn hint(&self) -> &'static str {
        match self {
            Refusal::Failed { .. } => {
                "Check the user's name and password. The log of the proxy says what was wrong."
            }
            Refusal::Protocol(_) => "",
        }
    }

    pub fn sqlstate(&self) -> &'static str {
        match self {
            Refusal::Failed { .. } => "28P01",
            Refusal::Protocol(_) => "08P01",
        }
    }
}
