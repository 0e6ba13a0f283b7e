//! How each harm is done, and seen to have had its effect.

use std::time::Duration;

use bellwether_types::chain;
use tokio::time::{Instant, sleep};

use super::super::{report::EventReport, verify::within};
use super::{Drill, Event, store_leader};

/// For another member to lead.
const SUCCESSOR_WITHIN: Duration = Duration::from_secs(45);
/// For a guardian to be replaced.
const GUARDED_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks at what the drill waits for.
const LOOK_EACH: Duration = Duration::from_millis(20);

impl Drill<'_> {
    pub(super) async fn harm(
        &self,
        event: Event,
        leader: &str,
        report: &mut EventReport,
    ) -> Result<(), String> {
        match event {
            Event::LeaderHostLost => self.lose_host(leader, report).await,
            Event::LeaderHostWithStoreLost => {
                store_leader::make(self.layout, leader).await?;
                self.lose_host(leader, report).await
            }
            Event::LeaderFrozen => self.freeze(leader, report).await,
            Event::LeaderCutOff => self.cut_off(leader, report).await,
            Event::Switchover => self.switch_over(leader, report).await,
            Event::PostgresKilled => self.kill_postgres(leader),
            Event::AgentKilled => {
                self.nodes.kill_agent(leader);
                Ok(())
            }
            Event::GuardianKilled => self.kill_guardian(leader).await,
            Event::StoreLeaderKilled => {
                let node = store_leader::find(self.layout).await?;
                report.note = format!("{node} led the store");
                self.nodes.kill_agent(&node);
                Ok(())
            }
        }
    }

    async fn lose_host(&self, leader: &str, report: &mut EventReport) -> Result<(), String> {
        let killed = self.nodes.pull_the_plug(leader).await;
        report.note = format!("{killed} processes killed; the node came back after the failover");
        self.successor(leader).await
    }

    async fn freeze(&self, leader: &str, report: &mut EventReport) -> Result<(), String> {
        self.nodes.freeze(leader);
        let frozen = Instant::now();
        // The guardian has to end PostgreSQL before the lease lets anybody else lead.
        let fenced_after = loop {
            if self.nodes.postgres_processes(leader) == 0 {
                break frozen.elapsed();
            }
            if self.other_primary(leader).is_some() {
                return Err(format!("{leader}'s PostgreSQL still ran when another member led"));
            }
            if frozen.elapsed() > SUCCESSOR_WITHIN {
                return Err(format!("nobody fenced the frozen {leader}"));
            }
            sleep(LOOK_EACH).await;
        };
        report.note = format!("its guardian ended PostgreSQL after {} ms", fenced_after.as_millis());
        self.successor(leader).await
    }

    async fn switch_over(&self, leader: &str, report: &mut EventReport) -> Result<(), String> {
        let picture = self.members.now();
        let candidate = picture.members.iter().find(|member| member.name != leader);
        let candidate = candidate.ok_or("there is nobody to switch to")?.name.clone();
        let reply = self.members.switch_over(leader, &candidate).await.map_err(|error| chain(&error))?;
        report.note = reply.body.trim().to_owned();
        if reply.status != 200 {
            return Err(format!("the switchover was refused with {}: {}", reply.status, reply.body.trim()));
        }
        if !within(SUCCESSOR_WITHIN, || self.other_primary(leader) == Some(candidate.clone())).await {
            return Err(format!("{candidate} does not lead after the switchover"));
        }
        Ok(())
    }

    /// Its agent, its postmaster and its walsenders say nothing any more. Sessions of clients go on, and new ones find nobody.
    async fn cut_off(&self, leader: &str, report: &mut EventReport) -> Result<(), String> {
        let silenced = self.nodes.cut_off(leader);
        report.note = format!("{silenced} processes stopped; the node spoke again after the failover");
        self.successor(leader).await
    }

    async fn kill_guardian(&self, leader: &str) -> Result<(), String> {
        let killed = self.nodes.kill_guardian(leader).ok_or_else(|| format!("{leader} has no guardian"))?;
        let replaced = || self.nodes.guardian(leader).is_some_and(|pid| pid != killed);
        match within(GUARDED_WITHIN, replaced).await {
            true => Ok(()),
            false => Err(format!("{leader} has no new guardian within {} s", GUARDED_WITHIN.as_secs())),
        }
    }

    fn kill_postgres(&self, leader: &str) -> Result<(), String> {
        let killed = self.nodes.kill_postmaster(leader);
        killed.then_some(()).ok_or_else(|| format!("{leader} has no postmaster to kill"))
    }

    async fn successor(&self, leader: &str) -> Result<(), String> {
        if within(SUCCESSOR_WITHIN, || self.other_primary(leader).is_some()).await {
            return Ok(());
        }
        Err(format!("nobody took over from {leader} within {} s", SUCCESSOR_WITHIN.as_secs()))
    }

    fn other_primary(&self, leader: &str) -> Option<String> {
        let picture = self.members.now();
        picture.leader().filter(|member| member.name != leader).map(|member| member.name.clone())
    }
}
