//! `routing`: which members take no readers.

use std::collections::BTreeMap;

use bellwether_types::{Duty, MemberName};
use serde_json::Value;

use super::Reader;

/// What is not understood counts as not set: a member then serves as it did.
pub(super) fn read(reader: &mut Reader<'_>) -> BTreeMap<MemberName, Duty> {
    let mut duties = BTreeMap::new();
    let Some(value) = reader.get("routing") else { return duties };
    let Value::Object(members) = value else {
        reader.told_wrong("routing", "a map of members, each `drain`, `maint` or `ready`", value);
        return duties;
    };
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        let duty = value.as_str().and_then(|word| word.parse::<Duty>().ok());
        match (MemberName::new(name), duty) {
            (Ok(_), Some(Duty::Ready)) => {}
            (Ok(name), Some(duty)) => drop(duties.insert(name, duty)),
            _ => reader.told_wrong(&format!("routing.{name}"), "`drain`, `maint` or `ready`", value),
        }
    }
    duties
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::*;

    #[test]
    fn members_are_drained_by_name() {
        let floors = Floors::patroni();
        let document =
            json!({"routing": {"a": "drain", "b": "MAINT", "c": "ready", "d": null, "e": "down", "f": 1}});
        let read = parse(&document, floors).unwrap();
        let duties: Vec<(&str, &str)> =
            read.settings.routing.iter().map(|(name, duty)| (name.as_str(), duty.as_str())).collect();
        assert_eq!(duties, [("a", "drain"), ("b", "maint")]);
        let told = read.messages.join("\n");
        assert!(
            told.contains("routing.e") && told.contains("routing.f") && !told.contains("routing.d"),
            "{told}"
        );
        assert!(parse(&json!({"routing": "drain"}), floors).unwrap().settings.routing.is_empty());
    }
}
