//! `query`: SQL on a member that is chosen by name or role.

use std::{collections::BTreeMap, time::Duration};

use bellwether_config::sections::postgresql::Credentials;
use bellwether_types::cluster::{Cluster, Member};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, types::Type};

use super::dsn::Which;
use crate::{
    command::{QueryArgs, RoleChoice},
    error::CliError,
    manner::{Manner, Outcome},
    render::{
        json::one_line,
        output::{Empty, Format, Rows, text},
        table::Align,
    },
    schedule,
    session::Session,
};

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn query(session: &mut Session, args: &QueryArgs) -> Result<Outcome, CliError> {
    let which = Which::from_options(args.role, args.member.as_deref())?;
    let sql = match (&args.command, &args.file) {
        (Some(_), Some(_)) => {
            return Err(CliError::refused("--file and --command are mutually exclusive options"));
        }
        (None, None) => return Err(CliError::refused("You need to specify either --command or --file")),
        (Some(command), None) => command.clone(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|cause| CliError::io(format!("could not read {}", file.display()), cause))?,
    };
    let password = if args.password { Some(session.talk.ask_secret()?) } else { None };
    let target = session.target(args.cluster.as_deref()).await?;
    loop {
        let cluster = target.cluster().await?;
        let answer = ask(session, args, which, &cluster, &sql, password.as_deref()).await;
        let outcome = match answer {
            Ok(table) => {
                let shown = show(&table, args, session.manner);
                session.talk.terminal.out(&shown);
                Outcome::Done
            }
            Err(why) => {
                let shown = show_failure(&why, args);
                session.talk.terminal.out(&shown);
                Outcome::Failed
            }
        };
        let Some(interval) = args.watch.interval() else { return Ok(outcome) };
        tokio::time::sleep(interval).await;
    }
}

/// Rows with the names of their columns.
struct Answer {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

async fn ask(
    session: &Session,
    args: &QueryArgs,
    which: Which<'_>,
    cluster: &Cluster,
    sql: &str,
    password: Option<&str>,
) -> Result<Answer, String> {
    let nobody = || match which {
        Which::Member(name) => format!("No connection to member {name} is available"),
        Which::Role(_) if args.role.is_none() => "No connection is available".to_owned(),
        Which::Role(role) => format!("No connection to role '{}' is available", role.word()),
    };
    let member = which.find(cluster).ok_or_else(nobody)?;
    let settings = connection(session, args, member, password).ok_or_else(nobody)?;
    let connecting = tokio::time::timeout(CONNECT_PATIENCE, settings.connect(NoTls));
    let (client, connection) = match connecting.await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => {
            tracing::debug!(member = %member.name, %error, "could not connect");
            return Err(nobody());
        }
        Err(_) => return Err(nobody()),
    };
    // Ends with the client, at the end of this function.
    let work = tokio::spawn(connection);
    let answer = match has_expected_role(&client, which).await {
        true => run(&client, sql).await.map_err(|error| failure(&error)),
        false => Err(nobody()),
    };
    drop(client);
    if let Ok(Err(error)) = work.await {
        tracing::debug!(%error, "the connection did not end well");
    }
    answer
}

fn connection(
    session: &Session,
    args: &QueryArgs,
    member: &Member,
    password: Option<&str>,
) -> Option<tokio_postgres::Config> {
    let mut settings: tokio_postgres::Config = member.conn_url.as_deref()?.parse().ok()?;
    let superuser = session.config.postgresql.as_ref().map(|section| &section.authentication.superuser);
    let login = login(args, &session.env, superuser);
    settings.user(&login.user).connect_timeout(CONNECT_PATIENCE).application_name("Patroni ctl");
    if let Some(password) = password.map(str::to_owned).or(login.password) {
        settings.password(password);
    }
    if let Some(database) = args.dbname.as_ref().or_else(|| session.env.get("PGDATABASE")) {
        settings.dbname(database);
    }
    Some(settings)
}

struct Login {
    user: String,
    password: Option<String>,
}

/// The options, then libpq's variables, then the superuser of the configuration where it is a member's.
fn login(args: &QueryArgs, env: &BTreeMap<String, String>, superuser: Option<&Credentials>) -> Login {
    let configured = superuser.and_then(|superuser| superuser.username.clone());
    let user = args
        .username
        .clone()
        .or_else(|| env.get("PGUSER").cloned())
        .or_else(|| configured.clone())
        .or_else(|| env.get("USER").cloned())
        .unwrap_or_else(|| "postgres".to_owned());
    let own = superuser
        .filter(|_| configured.as_ref() == Some(&user))
        .and_then(|superuser| superuser.password.as_ref());
    let password = env.get("PGPASSWORD").cloned().or_else(|| own.map(exposed));
    Login { user, password }
}

