//! The messages between agent and guardian: fixed size, little-endian, with a version in front.
//!
//! They travel over a SOCK_SEQPACKET pair, so that a message arrives whole or not at all. Each request is answered by one
//! reply with its sequence number. The guardian also sends one unasked reply, number 0, once it is ready.

use bellwether_types::Timestamp;

use crate::target::Target;

/// Raised when a message changes its meaning. An agent starts its guardian from its own binary, so both normally agree;
/// after a package upgrade under a running agent they may not, and then the guardian is refused instead of misread.
pub(crate) const VERSION: u16 = 1;

pub(crate) const REQUEST_LEN: usize = 32;
pub(crate) const REPLY_LEN: usize = 32;

/// What the agent wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// From now on, kill at this instant.
    Arm {
        deadline: Timestamp,
    },
    /// Like `Arm`, but only while armed: after a firing it must not bring the deadline back.
    Extend {
        deadline: Timestamp,
    },
    /// Who the postmaster is; `None` takes that back.
    Target(Option<Target>),
    Disarm,
    /// Exit, whatever the deadline.
    Dismiss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Done,
    /// `Extend` without a deadline in force: the guardian has fired, or never was armed.
    NotArmed,
    /// The deadline asked for has already passed; nothing was changed.
    DeadlinePassed,
    /// The deadline in force passed before the request was read: the guardian fires now, the request is void.
    TooLate,
    /// No process has that number and start time; the guardian will look for the data directory's processes instead.
    NoSuchProcess,
    /// A version or a kind of message that this guardian does not know.
    NotUnderstood,
}

/// What the guardian answers, together with its state after the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) seq: u64,
    pub(crate) status: Status,
    /// The deadline in force.
    pub(crate) armed: Option<Timestamp>,
    /// How often this guardian has fired.
    pub(crate) firings: u32,
    pub(crate) memory_locked: bool,
    pub(crate) real_time: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    Length,
    Version { theirs: u16 },
    Kind,
}

pub(crate) fn encode_request(seq: u64, request: Request) -> [u8; REQUEST_LEN] {
    let (kind, pid, time, ticks) = match request {
        Request::Arm { deadline } => (1_u16, 0, deadline.as_nanos(), 0),
        Request::Extend { deadline } => (2, 0, deadline.as_nanos(), 0),
        Request::Target(Some(target)) => (3, target.pid, 0, target.start_ticks),
        Request::Target(None) => (3, 0, 0, 0),
        Request::Disarm => (4, 0, 0, 0),
        Request::Dismiss => (5, 0, 0, 0),
    };
    let mut bytes = [0; REQUEST_LEN];
    bytes[0..2].copy_from_slice(&VERSION.to_le_bytes());
    bytes[2..4].copy_from_slice(&kind.to_le_bytes());
    bytes[4..8].copy_from_slice(&pid.to_le_bytes());
    bytes[8..16].copy_from_slice(&seq.to_le_bytes());
    bytes[16..24].copy_from_slice(&time.to_le_bytes());
    bytes[24..32].copy_from_slice(&ticks.to_le_bytes());
    bytes
}

pub(crate) fn decode_request(bytes: &[u8]) -> Result<(u64, Request), Malformed> {
    check_version(bytes)?;
    let bytes: &[u8; REQUEST_LEN] = bytes.try_into().map_err(|_| Malformed::Length)?;
    let pid = u32_at(bytes, 4).cast_signed();
    let deadline = Timestamp::from_nanos(u64_at(bytes, 16));
    let request = match u16_at(bytes, 2) {
        1 => Request::Arm { deadline },
        2 => Request::Extend { deadline },
        3 => Request::Target((pid > 0).then(|| Target { pid, start_ticks: u64_at(bytes, 24) })),
        4 => Request::Disarm,
        5 => Request::Dismiss,
        _ => return Err(Malformed::Kind),
    };
    Ok((u64_at(bytes, 8), request))
}

const ARMED: u32 = 1;
const MEMORY_LOCKED: u32 = 2;
const REAL_TIME: u32 = 4;

