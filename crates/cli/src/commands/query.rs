//! `query`: SQL on a member that is chosen by name or role.

mod passfile;
mod values;

use std::{collections::BTreeMap, path::Path, time::Duration};

use bellwether_config::sections::postgresql::Credentials;
use bellwether_postgres::{ConnectError, Visit};
use bellwether_types::cluster::Member;
use serde_json::{Value, json};
use tokio_postgres::{Client, SimpleQueryMessage, types::Type};

use super::dsn::Which;
use crate::{
    command::{QueryArgs, RoleChoice},
    error::CliError,
    groups::Groups,
    manner::{Manner, Outcome},
    render::{
        json::one_line,
        members::host_and_port,
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
        (None, Some(file)) => std::fs::read_to_string(file).map_err(|cause| unreadable(file, &cause))?,
    };
    let password = if args.password { Some(session.talk.ask_secret()?) } else { None };
    let target = session.target(args.cluster.as_deref()).await?;
    loop {
        let groups = target.groups().await?;
        let answer = ask(session, args, which, &groups, &sql, password.as_deref()).await;
        let outcome = match answer {
            Ok(table) if table.columns.is_empty() && session.manner == Manner::Patronictl => {
                let shown = show_failure("ERROR, SQLSTATE: no results to fetch", args, session.manner);
                session.talk.terminal.out(&shown);
                Outcome::Done
            }
            Ok(table) => {
                let shown = show(&table, args, session.manner);
                session.talk.terminal.out(&shown);
                Outcome::Done
            }
            Err(why) => {
                let shown = show_failure(&why, args, session.manner);
                session.talk.terminal.out(&shown);
                Outcome::Failed
            }
        };
        let Some(interval) = args.watch.interval() else { return Ok(outcome) };
        tokio::time::sleep(interval).await;
    }
}

fn unreadable(file: &Path, cause: &std::io::Error) -> CliError {
    let why = match cause.kind() {
        std::io::ErrorKind::NotFound => "No such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "Permission denied".to_owned(),
        _ => cause.to_string(),
    };
    CliError::Usage(format!("Invalid value for '--file' / '-f': '{}': {why}", file.display()))
}

/// The formats are checked nowhere: an unknown one shows nothing.
fn format(args: &QueryArgs) -> Option<Format> {
    <Format as clap::ValueEnum>::from_str(&args.format, false).ok()
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
    groups: &Groups,
    sql: &str,
    password: Option<&str>,
) -> Result<Answer, String> {
    let nobody = || match which {
        Which::Member(name) => format!("No connection to member {name} is available"),
        Which::Role(_) if args.role.is_none() => "No connection is available".to_owned(),
        Which::Role(role) => format!("No connection to role '{}' is available", role.word()),
    };
    let member = which.find(groups).ok_or_else(nobody)?;
    let settings = connection(session, args, member, password).ok_or_else(nobody)?;
    let tls = tls_options(&session.env);
    let connecting = tokio::time::timeout(CONNECT_PATIENCE, Visit::begin(settings, tls));
    let visit = match connecting.await {
        Ok(Ok(visit)) => visit,
        Ok(Err(ConnectError::Server(error))) => return Err(not_connected(member, &error)),
        Ok(Err(error)) => {
            let why =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            return Err(format!("ERROR, SQLSTATE: {why}"));
        }
        Err(_) => return Err(nobody()),
    };
    match has_expected_role(visit.client(), which).await {
        true => run(visit.client(), sql).await.map_err(|error| failure(&error)),
        false => Err(nobody()),
    }
}

fn connection(
    session: &Session,
    args: &QueryArgs,
    member: &Member,
    password: Option<&str>,
) -> Option<tokio_postgres::Config> {
    let mut settings: tokio_postgres::Config = member.conn_url.as_deref()?.parse().ok()?;
    let superuser = session.config.postgresql.as_ref().map(|section| &section.authentication.superuser);
    let login = login(args, session.manner, &session.env, superuser);
    settings.user(&login.user).connect_timeout(CONNECT_PATIENCE).application_name("Patroni ctl");
    if let Some(password) = password.map(str::to_owned).or(login.password) {
        settings.password(password);
    }
    if let Some(database) = args.dbname.as_ref().or_else(|| session.env.get("PGDATABASE")) {
        settings.dbname(database);
    }
    if settings.get_password().is_none() {
        let (host, port) = host_and_port(member)?;
        let database = settings.get_dbname().unwrap_or("postgres");
        let wanted = passfile::Wanted { host: &host, port, database, user: &login.user };
        if let Some(password) = passfile::password(&session.env, wanted) {
            settings.password(password);
        }
    }
    Some(settings)
}

