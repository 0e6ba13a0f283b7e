//! The embedded store: Raft consensus over mutual TLS.
