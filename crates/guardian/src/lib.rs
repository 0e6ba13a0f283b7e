//! Fencing helper: kills PostgreSQL when the lease of its agent runs out.
