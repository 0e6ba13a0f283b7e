//! The exchange in which the proxy logs in to a server.
//!
//! Each body of a message `R` of the server goes to [`LoggingIn::answer`], until it says [`Answer::Done`].

use super::Random;
use super::md5::Md5Hash;
use super::scram::client::{Client, Credential, Proving};
use super::scram::{Keys, MECHANISM, ScramError};
use crate::frame::c_string;
use crate::message;
use secrecy::{ExposeSecret as _, SecretString};

/// What the proxy logs in to a server with, for one user.
#[derive(Clone, Debug)]
pub enum Login {
    /// It relies on the server's trust (`trust`, `peer` on the socket, or a certificate).
    Nothing,
    Password(SecretString),
    /// The keys of a client that proved itself by SCRAM: no password is known.
    Scram(Keys),
    Md5(Md5Hash),
}

/// Whether the way to the server may carry a password as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// TLS, or a Unix socket.
    Private,
    Plain,
}

/// What a request of the server asks of us.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Answer {
    Send(Vec<u8>),
    /// Nothing to send: the next message comes from the server.
    Wait,
    /// The server takes us for the user.
    Done,
}

/// Why the proxy cannot log in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    #[error("the server asks for {asked}, and {known} is known of this user")]
    Lacking { asked: &'static str, known: &'static str },
    #[error("the server asks for the password itself on a connection that is not encrypted")]
    NotEncrypted,
    #[error("the server asks for a method that is not supported (authentication request {0})")]
    Unsupported(u32),
    #[error("the server offers no SCRAM-SHA-256")]
    NoMechanism,
    #[error("the server sent a malformed or unexpected authentication request")]
    Malformed,
    #[error(transparent)]
    Scram(#[from] ScramError),
}

impl LoginError {
    /// Whether the user's secret should be read again: it may have been changed since.
    pub fn is_stale(&self) -> bool {
        matches!(self, LoginError::Scram(ScramError::StaleKeys))
    }
}

/// A login under way.
#[derive(Debug)]
pub struct LoggingIn {
    user: String,
    login: Login,
    wire: Wire,
    random: Random,
    state: State,
}

#[derive(Debug)]
enum State {
    Asked,
    ScramFirst(Client),
    ScramFinal(Proving),
}

impl LoggingIn {
    pub fn new(user: &str, login: Login, wire: Wire, random: Random) -> LoggingIn {
        LoggingIn { user: user.to_owned(), login, wire, random, state: State::Asked }
    }

    /// Takes the body of a message `R`.
    pub fn answer(&mut self, body: &[u8]) -> Result<Answer, LoginError> {
        let [a, b, c, d, data @ ..] = body else { return Err(LoginError::Malformed) };
        let kind = u32::from_be_bytes([*a, *b, *c, *d]);
        match (kind, std::mem::replace(&mut self.state, State::Asked)) {
            // A server that broke off an exchange has not shown that it knows the verifier: it may be another one.
            (0, State::Asked) => Ok(Answer::Done),
            (3, State::Asked) => self.cleartext(),
            (5, State::Asked) => self.md5(data),
            (10, State::Asked) => self.sasl(data),
            (11, State::ScramFirst(client)) => {
                let (proving, answer) = client.answer(data)?;
                self.state = State::ScramFinal(proving);
                Ok(Answer::Send(password(|out| out.extend_from_slice(answer.as_bytes()))))
            }
            (12, State::ScramFinal(proving)) => {
                proving.finish(data)?;
                Ok(Answer::Wait)
            }
            (0 | 3 | 5 | 10 | 11 | 12, _) => Err(LoginError::Malformed),
            (other, _) => Err(LoginError::Unsupported(other)),
        }
    }

    fn cleartext(&self) -> Result<Answer, LoginError> {
        let Login::Password(secret) = &self.login else { return Err(self.lacking("the password itself")) };
        if self.wire == Wire::Plain {
            return Err(LoginError::NotEncrypted);
        }
        Ok(Answer::Send(password(|out| message::put_str(out, secret.expose_secret().as_bytes()))))
    }

    fn md5(&self, salt: &[u8]) -> Result<Answer, LoginError> {
        let salt: [u8; 4] = salt.try_into().map_err(|_| LoginError::Malformed)?;
        let hash = match &self.login {
            Login::Md5(hash) => hash.clone(),
            Login::Password(secret) => Md5Hash::of_password(secret.expose_secret().as_bytes(), &self.user),
            Login::Scram(_) | Login::Nothing => return Err(self.lacking("an MD5 response")),
        };
        Ok(Answer::Send(password(|out| message::put_str(out, hash.response(salt).as_bytes()))))
    }

    fn sasl(&mut self, mechanisms: &[u8]) -> Result<Answer, LoginError> {
        let mut rest = mechanisms;
        loop {
            match c_string(rest) {
                Some(([], _)) | None => return Err(LoginError::NoMechanism),
                Some((mechanism, _)) if mechanism == MECHANISM.as_bytes() => break,
                Some((_, after)) => rest = after,
            }
        }
        let credential = match &self.login {
            Login::Password(secret) => Credential::Password(secret.clone()),
            Login::Scram(keys) => Credential::Keys(keys.clone()),
            Login::Md5(_) | Login::Nothing => return Err(self.lacking("SCRAM-SHA-256")),
        };
        let (client, first) = Client::begin(credential, &self.random);
        self.state = State::ScramFirst(client);
        Ok(Answer::Send(password(|out| {
            message::put_str(out, MECHANISM.as_bytes());
            out.extend_from_slice(&u32::try_from(first.len()).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(first.as_bytes());
        })))
    }

    fn lacking(&self, asked: &'static str) -> LoginError {
        let known = match self.login {
            Login::Nothing => "nothing",
            Login::Password(_) => "a password",
            Login::Scram(_) => "only its SCRAM keys",
            Login::Md5(_) => "only an MD5 hash",
        };
        LoginError::Lacking { asked, known }
    }
}

fn password(body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    message::put(&mut out, b'p', body);
    out
}
