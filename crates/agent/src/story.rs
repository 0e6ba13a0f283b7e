//! What goes into the journal about a decision: what was seen, which rule fired, and what was done.

use bellwether_ha::{
    Action, Reason, View,
    view::{AsOf, LeaseView, PeerAnswer},
};
use serde_json::{Map, Value, json};

/// The fields of a `decision` record.
pub(crate) fn decision(view: &View, reasons: &[Reason], deeds: &[&Action]) -> Value {
    json!({
        "reason": reasons.first().map(Reason::code),
        "sentence": reasons.first().map(Reason::sentence),
        "also": reasons.iter().skip(1).map(|reason| json!({"reason": reason.code(), "sentence": reason.sentence()})).collect::<Vec<_>>(),
        "actions": deeds,
        "seen": seen(view),
    })
}

/// The facts that a person needs to follow the decision.
fn seen(view: &View) -> Value {
    let postgres = &view.postgres;
    let server = postgres.server.as_ref();
    let cluster = view.store.cluster.as_deref();
    json!({
        "leader": cluster.and_then(|cluster| cluster.leader_name()),
        "lease": lease(view),
        "store_age_ms": view.now.since(view.store.confirmed_at).as_millis() as u64,
        "store_unavailable_ms": view.store.unavailable_since.map(|since| view.now.since(since).as_millis() as u64),
        "role": postgres.role,
        "state": postgres.state,
        "lsn": server.map(|server| server.position.to_string()),
        "timeline": server.and_then(|server| server.timeline),
        "answer_age_ms": server.map(|server| view.now.since(server.answered_at).as_millis() as u64),
        "job": view.job.as_ref().map(|job| &job.kind),
        "sync": cluster.and_then(|cluster| cluster.active_sync()),
        "optime": cluster.map(|cluster| cluster.optime().to_string()),
        "members": members(view),
        "peers": peers(view),
        "guardian": view.fencing.guardian,
        "pause": view.settings.pause,
    })
}

fn lease(view: &View) -> Value {
    match &view.lease {
        LeaseView::NotHeld => json!("not_held"),
        LeaseView::Held { until, term, unavailable_since, .. } => json!({
            "held_for_ms": view.now.until(*until).as_millis() as u64,
            "term": term,
            "unanswered_ms": unavailable_since.map(|since| view.now.since(since).as_millis() as u64),
        }),
        LeaseView::Rejected { .. } => json!("rejected"),
    }
}

fn members(view: &View) -> Value {
    let Some(cluster) = view.store.cluster.as_deref() else { return Value::Null };
    let tell = |member: &bellwether_types::cluster::Member| {
        json!({
            "role": member.role,
            "state": member.state,
            "timeline": member.timeline,
            "lsn": member.xlog_location.map(|lsn| lsn.to_string()),
        })
    };
    Value::Object(
        cluster.members.iter().map(|(name, member)| (name.to_string(), tell(member))).collect::<Map<_, _>>(),
    )
}

fn peers(view: &View) -> Value {
    let Some(polled_at) = view.peers.polled_at else { return Value::Null };
    let tell = |answer: &PeerAnswer| match answer {
        PeerAnswer::Unreachable { refused: true } => json!("refused"),
        PeerAnswer::Unreachable { refused: false } => json!("silent"),
        PeerAnswer::Answered(report) => json!({
            "role": report.role,
            "lsn": report.position.map(|lsn| lsn.to_string()),
            "as_of": match report.as_of {
                AsOf::Asked => json!("asked"),
                AsOf::Earlier { ago } => json!(format!("{} ms ago", ago.as_millis())),
                AsOf::AtLeast => json!("while it replays WAL of its own"),
                AsOf::Unsaid => Value::Null,
            },
            "timeline": report.timeline,
            "nofailover": report.nofailover,
        }),
    };
    let answers: Map<_, _> =
        view.peers.answers.iter().map(|(name, answer)| (name.to_string(), tell(answer))).collect();
    json!({"age_ms": view.now.since(polled_at).as_millis() as u64, "answers": answers})
}
