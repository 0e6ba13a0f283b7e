//! The first data directory by a user's command: usually a backup of another cluster.
//!
//! Nobody knows the passwords that come with a backup. So the first start trusts the managed users from this machine, by a file of
//! its own that is named only for that start: whatever happens, the real `pg_hba.conf` never says so. When the server has left
//! recovery and the roles have their passwords, it is started again with everything as configured.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::{
    bootstrap::BootstrapError,
    config::{ConfigPlan, Recovery},
    config_files,
    conninfo::remove_if_there,
    program::{blocking, run},
    settings::{CustomBootstrap, FirstRecovery, PgSettings},
};

/// The access file of the first start, in the data directory.
const ACCESS_FILE: &str = "pg_hba.bootstrap.conf";

/// Runs the command, and completes what it has made: configuration files come back, triggers go. On failure or cancellation what was
/// made is left for the caller to set aside.
pub(crate) async fn run_command(
    settings: &PgSettings,
    custom: &CustomBootstrap,
    cancel: &CancellationToken,
) -> Result<(), BootstrapError> {
    let mut command = settings.filling_hook(&custom.command)?;
    command.args(arguments(settings, custom));
    tracing::info!(method = custom.name, "Running custom bootstrap script: {}", custom.command);
    let finished = run(command, None, cancel).await?;
    if !finished.status.success() {
        let (status, last_line) = (finished.status.to_string(), finished.last_line());
        return Err(BootstrapError::Exited {
            program: "the command of `bootstrap.method`",
            status,
            last_line,
        });
    }
    let settings = settings.clone();
    blocking(move || {
        config_files::restore(&settings)?;
        config_files::adopt_from_initdb(&settings)?;
        config_files::remove_triggers(&settings)?;
        config_files::write_private(&settings, &access_file(&settings), &access_lines(&settings))
    })
    .await?;
    Ok(())
}

fn arguments(settings: &PgSettings, custom: &CustomBootstrap) -> Vec<String> {
    let mut arguments = Vec::new();
    if !custom.no_params {
        arguments.push(format!("--scope={}", settings.cluster));
        arguments.push(format!("--datadir={}", settings.data_dir.display()));
    }
    arguments.extend(custom.options.iter().map(ToString::to_string));
    arguments
}

/// What the files are to say for the first start; the plan itself if initdb makes the data directory.
pub fn first_plan(settings: &PgSettings, mut plan: ConfigPlan) -> ConfigPlan {
    let Some(custom) = &settings.bootstrap.custom else { return plan };
    plan.recovery = match &custom.recovery {
        FirstRecovery::None => Recovery::None,
        FirstRecovery::AsFound => Recovery::AsFound,
        FirstRecovery::Targeted(settings) => Recovery::Targeted { settings: settings.clone() },
    };
    plan.overrides.insert("hba_file".to_owned(), access_file(settings).to_string_lossy().into_owned());
    plan
}

/// After the last start that used it: the file with which this machine was trusted goes.
///
/// # Errors
/// If it cannot be removed. It is without effect all the same.
pub async fn forget_access(settings: &PgSettings) -> std::io::Result<()> {
    let path = access_file(settings);
    blocking(move || remove_if_there(&path)).await
}

fn access_file(settings: &PgSettings) -> PathBuf {
    settings.data_dir.join(ACCESS_FILE)
}

/// The managed users may come from this machine, nobody else from anywhere: there is no cluster yet.
fn access_lines(settings: &PgSettings) -> String {
    let name = |name: &str| if name.is_empty() { "all".to_owned() } else { quoted(name) };
    let mut users = vec![name(&settings.superuser.username), name(&settings.replication.username)];
    users.extend(settings.rewind.as_ref().map(|rewind| name(&rewind.username)));
    let mut text = String::new();
    for user in users {
        text.push_str(&format!("local all {user} trust\nhost all {user} samehost trust\n"));
    }
    text
}

/// A name in an access file, in quotes: so it is no keyword and no list.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellwether_types::program::ProgramOption;

    use crate::config::tests::settings;

    fn custom(no_params: bool) -> CustomBootstrap {
        CustomBootstrap {
            name: "pitr".to_owned(),
            command: "/bin/true".to_owned(),
            no_params,
            recovery: FirstRecovery::None,
            options: vec![
                ProgramOption::with_value("sourcedir", "/backup"),
                ProgramOption::with_value("x", "True"),
            ],
        }
    }

    #[test]
    fn the_command_hears_where_and_for_whom_and_then_its_own_keys() {
        let own = ["--sourcedir=/backup", "--x=True"];
        assert_eq!(arguments(&settings(), &custom(true)), own);
        let all = arguments(&settings(), &custom(false));
        assert_eq!(all[..2], ["--scope=demo", "--datadir=/srv/data"]);
        assert_eq!(all[2..], own);
    }

    #[test]
    fn only_managed_users_of_this_machine_are_trusted() {
        let mut settings = settings();
        settings.superuser.username = "post\"gres".to_owned();
        assert_eq!(
            access_lines(&settings),
            "local all \"post\"\"gres\" trust\nhost all \"post\"\"gres\" samehost trust\n\
             local all \"replicator\" trust\nhost all \"replicator\" samehost trust\n"
        );
    }

    #[test]
    fn a_first_start_recovers_as_the_method_says() {
        let mut settings = settings();
        assert!(first_plan(&settings, ConfigPlan::primary()).overrides.is_empty(), "initdb needs nothing");
        settings.bootstrap.custom =
            Some(CustomBootstrap { recovery: FirstRecovery::AsFound, ..custom(false) });
        let plan = first_plan(&settings, ConfigPlan::primary());
        assert!(matches!(plan.recovery, Recovery::AsFound));
        assert_eq!(plan.overrides["hba_file"], "/srv/data/pg_hba.bootstrap.conf");
    }
}
