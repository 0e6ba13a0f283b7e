//! From a server to the client that has it, if any.

use bellwether_pgwire::{
    frame::{HEADER, Header, c_string},
    message,
};

use super::{
    client::ClientSide,
    effects::Pin,
    gather::Gather,
    server::{Expect, ServerSide},
    settings::Set,
};
use crate::split::{Failure, Remedy, after_failure};

/// What came of a piece of output.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Down {
    /// Bytes that were dealt with; the rest is an incomplete message.
    pub(crate) taken: usize,
    /// The bytes are not PostgreSQL's protocol.
    pub(crate) broken: bool,
    /// The server ended before it answered anything to the first message of a transaction: that message can be repeated.
    pub(crate) repeatable: bool,
    /// A replica cannot do it, and the client has seen nothing yet: the same can be said to the primary. Nothing of the output is for
    /// the client.
    pub(crate) for_primary: bool,
    /// And not only this time: it was no read after all.
    pub(crate) no_read: bool,
    /// Statements that ended.
    pub(crate) finished: u32,
}

/// Commands after which a text can mean something else: parameters of other types, another result.
const DEFINES: [&[u8]; 3] = [b"ALTER ", b"CREATE ", b"DROP "];

/// Messages of which nothing but their length matters once they have begun.
fn streams(tag: u8) -> bool {
    matches!(tag, b'D' | b'd' | b'T' | b'V' | b't')
}

