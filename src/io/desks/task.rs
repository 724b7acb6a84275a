//! The task of an account that is looked after: one thing after the other, and what has changed is on the disk before anything leaves.
//!
//!     orders, a look, what a carrier has brought, the time     ->  desk and watch  ->  save  ->  carry, look
//!
//! Who drives decides nothing about notices ([`Desk`]) and mailboxes ([`Watch`]); it finds the way to the backend, and says how it stands.
//! Requirements N3, N9, N16.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::Instant,
};

use super::{
    Order, Signals, View,
    keys::{Keys, Opener},
};
use crate::{
    account::{
        channel::Kind,
        enrolment,
        presence::{End, Sign},
        registration, watching,
    },
    imap::entry::EntryName,
    io::{
        backends::Rewriting,
        events,
        line::Line,
        metrics::{Channel, Held, Peer, WatchMode, Watching},
        registry::SessionId,
        senders::{self, RENEWAL},
        shell::Shell,
    },
    mailbox::{news::News, status::Status},
    outband::{
        channel::{self, Answer, Given},
        desk::{Bar, Carriage, Desk, Moment},
        route::{marks, ring::Ring},
        subscription::{self, Wanted},
    },
    session::{
        aside::{Examined, Outcome},
        effect::{self, Annotated, Keeping, Kept, Notice},
        key::Key,
    },
    store::{
        AccountName, Change, DeviceName, Edit, Entry, Found, Key as EntryKey, Looked, Memo, Owner, Query, Quota, Turn,
        Way,
    },
    watch::{Next, Pace, Watch, Wish, cursor::Cursor},
};

/// An account that is looked after.
pub(super) struct Task {
    shell: Arc<Shell>,
    account: Arc<AccountName>,
    desk: Desk,
    watch: Watch,
    /// How far mailboxes were looked at, as it is stored.
    known: BTreeMap<Box<[u8]>, Cursor>,
    /// What of that is to be stored.
    looked: Vec<Looked>,
    /// Entries that are to be stored with it: what is known of addresses that are none any more, what a device has missed.
    over: Vec<Edit>,
    /// How to log in.
    keys: Keys,
    /// Sessions that are there.
    sessions: BTreeMap<SessionId, Session>,
    /// So the user calls himself, and whether that is stored.
    name: Option<Arc<str>>,
    is_named: bool,
    /// A connection with nothing to do, and what has opened it; none: a client has left it.
    line: Option<Line>,
    opened_by: Option<(Arc<Key>, Opener)>,
    signals: Arc<Signals>,
    /// It has answered.
    proven: bool,
    looking: Option<Looking>,
    /// Ends a listening that has something better to do.
    enough: Arc<Notify>,
    /// When a connection may be tried.
    from: Instant,
    /// How long behind the next failure.
    pause: Duration,
    /// Without a session, the connection is kept until then.
    until: Option<Instant>,
    /// Since when nobody but sessions can look, and those only into what they have selected.
    dim: Option<Instant>,
    /// Those that are away were told that nobody can look any more.
    blind: bool,
    carries: JoinSet<Carried>,
    watching: Option<((WatchMode, Watching), Held)>,
    /// What devices read of how it stands.
    statuses: BTreeMap<DeviceName, String>,
    waiting: Vec<Held>,
    barred: Vec<(Bar, Held)>,
}

/// A session.
struct Session {
    device: DeviceName,
    /// The mailbox that it has shown last.
    shown: Option<Box<[u8]>>,
}

/// The connection, if it is there, what came of an errand, and whether the backend has let us in.
type Looking = Pin<Box<dyn Future<Output = (Option<Line>, Outcome, bool)> + Send>>;

/// What has become of a notice: of which route, its number, since when there was something to tell, and over which channel.
type Carried = (Way, u64, Duration, Kind, Answer);

/// So long sessions have to say that they are there, before somebody is told that nobody can look.
pub(super) const MOMENT: Duration = Duration::from_secs(1);

/// So long behind the start nothing is sent while it is asked what messages say of which that is to be told.
const LATEST: Duration = Duration::from_secs(10);

/// Looks that an IDLE spares: one at a backend that has gone silent ends when as many are due.
const IDLE: u32 = 3;

