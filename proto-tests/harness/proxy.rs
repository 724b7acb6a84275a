//! A real [`Session`] with a shell of paper around it: what `lemonade_proxy::io` does with sockets, done with lists.
//!
//!     client octets -> Input::Octets -> Session -> Effect::Pass, Put, Connect, ... -> octets for either side
//!
//! It keeps what the session has not taken, carries literals without asking, holds reading back while the other side does
//! not read, answers dials and upgrades, and wakes the session in time, on a clock that only moves when it is told to.
//! Promises of the interface are checked on the way: spans lie inside the input, nothing is sent behind the end.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use lemonade_proxy::{
    account::{
        self,
        channel::ChannelError,
        enrolment::{self, Question, Standing},
    },
    ext,
    imap::{capability::Capabilities, sasl::Mechanism},
    io::{
        events::Following,
        shadows::{Shadows, Shared, Surveyed},
    },
    mailbox::{
        diff::Messages,
        overview::Finding,
        shadow::{Shadow, Sight, Sighting},
    },
    session::{
        Session,
        aside::{Sent, Told},
        effect::{
            Answer, Binding, DialError, Dialled, Effect, Effects, End as Why, Input, Keeping, Kept, Notice, Origin,
            Request, Side, Upgrade,
        },
        front::Front,
        idle::Pace,
        layer::Ask,
        plan::{Mode, Modes, NonSync, Offer, Plans},
        profile::{self, Look, Profile},
        settings::{Limits, Timeouts},
    },
    store::{self, AccountName, Change, DeviceName, Edit, Quota, Store, StoreError, memory::Memory},
    units::{Size, Span},
};

use crate::{
    cast::{Between, Disk, End, NOON, index},
    events,
    model::Settings,
};

/// What a scene may say about its proxy.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `[limits]`.
    pub limits: Limits,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// STARTTLS is offered.
    pub starttls: bool,
    /// A password may be said in clear.
    pub plaintext: bool,
    /// TLS runs from the start.
    pub tls: bool,
    /// LITERAL+ or LITERAL-.
    pub literals: NonSync,
    /// `[extensions]`.
    pub modes: Modes,
    /// COMPRESS=DEFLATE is offered.
    pub compress: bool,
    /// What comes of a dial.
    pub dial: Result<(), DialError>,
    /// What comes of a dial behind a loss, if it is another thing.
    pub dial_again: Option<DialError>,
    /// Other connections may be opened in the client's name.
    pub auxiliary: bool,
    /// The backend wants STARTTLS.
    pub backend_starttls: bool,
    /// The backend is told where the client comes from.
    pub trusted: bool,
    /// The profile the operator set.
    pub profile: Option<&'static Profile>,
    /// The mechanisms that the backend has.
    pub mechanisms: Vec<Mechanism>,
    /// `[account]`.
    pub account: Arc<account::Settings>,
    /// Addresses that were asked about before.
    pub asked: Vec<Edit>,
    /// What the disk under the store is good for.
    pub disk: Disk,
    /// Somebody follows events.
    pub followed: bool,
}

/// The proxy of a scene.
pub struct Proxy {
    session: Session,
    setup: Setup,
    seed: u64,
    since: Instant,
    now: Instant,
    peers: [Peer; 2],
    out: Effects,
    /// Who waits for a connection to the backend.
    dialling: Option<Arc<str>>,
    ended: Option<Why>,
    /// Whether the backend accepted a login.
    pub authenticated: bool,
    /// Logins that the backend refused.
    pub refused: usize,
    /// What is kept of the user; another proxy may stand before the same store.
    pub store: Arc<dyn Store>,
    /// What other sessions of the account would hear.
    published: Vec<Notice>,
    /// Commands that the backend was given because the client listens.
    pub looks: u64,
    shadows: Arc<Shadows>,
    shared: Option<Shared>,
    surveyed: Option<Surveyed>,
    /// What the session has seen, all of it together.
    seen: Option<(Box<[u8]>, Shadow)>,
    /// What those who follow events would hear.
    pub events: Vec<String>,
    /// The devices that the session was bound to.
    pub devices: Vec<Binding>,
    /// How the backend tells its news, if the session has found out.
    pub learned: Option<Look>,
    requests: VecDeque<Request>,
    errands: VecDeque<Sent>,
    /// Who waits for what comes of one.
    errands_of: Vec<(u8, Ask)>,
}

