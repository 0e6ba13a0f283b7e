//! Behaviour tests with real PostgreSQL.
