//! Which rules fired and which actions were decided on, over many runs: what is never reached is not tested here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write},
};

use bellwether_ha::{Action, Decision, Reason};

/// How often each was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    reasons: BTreeMap<&'static str, u64>,
    actions: BTreeMap<String, u64>,
}

impl Coverage {
    pub(crate) fn count(&mut self, decision: &Decision) {
        for reason in &decision.reasons {
            *self.reasons.entry(reason.code()).or_default() += 1;
        }
        for action in &decision.actions {
            let name = name_of(action);
            match self.actions.get_mut(&name) {
                Some(seen) => *seen += 1,
                None => drop(self.actions.insert(name, 1)),
            }
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (code, seen) in &other.reasons {
            *self.reasons.entry(code).or_default() += seen;
        }
        for (name, seen) in &other.actions {
            *self.actions.entry(name.clone()).or_default() += seen;
        }
    }

    /// How often a reason was given.
    pub fn given(&self, code: &str) -> u64 {
        self.reasons.get(code).copied().unwrap_or_default()
    }

    /// Codes of reasons that were never given.
    pub fn unreached_reasons(&self) -> Vec<&'static str> {
        Reason::CODES.iter().copied().filter(|code| !self.reasons.contains_key(code)).collect()
    }

    /// Names of actions that were never decided on.
    pub fn unreached_actions(&self) -> Vec<&'static str> {
        all_actions().into_iter().filter(|name| !self.actions.contains_key(*name)).collect()
    }

    /// The codes that were seen least often, the rarest first.
    pub fn rarest_reasons(&self, at_most: usize) -> Vec<(&'static str, u64)> {
        let mut all: Vec<_> = self.reasons.iter().map(|(code, seen)| (*code, *seen)).collect();
        all.sort_by_key(|(_, seen)| *seen);
        all.truncate(at_most);
        all
    }
}

/// The name of the variant, without writing out what it holds.
fn name_of(action: &Action) -> String {
    struct FirstWord(String);
    impl Write for FirstWord {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let word = text.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
            self.0.push_str(word);
            if word.len() == text.len() { Ok(()) } else { Err(fmt::Error) }
        }
    }
    let mut name = FirstWord(String::new());
    // It ends with an error on purpose, after the first word.
    let _ = write!(name, "{action:?}");
    name.0
}

/// The names of all variants, as the source has them.
fn all_actions() -> BTreeSet<&'static str> {
    const SOURCE: &str = include_str!("../../ha/src/action.rs");
    let body = SOURCE.split_once("pub enum Action {").expect("the enum is there").1;
    let body = body.split_once("\n}").expect("it ends").0;
    let variants = body.lines().filter_map(|line| line.strip_prefix("    "));
    variants
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
        .filter_map(|line| line.split(|letter: char| !letter.is_alphanumeric()).next())
        .collect()
}

#[cfg(test)]
mod tests {
    use bellwether_types::Revision;

    use super::*;

    #[test]
    fn an_action_is_called_by_its_variant() {
        assert_eq!(name_of(&Action::ClaimInitialize), "ClaimInitialize");
        assert_eq!(name_of(&Action::ForgetPromise { revision: Revision(3) }), "ForgetPromise");
        let all = all_actions();
        assert!(
            all.contains("ClaimInitialize") && all.contains("TakeOver") && all.contains("Exit"),
            "{all:?}"
        );
    }
}
