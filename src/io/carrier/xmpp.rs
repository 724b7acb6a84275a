//! The carrier of XMPP messages: a stream to a server of the operator's, held by a task.
//!
//!     carry --- a message, who waits ---> task --- outband::xmpp::link --- XMPP server
//!       ^                                  |
//!       +--- an answer --------------------+---> who awaits a receipt, for half a minute
//!
//!     2 s without an error               ->  Xmpp { refusal: None }, and later a receipt: delivered, or failed
//!     <received/> within 2 s             ->  Acknowledged
//!     <error/> within 2 s                ->  Xmpp { refusal: Some(item-not-found) }
//!     the stream is cut                  ->  Silence: it may have arrived, and goes again under its id
//!     no stream                          ->  Unreachable, at once
//!
//! We are a component (XEP-0114) or a client, as our JID has it. A component's stream has no TLS of its own: it is for the same machine, for a
//! network of one's own, or for a tunnel. A client begins TLS with a server that has a certificate for the domain of the JID, wherever it is
//! (RFC 6120 section 13.7.2), and proves itself by SASL PLAIN.
//!
//! The stream is made when the carrier is, and made again when it is lost: after 1 s at first, then later each time, and once a minute where the
//! server refuses us. It ends when the carrier is dropped. What waits for its turn waits in a short queue; whoever does not want to wait any longer
//! is not sent.
//!
//! The stream is written here, and not by `tokio-xmpp`: that is under the MPL, which is not among our licences, and brings a second way to make
//! TLS and to believe certificates. What is needed is little. Requirement N20.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    server::{LEAVING, Server, hear, password, say},
    smtp::Begins,
};
use crate::{
    io::{
        tls::{self, TlsError},
        transport::Transport,
    },
    outband::{
        channel::{Answer, Receipt},
        redial::Redial,
        xmpp::{
            identity::{Identity, Jid, JidError},
            link::{End, Event, Link},
            message::Message,
        },
    },
};

/// How long the server may take to be there: addresses, TCP and TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// How long it may take to hear what we say; it is little.
const WRITE: Duration = Duration::from_secs(10);
/// How long a message may take, with the time in which it waits for its turn.
const CARRY: Duration = Duration::from_secs(60);
/// How much is read at once, in octets.
const READ: usize = 16 << 10;
/// Messages that wait for their turn in the task.
const QUEUE: usize = 16;

