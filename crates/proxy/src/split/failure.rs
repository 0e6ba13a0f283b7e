//! What an error of a replica means for a read, and for the replica.

/// How a statement on a replica has failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// `None`: the connection was lost, or never made.
    pub sqlstate: Option<&'a str>,
    /// Something of its result has gone to the client already.
    pub result_begun: bool,
    /// It ran in a transaction block of the client's.
    pub in_block: bool,
    /// The replica was demanded by a hint.
    pub demanded: bool,
    /// How often the statement has been tried before.
    pub tried: u32,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The client is told the error.
    Tell { ban: bool },
    /// It runs once more: on another replica, or on the primary if there is none.
    Elsewhere { ban: bool },
    /// The statement was no read after all: it runs on the primary, and its text is remembered as no read.
    OnPrimary,
}

/// Nothing has happened that a second run could double: a read on a replica writes nothing. So a statement may run again, as long
/// as the client has seen nothing of it, and knows nothing of a transaction around it.
pub fn after_failure(failure: Failure<'_>) -> Remedy {
    let repeatable = !failure.result_begun && !failure.in_block && failure.tried == 0;
    let lost = Remedy::Elsewhere { ban: true };
    match failure.sqlstate {
        None | Some("57P01" | "57P02" | "57P03" | "53300") if repeatable => lost,
        None | Some("57P01" | "57P02" | "57P03" | "53300") => Remedy::Tell { ban: true },
        Some(state) if state.starts_with("08") && repeatable => lost,
        // A conflict with what the replica must replay: it is healthy, and the next one may be without.
        Some("40001") if repeatable => Remedy::Elsewhere { ban: false },
        // It would write, or needs what a replica does not have (unlogged tables, serializable transactions).
        Some("25006" | "0A000") if repeatable && !failure.demanded => Remedy::OnPrimary,
        Some(_) => Remedy::Tell { ban: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Failure<'_> =
        Failure { sqlstate: None, result_begun: false, in_block: false, demanded: false, tried: 0 };

    fn remedy(sqlstate: &str) -> Remedy {
        after_failure(Failure { sqlstate: Some(sqlstate), ..READ })
    }

    #[test]
    fn a_lost_replica_is_banned_and_the_read_runs_elsewhere() {
        assert_eq!(after_failure(READ), Remedy::Elsewhere { ban: true });
        for state in ["57P01", "57P02", "57P03", "08006"] {
            assert_eq!(remedy(state), Remedy::Elsewhere { ban: true }, "{state}");
        }
    }

    #[test]
    fn a_conflict_with_recovery_is_tried_elsewhere_without_a_ban() {
        assert_eq!(remedy("40001"), Remedy::Elsewhere { ban: false });
    }

    #[test]
    fn what_was_no_read_runs_on_the_primary() {
        assert_eq!(remedy("25006"), Remedy::OnPrimary);
        assert_eq!(remedy("0A000"), Remedy::OnPrimary);
        let demanded = Failure { sqlstate: Some("25006"), demanded: true, ..READ };
        assert_eq!(after_failure(demanded), Remedy::Tell { ban: false }, "the client asked for it");
    }

    #[test]
    fn what_the_client_has_seen_or_tied_together_is_not_repeated() {
        for state in [None, Some("57P01"), Some("40001"), Some("25006"), Some("08006")] {
            let failure = Failure { sqlstate: state, ..READ };
            for failure in [
                Failure { result_begun: true, ..failure },
                Failure { in_block: true, ..failure },
                Failure { tried: 1, ..failure },
            ] {
                assert!(matches!(after_failure(failure), Remedy::Tell { .. }), "{failure:?}");
            }
        }
    }

    #[test]
    fn an_ordinary_error_is_the_clients() {
        assert_eq!(remedy("42P01"), Remedy::Tell { ban: false });
    }
}
