//! One try to change the zone: look, think, change; and looks afterwards.

use std::{collections::BTreeSet, net::IpAddr, path::Path, time::Duration};

use bellwether_config::sections::dns::{Dns, DnsAuth};
use hickory_proto::{op::Message, rr::TSigner};
use tracing::{info, warn};

use crate::{
    Agent,
    board::Part,
    dns::{
        gss::{self, GssError},
        key,
        message::{addresses, authority, change, is_answer, question, texts},
        plan::{Fence, May, Wanted, leads},
        servers::{Server, all_of, primary_of, resolved},
        update::{Data, Entry, Kind, Update, reverse_name},
        wire::{Code, WireError, ask, new_id},
    },
};

/// How often a change is made anew because somebody else was faster.
const TURNS: u32 = 3;

pub(super) struct Attempt<'a> {
    pub(super) agent: &'a Agent,
    pub(super) dns: &'a Dns,
    pub(super) wanted: &'a Wanted,
    /// How long this member has been the leader without a break.
    pub(super) led_for: Duration,
    /// It is written again even if nothing is to be changed.
    pub(super) is_refresh: bool,
    pub(super) runtime_dir: &'a Path,
}

pub(super) enum Outcome {
    Written {
        by: String,
    },
    /// Nothing had to be changed.
    WasSo {
        by: String,
    },
    /// The lease is gone meanwhile.
    NotOurs,
    Failed {
        why: String,
    },
}

/// How a server answers.
pub(super) struct Answer {
    pub(super) server: String,
    pub(super) is_right: bool,
    /// It answers, with something else.
    pub(super) is_wrong: bool,
}

impl Answer {
    pub(super) fn part(&self) -> Part {
        let state = match (self.is_right, self.is_wrong) {
            (true, _) => "answers as wanted",
            (_, true) => "answers something else",
            _ => "does not answer",
        };
        Part { what: "answer".into(), place: self.server.clone(), state: state.into(), ..Part::default() }
    }
}

/// What a zone says at this moment.
struct Seen {
    fence: Vec<String>,
    sets: Vec<BTreeSet<IpAddr>>,
}

impl Attempt<'_> {
    /// Tries one server after the other.
    pub(super) async fn make(&self) -> Outcome {
        let signer = match &self.dns.auth {
            DnsAuth::Tsig { key_file } => match key::signer(key_file) {
                Ok(signer) => Some(signer),
                Err(error) => return Outcome::Failed { why: error.to_string() },
            },
            DnsAuth::None | DnsAuth::GssTsig(_) => None,
        };
        let servers = writers(self.dns).await;
        let mut problems = Vec::new();
        for server in &servers {
            match self.at(server, signer.as_ref()).await {
                Outcome::Failed { why } => problems.push(why),
                outcome => return outcome,
            }
        }
        let why = match problems.as_slice() {
            [] => format!("no server is known for the zone {}; name them in `dns.servers`", self.dns.zone),
            problems => problems.join("; "),
        };
        Outcome::Failed { why }
    }

    async fn at(&self, server: &Server, signer: Option<&TSigner>) -> Outcome {
        for _ in 0..TURNS {
            let seen = match look(self.dns, self.wanted, server).await {
                Ok(seen) => seen,
                Err(error) => return Outcome::Failed { why: error.to_string() },
            };
            if let May::Not { member, term } = self.wanted.fence.may_write(&seen.fence, self.led_for) {
                return Outcome::Failed {
                    why: format!("{member} has written later, as the leader with the number {}", term.0),
                };
            }
            let by = server.host.clone();
            if !self.is_refresh && self.wanted.is_met(self.dns, &seen.fence, &seen.sets) {
                return Outcome::WasSo { by };
            }
            // A slow answer must not make a former leader write.
            if leads(&self.agent.situation()) != Some(self.wanted.fence.term) {
                return Outcome::NotOurs;
            }
            match self.send(&self.wanted.update(self.dns, &seen.fence), server, signer).await {
                Ok(()) => {
                    if self.dns.ptr {
                        self.write_back(&seen, server, signer).await;
                    }
                    return Outcome::Written { by };
                }
                Err(Sent::Overtaken) => {
                    info!(name = self.dns.name, "somebody else has changed the name meanwhile: looking again")
                }
                Err(Sent::Failed(why)) => return Outcome::Failed { why },
            }
        }
        Outcome::Failed { why: format!("{} is changed by somebody else again and again", self.dns.name) }
    }

    async fn send(&self, update: &Update, server: &Server, signer: Option<&TSigner>) -> Result<(), Sent> {
        if let DnsAuth::GssTsig(gss) = &self.dns.auth {
            let (host, port) = (server.host.as_str(), server.address.port());
            return gss::send(gss, update, host, port, self.runtime_dir).await.map_err(|error| match error {
                GssError::Prerequisite => Sent::Overtaken,
                other => Sent::Failed(other.to_string()),
            });
        }
        let message = change(new_id(), update).map_err(|error| Sent::Failed(error.to_string()))?;
        let answer =
            ask(server.address, message, signer).await.map_err(|error| Sent::Failed(error.to_string()))?;
        match Code::of(answer.metadata.response_code) {
            None => Ok(()),
            Some(Code::Prerequisite) => Err(Sent::Overtaken),
            Some(code) => Err(Sent::Failed(WireError::Refused { server: server.address, code }.to_string())),
        }
    }

    /// Lets the addresses lead back to the name, and those that it led to before no more. What fails is only told: the name works.
    async fn write_back(&self, seen: &Seen, server: &Server, signer: Option<&TSigner>) {
        let Some((name, wanted)) = self.wanted.sets.first() else { return };
        let before = seen.sets.first().cloned().unwrap_or_default();
        let target = Data::Ptr(name.clone());
        for address in before.union(wanted) {
            let at = reverse_name(*address);
            let Some(zone) = zone_of(&at, server).await else {
                warn!(%address, server = server.host, "the server has no reverse zone for this address");
                continue;
            };
            let entry = Entry { name: at.clone(), data: target.clone() };
            let is_wanted = wanted.contains(address);
            let update = Update {
                zone,
                prerequisites: Vec::new(),
                delete_sets: if is_wanted { vec![(at, Kind::Ptr)] } else { Vec::new() },
                delete: if is_wanted { Vec::new() } else { vec![entry.clone()] },
                add: if is_wanted { vec![entry] } else { Vec::new() },
                ttl: self.dns.ttl,
            };
            if let Err(sent) = self.send(&update, server, signer).await {
                let why = match sent {
                    Sent::Overtaken => "somebody else changes it".to_owned(),
                    Sent::Failed(why) => why,
                };
                warn!(%address, why, "the address could not be made to lead back to the name");
            }
        }
    }
}

