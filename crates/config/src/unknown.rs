//! Keys that nobody reads: most often a slip of the keyboard.

use crate::{node::Node, problem::Problem};

/// A warning per unknown key.
pub(crate) fn warnings(_root: &Node) -> Vec<Problem> {
    Vec::new()
}
