use super::super::login::{Answer, LoggingIn, LoginError, Wire};
use super::super::scram::Verifier;
use super::*;
use std::num::NonZeroU32;

const SEED: [u8; 32] = [5; 32];

fn verifier(password: &str) -> Option<Secret> {
    let text = Verifier::of_password(password.as_bytes(), b"0123456789abcdef", NonZeroU32::MIN).to_string();
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
        assert!(matches!(talk(method, verifier("secret"), password("secret")).0, Ok(Step::Accepted { .. })));
        assert!(matches!(talk(method, verifier("other"), password("secret")).0, Ok(Step::Refused(_))));
    }
}

#[test]
fn what_a_client_has_shown_logs_in_to_a_server() {
    let (Ok(Step::Accepted { login, .. }), _) = talk(Method::Scram, verifier("secret"), password("secret"))
    else {
        panic!("refused")
    };
    assert!(matches!(login, Login::Scram(_)), "no password is known");
    assert!(matches!(talk(Method::Scram, verifier("secret"), login.clone()).0, Ok(Step::Accepted { .. })));
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
