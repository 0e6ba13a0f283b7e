//! Ports that are free and stay so while a node that owns them is down.
//!
//! Test processes share the machine, so each takes whole blocks under a file lock that the kernel drops with the process.
//! Blocks lie below the range from which the kernel serves outgoing connections.

use std::{
    fs::{self, File, OpenOptions},
    net::{Ipv4Addr, TcpListener},
};

use rustix::fs::{FlockOperation, flock};

const FIRST: u16 = 20_000;
const BLOCK: u16 = 32;
const BLOCKS: u16 = 390;

/// A block of ports; free for others again when dropped.
#[derive(Debug)]
pub struct Ports {
    next: u16,
    end: u16,
    _lock: File,
}

impl Ports {
    /// Takes a block in which nobody listens.
    pub fn take() -> Self {
        let directory = std::env::temp_dir().join("bellwether-acceptance-ports");
        fs::create_dir_all(&directory).expect("the temporary directory can be written to");
        let start = u16::try_from(std::process::id() % u32::from(BLOCKS)).expect("it is below BLOCKS");
        (start..BLOCKS)
            .chain(0..start)
            .find_map(|block| {
                let path = directory.join(block.to_string());
                let lock = OpenOptions::new().create(true).append(true).open(path).ok()?;
                flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
                let next = FIRST + block * BLOCK;
                let end = next + BLOCK;
                (next..end).all(is_free).then_some(Self { next, end, _lock: lock })
            })
            .expect("among so many blocks of ports one is free")
    }

    /// The next port of the block.
    pub fn take_one(&mut self) -> u16 {
        assert!(self.next < self.end, "a cluster uses fewer ports than a block has");
        self.next += 1;
        self.next - 1
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_never_overlap() {
        let (mut one, mut other) = (Ports::take(), Ports::take());
        assert!(one.take_one().abs_diff(other.take_one()) >= BLOCK);
    }
}