/// What the shell keeps for one side.
#[derive(Debug, Default)]
struct Peer {
    /// What it sent and nobody has taken.
    arrived: Vec<u8>,
    /// The session has seen all of `arrived` and wants more before it looks again.
    seen: usize,
    /// A literal of this side that is carried, and whether it is only dropped.
    carrying: Option<(u64, bool)>,
    /// What is on its way to it.
    unsent: Vec<u8>,
    /// It does not read.
    stalled: bool,
    gone: bool,
    end: Option<End>,
    upgrades: usize,
}

/// Who follows, from the beginning to the end.
fn somebody() -> Following {
    [1].into_iter().collect()
}

/// The answer of a store that never waits.
fn at_once<T>(mut answer: store::Answer<'_, T>) -> Result<T, StoreError> {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a store of a test waits for nothing"),
    }
}

/// What a side hears where DEFLATE begins: nobody else says it. What stands behind it is shown inflated.
const DEFLATE_BEGINS: &[u8] = b"U: deflate\r\n";

/// Octets of one read: what a shell offers at a time, beside what was left over.
const READ: usize = 64 << 10;

impl Setup {
    /// Everything by default, before a backend of these settings.
    pub fn before(settings: &Settings) -> Self {
        let has = |(name, mechanism): &(&str, Mechanism)| settings.has(&format!("AUTH={name}")).then_some(*mechanism);
        let mut mechanisms: Vec<Mechanism> = Mechanism::ALL.iter().filter_map(has).collect();
        // PLAIN and LOGIN are read by us: a backend that only knows the command LOGIN will do.
        for read in [Mechanism::Login, Mechanism::Plain] {
            if !mechanisms.contains(&read) {
                mechanisms.insert(0, read);
            }
        }
        Self {
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            starttls: true,
            plaintext: true,
            tls: false,
            literals: NonSync::Plus,
            modes: Modes::new(),
            compress: false,
            dial: Ok(()),
            dial_again: None,
            auxiliary: true,
            backend_starttls: false,
            trusted: false,
            profile: None,
            mechanisms,
            account: Arc::new(account::Settings {
                events: account::settings::Events { messages: Messages::None, ..Default::default() },
                ..account::Settings::default()
            }),
            asked: Vec::new(),
            disk: Disk::Well,
            followed: true,
        }
    }

