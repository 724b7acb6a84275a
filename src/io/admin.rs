//! What an operator asks of a running proxy, and tells it (`[admin]`; requirement A5).
//!
//! | request | answer |
//! |---|---|
//! | `GET /livez` | 200 as long as the process answers at all |
//! | `GET /readyz` | 200, or 503 with the reason why no client should be sent here |
//! | `GET /metrics` | everything counted, for Prometheus |
//! | `GET /statusz` | sessions by state, backends, listeners; JSON where `Accept` says so, else text |
//! | `GET /sessions` | who is connected, as JSON; `?user=` for one user |
//! | `POST /sessions/{id}/kick` | ends a session |
//! | `GET /trace` | whose sessions are traced |
//! | `PUT /trace/{user}` | traces this user's sessions, those that are open too |
//! | `DELETE /trace/{user}` | no longer |
//! | `POST /reload` | what SIGHUP does, with an answer |
//! | `GET /devices/{user}`, `GET /devices/{user}/{device}` | the devices of a user, and what they prefer, as JSON |
//! | `PUT /devices/{user}/{device}` | changes what a device prefers: a body of JSON |
//! | `DELETE /devices/{user}/{device}` | forgets a device |
//! | `DELETE /accounts/{user}` | forgets all that is kept of a user; as with `/devices`, `?backend=` where several may have this user |
//! | `GET /events` | what happens in the message store, a line of JSON each, for as long as one listens; `?user=` for one user |
//!
//! The first four name nobody. The others need the bearer token over TCP, also on loopback, and need none over the socket
//! `STATE/admin.sock`: the whole rule is in [`Door`].

use std::{
    fmt,
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener as StdTcpListener},
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener},
    sync::Semaphore,
};
use tracing::warn;

pub use self::door::{Denied, Door, Token, TokenError};
use crate::io::{
    accounts::{Managing, Order, Whom},
    events::Events,
    metrics::Meters,
    registry::Registry,
    trace::Traces,
};

pub mod client;
mod door;
mod follow;
mod routes;
pub mod socket;
pub mod status;

/// `[admin]`: metrics, health, and what an operator may do to a running proxy.
///
/// The socket `STATE/admin.sock` is always there; its permissions are its protection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Where the admin port listens; `off` for none.
    pub address: Address,
    /// A file with the token that everything naming a user needs over TCP; without it that is refused there.
    pub token_file: Option<PathBuf>,
}

/// An address, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// Do not listen.
    Off,
    /// Listen here.
    At(SocketAddr),
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: Address::At(SocketAddr::from(([127, 0, 0, 1], 9143))), token_file: None }
    }
}

impl FromStr for Address {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::At) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// What the admin interface needs of the running proxy.
pub struct AdminState {
    meters: Arc<Meters>,
    registry: Arc<Registry>,
    events: Arc<Events>,
    traces: Arc<Traces>,
    shell: Arc<dyn Operated>,
    token: ArcSwapOption<Token>,
}

/// The shell, as an operator sees it.
pub trait Operated: Send + Sync + 'static {
    /// How it is.
    fn status(&self) -> status::Status;
    /// Sets the metrics that are found out when they are asked for.
    fn measure(&self);
    /// Takes over a changed configuration, as SIGHUP does, and counts that; says what came into force, or why the old one
    /// stays.
    fn reload(&self) -> Reloading<'_>;
    /// Does this with what is kept of a user.
    fn manage<'a>(&'a self, whom: &'a Whom, order: Order) -> Managing<'a>;
    /// How the devices of all users are told while they are away.
    fn queue(&self) -> Queueing<'_>;
}

/// A list under way.
pub type Queueing<'a> = Pin<Box<dyn Future<Output = serde_json::Value> + Send + 'a>>;

/// A reload under way.
pub type Reloading<'a> = Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>>;

impl AdminState {
    /// Ties together what there is.
    pub fn new(
        meters: Arc<Meters>,
        registry: Arc<Registry>,
        events: Arc<Events>,
        traces: Arc<Traces>,
        shell: Arc<dyn Operated>,
        token: Option<Token>,
    ) -> Arc<Self> {
        Arc::new(Self { meters, registry, events, traces, shell, token: ArcSwapOption::from(token.map(Arc::new)) })
    }

    /// Another token, or none, from the next request on.
    pub fn set_token(&self, token: Option<Token>) {
        self.token.store(token.map(Arc::new));
    }
}

/// The admin port and the socket, open.
pub struct Doors {
    port: Option<TcpListener>,
    socket: UnixListener,
}

/// Why the admin interface could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The port.
    #[error("admin.address {address}: {source}")]
    Port {
        /// What was configured.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The socket.
    #[error("{}: {source}", path.display())]
    Socket {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The token.
    #[error("admin.token_file: {0}")]
    Token(#[from] TokenError),
}

impl Admin {
    /// Reads the token, if there is one.
    pub fn token(&self) -> Result<Option<Token>, AdminError> {
        Ok(self.token_file.as_deref().map(Token::read).transpose()?)
    }

    /// Opens the port and the socket in the state directory. Needs a runtime.
    pub fn open(&self, state: &Path) -> Result<Doors, AdminError> {
        let socket = socket::open(state).map_err(|source| AdminError::Socket { path: socket::path(state), source })?;
        let port = match self.address {
            Address::Off => None,
            Address::At(address) => Some(listen(address).map_err(|source| AdminError::Port { address, source })?),
        };
        Ok(Doors { port, socket })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = StdTcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Requests served at a time by each door: enough for scrapers and people, little for somebody who only connects.
const CONNECTIONS: usize = 32;

/// From the connection, or the last answer, to the end of a request's head.
const HEAD: Duration = Duration::from_secs(10);

/// The longest head of a request; no request of ours has one that comes near.
const BUFFER: usize = 16 << 10;

/// A connection that lasts longer does not read its answer, unless it follows events.
const LIFETIME: Duration = Duration::from_secs(120);

/// Rest after an accept that failed: the usual reason is that descriptors have run out.
const REST: Duration = Duration::from_millis(100);

impl Doors {
    /// Where the port really is.
    pub fn address(&self) -> Option<SocketAddr> {
        self.port.as_ref().and_then(|port| port.local_addr().ok())
    }

    /// Answers until it is dropped.
    pub async fn serve(self, state: Arc<AdminState>) {
        let Self { port, socket } = self;
        let network = routes::router(Door::Network, state.clone());
        let network = async move {
            if let Some(port) = port {
                let undelayed = |(stream, _): (TcpStream, _)| stream.set_nodelay(true).map(|()| stream);
                attend(move |context| port.poll_accept(context).map(|it| it.and_then(undelayed)), network).await;
            }
        };
        let local = routes::router(Door::Socket, state);
        let local = attend(move |context| socket.poll_accept(context).map_ok(|(stream, _)| stream), local);
        tokio::join!(network, local);
    }
}

/// Accepts for ever.
async fn attend<S>(mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>>, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        match poll_fn(&mut accept).await {
            Ok(stream) => {
                let router = router.clone();
                tokio::spawn(async move {
                    converse(stream, router, LIFETIME).await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "admin connection not accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// One connection. No request of ours has a body: one that comes is not read.
async fn converse<S>(stream: S, router: Router, lifetime: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let lasting = follow::Lasting::default();
    let router = router.layer(Extension(lasting.clone()));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Whoever asked knows how it ended; we have nothing to add.
    let ended = tokio::time::timeout(lifetime, &mut connection).await.is_ok();
    if !ended && lasting.is_so() {
        let _ = connection.await;
    }
}

#[cfg(test)]
mod tests;
