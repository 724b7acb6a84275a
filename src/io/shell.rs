//! What all sessions share, and the part of it that a reload replaces.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::sync::Semaphore;

use super::{
    admission::Door,
    auxiliary::Auxiliary,
    desks::Desks,
    dialer::Dialer,
    events::Events,
    keeper::Keeper,
    listener::{Listening, Security},
    metrics::Meters,
    probe,
    registry::Registry,
    routing::{Router, RoutingError},
    senders::{SenderError, Senders},
    shadows::Shadows,
    tls::TlsError,
    trace::Traces,
};
use crate::{config::Config, store::Store};

/// What all sessions share.
pub struct Shell {
    /// What is made of the configuration; a reload puts another one here.
    pub setup: ArcSwap<Setup>,
    /// Who may come in.
    pub door: Arc<Door>,
    /// Who is here.
    pub registry: Arc<Registry>,
    /// Who follows events.
    pub events: Arc<Events>,
    /// What is seen of mailboxes for them.
    pub shadows: Arc<Shadows>,
    /// Who looks into mailboxes that nobody has selected.
    pub auxiliary: Auxiliary,
    /// Who looks after mailboxes while their owners are away.
    pub desks: Desks,
    /// Who is traced.
    pub traces: Arc<Traces>,
    /// Turns for TLS handshakes with clients. Their number is that of the start.
    pub handshakes: Semaphore,
    /// What is kept of accounts.
    pub keeper: Arc<Keeper>,
    /// What is counted.
    pub meters: Arc<Meters>,
}

/// A configuration, ready for use.
#[derive(Debug)]
pub struct Setup {
    /// The configuration itself.
    pub config: Config,
    /// Counts the configurations of this process, from 1.
    pub revision: u64,
    /// When it came into force.
    pub loaded: SystemTime,
    /// What listeners show, if one of them has TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// When the certificate of each chain file ends.
    pub expiries: Vec<(PathBuf, SystemTime)>,
    /// The backends, by name.
    pub dialers: BTreeMap<Arc<str>, Arc<Dialer>>,
    /// The listeners, in the order of the configuration.
    pub listenings: Vec<Arc<Listening>>,
    /// Which backend is responsible for a user.
    pub router: Router,
    /// Who sends what devices are told.
    pub senders: Arc<Senders>,
}

/// Why a configuration that reads well cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The roots of a backend.
    #[error("backends.{name}: {source}")]
    Backend {
        /// The backend.
        name: String,
        /// What is wrong.
        source: TlsError,
    },
    /// The routes.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// The channels.
    #[error(transparent)]
    Sender(#[from] SenderError),
}

impl Setup {
    /// Reads every file that the configuration names. What is known of the backends is taken over from `before`.
    pub fn new(mut config: Config, before: Option<&Self>) -> Result<Self, SetupError> {
        // Who sends is the same until a restart: links stand, and desks have begun.
        let senders = match before {
            Some(before) => {
                config.outband = before.config.outband.clone();
                Arc::clone(&before.senders)
            }
            None => Arc::new(config.outband.senders(&config.state)?),
        };
        let offered = &mut Arc::make_mut(&mut config.account).outband;
        (offered.running, offered.sealed) = (senders.channels.keys().copied().collect(), senders.seal.is_some());
        offered.confirm = config.outband.confirm.clone();
        let has_tls = config.listeners.iter().any(|listener| listener.tls != Security::None);
        let shown = has_tls.then(|| config.tls.load(&config.state)).transpose()?;
        let mut dialers = BTreeMap::new();
        let mut roots = None;
        for (name, backend) in &config.backends {
            let wrong = |source| SetupError::Backend { name: name.clone(), source };
            let dialer = Dialer::new(name, backend, &config.tcp, &mut roots).map_err(wrong)?;
            if let Some(known) = before.and_then(|before| before.dialers.get(&dialer.name)) {
                dialer.condition.store(known.condition.load_full());
            }
            dialers.insert(dialer.name.clone(), Arc::new(dialer));
        }
        let router = Router::new(&config.routing, &dialers.keys().cloned().collect())?;
        let listen = |settings| Arc::new(Listening::new(settings, dialers.values(), &config));
        let listenings = config.listeners.iter().map(listen).collect();
        let revision = before.map_or(0, |before| before.revision) + 1;
        let (tls, expiries) = shown.map(|shown| (shown.config, shown.expiries)).unzip();
        let expiries = expiries.unwrap_or_default();
        let loaded = SystemTime::now();
        Ok(Self { config, revision, loaded, tls, expiries, dialers, listenings, router, senders })
    }
}

