//! What a session's task knows of its client's visit: who, from where, at which backend; and what is counted and logged of it.
//!
//! The task moves octets; the visit is asked when the session wants something of the world, and told what happened.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tracing::Level;

use super::{
    admission::UserSession,
    attendance::Attendance,
    auxiliary::{Running, Sender},
    desks::Order,
    events::Following,
    keeper::Questions,
    line::Line,
    listener::{Client, Listening},
    log,
    login::{Connected, Login},
    metrics::{self, Held, Outcome, Peer, Reconnected, State, Stream, Way, Whose},
    registry::Notice,
    shadows::{Shared, Surveyed},
    shell::Shell,
    trace::Trace,
    transport::Transport,
};
use crate::{
    account::presence::Sign,
    imap::list,
    mailbox::{
        event::{Ending, Event, Kind, Manner, Report},
        overview::Finding,
        shadow::Sighting,
        status::Status,
    },
    outband::route::ring::leaves_no_trace,
    session::{
        Session,
        aside::Sent,
        effect::{self, Answer, Binding, Dial, DialError, End, Fault, Input, Reconnect, Side},
        front::Front,
        idle::Listener,
        key::Key,
        profile::Look,
    },
    store::Source,
};

/// What somebody outside has to say to a session.
pub(super) enum News {
    /// The proxy shuts down.
    Drain,
    /// The operator ends the session.
    Kick,
    /// Something has happened elsewhere in the account.
    Account(Arc<effect::Notice>),
}

impl News {
    /// As the session hears it.
    pub(super) fn input(&self) -> Input<'_> {
        match self {
            Self::Drain => Input::Drain,
            Self::Kick => Input::Gone(Side::Client),
            Self::Account(what) => Input::Noticed(what),
        }
    }
}

/// One client's visit.
pub(super) struct Visit {
    shell: Arc<Shell>,
    listening: Arc<Listening>,
    client: Client,
    front: Arc<Front>,
    /// A login that is under way.
    attempt: Option<Box<Attempt>>,
    /// The user's place among his sessions.
    user: Option<UserSession>,
    /// Who has logged in.
    who: Option<Box<Who>>,
    trace: Option<Box<Trace>>,
    /// Who follows its user.
    following: Following,
    /// The mailbox that it sees for them.
    shared: Option<Shared>,
    /// The account, if it has looked at it for them.
    surveyed: Option<Surveyed>,
    /// There is a desk for the account, and it is to hear of the session.
    arrives: bool,
    /// What the desk of the account knows of the session, if there is one.
    desk: Option<Box<Attendance>>,
    /// How its news come while it listens, and its place in the metric of that.
    listens: Option<((Listener, Look), Held)>,
}

/// Who listens, and how news come, as metrics have it.
fn labels((listener, look): (Listener, Look)) -> (metrics::Listener, metrics::News) {
    let listener = match listener {
        Listener::Idle => metrics::Listener::Idle,
        Listener::Notify => metrics::Listener::Notify,
    };
    let news = match look {
        Look::Idle => metrics::News::Idle,
        Look::Noop => metrics::News::Noop,
        Look::Reselect => metrics::News::Reselect,
    };
    (listener, news)
}

/// A login that is under way.
struct Attempt {
    user: Option<Arc<str>>,
    mechanism: metrics::Mechanism,
    since: Instant,
    /// The session is logged in, and its backend connection was lost.
    again: bool,
    login: Option<Login>,
}

/// Who has logged in, in the words of RFC 5423 section 5.
struct Who {
    /// In whose name; unknown only where a relayed mechanism did not say.
    user: Option<Arc<str>>,
    /// Who has authenticated, if that is somebody else.
    admin: Option<Arc<str>>,
    /// How the account can be logged in to once more, if the secret was ours to read.
    key: Option<Arc<Key>>,
}

impl Visit {
    pub(super) fn new(shell: Arc<Shell>, listening: Arc<Listening>, client: Client) -> Self {
        let front = listening.front.load_full();
        Self {
            shell,
            listening,
            client,
            front,
            attempt: None,
            user: None,
            who: None,
            trace: None,
            following: Following::default(),
            shared: None,
            arrives: false,
            desk: None,
            listens: None,
            surveyed: None,
        }
    }

