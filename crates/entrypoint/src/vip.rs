//! Virtual addresses.
//!
//! [`plan`] says which address belongs here and until when; [`manager`] compares that with what is, and acts by [`link`] (netlink) and
//! [`packet`] (raw frames, built and read in [`frame`]). An address is given to the kernel with a lifetime that ends with the lease:
//! if the agent is killed or stands still, the kernel drops it. [`record`] is the file from which the next agent, or
//! `bellwether vip release`, knows what there is to clean up.

pub mod announce;
pub mod frame;
pub mod link;
pub mod manager;
pub mod packet;
pub mod place;
pub mod plan;
pub mod privilege;
pub mod record;
