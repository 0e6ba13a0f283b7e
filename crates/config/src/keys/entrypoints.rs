//! Keys about how clients reach the cluster: addresses and names that follow the roles.

use super::{
    Applies::Reload,
    Form::{Flag, Int, Named, Section, Text, Texts, Words},
    Key, key,
};

pub(super) const VIP: &[Key] = &[
    key(
        "kernel_lifetime",
        Flag,
        Reload,
        "true",
        "The kernel drops an address by itself when the lease ends that it rests on.",
    ),
    key("announce", Words(&["on", "none"]), Reload, "on", "Whether neighbours are told where an address is."),
    key("announce_count", Int, Reload, "4", "Announcements in a burst, 1 to 100."),
    key("announce_gap", Text, Reload, "100ms", "Time between them."),
    key("announce_delay", Text, Reload, "5s", "Time from the first burst to the second one."),
    key(
        "announce_refresh",
        Text,
        Reload,
        "60s",
        "Time between the announcements afterwards; `off` for none.",
    ),
];

/// An entry of [`VIP`], under any name.
pub(super) const VIP_ENTRY: &[Key] = &[
    key(
        "kind",
        Words(&["leader", "site", "replica", "sync"]),
        Reload,
        "leader",
        "Whom the addresses follow; `site` is `leader`.",
    ),
    key(
        "addresses",
        Texts,
        Reload,
        "",
        "IPv4 and IPv6 addresses, each with `/prefix` if it has one. Those of another site's network are left to that site.",
    ),
    key(
        "interface",
        Text,
        Reload,
        "by network",
        "Interface, where the network of the address does not say it.",
    ),
    key("prefix_len", Int, Reload, "32, 128", "Prefix of addresses without one."),
    key("max_lag", Text, Reload, "100MB", "WAL that the holder may be behind; kinds `replica` and `sync`."),
    key(
        "fallback",
        Words(&["none", "leader"]),
        Reload,
        "none",
        "Who holds it when there is no such replica.",
    ),
    key("provider", Section(PROVIDER), Reload, "", "Whom to tell besides the network."),
];

const PROVIDER: &[Key] = &[
    key(
        "type",
        Words(&["hetzner-robot", "hetzner-cloud", "aws-eip", "exec", "webhook"]),
        Reload,
        "",
        "Whose interface is called.",
    ),
    key("url", Text, Reload, "the provider's", "Base of the provider's API; for `webhook` what is called."),
    key("server", Text, Reload, "", "This host, as the provider knows it."),
    key("id", Text, Reload, "the address", "The address, as the provider knows it."),
    key("credentials_file", Text, Reload, "", "File (0600) with the token, or `user:password`."),
    key("command", Texts, Reload, "", "Program and arguments; for `exec`."),
    key("timeout", Text, Reload, "180s", "Time for one call."),
    key("verify", Text, Reload, "900s", "How often is looked whether the address still leads here."),
];

pub(super) const DNS: &[Key] = &[
    key("zone", Text, Reload, "", "Zone that takes dynamic updates."),
    key("name", Text, Reload, "scope", "Name that leads to the leader."),
    key("reader_name", Text, Reload, "", "Name that leads to the replicas."),
    key("servers", Texts, Reload, "by the zone's SOA", "Where updates go, in this order: `host[:port]`."),
    key("verify_servers", Texts, Reload, "the zone's NS", "Where is looked whether an update has arrived."),
    key(
        "auth",
        Words(&["tsig", "gss-tsig", "none"]),
        Reload,
        "",
        "How updates are authenticated; there is no default, and no way from one to another.",
    ),
    key("tsig_key_file", Text, Reload, "", "Key in the form of `tsig-keygen`; for `tsig`."),
    key(
        "gss",
        Section(GSS),
        Reload,
        "",
        "Who we are to Kerberos; for `gss-tsig`, done by `kinit` and `nsupdate`.",
    ),
    key("ttl", Int, Reload, "60", "Seconds that others may remember the records."),
    key(
        "addresses",
        Texts,
        Reload,
        "the virtual ones, or else our own",
        "What the name leads to when this member leads.",
    ),
    key(
        "sites",
        Named(&[], DNS_SITE),
        Reload,
        "",
        "What differs by site, which is the tag `zone` of a member.",
    ),
    key("ptr", Flag, Reload, "false", "Whether the addresses lead back to the name."),
    key(
        "fence_txt",
        Flag,
        Reload,
        "true",
        "A TXT record `_bellwether.NAME` keeps late updates of a former leader out.",
    ),
    key("refresh", Text, Reload, "24h", "After so long an update is repeated even if nothing has changed."),
    key("check_interval", Text, Reload, "60s", "How often the answers are looked at."),
    key("verify_timeout", Text, Reload, "60s", "How long all servers may take to answer as wanted."),
];

const DNS_SITE: &[Key] = &[
    key(
        "addresses",
        Texts,
        Reload,
        "as without sites",
        "What the name leads to when a member of this site leads.",
    ),
    key("reader_name", Text, Reload, "", "Name that leads to the replicas of this site."),
];

const GSS: &[Key] = &[
    key("realm", Text, Reload, "", "Kerberos realm."),
    key("kdc", Texts, Reload, "as DNS says", "Key distribution centres: `host[:port]`."),
    key("principal", Text, Reload, "", "Who the updates come from; the same on every member."),
    key("keytab", Text, Reload, "", "Its keytab (0600)."),
    key("password_file", Text, Reload, "", "File (0600) with its password, instead."),
];
