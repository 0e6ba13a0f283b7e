//! The outlook for people. Pure.

use std::time::Duration;

use bellwether_ha::what_if::{Commits, Risk, Verdict, forecast::Forecast};
use bellwether_types::MemberName;

use super::{Answer, StoreLost};

pub(super) fn tell(answer: &Answer) -> String {
    let outlook = &answer.outlook;
    let mut lines = vec![format!("If {} were lost now, without a word:", outlook.lost)];
    lines.push(line("leader", &leader(answer)));
    if let Some(forecast) = &answer.forecast {
        lines.push(line("writable", &writable(forecast)));
        lines.push(line("", &basis(forecast)));
    }
    if let Some(risk) = outlook.risk {
        lines.push(line("at risk", &at_risk(risk)));
    }
    if let Verdict::LeaderStays { leader } = &outlook.verdict {
        lines.push(line("commits", &commits(outlook.commits, leader)));
    }
    if !outlook.others.is_empty() {
        lines.push("what the others would decide:".to_owned());
    }
    let width = outlook.others.keys().map(|name| name.as_str().chars().count()).max().unwrap_or(0);
    for (name, standing) in &outlook.others {
        let verdict = if standing.takes_lock { "takes the lock" } else { "is passed over" };
        lines.push(format!("  {:<width$}  {verdict}", name.as_str()));
        for reason in &standing.reasons {
            lines.push(format!("  {:<width$}    {}: {}", "", reason.code(), reason.sentence()));
        }
    }
    lines.join("\n") + "\n"
}

fn line(what: &str, text: &str) -> String {
    format!("  {what:<9} {text}").trim_end().to_owned()
}

fn leader(answer: &Answer) -> String {
    if let Some(StoreLost { voters }) = answer.store_lost {
        return format!(
            "nobody: the embedded store has {voters} voters, and one alone is no majority; add a third (`bellwether witness`)"
        );
    }
    match &answer.outlook.verdict {
        Verdict::LeaderStays { leader } => format!("{leader} stays"),
        Verdict::Nobody => "nobody would be elected; see below".to_owned(),
        Verdict::Elected { candidates } => match &candidates[..] {
            [only] => only.to_string(),
            several => {
                let names: Vec<&str> = several.iter().map(MemberName::as_str).collect();
                format!("{}: equally fit, the first to take the lock", names.join(" or "))
            }
        },
    }
}

fn writable(forecast: &Forecast) -> String {
    let total = forecast.total();
    format!(
        "again after {} to {} s, typically {} s",
        seconds(total.min),
        seconds(total.max),
        seconds(total.typical)
    )
}

fn basis(forecast: &Forecast) -> String {
    let Forecast { detection, past, .. } = forecast;
    let rest = match past {
        0 => "the rest by experience: this cluster has no past".to_owned(),
        1 => "the rest as in the 1 change of leader in the journals".to_owned(),
        past => format!("the rest as in the {past} changes of leader in the journals"),
    };
    format!("({} to {} s until its silence counts; {rest})", seconds(detection.min), seconds(detection.max))
}

fn at_risk(risk: Risk) -> String {
    let behind = match risk.behind {
        0 => "nothing is missing at the candidates now".to_owned(),
        bytes => format!("{bytes} bytes of WAL are not yet at every candidate"),
    };
    match risk.is_synchronous {
        true => format!("no commit that waited for its synchronous standbys; {behind}"),
        false => format!(
            "replication is asynchronous: {behind}; a candidate may be up to {} bytes behind what the leader published last \
             (maximum_lag_on_failover)",
            risk.tolerated
        ),
    }
}

fn commits(commits: Commits, leader: &MemberName) -> String {
    match commits {
        Commits::GoOn => "go on".to_owned(),
        Commits::WaitForList => {
            format!("wait until {leader} has taken it off the list of synchronous standbys")
        }
        Commits::WaitForStandby => {
            "wait until a synchronous standby is back: nobody is there to take its place (synchronous_mode_strict)".to_owned()
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}
