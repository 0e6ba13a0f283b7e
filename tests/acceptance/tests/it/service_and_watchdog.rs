//! The service manager hears how far the agent is, and the watchdog device is fed by renewals of the leader lock and by nothing else.

use std::{
    io::Read as _,
    os::unix::{fs::OpenOptionsExt as _, net::UnixDatagram},
    path::Path,
    process::Child,
    sync::{Arc, Mutex},
    time::Duration,
};

use bellwether_acceptance::{
    Cluster, Options, PATIENCE, eventually,
    processes::send,
    wait::{throughout, until},
};
use rustix::process::Signal;
use serde_json::json;

/// What was written into a pipe or sent to a socket, as one text.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<String>>);

impl Heard {
    fn add(&self, bytes: &[u8]) {
        self.0.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
    }

    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// Waits until `wanted` was heard, and forgets everything up to its end.
    async fn hears(&self, wanted: &str) {
        until(format!("`{wanted}` is heard"), PATIENCE, || {
            let mut heard = self.0.lock().unwrap();
            match heard.find(wanted) {
                Some(at) => {
                    heard.drain(..at + wanted.len());
                    true
                }
                None => false,
            }
        })
        .await;
    }
}

/// A device as the test sees it. It is read for as long as the test lives.
fn listen_to_pipe(cluster: &Cluster, path: &Path) -> Heard {
    let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo can be run");
    assert!(made.success());
    cluster.account.own(path, 0o600);
    // Also for writing: so it does not end when the agent closes it.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("a small number");
    let mut pipe = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nonblocking)
        .open(path)
        .expect("the pipe can be opened");
    let heard = Heard::default();
    let ours = heard.clone();
    std::thread::spawn(move || {
        let mut bytes = [0; 256];
        loop {
            match pipe.read(&mut bytes) {
                Ok(read) => ours.add(&bytes[..read]),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    });
    heard
}

fn listen_to_socket(cluster: &Cluster, path: &Path) -> Heard {
    let socket = UnixDatagram::bind(path).expect("the socket can be made");
    cluster.account.own(path, 0o600);
    let heard = Heard::default();
    let ours = heard.clone();
    std::thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(read) = socket.recv(&mut bytes) {
            ours.add(&bytes[..read]);
        }
    });
    heard
}

/// An agent that a failing test does not leave behind.
struct Agent(Child);

impl Agent {
    fn signal(&self, number: Signal) {
        assert!(send(i32::try_from(self.0.id()).expect("a pid"), number), "the agent is there");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn service_manager_and_device_hear_what_happens() {
    let mut cluster = Cluster::prepare(&Options::nodes(1)).await;
    let dir = cluster.nodes[0].dir.clone();
    let (device, socket) = (dir.join("watchdog"), dir.join("notify"));
    let (feeding, manager) = (listen_to_pipe(&cluster, &device), listen_to_socket(&cluster, &socket));
    let node = &mut cluster.nodes[0];
    node.document["bootstrap"]["dcs"]["ttl"] = json!(8);
    node.document["bootstrap"]["dcs"]["loop_wait"] = json!(1);
    node.document["bootstrap"]["dcs"]["retry_timeout"] = json!(3);
    node.document["watchdog"] =
        json!({"mode": "required", "driver": "testing", "device": device, "safety_margin": 3});
    node.rewrite(&node.document);
    let log = std::fs::File::create(node.log()).expect("a log");
    let child = node
        .command()
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "2000000")
        .stderr(log)
        .spawn()
        .expect("the agent can be started");
    let mut agent = Agent(child);

    manager.hears("READY=1").await;
    manager.hears("WATCHDOG=1").await;
    // Required: it counts before this member leads. 8 - 3 seconds.
    feeding.hears("Ctimeout=5\n1").await;
    eventually("the member leads", PATIENCE, || async {
        let reply = node.api.get("/primary").await?;
        if reply.status == 200 { Ok(()) } else { Err(reply.text) }
    })
    .await;
    feeding.hears("11").await;
    assert!(
        node.log_text()
            .contains("Watchdog test harness activated with 5 second timeout, timing slack 4 seconds")
    );

    assert_eq!(node.api.patch("/config", json!({"ttl": 10})).await.status, 200);
    feeding.hears("Ctimeout=7\n1").await;

    manager.take();
    agent.signal(Signal::HUP);
    manager.hears("RELOADING=1\nMONOTONIC_USEC=").await;
    manager.hears("READY=1").await;

    // An operator works on PostgreSQL: nothing may reset the machine meanwhile.
    assert_eq!(node.api.patch("/config", json!({"pause": true})).await.status, 200);
    feeding.hears("V").await;
    throughout("nothing feeds it in pause", Duration::from_secs(3), || {
        let heard = feeding.take();
        std::future::ready(if heard.is_empty() { Ok(()) } else { Err(heard) })
    })
    .await;
    assert_eq!(node.api.patch("/config", json!({"pause": null})).await.status, 200);
    feeding.hears("Ctimeout=7\n11").await;

    agent.signal(Signal::TERM);
    manager.hears("STOPPING=1").await;
    feeding.hears("V").await;
    let mut status = None;
    until("the agent ends", PATIENCE, || {
        status = agent.0.try_wait().expect("it can be waited for");
        status.is_some()
    })
    .await;
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert!(!node.postgres_runs());
    assert_eq!(feeding.take(), "", "nothing feeds it after its end");
}