/// `[outband.xmpp]`: how messages of XMPP leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The XMPP server: `"xmpp.example.net:5222"` for a client, mostly port 5347 for a component. None: nothing goes this way.
    pub server: Option<Server>,
    /// Who we are: `"mem@example.net"`, a client with an account of its own; `"notify.example.net"`, a component of the server.
    pub jid: String,
    /// A file with the client's password, or the component's secret.
    pub password_file: Option<PathBuf>,
    /// When TLS begins. A client is `"starttls"` where nothing is said, or `"implicit"`, mostly on port 5223; a component `"never"`, or `"implicit"`
    /// through a tunnel.
    pub tls: Option<Begins>,
    /// A file with the certificates that the server's has to come from; none: those of the system.
    pub ca: Option<PathBuf>,
    /// The subject of messages.
    pub subject: String,
    /// EXTENDED goes by XMPP too. It says that you take the servers on the way for private enough.
    pub private: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: None,
            jid: String::new(),
            password_file: None,
            tls: None,
            ca: None,
            subject: "New mail".to_owned(),
            private: false,
        }
    }
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Who we are.
    #[error("outband.xmpp.jid: {0}")]
    Jid(#[from] JidError),
    /// TLS in a way that there is not.
    #[error("outband.xmpp.tls: {0}")]
    Begins(&'static str),
    /// There is no password.
    #[error("outband.xmpp needs outband.xmpp.password_file")]
    NoPassword,
    /// The password.
    #[error("outband.xmpp.password_file: {}: {error}", file.display())]
    Password {
        /// In which file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The certificates.
    #[error("outband.xmpp.ca: {0}")]
    Tls(#[from] TlsError),
}

/// How a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is being made.
    Connecting,
    /// Messages can go.
    Bound,
    /// It was lost, and is made again after a while.
    Resting,
}

/// The carrier.
pub struct Xmpp {
    requests: mpsc::Sender<Request>,
    condition: watch::Receiver<Condition>,
}

impl Xmpp {
    /// Begins to make a stream; none where no server is named. Needs a runtime. Files are read here.
    pub fn begin(settings: &Settings) -> Result<Option<Self>, SettingsError> {
        let Some(server) = settings.server.clone() else { return Ok(None) };
        let jid: Jid = settings.jid.parse()?;
        let begins = match (jid.is_client(), settings.tls) {
            (true, None) => Begins::Starttls,
            (true, Some(Begins::Never)) => {
                return Err(SettingsError::Begins("a client's password is not told in clear"));
            }
            (false, None) => Begins::Never,
            (false, Some(Begins::Starttls)) => {
                return Err(SettingsError::Begins("a component's stream has no STARTTLS"));
            }
            (_, Some(begins)) => begins,
        };
        let file = settings.password_file.clone().ok_or(SettingsError::NoPassword)?;
        let secret = password(&file).map_err(|error| SettingsError::Password { file, error })?;
        let host = if jid.is_client() { jid.domain() } else { &server.host };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| JidError)?;
        let trust = if begins == Begins::Never { None } else { Some((name, tls::believe(settings.ca.as_deref())?)) };
        let (requests, queue) = mpsc::channel(QUEUE);
        let (said, condition) = watch::channel(Condition::Connecting);
        let identity = Identity::new(jid, secret);
        tokio::spawn(Task { server, begins, trust, identity, queue, condition: said }.run());
        Ok(Some(Self { requests, condition }))
    }

    /// Brings this message to the server, and says what becomes of it within two seconds. What becomes of it later is told to the receipt, which is
    /// dropped where nothing is to be heard.
    pub async fn carry(&self, message: &Message, receipt: oneshot::Sender<Receipt>) -> Answer {
        let answer = timeout(CARRY, self.send(message, receipt)).await.unwrap_or(Answer::Silence);
        match &answer {
            Answer::Xmpp { refusal: Some(refusal) } => tracing::debug!(?refusal, "message of XMPP refused"),
            Answer::Xmpp { refusal: None } | Answer::Acknowledged => tracing::debug!("message of XMPP taken"),
            _ => tracing::debug!("message of XMPP not answered"),
        }
        answer
    }

    async fn send(&self, message: &Message, receipt: oneshot::Sender<Receipt>) -> Answer {
        let (answer, answered) = oneshot::channel();
        if self.requests.send(Request { message: message.clone(), answer, receipt }).await.is_err() {
            return Answer::Unreachable;
        }
        answered.await.unwrap_or(Answer::Silence)
    }

    /// How the stream is now.
    pub fn condition(&self) -> Condition {
        *self.condition.borrow()
    }
}

/// A message on its way to the task.
struct Request {
    message: Message,
    answer: oneshot::Sender<Answer>,
    receipt: oneshot::Sender<Receipt>,
}

/// A session, and who waits in it.
type Session = Link<oneshot::Sender<Answer>, oneshot::Sender<Receipt>>;

/// Who holds the stream.
struct Task {
    server: Server,
    begins: Begins,
    /// Whose certificate the server has to show, and who says that it is one.
    trust: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    identity: Identity,
    queue: mpsc::Receiver<Request>,
    condition: watch::Sender<Condition>,
}

impl Task {
    async fn run(mut self) {
        let mut redial = Redial::default();
        loop {
            self.condition.send_replace(Condition::Connecting);
            let began = Instant::now();
            let end = match self.connect(began + CONNECT).await {
                Ok(transport) => self.session(transport).await,
                Err(error) => {
                    tracing::debug!(server = %self.server, %error, "XMPP server cannot be reached");
                    End::Lost
                }
            };
            let pause = redial.after(matches!(end, End::Refused(_)), began.elapsed());
            match end {
                End::Refused(reason) => tracing::error!(server = %self.server, reason, "XMPP server refuses us"),
                _ => tracing::info!(server = %self.server, ?end, ?pause, "no stream to the XMPP server"),
            }
            self.condition.send_replace(Condition::Resting);
            if !self.rest(Instant::now() + pause).await {
                return;
            }
        }
    }

    async fn connect(&self, deadline: Instant) -> io::Result<Transport> {
        let transport = self.server.connect(deadline).await?;
        if self.begins == Begins::Implicit { self.secure(transport, deadline).await } else { Ok(transport) }
    }

    async fn secure(&self, transport: Transport, deadline: Instant) -> io::Result<Transport> {
        let (name, trust) = self.trust.clone().ok_or(io::ErrorKind::Unsupported)?;
        transport.connect_tls(name, trust, deadline).await
    }

    /// Waits, and tells who comes meanwhile that there is no way; false where nobody will come any more.
    async fn rest(&mut self, until: Instant) -> bool {
        while let Ok(request) = timeout_at(until, self.queue.recv()).await {
            let Some(request) = request else { return false };
            let _ = request.answer.send(Answer::Unreachable);
        }
        true
    }

    async fn session(&mut self, mut transport: Transport) -> End {
        let mut link = Session::open(self.identity.clone(), transport.is_tls(), now());
        let mut heard = vec![0; READ];
        let mut is_wanted = true;
        let end = loop {
            let outgoing = link.outgoing();
            let said = timeout(WRITE, say(&mut transport, outgoing.expose())).await;
            if !matches!(said, Ok(Ok(()))) {
                link.lose();
            }
            if self.settle(&mut link) {
                transport = match self.secure(transport, Instant::now() + CONNECT).await {
                    Ok(transport) => transport,
                    Err(error) => {
                        tracing::debug!(server = %self.server, %error, "no TLS with the XMPP server");
                        return End::Lost;
                    }
                };
                link.secured();
                continue;
            }
            if let Some(end) = link.end() {
                break end;
            }
            let has_room = is_wanted && link.has_room();
            let deadline = link.deadline().map_or_else(|| Instant::now() + WRITE, Instant::from_std);
            tokio::select! {
                read = hear(&mut transport, &mut heard) => match read {
                    Ok(count @ 1..) => link.hear(&heard[..count], now()),
                    _ => link.lose(),
                },
                request = self.queue.recv(), if has_room => match request {
                    Some(request) => send(&mut link, request),
                    None => {
                        is_wanted = false;
                        link.close();
                    }
                },
                () = sleep_until(deadline) => {}
            }
            link.tick(now());
        };
        // How it takes its leave is nobody's business any more.
        tokio::spawn(transport.close(LEAVING));
        end
    }

    /// Tells everybody what has happened, and says whether TLS is to begin.
    fn settle(&self, link: &mut Session) -> bool {
        let mut is_to_begin = false;
        while let Some(event) = link.poll() {
            match event {
                Event::Secure => is_to_begin = true,
                Event::Bound => {
                    tracing::info!(server = %self.server, "known to the XMPP server");
                    self.condition.send_replace(Condition::Bound);
                }
                // Whoever does not wait any more need not know.
                Event::Answered { who, answer } => _ = who.send(answer),
                Event::Reported { who, receipt } => {
                    tracing::debug!(?receipt, "receipt of a message of XMPP");
                    _ = who.send(receipt);
                }
            }
        }
        is_to_begin
    }
}

/// Whoever has gone meanwhile is told later that it was not sent.
fn send(link: &mut Session, request: Request) {
    let Request { message, answer, receipt } = request;
    if !answer.is_closed() {
        link.send(&message, answer, receipt, now());
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests;
