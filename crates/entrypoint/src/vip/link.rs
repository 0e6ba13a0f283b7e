//! Addresses and interfaces of this host, by netlink.

use std::{collections::BTreeMap, future::Future, io, time::Duration};

use bellwether_config::sections::vip::VipAddress;
use futures::TryStreamExt as _;
use rtnetlink::{
    Handle,
    packet_route::{
        address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo},
        link::{LinkAttribute, LinkFlags, LinkLayerType},
    },
};
use tokio::task::JoinHandle;

use super::place::{HardwareAddress, Interface};

/// The kernel answers at once, or something is very wrong.
const PATIENCE: Duration = Duration::from_secs(1);
const FOREVER: u32 = u32::MAX;
/// Names of IPv4 addresses, the terminating zero apart.
const LONGEST_LABEL: usize = 15;
const NOT_THERE: i32 = -libc::EADDRNOTAVAIL;

/// A connection to the kernel. It ends with this value.
#[derive(Debug)]
pub struct Links {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Links {
    /// To be called on a runtime.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// All interfaces with their addresses.
    pub async fn interfaces(&self) -> io::Result<Vec<Interface>> {
        in_time(async {
            let mut found = BTreeMap::new();
            let mut links = Box::pin(self.handle.link().get().execute());
            while let Some(link) = links.try_next().await? {
                let flags = link.header.flags;
                let mut interface = Interface {
                    index: link.header.index,
                    name: String::new(),
                    mac: None,
                    has_carrier: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
                    addresses: Vec::new(),
                };
                let has_neighbours = link.header.link_layer_type == LinkLayerType::Ether;
                for attribute in link.attributes {
                    match attribute {
                        LinkAttribute::IfName(name) => interface.name = name,
                        LinkAttribute::Address(bytes) if has_neighbours => {
                            interface.mac = bytes.as_slice().try_into().ok().map(HardwareAddress);
                        }
                        _ => {}
                    }
                }
                found.insert(interface.index, interface);
            }
            let mut addresses = Box::pin(self.handle.address().get().execute());
            while let Some(message) = addresses.try_next().await? {
                if let (Some(interface), Some(address)) =
                    (found.get_mut(&message.header.index), address_of(&message))
                {
                    interface.addresses.push(address);
                }
            }
            Ok(found.into_values().collect())
        })
        .await
    }

    /// Adds an address, or renews the lifetime of one that is there. `seconds`: until the kernel drops it; `None`: never.
    pub async fn put(
        &self,
        index: u32,
        interface: &str,
        address: VipAddress,
        seconds: Option<u32>,
    ) -> io::Result<()> {
        let mut request = self.handle.address().add(index, address.ip, address.prefix_len).replace();
        let valid = seconds.unwrap_or(FOREVER);
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = valid;
        // One that is not preferred is no source of connections of ours.
        lifetime.ifa_preferred = if address.ip.is_ipv6() { 0 } else { valid };
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::CacheInfo(lifetime));
        if address.ip.is_ipv6() {
            attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        } else {
            let label = format!("{interface}:bw");
            if label.len() <= LONGEST_LABEL {
                attributes.push(AddressAttribute::Label(label));
            }
        }
        in_time(request.execute()).await
    }

    /// Removes an address. False: it was not there.
    pub async fn remove(&self, index: u32, address: VipAddress) -> io::Result<bool> {
        // Built as for adding, so that both name the same one.
        let message = self.handle.address().add(index, address.ip, address.prefix_len).message_mut().clone();
        match in_time(self.handle.address().del(message).execute()).await {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(-NOT_THERE) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn address_of(message: &AddressMessage) -> Option<VipAddress> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            // On a link between two, `Address` is the other end.
            AddressAttribute::Local(ip) => found = Some(*ip),
            AddressAttribute::Address(ip) => found = found.or(Some(*ip)),
            _ => {}
        }
    }
    found.map(|ip| VipAddress { ip, prefix_len: message.header.prefix_len })
}

async fn in_time<T>(work: impl Future<Output = Result<T, rtnetlink::Error>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(rtnetlink::Error::NetlinkError(error))) => Err(error.to_io()),
        Ok(Err(error)) => Err(io::Error::other(error.to_string())),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer")),
    }
}
