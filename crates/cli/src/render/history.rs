//! `history`: the finished timelines.

use bellwether_types::cluster::Cluster;
use serde_json::{Value, json};

use super::{
    output::{Empty, Format, Rows},
    table::Align,
};

/// The text for `history`.
pub(crate) fn render(cluster: &Cluster, format: Format) -> String {
    let entries = cluster.history.as_ref().map_or(&[][..], |keyed| &keyed.value.0);
    let rows = entries.iter().map(|entry| {
        vec![
            json!(entry.timeline),
            json!(entry.end),
            json!(entry.reason),
            entry.promoted_at.as_ref().map_or_else(|| json!(""), |at| json!(at)),
            entry.new_leader.as_ref().map_or_else(|| json!(""), |name| json!(name)),
        ]
    });
    let rows: Vec<Vec<Value>> = rows.collect();
    let columns = vec![
        ("TL".into(), Align::Right),
        ("LSN".into(), Align::Right),
        ("Reason".into(), Align::Left),
        ("Timestamp".into(), Align::Left),
        ("New Leader".into(), Align::Left),
    ];
    Rows { columns, rows }.render(format, None, Empty::Keep)
}
