//! Asks the store in a session's name, one question after the other, and says aloud when the store is not available.
//!
//!     session: Keep(Save(...))  ->  Keeper  ->  store  ->  Kept(Saved), at 1790000000
//!
//! A question runs in a task of its own: a session that ends does not undo what it asked for. Requirement N14.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::mpsc, task::JoinHandle};

use super::metrics::{Meters, StoreOutcome};
use crate::{
    session::{
        effect::{Answer, Binding, Keeping, Kept, Request},
        layer::Ask,
    },
    store::{AccountName, Change, Changed, Device, Found, Query, Store, StoreError},
};

/// A store that does not answer for so long is not available: longer than it waits for its own locks.
const PATIENCE: Duration = Duration::from_secs(15);

/// The store, and what is said of it.
pub struct Keeper {
    store: Arc<dyn Store>,
    meters: Arc<Meters>,
    health: Mutex<Health>,
    /// Who is told of accounts whose settings have changed.
    changed: Mutex<Option<mpsc::UnboundedSender<AccountName>>>,
}

/// Which of the two has failed last time. A disk that is full or read-only can be read all the while.
#[derive(Clone, Copy, Debug, Default)]
struct Health {
    unread: bool,
    unwritten: bool,
}

impl Health {
    fn is_up(self) -> bool {
        !self.unread && !self.unwritten
    }

