//! `members/{name}`: what a member says about itself.

use bellwether_types::{
    Alarm, Lsn, MemberName, PostgresState, ReplicationState, Revision, Role, Tags, TimelineId,
    cluster::{Member, PeerProtocol},
};
use serde_json::{Map, Value};

use super::json;

/// The release of Patroni that we stand in for: the newest one that the tests hold us against (`scripts/prerequisites` installs it).
///
/// Whoever asks for Patroni's version is told this one: the member key, where Patroni's members compare it as a list of integers and fall
/// back to old protocols below 4.0; `/patroni`, the header `Server` and the metric `patroni_version`, where dashboards show it; and
/// `patroni --version`. Our own version is in the field `bellwether`.
pub const COMPATIBLE_VERSION: &str = "4.1.5";

/// Every field that [`MemberDocument`] writes, in Patroni's order; ours comes last.
const FIELDS: [&str; 19] = [
    "conn_url",
    "api_url",
    "state",
    "role",
    "version",
    "proxy_url",
    "checkpoint_after_promote",
    "tags",
    "pending_restart",
    "pending_restart_reason",
    "xlog_location",
    "replay_lsn",
    "receive_lsn",
    "replication_state",
    "timeline",
    "scheduled_restart",
    "pause",
    "alarms",
    "bellwether",
];

/// The member value that this agent publishes.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberDocument {
    /// `postgres://host:port/database`, without credentials.
    pub conn_url: String,
    /// Ends in `/patroni`: peers send GET to it as it is.
    pub api_url: String,
    pub state: PostgresState,
    pub role: Role,
    pub proxy_url: Option<String>,
    /// Lock owner whose first checkpoint after the promotion is not done: written as `checkpoint_after_promote: false`.
    pub checkpoint_pending: bool,
    /// The effective tags; those that are off are left out on writing.
    pub tags: Tags,
    pub pending_restart: bool,
    /// `{guc: {"old_value": ..., "new_value": ...}}`; written only together with `pending_restart`.
    pub pending_restart_reason: Option<Value>,
    /// Primary: flush position. Standby: the larger of received and replayed.
    pub xlog_location: Option<Lsn>,
    /// Standby only; zero is not written.
    pub replay_lsn: Option<Lsn>,
    /// Standby only; zero is not written.
    pub receive_lsn: Option<Lsn>,
    pub replication_state: Option<ReplicationState>,
    /// Zero is not written.
    pub timeline: Option<TimelineId>,
    pub scheduled_restart: Option<Value>,
    /// This member has seen the pause.
    pub pause: bool,
    /// Ours: what is wrong there; left out when nothing is.
    pub alarms: Vec<Alarm>,
    pub bellwether: PeerProtocol,
}

impl MemberDocument {
    /// A document with the fields that are always there.
    pub fn new(
        conn_url: impl Into<String>,
        api_url: impl Into<String>,
        state: PostgresState,
        role: Role,
        bellwether: PeerProtocol,
    ) -> Self {
        Self {
            conn_url: conn_url.into(),
            api_url: api_url.into(),
            state,
            role,
            proxy_url: None,
            checkpoint_pending: false,
            tags: Tags::default(),
            pending_restart: false,
            pending_restart_reason: None,
            xlog_location: None,
            replay_lsn: None,
            receive_lsn: None,
            replication_state: None,
            timeline: None,
            scheduled_restart: None,
            pause: false,
            alarms: Vec::new(),
            bellwether,
        }
    }

    /// Compact JSON. Fields of `previous` (the stored value) that we do not know are kept.
    pub fn encode(&self, previous: Option<&[u8]>) -> String {
        json::compact(json::rewrite(self.fields(), &FIELDS, previous))
    }

