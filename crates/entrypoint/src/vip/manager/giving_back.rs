//! Addresses that go: those that are not ours to hold any more, all of them when the agent stops, and what an earlier agent has left.

use std::{io, path::Path};

use bellwether_config::sections::vip::{Vip, VipAddress};
use serde_json::json;
use tracing::info;

use super::{KIND, Manager, hold::Hold};
use crate::vip::{
    link::Links,
    record::{Record, Recorded},
};

/// How long addresses stay that an agent leaves which is stopped in a pause: enough for an upgrade.
const KEPT_IN_PAUSE: u32 = 300;

impl Manager {
    /// Removes the address if an agent of this member has added it.
    pub(super) async fn release(&mut self, key: &(String, VipAddress), because: &str) {
        let (name, address) = key;
        let Some(hold) = self.holds.get(key) else { return };
        if !hold.may_be_here() {
            self.holds.remove(key);
            return;
        }
        let on = self.recorded.iter().find(|left| left.entry == *name && left.address == address.ip);
        let interface = on.map(|left| left.interface.clone()).unwrap_or_default();
        let index = self.interfaces.iter().find(|known| known.name == interface).map(|known| known.index);
        let removed = match index {
            Some(index) => self.links.remove(index, *address).await,
            // With its interface the address is gone, too.
            None => Ok(false),
        };
        match removed {
            Ok(_) => {
                self.holds.remove(key);
                self.forget(name, *address);
                self.board.clear_error(KIND, name);
                info!(entry = name, address = %address.ip, interface, because, "removed the virtual address");
                let record =
                    json!({"action": "removed", "entry": name, "address": address.ip, "because": because});
                self.agent.tell(KIND, record);
            }
            Err(error) => self.fail(name, &format!("{} cannot be removed: {error}", address.ip)),
        }
    }

    /// Gives back what is here. In a pause with a running primary the agent may be stopped for an upgrade: the address stays for a
    /// while.
    pub(super) async fn farewell(&mut self) {
        let situation = self.agent.situation();
        let stays = situation.paused
            && situation.local == crate::situation::Local::Leads
            && !situation.another_leads();
        for key in self.holds.keys().cloned().collect::<Vec<_>>() {
            let is_here = self.holds.get(&key).is_some_and(Hold::is_here);
            if stays && is_here && self.keep_in_pause(&key).await {
                continue;
            }
            self.release(&key, "the agent stops").await;
        }
    }

    async fn keep_in_pause(&mut self, key: &(String, VipAddress)) -> bool {
        let (name, address) = key;
        let Some(at) =
            self.recorded.iter().position(|left| left.entry == *name && left.address == address.ip)
        else {
            return false;
        };
        let interface = self.recorded[at].interface.clone();
        let Some(index) =
            self.interfaces.iter().find(|known| known.name == interface).map(|known| known.index)
        else {
            return false;
        };
        self.recorded[at].is_kept = true;
        self.write_record();
        let kept = self.links.put(index, &interface, *address, Some(KEPT_IN_PAUSE)).await.is_ok();
        if kept {
            info!(
                entry = name, address = %address.ip,
                "the virtual address stays for {KEPT_IN_PAUSE} s: the cluster is paused, and PostgreSQL goes on without the agent"
            );
        }
        kept
    }
}

/// Removes what an agent before this one has left and what nobody is entitled to now: addresses that are not configured any more, and
/// those that the kernel would keep for ever. To be called before anything else is done.
pub async fn clean_up(runtime_dir: &Path, vip: &Vip) -> io::Result<()> {
    let record = Record::within(runtime_dir);
    let left = record.read()?;
    let is_configured = |left: &Recorded| {
        let address = VipAddress { ip: left.address, prefix_len: left.prefix_len };
        vip.entries.get(&left.entry).is_some_and(|entry| entry.addresses.contains(&address))
    };
    let (stays, goes): (Vec<_>, Vec<_>) =
        left.into_iter().partition(|left| is_configured(left) && (left.is_finite || left.is_kept));
    if goes.is_empty() {
        return Ok(());
    }
    take_back(&goes).await?;
    record.write(&stays)
}

/// Removes these addresses from this host.
pub async fn take_back(addresses: &[Recorded]) -> io::Result<()> {
    let links = Links::open()?;
    let interfaces = links.interfaces().await?;
    for left in addresses {
        let address = VipAddress { ip: left.address, prefix_len: left.prefix_len };
        if let Some(interface) = interfaces.iter().find(|interface| interface.name == left.interface)
            && links.remove(interface.index, address).await?
        {
            info!(entry = left.entry, address = %left.address, interface = left.interface, "removed a virtual address that was left behind");
        }
    }
    Ok(())
}
