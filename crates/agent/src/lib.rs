//! The runtime: observe, decide, act.
