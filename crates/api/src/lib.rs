//! REST server: status, health checks, metrics, operations.
