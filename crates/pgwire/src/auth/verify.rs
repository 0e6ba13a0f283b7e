//! The exchange in which a client shows who it is.
//!
//! [`Verification::begin`] says what to send first; each message of the client with the tag `p` goes to [`Verification::answer`].
//! A user who does not exist takes the same steps, with the same messages, as one whose password is wrong.

use super::Random;
use super::login::Login;
use super::md5::Md5Hash;
use super::scram::server::{Challenged, Chance, Proved, Server};
use super::scram::{MECHANISM, ScramError, Verifier};
use super::secret::Secret;
use crate::frame::c_string;
use crate::message;
use secrecy::SecretString;

const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

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

    pub fn sqlstate(&self) -> &'static str {
        match self {
            Refusal::Failed { .. } => "28P01",
            Refusal::Protocol(_) => "08P01",
        }
    }
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

fn request(kind: u32, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    message::put(&mut out, b'R', |out| {
        out.extend_from_slice(&kind.to_be_bytes());
        body(out);
    });
    out
}

/// What a SASLInitialResponse carries for our mechanism.
fn sasl_initial(body: &[u8]) -> Result<&[u8], &'static str> {
    let (mechanism, rest) = c_string(body).ok_or("malformed SASL response")?;
    if mechanism != MECHANISM.as_bytes() {
        return Err("client selected an invalid SASL authentication mechanism");
    }
    let [a, b, c, d, data @ ..] = rest else { return Err("malformed SASL response") };
    if u32::from_be_bytes([*a, *b, *c, *d]) as usize != data.len() {
        return Err("malformed SASL response");
    }
    Ok(data)
}

