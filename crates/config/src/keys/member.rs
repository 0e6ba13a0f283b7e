//! Keys about the member itself: its log, its REST API and the calls of others, its fencing and its tags.

use super::{
    Applies::{Reload, Restart},
    Form::{Any, Flag, Int, Secret, Section, Text, Texts, Words},
    Key, key, secret_file,
};

const LEVELS: &[&str] = &["DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL"];

pub(super) const LOG: &[Key] = &[
    key("type", Words(&["plain", "json"]), Reload, "plain", "Form of the log lines."),
    key("level", Words(LEVELS), Reload, "INFO", "The least severe level that is logged."),
    key(
        "traceback_level",
        Words(&["DEBUG", "ERROR"]),
        Reload,
        "ERROR",
        "From which level on chains of causes are shown.",
    ),
    key(
        "format",
        Any,
        Reload,
        "%(asctime)s %(levelname)s: %(message)s",
        "Template of a line; for json also a list of fields.",
    ),
    key(
        "dateformat",
        Text,
        Reload,
        "",
        "strftime pattern of the time; without it `YYYY-MM-DD HH:MM:SS,mmm`.",
    ),
    key("static_fields", Any, Reload, "", "Fields added to every JSON record."),
    key("max_queue_size", Int, Reload, "1000", "Records that may wait to be written."),
    key("dir", Text, Reload, "", "Directory of the log file; without it standard error is used."),
    key("file_size", Int, Reload, "25000000", "Bytes after which the file is rotated."),
    key("file_num", Int, Reload, "4", "Rotated files that are kept."),
    key("mode", Any, Reload, "", "File mode in octal, for example 0640."),
    key("loggers", Any, Reload, "", "Levels by logger."),
    key(
        "deduplicate_heartbeat_logs",
        Flag,
        Reload,
        "false",
        "Drop a heartbeat line that repeats the one before.",
    ),
];

const BASIC: &[Key] = &[
    key("username", Text, Reload, "", "Name for HTTP Basic."),
    key("password", Secret, Reload, "", "Password for HTTP Basic."),
    secret_file("password_file", Reload),
];

pub(super) const RESTAPI: &[Key] = &[
    key("listen", Text, Reload, "", "`host:port` to listen on; `*` or no host for every interface."),
    key("connect_address", Text, Reload, "listen", "`host:port` by which others reach this API."),
    key("authentication", Section(BASIC), Reload, "", "Asked for by unsafe methods."),
    key("certfile", Text, Reload, "", "Certificate (PEM); switches the API to HTTPS."),
    key("keyfile", Text, Reload, "", "Key of the certificate (PEM)."),
    key("keyfile_password", Secret, Reload, "", "Password of the key."),
    secret_file("keyfile_password_file", Reload),
    key("cafile", Text, Reload, "", "CA bundle for client certificates."),
    key("ciphers", Text, Reload, "", "Accepted for Patroni's sake; the TLS library chooses."),
    key(
        "verify_client",
        Words(&["none", "optional", "required"]),
        Reload,
        "none",
        "When a client certificate is needed.",
    ),
    key("allowlist", Texts, Reload, "", "Hosts, addresses and networks that may call unsafe methods."),
    key("allowlist_include_members", Flag, Reload, "false", "Also allow the members' addresses."),
    key("http_extra_headers", Any, Reload, "", "Headers added to each response."),
    key("https_extra_headers", Any, Reload, "", "Headers added as well with TLS."),
    key("request_queue_size", Int, Restart, "5", "Connections that may wait to be accepted, 0 to 4096."),
    key("thread_pool_size", Int, Restart, "5", "Accepted for Patroni's sake; has no effect."),
    key(
        "server_tokens",
        Words(&["Original", "ProductOnly", "Minimal"]),
        Reload,
        "Original",
        "What the header `Server` tells.",
    ),
];

pub(super) const CTL: &[Key] = &[
    key("authentication", Section(BASIC), Reload, "restapi.authentication", "Sent to REST APIs."),
    key("insecure", Flag, Reload, "false", "Skip the check of the server's certificate."),
    key("cacert", Text, Reload, "restapi.cafile", "CA bundle for servers."),
    key("certfile", Text, Reload, "", "Client certificate (PEM)."),
    key("keyfile", Text, Reload, "", "Key of the client certificate (PEM)."),
    key("keyfile_password", Secret, Reload, "", "Password of the key."),
    secret_file("keyfile_password_file", Reload),
];

pub(super) const WATCHDOG: &[Key] = &[
    key(
        "mode",
        Words(&["off", "automatic", "required"]),
        Reload,
        "automatic",
        "Use of the kernel watchdog; `required` refuses leadership without it.",
    ),
    key("device", Text, Reload, "/dev/watchdog", "The watchdog device."),
    key(
        "safety_margin",
        Int,
        Reload,
        "5",
        "Seconds before the end of the ttl at which the device fires; -1 = half of the ttl.",
    ),
    key(
        "driver",
        Words(&["default", "testing"]),
        Restart,
        "default",
        "`testing` rehearses: nothing is fenced.",
    ),
    key(
        "guardian",
        Words(&["auto", "on", "off"]),
        Restart,
        "auto",
        "The process that kills PostgreSQL when the lease ends.",
    ),
];

pub(super) const TAGS: &[Key] = &[
    key("nofailover", Flag, Reload, "false", "Never lead."),
    key(
        "failover_priority",
        Int,
        Reload,
        "1",
        "Of equally advanced members the higher one leads; 0 = never.",
    ),
    key("noloadbalance", Flag, Reload, "false", "Answer 503 to replica health checks."),
    key("clonefrom", Flag, Reload, "false", "Preferred source of base backups."),
    key("nosync", Flag, Reload, "false", "Never be a synchronous standby."),
    key("sync_priority", Int, Reload, "1", "Preference among synchronous standbys; 0 = never."),
    key("replicatefrom", Text, Reload, "", "Stream from this member instead of the leader."),
    key("nostream", Flag, Reload, "false", "Recover from the archive only."),
    key(
        "weight",
        Int,
        Reload,
        "1",
        "Its share of the readers beside other replicas; 0 = none, as long as there are others.",
    ),
    key("zone", Text, Reload, "", "Where it is, a data centre for example; see `router.prefer_zone`."),
];
