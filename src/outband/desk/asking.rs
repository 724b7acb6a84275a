//! What keeps a route from telling anything, and the question whether its address is the user's own.
//!
//!     Open      ask      49001731, saved, and only then sent        --> Asked
//!     Asked     ...      until the code is written back (`account/enrolment.rs`), or the device has answered by itself
//!     Given     claim    notices, as far as the quota goes
//!
//! A question goes whether the device is there or not: its user waits for it. What it takes of the quota and of the device's limit is counted
//! with it. Requirements N13, N21.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    super::{
        channel::{Given, Undeliverable},
        notice::{Counts, Notice},
        quota::tomorrow,
        route::{Input, Route, stored::Name},
        subscription::{self, Proof, Subscription},
    },
    Carriage, Desk, Device, Held, Moment, at,
};
use crate::{
    account::{
        channel::Kind,
        enrolment::{self, Question, Standing},
        preference::Limit,
    },
    mailbox::event,
    store::{DeviceName, Way},
};

/// Why a route tells nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bar {
    /// Nobody has said that the address is the user's own.
    Unconfirmed,
    /// The account has more devices than are told.
    Devices,
    /// It is new, and the new addresses of the day are used up.
    Destinations,
    /// The notices of the day are used up.
    Notices,
}

impl Bar {
    /// In words.
    pub fn says(self) -> &'static str {
        match self {
            Self::Unconfirmed => "the address is not confirmed",
            Self::Devices => "the account has more devices than it may",
            Self::Destinations => "the new addresses of today are used up",
            Self::Notices => "the notices of today are used up",
        }
    }
}

impl Desk {
    /// When something is to be carried over a route, a notice or a question.
    pub(super) fn due_at(&self, way: &Way, held: &Held, now: Moment) -> Option<Duration> {
        let route = &held.route;
        match self.bar(way, route, now) {
            None => route.wake_at(),
            Some(Bar::Destinations | Bar::Notices) => route.wake_at().map(|at| at.max(tomorrow(now.time))),
            Some(Bar::Devices) => None,
            Some(Bar::Unconfirmed) => self.asks_at(way, held, now),
        }
    }

    /// When an address is asked about.
    pub(super) fn asks_at(&self, way: &Way, held: &Held, now: Moment) -> Option<Duration> {
        if let Some(question) = &held.route.question {
            return question.again_at.map(|at| at.max(held.asks_from));
        }
        let wants = match self.proof(way) {
            Proof::Given => false,
            Proof::Asked(question) => question.again,
            Proof::Open => !held.route.dead,
        };
        let (used, quota, time) = (&self.used, &self.rules.quota, now.time);
        let may = used.has_code(quota, &way.device, time)
            && used.has_destination(quota, way, time)
            && used.has_notice(quota, time);
        wants.then(|| if may { time } else { tomorrow(time) }.max(held.asks_from))
    }

    /// Why a route tells nothing that is to. What was counted already goes.
    pub(super) fn bar(&self, way: &Way, route: &Route, now: Moment) -> Option<Bar> {
        let (quota, is_counted) = (&self.rules.quota, route.in_flight.is_some());
        match () {
            () if route.channel.is_none() => None,
            () if self.beyond.contains(&way.device) => Some(Bar::Devices),
            () if self.proof(way) != Proof::Given => Some(Bar::Unconfirmed),
            () if is_counted => None,
            () if route.is_new && !self.used.has_destination(quota, way, now.time) => Some(Bar::Destinations),
            () if !self.used.has_notice(quota, now.time) => Some(Bar::Notices),
            () => None,
        }
    }

    pub(super) fn proof(&self, way: &Way) -> Proof {
        self.subscriptions.iter().find(|one| one.way == *way).map_or(Proof::Given, |one| one.proof.clone())
    }

    /// From now on it is known so of an address.
    pub(super) fn prove(&mut self, way: &Way, proof: &Proof) {
        let standing = match proof {
            Proof::Given => Standing::Confirmed,
            Proof::Asked(question) => Standing::Asked(question.clone()),
            Proof::Open => return,
        };
        self.edits.extend(enrolment::edit(&way.device, &way.to, &standing));
        self.subscriptions.iter_mut().filter(|one| one.way == *way).for_each(|one| one.proof = proof.clone());
    }

