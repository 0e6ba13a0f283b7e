//! `bellwether run`: the agent's process, from its configuration to its exit status.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use bellwether_agent::AgentOptions;
use bellwether_api::{Api, ApiConfig, ListenOn, TlsFiles, VerifyClient};
use bellwether_api_client::{ApiClient, BasicAuth, CertificateFiles, ClientConfig};
use bellwether_config::{Config, LoadError, Loaded, load, render, sections::restapi};
use bellwether_entrypoint::board::Board;
use bellwether_types::Failure;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    control::AgentControl,
    entrypoints,
    exit::{LOG_NOT_WRITTEN, Status},
    failure, logging, reload, store,
};

/// For the last look at Consul's catalogue.
#[cfg(feature = "consul")]
const SERVICE_END: std::time::Duration = std::time::Duration::from_secs(4);

/// What the agent is started with.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    pub(crate) file: Option<PathBuf>,
    /// The name on the command line was `patroni`.
    pub(crate) as_patroni: bool,
}

pub(crate) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Loads a member's configuration or says on standard error, before any logging, what is wrong with it.
#[expect(clippy::print_stderr, reason = "there is no log yet")]
pub(crate) fn load_or_explain(file: Option<&Path>) -> Result<Loaded, Status> {
    load(file, &environment()).map_err(|error: LoadError| {
        eprintln!("{}", failure::text(&error, error.failure()));
        Status::Config
    })
}

/// Runs the agent until it ends.
pub(crate) fn run(options: &RunOptions) -> ExitCode {
    let loaded = match load_or_explain(options.file.as_deref()) {
        Ok(loaded) => loaded,
        Err(status) => return status.code(options.as_patroni),
    };
    entrypoints::keep_privileges(&loaded.config);
    logging::init(&loaded.config.log);
    for warning in &loaded.warnings {
        warn!("{}", render(std::slice::from_ref(warning)).trim_end());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("agent")
        // Longer than a `loop_wait`: a thread that looks at files once in a cycle need not be started anew each time.
        .thread_keep_alive(std::time::Duration::from_secs(75))
        .enable_all()
        .build()
        .expect("the kernel gives a process its first threads");
    // In a task, so that the threads of the pool carry it: what `block_on` runs itself is woken from another thread each time.
    let serving = runtime.spawn(serve(loaded, options.clone()));
    let status = match runtime.block_on(serving) {
        Ok(status) => status,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    };
    // Tasks that hang in a dead server must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    if !logging::flush() && options.as_patroni {
        return ExitCode::from(LOG_NOT_WRITTEN);
    }
    status.code(options.as_patroni)
}

async fn serve(loaded: Loaded, options: RunOptions) -> Status {
    let stop = CancellationToken::new();
    tokio::spawn(watch_stop_signals(stop.clone()));
    // Caught from now on: an uncaught one would end an agent that still waits for the store.
    let hangups = signal(SignalKind::hangup()).expect("signals can be watched");
    entrypoints::clean_up(&loaded.config).await;
    let opened = match store::open(&loaded.config).await {
        Ok(opened) => opened,
        Err(error) => {
            let code = error.failure();
            error!(%code, error = &error as &dyn std::error::Error, "{error}");
            return Status::from(code);
        }
    };
    let status = tokio::select! {
        status = serve_with_store(loaded, &options, &opened, &stop, hangups) => status,
        // PostgreSQL is left to the guardian and to the agent that comes next.
        why = opened.stopped() => {
            let code = Failure::StoreNodeStopped;
            error!(%code, why, "this node of the store has stopped by itself: the agent ends and must be started anew");
            Status::from(code)
        }
    };
    opened.shutdown().await;
    status
}

