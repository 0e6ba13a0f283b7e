//! Timelines, their history, and where a server stands relative to another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Lsn;

/// A timeline number; 1 after initdb, one more after each promotion.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimelineId(pub u32);

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tl{}", self.0)
    }
}

/// Where a member's WAL ends, and on which timeline.
///
/// Deliberately not `Ord`: positions on different timelines may have diverged, and a comparison that forgets this is how
/// committed transactions get lost. Ask the history instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalPosition {
    pub timeline: TimelineId,
    pub lsn: Lsn,
}

/// One line of a history file: `timeline` ended at `end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineSwitch {
    pub timeline: TimelineId,
    pub end: Lsn,
    pub reason: String,
}

/// The timelines that led to a server's present one, oldest first, and where that server's WAL ends now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineHistory {
    pub tip: WalPosition,
    pub switches: Vec<TimelineSwitch>,
}

/// Where a member stands relative to the server whose history was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// An ancestor: it can follow by streaming.
    Behind { bytes: u64 },
    /// On the same timeline, but further.
    Ahead { bytes: u64 },
    /// Its timeline is one of the ancestors, but it wrote beyond the fork.
    Diverged { at: Lsn },
    /// Its timeline does not occur in the history at all.
    UnknownTimeline,
}

impl TimelineHistory {
    /// Where `timeline` ended on the way to this server's tip; the tip itself for the present timeline.
    pub fn end_of(&self, timeline: TimelineId) -> Option<Lsn> {
        if timeline == self.tip.timeline {
            return Some(self.tip.lsn);
        }
        self.switches.iter().find(|switch| switch.timeline == timeline).map(|switch| switch.end)
    }

    /// Places `member` relative to the server whose history this is.
    pub fn place(&self, member: WalPosition) -> Placement {
        match self.end_of(member.timeline) {
            None => Placement::UnknownTimeline,
            Some(end) if member.lsn <= end => Placement::Behind { bytes: self.tip.lsn - member.lsn },
            Some(_) if member.timeline == self.tip.timeline => {
                Placement::Ahead { bytes: member.lsn - self.tip.lsn }
            }
            Some(end) => Placement::Diverged { at: end },
        }
    }

    /// Parses the text of a `*.history` file (or the answer to TIMELINE_HISTORY).
    pub fn parse(tip: WalPosition, text: &str) -> Result<Self, InvalidHistory> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let switches = lines.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { tip, switches })
    }
}

/// A line that does not have the form of a history file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a line of a timeline history file")]
pub struct InvalidHistory(pub String);

impl FromStr for TimelineSwitch {
    type Err = InvalidHistory;
    fn from_str(line: &str) -> Result<Self, InvalidHistory> {
        let mut fields = line.splitn(3, ['\t', ' ']);
        let parsed = (|| {
            let timeline = TimelineId(fields.next()?.parse().ok()?);
            let end = fields.next()?.parse().ok()?;
            Some(TimelineSwitch { timeline, end, reason: fields.next().unwrap_or("").trim().to_owned() })
        })();
        parsed.ok_or_else(|| InvalidHistory(line.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> TimelineHistory {
        let tip = WalPosition { timeline: TimelineId(3), lsn: Lsn(900) };
        TimelineHistory::parse(
            tip,
            "1\t0/64\tno recovery target specified\n\n2\t0/1F4\tno recovery target specified\n",
        )
        .unwrap()
    }

    #[test]
    fn a_member_is_placed_by_the_history() {
        for (case, timeline, lsn, expected) in [
            ("behind on an old timeline", 1, 100, Placement::Behind { bytes: 800 }),
            ("wrote one byte after the fork", 1, 101, Placement::Diverged { at: Lsn(100) }),
            ("exactly at the second fork", 2, 500, Placement::Behind { bytes: 400 }),
            ("ahead on the same timeline", 3, 1000, Placement::Ahead { bytes: 100 }),
            ("a timeline nobody heard of", 4, 10, Placement::UnknownTimeline),
        ] {
            let member = WalPosition { timeline: TimelineId(timeline), lsn: Lsn(lsn) };
            assert_eq!(history().place(member), expected, "{case}");
        }
    }

    #[test]
    fn a_broken_history_is_an_error_not_an_empty_one() {
        let tip = WalPosition { timeline: TimelineId(2), lsn: Lsn(0) };
        assert!(TimelineHistory::parse(tip, "one 0/1 x").is_err());
    }
}
