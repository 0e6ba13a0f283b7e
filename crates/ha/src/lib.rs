//! The decision core: a View in, a Decision out.
