//! From the text of a `pg_hba.conf` to its rules, and every problem with its line.

use super::tokens::{Token, lines};
use super::{Certificate, Check, Database, From, LineError, Method, Rule, Rules, Transport, User};
use std::net::IpAddr;

impl Rules {
    /// Reads a file's text. All problems at once; with one of them the file is not used.
    pub fn parse(text: &str) -> Result<Rules, Vec<LineError>> {
        let mut rules = Vec::new();
        let mut problems = Vec::new();
        for (line, tokens) in lines(text) {
            match tokens.map_err(str::to_owned).and_then(|tokens| rule(line, tokens)) {
                Ok(rule) => rules.push(rule),
                Err(problem) => problems.push(LineError { line, problem }),
            }
        }
        if problems.is_empty() { Ok(Rules { rules }) } else { Err(problems) }
    }
}

/// Words that commas join.
type Field = Vec<Token>;

fn rule(line: usize, tokens: Vec<Token>) -> Result<Rule, String> {
    let mut fields = fields(tokens).into_iter();
    let mut next = |what: &str| fields.next().ok_or_else(|| format!("the line ends before the {what}"));
    let transport = transport(&single(next("connection type")?, "connection type")?)?;
    let databases = next("database")?.iter().map(database).collect::<Result<_, _>>()?;
    let users = next("user")?.iter().map(user).collect::<Result<_, _>>()?;
    let from = match transport {
        Transport::Local => From::Anywhere,
        _ => {
            let address = single(next("address")?, "address")?;
            match network(&address)? {
                Network::Whole(from) => from,
                Network::NeedsMask(address) => masked(address, &single(next("netmask")?, "netmask")?.text)?,
            }
        }
    };
    let method = method(&single(next("method")?, "method")?.text)?;
    let mut check = Check { method, certificate: None, map: None };
    for option in fields {
        set_option(&mut check, transport, &single(option, "option")?.text)?;
    }
    if method == Method::Cert {
        if transport != Transport::HostSsl && transport != Transport::Host {
            return Err("the method cert needs TLS: begin the line with hostssl".to_owned());
        }
        check.certificate = Some(Certificate::NamesUser);
    }
    if method == Method::Peer && transport != Transport::Local {
        return Err("the method peer needs a Unix socket: begin the line with local".to_owned());
    }
    Ok(Rule { line, transport, databases, users, from, check })
}

fn fields(tokens: Vec<Token>) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    let mut joined = false;
    for token in tokens {
        let continues = token.continues;
        match fields.last_mut() {
            Some(field) if joined => field.push(token),
            _ => fields.push(vec![token]),
        }
        joined = continues;
    }
    fields
}

fn single(field: Field, what: &str) -> Result<Token, String> {
    match <[Token; 1]>::try_from(field) {
        Ok([token]) => Ok(token),
        Err(_) => Err(format!("only one {what} may stand in a line")),
    }
}

fn transport(token: &Token) -> Result<Transport, String> {
    match token.text.as_str() {
        "local" => Ok(Transport::Local),
        // No connection to us is encrypted by Kerberos.
        "host" | "hostnogssenc" => Ok(Transport::Host),
        "hostssl" => Ok(Transport::HostSsl),
        "hostnossl" => Ok(Transport::HostNoSsl),
        "include" | "include_if_exists" | "include_dir" => {
            Err(format!("{} is not supported: put the lines into this file", token.text))
        }
        other => {
            Err(format!("unknown connection type {other:?}: local, host, hostssl and hostnossl are known"))
        }
    }
}

fn database(token: &Token) -> Result<Database, String> {
    Ok(match token {
        token if token.is("all") => Database::All,
        token if token.is("sameuser") => Database::SameUser,
        token if token.is("replication") => Database::Replication,
        token if token.is("samerole") || token.is("samegroup") => {
            return Err(format!("{} is not supported: name the databases", token.text));
        }
        token => Database::Named(name(token, "database")?),
    })
}

fn user(token: &Token) -> Result<User, String> {
    match token {
        token if token.is("all") => Ok(User::All),
        token if !token.quoted && token.text.starts_with('+') => {
            Err(format!("members of a role ({}) are not supported: name the users", token.text))
        }
        token => Ok(User::Named(name(token, "user")?)),
    }
}

fn name(token: &Token, what: &str) -> Result<String, String> {
    match token.text.chars().next() {
        Some('/') => Err(format!("{}: regular expressions are not supported, name each {what}", token.text)),
        Some('@') if !token.quoted => {
            Err(format!("{}: lists in files are not supported, name each {what} here", token.text))
        }
        None => Err(format!("an empty name of a {what}")),
        Some(_) => Ok(token.text.clone()),
    }
}

enum Network {
    Whole(From),
    NeedsMask(IpAddr),
}

fn network(token: &Token) -> Result<Network, String> {
    if token.is("all") {
        return Ok(Network::Whole(From::Anywhere));
    }
    let text = token.text.as_str();
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(format!(
            "{text:?} is not an address with its network bits (10.0.0.0/8); names of hosts, samehost and samenet are not supported"
        ));
    };
    let Some(bits) = bits else { return Ok(Network::NeedsMask(address)) };
    let most = if address.is_ipv4() { 32 } else { 128 };
    match bits.parse::<u8>() {
        Ok(bits) if bits <= most => Ok(Network::Whole(From::Network { address, bits })),
        _ => Err(format!("{text:?}: the network bits must be between 0 and {most}")),
    }
}