/// Between two attempts to connect; each is longer or shorter by up to a half, so that not all accounts of a backend come at once.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// So long sessions of which none can be logged in to once more are enough, whatever they show.
const DIM: Duration = Duration::from_secs(300);

/// Under which name it is stored how the user calls himself.
const NAME: &str = "name";

/// A backend before which the pause has become so long does not answer.
const SILENT: Duration = Duration::from_secs(30);

impl Task {
    /// With what is stored of the account; none: nothing is, and nobody wants to hear of anything.
    pub(super) async fn new(
        shell: &Arc<Shell>,
        account: &Arc<AccountName>,
        signals: Arc<Signals>,
        delay: Duration,
    ) -> Option<Self> {
        let setup = shell.setup.load();
        let config = &setup.config.outband;
        let pace = Pace { every: config.every.0, idle: (IDLE * config.every.0).min(RENEWAL) };
        let desk = Desk::new(&account.user, Arc::clone(&setup.senders.rules), Arc::clone(&setup.senders.channels));
        let mut task = Self {
            shell: Arc::clone(shell),
            account: Arc::clone(account),
            desk,
            watch: Watch::new(pace),
            known: BTreeMap::new(),
            looked: Vec::new(),
            over: Vec::new(),
            keys: Keys::default(),
            sessions: BTreeMap::new(),
            name: None,
            is_named: true,
            line: None,
            opened_by: None,
            signals,
            proven: false,
            looking: None,
            enough: Arc::default(),
            from: Instant::now() + delay.max(MOMENT),
            pause: PAUSES.0,
            until: None,
            dim: None,
            blind: false,
            carries: JoinSet::new(),
            watching: None,
            statuses: BTreeMap::new(),
            waiting: Vec::new(),
            barred: Vec::new(),
        };
        let turn = shell.desks.reads.acquire().await;
        task.restore().await;
        task.provision().await;
        drop(turn);
        task.desk
            .unknown()
            .iter()
            .for_each(|(mailbox, uidvalidity, uid)| task.watch.fetch(mailbox, *uidvalidity, *uid));
        if !task.desk.is_subscribed() {
            task.tell_status(false).await;
        }
        task.save().await;
        (task.desk.is_subscribed() || !task.desk.views(moment()).is_empty()).then_some(task)
    }

