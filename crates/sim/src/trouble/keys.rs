//! What people do to the store by hand.

use bellwether_types::cluster::Initialize;

use crate::{
    event::HostId,
    invariant::Wiped,
    store::{Key, Write},
    world::World,
};

/// A key that somebody removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostKey {
    /// Which cluster this is. Put back at the end, if nobody has.
    Initialize,
    /// Who has what was acknowledged: whoever removes that gives it up.
    Sync,
    /// All of them: `remove`, or an empty store in the place of the old one.
    All,
}

impl World {
    pub(crate) fn key_removed(&mut self, key: LostKey) {
        if !self.checks.founded {
            return;
        }
        self.checks.key_was_removed = true;
        match key {
            LostKey::All => self.lose_all_keys(),
            LostKey::Initialize => self.operate(vec![Write::Delete(Key::Initialize)]),
            LostKey::Sync => {
                self.gives_sync_up();
                self.operate(vec![Write::Delete(Key::Sync)]);
            }
        }
    }

    fn lose_all_keys(&mut self) {
        let cluster = self.store.cluster().clone();
        if self.checks.wiped.is_none() {
            self.checks.wiped = Some(Wiped {
                leader: cluster.leader_name().map(|name| self.names.index_of(name)),
                is_synchronous: cluster.active_sync().is_some(),
            });
        }
        let members = cluster.members.keys().cloned().map(Key::Member);
        let keys = [
            Key::Initialize,
            Key::Config,
            Key::Leader,
            Key::Failover,
            Key::Sync,
            Key::Status,
            Key::History,
            Key::Failsafe,
            Key::Timeline,
            Key::Takeover,
            Key::Founder,
        ];
        self.note_world(&[5], || "somebody removes all keys".to_owned());
        self.operate(keys.into_iter().chain(members).map(Write::Delete).collect());
    }

    /// Somebody leads again, by whatever way.
    pub(crate) fn keys_written_anew(&mut self) {
        if self.store.leader().is_some() && self.store.cluster().system_id().is_some() {
            self.checks.wiped = None;
        }
    }

    pub(crate) fn key_put_back(&mut self, key: LostKey) {
        let is_absent = self.store.cluster().initialize.is_none();
        if key == LostKey::Initialize && is_absent && self.checks.wiped.is_none() {
            let identity = self.hosts.iter().find_map(|host| host.pg.data.system_id.filter(|_| !host.absent));
            self.operate(identity.map(|id| Write::Initialize(Initialize::Done(id))).into_iter().collect());
        }
    }

    /// `bellwether failover --candidate`, although nothing is wrong.
    pub(crate) fn failover_asked_for(&mut self, candidate: HostId) {
        let is_leader = self.store.cluster().leader_name() == Some(self.names.of(candidate));
        let is_member = self.store.cluster().member(self.names.of(candidate)).is_some();
        if is_member && !is_leader {
            self.checks.failed_over_to.insert(candidate);
            self.request_failover(candidate);
        }
    }
}