impl Shell {
    /// A shell with nobody in it.
    pub fn new(setup: Setup, meters: Arc<Meters>, store: Arc<dyn Store>) -> Self {
        let rules = setup.config.admission.clone();
        let shell = Self {
            handshakes: Semaphore::new(rules.handshakes as usize),
            door: Arc::new(Door::new(rules)),
            registry: Registry::new(meters.clone()),
            events: Arc::default(),
            shadows: Arc::default(),
            auxiliary: Auxiliary::default(),
            desks: Desks::default(),
            traces: Traces::new(&setup.config.state, meters.clone()),
            setup: ArcSwap::from_pointee(setup),
            keeper: Arc::new(Keeper::new(store, meters.clone())),
            meters,
        };
        shell.count_setup();
        shell
    }

    /// Puts another configuration into force.
    pub fn replace(&self, setup: Setup) {
        self.door.change(setup.config.admission.clone());
        self.setup.store(Arc::new(setup));
        self.count_setup();
    }

    fn count_setup(&self) {
        let setup = self.setup.load();
        self.meters.configured(setup.revision, setup.loaded);
        for (file, expiry) in &setup.expiries {
            self.meters.certificate(&file.display().to_string(), *expiry);
        }
    }

    /// How often a backend is asked how it is.
    const PROBE: Duration = Duration::from_secs(60);
    /// The same while it is down.
    const PROBE_DOWN: Duration = Duration::from_secs(5);

    /// Asks a backend how it is, again and again.
    pub async fn watch(self: Arc<Self>, dialer: Arc<Dialer>) {
        loop {
            let is_up = self.look_at(&dialer).await;
            tokio::time::sleep(if is_up { Self::PROBE } else { Self::PROBE_DOWN }).await;
        }
    }

    /// Asks a backend how it is, and tells whom it concerns. Returns whether it is up.
    pub async fn look_at(&self, dialer: &Dialer) -> bool {
        let result = probe::probe(dialer).await;
        let before = dialer.condition.load_full();
        let after = before.after(result, SystemTime::now());
        let is_up = after.is_up();
        self.meters.backend(&dialer.name).up.set(if is_up { 1.0 } else { 0.0 });
        match (before.is_up() && before.probe.is_some(), &after.error) {
            (false, None) => tracing::info!(backend = %dialer.name, "backend is up"),
            (true, Some(error)) => tracing::warn!(backend = %dialer.name, error = %error, "backend is down"),
            (false, Some(error)) if before.error.as_ref() != Some(error) => {
                tracing::warn!(backend = %dialer.name, error = %error, "backend is down");
            }
            _ => {}
        }
        dialer.condition.store(Arc::new(after));
        let setup = self.setup.load();
        setup.listenings.iter().for_each(|listening| listening.refresh(&setup.config));
        is_up
    }
}

impl fmt::Debug for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shell")
            .field("setup", &self.setup)
            .field("sessions", &self.registry.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{imap::sasl::Mechanism, io::backends::Backend, store::memory::Memory};

    /// A shell for this configuration, with its state in a directory of its own.
    pub(in crate::io) fn shell(change: impl FnOnce(&mut Config)) -> (tempfile::TempDir, Arc<Shell>) {
        let state = tempfile::tempdir().unwrap();
        let mut config = Config { state: state.path().to_owned(), ..Config::default() };
        change(&mut config);
        let setup = Setup::new(config, None).unwrap();
        (state, Arc::new(Shell::new(setup, Arc::new(Meters::new()), Arc::new(Memory::default()))))
    }

    #[test]
    fn an_error_in_a_backend_names_it() {
        let mut config = Config::default();
        let backend = Backend {
            urls: vec!["imaps://localhost".parse().unwrap()],
            ca: Some("/nowhere".into()),
            ..Default::default()
        };
        config.listeners.clear();
        config.backends.insert("main".to_owned(), backend);
        let error = Setup::new(config, None).unwrap_err().to_string();
        assert!(error.starts_with("backends.main: /nowhere: "), "{error}");
    }

    #[tokio::test]
    async fn what_a_backend_says_reaches_the_listeners_and_stays_known_when_it_goes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("imap://{}", listener.local_addr().unwrap());
        let (_state, shell) = shell(|config| {
            let backend = Backend { urls: vec![url.parse().unwrap()], ..Backend::default() };
            config.backends = [("main".to_owned(), backend)].into();
        });
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let says = b"* OK\r\n* CAPABILITY IMAP4rev1 AUTH=SCRAM-SHA-256\r\np2 OK\r\n";
            stream.write_all(says).await.unwrap();
            stream.read_to_end(&mut Vec::new()).await.unwrap();
        });
        let setup = shell.setup.load_full();
        let dialer = &setup.dialers["main"];
        for (is_up, gauge) in [(true, "1"), (false, "0")] {
            assert_eq!(shell.look_at(dialer).await, is_up);
            assert_eq!(setup.listenings[0].front.load().mechanisms, [Mechanism::ScramSha256]);
            let gauge = format!("lemonade_backend_up{{backend=\"main\"}} {gauge}\n");
            assert!(shell.meters.render().contains(&gauge));
        }
    }
}
