//! What wakes the loop, and what it makes of the news.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_ha::{
    action::Answer,
    view::{FailsafeRound, LocalHistory, PeerAnswer, Peers, RequestKind},
};
use bellwether_postgres::{config::PendingRestart, postmaster::PostmasterId};
use bellwether_types::{MemberName, Timestamp};
use tokio::sync::oneshot;

use crate::{
    agent::Agent,
    job::JobNews,
    reloads::{ReloadError, Reloaded},
    slot_keeper::LeaderAnswer,
};

/// One thing that happened. Store and lease changes come through their own watches.
#[derive(Debug)]
pub(crate) enum Event {
    Job {
        id: u64,
        news: JobNews,
    },
    /// The process ended, whoever stopped it.
    PostmasterExited(PostmasterId),
    /// The WAL receiver whose end is watched is gone.
    ReceiverEnded,
    PeersPolled {
        began_at: Timestamp,
        answers: BTreeMap<MemberName, PeerAnswer>,
    },
    FailsafeAsked(FailsafeRound),
    /// An operator's request; answered once, by the decision that deals with it or by the job it starts.
    Request {
        kind: RequestKind,
        reply: oneshot::Sender<Answer>,
    },
    /// Read the configuration file again.
    Reload,
    /// It has been read, or cannot be.
    Reloaded(Box<Result<Reloaded, ReloadError>>),
    /// The file of the timeline that is being written; `None`: it could not be read.
    HistoryRead(Option<LocalHistory>),
    /// These parameters wait for a restart.
    PendingRestart(Vec<PendingRestart>),
    /// Logical slots were made or moved; what these need is gone.
    SlotsMoved {
        unusable: BTreeSet<String>,
    },
    LeaderSlots(LeaderAnswer),
    /// Somebody wants to know where PostgreSQL is now.
    Look,
    /// Something outside changed that a decision may depend on.
    Nudge,
}

impl Agent {
    /// Takes an event into the state. Decisions come later, on the whole picture.
    pub(crate) async fn hear(&mut self, event: Event) {
        match event {
            Event::Job { id, news } => {
                self.hear_job(id, news).await;
                self.catch_up_with_configuration().await;
            }
            Event::PostmasterExited(id) => {
                let known = self.local.postmaster.clone().filter(|postmaster| *postmaster.id() == id);
                if let Some(postmaster) = known {
                    self.lose(&postmaster).await;
                }
            }
            Event::PeersPolled { began_at, answers } => {
                self.peers = Peers { polled_at: Some(began_at), answers };
                if let Some(wish) = self.polls.ended() {
                    self.begin_poll(wish);
                }
            }
            Event::FailsafeAsked(round) => {
                // Nobody to ask: `/failsafe` names nobody else, so nobody else may lead.
                if round.accepted == round.asked {
                    self.lease.extend(round.began_at, round.good_for).await;
                    self.failsafe_confirmed_until = Some(round.began_at + round.good_for);
                }
                self.failsafe_round = Some(round);
            }
            Event::Request { kind, reply } => self.requests.add(kind, reply),
            Event::Reload => {
                self.service_manager.reloading();
                self.reloads.ask(&self.reload, &self.events_in);
            }
            Event::Reloaded(read) => {
                self.take_local_configuration(*read).await;
                if !self.reloads.ended(&self.reload, &self.events_in) {
                    self.service_manager.ready();
                }
            }
            Event::SlotsMoved { unusable } => self.local.slots.unusable.extend(unusable),
            Event::LeaderSlots(answer) => {
                self.local.slots.of_leader = Some(answer.facts);
                self.local.slots.states = answer.states;
            }
            Event::HistoryRead(history) => self.local.history.ended(history),
            Event::PendingRestart(pending) => self.local.pending_restart = pending,
            // Before the look that follows: who comes from now on needs another.
            Event::Look => self.looks.taken(),
            // The look at the server that follows knows more.
            Event::ReceiverEnded | Event::Nudge => {}
        }
    }
}
