//! The desks of all accounts of which a device wants to hear while it is away: one task each, which drives the
//! [desk](crate::outband::desk::Desk) and the [watch](crate::watch::Watch).
//!
//!     sessions     -> sign, key, shown      who is there, how one logs in, what was seen
//!     the store    -> entries, routes       at the start, and when they have changed
//!     the backend  -> a look                over one connection of the account's own
//!     save, then carry                      what has changed is on the disk before anything leaves
//!
//! Where `watch = "linger"`, the connection is made while a session of the account is there, with what that session has logged in with; when
//! the last one has gone it is kept, and the secret is not: once lost, it is lost until a device signs in, and those that are away are told
//! so. With `master` it can be had at any time, and with `sealed` where operator and user want the secret kept. A secret that was refused is not
//! said again, and not kept. How it stands a device reads in an entry. Requirements N3, N9, N16.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use dashmap::{DashMap, Entry as Slot};
use tokio::{
    sync::{
        Semaphore,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::Instant,
};

mod keys;
mod task;

use self::task::{MOMENT, PATIENCE, Task};
use super::{
    line::Line,
    metrics::{WatchMode, Watching},
    registry::SessionId,
    shell::Shell,
};
use crate::{
    account::presence::Sign,
    mailbox::event::Event,
    outband::{
        channel,
        desk::{Instruction, RouteView},
    },
    session::key::Key,
    store::{AccountName, DeviceName, Way},
};

/// The desks, by account.
#[derive(Debug)]
pub struct Desks {
    desks: DashMap<Arc<AccountName>, Door>,
    /// Turns for reading what is stored: at a start all want to.
    reads: Semaphore,
    /// The program ends: none is begun.
    closes: AtomicBool,
}

/// The way to a desk.
#[derive(Debug)]
struct Door {
    orders: mpsc::Sender<Order>,
    signals: Arc<Signals>,
}

/// What a desk and those who tell it say to each other without an order.
#[derive(Debug, Default)]
struct Signals {
    /// A connection that a client leaves is wanted: one at a time, so that none wait where nobody takes them.
    wants_line: AtomicBool,
    /// There was no room for an order.
    missed: AtomicBool,
    /// Since when the oldest news wait, in seconds since 1970; 0: there are none.
    oldest: AtomicU64,
}

/// Orders that wait for a desk. It takes them at once, unless the store does not answer: then there is room for some minutes of a busy account.
/// What has no room is not told, and the desk asks anew how things stand.
const ORDERS: usize = 1000;

/// Accounts that are read out of the store at a time: enough to keep it busy, and few enough to leave room for sessions.
const READS: usize = 32;

impl Default for Desks {
    fn default() -> Self {
        Self { desks: DashMap::new(), reads: Semaphore::new(READS), closes: AtomicBool::new(false) }
    }
}

/// What a desk is told.
#[derive(Debug)]
pub enum Order {
    /// A session of this device does something.
    Sign(SessionId, DeviceName, Sign),
    /// A session can be logged in to so once more.
    Key(SessionId, Arc<Key>),
    /// So the user calls himself.
    Named(Arc<str>),
    /// A session has gone, and has left its connection, logged in.
    Left(Box<Line>),
    /// A session of this device has done something that leaves no trace in a mailbox.
    Happened(DeviceName, Box<Event>),
    /// A session sees messages in a mailbox up to this UID.
    Stirred(SessionId, Box<[u8]>, Option<u32>, u32),
    /// A device was shown a mailbox up to this UID.
    Shown(DeviceName, Box<[u8]>, Option<u32>, u32),
    /// The network says this of a notice.
    Receipt(Way, u64, channel::Receipt),
    /// The entries of the account may have changed.
    Provisioned,
    /// Say how it stands.
    View(oneshot::Sender<View>),
    /// An operator wants this of a device; say whether it has a route.
    Operator(DeviceName, Instruction, oneshot::Sender<bool>),
}

/// How a desk stands.
#[derive(Debug)]
pub struct View {
    /// Its routes.
    pub routes: Vec<RouteView>,
    /// Whether somebody looks after the mailboxes.
    pub watching: (WatchMode, Watching),
}

impl Desks {
    /// Tells the desk of an account; whether there is one.
    pub fn tell(&self, account: &AccountName, order: Order) -> bool {
        self.desks.get(account).is_some_and(|door| door.tell(order))
    }

    /// Whether the account has one.
    pub fn has(&self, account: &AccountName) -> bool {
        self.desks.contains_key(account)
    }

    /// Whether it wants a connection that a client of the account leaves.
    pub fn wants_line(&self, account: &AccountName) -> bool {
        self.desks.get(account).is_some_and(|door| door.signals.wants_line.load(Relaxed))
    }

    /// The same, where there is one: whoever hears so is to bring it, and nobody else.
    pub fn takes_line(&self, account: &AccountName) -> bool {
        self.desks.get(account).is_some_and(|door| door.signals.wants_line.swap(false, Relaxed))
    }

    /// Since when the oldest news of all accounts wait, in seconds since 1970; none: there are none.
    pub fn oldest(&self) -> Option<u64> {
        let oldest = self.desks.iter().map(|door| door.signals.oldest.load(Relaxed));
        oldest.filter(|oldest| *oldest > 0).min()
    }

    /// The program ends: nothing more is begun, and what is known is on the disk behind this.
    pub async fn close(&self) {
        self.closes.store(true, Relaxed);
        self.desks.iter_mut().for_each(|mut door| door.orders = mpsc::channel(1).0);
        let until = Instant::now() + 2 * PATIENCE;
        while !self.desks.is_empty() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How all of them stand.
    pub async fn views(&self) -> Vec<(Arc<AccountName>, View)> {
        let mut accounts: Vec<_> = self.desks.iter().map(|desk| desk.key().clone()).collect();
        accounts.sort();
        let mut views = Vec::new();
        for account in accounts {
            if let Some(view) = self.ask(&account, Order::View).await {
                views.push((account, view));
            }
        }
        views
    }

    /// Asks the desk of an account; none: there is none, or it asks a store in vain.
    pub async fn ask<T>(&self, account: &AccountName, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (say, hear) = oneshot::channel();
        if !self.tell(account, order(say)) {
            return None;
        }
        tokio::time::timeout(MOMENT, hear).await.ok()?.ok()
    }
}

impl Door {
    /// Whether somebody is behind it.
    fn tell(&self, order: Order) -> bool {
        match self.orders.try_send(order) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(order)) => {
                self.signals.missed.store(true, Relaxed);
                // Whoever has made room meanwhile has not seen that, and is to.
                let _ = self.orders.try_send(order);
                true
            }
        }
    }
}

