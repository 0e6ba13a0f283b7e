//! The members' names, and which host each lives on.

use bellwether_ha::view::Upstream;
use bellwether_types::MemberName;

use crate::event::HostId;

/// Members are called `a`, `b`, `c`...: host 0 is the home of `a`.
#[derive(Debug)]
pub struct Names {
    names: Vec<MemberName>,
    api_urls: Vec<String>,
    conn_urls: Vec<String>,
}

impl Names {
    pub fn new(members: usize) -> Self {
        let name = |host| MemberName::new(letter(host).to_string()).expect("a letter is a name");
        let names: Vec<MemberName> = (0..members).map(name).collect();
        let api_urls = names.iter().map(|name| format!("http://{name}:8008/patroni")).collect();
        let conn_urls = names.iter().map(|name| format!("postgres://{name}:5432/postgres")).collect();
        Self { names, api_urls, conn_urls }
    }

    pub fn of(&self, host: HostId) -> &MemberName {
        &self.names[host]
    }

    /// Names come from this world only, so that every one of them has a host.
    pub fn index_of(&self, name: &MemberName) -> HostId {
        self.names.iter().position(|known| known == name).expect("a member of this world")
    }

    pub fn api_url(&self, host: HostId) -> String {
        self.api_urls[host].clone()
    }

    pub fn conn_url(&self, host: HostId) -> String {
        self.conn_urls[host].clone()
    }

    /// `None`: it is in another world.
    pub fn source(&self, upstream: &Upstream) -> Option<HostId> {
        (!upstream.is_remote).then(|| self.index_of(&upstream.member))
    }
}

pub fn letter(host: HostId) -> char {
    char::from(b'a' + u8::try_from(host).expect("few hosts"))
}
