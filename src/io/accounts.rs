//! What an operator asks and changes of the accounts in the store (requirement A5).
//!
//!     GET    /devices/joe           its devices, and what holds for each
//!     PUT    /devices/joe/pixel     {"channel": "SMS=WAKEUP", "address": "+4915112345678"}
//!     DELETE /accounts/joe          {"entries": 12, "devices": 2, "removed": [...]}
//!
//!     GET    /queue                 how the devices of all users are told while they are away
//!     GET    /explain/joe/pixel     ?mailbox=INBOX&uid=18: seen, notice 7 sent, accepted, the device is there
//!
//! A user is named as at login; routing says which account of which backend that is. Where it does not, because each listener
//! has a backend of its own, it is the backend that has something of this user. What changes, the sessions of the account hear.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use chrono::{DateTime, SecondsFormat};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    desks::{self, View},
    dialer::Dialer,
    keeper,
    shell::Shell,
};
use crate::{
    account::{
        annotation::{self, Role},
        device::{self, DeviceView, Wish},
        preference::Wrong,
    },
    imap::{
        mailbox_name::{as_people_read, on_the_wire},
        uid_set::UidSet,
    },
    outband::desk::Instruction,
    session::effect::{Annotated, DialError, Keeping, Kept, Notice},
    store::{
        AccountName, Change, Changed, Device, DeviceName, Entry, Found, Key, Line, Owner, Query, Source, StoreError,
    },
};

/// Whose account.
#[derive(Clone, Debug)]
pub struct Whom {
    /// The name, as at login.
    pub user: String,
    /// The backend, where the name does not say it.
    pub backend: Option<String>,
}

/// What is to be done with an account.
#[derive(Clone, Debug)]
pub enum Order {
    /// Say which devices there are.
    List,
    /// Say what holds for one.
    Show(DeviceName),
    /// Change what it prefers.
    Set(DeviceName, Wish),
    /// Forget it, and what is its own.
    Forget(DeviceName),
    /// Forget all that is kept of the user.
    Purge,
    /// Say how its devices are told while they are away.
    Queue,
    /// Tell a device again of what it has not seen.
    Retry(DeviceName),
    /// Tell a device of nothing that has come so far.
    Drop(DeviceName),
    /// Ask a device to sign in.
    SignIn(DeviceName),
    /// Say what has become of a message, for this device.
    Explain(DeviceName, Message),
}

/// A message of a user.
#[derive(Clone, Debug, Deserialize)]
pub struct Message {
    /// The mailbox, as people write it.
    pub mailbox: String,
    /// Its UID.
    pub uid: u32,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Routing knows no backend for this name, or cannot find out.
    #[error("no backend for this user: {0}")]
    User(DialError),
    /// The name does not say which of these backends is meant.
    #[error("this user can be of any of these backends: {0}; name one, with --backend NAME or ?backend=NAME")]
    Which(String),
    /// There is no backend of this name.
    #[error("there is no such backend; there are: {0}")]
    Backend(String),
    /// Nothing is known of it.
    #[error("this user has no such device")]
    Device,
    /// It was never seen, or so long ago that nobody remembers.
    #[error("nothing is remembered of this message for this device")]
    Message,
    /// It is no preference, or none that can be had.
    #[error("{0}")]
    Wish(Wrong),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An order that is carried out.
pub type Managing<'a> = Pin<Box<dyn Future<Output = Result<Value, AccountError>> + Send + 'a>>;

/// Of what was removed, so many entries are told: more than a user has, unless the operator lets one.
const MOST_TOLD: usize = 10_000;

impl Shell {
    /// Does this with the account of a user.
    pub async fn manage(&self, whom: &Whom, order: Order) -> Result<Value, AccountError> {
        let account = self.account(whom).await?;
        match order {
            Order::List => Ok(json!(self.devices(&account).await?)),
            Order::Show(device) => self.device(&account, &device).await,
            Order::Set(device, wish) => self.set(&account, &device, &wish).await,
            Order::Forget(device) => {
                let owner = Owner::Device(device.clone());
                match self.remove(&account, Change::Forget(device), |entry| entry.key.owner == owner).await? {
                    (Changed { entries: 0, devices: 0 }, _) => Err(AccountError::Device),
                    (changed, removed) => Ok(told(changed, &removed)),
                }
            }
            Order::Queue => match self.desks.ask(&account, desks::Order::View).await {
                Some(view) => Ok(queued(&account, &view)),
                None => Err(AccountError::Device),
            },
            Order::Retry(device) => self.order(&account, device, Instruction::Again).await,
            Order::Drop(device) => self.order(&account, device, Instruction::Nothing).await,
            Order::SignIn(device) => self.order(&account, device, Instruction::SignIn).await,
            Order::Explain(device, message) => self.explain(&account, &device, &message).await,
            Order::Purge => {
                let (changed, removed) = self.remove(&account, Change::Purge, |_| true).await?;
                Ok(told(changed, &removed))
            }
        }
    }

