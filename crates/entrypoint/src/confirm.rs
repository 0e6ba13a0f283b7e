//! Whether other members see that an address has moved: they hear the announcements, and say on `/entrypoints` where they saw it last.

use std::time::Duration;

use bellwether_api_client::{ApiClient, Method};
use tokio::time::{Instant, sleep};

use crate::board::{Board, Entry};

/// For one question.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
const ASK_EACH: Duration = Duration::from_millis(300);
/// Announcements have been repeated many times by then.
const PATIENCE: Duration = Duration::from_secs(20);

/// An address that has come here.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) hardware_address: String,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Confirmed,
    /// Members answered, and none of them has seen it here.
    Unseen,
    /// Nobody could be asked, or nobody looks.
    Unknown,
}

/// Asks these members (name and `api_url`) until all that look have seen it, and notes who has.
pub(crate) async fn confirm(
    client: ApiClient,
    members: Vec<(String, String)>,
    moved: Moved,
    board: Board,
) -> Outcome {
    let by = Instant::now() + PATIENCE;
    let mut outcome = Outcome::Unknown;
    let mut open = members;
    while !open.is_empty() && Instant::now() < by {
        let mut unseen = Vec::new();
        for (name, api_url) in open {
            match has_seen(&client, &api_url, &moved).await {
                Some(true) => {
                    board.confirm("vip", &moved.name, &name);
                    outcome = Outcome::Confirmed;
                }
                Some(false) => {
                    outcome = if outcome == Outcome::Confirmed { outcome } else { Outcome::Unseen };
                    unseen.push((name, api_url));
                }
                None => unseen.push((name, api_url)),
            }
        }
        open = unseen;
        sleep(ASK_EACH).await;
    }
    outcome
}

/// `None`: there was no answer, or that member has no such address.
async fn has_seen(client: &ApiClient, api_url: &str, moved: &Moved) -> Option<bool> {
    let answer = client.call(Method::GET, api_url, "/entrypoints", None, ANSWERED_WITHIN).await.ok()?;
    let entries: Vec<Entry> = serde_json::from_str(&answer.body).ok()?;
    let entry = entries.iter().find(|entry| entry.kind == "vip" && entry.name == moved.name)?;
    let part = entry.parts.iter().find(|part| part.what == moved.address && !part.place.is_empty())?;
    Some(part.seen_at.as_deref() == Some(moved.hardware_address.as_str()))
}
