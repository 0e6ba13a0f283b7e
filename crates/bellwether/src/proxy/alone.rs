//! `bellwether proxy`: a proxy on a host without an agent, where applications run.
//!
//! It reads the state of the cluster from the store, as agents do, and believes it for as long: the rules about who may be led
//! where are the same, as they rest on when the store confirmed what was read. It has no vote and writes nothing.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use bellwether_api_client::ApiClient;
use bellwether_config::{
    Loaded, ProxyConfig,
    dynamic::{self, Floors},
    load_proxy,
};
use bellwether_dcs::mirror::{Mirror, MirrorState};
use bellwether_proxy::{Proxy, ReloadWish};
use bellwether_types::{
    Failure,
    cluster::ConfigDocument,
    settings::Settings,
    topology::{Topology, TopologyMember},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Sections, peers, secrets};
use crate::{
    exit::Status,
    failure, logging, run,
    store::{self, Of},
};

/// The store is read anew at least so often.
const READ: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT.
#[expect(clippy::print_stderr, reason = "there is no log yet")]
pub(crate) fn run(file: Option<PathBuf>) -> ExitCode {
    let loaded = match load_proxy(file.as_deref(), &run::environment()) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{}", failure::text(&error, error.failure()));
            return Status::Config.code(false);
        }
    };
    logging::init(&loaded.config.log);
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("the kernel gives a process its first threads");
    let status = runtime.block_on(serve(loaded, file));
    logging::flush();
    status.code(false)
}

async fn serve(loaded: Loaded<ProxyConfig>, file: Option<PathBuf>) -> Status {
    let config = loaded.config;
    let api = match ApiClient::new(run::client_of(&config.ctl, None)) {
        Ok(api) => api,
        Err(error) => {
            let code = Failure::ClientCertificates;
            error!(%code, error = &error as &dyn std::error::Error, "the client for members' REST APIs cannot be made");
            return Status::from(code);
        }
    };
    let of = Of { cluster: &config.scope, namespace: &config.namespace, group: None, member: None };
    let opened = match store::connect(&config.store, &of).await {
        Ok(opened) => opened,
        Err(error) => {
            let code = error.failure();
            error!(%code, error = &error as &dyn std::error::Error, "the store cannot be used");
            return Status::from(code);
        }
    };
    let stop = CancellationToken::new();
    let floors = Floors::bellwether(opened.capabilities().minimum_ttl);
    let mirror = Mirror::new(opened, READ);
    let nothing = picture_of(&config, &Settings::default(), &MirrorState::default());
    let (tell_picture, picture) = watch::channel(Arc::new(nothing));
    let mut tasks = JoinSet::new();
    let (follower, news) = (mirror.clone(), mirror.subscribe());
    let until = stop.clone();
    tasks.spawn(async move { follower.run(until).await });
    tasks.spawn(tell_pictures(config.clone(), floors, news, tell_picture));

    let sections = Sections::of_proxy(&config);
    let files = match super::Files::of(&sections) {
        Ok(files) => files,
        Err(error) => {
            error!(error = &*error, "the proxy is not started: its files say who may come in, and how");
            return Status::Config;
        }
    };
    let (tell, settings) = watch::channel(Arc::new(sections.settings(files)));
    let secrets = Arc::new(secrets::AtTheServer::new(sections.asking.clone(), picture.clone()));
    let started = Proxy::start(settings, picture, secrets.clone(), Arc::new(peers::ByRest(api)));
    let (mut proxy, _handle) = match started {
        Ok(started) => started,
        Err(error) => {
            error!(%error, "the proxy cannot be started");
            return Status::Failed;
        }
    };
    info!(cluster = %config.scope, store = config.store.word(), "a proxy without an agent serves");
    let wishes = proxy.reload_wishes();
    let mut serving = tokio::spawn(proxy.run(stop.clone()));
    let status = tokio::select! {
        () = until_told(file, wishes, &tell, &secrets) => Status::Ok,
        _ = &mut serving => {
            error!("the proxy has ended by itself");
            return Status::Failed;
        }
    };
    stop.cancel();
    let _ = serving.await;
    tasks.shutdown().await;
    status
}

