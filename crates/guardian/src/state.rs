//! The rules of arming: pure, with the time handed in.

use bellwether_types::Timestamp;

use crate::protocol::{Request, Status};

/// What the guardian knows about its deadline and its agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    armed: Option<Timestamp>,
    agent_gone: bool,
    dismissed: bool,
    firings: u32,
}

impl State {
    /// The deadline that has passed, if one has. To be asked first on each wake, before anything queued is looked at: an
    /// extension that arrives too late must not save the server.
    pub(crate) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        self.armed.filter(|&deadline| deadline <= now)
    }

    /// The deadline in force.
    pub(crate) fn armed(&self) -> Option<Timestamp> {
        self.armed
    }

    pub(crate) fn firings(&self) -> u32 {
        self.firings
    }

    pub(crate) fn agent_gone(&self) -> bool {
        self.agent_gone
    }

    /// The deadline was acted upon. Only `Arm` sets another one.
    pub(crate) fn fired(&mut self) {
        self.armed = None;
        self.firings = self.firings.saturating_add(1);
    }

    /// The agent closed its end. That says nothing about PostgreSQL, so the deadline stays.
    pub(crate) fn agent_lost(&mut self) {
        self.agent_gone = true;
    }

    pub(crate) fn dismiss(&mut self) {
        self.dismissed = true;
    }

    /// Nothing left to do, now or later.
    pub(crate) fn is_over(&self) -> bool {
        self.dismissed || (self.agent_gone && self.armed.is_none())
    }

    pub(crate) fn apply(&mut self, request: Request, now: Timestamp) -> Status {
        // The deadline may have passed between the wake and the reading of the message.
        if self.due(now).is_some() {
            return Status::TooLate;
        }
        match request {
            Request::Arm { deadline } | Request::Extend { deadline } if deadline <= now => {
                Status::DeadlinePassed
            }
            Request::Extend { .. } if self.armed.is_none() => Status::NotArmed,
            Request::Arm { deadline } | Request::Extend { deadline } => {
                self.armed = Some(deadline);
                Status::Done
            }
            Request::Disarm => {
                self.armed = None;
                Status::Done
            }
            Request::Dismiss => {
                self.dismissed = true;
                Status::Done
            }
            Request::Target(_) => Status::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn armed_until(secs: u64) -> State {
        let mut state = State::default();
        assert_eq!(state.apply(Request::Arm { deadline: at(secs) }, at(0)), Status::Done);
        state
    }

    #[test]
    fn a_request_that_comes_after_the_deadline_changes_nothing() {
        for request in [
            Request::Extend { deadline: at(99) },
            Request::Arm { deadline: at(99) },
            Request::Disarm,
            Request::Dismiss,
        ] {
            let mut state = armed_until(5);
            assert_eq!(state.apply(request, at(5)), Status::TooLate, "{request:?}");
            assert_eq!(state.due(at(5)), Some(at(5)), "{request:?}");
            assert!(!state.is_over(), "{request:?}");
        }
    }

    #[test]
    fn an_extension_in_time_moves_the_deadline_and_the_last_word_counts() {
        let mut state = armed_until(5);
        assert_eq!(state.apply(Request::Extend { deadline: at(9) }, at(4)), Status::Done);
        assert_eq!(state.due(at(8)), None);
        // A shorter guarantee of the store is the truth as well.
        assert_eq!(state.apply(Request::Extend { deadline: at(8) }, at(4)), Status::Done);
        assert_eq!(state.due(at(8)), Some(at(8)));
    }

    #[test]
    fn an_extension_never_arms() {
        let mut state = armed_until(5);
        state.fired();
        assert_eq!(state.apply(Request::Extend { deadline: at(9) }, at(6)), Status::NotArmed);
        assert_eq!((state.armed(), state.firings()), (None, 1));
        assert_eq!(state.apply(Request::Arm { deadline: at(9) }, at(6)), Status::Done);
    }

    #[test]
    fn a_deadline_in_the_past_is_refused_and_the_old_one_stays() {
        let mut state = armed_until(5);
        assert_eq!(state.apply(Request::Extend { deadline: at(4) }, at(4)), Status::DeadlinePassed);
        assert_eq!(state.armed(), Some(at(5)));
    }

    #[test]
    fn the_loss_of_the_agent_does_not_disarm() {
        let mut state = armed_until(5);
        state.agent_lost();
        assert!(!state.is_over(), "the deadline is still to come");
        assert_eq!(state.due(at(6)), Some(at(5)));
        state.fired();
        assert!(state.is_over());

        let mut idle = State::default();
        idle.agent_lost();
        assert!(idle.is_over());
    }
}
