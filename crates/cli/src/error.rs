//! Why a command could not do its work.

use bellwether_api_client::ConfigError;
use bellwether_config::LoadError;
use bellwether_dcs::StoreError;
use bellwether_types::Failure;

/// Ends a command with `Error: <text>` on standard error. `Display` is that text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// What was asked for cannot be done.
    #[error("{message}")]
    Refused {
        message: String,
        /// What to do next; shown in our own manner only.
        help: Option<String>,
    },
    /// The person ended a prompt without an answer.
    #[error("Aborted!")]
    Aborted,
    /// The words of the command do not make sense together.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error("the settings of the REST client cannot be used: {0}")]
    Client(#[from] ConfigError),
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        cause: std::io::Error,
    },
}

/// Why the binary's [`crate::OpenStore`] did not open the store. `Display` of the cause is shown to the person.
#[derive(Debug, thiserror::Error)]
#[error("could not open the store: {0}")]
pub struct OpenError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

impl CliError {
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), help: None }
    }

    pub(crate) fn with_help(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), help: Some(help.into()) }
    }

    pub(crate) fn io(what: impl Into<String>, cause: std::io::Error) -> Self {
        Self::Io { what: what.into(), cause }
    }

    /// What to do next, if that can be said.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::Refused { help, .. } => help.clone(),
            Self::Store(_) | Self::Open(_) => Some(
                "check that `raft.self_addr` or `raft.partner_addrs` in the configuration name running nodes, \
                 then `bellwether dcs status`"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// The code under which the book explains it, if it has one.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match self {
            Self::Config(error) => Some(error.failure()),
            Self::Client(_) => Some(Failure::ClientCertificates),
            Self::Store(error) => Some(error.failure()),
            Self::Open(_) => Some(Failure::StoreNotOpened),
            Self::Refused { .. } | Self::Aborted | Self::Usage(_) | Self::Io { .. } => None,
        }
    }

    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}
