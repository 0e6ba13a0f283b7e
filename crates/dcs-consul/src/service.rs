//! The member as a service in Consul's catalogue, so that `primary.batman.service.consul` finds it. Independent of the store: nothing
//! about leadership rests on it.

use std::time::Duration;

use bellwether_dcs::{Deadline, StoreError};
use serde_json::{Value, json};

use crate::{
    config::{Config, ConfigError},
    http::Agent,
};

/// Longer names do not fit into DNS.
const LONGEST_NAME: usize = 230;

/// What is registered, as long as the member runs as one of the roles below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    pub scope: String,
    pub member: String,
    /// Where PostgreSQL listens.
    pub address: String,
    pub port: u16,
    /// `primary`, `replica` or `standby_leader`.
    pub role: String,
    /// Tags besides the role (`service_tags`).
    pub tags: Vec<String>,
    /// `http://host:port` of the member's API, which is asked for the role.
    pub api_url: String,
    /// `service_check_interval`, 5 s by default.
    pub check_interval: Duration,
    /// `service_check_tls_server_name`.
    pub check_tls_server_name: Option<String>,
    /// The session's ttl. A member that fails its check for ten times as long is taken out of the catalogue.
    pub session_ttl: Duration,
}

/// Registers and deregisters at one agent.
#[derive(Debug)]
pub struct Registrar {
    agent: Agent,
}

impl Registrar {
    /// With the same settings as the store.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { agent: Agent::new(config)? })
    }

    /// Adds the member or replaces what was registered for it. To be repeated when anything in it changes, or after an error.
    pub async fn register(&self, registration: &Registration, by: Deadline) -> Result<(), StoreError> {
        let path = ["agent", "service", "register"];
        self.agent.put(&path, &[], Some(&document(registration)), by).await?.expect_success()?;
        Ok(())
    }

    /// Takes the member out. One that is not there is no error.
    pub async fn deregister(&self, scope: &str, member: &str, by: Deadline) -> Result<(), StoreError> {
        let id = service_id(scope, member);
        let answer = self.agent.put(&["agent", "service", "deregister", &id], &[], None::<&()>, by).await;
        match answer {
            Ok(answer) if answer.status == reqwest::StatusCode::NOT_FOUND => Ok(()),
            Ok(answer) => answer.expect_success().map(drop),
            // How older agents say so.
            Err(StoreError::NoQuorum(text)) if text.contains("Unknown service") => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn service_id(scope: &str, member: &str) -> String {
    format!("{scope}/{member}")
}

/// The service's name: letters, digits and dashes, as DNS wants them.
pub fn service_name(scope: &str) -> String {
    let mut name = String::new();
    for character in scope.to_lowercase().chars() {
        match character {
            'a'..='z' | '0'..='9' | '-' => name.push(character),
            '.' | '_' | ' ' => name.push('-'),
            other => name.push_str(&format!("u{:04}", u32::from(other))),
        }
    }
    name.truncate(LONGEST_NAME);
    name
}

fn document(registration: &Registration) -> Value {
    let Registration { scope, member, address, port, role, .. } = registration;
    let mut tags = registration.tags.clone();
    tags.push(role.clone());
    if role == "primary" {
        tags.push("master".to_owned());
    }
    let path = role.replace('_', "-");
    let mut check = json!({
        "HTTP": format!("{}/{path}", registration.api_url.trim_end_matches('/')),
        "Interval": format!("{}ms", registration.check_interval.as_millis()),
        "DeregisterCriticalServiceAfter": format!("{}s", 10 * registration.session_ttl.as_secs()),
    });
    // Older agents do not know the field, and refuse what they do not know.
    if let Some(name) = &registration.check_tls_server_name {
        check["TLSServerName"] = json!(name);
    }
    json!({
        "ID": service_id(scope, member),
        "Name": service_name(scope),
        "Address": address,
        "Port": port,
        "Tags": tags,
        "EnableTagOverride": true,
        "Check": check,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_dns_can_say() {
        for (scope, expected) in [
            ("batman", "batman"),
            ("My_Cluster.1 x", "my-cluster-1-x"),
            ("a+b", "au0043b"),
            ("\u{fc}", "u0252"),
        ] {
            assert_eq!(service_name(scope), expected, "{scope}");
        }
        assert_eq!(service_name(&"x".repeat(400)).len(), LONGEST_NAME);
    }
}