    /// How the devices of all users are told while they are away.
    pub async fn queue(&self) -> Value {
        let views = self.desks.views().await;
        json!(views.iter().map(|(account, view)| queued(account, view)).collect::<Vec<_>>())
    }

    async fn order(&self, account: &AccountName, device: DeviceName, what: Instruction) -> Result<Value, AccountError> {
        match self.desks.ask(account, |say| desks::Order::Operator(device, what, say)).await {
            Some(true) => Ok(json!({ "done": true })),
            _ => Err(AccountError::Device),
        }
    }

    /// What has become of a message: the line of its being seen, the notice that told of it and its answers, and the reaction.
    async fn explain(
        &self,
        account: &AccountName,
        device: &DeviceName,
        message: &Message,
    ) -> Result<Value, AccountError> {
        let asked = self.keeper.ask(account, &Keeping::Load(Query::Journal)).await?;
        let Kept::Found(Found::Journal(journal)) = asked else { return Err(AccountError::Message) };
        let story = story(&journal, device, &on_the_wire(&message.mailbox), message.uid);
        match story.is_empty() {
            true => Err(AccountError::Message),
            false => Ok(json!(story.into_iter().map(line).collect::<Vec<_>>())),
        }
    }

    /// Which account a name at login leads to.
    async fn account(&self, whom: &Whom) -> Result<AccountName, AccountError> {
        let setup = self.setup.load_full();
        let dialers: Vec<_> = match &whom.backend {
            None => setup.dialers.values().cloned().collect(),
            Some(name) => setup.dialers.get(name.as_str()).into_iter().cloned().collect(),
        };
        match self.find_backend(&dialers, Some(&whom.user)).await {
            Ok((dialer, user)) => Ok(AccountName { backend: Arc::clone(&dialer.name), user }),
            Err(_) if dialers.is_empty() => Err(AccountError::Backend(names(setup.dialers.values()))),
            Err(DialError::Unknown) => self.kept_at(&dialers, &whom.user).await,
            Err(why) => Err(AccountError::User(why)),
        }
    }

    /// The account at the only one of these backends, or at the only one that has something of this user.
    async fn kept_at(&self, dialers: &[Arc<Dialer>], user: &str) -> Result<AccountName, AccountError> {
        let mut kept = Vec::new();
        for dialer in dialers {
            let account =
                AccountName { backend: Arc::clone(&dialer.name), user: dialer.settings.user.rewrite(user).into() };
            if dialers.len() == 1 {
                return Ok(account);
            }
            if !self.seen(&account).await?.is_empty() || !self.entries(&account).await?.is_empty() {
                kept.push((dialer, account));
            }
        }
        match kept.pop() {
            Some((_, account)) if kept.is_empty() => Ok(account),
            Some(last) => {
                kept.push(last);
                Err(AccountError::Which(names(kept.iter().map(|(dialer, _)| *dialer))))
            }
            None => Err(AccountError::Which(names(dialers.iter()))),
        }
    }

    async fn device(&self, account: &AccountName, name: &DeviceName) -> Result<Value, AccountError> {
        let devices = self.devices(account).await?;
        let found = devices.into_iter().find(|device| device.device == name.as_str());
        found.map(|device| json!(device)).ok_or(AccountError::Device)
    }

    async fn devices(&self, account: &AccountName) -> Result<Vec<DeviceView>, AccountError> {
        Ok(device::devices(self.seen(account).await?, &self.entries(account).await?, keeper::now()))
    }

    /// The devices that were seen, or that an operator has made.
    async fn seen(&self, account: &AccountName) -> Result<Vec<Device>, AccountError> {
        match self.keeper.ask(account, &Keeping::Load(Query::Devices)).await? {
            Kept::Found(Found::Devices(seen)) => Ok(seen),
            _ => Ok(Vec::new()),
        }
    }

