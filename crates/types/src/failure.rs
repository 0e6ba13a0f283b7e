//! Failures that an operator can meet, each with a code that never changes its meaning.
//!
//! Each has a section of its own in `docs/src/reference/errors.md` (cause, consequence, remedy, exit status); a test holds the two
//! together. A code is never used again for something else: a failure that can no longer happen leaves a gap.

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident = $code:literal: $title:literal,)+) => {
        /// What failed, as the person on call looks it up.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Failure {
            $($(#[$doc])* $name,)+
        }

        impl Failure {
            /// Every failure, in the order of the codes.
            pub const ALL: &[Failure] = &[$(Failure::$name),+];

            /// The stable code, for example `BW0101`.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)+
                }
            }

            /// The headline of its section in the book.
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)+
                }
            }
        }
    };
}

failures! {
    ConfigUnreadable = "BW0101": "The configuration cannot be read",
    ConfigSyntax = "BW0102": "The configuration is not YAML",
    ConfigInvalid = "BW0103": "The configuration cannot be used",
    ApiCertificates = "BW0104": "The certificates of the REST API cannot be used",
    ClientCertificates = "BW0105": "The certificates for calls to other members cannot be used",
    StoreCredentials = "BW0106": "The credentials of the store cannot be used",
    StoreSettings = "BW0107": "The settings of the store cannot work",

    ApiPortInUse = "BW0201": "The port of the REST API is in use",
    ApiCannotListen = "BW0202": "The REST API cannot listen",
    StoreCannotListen = "BW0203": "The store cannot listen",
    RuntimeDirectory = "BW0204": "The directory of the agent cannot be used",
    Leftover = "BW0205": "A program of an earlier agent cannot be ended",
    StoreNotStarted = "BW0206": "The store's node did not start",

    DuplicateName = "BW0301": "Another member has this name",
    ForeignSystemId = "BW0302": "The data directory belongs to another cluster",
    ReplicaWithoutCluster = "BW0303": "A replica without a cluster",
    BootstrapFailed = "BW0304": "The new cluster could not be made",
    ServiceEnded = "BW0305": "A part of the agent has ended",
    ProgramTooOld = "BW0306": "The program is too old for the cluster",

    StoreFiles = "BW0401": "A file of the store cannot be used",
    StoreDamaged = "BW0402": "A file of the store is damaged",
    StoreNewer = "BW0403": "The store was written by a newer version",
    StoreLogMissing = "BW0404": "The store has lost its log",
    StoreIdentityMissing = "BW0405": "The store has lost its identity",
    StoreForeign = "BW0406": "The store's directory belongs to another cluster",
    StoreInUse = "BW0407": "The store's directory is in use",
    StoreNodeStopped = "BW0408": "The store's node has stopped by itself",

    StoreUnreachable = "BW0501": "The store does not answer",
    StoreNoQuorum = "BW0502": "The store has no leader or no quorum",
    StoreUnauthorized = "BW0503": "The store refuses our credentials",
    StoreProtocol = "BW0504": "The store answers something unexpected",
    StoreNotOpened = "BW0505": "The store could not be opened",

    MembershipRefused = "BW0601": "A change of the store's members was refused",
    MembershipUnknown = "BW0602": "A change of the store's members with an unknown outcome",
    BackupExists = "BW0603": "The file exists already",
    StoreNotEmpty = "BW0604": "The store's directory is not empty",
    NoStoreHere = "BW0605": "No store's node is here",
    BackupOfOther = "BW0606": "The backup is of another cluster",
    LossNotConfirmed = "BW0607": "The loss of the majority is not confirmed",
    NoSuchKey = "BW0608": "The store has no such key",
}

impl Failure {
    /// The failure with this code, in upper or lower case.
    pub fn of_code(code: &str) -> Option<Failure> {
        Self::ALL.iter().copied().find(|failure| failure.code().eq_ignore_ascii_case(code))
    }
}

/// Shows the code.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_and_so_never_repeat() {
        let codes: Vec<&str> = Failure::ALL.iter().map(|failure| failure.code()).collect();
        assert!(codes.is_sorted_by(|one, next| one < next), "{codes:?}");
        let is_code = |code: &&str| code.len() == 6 && code.starts_with("BW");
        assert!(codes.iter().all(is_code), "{codes:?}");
    }

    #[test]
    fn a_code_is_found_in_any_case() {
        assert_eq!(Failure::of_code("bw0301"), Some(Failure::DuplicateName));
        assert_eq!(Failure::of_code("BW9999"), None);
    }
}
