//! A little of everything that `make chaos` and `make bench-failover` do at length.

mod laboratory;
mod vip;
