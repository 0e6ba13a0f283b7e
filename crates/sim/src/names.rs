//! The members' names, and which host each lives on.

use bellwether_ha::view::Upstream;
use bellwether_types::MemberName;

use crate::event::HostId;

/// Members are called `a`, `b`, `c`...: host 0 is the home of `a`.
#[derive(Debug)]
pub struct Names {
    names: Vec<MemberName>,
}

impl Names {
    pub fn new(members: usize) -> Self {
        let name = |host| MemberName::new(letter(host).to_string()).expect("a letter is a name");
        Self { names: (0..members).map(name).collect() }
    }

    pub fn of(&self, host: HostId) -> &MemberName {
        &self.names[host]
    }

    /// Names come from this world only, so that every one of them has a host.
    pub fn index_of(&self, name: &MemberName) -> HostId {
        self.names.iter().position(|known| known == name).expect("a member of this world")
    }

    pub fn api_url(&self, host: HostId) -> String {
        format!("http://{}:8008/patroni", self.names[host])
    }

    pub fn conn_url(&self, host: HostId) -> String {
        format!("postgres://{}:5432/postgres", self.names[host])
    }

    pub fn source(&self, upstream: &Upstream) -> HostId {
        self.index_of(&upstream.member)
    }
}

pub fn letter(host: HostId) -> char {
    char::from(b'a' + u8::try_from(host).expect("few hosts"))
}
