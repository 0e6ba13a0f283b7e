//! Deterministic simulation of whole clusters around the real decision core.
