//! The members' journals: read, merged by time, and made into a story.
//!
//! Reading is tolerant: a record of another version, or one that lacks fields, tells what it can.

pub(crate) mod record;
pub(crate) mod sources;
pub(crate) mod story;
pub(crate) mod telling;