fn exposed(password: &secrecy::SecretString) -> String {
    use secrecy::ExposeSecret;
    password.expose_secret().to_owned()
}

/// The store may be behind: a primary that was asked for must not answer as a standby, and the other way round.
async fn has_expected_role(client: &Client, which: Which<'_>) -> bool {
    let wants_recovery = match which {
        Which::Role(RoleChoice::Primary) => false,
        Which::Role(RoleChoice::Replica | RoleChoice::Standby | RoleChoice::StandbyLeader) => true,
        Which::Role(RoleChoice::Leader | RoleChoice::Any) | Which::Member(_) => return true,
    };
    let answer = client.query_one("SELECT pg_catalog.pg_is_in_recovery()", &[]).await;
    answer.is_ok_and(|row| row.get::<_, bool>(0) == wants_recovery)
}

async fn run(client: &Client, sql: &str) -> Result<Answer, tokio_postgres::Error> {
    // Only one statement can be prepared; of several, the columns stay texts.
    let types: Vec<Type> = match client.prepare(sql).await {
        Ok(statement) => statement.columns().iter().map(|column| column.type_().clone()).collect(),
        Err(_) => Vec::new(),
    };
    let mut answer = Answer { columns: Vec::new(), rows: Vec::new() };
    for message in client.simple_query(sql).await? {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                answer.columns = columns.iter().map(|column| column.name().to_owned()).collect();
                answer.rows.clear();
            }
            SimpleQueryMessage::Row(row) => {
                let cell = |at: usize| value(row.get(at), types.get(at));
                answer.rows.push((0..row.len()).map(cell).collect());
            }
            _ => {}
        }
    }
    Ok(answer)
}

fn value(text: Option<&str>, kind: Option<&Type>) -> Value {
    let Some(text) = text else { return Value::Null };
    let number = || serde_json::from_str(text).ok().filter(Value::is_number);
    let typed = match kind {
        Some(&Type::BOOL) => Some(json!(text == "t")),
        Some(&(Type::INT2 | Type::INT4 | Type::INT8 | Type::OID | Type::FLOAT4 | Type::FLOAT8)) => number(),
        _ => None,
    };
    typed.unwrap_or_else(|| json!(text))
}

fn failure(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("ERROR, SQLSTATE: {}", db.code().code()),
        None => format!("ERROR, SQLSTATE: {error}"),
    }
}

fn show(answer: &Answer, args: &QueryArgs, manner: Manner) -> String {
    if answer.columns.is_empty() {
        return String::new();
    }
    let cell = |value: &Value| match (value, manner) {
        (Value::Bool(true), Manner::Patronictl) => "True".to_owned(),
        (Value::Bool(false), Manner::Patronictl) => "False".to_owned(),
        (Value::Bool(on), Manner::Bellwether) => if *on { "t" } else { "f" }.to_owned(),
        (value, _) => text(value),
    };
    match args.format {
        Format::Tsv => {
            let mut lines = vec![answer.columns.join(&args.delimiter)];
            lines.extend(
                answer.rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(&args.delimiter)),
            );
            lines.join("\n") + "\n"
        }
        Format::Pretty => {
            let rows =
                answer.rows.iter().map(|row| row.iter().map(|value| json!(cell(value))).collect()).collect();
            rows_of(&answer.columns, rows).render(Format::Pretty, None, Empty::Keep)
        }
        format => rows_of(&answer.columns, answer.rows.clone()).render(format, None, Empty::Keep),
    }
}

fn rows_of(columns: &[String], rows: Vec<Vec<Value>>) -> Rows {
    Rows { columns: columns.iter().map(|name| (name.clone().into(), Align::Left)).collect(), rows }
}

/// An error is a row of its own that begins with the time.
fn show_failure(why: &str, args: &QueryArgs) -> String {
    let row = [schedule::second_stamp(), why.to_owned()];
    match args.format {
        Format::Json => one_line(&json!([row])) + "\n",
        Format::Yaml | Format::Yml => crate::render::yaml::block(&json!([row])) + "\n",
        Format::Pretty | Format::Tsv => row.join(&args.delimiter) + "\n",
    }
}
