//! Who is connected, and how a session is reached from outside.
//!
//! Every connection has a [`Seat`] from accept to its end. The seat keeps the lists and the gauges true: whatever ends
//! the task drops it. A session is reached through its [`Inbox`], which it polls beside its sockets:
//!
//!     registry.kick(id)         ->  inbox.post(Notice::Kick)  ->  poll_take() is ready in the session's next turn
//!
//! An idle session pays for its entry all day, so the entry owns nothing but names that are interned elsewhere, and the
//! inbox allocates only while a notice waits (architecture 13.1, 13.6).

use std::{
    collections::BTreeMap,
    fmt, mem,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use dashmap::DashMap;
use serde::{Serialize, Serializer};

use crate::{
    io::{
        log,
        metrics::{Held, Meters, State, Way, Words as _},
    },
    session::effect,
    store::{AccountName, DeviceName},
};

/// Everybody who is connected.
///
/// No guard of the map leaves this file, so none is held across an `await` (architecture 12).
pub struct Registry {
    sessions: DashMap<SessionId, Arc<Entry>>,
    /// The sessions of each account that has some.
    accounts: DashMap<Arc<AccountName>, Vec<SessionId>>,
    meters: Arc<Meters>,
}

impl Registry {
    /// Nobody yet.
    pub fn new(meters: Arc<Meters>) -> Arc<Self> {
        Arc::new(Self { sessions: DashMap::new(), accounts: DashMap::new(), meters })
    }

    /// A client has connected from here, to the listener of this name.
    pub fn enter(self: &Arc<Self>, client: SocketAddr, listener: Arc<str>) -> Seat {
        let entry = Arc::new(Entry {
            id: SessionId::random(),
            client: SocketAddr::new(client.ip().to_canonical(), client.port()),
            listener,
            since: Instant::now(),
            state: AtomicU8::new(State::Login as u8),
            heard: AtomicU64::new(0),
            said: AtomicU64::new(0),
            names: Mutex::default(),
            inbox: Inbox::default(),
        });
        self.sessions.insert(entry.id, entry.clone());
        let counted = Held::new(&self.meters.sessions[State::Login]);
        Seat { entry, registry: self.clone(), counted, at_backend: None, account: None }
    }

    /// How many are connected.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// All who are connected at this moment, in no order.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.sessions.iter().map(|entry| entry.clone()).collect()
    }

    /// How many sessions are in which state; states without sessions are there with zero.
    pub fn by_state(&self) -> BTreeMap<&'static str, usize> {
        let mut counts: BTreeMap<_, _> = State::NAMES.iter().map(|name| (*name, 0)).collect();
        for entry in &self.sessions {
            *counts.entry(entry.state()).or_default() += 1;
        }
        counts
    }

    /// Tells every session of this user; says how many there were.
    pub fn tell(&self, user: &str, notice: Notice) -> usize {
        let mut reached = self.entries();
        reached.retain(|entry| entry.user().as_deref() == Some(user));
        reached.iter().for_each(|entry| entry.inbox.post(notice.clone()));
        reached.len()
    }

    /// Tells the sessions of an account what has happened in it, all but the one that did it.
    pub fn publish(&self, account: &AccountName, by: Option<SessionId>, what: effect::Notice) {
        self.post(account, by, &Notice::Account(Arc::new(what)));
    }

    /// The sessions of an account are to say who they are: there is a desk for it now.
    pub fn attend(&self, account: &AccountName) {
        self.post(account, None, &Notice::Attend);
    }

    fn post(&self, account: &AccountName, by: Option<SessionId>, notice: &Notice) {
        let sessions = self.accounts.get(account).map(|sessions| sessions.clone()).unwrap_or_default();
        for session in sessions.into_iter().filter(|session| Some(*session) != by) {
            if let Some(entry) = self.sessions.get(&session) {
                entry.inbox.post(notice.clone());
            }
        }
    }

    /// Ends a session; says whether there was one of this name.
    pub fn kick(&self, id: &str) -> bool {
        let entry = SessionId::parse(id).and_then(|id| self.sessions.get(&id));
        entry.inspect(|entry| entry.inbox.post(Notice::Kick)).is_some()
    }
}

/// The place of one connected client; dropped with its session.
pub struct Seat {
    entry: Arc<Entry>,
    registry: Arc<Registry>,
    counted: Held,
    at_backend: Option<Held>,
    account: Option<Arc<AccountName>>,
}

impl Seat {
    /// The name of the session.
    pub fn id(&self) -> SessionId {
        self.entry.id
    }

    /// What the session is told from outside.
    pub fn inbox(&self) -> &Inbox {
        &self.entry.inbox
    }

