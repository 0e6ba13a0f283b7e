//! Who else says that an address is his, and saying so ourselves.

use bellwether_config::sections::vip::VipAddress;
use bellwether_types::Timestamp;
use serde_json::json;
use tracing::warn;

use super::{KIND, Manager, hold::Hold};
use crate::vip::{frame::Sighting, place::HardwareAddress};

impl Manager {
    /// The address is about to come here: who has it now?
    pub(super) fn expect(
        &mut self,
        key: &(String, VipAddress),
        index: u32,
        mac: Option<HardwareAddress>,
        now: Timestamp,
    ) {
        let hold = self.holds.entry(key.clone()).or_insert_with(|| Hold::coming(now));
        if let (true, Some(mac)) = (hold.probe_is_due(now), mac) {
            self.neighbours.probe(index, key.1.ip, mac);
        }
    }

    pub(super) fn announce(
        &mut self,
        key: &(String, VipAddress),
        index: u32,
        mac: HardwareAddress,
        now: Timestamp,
    ) {
        let Some(hold) = self.holds.get_mut(key) else { return };
        let burst = self.neighbours.may_burst(key.1.ip);
        if !hold.announcement_is_due(&self.vip.announce, burst, now) {
            return;
        }
        if burst.is_some() {
            self.neighbours.burst_done(key.1.ip);
        }
        if let Err(error) = self.neighbours.announce(index, key.1.ip, mac) {
            let why = format!("{} cannot be announced: {error}", key.1.ip);
            self.fail(&key.0.clone(), &why);
        }
    }

    /// A neighbour says that an address is his.
    pub(super) fn hear(&mut self, sighting: Sighting) {
        let now = (self.agent.now)();
        let own = self.interfaces.iter().any(|interface| interface.mac == Some(sighting.at));
        let holds_it = |(_, address): &&(String, VipAddress)| address.ip == sighting.ip;
        let Some(key) = self.holds.keys().find(holds_it).cloned() else {
            self.neighbours.note(sighting, now, false);
            return;
        };
        let is_foreign = !own && self.holds.get(&key).is_some_and(|hold| !matches!(hold, Hold::Adopted));
        if self.neighbours.note(sighting, now, is_foreign) && is_foreign {
            warn!(address = %sighting.ip, at = %sighting.at, "another host says that it has the virtual address of this member");
            let record = json!({"action": "conflict", "entry": key.0, "address": sighting.ip, "at": sighting.at.to_string()});
            self.agent.tell(KIND, record);
        }
    }
}
