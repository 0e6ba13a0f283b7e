//! From the configuration to what the PostgreSQL crate must know.

use std::{collections::BTreeMap, path::Path};

use bellwether_config::{Config, Effective, sections};
use bellwether_postgres::{
    parameters,
    settings::{
        BootstrapSettings, CitusSettings, Credentials, CustomBootstrap, FirstRecovery, HostPort, PgSettings,
    },
};
use bellwether_types::settings::{Settings, SyncMode};

/// The settings of the local server under this configuration, and what was dropped on the way, for people.
pub(crate) fn pg_settings(
    config: &Config,
    effective: &Effective,
    runtime_dir: &Path,
) -> (PgSettings, Vec<String>) {
    let local = &config.postgresql;
    let listen = HostPort { host: local.listen.hosts.join(","), port: local.listen.port };
    let mut settings =
        PgSettings::new(config.name.clone(), config.scope.clone(), local.data_dir.clone(), listen);
    let split = parameters::split(&effective.parameters, &BTreeMap::new());

    settings.config_dir.clone_from(&local.config_dir);
    settings.config_base_name.clone_from(&local.config_base_name);
    settings.bin_dir.clone_from(&local.bin_dir);
    settings.bin_names.clone_from(&local.bin_name);
    settings.connect_address = local.connect_address.clone();
    settings.database.clone_from(&local.database);
    settings.superuser = credentials(&local.authentication.superuser);
    settings.replication = credentials(&local.authentication.replication);
    settings.rewind = local.authentication.rewind.as_ref().map(credentials);
    settings.pgpass.clone_from(&local.pgpass);
    settings.krbsrvname.clone_from(&local.krbsrvname);
    settings.use_unix_socket = local.use_unix_socket;
    settings.use_unix_socket_repl = local.use_unix_socket_repl;
    settings.parameters = split.parameters;
    settings.controlled = split.controlled;
    settings.role_parameters = effective.parameters_by_role.clone();
    settings.pg_hba.clone_from(&effective.pg_hba);
    settings.pg_ident.clone_from(&effective.pg_ident);
    settings.role_pg_hba = effective.pg_hba_by_role.clone();
    settings.role_pg_ident = effective.pg_ident_by_role.clone();
    settings.recovery_conf.clone_from(&effective.recovery_conf);
    settings.custom_conf.clone_from(&effective.custom_conf);
    settings.bootstrap = BootstrapSettings {
        custom: custom_bootstrap(&config.bootstrap.method),
        initdb: config.bootstrap.initdb.clone(),
        pg_hba: config.bootstrap.pg_hba.clone(),
        post_bootstrap: config.bootstrap.post_bootstrap.clone(),
    };
    settings.citus = config.citus.as_ref().map(|citus| CitusSettings {
        database: citus.database.clone(),
        is_coordinator: citus.is_coordinator(),
    });
    settings.replica_methods = effective.create_replica_methods.clone();
    settings.basebackup = effective.basebackup.clone();
    settings.rewind_options = effective.rewind.clone();
    settings.callbacks = effective.callbacks.clone();
    settings.pre_promote.clone_from(&effective.pre_promote);
    settings.before_stop.clone_from(&effective.before_stop);
    settings.pg_ctl_timeout = effective.pg_ctl_timeout;
    settings.failover_defaults.extend(proof_of_life(&effective.settings));
    settings.log_file = Some(runtime_dir.join("postgresql.log"));
    (settings, split.warnings)
}

/// After half of this time of silence a WAL receiver asks its upstream for a sign of life, and after all of it it gives the connection up.
/// (Up to 15 it looks ten times a second.) So an idle primary is heard before half of `detect_timeout` has passed, when one that is
/// silent begins to be asked after.
fn proof_of_life(settings: &Settings) -> Option<(String, String)> {
    let is_wanted = settings.quorum_takeover && settings.sync_mode() == SyncMode::Quorum;
    let timeout = || format!("{}ms", (settings.detect_timeout * 4 / 5).as_millis());
    is_wanted.then(|| ("wal_receiver_timeout".to_owned(), timeout()))
}

fn credentials(written: &sections::postgresql::Credentials) -> Credentials {
    Credentials {
        username: written.username.clone().unwrap_or_default(),
        password: written.password.clone(),
        options: written.connection.clone(),
    }
}

fn custom_bootstrap(written: &sections::bootstrap::BootstrapMethod) -> Option<CustomBootstrap> {
    let sections::bootstrap::BootstrapMethod::Custom(written) = written else { return None };
    let recovery = match &written.recovery_conf {
        Some(settings) => FirstRecovery::Targeted(settings.clone()),
        None if written.keep_existing_recovery_conf => FirstRecovery::AsFound,
        None => FirstRecovery::None,
    };
    Some(CustomBootstrap {
        name: written.name.clone(),
        command: written.command.clone(),
        no_params: written.no_params,
        recovery,
        options: written.options.clone(),
    })
}
