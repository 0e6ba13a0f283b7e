//! A replica by a user's command: from an archive of backups, a snapshot of a disk, or another member.

use bellwether_types::program::{ProgramOption, ReplicaCommand};
use tokio_util::sync::CancellationToken;

use super::{CloneError, wipe};
use crate::{
    conninfo::{Conninfo, TemporaryPassfile},
    program::{blocking, run},
    replication::Target,
    settings::PgSettings,
};

/// Runs the command, with an empty data directory unless it keeps data. After a failure it is empty again, unless the command keeps
/// data and knows of our parameters.
pub(super) async fn create(
    settings: &PgSettings,
    method: &ReplicaCommand,
    source: Option<&Target>,
    cancel: &CancellationToken,
) -> Result<(), CloneError> {
    if method.keep_data {
        super::refuse_running(settings).await?;
    } else {
        wipe(settings).await?;
    }
    let result = run_once(settings, method, source, cancel).await;
    if result.is_err() && (!method.keep_data || method.no_params) {
        wipe(settings).await?;
    }
    result
}

async fn run_once(
    settings: &PgSettings,
    method: &ReplicaCommand,
    source: Option<&Target>,
    cancel: &CancellationToken,
) -> Result<(), CloneError> {
    let mut command = settings.filling_hook(&method.command)?;
    command.args(arguments(settings, method, source));
    let passfile = match source {
        Some(source) => {
            let (pgpass, address, credentials) =
                (settings.pgpass.clone(), source.address.clone(), source.credentials.clone());
            let made = blocking(move || TemporaryPassfile::create(&pgpass, &address, &credentials)).await;
            Some(made.map_err(CloneError::Passfile)?)
        }
        None => None,
    };
    if let Some(passfile) = &passfile {
        command.env("PGPASSFILE", passfile.path());
    }
    let finished = run(command, None, cancel).await?;
    if finished.status.success() {
        return Ok(());
    }
    Err(CloneError::Method {
        method: method.name.clone(),
        command: method.command.clone(),
        code: finished.status.code(),
        last_line: finished.last_line(),
    })
}

fn arguments(settings: &PgSettings, method: &ReplicaCommand, source: Option<&Target>) -> Vec<String> {
    let mut arguments: Vec<String> = method.options.iter().map(ProgramOption::to_string).collect();
    if !method.no_params {
        let connstring = source.map(|source| {
            Conninfo::new(&source.address, &source.credentials, u32::MAX)
                .with("dbname", &settings.database)
                .to_string()
        });
        arguments.push(format!("--scope={}", settings.cluster));
        arguments.push("--role=replica".to_owned());
        arguments.push(format!("--datadir={}", settings.data_dir.display()));
        arguments.push(format!("--connstring={}", connstring.unwrap_or_default()));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::tests::settings, settings::HostPort};

    fn method(no_params: bool) -> ReplicaCommand {
        ReplicaCommand {
            name: "backup".to_owned(),
            command: "/bin/true".to_owned(),
            no_leader: true,
            no_params,
            keep_data: false,
            options: vec![ProgramOption::with_value("threads", "4")],
        }
    }

    #[test]
    fn the_command_hears_its_own_keys_and_then_where_from_and_where_to() {
        let source = Target {
            address: HostPort { host: "10.0.0.2".to_owned(), port: 5433 },
            credentials: settings().replication,
        };
        let ours = ["--scope=demo", "--role=replica", "--datadir=/srv/data"];
        let told = arguments(&settings(), &method(false), Some(&source));
        assert_eq!(told[0], "--threads=4");
        assert_eq!(told[1..4], ours);
        assert_eq!(told[4], "--connstring=user=replicator host=10.0.0.2 port=5433 dbname=postgres");
        assert_eq!(arguments(&settings(), &method(false), None)[4], "--connstring=");
        assert_eq!(arguments(&settings(), &method(true), Some(&source)), ["--threads=4"]);
    }
}
