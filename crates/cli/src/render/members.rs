//! `list` and `topology`: the members of a cluster and what is planned for it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use bellwether_config::{Floors, dynamic};
use bellwether_ha::takeover;
use bellwether_types::{
    Alarm, Duty, Lsn, MemberName, ReplicationState,
    cluster::{Cluster, ConfigDocument, Initialize, Member, Schedule},
    settings::{Settings, SyncMode},
};
use serde_json::{Map, Value, json};

use super::{
    output::{Empty, Format, Rows},
    table::Align,
    yaml,
};
use crate::groups::{Groups, Part};

/// Longer reasons of a pending restart are hidden in tables.
const LONGEST_REASON: usize = 50;
const MEBIBYTE: u64 = 1024 * 1024;

/// What is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    List {
        format: Format,
        /// Show the optional columns even if they are empty.
        extended: bool,
    },
    /// A table whose rows show who streams from whom.
    Topology,
}

/// A cluster by the name that was asked for. One that is not in the store is an empty one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    pub(crate) name: &'a str,
    pub(crate) groups: &'a Groups,
}

/// The text of one cluster, footer included.
pub(crate) fn render(named: Named<'_>, view: View) -> String {
    let (format, extended) = match view {
        View::List { format, extended } => (format, extended),
        View::Topology => (Format::Pretty, false),
    };
    let rows = rows(named, view, format, extended);
    let title = title(named);
    let mut text = rows.render(format, Some(&title), Empty::Omit);
    if format == Format::Pretty {
        for (group, cluster) in named.groups.iter() {
            let footer = footer(cluster);
            if named.groups.part() == Part::EveryGroup && !footer.is_empty() {
                text.push_str(&format!("Citus group: {group}\n"));
            }
            text.push_str(&footer);
        }
    }
    text
}

/// The settings of the cluster, as far as they can be read: one that cannot does not hide the others.
pub(crate) fn settings(cluster: &Cluster) -> Settings {
    let Some(ConfigDocument::Valid(document)) = cluster.config.as_ref().map(|keyed| &keyed.value) else {
        return Settings::default();
    };
    let read = |document: &Value| dynamic::parse(document, Floors::bellwether(std::time::Duration::ZERO));
    if let Ok(dynamic) = read(document) {
        return dynamic.settings;
    }
    let readable: Map<String, Value> = document
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| read(&json!({ key.as_str(): value })).is_ok())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    read(&Value::Object(readable)).map(|dynamic| dynamic.settings).unwrap_or_default()
}

/// The configuration's own number, whatever agents make of it.
pub(crate) fn loop_wait_secs(cluster: &Cluster) -> u64 {
    let written = match cluster.config.as_ref().map(|keyed| &keyed.value) {
        Some(ConfigDocument::Valid(document)) => document.get("loop_wait").and_then(Value::as_u64),
        _ => None,
    };
    written.unwrap_or_else(|| settings(cluster).loop_wait.as_secs())
}

fn title(named: Named<'_>) -> String {
    let system = match named.groups.main().initialize.as_ref().map(|keyed| &keyed.value) {
        None => "uninitialized".to_owned(),
        Some(Initialize::InProgress) => "initializing".to_owned(),
        Some(Initialize::Done(id)) => id.to_string(),
        Some(Initialize::Invalid(text)) => text.clone(),
    };
    let name = named.name;
    match named.groups.part() {
        Part::Plain => format!(" Cluster: {name} ({system}) "),
        Part::Group(group) => format!(" Citus cluster: {name} (group: {group}, {system}) "),
        Part::EveryGroup => format!(" Citus cluster: {name} "),
    }
}

