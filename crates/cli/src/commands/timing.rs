//! `timing`: which timings the measured speed of store, disks and machines allows, and what each second costs.

use std::time::Duration;

use bellwether_dcs::codec;
use bellwether_ha::timing::{self, Verdict};
use bellwether_types::{
    MemberName,
    measured::{Measured, Span},
    settings::Settings,
};
use serde_json::{Value, json};

use super::what_if;
use crate::{
    command::{StoryFormat, TimingArgs},
    error::CliError,
    manner::Outcome,
    render::{
        json::one_line,
        table::{Align, Table},
    },
    session::{PROBE_PATIENCE, Session, with_api},
};

/// Of the JSON form; a new one only when a field changes its meaning or vanishes.
const SCHEMA: u32 = 1;

/// What is told.
struct Report {
    settings: Settings,
    /// The shortest `ttl` that the store can keep.
    floor: Duration,
    members: Vec<(MemberName, Result<Measured, String>)>,
    /// The worst of every member: each of them may lead.
    worst: Measured,
}

pub(crate) async fn timing(session: &mut Session, args: &TimingArgs) -> Result<Outcome, CliError> {
    let target = session.target_of_own_group(args.cluster.as_deref()).await?;
    let cluster = codec::decode(&target.snapshot().await?);
    let settings = what_if::settings(&target, &cluster)?;
    let mut members = Vec::new();
    for member in with_api(&cluster) {
        let url = member.api_url.as_deref().unwrap_or_default();
        let measured = match session.status(url, PROBE_PATIENCE).await {
            Ok(status) if status.measured.store.count > 0 => Ok(status.measured),
            Ok(_) => Err("it tells no figures (not a Bellwether member, or just started)".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        members.push((member.name.clone(), measured));
    }
    let worst =
        members.iter().filter_map(|(_, measured)| measured.as_ref().ok()).fold(Measured::default(), worse);
    let floor = target.store.capabilities().minimum_ttl;
    let report = Report { settings, floor, members, worst };
    match args.format {
        StoryFormat::Json => session.talk.line(one_line(&report.to_json())),
        StoryFormat::Pretty => session.talk.terminal.out(&report.text()),
    }
    let is_known = report.members.iter().any(|(_, measured)| measured.is_ok());
    Ok(if is_known { Outcome::Done } else { Outcome::Failed })
}

fn worse(one: Measured, other: &Measured) -> Measured {
    let span = |one: Span, other: Span| Span {
        count: one.count.max(other.count),
        typical: one.typical.max(other.typical),
        worst: one.worst.max(other.worst),
    };
    Measured {
        store: span(one.store, other.store),
        commit: span(one.commit, other.commit),
        late: span(one.late, other.late),
    }
}

impl Report {
    fn verdict(&self) -> Verdict {
        timing::verdict(self.settings.ttl, &self.worst, self.floor)
    }

    fn smallest_ttl(&self) -> Option<Duration> {
        (self.verdict() != Verdict::Unknown).then(|| timing::smallest_ttl(&self.worst, self.floor))
    }

    fn to_json(&self) -> Value {
        let members = self.members.iter().map(|(name, measured)| match measured {
            Ok(measured) => json!({
                "name": name, "store": span(&measured.store), "commit": span(&measured.commit),
                "late": span(&measured.late),
                "smallest_ttl": timing::smallest_ttl(measured, self.floor).as_secs(),
            }),
            Err(why) => json!({"name": name, "error": why}),
        });
        json!({
            "version": SCHEMA, "ttl": self.settings.ttl.as_secs_f64(), "verdict": self.verdict().word(),
            "smallest_ttl": self.smallest_ttl().map(|ttl| ttl.as_secs()),
            "smallest_detect_timeout": self.smallest_ttl().map(|_| timing::smallest_detection(&self.worst).as_secs_f64()),
            "members": members.collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let columns = ["Member", "Store (ms)", "Commit (ms)", "Late (ms)", "Smallest ttl"];
        let rows = self.members.iter().map(|(name, measured)| match measured {
            Ok(measured) => vec![
                name.to_string(),
                cell(&measured.store),
                cell(&measured.commit),
                cell(&measured.late),
                format!("{} s", timing::smallest_ttl(measured, self.floor).as_secs()),
            ],
            Err(why) => vec![name.to_string(), why.clone(), String::new(), String::new(), String::new()],
        });
        let table = Table {
            title: Some(" typical / worst ".to_owned()),
            columns: columns.map(|name| (name.to_owned(), Align::Left)).to_vec(),
            rows: rows.collect(),
        };
        table.render() + &self.advice()
    }

    fn advice(&self) -> String {
        let ttl = self.settings.ttl.as_secs();
        let verdict = match (self.verdict(), self.smallest_ttl()) {
            (Verdict::Unknown, _) | (_, None) => {
                "too little was measured yet; ask again in some minutes".to_owned()
            }
            (Verdict::TooTight, Some(least)) => format!(
                "ttl {ttl} is too tight: a leader may lose its lease although nothing is broken; {} s would do (bellwether edit-config -s ttl={})",
                least.as_secs(),
                least.as_secs()
            ),
            (Verdict::Fits, Some(least)) => {
                format!("ttl {ttl} fits; the smallest safe one is {} s", least.as_secs())
            }
            (Verdict::TooLax, Some(least)) => format!(
                "ttl {ttl} is lax: {} s would be safe here, and save about {} s after the loss of a leader's host",
                least.as_secs(),
                ttl.saturating_sub(least.as_secs())
            ),
        };
        let detection = timing::smallest_detection(&self.worst).as_secs_f64();
        format!(
            "{verdict}\n\
             Each second of ttl is a second without writes after the loss of a leader's host.\n\
             The smallest safe detect_timeout is {detection:.1} s.\n\
             Worst figures count {} times, because it may get worse than it was.\n",
            timing::SAFETY
        )
    }
}

fn span(span: &Span) -> Value {
    let ms = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
    json!({"count": span.count, "typical_ms": ms(span.typical), "worst_ms": ms(span.worst)})
}

fn cell(span: &Span) -> String {
    match span.count {
        0 => "-".to_owned(),
        _ => format!("{:.1} / {:.1}", span.typical.as_secs_f64() * 1e3, span.worst.as_secs_f64() * 1e3),
    }
}