    pub(super) async fn work(&mut self, orders: &mut mpsc::Receiver<Order>) {
        let (begins, latest) = (Instant::now() + MOMENT, Instant::now() + LATEST);
        loop {
            self.save().await;
            if self.signals.missed.swap(false, Relaxed) {
                self.catch_up(orders).await;
                continue;
            }
            // Before that, sessions may not have said that they are there, and what messages say may not be known again.
            let begins = if self.watch.fetches() { latest } else { begins };
            let may_carry = Instant::now() >= begins;
            if may_carry {
                self.carry(orders).await;
                if self.signals.missed.load(Relaxed) {
                    continue;
                }
            }
            if !self.desk.is_subscribed() && self.carries.is_empty() {
                self.tell_status(false).await;
                self.save().await;
                return self.close().await;
            }
            let rest = self.look();
            let is_wanted = self.line.is_none() && self.looking.is_none() && self.lingers() && self.key().is_none();
            self.signals.wants_line.store(is_wanted, Relaxed);
            self.desk.look_after(!self.blind, moment());
            self.count();
            self.tell_status(true).await;
            let due = self.desk.next_at(moment()).map(instant).map(|due| if may_carry { due } else { due.max(begins) });
            let wake = [due, rest].into_iter().flatten().min();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.take(order).await,
                    None => return self.end().await,
                },
                Some(carried) = self.carries.join_next() => self.settle(carried),
                (line, outcome, was_in) = looked(&mut self.looking), if self.looking.is_some() => self.told(line, outcome, was_in),
                () = sleep(wake) => self.desk.advance(moment()),
            }
        }
    }

    /// More has happened than there was room for: it is asked anew which sessions are there, what is wanted, and what is new.
    async fn catch_up(&mut self, orders: &mut mpsc::Receiver<Order>) {
        tracing::warn!(backend = %self.account.backend, "more has happened to an account than its desk could take: it asks anew");
        self.hear(orders).await;
        self.sessions.clear();
        self.keys.all_went();
        self.desk.lose_sight(moment());
        let (now, linger) = (Instant::now(), self.shell.setup.load().config.outband.linger.0);
        (self.from, self.until) = (self.from.max(now + MOMENT), self.until.or(Some(now + linger)));
        self.provision().await;
        self.watch.stir_all();
        self.shell.registry.attend(&self.account);
    }

    /// What an earlier process has stored.
    async fn restore(&mut self) {
        let Found::Outband(found) = self.load(Query::Outband).await else { return };
        let unreadable = self.desk.restore(found.routes, &found.memos, moment());
        let senders = Arc::clone(&self.shell.setup.load().senders);
        self.keys.restore(&found.memos, &self.account, senders.seal.as_ref());
        let name = found.memos.iter().find(|memo| *memo.name == *NAME).and_then(|memo| memo.state.as_deref());
        self.name = name.map(Into::into);
        let count = found.looked.len();
        self.known = cursors(found.looked);
        if unreadable + count - self.known.len() > 0 {
            tracing::error!(backend = %self.account.backend, unreadable, "rows of the outband side cannot be read: they begin anew");
        }
    }

    /// So the devices want to be told now.
    async fn provision(&mut self) {
        let Found::Entries(entries) = self.load(Query::Entries).await else { return };
        let offered = Arc::clone(&self.shell.setup.load().config.account);
        self.statuses = statuses(&entries);
        let senders = Arc::clone(&self.shell.setup.load().senders);
        self.keys.want(watching::wants_sealed(&entries), &self.account, senders.seal.as_ref());
        let now = moment();
        let seconds = i64::try_from(now.time.as_secs()).unwrap_or(i64::MAX);
        let subscriptions = subscription::subscriptions(&entries, &offered.outband, seconds);
        self.desk.subscribe(subscriptions, &subscription::devices(&entries), now);
        self.over.extend(enrolment::left_over(&entries));
        self.over.extend(registration::discarded(&entries, seconds));
        let wishes = self.desk.wishes().into_iter();
        let wish = |Wanted { programs, heads }| Wish { programs, heads };
        let wishes: BTreeMap<_, _> = wishes.map(|(mailbox, wanted)| (mailbox, wish(wanted))).collect();
        // A mailbox that was renamed is known by its new name in the store.
        if wishes.keys().any(|mailbox| !self.known.contains_key(mailbox))
            && let Found::Outband(found) = self.load(Query::Outband).await
        {
            let new = cursors(found.looked).into_iter().filter(|(mailbox, _)| wishes.contains_key(mailbox));
            new.for_each(|(mailbox, cursor)| _ = self.known.entry(mailbox).or_insert(cursor));
        }
        let over: Vec<_> = self.known.keys().filter(|mailbox| !wishes.contains_key(*mailbox)).cloned().collect();
        for mailbox in over {
            self.known.remove(&mailbox);
            self.looked.push((mailbox, None));
        }
        self.watch.look_after(wishes, &self.known);
        self.enough.notify_one();
    }

    /// Asks the store until it answers: without it nothing can be decided.
    async fn load(&mut self, query: Query) -> Found {
        let keeping = Keeping::Load(query);
        let mut pause = PAUSES.0;
        loop {
            match self.shell.keeper.ask(&self.account, &keeping).await {
                Ok(Kept::Found(found)) => return found,
                _ => tokio::time::sleep(pause).await,
            }
            pause = (2 * pause).min(PAUSES.1);
        }
    }

    /// What has changed is on the disk behind this: until it is, nothing else happens.
    async fn save(&mut self) {
        let mut memos = Vec::new();
        for (memo, what) in self.keys.take_turns() {
            self.desk.remember(what, moment());
            memos.push(memo);
        }
        if !std::mem::replace(&mut self.is_named, true) {
            memos.push(Memo { name: NAME.into(), state: self.name.as_deref().map(Into::into) });
        }
        let mut turn = self.desk.take_turn();
        turn.looked = std::mem::take(&mut self.looked);
        turn.memos.append(&mut memos);
        turn.entries.append(&mut self.over);
        if turn == Turn::default() {
            return;
        }
        let keeping = Keeping::Save(Change::Turn(turn));
        let mut pause = Duration::from_millis(500);
        // Counted and said where it fails.
        while self.shell.keeper.ask(&self.account, &keeping).await.is_err() {
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(Duration::from_secs(30));
        }
    }

    /// What waits is heard: saving may have taken long.
    async fn hear(&mut self, orders: &mut mpsc::Receiver<Order>) {
        while let Ok(order) = orders.try_recv() {
            self.take(order).await;
        }
    }

    /// Lets go what is due, to devices of which nobody has said meanwhile that they are there.
    async fn carry(&mut self, orders: &mut mpsc::Receiver<Order>) {
        let mut chance = [0; 64];
        loop {
            self.hear(orders).await;
            // The system's random numbers do not end.
            let _ = aws_lc_rs::rand::fill(&mut chance);
            let now = moment();
            let claimed = self.desk.claim(&Given { now: now.time, chance }, now);
            self.save().await;
            let Some(Carriage { way, kind, seq, since, delivery }) = claimed else { return };
            self.hear(orders).await;
            let is_missed = self.signals.missed.load(Relaxed);
            match self.desk.recall(&way, seq, is_missed, moment()) {
                true if is_missed => return,
                true => continue,
                false => {}
            }
            let (shell, account) = (Arc::clone(&self.shell), Arc::clone(&self.account));
            self.carries.spawn(async move {
                let senders = Arc::clone(&shell.setup.load().senders);
                let carrying = tokio::spawn(async move { senders.carry(&delivery).await });
                // A carrier that breaks has brought nothing.
                let broken = |_| senders::Carried { answer: Answer::Unreachable, receipt: None };
                let senders::Carried { answer, receipt } = carrying.await.unwrap_or_else(broken);
                if let Some(receipt) = receipt {
                    tokio::spawn(await_receipt(shell, account, way.clone(), seq, receipt));
                }
                (way, seq, since, kind, answer)
            });
        }
    }

    fn settle(&mut self, carried: Result<Carried, JoinError>) {
        // It breaks with its carrier only, and that is caught.
        let Ok((way, seq, since, kind, answer)) = carried else { return };
        let setup = self.shell.setup.load();
        let Some(channel) = setup.senders.channels.get(&kind) else { return };
        let outcome = channel.judge(&answer);
        let (now, label) = (moment(), Channel::from(kind));
        self.shell.meters.notices[(label, outcome.into())].increment(1);
        if matches!(outcome, channel::Outcome::Accepted | channel::Outcome::Delivered) {
            self.shell.meters.notice_latency[label].record(now.time.saturating_sub(since));
        }
        self.desk.settle(&way, seq, outcome, now);
    }

    async fn take(&mut self, order: Order) {
        let now = moment();
        match order {
            Order::Sign(session, device, sign) => {
                if matches!(sign, Sign::Unacknowledged(Some(_))) {
                    self.shell.meters.silent_deaths[Peer::Client].increment(1);
                }
                self.sign(session, device, sign, now).await;
            }
            Order::Happened(device, event) => self.desk.happened_by(&device, &event, now),
            Order::Key(session, key) => {
                let senders = Arc::clone(&self.shell.setup.load().senders);
                self.keys.came(session, key, &self.account, senders.seal.as_ref());
                (self.from, self.pause) = (self.from.min(Instant::now()), PAUSES.0);
            }
            Order::Named(name) => {
                self.is_named &= self.name.as_ref() == Some(&name);
                self.name = Some(name);
            }
            Order::Left(line) if self.line.is_none() && self.looking.is_none() => {
                self.watch.may_listen(line.idles(), line.notifies());
                self.watch.lost(true, now.time);
                (self.line, self.opened_by, self.proven) = (Some(*line), None, true);
                (self.blind, self.dim, self.pause) = (false, None, PAUSES.0);
            }
            Order::Left(line) => line.close().await,
            Order::Stirred(session, mailbox, uidvalidity, next) => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.shown = Some(mailbox.clone());
                }
                self.stirred(&mailbox, uidvalidity, next, now);
            }
            Order::Shown(device, mailbox, uidvalidity, uidnext) => {
                if let Some(uidvalidity) = uidvalidity {
                    self.watch.begin_at(&mailbox, Cursor { uidvalidity, next: uidnext });
                    self.looked_at(&mailbox);
                }
                let shown =
                    marks::Shown { mailbox: &mailbox, uidvalidity, uidnext: Some(uidnext), ..marks::Shown::default() };
                self.desk.shown(&device, shown, now);
            }
            Order::Receipt(way, seq, receipt) => self.desk.receipt(&way, seq, receipt, now),
            Order::Provisioned => self.provision().await,
            // Who has asked may have gone.
            Order::Operator(device, what, say) => _ = say.send(self.desk.order(&device, what, now)),
            Order::View(say) => {
                let _ = say.send(View { routes: self.desk.views(now), watching: self.watching() });
            }
        }
    }

    async fn sign(&mut self, session: SessionId, device: DeviceName, sign: Sign, now: Moment) {
        let mut came = false;
        match sign {
            Sign::Goes(_) => {
                self.keys.went(session);
                self.sessions.remove(&session);
            }
            _ => {
                // It said of itself that it is another device.
                let known = self.sessions.entry(session);
                let known = known.or_insert_with(|| Session { device: device.clone(), shown: None });
                let before = std::mem::replace(&mut known.device, device.clone());
                if before != device {
                    self.desk.sign(&before, session.number(), Sign::Goes(End::Logout), now);
                    came |= self.desk.sign(&device, session.number(), Sign::Comes, now);
                }
            }
        }
        came |= self.desk.sign(&device, session.number(), sign, now);
        if came {
            self.welcome(&device, now).await;
        }
        let linger = self.shell.setup.load().config.outband.linger.0;
        self.until = self.sessions.is_empty().then(|| self.until.unwrap_or_else(|| Instant::now() + linger));
    }

    /// A session sees what comes. Where nobody else can look, that is all there is.
    fn stirred(&mut self, mailbox: &[u8], uidvalidity: Option<u32>, next: u32, now: Moment) {
        let can_look = self.line.is_some() || self.looking.is_some() || self.key().is_some();
        if !can_look && self.is_all_shown() {
            (self.blind, self.dim) = (false, None);
        }
        match uidvalidity {
            Some(uidvalidity) if !can_look => match self.watch.seen(mailbox, Cursor { uidvalidity, next }) {
                Some(news) => self.tell(&news, now),
                None => self.looked_at(mailbox),
            },
            _ if self.watch.cursor(mailbox).is_some_and(|cursor| cursor.next < next) => {
                self.watch.stir(mailbox);
                self.enough.notify_one();
            }
            _ => {}
        }
    }

    /// A device is back: what its user is to be told, and what he will not find by himself.
    async fn welcome(&mut self, device: &DeviceName, now: Moment) {
        for text in self.desk.alerts(device) {
            self.shell.registry.publish(&self.account, None, Notice::Alert(device.clone(), text.into()));
        }
        let missed = self.desk.missed(device, now);
        let Ok(name) = EntryName::parse(watching::MISSED.as_bytes()) else { return };
        if missed == Ring::default() {
            return;
        }
        let Found::Entries(entries) = self.load(Query::Mailbox(Box::default())).await else { return };
        let key = EntryKey { mailbox: Box::default(), owner: Owner::Device(device.clone()), name };
        let before = entries.into_iter().find(|entry| entry.key == key).map(|entry| entry.value).unwrap_or_default();
        let what = Annotated { mailbox: Box::default(), owner: key.owner.clone(), entries: vec![key.name.clone()] };
        // With the ring that is empty by it, or not at all.
        self.over.push((key, Some(missed.write(&before).into_bytes().into())));
        self.save().await;
        self.shell.registry.publish(&self.account, None, Notice::Annotated(what));
    }

    /// Begins the next look, if there is one to begin; when there may be another one, if nothing happens.
    fn look(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let is_over = self.leaves_at().is_some_and(|until| until <= now);
        match () {
            () if self.looking.is_some() && !is_over => return self.leaves_at(),
            () if self.looking.is_some() => {
                self.enough.notify_one();
                return None;
            }
            () if is_over => (self.line, self.proven) = (None, false),
            () => {}
        }
        let Some(line) = self.line.take() else { return self.connect(is_over, now) };
        let time = moment().time;
        let (errand, longest) = match self.watch.next(time) {
            Next::Run(errand) => (errand, RENEWAL),
            Next::Listen(errand, until) => (errand, until.saturating_sub(time).min(RENEWAL)),
            Next::Rest(at) => {
                self.line = Some(line);
                return [at.map(instant), self.leaves_at()].into_iter().flatten().min();
            }
        };
        let (enough, shell) = (Arc::clone(&self.enough), Arc::clone(&self.shell));
        self.looking = Some(Box::pin(async move {
            let mut line = line;
            let outcome = line.converse(errand, longest, enough.notified()).await.unwrap_or_else(|error| {
                if error.kind() == io::ErrorKind::TimedOut {
                    shell.meters.silent_deaths[Peer::Backend].increment(1);
                }
                Outcome::Lost
            });
            let was_in = line.is_in();
            (Some(line).filter(Line::is_free), outcome, was_in)
        }));
        self.leaves_at()
    }

    /// When the connection is given up because no session has come back.
    fn leaves_at(&self) -> Option<Instant> {
        self.until.filter(|_| self.mode() == WatchMode::Linger)
    }

    /// The same where there is no connection.
    fn connect(&mut self, is_over: bool, now: Instant) -> Option<Instant> {
        if self.from > now {
            return Some(self.from);
        }
        match self.key().filter(|_| !is_over) {
            Some(_) if !self.is_backend_up() => {
                // Who probes it finds out when it is back; and then not all come at the same moment.
                self.from = now + around(2 * PAUSES.0);
                Some(self.from)
            }
            Some((key, opener)) => {
                self.opened_by = Some((Arc::clone(&key), opener));
                self.looking = Some(Box::pin(connect(Arc::clone(&self.shell), Arc::clone(&self.account), key)));
                self.leaves_at()
            }
            // While a session of it is there, it sees at least its own mailbox, and may leave its connection: for some time that is enough.
            None if self.lingers() && !self.sessions.is_empty() && !self.is_dim(now) => {
                self.dim.map(|dim| dim + DIM).filter(|until| *until > now)
            }
            None => {
                self.blind = true;
                None
            }
        }
    }

    /// Whether sessions have been all there is for so long, and do not show all mailboxes that are looked after.
    fn is_dim(&mut self, now: Instant) -> bool {
        *self.dim.get_or_insert(now) + DIM <= now && !self.is_all_shown()
    }

    fn is_all_shown(&self) -> bool {
        self.watch.mailboxes().all(|mailbox| self.sessions.values().any(|it| it.shown.as_deref() == Some(mailbox)))
    }

    /// What has come of it.
    fn told(&mut self, line: Option<Line>, outcome: Outcome, was_in: bool) {
        self.looking = None;
        let examined = line.as_ref().map(Line::examined).unwrap_or_default();
        self.line = line;
        self.proven = self.line.is_some() && (self.proven || matches!(outcome, Outcome::Done(..)));
        match (&self.line, &outcome) {
            (Some(_), Outcome::Busy) => {}
            (Some(_), Outcome::Done(..) | Outcome::Lost) => {
                (self.pause, self.blind, self.dim) = (PAUSES.0, false, None);
                let line = self.line.as_ref();
                self.watch.may_listen(line.is_some_and(Line::idles), line.is_some_and(Line::notifies));
                self.found(outcome, examined, moment());
            }
            _ => {
                self.from = Instant::now() + around(self.pause);
                self.pause = (2 * self.pause).min(PAUSES.1);
                if let (Outcome::Refused, Some((key, opener))) = (&outcome, &self.opened_by) {
                    if *opener == Opener::Master {
                        tracing::error!(backend = %self.account.backend, "the backend refuses outband.master for an account");
                    }
                    self.keys.refused(key, *opener);
                }
                self.watch.lost(was_in, moment().time);
            }
        }
    }

    fn found(&mut self, outcome: Outcome, examined: Examined, now: Moment) {
        if let Some(news) = self.watch.told(outcome, examined, now.time) {
            self.tell(&news, now);
        }
    }

    /// How far a mailbox was looked at is stored with the next turn.
    fn looked_at(&mut self, mailbox: &[u8]) {
        let Some(cursor) = self.watch.cursor(mailbox) else { return };
        if self.known.insert(mailbox.into(), cursor) != Some(cursor) {
            let row = serde_json::to_string(&cursor).unwrap_or_default();
            self.looked.push((mailbox.into(), Some(row.into())));
        }
    }

    /// So it stands in a mailbox.
    fn tell(&mut self, news: &News, now: Moment) {
        self.looked_at(&news.mailbox);
        let setup = self.shell.setup.load();
        let dialer = setup.dialers.get(&self.account.backend);
        // Where names are rewritten, nobody knows his own before he has signed in.
        let is_own = dialer.is_some_and(|dialer| dialer.settings.user == Rewriting::default());
        if let Some(user) = self.name.as_ref().or(is_own.then_some(&self.account.user)) {
            events::tell_found(&self.shell, &self.account, user, news);
        }
        if !news.arrived.is_empty() {
            // Sessions that are there are told sooner, or find out that nobody will tell them.
            let status = Status { messages: news.messages, ..Status::default() };
            let looked = effect::Looked { mailbox: news.mailbox.clone(), stirred: true, status: Some(status) };
            self.shell.registry.publish(&self.account, None, Notice::Looked(looked));
        }
        self.desk.found(news, now);
    }

    /// Whether sessions may be sent to the backend, as far as we know.
    fn is_backend_up(&self) -> bool {
        let setup = self.shell.setup.load();
        setup.dialers.get(&self.account.backend).is_none_or(|dialer| dialer.condition.load().is_up())
    }

    /// How to log in, if that is possible now; and whose secret it is.
    fn key(&self) -> Option<(Arc<Key>, Opener)> {
        let setup = self.shell.setup.load();
        self.keys.best(setup.config.outband.watch, || {
            let (name, password) = setup.senders.master.clone()?;
            let AccountName { backend, user } = &*self.account;
            Some(Key::master(Arc::clone(backend), user, name, password))
        })
    }

    fn lingers(&self) -> bool {
        self.shell.setup.load().config.outband.lingers()
    }

    fn mode(&self) -> WatchMode {
        self.keys.mode(self.shell.setup.load().config.outband.watch)
    }

    /// How it stands.
    fn watching(&self) -> (WatchMode, Watching) {
        let watching = match () {
            () if self.blind => Watching::Blind,
            () if self.proven && self.watch.is_settled() => Watching::Connected,
            () => Watching::Waiting,
        };
        (self.mode(), watching)
    }

    /// What others count.
    fn count(&mut self) {
        let watching = self.watching();
        if self.watching.as_ref().is_none_or(|(before, _)| *before != watching) {
            let meters = self.shell.meters.backend(&self.account.backend);
            self.watching = Some((watching, Held::new(&meters.watches[watching])));
        }
        let waiting: Vec<_> = self.desk.waiting(moment()).collect();
        self.waiting.resize_with(waiting.len(), || Held::new(&self.shell.meters.notices_waiting));
        let oldest = waiting.into_iter().min().unwrap_or_default();
        self.signals.oldest.store(oldest.as_secs(), Relaxed);
        let bars = self.desk.bars(moment());
        if !self.barred.iter().map(|(bar, _)| *bar).eq(bars.iter().copied()) {
            let held = |bar: Bar| (bar, Held::new(&self.shell.meters.notices_barred[bar.into()]));
            self.barred = bars.into_iter().map(held).collect();
        }
    }

    /// Writes down for the devices how it stands, where that has changed; where nobody looks after them any more, nothing.
    async fn tell_status(&mut self, looks: bool) {
        let (mode, watching) = self.watching();
        let how = match watching {
            _ if !looks => String::new(),
            // One of several mailboxes that cannot be opened takes nothing from the others.
            _ if self.proven => format!("watched ({})", mode.name()),
            Watching::Blind => "asleep: sign in to be told".to_owned(),
            _ if self.pause > SILENT => "waiting: the mail server does not answer".to_owned(),
            // It is soon known.
            _ => return,
        };
        let remarks = if looks { self.desk.remarks() } else { BTreeMap::new() };
        let line =
            |(device, remarks)| (device, [how.clone()].into_iter().chain(remarks).collect::<Vec<_>>().join("; "));
        let statuses: BTreeMap<_, _> = remarks.into_iter().map(line).collect();
        if statuses == self.statuses {
            return;
        }
        let Ok(name) = EntryName::parse(watching::STATUS.as_bytes()) else { return };
        let over = self.statuses.keys().filter(|device| !statuses.contains_key(*device)).map(|device| (device, None));
        let is_new = |(device, status): &(&DeviceName, &String)| self.statuses.get(*device) != Some(*status);
        let new = statuses.iter().filter(is_new).map(|(device, status)| (device, Some(status.as_bytes().into())));
        let key = |device: &DeviceName| EntryKey {
            mailbox: Box::default(),
            owner: Owner::Device(device.clone()),
            name: name.clone(),
        };
        let edits: Vec<Edit> = over.chain(new).map(|(device, status)| (key(device), status)).collect();
        // Where it fails it is told with the next change.
        write_entries(&self.shell, &self.account, edits).await;
        self.statuses = statuses;
    }

    /// The program ends: what is on its way has a moment.
    async fn end(&mut self) {
        let until = Instant::now() + PATIENCE;
        while let Ok(Some(carried)) = tokio::time::timeout_at(until, self.carries.join_next()).await {
            self.settle(carried);
        }
        self.save().await;
        self.close().await;
    }

    async fn close(&mut self) {
        if let Some(line) = self.line.take() {
            line.close().await;
        }
    }
}