    /// Asks whether an address is the user's own.
    pub(super) fn ask(&mut self, way: Way, proof: Proof, given: &Given, now: Moment) -> Option<Carriage> {
        let rules = Arc::clone(&self.rules);
        let held = self.devices.get(&way.device)?.routes.get(&way)?;
        let (kind, was_new, address) = (held.route.channel?, held.route.is_new, subscription::address(&way));
        let channel = self.channels.get(&kind).cloned()?;
        let asked = match proof {
            Proof::Asked(question) if held.route.question.is_some() && !question.again => Some(question),
            _ => None,
        };
        let is_again = asked.is_some();
        let at_second = i64::try_from(now.time.as_secs()).unwrap_or(i64::MAX);
        let code = Some(enrolment::code(kind, &given.chance));
        let question = asked.unwrap_or(Question { code, at: at_second, wrong: 0, again: false });
        let seq = held.route.question.as_ref().map_or(held.route.seq + 1, |question| question.seq);
        let delivery = match channel.write(&self.question(seq, &question), address, given) {
            Ok(delivery) => delivery,
            Err(why) => {
                self.cannot_ask(&way, why, now);
                return None;
            }
        };
        let limit = self.limit(&way);
        let held = self.held(&way)?;
        let Some(seq) = held.route.ask(delivery.octets(), limit, at(&rules, held.zone, now)) else {
            held.asks_from = tomorrow(now.time);
            self.note(Some(&way.device), &Name(Box::default()), "", 0, "not asked: today's limit is used up", now);
            return None;
        };
        self.dirty.insert(way.clone());
        if !is_again {
            self.count(&way, was_new, now);
            self.used.count_code(&way.device, now.time);
            // Where the device answers by itself, there is nothing that a user could write back.
            let code = question.code.filter(|_| !channel.is_proof(address));
            self.prove(&way, &Proof::Asked(Question { code, ..question }));
        }
        self.note(Some(&way.device), &Name(Box::default()), "", seq, "asked to confirm the address", now);
        self.devices.get_mut(&way.device)?.carrying = Some(way.clone());
        Some(Carriage { way, kind, seq, since: now.time, delivery })
    }

    pub(super) fn cannot_ask(&mut self, way: &Way, why: Undeliverable, now: Moment) {
        self.note(Some(&way.device), &Name(Box::default()), "", 0, &format!("not asked: {why}"), now);
        let Some(held) = self.held(way) else { return };
        held.asks_from = tomorrow(now.time);
        let address_version = held.route.address_version;
        if why == Undeliverable::Address {
            self.on(way, Input::Dead { address_version }, now);
        }
    }

    /// Counts a notice, and an address that is new.
    pub(super) fn count(&mut self, way: &Way, was_new: bool, now: Moment) {
        if was_new {
            self.used.count_destination(way, now.time);
        }
        self.used.count_notice(now.time);
        if !self.used.has_notice(&self.rules.quota, now.time) {
            let what = "the notices of today are used up: more are told tomorrow";
            self.note(None, &Name(Box::default()), "", 0, what, now);
        }
    }

    /// How much a device wants to get in a day.
    pub(super) fn limit(&self, way: &Way) -> Limit {
        let own = self.subscriptions.iter().filter(|one| one.way == *way);
        own.map(|one| one.limit).reduce(|one, other| one.least(other)).unwrap_or_default()
    }

    /// Whose address was asked about, and is the user's own now, is told.
    pub(super) fn believe(&mut self, before: &[Subscription], now: Moment) {
        let was_open = |way: &Way| before.iter().any(|one| one.way == *way && one.proof != Proof::Given);
        let own = self.subscriptions.iter().filter(|one| one.proof == Proof::Given && was_open(&one.way));
        let own: BTreeMap<Way, Kind> = own.map(|one| (one.way.clone(), one.kind)).collect();
        for (way, kind) in own {
            self.note(Some(&way.device), &Name(Box::default()), "", 0, "the address is confirmed", now);
            if self.held(&way).is_some_and(|held| held.route.dead) {
                self.on(&way, Input::Provisioned(Some(kind)), now);
            }
        }
    }

    pub(super) fn count_devices(&mut self) {
        let is_told = |device: &Device| device.routes.values().any(|held| held.route.channel.is_some());
        let told = self.devices.iter().filter(|(_, device)| is_told(device));
        let is_new = |device: &Device| device.routes.values().all(|held| held.route.is_new);
        let mut told: Vec<_> = told.map(|(name, device)| (is_new(device), name.clone())).collect();
        told.sort();
        let most = usize::try_from(self.rules.quota.devices).unwrap_or(usize::MAX);
        self.beyond = told.into_iter().skip(most).map(|(_, name)| name).collect();
    }

    /// A device that answers by itself, and has not, is asked again when it is there.
    pub(super) fn ask_who_answers(&mut self, device: &DeviceName) {
        for one in self.subscriptions.iter_mut().filter(|one| one.way.device == *device) {
            if let Proof::Asked(question) = &mut one.proof {
                question.again |= question.code.is_none();
            }
        }
    }

    /// What asks whether an address is the user's own.
    pub(super) fn question(&self, seq: u64, question: &Question) -> Notice {
        Notice {
            account: self.account.clone(),
            seq,
            at: Duration::from_secs(u64::try_from(question.at).unwrap_or_default()),
            event: event::Kind::MessageNew,
            mailbox: Box::default(),
            uidvalidity: None,
            counts: Counts::default(),
            message: None,
            urgent: true,
            code: Some(question.code.clone().unwrap_or_default()),
        }
    }

    /// The device has what asked it; where only the device can say so, the address is its own.
    pub(super) fn answered(&mut self, way: &Way, seq: u64, now: Moment) {
        let kind = self.held(way).and_then(|held| held.route.channel);
        let channel = kind.and_then(|kind| self.channels.get(&kind));
        if channel.is_some_and(|channel| channel.is_proof(subscription::address(way))) {
            self.prove(way, &Proof::Given);
            self.note(Some(&way.device), &Name(Box::default()), "", seq, "the address is confirmed", now);
        }
    }
}