    async fn entries(&self, account: &AccountName) -> Result<Vec<Entry>, AccountError> {
        match self.keeper.ask(account, &Keeping::Load(Query::Entries)).await? {
            Kept::Found(Found::Entries(entries)) => Ok(entries),
            _ => Ok(Vec::new()),
        }
    }

    /// Sets what a device prefers, and says what holds. Whether there is such a mailbox nobody can be asked; what is kept tells
    /// whether one was ever spoken of.
    async fn set(&self, account: &AccountName, name: &DeviceName, wish: &Wish) -> Result<Value, AccountError> {
        let settings = Arc::clone(&self.setup.load().config.account);
        let (entries, mailbox) = (self.entries(account).await?, wish.mailbox());
        let known = *mailbox == *b"INBOX" || entries.iter().any(|entry| entry.key.mailbox == mailbox);
        let edits = device::edits(wish, name, &entries, &settings).map_err(AccountError::Wish)?;
        let changed = edits.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        self.save(account, Change::Entries { edits, quota: settings.quota() }).await?;
        self.publish(account, changed);
        if !self.seen(account).await?.iter().any(|device| device.name == *name) {
            let now = keeper::now();
            let device = Device { name: name.clone(), source: Source::Operator, first_seen: now, last_seen: now };
            // Who has made it is no part of what was asked for.
            let _ = self.save(account, Change::Seen(device)).await;
        }
        let mut shown = self.device(account, name).await?;
        if !mailbox.is_empty() {
            shown["mailbox_known"] = json!(known);
        }
        Ok(shown)
    }

    /// Makes a change that removes these entries.
    async fn remove(
        &self,
        account: &AccountName,
        change: Change,
        goes: impl Fn(&Entry) -> bool,
    ) -> Result<(Changed, Vec<Key>), AccountError> {
        let entries = self.entries(account).await?;
        let removed: Vec<Key> = entries.into_iter().filter(goes).map(|entry| entry.key).collect();
        let changed = self.save(account, change).await?;
        self.publish(account, removed.clone());
        Ok((changed, removed))
    }

    /// Tells the sessions of the account which entries have changed (RFC 5464 section 4.4).
    fn publish(&self, account: &AccountName, changed: Vec<Key>) {
        let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
        // What is ours alone no session hears of.
        let is_told = |key: &Key| annotation::role(&key.name, key.mailbox.is_empty()) != Role::Unknown;
        for Key { mailbox, owner, name } in changed.into_iter().filter(is_told) {
            places.entry((mailbox, owner)).or_default().push(name);
        }
        for ((mailbox, owner), entries) in places {
            self.registry.publish(account, None, Notice::Annotated(Annotated { mailbox, owner, entries }));
        }
    }

    async fn save(&self, account: &AccountName, change: Change) -> Result<Changed, AccountError> {
        match self.keeper.ask(account, &Keeping::Save(change)).await? {
            Kept::Saved(changed) => Ok(changed),
            Kept::Found(_) | Kept::OverQuota(_) => Ok(Changed::default()),
        }
    }
}

fn names<'a>(dialers: impl Iterator<Item = &'a Arc<Dialer>>) -> String {
    dialers.map(|dialer| &*dialer.name).collect::<Vec<_>>().join(", ")
}

/// How much was removed, and what; no values.
fn told(changed: Changed, removed: &[Key]) -> Value {
    let line = |key: &Key| {
        let mut line = json!({ "mailbox": as_people_read(&key.mailbox), "name": key.name.as_str() });
        if let Owner::Device(device) = &key.owner {
            line["device"] = json!(device.as_str());
        }
        line
    };
    let lines: Vec<_> = removed.iter().take(MOST_TOLD).map(line).collect();
    json!({ "entries": changed.entries, "devices": changed.devices, "removed": lines })
}

/// How the devices of a user are told while they are away.
fn queued(account: &AccountName, view: &View) -> Value {
    json!({
        "backend": &*account.backend,
        "user": &*account.user,
        "watch": { "mode": view.watching.0.name(), "state": view.watching.1.name() },
        "routes": view.routes,
    })
}