fn masked(address: IpAddr, mask: &str) -> Result<From, String> {
    let bits = match (address, mask.parse::<IpAddr>()) {
        (IpAddr::V4(_), Ok(IpAddr::V4(mask))) => {
            let bits = mask.to_bits();
            (bits.leading_ones() == bits.count_ones()).then_some(bits.count_ones())
        }
        (IpAddr::V6(_), Ok(IpAddr::V6(mask))) => {
            let bits = mask.to_bits();
            (bits.leading_ones() == bits.count_ones()).then_some(bits.count_ones())
        }
        _ => None,
    };
    match bits.and_then(|bits| u8::try_from(bits).ok()) {
        Some(bits) => Ok(From::Network { address, bits }),
        None => Err(format!(
            "{address} is followed by {mask:?}, which is no netmask of it; the usual form is {address}/{}",
            if address.is_ipv4() { 32 } else { 128 }
        )),
    }
}

fn method(text: &str) -> Result<Method, String> {
    match text {
        "trust" => Ok(Method::Trust),
        "reject" => Ok(Method::Reject),
        "password" => Ok(Method::Password),
        "md5" => Ok(Method::Md5),
        "scram-sha-256" => Ok(Method::Scram),
        "cert" => Ok(Method::Cert),
        "peer" => Ok(Method::Peer),
        other => Err(format!(
            "the method {other:?} is not supported: trust, reject, password, md5, scram-sha-256, cert and peer are"
        )),
    }
}

fn set_option(check: &mut Check, transport: Transport, option: &str) -> Result<(), String> {
    match option.split_once('=') {
        Some(("map", map)) if !map.is_empty() => check.map = Some(map.to_owned()),
        Some(("clientcert", _)) if transport != Transport::HostSsl => {
            return Err("clientcert needs TLS: begin the line with hostssl".to_owned());
        }
        Some(("clientcert", "verify-ca")) => check.certificate = Some(Certificate::Valid),
        Some(("clientcert", "verify-full")) => check.certificate = Some(Certificate::NamesUser),
        Some(("clientcert", other)) => {
            return Err(format!("clientcert={other}: verify-ca and verify-full are known"));
        }
        _ => return Err(format!("the option {option:?} is not supported: map and clientcert are")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_line_is_told_with_its_number() {
        let text = "# good\nlocal all all trust\n\
            hostgssenc all all 0.0.0.0/0 trust\n\
            host all all\n\
            host all all example.org md5\n\
            host all all 10.0.0.0/33 md5\n\
            host all all 10.0.0.0 255.0.255.0 md5\n\
            host all +staff 10.0.0.0/8 md5\n\
            host samerole all 10.0.0.0/8 md5\n\
            host /^app all 10.0.0.0/8 md5\n\
            host all @users 10.0.0.0/8 md5\n\
            host all all 10.0.0.0/8 ldap ldapserver=x\n\
            host all all 10.0.0.0/8 md5 clientcert=verify-ca\n\
            hostssl all all 10.0.0.0/8 md5 clientcert=1\n\
            hostnossl all all 10.0.0.0/8 cert\n\
            host all \"open 10.0.0.0/8 md5\n\
            include other.conf\n\
            host all all 10.0.0.0/8 peer\n";
        let problems = Rules::parse(text).unwrap_err();
        let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, (3..=18).collect::<Vec<_>>(), "{problems:#?}");
        assert_eq!(problems[1].to_string(), "line 4: the line ends before the address");
        assert!(problems[9].problem.contains("ldap"), "{}", problems[9]);
    }

    #[test]
    fn options_of_certificates() {
        let rules = Rules::parse(
            "hostssl all all all scram-sha-256 clientcert=verify-full map=m\nhostssl all all all cert\n",
        )
        .unwrap();
        let checks: Vec<&Check> = rules.rules.iter().map(|rule| &rule.check).collect();
        assert_eq!(checks[0].certificate, Some(Certificate::NamesUser));
        assert_eq!(checks[0].map.as_deref(), Some("m"));
        assert_eq!(checks[1].certificate, Some(Certificate::NamesUser), "implied");
    }

    #[test]
    fn the_operating_systems_users_are_asked_for_on_unix_sockets() {
        let rules = Rules::parse("local all all peer map=m\nlocal all all scram-sha-256\n").unwrap();
        let check = Check { method: Method::Peer, certificate: None, map: Some("m".into()) };
        assert_eq!(rules.rules[0].check, check);
    }

    #[test]
    fn a_quoted_keyword_is_a_name() {
        let rules = Rules::parse("local \"all\" \"replication\" trust\n").unwrap();
        assert_eq!(rules.rules[0].databases, [Database::Named("all".into())]);
        assert_eq!(rules.rules[0].users, [User::Named("replication".into())]);
    }
}
