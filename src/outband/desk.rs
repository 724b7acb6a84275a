//! The desk of an account: what its devices that are away are to be told, and which of it now.
//!
//!     entries of the account    -> subscribe     which routes there are
//!     what sessions do          -> sign, shown   which devices are there, and what they have seen
//!     a look at a mailbox       -> found         what is new, and for whom it rings
//!     the time                  -> claim         a notice, as octets on their way; saved first
//!     what came of it           -> settle
//!
//! An address that may be a stranger's is sent one thing, a question, until somebody has answered it ([`Proof`]); what an account may make
//! us write in a day has an end ([`Quota`]). What waits for either is not lost, and the journal says why ([`Bar`]).
//!
//! All that happens to an account comes here, one thing after the other, so that nothing is decided twice. What has changed is taken with
//! [`Desk::take_turn`] and saved, together with how far mailboxes were looked at, before anything is sent: a notice without a saved claim never leaves.
//! Of each device one notice is on its way at a time, whatever its routes; a slow provider holds up nobody else's.
//!
//! What a message says is kept in memory only, until the next one comes: behind a restart a device is told that there is something.
//!
//! Requirements N3, N9 to N11, N13, N16, N21.

mod asking;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    channel::{Channel, Delivery, Given, Outcome, Receipt, Undeliverable},
    excerpt,
    notice::{Counts, Message, Notice},
    patience::Patience,
    quota::{Quota, Used},
    route::{
        Effect, Input, Now, Route, Sizes, Subject,
        marks::{self, Shown},
        ring::Ring,
        stored::Name,
    },
    subscription::{self, MOST_MAILBOXES, Proof, Subscription, Wanted},
};
use crate::{
    account::{
        channel::{Format, Kind},
        presence::{Attention, Presence, Sign, Turn as Change},
    },
    imap::uid_set::UidSet,
    mailbox::{
        event::{self, Event},
        news::News,
    },
    store::{DeviceName, Edit, Line, Memo, Turn, Way},
};

pub use self::asking::Bar;

/// The channels over which somebody sends.
pub type Channels = BTreeMap<Kind, Arc<dyn Channel>>;

/// How patient the proxy is with devices, and how much it does for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// How often, and for how long, a device is told.
    pub patience: Patience,
    /// When a device counts as there.
    pub presence: Attention,
    /// What an account may have of it.
    pub quota: Quota,
}

/// The desk of an account.
pub struct Desk {
    account: Box<str>,
    rules: Arc<Rules>,
    channels: Arc<Channels>,
    subscriptions: Vec<Subscription>,
    devices: BTreeMap<DeviceName, Device>,
    counts: BTreeMap<Name, Counts>,
    /// Routes that know that nobody can look: since when, and whether the device was there since.
    asleep: BTreeMap<Way, (Duration, bool)>,
    /// What of the quota is used up.
    used: Used,
    /// Devices for which it has no room.
    beyond: BTreeSet<DeviceName>,
    dirty: BTreeSet<Way>,
    /// What has been found out of addresses.
    edits: Vec<Edit>,
    journal: Vec<Line>,
}

#[derive(Default)]
struct Device {
    presence: Presence,
    /// UIDVALIDITY of mailboxes, and the UID below which it was shown all: perhaps before anybody else has looked.
    shown: BTreeMap<Name, (Option<u32>, u32)>,
    routes: BTreeMap<Way, Held>,
    /// The route whose notice is on its way.
    carrying: Option<Way>,
}

/// A route, and what is known beside it.
struct Held {
    /// It is large, and a map has room for eleven of what stands in it.
    route: Box<Route>,
    /// What the last message says that has rung, of each mailbox.
    messages: BTreeMap<Name, Message>,
    /// Seconds by which the device's day is ahead of UTC's.
    zone: i32,
    /// Before that, its address is not asked about: there was no way to.
    asks_from: Duration,
}

/// The moment, and any number.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time of day, since 1970.
    pub time: Duration,
    /// Any number.
    pub chance: u32,
}

/// A notice on its way.
#[derive(Debug)]
pub struct Carriage {
    /// Over which route.
    pub way: Way,
    /// The channel of it.
    pub kind: Kind,
    /// Its number.
    pub seq: u64,
    /// When the oldest of what it tells was seen, since 1970.
    pub since: Duration,
    /// What is to be carried.
    pub delivery: Delivery,
}

/// What an operator wants done with the routes of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// It is told again of what it has not seen.
    Again,
    /// It is told of nothing that has come so far.
    Nothing,
    /// It is asked to sign in, and so to read its provisioning anew.
    SignIn,
}

impl Instruction {
    fn words(self) -> &'static str {
        match self {
            Self::Again => "the operator wants it told again",
            Self::Nothing => "the operator wants none of it told",
            Self::SignIn => "the operator wants it to sign in",
        }
    }
}

