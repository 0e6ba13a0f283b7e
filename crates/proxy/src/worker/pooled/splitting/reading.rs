//! What a client's messages are: statements, or a command to the proxy.

use std::{sync::Arc, time::Duration};

use bellwether_pgwire::{
    extended::{Bind, Parse},
    frame::{HEADER, Header, c_string},
    message,
};
use bellwether_sql::{
    Verdict,
    facts::{Because, Class},
    hint::{self, Command, Role},
    token::{Strings, scan},
};

use super::Splitting;
use crate::{
    control::ask::{Ask, What},
    pooling::client::ClientSide,
    split::Session,
    worker::{context::Context, epoll::Key, pooled::Pooled},
};

/// A catalogue is read again after this: a function may have become another.
const CATALOGUE_AGE: Duration = Duration::from_secs(30);

/// What messages are together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) class: Class,
    /// The wish in them.
    pub(super) hint: Option<Role>,
    /// They may change something. Not if they only prepare, describe or close, nor if they say nothing at all.
    pub(super) may_write: bool,
}

impl Splitting {
    /// What the messages are together. They are statements for this database.
    pub(super) fn batch(&mut self, client: &ClientSide, bytes: &[u8], database: &str) -> Batch {
        let unknown = |because| Batch { class: Class::Primary(because), hint: None, may_write: true };
        let Self { reader, known, .. } = self;
        let Some(known) = known.get_mut(database) else { return unknown(Because::NoCatalogue) };
        let mut together = Together::default();
        match for_each_text(client, bytes, |text| together.add(&known.judge.verdict(reader, text))) {
            Some(Extent::Whole { executes }) => together.batch(executes),
            // They are not all there, or more than statements.
            _ => unknown(Because::NotUnderstood),
        }
    }

    /// A replica has refused what these messages say. If they are several statements, nobody knows which.
    fn refused(&mut self, client: &ClientSide, bytes: &[u8], database: &str) {
        let Some(known) = self.known.get_mut(database) else { return };
        let mut texts: Vec<&[u8]> = Vec::new();
        let is_read = for_each_text(client, bytes, |text| {
            if !texts.contains(&text) {
                texts.push(text);
            }
        });
        if let (Some(_), [text]) = (is_read, &texts[..]) {
            known.judge.refused(&mut self.reader, text);
        }
    }

    /// Sees to it that what functions of a database do is known, and not from long ago.
    pub(super) fn refresh(&mut self, context: &Context, client: Key, database: &Arc<str>) {
        let known = match self.known.get_mut(database) {
            Some(known) => known,
            None => self.known.entry(Arc::clone(database)).or_default(),
        };
        let is_old = known.asked_at.is_none_or(|asked| context.now.since(asked) >= CATALOGUE_AGE);
        if is_old {
            let ask = Ask { worker: context.number, client, what: What::Catalogue(Arc::clone(database)) };
            // If it is too busy, the next time.
            known.asked_at = context.shared.asks.try_send(ask).is_ok().then_some(context.now);
        }
    }
}

impl Pooled {
    /// What the client has said was taken for a read, and a replica has refused it: others go to the primary at once.
    pub(in crate::worker::pooled) fn remember_refusal(&mut self, key: Key) {
        let Some(client) = self.clients.get(key) else { return };
        if let Some(split) = &client.split {
            self.splitting.refused(&client.side, &client.side.repeat, &split.database);
        }
    }
}

/// How far messages reach.
enum Extent {
    /// A server answers them once it has the last one. Whether it has executed anything then.
    Whole { executes: bool },
    /// More must come.
    Part,
}

