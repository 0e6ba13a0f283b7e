//! Keys of `postgresql`.

use super::{
    Applies::{Reload, Restart},
    Form,
    Form::{Any, Flag, Int, Secret, Section, Text, Texts},
    Key, dynamic, key, secret_file,
};

pub(super) const POSTGRESQL: &[Key] = &[
    key(
        "listen",
        Text,
        Reload,
        "",
        "`address[,address]:port` of PostgreSQL; a change needs a restart of PostgreSQL.",
    ),
    key("connect_address", Text, Reload, "listen", "`host:port` by which others reach PostgreSQL."),
    key("proxy_address", Text, Reload, "", "`host:port` of a pooler in front of PostgreSQL."),
    key("data_dir", Text, Restart, "", "The data directory."),
    key("config_dir", Text, Restart, "data_dir", "Where postgresql.conf and the like live."),
    key("config_base_name", Text, Restart, "postgresql", "Name of the configuration file without `.conf`."),
    key("bin_dir", Text, Restart, "", "Directory of PostgreSQL's programs; without it `PATH` is searched."),
    key("bin_name", Section(BIN_NAME), Reload, "", "Other names of PostgreSQL's programs."),
    key("database", Text, Restart, "postgres", "The maintenance database."),
    key("pgpass", Text, Restart, "~/pgpass", "The password file that the daemon writes."),
    key("krbsrvname", Text, Reload, "", "Kerberos service name."),
    key("use_unix_socket", Flag, Reload, "false", "Connect to the local server by its socket."),
    key("use_unix_socket_repl", Flag, Reload, "false", "The same for local replication connections."),
    key("authentication", Section(AUTHENTICATION), Reload, "", "The roles that the daemon connects as."),
    key("parameters", Any, Reload, "", "Server parameters of this member."),
    key("parameters_primary", Any, Reload, "", "Merged over `parameters` on a primary."),
    key("parameters_replica", Any, Reload, "", "Merged over `parameters` on a replica."),
    key("parameters_standby_leader", Any, Reload, "", "Merged over `parameters` on a standby leader."),
    key("pg_hba", Texts, Reload, "", "Lines of pg_hba.conf."),
    key("pg_hba_primary", Texts, Reload, "", "Instead of `pg_hba` on a primary."),
    key("pg_hba_replica", Texts, Reload, "", "Instead of `pg_hba` on a replica."),
    key("pg_hba_standby_leader", Texts, Reload, "", "Instead of `pg_hba` on a standby leader."),
    key("pg_ident", Texts, Reload, "", "Lines of pg_ident.conf."),
    key("pg_ident_primary", Texts, Reload, "", "Instead of `pg_ident` on a primary."),
    key("pg_ident_replica", Texts, Reload, "", "Instead of `pg_ident` on a replica."),
    key("pg_ident_standby_leader", Texts, Reload, "", "Instead of `pg_ident` on a standby leader."),
    key("recovery_conf", Any, Reload, "", "Extra recovery settings."),
    key("custom_conf", Text, Reload, "", "File included instead of the original postgresql.conf."),
    key("callbacks", Section(CALLBACKS), Reload, "", "Commands run at events."),
    key(
        "create_replica_methods",
        Texts,
        Reload,
        "basebackup",
        "Ways to create a replica; the first that succeeds wins.",
    ),
    key("create_replica_method", Texts, Reload, "", "Old name of `create_replica_methods`."),
    key("basebackup", Any, Reload, "", "Options of pg_basebackup."),
    key("pg_ctl_timeout", Int, Reload, "60", "Seconds that a start may take."),
    key("use_pg_rewind", Flag, Reload, "false", "Rewind a diverged former leader."),
    key("rewind", Any, Reload, "", "Options of pg_rewind."),
    key(
        "remove_data_directory_on_rewind_failure",
        Flag,
        Reload,
        "false",
        "Wipe and clone after a failed rewind.",
    ),
    key(
        "remove_data_directory_on_diverged_timelines",
        Flag,
        Reload,
        "false",
        "Wipe and clone instead of rewinding.",
    ),
    key("pre_promote", Text, Reload, "", "Fencing command; failure cancels the promotion."),
    key("before_stop", Text, Reload, "", "Command run before PostgreSQL is stopped."),
    dynamic("use_slots"),
];

const AUTHENTICATION: &[Key] = &[
    key("superuser", Section(CREDENTIALS), Reload, "", "The role that the daemon manages PostgreSQL with."),
    key("replication", Section(CREDENTIALS), Reload, "", "The role that replicas stream with."),
    key("rewind", Section(CREDENTIALS), Reload, "superuser", "The role that pg_rewind connects with."),
];

const CREDENTIALS: &[Key] = &[
    key("username", Text, Reload, "", "Name of the role."),
    key("password", Secret, Reload, "", "Its password."),
    secret_file("password_file", Reload),
    libpq("sslmode", Text),
    libpq("sslcert", Text),
    libpq("sslkey", Text),
    libpq("sslpassword", Secret),
    secret_file("sslpassword_file", Reload),
    libpq("sslrootcert", Text),
    libpq("sslcrl", Text),
    libpq("sslcrldir", Text),
    libpq("gssencmode", Text),
    libpq("channel_binding", Text),
    libpq("sslnegotiation", Text),
];

/// A connection parameter by libpq's own name.
const fn libpq(name: &'static str, form: Form) -> Key {
    key(name, form, Reload, "", "As in libpq.")
}

const BIN_NAME: &[Key] = &[
    program("pg_ctl"),
    program("initdb"),
    program("pg_controldata"),
    program("pg_basebackup"),
    program("postgres"),
    program("pg_isready"),
    program("pg_rewind"),
];

const fn program(name: &'static str) -> Key {
    key(name, Text, Reload, name, "Name of the program.")
}

const CALLBACKS: &[Key] = &[
    command("on_start"),
    command("on_stop"),
    command("on_restart"),
    command("on_reload"),
    command("on_role_change"),
];

const fn command(name: &'static str) -> Key {
    key(name, Text, Reload, "", "Command.")
}