    /// The session as others see it.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Who wants to log in, and where.
    pub fn named(&self, user: Option<Arc<str>>, backend: Option<Arc<str>>) {
        *lock(&self.entry.names) = Names { user, backend, device: None };
    }

    /// Whose session it is, as the store names accounts. The name is kept once for all sessions of the account.
    pub fn joins(&mut self, account: AccountName) {
        let mut sessions = self.registry.accounts.entry(Arc::new(account)).or_default();
        sessions.push(self.entry.id);
        self.account = Some(Arc::clone(sessions.key()));
    }

    /// The account, from the moment the backend accepted the login.
    pub fn account(&self) -> Option<&Arc<AccountName>> {
        self.account.as_ref()
    }

    /// Tells the other sessions of the account.
    pub fn publish(&self, what: effect::Notice) {
        if let Some(account) = &self.account {
            self.registry.publish(account, Some(self.entry.id), what);
        }
    }

    /// To which device it belongs, as far as anything was said of one.
    pub fn device(&self) -> DeviceName {
        lock(&self.entry.names).device.clone().unwrap_or_default()
    }

    /// The session belongs to this device.
    pub fn bound(&self, device: DeviceName) {
        lock(&self.entry.names).device = Some(device);
    }

    /// The session does something else now.
    pub fn becomes(&mut self, state: State) {
        if self.entry.state.swap(state as u8, Relaxed) == state as u8 {
            return;
        }
        self.counted = Held::new(&self.registry.meters.sessions[state]);
        if self.at_backend.is_none() && state != State::Login {
            let backend = lock(&self.entry.names).backend.clone();
            self.at_backend = backend.map(|name| Held::new(&self.registry.meters.backend(&name).sessions));
        }
    }

    /// So many octets went this way: once a turn.
    pub fn moved(&self, way: Way, octets: u64) {
        self.registry.meters.octets[way].increment(octets);
        match way {
            Way::ClientSays => self.entry.heard.fetch_add(octets, Relaxed),
            Way::ClientHears => self.entry.said.fetch_add(octets, Relaxed),
            Way::BackendHears | Way::BackendSays => 0,
        };
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.sessions.remove(&self.entry.id);
        if let Some(account) = &self.account {
            self.registry.accounts.remove_if_mut(account, |_, sessions| {
                sessions.retain(|session| *session != self.entry.id);
                sessions.is_empty()
            });
        }
    }
}

/// One session as others see it.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub id: SessionId,
    /// The true address of the client.
    pub client: SocketAddr,
    /// The listener it came in by.
    pub listener: Arc<str>,
    /// When it connected.
    pub since: Instant,
    /// What it is told.
    pub inbox: Inbox,
    state: AtomicU8,
    heard: AtomicU64,
    said: AtomicU64,
    names: Mutex<Names>,
}

/// Who the session is, as far as that is known.
#[derive(Debug, Default)]
struct Names {
    user: Option<Arc<str>>,
    backend: Option<Arc<str>>,
    device: Option<DeviceName>,
}

impl Entry {
    /// The user, from the moment a name was given.
    pub fn user(&self) -> Option<Arc<str>> {
        lock(&self.names).user.clone()
    }

    /// The backend, from the moment it was chosen.
    pub fn backend(&self) -> Option<Arc<str>> {
        lock(&self.names).backend.clone()
    }

    /// What the session does, as the word for it in metrics and lists.
    pub fn state(&self) -> &'static str {
        State::NAMES[usize::from(self.state.load(Relaxed))]
    }

    /// Says a line of this level about this session, in its span. A span costs more than a line: it is made to be read.
    pub fn say(&self, level: tracing::Level, line: impl FnOnce()) {
        if level <= tracing::level_filters::LevelFilter::current() {
            log::session(self.id.as_str(), self.user().as_deref(), self.backend().as_deref()).in_scope(line);
        }
    }

    /// The session as a row of a list.
    pub fn row(&self) -> Row {
        Row {
            id: self.id,
            user: self.user().as_deref().map(str::to_owned),
            backend: self.backend().as_deref().map(str::to_owned),
            device: lock(&self.names).device.as_ref().map(ToString::to_string),
            client: self.client,
            listener: self.listener.to_string(),
            state: self.state(),
            age_seconds: self.since.elapsed().as_secs(),
            octets_from_client: self.heard.load(Relaxed),
            octets_to_client: self.said.load(Relaxed),
        }
    }
}

/// A session in the list an operator asks for.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names of the fields are the documentation of the list")]
pub struct Row {
    pub id: SessionId,
    pub user: Option<String>,
    pub backend: Option<String>,
    pub device: Option<String>,
    pub client: SocketAddr,
    pub listener: String,
    pub state: &'static str,
    pub age_seconds: u64,
    pub octets_from_client: u64,
    pub octets_to_client: u64,
}

