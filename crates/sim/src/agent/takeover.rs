//! Quorum take-over as the agent carries it out: listening, detaching, the promise on disk, and what it forbids.

use bellwether_ha::{
    Action,
    action::StartRole,
    view::{Hearing, Kept, TakeoverView},
};
use bellwether_types::{
    MemberName, Revision, WalPosition,
    takeover::{Heard, Promise, Word},
};

use crate::{
    event::{AgentEvent, HostId},
    schedule::MILLIS,
    world::World,
};

/// How often it is looked whether the WAL receiver has ended, and how often at most.
const LOOK: u64 = 2 * MILLIS;
const TRIES: u32 = 250;

/// A promise in the making.
#[derive(Clone, Debug)]
pub struct Making {
    revision: Revision,
    epoch: u64,
    leader: MemberName,
}

impl World {
    /// What a WAL receiver hears without being sent WAL: keepalives, several per `detect_timeout`.
    pub(crate) fn listen(&mut self, host: HostId) {
        let now = self.now;
        if self.hosts[host].pg.server().is_none() {
            return;
        }
        if let Some(up) = self.is_hearing(host) {
            let at = now - self.hearing_age().min(now);
            let known = self.hosts[host].heard.filter(|(from, _)| *from == up);
            self.hosts[host].heard = Some((up, known.map_or(at, |(_, known)| known.max(at))));
        } else if let Some(server) = self.hosts[host].pg.server()
            && let Some(up) = server.upstream.as_ref().and_then(|upstream| self.names.source(upstream))
            && self.hosts[host].heard.is_none_or(|(known, _)| known != up)
        {
            self.hosts[host].heard = Some((up, now));
        }
    }

    /// The host whose walsender is heard right now.
    fn is_hearing(&self, host: HostId) -> Option<HostId> {
        let h = &self.hosts[host];
        let receiver = h.pg.server().filter(|server| server.in_recovery && !h.pg.frozen)?.receiver?;
        let connection = &self.connections[receiver as usize];
        let up = connection.up;
        let ways = self.is_way_open(up, host) && self.is_way_open(host, up);
        let lives = self.hosts[up].is_alive() && !self.hosts[up].pg.frozen;
        (connection.sender_open && connection.receiver_open && ways && lives).then_some(up)
    }

    pub(crate) fn takeover_view(&self, host: HostId) -> TakeoverView {
        let h = &self.hosts[host];
        let hearing =
            h.heard.map(|(up, at)| Hearing { upstream: self.names.of(up).clone(), heard_at: h.clock(at) });
        TakeoverView { hearing, promise: h.promise.clone() }
    }

    /// What is told to others.
    pub(crate) fn word(&self, host: HostId) -> Word {
        let h = &self.hosts[host];
        let heard = h.heard.map(|(up, at)| {
            let ago = if self.is_hearing(host) == Some(up) { 0 } else { self.now - at };
            Heard { from: self.names.of(up).clone(), ago_ms: ago / MILLIS }
        });
        Word { heard, promise: h.promise.as_ref().map(|kept| kept.promise.clone()) }
    }

    pub(crate) fn is_bound_against(&self, host: HostId, leader: HostId) -> bool {
        let promise = self.hosts[host].promise.as_ref();
        promise.is_some_and(|kept| kept.promise.leader == *self.names.of(leader))
    }

    /// While a promise is on disk nothing attaches, copies or rewinds.
    pub(crate) fn is_forbidden(&self, host: HostId, action: &Action) -> bool {
        self.hosts[host].promise.is_some()
            && self.bug.keeps_promises()
            && matches!(
                action,
                Action::Follow { upstream: Some(_) }
                    | Action::Start { role: StartRole::Standby { upstream: Some(_) } }
                    | Action::Clone { .. }
                    | Action::Rewind { .. }
                    | Action::Reinitialize { .. }
            )
    }

    pub(crate) fn detach(
        &mut self,
        host: HostId,
        id: u64,
        revision: Revision,
        epoch: u64,
        leader: MemberName,
    ) {
        if self.bug.detaches() {
            self.pg_follow(host, None);
        }
        let making = Making { revision, epoch, leader };
        self.later(host, LOOK, AgentEvent::Detached { id, making, tries: TRIES });
    }

    fn position(&self, host: HostId) -> WalPosition {
        let flushed = self.hosts[host].pg.data.flushed;
        WalPosition { timeline: self.wal.timeline(flushed), lsn: self.wal.lsn(flushed) }
    }

    pub(crate) fn detached(&mut self, host: HostId, id: u64, making: Making, tries: u32) {
        let h = &self.hosts[host];
        let Some(server) = h.pg.server().filter(|server| server.in_recovery) else {
            return self.action_answered(host, id, false);
        };
        let is_detached = server.receiver.is_none() && server.upstream.is_none();
        if (!is_detached && self.bug.detaches()) || h.disk_stalls > 0 || h.pg.frozen {
            if tries == 0 {
                return self.action_answered(host, id, false);
            }
            return self.later(host, LOOK, AgentEvent::Detached { id, making, tries: tries - 1 });
        }
        let position = self.position(host);
        let Making { revision, epoch, leader } = making;
        let promise = Promise { revision, epoch, leader, position };
        let kept = Box::new(Kept { promise, made_at: h.clock(self.now) });
        let fsync = self.random.between(MILLIS / 2, 5 * MILLIS);
        self.later(host, fsync, AgentEvent::Promised { id, kept });
    }

    pub(crate) fn promised(&mut self, host: HostId, id: u64, mut kept: Kept) {
        kept.made_at = self.hosts[host].clock(self.now);
        self.note(host, "take-over", &[2], || format!("promises {:?}", kept.promise.position));
        self.hosts[host].promise = Some(kept);
        self.wake(host);
        self.action_done(host, id);
    }
}
