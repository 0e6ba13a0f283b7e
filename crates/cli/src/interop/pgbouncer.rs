//! `pgbouncer-config`: a pool behind what finds the leader.

/// A whole `pgbouncer.ini` in front of this address, which must lead to the leader (and its second port to replicas).
pub(crate) fn configuration(cluster: &str, host: &str, primary: u16, replicas: Option<u16>) -> String {
    let readers = replicas.map_or_else(String::new, |port| {
        format!("; The same databases on replicas, under names that end with _ro: list those that you need.\npostgres_ro = host={host} port={port} dbname=postgres\n")
    });
    format!(
        "; PgBouncer for the PostgreSQL cluster {cluster}. It does not look for the leader itself: {host}:{primary} must lead there\n\
         ; (a virtual address, the built-in router, or HAProxy).\n\
         [databases]\n{readers}* = host={host} port={primary}\n\n\
         [pgbouncer]\nlisten_addr = *\nlisten_port = 6432\nunix_socket_dir =\nauth_type = scram-sha-256\n\
         ; Lines of the form \"user\" \"SCRAM-SHA-256$...\", as they stand in pg_authid.\n\
         auth_file = /etc/pgbouncer/userlist.txt\n\
         pool_mode = transaction\nmax_client_conn = 1000\ndefault_pool_size = 20\n\
         ; After a failover: notice dead servers, try again at once, keep no session with the former leader.\n\
         server_connect_timeout = 3\nserver_login_retry = 1\nserver_check_delay = 5\nserver_lifetime = 300\n\
         tcp_keepalive = 1\ntcp_keepidle = 5\ntcp_keepintvl = 2\ntcp_keepcnt = 3\ntcp_user_timeout = 10000\n\
         ignore_startup_parameters = extra_float_digits,options\n"
    )
}