/// Below the table: what is wrong, the pause, a quorum take-over that is wanted and does not apply, and a scheduled switchover.
fn footer(cluster: &Cluster) -> String {
    let mut text = String::new();
    for member in cluster.members.values() {
        let codes = member.raw.get("alarms").and_then(Value::as_array).into_iter().flatten();
        for code in codes.filter_map(Value::as_str) {
            let sentence = Alarm::of_code(code).map_or(code, |alarm| alarm.sentence());
            text.push_str(&format!(" Alarm: {}: {sentence}\n", member.name));
        }
    }
    let settings = settings(cluster);
    if settings.pause {
        text.push_str(" Maintenance mode: on\n");
    }
    // What stores can do only their agents know; all of ours can.
    if settings.quorum_takeover
        && let Some(why) = takeover::why_off(&settings, cluster, true)
    {
        text.push_str(&format!(" Quorum take-over: off, because {why}\n"));
    }
    let request = cluster.failover_request().map(|(request, _)| request);
    if let Some((request, schedule)) =
        request.and_then(|request| Some((request, request.scheduled_at.as_ref()?)))
    {
        let at = match schedule {
            Schedule::At { text, .. } | Schedule::Unparsable { text } => text,
        };
        text.push_str(&format!(" Switchover scheduled at: {at}\n"));
        for (label, name) in [("from", &request.leader), ("to", &request.candidate)] {
            if let Some(name) = name {
                text.push_str(&format!("{label:>24}: {name}\n"));
            }
        }
    }
    text
}

fn rows(named: Named<'_>, view: View, format: Format, extended: bool) -> Rows {
    let is_table = format == Format::Pretty;
    let part = named.groups.part();
    let shows_group = part == Part::EveryGroup || (part != Part::Plain && !is_table);
    let shows_ports = shows_ports(named.groups);
    let mut members: Vec<(&Member, Option<Duty>)> = Vec::new();
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for (group, cluster) in named.groups.iter() {
        let facts = Facts { cluster, settings: settings(cluster), shows_ports };
        for (member, shown) in ordered(cluster, view) {
            let mut row = if is_table { Vec::new() } else { vec![json!(named.name)] };
            row.extend(shows_group.then(|| json!(group)));
            row.extend(facts.row(member, &shown));
            rows.push(row);
            members.push((member, facts.settings.routing.get(&member.name).copied()));
        }
    }
    let mut columns = headings(is_table, shows_group);
    for (heading, cell) in optional_cells(view, format) {
        let cells: Vec<(bool, Value)> = members
            .iter()
            .map(|(member, duty)| (host_and_port(member).is_some(), cell(member, *duty)))
            .collect();
        if extended || cells.iter().any(|(has_host, value)| *has_host && !value.is_null()) {
            columns.push((heading.into(), Align::Left));
            for (row, (_, value)) in rows.iter_mut().zip(cells) {
                row.push(value);
            }
        }
    }
    Rows { columns, rows }
}

/// The columns that are always there.
fn headings(is_table: bool, shows_group: bool) -> Vec<(Cow<'static, str>, Align)> {
    let (receive_lag, replay_lag) = if is_table { ("Lag", "Lag") } else { ("Receive Lag", "Replay Lag") };
    let mut columns = Vec::new();
    if !is_table {
        columns.push(("Cluster".into(), Align::Left));
    }
    if shows_group {
        columns.push(("Group".into(), Align::Right));
    }
    for heading in ["Member", "Host", "Role", "State"] {
        columns.push((heading.into(), Align::Left));
    }
    for heading in ["TL", "Receive LSN", receive_lag, "Replay LSN", replay_lag] {
        columns.push((heading.into(), Align::Right));
    }
    columns
}

/// The members of one group in the order of the view, and as they are shown in it.
fn ordered(cluster: &Cluster, view: View) -> Vec<(&Member, String)> {
    let order = match view {
        View::Topology => topology_order(cluster),
        View::List { .. } => cluster.members.keys().map(|name| (name.clone(), name.to_string())).collect(),
    };
    order.into_iter().filter_map(|(name, shown)| Some((cluster.member(&name)?, shown))).collect()
}

/// Addresses come with their ports as soon as they do not tell the members apart without.
fn shows_ports(groups: &Groups) -> bool {
    let hosts: Vec<(String, u16)> =
        groups.members().filter_map(|(_, member)| host_and_port(member)).collect();
    let distinct: BTreeSet<&str> = hosts.iter().map(|(host, _)| host.as_str()).collect();
    hosts.iter().any(|(_, port)| *port != 5432) || distinct.len() < hosts.len()
}

