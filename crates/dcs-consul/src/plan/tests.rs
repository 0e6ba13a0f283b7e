use bellwether_dcs::Snapshot;

use super::*;

const ME: &str = "00000000-0000-0007-0000-000000000000";
const OTHER: &str = "00000000-0000-0009-0000-000000000000";

/// `leader` and one member, locked by me, and `sync`.
fn content() -> Content {
    let entry = |value: &str, index, session: Option<&str>| Entry {
        value: value.as_bytes().to_vec(),
        created: Revision(1),
        modified: Revision(index),
        lease: session.map(lease_id),
    };
    let entries = [
        ("leader", entry("a", 5, Some(ME))),
        ("members/a", entry("{}", 4, Some(ME))),
        ("sync", entry("{}", 3, None)),
    ];
    let entries = entries.map(|(key, entry)| (Key::from(key), entry)).into();
    let sessions = ["leader", "members/a"].map(|key| (Key::from(key), ME.to_owned())).into();
    Content { snapshot: Snapshot { revision: Revision(9), entries }, sessions }
}

fn planned(checks: &[Check], writes: &[Write]) -> Plan {
    let sessions = [ME, OTHER].map(|session| (lease_id(session), session.to_owned())).into();
    plan(&content(), checks, writes, Context { prefix: "s/", sessions: &sessions, nonce: 77 })
}

fn operations(checks: &[Check], writes: &[Write]) -> Vec<String> {
    let Plan::Transaction(operations) = planned(checks, writes) else { panic!("refused") };
    operations.iter().map(|Operation { kv }| told(kv)).collect()
}

fn told(kv: &Kv) -> String {
    let session = kv.session.as_deref().map(|session| if session == ME { "me" } else { "other" });
    let index = kv.index.map(|index| index.to_string());
    let key = kv.key.strip_prefix("s/").expect("the prefix");
    [Some(kv.verb), Some(key), index.as_deref(), session].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_check_and_every_write_is_pinned_to_what_was_read() {
    let other = lease_id(OTHER);
    for (case, checks, writes, expected) in [
        (
            "checks of keys that are not written",
            vec![Check::has_value("leader", "a"), Check::absent("failover")],
            vec![Write::put("sync", "{}")],
            vec!["check-index leader 5", "check-not-exists failover", "check-index sync 3", "set sync"],
        ),
        (
            "a new key on a lease",
            vec![],
            vec![Write::put_leased("new", "1", other)],
            vec!["check-not-exists new", "lock new other"],
        ),
        (
            "a key that stays on its lease",
            vec![],
            vec![Write::put_leased("leader", "b", lease_id(ME))],
            vec!["check-index leader 5", "lock leader me"],
        ),
        (
            "a key that moves to another lease",
            vec![],
            vec![Write::put_leased("leader", "b", other)],
            vec!["check-index leader 5", "unlock leader me", "lock leader other"],
        ),
        (
            "a key that loses its lease",
            vec![],
            vec![Write::put("leader", "b")],
            vec!["check-index leader 5", "unlock leader me"],
        ),
        (
            "deletions, of an absent key too, tell their index by a key that does not stay",
            vec![],
            vec![Write::delete("sync"), Write::delete("gone")],
            vec![
                "check-not-exists gone",
                "check-index sync 3",
                "delete sync",
                "set _bellwether",
                "delete _bellwether",
            ],
        ),
    ] {
        assert_eq!(operations(&checks, &writes), expected, "{case}");
    }
}

#[test]
fn checks_that_do_not_hold_refuse() {
    for (check, found) in [
        (Check::absent("leader"), Some(Revision(5))),
        (Check::has_value("leader", "b"), Some(Revision(5))),
        (Check::at("sync", Revision(2)), Some(Revision(3))),
        (Check::at("none", Revision(2)), None),
    ] {
        let case = format!("{check:?}");
        assert_eq!(planned(&[check], &[Write::put("x", "1")]), Plan::Refused { found }, "{case}");
    }
}

#[test]
fn what_is_too_long_for_consul_is_not_sent() {
    let writes: Vec<Write> = (0..33).map(|number| Write::put(format!("k{number}").as_str(), "1")).collect();
    assert_eq!(planned(&[], &writes), Plan::TooLong);
    assert!(matches!(planned(&[], &writes[1..]), Plan::Transaction(_)));
}

#[test]
fn an_operation_reads_as_the_interface_wants_it() {
    let Plan::Transaction(operations) = planned(&[], &[Write::put_leased("leader", "b", lease_id(ME))])
    else {
        panic!("refused")
    };
    let expected = format!(
        r#"[{{"KV":{{"Verb":"check-index","Key":"s/leader","Index":5}}}},{{"KV":{{"Verb":"lock","Key":"s/leader","Value":"Yg==","Flags":77,"Session":"{ME}"}}}}]"#
    );
    assert_eq!(serde_json::to_string(&operations).unwrap(), expected);
}
