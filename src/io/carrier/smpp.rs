//! The carrier of short messages: a link to an SMSC (SMPP 3.4), held by a task.
//!
//!     carry --- a request for each message ---> task --- outband::smpp::link --- SMSC
//!       ^                                        |
//!       +--- an answer for each -----------------+---> who awaits a receipt, by the message's number, for a day
//!
//!     submit_sm_resp ROK                ->  Smpp { 0 }, and later a receipt: delivered, or failed
//!     submit_sm_resp RTHROTTLED         ->  Smpp { 58 }, and the link rests
//!     nothing for 30 s, connection lost ->  Silence: it may have arrived, and goes again under its number
//!     no link                           ->  Unreachable, at once
//!
//! The link is made when the carrier is, and made again when it is lost: after 1 s at first, then later each time, and once a minute where the
//! SMSC refuses us. It ends, with unbind, when the carrier is dropped. What waits for its turn waits in the queue of the task, which is as long
//! as a window is wide; whoever does not want to wait any longer is not sent. Requirement N20.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::server::{LEAVING, Server, hear, password, say};
use crate::{
    imap::secret::Secret,
    io::{
        tls::{self, TlsError},
        transport::Transport,
    },
    outband::{
        channel::{Answer, Receipt, ShortMessages},
        redial::Redial,
        smpp::{
            link::{End, Event, Limits, Link},
            pdu::{Esme, Identity, IdentityError, Submit},
            receipt::Awaited,
            status,
        },
    },
    units::Span,
};

/// How long the SMSC may take to be there: addresses, TCP and TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// How long it may take to hear what we say; it is little.
const WRITE: Duration = Duration::from_secs(10);
/// How long messages may take, with the time in which they wait for their turn.
const CARRY: Duration = Duration::from_secs(60);
/// How much is read at once, in octets.
const READ: usize = 4096;
/// The widest window, as SMSCs like it.
const WINDOW: u8 = 10;

/// `[outband.sms.smpp]`: how short messages reach the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The SMSC: `"smsc.example.net:2775"`. None: no short messages go this way.
    pub server: Option<Server>,
    /// TLS from the first octet. Without it password and messages are in clear: for a network of one's own.
    pub tls: bool,
    /// A file with the certificates that the SMSC's has to come from; none: those of the system.
    pub ca: Option<PathBuf>,
    /// Our name at the SMSC, at most 15 characters.
    pub system_id: String,
    /// A file with its password, of at most 8 characters; none: it is empty.
    pub password_file: Option<PathBuf>,
    /// What kind of system we are, where the SMSC asks for it; at most 12 characters.
    pub system_type: String,
    /// Whom messages are from: `+` and digits, a short code of up to 8 digits, or up to 11 letters.
    pub from: String,
    /// The data_coding of what a program reads: 4, octets; 245 (F5), octets with a class, where the SMSC wants one.
    pub data_coding: u8,
    /// For how long the network may try: what wakes late wakes in vain. At most 31 days.
    pub validity: Span,
    /// Whether the network shall say what has become of each message.
    pub receipts: bool,
    /// Messages on their way to the SMSC at a time, from 1 to 10.
    pub window: u8,
    /// Messages a second, at least 1.
    pub rate: u32,
    /// EXTENDED as text, for people. It says that you take the network for private enough.
    pub text: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: None,
            tls: false,
            ca: None,
            system_id: String::new(),
            password_file: None,
            system_type: String::new(),
            from: "MEM".to_owned(),
            data_coding: 4,
            validity: Span::minutes(60),
            receipts: true,
            window: WINDOW,
            rate: 10,
            text: false,
        }
    }
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The SMSC cannot be told.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A number is out of its bounds.
    #[error("{0}")]
    Bounds(&'static str),
    /// The password.
    #[error("{}: {error}", file.display())]
    Password {
        /// In which file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Settings {
    fn limits(&self) -> Result<Limits, SettingsError> {
        if !(1..=WINDOW).contains(&self.window) {
            return Err(SettingsError::Bounds("window: expected 1 to 10"));
        }
        if self.rate == 0 {
            return Err(SettingsError::Bounds("rate: expected at least 1"));
        }
        Ok(Limits { window: self.window.into(), rate: self.rate, ..Limits::default() })
    }

    fn esme(&self) -> Result<Esme, SettingsError> {
        let password = match &self.password_file {
            Some(file) => password(file).map_err(|error| SettingsError::Password { file: file.clone(), error })?,
            None => Secret::new(Vec::new()),
        };
        // 3GPP TS 23.038 section 4, SMPP 3.4 section 5.2.19: octets.
        if !matches!(self.data_coding, 2 | 4 | 0xf4..=0xf7) {
            return Err(SettingsError::Bounds("data_coding: expected 2, 4, or 244 to 247"));
        }
        if self.validity.0 > Duration::from_secs(31 * 86_400) {
            return Err(SettingsError::Bounds("validity: expected at most 31 days"));
        }
        Ok(Esme::new(&Identity {
            system_id: &self.system_id,
            password: &password,
            system_type: &self.system_type,
            source: &self.from,
            octets: self.data_coding,
            validity: self.validity.0,
            receipts: self.receipts,
        })?)
    }
}

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is being made.
    Connecting,
    /// Messages can go.
    Bound,
    /// It was lost, and is made again after a while.
    Resting,
}

