//! Commands as operators type them, against a store in memory and members with the real REST server.

mod agent;
mod changing_the_leader;
mod collecting;
mod configuring;
mod explaining;
mod listing;
mod operating;
mod outlook;
mod querying;
mod removing;
mod screen;
mod transcripts;
mod usage;
mod world;
