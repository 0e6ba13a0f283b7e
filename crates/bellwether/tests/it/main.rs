//! The binary as people start it, over real clusters.

mod called_patronictl;
mod demo;
mod reader;
