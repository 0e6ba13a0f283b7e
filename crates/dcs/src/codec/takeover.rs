//! `takeover`: the present or last attempt to replace a leader before its lease ends.

use bellwether_types::takeover::Takeover;
use serde_json::{Map, Value};

use super::json;

/// Format of the value; one of a newer version is not read, so that nobody promises what it does not understand.
const VERSION: u64 = 1;

/// Compact JSON:
/// `{"v":1,"epoch":3,"state":"open","opened_by":"b","leader":"a","leader_revision":7,"sync_revision":9,"taken":null}`.
pub fn encode_takeover(takeover: &Takeover) -> String {
    let mut fields = Map::new();
    fields.insert("v".to_owned(), VERSION.into());
    if let Ok(Value::Object(rest)) = serde_json::to_value(takeover) {
        fields.extend(rest);
    }
    json::compact(fields)
}

/// `None` if it cannot be understood whole: nobody acts on half of it.
pub(super) fn decode(bytes: &[u8]) -> Option<Takeover> {
    let mut fields = json::parse_object(bytes)?;
    let version = fields.remove("v").as_ref().and_then(json::integer)?;
    if version != VERSION {
        return None;
    }
    serde_json::from_value(Value::Object(fields)).ok()
}

#[cfg(test)]
mod tests {
    use bellwether_types::{
        MemberName, Revision, TimelineId,
        takeover::{EpochState, Taken},
    };

    use super::*;

    fn name(text: &str) -> MemberName {
        MemberName::new(text).unwrap()
    }

    #[test]
    fn an_epoch_is_read_as_it_was_written() {
        let mut takeover = Takeover {
            epoch: 3,
            state: EpochState::Open,
            opened_by: name("b"),
            leader: name("a"),
            leader_revision: Revision(7),
            sync_revision: Revision(9),
            taken: None,
        };
        let text = encode_takeover(&takeover);
        let expected = concat!(
            r#"{"v":1,"epoch":3,"state":"open","opened_by":"b","leader":"a","#,
            r#""leader_revision":7,"sync_revision":9,"taken":null}"#
        );
        assert_eq!(text, expected);
        assert_eq!(decode(text.as_bytes()), Some(takeover.clone()));
        takeover.state = EpochState::Taken;
        takeover.taken = Some(Taken { by: name("c"), from: name("a"), timeline: TimelineId(2) });
        assert_eq!(decode(encode_takeover(&takeover).as_bytes()), Some(takeover));
    }

    #[test]
    fn what_is_not_understood_whole_is_no_epoch() {
        for text in ["", "{}", "[]", r#"{"v":1}"#, r#"{"v":2,"epoch":1,"state":"open"}"#] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }
}
