//! `list` and `topology`.

use std::time::Duration;

use crate::{
    command::{ListArgs, TopologyArgs, Watch},
    error::CliError,
    groups::Groups,
    manner::Outcome,
    render::{
        members::{self, Named, View},
        output::Format,
    },
    schedule,
    session::{Session, Target},
};

/// Clears a terminal and moves its cursor to the upper left.
const CLEAR: &str = "\x1b[2J\x1b[1;1H";

pub(crate) async fn list(session: &mut Session, args: &ListArgs) -> Result<Outcome, CliError> {
    let view = View::List { format: args.format, extended: args.extended };
    show(session, &args.clusters, view, args.watch, args.timestamp).await
}

pub(crate) async fn topology(session: &mut Session, args: &TopologyArgs) -> Result<Outcome, CliError> {
    show(session, &args.clusters, View::Topology, args.watch, false).await
}

impl Watch {
    /// Between two updates; `None`: once is enough.
    pub(crate) fn interval(self) -> Option<Duration> {
        let seconds = self.watch.or(self.auto.then_some(2.0))?;
        Duration::try_from_secs_f64(seconds).ok().filter(|interval| !interval.is_zero())
    }
}

async fn show(
    session: &mut Session,
    clusters: &[String],
    view: View,
    watch: Watch,
    with_time: bool,
) -> Result<Outcome, CliError> {
    let targets = targets(session, clusters).await?;
    if targets.is_empty() {
        session.talk.warn("Listing members: No cluster names were provided");
        return Ok(Outcome::Done);
    }
    loop {
        let mut text = String::new();
        if with_time {
            text.push_str(&format!("{}\n", schedule::second_stamp()));
        }
        for target in &targets {
            text.push_str(&render(target, &target.groups().await?, view));
        }
        let Some(interval) = watch.interval() else {
            session.talk.terminal.out(&text);
            return Ok(Outcome::Done);
        };
        let clear = if session.talk.terminal.is_interactive() { CLEAR } else { "" };
        session.talk.terminal.out(&format!("{clear}{text}"));
        tokio::time::sleep(interval).await;
    }
}

async fn targets(session: &Session, clusters: &[String]) -> Result<Vec<Target>, CliError> {
    if clusters.is_empty() && session.config.scope.is_none() {
        return Ok(Vec::new());
    }
    if clusters.is_empty() {
        return Ok(vec![session.target(None).await?]);
    }
    let mut targets = Vec::new();
    for name in clusters {
        targets.push(session.target(Some(name)).await?);
    }
    Ok(targets)
}

fn render(target: &Target, groups: &Groups, view: View) -> String {
    members::render(Named { name: target.name.as_str(), groups }, view)
}

/// The table that other commands show beside their questions and results.
pub(crate) fn table(target: &Target, groups: &Groups) -> String {
    render(target, groups, View::List { format: Format::Pretty, extended: false })
}