/// How long the end of the program waits for answers of providers.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Longer than a process runs.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Tells the desk what the network says of a notice later.
async fn await_receipt(
    shell: Arc<Shell>,
    account: Arc<AccountName>,
    way: Way,
    seq: u64,
    receipt: oneshot::Receiver<channel::Receipt>,
) {
    if let Ok(receipt) = receipt.await {
        // An account that nobody looks after any more need not hear of it.
        let _ = shell.desks.tell(&account, Order::Receipt(way, seq, receipt));
    }
}

/// Connects. Whether we are let in is found out with the first errand.
async fn connect(shell: Arc<Shell>, account: Arc<AccountName>, key: Arc<Key>) -> (Option<Line>, Outcome, bool) {
    let connected = shell.dial_for(&account, Arc::clone(key.name())).await;
    let meters = shell.meters.backend(&account.backend);
    let counted = Held::new(&meters.auxiliary);
    let timeout = shell.setup.load().config.timeouts.backend.0;
    let line = connected.ok().and_then(|connected| Line::new(connected, &key, counted, timeout, meters));
    let outcome = if line.is_some() { Outcome::Busy } else { Outcome::Lost };
    (line, outcome, false)
}

/// Writes entries of devices, and tells their sessions. Where that cannot be done it is counted and said.
async fn write_entries(shell: &Shell, account: &AccountName, edits: Vec<Edit>) {
    let told: Vec<_> = edits.iter().map(|(key, _)| (key.owner.clone(), vec![key.name.clone()])).collect();
    let keeping = Keeping::Save(Change::Entries { edits, quota: Quota::NONE });
    if shell.keeper.ask(account, &keeping).await.is_ok() {
        for (owner, entries) in told {
            let what = Annotated { mailbox: Box::default(), owner, entries };
            shell.registry.publish(account, None, Notice::Annotated(what));
        }
    }
}