type Cell = Box<dyn Fn(&Member, Option<Duty>) -> Value>;

fn optional_cells(view: View, format: Format) -> [(&'static str, Cell); 4] {
    let is_table = format == Format::Pretty;
    [
        (
            "Pending restart",
            Box::new(|member, _| if member.pending_restart { json!("*") } else { Value::Null }),
        ),
        ("Pending restart reason", Box::new(move |member, _| pending_reason(member, is_table))),
        ("Scheduled restart", Box::new(|member, _| scheduled_restart(member))),
        ("Tags", Box::new(move |member, duty| tags(member, duty, view, format))),
    ]
}

fn pending_reason(member: &Member, is_table: bool) -> Value {
    let Some(Value::Object(reasons)) = &member.pending_restart_reason else { return Value::Null };
    let line = |(name, change): (&String, &Value)| {
        let side = |key: &str| change.get(key).map(super::output::text).unwrap_or_default();
        let text = format!("{}->{}", side("old_value"), side("new_value"));
        match is_table && text.chars().count() > LONGEST_REASON {
            true => format!("{name}: [hidden - too long]"),
            false => format!("{name}: {text}"),
        }
    };
    let lines: Vec<String> = reasons.iter().map(line).collect();
    if lines.is_empty() { Value::Null } else { json!(lines.join("\n")) }
}

fn scheduled_restart(member: &Member) -> Value {
    let Some(restart) = &member.scheduled_restart else { return Value::Null };
    let Some(schedule) = restart.get("schedule").and_then(Value::as_str) else { return Value::Null };
    match restart.get("postgres_version").map(super::output::text) {
        Some(version) => json!(format!("{schedule} if version < {version}")),
        None => json!(schedule),
    }
}

/// What an operator has set stands beside what the member says of itself.
fn tags(member: &Member, duty: Option<Duty>, view: View, format: Format) -> Value {
    let mut tags: Map<String, Value> = member.tags.0.clone().into_iter().collect();
    if let Some(duty) = duty {
        tags.insert("routing".to_owned(), json!(duty));
    }
    if tags.is_empty() {
        return Value::Null;
    }
    let tags = Value::Object(tags);
    match (view, format) {
        (View::Topology, _) | (_, Format::Tsv) => json!(yaml::flow(&tags)),
        (_, Format::Pretty) => json!(yaml::block(&tags).trim_end()),
        (_, Format::Json | Format::Yaml | Format::Yml) => tags,
    }
}

/// What the rows need to know of the whole cluster.
struct Facts<'a> {
    cluster: &'a Cluster,
    settings: Settings,
    shows_ports: bool,
}

impl Facts<'_> {
    fn host(&self, member: &Member) -> Option<String> {
        let (host, port) = host_and_port(member)?;
        Some(if self.shows_ports { format!("{host}:{port}") } else { host })
    }

    fn row(&self, member: &Member, shown: &str) -> Vec<Value> {
        let leads = self.cluster.leader_name() == Some(&member.name);
        let [receive, replay] = if leads { [Position::Blank; 2] } else { self.positions(member) };
        vec![
            json!(shown),
            json!(self.host(member).unwrap_or_default()),
            json!(self.role(member, leads)),
            json!(self.state(member, leads)),
            member.timeline.map_or_else(|| json!(""), |timeline| json!(timeline)),
            receive.lsn(),
            self.lag(receive),
            replay.lsn(),
            self.lag(replay),
        ]
    }

    fn role(&self, member: &Member, leads: bool) -> &'static str {
        let is_voter = self.cluster.active_sync().is_some_and(|sync| sync.has_voter(&member.name));
        match self.settings.sync_mode() {
            _ if leads && self.settings.standby_cluster.is_some() => "Standby Leader",
            _ if leads => "Leader",
            SyncMode::On if is_voter => "Sync Standby",
            SyncMode::Quorum if is_voter => "Quorum Standby",
            _ => "Replica",
        }
    }

    /// As published: a word that we do not know is shown all the same.
    fn state(&self, member: &Member, leads: bool) -> String {
        let published = |key: &str| member.raw.get(key).and_then(Value::as_str);
        let is_primary = leads && self.settings.standby_cluster.is_none();
        let replication = published("replication_state").filter(|_| !is_primary);
        replication.or_else(|| published("state")).unwrap_or_default().to_owned()
    }

    fn positions(&self, member: &Member) -> [Position; 2] {
        let known = |lsn: Option<Lsn>| lsn.filter(|lsn| *lsn > Lsn::ZERO);
        match (known(member.receive_lsn), known(member.replay_lsn), known(member.xlog_location)) {
            // An old member tells only the larger of both.
            (None, None, Some(only)) if is_streaming(member) => [Position::At(only), Position::Unknown],
            (None, None, Some(only)) => [Position::Unknown, Position::At(only)],
            (receive, replay, _) => [receive, replay].map(|lsn| lsn.map_or(Position::Unknown, Position::At)),
        }
    }

    fn lag(&self, position: Position) -> Value {
        match position {
            Position::At(lsn) => json!(mebibytes(self.cluster.optime() - lsn)),
            Position::Unknown | Position::Blank => json!(""),
        }
    }
}

