//! One lease: a session of its own.
//!
//! A session lives as long as its client does, whatever the agent thinks. A lease must end when nobody renews it: so it is ended
//! here, `ttl` after the last renewal was asked for. If this process dies or is frozen, the ensemble ends it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bellwether_dcs::{Deadline, Key, Renewal, StoreError, store::now};
use bellwether_types::{LeaseId, Timestamp};
use tokio::time::{sleep, timeout};
use zookeeper_client::{Client, Error, SessionInfo, SessionState};

use crate::{
    error::{unavailable, within},
    guarantee::{Heard, relay},
    servers::{AtTheEnd, Servers, connected, while_connected},
    tree::barrier,
};

/// The ensemble hears from a session at least so often, or four times per tick.
const TOUCH_AT_LEAST_EVERY: Duration = Duration::from_millis(500);
const TOUCH_AT_MOST_EVERY: Duration = Duration::from_millis(100);
const LET_GO: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) id: LeaseId,
    /// What the ensemble agreed to, or what was asked for if that is less.
    timeout: Duration,
    session: tokio::sync::Mutex<Session>,
    times: Mutex<Times>,
}

#[derive(Debug)]
enum Session {
    Open(Client),
    /// Without a connection of ours, on the way to its end.
    Left(SessionInfo),
    /// The ensemble said so.
    Ended,
}

/// Why a lease is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was revoked.
    Now,
    /// Its time is over.
    UnlessRenewed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Yes,
    No,
}

#[derive(Debug)]
struct Times {
    heard: Heard,
    ends: Timestamp,
}