    /// Takes a line of a transcript's header: `listener: minus`, `limits: line=1 KiB`.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "listener" => value.split_whitespace().try_for_each(|word| self.listen(word)),
            "dial" => self.dial(value),
            "limits" => value.split(',').try_for_each(|one| self.limit(one.trim())),
            "timeouts" => value.split(',').try_for_each(|one| self.timeout(one.trim())),
            "extensions" => value.split_whitespace().try_for_each(|word| self.extend(word)),
            "account" => value.split_whitespace().try_for_each(|word| self.account(word)),
            "events" => {
                self.followed = value != "unfollowed";
                Arc::make_mut(&mut self.account).events.messages = match value {
                    "messages" => Messages::Simple,
                    "messages and flags" => Messages::Flags,
                    "unfollowed" => Messages::None,
                    _ => return Err("messages, messages and flags, or unfollowed".to_owned()),
                };
                Ok(())
            }
            "store" => {
                self.disk = Disk::parse(value)?;
                Ok(())
            }
            "profile" => {
                self.profile = Some(profile::find(value).ok_or("the name of a profile")?);
                Ok(())
            }
            "trusted" => {
                self.trusted = value == "yes";
                Ok(())
            }
            _ => Err(format!("a setting of the proxy, not {name}")),
        }
    }

    fn listen(&mut self, word: &str) -> Result<(), String> {
        match word {
            "starttls" => self.plaintext = false,
            "plaintext" => self.starttls = false,
            "tls" => self.tls = true,
            "minus" => self.literals = NonSync::Minus,
            "compress" => self.compress = true,
            _ => return Err(format!("starttls, plaintext, tls, minus or compress, not {word}")),
        }
        Ok(())
    }

    /// `FILTERS=always`
    fn extend(&mut self, word: &str) -> Result<(), String> {
        let (name, mode) = word.split_once('=').ok_or("NAME=mode")?;
        let mode = match mode {
            "always" => Mode::Always,
            "never" => Mode::Never,
            _ => return Err("always or never".to_owned()),
        };
        self.modes.insert(name.to_owned(), mode);
        Ok(())
    }

    /// `SMS=WAKEUP` is a channel that is offered, `running=SMS` one that somebody sends over; `asked=DEVICE,SMS,ADDRESS,CODE` was sent a code.
    fn account(&mut self, word: &str) -> Result<(), String> {
        let account = Arc::make_mut(&mut self.account);
        let (name, value) = word.split_once('=').ok_or("name=value")?;
        let wrong = |error: ChannelError| error.to_string();
        match name {
            "separator" => account.device_separator = value.chars().next(),
            "entries" => account.entries = value.parse().map_err(|_| "a number")?,
            "octets" => account.octets = Size(value.parse().map_err(|_| "a number")?),
            "mailboxes" => account.notify.mailboxes = value.parse().map_err(|_| "a number")?,
            "round" => account.notify.round = value.parse().map_err(|error| format!("{error}"))?,
            "sender" => account.outband.sender = Some(value.to_owned()),
            "key" => account.outband.public_key = Some(value.to_owned()),
            "recipients" => account.outband.deltachat_recipients = Some(value.parse().map_err(|_| "a number")?),
            "asked" => self.asked.extend(asked(value)),
            "running" => account.outband.running.push(value.parse().map_err(wrong)?),
            kind => {
                let formats = account.outband.channels.entry(kind.parse().map_err(wrong)?).or_default();
                formats.push(value.parse().map_err(wrong)?);
            }
        }
        Ok(())
    }

    fn dial(&mut self, value: &str) -> Result<(), String> {
        self.dial = Err(match value {
            "starttls" => {
                self.backend_starttls = true;
                return Ok(());
            }
            "once" => {
                self.dial_again = Some(DialError::Down);
                return Ok(());
            }
            "alone" => {
                self.auxiliary = false;
                return Ok(());
            }
            "down" => DialError::Down,
            "unknown" => DialError::Unknown,
            "busy" => DialError::Busy,
            "too-many-failures" => DialError::TooManyFailures,
            "too-many-sessions" => DialError::TooManySessions,
            _ => {
                return Err(
                    "down, unknown, busy, too-many-failures, too-many-sessions, alone, once or starttls".to_owned()
                );
            }
        });
        Ok(())
    }

    fn limit(&mut self, one: &str) -> Result<(), String> {
        let (name, value) = one.split_once('=').ok_or("`limits: name=value`")?;
        let limits = &mut self.limits;
        if name == "pipelined" {
            limits.pipelined = value.parse().map_err(|_| "a number")?;
            return Ok(());
        }
        let size: Size = value.parse().map_err(|error| format!("{error}"))?;
        *match name {
            "line_before_login" => &mut limits.line_before_login,
            "sasl_line" => &mut limits.sasl_line,
            "literals_before_login" => &mut limits.literals_before_login,
            "line" => &mut limits.line,
            "small_literal" => &mut limits.small_literal,
            "append" => &mut limits.append,
            "unsent" => &mut limits.unsent,
            _ => return Err(format!("a limit, not {name}")),
        } = size;
        Ok(())
    }

    fn timeout(&mut self, one: &str) -> Result<(), String> {
        let (name, value) = one.split_once('=').ok_or("`timeouts: name=value`")?;
        let span: Span = value.parse().map_err(|error| format!("{error}"))?;
        let timeouts = &mut self.timeouts;
        *match name {
            "login" => &mut timeouts.login,
            "idle_before_login" => &mut timeouts.idle_before_login,
            "idle" => &mut timeouts.idle,
            "backend" => &mut timeouts.backend,
            "idle_renewal" => &mut timeouts.idle_renewal,
            "still_here" => {
                timeouts.still_here = Some(span);
                return Ok(());
            }
            _ => return Err(format!("a timeout, not {name}")),
        } = span;
        Ok(())
    }

    /// What a listener like this tells its sessions.
    pub fn front(&self) -> Front {
        Front {
            limits: self.limits.clone(),
            timeouts: self.timeouts.clone(),
            offer: Offer {
                modes: self.modes.clone(),
                literals: self.literals,
                compress: self.compress,
                append: self.limits.append,
                account: self.account.clone(),
            },
            starttls: self.starttls,
            plaintext_login: self.plaintext,
            mechanisms: self.mechanisms.clone(),
            shared: Capabilities::default(),
            extensions: &ext::ALL,
            time_of_day: || NOON,
            plans: Plans::default(),
            told: Default::default(),
        }
    }
}

