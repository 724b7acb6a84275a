//! The carrier of SIP messages (RFC 3261 sections 17 and 18).
//!
//!     sip:romeo@example.com, named by a user      its host resolves to 192.0.2.4: permitted, or nothing is sent
//!     the same, with a proxy of the operator's    the request goes to the proxy, wherever that is
//!       UDP        500 ms, 1 s, 2 s, 4 s ... and nothing for 32 s     ->  Silence
//!       TCP, TLS   a connection that was used before is used again
//!       100 Trying                                ->  waited on
//!       401, 302                                  ->  asked again, as `outband::sip::exchange` has it
//!       503, Retry-After: 30                      ->  Sip { 503, retry_after: 30 s }
//!
//! To one address goes one message at a time (RFC 3428 section 8), and a few wait behind it; to one host go a few. A connection carries one request
//! at a time, so that an answer that is late can only be that of an earlier one, and is known by its branch. Names are resolved to addresses by the
//! system: NAPTR and SRV (RFC 3263) are not asked, and an operator who needs them sets a proxy. There is no Route to it: who it is for says the
//! Request-URI. For a SIPS address the way to the proxy is TLS too, at the port that the proxy names. Answers come to the socket that asked, from
//! the place that was asked; others are not heard. Requirements N20, S3, S4.

use std::{
    fmt,
    future::ready,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket, lookup_host},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::TlsConnector;

use super::{Places, turns::Turns};
use crate::{
    imap::secret::Secret,
    outband::{
        channel::Answer,
        channels::sip::{Body, Sip as Channel},
        sip::{
            digest::{Account, UserError},
            exchange::{Exchange, Next, TOO_LARGE},
            message::Message,
            response::{Cut, LONGEST_HEAD, Response, cut},
            transaction::{Due, Transaction},
            uri::{Transport, Uri},
        },
    },
    units::Span,
};

/// How many messages wait for one address: devices of one user may share it, and who waits behind more would wait for minutes.
const WAITING: usize = 8;
/// How many messages are under way. Each may have a socket and 64 KiB.
const AT_ONCE: usize = 256;
/// How many of them go to one host that users name, so that a silent one costs the others nothing.
const PER_HOST: usize = 8;
/// How many go through the proxy for one host: most are of the operator's own domain.
const PROXIED_PER_HOST: usize = AT_ONCE / 2;
/// How many sockets listen for repetitions of an answer that was heard.
const LINGERING: usize = 256;
/// How many connections are kept for the next message.
const MOST_IDLE: usize = 64;
/// How long: less than servers do, so that seldom one is closed under a request.
const LONGEST_IDLE: Duration = Duration::from_secs(60);
/// How many addresses of a name are tried.
const ADDRESSES: usize = 4;
/// How long a connection may take to be made, TLS included, or to take a request: another address may be better.
const CONNECT: Duration = Duration::from_secs(5);
/// How much is read from a stream at a time, in octets.
const READ: usize = 4096;

