//! What the agent writes to the store, and on which conditions.

use bellwether_ha::{
    action::{LostKeys, MemberUpdate, NextTimeline, TakeOver},
    view::LeaseView,
};
use bellwether_types::{
    Lsn, ReplicationState, Revision,
    cluster::{ConfigDocument, Initialize, Member, PeerProtocol, Status, TimelineClaim},
};

use super::Step;
use crate::{
    agent::lease::Purpose,
    event::HostId,
    pg::Files,
    store::{Condition, Key, Operation, Write},
    world::World,
};

impl World {
    pub(super) fn commit(&mut self, host: HostId, checks: Vec<(Key, Condition)>, writes: Vec<Write>) -> Step {
        let id = self.wait_id(host);
        self.ask_store(host, Operation::Commit { checks, writes }, Purpose::Action { id });
        Step::Waits
    }

    pub(super) fn compare_and_write(
        &mut self,
        host: HostId,
        key: Key,
        expect: Option<Revision>,
        write: Write,
    ) -> Step {
        let condition = expect.map_or(Condition::Absent, Condition::At);
        self.commit(host, vec![(key, condition)], vec![write])
    }

    pub(super) fn take_lock(
        &mut self,
        host: HostId,
        leader: Condition,
        sync: Option<Revision>,
        timeline: Option<NextTimeline>,
    ) -> Step {
        let Some(lease) = self.hosts[host].agent.mind.lease else { return Step::Failed };
        let id = self.wait_id(host);
        let sync = match self.bug.checks_sync_revision() {
            true => sync,
            false => self.store.cluster().sync_revision(),
        };
        let sync = sync.map_or(Condition::Absent, Condition::At);
        let mut checks = vec![(Key::Leader, leader), (Key::Sync, sync)];
        let leader = self.names.of(host).clone();
        let mut writes = vec![Write::Leader(leader.clone(), lease)];
        if let Some(NextTimeline { timeline, expect }) = timeline {
            checks.push((Key::Timeline, expect.map_or(Condition::Absent, Condition::At)));
            writes.push(Write::Timeline(TimelineClaim { timeline, leader }));
        }
        self.ask_store(host, Operation::Commit { checks, writes }, Purpose::Taken { id, over: false });
        Step::Waits
    }

    /// The store was wiped: all that it should hold, together with the lock.
    pub(super) fn restore_keys(&mut self, host: HostId, lost: LostKeys) -> Step {
        let (Some(lease), Some(mine)) =
            (self.hosts[host].agent.mind.lease, self.hosts[host].pg.data.system_id)
        else {
            return Step::Failed;
        };
        let id = self.wait_id(host);
        let seen = |revision: Option<Revision>| revision.map_or(Condition::Absent, Condition::At);
        let leader = self.names.of(host).clone();
        let mut checks = vec![
            (Key::Leader, Condition::Absent),
            (Key::Initialize, seen(lost.initialize)),
            (Key::Sync, seen(lost.sync_revision)),
        ];
        let mut writes =
            vec![Write::Leader(leader.clone(), lease), Write::Initialize(Initialize::Done(mine))];
        writes.extend(lost.sync.map(Write::Sync));
        if let Some(NextTimeline { timeline, expect }) = lost.timeline {
            checks.push((Key::Timeline, seen(expect)));
            writes.push(Write::Timeline(TimelineClaim { timeline, leader }));
        }
        let others = [
            (Key::Config, lost.config.then(|| Write::Config(ConfigDocument::Valid(self.document_of(host))))),
            (Key::Status, lost.status.map(Write::Status)),
            (Key::History, lost.history.map(Write::History)),
            (Key::Failsafe, lost.failsafe.map(Write::Failsafe)),
            (Key::Takeover, lost.takeover.map(Write::Takeover)),
            (Key::Timeline, lost.claimed.map(Write::Timeline)),
        ];
        for (key, write) in others {
            let Some(write) = write else { continue };
            checks.push((key, Condition::Absent));
            writes.push(write);
        }
        self.ask_store(host, Operation::Commit { checks, writes }, Purpose::Taken { id, over: false });
        Step::Waits
    }

