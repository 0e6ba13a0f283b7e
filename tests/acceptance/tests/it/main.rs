//! One file per behaviour; each says in its head what must hold.

mod agent_frozen;
mod agent_killed;
mod bad_input;
mod certificates_renewed;
mod clean_stop;
mod consul;
mod dead_node_told;
mod duplicate_name;
mod etcd;
mod guardian_rehearsal;
mod hanging_postgres;
mod hooks;
mod log_lines;
mod pause;
mod postgres_killed;
mod quiet_log;
mod reinitialize;
mod replication_slots;
mod restart;
mod rewind_after_crash;
mod service_and_watchdog;
mod standby_cluster;
mod store_lost;
mod switchover;
mod tree_killed;
mod zookeeper;