/// The texts of the statements that messages bring or name. `None`: they are not whole, or more than statements.
fn for_each_text<'a>(
    client: &'a ClientSide,
    bytes: &'a [u8],
    mut each: impl FnMut(&'a [u8]),
) -> Option<Extent> {
    let mut rest = bytes;
    let (mut is_complete, mut executes) = (false, false);
    // Names that they give to statements.
    let mut brought: Vec<&[u8]> = Vec::new();
    while !rest.is_empty() {
        let header = Header::of(rest).ok()??;
        let body = &rest.get(..header.size)?[HEADER..];
        rest = &rest[header.size..];
        is_complete = matches!(header.tag, b'Q' | b'S');
        executes |= matches!(header.tag, b'Q' | b'E');
        match header.tag {
            b'Q' => each(body.strip_suffix(b"\0")?),
            b'P' => {
                let parse = Parse::read(body)?;
                brought.push(parse.name);
                each(parse.sql());
            }
            b'B' => {
                let name = Bind::read(body)?.statement;
                if !brought.contains(&name) {
                    each(c_string(&client.statement(name)?.definition)?.0);
                }
            }
            b'D' | b'E' | b'C' | b'S' => {}
            _ => return None,
        }
    }
    Some(if is_complete { Extent::Whole { executes } } else { Extent::Part })
}

/// What several statements are.
#[derive(Default)]
struct Together {
    class: Option<Class>,
    hint: Option<Role>,
}

impl Together {
    fn add(&mut self, verdict: &Verdict) {
        self.hint = verdict.hint.or(self.hint);
        // Nothing said beside a statement makes it no other one.
        if verdict.class == Class::Primary(Because::Empty) {
            return;
        }
        match &self.class {
            None => self.class = Some(verdict.class.clone()),
            Some(class) if *class != verdict.class => {
                self.class = Some(Class::Primary(Because::SeveralStatements));
            }
            Some(_) => {}
        }
    }

    fn batch(self, executes: bool) -> Batch {
        let says_something = self.class.is_some();
        let class = self.class.unwrap_or(Class::Primary(Because::Empty));
        let may_write = executes && says_something && class != Class::Read;
        Batch { class, hint: self.hint, may_write }
    }
}

/// Answers a command that is meant for us. It comes alone, as a simple query.
pub(super) fn command(session: &mut Session, bytes: &[u8]) -> Option<Vec<u8>> {
    let header = Header::of(bytes).ok()??;
    if header.tag != b'Q' || header.size != bytes.len() {
        return None;
    }
    let sql = std::str::from_utf8(bytes[HEADER..].strip_suffix(b"\0")?).ok()?;
    // Nearly all texts are something else.
    let verb = sql.trim_start().get(..4)?;
    if !["set ", "rese", "show"].iter().any(|known| known.eq_ignore_ascii_case(verb)) {
        return None;
    }
    let mut out = Vec::new();
    match hint::command(&scan(sql, Strings::Standard).ok()?)? {
        Command::Set { role, span } => {
            session.set_role(role, span);
            message::complete(&mut out, if verb.eq_ignore_ascii_case("rese") { "RESET" } else { "SET" });
        }
        Command::Show => {
            message::row_description(&mut out, &["bellwether.role"]);
            message::data_row(&mut out, &[Some(session.role().as_str())]);
            message::complete(&mut out, "SHOW");
        }
        Command::Unknown => message::Report {
            severity: "ERROR",
            sqlstate: "22023",
            message: "invalid value for parameter \"bellwether.role\"",
            detail: "",
            hint: "Available values: leader, replica, auto, default.",
        }
        .write(&mut out),
    }
    message::ready(&mut out, b'I');
    Some(out)
}

#[cfg(test)]
mod tests {
    use bellwether_pgwire::message::put;
    use bellwether_sql::catalogue::Catalogue;

    use super::*;

    fn splitting() -> Splitting {
        let mut splitting = Splitting::default();
        let catalogue = Catalogue::from_rows([("safe_function", "f"), ("safe_function", "g")]).unwrap();
        splitting.known.entry("d".into()).or_default().judge.learn(Some(Arc::new(catalogue)));
        splitting
    }

    fn query(sql: &str) -> Vec<u8> {
        let mut out = Vec::new();
        message::query(&mut out, sql);
        out
    }

