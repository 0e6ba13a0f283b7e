//! `haproxy-config`: the ports of the field, led by the members' health checks.

use std::fmt::Write as _;

use super::{Place, bracketed};

/// Name, port, health check, and how clients are spread.
const LISTENERS: [(&str, u16, &str); 3] =
    [("primary", 5000, "/primary"), ("replicas", 5001, "/replica?lag=16MB"), ("synchronous", 5002, "/sync")];

/// A whole `haproxy.cfg` for version 2.2 and later.
pub(crate) fn configuration(cluster: &str, places: &[Place]) -> String {
    let mut text = format!(
        "# HAProxy in front of the PostgreSQL cluster {cluster}. Members are found by name: print it anew when one joins or leaves.\n\
         # Check it: haproxy -c -f FILE\n\
         global\n    maxconn 1000\n\n\
         defaults\n    mode tcp\n    retries 2\n    timeout connect 4s\n    timeout client 30m\n    timeout server 30m\n    \
         timeout check 2s\n\n\
         listen stats\n    mode http\n    bind 127.0.0.1:7000\n    stats enable\n    stats uri /\n"
    );
    for (name, port, check) in LISTENERS {
        // Sessions of a member that is no longer what they came for are closed, above all with a former primary.
        let _ = write!(
            text,
            "\nlisten {name}\n    bind *:{port}\n    option httpchk OPTIONS {check}\n    http-check expect status 200\n    \
             default-server inter 1s fastinter 500ms fall 3 rise 1 on-marked-down shutdown-sessions\n"
        );
        for place in places {
            let _ = writeln!(text, "    server {} {}", place.name, server(place));
        }
    }
    text
}

fn server(place: &Place) -> String {
    let mut text = format!("{}:{} maxconn 500", bracketed(&place.host), place.port);
    if let Some((host, port, tls)) = &place.api {
        let _ = write!(text, " check port {port}");
        if *host != place.host {
            let _ = write!(text, " addr {host}");
        }
        if *tls {
            // Name the authority of the certificates here instead, if it is one of your own.
            text.push_str(" check-ssl verify required ca-file @system-ca");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interop::tests::two;

    #[test]
    fn each_member_is_asked_where_its_rest_interface_is() {
        let mut places = two();
        places[1].api = Some(("10.9.9.9".into(), 8443, true));
        let text = configuration("main", &places);
        assert!(text.contains("    server a 10.0.0.1:5432 maxconn 500 check port 8008\n"), "{text}");
        let other = "    server b [2001:db8::2]:5432 maxconn 500 check port 8443 addr 10.9.9.9 check-ssl verify required";
        assert!(text.contains(other), "{text}");
        assert_eq!(text.matches("on-marked-down shutdown-sessions").count(), 3);
    }
}
