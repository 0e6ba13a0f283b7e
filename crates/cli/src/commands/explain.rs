//! `explain`: what happened and why, from the members' journals.

use std::collections::BTreeMap;

use bellwether_dcs::codec;
use bellwether_types::{MemberName, cluster::Member};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use crate::{
    command::{ExplainArgs, StoryFormat},
    error::CliError,
    journal::{
        record::{self, Record},
        sources::{self, Source},
        story, telling,
    },
    manner::Outcome,
    render::json::one_line,
    schedule,
    session::Session,
};

/// Of the JSON form; a new one only when a field changes its meaning or vanishes.
const SCHEMA: u32 = 1;

pub(crate) async fn explain(session: &mut Session, args: &ExplainArgs) -> Result<Outcome, CliError> {
    let since = args.since.as_deref().map(|text| since(text, Timestamp::now())).transpose()?;
    let (mut records, asked) = match args.dir.is_empty() {
        false => from_files(args),
        true => from_members(session, args).await?,
    };
    record::merge(&mut records);
    records.retain(|record| args.member.as_ref().is_none_or(|member| record.member == *member));
    let mut events = story::tell(&records);
    events.retain(|event| since.is_none_or(|since| event.time() >= since));
    let excess = events.len().saturating_sub(args.last.unwrap_or(usize::MAX));
    events.drain(..excess);

    for Source { name, result, from_store } in &asked {
        match (result, from_store) {
            (Err(why), _) => {
                session.talk.warn(format!("the journal of {name} is missing in this story: {why}"));
            }
            (Ok(_), Some(why)) => session.talk.warn(format!(
                "of the journal of {name} only the last changes of role are in this story, as it left them in the store: {why}"
            )),
            (Ok(_), None) => {}
        }
    }
    match args.format {
        StoryFormat::Json => {
            let sources: Vec<Value> = asked.iter().map(source_json).collect();
            let events: Vec<Value> = events.iter().map(story::Event::to_json).collect();
            session.talk.line(one_line(&json!({"version": SCHEMA, "sources": sources, "events": events})));
        }
        StoryFormat::Pretty if events.is_empty() => {
            session.talk.note("Nothing to tell: no event is recorded")
        }
        StoryFormat::Pretty => {
            let text = telling::tell(&events, &TimeZone::system());
            session.talk.terminal.out(&text);
        }
    }
    let nobody_told = asked.iter().all(|source| source.result.is_err());
    Ok(if nobody_told { Outcome::Failed } else { Outcome::Done })
}

fn source_json(source: &Source) -> Value {
    match (&source.result, &source.from_store) {
        (Ok(count), None) => json!({"name": source.name, "records": count}),
        (Ok(count), Some(why)) => {
            json!({"name": source.name, "records": count, "from": "store", "error": why})
        }
        (Err(why), _) => json!({"name": source.name, "error": why}),
    }
}

fn from_files(args: &ExplainArgs) -> (Vec<Record>, Vec<Source>) {
    let (mut records, mut asked) = (Vec::new(), Vec::new());
    for dir in &args.dir {
        let result = sources::read_dir(dir);
        asked.push(Source {
            name: dir.display().to_string(),
            result: result.as_ref().map(Vec::len).map_err(ToString::to_string),
            from_store: None,
        });
        records.extend(result.unwrap_or_default());
    }
    (records, asked)
}

async fn from_members(
    session: &mut Session,
    args: &ExplainArgs,
) -> Result<(Vec<Record>, Vec<Source>), CliError> {
    let (mut records, mut asked) = (Vec::new(), Vec::new());
    let (members, mut left) = members(session, args).await?;
    for member in members {
        let answer = match sources::ask(session, &member).await {
            // A stopped agent leaves its files.
            Err(why) if session.config.name.as_ref() == Some(&member.name) => own_files(session).ok_or(why),
            answer => answer.map(|records| records.into_iter().filter_map(Record::parse).collect()),
        };
        let (answer, from_store) = match (answer, left.remove(&member.name)) {
            (Err(why), Some(left)) => (Ok(left), Some(why)),
            (answer, _) => (answer, None),
        };
        asked.push(Source {
            name: member.name.to_string(),
            result: answer.as_ref().map(Vec::len).map_err(String::clone),
            from_store,
        });
        records.extend(answer.unwrap_or_default());
    }
    for (name, left) in left {
        let from_store = Some("it is no member at present".to_owned());
        asked.push(Source { name: name.to_string(), result: Ok(left.len()), from_store });
        records.extend(left);
    }
    Ok((records, asked))
}

fn own_files(session: &Session) -> Option<Vec<Record>> {
    sources::read_dir(&session.own_journal_dir()?).ok()
}

/// Members to ask, and the ends of journals that members have left in the store.
type Witnesses = (Vec<Member>, BTreeMap<MemberName, Vec<Record>>);

/// Every member that the store knows; without a store the one that the configuration is of.
async fn members(session: &mut Session, args: &ExplainArgs) -> Result<Witnesses, CliError> {
    let snapshot = match session.target_of_own_group(args.cluster.as_deref()).await {
        Ok(target) => target.snapshot().await,
        Err(error) => Err(error),
    };
    let wanted = |member: &MemberName| args.member.as_ref().is_none_or(|name| member.as_str() == name);
    let error = match snapshot {
        Ok(snapshot) => {
            let members = codec::decode(&snapshot).members.into_values();
            let mut left = sources::left_in(&snapshot);
            left.retain(|name, _| wanted(name));
            return Ok((members.filter(|member| wanted(&member.name)).collect(), left));
        }
        Err(error) => error,
    };
    let own = session.config.restapi.as_ref().map(|restapi| restapi.api_url());
    let Some(api_url) = own.filter(|_| !matches!(error, CliError::Usage(_))) else {
        return Err(CliError::with_help(
            error.to_string(),
            "without a store, `explain --dir DIR` reads journal files (the directory of a node's agent)",
        ));
    };
    session.talk.warn(format!("{error}; asking only this node"));
    let name = session.config.name.clone();
    let name = name.unwrap_or_else(|| MemberName::new("this node").expect("a name may hold a blank inside"));
    Ok((vec![Member { api_url: Some(api_url), ..Member::unknown(name) }], BTreeMap::new()))
}

/// A point in time, or an age.
fn since(text: &str, now: Timestamp) -> Result<Timestamp, CliError> {
    let wrong = || {
        CliError::Usage(format!(
            "Invalid value for '--since': {text} is neither a time (2026-12-31T02:00) nor an age (90s, 2h, 3d)"
        ))
    };
    if let Some(age) = age(text) {
        return now.checked_sub(age).map_err(|_| wrong());
    }
    let at = schedule::parse(text, &TimeZone::system()).map_err(|_| wrong())?;
    at.map_or(Ok(now), |at| at.parse().map_err(|_| wrong()))
}

fn age(text: &str) -> Option<SignedDuration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let number: i64 = text[..text.len() - 1].parse().ok()?;
    Some(SignedDuration::from_secs(number.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_an_age_or_a_time() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("90s", "2026-11-22T09:58:30Z"),
            ("2h", "2026-11-22T08:00:00Z"),
            ("3d", "2026-11-19T10:00:00Z"),
            ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
        ] {
            assert_eq!(since(text, now).unwrap().to_string(), expected, "{text}");
        }
        assert_eq!(since("yesterday", now).unwrap_err().exit_status(), 2);
    }
}
