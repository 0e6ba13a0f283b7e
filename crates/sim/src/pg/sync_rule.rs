//! `synchronous_standby_names`: its text, and which commits a set of standbys releases. PostgreSQL's rules, not ours.

use bellwether_types::Lsn;

/// A parsed value of `synchronous_standby_names`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncRule {
    pub method: Method,
    /// How many standbys a commit waits for; 0 = commits do not wait.
    pub count: usize,
    /// In lower case: PostgreSQL folds it.
    pub names: Vec<String>,
    pub text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    #[default]
    First,
    Any,
}

/// A walsender as the others see it in shared memory.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// Its place in the list by its own reading of the setting, from 1; 0 = not listed.
    pub priority: usize,
    pub streaming: bool,
    pub flush: Option<Lsn>,
}

impl SyncRule {
    /// Reads a value; one that PostgreSQL would refuse reads as empty.
    pub fn parse(text: &str) -> Self {
        let lower = text.trim().to_ascii_lowercase();
        if lower.is_empty() {
            return Self::default();
        }
        let (head, list) = match lower.split_once('(') {
            Some((head, rest)) => (head.trim(), rest.trim_end().trim_end_matches(')')),
            None => ("1", lower.as_str()),
        };
        let (method, count) = match head.split_once(char::is_whitespace) {
            Some(("any", count)) => (Method::Any, count.trim()),
            Some(("first", count)) => (Method::First, count.trim()),
            _ => (Method::First, head),
        };
        let names = list.split(',').map(|name| name.trim().trim_matches('"').to_owned()).collect();
        let count = count.parse().unwrap_or(0);
        Self { method, count, names, text: text.to_owned() }
    }

    /// Commits wait for standbys.
    pub fn is_defined(&self) -> bool {
        self.count > 0
    }

    /// The place of a standby in the list, from 1; 0 = not listed.
    pub fn priority(&self, application_name: &str) -> usize {
        let found =
            self.names.iter().position(|name| name == "*" || name.eq_ignore_ascii_case(application_name));
        found.map_or(0, |index| index + 1)
    }

    /// Up to where the walsender `me` may release waiting commits, if anywhere.
    pub fn released(&self, me: usize, senders: &[Sender]) -> Option<Lsn> {
        let synced = self.synchronous(senders);
        if !self.is_defined() || synced.len() < self.count || !synced.contains(&me) {
            return None;
        }
        let mut flushes: Vec<Lsn> = synced.iter().filter_map(|&index| senders[index].flush).collect();
        flushes.sort_unstable_by(|a, b| b.cmp(a));
        flushes.get(self.count - 1).copied()
    }

    /// The senders that count: all listed ones (ANY), or the listed ones that come first.
    fn synchronous(&self, senders: &[Sender]) -> Vec<usize> {
        let mut listed: Vec<usize> = (0..senders.len())
            .filter(|&i| senders[i].priority > 0 && senders[i].streaming && senders[i].flush.is_some())
            .collect();
        if self.method == Method::First {
            listed.sort_by_key(|&i| (senders[i].priority, i));
            listed.truncate(self.count);
        }
        listed
    }

    /// The word in `pg_stat_replication.sync_state`.
    pub fn state(&self, me: usize, senders: &[Sender]) -> &'static str {
        if !self.is_defined() || senders[me].priority == 0 {
            return "async";
        }
        match self.method {
            Method::Any => "quorum",
            Method::First if self.synchronous(senders).contains(&me) => "sync",
            Method::First => "potential",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn senders(rule: &SyncRule, flushes: &[(&str, Option<u64>)]) -> Vec<Sender> {
        let sender = |&(name, flush): &(&str, Option<u64>)| Sender {
            priority: rule.priority(name),
            streaming: true,
            flush: flush.map(Lsn),
        };
        flushes.iter().map(sender).collect()
    }

    #[test]
    fn every_form_of_the_setting_is_read() {
        for (text, method, count, names) in [
            ("a", Method::First, 1, vec!["a"]),
            ("\"A-1\", b", Method::First, 1, vec!["a-1", "b"]),
            ("2 (a,b)", Method::First, 2, vec!["a", "b"]),
            ("FIRST 2 (a, b)", Method::First, 2, vec!["a", "b"]),
            ("ANY 1 (a,b)", Method::Any, 1, vec!["a", "b"]),
        ] {
            let rule = SyncRule::parse(text);
            assert_eq!((rule.method, rule.count), (method, count), "{text}");
            assert_eq!(rule.names, names, "{text}");
        }
        assert!(!SyncRule::parse(" ").is_defined());
    }

    #[test]
    fn commits_are_released_as_postgresql_does() {
        for (case, text, flushes, me, released) in [
            ("one of two is enough", "ANY 1 (b,c)", vec![("b", Some(50)), ("c", Some(90))], 1, Some(90)),
            (
                "any two: the second best counts",
                "ANY 2 (b,c)",
                vec![("b", Some(50)), ("c", Some(90))],
                0,
                Some(50),
            ),
            ("too few are connected", "ANY 2 (b,c)", vec![("b", Some(50))], 0, None),
            ("priority: only the first counts", "b,c", vec![("b", Some(50)), ("c", Some(90))], 0, Some(50)),
            ("priority: the second may not release", "b,c", vec![("b", Some(50)), ("c", Some(90))], 1, None),
            ("priority: the first is gone", "b,c", vec![("c", Some(90))], 0, Some(90)),
            ("a standby that acknowledged nothing yet", "ANY 1 (b)", vec![("b", None)], 0, None),
            ("a stranger", "ANY 1 (b)", vec![("x", Some(90))], 0, None),
            ("names fold case", "ANY 1 (PG1)", vec![("pg1", Some(7))], 0, Some(7)),
        ] {
            let rule = SyncRule::parse(text);
            assert_eq!(rule.released(me, &senders(&rule, &flushes)), released.map(Lsn), "{case}");
        }
    }
}
