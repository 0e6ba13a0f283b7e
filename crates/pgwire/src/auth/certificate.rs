//! Names in certificates, and whom they may be in PostgreSQL.

use std::collections::BTreeMap;

/// The common name of the subject of a certificate in DER; `None` if it has none, or several.
pub fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    // As PostgreSQL: a zero byte within hides from others what follows it.
    (names.next().is_none() && !name.is_empty() && !name.contains('\0')).then_some(name)
}

/// The maps of a `pg_ident.conf`: for each map, which name from outside may be which user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentMaps {
    maps: BTreeMap<String, Vec<(String, Allowed)>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    All,
    User(String),
}

impl IdentMaps {
    /// Reads a `pg_ident.conf`. Regular expressions are not supported, and refused.
    pub fn parse(text: &str) -> Result<IdentMaps, Vec<super::hba::LineError>> {
        let mut maps: BTreeMap<String, Vec<(String, Allowed)>> = BTreeMap::new();
        let mut problems = Vec::new();
        for (line, tokens) in super::hba::tokens::lines(text) {
            let entry = tokens.map_err(str::to_owned).and_then(|tokens| match tokens.as_slice() {
                [map, outside, user] if [outside, user].iter().any(|token| token.is_regex()) => Err(format!(
                    "map {:?}: regular expressions are not supported, name each user on a line",
                    map.text
                )),
                [map, outside, user] => {
                    let allowed =
                        if user.is("all") { Allowed::All } else { Allowed::User(user.text.clone()) };
                    Ok((map.text.clone(), (outside.text.clone(), allowed)))
                }
                _ => Err("three fields are expected: map, name in the certificate, user".to_owned()),
            });
            match entry {
                Ok((map, entry)) => maps.entry(map).or_default().push(entry),
                Err(problem) => problems.push(super::hba::LineError { line, problem }),
            }
        }
        if problems.is_empty() { Ok(IdentMaps { maps }) } else { Err(problems) }
    }

    /// Whether who is called `outside` may be `user`. Without a map, names must be equal; an unknown map allows nothing.
    pub fn allows(&self, map: Option<&str>, outside: &str, user: &str) -> bool {
        let Some(map) = map else { return outside == user };
        let entries = self.maps.get(map).map(Vec::as_slice).unwrap_or_default();
        entries.iter().any(|(name, allowed)| {
            name == outside
                && match allowed {
                    Allowed::All => true,
                    Allowed::User(name) => name == user,
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_says_who_may_be_whom() {
        let maps = IdentMaps::parse(
            "# map name user\nstaff alice.example.org alice\nstaff \"Bob B\" reporting\nops root all\n",
        )
        .unwrap();
        assert!(maps.allows(None, "alice", "alice") && !maps.allows(None, "alice", "bob"));
        assert!(maps.allows(Some("staff"), "alice.example.org", "alice"));
        assert!(maps.allows(Some("staff"), "Bob B", "reporting"));
        assert!(!maps.allows(Some("staff"), "alice", "alice"), "a map replaces the equality of names");
        assert!(maps.allows(Some("ops"), "root", "anybody"));
        assert!(!maps.allows(Some("unknown"), "alice", "alice"));
    }

    #[test]
    fn bad_lines_are_named() {
        let problems = IdentMaps::parse("a b c\nonly two\nm /^(.*)@x$ \\1\nm \"open c\n").unwrap_err();
        let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [2, 3, 4]);
    }

    #[test]
    fn the_common_name_of_a_real_certificate() {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "alice");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        assert_eq!(common_name(certificate.der()).as_deref(), Some("alice"));
        assert_eq!(common_name(b"nothing"), None);
        let mut nameless = rcgen::CertificateParams::default();
        nameless.distinguished_name = rcgen::DistinguishedName::new();
        assert_eq!(common_name(nameless.self_signed(&key).unwrap().der()), None);
    }
}
