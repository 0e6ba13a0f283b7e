//! `standby_cluster`.

use bellwether_types::settings::StandbyCluster;
use serde_json::Value;

use super::Reader;

/// A standby cluster is one with a host, a port or a restore command that is not empty.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<StandbyCluster> {
    let section = match reader.get("standby_cluster") {
        None => return None,
        Some(Value::Object(section)) => section,
        Some(other) => {
            reader.refuse("standby_cluster", "expects a map", other);
            return None;
        }
    };
    let text = |key: &str| match section.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let cluster = StandbyCluster {
        host: text("host"),
        port: text("port"),
        primary_slot_name: text("primary_slot_name"),
        restore_command: text("restore_command"),
        archive_cleanup_command: text("archive_cleanup_command"),
        recovery_min_apply_delay: text("recovery_min_apply_delay"),
        create_replica_methods: section.get("create_replica_methods").and_then(texts),
    };
    let is_one = cluster.host.is_some() || cluster.port.is_some() || cluster.restore_command.is_some();
    is_one.then_some(cluster)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => {
            Some(text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect())
        }
        Value::Array(items) => Some(items.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::dynamic::{Floors, parse};

    #[test]
    fn only_a_source_makes_a_standby_cluster() {
        for (document, is_one) in [
            (json!({"standby_cluster": {"host": "h", "port": 5432}}), true),
            (json!({"standby_cluster": {"restore_command": "cp"}}), true),
            (json!({"standby_cluster": {"primary_slot_name": "s"}}), false),
            (json!({"standby_cluster": {"host": ""}}), false),
            (json!({"standby_cluster": {}}), false),
            (json!({"standby_cluster": null}), false),
        ] {
            let settings = parse(&document, Floors::patroni()).unwrap().settings;
            assert_eq!(settings.standby_cluster.is_some(), is_one, "{document}");
        }
        let document = json!({"standby_cluster": {
            "host": "h", "port": 5432, "create_replica_methods": "mine, basebackup", "recovery_min_apply_delay": "5min"
        }});
        let cluster = parse(&document, Floors::patroni()).unwrap().settings.standby_cluster.unwrap();
        assert_eq!(cluster.port.as_deref(), Some("5432"));
        assert_eq!(cluster.create_replica_methods, Some(vec!["mine".to_owned(), "basebackup".to_owned()]));
        assert_eq!(cluster.recovery_min_apply_delay.as_deref(), Some("5min"));
    }
}
