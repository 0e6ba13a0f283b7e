//! Two manners of the same commands.

/// How commands speak and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As `patronictl`: its words, prompts on standard output, and its exit statuses (a failure that was only reported
    /// ends with 0, and scripts rely on that).
    Patronictl,
    /// As `bellwether`: the same look, but only data on standard output, an exit status that says whether it worked, a check
    /// that it did, and errors that name the next command to type.
    Bellwether,
}

/// How a command ended that could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Done,
    /// A member or the store said no; it has been reported.
    Failed,
    /// Nobody listened; it has been reported. Patroni's own tool breaks off here, with status 1.
    Unreachable,
    /// The request was sent, and nobody knows yet what became of it.
    Unconfirmed,
}

impl Outcome {
    /// The worse of both.
    pub(crate) fn and(self, other: Outcome) -> Outcome {
        match (self, other) {
            (Self::Unreachable, _) | (_, Self::Unreachable) => Self::Unreachable,
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            _ => self.max(other),
        }
    }

    /// 0 done, 1 failed, 3 not confirmed (1 and 2 are also errors and usage).
    pub(crate) fn exit_status(self, manner: Manner) -> u8 {
        match (manner, self) {
            (_, Self::Unreachable) => 1,
            (Manner::Patronictl, _) | (_, Self::Done) => 0,
            (Manner::Bellwether, Self::Failed) => 1,
            (Manner::Bellwether, Self::Unconfirmed) => 3,
        }
    }
}
