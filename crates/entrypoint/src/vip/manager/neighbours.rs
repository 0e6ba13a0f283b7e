//! What is said to neighbours, and heard from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use bellwether_types::Timestamp;
use tokio::{sync::mpsc, task::JoinSet};
use tracing::debug;

use crate::vip::{
    frame::{Sighting, announcements, probe},
    packet::{Listener, Sender},
    place::HardwareAddress,
};

/// A contradiction is answered, and told of, not more often than this.
const ANSWER_EACH: Duration = Duration::from_secs(1);
/// Sightings that wait to be looked at; more would be a storm, and are lost.
const WAITING: usize = 64;

/// The neighbours on all interfaces that have addresses of ours.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    senders: BTreeMap<u32, Sender>,
    listening: BTreeMap<u32, (String, HardwareAddress)>,
    watched: BTreeSet<IpAddr>,
    listeners: JoinSet<()>,
    sightings: Option<mpsc::Receiver<Sighting>>,
    /// Where an address was seen last.
    seen: BTreeMap<IpAddr, HardwareAddress>,
    /// Addresses that somebody else claims: when to answer, and when that was done last.
    answer_at: BTreeMap<IpAddr, Timestamp>,
    claimed_at: BTreeMap<IpAddr, Timestamp>,
}

impl Neighbours {
    /// Listens on these interfaces, and on no others, for these addresses.
    pub(super) fn listen(
        &mut self,
        interfaces: &BTreeMap<u32, (String, HardwareAddress)>,
        watched: BTreeSet<IpAddr>,
    ) -> io::Result<()> {
        if *interfaces == self.listening && watched == self.watched {
            return Ok(());
        }
        self.listeners = JoinSet::new();
        self.senders.clear();
        let (tell, sightings) = mpsc::channel(WAITING);
        self.sightings = Some(sightings);
        (self.listening, self.watched) = (BTreeMap::new(), BTreeSet::new());
        let names = Arc::new(watched.clone());
        for (index, (name, mac)) in interfaces {
            self.senders.insert(*index, Sender::open(*index, *mac)?);
            let listener = Listener::open(*index, name)?;
            self.listeners.spawn(pass_on(listener, names.clone(), tell.clone()));
        }
        (self.listening, self.watched) = (interfaces.clone(), watched);
        Ok(())
    }

    /// The next sighting; waits for ever where nobody listens.
    pub(super) async fn next(&mut self) -> Sighting {
        if let Some(sightings) = &mut self.sightings
            && let Some(sighting) = sightings.recv().await
        {
            return sighting;
        }
        std::future::pending().await
    }

    /// Remembers a sighting. True: it is news, of an address whose claim (`foreign`) is to be answered.
    pub(super) fn note(&mut self, sighting: Sighting, now: Timestamp, foreign: bool) -> bool {
        self.seen.insert(sighting.ip, sighting.at);
        if !foreign {
            return false;
        }
        let last = self.claimed_at.get(&sighting.ip).copied();
        let is_news = last.is_none_or(|last| now.since(last) >= ANSWER_EACH);
        if is_news {
            self.claimed_at.insert(sighting.ip, now);
            self.answer_at.insert(sighting.ip, now);
        }
        is_news
    }

    pub(super) fn seen(&self, ip: IpAddr) -> Option<HardwareAddress> {
        self.seen.get(&ip).copied()
    }

    /// When to answer somebody who claims an address of ours.
    pub(super) fn may_burst(&self, ip: IpAddr) -> Option<Timestamp> {
        self.answer_at.get(&ip).copied()
    }

    pub(super) fn burst_done(&mut self, ip: IpAddr) {
        self.answer_at.remove(&ip);
    }

    pub(super) fn announce(&mut self, index: u32, ip: IpAddr, mac: HardwareAddress) -> io::Result<()> {
        let sender = self.sender(index, mac)?;
        announcements(ip, mac).iter().try_for_each(|frame| sender.send(frame))
    }

    pub(super) fn probe(&mut self, index: u32, ip: IpAddr, mac: HardwareAddress) {
        let sent = self.sender(index, mac).and_then(|sender| sender.send(&probe(ip, mac)));
        if let Err(error) = sent {
            debug!(%error, %ip, "nobody could be asked who has the address");
        }
    }

    /// A card that was changed has another address.
    fn sender(&mut self, index: u32, mac: HardwareAddress) -> io::Result<&Sender> {
        if self.senders.get(&index).is_none_or(|sender| sender.mac != mac) {
            self.senders.insert(index, Sender::open(index, mac)?);
        }
        Ok(&self.senders[&index])
    }
}

async fn pass_on(listener: Listener, watched: Arc<BTreeSet<IpAddr>>, tell: mpsc::Sender<Sighting>) {
    loop {
        match listener.next().await {
            Ok(sighting) if watched.contains(&sighting.ip) => {
                let _ = tell.try_send(sighting);
            }
            Ok(_) => {}
            Err(error) => {
                debug!(%error, "an interface is not listened to any more");
                return;
            }
        }
    }
}
