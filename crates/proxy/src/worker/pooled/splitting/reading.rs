//! What a client's messages are: statements, or a command to the proxy.

use std::{sync::Arc, time::Duration};

use bellwether_pgwire::{
    extended::{Bind, Parse},
    frame::{HEADER, Header, c_string},
    message,
};
use bellwether_sql::{
    catalogue::Catalogue,
    facts::{Because, Class, Facts},
    hint::{self, Command, Role},
    token::{Strings, scan},
};

use super::Splitting;
use crate::{
    control::ask::{Ask, What},
    split::Session,
    worker::{context::Context, epoll::Key, pooled::client::Client},
};

/// A catalogue is read again after this: a function may have become another.
const CATALOGUE_AGE: Duration = Duration::from_secs(30);

impl Splitting {
    /// What the messages are, and the wish in them.
    pub(super) fn class(
        &mut self,
        client: &Client,
        bytes: &[u8],
        catalogue: Option<&Catalogue>,
    ) -> (Class, Option<Role>) {
        let Some(all) = self.statements(client, bytes) else {
            return (Class::Primary(Because::NotUnderstood), None);
        };
        let hint = all.iter().rev().find_map(|facts| facts.hint);
        let mut classes = all.iter().map(|facts| facts.class(catalogue));
        let Some(first) = classes.next() else { return (Class::Primary(Because::Empty), hint) };
        match classes.all(|class| class == first) {
            true => (first, hint),
            false => (Class::Primary(Because::SeveralStatements), hint),
        }
    }

    /// Of each statement that the messages bring or name. `None`: they are not all there, or more than statements.
    fn statements(&mut self, client: &Client, bytes: &[u8]) -> Option<Vec<Arc<Facts>>> {
        let mut all = Vec::new();
        let mut brought: Vec<(&[u8], Arc<Facts>)> = Vec::new();
        let mut rest = bytes;
        let mut is_complete = false;
        while !rest.is_empty() {
            let header = Header::of(rest).ok()??;
            let message = rest.get(..header.size)?;
            let body = &message[HEADER..];
            rest = &rest[header.size..];
            is_complete = matches!(header.tag, b'Q' | b'S');
            match header.tag {
                b'Q' => all.push(self.reader.facts(body.strip_suffix(b"\0")?, Strings::Standard)),
                b'P' => {
                    let parse = Parse::read(body)?;
                    let facts = self.reader.facts(parse.sql(), Strings::Standard);
                    brought.push((parse.name, Arc::clone(&facts)));
                    all.push(facts);
                }
                b'B' => {
                    let name = Bind::read(body)?.statement;
                    let here = brought.iter().rev().find(|(brought, _)| *brought == name);
                    let facts = match here {
                        Some((_, facts)) => Arc::clone(facts),
                        None => {
                            let (sql, _) = c_string(&client.side.statement(name)?.definition)?;
                            self.reader.facts(sql, Strings::Standard)
                        }
                    };
                    all.push(facts);
                }
                b'D' | b'E' | b'C' | b'S' => {}
                _ => return None,
            }
        }
        is_complete.then_some(all)
    }

    pub(super) fn catalogue(
        &mut self,
        context: &Context,
        client: Key,
        database: &Arc<str>,
    ) -> Option<Arc<Catalogue>> {
        let known = self.catalogues.entry(Arc::clone(database)).or_default();
        let is_old = known.asked_at.is_none_or(|asked| context.now.since(asked) >= CATALOGUE_AGE);
        if is_old {
            known.asked_at = Some(context.now);
            let ask = Ask { worker: context.number, client, what: What::Catalogue(Arc::clone(database)) };
            // If it is too busy, the next time.
            if context.shared.asks.try_send(ask).is_err() {
                known.asked_at = None;
            }
        }
        known.catalogue.clone()
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