/// How a link is, and since when.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// How.
    pub condition: Condition,
    /// Since when.
    pub since: Instant,
}

/// The carrier.
pub struct Smpp {
    esme: Esme,
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<State>,
}

impl Smpp {
    /// Begins to make a link; none where no SMSC is named. Needs a runtime. Files are read here.
    pub fn begin(settings: &Settings) -> Result<Option<Self>, SettingsError> {
        Self::within(settings, settings.limits()?)
    }

    /// The same, with limits of one's own.
    fn within(settings: &Settings, limits: Limits) -> Result<Option<Self>, SettingsError> {
        let Some(server) = settings.server.clone() else { return Ok(None) };
        let esme = settings.esme()?;
        let trust = if settings.tls { Some(tls::believe(settings.ca.as_deref())?) } else { None };
        let (requests, queue) = mpsc::channel(usize::from(settings.window));
        let (said, state) = watch::channel(State { condition: Condition::Connecting, since: Instant::now() });
        let task = Task {
            server,
            trust,
            esme: esme.clone(),
            limits,
            receipts: settings.receipts,
            queue,
            state: said,
            awaited: Awaited::default(),
        };
        tokio::spawn(task.run());
        Ok(Some(Self { esme, requests, state }))
    }

    /// Brings these messages to the SMSC, and says what it says to all of them, or to the first that it refuses. The receipt is told later, when
    /// the network has delivered all of them or given one up; it is dropped where nothing is to be heard.
    pub async fn carry(&self, messages: &ShortMessages, receipt: oneshot::Sender<Receipt>) -> Answer {
        let answer = timeout(CARRY, self.submit(messages, receipt)).await.unwrap_or(Answer::Silence);
        match &answer {
            Answer::Smpp { status } => {
                tracing::debug!(status, messages = messages.parts.len(), "short messages answered")
            }
            _ => tracing::debug!(messages = messages.parts.len(), "short messages not answered"),
        }
        answer
    }

    async fn submit(&self, messages: &ShortMessages, receipt: oneshot::Sender<Receipt>) -> Answer {
        /// RINVDSTADR: what cannot be written has no address.
        const ADDRESS: Answer = Answer::Smpp { status: 0x0b };
        let Some(submits) = self.esme.submits(messages) else { return ADDRESS };
        let whole = Arc::new(Whole::of(submits.len(), receipt));
        let mut answers = Vec::new();
        for submit in submits {
            let (answer, answered) = oneshot::channel();
            let request = Request { submit, to: messages.to.clone(), whole: whole.clone(), answer };
            if self.requests.send(request).await.is_err() {
                return Answer::Unreachable;
            }
            answers.push(answered);
        }
        drop(whole);
        let mut first = Answer::Smpp { status: status::OK };
        for answered in answers {
            let answer = answered.await.unwrap_or(Answer::Silence);
            if first == (Answer::Smpp { status: status::OK }) {
                first = answer;
            }
        }
        first
    }

    /// How the link is now.
    pub fn state(&self) -> State {
        *self.state.borrow()
    }
}

/// A message on its way to the task.
struct Request {
    submit: Submit,
    to: String,
    whole: Arc<Whole>,
    answer: oneshot::Sender<Answer>,
}

/// Messages that belong together, of which receipts may come.
struct Whole(Mutex<Parts>);

struct Parts {
    missing: usize,
    receipt: Option<oneshot::Sender<Receipt>>,
}

impl Whole {
    fn of(parts: usize, receipt: oneshot::Sender<Receipt>) -> Self {
        Self(Mutex::new(Parts { missing: parts, receipt: Some(receipt) }))
    }

