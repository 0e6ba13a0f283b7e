//! Raw frames out of and into one interface.
#![expect(
    unsafe_code,
    reason = "a socket is bound to an interface by a structure that no crate fills in safely"
)]

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recv, send, socket_with,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    frame::{Sighting, read_advertisement, read_arp},
    place::HardwareAddress,
};

const ETHERNET_ARP: u16 = 0x0806;
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
/// More than any frame that matters here.
const FRAME: usize = 256;

/// Sends frames out of an interface.
#[derive(Debug)]
pub struct Sender {
    socket: OwnedFd,
    pub mac: HardwareAddress,
}

impl Sender {
    /// Needs CAP_NET_RAW.
    pub fn open(index: u32, mac: HardwareAddress) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, FLAGS, None)?;
        // No protocol: nothing is received.
        bind(&socket, index, 0)?;
        Ok(Self { socket, mac })
    }

    /// Sends one frame, complete from its Ethernet header on.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(&self.socket, frame, SendFlags::empty())?;
        Ok(())
    }
}

/// Hears who says on an interface that an address is his.
#[derive(Debug)]
pub struct Listener {
    arp: AsyncFd<OwnedFd>,
    /// `None`: the host has no IPv6.
    discovery: Option<AsyncFd<OwnedFd>>,
}

impl Listener {
    /// Needs CAP_NET_RAW; to be called on a runtime.
    pub fn open(index: u32, interface: &str) -> io::Result<Self> {
        let protocol = Protocol::from_raw(u32::from(ETHERNET_ARP.to_be()).try_into().expect("not zero"));
        let arp = socket_with(AddressFamily::PACKET, SocketType::RAW, FLAGS, Some(protocol))?;
        bind(&arp, index, ETHERNET_ARP)?;
        let discovery = listen_to_discovery(interface).ok().map(register).transpose()?;
        Ok(Self { arp: register(arp)?, discovery })
    }

    /// The next one.
    pub async fn next(&self) -> io::Result<Sighting> {
        loop {
            let seen = match &self.discovery {
                None => receive(&self.arp, read_arp).await?,
                Some(discovery) => tokio::select! {
                    seen = receive(&self.arp, read_arp) => seen?,
                    seen = receive(discovery, read_advertisement) => seen?,
                },
            };
            if let Some(seen) = seen {
                return Ok(seen);
            }
        }
    }
}

#[expect(deprecated, reason = "the safe constructor is fit for a descriptor that the AsyncFd owns")]
fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

async fn receive(
    socket: &AsyncFd<OwnedFd>,
    read: fn(&[u8]) -> Option<Sighting>,
) -> io::Result<Option<Sighting>> {
    loop {
        let mut ready = socket.readable().await?;
        let mut buffer = [0; FRAME];
        let received =
            ready.try_io(|socket| Ok(recv(socket.get_ref().as_fd(), &mut buffer[..], RecvFlags::TRUNC)?));
        match received {
            Ok(Ok((_, length))) => return Ok(read(&buffer[..length.min(FRAME)])),
            // The interface was down for a moment.
            Ok(Err(error)) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
    }
}

fn listen_to_discovery(interface: &str) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET6, SocketType::RAW, FLAGS, Some(ipproto::ICMPV6))?;
    socket2::SockRef::from(&socket).bind_device(Some(interface.as_bytes()))?;
    Ok(socket)
}

fn bind(socket: &OwnedFd, index: u32, protocol: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).expect("a small number"),
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).expect("some tens of bytes");
    // SAFETY: the kernel reads `length` bytes of a structure that lives until the call returns.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
