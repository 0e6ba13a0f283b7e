//! What a client that is let in has asked for, and what it is told.

use bellwether_pgwire::{message, startup::Startup};

use crate::{
    pooling::settings::{Session, Setting},
    worker::{
        context::Context,
        pooled::{
            Pooled,
            client::Stage,
            pool::{PoolId, Settled},
        },
    },
};

impl Pooled {
    /// Lets in those who waited for what a server says of itself.
    pub(in crate::worker::pooled) fn let_in(&mut self, context: &mut Context, id: PoolId) {
        let pool = self.pools.get_mut(id);
        let Some(parameters) = pool.parameters.clone() else { return };
        let startup = pool.startup.clone();
        for key in std::mem::take(&mut pool.newcomers) {
            let Some(client) = self.clients.get_mut(key) else { continue };
            let Some(entry) = client.entry.take() else { continue };
            let wanted = entry.startup.as_ref().map(wanted_settings).unwrap_or_default();
            let mut welcome = Vec::new();
            let mut base = Vec::new();
            for (name, value) in parameters.iter() {
                let own = wanted
                    .iter()
                    .find(|(own, _)| own.as_bytes().eq_ignore_ascii_case(name))
                    // In the server's own form, if it was started with it.
                    .filter(|(own, own_value)| {
                        !startup.iter().any(|(known, _)| known == own) && !is_same_word(own_value, value)
                    });
                message::parameter_status(
                    &mut welcome,
                    name,
                    own.map_or(value, |(_, value)| value.as_bytes()),
                );
            }
            for (name, value) in &wanted {
                let is_so = |(known, has): &(Vec<u8>, Vec<u8>)| {
                    let is_same = value.as_bytes().eq_ignore_ascii_case(has)
                        || (name == "client_encoding" && is_same_word(value, has));
                    name.as_bytes().eq_ignore_ascii_case(known) && is_same
                };
                let has_it = startup.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
                if !has_it && !parameters.iter().any(is_so) {
                    base.push(Setting::quoted(name, value));
                }
            }
            client.side.session = Session::starting_with(base);
            message::backend_key(&mut welcome, client.process, &client.secret);
            message::ready(&mut welcome, b'I');
            client.stage = Stage::Ready;
            client.since = context.now;
            // Impatient clients have said more already.
            client.side.input = entry.bytes;
            client.has_work = !client.side.input.is_empty();
            if client.stream.write(&context.epoll, &welcome).is_err() {
                self.close_client(context, key);
            } else {
                Self::again(context, key);
            }
        }
    }
}

/// What a client's first packet sets, `options` included.
fn wanted_settings(startup: &Startup) -> Vec<(String, String)> {
    let mut wanted = Vec::new();
    for (name, value) in &startup.parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => wanted.extend(options(value)),
            name if name.starts_with("_pq_.") => {}
            name => wanted.push((name.to_owned(), value.clone())),
        }
    }
    wanted
}

/// `utf-8` is `UTF8`, and so is `'utf-8'` (asyncpg).
fn is_same_word(one: &str, other: &[u8]) -> bool {
    let letters = |text: &[u8]| -> Vec<u8> {
        text.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect()
    };
    letters(one.as_bytes()) == letters(other)
}

/// What a session's server is started with: all but the name of the application, which differs from client to client.
pub(super) fn settled(startup: &Startup) -> Settled {
    wanted_settings(startup)
        .into_iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("application_name"))
        .collect()
}

/// `-c name=value` and `--name=value`; a backslash keeps a space.
fn options(text: &str) -> Vec<(String, String)> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => words.last_mut().expect("there is one").extend(characters.next()),
            space if space.is_whitespace() => words.push(String::new()),
            other => words.last_mut().expect("there is one").push(other),
        }
    }
    let mut found = Vec::new();
    let mut is_next = false;
    for word in words.iter().filter(|word| !word.is_empty()) {
        let assignment = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => {
                is_next = true;
                continue;
            }
            Some(assignment) => assignment,
            None if is_next => word,
            None => continue,
        };
        is_next = false;
        if let Some((name, value)) = assignment.split_once('=') {
            found.push((name.trim().replace('-', "_"), value.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_has_several_spellings() {
        assert!(["UTF8", "utf-8", "'utf-8'"].iter().all(|one| is_same_word(one, b"UTF8")));
        assert!(!is_same_word("LATIN1", b"UTF8"));
    }

    #[test]
    fn options_are_settings() {
        let found = options(r"-c geqo=off --work-mem=1MB -csearch_path=a\ b,c");
        let expected = [("geqo", "off"), ("work_mem", "1MB"), ("search_path", "a b,c")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