/// Whose mail it is.
fn whose() -> AccountName {
    AccountName { backend: "main".into(), user: "joe".into() }
}

/// What is kept of an address that was sent a code.
fn asked(words: &str) -> Option<Edit> {
    let [device, kind, address, code] = words.split(',').collect::<Vec<_>>().try_into().ok()?;
    let question = Question { code: Some(code.into()), at: NOON, wrong: 0, again: false };
    let device = DeviceName::parse(device.as_bytes()).ok()?;
    enrolment::edit(&device, &format!("{kind} {address}"), &Standing::Asked(question))
}

impl Proxy {
    /// A client has just connected.
    pub fn new(setup: Setup, seed: u64) -> Self {
        let (now, store) = (Instant::now(), Memory::default());
        let kept = Change::Entries { edits: setup.asked.clone(), quota: Quota::NONE };
        at_once(store.save(&whose(), &kept)).expect("the store of a test takes all");
        Self::beginning(setup, seed, Arc::new(store), now, now)
    }

    /// A client has connected to one that begins with what is kept here, at this moment of a scene that began then.
    fn beginning(setup: Setup, seed: u64, store: Arc<dyn Store>, since: Instant, now: Instant) -> Self {
        let mut proxy = Self {
            session: Session::new(Arc::new(setup.front()), setup.tls, seed, now),
            out: Effects { followed: setup.followed, ..Effects::default() },
            setup,
            seed,
            since,
            now,
            peers: [Peer::default(), Peer::default()],
            dialling: None,
            ended: None,
            authenticated: false,
            refused: 0,
            store,
            published: Vec::new(),
            looks: 0,
            shadows: Arc::default(),
            shared: None,
            surveyed: None,
            seen: None,
            events: Vec::new(),
            devices: Vec::new(),
            learned: None,
            requests: VecDeque::new(),
            errands: VecDeque::new(),
            errands_of: Vec::new(),
        };
        proxy.tell(Input::Opened);
        proxy.pump();
        proxy
    }

    /// This side stops reading, or goes on.
    pub fn stall(&mut self, side: Side, stalled: bool) {
        self.peers[index(side)].stalled = stalled;
        self.pump();
    }

    /// Octets that the shell holds for a side which does not read.
    pub fn unsent(&self, side: Side) -> usize {
        self.peers[index(side)].unsent.len()
    }

    /// Octets that the session has seen and not taken.
    pub fn untaken(&self, side: Side) -> usize {
        self.peers[index(side)].seen
    }

