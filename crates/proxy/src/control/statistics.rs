//! The statistics page: for people (`/`), for programs made for HAProxy (`/;csv`), as JSON (`/stats.json`) and for Prometheus (`/metrics`).
//!
//! Read only, without a password: it tells names of members, databases and users, and numbers.

mod render;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{Router, extract::State, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use tokio::{sync::watch, task::JoinSet};
use tracing::{error, info};

pub(super) use self::render::Shown;
use super::ProxyHandle;
use crate::{routes::Routes, settings::Settings};

/// What the page is made from.
#[derive(Clone, Debug)]
struct Source {
    handle: ProxyHandle,
    routes: watch::Receiver<Arc<Routes>>,
    settings: watch::Receiver<Arc<Settings>>,
}

impl Source {
    async fn shown(&self) -> Shown {
        let (routes, settings) = (self.routes.borrow().clone(), self.settings.borrow().clone());
        let pools = self.handle.pools().await;
        Shown::now(self.handle.metrics(), &routes, &settings, pools)
    }
}

/// The sockets of the page.
#[derive(Debug)]
pub(super) struct Statistics {
    source: Source,
    serving: JoinSet<()>,
    open: BTreeMap<SocketAddr, tokio::task::AbortHandle>,
    failed: BTreeMap<SocketAddr, String>,
}

impl Statistics {
    pub(super) fn new(
        handle: ProxyHandle,
        routes: watch::Receiver<Arc<Routes>>,
        settings: watch::Receiver<Arc<Settings>>,
    ) -> Self {
        let source = Source { handle, routes, settings };
        Self { source, serving: JoinSet::new(), open: BTreeMap::new(), failed: BTreeMap::new() }
    }

    /// Opens what is missing and closes what is not wanted.
    pub(super) async fn bring_about(&mut self, wanted: &[SocketAddr]) {
        self.open.retain(|address, serving| {
            let stays = wanted.contains(address) && !serving.is_finished();
            if !stays {
                serving.abort();
            }
            stays
        });
        for address in wanted {
            if self.open.contains_key(address) {
                continue;
            }
            match tokio::net::TcpListener::bind(address).await {
                Ok(listener) => {
                    info!(%address, "the statistics of the proxy can be read");
                    self.failed.remove(address);
                    let app = app(self.source.clone());
                    let serving = self.serving.spawn(async move {
                        if let Err(error) = axum::serve(listener, app).await {
                            error!(%error, "the statistics of the proxy are served no longer");
                        }
                    });
                    self.open.insert(*address, serving);
                }
                Err(error) => {
                    let why = error.to_string();
                    if self.failed.get(address) != Some(&why) {
                        error!(%address, %error, "the statistics of the proxy cannot be served there, and it is tried again (`router.stats`)");
                    }
                    self.failed.insert(*address, why);
                }
            }
        }
    }
}

fn app(source: Source) -> Router {
    let typed = |kind: &'static str, text: String| ([(CONTENT_TYPE, kind)], text).into_response();
    Router::new()
        .route(
            "/",
            get(move |State(source): State<Source>| async move {
                typed("text/html; charset=utf-8", source.shown().await.html())
            }),
        )
        .route(
            "/;csv",
            get(move |State(source): State<Source>| async move {
                typed("text/plain", source.shown().await.csv())
            }),
        )
        .route(
            "/stats.json",
            get(move |State(source): State<Source>| async move {
                typed("application/json", source.shown().await.json())
            }),
        )
        .route(
            "/metrics",
            get(move |State(source): State<Source>| async move {
                typed("text/plain; version=0.0.4", source.shown().await.prometheus())
            }),
        )
        .with_state(source)
}
