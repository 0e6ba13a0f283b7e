//! Exit statuses. Documented in `docs/src/reference/exit-codes.md`; the systemd unit does not restart after the permanent ones.

use std::process::ExitCode;

use bellwether_types::Failure;

/// Under the name `patroni`: the last lines of the log could not be written.
pub(crate) const LOG_NOT_WRITTEN: u8 = 5;

/// Why a process of ours ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    Ok = 0,
    /// Anything that may be different the next time.
    Failed = 1,
    /// The command line is wrong (clap uses it too).
    Usage = 2,
    /// The data directory belongs to another cluster, or is a replica without a cluster. Permanent.
    ForeignData = 65,
    /// The store's own files are damaged, or its identity is unclear. Permanent.
    StoreUnusable = 66,
    /// A port is in use, or an address cannot be bound.
    Address = 69,
    /// Another live agent has this name. Permanent.
    DuplicateName = 76,
    /// The configuration cannot be used. Permanent.
    Config = 78,
}

impl Status {
    /// Statuses after which a restart without a person's help is pointless.
    pub(crate) const PERMANENT: [Status; 4] =
        [Status::ForeignData, Status::StoreUnusable, Status::DuplicateName, Status::Config];

    /// Patroni knows only 0 and 1.
    pub(crate) fn code(self, as_patroni: bool) -> ExitCode {
        match self {
            Self::Ok | Self::Usage => ExitCode::from(self as u8),
            _ if as_patroni => ExitCode::from(1),
            _ => ExitCode::from(self as u8),
        }
    }
}

/// How an agent or a witness ends after a failure. Commands end with 1, or with [`Status::Config`] if that is the reason.
impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::ConfigUnreadable
            | Failure::ConfigSyntax
            | Failure::ConfigInvalid
            | Failure::ApiCertificates
            | Failure::ClientCertificates
            | Failure::StoreCredentials
            | Failure::StoreSettings => Self::Config,
            Failure::ApiPortInUse | Failure::ApiCannotListen | Failure::StoreCannotListen => Self::Address,
            Failure::DuplicateName => Self::DuplicateName,
            Failure::ForeignSystemId | Failure::ReplicaWithoutCluster => Self::ForeignData,
            Failure::StoreDamaged
            | Failure::StoreNewer
            | Failure::ProgramTooOld
            | Failure::StoreLogMissing
            | Failure::StoreIdentityMissing
            | Failure::StoreForeign => Self::StoreUnusable,
            _ => Self::Failed,
        }
    }
}

/// No failure is an orderly end.
impl From<Option<Failure>> for Status {
    fn from(failure: Option<Failure>) -> Self {
        failure.map_or(Self::Ok, Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_tells_the_exit_status_of_every_failure() {
        let book = include_str!("../../../docs/src/reference/errors.md");
        for failure in Failure::ALL {
            let section = book.split("\n## ").find(|section| section.starts_with(failure.code()));
            let section = section.expect("bellwether-cli holds the page complete");
            let told = section.lines().find_map(|line| line.strip_prefix("**Exit status.** "));
            let status = Status::from(*failure) as u8;
            assert_eq!(told, Some(status.to_string().as_str()), "{failure}");
            let permanent = Status::PERMANENT.iter().any(|permanent| *permanent as u8 == status);
            let told_permanent = section.contains("not started again");
            // Configurations are looked at by a person, who needs no word about restarts.
            assert!(permanent == told_permanent || status == Status::Config as u8, "{failure}");
        }
    }

    #[test]
    fn under_the_name_patroni_failures_are_one() {
        assert_eq!(Status::Config.code(true), ExitCode::from(1));
        assert_eq!(Status::Config.code(false), ExitCode::from(78));
        assert_eq!(Status::Ok.code(true), ExitCode::SUCCESS);
        assert!(!Status::PERMANENT.contains(&Status::Failed));
    }
}