    /// Why the session ended, if it did.
    pub fn ended(&self) -> Option<Why> {
        self.ended
    }

    /// Whether the client is in IDLE.
    pub fn is_idle(&self) -> bool {
        self.session.is_idle()
    }

    /// Whether somebody follows events.
    pub fn is_followed(&self) -> bool {
        self.setup.followed
    }

    /// Somebody follows events, or nobody does any more.
    pub fn follow(&mut self, followed: bool) {
        self.setup.followed = followed;
        self.out.followed = followed;
        self.tell(Input::Wake);
        self.pump();
    }

    /// Octets of a literal that are still to be carried from this side.
    pub fn carrying(&self, side: Side) -> u64 {
        self.peers[index(side)].carrying.map_or(0, |(len, _)| len)
    }

    /// Carries so many octets of a literal without there being any: a message of a gibibyte as a counter.
    pub fn carry_unseen(&mut self, side: Side, len: u64) {
        let carrying = &mut self.peers[index(side)].carrying;
        if let Some((left, _)) = carrying {
            *left = left.saturating_sub(len);
        }
        self.finish_carrying(side);
        self.pump();
    }

    fn tell(&mut self, input: Input<'_>) {
        let now = self.now;
        self.session.handle(input, now, &mut self.out);
        self.apply(None, &[]);
    }

    /// Offers octets and carries literals until nobody can go on.
    fn pump(&mut self) {
        loop {
            if let (Err(why), true) = (self.setup.dial, self.dialling.is_some()) {
                self.dialling = None;
                self.tell(Input::Dialled(Err(why)));
            }
            if self.ended.is_some() {
                return;
            }
            self.ask_store();
            // Octets that were refused once are given again whatever the appetite: it speaks of new ones.
            let again = self.session.resume() && self.peers[index(Side::Client)].seen > 0;
            if again {
                let seen = self.peers[index(Side::Client)].seen;
                self.give(Side::Client, seen);
            } else if !self.offer(Side::Backend) && !self.offer(Side::Client) {
                return;
            }
        }
    }

    /// What the session wants of the store, one question after the other.
    fn ask_store(&mut self) {
        while let Some(Request { from, keeping }) = self.requests.pop_front() {
            let account = whose();
            let result = match &keeping {
                Keeping::Save(_) if self.setup.disk == Disk::Full => Err(StoreError::Unavailable("disk full".into())),
                _ if self.setup.disk == Disk::Gone => Err(StoreError::Unavailable("no disk".into())),
                Keeping::Save(change) => at_once(self.store.save(&account, change)).map(Kept::Saved),
                Keeping::Load(query) => at_once(self.store.load(&account, query)).map(Kept::Found),
            };
            let at = NOON + self.now.duration_since(self.since).as_secs() as i64;
            self.tell(Input::Kept(Box::new(Answer::new(from, at, result))));
        }
    }

    /// Whether something moved.
    fn offer(&mut self, side: Side) -> bool {
        let at = index(side);
        let unsent = self.setup.limits.unsent.0 as usize;
        if self.peers[at].arrived.is_empty() || self.peers[at ^ 1].unsent.len() >= unsent {
            return false;
        }
        if self.peers[at].carrying.is_some() {
            return self.carry(side);
        }
        let appetite = self.session.appetite();
        let wanted = if side == Side::Client { appetite.client } else { appetite.backend };
        if !wanted || self.peers[at].seen >= self.peers[at].arrived.len() {
            return false;
        }
        let offered = self.peers[at].arrived.len().min(self.peers[at].seen + READ);
        self.give(side, offered);
        true
    }

