use zookeeper_client::Stat;

use super::*;

const ME: LeaseId = LeaseId(7);

fn node(value: &str, zxid: i64, version: i32, owner: Option<LeaseId>) -> Node {
    let ephemeral_owner = owner.map_or(0, |lease| lease.0.cast_signed());
    let stat = Stat {
        czxid: zxid,
        mzxid: zxid,
        pzxid: zxid,
        ctime: 0,
        mtime: 0,
        version,
        cversion: 0,
        aversion: 0,
        ephemeral_owner,
        data_length: 0,
        num_children: 0,
    };
    Node { value: value.as_bytes().to_vec(), stat }
}

/// `leader` of this session, `sync`, an empty `initialize`, and the directory `members` with one member.
fn cluster() -> BTreeMap<String, Node> {
    let mut members = node("", 2, 0, None);
    (members.stat.cversion, members.stat.num_children) = (1, 1);
    [
        ("", node("", 1, 40, None)),
        ("leader", node("a", 5, 1, Some(ME))),
        ("sync", node("{}", 4, 3, None)),
        ("initialize", node("", 3, 0, None)),
        ("members", members),
        ("members/a", node("{}", 2, 1, Some(ME))),
    ]
    .map(|(path, node)| (path.to_owned(), node))
    .into()
}

fn operations(checks: &[Check], writes: &[Write]) -> Vec<String> {
    match plan(&cluster(), checks, writes) {
        Ok(Plan::Multi { operations, revision_at }) => {
            assert_eq!(revision_at, 0);
            operations.iter().map(told).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn told(operation: &Operation) -> String {
    let any = |version: &Option<i32>| version.map_or("any".to_owned(), |version| version.to_string());
    match operation {
        Operation::Check { path, version } => format!("check {path} {version}"),
        Operation::Create { path, lifetime, .. } => format!("create {path} {lifetime:?}"),
        Operation::Set { path, version, .. } => format!("set {path} {}", any(version)),
        Operation::Delete { path, version } => format!("delete {path} {}", any(version)),
    }
}

#[test]
fn every_check_and_every_write_is_pinned_to_what_was_read() {
    for (case, checks, writes, expected) in [
        (
            "a present key that is only checked",
            vec![Check::has_value("leader", "a")],
            vec![Write::put("sync", "{}")],
            vec!["set  40", "check leader 1", "set sync 3"],
        ),
        (
            "an absent key that is only checked",
            vec![Check::absent("failover")],
            vec![],
            vec!["set  40", "create failover Persistent", "delete failover any"],
        ),
        (
            "a new key below a new directory",
            vec![Check::absent("optime/leader")],
            vec![Write::put("optime/leader", "1")],
            vec![
                "set  40",
                "create optime Persistent",
                "create optime/leader Persistent",
                "set optime/leader any",
            ],
        ),
        (
            "a key that stays on its lease",
            vec![],
            vec![Write::put_leased("leader", "b", ME)],
            vec!["set  40", "set leader 1"],
        ),
        (
            "a key that moves to another lease",
            vec![],
            vec![Write::put_leased("leader", "b", LeaseId(9))],
            vec!["set  40", "delete leader 1", "create leader Session", "set leader any"],
        ),
        (
            "a key that loses its lease",
            vec![],
            vec![Write::put("leader", "b")],
            vec!["set  40", "delete leader 1", "create leader Persistent", "set leader any"],
        ),
        (
            "deletions, of an absent key too",
            vec![],
            vec![Write::delete("sync"), Write::delete("gone")],
            vec!["set  40", "create gone Persistent", "delete gone any", "delete sync 3"],
        ),
        (
            "the last of several writes to a key",
            vec![],
            vec![Write::delete("sync"), Write::put("sync", "{}")],
            vec!["set  40", "set sync 3"],
        ),
    ] {
        assert_eq!(operations(&checks, &writes), expected, "{case}");
    }
}

#[test]
fn an_absent_cluster_is_made_and_tells_its_revision() {
    let planned = plan(&BTreeMap::new(), &[], &[Write::put("members/a", "1")]);
    let Ok(Plan::Multi { operations, revision_at }) = planned else { panic!("{planned:?}") };
    let told: Vec<String> = operations.iter().map(told).collect();
    let expected = [
        "create  Persistent",
        "set  any",
        "create members Persistent",
        "create members/a Persistent",
        "set members/a any",
    ];
    assert_eq!((told.as_slice(), revision_at), (expected.map(str::to_owned).as_slice(), 1));
}

#[test]
fn checks_that_do_not_hold_refuse() {
    let at = |revision| Some(Revision(revision));
    for (case, check, found) in [
        ("absent, but there", Check::absent("leader"), at(5)),
        ("absent, but there and empty", Check::absent("initialize"), at(3)),
        ("another value", Check::has_value("leader", "b"), at(5)),
        ("another revision", Check::at("sync", Revision(3)), at(4)),
        ("a directory is no key", Check::has_value("members", ""), None),
    ] {
        let planned = plan(&cluster(), &[check], &[Write::put("x", "1")]).unwrap();
        assert_eq!(planned, Plan::Refused { found }, "{case}");
    }
    assert!(matches!(plan(&cluster(), &[Check::absent("members")], &[]), Ok(Plan::Multi { .. })));
}

#[test]
fn what_zookeeper_has_no_operation_for_is_said() {
    let writes = [Write::put_leased("a", "1", ME), Write::put_leased("b", "1", LeaseId(9))];
    assert_eq!(lease_of(&writes), Err(Impossible::SeveralLeases));
    let planned = plan(&cluster(), &[], &[Write::put_leased("members", "1", ME)]);
    assert_eq!(planned, Err(Impossible::Directory("members".to_owned())));
}
