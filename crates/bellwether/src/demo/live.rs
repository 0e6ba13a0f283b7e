//! The live table: redrawn on a terminal, a line per second elsewhere, an object per second as JSON.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    Format, budget,
    client::Client,
    layout::Layout,
    ledger::Ledger,
    members::{Members, Picture},
    nodes::Nodes,
    respawner::Run,
};

/// All that is shown, at one moment.
struct Scene {
    picture: Picture,
    ports: Vec<(String, u16)>,
    runs: Vec<Run>,
    ledger: Ledger,
    writes_per_second: u64,
    silence: Duration,
    last_failover: Option<String>,
}

/// Shows the cluster until `stop`.
pub(super) async fn show(
    format: Format,
    layout: &Layout,
    nodes: &Nodes,
    client: &Client,
    members: &Members,
    stop: &CancellationToken,
) -> io::Result<()> {
    let in_place = format == Format::Pretty && io::stdout().is_terminal();
    let each = if in_place { Duration::from_millis(250) } else { Duration::from_secs(1) };
    let mut beat = interval(each);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut speed = Speed::new(client.acknowledged());
    let mut drawn = 0;
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = stop.cancelled() => return Ok(()),
        }
        let ledger = client.ledger();
        let now = Instant::now();
        let scene = Scene {
            picture: members.now(),
            ports: layout.nodes.iter().map(|node| (node.name.clone(), node.postgres_port)).collect(),
            runs: layout.nodes.iter().map(|node| nodes.run_of(&node.name)).collect(),
            writes_per_second: speed.measure(ledger.acknowledged().len(), now),
            silence: ledger.silence(now),
            ledger,
            last_failover: budget::last(layout),
        };
        let text = match (format, in_place) {
            (Format::Json, _) => format!("{}\n", scene.to_json()),
            (Format::Pretty, false) => format!("{}\n", scene.to_line()),
            (Format::Pretty, true) => {
                let table = scene.to_table();
                // Back over the last drawing, and clear what was there.
                let back = if drawn > 0 { format!("\x1b[{drawn}A\x1b[J") } else { String::new() };
                drawn = table.lines().count();
                back + &table
            }
        };
        let mut out = io::stdout();
        out.write_all(text.as_bytes())?;
        out.flush()?;
    }
}

/// Rows per second over at least the last second.
struct Speed {
    since: Instant,
    rows: u64,
    last: u64,
}

impl Speed {
    fn new(rows: u64) -> Self {
        Self { since: Instant::now(), rows, last: 0 }
    }

    fn measure(&mut self, rows: u64, now: Instant) -> u64 {
        let passed = now.duration_since(self.since);
        if passed >= Duration::from_millis(900) {
            let per_second = (rows - self.rows) as f64 / passed.as_secs_f64();
            *self = Self { since: now, rows, last: per_second.round() as u64 };
        }
        self.last
    }
}

