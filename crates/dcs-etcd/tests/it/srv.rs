//! Endpoints by DNS, from a name server that this test is.

use std::{net::Ipv4Addr, time::Duration};

use bellwether_dcs::{Deadline, Store as _};
use bellwether_dcs_etcd::{EtcdConfig, EtcdStore, Srv};
use hickory_resolver::proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::SRV},
};
use tokio::net::UdpSocket;

use crate::servers::{PREFIX, Servers};

/// Answers one SRV name, and nothing else.
async fn serve(socket: UdpSocket, name: Name, target: Name, port: u16) {
    let mut buffer = [0; 1500];
    while let Ok((size, client)) = socket.recv_from(&mut buffer).await {
        let Ok(question) = Message::from_vec(&buffer[..size]) else { continue };
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.authoritative = true;
        answer.metadata.recursion_available = true;
        answer.queries.clone_from(&question.queries);
        let asked = question.queries.first();
        if asked.is_some_and(|asked| *asked.name() == name && asked.query_type() == RecordType::SRV) {
            let record = SRV::new(1, 1, port, target.clone());
            answer.answers.push(Record::from_rdata(name.clone(), 60, RData::SRV(record)));
        } else {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        let _ = socket.send_to(&answer.to_vec().unwrap(), client).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_come_from_srv_records() {
    let servers = Servers::start(1).await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let name_server = socket.local_addr().unwrap();
    let name = Name::from_ascii("_etcd-client-blue._tcp.example.test.").unwrap();
    // A target is a name, and this one is an address to the resolver of the system.
    let endpoint = &servers.members[0].endpoint;
    let target = Name::from_ascii(format!("{}.", endpoint.host)).unwrap();
    tokio::spawn(serve(socket, name, target, endpoint.port));

    let mut config = EtcdConfig::new(PREFIX, vec![]);
    config.srv = Some(Srv {
        domain: "example.test".into(),
        suffix: Some("blue".into()),
        name_server: Some(name_server),
    });
    let store = EtcdStore::start(config).await.unwrap();
    store.snapshot(Deadline::after(Duration::from_secs(10))).await.unwrap();
}
