//! What people do to the store by hand.

use bellwether_types::cluster::Initialize;

use crate::{
    event::HostId,
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
}

impl World {
    pub(crate) fn key_removed(&mut self, key: LostKey) {
        self.checks.key_was_removed = true;
        match key {
            LostKey::Initialize => self.operate(vec![Write::Delete(Key::Initialize)]),
            LostKey::Sync => {
                self.gives_sync_up();
                self.operate(vec![Write::Delete(Key::Sync)]);
            }
        }
    }

    pub(crate) fn key_put_back(&mut self, key: LostKey) {
        let is_absent = self.store.cluster().initialize.is_none();
        if key == LostKey::Initialize && is_absent {
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