    pub(super) fn front(&self) -> Arc<Front> {
        Arc::clone(&self.front)
    }

    /// Makes the tags of our own commands unguessable: the session's name is random.
    pub(super) fn seed(&self) -> u64 {
        let id = self.client.seat.id();
        id.as_str().bytes().take(12).fold(0, |seed, octet| seed << 5 ^ u64::from(octet))
    }

    /// Octets that may wait for one side before the other is not read any more.
    pub(super) fn most_unsent(&self) -> usize {
        self.front.limits.unsent.0 as usize
    }

    /// The session wants a backend.
    pub(super) fn dial(&mut self, dial: Dial) -> impl Future<Output = Result<Connected, DialError>> + Send + use<> {
        let Dial { user, mechanism, again } = dial;
        let mechanism = metrics::Mechanism::of(mechanism);
        if !again {
            self.client.seat.named(user.clone(), None);
        }
        let since = Instant::now();
        self.attempt = Some(Box::new(Attempt { user: user.clone(), mechanism, since, again, login: None }));
        let (shell, listening) = (Arc::clone(&self.shell), Arc::clone(&self.listening));
        shell.dial(listening, self.client.ends, self.client.seat.id().as_str().into(), user, again)
    }

    pub(super) fn dialled(&mut self, login: Login) {
        if let Some(attempt) = &mut self.attempt {
            let (again, backend) = (attempt.again, login.backend());
            attempt.login = Some(login);
            if again {
                return self.trace.iter_mut().for_each(|trace| trace.reconnected());
            }
            self.client.seat.named(attempt.user.clone(), Some(backend));
        }
        let entry = self.client.seat.entry();
        let wanted = entry.user().is_some_and(|user| self.shell.traces.wants(&user));
        self.trace = wanted.then(|| self.shell.traces.begin(entry, false)).flatten();
    }

    pub(super) fn not_dialled(&mut self, error: DialError) {
        let Some(attempt) = self.attempt.take() else { return };
        if attempt.again {
            let say = || tracing::debug!(error = %error, "backend not back yet");
            return self.client.seat.entry().say(Level::DEBUG, say);
        }
        let outcome = match error {
            DialError::Down | DialError::Busy => metrics::Login::Unavailable,
            DialError::TooManyFailures | DialError::TooManySessions => metrics::Login::Limited,
            DialError::Unknown => metrics::Login::Refused,
        };
        self.shell.meters.logins[(attempt.mechanism, outcome)].increment(1);
        if outcome == metrics::Login::Refused {
            self.fail(attempt.user.as_deref(), attempt.mechanism);
        }
        self.client.seat.entry().say(Level::INFO, || tracing::info!(error = %error, "login not possible"));
    }

    /// The backend accepted the login.
    pub(super) fn authenticated(
        &mut self,
        user: Option<Arc<str>>,
        acting: Option<Arc<str>>,
        key: Option<Arc<Key>>,
        session: &Session,
    ) {
        let Some(attempt) = self.attempt.take() else { return };
        self.shell.meters.logins[(attempt.mechanism, metrics::Login::Ok)].increment(1);
        self.shell.meters.login_duration.record(attempt.since.elapsed());
        if let Some(login) = attempt.login {
            let owner = login.owner(user.as_deref(), acting.as_deref());
            self.client.seat.named(user.clone(), Some(login.backend()));
            owner.into_iter().for_each(|owner| self.client.seat.joins(owner));
            self.user = login.authenticated(session.plan());
        }
        self.client.seat.becomes(State::Authenticated);
        self.client.seat.entry().say(Level::INFO, || tracing::info!("authenticated"));
        self.who = Some(Box::new(match acting {
            Some(acting) => Who { user: Some(acting), admin: user, key },
            None => Who { user, admin: None, key },
        }));
        self.happened(Event { mechanism: Some(attempt.mechanism.name()), ..Event::new(Kind::Login) });
        // Which device it is, it says in the same breath: the desk hears of it behind that.
        self.arrives = self.client.seat.account().is_some_and(|account| self.shell.desks.has(account));
    }