/// How far mailboxes were looked at, as far as that can be read.
fn cursors(looked: Vec<(Box<[u8]>, Box<str>)>) -> BTreeMap<Box<[u8]>, Cursor> {
    let read = |(mailbox, row): (Box<[u8]>, Box<str>)| Some((mailbox, serde_json::from_str(&row).ok()?));
    looked.into_iter().filter_map(read).collect()
}

/// What devices read of how it stands.
fn statuses(entries: &[Entry]) -> BTreeMap<DeviceName, String> {
    let status = |entry: &Entry| match &entry.key.owner {
        Owner::Device(device) if entry.key.name.as_str() == watching::STATUS => {
            Some((device.clone(), String::from_utf8_lossy(&entry.value).into_owned()))
        }
        _ => None,
    };
    entries.iter().filter_map(status).collect()
}

async fn looked(looking: &mut Option<Looking>) -> (Option<Line>, Outcome, bool) {
    match looking {
        Some(looking) => looking.await,
        None => std::future::pending().await,
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// So long, and by chance up to a half more or less.
fn around(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + f64::from(moment().chance % 1000) / 1000.0)
}

/// The time of day.
fn moment() -> Moment {
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Moment { time, chance: time.subsec_nanos() }
}

/// When that will be.
fn instant(time: Duration) -> Instant {
    Instant::now() + time.saturating_sub(moment().time).min(FOREVER)
}
