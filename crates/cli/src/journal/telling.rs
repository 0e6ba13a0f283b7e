//! The story for people. Pure.

use jiff::tz::TimeZone;

use super::story::{Event, Failover, Sight};

/// Longest list of rules that is told for one failover; JSON has all.
const RULES: usize = 40;

/// The text of the events, oldest first.
pub(crate) fn tell(events: &[Event], zone: &TimeZone) -> String {
    let mut text = String::new();
    for event in events {
        let time = event.time().to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
        match event {
            Event::Note(note) => text.push_str(&format!("{time}  {}  {}\n", note.member, note.text)),
            Event::Failover(failover) => {
                if !text.is_empty() && !text.ends_with("\n\n") {
                    text.push('\n');
                }
                text.push_str(&tell_failover(&time, failover));
                text.push('\n');
            }
        }
    }
    text
}

fn tell_failover(time: &str, failover: &Failover) -> String {
    let mut lines = vec![headline(time, failover)];
    lines.push(format!("  why: {}", failover.cause));
    if !failover.budget.is_empty() {
        lines.push("  where the time went:".to_owned());
        for (step, ms) in &failover.budget {
            lines.push(format!("    {step:<8}{ms:>7} ms  {}", meaning(step)));
        }
        if let Some(total) = failover.total_ms {
            lines.push(format!("    {:<8}{total:>7} ms", "total"));
        }
    }
    if !failover.saw.is_empty() {
        lines.push("  what each member saw:".to_owned());
        let width = failover.saw.keys().map(String::len).max().unwrap_or(0);
        lines.extend(
            failover.saw.iter().map(|(name, sight)| format!("    {name:<width$}  {}", tell_sight(sight))),
        );
    }
    if !failover.passed_over.is_empty() {
        lines.push("  passed over:".to_owned());
        let width = failover.passed_over.keys().map(String::len).max().unwrap_or(0);
        for (name, reasons) in &failover.passed_over {
            lines.push(format!("    {name:<width$}  {}", reasons.join("; ")));
        }
    }
    if !failover.rules.is_empty() {
        lines.push("  rules that fired:".to_owned());
        lines.extend(tell_rules(failover));
    }
    lines.join("\n") + "\n"
}

fn headline(time: &str, failover: &Failover) -> String {
    let took = failover
        .total_ms
        .map(|total| format!(", writable again after {}.{:03} s", total / 1000, total % 1000))
        .unwrap_or_default();
    match (failover.kind.as_str(), &failover.old_leader) {
        ("restart_in_place", _) => format!("{time}  {} was restarted in place{took}", failover.new_leader),
        (_, Some(old)) => format!("{time}  {} took over from {old}{took}", failover.new_leader),
        (_, None) => format!("{time}  {} became the leader{took}", failover.new_leader),
    }
}

fn meaning(step: &str) -> &'static str {
    match step {
        "detect" => "from the old leader's last sign of life until its lock was gone",
        "decide" => "asking the other members and taking the lock",
        "fence" => "until the guardian was armed and the promotion asked for",
        "promote" => "until PostgreSQL accepted writes",
        _ => "until the new picture was published",
    }
}

fn tell_sight(sight: &Sight) -> String {
    let mut parts = Vec::new();
    if let Some(role) = &sight.role {
        parts.push(role.clone());
    }
    match (&sight.lsn, sight.timeline) {
        (Some(lsn), Some(timeline)) => parts.push(format!("{lsn} on timeline {timeline}")),
        (Some(lsn), None) => parts.push(lsn.clone()),
        _ => parts.push("PostgreSQL did not answer".to_owned()),
    }
    if let Some(age) = sight.answer_age_ms {
        parts.push(format!("heard {age} ms before"));
    }
    if let Some(age) = sight.store_age_ms {
        parts.push(format!("store read {age} ms before"));
    }
    parts.push(match &sight.leader {
        Some(leader) => format!("leader {leader}"),
        None => "no leader".to_owned(),
    });
    if !sight.peers.is_empty() {
        let peers: Vec<String> =
            sight.peers.iter().map(|(name, answer)| format!("{name} {answer}")).collect();
        parts.push(format!("peers: {}", peers.join(", ")));
    }
    parts.join(", ")
}

/// Each rule with its distance from the end, repeated ones once.
fn tell_rules(failover: &Failover) -> Vec<String> {
    let width = failover.rules.iter().map(|rule| rule.member.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    let mut last: Option<(&str, &str)> = None;
    for rule in &failover.rules {
        if last == Some((&rule.member, &rule.reason)) && rule.actions.is_empty() {
            continue;
        }
        last = Some((&rule.member, &rule.reason));
        let distance = rule.time.duration_since(failover.time).as_millis();
        let deeds =
            if rule.actions.is_empty() { String::new() } else { format!(" -> {}", rule.actions.join(", ")) };
        lines.push(format!(
            "    {distance:>+7} ms  {:<width$}  {}: {}{deeds}",
            rule.member, rule.reason, rule.sentence
        ));
    }
    if lines.len() > RULES {
        let hidden = lines.len() - RULES;
        lines.truncate(RULES);
        lines.push(format!("    ... and {hidden} more (`-f json` shows all)"));
    }
    lines
}