/// What libpq takes from the environment about TLS.
fn tls_options(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let variables = [
        ("PGSSLMODE", "sslmode"),
        ("PGSSLROOTCERT", "sslrootcert"),
        ("PGSSLCERT", "sslcert"),
        ("PGSSLKEY", "sslkey"),
    ];
    let given = |(variable, option): (&str, &str)| Some((option.to_owned(), env.get(variable)?.clone()));
    variables.into_iter().filter_map(given).collect()
}

struct Login {
    user: String,
    password: Option<String>,
}

/// The options, then libpq's variables, then in our own manner the superuser of the configuration where it is a member's.
fn login(
    args: &QueryArgs,
    manner: Manner,
    env: &BTreeMap<String, String>,
    superuser: Option<&Credentials>,
) -> Login {
    let configured = superuser.and_then(|superuser| superuser.username.clone());
    let user = args
        .username
        .clone()
        .or_else(|| env.get("PGUSER").cloned())
        .or_else(|| configured.clone().filter(|_| manner == Manner::Bellwether))
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
    let mut has_rows = false;
    for message in client.simple_query(sql).await? {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                answer.columns = columns.iter().map(|column| column.name().to_owned()).collect();
                answer.rows.clear();
                has_rows = true;
            }
            // The last statement counts, and may have nothing to show.
            SimpleQueryMessage::CommandComplete(_) if !std::mem::take(&mut has_rows) => {
                answer = Answer { columns: Vec::new(), rows: Vec::new() };
            }
            SimpleQueryMessage::Row(row) => {
                let cell = |at: usize| values::read(row.get(at), types.get(at));
                answer.rows.push((0..row.len()).map(cell).collect());
            }
            _ => {}
        }
    }
    Ok(answer)
}

/// As libpq says it, on one line.
fn not_connected(member: &Member, error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error);
    let io = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let why = match (error.as_db_error(), io.map(std::io::Error::kind), cause) {
        (Some(db), _, _) => format!("{}:  {} ", db.severity(), db.message()),
        (None, Some(std::io::ErrorKind::ConnectionRefused), _) => {
            "Connection refused \tIs the server running on that host and accepting TCP/IP connections? "
                .to_owned()
        }
        (None, _, Some(cause)) => format!("{cause} "),
        (None, _, None) => format!("{error} "),
    };
    let (host, port) = host_and_port(member).unwrap_or_default();
    format!("ERROR, SQLSTATE: connection to server at \"{host}\", port {port} failed: {why}")
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
        (value, Manner::Patronictl) => values::shown(value),
        (Value::Bool(on), Manner::Bellwether) => if *on { "t" } else { "f" }.to_owned(),
        (value, _) => text(value),
    };
    match format(args) {
        None => String::new(),
        Some(Format::Tsv) => {
            let mut lines = vec![answer.columns.join(&args.delimiter)];
            lines.extend(
                answer.rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(&args.delimiter)),
            );
            lines.join("\n") + "\n"
        }
        Some(Format::Pretty) => {
            let rows =
                answer.rows.iter().map(|row| row.iter().map(|value| json!(cell(value))).collect()).collect();
            rows_of(&answer.columns, rows).render(Format::Pretty, None, Empty::Keep)
        }
        Some(format) => rows_of(&answer.columns, answer.rows.clone()).render(format, None, Empty::Keep),
    }
}

fn rows_of(columns: &[String], rows: Vec<Vec<Value>>) -> Rows {
    Rows { columns: columns.iter().map(|name| (name.clone().into(), Align::Left)).collect(), rows }
}

/// An error is a row of its own that begins with the time.
fn show_failure(why: &str, args: &QueryArgs, manner: Manner) -> String {
    let row = [schedule::second_stamp(), why.to_owned()];
    let columns = ["Field 1".to_owned(), "Field 2".to_owned()];
    match (format(args), manner) {
        (None, _) => String::new(),
        (Some(Format::Tsv), _) => row.join(&args.delimiter) + "\n",
        (Some(Format::Pretty), _) => {
            rows_of(&columns, vec![row.map(Value::from).to_vec()]).render(Format::Pretty, None, Empty::Keep)
        }
        // A row without columns has no values there.
        (Some(format), Manner::Patronictl) => {
            rows_of(&[], vec![Vec::new()]).render(format, None, Empty::Keep)
        }
        (Some(Format::Json), _) => one_line(&json!([row])) + "\n",
        (Some(Format::Yaml | Format::Yml), _) => crate::render::yaml::block(&json!([row])) + "\n",
    }
}