enum Sent {
    Overtaken,
    Failed(String),
}

/// Where updates go.
async fn writers(dns: &Dns) -> Vec<Server> {
    if dns.servers.is_empty() { primary_of(&dns.zone).await } else { resolved(&dns.servers).await }
}

/// Asks every server of the zone, that one first to which updates go.
pub(super) async fn answers(dns: &Dns, wanted: &Wanted) -> Vec<Answer> {
    let mut servers: Vec<Server> = writers(dns).await.into_iter().take(1).collect();
    let others = match (dns.verify_servers.is_empty(), servers.first()) {
        (false, _) => resolved(&dns.verify_servers).await,
        (true, Some(first)) => all_of(&dns.zone, first.address).await,
        (true, None) => Vec::new(),
    };
    servers.extend(others);
    let mut answers = Vec::new();
    let mut asked = BTreeSet::new();
    for server in servers {
        if !asked.insert(server.address) {
            continue;
        }
        let seen = look(dns, wanted, &server).await.ok();
        let is_right = seen.as_ref().is_some_and(|seen| wanted.is_met(dns, &seen.fence, &seen.sets));
        answers.push(Answer { server: server.host, is_right, is_wrong: seen.is_some() && !is_right });
    }
    answers
}

async fn look(dns: &Dns, wanted: &Wanted, server: &Server) -> Result<Seen, WireError> {
    let fence =
        if dns.fence_txt { texts(&ask_for(&Fence::name(dns), Kind::Txt, server).await?) } else { Vec::new() };
    let mut sets = Vec::new();
    for (name, _) in &wanted.sets {
        let mut found = addresses(&ask_for(name, Kind::A, server).await?);
        found.extend(addresses(&ask_for(name, Kind::Aaaa, server).await?));
        sets.push(found);
    }
    Ok(Seen { fence, sets })
}

async fn ask_for(name: &str, kind: Kind, server: &Server) -> Result<Message, WireError> {
    let address = server.address;
    let question = question(new_id(), name, kind, false)
        .map_err(|error| WireError::Malformed { server: address, why: error.to_string() })?;
    let answer = ask(address, question, None).await?;
    if is_answer(&answer) {
        return Ok(answer);
    }
    let code = Code::of(answer.metadata.response_code).unwrap_or(Code::Other(0));
    Err(WireError::Refused { server: address, code })
}

/// The zone on this server that a name lies in.
async fn zone_of(name: &str, server: &Server) -> Option<String> {
    let answer = ask_for(name, Kind::Soa, server).await.ok()?;
    let (zone, _) = authority(&answer)?;
    (zone != "." && !zone.is_empty()).then_some(zone)
}