    /// Gives the session the first octets of what this side has sent.
    fn give(&mut self, side: Side, offered: usize) {
        let at = index(side);
        let octets = std::mem::take(&mut self.peers[at].arrived);
        let now = self.now;
        let took = self.session.handle(Input::Octets(side, &octets[..offered]), now, &mut self.out);
        assert!(took <= offered, "{side:?}: took {took} of {offered} octets");
        // What came behind an upgrade or on a connection that was given up is nobody's.
        if self.apply(Some(side), &octets[..offered]) {
            return;
        }
        let mut left = octets[took..].to_vec();
        left.append(&mut self.peers[at].arrived);
        self.peers[at].arrived = left;
        self.peers[at].seen = if self.peers[at].carrying.is_some() { 0 } else { offered - took };
    }

    fn carry(&mut self, side: Side) -> bool {
        let at = index(side);
        let Some((left, dropped)) = &mut self.peers[at].carrying else { return false };
        let dropped = *dropped;
        let len = usize::try_from(*left).unwrap_or(usize::MAX).min(self.peers[at].arrived.len()).min(READ);
        *left -= len as u64;
        let octets: Vec<u8> = self.peers[at].arrived.drain(..len).collect();
        self.peers[at].seen = 0;
        if !dropped {
            self.send(side.other(), &octets);
        }
        let now = self.now;
        self.session.heard(side, now);
        self.finish_carrying(side);
        true
    }

    fn finish_carrying(&mut self, side: Side) {
        let peer = &mut self.peers[index(side)];
        if peer.carrying.is_some_and(|(left, _)| left == 0) {
            peer.carrying = None;
            self.tell(Input::Carried(side));
        }
    }

    fn send(&mut self, to: Side, octets: &[u8]) {
        let peer = &mut self.peers[index(to)];
        assert!(peer.end.is_none(), "sent behind the end to {to:?}: {}", octets.escape_ascii());
        if !peer.gone {
            peer.unsent.extend_from_slice(octets);
        }
    }

    /// Carries the effects out, in order. `from` and `input` are what was just given; whether it is void now.
    fn apply(&mut self, from: Option<Side>, input: &[u8]) -> bool {
        let mut void = false;
        let mut effects = std::mem::take(&mut self.out);
        self.out.followed = self.setup.followed;
        self.looks += effects.looks;
        let text = std::mem::take(&mut effects.text);
        for effect in effects.list.drain(..) {
            match effect {
                Effect::Pass { from: side, start, len } => {
                    assert_eq!(from, Some(side), "a span of what was not given");
                    self.send(side.other(), &input[start..start + len]);
                }
                Effect::Put(side, range) => self.send(side, &text[range]),
                Effect::Connect { from, len } => self.begin_to_carry(from, len, false),
                Effect::Discard { from, len } => self.begin_to_carry(from, len, true),
                Effect::Dial(dial) => {
                    if let (true, Some(why)) = (dial.again, self.setup.dial_again) {
                        self.setup.dial = Err(why);
                    }
                    self.dialling = Some(dial.user.unwrap_or_default());
                }
                Effect::Reconnect(_) => {}
                Effect::Upgrade(side, upgrade) => {
                    if upgrade == Upgrade::Deflate {
                        self.send(side, DEFLATE_BEGINS);
                    }
                    self.peers[index(side)].upgrades += 1;
                    self.forget(side);
                    void |= from == Some(side);
                    let now = self.now;
                    self.session.handle(Input::Upgraded(side), now, &mut self.out);
                }
                Effect::Authenticated { user, acting, .. } => {
                    self.authenticated = true;
                    let admin = acting.as_ref().and(user.as_ref()).map(|admin| format!(" admin={admin}"));
                    let user = acting.or(user).unwrap_or_default();
                    self.publish(|| format!("Login {user}{}", admin.unwrap_or_default()));
                }
                Effect::Event(mut event) => {
                    self.shadows.did(&Arc::new(whose()), &mut event, self.now);
                    self.publish(|| events::written(&event));
                }
                Effect::Seen(sighting) => self.seen(*sighting),
                Effect::Found(finding) => self.found(*finding),
                Effect::Refused { .. } => self.refused += 1,
                Effect::Aside(sent) => {
                    self.errands_of.push(sent.from);
                    self.errands.push_back(*sent);
                }
                Effect::Recall(from) => self.errands_of.retain(|waits| *waits != from),
                Effect::Keep(request) => self.requests.push_back(*request),
                Effect::Publish(what) => self.published.push(*what),
                Effect::Bind(device) => self.devices.push(*device),
                Effect::Learned(look) => self.learned = Some(look),
                // Nobody here wants it.
                Effect::Leave { .. } | Effect::Shown(..) => {}
                Effect::HangUp => {
                    void |= from == Some(Side::Backend);
                    self.peers[index(Side::Backend)] = Peer::default();
                }
                Effect::End { why, clean } => {
                    self.ended = Some(why);
                    if self.authenticated {
                        self.publish(|| format!("Logout {:?}", why.manner()).to_lowercase().replacen('l', "L", 1));
                    }
                    let end = if clean { End::Clean } else { End::Cut };
                    self.peers[index(Side::Client)].end = Some(end);
                    self.peers[index(Side::Backend)].end = Some(End::Clean);
                }
            }
        }
        if !self.out.list.is_empty() {
            self.apply(None, &[]);
        }
        void
    }

