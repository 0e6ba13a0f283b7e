//! Prepared statements of clients, and which of them a server knows.
//!
//! Two clients that prepare the same text share one statement, under a name of ours, on every server.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashMap, HashSet},
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::effects::Effects;

/// What a client has prepared: its text and the types of its parameters, as in the Parse message.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) id: u64,
    pub(crate) definition: Box<[u8]>,
    /// Its name on servers.
    pub(crate) name: Box<[u8]>,
    pub(crate) effects: Effects,
}

impl PartialEq for Statement {
    fn eq(&self, other: &Self) -> bool {
        self.definition == other.definition
    }
}
impl Eq for Statement {}
impl Hash for Statement {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.definition.hash(state);
    }
}

#[derive(PartialEq, Eq)]
struct Shared(Arc<Statement>);
impl Hash for Shared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.definition.hash(state);
    }
}
impl Borrow<[u8]> for Shared {
    fn borrow(&self) -> &[u8] {
        &self.0.definition
    }
}

/// All statements that clients of this worker have prepared.
#[derive(Default)]
pub(crate) struct Registry {
    known: HashSet<Shared>,
    last_id: u64,
    sweep_at: usize,
    turn: u64,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("known", &self.known.len()).finish()
    }
}

impl Registry {
    /// Whoever prepares the text of this one again gets another: the servers' plans for this one have another result.
    pub(crate) fn retire(&mut self, id: u64) {
        self.known.retain(|shared| shared.0.id != id);
    }

    /// Whoever prepares from now on gets other statements than those that are known: their texts may mean something else. `turn` says
    /// how often that has happened, in all threads.
    pub(crate) fn renew(&mut self, turn: u64) {
        if turn != self.turn {
            self.turn = turn;
            self.known.clear();
        }
    }

    /// The statement with this definition.
    pub(crate) fn intern(&mut self, definition: &[u8], sql: &[u8]) -> Arc<Statement> {
        if let Some(Shared(known)) = self.known.get(definition) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at.max(1000) {
            // Whoever prepares each text once (without parameters) would fill the memory.
            self.known.retain(|shared| Arc::strong_count(&shared.0) > 1);
            self.sweep_at = 2 * self.known.len();
        }
        self.last_id += 1;
        let statement = Arc::new(Statement {
            id: self.last_id,
            definition: definition.into(),
            name: format!("bellwether_{}", self.last_id).into_bytes().into(),
            effects: Effects::of(sql),
        });
        self.known.insert(Shared(statement.clone()));
        statement
    }
}

/// What a server has prepared; the one that was not used for longest makes room.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    statements: HashMap<u64, (Arc<Statement>, u64)>,
    clock: u64,
}

impl Prepared {
    /// Whether the server knows it; if so, it was just used.
    pub(crate) fn touch(&mut self, id: u64) -> bool {
        self.clock += 1;
        let clock = self.clock;
        self.statements.get_mut(&id).map(|(_, used)| *used = clock).is_some()
    }

    /// Takes note of a new one; the one that must be closed for it.
    pub(crate) fn insert(&mut self, statement: &Arc<Statement>, limit: usize) -> Option<Arc<Statement>> {
        self.clock += 1;
        let evicted = if self.statements.len() >= limit.max(1) {
            let oldest = self.statements.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            oldest.and_then(|id| self.statements.remove(&id)).map(|(statement, _)| statement)
        } else {
            None
        };
        self.statements.insert(statement.id, (statement.clone(), self.clock));
        evicted
    }

    pub(crate) fn remove(&mut self, id: u64) {
        self.statements.remove(&id);
    }

    pub(crate) fn clear(&mut self) {
        self.statements.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.statements.len()
    }
}

/// A client's own names.
pub(crate) type Names = BTreeMap<Box<[u8]>, Arc<Statement>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_one_statement() {
        let mut registry = Registry::default();
        let one = registry.intern(b"select 1\0\0\0", b"select 1");
        let same = registry.intern(b"select 1\0\0\0", b"select 1");
        let other = registry.intern(b"select 1\0\0\x01\0\0\0\x17", b"select 1");
        assert_eq!(one.id, same.id);
        assert_ne!(one.id, other.id, "other types, another statement");
    }

    #[test]
    fn the_least_used_makes_room() {
        let mut registry = Registry::default();
        let [a, b, c] = ["a", "b", "c"].map(|sql| registry.intern(sql.as_bytes(), sql.as_bytes()));
        let mut prepared = Prepared::default();
        assert!(prepared.insert(&a, 2).is_none());
        assert!(prepared.insert(&b, 2).is_none());
        assert!(prepared.touch(a.id));
        assert_eq!(prepared.insert(&c, 2).map(|evicted| evicted.id), Some(b.id));
        assert!(!prepared.touch(b.id));
        assert_eq!(prepared.len(), 2);
    }

    #[test]
    fn statements_that_nobody_holds_are_forgotten() {
        let mut registry = Registry::default();
        for number in 0..5000 {
            registry.intern(format!("select {number}").as_bytes(), b"");
        }
        assert!(registry.known.len() <= 1001, "{}", registry.known.len());
    }
}
