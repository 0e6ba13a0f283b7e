//! What the kernel lets us do. Two capabilities are enough; nobody needs to be root.

use std::fs;

use rustix::thread::{CapabilitySet, configure_capability_in_ambient_set};

/// Adds and removes addresses.
const NET_ADMIN: u32 = 12;
/// Sends and hears frames.
const NET_RAW: u32 = 13;

/// The capabilities that virtual addresses need and this thread lacks, by their names.
pub fn missing() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = effective(&status);
    let needed = [("CAP_NET_ADMIN", NET_ADMIN), ("CAP_NET_RAW", NET_RAW)];
    needed.into_iter().filter(|(_, bit)| effective >> bit & 1 == 0).map(|(name, _)| name).collect()
}

fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Keeps what we may do from the programs that we start: PostgreSQL and scripts have no use for it. Acts on the calling thread, and on
/// those that it starts later; to be called before there are others.
pub fn keep_to_ourselves() {
    for capability in [CapabilitySet::NET_ADMIN, CapabilitySet::NET_RAW] {
        // Where there are no ambient capabilities there is nothing to be inherited.
        let _ = configure_capability_in_ambient_set(capability, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_bits_of_a_hexadecimal_mask() {
        assert_eq!(effective("Name:\tx\nCapEff:\t0000000000003000\n"), 1 << NET_ADMIN | 1 << NET_RAW);
        assert_eq!(effective("Name:\tx\n"), 0);
    }
}
