//! Alarms that take more than a minute to come up, on a real server: a rotten page, and a disk that will be full before long.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    time::Duration,
};

use bellwether_acceptance::{
    rest::Api,
    sql::{self, Session},
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    cluster::{Cluster, within},
    host::Host,
    laboratory::Laboratory,
    stack::{POSTGRES, REST},
};

const UP_WITHIN: Duration = Duration::from_secs(180);
/// A trend is told from a minute at least, and checksums are asked for once in a minute.
const TOLD_WITHIN: Duration = Duration::from_secs(180);
/// How the disk fills: 600 MB, which a host has, are gone in four minutes.
const EACH_SECOND: usize = 2_500_000;
const PAGE: u64 = 8_192;

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// When each alarm came up, in milliseconds since its cause.
    pub told_after_ms: Vec<(&'static str, u64)>,
    /// Who led at the end; nobody may step down for an alarm of these.
    pub led: Option<String>,
    pub problem: Option<String>,
}

impl Report {
    pub fn is_good(&self) -> bool {
        self.problem.is_none() && self.told_after_ms.len() == 2
    }
}

/// In a laboratory where a stack of ours was installed on small disks.
pub async fn run(laboratory: &Laboratory, tell: impl Fn(&str)) -> Report {
    let mut report = Report::default();
    if let Err(problem) = go_through(laboratory, &tell, &mut report).await {
        report.problem = Some(problem);
    }
    report
}

async fn go_through(
    laboratory: &Laboratory,
    tell: &impl Fn(&str),
    report: &mut Report,
) -> Result<(), String> {
    let cluster = Cluster::of(laboratory, true);
    let leader = cluster.whole_within(UP_WITHIN).await?;
    let host = laboratory.host(&leader);
    let session = Session::open(&sql::server(&host.address(), POSTGRES)).await.map_err(text)?;
    let rotten = rot(host, &session).await?;
    let began = Instant::now();
    read(&session).await?;
    tell(&format!("page 1 of {rotten} is rotten, and was read"));
    let mut filled = 0;
    let mut both = ["checksum_failures", "wal_disk_filling"].to_vec();
    while !both.is_empty() {
        filled += 1;
        fs::write(host.dir.join(format!("ballast-{filled}")), vec![0; EACH_SECOND]).map_err(text)?;
        let status = Api::at(&format!("{}:{REST}", host.address())).status().await;
        let stands = |alarm: &str| {
            status["alarms"].as_array().is_some_and(|alarms: &Vec<Value>| alarms.contains(&json!(alarm)))
        };
        for alarm in both.extract_if(.., |alarm| stands(alarm)) {
            let after = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tell(&format!("{alarm} after {after} ms"));
            report.told_after_ms.push((alarm, after));
        }
        if began.elapsed() > TOLD_WITHIN {
            return Err(format!("{both:?} never came up: {status}"));
        }
        sleep(Duration::from_secs(1)).await;
    }
    let led = within(Duration::from_secs(10), || cluster.primary()).await?;
    let is_same = led == leader;
    report.led = Some(led);
    if is_same { Ok(()) } else { Err(format!("{leader} stepped down for an alarm that no successor mends")) }
}

/// Writes over a page of a table that no buffer holds; the name of its file.
async fn rot(host: &Host, session: &Session) -> Result<String, String> {
    // What VACUUM FULL writes does not pass through the buffers.
    let statements = [
        "CREATE TABLE rotten AS SELECT n, repeat('x', 500) AS t FROM generate_series(1, 200) AS n",
        "VACUUM FULL rotten",
        "CHECKPOINT",
    ];
    for statement in statements {
        session.client.batch_execute(statement).await.map_err(text)?;
    }
    let path = session.text("pg_relation_filepath('rotten')").await.map_err(text)?.ok_or("no file")?;
    let file = OpenOptions::new().write(true).open(host.data_dir().join(&path)).map_err(text)?;
    file.write_all_at(&[0x5a; 64], PAGE + PAGE / 2).map_err(text)?;
    Ok(path)
}

/// PostgreSQL refuses to give what the page holds.
async fn read(session: &Session) -> Result<(), String> {
    match session.client.query_one("SELECT count(t) FROM rotten", &[]).await {
        Ok(_) => Err("the rotten page was not noticed".to_owned()),
        Err(error) if error.code().is_some_and(|code| code.code() == "XX001") => Ok(()),
        Err(error) => Err(text(error)),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