/// `[outband.sip]`: how messages are sent by SIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Who we are: a SIP URI. Without one, nothing is sent by SIP.
    pub from: Option<Uri>,
    /// Through where all messages go, for example `sip:proxy.example.com;transport=tls`. Without one they go to the host in the address
    /// of the device.
    pub proxy: Option<Uri>,
    /// As whom we answer to a challenge.
    pub user: Option<String>,
    /// The file with the user's password: all of it, without blanks and line ends around it.
    pub password_file: Option<PathBuf>,
    /// Whose challenges are answered. None: those of the realm that is called as the host in `from`. Without a proxy, only hosts at or
    /// below a domain with the name of the realm are answered.
    pub realms: Vec<String>,
    /// The transport, where a URI does not say it: `"udp"`, `"tcp"` or `"tls"`.
    pub transport: Transport,
    /// How long a message waits for its turn; then it is told later. What was sent has its own time (RFC 3261 section 17.1.2.2, Timer F): before
    /// that is over, no other message may begin.
    pub timeout: Span,
    /// How long a message that is stored on the way is worth something.
    pub lifetime: Span,
    /// What stands in a message: `"text"` for people, `"emn"` for programs.
    pub body: Body,
    /// Whether nobody listens on the way, so that a device may be told what there is at a `sip:` address too.
    pub private: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            from: None,
            proxy: None,
            user: None,
            password_file: None,
            realms: Vec::new(),
            transport: Transport::Udp,
            // What is answered at all is mostly answered within that.
            timeout: Span::seconds(8),
            lifetime: Span::minutes(60),
            body: Body::Text,
            private: false,
        }
    }
}

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum SipError {
    /// There is a user and no password.
    #[error("outband.sip.user needs outband.sip.password_file")]
    NoPassword,
    /// The password cannot be read.
    #[error("outband.sip.password_file: {}: {source}", path.display())]
    Password {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The user is none.
    #[error("outband.sip.user: {0}")]
    User(#[from] UserError),
}

impl Settings {
    /// The channel; none where we are nobody.
    pub fn channel(&self) -> Option<Channel> {
        let from = self.from.clone()?;
        let answers = self.user.is_some();
        Some(Channel { from, body: self.body, private: self.private, answers, lifetime: self.lifetime.0 })
    }

    /// As whom we answer, if we do. Reads the password.
    fn account(&self) -> Result<Option<Account>, SipError> {
        let Some(user) = self.user.clone() else { return Ok(None) };
        let path = self.password_file.clone().ok_or(SipError::NoPassword)?;
        let octets = std::fs::read(&path).map_err(|source| SipError::Password { path, source })?;
        let password = Secret::new(octets.trim_ascii().to_vec());
        let own = self.from.iter().map(|from| from.host().to_owned());
        let realms = if self.realms.is_empty() { own.collect() } else { self.realms.clone() };
        Ok(Some(Account::new(user, password, realms, self.proxy.is_some())?))
    }
}

/// The carrier.
pub struct Sip {
    settings: Settings,
    account: Option<Account>,
    places: Places,
    tls: Arc<ClientConfig>,
    addresses: Turns,
    hosts: Turns,
    at_once: Arc<Semaphore>,
    lingering: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

/// Where a request goes next.
struct Hop {
    transport: Transport,
    /// `host:port`
    place: String,
    /// Whose certificate has to be shown, over TLS.
    name: Option<ServerName<'static>>,
}

/// A way on which a request was answered: the next one of the same exchange goes by it too, if it goes to the same place.
struct Used {
    way: Way,
    transaction: Transaction,
    began: Instant,
}

impl Sip {
    /// With these settings; to places outside, or allowed; believing these certificates.
    pub fn new(settings: Settings, places: Places, tls: Arc<ClientConfig>) -> Result<Self, SipError> {
        Ok(Self {
            account: settings.account()?,
            addresses: Turns::new(1, WAITING),
            hosts: Turns::new(if settings.proxy.is_some() { PROXIED_PER_HOST } else { PER_HOST }, usize::MAX),
            settings,
            places,
            tls,
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            lingering: Arc::new(Semaphore::new(LINGERING)),
            idle: Mutex::default(),
        })
    }

    /// Carries the message, and says what came back.
    pub async fn carry(&self, message: &Message) -> Answer {
        let answer = match timeout(self.settings.timeout.0, self.turn(message)).await {
            Ok(Some(_turn)) => self.exchange(message).await,
            Ok(None) | Err(_) => Answer::Unreachable,
        };
        match &answer {
            Answer::Sip { status, .. } => tracing::debug!(status, "message answered"),
            Answer::Forbidden => tracing::info!("message to a place inside refused"),
            _ => tracing::debug!("message not answered"),
        }
        answer
    }

    /// A turn at the address, at its host, and among all, in this order: who waits for a slow place keeps nothing from the others.
    async fn turn(&self, message: &Message) -> Option<[OwnedSemaphorePermit; 3]> {
        let to = &message.to;
        let address = self.addresses.turn(to.to_string()).await?;
        let host = self.hosts.turn(to.host().to_ascii_lowercase()).await?;
        let one = self.at_once.clone().acquire_owned().await.ok()?;
        Some([address, host, one])
    }

    async fn exchange(&self, message: &Message) -> Answer {
        let mut exchange = Exchange::new(message, self.account.as_ref());
        let mut used = None;
        let answer = loop {
            match self.ask(&mut exchange, &mut used).await.map(|response| exchange.hear(&response)) {
                Ok(Next::Again) => {}
                // The user has not named where we were sent: it is the redirection that has failed.
                Err(Answer::Forbidden) if *exchange.target() != message.to => {
                    break Answer::Sip { status: 302, retry_after: None };
                }
                Ok(Next::Done(answer)) | Err(answer) => break answer,
            }
        };
        used.into_iter().for_each(|used| self.leave(used));
        answer
    }

    /// Sends the next request, to one address after the other until there is a way.
    async fn ask(&self, exchange: &mut Exchange<'_>, used: &mut Option<Used>) -> Result<Response, Answer> {
        let hop = self.hop(exchange.target()).ok_or(Answer::Unreachable)?;
        for address in self.resolve(&hop).await? {
            match self.transact(&hop, address, exchange, used).await {
                Err(Answer::Unreachable) => {}
                done => return done,
            }
        }
        Err(Answer::Unreachable)
    }

    fn hop(&self, target: &Uri) -> Option<Hop> {
        let next = self.settings.proxy.as_ref().unwrap_or(target);
        let usual = next.transport(self.settings.transport);
        let transport = if target.is_secure() { Transport::Tls } else { usual };
        let host = next.host().trim_start_matches('[').trim_end_matches(']');
        let name = match transport {
            Transport::Tls => Some(ServerName::try_from(host.to_owned()).ok()?),
            Transport::Udp | Transport::Tcp => None,
        };
        Some(Hop { transport, place: format!("{}:{}", next.host(), next.port(transport)), name })
    }

    async fn resolve(&self, hop: &Hop) -> Result<Vec<SocketAddr>, Answer> {
        let is_users = self.settings.proxy.is_none();
        let found = match is_users {
            true => self.places.find(hop.place.clone()).await,
            false => lookup_host(&hop.place).await.map(Iterator::collect),
        };
        let found: Vec<_> = found.map_err(|_| Answer::Unreachable)?;
        let may = |address: &SocketAddr| !is_users || self.places.permit(address.ip());
        let permitted: Vec<_> = found.into_iter().filter(may).take(ADDRESSES).collect();
        if permitted.is_empty() { Err(Answer::Forbidden) } else { Ok(permitted) }
    }

    /// One transaction.
    async fn transact(
        &self,
        hop: &Hop,
        to: SocketAddr,
        exchange: &mut Exchange<'_>,
        used: &mut Option<Used>,
    ) -> Result<Response, Answer> {
        let mut way = self.way(hop, to, used.take()).await.map_err(|error| no_way(&error))?;
        let sent = exchange.request(hop.transport, &way.local().to_string()).ok_or(TOO_LARGE)?;
        way.send(&sent.octets).await.map_err(|error| no_way(&error))?;
        let began = Instant::now();
        let mut transaction = Transaction::begin(hop.transport.is_reliable(), Duration::ZERO);
        while let Some(next) = transaction.next() {
            tokio::select! {
                heard = way.hear() => {
                    let response = heard.map_err(|error| way.failed(&error))?;
                    if sent.is_answered_by(&response) && transaction.hear(response.status, began.elapsed()) {
                        *used = Some(Used { way, transaction, began });
                        return Ok(response);
                    }
                }
                () = sleep_until(began + next) => {
                    if transaction.due(began.elapsed()) == Due::Send {
                        way.send(&sent.octets).await.map_err(|error| no_way(&error))?;
                    }
                }
            }
        }
        Err(Answer::Silence)
    }

    /// A way there: the one just used, one that is open, or a new one.
    async fn way(&self, hop: &Hop, to: SocketAddr, used: Option<Used>) -> io::Result<Way> {
        match used {
            Some(used) if used.way.leads(hop, to) => return Ok(used.way),
            Some(used) => self.leave(used),
            None => {}
        }
        if hop.transport == Transport::Udp {
            return Datagrams::open(to).await.map(Way::Datagrams);
        }
        while let Some(mut connection) = self.take(hop, to) {
            if connection.is_open().await {
                return Ok(Way::Stream(connection));
            }
        }
        let opened = timeout(CONNECT, Connection::open(to, hop.name.clone(), &self.tls)).await;
        opened?.map(Way::Stream)
    }

    /// What becomes of a way behind an answer: a connection is kept, and a socket passes over what is repeated.
    fn leave(&self, used: Used) {
        let Used { way, transaction, began } = used;
        match way {
            Way::Stream(connection) => self.keep(connection),
            Way::Datagrams(Datagrams { socket, .. }) => {
                if let Ok(permit) = self.lingering.clone().try_acquire_owned() {
                    tokio::spawn(async move {
                        linger(&socket, transaction, began).await;
                        drop(permit);
                    });
                }
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(Connection::is_fresh);
        if idle.len() == MOST_IDLE {
            idle.remove(0);
        }
        idle.push(Connection { used: Instant::now(), ..connection });
    }

    fn take(&self, hop: &Hop, to: SocketAddr) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(Connection::is_fresh);
        let at = idle.iter().rposition(|kept| kept.leads(hop, to))?;
        Some(idle.remove(at))
    }
}

impl fmt::Debug for Sip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sip").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The text of an error may name the place, and that is not ours to tell.
fn no_way(error: &io::Error) -> Answer {
    tracing::debug!(kind = %error.kind(), "no way");
    Answer::Unreachable
}

/// Passes over what comes, until nothing can be a repetition any more (Timer K).
async fn linger(socket: &UdpSocket, mut transaction: Transaction, began: Instant) {
    let mut dropped = [0];
    while let Some(next) = transaction.next() {
        tokio::select! {
            _ = socket.recv(&mut dropped) => {}
            () = sleep_until(began + next) => { transaction.due(began.elapsed()); }
        }
    }
}

/// A way to a place.
enum Way {
    Datagrams(Datagrams),
    Stream(Connection),
}

impl Way {
    /// Whether it goes there.
    fn leads(&self, hop: &Hop, to: SocketAddr) -> bool {
        match self {
            Self::Datagrams(datagrams) => hop.transport == Transport::Udp && datagrams.to == to,
            Self::Stream(connection) => connection.leads(hop, to),
        }
    }

    /// Our end.
    fn local(&self) -> SocketAddr {
        match self {
            Self::Datagrams(datagrams) => datagrams.local,
            Self::Stream(connection) => connection.local,
        }
    }

    async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::Datagrams(datagrams) => datagrams.socket.send(octets).await.map(drop),
            Self::Stream(connection) => {
                let sent = async {
                    connection.stream.write_all(octets).await?;
                    connection.stream.flush().await
                };
                timeout(CONNECT, sent).await?
            }
        }
    }

    /// The next response. Nothing is lost where it is not waited for to the end.
    async fn hear(&mut self) -> io::Result<Response> {
        match self {
            Self::Datagrams(datagrams) => datagrams.hear().await,
            Self::Stream(connection) => connection.hear().await,
        }
    }

    /// What it means that nothing more can be heard.
    fn failed(&self, error: &io::Error) -> Answer {
        tracing::debug!(kind = %error.kind(), "no more responses");
        match self {
            // Nobody listens there: the kernel was told so.
            Self::Datagrams(_) => Answer::Unreachable,
            // It may have brought the request.
            Self::Stream(_) => Answer::Silence,
        }
    }
}

/// A socket for one exchange.
struct Datagrams {
    to: SocketAddr,
    socket: UdpSocket,
    local: SocketAddr,
    buffer: Vec<u8>,
}

impl Datagrams {
    async fn open(to: SocketAddr) -> io::Result<Self> {
        let any = match to {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(to).await?;
        Ok(Self { to, local: socket.local_addr()?, socket, buffer: vec![0; LONGEST_HEAD] })
    }

    async fn hear(&mut self) -> io::Result<Response> {
        loop {
            let len = self.socket.recv(&mut self.buffer).await?;
            if let Some(response) = Response::datagram(&self.buffer[..len]) {
                return Ok(response);
            }
        }
    }
}

/// TCP, or TLS over it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, on which one request at a time is sent.
struct Connection {
    to: SocketAddr,
    /// Whose certificate was shown, over TLS.
    name: Option<ServerName<'static>>,
    local: SocketAddr,
    stream: Box<dyn Stream>,
    /// What was read, and is no whole message yet.
    heard: Vec<u8>,
    used: Instant,
}

impl Connection {
    async fn open(to: SocketAddr, name: Option<ServerName<'static>>, tls: &Arc<ClientConfig>) -> io::Result<Self> {
        let tcp = TcpStream::connect(to).await?;
        tcp.set_nodelay(true)?;
        let local = tcp.local_addr()?;
        let stream: Box<dyn Stream> = match &name {
            Some(name) => Box::new(TlsConnector::from(tls.clone()).connect(name.clone(), tcp).await?),
            None => Box::new(tcp),
        };
        Ok(Self { to, name, local, stream, heard: Vec::new(), used: Instant::now() })
    }

    fn leads(&self, hop: &Hop, to: SocketAddr) -> bool {
        hop.transport.is_reliable() && self.to == to && self.name == hop.name
    }

    fn is_fresh(&self) -> bool {
        self.used.elapsed() < LONGEST_IDLE
    }

    /// Whether the peer has not closed it meanwhile.
    async fn is_open(&mut self) -> bool {
        tokio::select! {
            biased;
            read = self.read() => read.is_ok(),
            () = ready(()) => true,
        }
    }

    async fn hear(&mut self) -> io::Result<Response> {
        loop {
            match cut(&self.heard).map_err(io::Error::other)? {
                Some(Cut { octets, response }) => {
                    self.heard.drain(..octets);
                    if let Some(response) = response {
                        return Ok(response);
                    }
                }
                None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        self.heard.reserve(READ);
        match self.stream.read_buf(&mut self.heard).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
