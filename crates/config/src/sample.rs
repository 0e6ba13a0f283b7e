//! A configuration to start from.

/// An annotated configuration of one member with the embedded store. It loads without warnings once the passwords are
/// replaced, and with them as they are.
pub fn sample() -> &'static str {
    include_str!("../sample.yml")
}
