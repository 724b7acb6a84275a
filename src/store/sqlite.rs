//! The store on one machine: SQLite in the state directory, through sqlx.
//!
//!     STATE/store.sqlite           write-ahead log, `synchronous=FULL`: what was answered Ok survives a loss of power
//!     STATE/store.before-4.sqlite  what it was before its tables were changed to those of version 4
//!
//!     save, save, save   ->   BEGIN  [one]  [two]  [three]  COMMIT   ->   three answers, one write to the disk
//!
//! One connection writes, in transactions that take the lock at their beginning, so that none has to be tried again; others
//! read beside it. What has come while one transaction was written goes into the next one, each change within a savepoint: one
//! that is refused leaves the others alone. What ends the transaction, as a full disk may, refuses all that is in it, and the next one
//! is tried anew.

mod feed;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    Connection as _, Row as _, SqlStr, Sqlite, SqliteConnection, SqlitePool, Transaction,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};
use tokio::sync::{OnceCell, mpsc, oneshot};

use super::{
    AccountName, Answer, Change, Changed, Device, DeviceName, Entry, Found, Key, Line, MOST_DEVICES, MOST_LINES, Memo,
    Outband, Owner, Query, Quota, Source, Store, StoreError, Turn, Way, renamed,
};
use crate::imap::entry::EntryName;

/// The tables, version by version. One that was released never changes.
const VERSIONS: [(i64, &str, &str); 4] = [
    (1, "accounts", include_str!("migrations/0001_accounts.sql")),
    (2, "outband", include_str!("migrations/0002_outband.sql")),
    (3, "memos", include_str!("migrations/0003_memos.sql")),
    (4, "feed", include_str!("migrations/0004_feed.sql")),
];

/// How long to wait for another process that holds the file: a backup, or an operator's shell.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections that read.
const READERS: u32 = 4;

/// Changes that are written together at most, and so many wait for the next time: the disk is waited for a hundredth as often as for
/// single ones, and the first of them hardly waits for the last.
const MOST_AT_ONCE: usize = 256;

/// The engine.
#[derive(Debug)]
pub struct Database {
    state: PathBuf,
    /// Opened with the first question that finds a disk to open it on.
    pools: OnceCell<Pools>,
}

#[derive(Debug)]
struct Pools {
    orders: mpsc::Sender<Order>,
    writer: SqlitePool,
    readers: SqlitePool,
}

/// A change that is to be written, and who waits for it.
#[derive(Debug)]
struct Order {
    account: AccountName,
    change: Change,
    answer: oneshot::Sender<Result<Changed, StoreError>>,
}

/// Why the store cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It was written by a later version of this program.
    #[error("{file}: its tables are of version {found}, and this program knows {known}: a newer one has been here")]
    Newer {
        /// The file.
        file: PathBuf,
        /// The version of its tables.
        found: i64,
        /// The last version that is known.
        known: i64,
    },
    /// It cannot be opened, copied or changed.
    #[error("{file}: {source}")]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: sqlx::Error,
    },
}

impl Database {
    /// Opens the store in this directory, makes it if there is none, and brings its tables up to date; before that a copy
    /// is made.
    pub async fn open(state: &Path) -> Result<Self, OpenError> {
        Self::open_with(state, &VERSIONS).await
    }

    /// The store in this directory, which cannot be opened now: it is tried again with each question.
    pub fn later(state: &Path) -> Self {
        Self { state: state.to_owned(), pools: OnceCell::new() }
    }

    async fn open_with(state: &Path, versions: &[(i64, &'static str, &'static str)]) -> Result<Self, OpenError> {
        let pools = Pools::open(state, versions).await?;
        Ok(Self { state: state.to_owned(), pools: OnceCell::new_with(Some(pools)) })
    }

    async fn pools(&self) -> Result<&Pools, StoreError> {
        let opened = self.pools.get_or_try_init(|| Pools::open(&self.state, &VERSIONS)).await;
        opened.map_err(|error| StoreError::Unavailable(error.into()))
    }

    /// Writes what is under way, and closes the file.
    pub async fn close(&self) {
        if let Some(Pools { writer, readers, .. }) = self.pools.get() {
            readers.close().await;
            writer.close().await;
        }
    }