async fn serve_with_store(
    loaded: Loaded,
    options: &RunOptions,
    opened: &store::Opened,
    stop: &CancellationToken,
    hangups: Signal,
) -> Status {
    let Loaded { config, document, .. } = loaded;
    let client = match ApiClient::new(client_config(&config)) {
        Ok(client) => client,
        Err(error) => {
            let code = Failure::ClientCertificates;
            error!(
                %code,
                error = &error as &dyn std::error::Error,
                "the client for other members' REST APIs cannot be made"
            );
            return Status::from(code);
        }
    };
    let api_config = api_config(&config);
    let (reload, latest) = reload::source(options.file.clone(), document, config.clone());
    let for_entrypoints = config.clone();
    #[cfg(feature = "consul")]
    let for_service = config.clone();
    let groups = match store::open_groups(&config).await {
        Ok(groups) => groups,
        Err(error) => {
            let code = error.failure();
            error!(%code, error = &error as &dyn std::error::Error, "{error}");
            return Status::from(code);
        }
    };
    let for_proxy = config.clone();
    let agent_options = AgentOptions {
        reload,
        store: opened.as_store(),
        groups,
        client: client.clone(),
        started_as_patroni: options.as_patroni,
        config,
    };
    let (agent, handle) = match bellwether_agent::start(agent_options, stop).await {
        Ok(started) => started,
        Err(error) => {
            if let Some(code) = error.failure() {
                let critical = code == Failure::DuplicateName;
                error!(%code, critical, error = &error as &dyn std::error::Error, "{error}");
            }
            return Status::from(error.failure());
        }
    };
    let api = match Api::bind(api_config).await {
        Ok(api) => api,
        Err(error) => {
            let code = error.failure();
            error!(%code, error = &error as &dyn std::error::Error, "the REST API cannot be served");
            return Status::from(code);
        }
    };
    let api_stop = CancellationToken::new();
    let board = Board::default();
    let entrypoints = entrypoints::start(&for_entrypoints, latest.clone(), &handle, client.clone(), &board);
    #[cfg(feature = "consul")]
    let (ended, service) = {
        let ended = CancellationToken::new();
        let service = crate::service::follow(&for_service, latest.clone(), handle.clone(), ended.clone());
        (ended, service)
    };
    let proxy_stop = CancellationToken::new();
    let proxy = crate::proxy::start(&for_proxy, latest.clone(), &handle, &client, proxy_stop.clone());
    let proxy_handle = proxy.as_ref().map(|proxy| proxy.handle.clone());
    let control = Arc::new(AgentControl::new(handle.clone(), board, proxy_handle));
    // Beside the loop, and ended with this scope.
    let mut reloading = JoinSet::new();
    reloading.spawn(reload::follow(latest, api.handle(), client, opened.clone()));
    let served = tokio::spawn(api.serve(control, api_stop.clone()));
    tokio::spawn(reload_on_hangup(handle, hangups));

    // The loop's futures are large; it lives once.
    let exit = Box::pin(agent.run(stop.clone())).await;
    entrypoints.end().await;
    // It must not hold the store any more when that is to be left in order.
    reloading.shutdown().await;
    match exit.failure() {
        Some(code) => error!(%code, ?exit, "agent has ended"),
        None => info!(?exit, "agent has ended"),
    }
    #[cfg(feature = "consul")]
    if let Some(service) = service {
        ended.cancel();
        // A dead agent of Consul must not keep the process from ending.
        if tokio::time::timeout(SERVICE_END, service).await.is_err() {
            warn!("the services in Consul are left as they are: its agent does not answer");
        }
    }
    proxy_stop.cancel();
    if let Some(proxy) = proxy {
        let _ = proxy.task.await;
    }
    // The API answers last, so that people can watch the end.
    api_stop.cancel();
    if let Err(error) = served.await {
        warn!(%error, "the REST API did not end in order");
    }
    Status::from(exit.failure())
}

/// SIGTERM and SIGINT ask for an orderly end; a second one changes nothing.
async fn watch_stop_signals(stop: CancellationToken) {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be watched");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be watched");
    tokio::select! {
        _ = terminate.recv() => info!("received SIGTERM"),
        _ = interrupt.recv() => info!("received SIGINT"),
    }
    stop.cancel();
    // Keep them caught, so that a second signal does not end the process half-way.
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

async fn reload_on_hangup(agent: bellwether_agent::AgentHandle, mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        info!("received SIGHUP");
        agent.reload().await;
    }
}

/// How this member calls the others' REST APIs.
pub(crate) fn client_config(config: &Config) -> ClientConfig {
    client_of(&config.ctl, config.restapi.authentication.as_ref())
}

/// The same from the section alone; `own` is what this node's REST API asks for.
pub(crate) fn client_of(ctl: &restapi::Ctl, own: Option<&restapi::BasicAuth>) -> ClientConfig {
    let authentication = ctl.authentication.as_ref().or(own);
    ClientConfig {
        authentication: authentication
            .map(|auth| BasicAuth { username: auth.username.clone(), password: auth.password.clone() }),
        cacert: ctl.cacert.clone(),
        certificate: ctl.certfile.clone().map(|certfile| CertificateFiles {
            certfile,
            keyfile: ctl.keyfile.clone(),
            keyfile_password: ctl.keyfile_password.clone(),
        }),
        verify: bellwether_api_client::Verify::Full,
    }
    .for_peers()
}

pub(crate) fn api_config(config: &Config) -> ApiConfig {
    let written = &config.restapi;
    let listen = ListenOn { hosts: written.listen.hosts.clone(), port: written.listen.port };
    let mut api = ApiConfig::new(listen);
    api.tls = written.certfile.clone().map(|certfile| TlsFiles {
        certfile,
        keyfile: written.keyfile.clone(),
        keyfile_password: written.keyfile_password.clone(),
        cafile: written.cafile.clone(),
        verify_client: match written.verify_client {
            restapi::VerifyClient::None => VerifyClient::None,
            restapi::VerifyClient::Optional => VerifyClient::Optional,
            restapi::VerifyClient::Required => VerifyClient::Required,
        },
    });
    api.authentication = written.authentication.as_ref().map(|auth| bellwether_api::BasicAuth {
        username: auth.username.clone(),
        password: auth.password.clone(),
    });
    api.allowlist.clone_from(&written.allowlist);
    api.allowlist_include_members = written.allowlist_include_members;
    api.http_extra_headers.clone_from(&written.http_extra_headers);
    api.https_extra_headers.clone_from(&written.https_extra_headers);
    api.server_tokens = match written.server_tokens {
        restapi::ServerTokens::Original => bellwether_api::ServerTokens::Original,
        restapi::ServerTokens::ProductOnly => bellwether_api::ServerTokens::ProductOnly,
        restapi::ServerTokens::Minimal => bellwether_api::ServerTokens::Minimal,
    };
    api
}
