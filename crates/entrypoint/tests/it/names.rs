//! A name follows the leader: written once it takes writes, never by a former leader over its successor, repaired when somebody else
//! changes it, and never without the authentication that was asked for.

use std::{net::IpAddr, time::Duration};

use bellwether_config::sections::dns::{Dns, DnsAuth, GssSecret, GssTsig};
use bellwether_types::HostPort;

use crate::{
    bind::{Bind, ZONE},
    kdc::{Kdc, PASSWORD, REALM},
    member::{Member, replica, until},
};

const NAME: &str = "main.z.example";

fn dns(bind: &Bind, auth: DnsAuth) -> Dns {
    let server = vec![HostPort::new("localhost", bind.port)];
    Dns {
        zone: ZONE.into(),
        name: NAME.into(),
        reader_name: None,
        servers: server.clone(),
        verify_servers: server,
        auth,
        ttl: 60,
        addresses: vec![],
        ptr: false,
        fence_txt: true,
        refresh: Duration::from_secs(86_400),
        check_interval: Duration::from_millis(200),
        verify_timeout: Duration::from_secs(60),
    }
}

fn with_key(bind: &Bind) -> Dns {
    dns(bind, DnsAuth::Tsig { key_file: bind.dir.path().join("k.key") })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn leads_to(bind: &Bind, name: &str, kind: &str, expected: &[&str]) {
    until(&format!("{name} {kind} is {expected:?}: {:?}\n{}", bind.records(name, kind), bind.log()), || {
        bind.records(name, kind) == expected
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_signed_with_a_key_follows_the_leader() {
    let bind = Bind::with_key();
    let settings = Dns { reader_name: Some("ro.z.example".into()), ptr: true, ..with_key(&bind) };
    let [a, b] = [("a", "10.0.0.1"), ("b", "10.0.0.2")]
        .map(|(name, at)| Member::start(name, ip(at), settings.clone()));
    a.leads(5, vec![replica("b", "10.0.0.2"), replica("c", "10.0.0.3")]);
    leads_to(&bind, NAME, "A", &["10.0.0.1"]).await;
    leads_to(&bind, "ro.z.example", "A", &["10.0.0.2", "10.0.0.3"]).await;
    leads_to(&bind, "1.0.0.10.in-addr.arpa", "PTR", &["main.z.example."]).await;
    until("it is held", || a.entry().held).await;

    // Its successor writes over it, and the addresses lead back no more.
    a.follows();
    b.leads(6, vec![]);
    leads_to(&bind, NAME, "A", &["10.0.0.2"]).await;
    leads_to(&bind, "ro.z.example", "A", &["10.0.0.2"]).await;
    leads_to(&bind, "2.0.0.10.in-addr.arpa", "PTR", &["main.z.example."]).await;
    leads_to(&bind, "1.0.0.10.in-addr.arpa", "PTR", &[]).await;
    until("no longer held", || !a.entry().held).await;

    // A former leader that does not know it yet.
    a.leads(5, vec![]);
    a.fails_with("b has written later").await;
    leads_to(&bind, NAME, "A", &["10.0.0.2"]).await;

    // Somebody else changes it.
    bind.change("update delete main.z.example. A\nupdate add main.z.example. 60 A 10.9.9.9");
    leads_to(&bind, NAME, "A", &["10.0.0.2"]).await;
    until("the conflict is told", || {
        b.told.lock().unwrap().iter().any(|record| record["action"] == "conflict")
    })
    .await;

    // The server is away for a while: nothing is lost but time.
    drop(a);
    let mut bind = bind;
    bind.stop();
    b.leads(7, vec![]);
    b.fails_with("does not answer").await;
    bind.start();
    let fence = format!("_bellwether.{NAME}");
    leads_to(&bind, &fence, "TXT", &["\"member=b term=7\""]).await;
    until("it works again", || b.entry().last_error.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_without_the_right_key() {
    let bind = Bind::with_key();
    let other = |name: &str, secret: &str| {
        let text = format!("key \"{name}\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};");
        DnsAuth::Tsig { key_file: bind.write_key(&format!("{name}.wrong"), &text) }
    };
    for (auth, problem) in [
        (other("k", "b3RoZXIgc2VjcmV0"), "BADSIG"),
        (other("unknown", "b3RoZXIgc2VjcmV0"), "BADKEY"),
        (DnsAuth::None, "REFUSED"),
    ] {
        let member = Member::start("a", ip("10.0.0.1"), dns(&bind, auth));
        member.leads(5, vec![]);
        member.fails_with(problem).await;
        assert!(!member.entry().held);
        assert_eq!(bind.records(NAME, "A"), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kerberos_authenticates_by_keytab_and_by_password() {
    let kdc = Kdc::start();
    let bind = Bind::with_kerberos(REALM, &kdc.file("named.keytab"));
    let gss = |secret| {
        let kdc = vec![HostPort::new("127.0.0.1", kdc.port)];
        dns(&bind, DnsAuth::GssTsig(GssTsig { realm: REALM.into(), kdc, principal: "main".into(), secret }))
    };
    let password = bind.write_key("password", PASSWORD);
    let a = Member::start("a", ip("10.0.0.1"), gss(GssSecret::Keytab(kdc.file("main.keytab"))));
    a.leads(5, vec![]);
    leads_to(&bind, NAME, "A", &["10.0.0.1"]).await;
    a.follows();

    let b = Member::start("b", ip("2001:db8::2"), gss(GssSecret::PasswordFile(password)));
    b.leads(6, vec![]);
    leads_to(&bind, NAME, "AAAA", &["2001:db8::2"]).await;
    assert_eq!(bind.records(NAME, "A"), Vec::<String>::new(), "one change: the old address is gone");
    until("it is held", || b.entry().held).await;
    let left: Vec<_> = std::fs::read_dir(b.runtime_dir.path()).unwrap().collect();
    assert!(left.is_empty(), "no ticket is left behind: {left:?}");

    // Who is refused does not try another way.
    let wrong = bind.write_key("wrong", "not the password");
    let c = Member::start("c", ip("10.0.0.3"), gss(GssSecret::PasswordFile(wrong)));
    c.leads(7, vec![]);
    c.fails_with("gives no ticket").await;
    assert!(!c.entry().last_error.unwrap().contains("not the password"));
    assert_eq!(bind.records(NAME, "A"), Vec::<String>::new());
}
