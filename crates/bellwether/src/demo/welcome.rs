//! What is said at the start, and the notes on the way.

use std::io::{self, Write as _};

use super::{Format, layout::Layout};

/// Where notes for people go: to standard error, so that data can be piped; nowhere else knows of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    quiet: bool,
}

pub(super) fn progress(format: Format) -> Progress {
    Progress { quiet: format == Format::Json }
}

impl Progress {
    /// A note is worth nothing more than being shown: if nobody can read it, so be it.
    pub(super) fn say(self, note: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{note}");
        }
    }
}

/// The addresses, and what to try.
pub(super) fn print(layout: &Layout) -> io::Result<()> {
    io::stdout().write_all(text(layout).as_bytes())
}

fn text(layout: &Layout) -> String {
    let passwords = layout.password_file();
    let passwords = passwords.display();
    let (write, read) = (layout.url("read-write"), layout.url("prefer-standby"));
    let first = &layout.nodes[0];
    let (proxied, pooled) = (layout.proxy_url(|ports| ports.primary), layout.proxy_url(|ports| ports.pooled));
    let stats = first.proxy.stats;
    let configuration = first.configuration();
    let configuration = configuration.display();
    let api = first.api_port;
    let binary =
        std::env::current_exe().map_or_else(|_| "bellwether".to_owned(), |path| path.display().to_string());
    format!(
        r#"
The cluster is up. In another terminal, as this user:

  export PGPASSFILE={passwords}
  psql "{write}"      # the primary, wherever it is
  psql "{read}"  # a replica
  psql "{proxied}"  # the primary, by the nodes' proxies
  psql "{pooled}"  # by their pools: held, not cut, while the leader changes

  {binary} list -c {configuration}
  {binary} switchover -c {configuration}
  {binary} explain -c {configuration}
  curl -s http://127.0.0.1:{api}/cluster
  curl -s http://127.0.0.1:{stats}/stats.json   # or `/` in a browser: the proxy's statistics

Kill what you like: `kill -9` an agent, a postgres, or both. A client writes a row each 10 ms meanwhile.
Ctrl-C stops everything.

"#
    )
}