    /// Tells the desk of the account that the session is there. Who acknowledges nothing is given up when it would not count any more.
    fn attend(&mut self, idles: bool, client: Option<&Transport>) {
        let (session, device) = (self.client.seat.id(), self.client.seat.device());
        self.tell_desk(Order::Sign(session, device.clone(), Sign::Comes));
        if idles {
            self.tell_desk(Order::Sign(session, device, Sign::Idles(true)));
        }
        if let Some(who) = &self.who {
            who.user.iter().for_each(|user| self.tell_desk(Order::Named(Arc::clone(user))));
            // Who acts for the user has not left his secret for that.
            let own = who.key.as_ref().filter(|_| who.admin.is_none());
            own.into_iter().for_each(|key| self.tell_desk(Order::Key(session, Arc::clone(key))));
        }
        let limit = self.shell.setup.load().senders.rules.presence.unacknowledged.0;
        let patience = client.and_then(|client| client.give_up_after(limit).ok());
        self.desk = Some(Box::new(Attendance::new(idles, patience)));
    }

    fn tell_desk(&self, order: Order) {
        if let Some(account) = self.client.seat.account() {
            // One that has ended is told anew when it begins.
            let _ = self.shell.desks.tell(account, order);
        }
    }

    fn is_idle(&self) -> bool {
        self.client.seat.entry().state() == State::Idle.name()
    }

    fn sign(&self, sign: Sign) {
        self.tell_desk(Order::Sign(self.client.seat.id(), self.client.seat.device(), sign));
    }

    /// The client has said something: what it was told before it has.
    fn client_speaks(&mut self) {
        let now = Instant::now();
        let Some(desk) = &mut self.desk else { return };
        let speaks = desk.speaks(now);
        for (mailbox, uidvalidity, uidnext) in desk.confirmed(now) {
            let mailbox = list::canonical(&mailbox);
            self.tell_desk(Order::Shown(self.client.seat.device(), mailbox, uidvalidity, uidnext));
        }
        if speaks {
            self.sign(Sign::Speaks);
        }
    }

    /// The backend connection was lost under a client that listens: how far it is to be had again.
    pub(super) fn reconnects(&mut self, what: Reconnect, session: &Session) {
        let result = match what {
            Reconnect::Lost => {
                let say = || tracing::info!("backend lost: connecting again");
                return self.client.seat.entry().say(Level::INFO, say);
            }
            Reconnect::Joined => {
                // What is held for a login is let go; the session's place among those of the user is the old one.
                let login = self.attempt.take().and_then(|attempt| attempt.login);
                return drop(login.map(|login| login.authenticated(session.plan())));
            }
            Reconnect::Settled => Reconnected::Ok,
            Reconnect::Changed => Reconnected::Changed,
            Reconnect::Refused => Reconnected::Refused,
            Reconnect::GivenUp => Reconnected::Unavailable,
        };
        self.shell.meters.reconnects[result].increment(1);
        let say = || tracing::info!(result = result.name(), "backend trouble over");
        self.client.seat.entry().say(Level::INFO, say);
    }

    /// The backend connection is given up. A client that logs in is answered; otherwise nobody holds a turn in a pause.
    pub(super) fn hung_up(&mut self) {
        self.attempt = self.attempt.take().filter(|attempt| !attempt.again);
    }

    /// Whether somebody follows events of this user. Where all have gone who did, and others have come, the session begins anew.
    pub(super) fn is_followed(&mut self) -> bool {
        let user = self.who.as_ref().and_then(|who| who.user.as_deref());
        let before = std::mem::replace(&mut self.following, self.shell.events.following(user));
        let followed = self.following.is_some() && (self.following.goes_on(&before) || !before.is_some());
        if !followed {
            (self.shared, self.surveyed) = (None, None);
        }
        followed
    }

    /// Whether somebody looks after the account while its devices are away.
    pub(super) fn is_attended(&self) -> bool {
        self.desk.is_some()
    }

    /// Whether the connection to the backend is wanted when the client has gone: nobody can log in once more.
    pub(super) fn is_kept(&self) -> bool {
        let is_own = || self.who.as_ref().is_some_and(|who| who.key.is_none() && who.admin.is_none());
        self.desk.is_some() && is_own() && self.client.seat.account().is_some_and(|it| self.shell.desks.wants_line(it))
    }