/// The lines of the journal that tell of a message, in their order: it was seen; the first notice behind that, if it rang; what came of that
/// notice; the reaction.
fn story<'a>(journal: &'a [Line], device: &DeviceName, mailbox: &[u8], uid: u32) -> Vec<&'a Line> {
    let own: Vec<&Line> =
        journal.iter().filter(|line| line.device.as_ref().is_none_or(|name| name == device)).collect();
    let is_it = |line: &&Line| {
        *line.mailbox == *mailbox && UidSet::parse(line.uids.as_bytes()).is_some_and(|uids| uids.contains(uid))
    };
    let Some(at) = own.iter().position(is_it) else { return Vec::new() };
    let barred = own[at + 1..].iter().copied().filter(|line| is_it(line) && line.what.starts_with("not told yet"));
    let mut story: Vec<_> = [own[at]].into_iter().chain(barred).collect();
    let told = own[at..].iter().find(|line| line.seq > 0 && line.what.starts_with("sent")).map(|line| line.seq);
    let is_told = |line: &&Line| told.is_some() && Some(line.seq) == told;
    if *own[at].what == *"new" {
        story.extend(own[at..].iter().copied().filter(is_told));
    }
    story.extend(own[at..].iter().copied().find(|line| line.seq == 0 && line.what.starts_with("the device is there")));
    story.sort_by_key(|line| line.at);
    story
}