pub(crate) fn encode_reply(reply: Reply) -> [u8; REPLY_LEN] {
    let status: u16 = match reply.status {
        Status::Done => 0,
        Status::NotArmed => 1,
        Status::DeadlinePassed => 2,
        Status::TooLate => 3,
        Status::NoSuchProcess => 4,
        Status::NotUnderstood => 5,
    };
    let flag = |on: bool, bit: u32| if on { bit } else { 0 };
    let flags = flag(reply.armed.is_some(), ARMED)
        | flag(reply.memory_locked, MEMORY_LOCKED)
        | flag(reply.real_time, REAL_TIME);
    let deadline = reply.armed.map_or(0, Timestamp::as_nanos);
    let mut bytes = [0; REPLY_LEN];
    bytes[0..2].copy_from_slice(&VERSION.to_le_bytes());
    bytes[2..4].copy_from_slice(&status.to_le_bytes());
    bytes[4..8].copy_from_slice(&flags.to_le_bytes());
    bytes[8..16].copy_from_slice(&reply.seq.to_le_bytes());
    bytes[16..24].copy_from_slice(&deadline.to_le_bytes());
    bytes[24..28].copy_from_slice(&reply.firings.to_le_bytes());
    bytes
}

pub(crate) fn decode_reply(bytes: &[u8]) -> Result<Reply, Malformed> {
    check_version(bytes)?;
    let bytes: &[u8; REPLY_LEN] = bytes.try_into().map_err(|_| Malformed::Length)?;
    let status = match u16_at(bytes, 2) {
        0 => Status::Done,
        1 => Status::NotArmed,
        2 => Status::DeadlinePassed,
        3 => Status::TooLate,
        4 => Status::NoSuchProcess,
        5 => Status::NotUnderstood,
        _ => return Err(Malformed::Kind),
    };
    let flags = u32_at(bytes, 4);
    Ok(Reply {
        seq: u64_at(bytes, 8),
        status,
        armed: (flags & ARMED != 0).then(|| Timestamp::from_nanos(u64_at(bytes, 16))),
        firings: u32_at(bytes, 24),
        memory_locked: flags & MEMORY_LOCKED != 0,
        real_time: flags & REAL_TIME != 0,
    })
}

fn check_version(bytes: &[u8]) -> Result<(), Malformed> {
    let &[low, high, ..] = bytes else { return Err(Malformed::Length) };
    match u16::from_le_bytes([low, high]) {
        VERSION => Ok(()),
        theirs => Err(Malformed::Version { theirs }),
    }
}

fn u16_at(bytes: &[u8; 32], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; 32], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn u64_at(bytes: &[u8; 32], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_arrives_as_it_was_sent() {
        let deadline = Timestamp::from_nanos(u64::MAX - 7);
        for request in [
            Request::Arm { deadline },
            Request::Extend { deadline },
            Request::Target(Some(Target { pid: i32::MAX, start_ticks: u64::MAX })),
            Request::Target(None),
            Request::Disarm,
            Request::Dismiss,
        ] {
            assert_eq!(decode_request(&encode_request(9, request)), Ok((9, request)));
        }
        for status in [
            Status::Done,
            Status::NotArmed,
            Status::DeadlinePassed,
            Status::TooLate,
            Status::NoSuchProcess,
            Status::NotUnderstood,
        ] {
            for armed in [None, Some(deadline)] {
                let reply =
                    Reply { seq: 3, status, armed, firings: 2, memory_locked: true, real_time: false };
                assert_eq!(decode_reply(&encode_reply(reply)), Ok(reply));
            }
        }
    }

    #[test]
    fn a_message_of_another_version_or_length_is_refused_and_not_misread() {
        let mut bytes = encode_request(1, Request::Disarm);
        assert_eq!(decode_request(&bytes[..31]), Err(Malformed::Length));
        assert_eq!(decode_request(&[]), Err(Malformed::Length));
        bytes[2] = 99;
        assert_eq!(decode_request(&bytes), Err(Malformed::Kind));
        bytes[0] = 2;
        assert_eq!(decode_request(&bytes), Err(Malformed::Version { theirs: 2 }));
    }
}
