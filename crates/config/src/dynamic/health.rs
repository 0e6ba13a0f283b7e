//! What is watched beyond "PostgreSQL is alive".

use std::time::Duration;

use bellwether_types::settings::{Settings, WalDiskGuard, WalDiskMode};
use serde_json::Value;

use super::{LONGEST, Reader};
use crate::value::{Unit, int_with_unit, lenient_bool};

pub(super) fn read(reader: &mut Reader<'_>, settings: &mut Settings) {
    if let Some(value) = reader.get("commit_probe") {
        match lenient_bool(value) {
            Some(on) => settings.commit_probe = on,
            None => reader.told_wrong("commit_probe", "`on` or `off`", value),
        }
    }
    settings.gray_failure_timeout = reader.get("gray_failure_timeout").and_then(|value| {
        let seconds =
            int_with_unit(value, Some(Unit::Seconds)).and_then(|seconds| u64::try_from(seconds).ok());
        if seconds.is_none() {
            reader.told_wrong("gray_failure_timeout", "a time, for example `30s`", value);
        }
        seconds.map(|seconds| Duration::from_secs(seconds.min(LONGEST)))
    });
    settings.wal_disk_guard = guard(reader);
}

fn guard(reader: &mut Reader<'_>) -> WalDiskGuard {
    let mut guard = WalDiskGuard::default();
    let Some(value) = reader.get("wal_disk_guard") else { return guard };
    let Value::Object(section) = value else {
        match mode(value) {
            Some(mode) => guard.mode = mode,
            None => reader.told_wrong("wal_disk_guard", "`off`, `alarm`, `evict_slots`, or a map", value),
        }
        return guard;
    };
    for (key, value) in section {
        let is_understood = match key.as_str() {
            "mode" => mode(value).map(|mode| guard.mode = mode).is_some(),
            "forecast" => int_with_unit(value, Some(Unit::Seconds))
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map(|seconds| guard.forecast = Duration::from_secs(seconds.min(LONGEST)))
                .is_some(),
            _ => false,
        };
        if !is_understood {
            let expected = "`mode` (off, alarm, evict_slots) or `forecast` (a time)";
            reader.told_wrong(&format!("wal_disk_guard.{key}"), expected, value);
        }
    }
    guard
}

fn mode(value: &Value) -> Option<WalDiskMode> {
    match value {
        Value::String(word) => match word.trim().to_ascii_lowercase().as_str() {
            "off" | "false" => Some(WalDiskMode::Off),
            "alarm" | "on" => Some(WalDiskMode::Alarm),
            "evict_slots" => Some(WalDiskMode::EvictSlots),
            _ => None,
        },
        // YAML reads the bare words so.
        Value::Bool(on) => Some(if *on { WalDiskMode::Alarm } else { WalDiskMode::Off }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dynamic::{Floors, parse};

    #[test]
    fn trouble_is_watched_for_as_the_document_says() {
        let read = |document: Value| parse(&document, Floors::patroni()).unwrap();
        let default = read(json!({})).settings;
        assert!(default.commit_probe && default.wal_disk_guard.mode == WalDiskMode::Alarm);
        assert_eq!(default.gray_failure_limit(), Some(Duration::from_secs(60)), "twice the ttl");
        let set = read(json!({
            "commit_probe": "off", "gray_failure_timeout": "45s",
            "wal_disk_guard": {"mode": "evict_slots", "forecast": "2h"},
        }))
        .settings;
        assert_eq!((set.commit_probe, set.gray_failure_limit()), (false, Some(Duration::from_secs(45))));
        let guard = set.wal_disk_guard;
        assert_eq!((guard.mode, guard.forecast.as_secs()), (WalDiskMode::EvictSlots, 7200));
        assert_eq!(read(json!({"gray_failure_timeout": 0})).settings.gray_failure_limit(), None);
        assert_eq!(read(json!({"wal_disk_guard": false})).settings.wal_disk_guard.mode, WalDiskMode::Off);
    }

    #[test]
    fn what_is_not_understood_is_told_and_counts_as_not_set() {
        let read = parse(
            &json!({"commit_probe": 7, "gray_failure_timeout": "soon", "wal_disk_guard": {"forecast": "much", "x": 1}}),
            Floors::patroni(),
        )
        .unwrap();
        assert_eq!(read.settings, Settings::default());
        for key in ["commit_probe", "gray_failure_timeout", "wal_disk_guard.forecast", "wal_disk_guard.x"] {
            assert!(read.messages.iter().any(|message| message.starts_with(&format!("{key}: "))), "{key}");
        }
    }
}
