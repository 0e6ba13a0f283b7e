//! Configuration: file, environment and cluster settings.
