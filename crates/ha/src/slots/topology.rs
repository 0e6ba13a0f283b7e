//! Who streams from whom, as far as slots depend on it.

use std::collections::BTreeSet;

use bellwether_types::{
    MemberName, Tags,
    cluster::{Cluster, Member},
    slots::SlotKind,
};

use crate::{View, draft::Draft};

/// Whether `member` is expected to stream from this member.
pub(super) fn streams_from_me(draft: &Draft, cluster: &Cluster, member: &Member) -> bool {
    let view = draft.view;
    let named = member.tags.replicatefrom();
    let is_leader = leads(view, cluster);
    match named {
        Some(named) if view.is_me(&named) => cluster.leader_name() != Some(&member.name),
        Some(named) => is_leader && (cluster.member(&named).is_none() || named == member.name),
        None => is_leader,
    }
}

pub(super) fn leads(view: &View, cluster: &Cluster) -> bool {
    view.held().is_some() || cluster.leader_name() == Some(&view.me.name)
}

/// The slot on the primary that keeps what a member needs: that of the first member on its way there. `None` if something on the way does
/// not stream, or if the way is a circle.
pub(super) fn slot_on_primary(cluster: &Cluster, name: &MemberName, tags: &Tags) -> Option<String> {
    let mut seen = BTreeSet::new();
    let (mut name, mut tags) = (name, tags);
    loop {
        if tags.nostream() || !seen.insert(name) {
            return None;
        }
        let named = tags.replicatefrom().and_then(|named| cluster.member(&named));
        match named.filter(|named| cluster.leader_name() != Some(&named.name)) {
            None => return Some(name.slot_name()),
            Some(upstream) => (name, tags) = (&upstream.name, &upstream.tags),
        }
    }
}

/// Whether a member has the permanent logical slots of the configuration, or copies of them.
pub(super) fn has_logical_slots(view: &View, cluster: &Cluster, name: &MemberName, tags: &Tags) -> bool {
    let settings = &view.settings;
    settings.use_slots
        && settings.standby_cluster.is_none()
        && !tags.nofailover()
        && settings.slots.values().any(|slot| matches!(slot.kind, SlotKind::Logical(_)))
        && slot_on_primary(cluster, name, tags).is_some()
}

/// Logical slots here, or at anybody who streams through this member, hold back vacuum on the primary by feedback alone.
pub(super) fn needs_feedback(view: &View, cluster: &Cluster) -> bool {
    passes_feedback_on(view, cluster, &view.me.name, &view.me.tags, &mut BTreeSet::new())
}

fn passes_feedback_on(
    view: &View,
    cluster: &Cluster,
    name: &MemberName,
    tags: &Tags,
    seen: &mut BTreeSet<MemberName>,
) -> bool {
    if view.settings.standby_cluster.is_some() || !seen.insert(name.clone()) {
        return false;
    }
    if has_logical_slots(view, cluster, name, tags) {
        return true;
    }
    slot_on_primary(cluster, name, tags).is_some()
        && cluster.members.values().any(|member| {
            let streams = member.tags.replicatefrom().is_some_and(|named| named == *name);
            streams
                && cluster.leader_name() != Some(&member.name)
                && passes_feedback_on(view, cluster, &member.name, &member.tags, seen)
        })
}
