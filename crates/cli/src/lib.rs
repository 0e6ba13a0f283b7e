//! Operator commands and their rendering.
