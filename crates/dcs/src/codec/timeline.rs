//! `timeline`: the number that the last promotion took.

use bellwether_types::{TimelineId, cluster::TimelineClaim};
use serde_json::json;

use super::json;

/// Compact JSON: `{"timeline":3,"leader":"b"}`.
pub fn encode_timeline_claim(claim: &TimelineClaim) -> String {
    json!({"timeline": claim.timeline.0, "leader": claim.leader.as_str()}).to_string()
}

/// `None` if it names no timeline or no member: what PostgreSQL itself knows must do then.
pub(super) fn decode(bytes: &[u8]) -> Option<TimelineClaim> {
    let fields = json::parse_object(bytes)?;
    let timeline = u32::try_from(json::integer(fields.get("timeline")?)?).ok()?;
    let leader = json::name(fields.get("leader")?)?;
    (timeline > 0).then_some(TimelineClaim { timeline: TimelineId(timeline), leader })
}
