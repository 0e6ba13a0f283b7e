//! What the records should be and who may write them: plain functions.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use bellwether_config::sections::dns::Dns;
use bellwether_types::{MemberName, Term, Timestamp};

use super::update::{Data, Entry, Kind, Prerequisite, Update};
use crate::situation::{Local, Situation};

/// A member that has led for so long has outlived every update of a former leader.
const OUTLIVED: Duration = Duration::from_secs(60);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// What should be in the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Addresses by name.
    pub sets: Vec<(String, BTreeSet<IpAddr>)>,
    pub fence: Fence,
}

/// Who wrote last: the TXT record beside the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub member: MemberName,
    pub term: Term,
}

/// What may be done in view of who wrote last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum May {
    Write,
    /// A leader after us was there already.
    Not {
        member: String,
        term: Term,
    },
}

/// Whether this member writes: it holds the lease, and takes writes.
pub fn leads(situation: &Situation) -> Option<Term> {
    let holds = situation.lease_until.is_some_and(|until| situation.now < until);
    (situation.is_decided && holds && situation.local == Local::Leads).then_some(())?;
    // The term is that of the leader key, which must be ours.
    situation.term.filter(|_| !situation.another_leads())
}

impl Fence {
    /// The name of the record.
    pub fn name(dns: &Dns) -> String {
        format!("_bellwether.{}", dns.name)
    }

    pub fn text(&self) -> String {
        format!("member={} term={}", self.member, self.term.0)
    }

    /// `None`: not one of ours.
    fn parse(text: &str) -> Option<(String, Term)> {
        let field = |name: &str| text.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        Some((field("member")?.to_owned(), Term(field("term")?.parse().ok()?)))
    }

    /// Whether to write over what stands there (`seen`), having led for `led_for`.
    pub fn may_write(&self, seen: &[String], led_for: Duration) -> May {
        let newer = seen.iter().filter_map(|text| Self::parse(text)).filter(|(_, term)| *term > self.term);
        match newer.max_by_key(|(_, term)| *term) {
            // The store was founded anew, and counts from the beginning.
            Some(_) if led_for >= OUTLIVED => May::Write,
            Some((member, term)) => May::Not { member, term },
            None => May::Write,
        }
    }
}

impl Wanted {
    /// The change that makes it so: one message, so that the name never leads nowhere. `seen` is what the fence says now.
    pub fn update(&self, dns: &Dns, seen: &[String]) -> Update {
        let mut update = Update {
            zone: dns.zone.clone(),
            prerequisites: Vec::new(),
            delete_sets: Vec::new(),
            delete: Vec::new(),
            add: Vec::new(),
            ttl: dns.ttl,
        };
        if dns.fence_txt {
            let name = Fence::name(dns);
            update.prerequisites.push(match seen {
                [only] => Prerequisite::Only(Entry { name: name.clone(), data: Data::Txt(only.clone()) }),
                // Several are none of ours: they give way together.
                [] => Prerequisite::Absent { name: name.clone(), kind: Kind::Txt },
                _ => Prerequisite::Only(Entry { name: name.clone(), data: Data::Txt(seen[0].clone()) }),
            });
            update.delete_sets.push((name.clone(), Kind::Txt));
            update.add.push(Entry { name, data: Data::Txt(self.fence.text()) });
        }
        for (name, addresses) in &self.sets {
            update.delete_sets.extend([Kind::A, Kind::Aaaa].map(|kind| (name.clone(), kind)));
            let records =
                addresses.iter().map(|address| Entry { name: name.clone(), data: Data::of(*address) });
            update.add.extend(records);
        }
        update
    }

    /// Whether the zone says this already; `seen` are the addresses at the names, in their order.
    pub fn is_met(&self, dns: &Dns, fence: &[String], seen: &[BTreeSet<IpAddr>]) -> bool {
        let wanted = self.sets.iter().map(|(_, addresses)| addresses);
        let is_fenced = !dns.fence_txt || *fence == [self.fence.text()];
        is_fenced && wanted.eq(seen.iter())
    }
}

