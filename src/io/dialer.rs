//! Dialling: from a backend of the configuration to an open connection.
//!
//!     imaps://a.example, imaps://b.example      a refuses: b is tried; for 30 s a comes last
//!
//! A connection begins with the PROXY header where the backend wants one, then TLS where it comes first. STARTTLS is a matter
//! of the session; it is given what it needs for it ([`Dialer::trust`], [`Host::name`]).

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{
    backends::{Backend, ProxyProtocol, Scheme, Url},
    learning::Learning,
    probe::Condition,
    proxy_header::{self, Ends},
    reach::{Unreached, reach},
    tls::{self, TlsError},
    transport::{Tcp, Transport},
};
use crate::session::{effect::DialError, plan::Plan};

/// One backend, ready to be called.
#[derive(Debug)]
pub struct Dialer {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What the operator says of it.
    pub settings: Backend,
    /// Whom we believe to be it; `None` where no URL asks for TLS.
    pub trust: Option<Arc<ClientConfig>>,
    /// What the last probe found.
    pub condition: ArcSwap<Condition>,
    /// The plan of the last session that logged in.
    pub plan: ArcSwapOption<Plan>,
    /// How it tells its news, as far as sessions have found out.
    pub learning: Learning,
    hosts: Vec<Arc<Host>>,
    tcp: Tcp,
    logins: Arc<Semaphore>,
}

/// One of a backend's URLs.
#[derive(Debug)]
pub struct Host {
    /// The URL.
    pub url: Url,
    /// Whom its certificate must be for.
    pub name: ServerName<'static>,
    failed: Mutex<Option<Instant>>,
}

/// An open connection whose greeting has not been read.
#[derive(Debug)]
pub struct Connection {
    /// The connection.
    pub transport: Transport,
    /// Which of the hosts it is.
    pub host: Arc<Host>,
}

/// Why a host could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {why}")]
pub struct ConnectError {
    /// Which one.
    pub url: Url,
    /// Why.
    pub why: Unreachable,
}

/// How far we came.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// There is no connection.
    #[error(transparent)]
    Way(#[from] Unreached),
    /// The connection was lost with its first octets.
    #[error("the PROXY header was not taken: {0}")]
    Header(io::Error),
    /// TLS could not be begun, most often because its certificate is not to be believed.
    #[error("TLS: {0}")]
    Tls(io::Error),
}

impl Dialer {
    /// How long a host that failed is tried last.
    const REST: Duration = Duration::from_secs(30);

    /// Prepares a backend. `system` are the system's roots, read when first needed.
    pub fn new(
        name: &str,
        settings: &Backend,
        tcp: &Tcp,
        system: &mut Option<Arc<ClientConfig>>,
    ) -> Result<Self, TlsError> {
        let trust = match (settings.urls.iter().any(|url| url.scheme != Scheme::Imap), &settings.ca, &system) {
            (false, ..) => None,
            (true, Some(file), _) => Some(tls::believe(Some(file))?),
            (true, None, Some(config)) => Some(Arc::clone(config)),
            (true, None, None) => Some(system.insert(tls::believe(None)?).clone()),
        };
        Ok(Self {
            name: name.into(),
            settings: settings.clone(),
            trust,
            condition: ArcSwap::default(),
            plan: ArcSwapOption::empty(),
            learning: Learning::default(),
            hosts: settings.urls.iter().filter_map(|url| Host::new(url, settings)).map(Arc::new).collect(),
            tcp: tcp.clone(),
            logins: Arc::new(Semaphore::new(settings.logins_in_flight as usize)),
        })
    }

