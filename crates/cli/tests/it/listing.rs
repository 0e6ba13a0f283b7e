//! `list`, `topology`, `history`, `dsn`, `version`.

use std::time::Duration;

use crate::{screen::Screen, world::World};

#[tokio::test]
async fn watching_shows_the_table_again_and_clears_only_terminals() {
    let world = World::new().await;
    for (screen, clear) in [(Screen::default(), ""), (Screen::of_a_terminal(), "\x1b[2J\x1b[1;1H")] {
        let seen_twice = async {
            while screen.out().matches("Cluster: demo").count() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            ended = world.patronictl_at(&["list", "-w", "0.05"], screen.clone()) => panic!("{ended:?}"),
            seen = tokio::time::timeout(Duration::from_secs(30), seen_twice) => seen.unwrap(),
        }
        let once = format!("{clear}{}", world.patronictl(&["list"], &[]).await.out);
        assert!(screen.out().starts_with(&once.repeat(2)), "{:?}", screen.out());
    }
}

#[tokio::test]
async fn list_reads_the_store_and_shows_the_table() {
    let world = World::new().await;
    let expected = "\
+ Cluster: demo (7277694203142172922) +-----------+----+-------------+-----+------------+-----+
| Member | Host           | Role    | State     | TL | Receive LSN | Lag | Replay LSN | Lag |
+--------+----------------+---------+-----------+----+-------------+-----+------------+-----+
| a      | 127.0.0.1:5432 | Leader  | running   |  5 |             |     |            |     |
| b      | 127.0.0.1:5433 | Replica | streaming |  5 |   0/3000000 |   0 |  0/3000000 |   0 |
| c      | 127.0.0.1:5434 | Replica | streaming |  5 |   0/3000000 |   0 |  0/3000000 |   0 |
+--------+----------------+---------+-----------+----+-------------+-----+------------+-----+
";
    let ended = world.patronictl(&["list"], &[]).await;
    let top = ended.out.lines().next().unwrap();
    assert_eq!(top.len(), expected.lines().nth(1).unwrap().len(), "{}", ended.out);
    assert_eq!(ended.out.lines().skip(1).collect::<Vec<_>>(), expected.lines().skip(1).collect::<Vec<_>>());
    assert_eq!((ended.status, ended.err.as_str()), (0, ""));
    assert_eq!(
        world.bellwether(&["list", "demo"], &[]).await.out,
        ended.out,
        "the same look in both manners"
    );
}

#[tokio::test]
async fn unknown_clusters_are_empty_and_no_cluster_is_a_warning() {
    let world = World::new().await;
    let ended = world.patronictl(&["list", "elsewhere"], &[]).await;
    assert!(ended.out.contains("Cluster: elsewhere (uninitialized)"), "{}", ended.out);
    std::fs::write(world.config_file(), "raft:\n  partner_addrs: ['127.0.0.1:1']\n  password: x\n").unwrap();
    let ended = world.patronictl(&["list"], &[]).await;
    assert_eq!((ended.status, ended.out.as_str()), (0, ""));
    assert!(
        ended.err.ends_with(" - WARNING - Listing members: No cluster names were provided\n"),
        "{}",
        ended.err
    );
}

#[tokio::test]
async fn a_timestamp_comes_first_if_asked_for() {
    let world = World::new().await;
    let out = world.patronictl(&["list", "-t"], &[]).await.out;
    let first = out.lines().next().unwrap();
    assert_eq!((first.len(), first.matches([':', '-']).count()), (19, 4), "{first}");
}

#[tokio::test]
async fn history_shows_finished_timelines() {
    let world = World::new().await;
    world
        .put(
            "history",
            r#"[[1,100,"no recovery target specified"],[2,200,"x","2026-11-20T10:00:00+00:00","a"]]"#,
        )
        .await;
    let expected = "\
+----+-----+------------------------------+---------------------------+------------+
| TL | LSN | Reason                       | Timestamp                 | New Leader |
+----+-----+------------------------------+---------------------------+------------+
|  1 | 100 | no recovery target specified |                           |            |
|  2 | 200 | x                            | 2026-11-20T10:00:00+00:00 | a          |
+----+-----+------------------------------+---------------------------+------------+
";
    assert_eq!(world.patronictl(&["history"], &[]).await.out, expected);
    let json = world.patronictl(&["history", "-f", "json"], &[]).await.out;
    let first = r#"[{"TL": 1, "LSN": 100, "Reason": "no recovery target specified", "Timestamp": "", "New Leader": ""}"#;
    assert!(json.starts_with(first), "{json}");
}

#[tokio::test]
async fn dsn_finds_a_member_by_role_or_name() {
    let world = World::new().await;
    for (words, out) in [
        (&["dsn"][..], "host=127.0.0.1 port=5432\n"),
        (&["dsn", "-m", "c"], "host=127.0.0.1 port=5434\n"),
        (&["dsn", "-r", "replica"], "host=127.0.0.1 port=5433\n"),
    ] {
        assert_eq!(world.patronictl(words, &[]).await.out, out, "{words:?}");
    }
    for (words, err) in [
        (&["dsn", "-m", "x"][..], "Error: Can not find a suitable member\n"),
        (&["dsn", "-m", "a", "-r", "leader"], "Error: --role and --member are mutually exclusive options\n"),
    ] {
        let ended = world.patronictl(words, &[]).await;
        assert_eq!((ended.status, ended.err.as_str()), (1, err), "{words:?}");
    }
}

#[tokio::test]
async fn version_asks_the_members() {
    let mut world = World::new().await;
    assert_eq!(world.patronictl(&["version"], &[]).await.out, "patronictl version 4.1.5\n");
    world.stop("c").await;
    let ended = world.patronictl(&["version", "demo"], &[]).await;
    assert!(
        ended.out.starts_with(
            "patronictl version 4.1.5\n\na: Patroni 4.1.5 PostgreSQL 15.18\nb: Patroni 4.1.5 PostgreSQL 15.18\n\
             c: failed to get version: "
        ),
        "{}",
        ended.out
    );
    assert_eq!(ended.status, 0);
    assert_eq!(
        world.bellwether(&["version", "demo"], &[]).await.status,
        1,
        "in our manner a silent member is a failure"
    );
}
