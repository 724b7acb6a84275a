//! The running program: open the doors, obey signals, close them.
//!
//! | signal | what it does |
//! |---|---|
//! | SIGTERM, SIGINT | no new connections; each session says BYE in its turn (`[drain]`); a second one ends all at once |
//! | SIGHUP | reads configuration, certificates and tables again; where one of them is wrong, all stays as it was |
//!
//! The service manager is told (`sd_notify(3)`), if there is one.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    runtime,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::AbortHandle,
};

use super::{
    admin::{AdminError, AdminState},
    desks,
    dialer::Dialer,
    drain,
    feed::{Feed, FeedError},
    listener::{self, Listening},
    log::{self, LogError},
    metrics::Meters,
    operated::Running,
    shell::{Setup, SetupError, Shell},
    sockets::{BindError, Passed},
};
use crate::{
    config::{Config, ConfigError, Loaded, Source, finding::Finding},
    store::sqlite::{Database, OpenError},
};

/// Why the program cannot run, or a new configuration cannot be put into force.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The new configuration has errors.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file that it names does.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin interface.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The feed.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The operating system.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Runs the proxy until it is told to end.
pub fn run(loaded: Loaded) -> Result<(), ServeError> {
    let log = log::start(&loaded.config.log)?;
    warn(&loaded.warnings);
    take_all_files();
    let mut runtime = match loaded.config.threads.get() {
        1 => runtime::Builder::new_current_thread(),
        threads => {
            let mut runtime = runtime::Builder::new_multi_thread();
            runtime.worker_threads(threads);
            runtime
        }
    };
    let runtime = runtime.enable_all().build()?;
    let result = runtime.block_on(serve(loaded, &log));
    // Whoever is still there had its time.
    runtime.shutdown_background();
    result
}

/// What `check` would say, for those who look at the log only.
fn warn(warnings: &[Finding]) {
    warnings.iter().for_each(|finding| tracing::warn!(finding = finding.remark(), "configuration"));
}

/// A connection is a file descriptor, and a shell hands out 1024 of them: we take as many as we may have.
fn take_all_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(error = %error, current, "the number of open files could not be raised");
    }
}

async fn serve(loaded: Loaded, log: &log::Running) -> Result<(), ServeError> {
    // Caught before the ports are open: who sees us listen may send one.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let Loaded { config, source, .. } = loaded;
    let mut house = House::open(config, Passed::from_env()).await?;
    let (running, mut orders) = Running::new(house.shell.clone());
    let admin = open_admin(&house, running.clone())?;
    tell(&[NotifyState::Ready]);
    loop {
        let order = tokio::select! {
            _ = hangup.recv() => None,
            Some(order) = orders.recv() => Some(order),
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        };
        tell_reloading();
        let result = reload(&mut house, &source, log, &admin).await;
        let answer = running.reloaded(result.map_err(|error| error.to_string()));
        if let Some(order) = order {
            // Who asked may have gone away.
            let _ = order.send(answer);
        }
        tell(&[NotifyState::Ready]);
    }
    tell(&[NotifyState::Stopping]);
    running.close();
    tokio::select! {
        () = house.close() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Reads the configuration again and puts it into force, all of it or nothing.
async fn reload(house: &mut House, source: &Source, log: &log::Running, admin: &AdminState) -> Result<(), ServeError> {
    let Loaded { config, warnings, .. } = source.load()?;
    warn(&warnings);
    let token = config.admin.token()?;
    let level = config.log.clone();
    house.reload(config).await?;
    admin.set_token(token);
    Ok(log.reload(&level)?)
}

fn open_admin(house: &House, running: Arc<Running>) -> Result<Arc<AdminState>, AdminError> {
    let Shell { meters, registry, events, traces, setup, .. } = &*house.shell;
    let config = &setup.load().config;
    let doors = config.admin.open(&config.state)?;
    let token = config.admin.token()?;
    let state = AdminState::new(meters.clone(), registry.clone(), events.clone(), traces.clone(), running, token);
    tokio::spawn(doors.serve(state.clone()));
    Ok(state)
}

/// Without a service manager nobody listens, and that is no error.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(error = %error, "the service manager could not be told");
    }
}

fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// All doors and what is behind them.
#[derive(Debug)]
pub struct House {
    /// What all sessions share.
    pub shell: Arc<Shell>,
    store: Arc<Database>,
    feed: Option<Feed>,
    doors: HashMap<SocketAddr, Door>,
    tasks: Vec<AbortHandle>,
    passed: Passed,
}

