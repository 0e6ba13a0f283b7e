//! `haproxy-config`, `keepalived-config`, `pgbouncer-config`, `entrypoints`: for and about the programs that lead clients here.

use bellwether_api_client::Method;
use serde_json::{Value, json};

use crate::{
    command::{EntrypointsArgs, HaproxyConfigArgs, KeepalivedConfigArgs, PgbouncerConfigArgs},
    error::CliError,
    interop::{haproxy, keepalived, pgbouncer, places},
    manner::Outcome,
    render::{
        output::{Empty, Rows},
        table::Align,
    },
    session::{PROBE_PATIENCE, Session},
};

pub(crate) async fn haproxy(session: &mut Session, args: &HaproxyConfigArgs) -> Result<Outcome, CliError> {
    let target = session.target(args.cluster.as_deref()).await?;
    let places = places(&target.cluster().await?);
    if places.is_empty() {
        return Err(CliError::refused("no member has said where it is"));
    }
    session.talk.terminal.out(&haproxy::configuration(target.name.as_str(), &places));
    Ok(Outcome::Done)
}

pub(crate) fn keepalived(session: &mut Session, args: &KeepalivedConfigArgs) -> Result<Outcome, CliError> {
    let cluster = session.config.scope.clone();
    let cluster = cluster.as_ref().map_or("postgresql", |name| name.as_str());
    let restapi = session.config.restapi.as_ref();
    let api_url = restapi.map_or_else(|| "http://127.0.0.1:8008".to_owned(), |restapi| restapi.api_url());
    let vrrp = keepalived::Vrrp {
        cluster,
        address: &args.address,
        interface: &args.interface,
        id: args.id,
        api_url: &api_url,
    };
    let text = keepalived::configuration(&vrrp);
    session.talk.terminal.out(&text);
    Ok(Outcome::Done)
}

pub(crate) fn pgbouncer(session: &mut Session, args: &PgbouncerConfigArgs) -> Result<Outcome, CliError> {
    let cluster = session.config.scope.clone();
    let cluster = cluster.as_ref().map_or("postgresql", |name| name.as_str());
    let text = pgbouncer::configuration(cluster, &args.host, args.port, args.replicas_port);
    session.talk.terminal.out(&text);
    Ok(Outcome::Done)
}

/// What every member says about the addresses and names that lead to it.
pub(crate) async fn entrypoints(session: &mut Session, args: &EntrypointsArgs) -> Result<Outcome, CliError> {
    let target = session.target(args.cluster.as_deref()).await?;
    let groups = target.groups().await?;
    let mut rows = Vec::new();
    let mut outcome = Outcome::Done;
    for (_, member) in groups.members().filter(|(_, member)| member.api_url.is_some()) {
        let answer = session.call(member, Method::GET, "entrypoints", None, PROBE_PATIENCE).await;
        let entries = answer.ok().filter(|answer| answer.is_success()).and_then(|answer| answer.json());
        let Some(Value::Array(entries)) = entries else {
            outcome = Outcome::Failed;
            rows.push(vec![
                json!(member.name),
                json!(""),
                json!(""),
                json!(""),
                json!(""),
                json!("does not answer"),
            ]);
            continue;
        };
        rows.extend(entries.iter().map(|entry| row(member.name.as_str(), entry)));
    }
    let columns = ["Member", "Type", "Name", "Here", "Addresses", "Why"];
    let columns = columns.map(|name| (name.into(), Align::Left)).to_vec();
    let title = format!(" Entry points of {} ", target.name);
    let text = Rows { columns, rows }.render(args.format, Some(&title), Empty::Omit);
    session.talk.terminal.out(&text);
    Ok(outcome)
}

fn row(member: &str, entry: &Value) -> Vec<Value> {
    let parts = entry["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = parts.iter().filter_map(|part| {
        let what = part["what"].as_str().filter(|what| *what != "answer")?;
        let place = part["place"].as_str().filter(|place| !place.is_empty());
        Some(place.map_or_else(|| what.to_owned(), |place| format!("{what} on {place}")))
    });
    let shown: Vec<String> = shown.collect();
    let why = match entry["last_error"].as_str() {
        Some(error) => format!("FAILS: {error}"),
        None => entry["because"].as_str().unwrap_or_default().to_owned(),
    };
    vec![
        json!(member),
        entry["type"].clone(),
        entry["name"].clone(),
        json!(if entry["held"] == true { "yes" } else { "no" }),
        json!(shown.join(", ")),
        json!(why),
    ]
}