    /// The lock of a leader whose voters have stopped listening to it.
    pub(super) fn take_over(&mut self, host: HostId, over: TakeOver) -> Step {
        let mind = &self.hosts[host].agent.mind;
        let Some(lease) = mind.lease else { return Step::Failed };
        let Some(sync) = mind.cluster.as_ref().and_then(|cluster| cluster.sync.clone()) else {
            return Step::Failed;
        };
        let id = self.wait_id(host);
        let NextTimeline { timeline, expect } = over.timeline;
        let mut checks = vec![
            (Key::Takeover, Condition::At(over.opened_at)),
            (Key::Leader, Condition::At(over.leader)),
            (Key::Timeline, expect.map_or(Condition::Absent, Condition::At)),
        ];
        if self.bug.takes_over_by_sync() {
            checks.push((Key::Sync, Condition::At(over.sync)));
        }
        let leader = self.names.of(host).clone();
        let writes = vec![
            Write::Leader(leader.clone(), lease),
            Write::Sync(sync.value),
            Write::Takeover(over.takeover),
            Write::Timeline(TimelineClaim { timeline, leader }),
        ];
        let purpose = Purpose::Taken { id, over: true };
        self.ask_store(host, Operation::Commit { checks, writes }, purpose);
        Step::Waits
    }

    pub(super) fn release_lock(&mut self, host: HostId, optime: Option<Lsn>) -> Step {
        let mind = &mut self.hosts[host].agent.mind;
        // From here on nobody on this host may believe in the lease, whatever the store answers.
        mind.lease_view = LeaseView::NotHeld;
        let Some(lease) = mind.lease else { return Step::Failed };
        let mut writes = Vec::new();
        if let Some(optime) = optime {
            let known = mind.cluster.as_ref().and_then(|cluster| cluster.status.clone());
            let known = known.map(|keyed| keyed.value).unwrap_or_default();
            writes.push(Write::Status(Status { optime, ..known }));
        }
        writes.push(Write::Delete(Key::Leader));
        self.note(host, "lease", &[3], || format!("gives the leader lock up, final position {optime:?}"));
        self.commit(host, vec![(Key::Leader, Condition::HeldBy(lease))], writes)
    }

    /// Keys that only the lock's owner writes, and only while it owns it.
    pub(super) fn write_as_leader(
        &mut self,
        host: HostId,
        mut checks: Vec<(Key, Condition)>,
        write: Write,
    ) -> Step {
        let Some(lease) = self.hosts[host].agent.mind.lease else { return Step::Failed };
        checks.push((Key::Leader, Condition::HeldBy(lease)));
        self.commit(host, checks, vec![write])
    }

    pub(super) fn publish_member(&mut self, host: HostId, update: &MemberUpdate) -> Step {
        let member = self.member_value(host, update);
        let mind = &self.hosts[host].agent.mind;
        let known = mind.cluster.as_ref().and_then(|cluster| cluster.member(&member.name));
        if known.is_some_and(|known| Member { revision: member.revision, ..known.clone() } == member) {
            return Step::Done;
        }
        // Without a lease there is nothing to hang the key on; it is written later.
        let Some(lease) = mind.lease else { return Step::Done };
        self.commit(host, Vec::new(), vec![Write::Member(Box::new(member), lease)])
    }

    fn member_value(&self, host: HostId, update: &MemberUpdate) -> Member {
        let pg = &self.hosts[host].pg;
        let mind = &self.hosts[host].agent.mind;
        let mut member = Member::unknown(self.names.of(host).clone());
        member.conn_url = Some(self.names.conn_url(host));
        member.api_url = Some(self.names.api_url(host));
        member.state = Some(mind.state);
        member.role = Some(mind.role);
        member.version = Some("4.1.5".to_owned());
        member.bellwether = Some(PeerProtocol { version: "0.1.0".to_owned(), level: 1 });
        member.tags = self.hosts[host].tags.published();
        member.pause = update.pause;
        member.checkpoint_after_promote = update.checkpoint_pending.then_some(false);
        if update.release_sync {
            member.tags.0.insert("nosync".to_owned(), true.into());
            member.tags.0.insert("sync_priority".to_owned(), 0.into());
        }
        if let Some(server) = pg.server()
            && pg.data.files == Files::Present
            && !self.is_silent(host)
        {
            member.timeline = Some(self.wal.timeline(pg.data.flushed));
            member.xlog_location = Some(self.wal.lsn(pg.data.flushed));
            if server.in_recovery && server.receiver.is_some() {
                member.replication_state = Some(ReplicationState::Streaming);
            }
        }
        if self.is_patroni(host) {
            return Self::as_patroni_publishes(member);
        }
        member
    }
}