    /// It is left to who looks after the account.
    pub(super) fn leave(&self, transport: Transport, idling: bool, told: bool) {
        let account = self.client.seat.account().filter(|account| self.shell.desks.takes_line(account));
        let Some(meters) = account.and_then(|_| self.meters()) else { return };
        let timeout = self.shell.setup.load().config.timeouts.backend.0;
        let line = Line::left(transport, idling, told, Held::new(&meters.auxiliary), timeout, meters);
        line.into_iter().for_each(|line| self.tell_desk(Order::Left(Box::new(line))));
    }

    /// The client has done something in the message store.
    pub(super) fn happened(&self, mut event: Event) {
        if let Some(account) = self.client.seat.account().filter(|_| self.following.is_some()) {
            self.shell.shadows.did(account, &mut event, Instant::now());
        }
        self.tell(&event, true);
        if self.desk.is_some() && leaves_no_trace(event.kind) {
            self.tell_desk(Order::Happened(self.client.seat.device(), Box::new(event)));
        }
    }

    /// The session has seen something in its mailbox.
    pub(super) fn seen(&mut self, sighting: Sighting) {
        let Sighting { mailbox, own, sight } = sighting;
        let Some(account) = self.client.seat.account() else { return };
        let held = self.shared.take().filter(|shared| shared.is_of(&mailbox));
        let shared = held.unwrap_or_else(|| self.shell.shadows.hold(account, &mailbox));
        let events = shared.see(sight, self.front.offer.account.events.messages, &self.following);
        self.shared = Some(shared);
        events.iter().for_each(|event| self.tell(event, own));
    }

    /// The session has found out something about its account.
    pub(super) fn found(&mut self, finding: Finding) {
        let Some(account) = self.client.seat.account() else { return };
        let own = finding.own;
        let surveyed = self.surveyed.get_or_insert_with(|| self.shell.shadows.survey(account));
        let events = self.shell.shadows.found(surveyed, finding, &self.following);
        events.iter().for_each(|event| self.tell(event, own));
    }

    /// Tells those who follow. `own`: the client has done it.
    fn tell(&self, event: &Event, own: bool) {
        let Some(who) = &self.who else { return };
        let settings = &self.front.offer.account.events;
        if !settings.tells(event.kind) {
            return;
        }
        self.shell.events.publish(who.user.as_deref(), || {
            let entry = self.client.seat.entry();
            let connected = self.client.ends.connected;
            let [client, server] = [entry.client.ip(), connected.ip().to_canonical()].map(|ip| ip.to_string());
            Report {
                event,
                at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
                user: who.user.as_deref(),
                admin: who.admin.as_deref().filter(|_| own),
                client: own.then_some((&client, entry.client.port())),
                server: (&server, connected.port()),
                backend: entry.backend().as_deref(),
                session: own.then_some(entry.id.as_str()),
                longest: settings.longest.0,
            }
            .line()
        });
    }

    /// The next answer of the store.
    pub(super) fn poll_answer(&self, questions: &mut Questions, cx: &mut Context<'_>) -> Poll<Answer> {
        questions.poll(&self.shell.keeper, self.client.seat.account(), cx)
    }

    /// Something is to be asked on an auxiliary connection.
    pub(super) fn send_aside(&self, sent: Sent) -> Running {
        let (listening, session) = (Arc::clone(&self.listening), self.client.seat.id().as_str().into());
        let sender = Sender { listening, ends: self.client.ends, session };
        match self.client.seat.account() {
            Some(account) => self.shell.auxiliary.send(&self.shell, account, sent, sender),
            // Nobody knows whose it is, and no answer will come.
            None => Running::default(),
        }
    }

    /// The session belongs to this device.
    pub(super) fn bound(&self, binding: &Binding) {
        self.client.seat.bound(binding.device.clone());
        if self.desk.is_some() {
            self.sign(Sign::Speaks);
        }
        // What a client writes down is kept with what it writes.
        let said = matches!(binding.source, Source::Suffix | Source::Id);
        if let Some(account) = self.client.seat.account().filter(|_| said) {
            self.shell.keeper.seen(Arc::clone(account), binding);
        }
    }

