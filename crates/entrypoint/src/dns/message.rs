//! Messages: questions and changes out, answers in.

use std::{collections::BTreeSet, net::IpAddr};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode, UpdateMessage as _},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, PTR, TXT},
    },
};

use super::update::{Data, Kind, Prerequisite, Update};

/// A name that cannot be written as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name that DNS knows")]
pub struct BadName(String);

fn name(text: &str) -> Result<Name, BadName> {
    let mut name = Name::from_ascii(text).map_err(|_| BadName(text.to_owned()))?;
    name.set_fqdn(true);
    Ok(name)
}

fn record_type(kind: Kind) -> RecordType {
    match kind {
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
        Kind::Txt => RecordType::TXT,
        Kind::Ptr => RecordType::PTR,
        Kind::Soa => RecordType::SOA,
        Kind::Ns => RecordType::NS,
    }
}

fn rdata(data: &Data) -> Result<RData, BadName> {
    Ok(match data {
        Data::A(address) => RData::A(A(*address)),
        Data::Aaaa(address) => RData::AAAA(AAAA(*address)),
        Data::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
        Data::Ptr(target) => RData::PTR(PTR(name(target)?)),
    })
}

/// Asks for the records of a kind at a name; `recursion` where the asked server is not the zone's own.
pub fn question(id: u16, about: &str, kind: Kind, recursion: bool) -> Result<Message, BadName> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = recursion;
    message.add_query(Query::query(name(about)?, record_type(kind)));
    Ok(message)
}

/// The change as a message.
pub fn change(id: u16, update: &Update) -> Result<Message, BadName> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Update);
    message.add_zone(Query::query(name(&update.zone)?, RecordType::SOA));
    for prerequisite in &update.prerequisites {
        message.add_pre_requisite(match prerequisite {
            Prerequisite::Absent { name: at, kind } => empty(at, *kind, DNSClass::NONE)?,
            Prerequisite::Only(entry) => Record::from_rdata(name(&entry.name)?, 0, rdata(&entry.data)?),
        });
    }
    for (at, kind) in &update.delete_sets {
        message.add_update(empty(at, *kind, DNSClass::ANY)?);
    }
    for entry in &update.delete {
        let mut record = Record::from_rdata(name(&entry.name)?, 0, rdata(&entry.data)?);
        record.dns_class = DNSClass::NONE;
        message.add_update(record);
    }
    for entry in &update.add {
        message.add_update(Record::from_rdata(name(&entry.name)?, update.ttl, rdata(&entry.data)?));
    }
    Ok(message)
}

fn empty(at: &str, kind: Kind, class: DNSClass) -> Result<Record, BadName> {
    let mut record = Record::update0(name(at)?, 0, record_type(kind)).into_record_of_rdata();
    record.dns_class = class;
    Ok(record)
}

/// The addresses in an answer.
pub fn addresses(answer: &Message) -> BTreeSet<IpAddr> {
    answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
}

/// The texts in an answer; the pieces of each put together.
pub fn texts(answer: &Message) -> Vec<String> {
    let texts = answer.answers.iter().filter_map(|record| match &record.data {
        RData::TXT(text) => Some(text.txt_data.concat()),
        _ => None,
    });
    texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

/// The names of servers in an answer to `NS`.
pub fn servers(answer: &Message) -> Vec<String> {
    let names = answer.answers.iter().filter_map(|record| match &record.data {
        RData::NS(ns) => Some(plain(&ns.0)),
        _ => None,
    });
    names.collect()
}

/// The zone that a name lies in, and its primary server: from the SOA, wherever in the answer it stands.
pub fn authority(answer: &Message) -> Option<(String, String)> {
    answer.answers.iter().chain(&answer.authorities).find_map(|record| match &record.data {
        RData::SOA(soa) => Some((plain(&record.name), plain(&soa.mname))),
        _ => None,
    })
}

/// Whether the answer is about something: names that are not there are an answer, too.
pub fn is_answer(answer: &Message) -> bool {
    matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
}

fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::update::Entry;

    #[test]
    fn a_change_survives_the_wire() {
        let entry = |name: &str, data| Entry { name: name.into(), data };
        let update = Update {
            zone: "z.example".into(),
            prerequisites: vec![
                Prerequisite::Absent { name: "f.z.example".into(), kind: Kind::Txt },
                Prerequisite::Only(entry("f.z.example", Data::Txt("x".into()))),
            ],
            delete_sets: vec![("main.z.example".into(), Kind::A)],
            delete: vec![entry("main.z.example", Data::of("10.0.0.1".parse().unwrap()))],
            add: vec![entry("main.z.example", Data::of("2001:db8::1".parse().unwrap()))],
            ttl: 60,
        };
        let bytes = change(7, &update).unwrap().to_vec().unwrap();
        let read = Message::from_vec(&bytes).unwrap();
        assert_eq!((read.metadata.id, read.metadata.op_code), (7, OpCode::Update));
        let classes = |records: &[Record]| records.iter().map(|record| record.dns_class).collect::<Vec<_>>();
        assert_eq!(classes(&read.answers), [DNSClass::NONE, DNSClass::IN]);
        assert_eq!(classes(&read.authorities), [DNSClass::ANY, DNSClass::NONE, DNSClass::IN]);
        assert_eq!(read.authorities[2].ttl, 60);
        assert!(change(7, &Update { zone: "a..b".into(), ..update }).is_err());
    }
}
