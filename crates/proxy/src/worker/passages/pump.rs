//! Bytes from one side to the other.

use bellwether_pgwire::frame::HEADER;

use crate::worker::{
    context::Context,
    stream::{Read, Stream},
};

/// Rounds for one connection before others have their turn.
const ROUNDS: usize = 8;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    Moved {
        bytes: u64,
        /// The last bytes were a ReadyForQuery, with this state of the transaction.
        boundary: Option<u8>,
        more: bool,
    },
    /// The sender sends no more, and all of it is written.
    Ended,
    Broken,
}

/// Moves what can be moved at present.
#[inline]
pub(super) fn pump(context: &mut Context, from: &mut Stream, to: &mut Stream) -> Pumped {
    let (mut bytes, mut boundary) = (0, None);
    if to.is_blocked() {
        match to.flush(&context.epoll) {
            Ok(true) => {}
            Ok(false) => return Pumped::Moved { bytes, boundary, more: false },
            Err(_) => return Pumped::Broken,
        }
    }
    for _ in 0..ROUNDS {
        if from.ended {
            return Pumped::Ended;
        }
        if !from.readable {
            return Pumped::Moved { bytes, boundary, more: false };
        }
        if from.is_bulk()
            && let Some(moved) = to.move_from(from, &context.epoll, &mut context.pipes)
        {
            match moved {
                Ok(Read::Bytes(count)) => (bytes, boundary) = (bytes + count as u64, None),
                Ok(Read::Nothing | Read::End) => {}
                Err(_) => return Pumped::Broken,
            }
            if to.is_blocked() {
                return Pumped::Moved { bytes, boundary, more: false };
            }
            continue;
        }
        match from.read(&mut context.buffer) {
            Ok(Read::Bytes(count)) => {
                let chunk = &context.buffer[..count];
                bytes += count as u64;
                boundary = ready_at_end(chunk);
                if to.write(&context.epoll, chunk).is_err() {
                    return Pumped::Broken;
                }
                if to.is_blocked() {
                    return Pumped::Moved { bytes, boundary, more: false };
                }
            }
            Ok(Read::Nothing) => return Pumped::Moved { bytes, boundary, more: false },
            Ok(Read::End) => {}
            Err(_) => return Pumped::Broken,
        }
    }
    Pumped::Moved { bytes, boundary, more: from.readable }
}

/// The state in the ReadyForQuery that ends the bytes, if one does.
fn ready_at_end(chunk: &[u8]) -> Option<u8> {
    let tail = &chunk[chunk.len().checked_sub(HEADER + 1)?..];
    let state = tail[HEADER];
    (tail.starts_with(b"Z\0\0\0\x05") && matches!(state, b'I' | b'T' | b'E')).then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_response_is_known() {
        assert_eq!(ready_at_end(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I"), Some(b'I'));
        assert_eq!(ready_at_end(b"Z\0\0\0\x05T"), Some(b'T'));
        assert_eq!(ready_at_end(b"Z\0\0\0\x05IN\0\0"), None);
        assert_eq!(ready_at_end(b"Z"), None);
    }
}
