//! The REST interface.

use std::fmt::Write;

use bellwether_api::reference::{Endpoint, calls, checks, documents};

use super::{head, row};

const INTRO: &str = "\
# REST interface

Paths, status codes, texts and the order of fields are Patroni's. GETs are answered from memory within milliseconds, also while
PostgreSQL or the store hang; only the first segment of a path counts. Unsafe calls are guarded by `restapi.authentication`,
`restapi.allowlist` and `restapi.verify_client`, and each is recorded in the [journal](files.md) with identity, origin and result.
";

pub(super) fn page() -> String {
    let mut page = INTRO.to_owned();
    let parts: [(&str, &str, Vec<Endpoint>); 3] = [
        (
            "Health checks",
            "Answered with 200 or 503; HEAD and OPTIONS do the same without a body. `tag_NAME=VALUE` demands a tag. A member \
          whose status is older than `ttl` answers 503.",
            checks().to_vec(),
        ),
        ("Documents", "", documents().to_vec()),
        ("Unsafe calls", "", calls()),
    ];
    for (title, about, endpoints) in parts {
        let _ = write!(page, "\n## {title}\n\n");
        if !about.is_empty() {
            let _ = write!(page, "{about}\n\n");
        }
        page.push_str(&head(&["call", "what"]));
        for Endpoint { method, path, doc } in endpoints {
            page.push_str(&row(&[&format!("`{method} /{path}`"), doc]));
        }
    }
    page
}
