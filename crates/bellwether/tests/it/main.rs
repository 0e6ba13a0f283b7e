//! The binary as people start it, over real clusters.

mod demo;
