//! What operators asked of this member and have not been answered yet.

use bellwether_ha::{
    action::Answer,
    view::{JobKind, JobOutcome, Request, RequestKind},
};
use tokio::sync::oneshot;

/// The open requests, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    next_id: u64,
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    request: Request,
    reply: Option<oneshot::Sender<Answer>>,
    /// Begun: the caller waits for the end of the job.
    started: bool,
}

impl Requests {
    pub(crate) fn add(&mut self, kind: RequestKind, reply: oneshot::Sender<Answer>) {
        self.next_id += 1;
        let request = Request { id: self.next_id, kind };
        self.open.push(Open { request, reply: Some(reply), started: false });
    }

    /// Those that no decision has dealt with.
    pub(crate) fn pending(&self) -> Vec<Request> {
        self.open.iter().filter(|open| !open.started).map(|open| open.request.clone()).collect()
    }

    /// A decision's answer. A restart that was begun is answered for good by its job; everything else now.
    pub(crate) fn answer(&mut self, id: u64, answer: Answer) -> bool {
        let Some(index) = self.open.iter().position(|open| open.request.id == id && !open.started) else {
            return false;
        };
        let waits = matches!(self.open[index].request.kind, RequestKind::Restart { .. });
        if waits && answer == Answer::Started {
            self.open[index].started = true;
        } else if let Some(reply) = self.open.remove(index).reply {
            let _ = reply.send(answer);
        }
        true
    }

    /// A job ended: whoever waits for it hears how.
    pub(crate) fn job_ended(&mut self, kind: &JobKind, outcome: &JobOutcome) {
        if *kind != JobKind::Restart {
            return;
        }
        for open in self.open.extract_if(.., |open| open.started) {
            let answer = match outcome {
                JobOutcome::Succeeded => Answer::Done,
                JobOutcome::Failed { why, .. } => Answer::Failed { why: why.clone() },
                JobOutcome::Cancelled => Answer::Failed { why: "cancelled".into() },
            };
            if let Some(reply) = open.reply {
                let _ = reply.send(answer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bellwether_ha::view::RestartConditions;

    use super::*;

    #[test]
    fn a_restart_is_answered_when_its_job_ends() {
        let mut requests = Requests::default();
        let (reply, mut answered) = oneshot::channel();
        requests.add(RequestKind::Restart { conditions: RestartConditions::default(), timeout: None }, reply);
        let id = requests.pending()[0].id;

        assert!(requests.answer(id, Answer::Started));
        assert!(requests.pending().is_empty(), "decided on once");
        assert!(answered.try_recv().is_err(), "not over yet");
        requests.job_ended(&JobKind::Start, &JobOutcome::Succeeded);
        assert!(answered.try_recv().is_err(), "another job");
        requests.job_ended(&JobKind::Restart, &JobOutcome::Succeeded);
        assert_eq!(answered.try_recv(), Ok(Answer::Done));
    }

    #[test]
    fn a_refusal_is_told_at_once() {
        let mut requests = Requests::default();
        let (reply, mut answered) = oneshot::channel();
        requests.add(RequestKind::Reinitialize { force: false, from_leader: false }, reply);
        let refusal = Answer::Refused { why: "I am the leader, can not reinitialize".into() };
        requests.answer(requests.pending()[0].id, refusal.clone());
        assert_eq!(answered.try_recv(), Ok(refusal));
        assert!(requests.pending().is_empty());
    }
}