    /// What this result says. A save that had nothing to write, or was refused for its size, shows no disk that can be written.
    fn hear(&mut self, keeping: &Keeping, result: &Result<Kept, StoreError>) {
        let failed = matches!(result, Err(StoreError::Unavailable(_)));
        match (keeping, result) {
            (Keeping::Load(_), _) => self.unread = failed,
            (Keeping::Save(_), Ok(Kept::Saved(changed))) if *changed != Changed::default() => self.unwritten = false,
            (Keeping::Save(_), _) => self.unwritten |= failed,
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("health", &self.health).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Asks this store.
    pub fn new(store: Arc<dyn Store>, meters: Arc<Meters>) -> Self {
        meters.store_up.set(1.0);
        Self { store, meters, health: Mutex::default(), changed: Mutex::default() }
    }

    /// From now on this one hears of accounts whose settings have changed.
    pub fn tell(&self, changed: mpsc::UnboundedSender<AccountName>) {
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = Some(changed);
    }

    /// The accounts of which somebody wants to hear when he is away.
    pub async fn subscribers(&self) -> Result<Vec<AccountName>, StoreError> {
        self.store.subscribers().await
    }

    /// Tells who wants to hear of it that entries of this account have changed.
    fn spread(&self, account: &AccountName, keeping: &Keeping, result: &Result<Kept, StoreError>) {
        let (Keeping::Save(change), Ok(_)) = (keeping, result) else { return };
        if matches!(change, Change::Seen(_) | Change::Turn(_)) {
            return;
        }
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the program ends, nobody hears.
        changed.iter().for_each(|changed| _ = changed.send(account.clone()));
    }

    /// Asks the store, and waits for its answer.
    pub async fn ask(&self, account: &AccountName, keeping: &Keeping) -> Result<Kept, StoreError> {
        let began = Instant::now();
        let asked = async {
            match keeping {
                Keeping::Save(change) => self.store.save(account, change).await.map(Kept::Saved),
                Keeping::Load(query) => self.store.load(account, query).await.map(Kept::Found),
            }
        };
        let silent = |_| Err(StoreError::Unavailable("no answer".into()));
        let result = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(silent);
        self.meters.store_duration.record(began.elapsed());
        self.note(keeping, &result);
        self.spread(account, keeping, &result);
        result
    }

    /// Counts, and says once what has changed.
    fn note(&self, keeping: &Keeping, result: &Result<Kept, StoreError>) {
        let outcome = match result {
            Ok(_) => StoreOutcome::Ok,
            Err(StoreError::TooMany(_) | StoreError::TooLarge(_)) => StoreOutcome::OverQuota,
            Err(StoreError::Unavailable(_)) => StoreOutcome::Unavailable,
        };
        self.meters.store_requests[outcome].increment(1);
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let was_up = health.is_up();
        health.hear(keeping, result);
        match (was_up, health.is_up(), result) {
            (true, false, Err(error)) => {
                self.meters.store_up.set(0.0);
                tracing::error!(error = %error, "store not available");
            }
            (false, true, _) => {
                self.meters.store_up.set(1.0);
                tracing::info!("store available again");
            }
            _ => {}
        }
    }

    /// Whether the device is known as it is, and was seen lately.
    async fn knows(&self, account: &AccountName, device: &Device) -> bool {
        let known = self.ask(account, &Keeping::Load(Query::Devices)).await;
        let Ok(Kept::Found(Found::Devices(known))) = known else { return false };
        let same = |known: &Device| known.name == device.name && known.source == device.source;
        known.iter().any(|known| same(known) && device.last_seen - known.last_seen < EXACT)
    }

    /// A device of this account is here: known to the hour. Nobody waits for it.
    pub fn seen(self: &Arc<Self>, account: Arc<AccountName>, binding: &Binding) {
        let (keeper, now) = (Arc::clone(self), now());
        let Binding { device: name, source } = binding.clone();
        tokio::spawn(async move {
            let device = Device { name, source, first_seen: now, last_seen: now };
            // Phones come back every few minutes, and a disk can write only so often.
            if keeper.knows(&account, &device).await {
                return;
            }
            // Counted and said where it fails; the session goes on.
            let _ = keeper.ask(&account, &Keeping::Save(Change::Seen(device))).await;
        });
    }
}

/// How exactly it is known when a device was last seen, in seconds.
const EXACT: i64 = 3600;

/// The time of day, in seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// The questions of one session, in their order.
#[derive(Debug, Default)]
pub struct Questions {
    waiting: VecDeque<Request>,
    running: Option<((u8, Ask), JoinHandle<Answer>)>,
}

impl Questions {
    /// One more.
    pub fn add(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_none()
    }

    /// The next answer, or a promise to wake the task when there is one. A session without an account has no store.
    pub fn poll(
        &mut self,
        keeper: &Arc<Keeper>,
        account: Option<&Arc<AccountName>>,
        cx: &mut Context<'_>,
    ) -> Poll<Answer> {
        if self.running.is_none() {
            let Some(Request { from, keeping }) = self.waiting.pop_front() else { return Poll::Pending };
            let (keeper, account) = (Arc::clone(keeper), account.cloned());
            let asked = tokio::spawn(async move {
                let result = match account {
                    Some(account) => keeper.ask(&account, &keeping).await,
                    None => Err(StoreError::Unavailable("no user is known".into())),
                };
                Answer::new(from, now(), result)
            });
            self.running = Some((from, asked));
        }
        let Some((from, asked)) = &mut self.running else { return Poll::Pending };
        let Poll::Ready(answer) = Pin::new(asked).poll(cx) else { return Poll::Pending };
        // A task that panicked, or that the end of the runtime took with it, has no answer.
        let answer = answer.unwrap_or(Answer { to: *from, at: now(), kept: None });
        self.running = None;
        Poll::Ready(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicBool, Ordering::Relaxed},
    };

    use super::*;
    use crate::{
        io::log::tests::lines,
        store::{Answer as Answering, DeviceName, Quota, Source, memory::Memory},
    };

    /// A store whose disk is full, until it is not.
    #[derive(Default)]
    struct Full(AtomicBool);

    impl Store for Full {
        fn save<'a>(&'a self, _: &'a AccountName, change: &'a Change) -> Answering<'a, Changed> {
            Box::pin(async move {
                match change {
                    Change::Purge => Ok(Changed::default()),
                    Change::Entries { .. } => Err(StoreError::TooMany(1)),
                    _ if self.0.load(Relaxed) => Ok(Changed { entries: 0, devices: 1 }),
                    _ => Err(StoreError::Unavailable("disk full".into())),
                }
            })
        }

        fn load<'a>(&'a self, _: &'a AccountName, _: &'a Query) -> Answering<'a, Found> {
            Box::pin(async { Ok(Found::Entries(Vec::new())) })
        }

        fn subscribers(&self) -> Answering<'_, Vec<AccountName>> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    fn account() -> Arc<AccountName> {
        Arc::new(AccountName { backend: "main".into(), user: "joe".into() })
    }

    fn keeper(store: impl Store + 'static) -> Arc<Keeper> {
        Arc::new(Keeper::new(Arc::new(store), Arc::new(Meters::new())))
    }

    fn seen() -> Keeping {
        let name = DeviceName::default();
        Keeping::Save(Change::Seen(Device { name, source: Source::Default, first_seen: 0, last_seen: 0 }))
    }

    #[test]
    fn a_disk_that_is_full_is_so_until_something_is_written_and_is_said_to_be_so_once() {
        let store = Arc::new(Full::default());
        let keeper = Keeper::new(store.clone(), Arc::new(Meters::new()));
        let says = |line: &str| assert!(keeper.meters.render().contains(line), "{}", keeper.meters.render());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let ask = |keeping| runtime.block_on(keeper.ask(&account(), &keeping)).is_ok();
        let entries = Change::Entries { edits: Vec::new(), quota: Quota::NONE };
        let failing = lines(|| {
            for _ in 0..2 {
                assert!(!ask(seen()));
                says("lemonade_store_up 0");
                assert!(ask(Keeping::Load(Query::Entries)));
                assert!(ask(Keeping::Save(Change::Purge)), "nothing is written");
                assert!(!ask(Keeping::Save(entries.clone())), "it is refused for its size");
                says("lemonade_store_up 0");
            }
        });
        says("lemonade_store_requests_total{outcome=\"unavailable\"} 2");
        assert_eq!(failing.trim(), "ERROR store not available error=the store is not available: disk full");
        store.0.store(true, Relaxed);
        let well = lines(|| assert!(ask(seen()) && ask(seen())));
        says("lemonade_store_up 1");
        assert_eq!(well.trim(), "INFO store available again");
    }

    #[test]
    fn a_store_that_cannot_be_read_is_well_again_when_it_is_read() {
        let failed = || Err(StoreError::Unavailable("gone".into()));
        let (load, found) = (Keeping::Load(Query::Devices), || Ok(Kept::Found(Found::Devices(Vec::new()))));
        let mut health = Health::default();
        health.hear(&load, &failed());
        assert!(!health.is_up());
        health.hear(&seen(), &Ok(Kept::Saved(Changed { entries: 0, devices: 1 })));
        assert!(!health.is_up(), "a save says nothing of what is read");
        health.hear(&load, &found());
        assert!(health.is_up());
    }

    #[tokio::test]
    async fn questions_are_answered_in_their_order_and_to_who_asked() {
        let keeper = keeper(Memory::default());
        let mut questions = Questions::default();
        for ask in 1..4 {
            questions.add(Request { from: (7, Ask(ask)), keeping: Keeping::Load(Query::Devices) });
        }
        for ask in 1..4 {
            let answer = poll_fn(|cx| questions.poll(&keeper, Some(&account()), cx)).await;
            assert_eq!(answer.to, (7, Ask(ask)));
            assert_eq!(answer.kept, Some(Kept::Found(Found::Devices(Vec::new()))));
        }
        assert!(questions.is_empty());
    }

    /// A store that breaks.
    struct Broken;

    impl Store for Broken {
        fn save<'a>(&'a self, _: &'a AccountName, _: &'a Change) -> Answering<'a, Changed> {
            Box::pin(async { panic!("a store of a test breaks") })
        }

        fn load<'a>(&'a self, _: &'a AccountName, _: &'a Query) -> Answering<'a, Found> {
            Box::pin(async { panic!("a store of a test breaks") })
        }

        fn subscribers(&self) -> Answering<'_, Vec<AccountName>> {
            Box::pin(async { panic!("a store of a test breaks") })
        }
    }

    #[tokio::test]
    async fn a_question_that_breaks_the_store_is_answered() {
        let keeper = keeper(Broken);
        let mut questions = Questions::default();
        questions.add(Request { from: (0, Ask(1)), keeping: Keeping::Load(Query::Devices) });
        let answer = poll_fn(|cx| questions.poll(&keeper, Some(&account()), cx)).await;
        assert_eq!((answer.to, answer.kept), ((0, Ask(1)), None));
    }

    #[tokio::test]
    async fn a_session_whose_user_nobody_knows_has_no_store() {
        let keeper = keeper(Memory::default());
        let mut questions = Questions::default();
        questions.add(Request { from: (0, Ask(1)), keeping: Keeping::Load(Query::Devices) });
        assert_eq!(poll_fn(|cx| questions.poll(&keeper, None, cx)).await.kept, None);
    }
}
