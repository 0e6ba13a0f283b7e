//! What was added to this host, in a file: for an agent that comes after one that was killed.

use bellwether_config::sections::vip::VipAddress;
use tracing::error;

use super::Manager;
use crate::vip::record::Recorded;

impl Manager {
    pub(super) fn remember(&mut self, name: &str, interface: &str, address: VipAddress) {
        let is_finite = self.vip.kernel_lifetime;
        let is_new = |left: &Recorded| {
            !(left.entry == name
                && left.address == address.ip
                && left.interface == interface
                && left.is_finite == is_finite
                && !left.is_kept)
        };
        if self.recorded.iter().all(is_new) {
            self.recorded.retain(|left| left.entry != name || left.address != address.ip);
            self.recorded.push(Recorded {
                entry: name.to_owned(),
                interface: interface.to_owned(),
                address: address.ip,
                prefix_len: address.prefix_len,
                is_finite,
                is_kept: false,
            });
            self.write_record();
        }
    }

    pub(super) fn forget(&mut self, name: &str, address: VipAddress) {
        self.recorded.retain(|left| left.entry != name || left.address != address.ip);
        self.write_record();
    }

    pub(super) fn write_record(&self) {
        if let Err(error) = self.record.write(&self.recorded) {
            error!(%error, file = %self.record.path().display(), "what was added to this host could not be written down");
        }
    }
}