fn line(line: &Line) -> Value {
    let Line { at, seq, what, .. } = line;
    let time = DateTime::from_timestamp_millis(*at).map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true));
    let mut value = json!({ "at": time, "what": &**what });
    if *seq > 0 {
        value["notice"] = json!(seq);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        account::channel::{Format, Kind},
        config::Config,
        io::{backends::Backend, registry, shell::tests::shell},
    };

    fn wish(channel: &str) -> Wish {
        Wish { channel: Some(channel.to_owned()), ..Wish::default() }
    }

    fn whom(user: &str) -> Whom {
        Whom { user: user.to_owned(), backend: None }
    }

    fn backends(config: &mut Config, names: &[&str]) {
        config.backends = names.iter().map(|name| ((*name).to_owned(), Backend::default())).collect();
        Arc::make_mut(&mut config.account).outband.channels = [(Kind::Udp, vec![Format::Wakeup])].into();
    }

    fn pixel() -> DeviceName {
        DeviceName::parse(b"pixel").unwrap()
    }

    #[test]
    fn the_story_of_a_message_is_what_concerns_it() {
        let line = |at, device: &str, uids: &str, seq, what: &str| Line {
            at,
            device: DeviceName::parse(device.as_bytes()).ok(),
            mailbox: if uids.is_empty() { Box::default() } else { (*b"INBOX").into() },
            uids: uids.into(),
            seq,
            what: what.into(),
        };
        let journal = [
            line(1, "pixel", "16", 0, "new"),
            line(2, "pixel", "", 3, "sent as UDP=WAKEUP, 16 octets"),
            line(3, "pixel", "17:18", 0, "new"),
            line(4, "tablet", "", 9, "sent as UDP=WAKEUP, 16 octets"),
            line(5, "pixel", "", 3, "accepted"),
            line(6, "pixel", "", 4, "sent as UDP=WAKEUP, 16 octets"),
            line(7, "pixel", "", 4, "accepted"),
            line(8, "pixel", "", 0, "the device is there"),
            line(9, "pixel", "19", 0, "new, does not match"),
            line(10, "pixel", "20", 0, "new"),
            line(11, "pixel", "20", 0, "not told yet: the address is not confirmed"),
        ];
        let told = |uid| story(&journal, &pixel(), b"INBOX", uid).iter().map(|line| line.at).collect::<Vec<_>>();
        assert_eq!(told(18), [3, 6, 7, 8]);
        assert_eq!(told(16), [1, 2, 5, 8]);
        assert_eq!(told(19), [9]);
        assert_eq!(told(20), [10, 11]);
        assert_eq!(told(21), [0; 0]);
    }

    #[tokio::test]
    async fn a_device_is_set_shown_forgotten_and_purged() {
        let (_state, shell) = shell(|config| backends(config, &["main"]));
        let (joe, ann, pixel) = (whom("joe"), whom("ann"), pixel());
        let shown = shell.manage(&joe, Order::Set(pixel.clone(), wish("UDP=WAKEUP"))).await.unwrap();
        assert_eq!(shown["defaults"]["channel"]["value"], "UDP=WAKEUP");
        assert_eq!((&shown["source"], &shown["last_seen"]), (&json!("operator"), &Value::Null));
        assert_eq!(shell.manage(&joe, Order::List).await.unwrap()[0]["device"], "pixel");
        assert_eq!(shell.manage(&ann, Order::List).await.unwrap(), json!([]));
        assert!(matches!(shell.manage(&ann, Order::Show(pixel.clone())).await, Err(AccountError::Device)));
        let refused = shell.manage(&joe, Order::Set(pixel.clone(), wish("SMS=WAKEUP"))).await;
        assert!(matches!(refused, Err(AccountError::Wish(_))));
        assert_eq!(shell.manage(&joe, Order::Forget(pixel.clone())).await.unwrap()["entries"], 1);
        assert!(matches!(shell.manage(&joe, Order::Forget(pixel.clone())).await, Err(AccountError::Device)));
        let drafts = Wish { mailbox: Some("Entwürfe".to_owned()), ..wish("NONE") };
        shell.manage(&joe, Order::Set(pixel, drafts)).await.unwrap();
        let name = "/private/vendor/lemonade/notify/outband/channel";
        let removed = json!([{ "mailbox": "Entwürfe", "name": name, "device": "pixel" }]);
        let purged = shell.manage(&joe, Order::Purge).await.unwrap();
        assert_eq!(purged, json!({ "entries": 1, "devices": 1, "removed": removed }));
        assert_eq!(shell.manage(&joe, Order::List).await.unwrap(), json!([]));
    }

    #[tokio::test]
    async fn a_mailbox_that_nothing_is_kept_of_is_not_known() {
        let (_state, shell) = shell(|config| backends(config, &["main"]));
        let set = async |mailbox: Option<&str>| {
            let wish = Wish { mailbox: mailbox.map(str::to_owned), ..wish("NONE") };
            shell.manage(&whom("joe"), Order::Set(pixel(), wish)).await.unwrap()["mailbox_known"].clone()
        };
        assert_eq!(set(Some("Wrok")).await, json!(false));
        assert_eq!(set(Some("Wrok")).await, json!(true));
        assert_eq!(set(Some("inbox")).await, json!(true));
        assert_eq!(set(None).await, Value::Null);
    }

    #[tokio::test]
    async fn sessions_hear_what_an_operator_changes_and_removes() {
        let (_state, shell) = shell(|config| backends(config, &["main"]));
        let account = AccountName { backend: "main".into(), user: "joe".into() };
        let mut seat = shell.registry.enter("127.0.0.1:4711".parse().unwrap(), Arc::from("127.0.0.1:1143"));
        seat.joins(account);
        let joe = whom("joe");
        for order in [Order::Set(pixel(), wish("UDP=WAKEUP")), Order::Forget(pixel()), Order::Purge] {
            if matches!(order, Order::Purge) {
                shell.manage(&joe, Order::Set(pixel(), wish("NONE"))).await.unwrap();
                std::future::poll_fn(|context| seat.inbox().poll_take(context)).await;
            }
            shell.manage(&joe, order.clone()).await.unwrap();
            let heard = std::future::poll_fn(|context| seat.inbox().poll_take(context)).await;
            let registry::Notice::Account(what) = heard else { panic!("{order:?}: {heard:?}") };
            let Notice::Annotated(what) = &*what else { panic!("{order:?}: {what:?}") };
            assert_eq!(what.owner, Owner::Device(pixel()), "{order:?}");
            assert_eq!(what.entries[0].as_str(), "/private/vendor/lemonade/notify/default/channel", "{order:?}");
        }
    }

    #[tokio::test]
    async fn a_user_whom_nothing_routes_is_where_something_is_kept() {
        let (_state, shell) = shell(|config| backends(config, &["a", "b"]));
        let at = |backend: &str| Whom { backend: Some(backend.to_owned()), ..whom("joe") };
        let says = async |whom: &Whom| match shell.manage(whom, Order::List).await {
            Ok(devices) => devices[0]["device"].to_string(),
            Err(error) => error.to_string(),
        };
        assert!(says(&whom("joe")).await.contains("any of these backends: a, b; name one, with --backend NAME"));
        assert_eq!(says(&at("c")).await, "there is no such backend; there are: a, b");
        shell.manage(&at("b"), Order::Set(pixel(), wish("NONE"))).await.unwrap();
        assert_eq!(says(&whom("joe")).await, "\"pixel\"");
        shell.manage(&at("a"), Order::Set(pixel(), wish("NONE"))).await.unwrap();
        assert!(matches!(shell.manage(&whom("joe"), Order::Purge).await, Err(AccountError::Which(_))));
        shell.manage(&at("a"), Order::Purge).await.unwrap();
        assert_eq!(says(&whom("joe")).await, "\"pixel\"");
    }
}
