//! Whose history the blocks are from that a rewind has begun to copy.
//!
//! pg_rewind takes blocks of its source as they are at that moment, and a second run takes back only what *this* member changed. Repeated
//! with the same source on the same timeline it is as good as new: replay brings every block up to date. Repeated with a successor that
//! lacks the end of that history it would leave blocks with changes which the successor never made, and replay passes them over as being
//! newer than its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bellwether_types::{MemberName, TimelineId};
use serde::{Deserialize, Serialize};

use crate::interrupted::replace;

const NAME: &str = "rewind-source.json";

/// The source of a rewind, as far as a repetition must have the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RewindSource {
    pub(crate) member: MemberName,
    pub(crate) timeline: TimelineId,
}

/// Why no blocks may be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotTake {
    #[error(
        "an interrupted pg_rewind has brought blocks of timeline {} of {} among these files, and one with another history would not \
         take them back", earlier.timeline.0, earlier.member
    )]
    OtherHistory { earlier: RewindSource },
    #[error("cannot tell whose blocks an interrupted pg_rewind has brought among these files")]
    Unknown {
        #[source]
        cause: io::Error,
    },
    #[error("could not write down whose blocks come among these files")]
    NoNote {
        #[source]
        cause: io::Error,
    },
}

/// Where it is kept beside the mark of the rewind, for as long as that.
pub(crate) fn beside(mark: &Path) -> PathBuf {
    mark.with_file_name(NAME)
}

/// Asks to take blocks from `wanted` now; durable when it is granted. `is_repeated`: an earlier run was interrupted. Blocking.
pub(crate) fn begin(path: &Path, wanted: &RewindSource, is_repeated: bool) -> Result<(), CannotTake> {
    let earlier = match read(path) {
        _ if !is_repeated => None,
        Ok(earlier) => earlier, // `None`: pg_rewind was not reached
        Err(cause) => return Err(CannotTake::Unknown { cause }),
    };
    match earlier {
        Some(earlier) if earlier == *wanted => Ok(()),
        Some(earlier) => Err(CannotTake::OtherHistory { earlier }),
        None => {
            let written =
                serde_json::to_vec(wanted).map_err(io::Error::from).and_then(|bytes| replace(path, &bytes));
            written.map_err(|cause| CannotTake::NoNote { cause })
        }
    }
}

fn read(path: &Path) -> io::Result<Option<RewindSource>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(member: &str, timeline: u32) -> RewindSource {
        RewindSource { member: MemberName::new(member).unwrap(), timeline: TimelineId(timeline) }
    }

    #[test]
    fn a_rewind_is_repeated_with_the_history_that_it_began_with_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let asks = |source: RewindSource, is_repeated| begin(&path, &source, is_repeated);
        assert!(asks(source("a", 2), true).is_ok(), "the first one did not come that far");
        assert!(asks(source("a", 2), true).is_ok());
        for other in [source("b", 2), source("a", 4), source("b", 3)] {
            let refused = asks(other, true).unwrap_err();
            assert!(refused.to_string().contains("timeline 2 of a"), "{refused}");
        }
        assert!(asks(source("b", 3), false).is_ok(), "on files that are whole");
        assert!(asks(source("b", 3), true).is_ok());
        fs::write(&path, "half a li").unwrap();
        let unknown = asks(source("b", 3), true);
        assert!(matches!(unknown, Err(CannotTake::Unknown { .. })), "whose they are nobody can tell");
    }
}
