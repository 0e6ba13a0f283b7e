//! Version and checksum around everything that is stored.

use ring::digest::{SHA256, digest};
use serde::{Serialize, de::DeserializeOwned};

/// The newest format that this program writes and reads.
pub(crate) const VERSION: u8 = 1;
const CHECKSUM: usize = 8;

/// Why a record cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadRecord {
    Damaged(String),
    Newer(u8),
}

impl std::fmt::Display for BadRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(detail) => f.write_str(detail),
            Self::Newer(found) => write!(f, "format {found} is newer than {VERSION}, the newest known here"),
        }
    }
}

/// Version, checksum, JSON.
pub(crate) fn seal<T: Serialize>(value: &T) -> Vec<u8> {
    let body = serde_json::to_vec(value).expect("our own types have string keys and no failing serializers");
    let mut record = Vec::with_capacity(body.len() + 1 + CHECKSUM);
    record.push(VERSION);
    record.extend_from_slice(&digest(&SHA256, &body).as_ref()[..CHECKSUM]);
    record.extend_from_slice(&body);
    record
}

pub(crate) fn open<T: DeserializeOwned>(record: &[u8]) -> Result<T, BadRecord> {
    let Some((&version, rest)) = record.split_first() else {
        return Err(BadRecord::Damaged("it is empty".to_owned()));
    };
    if version > VERSION {
        return Err(BadRecord::Newer(version));
    }
    if version == 0 || rest.len() < CHECKSUM {
        return Err(BadRecord::Damaged("it is cut off or overwritten".to_owned()));
    }
    let (checksum, body) = rest.split_at(CHECKSUM);
    if digest(&SHA256, body).as_ref()[..CHECKSUM] != *checksum {
        return Err(BadRecord::Damaged("its checksum is wrong".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| BadRecord::Damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_or_cut_record_is_noticed() {
        let record = seal(&vec![1_u32, 2, 3]);
        assert_eq!(open::<Vec<u32>>(&record), Ok(vec![1, 2, 3]));
        for position in 0..record.len() {
            let mut changed = record.clone();
            changed[position] ^= 0x40;
            assert!(open::<Vec<u32>>(&changed).is_err(), "byte {position} changed");
            assert!(open::<Vec<u32>>(&record[..position]).is_err(), "cut at {position}");
        }
    }

    #[test]
    fn a_newer_record_is_named_as_such() {
        let mut record = seal(&1_u32);
        record[0] = VERSION + 1;
        assert_eq!(open::<u32>(&record), Err(BadRecord::Newer(VERSION + 1)));
    }
}