    async fn change(&self, account: &AccountName, change: &Change) -> Result<Changed, StoreError> {
        let (answer, answered) = oneshot::channel();
        let order = Order { account: account.clone(), change: change.clone(), answer };
        let closed = || StoreError::Unavailable("it was closed".into());
        self.pools().await?.orders.send(order).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn find(&self, account: &AccountName, query: &Query) -> Result<Found, StoreError> {
        const OF: &str =
            "FROM account JOIN entry ON entry.account = account.id WHERE backend = $1 AND account.name = $2";
        let sql = match query {
            Query::Devices => {
                "SELECT device.name, source, first_seen, last_seen FROM account JOIN device ON device.account = account.id \
                 WHERE backend = $1 AND account.name = $2 ORDER BY device.name"
                    .to_owned()
            }
            Query::Outband => return self.outband(account).await,
            Query::Journal => {
                "SELECT at, device, mailbox, uids, seq, what FROM account JOIN journal ON journal.account = account.id \
                 WHERE backend = $1 AND account.name = $2 ORDER BY journal.id"
                    .to_owned()
            }
            Query::Entries => format!("SELECT mailbox, device, entry.name, value {OF} ORDER BY mailbox, device, entry.name"),
            Query::Mailbox(_) => {
                format!("SELECT mailbox, device, entry.name, value {OF} AND mailbox = $3 ORDER BY device, entry.name")
            }
        };
        let mut asked = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&*account.backend).bind(&*account.user);
        if let Query::Mailbox(mailbox) = query {
            asked = asked.bind(&**mailbox);
        }
        let rows = asked.fetch_all(&self.pools().await?.readers).await?;
        Ok(match query {
            Query::Devices => Found::Devices(rows.iter().map(device).collect::<Result<_, _>>()?),
            Query::Journal => Found::Journal(rows.iter().map(line).collect::<Result<_, _>>()?),
            Query::Outband | Query::Entries | Query::Mailbox(_) => {
                Found::Entries(rows.iter().map(entry).collect::<Result<_, _>>()?)
            }
        })
    }
}

impl Database {
    /// All of it as it stood at one moment.
    async fn outband(&self, account: &AccountName) -> Result<Found, StoreError> {
        let mut within = self.pools().await?.readers.begin().await?;
        let Some(id) = id(&mut within, account).await? else { return Ok(Found::Outband(Outband::default())) };
        let routes = sqlx::query("SELECT device, way, state FROM route WHERE account = $1 ORDER BY device, way");
        let routes = routes.bind(id).fetch_all(&mut *within).await?;
        let looked = sqlx::query_as("SELECT mailbox, state FROM looked WHERE account = $1 ORDER BY mailbox");
        let looked: Vec<(Vec<u8>, String)> = looked.bind(id).fetch_all(&mut *within).await?;
        let looked = looked.into_iter().map(|(mailbox, state)| (mailbox.into(), state.into())).collect();
        let memos = sqlx::query_as("SELECT name, state FROM memo WHERE account = $1 ORDER BY name");
        let memos: Vec<(String, String)> = memos.bind(id).fetch_all(&mut *within).await?;
        let memos =
            memos.into_iter().map(|(name, state)| Memo { name: name.into(), state: Some(state.into()) }).collect();
        Ok(Found::Outband(Outband { routes: routes.iter().map(route).collect::<Result<_, _>>()?, looked, memos }))
    }

    async fn all_subscribers(&self) -> Result<Vec<AccountName>, StoreError> {
        let sql = "SELECT backend, name FROM account WHERE id IN \
                   (SELECT account FROM route UNION SELECT account FROM entry WHERE device <> '') ORDER BY backend, name";
        let rows: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(&self.pools().await?.readers).await?;
        let account = |(backend, user): (String, String)| AccountName { backend: backend.into(), user: user.into() };
        Ok(rows.into_iter().map(account).collect())
    }
}

impl Pools {
    async fn open(state: &Path, versions: &[(i64, &'static str, &'static str)]) -> Result<Self, OpenError> {
        let file = state.join("store.sqlite");
        let unusable = |source: sqlx::Error| OpenError::Unusable { file: file.clone(), source };
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE);
        let writer = pool(1).connect_with(options.clone()).await.map_err(unusable)?;
        let known = versions.iter().map(|(version, ..)| *version).max().unwrap_or_default();
        let found = version(&writer).await.map_err(unusable)?;
        if found > known {
            return Err(OpenError::Newer { file, found, known });
        }
        if (1..known).contains(&found) {
            copy(&writer, state, &format!("store.before-{known}.sqlite")).await.map_err(unusable)?;
        }
        migrator(versions).run(&writer).await.map_err(|error| unusable(error.into()))?;
        let readers =
            pool(READERS).connect_with(options.read_only(true).create_if_missing(false)).await.map_err(unusable)?;
        let (orders, waiting) = mpsc::channel(MOST_AT_ONCE);
        tokio::spawn(write(writer.clone(), waiting));
        Ok(Self { orders, writer, readers })
    }
}

impl Store for Database {
    fn save<'a>(&'a self, account: &'a AccountName, change: &'a Change) -> Answer<'a, Changed> {
        Box::pin(self.change(account, change))
    }

    fn load<'a>(&'a self, account: &'a AccountName, query: &'a Query) -> Answer<'a, Found> {
        Box::pin(self.find(account, query))
    }

    fn subscribers(&self) -> Answer<'_, Vec<AccountName>> {
        Box::pin(self.all_subscribers())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections).acquire_timeout(PATIENCE)
}

fn migrator(versions: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(versions.iter().map(migration).collect())
}

