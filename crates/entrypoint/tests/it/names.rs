//! A name follows the leader: written once it takes writes, never by a former leader over its successor, repaired when somebody else
//! changes it, and never without the authentication that was asked for.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use bellwether_config::sections::{
    dns::{Dns, DnsAuth, GssSecret, GssTsig, Site},
    vip::{Fallback, Vip, VipAddress, VipEntry, VipKind},
};
use bellwether_entrypoint::board::{Entry, Part};
use bellwether_types::{HostPort, WallTime};

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
        sites: Default::default(),
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
async fn each_site_has_addresses_and_a_name_for_readers_of_its_own() {
    let bind = Bind::with_key();
    let site = |addresses: &[&str], reader: Option<&str>| Site {
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        reader_name: reader.map(str::to_owned),
    };
    let sites = BTreeMap::from([
        ("dc1".to_owned(), site(&["10.0.0.100", "2001:db8::100"], Some("ro.dc1.z.example"))),
        ("dc2".to_owned(), site(&["10.0.0.200"], Some("ro.dc2.z.example"))),
        ("dc3".to_owned(), site(&[], None)),
    ]);
    let settings = Dns { sites, reader_name: Some("ro.z.example".into()), ..with_key(&bind) };
    let member = |name: &str, address: &str, zone: &str| {
        Member::start_in(zone, name, ip(address), Some(settings.clone()), Vip::default())
    };
    let at = |name: &str, address: &str, zone: &str| {
        let mut replica = replica(name, address);
        replica.tags.0.insert("zone".into(), zone.into());
        replica
    };
    let [a, b, c] = [("a", "10.0.0.1", "dc1"), ("b", "10.0.0.2", "dc2"), ("c", "10.0.0.3", "dc3")];
    let [first, second, third] = [a, b, c].map(|(name, address, zone)| member(name, address, zone));
    let [a, b, c] = [a, b, c].map(|(name, address, zone)| at(name, address, zone));

    // The other site's replicas serve the readers of a site that has none.
    first.leads(5, vec![b.clone(), c.clone()]);
    leads_to(&bind, NAME, "A", &["10.0.0.100"]).await;
    leads_to(&bind, NAME, "AAAA", &["2001:db8::100"]).await;
    leads_to(&bind, "ro.z.example", "A", &["10.0.0.2", "10.0.0.3"]).await;
    leads_to(&bind, "ro.dc1.z.example", "A", &["10.0.0.2", "10.0.0.3"]).await;
    leads_to(&bind, "ro.dc2.z.example", "A", &["10.0.0.2"]).await;

    // The name goes to the site that leads, and each reader stays at home.
    first.follows();
    second.leads(6, vec![a, c]);
    leads_to(&bind, NAME, "A", &["10.0.0.200"]).await;
    leads_to(&bind, NAME, "AAAA", &[]).await;
    leads_to(&bind, "ro.dc1.z.example", "A", &["10.0.0.1"]).await;
    leads_to(&bind, "ro.dc2.z.example", "A", &["10.0.0.1", "10.0.0.3"]).await;

    // A site that lists no addresses: those of the member. Where there is no replica at all, readers have the leader.
    second.follows();
    third.leads(7, vec![]);
    leads_to(&bind, NAME, "A", &["10.0.0.3"]).await;
    leads_to(&bind, "ro.dc1.z.example", "A", &["10.0.0.3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_leads_to_the_virtual_addresses_of_the_site_that_leads() {
    let bind = Bind::with_key();
    let address = |text: &str| VipAddress { ip: ip(text), prefix_len: 32 };
    let entry = VipEntry {
        kind: VipKind::Leader,
        addresses: vec![address("10.0.0.100"), address("10.0.9.100")],
        interface: None,
        max_lag: 0,
        fallback: Fallback::Nobody,
        provider: None,
    };
    let vip = Vip { entries: BTreeMap::from([("main".to_owned(), entry)]), ..Vip::default() };
    let member = Member::start_with("a", ip("10.0.0.1"), Some(with_key(&bind)), vip);
    // As the manager of addresses shows it: the second one lies in no network of this host.
    let part = |what: &str, place: &str| Part { what: what.into(), place: place.into(), ..Part::default() };
    let parts = vec![part("10.0.0.100", "eth0"), part("10.0.9.100", "")];
    let shown = Entry { kind: "vip".into(), name: "main".into(), parts, held: true, ..Entry::default() };
    member.board.put(shown, WallTime::default());
    member.leads(5, vec![]);
    leads_to(&bind, NAME, "A", &["10.0.0.100"]).await;
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
