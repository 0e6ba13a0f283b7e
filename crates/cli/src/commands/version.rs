//! `version`: of this program, and of members.

use bellwether_api_client::Method;
use bellwether_dcs::codec::{self, COMPATIBLE_VERSION};
use bellwether_types::cluster::Member;
use serde_json::Value;

use crate::{
    command::VersionArgs,
    error::CliError,
    groups::Groups,
    manner::{Manner, Outcome},
    session::{CALL_PATIENCE, Session},
    terminal::Dialogue,
};

/// The program's own.
pub(crate) fn own(talk: &mut Dialogue, manner: Manner) {
    match manner {
        Manner::Patronictl => talk.line(format!("patronictl version {COMPATIBLE_VERSION}")),
        Manner::Bellwether => talk.line(format!(
            "bellwether {} (compatible with Patroni {COMPATIBLE_VERSION})",
            env!("CARGO_PKG_VERSION")
        )),
    }
}

pub(crate) async fn version(session: &mut Session, args: &VersionArgs) -> Result<Outcome, CliError> {
    let (cluster_name, names) = session.split_names(&args.names)?;
    let target = session.target(cluster_name).await?;
    let snapshot = target.snapshot().await?;
    let groups = Groups::decode(target.part, &snapshot);
    own(&mut session.talk, session.manner);
    if session.manner == Manner::Bellwether
        && let Some(level) = codec::feature_level(&snapshot)
    {
        session.talk.line(format!("feature level that all members understand: {level}"));
    }
    session.talk.line("");
    let mut outcome = Outcome::Done;
    for (_, member) in groups.members() {
        let is_meant = names.is_empty() || names.iter().any(|name| name == member.name.as_str());
        if !is_meant || member.api_url.is_none() {
            continue;
        }
        let text = match ask(session, member).await {
            Ok(versions) => format!("{}: {versions}", member.name),
            Err(why) => {
                outcome = Outcome::Failed;
                format!("{}: failed to get version: {why}", member.name)
            }
        };
        session.talk.line(text);
    }
    Ok(outcome)
}

async fn ask(session: &Session, member: &Member) -> Result<String, String> {
    let answer = session.call(member, Method::GET, "patroni", None, CALL_PATIENCE).await;
    let document = answer.map_err(|error| error.to_string())?.json().ok_or("the answer is no JSON")?;
    let claimed = document.pointer("/patroni/version").and_then(Value::as_str).unwrap_or("None");
    let mut text = format!("Patroni {claimed}");
    if let Some(number) = document.get("server_version").and_then(Value::as_u64) {
        text.push_str(&format!(" PostgreSQL {}", server_version(number)));
    }
    if let Some(ours) = &member.bellwether
        && session.manner == Manner::Bellwether
    {
        text.push_str(&format!(" Bellwether {}", ours.version));
    }
    Ok(text)
}

/// 150018 is 15.18, 90624 is 9.6.24.
fn server_version(number: u64) -> String {
    match number {
        100_000.. => format!("{}.{}", number / 10_000, number % 10_000),
        _ => format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_versions_are_written_as_people_write_them() {
        assert_eq!(server_version(150_018), "15.18");
        assert_eq!(server_version(90_624), "9.6.24");
    }
}
