//! The fixed story of faults, each followed by the proof that the cluster healed.
//!
//! Every event has the same frame: note the leader, forget the client's longest gap, do the harm, see the client write again,
//! see all three members whole on one timeline again, and note how long each took. The first event that does not heal within
//! its bounds ends the story, since what follows would only tell of the same wound.

mod event;
mod harm;
mod store_leader;

use std::time::Duration;

use tokio::time::Instant;

pub(super) use self::event::Event;
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
/// Undisturbed writing between two events, so that each gap belongs to one of them.
const CALM_ROWS: u64 = 50;
/// A client without a longer gap than this is writing undisturbed, whatever else the machine does.
const WRITING: Duration = Duration::from_millis(400);

/// What the story needs.
#[derive(Debug)]
pub(super) struct Drill<'a> {
    pub(super) layout: &'a Layout,
    pub(super) nodes: &'a Nodes,
    pub(super) client: &'a Client,
    pub(super) members: &'a Members,
    pub(super) progress: Progress,
    /// The story.
    pub(super) events: Vec<Event>,
}

impl Drill<'_> {
    /// Goes through the story and compares the rows. Not to be dropped half-way: a frozen agent would stay frozen (stopping the
    /// nodes thaws it).
    pub(super) async fn run(&self) -> Report {
        let mut events = Vec::new();
        for &event in &self.events {
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
        let acted = Box::pin(self.harm(event, &leader, report)).await;
        // Whatever happened, leave nothing frozen or switched off.
        for node in &self.layout.nodes {
            self.nodes.thaw(&node.name);
            self.nodes.power_on(&node.name).await;
        }
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
}