    /// Prepares, and executes, each.
    fn batch(texts: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, sql) in texts.iter().enumerate() {
            let name = format!("s{at}\0");
            let definition = [sql.as_bytes(), b"\0\0\0"].concat();
            Parse { name: &name.as_bytes()[..name.len() - 1], definition: &definition }.write(&mut out);
            put(&mut out, b'B', |out| {
                out.extend_from_slice(b"\0");
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(&[0; 6]);
            });
            put(&mut out, b'E', |out| out.extend_from_slice(&[0; 5]));
        }
        put(&mut out, b'S', |_| {});
        out
    }

    fn class(splitting: &mut Splitting, bytes: &[u8]) -> Class {
        splitting.batch(&ClientSide::default(), bytes, "d").class
    }

    fn may_write(bytes: &[u8]) -> bool {
        splitting().batch(&ClientSide::default(), bytes, "d").may_write
    }

    #[test]
    fn messages_are_judged_together() {
        let mut known = splitting();
        let reads = batch(&["SELECT f(1)", "SELECT g(2)"]);
        assert_eq!(class(&mut known, &reads), Class::Read);
        assert_eq!(class(&mut known, &query("SELECT 1")), Class::Read);
        let mixed = class(&mut known, &batch(&["SELECT f(1)", "DELETE FROM t"]));
        assert_eq!(mixed, Class::Primary(Because::SeveralStatements));
        for cut in [reads.len() - 5, reads.len() - 1] {
            assert_eq!(class(&mut known, &reads[..cut]), Class::Primary(Because::NotUnderstood), "no Sync");
        }
        assert_eq!(class(&mut Splitting::default(), &reads), Class::Primary(Because::NoCatalogue));
    }

    /// A part of a batch, by the tags of its messages.
    fn only(batch: &[u8], tags: &[u8]) -> Vec<u8> {
        let (mut rest, mut out) = (batch, Vec::new());
        while let Ok(Some(header)) = Header::of(rest) {
            if tags.contains(&header.tag) {
                out.extend_from_slice(&rest[..header.size]);
            }
            rest = &rest[header.size..];
        }
        out
    }

    #[test]
    fn what_executes_nothing_writes_nothing() {
        let insert = batch(&["INSERT INTO t VALUES (1)"]);
        let mut close = Vec::new();
        put(&mut close, b'C', |out| out.extend_from_slice(b"Ss0\0"));
        put(&mut close, b'S', |_| {});
        for (what, bytes) in [
            ("prepares", only(&insert, b"PS")),
            ("binds", only(&insert, b"PBS")),
            ("closes", close),
            ("only ends a batch", only(&insert, b"S")),
            ("is empty", query("")),
            ("is a comment", query(" -- nothing\n;")),
            ("is an empty statement, executed", batch(&[""])),
            ("reads", batch(&["SELECT f(1)", ""])),
        ] {
            assert!(!may_write(&bytes), "{what}");
        }
        for (what, bytes) in [
            ("executes", insert.clone()),
            ("executes beside nothing", batch(&["", "INSERT INTO t VALUES (1)"])),
            ("says so", query("INSERT INTO t VALUES (1)")),
            ("calls what is not known", query("SELECT h()")),
            ("begins a transaction", query("BEGIN")),
            ("may go on with an Execute", only(&insert, b"PB")),
        ] {
            assert!(may_write(&bytes), "{what}");
        }
    }

    #[test]
    fn what_a_replica_has_refused_goes_to_the_primary() {
        let refused = Class::Primary(Because::RefusedByReplica);
        for bytes in [query("SELECT f(1)"), batch(&["SELECT f(1)"])] {
            let mut known = splitting();
            known.refused(&ClientSide::default(), &bytes, "d");
            assert_eq!(class(&mut known, &query("SELECT f(2)")), refused);
            assert_eq!(class(&mut known, &query("SELECT g(2)")), Class::Read);
        }
        // Nobody knows which it was.
        let mut known = splitting();
        known.refused(&ClientSide::default(), &batch(&["SELECT f(1)", "SELECT g(1)"]), "d");
        assert_eq!(class(&mut known, &query("SELECT f(2)")), Class::Read);
    }
}
