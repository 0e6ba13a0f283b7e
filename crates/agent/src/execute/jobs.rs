//! The job that runs: what is heard of it, and what its end means for what is known of the server.

use bellwether_ha::view::{JobKind, JobOutcome};
use bellwether_types::{PostgresState, Role};
use tracing::{debug, info, warn};

use super::Effect;
use crate::{agent::Agent, job::JobNews};

impl Agent {
    pub(super) fn cancel_job(&mut self, kind: &JobKind) -> Effect {
        let cancelled = self.jobs.cancel(kind);
        if cancelled {
            tell_cancelled(kind);
        }
        Effect::of(cancelled)
    }

    /// News of the job that runs.
    pub(crate) async fn hear_job(&mut self, id: u64, news: JobNews) {
        let Some(kind) = self.jobs.hear(id, &news) else { return };
        match news {
            JobNews::Phase(_) => {}
            JobNews::Changing => self.local.files_changing = true,
            JobNews::Created if self.local.custom_bootstrap => {
                self.local.state = PostgresState::BootstrapStarting;
            }
            JobNews::Created => self.local.state = PostgresState::Starting,
            JobNews::Started(postmaster) => self.adopt(postmaster),
            JobNews::Compared(divergence) => {
                self.local.not_compared = None;
                self.local.divergence = Some(divergence);
            }
            JobNews::Ended(outcome) => self.job_ended(&kind, &outcome).await,
        }
    }

    async fn job_ended(&mut self, kind: &JobKind, outcome: &JobOutcome) {
        match outcome {
            // Nothing was changed, and it is asked again: a server that comes up cannot tell its position at once.
            JobOutcome::Failed { why, .. } if *kind == JobKind::CheckDivergence => {
                self.tell_not_compared(why)
            }
            JobOutcome::Failed { why, .. } => warn!(job = ?kind, why, "job failed"),
            _ => {}
        }
        self.journal.record("job", serde_json::json!({"job": kind, "outcome": outcome}));
        self.requests.job_ended(kind, outcome);
        let succeeded = *outcome == JobOutcome::Succeeded;
        match kind {
            JobKind::Promote if succeeded => self.local.role = Role::Promoted,
            JobKind::Start if succeeded && self.local.role == Role::Replica => {
                info!("started as a secondary")
            }
            JobKind::Demote | JobKind::Stop if succeeded => self.server_is_down(PostgresState::Stopped),
            JobKind::Demote | JobKind::Stop => self.local.state = PostgresState::StopFailed,
            JobKind::Start if !succeeded => self.server_is_down(PostgresState::StartFailed),
            JobKind::Restart | JobKind::CopySlots if !succeeded => {
                self.server_is_down(PostgresState::RestartFailed)
            }
            JobKind::Bootstrap if !succeeded => {
                let is_custom = std::mem::take(&mut self.local.custom_bootstrap);
                self.server_is_down(if is_custom {
                    PostgresState::CustomBootstrapFailed
                } else {
                    PostgresState::InitdbFailed
                });
            }
            // The files are those of a primary now, or nobody's.
            JobKind::PostBootstrap => self.local.custom_bootstrap = false,
            JobKind::Wipe if succeeded => self.data_directory_is_gone().await,
            JobKind::Clone | JobKind::Reinitialize | JobKind::Rewind | JobKind::CrashRecovery => {
                if succeeded && *kind != JobKind::CrashRecovery {
                    self.mark_end().await;
                    self.local.role = Role::Replica;
                }
                if *kind == JobKind::Rewind && !succeeded && !self.local.files_changing {
                    self.mark_end().await;
                }
                self.local.control = None;
                self.local.divergence = None;
                self.server_is_down(PostgresState::Stopped);
            }
            _ => {}
        }
    }

    /// Once for each reason: a cluster elsewhere may be away for hours.
    fn tell_not_compared(&mut self, why: &str) {
        if self.local.not_compared.as_deref() != Some(why) {
            info!(why, "histories could not be compared yet");
            self.local.not_compared = Some(why.to_owned());
        }
    }

    /// A job stopped the server, or failed to start it. A process that still lives is found by the next look.
    fn server_is_down(&mut self, state: PostgresState) {
        if self.local.postmaster.as_ref().is_none_or(|postmaster| !postmaster.is_alive()) {
            self.local.lost_postmaster(true);
            self.monitor.disconnect();
        }
        self.local.state = state;
    }
}

/// The comparison of histories gives way to anything, and nothing is lost by that.
pub(super) fn tell_cancelled(kind: &JobKind) {
    if *kind == JobKind::CheckDivergence {
        debug!("Cancelling long running task {}", kind.as_str());
    } else {
        warn!("Cancelling long running task {}", kind.as_str());
    }
}
