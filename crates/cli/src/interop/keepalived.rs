//! `keepalived-config`: an address by VRRP, for sites that have it already. It hangs on the member's own health check.

/// What it is about.
#[derive(Clone, Debug)]
pub(crate) struct Vrrp<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) address: &'a str,
    pub(crate) interface: &'a str,
    /// Of the group of routers, unique in the network.
    pub(crate) id: u8,
    /// Where the member's own REST interface answers.
    pub(crate) api_url: &'a str,
}

/// A whole `keepalived.conf`, the same on every member but for where its own REST interface is.
pub(crate) fn configuration(vrrp: &Vrrp<'_>) -> String {
    let Vrrp { cluster, address, interface, id, api_url } = vrrp;
    let address = if address.contains('/') {
        (*address).to_owned()
    } else {
        format!("{address}/{}", if address.contains(':') { 128 } else { 32 })
    };
    let base =
        api_url.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or("127.0.0.1:8008");
    let scheme = api_url.split("://").next().unwrap_or("http");
    format!(
        "# An address that follows the leader of the PostgreSQL cluster {cluster}, by VRRP. Bellwether's own (section `vip`) does without.\n\
         # VRRP knows no majority: what keeps two hosts from having the address is the check, which hangs on the lease.\n\
         # Check it: keepalived -t -f FILE\n\
         global_defs {{\n    router_id {cluster}\n    script_user nobody\n    enable_script_security\n}}\n\n\
         vrrp_script leads {{\n    script \"/usr/bin/curl -sf -m 1 -o /dev/null {scheme}://{base}/primary\"\n    interval 1\n    \
         timeout 2\n    fall 1\n    rise 1\n}}\n\n\
         vrrp_instance {cluster} {{\n    state BACKUP\n    interface {interface}\n    virtual_router_id {id}\n    priority 100\n    \
         advert_int 1\n    garp_master_delay 1\n    garp_master_refresh 60\n    track_script {{\n        leads\n    }}\n    \
         virtual_ipaddress {{\n        {address}\n    }}\n}}\n"
    )
}