    /// What is seen of the mailbox: what of it is news is an event.
    fn seen(&mut self, sighting: Sighting) {
        let Sighting { mailbox, own, sight } = sighting;
        match (&sight, &mut self.seen) {
            (Sight::Whole(shadow), seen) => *seen = Some((mailbox.clone(), shadow.clone())),
            (Sight::Changes(changes), Some((_, shadow))) => changes.iter().for_each(|change| shadow.change(change)),
            (Sight::Changes(_), None) => panic!("a change of what was never seen"),
        }
        let held = self.shared.take().filter(|shared| shared.is_of(&mailbox));
        let shared = held.unwrap_or_else(|| self.shadows.hold(&Arc::new(whose()), &mailbox));
        for event in shared.see(sight, self.setup.account.events.messages, &somebody()) {
            let seen = if own { "" } else { " seen" };
            self.publish(|| events::written(&event) + seen);
        }
        self.shared = Some(shared);
    }

    /// What is found out about the account: likewise.
    fn found(&mut self, finding: Finding) {
        let own = finding.own;
        let surveyed = self.surveyed.get_or_insert_with(|| self.shadows.survey(&Arc::new(whose())));
        for event in self.shadows.found(surveyed, finding, &somebody()) {
            let seen = if own { "" } else { " seen" };
            self.publish(|| events::written(&event) + seen);
        }
    }

    /// An event, if somebody follows.
    fn publish(&mut self, event: impl FnOnce() -> String) {
        if self.setup.followed {
            self.events.push(event());
        }
    }

    fn begin_to_carry(&mut self, side: Side, len: u64, dropped: bool) {
        let peer = &mut self.peers[index(side)];
        assert!(peer.carrying.is_none(), "{side:?}: a literal inside a literal");
        peer.carrying = Some((len, dropped));
        peer.seen = 0;
        if len == 0 {
            self.finish_carrying(side);
        }
    }

    /// What came in clear and was not taken.
    fn forget(&mut self, side: Side) {
        let peer = &mut self.peers[index(side)];
        peer.arrived.clear();
        peer.seen = 0;
    }
}

impl Between for Proxy {
    fn hear(&mut self, from: Side, octets: &[u8]) {
        if self.ended.is_some() || self.peers[index(from)].gone {
            return;
        }
        self.peers[index(from)].arrived.extend_from_slice(octets);
        self.pump();
    }

    fn gone(&mut self, side: Side) {
        if self.ended.is_some() || self.peers[index(side)].gone {
            return;
        }
        self.peers[index(side)].gone = true;
        self.tell(Input::Gone(side));
        self.pump();
    }