    /// The other sessions of the account are to hear this.
    pub(super) fn publish(&self, what: effect::Notice) {
        self.client.seat.publish(what);
    }

    /// The backend refused the login.
    pub(super) fn refused(&mut self, user: Option<Arc<str>>) {
        let Some(attempt) = self.attempt.take() else { return };
        self.shell.meters.logins[(attempt.mechanism, metrics::Login::Refused)].increment(1);
        self.fail(user.as_deref(), attempt.mechanism);
        if let Some(login) = attempt.login {
            login.refused(user.as_deref());
        }
    }

    fn fail(&self, user: Option<&str>, mechanism: metrics::Mechanism) {
        let entry = self.client.seat.entry();
        log::login_failed(entry.client.ip(), user.unwrap_or_default(), mechanism, self.client.seat.id().as_str());
    }

    /// TLS begins on this side.
    pub(super) fn upgrade(
        &self,
        side: Side,
        transport: Transport,
    ) -> std::pin::Pin<Box<dyn Future<Output = io::Result<Transport>> + Send>> {
        let login = self.attempt.as_ref().and_then(|attempt| attempt.login.as_ref());
        match (side, login) {
            (Side::Client, _) => {
                let deadline = tokio::time::Instant::now() + self.front.timeouts.handshake.0;
                Box::pin(self.shell.begin_tls(transport, deadline))
            }
            (Side::Backend, Some(login)) => Box::pin(login.upgrade(transport)),
            (Side::Backend, None) => Box::pin(async { Err(io::Error::other("no login is under way")) }),
        }
    }

    /// TLS has begun, or failed.
    pub(super) fn upgraded(&self, side: Side, error: Option<&io::Error>) {
        let peer = if side == Side::Client { Peer::Client } else { Peer::Backend };
        // Those with clients are counted where their number is bounded.
        if side == Side::Backend {
            let outcome = if error.is_none() { Outcome::Ok } else { Outcome::Failed };
            self.shell.meters.handshakes[(peer, outcome)].increment(1);
        }
        if let Some(error) = error {
            let say = || tracing::warn!(peer = peer.name(), error = %error, "TLS failed");
            self.client.seat.entry().say(Level::WARN, say);
        }
    }

    /// This side has said so much, and these octets of it are new.
    pub(super) fn read(&mut self, from: Side, octets: &[u8]) {
        if from == Side::Client && self.desk.is_some() {
            self.client_speaks();
        }
        self.moved(if from == Side::Client { Way::ClientSays } else { Way::BackendSays }, octets);
    }

    /// This side is told this.
    pub(super) fn wrote(&mut self, to: Side, octets: &[u8]) {
        self.moved(if to == Side::Client { Way::ClientHears } else { Way::BackendHears }, octets);
    }

    fn moved(&mut self, way: Way, octets: &[u8]) {
        self.client.seat.moved(way, octets.len() as u64);
        if let Some(trace) = &mut self.trace {
            trace.feed(way, octets);
        }
    }

    /// A literal of this side is carried on.
    pub(super) fn carries(&self, from: Side, discards: bool) {
        if !discards {
            let stream = if from == Side::Client { Stream::Backend } else { Stream::Client };
            self.shell.meters.literals[stream].increment(1);
        }
    }

    /// So many commands have begun.
    pub(super) fn commands(&self, count: u64) {
        if count > 0 {
            self.shell.meters.commands.increment(count);
        }
    }

    /// The backend was given so many commands for the sake of news.
    pub(super) fn looks(&self, count: u64) {
        let meters = (count > 0).then(|| self.meters()).flatten();
        meters.into_iter().for_each(|meters| meters.looks.increment(count));
    }

    /// What is counted of the backend of a session that is logged in.
    fn meters(&self) -> Option<Arc<metrics::BackendMeters>> {
        self.client.seat.account().map(|account| self.shell.meters.backend(&account.backend))
    }

