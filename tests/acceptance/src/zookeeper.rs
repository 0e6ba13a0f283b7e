//! A real ZooKeeper server for a cluster whose store it is.

use std::{
    fs,
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    ports::Ports,
    wait::{PATIENCE, eventually},
};

const JAR: &str = "/usr/share/java/zookeeper.jar";
/// Short sessions need short ticks.
const TICK_MILLIS: u64 = 500;

/// For a command of four letters.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct ZooKeeper {
    child: Child,
    address: String,
}

impl ZooKeeper {
    /// Starts it, with its files below `dir`, and waits until it answers.
    pub async fn start(ports: &mut Ports, dir: &Path) -> Self {
        let port = ports.take_one();
        let data = dir.join("zookeeper");
        let file = dir.join("zookeeper.cfg");
        let text = format!(
            "tickTime={TICK_MILLIS}\ninitLimit=50\nsyncLimit=10\nmaxClientCnxns=0\ndataDir={}\nclientPort={port}\n\
             clientPortAddress=127.0.0.1\n4lw.commands.whitelist=*\n",
            data.display()
        );
        fs::write(&file, text).expect("a configuration");
        let log = File::create(dir.join("zookeeper.log")).expect("a log");
        let child = Command::new("setpriv")
            // It must not outlive this process, however that ends.
            .args(["--pdeathsig", "KILL", "java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-Dzookeeper.admin.enableServer=false", "-cp", JAR])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("setpriv and java are installed (scripts/prerequisites)");
        let zookeeper = Self { child, address: format!("127.0.0.1:{port}") };
        eventually("ZooKeeper answers", PATIENCE, || async {
            match zookeeper.ask("ruok").await?.as_str() {
                "imok" => Ok(()),
                other => Err(format!("{other:?}; is {JAR} installed (scripts/prerequisites)?")),
            }
        })
        .await;
        zookeeper
    }

    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    /// What a member's configuration says instead of `raft`.
    pub fn section(&self) -> Value {
        json!({"hosts": [self.address], "tick_time": TICK_MILLIS})
    }

    /// The ephemeral znodes of each session, as the server tells them.
    pub async fn ephemerals(&self) -> Vec<Vec<String>> {
        let text = self.ask("dump").await.expect("ZooKeeper answers");
        let mut sessions: Vec<Vec<String>> = Vec::new();
        for line in text.lines().skip_while(|line| !line.starts_with("Sessions with Ephemerals")) {
            if line.starts_with("0x") {
                sessions.push(Vec::new());
            } else if let (Some(path), Some(session)) = (line.strip_prefix('\t'), sessions.last_mut()) {
                session.push(path.to_owned());
            }
        }
        sessions
    }

    /// One of ZooKeeper's commands of four letters. A server that has just begun may take it and never answer.
    async fn ask(&self, command: &str) -> Result<String, String> {
        let asked = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            stream.write_all(command.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        let answer = timeout(ANSWERED_WITHIN, asked).await.map_err(|_| "no answer".to_owned())?;
        answer.map_err(|error: std::io::Error| error.to_string())
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