fn refuse(problem: &str) -> Step {
    Step::Refused(Refusal::Protocol(problem.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::login::{Answer, LoggingIn, LoginError, Wire};
    use super::super::scram::Verifier;
    use super::*;
    use std::num::NonZeroU32;

    const SEED: [u8; 32] = [5; 32];

    fn verifier(password: &str) -> Option<Secret> {
        let text =
            Verifier::of_password(password.as_bytes(), b"0123456789abcdef", NonZeroU32::MIN).to_string();
        Some(Secret::parse(&text).unwrap())
    }

    fn secret(text: &str) -> Option<Secret> {
        Some(Secret::parse(text).unwrap())
    }

    /// Lets a login talk to a verification: how it ended, and what kinds of messages the client saw.
    fn talk(method: Method, stored: Option<Secret>, login: Login) -> (Result<Step, LoginError>, Vec<u32>) {
        let (mut server, mut out) = Verification::begin(method, "alice", stored, &SEED, &Random([1; 18]));
        let mut client = LoggingIn::new("alice", login, Wire::Private, Random([2; 18]));
        let mut seen = Vec::new();
        loop {
            seen.push(u32::from_be_bytes(out[5..9].try_into().unwrap()));
            let step = match client.answer(&out[5..]) {
                Ok(Answer::Send(message)) => server.answer(&message[5..]),
                Ok(other) => panic!("the client has nothing to say: {other:?}"),
                Err(error) => return (Err(error), seen),
            };
            match step {
                Step::Send(more) => out = more,
                end => return (Ok(end), seen),
            }
        }
    }

    fn password(text: &str) -> Login {
        Login::Password(text.into())
    }

    #[test]
    fn the_right_password_opens_by_every_method_and_the_wrong_one_by_none() {
        for method in [Method::Cleartext, Method::Md5, Method::Scram] {
            for stored in ["secret", "md54a0a68b43b6cd5cf266fa02f196e2371"] {
                let possible = method != Method::Scram || stored == "secret";
                let (end, _) = talk(method, secret(stored), password("secret"));
                assert_eq!(matches!(end, Ok(Step::Accepted { .. })), possible, "{method:?} {stored}");
                let (end, _) = talk(method, secret(stored), password("wrong"));
                assert!(matches!(end, Ok(Step::Refused(Refusal::Failed { .. }))), "{method:?} {stored}");
            }
            assert!(matches!(
                talk(method, verifier("secret"), password("secret")).0,
                Ok(Step::Accepted { .. })
            ));
            assert!(matches!(talk(method, verifier("other"), password("secret")).0, Ok(Step::Refused(_))));
        }
    }

    #[test]
    fn what_a_client_has_shown_logs_in_to_a_server() {
        let (Ok(Step::Accepted { login, .. }), _) =
            talk(Method::Scram, verifier("secret"), password("secret"))
        else {
            panic!("refused")
        };
        assert!(matches!(login, Login::Scram(_)), "no password is known");
        assert!(matches!(
            talk(Method::Scram, verifier("secret"), login.clone()).0,
            Ok(Step::Accepted { .. })
        ));
        let renewed = Verifier::of_password(b"secret", b"another salt", NonZeroU32::MIN).to_string();
        let (end, _) = talk(Method::Scram, secret(&renewed), login.clone());
        assert!(end.unwrap_err().is_stale(), "the secret was set again since");
        let (end, _) = talk(Method::Cleartext, verifier("secret"), login);
        assert!(matches!(end, Err(LoginError::Lacking { .. })));
    }

    #[test]
    fn an_unknown_user_sees_what_a_known_one_sees() {
        for method in [Method::Cleartext, Method::Md5, Method::Scram] {
            let (unknown, seen_by_unknown) = talk(method, None, password("secret"));
            let (wrong, seen_by_wrong) = talk(method, verifier("other"), password("secret"));
            let (Ok(Step::Refused(unknown)), Ok(Step::Refused(wrong))) = (unknown, wrong) else {
                panic!("not refused")
            };
            assert_eq!((unknown.message(), unknown.sqlstate()), (wrong.message(), wrong.sqlstate()));
            assert_eq!(seen_by_unknown, seen_by_wrong, "{method:?}");
            assert_ne!(unknown, wrong, "only the log tells");
        }
    }

    #[test]
    fn a_challenge_for_an_unknown_user_does_not_change() {
        let challenge = |stored: Option<Secret>, random: u8| {
            let (mut server, _) =
                Verification::begin(Method::Scram, "alice", stored, &SEED, &Random([random; 18]));
            let first = b"SCRAM-SHA-256\0\0\0\0\x0en,,n=,r=abcdef";
            let Step::Send(answer) = server.answer(first) else { panic!("not answered") };
            let text = String::from_utf8(answer[9..].to_vec()).unwrap();
            text.split_once(",s=").unwrap().1.to_owned()
        };
        assert_eq!(challenge(None, 1), challenge(None, 2));
        assert_eq!(challenge(None, 1), challenge(secret("a password in the file"), 1));
    }

    #[test]
    fn what_breaks_the_protocol_is_refused_and_ends_the_exchange() {
        for bad in [
            &b""[..],
            b"SCRAM-SHA-256-PLUS\0\0\0\0\x01n",
            b"SCRAM-SHA-256\0\xff\xff\xff\xff",
            b"SCRAM-SHA-256\0\0\0\0\x05n,,",
            b"SCRAM-SHA-256\0\0\0",
        ] {
            let (mut server, _) =
                Verification::begin(Method::Scram, "alice", verifier("x"), &SEED, &Random([1; 18]));
            assert!(matches!(server.answer(bad), Step::Refused(Refusal::Protocol(_))), "{bad:?}");
            assert!(matches!(server.answer(b"again\0"), Step::Refused(Refusal::Protocol(_))));
        }
        let (mut server, _) =
            Verification::begin(Method::Cleartext, "alice", secret("x"), &SEED, &Random([1; 18]));
        assert!(matches!(server.answer(b"x\0y"), Step::Refused(Refusal::Protocol(_))));
    }

    #[test]
    fn a_server_gets_no_password_on_an_open_wire() {
        let mut client = LoggingIn::new("alice", password("secret"), Wire::Plain, Random([2; 18]));
        assert_eq!(client.answer(&3_u32.to_be_bytes()), Err(LoginError::NotEncrypted));
        assert_eq!(client.answer(&7_u32.to_be_bytes()), Err(LoginError::Unsupported(7)));
        assert_eq!(client.answer(b"abc"), Err(LoginError::Malformed));
        assert_eq!(client.answer(b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0\0"), Err(LoginError::NoMechanism));
    }

    #[test]
    fn a_server_that_skips_its_proof_is_not_believed() {
        let (mut server, first) =
            Verification::begin(Method::Scram, "alice", verifier("secret"), &SEED, &Random([1; 18]));
        let mut client = LoggingIn::new("alice", password("secret"), Wire::Private, Random([2; 18]));
        let Ok(Answer::Send(message)) = client.answer(&first[5..]) else { panic!("no answer") };
        let Step::Send(challenge) = server.answer(&message[5..]) else { panic!("no challenge") };
        let Ok(Answer::Send(_)) = client.answer(&challenge[5..]) else { panic!("no proof") };
        assert_eq!(client.answer(&[0; 4]), Err(LoginError::Malformed));
    }
}
