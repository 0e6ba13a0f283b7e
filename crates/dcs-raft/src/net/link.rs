//! A standing connection to one address: opened when needed, reopened when broken, many requests in flight.
//!
//! What matters most is what a failed request means. [`CallError::NotSent`] promises that the other side has never
//! seen it; anything else may have had its effect.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use futures::{SinkExt as _, StreamExt as _};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{
    Net,
    connection::{self, ConnectError, Frames},
    message::{Request, Response},
};
use crate::consensus::NodeId;

/// Requests that may wait for the connection.
const QUEUE: usize = 256;
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// The pause after a failed attempt; requests of that time fail at once with it.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// Answers that nobody waits for any more are forgotten when so many have gathered.
const FORGET_AT: usize = 64;

const WAITING: u8 = 0;
const SENT: u8 = 1;
const WITHDRAWN: u8 = 2;

/// How a request failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// It never left: it has no effect and can be repeated elsewhere.
    #[error("{0}")]
    NotSent(ConnectError),
    #[error("not sent in time")]
    NotSentInTime,
    /// It left, and no answer came.
    #[error("no answer: {0}")]
    Unanswered(String),
}

struct Call {
    request: Request,
    reply: oneshot::Sender<Result<Response, CallError>>,
    /// Who moves it from WAITING first decides: the sender to SENT, the caller to WITHDRAWN.
    fate: Arc<AtomicU8>,
}

impl Call {
    /// Whether it may be sent now; from then on its effect is uncertain until the answer.
    fn take(&self) -> bool {
        !self.reply.is_closed()
            && self.fate.compare_exchange(WAITING, SENT, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// Clones share the connection; it closes when the last one is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    calls: mpsc::Sender<Call>,
}

impl Link {
    /// A link to whoever answers at `address`, or only to the node `to`. Must be called on a runtime.
    pub(crate) fn new(net: Arc<Net>, address: String, to: Option<NodeId>) -> Self {
        let (calls, queue) = mpsc::channel(QUEUE);
        tokio::spawn(Keeper { net, address, to, queue }.run());
        Self { calls }
    }

    /// Asks and waits for the answer, at most for `limit`. Dropping the future does not take a sent request back.
    pub(crate) async fn call(&self, request: Request, limit: Duration) -> Result<Response, CallError> {
        let fate = Arc::new(AtomicU8::new(WAITING));
        let (reply, answer) = oneshot::channel();
        let call = Call { request, reply, fate: fate.clone() };
        let asked = async {
            if self.calls.send(call).await.is_err() {
                return Err(CallError::NotSentInTime);
            }
            answer.await.unwrap_or_else(|_| Err(CallError::Unanswered("the link ended".to_owned())))
        };
        match timeout(limit, asked).await {
            Ok(result) => result,
            Err(_) if fate.swap(WITHDRAWN, Ordering::SeqCst) == SENT => {
                Err(CallError::Unanswered(format!("nothing within {limit:?}")))
            }
            Err(_) => Err(CallError::NotSentInTime),
        }
    }
}

/// The task behind a link.
struct Keeper {
    net: Arc<Net>,
    address: String,
    to: Option<NodeId>,
    queue: mpsc::Receiver<Call>,
}

impl Keeper {
    async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            if first.reply.is_closed() {
                continue;
            }
            match self.connect().await {
                Ok(frames) => {
                    if self.converse(frames, first).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    self.fail_waiting(first, &error);
                    sleep(RECONNECT_PAUSE).await;
                }
            }
        }
    }

    async fn connect(&self) -> Result<Frames, ConnectError> {
        let attempt = connection::connect(&self.net, &self.address, self.to);
        let result = timeout(CONNECT_LIMIT, attempt)
            .await
            .unwrap_or_else(|_| Err(ConnectError::Unreachable("no connection in time".to_owned())));
        match result {
            Ok((frames, _)) => Ok(frames),
            Err(error) => {
                let person_must_act = !matches!(error, ConnectError::Unreachable(_));
                if person_must_act && self.net.may_complain(&format!("{} {error}", self.address)) {
                    tracing::warn!(peer = %self.address, error = %error, "a node of the store does not accept us");
                }
                Err(error)
            }
        }
    }

    fn fail_waiting(&mut self, first: Call, error: &ConnectError) {
        let mut next = Some(first);
        while let Some(call) = next {
            let _ = call.reply.send(Err(CallError::NotSent(error.clone())));
            next = self.queue.try_recv().ok();
        }
    }

    /// Serves requests until the connection breaks (`Ok`) or nobody holds the link any more (`Err`).
    async fn converse(&mut self, mut frames: Frames, first: Call) -> Result<(), LinkDropped> {
        let mut unanswered: BTreeMap<u64, oneshot::Sender<Result<Response, CallError>>> = BTreeMap::new();
        let mut number = 0;
        let mut next = Some(first);
        let broken = loop {
            if let Some(call) = next.take() {
                if !call.take() {
                    continue;
                }
                number += 1;
                let frame = connection::numbered(number, &call.request);
                unanswered.insert(number, call.reply);
                if unanswered.len() >= FORGET_AT {
                    unanswered.retain(|_, reply| !reply.is_closed());
                }
                if self.net.is_isolated() {
                    continue;
                }
                match timeout(WRITE_LIMIT, frames.send(frame)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => break error.to_string(),
                    Err(_) => break "it does not read".to_owned(),
                }
            }
            tokio::select! {
                call = self.queue.recv() => match call {
                    Some(call) => next = Some(call),
                    None => return Err(LinkDropped),
                },
                frame = frames.next() => match frame {
                    Some(Ok(frame)) => match connection::read_numbered::<Response>(&frame) {
                        Ok(_) if self.net.is_isolated() => {}
                        Ok((number, response)) => {
                            if let Some(reply) = unanswered.remove(&number) {
                                let _ = reply.send(Ok(response));
                            }
                        }
                        Err(error) => break format!("odd answer: {error}"),
                    },
                    Some(Err(error)) => break error.to_string(),
                    None => break "it hung up".to_owned(),
                },
            }
        };
        for reply in unanswered.into_values() {
            let _ = reply.send(Err(CallError::Unanswered(broken.clone())));
        }
        Ok(())
    }
}

/// Nobody holds the link any more.
struct LinkDropped;
