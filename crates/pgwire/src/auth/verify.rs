//! The exchange in which a client shows who it is.
//!
//! [`Verification::begin`] says what to send first; each message of the client with the tag `p` goes to [`Verification::answer`].
//! A user who does not exist takes the same steps, with the same messages, as one whose password is wrong.

mod refusal;
mod wire;

pub use refusal::{Refusal, Why};

use self::wire::{CLEARTEXT, MD5, OK, SASL, SASL_CONTINUE, SASL_FINAL, request, sasl_initial};
use super::Random;
use super::login::Login;
use super::md5::Md5Hash;
use super::scram::server::{Challenged, Chance, Proved, Server};
use super::scram::{MECHANISM, ScramError, Verifier};
use super::secret::Secret;
use crate::frame::c_string;
use crate::message;
use secrecy::SecretString;

/// How a client shows who it is. What a certificate or its address shows needs no exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The password itself. The caller takes care that the connection is encrypted.
    Cleartext,
    Md5,
    Scram,
}

/// What to do next.
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// Send this, and hand in the client's answer.
    Send(Vec<u8>),
    /// The client is who it says. Send this (it ends with AuthenticationOk); servers take `login`.
    Accepted { send: Vec<u8>, login: Login },
    /// Tell the client [`Refusal::sqlstate`] and [`Refusal::message`], and close the connection. The rest is for our log.
    Refused(Refusal),
}

/// An exchange with one client.
#[derive(Debug)]
pub struct Verification {
    user: String,
    /// Why it will fail in any case, if that is known.
    doomed: Option<Why>,
    secret: Option<Secret>,
    state: State,
}

#[derive(Debug)]
enum State {
    Cleartext,
    Md5 { salt: [u8; 4], hash: Md5Hash },
    ScramFirst(Server),
    ScramFinal(Challenged),
    Ended,
}

impl Verification {
    /// Begins. `seed` is a secret of this proxy from which it makes up what users without a password would have.
    pub fn begin(
        method: Method,
        user: &str,
        secret: Option<Secret>,
        seed: &[u8; 32],
        random: &Random,
    ) -> (Verification, Vec<u8>) {
        let mut doomed = secret.is_none().then_some(Why::NoSuchUser);
        let state = match (method, &secret) {
            (Method::Cleartext, _) => State::Cleartext,
            // As PostgreSQL: the method `md5` checks a verifier by SCRAM. Who is unknown looks like a user of today.
            (Method::Md5, Some(Secret::Md5(hash))) => State::md5(hash.clone(), random),
            (Method::Md5, Some(Secret::Plain(plain))) => {
                let password = secrecy::ExposeSecret::expose_secret(plain.password());
                State::md5(Md5Hash::of_password(password.as_bytes(), user), random)
            }
            (Method::Md5 | Method::Scram, Some(Secret::Scram(verifier))) => {
                State::ScramFirst(Server::new(verifier.clone(), Chance::Real, random))
            }
            (Method::Scram, Some(Secret::Plain(plain))) => {
                State::ScramFirst(Server::new(plain.verifier(user, seed).clone(), Chance::Real, random))
            }
            (Method::Md5, None) => State::scram_for_nobody(user, seed, random),
            (Method::Scram, Some(Secret::Md5(_)) | None) => {
                doomed = doomed.or(Some(Why::MethodDoesNotFit));
                State::scram_for_nobody(user, seed, random)
            }
        };
        let first = state.request();
        (Verification { user: user.to_owned(), doomed, secret, state }, first)
    }