    /// One of them has come, or one has not and with it all.
    fn tell(&self, receipt: Receipt) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.missing = parts.missing.saturating_sub(1);
        if (receipt == Receipt::Failed || parts.missing == 0)
            && let Some(waits) = parts.receipt.take()
        {
            // Whoever does not wait any more need not know.
            let _ = waits.send(receipt);
        }
    }
}

/// Who holds the link.
struct Task {
    server: Server,
    trust: Option<Arc<ClientConfig>>,
    esme: Esme,
    limits: Limits,
    receipts: bool,
    queue: mpsc::Receiver<Request>,
    state: watch::Sender<State>,
    awaited: Awaited<Arc<Whole>>,
}

/// Who waits for an answer of the SMSC.
struct Waiting {
    to: String,
    whole: Arc<Whole>,
    answer: oneshot::Sender<Answer>,
}

impl Task {
    async fn run(mut self) {
        let mut redial = Redial::default();
        loop {
            self.enter(Condition::Connecting);
            let began = Instant::now();
            let end = match self.connect(began + CONNECT).await {
                Ok(transport) => self.session(transport).await,
                Err(error) => {
                    tracing::debug!(server = %self.server, %error, "SMSC cannot be reached");
                    End::Lost
                }
            };
            let pause = redial.after(matches!(end, End::Refused(_)), began.elapsed());
            match end {
                End::Refused(status) => tracing::error!(server = %self.server, status, "SMSC refuses us"),
                _ => tracing::info!(server = %self.server, ?end, ?pause, "no link to the SMSC"),
            }
            self.enter(Condition::Resting);
            if !self.rest(Instant::now() + pause).await {
                return;
            }
        }
    }

    fn enter(&self, condition: Condition) {
        self.state.send_replace(State { condition, since: Instant::now() });
    }

    async fn connect(&self, deadline: Instant) -> io::Result<Transport> {
        let transport = self.server.connect(deadline).await?;
        match &self.trust {
            Some(trust) => self.server.prove(transport, trust.clone(), deadline).await,
            None => Ok(transport),
        }
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
        let mut link = Link::open(&self.esme, self.limits, now());
        let mut heard = [0; READ];
        let mut is_wanted = true;
        let end = loop {
            let outgoing = link.outgoing();
            if !outgoing.is_empty() && !matches!(timeout(WRITE, say(&mut transport, &outgoing)).await, Ok(Ok(()))) {
                link.lose();
            }
            self.settle(&mut link);
            if let Some(end) = link.end() {
                break end;
            }
            let has_room = is_wanted && link.has_room(now());
            let deadline = link.deadline(now()).map_or_else(|| Instant::now() + WRITE, Instant::from_std);
            tokio::select! {
                read = hear(&mut transport, &mut heard) => match read {
                    Ok(count @ 1..) => link.hear(&heard[..count], now()),
                    _ => link.lose(),
                },
                request = self.queue.recv(), if has_room => match request {
                    Some(request) => send(&mut link, request),
                    None => {
                        is_wanted = false;
                        link.unbind(now());
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

    /// Tells everybody what has happened.
    fn settle(&mut self, link: &mut Link<Waiting>) {
        while let Some(event) = link.poll() {
            match event {
                Event::Bound => {
                    tracing::info!(server = %self.server, "bound to the SMSC");
                    self.enter(Condition::Bound);
                }
                Event::Answered { who, status, id } => {
                    let _ = who.answer.send(Answer::Smpp { status });
                    if status == status::OK && self.receipts {
                        let early = self.awaited.insert(&id, &who.to, who.whole, now());
                        early.into_iter().for_each(|(whole, says)| whole.tell(says));
                    }
                }
                Event::Unanswered { who } => {
                    let _ = who.answer.send(Answer::Silence);
                }
                Event::Reported(report) => {
                    let says = report.says;
                    let whole = self.awaited.take(report, now());
                    tracing::debug!(?says, known = whole.is_some(), "receipt of a short message");
                    whole.into_iter().for_each(|whole| whole.tell(says));
                }
            }
        }
    }
}

/// Whoever has gone meanwhile is told later that it was not sent.
fn send(link: &mut Link<Waiting>, request: Request) {
    let Request { submit, to, whole, answer } = request;
    if !answer.is_closed() {
        link.submit(submit, Waiting { to, whole, answer }, now());
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests;