/// When to try again after so many failures in a row. `fraction` is a random number from 0 to 1.
pub fn retry_after(failures: u32, fraction: f64) -> Duration {
    let doubled = FIRST_RETRY * 2_u32.saturating_pow(failures.saturating_sub(1).min(10));
    doubled.min(LAST_RETRY).mul_f64(0.75 + fraction / 2.0)
}

/// When to repeat an update that nothing has changed since: directories forget what is not.
pub fn refresh_at(written: Timestamp, refresh: Duration, fraction: f64) -> Timestamp {
    written + refresh.mul_f64(0.9 + fraction / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(term: u64) -> Fence {
        Fence { member: "b".parse().unwrap(), term: Term(term) }
    }

    fn dns(fence_txt: bool) -> Dns {
        Dns {
            zone: "z.example".into(),
            name: "main.z.example".into(),
            reader_name: None,
            servers: vec![],
            verify_servers: vec![],
            auth: bellwether_config::sections::dns::DnsAuth::None,
            ttl: 60,
            addresses: vec![],
            sites: Default::default(),
            ptr: false,
            fence_txt,
            refresh: Duration::from_secs(86_400),
            check_interval: Duration::from_secs(60),
            verify_timeout: Duration::from_secs(60),
        }
    }

    fn wanted() -> Wanted {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let addresses = BTreeSet::from([address("10.0.0.1"), address("2001:db8::1")]);
        Wanted { sets: vec![("main.z.example".into(), addresses)], fence: fence(7) }
    }

    #[test]
    fn a_former_leader_does_not_write_over_its_successor() {
        let own = fence(7);
        let seen = |text: &str| vec![text.to_owned()];
        let short = Duration::from_secs(5);
        assert_eq!(own.may_write(&[], short), May::Write);
        assert_eq!(own.may_write(&seen("member=a term=6"), short), May::Write);
        assert_eq!(own.may_write(&seen("member=b term=7"), short), May::Write);
        assert_eq!(own.may_write(&seen("something else"), short), May::Write);
        let later = May::Not { member: "a".into(), term: Term(8) };
        assert_eq!(own.may_write(&seen("member=a term=8"), short), later);
        assert_eq!(own.may_write(&seen("member=a term=8"), OUTLIVED), May::Write);
        assert_eq!(Fence::parse(&own.text()), Some(("b".into(), Term(7))));
    }

    #[test]
    fn one_change_replaces_the_addresses_and_nothing_else() {
        let update = wanted().update(&dns(true), &["member=a term=6".to_owned()]);
        let fence_name = "_bellwether.main.z.example".to_owned();
        assert_eq!(
            update.prerequisites,
            [Prerequisite::Only(Entry {
                name: fence_name.clone(),
                data: Data::Txt("member=a term=6".into())
            })]
        );
        let name = "main.z.example".to_owned();
        assert_eq!(
            update.delete_sets,
            [(fence_name, Kind::Txt), (name.clone(), Kind::A), (name, Kind::Aaaa)]
        );
        assert_eq!(update.add.len(), 3);
        let unfenced = wanted().update(&dns(false), &[]);
        assert_eq!((unfenced.prerequisites.len(), unfenced.add.len()), (0, 2));
    }

    #[test]
    fn the_zone_is_as_wanted_only_if_names_and_fence_are() {
        let (wanted, dns) = (wanted(), dns(true));
        let right = vec![wanted.sets[0].1.clone()];
        assert!(wanted.is_met(&dns, &[wanted.fence.text()], &right));
        assert!(!wanted.is_met(&dns, &["member=a term=6".to_owned()], &right));
        assert!(!wanted.is_met(&dns, &[wanted.fence.text()], &[BTreeSet::new()]));
    }

    #[test]
    fn retries_become_slower_and_never_stop() {
        let seconds = |failures| retry_after(failures, 0.5).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 6, 100].map(seconds), [1, 2, 4, 8, 16, 30, 30]);
    }
}