    fn fields(&self) -> Map<String, Value> {
        let position = |lsn: Option<Lsn>| lsn.filter(|lsn| *lsn != Lsn::ZERO).map(|lsn| lsn.0.into());
        let tags = self.tags.published();
        let tags = || tags.0.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let alarms = || self.alarms.iter().map(|alarm| alarm.code().into()).collect();
        let values: [(&str, Option<Value>); 19] = [
            ("conn_url", Some(self.conn_url.clone().into())),
            ("api_url", Some(self.api_url.clone().into())),
            ("state", Some(self.state.as_str().into())),
            ("role", Some(self.role.as_str().into())),
            ("version", Some(COMPATIBLE_VERSION.into())),
            ("proxy_url", self.proxy_url.clone().map(Value::from)),
            ("checkpoint_after_promote", self.checkpoint_pending.then_some(Value::Bool(false))),
            ("tags", Some(Value::Object(tags())).filter(json::truthy)),
            ("pending_restart", self.pending_restart.then_some(Value::Bool(true))),
            (
                "pending_restart_reason",
                self.pending_restart_reason
                    .clone()
                    .filter(|reason| self.pending_restart && !reason.is_null()),
            ),
            ("xlog_location", self.xlog_location.map(|lsn| lsn.0.into())),
            ("replay_lsn", position(self.replay_lsn)),
            ("receive_lsn", position(self.receive_lsn)),
            ("replication_state", self.replication_state.map(|state| state.as_str().into())),
            ("timeline", self.timeline.filter(|timeline| timeline.0 != 0).map(|timeline| timeline.0.into())),
            ("scheduled_restart", self.scheduled_restart.clone().filter(json::truthy)),
            ("pause", self.pause.then_some(Value::Bool(true))),
            ("alarms", (!self.alarms.is_empty()).then(|| Value::Array(alarms()))),
            ("bellwether", Some(protocol_value(&self.bellwether))),
        ];
        values.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

fn protocol_value(protocol: &PeerProtocol) -> Value {
    serde_json::json!({ "version": protocol.version, "level": protocol.level })
}

/// Reads a member value; one that cannot be read gives a member of which only the name is known.
pub(super) fn decode(name: MemberName, revision: Revision, bytes: &[u8]) -> Member {
    let nothing_known = Member { revision, ..Member::unknown(name) };
    match json::parse_object(bytes).or_else(|| legacy(bytes)) {
        Some(fields) => from_fields(nothing_known, fields),
        None => nothing_known,
    }
}

fn from_fields(blank: Member, fields: Map<String, Value>) -> Member {
    let get = |key: &str| fields.get(key);
    let text = |key: &str| get(key).and_then(json::text);
    let lsn = |key: &str| get(key).and_then(json::lsn);
    let flag = |key: &str| get(key).is_some_and(json::truthy);
    let timeline = get("timeline").and_then(json::integer).and_then(|number| u32::try_from(number).ok());
    Member {
        conn_url: text("conn_url"),
        api_url: text("api_url"),
        proxy_url: text("proxy_url"),
        state: text("state").and_then(|word| word.parse().ok()),
        role: text("role").and_then(|word| word.parse().ok()),
        version: text("version"),
        bellwether: get("bellwether").and_then(protocol),
        tags: get("tags").and_then(Value::as_object).map(tags).unwrap_or_default(),
        timeline: timeline.filter(|number| *number != 0).map(TimelineId),
        xlog_location: lsn("xlog_location"),
        receive_lsn: lsn("receive_lsn"),
        replay_lsn: lsn("replay_lsn"),
        replication_state: text("replication_state")
            .and_then(|word| ReplicationState::ALL.iter().copied().find(|state| state.as_str() == word)),
        pending_restart: flag("pending_restart"),
        pending_restart_reason: get("pending_restart_reason").filter(|reason| json::truthy(reason)).cloned(),
        checkpoint_after_promote: get("checkpoint_after_promote").and_then(Value::as_bool),
        scheduled_restart: get("scheduled_restart").filter(|restart| json::truthy(restart)).cloned(),
        pause: flag("pause"),
        raw: Value::Object(fields.clone()),
        ..blank
    }
}

fn tags(fields: &Map<String, Value>) -> Tags {
    Tags(fields.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn protocol(value: &Value) -> Option<PeerProtocol> {
    let level = value.get("level").and_then(json::integer)?;
    let version = value.get("version").and_then(json::text).unwrap_or_default();
    Some(PeerProtocol { version, level: u32::try_from(level).ok()? })
}

/// A bare connection URL with the API's URL in `application_name`, as the first versions of Patroni wrote.
fn legacy(bytes: &[u8]) -> Option<Map<String, Value>> {
    let url = std::str::from_utf8(bytes).ok()?.trim();
    if !url.starts_with("postgres") {
        return None;
    }
    let (conn_url, query) = url.split_once('?').unwrap_or((url, ""));
    let api_url = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("application_name="))
        .map(percent_decode)
        .filter(|api_url| !api_url.is_empty());
    let mut fields = Map::new();
    fields.insert("conn_url".to_owned(), conn_url.into());
    if let Some(api_url) = api_url {
        fields.insert("api_url".to_owned(), api_url.into());
    }
    Some(fields)
}

fn percent_decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = tail
            .get(..2)
            .filter(|_| byte == b'%')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match escaped {
            Some(byte) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            None => {
                decoded.push(if byte == b'+' { b' ' } else { byte });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &str) -> Member {
        decode(MemberName::new("pg-a").unwrap(), Revision(7), value.as_bytes())
    }

    fn document() -> MemberDocument {
        let protocol = PeerProtocol { version: "0.1.0".into(), level: 1 };
        MemberDocument::new(
            "postgres://10.0.0.2:5432/postgres",
            "http://10.0.0.2:8008/patroni",
            PostgresState::Running,
            Role::Replica,
            protocol,
        )
    }

    #[test]
    fn the_version_is_that_of_the_patroni_that_the_tests_run() {
        // Where it is built, not where a build that is reused was made.
        let root = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../..";
        let prerequisites = std::fs::read_to_string(format!("{root}/scripts/prerequisites")).unwrap();
        let installed = prerequisites.lines().find(|line| line.contains("'patroni[")).unwrap();
        let version = format!("]=={COMPATIBLE_VERSION}'");
        assert!(installed.contains(&version), "no {version} in scripts/prerequisites: {installed}");
    }

    #[test]
    fn a_full_document_has_patronis_fields_in_patronis_order() {
        let full = MemberDocument {
            proxy_url: Some("postgres://10.0.0.2:6432/postgres".into()),
            checkpoint_pending: true,
            tags: Tags([("clonefrom".into(), json!(true)), ("nosync".into(), json!(false))].into()),
            pending_restart: true,
            pending_restart_reason: Some(
                json!({"max_connections": {"old_value": "100", "new_value": "200"}}),
            ),
            xlog_location: Some(Lsn(83_886_496)),
            replay_lsn: Some(Lsn(83_886_490)),
            receive_lsn: Some(Lsn(83_886_496)),
            replication_state: Some(ReplicationState::Streaming),
            timeline: Some(TimelineId(3)),
            scheduled_restart: Some(json!({"schedule": "2026-03-01T02:00:00+00:00"})),
            pause: true,
            ..document()
        };
        assert_eq!(
            full.encode(None),
            concat!(
                r#"{"conn_url":"postgres://10.0.0.2:5432/postgres","api_url":"http://10.0.0.2:8008/patroni","#,
                r#""state":"running","role":"replica","version":"4.1.5","#,
                r#""proxy_url":"postgres://10.0.0.2:6432/postgres","checkpoint_after_promote":false,"#,
                r#""tags":{"clonefrom":true},"pending_restart":true,"#,
                r#""pending_restart_reason":{"max_connections":{"old_value":"100","new_value":"200"}},"#,
                r#""xlog_location":83886496,"replay_lsn":83886490,"receive_lsn":83886496,"#,
                r#""replication_state":"streaming","timeline":3,"#,
                r#""scheduled_restart":{"schedule":"2026-03-01T02:00:00+00:00"},"pause":true,"#,
                r#""bellwether":{"version":"0.1.0","level":1}}"#
            )
        );
    }

    #[test]
    fn what_is_off_or_unknown_is_not_written() {
        let zeros = MemberDocument {
            replay_lsn: Some(Lsn::ZERO),
            receive_lsn: Some(Lsn::ZERO),
            timeline: Some(TimelineId(0)),
            pending_restart_reason: Some(json!({"x": {}})),
            scheduled_restart: Some(json!({})),
            ..document()
        };
        assert_eq!(zeros.encode(None), document().encode(None));
        assert!(!document().encode(None).contains("tags"));
    }

    #[test]
    fn unknown_fields_survive_a_rewrite_and_known_ones_do_not_linger() {
        let before = br#"{"state":"stopped","pause":true,"checkpoint_after_promote":false,"rack":{"u":7}}"#;
        let after = read(&document().encode(Some(before)));
        assert_eq!(after.raw["rack"], json!({"u": 7}));
        assert_eq!(after.state, Some(PostgresState::Running));
        assert_eq!((after.pause, after.checkpoint_after_promote), (false, None));
    }

    #[test]
    fn old_and_odd_values_are_read() {
        let old =
            read(r#"{"role":"master","state":"running","xlog_location":"4096","timeline":"2","pause":true}"#);
        assert_eq!((old.role, old.xlog_location), (Some(Role::Primary), Some(Lsn(4096))));
        assert_eq!((old.timeline, old.pause), (Some(TimelineId(2)), true));
        let odd =
            read(r#"{"role":"boss","state":7,"tags":[],"timeline":0,"xlog_location":-1,"api_url":null}"#);
        assert_eq!((odd.role, odd.state, odd.timeline, odd.xlog_location), (None, None, None, None));
        assert_eq!(odd.raw["role"], "boss");
        for broken in ["", "[1]", "{", "null", "\"text\""] {
            let blank = Member { revision: Revision(7), ..Member::unknown(MemberName::new("pg-a").unwrap()) };
            assert_eq!(read(broken), blank, "{broken:?}");
        }
    }

    #[test]
    fn a_bare_connection_url_is_a_member_of_the_first_kind() {
        for (value, conn_url, api_url) in [
            (
                "postgres://u@10.0.0.1:5432/postgres?application_name=http://10.0.0.1:8008/patroni",
                "postgres://u@10.0.0.1:5432/postgres",
                Some("http://10.0.0.1:8008/patroni"),
            ),
            (
                "postgresql://h/d?sslmode=off&application_name=http%3A%2F%2Fh%3A8008%2Fpatroni",
                "postgresql://h/d",
                Some("http://h:8008/patroni"),
            ),
            ("postgres://h/d", "postgres://h/d", None),
        ] {
            let member = read(value);
            assert_eq!(member.conn_url.as_deref(), Some(conn_url));
            assert_eq!(member.api_url.as_deref(), api_url);
        }
    }
}
