//! What the leaders of a Citus cluster's groups tell the leader of the coordinator.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::MemberName;

/// What is happening to the primary of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CitusEventKind {
    /// It will be stopped; the sender waits for the answer.
    BeforeDemote,
    /// A standby is about to replace it.
    BeforePromote,
    /// It takes writes.
    AfterPromote,
}

impl CitusEventKind {
    const ALL: [Self; 3] = [Self::BeforeDemote, Self::BeforePromote, Self::AfterPromote];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeDemote => "before_demote",
            Self::BeforePromote => "before_promote",
            Self::AfterPromote => "after_promote",
        }
    }
}

/// The body of `POST /citus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CitusEvent {
    pub kind: CitusEventKind,
    pub group: u32,
    /// Who sends it.
    pub leader: MemberName,
    /// How long a transaction that it opens may last.
    pub timeout: Duration,
    /// How long sessions that hold locks on a changed row are waited for before Citus ends them.
    pub cooldown: Duration,
}

impl CitusEvent {
    /// With times in whole seconds, rounded up: Patroni passes them on to a function that takes no fractions.
    pub fn to_json(&self) -> Value {
        let seconds = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
        json!({
            "type": self.kind.as_str(),
            "group": self.group,
            "leader": self.leader,
            "timeout": seconds(self.timeout),
            "cooldown": seconds(self.cooldown),
        })
    }

    /// Reads what [`CitusEvent::to_json`] and Patroni write; `Err` names the first field that cannot be used.
    pub fn from_json(body: &Map<String, Value>) -> Result<Self, &'static str> {
        let text = |key: &str| body.get(key).and_then(Value::as_str);
        let seconds = |key: &str| {
            let number = body.get(key)?.as_f64()?;
            Duration::try_from_secs_f64(number).ok()
        };
        let kind = text("type").and_then(Self::kind_of).ok_or("type")?;
        let group = body.get("group").and_then(Value::as_u64).and_then(|group| group.try_into().ok());
        let leader = text("leader").and_then(|name| MemberName::new(name).ok());
        Ok(Self {
            kind,
            group: group.ok_or("group")?,
            leader: leader.ok_or("leader")?,
            timeout: seconds("timeout").ok_or("timeout")?,
            cooldown: seconds("cooldown").ok_or("cooldown")?,
        })
    }

    fn kind_of(word: &str) -> Option<CitusEventKind> {
        CitusEventKind::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_what_is_not_understood_is_named() {
        let event = CitusEvent {
            kind: CitusEventKind::BeforePromote,
            group: 2,
            leader: MemberName::new("a").unwrap(),
            timeout: Duration::from_millis(2_500),
            cooldown: Duration::from_secs(10),
        };
        let written = event.to_json();
        assert_eq!(
            written.to_string(),
            r#"{"type":"before_promote","group":2,"leader":"a","timeout":3,"cooldown":10}"#
        );
        let read = |value: &Value| CitusEvent::from_json(value.as_object().unwrap());
        assert_eq!(read(&written), Ok(CitusEvent { timeout: Duration::from_secs(3), ..event }));
        for (key, wrong) in [
            ("type", json!("after_demote")),
            ("group", json!(-1)),
            ("leader", json!("")),
            ("timeout", json!(-2)),
            ("cooldown", json!("10")),
        ] {
            let mut body = written.clone();
            body[key] = wrong;
            assert_eq!(read(&body), Err(key));
        }
    }
}