    fn pass_time(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.session.deadline().filter(|due| *due <= end && self.ended.is_none()) {
            let stuck = due <= self.now;
            self.now = due.max(self.now);
            self.tell(Input::Wake);
            self.pump();
            if stuck && self.session.deadline().is_some_and(|next| next <= self.now) {
                // A deadline that does not move is a loop that burns the CPU; one repetition is a coincidence.
                assert!(self.ended.is_some(), "a deadline in the past, again");
            }
        }
        self.now = end;
    }

    fn until_due(&self) -> Option<Duration> {
        let due = self.session.deadline().filter(|_| self.ended.is_none())?;
        Some(due.saturating_duration_since(self.now).max(Duration::from_millis(1)))
    }

    fn drain(&mut self) {
        if self.ended.is_none() {
            self.tell(Input::Drain);
            self.pump();
        }
    }

    fn kill(&mut self) {
        let (setup, seed, store) = (self.setup.clone(), self.seed.wrapping_add(1), Arc::clone(&self.store));
        *self = Self::beginning(setup, seed, store, self.since, self.now);
    }

    fn store_becomes(&mut self, store: Disk) {
        self.setup.disk = store;
    }

    fn noticed(&mut self, notice: &Notice) {
        self.tell(Input::Noticed(notice));
        self.pump();
    }

    fn seen(&self) -> Option<(&[u8], &Shadow)> {
        self.seen.as_ref().map(|(mailbox, shadow)| (&**mailbox, shadow))
    }

    fn take_events(&mut self) -> Option<Vec<String>> {
        Some(std::mem::take(&mut self.events))
    }

    fn take_published(&mut self) -> Option<Vec<Notice>> {
        Some(std::mem::take(&mut self.published))
    }

    fn take_sent(&mut self, to: Side) -> Vec<u8> {
        let peer = &mut self.peers[index(to)];
        if peer.stalled {
            return Vec::new();
        }
        let sent = std::mem::take(&mut peer.unsent);
        if !sent.is_empty() {
            self.pump();
        }
        sent
    }

    fn wants_backend(&self) -> bool {
        self.dialling.is_some() && self.setup.dial.is_ok()
    }

    fn connected(&mut self) {
        let user = self.dialling.take().unwrap_or_default();
        self.peers[index(Side::Backend)] = Peer::default();
        let origin = self.setup.trusted.then(|| Origin {
            ip: "192.0.2.7".into(),
            port: 50_000,
            connected_ip: "198.51.100.1".into(),
            session_id: "7f3a".into(),
        });
        let dialled = Dialled {
            backend: "main".into(),
            user,
            starttls: self.setup.backend_starttls,
            origin,
            profile: self.setup.profile,
            look: self.learned,
            pace: Pace::default(),
            auxiliary: self.setup.auxiliary,
        };
        self.tell(Input::Dialled(Ok(Box::new(dialled))));
        self.pump();
    }

    fn take_errand(&mut self) -> Option<(Sent, Dialled)> {
        let sent = self.errands.pop_front()?;
        let (backend, user, profile) = ("main".into(), "joe".into(), self.setup.profile);
        let (origin, look, pace) = (None, None, Pace::default());
        Some((sent, Dialled { backend, user, starttls: false, origin, profile, look, pace, auxiliary: true }))
    }

    fn waits_for(&self, errand: (u8, Ask)) -> bool {
        self.ended.is_none() && self.errands_of.contains(&errand)
    }

    fn told(&mut self, told: Told) {
        self.errands_of.retain(|waits| *waits != told.to);
        if self.ended.is_none() {
            self.tell(Input::Told(Box::new(told)));
            self.pump();
        }
    }

    fn end(&self, side: Side) -> Option<End> {
        self.peers[index(side)].end
    }

    fn held(&self) -> usize {
        // What arrived and was not offered yet is in the kernel's hands, where a real shell reads it from.
        self.peers.iter().map(|peer| peer.seen + peer.unsent.len()).sum()
    }

    fn backlog(&self) -> usize {
        self.peers[index(Side::Client)].arrived.len()
    }

    fn upgrades(&self, side: Side) -> usize {
        self.peers[index(side)].upgrades
    }
}