/// An open port. What it leads to changes with a reload, the port does not.
#[derive(Debug)]
struct Door {
    listening: Arc<ArcSwap<Listening>>,
    socket: Arc<TcpListener>,
    task: AbortHandle,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl House {
    /// Reads what the configuration names, opens the ports and begins to ask the backends how they are.
    pub async fn open(config: Config, passed: Passed) -> Result<Self, ServeError> {
        let setup = prepare(config, None).await?;
        let store = Arc::new(open_store(&setup.config.state).await?);
        let shell = Arc::new(Shell::new(setup, Arc::new(Meters::new()), store.clone()));
        let setup = shell.setup.load_full();
        let feed = setup.config.feed.as_ref();
        let feed =
            feed.map(|feed| Feed::begin(feed, store.clone(), &shell.events, shell.meters.clone())).transpose()?;
        let mut house = Self { shell, store, feed, doors: HashMap::new(), tasks: Vec::new(), passed };
        let sockets = house.sockets(&setup)?;
        house.enter(&setup, sockets);
        for address in house.passed.left_over() {
            tracing::warn!(address = %address, "a socket was passed to us that no listener asks for");
        }
        tokio::spawn(sweep(house.shell.clone()));
        let (changed, changes) = mpsc::unbounded_channel();
        house.shell.keeper.tell(changed);
        tokio::spawn(desks::provision(house.shell.clone(), changes));
        tokio::spawn(desks::resume(house.shell.clone()));
        tokio::spawn(house.shell.meters.clone().upkeep());
        Ok(house)
    }

    /// Puts another configuration into force, all of it or nothing. No session notices.
    pub async fn reload(&mut self, config: Config) -> Result<(), ServeError> {
        let before = self.shell.setup.load_full();
        let needs_restart = [
            ("state", config.state != before.config.state),
            ("threads", config.threads != before.config.threads),
            ("admin", config.admin != before.config.admin),
            ("outband", config.outband != before.config.outband),
            ("feed", config.feed != before.config.feed),
            ("log.format", config.log.format != before.config.log.format),
            ("admission.handshakes", config.admission.handshakes != before.config.admission.handshakes),
        ];
        let setup = prepare(config, Some(before)).await?;
        let sockets = self.sockets(&setup)?;
        for (key, _) in needs_restart.iter().filter(|(_, changed)| *changed) {
            tracing::warn!(key, "this change needs a restart");
        }
        self.shell.replace(setup);
        let setup = self.shell.setup.load_full();
        self.enter(&setup, sockets);
        Ok(())
    }

    /// Opens the ports that are not open yet.
    fn sockets(&mut self, setup: &Setup) -> Result<Vec<(SocketAddr, TcpListener)>, BindError> {
        let mut sockets = Vec::new();
        for address in setup.listenings.iter().map(|listening| listening.settings.address) {
            if !self.doors.contains_key(&address) {
                sockets.push((address, self.passed.listen(address, &setup.config.tcp)?));
            }
        }
        Ok(sockets)
    }

    /// Lets clients in by the listeners of this setup, and by no others.
    fn enter(&mut self, setup: &Setup, sockets: Vec<(SocketAddr, TcpListener)>) {
        let mut sockets: HashMap<_, _> = sockets.into_iter().map(|(at, socket)| (at, Arc::new(socket))).collect();
        let mut before = std::mem::take(&mut self.doors);
        for listening in &setup.listenings {
            let address = listening.settings.address;
            let door = match (before.remove(&address), sockets.remove(&address)) {
                (Some(door), _) => {
                    door.listening.store(listening.clone());
                    door
                }
                (None, Some(socket)) => self.door(listening.clone(), socket),
                (None, None) => continue,
            };
            if let Err(error) = setup.config.tcp.apply(&*door.socket) {
                tracing::warn!(address = %address, error = %error, "socket options refused");
            }
            self.doors.insert(address, door);
        }
        self.tasks.drain(..).for_each(|task| task.abort());
        let watch = |dialer: &Arc<Dialer>| tokio::spawn(self.shell.clone().watch(dialer.clone())).abort_handle();
        self.tasks = setup.dialers.values().map(watch).collect();
    }

    fn door(&self, listening: Arc<Listening>, socket: Arc<TcpListener>) -> Door {
        let address = socket.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string());
        tracing::info!(address = %address, tls = ?listening.settings.tls, "listening");
        let listening = Arc::new(ArcSwap::new(listening));
        let task = tokio::spawn(listener::accept(self.shell.clone(), listening.clone(), socket.clone()));
        Door { listening, socket, task: task.abort_handle() }
    }

    /// The addresses where clients come in: those of the configuration, and what they became where it said port 0.
    pub fn addresses(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        self.doors.iter().filter_map(|(address, door)| Some((*address, door.socket.local_addr().ok()?)))
    }

    /// Closes the doors and waits until everybody has gone, or the time for it is over.
    pub async fn close(mut self) {
        self.doors.clear();
        self.tasks.drain(..).for_each(|task| task.abort());
        self.shell.meters.drains.increment(1);
        let rules = self.shell.setup.load().config.drain.clone();
        tracing::info!(sessions = self.shell.registry.len(), "draining");
        let left = drain::drain(&self.shell.registry, &rules).await;
        self.shell.desks.close().await;
        self.shell.events.close().await;
        if let Some(feed) = self.feed.take() {
            feed.close().await;
        }
        self.store.close().await;
        tracing::info!(sessions = left, "drained");
    }
}

