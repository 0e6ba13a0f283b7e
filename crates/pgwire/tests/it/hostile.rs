//! Whatever comes in: nothing fails but by saying so, and nobody gets in by luck. `PROPTEST_CASES` sets how often (`make fuzz-proxy`).

use bellwether_pgwire::auth::certificate::IdentMaps;
use bellwether_pgwire::auth::hba::Rules;
use bellwether_pgwire::auth::login::{Answer, LoggingIn, Login, Wire};
use bellwether_pgwire::auth::scram::Verifier;
use bellwether_pgwire::auth::secret::Secret;
use bellwether_pgwire::auth::userlist::Users;
use bellwether_pgwire::auth::verify::{Method, Step, Verification};
use bellwether_pgwire::auth::{Random, certificate};
use bellwether_pgwire::extended::{Bind, Parse, Target};
use bellwether_pgwire::frame::Header;
use bellwether_pgwire::message::report_field;
use bellwether_pgwire::startup::First;
use proptest::prelude::*;
use std::num::NonZeroU32;

fn verifier() -> Secret {
    let verifier = Verifier::of_password(b"secret", b"0123456789abcdef", NonZeroU32::MIN);
    Secret::parse(&verifier.to_string()).unwrap()
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![Method::Cleartext, Method::Md5, Method::Scram])
}

/// One byte is changed, left out or doubled.
#[derive(Clone, Debug)]
struct Harm {
    at: prop::sample::Index,
    kind: u8,
    byte: u8,
}

fn harm() -> impl Strategy<Value = Harm> {
    (any::<prop::sample::Index>(), 0..3_u8, any::<u8>()).prop_map(|(at, kind, byte)| Harm { at, kind, byte })
}

impl Harm {
    fn on(&self, body: &mut Vec<u8>) {
        if body.is_empty() {
            return body.push(self.byte);
        }
        let at = self.at.index(body.len());
        match self.kind {
            0 => body[at] = self.byte,
            1 => _ = body.remove(at),
            _ => body.insert(at, self.byte),
        }
    }
}

/// A client with the right password, whose message number `harmed` is harmed. Whether it got in.
fn login_harmed(method: Method, harmed: usize, harm: &Harm) -> (bool, bool) {
    let (mut server, mut out) =
        Verification::begin(method, "alice", Some(verifier()), &[7; 32], &Random([1; 18]));
    let mut client =
        LoggingIn::new("alice", Login::Password("secret".into()), Wire::Private, Random([2; 18]));
    let mut changed = false;
    for round in 0..5 {
        let Ok(Answer::Send(message)) = client.answer(&out[5..]) else { return (false, changed) };
        let mut body = message[5..].to_vec();
        if round == harmed {
            harm.on(&mut body);
            changed = body != message[5..];
        }
        match server.answer(&body) {
            Step::Send(more) => out = more,
            Step::Accepted { .. } => return (true, changed),
            Step::Refused(refusal) => {
                assert!(!refusal.message().contains("secret"));
                return (false, changed);
            }
        }
    }
    panic!("an exchange without an end");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some((_, size))) = First::parse(&bytes) {
            prop_assert!(size <= bytes.len());
        }
        let _ = Header::of(&bytes);
        let _ = (Parse::read(&bytes), Bind::read(&bytes), Target::read(&bytes));
        let _ = (report_field(&bytes, b'C'), certificate::common_name(&bytes));
    }

    #[test]
    fn nobody_gets_in_by_noise(method in method(), bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..5)) {
        for secret in [Some(verifier()), None] {
            let (mut server, _) = Verification::begin(method, "alice", secret, &[7; 32], &Random([1; 18]));
            for body in &bodies {
                let accepted = matches!(server.answer(body), Step::Accepted { .. });
                prop_assert!(!accepted);
            }
        }
    }

    #[test]
    fn a_server_that_sends_noise_is_not_believed(
        kind in 1..20_u32,
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..5),
    ) {
        let mut client = LoggingIn::new("alice", Login::Password("secret".into()), Wire::Plain, Random([2; 18]));
        for body in bodies {
            let answer = client.answer(&[&kind.to_be_bytes()[..], &body].concat());
            if let Ok(Answer::Send(message)) = &answer {
                prop_assert!(!message.windows(6).any(|window| window == b"secret"), "the password on an open wire");
            }
            prop_assert_ne!(answer, Ok(Answer::Done));
        }
    }

    #[test]
    fn a_changed_proof_opens_nothing(harmed in 0..3_usize, harm in harm()) {
        let (accepted, changed) = login_harmed(Method::Scram, harmed, &harm);
        // The name in the first message is not looked at, but it is signed: a change of it shows, too.
        prop_assert!(!accepted || !changed);
    }

    #[test]
    fn files_are_read_or_refused_with_a_line(text in "[a-z0-9 \"#,/@+.:=\\\\\n\t']{0,120}") {
        for problems in [Rules::parse(&text).err(), IdentMaps::parse(&text).err()].into_iter().flatten() {
            prop_assert!(problems.iter().all(|problem| problem.line >= 1 && problem.line <= text.lines().count()));
        }
        if let Err(problems) = Users::parse(&text) {
            prop_assert!(problems.iter().all(|problem| problem.line >= 1 && problem.line <= text.lines().count()));
        }
        let _ = Secret::parse(&text);
    }
}