/// Begins a desk for every account of which somebody may want to hear, each in its moment: backends are not to be asked by all at once.
pub async fn resume(shell: Arc<Shell>) {
    let mut pause = Duration::from_secs(1);
    let accounts = loop {
        match shell.keeper.subscribers().await {
            Ok(accounts) => break accounts,
            // Counted and said where it fails.
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (2 * pause).min(Duration::from_secs(60));
    };
    let spread = shell.setup.load().config.outband.spread.0;
    let many = u32::try_from(accounts.len()).unwrap_or(u32::MAX).max(1);
    for (number, account) in (0..).zip(accounts) {
        begin(&shell, Arc::new(account), spread * number / many);
    }
}

/// Tells the desks of accounts whose entries have changed, and begins those that are not there yet; for ever.
pub async fn provision(shell: Arc<Shell>, mut changed: mpsc::UnboundedReceiver<AccountName>) {
    while let Some(account) = changed.recv().await {
        if !shell.desks.tell(&account, Order::Provisioned) {
            begin(&shell, Arc::new(account), Duration::ZERO);
        }
    }
}

/// Begins a desk, unless there is one. Where nobody sends, what is stored waits for who will.
fn begin(shell: &Arc<Shell>, account: Arc<AccountName>, delay: Duration) {
    if shell.setup.load().senders.channels.is_empty() || shell.desks.closes.load(Relaxed) {
        return;
    }
    let (orders, waiting) = mpsc::channel(ORDERS);
    let signals = Arc::<Signals>::default();
    let door = Door { orders, signals: Arc::clone(&signals) };
    match shell.desks.desks.entry(Arc::clone(&account)) {
        Slot::Occupied(mut there) if there.get().orders.is_closed() => _ = there.insert(door),
        Slot::Occupied(_) => return,
        Slot::Vacant(vacant) => _ = vacant.insert(door),
    }
    tokio::spawn(run(Arc::clone(shell), account, waiting, signals, delay));
}

async fn run(
    shell: Arc<Shell>,
    account: Arc<AccountName>,
    mut orders: mpsc::Receiver<Order>,
    signals: Arc<Signals>,
    delay: Duration,
) {
    if let Some(mut task) = Task::new(&shell, &account, Arc::clone(&signals), delay).await {
        // Who is there says so.
        shell.registry.attend(&account);
        task.work(&mut orders).await;
    }
    shell.desks.desks.remove(&account);
    orders.close();
    // What had no room may have been news of that kind.
    let mut again = signals.missed.load(Relaxed);
    while let Some(order) = orders.recv().await {
        again |= matches!(order, Order::Provisioned);
    }
    if again {
        begin(&shell, account, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_desk_that_takes_nothing_is_told_so_much_and_no_more() {
        let account = AccountName { backend: "main".into(), user: "joe".into() };
        let (orders, mut waiting) = mpsc::channel(ORDERS);
        let (desks, signals) = (Desks::default(), Arc::<Signals>::default());
        desks.desks.insert(Arc::new(account.clone()), Door { orders, signals: Arc::clone(&signals) });
        for _ in 0..ORDERS {
            assert!(desks.tell(&account, Order::Provisioned));
        }
        assert!(!signals.missed.load(Relaxed));
        assert_eq!(desks.oldest(), None);
        signals.oldest.store(17, Relaxed);
        assert_eq!(desks.oldest(), Some(17));
        assert!(desks.tell(&account, Order::Provisioned), "there is a desk");
        assert!(signals.missed.load(Relaxed), "and it hears that there was more");
        assert_eq!(std::iter::from_fn(|| waiting.try_recv().ok()).count(), ORDERS);
        drop(waiting);
        assert!(!desks.tell(&account, Order::Provisioned));
    }
}
