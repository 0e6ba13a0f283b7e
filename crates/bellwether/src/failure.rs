//! Failures of a command, as a person reads them on a terminal.

use std::{error::Error, fmt::Write};

use bellwether_types::Failure;

/// The error, its causes, and the code that the book explains it under.
pub(crate) fn text(error: &dyn Error, failure: Failure) -> String {
    let mut text = causes(error);
    let _ = write!(text, "\n  code: {failure}; `bellwether explain {failure}` tells more");
    text
}

/// The error and its causes.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, "\n  because: {error}");
        cause = error.source();
    }
    text
}