/// The name of a session in logs, lists and `x-session-id`: 80 random bits, because whoever knows it can ask about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// 32 letters and digits, none of which looks like another.
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

    fn random() -> Self {
        let mut octets = [0; 16];
        aws_lc_rs::rand::fill(&mut octets).expect("the system's random numbers do not end");
        Self(octets.map(|octet| Self::ALPHABET[usize::from(octet % 32)]))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        text.as_bytes().try_into().ok().map(Self)
    }

    /// As a number, which tells the sessions of an account apart.
    pub fn number(&self) -> u64 {
        let [high, low] = [
            u64::from_be_bytes(self.0[..8].try_into().unwrap_or_default()),
            u64::from_be_bytes(self.0[8..].try_into().unwrap_or_default()),
        ];
        high ^ low.rotate_left(3)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a session is told from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The proxy shuts down: BYE at the next response boundary.
    Drain,
    /// An operator ends this session.
    Kick,
    /// Begin or end the wire trace. May come twice.
    Trace(bool),
    /// The account is looked after when its devices are away: say who is there.
    Attend,
    /// Something has happened elsewhere in the account.
    Account(Arc<effect::Notice>),
}

/// Notices on their way to a session: a mutex, a list, a waker.
///
/// Of each kind only the last one waits, and of changes so many: a client that reads nothing for long asks again anyway.
#[derive(Debug, Default)]
pub struct Inbox(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// Empty lists own no memory.
    notices: Vec<Notice>,
    waker: Option<Waker>,
}

impl Waiting {
    /// Changes that wait.
    const MOST: usize = 64;

    fn add(&mut self, notice: Notice) {
        match notice {
            Notice::Account(_) if self.notices.contains(&notice) || self.notices.len() >= Self::MOST => return,
            Notice::Account(_) => {}
            _ => self.notices.retain(|other| mem::discriminant(other) != mem::discriminant(&notice)),
        }
        self.notices.push(notice);
    }
}

impl Inbox {
    /// Puts a notice in and wakes the session.
    pub fn post(&self, notice: Notice) {
        let waker = {
            let mut waiting = lock(&self.0);
            waiting.add(notice);
            waiting.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The oldest notice, or a promise to wake the task when there is one.
    pub fn poll_take(&self, context: &mut Context<'_>) -> Poll<Notice> {
        let mut waiting = lock(&self.0);
        if waiting.notices.is_empty() {
            match &mut waiting.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        let notice = waiting.notices.remove(0);
        if waiting.notices.is_empty() {
            waiting.notices = Vec::new();
        }
        Poll::Ready(notice)
    }
}

/// What these locks guard is whole after every statement, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::Arc};

    use super::*;

    fn registry() -> Arc<Registry> {
        Registry::new(Arc::new(Meters::new()))
    }

    fn enter(registry: &Arc<Registry>, user: &str) -> Seat {
        let seat = registry.enter("[::ffff:192.0.2.7]:4711".parse().unwrap(), Arc::from("127.0.0.1:1143"));
        seat.named(Some(Arc::from(user)), Some(Arc::from("main")));
        seat
    }

    #[test]
    fn a_change_reaches_the_other_sessions_of_the_account() {
        let registry = registry();
        let account = |user: &str| AccountName { backend: "main".into(), user: user.into() };
        let mut seats = ["joe", "joe", "ann"].map(|user| enter(&registry, user));
        seats.iter_mut().zip(["joe", "joe", "ann"]).for_each(|(seat, user)| seat.joins(account(user)));
        let what = effect::Notice::Names(None);
        seats[0].publish(what.clone());
        let mut context = Context::from_waker(Waker::noop());
        let heard = seats.each_ref().map(|seat| seat.inbox().poll_take(&mut context));
        let told = Poll::Ready(Notice::Account(Arc::new(what)));
        assert_eq!(heard, [Poll::Pending, told, Poll::Pending]);
        drop(seats);
        assert!(registry.accounts.is_empty(), "nothing is left of accounts without sessions");
    }

    /// The value of a series in the rendered metrics.
    fn value(registry: &Registry, series: &str) -> f64 {
        let text = registry.meters.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series)).unwrap();
        line.trim().parse().unwrap()
    }

    #[test]
    fn a_seat_is_listed_until_it_is_dropped() {
        let registry = registry();
        let seats = [enter(&registry, "joe"), enter(&registry, "ann")];
        assert_eq!(registry.len(), 2);
        assert_eq!(registry.by_state()["login"], 2);
        drop(seats);
        assert!(registry.is_empty());
    }