/// How a route stands, for those who look from outside.
#[derive(Clone, Debug, Serialize)]
pub struct RouteView {
    /// Whose.
    pub device: String,
    /// Over which channel.
    pub channel: String,
    /// To where, as far as it may be shown.
    pub address: String,
    /// What it waits for.
    pub state: String,
    /// Until when, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// The number of the last notice.
    pub seq: u64,
    /// Notices without a reaction.
    pub attempts: u32,
    /// Mailboxes with something that nobody has told.
    pub fresh: usize,
    /// Mailboxes with something that the device has not seen.
    pub dirty: usize,
    /// Whether the device is there.
    pub present: bool,
    /// Why it tells nothing yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barred: Option<&'static str>,
}

impl Desk {
    /// A desk with nothing on it. `account`: as a mail address, where it is one.
    pub fn new(account: &str, rules: Arc<Rules>, channels: Arc<Channels>) -> Self {
        Self {
            account: account.into(),
            rules,
            channels,
            subscriptions: Vec::new(),
            devices: BTreeMap::new(),
            counts: BTreeMap::new(),
            asleep: BTreeMap::new(),
            used: Used::default(),
            beyond: BTreeSet::new(),
            dirty: BTreeSet::new(),
            edits: Vec::new(),
            journal: Vec::new(),
        }
    }

    /// The routes and memos as they were stored, by a process that is no more. How many of them cannot be read: of those nothing is known, and
    /// they begin anew when they are subscribed to.
    pub fn restore(&mut self, rows: Vec<(Way, Box<str>)>, memos: &[Memo], now: Moment) -> usize {
        self.used = Used::read(memos);
        let mut unreadable = 0;
        for (way, row) in rows {
            match Route::read(&row) {
                Ok(route) => self.hold(way.clone(), route),
                Err(_) => unreadable += 1,
            }
            let grace = self.rules.presence.grace_broken.0;
            self.on(&way, Input::Restarted { grace }, now);
        }
        unreadable
    }

    /// So the devices of the account want to be told. A route of a device that has another address goes on with it; one of a device that has none
    /// waits for one, with its number and what it has to tell; what is left over ends, and what it would have told is told over the route that
    /// its mailbox has now. Of a device that has nothing to say any more, which is not among `devices`, nothing is kept.
    ///
    /// Of more devices than the account may have, those stay that were told of something.
    pub fn subscribe(&mut self, subscriptions: Vec<Subscription>, devices: &BTreeSet<DeviceName>, now: Moment) {
        let wanted: BTreeMap<&Way, Kind> = subscriptions.iter().map(|one| (&one.way, one.kind)).collect();
        let known: BTreeSet<Way> = self.devices.values().flat_map(|device| device.routes.keys().cloned()).collect();
        let mut over: Vec<Way> = known.iter().filter(|way| !wanted.contains_key(way)).cloned().collect();
        let mut moved = Vec::new();
        for (way, kind) in wanted.iter().filter(|(way, _)| !known.contains(way)) {
            match over.iter().position(|old| old.device == way.device).map(|at| over.remove(at)) {
                Some(old) => self.readdress(&old, (*way).clone(), Some(*kind), now),
                None => {
                    self.hold((*way).clone(), Route::new(Some(*kind)));
                    self.dirty.insert((*way).clone());
                }
            }
            if self.is_present(&way.device, now) {
                self.on(way, Input::Came, now);
            }
        }
        let is_silent =
            |device: &DeviceName| devices.contains(device) && wanted.keys().all(|way| way.device != *device);
        let silent: BTreeSet<_> = over.iter().map(|way| way.device.clone()).filter(is_silent).collect();
        silent.into_iter().for_each(|device| self.silence(device, &mut over, now));
        for way in over {
            let fresh = self.end(&way).map(|held| fresh(&held.route)).unwrap_or_default();
            moved.extend(fresh.into_iter().map(|event| (way.device.clone(), event)));
        }
        let before = std::mem::replace(&mut self.subscriptions, subscriptions);
        for (way, zone) in self.subscriptions.iter().map(|one| (one.way.clone(), one.zone)).collect::<Vec<_>>() {
            self.held(&way).into_iter().for_each(|held| held.zone = zone);
        }
        self.believe(&before, now);
        self.count_devices();
        let is_told = |name: &Name| self.subscriptions.iter().any(|one| one.mailbox == *name);
        self.counts.retain(|name, _| is_told(name));
        self.asleep.retain(|way, _| self.subscriptions.iter().any(|one| one.way == *way));
        for device in self.devices.values_mut() {
            device.shown.retain(|name, _| is_told(name));
            device.routes.values_mut().for_each(|held| held.messages.retain(|name, _| is_told(name)));
        }
        for (device, event) in moved {
            let now_at =
                |one: &&Subscription| one.way.device == device && event.mailbox.as_ref() == Some(&one.mailbox.0);
            let way = self.subscriptions.iter().find(now_at).map(|one| one.way.clone());
            if let Some(way) = way {
                self.on(
                    &way,
                    Input::Event(marks::News { event: &event, unseen: None, rings: true, urgent: false }),
                    now,
                );
            }
        }
    }

