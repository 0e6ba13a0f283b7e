//! Guardians as processes, over trees of real processes and a real PostgreSQL.

mod agent_lost;
mod deadline;
mod handover;
mod isolation;
mod postgres;
mod tree;