/// Copies the store to a file of this name. It bears the name when it is whole and on the disk; one of an attempt that came to no
/// end is replaced.
async fn copy(writer: &SqlitePool, state: &Path, name: &str) -> Result<(), sqlx::Error> {
    let (copy, half) = (state.join(name), state.join(format!("{name}.tmp")));
    // VACUUM writes to no file that has something in it, and what a kill leaves has.
    for stale in [half.clone(), state.join(format!("{name}.tmp-journal"))] {
        match fs::remove_file(stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    sqlx::query("VACUUM INTO $1").bind(half.display().to_string()).execute(writer).await?;
    File::open(&half)?.sync_all()?;
    fs::rename(half, copy)?;
    Ok(File::open(state)?.sync_all()?)
}

/// The version of the tables; 0 where there are none.
async fn version(writer: &SqlitePool) -> Result<i64, sqlx::Error> {
    let table = "SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
    if sqlx::query_scalar::<_, i64>(table).fetch_one(writer).await? == 0 {
        return Ok(0);
    }
    let last = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations";
    sqlx::query_scalar(last).fetch_one(writer).await
}

/// Writes what waits, together, for as long as somebody may bring more.
async fn write(writer: SqlitePool, mut waiting: mpsc::Receiver<Order>) {
    let mut orders = Vec::new();
    while waiting.recv_many(&mut orders, MOST_AT_ONCE).await > 0 {
        // Who has given up was told that nothing has changed.
        orders.retain(|order| !order.answer.is_closed());
        let results = transact(&writer, &orders).await;
        let refusal = results.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let mut results = results.unwrap_or_default().into_iter();
        for Order { answer, .. } in orders.drain(..) {
            let result = results.next().unwrap_or_else(|| Err(StoreError::Unavailable(refusal.as_str().into())));
            // Who has given up meanwhile hears nothing.
            let _ = answer.send(result);
        }
    }
}

/// What has become of each; an error: none has changed anything.
async fn transact(writer: &SqlitePool, orders: &[Order]) -> Result<Vec<Result<Changed, StoreError>>, sqlx::Error> {
    let mut writer = writer.acquire().await?;
    let results = apply_all(&mut writer, orders).await;
    if results.is_err() {
        // A full disk makes SQLite end the transaction by itself, and sqlx would take this one to be open for ever.
        let _ = writer.close().await;
    }
    results
}

async fn apply_all(
    writer: &mut SqliteConnection,
    orders: &[Order],
) -> Result<Vec<Result<Changed, StoreError>>, sqlx::Error> {
    let mut together = writer.begin_with("BEGIN IMMEDIATE").await?;
    let mut results = Vec::with_capacity(orders.len());
    for Order { account, change, .. } in orders {
        let mut within = together.begin().await?;
        let result = apply_to(&mut within, account, change).await;
        match result {
            Ok(_) => within.commit().await?,
            Err(_) => within.rollback().await?,
        }
        results.push(result);
    }
    together.commit().await?;
    Ok(results)
}

async fn apply_to(
    within: &mut Transaction<'_, Sqlite>,
    account: &AccountName,
    change: &Change,
) -> Result<Changed, StoreError> {
    let id = match id(within, account).await? {
        Some(id) => id,
        None if matches!(change, Change::Entries { .. } | Change::Seen(_)) => new_id(within, account).await?,
        None => return Ok(Changed::default()),
    };
    apply(within, id, change).await
}

async fn id(within: &mut Transaction<'_, Sqlite>, account: &AccountName) -> Result<Option<i64>, sqlx::Error> {
    let asked = sqlx::query_scalar("SELECT id FROM account WHERE backend = $1 AND name = $2");
    asked.bind(&*account.backend).bind(&*account.user).fetch_optional(&mut **within).await
}

async fn new_id(within: &mut Transaction<'_, Sqlite>, account: &AccountName) -> Result<i64, sqlx::Error> {
    let asked = sqlx::query_scalar("INSERT INTO account (backend, name) VALUES ($1, $2) RETURNING id");
    asked.bind(&*account.backend).bind(&*account.user).fetch_one(&mut **within).await
}

async fn apply(within: &mut Transaction<'_, Sqlite>, id: i64, change: &Change) -> Result<Changed, StoreError> {
    let mut changed = Changed::default();
    match change {
        Change::Entries { edits, quota } => {
            for (key, value) in edits {
                changed.entries += edit(within, id, key, value.as_deref()).await?;
            }
            if edits.iter().any(|(_, value)| value.is_some()) {
                keeps_to(within, id, *quota).await?;
            }
        }
        Change::Renamed { from, to, delimiter } => {
            changed.entries = rename(within, id, &ENTRIES, from, to, *delimiter).await?;
            rename(within, id, &LOOKED, from, to, *delimiter).await?;
        }
        Change::Copied { from, to, except, quota } => {
            remove(within, id, &ENTRIES, to).await?;
            let asked = sqlx::query(
                "INSERT INTO entry (account, mailbox, device, name, value) \
                 SELECT account, $3, device, name, value FROM entry WHERE account = $1 AND mailbox = $2",
            );
            changed.entries = asked.bind(id).bind(&**from).bind(&**to).execute(&mut **within).await?.rows_affected();
            for name in *except {
                let asked = sqlx::query("DELETE FROM entry WHERE account = $1 AND mailbox = $2 AND name = $3");
                let asked = asked.bind(id).bind(&**to).bind(*name);
                changed.entries -= asked.execute(&mut **within).await?.rows_affected();
            }
            keeps_to(within, id, *quota).await?;
        }
        Change::Deleted(mailbox) => {
            changed.entries = remove(within, id, &ENTRIES, mailbox).await?;
        }
        Change::Once { mark, change } => {
            if stands(within, id, mark).await? {
                edit(within, id, &mark.key, None).await?;
                changed = Box::pin(apply(within, id, change)).await?;
            }
        }
        Change::Seen(device) => {
            let asked = sqlx::query(
                "INSERT INTO device (account, name, source, first_seen, last_seen) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (account, name) DO UPDATE SET source = excluded.source, last_seen = excluded.last_seen",
            );
            let asked = asked.bind(id).bind(device.name.as_str()).bind(device.source.name());
            changed.devices =
                asked.bind(device.first_seen).bind(device.last_seen).execute(&mut **within).await?.rows_affected();
            forget_the_oldest(within, id).await?;
        }
        Change::Turn(turn) => take_turn(within, id, turn).await?,
        Change::Forget(name) => {
            for sql in [
                "DELETE FROM route WHERE account = $1 AND device = $2",
                "DELETE FROM journal WHERE account = $1 AND device = $2",
            ] {
                sqlx::query(sql).bind(id).bind(name.as_str()).execute(&mut **within).await?;
            }
            for (sql, count) in [
                ("DELETE FROM entry WHERE account = $1 AND device = $2", &mut changed.entries),
                ("DELETE FROM device WHERE account = $1 AND name = $2", &mut changed.devices),
            ] {
                *count = sqlx::query(sql).bind(id).bind(name.as_str()).execute(&mut **within).await?.rows_affected();
            }
        }
        Change::Purge => {
            for (sql, count) in [
                ("DELETE FROM entry WHERE account = $1", &mut changed.entries),
                ("DELETE FROM device WHERE account = $1", &mut changed.devices),
            ] {
                *count = sqlx::query(sql).bind(id).execute(&mut **within).await?.rows_affected();
            }
            sqlx::query("DELETE FROM account WHERE id = $1").bind(id).execute(&mut **within).await?;
        }
    }
    Ok(changed)
}

async fn take_turn(within: &mut Transaction<'_, Sqlite>, id: i64, turn: &Turn) -> Result<(), sqlx::Error> {
    for (way, state) in &turn.routes {
        set(within, &ROUTE, state.as_deref(), |asked| asked.bind(id).bind(way.device.as_str()).bind(&*way.to)).await?;
    }
    for (mailbox, state) in &turn.looked {
        set(within, &LOOK, state.as_deref(), |asked| asked.bind(id).bind(&**mailbox)).await?;
    }
    for Memo { name, state } in &turn.memos {
        set(within, &MEMO, state.as_deref(), |asked| asked.bind(id).bind(&**name)).await?;
    }
    for (key, value) in &turn.entries {
        edit(within, id, key, value.as_deref()).await?;
    }
    for line in &turn.journal {
        let sql =
            "INSERT INTO journal (account, at, device, mailbox, uids, seq, what) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let asked = sqlx::query(sql).bind(id).bind(line.at).bind(line.device.as_ref().map_or("", DeviceName::as_str));
        let asked = asked.bind(&*line.mailbox).bind(&*line.uids).bind(line.seq as i64).bind(&*line.what);
        asked.execute(&mut **within).await?;
    }
    if !turn.journal.is_empty() {
        let sql = "DELETE FROM journal WHERE account = $1 AND id <= \
                   (SELECT id FROM journal WHERE account = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)";
        sqlx::query(sql).bind(id).bind(MOST_LINES as i64).execute(&mut **within).await?;
    }
    Ok(())
}

/// How a row is set, and how it is removed: its state is the last thing that is bound.
struct Row {
    set: &'static str,
    remove: &'static str,
}

const ROUTE: Row = Row {
    set: "INSERT INTO route (account, device, way, state) VALUES ($1, $2, $3, $4) \
          ON CONFLICT (account, device, way) DO UPDATE SET state = excluded.state",
    remove: "DELETE FROM route WHERE account = $1 AND device = $2 AND way = $3",
};

const LOOK: Row = Row {
    set: "INSERT INTO looked (account, mailbox, state) VALUES ($1, $2, $3) \
          ON CONFLICT (account, mailbox) DO UPDATE SET state = excluded.state",
    remove: LOOKED.remove,
};

const MEMO: Row = Row {
    set: "INSERT INTO memo (account, name, state) VALUES ($1, $2, $3) \
          ON CONFLICT (account, name) DO UPDATE SET state = excluded.state",
    remove: "DELETE FROM memo WHERE account = $1 AND name = $2",
};

type Asked<'q> = sqlx::query::Query<'q, Sqlite, <Sqlite as sqlx::Database>::Arguments>;

/// Sets a row, or removes it. `key`: binds what names it.
async fn set<'q>(
    within: &mut Transaction<'_, Sqlite>,
    row: &Row,
    state: Option<&'q str>,
    key: impl FnOnce(Asked<'q>) -> Asked<'q>,
) -> Result<(), sqlx::Error> {
    let asked = key(sqlx::query(if state.is_some() { row.set } else { row.remove }));
    state.into_iter().fold(asked, Asked::bind).execute(&mut **within).await?;
    Ok(())
}

async fn keeps_to(within: &mut Transaction<'_, Sqlite>, id: i64, quota: Quota) -> Result<(), StoreError> {
    let sum = "SELECT COUNT(*), COALESCE(SUM(LENGTH(name) + LENGTH(value)), 0) FROM entry WHERE account = $1";
    let (entries, octets): (i64, i64) = sqlx::query_as(sum).bind(id).fetch_one(&mut **within).await?;
    quota.judge(entries as u64, octets as u64)
}

/// Of the devices that nothing is kept of, those that were seen last stay.
async fn forget_the_oldest(within: &mut Transaction<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    let idle = "SELECT name FROM device WHERE account = $1 \
                AND name NOT IN (SELECT device FROM entry WHERE account = $1) ORDER BY last_seen DESC, name";
    let idle: Vec<String> = sqlx::query_scalar(idle).bind(id).fetch_all(&mut **within).await?;
    for name in idle.iter().skip(MOST_DEVICES) {
        let asked = sqlx::query("DELETE FROM device WHERE account = $1 AND name = $2");
        asked.bind(id).bind(name).execute(&mut **within).await?;
    }
    Ok(())
}

/// Sets or removes one entry.
async fn edit(
    within: &mut Transaction<'_, Sqlite>,
    id: i64,
    key: &Key,
    value: Option<&[u8]>,
) -> Result<u64, sqlx::Error> {
    let sql = match value {
        Some(_) => {
            "INSERT INTO entry (account, mailbox, device, name, value) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (account, mailbox, device, name) DO UPDATE SET value = excluded.value"
        }
        None => "DELETE FROM entry WHERE account = $1 AND mailbox = $2 AND device = $3 AND name = $4",
    };
    let asked = sqlx::query(sql).bind(id).bind(&*key.mailbox).bind(key.owner.column()).bind(key.name.as_str());
    let asked = if let Some(value) = value { asked.bind(value) } else { asked };
    Ok(asked.execute(&mut **within).await?.rows_affected())
}

/// Whether there is this entry, with this value.
async fn stands(within: &mut Transaction<'_, Sqlite>, id: i64, entry: &Entry) -> Result<bool, sqlx::Error> {
    let Entry { key, value } = entry;
    let sql = "SELECT COUNT(*) FROM entry \
               WHERE account = $1 AND mailbox = $2 AND device = $3 AND name = $4 AND value = $5";
    let asked = sqlx::query_scalar::<_, i64>(sql).bind(id).bind(&*key.mailbox).bind(key.owner.column());
    Ok(asked.bind(key.name.as_str()).bind(&**value).fetch_one(&mut **within).await? > 0)
}

/// What is kept of mailboxes, by their names.
struct ByMailbox {
    names: &'static str,
    remove: &'static str,
    rename: &'static str,
}

const ENTRIES: ByMailbox = ByMailbox {
    names: "SELECT DISTINCT mailbox FROM entry WHERE account = $1",
    remove: "DELETE FROM entry WHERE account = $1 AND mailbox = $2",
    rename: "UPDATE entry SET mailbox = $3 WHERE account = $1 AND mailbox = $2",
};

const LOOKED: ByMailbox = ByMailbox {
    names: "SELECT mailbox FROM looked WHERE account = $1",
    remove: "DELETE FROM looked WHERE account = $1 AND mailbox = $2",
    rename: "UPDATE looked SET mailbox = $3 WHERE account = $1 AND mailbox = $2",
};

/// Removes what is kept of one mailbox.
async fn remove(
    within: &mut Transaction<'_, Sqlite>,
    id: i64,
    rows: &ByMailbox,
    mailbox: &[u8],
) -> Result<u64, sqlx::Error> {
    Ok(sqlx::query(rows.remove).bind(id).bind(mailbox).execute(&mut **within).await?.rows_affected())
}

/// Moves what is kept of a mailbox and of those below it, each mailbox at once.
async fn rename(
    within: &mut Transaction<'_, Sqlite>,
    id: i64,
    rows: &ByMailbox,
    from: &[u8],
    to: &[u8],
    delimiter: Option<u8>,
) -> Result<u64, sqlx::Error> {
    let mut mailboxes: Vec<Vec<u8>> = sqlx::query_scalar(rows.names).bind(id).fetch_all(&mut **within).await?;
    let new_name = |mailbox: &Vec<u8>| renamed(mailbox, from, to, delimiter);
    let taken: Vec<_> = mailboxes.iter().filter_map(new_name).chain([to.into()]).collect();
    for stale in mailboxes.iter().filter(|mailbox| new_name(mailbox).is_none()) {
        if taken.iter().any(|name| **name == **stale) {
            remove(within, id, rows, stale).await?;
        }
    }
    // Names grow or shrink alike, so in this order no new one is an old one that has not moved yet.
    mailboxes.sort_by_key(Vec::len);
    if to.len() > from.len() {
        mailboxes.reverse();
    }
    let mut moved = 0;
    for mailbox in &mailboxes {
        let Some(name) = renamed(mailbox, from, to, delimiter) else { continue };
        let asked = sqlx::query(rows.rename).bind(id).bind(&**mailbox).bind(&*name);
        moved += asked.execute(&mut **within).await?.rows_affected();
    }
    Ok(moved)
}

fn entry(row: &SqliteRow) -> Result<Entry, sqlx::Error> {
    let name: &str = row.try_get(2)?;
    let name = EntryName::parse(name.as_bytes()).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let mailbox: Vec<u8> = row.try_get(0)?;
    let value: Vec<u8> = row.try_get(3)?;
    let key = Key { mailbox: mailbox.into(), owner: Owner::of_column(row.try_get(1)?), name };
    Ok(Entry { key, value: value.into() })
}

fn device(row: &SqliteRow) -> Result<Device, sqlx::Error> {
    let name = device_name(row.try_get(0)?)?;
    Ok(Device { name, source: Source::find(row.try_get(1)?), first_seen: row.try_get(2)?, last_seen: row.try_get(3)? })
}

fn route(row: &SqliteRow) -> Result<(Way, Box<str>), sqlx::Error> {
    let device = device_name(row.try_get(0)?)?;
    Ok((Way { device, to: row.try_get::<&str, _>(1)?.into() }, row.try_get::<&str, _>(2)?.into()))
}

fn line(row: &SqliteRow) -> Result<Line, sqlx::Error> {
    let device: &str = row.try_get(1)?;
    let device = (!device.is_empty()).then(|| device_name(device)).transpose()?;
    let (mailbox, seq): (Vec<u8>, i64) = (row.try_get(2)?, row.try_get(4)?);
    let what: &str = row.try_get(5)?;
    Ok(Line {
        at: row.try_get(0)?,
        device,
        mailbox: mailbox.into(),
        uids: row.try_get::<&str, _>(3)?.into(),
        seq: seq as u64,
        what: what.into(),
    })
}

fn device_name(name: &str) -> Result<DeviceName, sqlx::Error> {
    DeviceName::parse(name.as_bytes()).map_err(|error| sqlx::Error::Decode(error.into()))
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use super::*;
    use crate::store::{Quota, suite::Random};

    const ANY: Quota = Quota { entries: 1 << 40, octets: 1 << 22 };

    fn joe() -> AccountName {
        AccountName { backend: "main".into(), user: "joe".into() }
    }

    /// Two entries with one value: whoever sees one without the other sees half a change.
    fn both(value: &[u8]) -> Change {
        let edit = |name: &[u8]| {
            let name = EntryName::parse(name).unwrap();
            (Key { mailbox: b"INBOX".as_slice().into(), owner: Owner::User, name }, Some(value.into()))
        };
        Change::Entries { edits: vec![edit(b"/private/a"), edit(b"/private/b")], quota: ANY }
    }

    async fn values(database: &Database) -> Vec<Box<[u8]>> {
        let Found::Entries(found) = database.load(&joe(), &Query::Entries).await.unwrap() else { panic!("devices") };
        found.into_iter().map(|entry| entry.value).collect()
    }

    /// One version more than we know.
    fn newer() -> Vec<(i64, &'static str, &'static str)> {
        [&VERSIONS[..], &[(9999, "more", "CREATE TABLE more (x BIGINT)")]].concat()
    }

    #[tokio::test]
    async fn a_store_of_an_older_version_is_copied_and_brought_up_to_date() {
        let state = tempfile::tempdir().unwrap();
        let database = Database::open(state.path()).await.unwrap();
        database.save(&joe(), &both(b"1")).await.unwrap();
        database.close().await;
        let database = Database::open_with(state.path(), &newer()).await.unwrap();
        assert_eq!(values(&database).await.len(), 2);
        database.close().await;
        let copy = state.path().join("store.before-9999.sqlite");
        let other = tempfile::tempdir().unwrap();
        std::fs::copy(copy, other.path().join("store.sqlite")).unwrap();
        assert_eq!(values(&Database::open(other.path()).await.unwrap()).await.len(), 2, "the copy is a store too");
    }

    #[tokio::test]
    async fn copies_that_an_attempt_has_left_behind_are_replaced() {
        let state = tempfile::tempdir().unwrap();
        let database = Database::open(state.path()).await.unwrap();
        database.save(&joe(), &both(b"1")).await.unwrap();
        database.close().await;
        let name = |end: &str| state.path().join(format!("store.before-9999.sqlite{end}"));
        for end in ["", ".tmp"] {
            fs::copy(state.path().join("store.sqlite"), name(end)).unwrap();
            fs::OpenOptions::new().append(true).open(name(end)).unwrap().set_len(5000).unwrap();
        }
        Database::open_with(state.path(), &newer()).await.unwrap().close().await;
        assert!(!name(".tmp").exists());
        let other = tempfile::tempdir().unwrap();
        fs::copy(name(""), other.path().join("store.sqlite")).unwrap();
        assert_eq!(values(&Database::open(other.path()).await.unwrap()).await.len(), 2, "it is whole");
    }

    #[tokio::test]
    async fn a_store_that_could_not_be_opened_is_tried_again() {
        let state = tempfile::tempdir().unwrap();
        let missing = state.path().join("later");
        assert!(matches!(Database::open(&missing).await, Err(OpenError::Unusable { .. })));
        let database = Database::later(&missing);
        let account = AccountName { backend: "main".into(), user: "joe".into() };
        assert!(database.load(&account, &Query::Devices).await.is_err());
        std::fs::create_dir(&missing).unwrap();
        assert_eq!(database.load(&account, &Query::Devices).await.unwrap(), Found::Devices(Vec::new()));
    }

    #[tokio::test]
    async fn a_store_of_a_newer_version_is_left_alone() {
        let state = tempfile::tempdir().unwrap();
        Database::open_with(state.path(), &newer()).await.unwrap().close().await;
        let error = Database::open(state.path()).await.unwrap_err().to_string();
        let known = VERSIONS[VERSIONS.len() - 1].0;
        let says = format!("its tables are of version 9999, and this program knows {known}: a newer one has been here");
        assert!(error.ends_with(&says), "{error}");
    }

    #[tokio::test]
    async fn a_disk_that_is_full_refuses_the_change_and_no_other() {
        let state = tempfile::tempdir().unwrap();
        let database = Database::open(state.path()).await.unwrap();
        database.save(&joe(), &both(b"before")).await.unwrap();
        let pages: i64 =
            sqlx::query_scalar("PRAGMA page_count").fetch_one(&database.pools().await.unwrap().writer).await.unwrap();
        let limit = |pages: i64| sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        sqlx::query(limit(pages)).execute(&database.pools().await.unwrap().writer).await.unwrap();
        let large = database.save(&joe(), &both(&vec![0; 1 << 20])).await;
        assert!(matches!(large, Err(StoreError::Unavailable(_))), "{large:?}");
        assert_eq!(values(&database).await, [Box::from(*b"before"), Box::from(*b"before")]);
        database.save(&joe(), &both(b"after")).await.unwrap();
        assert_eq!(values(&database).await, [Box::from(*b"after"), Box::from(*b"after")]);
    }

    /// What became of a save of each of these values for an account of its own, all at the same time; and how often the disk was written.
    async fn at_once(database: &Arc<Database>, values: Vec<Vec<u8>>) -> (Vec<Result<Changed, StoreError>>, usize) {
        let commits = Arc::new(AtomicUsize::new(0));
        let mut writer = database.pools().await.unwrap().writer.acquire().await.unwrap();
        let counted = Arc::clone(&commits);
        writer.lock_handle().await.unwrap().set_commit_hook(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            true
        });
        drop(writer);
        let saves = values.into_iter().enumerate().map(|(number, value)| {
            let database = Arc::clone(database);
            tokio::spawn(async move { database.save(&user(number), &both(&value)).await })
        });
        let mut results = Vec::new();
        for save in saves.collect::<Vec<_>>() {
            results.push(save.await.unwrap());
        }
        (results, commits.load(Ordering::Relaxed))
    }

    fn user(number: usize) -> AccountName {
        AccountName { backend: "main".into(), user: format!("user{number}").into() }
    }

    async fn value_of(database: &Database, number: usize) -> Option<Box<[u8]>> {
        let found = database.load(&user(number), &Query::Entries).await.unwrap();
        let Found::Entries(found) = found else { panic!("devices") };
        found.into_iter().next().map(|entry| entry.value)
    }

    #[tokio::test]
    async fn changes_that_come_at_the_same_time_are_written_together_and_each_is_answered_for_itself() {
        let state = tempfile::tempdir().unwrap();
        let database = Arc::new(Database::open(state.path()).await.unwrap());
        let over = ANY.octets as usize + 1;
        let values: Vec<_> = (0..200).map(|number| vec![b'x'; if number % 50 == 49 { over } else { number }]).collect();
        let (results, commits) = at_once(&database, values).await;
        for (number, result) in results.iter().enumerate() {
            let value = value_of(&database, number).await;
            match number % 50 == 49 {
                true => {
                    assert!(matches!(result, Err(StoreError::TooLarge(_))) && value.is_none(), "{number}: {result:?}")
                }
                false => {
                    assert_eq!(result.as_ref().unwrap().entries, 2);
                    assert_eq!(value.unwrap().len(), number);
                }
            }
        }
        assert!((1..20).contains(&commits), "{commits}");
    }

    #[tokio::test]
    async fn what_a_full_disk_has_refused_is_not_there_and_what_was_answered_ok_is() {
        let state = tempfile::tempdir().unwrap();
        let database = Arc::new(Database::open(state.path()).await.unwrap());
        let pool = &database.pools().await.unwrap().writer;
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(pool).await.unwrap();
        let limit = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {}", pages + 20));
        sqlx::query(limit).execute(pool).await.unwrap();
        let large = vec![0; ANY.octets as usize / 3];
        let (results, _) = at_once(&database, vec![b"1".to_vec(), large, b"3".to_vec()]).await;
        assert!(matches!(results[1], Err(StoreError::Unavailable(_))), "{results:?}");
        for (number, result) in results.iter().enumerate() {
            assert_eq!(value_of(&database, number).await.is_some(), result.is_ok(), "{number}: {result:?}");
        }
        let (results, _) = at_once(&database, vec![b"1".to_vec(), b"2".to_vec(), b"3".to_vec()]).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    #[tokio::test]
    async fn who_has_given_up_changes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let database = Database::open(state.path()).await.unwrap();
        let writer = database.pools().await.unwrap().writer.acquire().await.unwrap();
        let (account, first, second) = (joe(), both(b"first"), both(b"second"));
        {
            let saving = database.save(&account, &first);
            tokio::pin!(saving);
            assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(saving.as_mut().poll(cx).is_pending())).await);
        }
        drop(writer);
        assert!(values(&database).await.is_empty());
        database.save(&account, &second).await.unwrap();
        assert_eq!(values(&database).await[0], Box::from(*b"second"));
    }

    #[tokio::test]
    async fn a_disk_that_is_read_only_can_be_read() {
        let state = tempfile::tempdir().unwrap();
        let database = Database::open(state.path()).await.unwrap();
        database.save(&joe(), &both(b"before")).await.unwrap();
        sqlx::query("PRAGMA query_only = 1").execute(&database.pools().await.unwrap().writer).await.unwrap();
        let refused = database.save(&joe(), &both(b"after")).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert_eq!(values(&database).await, [Box::from(*b"before"), Box::from(*b"before")]);
    }

    #[tokio::test]
    async fn a_change_waits_for_somebody_else_who_holds_the_file() {
        let state = tempfile::tempdir().unwrap();
        let database = Database::open(state.path()).await.unwrap();
        let url = format!("sqlite://{}", state.path().join("store.sqlite").display());
        let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let held = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let (account, change) = (joe(), both(b"x"));
        let saving = database.save(&account, &change);
        tokio::pin!(saving);
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(saving.as_mut().poll(cx).is_pending())).await);
        assert!(values(&database).await.is_empty(), "readers do not wait");
        held.rollback().await.unwrap();
        saving.await.unwrap();
    }

    const KILLED: &str = "LEMONADE_STORE_OF_THE_KILLED";

    /// What the next test kills: it saves for ever, and says a number when the store has said Ok.
    #[tokio::test]
    async fn a_writer() {
        let Some(state) = env::var_os(KILLED) else { return };
        let database = Database::open(Path::new(&state)).await.unwrap();
        let first =
            values(&database).await.first().map_or(0, |value| std::str::from_utf8(value).unwrap().parse().unwrap());
        for number in first + 1_u64.. {
            database.save(&joe(), &both(number.to_string().as_bytes())).await.unwrap();
            println!("\nsaved {number}");
        }
    }

    #[tokio::test]
    async fn what_was_answered_ok_outlives_a_kill() {
        let mut random = Random::from_environment();
        let state = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let mut writer = Command::new(env::current_exe().unwrap())
                .args(["--exact", "store::sqlite::tests::a_writer", "--nocapture"])
                .env(KILLED, state.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let said = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
            let mut numbers = said.filter_map(|line| line.strip_prefix("saved ")?.parse::<u64>().ok());
            let first = numbers.by_ref().take(1 + random.below(40)).last().unwrap();
            writer.kill().unwrap();
            let last = numbers.last().unwrap_or(first);
            writer.wait().unwrap();
            let database = Database::open(state.path()).await.unwrap();
            let found = values(&database).await;
            let kept: u64 = std::str::from_utf8(&found[0]).unwrap().parse().unwrap();
            assert_eq!(found[0], found[1], "SEED={}, round {round}: half a change", random.seed);
            assert!((last..=last + 1).contains(&kept), "SEED={}, round {round}: {kept} after {last}", random.seed);
            database.close().await;
        }
    }
}