/// Reads the file again at each SIGHUP and RELOAD, until the process is to end.
async fn until_told(
    file: Option<PathBuf>,
    mut wishes: mpsc::Receiver<ReloadWish>,
    tell: &watch::Sender<Arc<bellwether_proxy::settings::Settings>>,
    secrets: &secrets::AtTheServer,
) {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be watched");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be watched");
    let mut hangup = signal(SignalKind::hangup()).expect("signals can be watched");
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hangup.recv() => {
                info!("received SIGHUP");
                let _ = reload(file.as_deref(), tell, secrets);
            }
            Some(wish) = wishes.recv() => {
                info!("an administrator says RELOAD");
                wish.answer(reload(file.as_deref(), tell, secrets));
            }
        }
    }
}

fn reload(
    file: Option<&Path>,
    tell: &watch::Sender<Arc<bellwether_proxy::settings::Settings>>,
    secrets: &secrets::AtTheServer,
) -> Result<(), String> {
    match load_proxy(file, &run::environment()) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                warn!("{warning}");
            }
            logging::reload(&loaded.config.log);
            Sections::of_proxy(&loaded.config).put_in_force(tell, secrets);
            Ok(())
        }
        Err(error) => {
            error!("the configuration cannot be used and is as it was: {error}");
            Err(error.to_string())
        }
    }
}

async fn tell_pictures(
    config: ProxyConfig,
    floors: Floors,
    mut news: watch::Receiver<MirrorState>,
    tell: watch::Sender<Arc<Topology>>,
) {
    let mut last_error = None;
    let mut settings = Settings::default();
    while news.changed().await.is_ok() {
        let state = news.borrow_and_update().clone();
        if state.error != last_error {
            match &state.error {
                Some(error) => warn!(
                    error,
                    "the store cannot be read: clients are led by what is known, as long as that may be believed"
                ),
                None => info!("the store can be read"),
            }
            last_error.clone_from(&state.error);
        }
        take_into_use(&mut settings, &state, floors);
        tell.send_replace(Arc::new(picture_of(&config, &settings, &state)));
    }
}

/// What cannot be read leaves the settings as they were, as at the members.
fn take_into_use(settings: &mut Settings, state: &MirrorState, floors: Floors) {
    let document = state.cluster.as_deref().and_then(|cluster| cluster.config.as_ref());
    if let Some(ConfigDocument::Valid(document)) = document.map(|keyed| &keyed.value)
        && let Ok(dynamic) = dynamic::parse(document, floors)
    {
        *settings = dynamic.settings;
    }
}

/// What agents publish, made from what the store holds.
fn picture_of(config: &ProxyConfig, settings: &Settings, state: &MirrorState) -> Topology {
    let cluster = state.cluster.as_deref();
    Topology {
        cluster: config.scope.clone(),
        me: config.name.clone(),
        leader: cluster.and_then(|cluster| cluster.leader_name().cloned()),
        term: cluster.and_then(|cluster| Some(cluster.leader.as_ref()?.term)),
        // Not a member.
        lease_until: None,
        members: cluster.map(|cluster| TopologyMember::all(cluster, &settings.routing)).unwrap_or_default(),
        paused: settings.pause,
        taken_at: bellwether_dcs::store::now(),
        confirmed_at: state.confirmed_at,
        believable_until: state.confirmed_at + if cluster.is_some() { settings.ttl } else { Duration::ZERO },
    }
}

#[cfg(test)]
mod tests {
    use bellwether_types::Timestamp;

    use super::*;

    #[test]
    fn nothing_is_believed_before_the_store_has_been_read() {
        let text = "scope: shop\netcd3: {hosts: '127.0.0.1:1'}\nrouter: {}\n";
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("it is written");
        let config =
            load_proxy(Some(file.path()), &std::collections::BTreeMap::new()).expect("it is complete").config;
        let picture = picture_of(&config, &Settings::default(), &MirrorState::default());
        assert!(!picture.is_believable_at(Timestamp::ZERO + Duration::from_nanos(1)));
        assert!(picture.members.is_empty() && picture.leader.is_none());
        assert_eq!(picture.me.as_str(), "proxy", "a name that nobody has to give");
    }

    #[test]
    fn its_own_file_says_where_it_is() {
        for (prefers, expected) in [(true, Some("dc1")), (false, None)] {
            let text = format!(
                "scope: shop\netcd3: {{hosts: '127.0.0.1:1'}}\nrouter: {{prefer_zone: {prefers}}}\ntags: {{zone: dc1}}\n"
            );
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), text).expect("it is written");
            let config = load_proxy(Some(file.path()), &std::collections::BTreeMap::new())
                .expect("it is complete")
                .config;
            let settings = super::super::Sections::of_proxy(&config).settings(super::super::Files::default());
            assert_eq!(settings.routing.zone.as_deref(), expected);
        }
    }
}