impl Lease {
    /// Opens a session.
    pub(crate) async fn grant(servers: &Servers, ttl: Duration) -> Result<Self, StoreError> {
        let created = now();
        let client = servers.open(ttl, AtTheEnd::Leave).await.map_err(unavailable)?;
        let timeout = client.session_timeout().min(ttl);
        Ok(Self {
            id: LeaseId(client.session_id().0.cast_unsigned()),
            timeout,
            session: tokio::sync::Mutex::new(Session::Open(client)),
            times: Mutex::new(Times { heard: Heard::new(created), ends: created + ttl }),
        })
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session's connection; `None` if the session has ended. Fails at once while it is cut off.
    pub(crate) async fn client(&self, servers: &Servers) -> Result<Option<Client>, StoreError> {
        let mut session = self.session.lock().await;
        let left = match &*session {
            Session::Open(client) if !client.state().is_terminated() => {
                return connected(client.clone()).map(Some);
            }
            // The library gives a session up when it has been cut off for long. Whether it exists only the ensemble can say.
            Session::Open(client) => client.session().clone(),
            Session::Left(left) => left.clone(),
            Session::Ended => return Ok(None),
        };
        match servers.resume(left, self.timeout, AtTheEnd::Leave).await {
            Ok(resumed) => {
                *session = Session::Open(resumed.clone());
                connected(resumed).map(Some)
            }
            Err(Error::SessionExpired) => {
                *session = Session::Ended;
                Ok(None)
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Renews the lease: a write of this session that the quorum agreed on proves that the session lives.
    pub(crate) async fn keep_alive(&self, servers: &Servers, holding: Option<&Key>, by: Deadline) -> Renewal {
        let sent = now();
        {
            let mut times = self.times();
            times.ends = times.ends.max(sent + self.timeout);
        }
        let asked = async {
            let Some(client) = self.client(servers).await? else { return Ok(Renewal::Gone) };
            let answer = async {
                let lives = barrier(&client, servers);
                let key = holding.map_or("", Key::as_str);
                let owned = client.check_stat(&servers.path(key));
                lives.await.map_err(unavailable)?;
                owned.await.map_err(unavailable)
            };
            match while_connected(&client, answer).await {
                Ok(stat) => {
                    let owner = stat.map(|stat| LeaseId(stat.ephemeral_owner.cast_unsigned()));
                    let held = holding.is_none() || owner == Some(self.id);
                    Ok::<_, StoreError>(self.renewed(servers, sent, held))
                }
                // If the session has expired, or the library thinks so: ask.
                Err(error) if client.state().is_terminated() => match self.client(servers).await? {
                    None => Ok(Renewal::Gone),
                    Some(_) => Err(error),
                },
                Err(error) => Err(error),
            }
        };
        within(by, asked).await.unwrap_or_else(Renewal::Unavailable)
    }

    fn renewed(&self, servers: &Servers, sent: Timestamp, held: bool) -> Renewal {
        let mut times = self.times();
        times.heard.note(sent);
        let guaranteed = times.heard.guaranteed(sent, self.timeout, relay(servers.tick_time()));
        match (held, guaranteed.is_zero()) {
            (false, _) => Renewal::NotHolding,
            (true, true) => Renewal::Unavailable(StoreError::TimedOut),
            (true, false) => Renewal::Valid { guaranteed },
        }
    }

    /// Keeps the session in touch with the ensemble until the lease is over, and then ends it.
    pub(crate) async fn keep(&self, servers: &Servers) {
        let pause = (servers.tick_time() / 4).clamp(TOUCH_AT_MOST_EVERY, TOUCH_AT_LEAST_EVERY);
        loop {
            let left = now().until(self.times().ends);
            if left.is_zero() {
                match self.end(servers, Ending::UnlessRenewed).await {
                    Ok(Ended::Yes) => return,
                    Ok(Ended::No) => {}
                    Err(_) => sleep(pause).await,
                }
                continue;
            }
            let sent = now();
            match timeout(left, self.touch(servers)).await {
                Ok(Ok(true)) => self.times().heard.note(sent),
                Ok(Ok(false)) => return,
                Ok(Err(_)) | Err(_) => {}
            }
            let left = now().until(self.times().ends);
            sleep(pause.min(left)).await;
        }
    }

    /// Any request will do. False if the session has ended.
    async fn touch(&self, servers: &Servers) -> Result<bool, StoreError> {
        let Some(client) = self.client(servers).await? else { return Ok(false) };
        let touch = async { client.check_stat(servers.base()).await.map_err(unavailable) };
        while_connected(&client, touch).await?;
        Ok(true)
    }

    /// Ends the session with everything that hangs on it. Its connection would only leave it, so another one takes it over.
    pub(crate) async fn end(&self, servers: &Servers, ending: Ending) -> Result<Ended, StoreError> {
        let mut session = self.session.lock().await;
        // A renewal notes its time before it looks for the session: whoever is first, the other one sees it.
        if ending == Ending::UnlessRenewed && !now().until(self.times().ends).is_zero() {
            return Ok(Ended::No);
        }
        let left = match &*session {
            Session::Open(client) => client.session().clone(),
            Session::Left(left) => left.clone(),
            Session::Ended => return Ok(Ended::Yes),
        };
        if let Session::Open(client) = std::mem::replace(&mut *session, Session::Left(left.clone())) {
            let_go(client).await;
        }
        match servers.resume(left, self.timeout, AtTheEnd::Close).await {
            Ok(last) => {
                let mut state = last.state_watcher();
                drop(last);
                loop {
                    match state.changed().await {
                        SessionState::Closed => break,
                        ended if ended.is_terminated() => {
                            return Err(StoreError::Unreachable(format!("the session is {ended}")));
                        }
                        _ => {}
                    }
                }
            }
            Err(Error::SessionExpired) => {}
            Err(error) => return Err(unavailable(error)),
        }
        *session = Session::Ended;
        Ok(Ended::Yes)
    }
}

/// Ends the connection and leaves the session. A client that is still there would take the session back from the next one.
async fn let_go(client: Client) {
    let mut state = client.state_watcher();
    drop(client);
    if !state.peek_state().is_terminated() {
        let gone = async { while !state.changed().await.is_terminated() {} };
        // Somebody may be in the middle of a call; it ends by its own deadline.
        let _ = timeout(LET_GO, gone).await;
    }
}