    /// Whether somebody wants to be told of something.
    pub fn is_subscribed(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// What is wanted of which mailboxes.
    pub fn wishes(&self) -> BTreeMap<Box<[u8]>, Wanted> {
        let mut wishes: BTreeMap<Box<[u8]>, Wanted> = BTreeMap::new();
        for one in &self.subscriptions {
            let wanted = wishes.entry(one.mailbox.0.clone()).or_default();
            let program = one.program.clone().filter(|program| !wanted.programs.contains(program));
            wanted.programs.extend(program);
            wanted.heads |= one.format == Format::Extended;
        }
        wishes
    }

    /// A session of a device does something. Whether the device is there by it, and was not before.
    pub fn sign(&mut self, device: &DeviceName, session: u64, sign: Sign, now: Moment) -> bool {
        let change = self.devices.entry(device.clone()).or_default();
        let change = change.presence.on(session, sign, now.time, &self.rules.presence);
        self.turned(device, change, now);
        if matches!(sign, Sign::Goes(_))
            && self.devices.get(device).is_some_and(|device| device.is_nothing(now, &self.rules))
        {
            self.devices.remove(device);
        }
        change == Some(Change::Came)
    }

    /// It is not known any more which sessions are there, and what has happened meanwhile: those that are come again, and devices that return
    /// are told to compare everything.
    pub fn lose_sight(&mut self, now: Moment) {
        for name in self.devices.keys().cloned().collect::<Vec<_>>() {
            let device = self.devices.get_mut(&name);
            let change = device.and_then(|device| device.presence.lose_sight(now.time, &self.rules.presence));
            self.turned(&name, change, now);
            self.ways(&name).iter().for_each(|way| self.on(way, Input::Missed, now));
        }
    }

    /// Something that leaves no trace in a mailbox has happened to the account, by one of its devices: the others are to find it when they are
    /// back.
    pub fn happened_by(&mut self, device: &DeviceName, event: &Event, now: Moment) {
        let others = self.devices.iter().filter(|(other, _)| *other != device);
        let ways: Vec<_> = others.flat_map(|(_, other)| other.routes.keys().cloned()).collect();
        let news = marks::News { event, unseen: None, rings: false, urgent: false };
        ways.iter().for_each(|way| self.on(way, Input::Event(news), now));
    }

    /// What a device has missed and will not find by itself, as what its user reads: given once.
    pub fn missed(&mut self, device: &DeviceName, now: Moment) -> Ring {
        let (mut all, rules) = (Ring::default(), Arc::clone(&self.rules));
        for way in self.ways(device) {
            let Some(held) = self.held(&way).filter(|held| held.route.ring != Ring::default()) else { continue };
            all.join(held.route.missed(at(&rules, held.zone, now)));
            self.dirty.insert(way);
        }
        all
    }

    /// What the user of a device is to be told when he is there: of addresses that are none any more.
    pub fn alerts(&self, device: &DeviceName) -> Vec<String> {
        let routes = self.devices.get(device).into_iter().flat_map(|device| device.routes.values());
        let dead = routes.filter(|held| held.route.dead).filter_map(|held| held.route.channel);
        dead.map(|kind| format!("You are not told of new mail by {kind} any more: the address is none. Set another, or NONE and then this one")).collect()
    }

    /// A device was shown how a mailbox stands.
    pub fn shown(&mut self, device: &DeviceName, shown: Shown<'_>, now: Moment) {
        let mailbox = Name(shown.mailbox.into());
        let is_told = self.subscriptions.iter().any(|one| one.way.device == *device && one.mailbox == mailbox);
        if let Some(device) = self.devices.get_mut(device)
            && let (true, Some(uidnext)) = (is_told, shown.uidnext)
        {
            device.shown.insert(mailbox, (shown.uidvalidity, uidnext));
        }
        for way in self.ways(device) {
            self.on(&way, Input::Synced(shown), now);
        }
    }

    /// A mailbox was looked at.
    pub fn found(&mut self, news: &News, now: Moment) {
        let mailbox = Name(news.mailbox.clone());
        let counts = self.counts.entry(mailbox.clone()).or_default();
        (counts.messages, counts.uidnext) = (news.messages.or(counts.messages), Some(news.next));
        let concerned: Vec<Subscription> =
            self.subscriptions.iter().filter(|one| one.mailbox == mailbox).cloned().collect();
        for one in &concerned {
            if let Some(messages) = news.renewed.filter(|messages| *messages > 0) {
                self.happened(one, news, UidSet::default(), true, "made anew", now);
                self.counts.entry(mailbox.clone()).or_default().messages = Some(messages);
            }
            let matched =
                one.program.as_ref().and_then(|program| news.matched.iter().find(|(other, _)| other == program));
            let matched = matched.map_or(&news.arrived, |(_, uids)| uids);
            let known = self.known_to(&one.way.device, news);
            let rings: UidSet = matched.without(&news.read).filter(|uid| *uid >= known).collect();
            let shown: UidSet = matched.without(&news.read).filter(|uid| *uid < known).collect();
            let unmatched: UidSet = news.arrived.without(matched).collect();
            let mut read = news.read.clone();
            read.narrow(matched);
            if !shown.is_empty() {
                self.note(Some(&one.way.device), &one.mailbox, &shown.to_string(), 0, "new, shown already", now);
            }
            for (uids, rings, what) in [
                (unmatched, false, "new, does not match"),
                (read, false, "new, read already"),
                (rings.clone(), true, "new"),
            ] {
                if !uids.is_empty() {
                    self.happened(one, news, uids, rings, what, now);
                }
            }
            let Some(held) = self.held(&one.way) else { continue };
            let last = held.route.marks.mailboxes.get(&mailbox).and_then(|marks| marks.last_uid);
            let is_told = |uid: u32| rings.contains(uid) || (news.arrived.is_empty() && last == Some(uid));
            let said = news.head.as_ref().filter(|(uid, _)| one.format == Format::Extended && is_told(*uid));
            if !rings.is_empty() {
                held.messages.remove(&mailbox);
            }
            if let Some((uid, head)) = said {
                held.messages.insert(mailbox.clone(), excerpt::message(*uid, head));
            }
        }
    }

    /// Messages of which a device is to be told what they say, and of which nobody knows it any more: mailbox, UIDVALIDITY, UID.
    pub fn unknown(&self) -> Vec<(Box<[u8]>, u32, u32)> {
        let wants = |one: &&Subscription| one.format == Format::Extended;
        let unknown = |one: &Subscription| {
            let held = self.devices.get(&one.way.device)?.routes.get(&one.way)?;
            let on_its_way = held.route.in_flight.as_ref().is_some_and(|flight| flight.subject.mailbox == one.mailbox);
            let marks = held.route.marks.mailboxes.get(&one.mailbox)?;
            let marks = Some(marks).filter(|marks| on_its_way || marks.fresh_since.is_some())?;
            let known = held.messages.contains_key(&one.mailbox);
            (!known).then_some((one.mailbox.0.clone(), marks.uidvalidity.unwrap_or_default(), marks.last_uid?))
        };
        self.subscriptions.iter().filter(wants).filter_map(unknown).collect()
    }

    /// What there is to say of the routes of each device that has one; empty: nothing.
    pub fn remarks(&self) -> BTreeMap<DeviceName, BTreeSet<String>> {
        let mut remarks: BTreeMap<DeviceName, BTreeSet<String>> = BTreeMap::new();
        for one in &self.subscriptions {
            let (kind, of_device) = (one.kind, remarks.entry(one.way.device.clone()).or_default());
            let held = self.devices.get(&one.way.device).and_then(|device| device.routes.get(&one.way));
            let is_private =
                || self.channels.get(&kind).is_some_and(|it| it.is_private(subscription::address(&one.way)));
            if one.format == Format::Extended && !is_private() {
                of_device.insert(format!("{kind}=EXTENDED goes as {kind}=WAKEUP: nothing protects it there"));
            }
            if held.is_some_and(|held| held.route.dead) {
                of_device.insert(format!("{kind}: the address is none any more"));
            }
        }
        let mut mailboxes = BTreeMap::<&DeviceName, usize>::new();
        self.subscriptions.iter().for_each(|one| *mailboxes.entry(&one.way.device).or_default() += 1);
        for (device, _) in mailboxes.into_iter().filter(|(_, count)| *count == MOST_MAILBOXES) {
            let remark = format!("of {MOST_MAILBOXES} mailboxes, and of no more");
            remarks.entry(device.clone()).or_default().insert(remark);
        }
        remarks
    }

    /// Something of the account as a whole is to be remembered in its journal.
    pub fn remember(&mut self, what: &str, now: Moment) {
        self.note(None, &Name(Box::default()), "", 0, what, now);
    }

    /// Whether somebody can look after the mailboxes. Where nobody can until a device signs in, those that are away are told to do so, once; one that is
    /// there hears of it when it goes. One that was there, and could not help, is told so no sooner than a device without a reaction is woken.
    pub fn look_after(&mut self, somebody: bool, now: Moment) {
        if somebody {
            self.asleep.clear();
            return;
        }
        for one in self.subscriptions.clone() {
            let is_present = self.is_present(&one.way.device, now);
            match self.asleep.get_mut(&one.way) {
                Some((_, was_there)) if is_present => *was_there = true,
                Some((since, was_there)) if *was_there && now.time >= *since + self.rules.patience.wake.0 => {}
                Some(_) => continue,
                None => {}
            }
            if is_present {
                continue;
            }
            self.asleep.insert(one.way.clone(), (now.time, false));
            let what = "nobody can look any more: asked to sign in";
            self.note(Some(&one.way.device), &one.mailbox, "", 0, what, now);
            self.call(&one, false, now);
        }
    }

    /// An operator wants this done with the routes of a device. Whether it has one.
    pub fn order(&mut self, device: &DeviceName, what: Instruction, now: Moment) -> bool {
        let (ways, rules) = (self.ways(device), Arc::clone(&self.rules));
        for way in &ways {
            let Some(held) = self.held(way) else { continue };
            let at = at(&rules, held.zone, now);
            match what {
                Instruction::Again => _ = held.route.again(at),
                Instruction::Nothing => _ = held.route.forget(at),
                Instruction::SignIn => {}
            }
            self.dirty.insert(way.clone());
        }
        if what == Instruction::SignIn {
            let own = self.subscriptions.iter().filter(|one| one.way.device == *device).cloned().collect::<Vec<_>>();
            own.iter().for_each(|one| self.call(one, true, now));
        }
        if !ways.is_empty() {
            self.note(Some(device), &Name(Box::default()), "", 0, what.words(), now);
        }
        !ways.is_empty()
    }

    /// A device is asked to sign in: nothing has come that could be named.
    fn call(&mut self, one: &Subscription, urgent: bool, now: Moment) {
        let event = Event::of_mailbox(event::Kind::MessageNew, &*one.mailbox.0);
        self.on(&one.way, Input::Event(marks::News { event: &event, unseen: None, rings: true, urgent }), now);
    }

    /// It is as late as [`Desk::next_at`] has said.
    pub fn advance(&mut self, now: Moment) {
        for name in self.devices.keys().cloned().collect::<Vec<_>>() {
            let change =
                self.devices.get_mut(&name).and_then(|device| device.presence.turn(now.time, &self.rules.presence));
            self.turned(&name, change, now);
            for way in self.ways(&name) {
                self.on(&way, Input::Time, now);
            }
        }
    }

    /// When there is something to do next if nothing happens.
    pub fn next_at(&self, now: Moment) -> Option<Duration> {
        let of_device = |device: &Device| {
            let goes = device.presence.next_change(now.time, &self.rules.presence);
            let free = device.routes.iter().filter(|_| device.carrying.is_none());
            free.filter_map(|(way, held)| self.due_at(way, held, now)).chain(goes).min()
        };
        let asleep =
            self.asleep.iter().filter(|(way, (_, was_there))| *was_there && !self.is_present(&way.device, now));
        let called = asleep.map(|(_, (since, _))| *since + self.rules.patience.wake.0);
        self.devices.values().filter_map(of_device).chain(called).min()
    }

    /// The next notice that is due, if there is one: save the turn, and carry it.
    pub fn claim(&mut self, given: &Given, now: Moment) -> Option<Carriage> {
        let free = self.devices.values().filter(|device| device.carrying.is_none());
        let routes = free.flat_map(|device| &device.routes);
        let due = routes.filter_map(|(way, held)| Some((self.due_at(way, held, now)?, way.clone())));
        let mut due: Vec<_> = due.filter(|(at, _)| *at <= now.time).collect();
        due.sort();
        due.into_iter().find_map(|(_, way)| match self.proof(&way) {
            Proof::Given => self.claim_from(way, given, now),
            proof => self.ask(way, proof, given, now),
        })
    }

    fn claim_from(&mut self, way: Way, given: &Given, now: Moment) -> Option<Carriage> {
        let rules = Arc::clone(&self.rules);
        let held = self.devices.get(&way.device)?.routes.get(&way)?;
        let kind = held.route.channel?;
        let channel = self.channels.get(&kind).cloned()?;
        let subject = held.route.subject();
        let since = held.route.marks.oldest_fresh().unwrap_or(now.time);
        let own = || self.subscriptions.iter().filter(|one| one.way == way);
        let (limit, was_new, is_again) = (self.limit(&way), held.route.is_new, held.route.in_flight.is_some());
        let mut written = [Err(Undeliverable::TooLarge), Err(Undeliverable::TooLarge)];
        if let Some(subject) = &subject {
            let address = subscription::address(&way);
            let notice = self.notice(held, subject);
            let may_say = own().any(|one| one.mailbox == subject.mailbox && one.format == Format::Extended);
            if notice.message.is_some() && may_say && channel.is_private(address) {
                written[0] = channel.write(&notice, address, given);
            }
            written[1] = channel.write(&notice.wakeup(), address, given);
        }
        let octets = |written: &Result<Delivery, Undeliverable>| written.as_ref().ok().map(Delivery::octets);
        let mut sizes = Sizes { extended: octets(&written[0]), wakeup: octets(&written[1]) };
        let hopeless = written[1].as_ref().err().copied().filter(|_| sizes.extended.is_none() && subject.is_some());
        if hopeless == Some(Undeliverable::Address) {
            let address_version = held.route.address_version;
            self.note(Some(&way.device), &Name(Box::default()), "", 0, "not an address of this channel", now);
            self.on(&way, Input::Dead { address_version }, now);
            return None;
        }
        if hopeless.is_some() {
            // It takes its number and its pause like one that a provider has refused.
            sizes.wakeup = Some(0);
        }
        let (now_at, mailbox) = (at(&rules, held.zone, now), subject.map(|subject| subject.mailbox));
        let route = &mut self.held(&way)?.route;
        let flight = route.claim(sizes, limit, now_at).map(|flight| (flight.subject.seq, flight.format, flight.octets));
        self.dirty.insert(way.clone());
        let (seq, format, octets) = flight?;
        let mailbox = mailbox.unwrap_or(Name(Box::default()));
        if let Some(why) = hopeless {
            self.note(Some(&way.device), &mailbox, "", seq, &format!("not sent: {why}"), now);
            self.settle(&way, seq, Outcome::Failed, now);
            return None;
        }
        let what = format!("sent as {kind}={format}, {octets} octets");
        self.note(Some(&way.device), &mailbox, "", seq, &what, now);
        if !is_again {
            self.count(&way, was_new, now);
        }
        let [extended, wakeup] = written;
        let delivery = if format == Format::Extended { extended } else { wakeup }.ok()?;
        self.devices.get_mut(&way.device)?.carrying = Some(way.clone());
        Some(Carriage { way, kind, seq, since, delivery })
    }

    /// A notice that was claimed, and is still here, is not to go where the device has come meanwhile, or may have (`unsure`); a question is. Neither
    /// goes to an address that is not the device's any more. Whether it stays here.
    pub fn recall(&mut self, way: &Way, seq: u64, unsure: bool, now: Moment) -> bool {
        let is_present = self.is_present(&way.device, now);
        let route = self.held(way).map(|held| &held.route);
        let asks = route.is_some_and(|route| route.question.as_ref().is_some_and(|question| question.seq == seq));
        let tells = route.is_some_and(|route| route.in_flight.as_ref().is_some_and(|flight| flight.subject.seq == seq));
        let why = match () {
            () if asks => return false,
            () if !tells => "not sent: the address is another one now",
            () if is_present => "not sent: the device is there",
            () if unsure => "not sent: the device may be there",
            () => return false,
        };
        self.note(Some(&way.device), &Name(Box::default()), "", seq, why, now);
        self.settle(way, seq, Outcome::Failed, now);
        true
    }

    /// What has become of a notice that was carried.
    pub fn settle(&mut self, way: &Way, seq: u64, outcome: Outcome, now: Moment) {
        if let Some(device) = self.devices.get_mut(&way.device) {
            device.carrying = device.carrying.take().filter(|carrying| carrying != way);
        }
        let rules = Arc::clone(&self.rules);
        let Some(held) = self.held(way) else { return };
        let is_question = held.route.answered(seq, outcome, at(&rules, held.zone, now));
        if !is_question {
            held.route.settle(seq, outcome, at(&rules, held.zone, now));
        }
        self.dirty.insert(way.clone());
        let what = match outcome {
            Outcome::Accepted => "accepted".to_owned(),
            Outcome::Delivered => "delivered".to_owned(),
            Outcome::Later { after: Some(after) } => format!("not now: again after {} s or later", after.as_secs()),
            Outcome::Later { after: None } => "not now: again later".to_owned(),
            Outcome::TooLarge => "too large".to_owned(),
            Outcome::Failed => "failed".to_owned(),
            Outcome::Dead => "the address is none any more".to_owned(),
        };
        self.note(Some(&way.device), &Name(Box::default()), "", seq, &what, now);
        if is_question && outcome == Outcome::Delivered {
            self.answered(way, seq, now);
        }
    }

    /// The network says later what has become of a notice.
    pub fn receipt(&mut self, way: &Way, seq: u64, receipt: Receipt, now: Moment) {
        let what = match receipt {
            Receipt::Delivered => "the network says: delivered",
            Receipt::Failed => "the network says: not delivered",
        };
        self.note(Some(&way.device), &Name(Box::default()), "", seq, what, now);
        if receipt == Receipt::Delivered {
            self.on(way, Input::Delivered { seq }, now);
        }
    }

    /// What has changed since it was taken last: to be saved, before anything is carried. Empty: nothing has.
    pub fn take_turn(&mut self) -> Turn {
        let row = |way: Way| {
            let held = self.devices.get(&way.device).and_then(|device| device.routes.get(&way));
            (way, held.map(|held| held.route.write().into()))
        };
        let routes = std::mem::take(&mut self.dirty).into_iter().map(row).collect();
        let (entries, journal) = (std::mem::take(&mut self.edits), std::mem::take(&mut self.journal));
        Turn { routes, memos: self.used.take().into_iter().collect(), entries, journal, ..Turn::default() }
    }

    /// All routes, as one may look at them.
    pub fn views(&self, now: Moment) -> Vec<RouteView> {
        let view = |(way, held): (&Way, &Held)| {
            let (route, address) = (&held.route, subscription::address(way));
            let mailboxes = || route.marks.mailboxes.values();
            RouteView {
                device: way.device.to_string(),
                channel: route.channel.map_or("NONE", Kind::name).to_owned(),
                address: route.channel.map_or(String::new(), |kind| kind.shown(address)),
                state: format!("{:?}", route.state).to_uppercase(),
                until: route.wake_at().map(|at| at.as_secs()),
                seq: route.seq,
                attempts: route.attempts,
                fresh: mailboxes().filter(|mailbox| mailbox.fresh_since.is_some()).count(),
                dirty: mailboxes().filter(|mailbox| mailbox.dirty).count(),
                present: self.is_present(&way.device, now),
                barred: self.bar(way, route, now).map(Bar::says),
            }
        };
        self.devices.values().flat_map(|device| device.routes.iter().map(view)).collect()
    }

    /// Since when each route that has something to tell waits, of devices that are away and want to be told.
    pub fn waiting(&self, now: Moment) -> impl Iterator<Item = Duration> {
        let is_away = move |device: &&Device| !device.presence.is_present(now.time, &self.rules.presence);
        let routes = self.devices.values().filter(is_away).flat_map(|device| device.routes.values());
        routes.filter(|held| held.route.channel.is_some()).filter_map(|held| held.route.marks.oldest_fresh())
    }

    /// Why routes tell nothing yet.
    pub fn bars(&self, now: Moment) -> Vec<Bar> {
        let routes = self.devices.values().flat_map(|device| &device.routes);
        routes.filter_map(|(way, held)| self.bar(way, &held.route, now)).collect()
    }

    /// Whether a device is there.
    pub fn is_present(&self, device: &DeviceName, now: Moment) -> bool {
        self.devices.get(device).is_some_and(|device| device.presence.is_present(now.time, &self.rules.presence))
    }

    fn turned(&mut self, device: &DeviceName, change: Option<Change>, now: Moment) {
        let (input, what) = match change {
            None => return,
            Some(Change::Came) => {
                self.ask_who_answers(device);
                (Input::Came, "the device is there")
            }
            Some(Change::Left { grace }) => (Input::Left { grace }, "the device has gone"),
        };
        let ways = self.ways(device);
        if !ways.is_empty() {
            self.note(Some(device), &Name(Box::default()), "", 0, what, now);
        }
        ways.iter().for_each(|way| self.on(way, input, now));
    }

    /// Below which UID a device was shown what there is.
    fn known_to(&self, device: &DeviceName, news: &News) -> u32 {
        let shown = self.devices.get(device).and_then(|device| device.shown.get(&Name(news.mailbox.clone())));
        shown.filter(|(uidvalidity, _)| uidvalidity.is_none_or(|it| it == news.uidvalidity)).map_or(0, |(_, uid)| *uid)
    }

    /// Messages of a mailbox that are new to a device.
    fn happened(&mut self, one: &Subscription, news: &News, uids: UidSet, rings: bool, what: &str, now: Moment) {
        self.note(Some(&one.way.device), &one.mailbox, &uids.to_string(), 0, what, now);
        let route = self.devices.get(&one.way.device).and_then(|device| device.routes.get(&one.way));
        if let Some(bar) = route.and_then(|held| self.bar(&one.way, &held.route, now)).filter(|_| rings) {
            let what = format!("not told yet: {}", bar.says());
            self.note(Some(&one.way.device), &one.mailbox, &uids.to_string(), 0, &what, now);
        }
        let uidvalidity = Some(news.uidvalidity).filter(|uidvalidity| *uidvalidity > 0);
        let event = Event { uids, uidvalidity, ..Event::of_mailbox(event::Kind::MessageNew, &*one.mailbox.0) };
        self.on(&one.way, Input::Event(marks::News { event: &event, unseen: None, rings, urgent: false }), now);
    }

    fn notice(&self, held: &Held, subject: &Subject) -> Notice {
        let Subject { seq, mailbox, about } = subject;
        let counts = self.counts.get(mailbox).copied().unwrap_or_default();
        let next = about.last_uid.map(|last| last.saturating_add(1));
        Notice {
            account: self.account.clone(),
            seq: *seq,
            at: about.at,
            event: about.last,
            mailbox: mailbox.0.clone(),
            uidvalidity: about.uidvalidity,
            counts: Counts { uidnext: counts.uidnext.or(next), modseq: about.modseq, unseen: about.unseen, ..counts },
            message: held.messages.get(mailbox).cloned(),
            urgent: about.urgent,
            code: None,
        }
    }

    fn on(&mut self, way: &Way, input: Input<'_>, now: Moment) {
        let rules = Arc::clone(&self.rules);
        let effect = self.held(way).map(|held| held.route.on(input, at(&rules, held.zone, now)));
        if effect.is_some_and(|effect| effect != Effect::Nothing) {
            self.dirty.insert(way.clone());
        }
    }

    fn hold(&mut self, way: Way, route: Route) {
        let device = self.devices.entry(way.device.clone()).or_default();
        device.routes.insert(
            way,
            Held { route: Box::new(route), messages: BTreeMap::new(), zone: 0, asks_from: Duration::ZERO },
        );
    }

    /// A route goes on with another address, or without one.
    fn readdress(&mut self, old: &Way, new: Way, kind: Option<Kind>, now: Moment) {
        let Some(mut held) = self.end(old) else { return };
        // What is on its way to the old address tells nobody, as far as anybody will know.
        if let Some(seq) = held.route.in_flight.as_ref().map(|flight| flight.subject.seq) {
            held.route.settle(seq, Outcome::Failed, at(&self.rules, held.zone, now));
        }
        self.hold(new.clone(), *held.route);
        self.on(&new, Input::Provisioned(kind), now);
    }

    /// Of the routes of a device that wants to be told over none, the one that has told last goes on, with what the others would have told.
    fn silence(&mut self, device: DeviceName, over: &mut Vec<Way>, now: Moment) {
        let seq = |way: &Way| self.devices.get(&way.device)?.routes.get(way).map(|held| held.route.seq);
        let own = over.iter().filter(|way| way.device == device);
        let Some(last) = own.max_by_key(|way| seq(way)).cloned() else { return };
        let others: Vec<_> = over.extract_if(.., |way| way.device == device).filter(|way| *way != last).collect();
        let nowhere = subscription::nowhere(device);
        if last != nowhere {
            self.readdress(&last, nowhere.clone(), None, now);
        }
        for other in others.iter().filter_map(|way| self.end(way)).collect::<Vec<_>>() {
            let news = |event| marks::News { event, unseen: None, rings: true, urgent: false };
            fresh(&other.route).iter().for_each(|event| self.on(&nowhere, Input::Event(news(event)), now));
            if other.route.ring != Ring::default() {
                self.on(&nowhere, Input::Missed, now);
            }
        }
    }

    fn end(&mut self, way: &Way) -> Option<Held> {
        self.dirty.insert(way.clone());
        self.devices.get_mut(&way.device)?.routes.remove(way)
    }

    fn held(&mut self, way: &Way) -> Option<&mut Held> {
        self.devices.get_mut(&way.device)?.routes.get_mut(way)
    }

    fn ways(&self, device: &DeviceName) -> Vec<Way> {
        self.devices.get(device).map(|device| device.routes.keys().cloned().collect()).unwrap_or_default()
    }

    fn note(&mut self, device: Option<&DeviceName>, mailbox: &Name, uids: &str, seq: u64, what: &str, now: Moment) {
        let at = i64::try_from(now.time.as_millis()).unwrap_or(i64::MAX);
        let (device, mailbox) = (device.cloned(), mailbox.0.clone());
        self.journal.push(Line { at, device, mailbox, uids: uids.into(), seq, what: what.into() });
    }
}

impl Device {
    /// Whether nothing is to be remembered of it.
    fn is_nothing(&self, now: Moment, rules: &Rules) -> bool {
        self.routes.is_empty() && !self.presence.is_present(now.time, &rules.presence)
    }
}

/// The moment as a route wants to know it.
fn at(rules: &Rules, zone: i32, now: Moment) -> Now<'_> {
    Now { time: now.time, zone, chance: now.chance, patience: &rules.patience }
}

/// What a route would have told.
fn fresh(route: &Route) -> Vec<Event> {
    let fresh = route.marks.mailboxes.iter().filter(|(_, mailbox)| mailbox.fresh_since.is_some());
    let event = |(name, mailbox): (&Name, &marks::Mailbox)| Event {
        uids: mailbox.last_uid.into_iter().collect(),
        uidvalidity: mailbox.uidvalidity,
        modseq: mailbox.modseq,
        ..Event::of_mailbox(mailbox.last, &*name.0)
    };
    fresh.map(event).collect()
}

#[cfg(test)]
mod tests;
