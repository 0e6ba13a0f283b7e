//! The keys that clients of pools cancel with: each says which node gave it out, so that a request that comes to another node's
//! proxy finds its way. It must fit into the 4 + 4 bytes of protocol 3.0, and the 4 bytes of the secret stay a secret.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use bellwether_types::MemberName;

/// The process number: no sign, these bits of who gave it out, and a number that goes up.
const OWNER_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 21;

/// Gives out process numbers that no other client of this node has, as far as two million of them reach.
#[derive(Debug)]
pub(crate) struct Processes {
    owner: u32,
    next: AtomicU32,
}

impl Processes {
    pub(crate) fn of(member: &MemberName) -> Self {
        // Anywhere: after a restart clients of before must not be taken for new ones.
        Self { owner: owner_number(member), next: AtomicU32::new(rand::random()) }
    }

    pub(crate) fn next(&self) -> u32 {
        let sequence = self.next.fetch_add(1, Relaxed) & ((1 << SEQUENCE_BITS) - 1);
        // Zero is no process.
        ((self.owner << SEQUENCE_BITS) | sequence).max(1)
    }
}

/// Whether `member` may have given out this number. Two members can share a mark: then both are asked.
pub(crate) fn may_be_of(process: u32, member: &MemberName) -> bool {
    process >> SEQUENCE_BITS == owner_number(member)
}

/// FNV-1a, folded: the same in every version, as nodes of several versions work together.
fn owner_number(member: &MemberName) -> u32 {
    let hash = member
        .as_str()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> OWNER_BITS) ^ (hash >> (2 * OWNER_BITS))) & ((1 << OWNER_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_says_whose_it_is() {
        let (first, second): (MemberName, MemberName) = ("pg1".parse().unwrap(), "pg2".parse().unwrap());
        let processes = Processes::of(&first);
        let numbers: Vec<u32> = (0..1000).map(|_| processes.next()).collect();
        assert!(numbers.iter().all(|number| may_be_of(*number, &first) && !may_be_of(*number, &second)));
        assert!(numbers.iter().all(|number| i32::try_from(*number).is_ok()), "drivers read a signed number");
        let distinct: std::collections::BTreeSet<u32> = numbers.into_iter().collect();
        assert_eq!(distinct.len(), 1000);
    }

    #[test]
    fn the_mark_of_a_member_is_for_ever() {
        assert_eq!(
            ["pg1", "pg2", "db-7.example"].map(|name| owner_number(&name.parse().unwrap())),
            [520, 141, 496]
        );
    }
}
