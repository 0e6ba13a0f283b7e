//! The fixed story of faults, each followed by the proof that the cluster healed.
//!
//! Every event has the same frame: note the leader, forget the client's longest gap, do the harm, see the client write again,
//! see all three members whole on one timeline again, and note how long each took. The first event that does not heal within
//! its bounds ends the story, since what follows would only tell of the same wound.

use std::{fmt, time::Duration};

use bellwether_types::chain;
use tokio::time::{Instant, sleep};

use super::{
    client::Client,
    layout::Layout,
    members::Members,
    nodes::Nodes,
    report::{EventReport, Report},
    verify::{self, within},
    welcome::Progress,
};

/// For the client to write again after an event has had its effect.
const WRITES_WITHIN: Duration = Duration::from_secs(45);
/// For the three members to be whole again after the last disturbance. A member may have to be rewound or cloned.
const WHOLE_WITHIN: Duration = Duration::from_secs(90);
/// For another member to lead.
const SUCCESSOR_WITHIN: Duration = Duration::from_secs(45);
/// Between two looks at what the drill waits for.
const LOOK_EACH: Duration = Duration::from_millis(20);
/// Undisturbed writing between two events, so that each gap belongs to one of them.
const CALM_ROWS: u64 = 50;
/// A client without a longer gap than this is writing undisturbed, whatever else the machine does.
const WRITING: Duration = Duration::from_millis(400);

/// What is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    LeaderHostLost,
    LeaderFrozen,
    Switchover,
    PostgresKilled,
    AgentKilled,
}

impl Event {
    const STORY: [Event; 5] = [
        Event::LeaderHostLost,
        Event::LeaderFrozen,
        Event::Switchover,
        Event::PostgresKilled,
        Event::AgentKilled,
    ];

    /// The longest outage that counts as healed. Generous: a machine that runs three servers at once may be slow.
    fn bound(self) -> Duration {
        match self {
            Self::LeaderHostLost | Self::LeaderFrozen => Duration::from_secs(20),
            // An agent that takes longer than its lease to start again on such a machine has lost it: then it is a failover.
            Self::Switchover | Self::PostgresKilled | Self::AgentKilled => Duration::from_secs(10),
        }
    }

    pub(super) fn code(self) -> &'static str {
        match self {
            Self::LeaderHostLost => "leader_host_lost",
            Self::LeaderFrozen => "leader_frozen",
            Self::Switchover => "switchover",
            Self::PostgresKilled => "postgres_killed",
            Self::AgentKilled => "agent_killed",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeaderHostLost => "leader's whole process tree killed",
            Self::LeaderFrozen => "leader's agent frozen",
            Self::Switchover => "planned switchover",
            Self::PostgresKilled => "leader's PostgreSQL killed",
            Self::AgentKilled => "leader's agent killed",
        })
    }
}

/// What the story needs.
#[derive(Debug)]
pub(super) struct Drill<'a> {
    pub(super) layout: &'a Layout,
    pub(super) nodes: &'a Nodes,
    pub(super) client: &'a Client,
    pub(super) members: &'a Members,
    pub(super) progress: Progress,
}

impl Drill<'_> {
    /// Goes through the story and compares the rows. Not to be dropped half-way: a frozen agent would stay frozen (stopping the
    /// nodes thaws it).
    pub(super) async fn run(&self) -> Report {
        let mut events = Vec::new();
        for event in Event::STORY {
            let report = self.put_to(event).await;
            self.progress.say(&report.to_string());
            let healed = report.problem.is_none();
            events.push(report);
            if !healed {
                break;
            }
        }
        self.progress.say("comparing every acknowledged row with all three members");
        self.client.stop().await;
        let ledger = self.client.ledger();
        let leader = self.members.now().leader().map(|leader| leader.name.clone());
        // Without a leader any member may be asked; the report says that the story did not heal.
        let leader = leader.unwrap_or_else(|| self.layout.nodes[0].name.clone());
        let held = verify::compare(self.layout, &leader, ledger.acknowledged()).await;
        Report { events, acknowledged: ledger.acknowledged().len(), unknown: ledger.unknown(), held }
    }

    async fn put_to(&self, event: Event) -> EventReport {
        self.progress.say(&format!("next: {event}"));
        let mut report = EventReport::begin(event);
        if let Err(problem) = self.try_event(event, &mut report).await {
            report.problem = Some(problem);
        }
        report
    }

    async fn try_event(&self, event: Event, report: &mut EventReport) -> Result<(), String> {
        let leader = self.calm().await?;
        report.leader_before.clone_from(&leader);
        self.client.begin_event();
        let began = Instant::now();
        let acted = match event {
            Event::LeaderHostLost => self.lose_host(&leader, report).await,
            Event::LeaderFrozen => self.freeze(&leader, report).await,
            Event::Switchover => self.switch_over(&leader, report).await,
            Event::PostgresKilled => self.kill_postgres(&leader),
            Event::AgentKilled => {
                self.nodes.kill_agent(&leader);
                Ok(())
            }
        };
        // Whatever happened, leave nothing frozen or switched off.
        self.nodes.thaw(&leader);
        self.nodes.power_on(&leader).await;
        acted?;

        let rows = self.client.acknowledged();
        if !within(WRITES_WITHIN, || self.client.acknowledged() > rows + CALM_ROWS).await {
            return Err(format!("no writes again within {} s", WRITES_WITHIN.as_secs()));
        }
        let whole = within(WHOLE_WITHIN, || self.members.now().whole().is_ok()).await;
        report.whole_after = began.elapsed();
        report.outage = self.client.longest_gap();
        let picture = self.members.now();
        let now_leads = picture.whole().map_err(|missing| missing.to_string());
        let now_leads = now_leads.map_err(|missing| match whole {
            true => format!("not whole for long: {missing}"),
            false => format!("not whole within {} s: {missing}", WHOLE_WITHIN.as_secs()),
        })?;
        report.leader_after.clone_from(&now_leads.name);
        report.timeline = now_leads.timeline;
        if report.outage > event.bound() {
            let bound = event.bound().as_secs();
            return Err(format!("writes were away for more than the bound of {bound} s"));
        }
        Ok(())
    }

    /// Waits until all is well and the client has written undisturbed for a while; who leads then.
    async fn calm(&self) -> Result<String, String> {
        let by = Instant::now() + WHOLE_WITHIN;
        let mut rows = self.client.acknowledged();
        while Instant::now() < by {
            self.client.begin_event();
            let writes = within(WRITES_WITHIN, || self.client.acknowledged() > rows + CALM_ROWS).await;
            rows = self.client.acknowledged();
            if writes
                && self.client.longest_gap() < WRITING
                && let Ok(leader) = self.members.now().whole()
            {
                return Ok(leader.name.clone());
            }
        }
        Err("the cluster did not come to rest before the event".to_owned())
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
