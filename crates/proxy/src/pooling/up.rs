//! From a client to its server.

use bellwether_pgwire::{
    extended::{Bind, Parse, Target},
    frame::{HEADER, Header},
    message,
};

use super::{
    client::ClientSide,
    effects::Effects,
    gather::Gather,
    server::{Expect, ServerSide},
    statements::{Registry, Statement},
};

/// What came of a piece of input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Up {
    /// Bytes that were dealt with; the rest is an incomplete message.
    pub(crate) taken: usize,
    pub(crate) end: End,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All complete messages went through.
    More,
    /// The client says good-bye.
    Terminate,
    /// The client broke the protocol.
    Violation(String),
}

/// How statements are kept.
#[derive(Debug)]
pub(crate) struct Keeping<'a> {
    pub(crate) registry: &'a mut Registry,
    pub(crate) limit: usize,
    pub(crate) counted: Counted,
}

/// How many messages there were, for the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Parse, from clients.
    pub(crate) client_parses: u64,
    /// Parse, to servers: clients that share a statement cause one for each server.
    pub(crate) server_parses: u64,
    pub(crate) binds: u64,
}

/// Carries what a client sent to its server. What the client is told at once is appended to `to_client`.
pub(crate) fn up(
    client: &mut ClientSide,
    server: &mut ServerSide,
    keeping: &mut Keeping<'_>,
    bytes: &[u8],
    out: &mut Gather<'_>,
    to_client: &mut Vec<u8>,
) -> Up {
    let mut at = client.streaming.min(bytes.len());
    out.pass(0..at);
    client.streaming -= at;
    loop {
        let rest = &bytes[at..];
        let header = match Header::of(rest) {
            Ok(Some(header)) => header,
            Ok(None) => return Up { taken: at, end: End::More },
            Err(problem) => return Up { taken: at, end: End::Violation(problem.to_string()) },
        };
        if header.size > rest.len() {
            if header.tag != b'd' {
                return Up { taken: at, end: End::More };
            }
            client.streaming = header.size - rest.len();
            client.is_too_long = true;
            out.pass(at..bytes.len());
            return Up { taken: bytes.len(), end: End::More };
        }
        let message = at..at + header.size;
        let body = &bytes[at + HEADER..message.end];
        if header.tag == b'X' {
            return Up { taken: message.end, end: End::Terminate };
        }
        if !client.is_busy {
            client.is_busy = true;
            server.has_answered = false;
        }
        if !server.has_answered {
            client.keep(&bytes[message.clone()]);
        }
        let mut link = Link { client, server, keeping, out, to_client };
        if let Err(violation) = link.message(header.tag, body, message.clone()) {
            return Up { taken: at, end: End::Violation(violation) };
        }
        at = message.end;
    }
}

struct Link<'a, 'b, 'c> {
    client: &'a mut ClientSide,
    server: &'a mut ServerSide,
    keeping: &'a mut Keeping<'b>,
    out: &'a mut Gather<'c>,
    to_client: &'a mut Vec<u8>,
}