/// Carries what a server sent.
pub(crate) fn down(
    server: &mut ServerSide,
    mut client: Option<&mut ClientSide>,
    bytes: &[u8],
    out: &mut Gather<'_>,
) -> Down {
    let mut at = server.streaming.min(bytes.len());
    if !server.swallowing {
        out.pass(0..at);
    }
    server.streaming -= at;
    let mut down = Down::default();
    let is_unseen = !server.has_answered;
    loop {
        down.taken = at;
        let rest = &bytes[at..];
        let header = match Header::of(rest) {
            Ok(Some(header)) => header,
            Ok(None) => return down,
            Err(_) => {
                down.broken = true;
                return down;
            }
        };
        let whole = header.size <= rest.len();
        if !whole && !streams(header.tag) {
            return down;
        }
        let end = at + header.size.min(rest.len());
        let body = &bytes[at + HEADER..end];
        let verdict = server.take(client.as_deref_mut(), header.tag, body, &mut down);
        if header.tag == b'E'
            && is_unseen
            && let Some(remedy) = server.cannot(client.as_deref(), body)
        {
            down.for_primary = true;
            down.no_read = remedy == Remedy::OnPrimary;
            // The rest of the answer is nobody's.
            client = None;
        }
        // A warning counts: it may be the one about a commit that could not wait for its standbys.
        if !matches!(header.tag, b'E' | b'S' | b'A') {
            server.has_answered = true;
        }
        if verdict == Verdict::Pass && client.is_some() {
            out.pass(at..end);
        }
        if down.repeatable {
            return down;
        }
        if !whole {
            server.streaming = header.size - rest.len();
            server.swallowing = verdict == Verdict::Swallow || client.is_none();
        }
        at = end;
        server.past_copy();
        while let Some(Expect::Inject(tag)) = server.expected.front() {
            let tag = *tag;
            server.expected.pop_front();
            out.insert(|out| message::put(out, tag, |_| {}));
            server.past_copy();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Swallow,
}

impl ServerSide {
    #[inline]
    fn take(&mut self, client: Option<&mut ClientSide>, tag: u8, body: &[u8], down: &mut Down) -> Verdict {
        match tag {
            b'D' => {
                if matches!(self.expected.front(), Some(Expect::Ours)) {
                    self.answer = row(body);
                    return Verdict::Swallow;
                }
                Verdict::Pass
            }
            b'Z' => self.ready(client, body, down),
            b'C' => self.complete(client, body),
            b'E' => self.error(client, body, down),
            b'1' => match self.expected.pop_front() {
                Some(Expect::ParseOurs(_)) => Verdict::Swallow,
                _ => Verdict::Pass,
            },
            b'2' => self.pop(),
            b'3' => match self.expected.pop_front() {
                Some(Expect::CloseOurs) => Verdict::Swallow,
                _ => Verdict::Pass,
            },
            b'T' | b'n' => {
                if matches!(self.expected.front(), Some(Expect::Describe(_))) {
                    self.expected.pop_front();
                }
                self.unless_ours()
            }
            b'I' | b's' => {
                if matches!(self.expected.front(), Some(Expect::Execute)) {
                    self.expected.pop_front();
                }
                self.unless_ours()
            }
            b'G' => {
                self.copy_begins();
                self.unless_ours()
            }
            // The value that a setting has now, in the server's own form.
            b'S' => Verdict::Pass,
            _ => self.unless_ours(),
        }
    }

    fn unless_ours(&self) -> Verdict {
        if matches!(self.expected.front(), Some(Expect::Ours)) { Verdict::Swallow } else { Verdict::Pass }
    }

    fn pop(&mut self) -> Verdict {
        self.expected.pop_front();
        Verdict::Pass
    }

    fn ready(&mut self, client: Option<&mut ClientSide>, body: &[u8], down: &mut Down) -> Verdict {
        self.status = body.first().copied().unwrap_or(b'I');
        // What was left out after an error has been dropped; nothing but the end of the cycle may be in front.
        let ended = self.expected.pop_front();
        down.finished += 1;
        self.is_amid = !self.expected.is_empty();
        if matches!(ended, Some(Expect::Ours)) {
            return Verdict::Swallow;
        }
        if let Some(client) = client {
            if self.has_failed {
                client.session.failed();
            }
            if client.rolled_back && self.status == b'T' && client.session.has_pending() {
                // A savepoint: which of the settings are left cannot be seen.
                client.pin = client.pin.or(Some(Pin::Setting));
                client.rolled_back = false;
            }
            client.session.settled(self.status != b'I', client.rolled_back);
            if self.status == b'I' {
                // What others have prepared before this was visible to them is as old.
                self.redefined |= std::mem::take(&mut self.is_redefining);
                client.rolled_back = false;
                self.settings_of(client);
            }
        }
        self.has_failed = false;
        Verdict::Pass
    }

    #[inline]
    fn settings_of(&mut self, client: &mut ClientSide) {
        if let Some(bare) = client.session.take_bare() {
            self.settings = bare;
            return;
        }
        let current = client.session.current();
        if !std::sync::Arc::ptr_eq(&self.settings, current) {
            self.settings = current.clone();
        }
    }

    fn complete(&mut self, client: Option<&mut ClientSide>, body: &[u8]) -> Verdict {
        if matches!(self.expected.front(), Some(Expect::Execute)) {
            self.expected.pop_front();
        }
        if matches!(self.expected.front(), Some(Expect::Ours)) {
            return Verdict::Swallow;
        }
        let Some(client) = client else { return Verdict::Pass };
        // `SELECT 1`, `INSERT 0 1`, `UPDATE 1`, ...: nearly all begin otherwise.
        match body {
            b"COMMIT\0" => client.rolled_back = false,
            b"ROLLBACK\0" => client.rolled_back = true,
            b"DISCARD ALL\0" => {
                self.prepared.clear();
                self.unnamed = None;
                self.settings = Set::default();
                client.forget_statements();
                client.pin = None;
            }
            b"DEALLOCATE ALL\0" => {
                self.prepared.clear();
                self.unnamed = None;
                client.forget_statements();
            }
            b"LISTEN\0" => client.pin = client.pin.or(Some(Pin::Listen)),
            b"PREPARE\0" => client.pin = client.pin.or(Some(Pin::Prepare)),
            // Nobody else sees the temporary tables of a session.
            b"CREATE TABLE\0" if client.pin == Some(Pin::TemporaryTable) => {}
            _ if DEFINES.iter().any(|verb| body.starts_with(verb)) => {
                (self.redefined, self.is_redefining) = (true, true);
            }
            _ => {}
        }
        Verdict::Pass
    }

    fn error(&mut self, client: Option<&mut ClientSide>, body: &[u8], down: &mut Down) -> Verdict {
        let sqlstate = message::report_field(body, b'C').unwrap_or_default();
        let severity =
            message::report_field(body, b'V').or(message::report_field(body, b'S')).unwrap_or_default();
        let is_fatal = matches!(severity, b"FATAL" | b"PANIC");
        self.has_failed = true;
        // The text no longer means what it meant when it was prepared: another result, or (class 42) no sense at all.
        if let Some(Expect::Bind(Some(id)) | Expect::Describe(Some(id))) = self.expected.front()
            && (sqlstate.starts_with(b"42")
                || message::report_field(body, b'R') == Some(b"RevalidateCachedQuery"))
        {
            self.stale.push(*id);
        }
        if is_fatal {
            self.is_ending = true;
            // A server that is shut down says so before it answers anything only if nothing has been done.
            if let Some(client) = client
                && !self.has_answered
                && sqlstate == b"57P01"
                && client.is_busy
                && !client.is_too_long
                // Another server does not have the session's statements.
                && !(self.is_own && client.has_prepared)
                && !client.repeat.is_empty()
            {
                down.repeatable = true;
                return Verdict::Swallow;
            }
            return Verdict::Pass;
        }
        match self.expected.front() {
            Some(Expect::Ours) => {
                let text = message::report_field(body, b'M').unwrap_or_default();
                self.failure = Some(String::from_utf8_lossy(text).into_owned());
                Verdict::Swallow
            }
            Some(Expect::Query | Expect::Sync) => {
                self.is_copying = false;
                Verdict::Pass
            }
            // Between its messages, for example a flushed portal that has failed late.
            None if self.is_amid => {
                self.skip_to_sync();
                Verdict::Pass
            }
            None => Verdict::Pass,
            Some(_) => {
                self.skip_to_sync();
                Verdict::Pass
            }
        }
    }
}

impl ServerSide {
    /// Whether a read has failed for what a replica is, and can be said again.
    fn cannot(&self, client: Option<&ClientSide>, error: &[u8]) -> Option<Remedy> {
        let client = client.filter(|_| self.gives_way && !self.is_ending)?;
        let sqlstate = message::report_field(error, b'C').unwrap_or_default();
        let failure = Failure {
            sqlstate: Some(std::str::from_utf8(sqlstate).unwrap_or_default()),
            result_begun: false,
            in_block: false,
            demanded: false,
            tried: 0,
        };
        let remedy = after_failure(failure);
        let again = matches!(remedy, Remedy::OnPrimary | Remedy::Elsewhere { ban: false });
        (again && client.is_busy && !client.is_too_long && !client.repeat.is_empty()).then_some(remedy)
    }
}

/// The columns of a row of text.
fn row(body: &[u8]) -> Vec<Option<String>> {
    let mut columns = Vec::new();
    let mut rest = body.get(2..).unwrap_or_default();
    while let [a, b, c, d, after @ ..] = rest {
        let length = i32::from_be_bytes([*a, *b, *c, *d]);
        match usize::try_from(length) {
            Ok(length) => {
                let Some(value) = after.get(..length) else { break };
                columns.push(Some(String::from_utf8_lossy(value).into_owned()));
                rest = &after[length..];
            }
            Err(_) => {
                columns.push(None);
                rest = after;
            }
        }
    }
    columns
}

/// The name and the value of a ParameterStatus.
pub(crate) fn parameter(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = c_string(body)?;
    let (value, _) = c_string(rest)?;
    Some((name, value))
}