    /// Takes the body of a message `p`.
    pub fn answer(&mut self, body: &[u8]) -> Step {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Cleartext => self.password(body),
            State::Md5 { salt, hash } => match c_string(body) {
                Some((answer, [])) if hash.fits(salt, answer) => self.accept(None, &Accepted::Md5(hash)),
                Some((_, [])) => self.fail(Why::WrongPassword),
                _ => refuse("malformed password packet"),
            },
            State::ScramFirst(server) => match sasl_initial(body) {
                Ok(first) => match server.challenge(first) {
                    Ok((challenged, answer)) => {
                        self.state = State::ScramFinal(challenged);
                        Step::Send(request(SASL_CONTINUE, |out| out.extend_from_slice(answer.as_bytes())))
                    }
                    Err(error) => self.scram_failed(&error),
                },
                Err(problem) => refuse(problem),
            },
            State::ScramFinal(challenged) => match challenged.prove(body) {
                Ok(proved) => self.accept(Some(&proved.server_final), &Accepted::Scram(&proved)),
                Err(error) => self.scram_failed(&error),
            },
            State::Ended => refuse("a message after the end of the authentication"),
        }
    }

    fn password(&mut self, body: &[u8]) -> Step {
        let password = match c_string(body) {
            Some(([], [])) => return self.fail(Why::EmptyPassword),
            Some((password, [])) => password,
            _ => return refuse("malformed password packet"),
        };
        match &self.secret {
            Some(secret) if secret.opens_to(&self.user, password) => {
                match std::str::from_utf8(password) {
                    Ok(text) => self.accept(None, &Accepted::Password(text.into())),
                    // It fits, and another server would get it as it came; only we cannot keep it as text.
                    Err(_) => self.accept(None, &Accepted::Bytes),
                }
            }
            Some(_) => self.fail(Why::WrongPassword),
            None => {
                // As long as the check of a real verifier takes.
                let mock = Verifier::mock(&self.user, &[0; 32]);
                std::hint::black_box(Verifier::of_password(password, &mock.salt, mock.iterations));
                self.fail(Why::NoSuchUser)
            }
        }
    }

    fn accept(&mut self, server_final: Option<&str>, how: &Accepted<'_>) -> Step {
        let login = match (how, &self.secret) {
            (_, Some(Secret::Plain(plain))) => Login::Password(plain.password().clone()),
            (Accepted::Password(password), _) => Login::Password(password.clone()),
            (Accepted::Scram(proved), _) => Login::Scram(proved.keys.clone()),
            (Accepted::Md5(hash), _) => Login::Md5(hash.clone()),
            (Accepted::Bytes, _) => Login::Nothing,
        };
        let mut send = Vec::new();
        if let Some(server_final) = server_final {
            send = request(SASL_FINAL, |out| out.extend_from_slice(server_final.as_bytes()));
        }
        send.extend(request(OK, |_| {}));
        Step::Accepted { send, login }
    }

    fn fail(&self, why: Why) -> Step {
        let why = self.doomed.unwrap_or(why);
        Step::Refused(Refusal::Failed { user: self.user.clone(), why })
    }

    fn scram_failed(&self, error: &ScramError) -> Step {
        match error {
            ScramError::WrongPassword => self.fail(Why::WrongPassword),
            other => refuse(&other.to_string()),
        }
    }
}

enum Accepted<'a> {
    Password(SecretString),
    Bytes,
    Md5(Md5Hash),
    Scram(&'a Proved),
}

impl State {
    fn md5(hash: Md5Hash, random: &Random) -> State {
        let [a, b, c, d, ..] = random.0;
        State::Md5 { salt: [a, b, c, d], hash }
    }

    fn scram_for_nobody(user: &str, seed: &[u8; 32], random: &Random) -> State {
        State::ScramFirst(Server::new(Verifier::mock(user, seed), Chance::Doomed, random))
    }

    /// The AuthenticationRequest that the exchange begins with.
    fn request(&self) -> Vec<u8> {
        match self {
            State::Md5 { salt, .. } => request(MD5, |out| out.extend_from_slice(salt)),
            State::ScramFirst(_) => request(SASL, |out| {
                message::put_str(out, MECHANISM.as_bytes());
                out.push(0);
            }),
            State::Cleartext | State::ScramFinal(_) | State::Ended => request(CLEARTEXT, |_| {}),
        }
    }
}

fn refuse(problem: &str) -> Step {
    Step::Refused(Refusal::Protocol(problem.to_owned()))
}

#[cfg(test)]
mod tests;