    /// The backend tells its news so, and not as it says, as far as this session has found out.
    pub(super) fn learned(&self, look: Look) {
        let say = || tracing::info!(look = look.name(), "news are kept from the session: asked otherwise");
        self.client.seat.entry().say(Level::INFO, say);
        let setup = self.shell.setup.load();
        let Some(account) = self.client.seat.account() else { return };
        let Some(dialer) = setup.dialers.get(&*account.backend) else { return };
        if let Some(look) = dialer.learning.found(&account.user, look, Instant::now()) {
            tracing::warn!(backend = %dialer.name, look = look.name(), "the backend keeps news to itself: asked otherwise");
        }
    }

    /// What the session does now, for those who look at it from outside.
    pub(super) fn note(&mut self, session: &Session, client: Option<&Transport>) {
        if session.plan().is_some() {
            self.client.seat.becomes(if session.is_idle() { State::Idle } else { State::Authenticated });
        }
        if std::mem::take(&mut self.arrives) {
            self.attend(session.is_idle(), client);
        }
        if let Some((mailbox, uidvalidity, next)) = self.desk.as_mut().and_then(|desk| desk.saw(session.shown())) {
            self.tell_desk(Order::Stirred(self.client.seat.id(), list::canonical(&mailbox), uidvalidity, next));
        }
        if let Some(idles) = self.desk.as_mut().and_then(|desk| desk.idles(session.is_idle())) {
            self.sign(Sign::Idles(idles));
        }
        let listens = session.listens();
        if listens != self.listens.as_ref().map(|(listens, _)| *listens) {
            let meters = self.meters();
            let held = listens.zip(meters).map(|(how, meters)| (how, Held::new(&meters.listeners[labels(how)])));
            self.listens = held;
        }
    }

    /// The client is told by STATUS how a mailbox stands.
    pub(super) fn shown(&mut self, mailbox: Box<[u8]>, status: &Status) {
        if let (Some(desk), Some(uidnext)) = (&mut self.desk, status.uidnext) {
            desk.tell((mailbox, status.uidvalidity, uidnext));
        }
    }

    /// What somebody outside has to say to the session.
    ///
    /// `full`: it does not read. What others have changed it can ask for when it does.
    pub(super) fn poll_notice(&mut self, full: bool, client: Option<&Transport>, cx: &mut Context<'_>) -> Option<News> {
        loop {
            let Poll::Ready(notice) = self.client.seat.inbox().poll_take(cx) else { return None };
            match notice {
                Notice::Drain => return Some(News::Drain),
                Notice::Kick => return Some(News::Kick),
                Notice::Attend => self.attend(self.is_idle(), client),
                Notice::Account(_) if full => {}
                Notice::Account(what) => return Some(News::Account(what)),
                Notice::Trace(false) => self.trace = None,
                Notice::Trace(true) => {
                    let begin = || self.shell.traces.begin(self.client.seat.entry(), true);
                    self.trace = self.trace.take().or_else(begin);
                }
            }
        }
    }

    /// The session is over. `failure`: what went wrong with the client's connection.
    pub(super) fn ended(&self, why: End, failure: Option<io::ErrorKind>) {
        // What it sent is not what TLS lets through.
        let insecure = failure == Some(io::ErrorKind::InvalidData);
        let manner = if insecure { Manner::SecurityLayerError } else { why.manner() };
        if let Some(desk) = &self.desk {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            desk.ends(why, failure, now).for_each(|sign| self.sign(sign));
        }
        let end = Ending { manner, duration: self.client.seat.entry().since.elapsed() };
        self.happened(Event { end: Some(end), ..Event::new(Kind::Logout) });
        let whose = match why {
            End::Fault(Fault::Client(_)) => Some(Whose::Client),
            End::Fault(Fault::Backend(_)) | End::BackendGone => Some(Whose::Backend),
            End::Fault(Fault::Ours(_)) => Some(Whose::Ours),
            End::Logout | End::ClientGone | End::Idle | End::NoLogin | End::Drained => None,
        };
        let entry = self.client.seat.entry();
        if let Some(whose) = whose {
            self.shell.meters.faults[whose].increment(1);
            return entry.say(Level::WARN, || tracing::warn!(why = %why, "session failed"));
        }
        entry.say(Level::INFO, || tracing::info!(why = %why, "session ended"));
    }
}
