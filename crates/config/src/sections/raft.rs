//! `raft`: the embedded store.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::{HostPort, section::Section};

/// The embedded store on this node. On reload only the certificates are read anew.
#[derive(Clone, Debug)]
pub struct Raft {
    /// The address by which partners reach this voter; `None` = a client without a vote.
    pub self_addr: Option<HostPort>,
    /// Where it listens; `self_addr` if not given.
    pub bind_addr: Option<HostPort>,
    /// The other voters, never this one.
    pub partner_addrs: Vec<HostPort>,
    /// Where log and snapshots live; given for every voter.
    pub data_dir: Option<PathBuf>,
    /// Shared by all partners: authenticates and encrypts when there are no certificates.
    pub password: Option<SecretString>,
    /// Ours: how patient elections are.
    pub timing: RaftTiming,
    /// Ours: mutual TLS.
    pub certfile: Option<PathBuf>,
    pub keyfile: Option<PathBuf>,
    pub cafile: Option<PathBuf>,
    /// Ours: talk to partners in clear text.
    pub insecure: bool,
    /// Ours: this node votes, but runs no PostgreSQL.
    pub witness: bool,
}

/// `raft.timing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RaftTiming {
    #[default]
    Default,
    /// One rack, low latency.
    Fast,
    /// Data centres far apart.
    Wan,
}

const ADDRESS_HELP: &str = "write `host:port`, for example `10.0.0.11:2380`";

impl Raft {
    pub(crate) fn read(section: &Section<'_>) -> Option<Self> {
        let self_addr: Option<HostPort> = section.parsed("self_addr", ADDRESS_HELP, str::parse);
        let bind_addr = section.parsed("bind_addr", ADDRESS_HELP, |text| HostPort::parse(text, None));
        let partner_addrs = read_partners(section, self_addr.as_ref());
        let data_dir = section.file("data_dir");
        if section.has("self_addr") && data_dir.is_none() {
            section.missing(
                "data_dir",
                "name a directory for the store's log, for example `/var/lib/bellwether/raft`",
            );
        }
        if !section.has("self_addr") && partner_addrs.is_empty() {
            section.missing(
                "self_addr",
                "give the address of this node's vote, or `partner_addrs` to be a client",
            );
        }
        let read = Self {
            self_addr,
            bind_addr,
            partner_addrs,
            data_dir,
            password: section.secret("password"),
            timing: section
                .choice(
                    "timing",
                    &[("default", RaftTiming::Default), ("fast", RaftTiming::Fast), ("wan", RaftTiming::Wan)],
                )
                .unwrap_or_default(),
            certfile: section.file("certfile"),
            keyfile: section.file("keyfile"),
            cafile: section.file("cafile"),
            insecure: section.flag("insecure").unwrap_or(false),
            witness: section.flag("witness").unwrap_or(false),
        };
        read.check_protection(section);
        (read.self_addr.is_some() || !read.partner_addrs.is_empty()).then_some(read)
    }

    fn check_protection(&self, section: &Section<'_>) {
        let given = [("certfile", &self.certfile), ("keyfile", &self.keyfile), ("cafile", &self.cafile)];
        if given.iter().any(|(_, file)| file.is_some()) {
            for (key, _) in given.iter().filter(|(_, file)| file.is_none()) {
                section.missing(key, "give `certfile`, `keyfile` and `cafile` together");
            }
            return;
        }
        if self.password.is_none() && !self.insecure && !self.partner_addrs.is_empty() {
            section.missing(
                "password",
                "give all partners the same `raft.password`, or certificates (`certfile`, `keyfile`, `cafile`); `insecure: true` goes without",
            );
        }
    }
}

/// The other voters: who names itself, or somebody twice, is told and goes on without.
fn read_partners(section: &Section<'_>, own: Option<&HostPort>) -> Vec<HostPort> {
    let mut partners: Vec<HostPort> = Vec::new();
    for text in section.comma_texts("partner_addrs").unwrap_or_default() {
        let reason = match text.parse() {
            Ok(address) if Some(&address) == own => "names this node itself, which is left out",
            Ok(address) if partners.contains(&address) => "is named twice",
            Ok(address) => {
                partners.push(address);
                continue;
            }
            Err(error) => {
                let problem = section.about("partner_addrs", error.to_string()).found(text.as_str());
                section.report.problem(problem.help(ADDRESS_HELP));
                continue;
            }
        };
        let warning = section.about("partner_addrs", reason).found(text.as_str());
        section.report.warn(warning.help("name every other node once"));
    }
    partners
}
