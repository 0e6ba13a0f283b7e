//! Requests and their answers, by number, over the guardian's socket.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use bellwether_types::Timestamp;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::ControlError;
use crate::{
    clock::boottime,
    protocol::{self, Malformed, REPLY_LEN, Reply, Request},
    wait::wait_readable,
};

/// How long a request may go unanswered before the guardian counts as not there.
const ANSWER_WITHIN: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) socket: OwnedFd,
    pub(super) last_seq: u64,
}

#[derive(Debug)]
pub(super) enum ReceiveError {
    Timeout,
    Gone,
    Malformed(Malformed),
    Socket(io::Error),
}

impl Channel {
    pub(super) fn exchange(&mut self, request: Request) -> Result<Reply, ControlError> {
        self.last_seq += 1;
        let seq = self.last_seq;
        let message = protocol::encode_request(seq, request);
        match send(&self.socket, &message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) => {}
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => return Err(ControlError::Gone),
            // Its queue is full: it has not read for a long time.
            Err(rustix::io::Errno::AGAIN) => return Err(ControlError::Timeout { within: ANSWER_WITHIN }),
            Err(errno) => return Err(ControlError::Socket { cause: errno.into() }),
        }
        self.receive(seq, boottime() + ANSWER_WITHIN).map_err(|error| match error {
            ReceiveError::Timeout => ControlError::Timeout { within: ANSWER_WITHIN },
            ReceiveError::Gone => ControlError::Gone,
            ReceiveError::Malformed(_) => ControlError::NotUnderstood,
            ReceiveError::Socket(cause) => ControlError::Socket { cause },
        })
    }

    /// Waits for the answer with this number; older ones belong to calls that gave up.
    pub(super) fn receive(&self, seq: u64, by: Timestamp) -> Result<Reply, ReceiveError> {
        loop {
            if !wait_readable(self.socket.as_fd(), by).map_err(ReceiveError::Socket)? {
                return Err(ReceiveError::Timeout);
            }
            let mut buffer = [0_u8; REPLY_LEN];
            match recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => return Err(ReceiveError::Gone),
                Ok((length, _)) => {
                    let reply = protocol::decode_reply(&buffer[..length]).map_err(ReceiveError::Malformed)?;
                    if reply.seq == seq {
                        return Ok(reply);
                    }
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(ReceiveError::Socket(errno.into())),
            }
        }
    }
}
