//! Configuration as its users meet it: files and environment in, settings or problems out.

mod effective;
mod load;
mod problems;
mod realistic;
mod stores;
