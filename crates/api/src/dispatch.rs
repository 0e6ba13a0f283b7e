//! Who answers what: first path segment and method.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, request::Parts},
    response::Response,
};
use bellwether_types::Timestamp;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info};

use crate::{
    CallRecord, Caller, Control, ServerTokens,
    access::{MembersCount, Peer},
    cluster_document,
    facts::Facts,
    health, metrics, node_document,
    operations::Operation,
    reply::Reply,
    request::{self, Query},
    server::{Live, Shared},
};

/// How many journal records are sent if nobody says, and at most.
const JOURNAL_DEFAULT: usize = 100;
const JOURNAL_MOST: usize = 1000;
/// Reading the journal is file access: the one GET that is not answered from memory.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(5);

/// What every request can reach.
pub(crate) struct App {
    pub(crate) control: Arc<dyn Control>,
    pub(crate) shared: Arc<Shared>,
    /// Running operations. They are not children of their connection: who hangs up does not undo a switchover half-way.
    pub(crate) operations: TaskTracker,
    /// The server ends now; operations that still run are given up.
    pub(crate) abandon: CancellationToken,
}

/// Answers any request.
pub(crate) async fn dispatch(app: Arc<App>, peer: Peer, request: Request) -> Response {
    let live = app.shared.live();
    let asked_at = app.control.now();
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let reply = match parts.method {
        Method::GET => get(&app, &live, &peer, &parts, asked_at).await,
        Method::HEAD | Method::OPTIONS => {
            let status = app.control.status();
            let facts = Facts::new(&status, app.control.now());
            let query = Query::parse(parts.uri.query().unwrap_or_default());
            Reply::empty(health::check(&facts, path, &query))
        }
        _ => match Operation::find(&parts.method, request::first_segment(path)) {
            Some(operation) => call(&app, &live, &peer, operation, &parts, body).await,
            None => Reply::error_page(501, "Server does not support this operation"),
        },
    };
    debug!(
        "API thread: {} - - \"{} {} {:?}\" {} - latency: {:.3} ms",
        peer.address,
        parts.method,
        parts.uri,
        parts.version,
        reply.status,
        began.elapsed().as_secs_f64() * 1e3
    );
    let server = server_header(live.server_tokens, &app.control.status().version);
    reply.into_response(&server, &live.extra_headers)
}

async fn get(app: &App, live: &Live, peer: &Peer, request: &Parts, asked_at: Timestamp) -> Reply {
    let status = app.control.status();
    let facts = Facts::new(&status, app.control.now()).with_log_backlog(app.control.log_backlog());
    let path = request.uri.path();
    let query = Query::parse(request.uri.query().unwrap_or_default());
    match request::first_segment(path) {
        "patroni" => {
            // Members ask this in a race. A position from before they asked may lack what was acknowledged since.
            let status = app.control.status_since(asked_at).await;
            let facts = Facts::new(&status, app.control.now()).with_log_backlog(app.control.log_backlog());
            Reply::json(200, &node_document::with_age(&facts, asked_at))
        }
        "cluster" => cluster_document::cluster(&facts),
        "history" => cluster_document::history(&facts),
        "config" => cluster_document::config(&facts),
        "failsafe" => cluster_document::failsafe(&facts),
        "metrics" => Reply::metrics(metrics::render(&facts, &app.control.entrypoints())),
        "entrypoints" => Reply::json(200, &app.control.entrypoints()),
        "liveness" => Reply::empty(health::liveness(&facts)),
        "readiness" => match health::readiness(&facts, &query) {
            Ok(()) => Reply::empty(200),
            Err(reason) => {
                debug!(%reason, "Readiness check failure");
                Reply::empty(503)
            }
        },
        "journal" => {
            // It tells who did what from where: guarded like the calls it tells of.
            let view = facts.view;
            match live.access.check(peer, &request.headers, MembersCount::Yes, view).await {
                (_, Err(refused)) => refused,
                (_, Ok(())) => journal(app, &query).await,
            }
        }
        _ => Reply::json(health::check(&facts, path, &query), &node_document::document(&facts)),
    }
}

async fn journal(app: &App, query: &Query) -> Reply {
    let limit = query.first("limit").and_then(|text| text.parse().ok()).unwrap_or(JOURNAL_DEFAULT);
    let records = app.control.journal(limit.min(JOURNAL_MOST));
    match tokio::time::timeout(JOURNAL_PATIENCE, records).await {
        Ok(records) => Reply::json(200, &records),
        Err(_) => Reply::error_page(503, "the journal could not be read in time"),
    }
}

/// An unsafe call: access, body, then the operation. Every end of it is recorded.
async fn call(
    app: &Arc<App>,
    live: &Live,
    peer: &Peer,
    operation: Operation,
    parts: &Parts,
    body: Body,
) -> Reply {
    let began = Instant::now();
    let path = format!("/{}", request::first_segment(parts.uri.path()));

    let status = app.control.status();
    let view = Facts::new(&status, app.control.now()).view;
    let (caller, allowed) = live.access.check(peer, &parts.headers, operation.members_count(), view).await;
    let entry = Entry { caller: caller.clone(), method: parts.method.to_string(), path, began };
    if let Err(refused) = allowed {
        return entry.record(app, refused);
    }
    let patience = live.slow_client_timeout;
    let body = match request::read_body(operation.body_rule(), &parts.headers, body, patience).await {
        Ok(body) => body,
        // Whether there is a failsafe is told first, whatever the body says.
        Err(_) if operation == Operation::Failsafe && !status.settings.failsafe_mode => {
            return entry.record(app, Reply::error_page(502, "failsafe_mode is off"));
        }
        Err(refused) => return entry.record(app, refused),
    };
    let work = app.operations.spawn({
        let app = Arc::clone(app);
        async move {
            let reply = tokio::select! {
                reply = operation.perform(&*app.control, caller, body) => reply,
                () = app.abandon.cancelled() => Reply::error_page(503, "the agent stops; the outcome is not known"),
            };
            entry.record(&app, reply)
        }
    });
    work.await.unwrap_or_else(|failure| {
        error!(?operation, error = %failure, "an API call ended in a panic");
        Reply::error_page(500, "internal error: the outcome is not known")
    })
}

/// A call whose end is not known yet.
struct Entry {
    caller: Caller,
    method: String,
    path: String,
    began: Instant,
}

impl Entry {
    fn record(self, app: &App, reply: Reply) -> Reply {
        let Self { caller, method, path, began } = self;
        // Heartbeats of a leader without a store come every few seconds, and refusals as often as anybody likes.
        if reply.status < 400 && path != "/failsafe" {
            info!(%method, %path, %caller, status = reply.status, "answered an API call");
        } else {
            debug!(%method, %path, %caller, status = reply.status, "answered an API call");
        }
        app.control.record_call(CallRecord {
            caller,
            method,
            path,
            status: reply.status,
            message: reply.text().map(str::to_owned),
            took: began.elapsed(),
        });
        reply
    }
}

fn server_header(tokens: ServerTokens, version: &str) -> HeaderValue {
    let minimal = || HeaderValue::try_from(format!("Patroni/{version}")).ok();
    match tokens {
        ServerTokens::Original => HeaderValue::from_static(concat!("Bellwether/", env!("CARGO_PKG_VERSION"))),
        ServerTokens::ProductOnly => HeaderValue::from_static("Patroni"),
        ServerTokens::Minimal => minimal().unwrap_or(HeaderValue::from_static("Patroni")),
    }
}