    #[test]
    fn gauges_follow_the_state_and_return_to_zero() {
        let registry = registry();
        let mut seat = enter(&registry, "joe");
        for (state, login, idle, backend) in
            [(State::Login, 1.0, 0.0, 0.0), (State::Authenticated, 0.0, 0.0, 1.0), (State::Idle, 0.0, 1.0, 1.0)]
        {
            seat.becomes(state);
            seat.becomes(state);
            assert_eq!(value(&registry, "lemonade_sessions{state=\"login\"}"), login);
            assert_eq!(value(&registry, "lemonade_sessions{state=\"idle\"}"), idle);
            // Known from the first login on.
            if state != State::Login {
                assert_eq!(value(&registry, "lemonade_backend_sessions{backend=\"main\"}"), backend);
            }
        }
        drop(seat);
        for state in State::NAMES {
            assert_eq!(value(&registry, &format!("lemonade_sessions{{state=\"{state}\"}}")), 0.0);
        }
        assert_eq!(value(&registry, "lemonade_backend_sessions{backend=\"main\"}"), 0.0);
    }

    #[test]
    fn octets_are_counted_for_the_session_and_for_all() {
        let registry = registry();
        let seat = enter(&registry, "joe");
        seat.moved(Way::ClientSays, 8);
        seat.moved(Way::BackendHears, 8);
        seat.moved(Way::ClientHears, 30);
        let row = seat.entry().row();
        assert_eq!((row.octets_from_client, row.octets_to_client), (8, 30));
        assert_eq!(value(&registry, "lemonade_transferred_bytes_total{way=\"backend_hears\"}"), 8.0);
    }

    #[test]
    fn a_row_shows_the_canonical_address() {
        let seat = enter(&registry(), "joe");
        let row = serde_json::to_value(seat.entry().row()).unwrap();
        assert_eq!(row["client"], "192.0.2.7:4711");
        assert_eq!(row["user"], "joe");
        assert_eq!(row["id"], seat.id().as_str());
    }

    #[tokio::test]
    async fn a_user_is_reached_in_every_session() {
        let registry = registry();
        let seats = [enter(&registry, "joe"), enter(&registry, "joe"), enter(&registry, "ann")];
        assert_eq!(registry.tell("joe", Notice::Trace(true)), 2);
        for seat in &seats[..2] {
            assert_eq!(take(seat).await, Notice::Trace(true));
        }
        assert!(poll_once(&seats[2]).is_pending());
    }

    #[tokio::test]
    async fn a_session_is_kicked_by_its_name_alone() {
        let registry = registry();
        let seat = enter(&registry, "joe");
        for wrong in ["", "0000000000000000", "x", "joe"] {
            assert!(!registry.kick(wrong));
        }
        assert!(registry.kick(seat.id().as_str()));
        assert_eq!(take(&seat).await, Notice::Kick);
    }

    #[tokio::test]
    async fn a_notice_wakes_a_task_that_waits() {
        let registry = registry();
        let seat = enter(&registry, "joe");
        let entry = seat.entry.clone();
        let waiting = tokio::spawn(async move { take(&seat).await });
        while lock(&entry.inbox.0).waker.is_none() {
            tokio::task::yield_now().await;
        }
        entry.inbox.post(Notice::Drain);
        assert_eq!(waiting.await.unwrap(), Notice::Drain);
    }

    #[test]
    fn of_each_kind_the_last_notice_waits_and_then_nothing_is_held() {
        let inbox = Inbox::default();
        for _ in 0..1000 {
            inbox.post(Notice::Trace(true));
            inbox.post(Notice::Drain);
            inbox.post(Notice::Trace(false));
            inbox.post(Notice::Kick);
        }
        let mut context = Context::from_waker(Waker::noop());
        let taken: Vec<_> = std::iter::from_fn(|| match inbox.poll_take(&mut context) {
            Poll::Ready(notice) => Some(notice),
            Poll::Pending => None,
        })
        .collect();
        assert_eq!(taken, [Notice::Drain, Notice::Trace(false), Notice::Kick]);
        assert_eq!(lock(&inbox.0).notices.capacity(), 0);
    }

    #[test]
    fn an_entry_keeps_to_its_part_of_the_budget() {
        // Architecture 13.6: account, device and addresses 0.3 kB together.
        assert!(size_of::<Entry>() <= 240, "{}", size_of::<Entry>());
        assert!(size_of::<Seat>() <= 64, "{}", size_of::<Seat>());
    }

    #[test]
    fn names_of_sessions_do_not_repeat() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| SessionId::random()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.as_str().len() == 16));
    }

    async fn take(seat: &Seat) -> Notice {
        poll_fn(|context| seat.inbox().poll_take(context)).await
    }

    fn poll_once(seat: &Seat) -> Poll<Notice> {
        seat.inbox().poll_take(&mut Context::from_waker(Waker::noop()))
    }
}
