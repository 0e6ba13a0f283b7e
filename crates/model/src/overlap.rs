//! Which changes of `/sync` and of the names are safe: the rules of `bellwether_ha::sync::overlap`, on sets of bits instead of names. A test
//! compares the two on everything that occurs here.

/// Members as bits.
pub type Set = u8;

/// `/sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Electorate {
    pub leader: u8,
    pub quorum: u8,
    pub voters: Set,
}

/// `ANY count (names)`; no names: nobody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Names {
    pub count: u8,
    pub names: Set,
}

pub fn bit(member: u8) -> Set {
    1 << member
}

pub fn size(set: Set) -> u8 {
    u8::try_from(set.count_ones()).expect("eight bits")
}

impl Electorate {
    /// Those who can elect without `actual`, the leader in office.
    pub fn without(&self, actual: u8) -> Set {
        (self.voters | bit(self.leader)) & !bit(actual)
    }

    pub fn needs(&self, actual: u8) -> bool {
        size(self.without(actual)) <= self.quorum
    }

    pub fn meets(&self, names: Names, actual: u8) -> bool {
        if self.voters == 0 && self.leader == actual {
            return true;
        }
        let all = self.voters | names.names | bit(self.leader) | bit(actual);
        size(all) <= self.quorum + names.count.min(size(names.names)) + 1
    }

    fn is_no_looser_than(&self, present: &Electorate, actual: u8) -> bool {
        let added = self.without(actual) & !present.without(actual);
        self.quorum >= present.quorum + size(added)
    }
}

/// `complete`: members that have all that was ever acknowledged by an earlier text.
pub fn may_write(
    present: &Electorate,
    wanted: &Electorate,
    shown: Names,
    (spent, complete): (bool, Set),
    actual: u8,
) -> bool {
    if wanted.needs(actual) {
        return true;
    }
    if !wanted.meets(shown, actual) {
        return false;
    }
    let incomplete = wanted.without(actual) & !complete;
    wanted.is_no_looser_than(present, actual) || spent && size(incomplete) <= wanted.quorum
}

pub fn may_set_names(electorates: &[Electorate], wanted: Names, actual: u8) -> bool {
    electorates.iter().all(|electorate| electorate.needs(actual) || electorate.meets(wanted, actual))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bellwether_ha::sync::overlap as code;

    use super::*;

    const MEMBERS: [&str; 4] = ["a", "b", "c", "d"];

    fn names(set: Set) -> BTreeSet<String> {
        (0..4)
            .filter(|&member| set & bit(member) != 0)
            .map(|member| MEMBERS[usize::from(member)].to_owned())
            .collect()
    }

    fn electorates() -> Vec<Electorate> {
        let mut all = Vec::new();
        for voters in 0..16u8 {
            for leader in 0..2 {
                for quorum in 0..3 {
                    all.push(Electorate { leader, quorum, voters: voters & !bit(leader) });
                }
            }
        }
        all
    }

    fn texts() -> Vec<Names> {
        (0..8u8).flat_map(|names| (0..3).map(move |count| Names { count, names: names << 1 })).collect()
    }

    fn real(electorate: &Electorate) -> code::Electorate {
        code::Electorate {
            leader: MEMBERS[usize::from(electorate.leader)].to_owned(),
            quorum: usize::from(electorate.quorum),
            voters: names(electorate.voters),
        }
    }

    fn acknowledging(text: Names) -> code::Acknowledging {
        code::Acknowledging { count: usize::from(text.count), names: names(text.names) }
    }

    #[test]
    fn the_rules_are_those_of_the_code() {
        for wanted in electorates() {
            for text in texts() {
                assert_eq!(
                    may_set_names(&[wanted], text, 0),
                    code::may_set_names([&real(&wanted)], &acknowledging(text), "a"),
                    "{wanted:?} {text:?}"
                );
                for present in electorates().into_iter().step_by(5) {
                    for (spent, complete) in [(false, 0), (true, 0), (true, 0b0110), (true, 0b1110)] {
                        let held = names(complete);
                        let proof = code::Proof {
                            replaced_texts_are_spent: spent,
                            complete: held.iter().map(String::as_str).collect(),
                        };
                        assert_eq!(
                            may_write(&present, &wanted, text, (spent, complete), 0),
                            code::may_write(
                                &real(&present),
                                &real(&wanted),
                                &acknowledging(text),
                                &proof,
                                "a"
                            ),
                            "{present:?} -> {wanted:?}, {text:?}, {spent} {complete:b}"
                        );
                    }
                }
            }
        }
    }
}