/// A store that cannot be opened does not keep mail from anybody; one of a later version must not be touched.
async fn open_store(state: &Path) -> Result<Database, OpenError> {
    match Database::open(state).await {
        Err(error @ OpenError::Unusable { .. }) => {
            tracing::error!(error = %error, "store not available; it is tried again when it is needed");
            Ok(Database::later(state))
        }
        opened => opened,
    }
}

/// Files are read, and roots looked for, where it holds nobody up.
async fn prepare(config: Config, before: Option<Arc<Setup>>) -> Result<Setup, ServeError> {
    let prepared = tokio::task::spawn_blocking(move || Setup::new(config, before.as_deref())).await;
    Ok(prepared.map_err(io::Error::other)??)
}

/// A window of nothing at all shall not keep us busy.
const SHORTEST_SWEEP: Duration = Duration::from_secs(1);

/// Forgets old failures.
async fn sweep(shell: Arc<Shell>) {
    loop {
        let window = shell.setup.load().config.admission.failure_window.0;
        tokio::time::sleep(window.max(SHORTEST_SWEEP)).await;
        shell.door.sweep(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::net::TcpStream;

    use super::*;
    use crate::io::{
        listener::{Listener, Security},
        tls::Certificate,
    };

    /// A configuration with listeners on these addresses; the port is any.
    fn config(state: &std::path::Path, hosts: &[&str]) -> Config {
        let at = |host: &&str| Listener::at(format!("{host}:0").parse().unwrap(), Security::Starttls);
        let backends = [("main".to_owned(), crate::io::backends::Backend::default())].into();
        Config { state: state.to_owned(), listeners: hosts.iter().map(at).collect(), backends, ..Config::default() }
    }

    /// Where the listener of this host listens.
    fn address(house: &House, host: &str) -> Option<SocketAddr> {
        house.addresses().map(|(_, address)| address).find(|address| address.ip().to_string() == host)
    }

    #[tokio::test]
    async fn a_reload_opens_new_ports_and_closes_old_ones_and_leaves_the_others() {
        let state = tempfile::tempdir().unwrap();
        let first = config(state.path(), &["127.0.0.1", "127.0.0.2"]);
        let mut house = House::open(first, Passed::default()).await.unwrap();
        let [stays, goes] = ["127.0.0.1", "127.0.0.2"].map(|host| address(&house, host).unwrap());
        assert!(TcpStream::connect(goes).await.is_ok());
        house.reload(config(state.path(), &["127.0.0.1", "127.0.0.3"])).await.unwrap();
        assert_eq!(address(&house, "127.0.0.1"), Some(stays));
        assert!(TcpStream::connect(address(&house, "127.0.0.3").unwrap()).await.is_ok());
        // The task that held the port ends when the runtime comes to it.
        while TcpStream::connect(goes).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(house.shell.setup.load().revision, 2);
    }

    #[tokio::test]
    async fn a_configuration_that_cannot_be_used_changes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let mut house = House::open(config(state.path(), &["127.0.0.1"]), Passed::default()).await.unwrap();
        let taken = TcpListener::bind("127.0.0.9:0").await.unwrap();
        let mut no_certificate = config(state.path(), &["127.0.0.4"]);
        let nowhere = state.path().join("nowhere");
        no_certificate.tls.certificates = vec![Certificate { chain: nowhere.clone(), key: nowhere.clone() }];
        let mut no_table = config(state.path(), &["127.0.0.4"]);
        no_table.routing.table = Some(nowhere);
        let mut no_port = config(state.path(), &["127.0.0.4"]);
        no_port.listeners.push(Listener::at(taken.local_addr().unwrap(), Security::None));
        for config in [no_certificate, no_table, no_port] {
            assert!(house.reload(config).await.is_err());
            assert!(address(&house, "127.0.0.1").is_some() && address(&house, "127.0.0.4").is_none());
            assert_eq!(house.shell.setup.load().revision, 1);
        }
    }

    #[tokio::test]
    async fn a_reload_reads_the_certificates_again() {
        let state = tempfile::tempdir().unwrap();
        let mut house = House::open(config(state.path(), &["127.0.0.1"]), Passed::default()).await.unwrap();
        let before = house.shell.setup.load().tls.clone().unwrap();
        fs::remove_dir_all(state.path().join("tls")).unwrap();
        house.reload(config(state.path(), &["127.0.0.1"])).await.unwrap();
        assert!(state.path().join("tls/self-signed.pem").exists());
        assert!(!Arc::ptr_eq(&before, house.shell.setup.load().tls.as_ref().unwrap()));
    }

    #[test]
    fn all_files_that_may_be_had_are_taken() {
        take_all_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[tokio::test]
    async fn closing_waits_for_nobody_when_nobody_is_there() {
        let state = tempfile::tempdir().unwrap();
        let house = House::open(config(state.path(), &["127.0.0.1"]), Passed::default()).await.unwrap();
        let shell = house.shell.clone();
        house.close().await;
        assert!(shell.meters.render().contains("lemonade_drains_total 1"));
    }
}
