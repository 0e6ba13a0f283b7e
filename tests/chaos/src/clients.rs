//! Clients that talk to every host at a time, each with sessions of its own, so that what they see is what the cluster does and not how
//! clever a driver is at finding the primary.

pub mod appenders;
pub mod writers;

use std::time::Duration;

use bellwether_acceptance::sql::{self, Session};
use tokio::time::{sleep, timeout};

use crate::stack::POSTGRES;

/// For a session to be opened. A lost host answers nothing at all.
const CONNECTED_WITHIN: Duration = Duration::from_millis(300);
/// Between two questions whether a standby is a primary by now.
const ASK_EACH: Duration = Duration::from_millis(10);

/// Opens a session with a server, once it is a primary; `None` if it is not there, or does not answer.
async fn session_with_primary(address: &str) -> Option<Session> {
    let server = sql::server(address, POSTGRES);
    let opened = timeout(CONNECTED_WITHIN, Session::open(&server)).await;
    let Ok(Ok(session)) = opened else {
        sleep(ASK_EACH).await;
        return None;
    };
    loop {
        let asked = session.client.query_one("SELECT pg_is_in_recovery()", &[]);
        let row = timeout(CONNECTED_WITHIN, asked).await.ok()?.ok()?;
        if !row.get::<_, bool>(0) {
            return Some(session);
        }
        sleep(ASK_EACH).await;
    }
}