impl Link<'_, '_, '_> {
    #[inline]
    fn message(&mut self, tag: u8, body: &[u8], whole: std::ops::Range<usize>) -> Result<(), String> {
        if self.server.is_skipping && tag != b'S' {
            // The server reads it and does nothing about it.
            self.out.pass(whole);
            return Ok(());
        }
        self.server.is_amid |= !matches!(tag, b'S' | b'H' | b'd' | b'c' | b'f');
        match tag {
            b'Q' => {
                let sql = body.strip_suffix(b"\0").unwrap_or(body);
                self.client.leave_behind(&Effects::of(sql));
                // It takes the place of the statement without a name.
                self.server.unnamed = None;
                self.client.unnamed = None;
                self.expect(Expect::Query);
                self.out.pass(whole);
            }
            b'P' => self.parse(body, whole)?,
            b'B' => self.bind(body, whole)?,
            b'D' => self.describe(body, whole)?,
            b'C' => self.close(body, whole)?,
            b'E' => self.pass_expecting(Expect::Execute, whole),
            b'S' if self.server.is_copying => self.out.pass(whole),
            b'S' => {
                self.server.is_skipping = false;
                self.pass_expecting(Expect::Sync, whole);
            }
            b'F' => self.pass_expecting(Expect::Query, whole),
            b'c' | b'f' => {
                if self.server.is_copying {
                    self.server.is_copying = false;
                } else if !self.server.expected.is_empty() {
                    self.expect(Expect::CopyEnd);
                }
                self.out.pass(whole);
            }
            b'H' | b'd' => self.out.pass(whole),
            other => return Err(format!("invalid frontend message type {other}")),
        }
        Ok(())
    }

    #[inline]
    fn expect(&mut self, what: Expect) {
        self.server.expected.push_back(what);
    }

    fn pass_expecting(&mut self, what: Expect, whole: std::ops::Range<usize>) {
        self.expect(what);
        self.out.pass(whole);
    }

    /// Says it at once if nothing comes before it.
    fn inject(&mut self, tag: u8) {
        if self.server.expected.is_empty() {
            message::put(self.to_client, tag, |_| {});
        } else {
            self.expect(Expect::Inject(tag));
        }
    }

    fn parse(&mut self, body: &[u8], whole: std::ops::Range<usize>) -> Result<(), String> {
        let parse = Parse::read(body).ok_or("malformed Parse message")?;
        self.keeping.counted.client_parses += 1;
        if self.server.is_own {
            self.keeping.counted.server_parses += 1;
            self.client.has_prepared = true;
            self.pass_expecting(Expect::Parse(None), whole);
            return Ok(());
        }
        let statement = self.keeping.registry.intern(parse.definition, parse.sql());
        self.client.define(parse.name, statement.clone());
        if parse.name.is_empty() {
            self.server.unnamed = Some(statement.id);
            self.keeping.counted.server_parses += 1;
            self.pass_expecting(Expect::Parse(None), whole);
        } else if self.server.prepared.touch(statement.id) {
            self.inject(b'1');
        } else {
            self.prepare(&statement);
            self.expect(Expect::Parse(Some(statement)));
        }
        Ok(())
    }

    /// Sends the statement under its name of ours, and makes room for it first.
    fn prepare(&mut self, statement: &std::sync::Arc<Statement>) {
        if let Some(evicted) = self.server.prepared.insert(statement, self.keeping.limit) {
            self.expect(Expect::CloseOurs);
            self.out.insert(|out| Target::write_statement(b'C', &evicted.name, out));
        }
        self.keeping.counted.server_parses += 1;
        let parse = Parse { name: &statement.name, definition: &statement.definition };
        self.out.insert(|out| parse.write(out));
    }

    /// Sees to it that the server has the client's statement; its name there. `None`: let the server say that there is none.
    fn bring(&mut self, name: &[u8]) -> Option<std::sync::Arc<Statement>> {
        if self.server.is_own {
            return None;
        }
        let statement = self.client.statement(name)?.clone();
        if name.is_empty() {
            if self.server.unnamed != Some(statement.id) {
                self.server.unnamed = Some(statement.id);
                self.keeping.counted.server_parses += 1;
                self.expect(Expect::ParseOurs(None));
                let parse = Parse { name: b"", definition: &statement.definition };
                self.out.insert(|out| parse.write(out));
            }
        } else if !self.server.prepared.touch(statement.id) {
            self.prepare(&statement);
            self.expect(Expect::ParseOurs(Some(statement.clone())));
        }
        Some(statement)
    }

    fn bind(&mut self, body: &[u8], whole: std::ops::Range<usize>) -> Result<(), String> {
        let bind = Bind::read(body).ok_or("malformed Bind message")?;
        self.keeping.counted.binds += 1;
        let statement = self.bring(bind.statement);
        self.expect(Expect::Bind(statement.as_ref().map(|statement| statement.id)));
        match statement {
            Some(statement) => {
                self.client.leave_behind(&statement.effects);
                if bind.statement.is_empty() {
                    self.out.pass(whole);
                } else {
                    self.out.insert(|out| bind.write_renamed(&statement.name, out));
                }
            }
            None => self.out.pass(whole),
        }
        Ok(())
    }

    fn describe(&mut self, body: &[u8], whole: std::ops::Range<usize>) -> Result<(), String> {
        match Target::read(body).ok_or("malformed Describe message")? {
            Target::Statement(name) if !name.is_empty() => {
                let statement = self.bring(name);
                self.expect(Expect::Describe(statement.as_ref().map(|statement| statement.id)));
                match statement {
                    Some(statement) => {
                        self.out.insert(|out| Target::write_statement(b'D', &statement.name, out));
                    }
                    None => self.out.pass(whole),
                }
            }
            Target::Statement(name) => {
                let statement = self.bring(name);
                self.pass_expecting(Expect::Describe(statement.map(|statement| statement.id)), whole);
            }
            Target::Portal(_) => self.pass_expecting(Expect::Describe(None), whole),
        }
        Ok(())
    }

    fn close(&mut self, body: &[u8], whole: std::ops::Range<usize>) -> Result<(), String> {
        match Target::read(body).ok_or("malformed Close message")? {
            // Others may use it; the server keeps it until it must make room.
            Target::Statement(_) if self.server.is_own => self.pass_expecting(Expect::Close, whole),
            Target::Statement(name) if !name.is_empty() => {
                self.client.forget(name);
                self.inject(b'3');
            }
            Target::Statement(name) => {
                self.client.forget(name);
                self.server.unnamed = None;
                self.pass_expecting(Expect::Close, whole);
            }
            Target::Portal(_) => self.pass_expecting(Expect::Close, whole),
        }
        Ok(())
    }
}