impl Scene {
    fn to_table(&self) -> String {
        let mut text = format!(
            "{:<8} {:<8} {:<18} {:>3} {:>10}  {:<17} {:>6}\n",
            "member", "role", "state", "TL", "lag", "address", "starts"
        );
        for ((member, (_, port)), run) in self.picture.members.iter().zip(&self.ports).zip(&self.runs) {
            let leads = self.picture.leader().is_some_and(|leader| leader.name == member.name);
            let role = match member.role {
                _ if leads => "leader".to_owned(),
                Some(role) if member.answers => role.to_string(),
                _ => "-".to_owned(),
            };
            let timeline = member.timeline.map_or_else(|| "-".to_owned(), |timeline| timeline.to_string());
            let lag = match self.picture.lag_bytes(member) {
                _ if leads => String::new(),
                Some(bytes) => size(bytes),
                None => "unknown".to_owned(),
            };
            let (name, condition) = (&member.name, member.condition());
            let address = format!("127.0.0.1:{port}");
            let starts = run.starts;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{name:<8} {role:<8} {condition:<18} {timeline:>3} {lag:>10}  {address:<17} {starts:>6}"
            );
        }
        for ((name, _), run) in self.ports.iter().zip(&self.runs) {
            if let Some(reason) = &run.given_up {
                let _ = writeln!(text, "{name} is not started again: {reason}");
            }
        }
        let (outages, longest) = self.ledger.outages();
        let _ = writeln!(
            text,
            "\nrows     {} acknowledged, {} per second, {} with unknown outcome",
            self.ledger.acknowledged().len(),
            self.writes_per_second,
            self.ledger.unknown(),
        );
        let waiting = if self.silence >= Duration::from_millis(500) {
            format!("; no write for {} ms", self.silence.as_millis())
        } else {
            String::new()
        };
        let _ = writeln!(text, "outages  {outages}, the longest {} ms{waiting}", longest.as_millis());
        let _ = writeln!(text, "failover {}", self.last_failover.as_deref().unwrap_or("none so far"));
        text
    }

    fn to_line(&self) -> String {
        let members: Vec<_> = self
            .picture
            .members
            .iter()
            .map(|member| {
                let leads = self.picture.leader().is_some_and(|leader| leader.name == member.name);
                let mark = if leads { "*" } else { "" };
                let timeline =
                    member.timeline.map_or_else(|| "-".to_owned(), |timeline| timeline.to_string());
                format!("{}{mark} {} TL {timeline}", member.name, member.condition())
            })
            .collect();
        let (outages, longest) = self.ledger.outages();
        format!(
            "{} | {} rows, {}/s, silent {} ms | {outages} outages, longest {} ms",
            members.join(", "),
            self.ledger.acknowledged().len(),
            self.writes_per_second,
            self.silence.as_millis(),
            longest.as_millis(),
        )
    }

    fn to_json(&self) -> Value {
        let members: Vec<_> = self
            .picture
            .members
            .iter()
            .zip(&self.ports)
            .zip(&self.runs)
            .map(|((member, (_, port)), run)| {
                json!({
                    "name": member.name,
                    "role": member.role,
                    "state": member.condition(),
                    "timeline": member.timeline,
                    "lag_bytes": self.picture.lag_bytes(member),
                    "port": port,
                    "starts": run.starts,
                    "given_up": run.given_up,
                })
            })
            .collect();
        let (outages, longest) = self.ledger.outages();
        json!({
            "version": 1,
            "leader": self.picture.leader().map(|leader| &leader.name),
            "members": members,
            "rows": {
                "acknowledged": self.ledger.acknowledged().len(),
                "unknown": self.ledger.unknown(),
                "refused": self.ledger.refused(),
                "per_second": self.writes_per_second,
                "silence_ms": self.silence.as_millis() as u64,
            },
            "outages": {"count": outages, "longest_ms": longest.as_millis() as u64},
            "last_failover": self.last_failover,
        })
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} kB", bytes / 1024),
        _ => format!("{} MB", bytes / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use bellwether_types::{Lsn, PostgresState, Role, TimelineId};

    use super::*;
    use crate::demo::members::Member;

    fn scene() -> Scene {
        let primary = Member {
            name: "node1".into(),
            answers: true,
            role: Some(Role::Primary),
            state: Some(PostgresState::Running),
            timeline: Some(TimelineId(2)),
            position: Some(Lsn(5000)),
            streaming: false,
        };
        let replica = Member {
            name: "node2".into(),
            role: Some(Role::Replica),
            position: Some(Lsn(2900)),
            streaming: true,
            ..primary.clone()
        };
        let silent = Member { name: "node3".into(), ..Member::default() };
        let start = Instant::now();
        let mut ledger = Ledger::default();
        ledger.acknowledge(1, start);
        ledger.acknowledge(2, start + Duration::from_millis(1234));
        Scene {
            picture: Picture { members: vec![primary, replica, silent] },
            ports: vec![("node1".into(), 1), ("node2".into(), 2), ("node3".into(), 3)],
            runs: [1, 1, 4].map(|starts| Run { starts, ..Run::default() }).into(),
            ledger,
            writes_per_second: 99,
            silence: Duration::from_millis(700),
            last_failover: Some("node1 took over in 900 ms".into()),
        }
    }

    #[test]
    fn the_table_shows_who_leads_and_how_the_others_are() {
        let table = scene().to_table();
        let expected = "\
member   role     state               TL        lag  address           starts
node1    leader   running              2             127.0.0.1:1            1
node2    replica  streaming            2       2 kB  127.0.0.1:2            1
node3    -        no answer            -    unknown  127.0.0.1:3            4

rows     2 acknowledged, 99 per second, 0 with unknown outcome
outages  1, the longest 1234 ms; no write for 700 ms
failover node1 took over in 900 ms
";
        assert_eq!(table, expected);
    }

    #[test]
    fn a_node_that_is_not_started_again_is_named_with_the_reason() {
        let mut scene = scene();
        scene.runs[2].given_up = Some("exit status: 78: a person must act first".into());
        let told = "node3 is not started again: exit status: 78: a person must act first\n";
        assert!(scene.to_table().contains(told));
    }

    #[test]
    fn the_line_and_the_object_say_the_same() {
        let scene = scene();
        assert_eq!(
            scene.to_line(),
            "node1* running TL 2, node2 streaming TL 2, node3 no answer TL - | 2 rows, 99/s, silent 700 ms | 1 outages, longest 1234 ms"
        );
        let object = scene.to_json();
        assert_eq!(object["leader"], "node1");
        assert_eq!(object["members"][1]["lag_bytes"], 2100);
        assert_eq!(object["outages"]["longest_ms"], 1234);
    }
}
