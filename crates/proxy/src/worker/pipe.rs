//! Bulk data from socket to socket without a copy in our memory: through a pipe that the kernel fills and empties.

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, pipe_with, splice},
};

/// A pipe's usual size.
const ROOM: usize = 64 * 1024;
/// Pipes that are kept for the next one who needs one.
const KEPT: usize = 16;

/// A pipe and what is in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
}

/// Pipes that nobody uses.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    free: Vec<Pipe>,
}

/// What came of filling a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    Bytes(usize),
    Nothing,
    End,
}

impl Pipes {
    /// `None`: no more file descriptors; the data is copied then.
    pub(crate) fn take(&mut self) -> Option<Pipe> {
        self.free.pop().or_else(|| {
            let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            Some(Pipe { out, into, held: 0 })
        })
    }

    pub(crate) fn give_back(&mut self, pipe: Pipe) {
        if pipe.held == 0 && self.free.len() < KEPT {
            self.free.push(pipe);
        }
    }
}

impl Pipe {
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes what a socket has.
    pub(crate) fn fill(&mut self, from: &OwnedFd) -> io::Result<Filled> {
        match splice(from, None, &self.into, None, ROOM, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(0) => Ok(Filled::End),
            Ok(moved) => {
                self.held += moved;
                Ok(Filled::Bytes(moved))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Filled::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a socket what it takes. `true` once nothing is left.
    pub(crate) fn empty(&mut self, to: &OwnedFd) -> io::Result<bool> {
        while self.held > 0 {
            match splice(&self.out, None, to, None, self.held, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(false),
                Ok(moved) => self.held -= moved,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}
