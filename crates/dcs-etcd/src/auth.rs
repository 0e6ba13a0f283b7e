//! Logging in: a token per client, renewed when etcd says that it is no longer good.

use secrecy::ExposeSecret;
use tokio::sync::Mutex;
use tonic::{Code, Status, metadata::AsciiMetadataValue};

use crate::{
    config::Credentials,
    connection::Connection,
    proto::{AuthenticateRequest, Rpc as _},
};

/// The login of one client.
#[derive(Debug)]
pub(crate) struct Login {
    /// Held while logging in, so that callers share one login.
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    credentials: Option<Credentials>,
    state: State,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    LoggedOut,
    /// The cluster asks nobody to log in, although we could.
    NotNeeded,
    LoggedIn(AsciiMetadataValue),
}

impl Login {
    pub(crate) fn new(credentials: Option<Credentials>) -> Self {
        Self { inner: Mutex::new(Inner { credentials, state: State::LoggedOut }) }
    }

    /// Logs in as somebody else, or with another password, from the next call on. Whether that is a change.
    pub(crate) async fn renew(&self, credentials: Option<Credentials>) -> bool {
        let mut inner = self.inner.lock().await;
        let key = |credentials: &Option<Credentials>| {
            let credentials = credentials.as_ref()?;
            Some((credentials.username.clone(), credentials.password.expose_secret().to_owned()))
        };
        if key(&inner.credentials) == key(&credentials) {
            return false;
        }
        *inner = Inner { credentials, state: State::LoggedOut };
        true
    }

    /// The token to send along; logs in if there is none.
    pub(crate) async fn token(&self, connection: &Connection) -> Result<Option<AsciiMetadataValue>, Status> {
        let mut inner = self.inner.lock().await;
        let Inner { credentials: Some(Credentials { username, password }), state } = &mut *inner else {
            return Ok(None);
        };
        match &*state {
            State::LoggedIn(token) => return Ok(Some(token.clone())),
            State::NotNeeded => return Ok(None),
            State::LoggedOut => {}
        }
        let request =
            AuthenticateRequest { name: username.clone(), password: password.expose_secret().to_owned() };
        let answer = match request.ask(connection, None).await {
            Ok(answer) => answer,
            Err(status) if is_off(&status) => {
                tracing::warn!("the configuration has an etcd user, but etcd does not ask for a login");
                *state = State::NotNeeded;
                return Ok(None);
            }
            Err(status) => return Err(status),
        };
        let mut token: AsciiMetadataValue = answer
            .token
            .parse()
            .map_err(|_| Status::internal("etcd gave a token that cannot be sent back"))?;
        token.set_sensitive(true);
        *state = State::LoggedIn(token.clone());
        Ok(Some(token))
    }

    /// A token was refused: the next call logs in anew, unless somebody did so meanwhile. Whether there is any point in that.
    pub(crate) async fn refused(&self, token: Option<&AsciiMetadataValue>) -> bool {
        let mut inner = self.inner.lock().await;
        let same = match &inner.state {
            State::LoggedIn(present) => Some(present) == token,
            State::NotNeeded => token.is_none(),
            State::LoggedOut => false,
        };
        if same {
            inner.state = State::LoggedOut;
        }
        inner.credentials.is_some()
    }
}

fn is_off(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition && status.message().contains("authentication is not enabled")
}