    /// Its hosts, in the order of the configuration.
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }

    /// Logins under way now.
    pub fn logins_in_flight(&self) -> usize {
        (self.settings.logins_in_flight as usize).saturating_sub(self.logins.available_permits())
    }

    /// A place among the logins under way; it is free again when the permit is dropped.
    pub async fn begin_login(&self) -> Result<OwnedSemaphorePermit, DialError> {
        let turn = tokio::time::timeout(self.settings.login_wait.0, self.logins.clone().acquire_owned());
        turn.await.ok().and_then(Result::ok).ok_or(DialError::Busy)
    }

    /// Connects to the first host that can be reached. The errors are those of all others, in the order in which they were
    /// tried. Without `ends` the connection is our own, not on behalf of a client.
    pub async fn connect(&self, ends: Option<&Ends>) -> Result<Connection, Vec<ConnectError>> {
        let mut errors = Vec::new();
        for host in self.in_order(Instant::now()) {
            match self.connect_to(host, ends).await {
                Ok(transport) => return Ok(Connection { transport, host: host.clone() }),
                Err(error) => errors.push(error),
            }
        }
        Err(errors)
    }

    /// Hosts that failed lately come last.
    fn in_order(&self, now: Instant) -> Vec<&Arc<Host>> {
        let mut hosts: Vec<_> = self.hosts.iter().collect();
        hosts.sort_by_key(|host| host.rests(now));
        hosts
    }

    /// Connects to this host, and remembers whether it could be reached. A host that stays away is logged now and then, not
    /// at each login.
    pub async fn connect_to(&self, host: &Host, ends: Option<&Ends>) -> Result<Transport, ConnectError> {
        let result = self.open(host, ends).await.map_err(|why| ConnectError { url: host.url.clone(), why });
        let now = Instant::now();
        if let Err(error) = &result
            && !host.rests(now)
        {
            tracing::warn!(backend = %self.name, error = %error, "host cannot be reached");
        }
        host.note(result.is_ok(), now);
        result
    }

    async fn open(&self, host: &Host, ends: Option<&Ends>) -> Result<Transport, Unreachable> {
        let deadline = tokio::time::Instant::now() + self.settings.connect_timeout.0;
        let stream = reach(&host.url.host, host.url.port, deadline).await?;
        self.tcp.apply(&stream).map_err(Unreachable::Header)?;
        self.introduce(&stream, ends).await.map_err(Unreachable::Header)?;
        let transport = Transport::from(stream);
        match (host.url.scheme, &self.trust) {
            (Scheme::Imaps, Some(trust)) => {
                let begun = Box::pin(transport.connect_tls(host.name.clone(), trust.clone(), deadline)).await;
                begun.map_err(Unreachable::Tls)
            }
            _ => Ok(transport),
        }
    }

    /// Writes the PROXY header; it is shorter than any socket buffer that is still empty.
    async fn introduce(&self, stream: &TcpStream, ends: Option<&Ends>) -> io::Result<()> {
        if self.settings.proxy_protocol == ProxyProtocol::None {
            return Ok(());
        }
        let ours = Ends { client: stream.local_addr()?, connected: stream.peer_addr()? };
        let header = proxy_header::write(self.settings.proxy_protocol, ends.unwrap_or(&ours));
        stream.writable().await?;
        match stream.try_write(&header)? == header.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

impl Host {
    /// `None` for a URL or a name that no certificate could be for; the configuration has none such.
    fn new(url: &Url, settings: &Backend) -> Option<Self> {
        let name = settings.certificate_name.as_ref().unwrap_or(&url.host);
        let name = ServerName::try_from(name.clone()).ok()?;
        Some(Self { url: url.clone(), name, failed: Mutex::new(None) })
    }

    /// Whether it failed lately.
    pub fn rests(&self, now: Instant) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|failed| now.saturating_duration_since(failed) < Dialer::REST)
    }

    fn note(&self, reached: bool, now: Instant) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = (!reached).then_some(now);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{net::SocketAddr, path::Path};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        io::tls::{Certificate, Tls},
        units::Span,
    };

    /// A backend with these URLs.
    pub(in crate::io) fn dialer(urls: &[String], change: impl FnOnce(&mut Backend)) -> Dialer {
        let mut settings = Backend {
            urls: urls.iter().map(|url| url.parse().unwrap()).collect(),
            connect_timeout: Span::seconds(5),
            ..Backend::default()
        };
        change(&mut settings);
        Dialer::new("main", &settings, &Tcp::default(), &mut None).unwrap()
    }

    /// A port of loopback where nobody listens.
    async fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    /// The certificate of `localhost` and the files it is in.
    pub(in crate::io) fn localhost(directory: &Path) -> (Certificate, Arc<rustls::ServerConfig>) {
        let config = Tls::default().load(directory).unwrap().config;
        let file = |name| directory.join("tls").join(name);
        (Certificate { chain: file("self-signed.pem"), key: file("self-signed.key") }, config)
    }

    #[tokio::test]
    async fn the_next_host_is_tried_and_the_one_that_failed_comes_last_for_a_while() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alive = format!("imap://{}", listener.local_addr().unwrap());
        let dead = format!("imap://{}", nobody().await);
        let dialer = dialer(&[dead.clone(), alive.clone()], |_| ());
        let first = |now| dialer.in_order(now)[0].url.to_string();
        assert_eq!(first(Instant::now()), dead);
        let connection = dialer.connect(None).await.unwrap();
        assert_eq!(connection.host.url.to_string(), alive);
        assert_eq!(first(Instant::now()), alive);
        assert_eq!(first(Instant::now() + Dialer::REST), dead);
    }

    #[tokio::test]
    async fn a_backend_with_no_host_alive_says_why_for_each() {
        let dialer = dialer(&[format!("imap://{}", nobody().await), "imap://no.such.invalid".to_owned()], |_| ());
        let errors: Vec<_> = dialer.connect(None).await.unwrap_err().iter().map(ToString::to_string).collect();
        assert!(errors[0].contains("refused"), "{errors:?}");
        assert!(errors[1].contains("cannot be resolved"), "{errors:?}");
    }

    #[tokio::test]
    async fn the_header_goes_before_everything_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("imap://{}", listener.local_addr().unwrap());
        let ends = Ends { client: "192.0.2.7:40123".parse().unwrap(), connected: "203.0.113.1:143".parse().unwrap() };
        let dialer = dialer(&[url], |backend| backend.proxy_protocol = ProxyProtocol::V1);
        let connection = dialer.connect(Some(&ends)).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        drop(connection);
        let mut said = String::new();
        peer.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "PROXY TCP4 192.0.2.7 203.0.113.1 40123 143\r\n");
    }

    #[tokio::test]
    async fn a_backend_must_prove_who_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (pair, config) = localhost(directory.path());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let accepted = tokio_rustls::TlsAcceptor::from(config.clone()).accept(stream).await;
                if let Ok(mut stream) = accepted {
                    let _ = stream.write_all(b"* OK\r\n").await;
                }
            }
        });
        let urls = [format!("imaps://127.0.0.1:{port}")];
        let known = dialer(&urls, |backend| backend.ca = Some(pair.chain.clone()));
        let mut connection = known.connect(None).await.unwrap();
        assert!(connection.transport.is_tls());
        let mut greeting = [0; 16];
        let len = std::future::poll_fn(|cx| connection.transport.poll_read(cx, &mut greeting)).await.unwrap();
        assert_eq!(&greeting[..len], b"* OK\r\n");
        let misnamed = dialer(&urls, |backend| {
            backend.ca = Some(pair.chain.clone());
            backend.certificate_name = Some("mail.example.org".to_owned());
        });
        let other = tempfile::tempdir().unwrap();
        let unknown = dialer(&urls, |backend| backend.ca = Some(localhost(other.path()).0.chain));
        for (dialer, reason) in [(misnamed, "not valid for name"), (unknown, "invalid peer certificate")] {
            let error = dialer.connect(None).await.unwrap_err()[0].to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[tokio::test]
    async fn a_login_that_gets_no_turn_is_told_so() {
        let dialer = dialer(&["imap://localhost".to_owned()], |backend| {
            backend.logins_in_flight = 1;
            backend.login_wait = Span(Duration::ZERO);
        });
        let first = dialer.begin_login().await.unwrap();
        assert_eq!(dialer.begin_login().await.unwrap_err(), DialError::Busy);
        drop(first);
        assert!(dialer.begin_login().await.is_ok());
    }
}