/// Members of before `replication_state` say it as their state.
fn is_streaming(member: &Member) -> bool {
    member.replication_state == Some(ReplicationState::Streaming)
        || member.raw.get("state").and_then(Value::as_str) == Some("streaming")
}

#[derive(Clone, Copy, Debug)]
enum Position {
    At(Lsn),
    Unknown,
    /// The leader has no lag.
    Blank,
}

impl Position {
    fn lsn(self) -> Value {
        match self {
            Self::At(lsn) => json!(lsn.to_string()),
            Self::Unknown => json!("unknown"),
            Self::Blank => json!(""),
        }
    }
}

/// Rounded half to even.
fn mebibytes(bytes: u64) -> u64 {
    let (whole, rest) = (bytes / MEBIBYTE, bytes % MEBIBYTE);
    match rest.cmp(&(MEBIBYTE / 2)) {
        std::cmp::Ordering::Less => whole,
        std::cmp::Ordering::Greater => whole + 1,
        std::cmp::Ordering::Equal => whole + whole % 2,
    }
}

/// Where a member's PostgreSQL is reached.
pub(crate) fn host_and_port(member: &Member) -> Option<(String, u16)> {
    let (_, rest) = member.conn_url.as_deref()?.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(5432), |port| port.parse().ok())?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// Names in the order of the tree, and as they are shown in it.
fn topology_order(cluster: &Cluster) -> Vec<(MemberName, String)> {
    let leader = cluster.leader_name().filter(|name| cluster.members.contains_key(*name));
    let mut children: BTreeMap<Option<&MemberName>, Vec<&MemberName>> = BTreeMap::new();
    let upstreams: BTreeMap<&MemberName, MemberName> = cluster
        .members
        .values()
        .filter_map(|member| Some((&member.name, member.tags.replicatefrom()?)))
        .collect();
    for name in cluster.members.keys().filter(|name| Some(*name) != leader) {
        let upstream = upstreams.get(name).filter(|upstream| *upstream != name);
        let parent =
            upstream.and_then(|upstream| cluster.members.get_key_value(upstream)).map(|(name, _)| name);
        children.entry(parent.or(leader)).or_default().push(name);
    }
    let mut order: Vec<(MemberName, String)> =
        leader.map(|name| (name.clone(), name.to_string())).into_iter().collect();
    descend(&children, leader, 0, &mut order);
    // Members that name each other as upstream hang below nobody; they are shown all the same.
    for name in cluster.members.keys() {
        if !order.iter().any(|(shown, _)| shown == name) {
            order.push((name.clone(), format!("+ {name}")));
        }
    }
    order
}

fn descend(
    children: &BTreeMap<Option<&MemberName>, Vec<&MemberName>>,
    parent: Option<&MemberName>,
    depth: usize,
    order: &mut Vec<(MemberName, String)>,
) {
    for name in children.get(&parent).into_iter().flatten() {
        order.push(((*name).clone(), format!("{}+ {name}", "  ".repeat(depth))));
        descend(children, Some(name), depth + 1, order);
    }
}

#[cfg(test)]
mod tests;
