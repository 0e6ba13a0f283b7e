//! What a client must show before it is let in, and the checks that need no exchange: where it comes from, its certificate, and who
//! it is in the operating system.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bellwether_pgwire::{
    auth::{
        certificate::{IdentMaps, common_name},
        hba::{Certificate, Check, Connection, Method, Origin},
        login::Login,
        secret::Secret,
        verify,
    },
    startup::Startup,
};

use crate::{
    refusal::Refusal,
    settings::{AuthType, PoolerSettings},
};

/// Where a client is, as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) peer: Option<SocketAddr>,
    pub(super) is_unix: bool,
    pub(super) is_encrypted: bool,
}

impl Place {
    fn address(self) -> IpAddr {
        // A socket whose other end has gone has no address, and nobody to let in.
        self.peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical())
    }

    fn origin(self) -> Origin {
        if self.is_unix {
            Origin::UnixSocket
        } else {
            Origin::Tcp { address: self.address(), tls: self.is_encrypted }
        }
    }

    /// As PostgreSQL writes it.
    fn words(self, startup: &Startup) -> String {
        let host = if self.is_unix { "[local]".to_owned() } else { self.address().to_string() };
        format!(
            "host \"{host}\", user \"{}\", database \"{}\", {}",
            startup.user(),
            startup.database(),
            if self.is_encrypted { "SSL encryption" } else { "no encryption" }
        )
    }
}

/// What a client at `place` must show: by the rules if there are any, else the same for everybody.
pub(super) fn check_for(
    settings: &PoolerSettings,
    place: Place,
    startup: &Startup,
) -> Result<Check, Refusal> {
    let Some(rules) = &settings.rules else {
        let method = match settings.auth_type {
            AuthType::Scram => Method::Scram,
            AuthType::Md5 => Method::Md5,
            AuthType::Plain => Method::Password,
            AuthType::Trust => Method::Trust,
            AuthType::Cert => Method::Cert,
        };
        let certificate = (method == Method::Cert).then_some(Certificate::NamesUser);
        return Ok(Check { method, certificate, map: None });
    };
    let connection = Connection {
        origin: place.origin(),
        database: startup.database(),
        user: startup.user(),
        physical_replication: startup.is_replication(),
    };
    let refused = |what: String, hint| Refusal::NotAllowed { sqlstate: "28000", what, hint };
    match rules.lines.rule_for(&connection) {
        None => Err(refused(
            format!("no auth_hba_file entry for {}", place.words(startup)),
            "Add a line to the file that pooler.auth_hba_file names, and reload.",
        )),
        Some(rule) if rule.check.method == Method::Reject => {
            tracing::info!(line = rule.line, "a client of the proxy was turned away by a rule");
            Err(refused(
                format!("auth_hba_file rejects connection for {}", place.words(startup)),
                "A line of the file that pooler.auth_hba_file names says so.",
            ))
        }
        Some(rule) if rule.check.method == Method::Password && !place.is_encrypted && !place.is_unix => {
            Err(refused(
                format!("a password is not taken on an open wire: {}", place.words(startup)),
                "Connect with sslmode=require, or let the rule ask for scram-sha-256.",
            ))
        }
        Some(rule) => Ok(rule.check.clone()),
    }
}

/// Whether the client's certificate, which TLS has verified, is what the check asks for.
pub(super) fn check_certificate(
    check: &Check,
    maps: Option<&IdentMaps>,
    certificate: Option<&[u8]>,
    user: &str,
) -> Result<(), Refusal> {
    let Some(wanted) = check.certificate else { return Ok(()) };
    let Some(der) = certificate else {
        return Err(Refusal::NotAllowed {
            sqlstate: "28000",
            what: "connection requires a valid client certificate".into(),
            hint: "Connect with sslmode=require, sslcert and sslkey; pooler.client_tls_ca_file must know who signed it.",
        });
    };
    let name = common_name(der);
    let none = IdentMaps::default();
    let names_user =
        name.as_deref().is_some_and(|name| maps.unwrap_or(&none).allows(check.map.as_deref(), name, user));
    if wanted == Certificate::Valid || names_user {
        return Ok(());
    }
    tracing::info!(user, name = name.unwrap_or_default(), "a certificate does not name the user");
    Err(Refusal::NotAllowed {
        sqlstate: "28000",
        what: format!("certificate authentication failed for user \"{user}\""),
        hint: "The common name of the certificate must be the user's name, or the rule's map must allow it.",
    })
}

/// Whether the operating system's user at the other end may be `user`.
pub(super) fn check_peer(
    map: Option<&str>,
    maps: Option<&IdentMaps>,
    name: Result<String, String>,
    user: &str,
) -> Result<(), Refusal> {
    let none = IdentMaps::default();
    let (name, is_allowed) = match name {
        Ok(name) => {
            let is_allowed = maps.unwrap_or(&none).allows(map, &name, user);
            (name, is_allowed)
        }
        Err(what) => (what, false),
    };
    if is_allowed {
        return Ok(());
    }
    tracing::info!(user, name, "a user of the operating system is not the user");
    Err(Refusal::NotAllowed {
        sqlstate: "28000",
        what: format!("Peer authentication failed for user \"{user}\""),
        hint: "Name the database user like yourself in the operating system, or let the rule's map allow it.",
    })
}

/// The exchange by which a password is shown; `None`: there is none.
pub(super) fn exchange(method: Method) -> Option<verify::Method> {
    match method {
        Method::Password => Some(verify::Method::Cleartext),
        Method::Md5 => Some(verify::Method::Md5),
        Method::Scram => Some(verify::Method::Scram),
        Method::Trust | Method::Cert | Method::Peer | Method::Reject => None,
    }
}

/// What servers take for a client that has shown no password: only what is known of it anyway.
pub(super) fn login_without_password(secret: Option<Secret>) -> Login {
    match secret {
        Some(Secret::Plain(plain)) => Login::Password(plain.password().clone()),
        Some(Secret::Md5(hash)) => Login::Md5(hash),
        // A verifier opens nothing.
        Some(Secret::Scram(_)) | None => Login::Nothing,
    }
}
