//! A virtual address follows the lease: through a switchover no two hosts have it at one time, a killed agent's successor keeps it, and
//! after the loss of its host or the freezing of its agent it answers elsewhere within a second of the promotion, and is gone from the
//! old host by the end of the old lease. By a client with a real ARP cache, IPv4 and IPv6, without root.

use crate::laboratory::chaos;

#[test]
fn a_virtual_address_follows_the_lease_and_dies_with_it() {
    let Some(report) = chaos(&["vip"]) else { return };
    assert_eq!(report["answers_after_promotion_ms"].as_array().map(Vec::len), Some(2), "{report:#}");
    assert_eq!(report["gone_after_ms"].as_array().map(Vec::len), Some(2), "{report:#}");
    assert!(report["confirmed_by"].as_array().is_some_and(|names| !names.is_empty()), "{report:#}");
}
