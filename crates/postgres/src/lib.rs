//! PostgreSQL control: files, processes, queries, clones, rewinds.
