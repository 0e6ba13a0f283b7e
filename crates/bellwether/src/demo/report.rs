//! What a drill found out, for people and for programs.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    time::Duration,
};

use bellwether_types::{TimelineId, chain};
use serde_json::{Value, json};

use super::{
    Format,
    drill::Event,
    verify::{Held, VerifyError},
};

/// Lost rows that are named; the rest is counted.
const NAMED: usize = 10;

/// How the cluster took one event.
#[derive(Clone, Debug)]
pub(super) struct EventReport {
    pub(super) event: Event,
    pub(super) leader_before: String,
    pub(super) leader_after: String,
    pub(super) timeline: Option<TimelineId>,
    /// The longest time between two acknowledged writes around the event.
    pub(super) outage: Duration,
    /// From the event to three whole members.
    pub(super) whole_after: Duration,
    pub(super) note: String,
    /// Why it does not count as healed.
    pub(super) problem: Option<String>,
}

impl EventReport {
    pub(super) fn begin(event: Event) -> Self {
        Self {
            event,
            leader_before: String::new(),
            leader_after: String::new(),
            timeline: None,
            outage: Duration::ZERO,
            whole_after: Duration::ZERO,
            note: String::new(),
            problem: None,
        }
    }
}

impl fmt::Display for EventReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            None => write!(
                f,
                "{} ({}): outage {} ms, whole after {:.1} s",
                self.event,
                self.leader_before,
                self.outage.as_millis(),
                self.whole_after.as_secs_f64()
            ),
            Some(problem) => write!(f, "{} ({}): FAILED: {problem}", self.event, self.leader_before),
        }
    }
}

#[derive(Debug)]
pub(super) struct Report {
    pub(super) events: Vec<EventReport>,
    pub(super) acknowledged: u64,
    pub(super) unknown: u64,
    pub(super) held: Vec<(String, Result<Held, VerifyError>)>,
}

impl Report {
    /// Nothing lost anywhere, everything asked, and everything healed in time.
    pub(super) fn is_good(&self) -> bool {
        self.events.iter().all(|event| event.problem.is_none())
            && self.acknowledged > 0
            && self.held.iter().all(|(_, held)| held.as_ref().is_ok_and(|held| held.lost.is_empty()))
    }

    /// Acknowledged rows that at least one member lacks.
    fn lost(&self) -> Vec<i64> {
        let held = self.held.iter().filter_map(|(_, held)| held.as_ref().ok());
        let mut lost: Vec<i64> = held.flat_map(|held| held.lost.iter().copied()).collect();
        lost.sort_unstable();
        lost.dedup();
        lost
    }

    pub(super) fn print(&self, format: Format) -> io::Result<()> {
        let text = match format {
            Format::Pretty => self.to_table(),
            Format::Json => format!("{:#}\n", self.to_json()),
        };
        io::stdout().write_all(text.as_bytes())
    }

    fn to_table(&self) -> String {
        let mut text = format!(
            "\n{:<36} {:<8} {:<8} {:>3} {:>10} {:>10}\n",
            "event", "led", "leads", "TL", "outage", "whole in"
        );
        for report in &self.events {
            let event = report.event.to_string();
            let (before, after) = (&report.leader_before, &report.leader_after);
            let timeline = report.timeline.map_or_else(|| "-".to_owned(), |timeline| timeline.to_string());
            let outage = format!("{} ms", report.outage.as_millis());
            let whole = format!("{:.1} s", report.whole_after.as_secs_f64());
            // Writing to a string cannot fail.
            let _ =
                writeln!(text, "{event:<36} {before:<8} {after:<8} {timeline:>3} {outage:>10} {whole:>10}");
            if !report.note.is_empty() {
                let _ = writeln!(text, "  {}", report.note);
            }
            if let Some(problem) = &report.problem {
                let _ = writeln!(text, "  FAILED: {problem}");
            }
        }
        let _ =
            writeln!(text, "\nrows acknowledged: {}, outcome unknown: {}", self.acknowledged, self.unknown);
        for (member, held) in &self.held {
            let _ = match held {
                Ok(held) => writeln!(text, "{member}: {} rows, {} lost", held.rows, held.lost.len()),
                Err(error) => writeln!(text, "{member}: NOT COMPARED: {}", chain(error)),
            };
        }
        let lost = self.lost();
        let _ = writeln!(text, "acknowledged rows lost: {}", lost.len());
        if !lost.is_empty() {
            let named: Vec<_> = lost.iter().take(NAMED).map(i64::to_string).collect();
            let _ = writeln!(text, "  the first of them: {}", named.join(", "));
        }
        text
    }

    fn to_json(&self) -> Value {
        let events: Vec<_> = self
            .events
            .iter()
            .map(|report| {
                json!({
                    "event": report.event.code(),
                    "leader_before": report.leader_before,
                    "leader_after": report.leader_after,
                    "timeline": report.timeline,
                    "outage_ms": report.outage.as_millis() as u64,
                    "whole_after_ms": report.whole_after.as_millis() as u64,
                    "note": report.note,
                    "problem": report.problem,
                })
            })
            .collect();
        let members: Vec<_> = self
            .held
            .iter()
            .map(|(member, held)| match held {
                Ok(held) => json!({"name": member, "rows": held.rows, "lost": held.lost.len()}),
                Err(error) => json!({"name": member, "problem": chain(error)}),
            })
            .collect();
        json!({
            "version": 1,
            "good": self.is_good(),
            "events": events,
            "rows": {"acknowledged": self.acknowledged, "unknown": self.unknown, "lost": self.lost().len()},
            "members": members,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Report {
        let held = || Held { rows: 101, lost: Vec::new() };
        Report {
            events: vec![EventReport {
                leader_before: "node1".into(),
                leader_after: "node2".into(),
                timeline: Some(TimelineId(2)),
                outage: Duration::from_millis(4321),
                whole_after: Duration::from_millis(7654),
                note: "16 processes killed".into(),
                ..EventReport::begin(Event::LeaderHostLost)
            }],
            acknowledged: 100,
            unknown: 1,
            held: ["node2", "node1"].map(|name| (name.to_owned(), Ok(held()))).into(),
        }
    }

    #[test]
    fn a_lost_row_an_unhealed_event_or_a_member_that_was_not_asked_is_a_failure() {
        assert!(good().is_good());
        let mut lossy = good();
        lossy.held[1].1.as_mut().unwrap().lost = vec![7, 9];
        let mut wounded = good();
        wounded.events[0].problem = Some("no writes again".into());
        let mut silent = good();
        silent.held[0].1 = Err(VerifyError::TimedOut { member: "node2".into() });
        let idle = Report { acknowledged: 0, ..good() };
        for (case, report) in
            [("a row is lost", &lossy), ("wounded", &wounded), ("silent", &silent), ("idle", &idle)]
        {
            assert!(!report.is_good(), "{case}");
            assert_eq!(report.to_json()["good"], false, "{case}");
        }
        assert!(lossy.to_table().contains("acknowledged rows lost: 2\n  the first of them: 7, 9\n"));
    }

    #[test]
    fn the_table_tells_each_event_and_the_verdict() {
        let expected = "
event                                led      leads     TL     outage   whole in
leader's whole process tree killed   node1    node2      2    4321 ms      7.7 s
  16 processes killed

rows acknowledged: 100, outcome unknown: 1
node2: 101 rows, 0 lost
node1: 101 rows, 0 lost
acknowledged rows lost: 0
";
        assert_eq!(good().to_table(), expected);
    }
}
