//! What has happened to a route, as facts, and what may therefore be true of it: no state is kept here, and no timer.
//!
//!     mail    INBOX 17, rings       told by 3       3: taken        therefore: not fresh, dirty
//!     mail    INBOX 18, rings       told by 4       4: refused      therefore: fresh
//!
//! Every count is counted anew from the facts: attempts are the notices since the last reaction, a day's notices those of the day.

use std::{collections::BTreeMap, time::Duration};

use lemonade_proxy::{
    account::{channel::Format, preference::Limit},
    outband::{
        channel::Outcome,
        patience::Patience,
        route::{Route, Sizes, State, marks::Mailbox, stored::Name},
    },
};

use super::{Checked, MAILBOXES};

/// All that has happened.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// The highest UIDs that were told of.
    pub(super) uids: [u32; 3],
    /// Events without a trace that nobody has read.
    pub(super) untraced: usize,
    /// How often a state was seen.
    pub(super) reached: BTreeMap<State, u32>,
    is_present: bool,
    grace_end: Duration,
    has_channel: bool,
    is_dead: bool,
    address_version: u64,
    /// What came and was not synchronised.
    mail: Vec<Mail>,
    notices: Vec<Notice>,
    /// The first notice since the last reaction, or since another address.
    series: usize,
    /// Wake-ups that were due since then.
    wake_ups: u32,
    /// Urgent news came since the last notice.
    is_hurried: bool,
    settled_at: Duration,
    /// When the next notice may have been put off last.
    put_off_at: Duration,
    pending_since: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Mail {
    place: usize,
    uid: u32,
    rings: bool,
    at: Duration,
    /// By which notice.
    told: Option<usize>,
}

#[derive(Clone, Debug)]
struct Notice {
    at: Duration,
    day: i64,
    octets: u64,
    format: Format,
    is_wake_up: bool,
    address_version: u64,
    tries: u32,
    became: Became,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Became {
    /// Nobody knows yet.
    Open,
    /// It goes again.
    Waiting,
    Taken,
    Refused,
}

/// The user's day.
pub(super) fn day(now: Duration, zone: i32) -> i64 {
    (now.as_secs() as i64 + i64::from(zone)).div_euclid(86_400)
}

/// Its end.
pub(super) fn midnight(now: Duration, zone: i32) -> Duration {
    Duration::from_secs(((day(now, zone) + 1) * 86_400 - i64::from(zone)) as u64)
}

/// The pause behind the n-th notice, without its chance.
fn pause(n: usize) -> Duration {
    Duration::from_secs(*[60, 240, 960, 3840, 15_360].get(n.saturating_sub(1)).unwrap_or(&21_600))
}

impl History {
    pub(super) fn new(has_channel: bool) -> Self {
        Self {
            uids: [0; 3],
            untraced: 0,
            reached: BTreeMap::new(),
            is_present: false,
            grace_end: Duration::ZERO,
            has_channel,
            is_dead: false,
            address_version: 1,
            mail: Vec::new(),
            notices: Vec::new(),
            series: 0,
            wake_ups: 0,
            is_hurried: false,
            settled_at: Duration::ZERO,
            put_off_at: Duration::ZERO,
            pending_since: None,
        }
    }

    pub(super) fn mail(&mut self, place: usize, uid: u32, rings: bool, urgent: bool, at: Duration) {
        self.uids[place] = uid;
        self.mail.push(Mail { place, uid, rings, at, told: None });
        self.is_hurried |= rings && urgent;
    }

    /// A mailbox is synchronised when all of it was shown, and not before.
    pub(super) fn sync(&mut self, place: usize, uidnext: u32) {
        if self.mail.iter().all(|mail| mail.place != place || mail.uid < uidnext) {
            self.mail.retain(|mail| mail.place != place);
            // What comes behind it is gathered anew.
            self.pending_since = None;
        }
    }

    pub(super) fn came(&mut self) {
        self.is_present = true;
        self.begin_anew();
    }

    pub(super) fn left(&mut self, grace_end: Duration) {
        if std::mem::take(&mut self.is_present) {
            self.grace_end = grace_end;
        }
    }

    pub(super) fn provisioned(&mut self, has_channel: bool) {
        self.address_version += 1;
        (self.has_channel, self.is_dead) = (has_channel, false);
        self.begin_anew();
    }

    fn begin_anew(&mut self) {
        self.give_up_waiting();
        (self.series, self.wake_ups, self.pending_since) = (self.notices.len(), 0, None);
    }

    pub(super) fn dead(&mut self, address_version: u64) {
        if address_version == self.address_version {
            self.is_dead = true;
            self.give_up_waiting();
        }
    }

    pub(super) fn receipt(&mut self, now: Duration) {
        self.put_off_at = now;
    }

    pub(super) fn restarted(&mut self, grace_end: Duration) {
        self.left(grace_end);
        let goes_again = self.goes_again();
        if self.in_flight().is_some() {
            self.become_of_last(if goes_again { Became::Waiting } else { Became::Refused });
        }
    }

    pub(super) fn settle(&mut self, outcome: Outcome, retries: u32, now: Duration) {
        (self.settled_at, self.put_off_at) = (now, now);
        let goes_again = self.goes_again();
        let Some(last) = self.notices.last_mut() else { return };
        let is_current = last.address_version == self.address_version;
        let became = match outcome {
            Outcome::Accepted | Outcome::Delivered if is_current => Became::Taken,
            Outcome::Later { .. } if goes_again && last.tries < retries => {
                last.tries += 1;
                Became::Waiting
            }
            Outcome::TooLarge if goes_again && last.format == Format::Extended => {
                last.format = Format::Wakeup;
                Became::Waiting
            }
            _ => Became::Refused,
        };
        self.become_of_last(became);
        self.is_dead |= outcome == Outcome::Dead && is_current;
    }

    /// What is claimed, if the history is right.
    pub(super) fn claim(
        &mut self,
        is_wake_up: bool,
        sizes: Sizes,
        limit: Limit,
        day: i64,
        at: Duration,
    ) -> Option<(u64, Format)> {
        let seq = self.notices.len() as u64;
        self.pending_since = None;
        if self.in_flight() == Some(Became::Waiting) {
            self.become_of_last(Became::Open);
            let last = self.notices.last_mut()?;
            let is_as_large = sizes.extended.is_some_and(|octets| u64::from(octets) <= last.octets);
            last.format = if is_as_large { last.format } else { Format::Wakeup };
            return Some((seq, last.format));
        }
        let is_unreacted = !self.series().is_empty() && !self.mail.is_empty();
        if !self.is_anything_fresh() && !is_unreacted {
            return None;
        }
        self.wake_ups += u32::from(is_wake_up);
        let today = || self.notices.iter().filter(|notice| notice.day == day);
        let (count, octets) = (today().count(), today().map(|notice| notice.octets).sum::<u64>());
        let has_room = |notices: usize, more: u64| {
            limit.total.is_none_or(|total| count + notices <= total as usize)
                && limit.size.is_none_or(|size| octets + more <= size.into())
        };
        let wakeup = sizes.wakeup.map(u64::from);
        let extended = sizes.extended.map(u64::from).filter(|_| !is_wake_up);
        let (format, octets) = match (extended, wakeup) {
            (Some(extended), _) if has_room(2, extended + wakeup.unwrap_or(0)) => (Format::Extended, extended),
            (_, Some(wakeup)) if has_room(1, wakeup) => (Format::Wakeup, wakeup),
            _ => return None,
        };
        let told: Vec<bool> = self.mail.iter().map(|mail| self.is_fresh(mail)).collect();
        for (mail, _) in self.mail.iter_mut().zip(told).filter(|(_, is_fresh)| *is_fresh) {
            mail.told = Some(self.notices.len());
        }
        let (address_version, became) = (self.address_version, Became::Open);
        self.notices.push(Notice { at, day, octets, format, is_wake_up, address_version, tries: 0, became });
        self.is_hurried = false;
        Some((seq + 1, format))
    }

    /// Whether a notice may leave now for the address of this version.
    pub(super) fn may_send(&self, address_version: u64, now: Duration) -> Checked {
        let is_away = !self.is_present && now >= self.grace_end;
        match is_away && self.can_be_reached() && address_version == self.address_version {
            true => Ok(()),
            false => Err("a notice leaves for a device that is there, or for an address that is none".to_owned()),
        }
    }

    /// The day on which the last notice was counted.
    pub(super) fn last_day(&self) -> i64 {
        self.notices.last().map_or(0, |notice| notice.day)
    }

    pub(super) fn can_be_reached(&self) -> bool {
        self.has_channel && !self.is_dead
    }

    pub(super) fn is_anything_fresh(&self) -> bool {
        self.mail.iter().any(|mail| self.is_fresh(mail))
    }

    fn is_fresh(&self, mail: &Mail) -> bool {
        mail.rings && mail.told.is_none_or(|notice| self.notices[notice].became == Became::Refused)
    }

    fn series(&self) -> &[Notice] {
        &self.notices[self.series..]
    }

    fn in_flight(&self) -> Option<Became> {
        let became = self.notices.last()?.became;
        matches!(became, Became::Open | Became::Waiting).then_some(became)
    }

    /// Whether the last notice, if it has no outcome, would be given to the channel again.
    fn goes_again(&self) -> bool {
        let last = self.series().last();
        last.is_some_and(|last| last.address_version == self.address_version) && !self.is_dead
    }

    fn give_up_waiting(&mut self) {
        if self.in_flight() == Some(Became::Waiting) {
            self.become_of_last(Became::Refused);
        }
    }

    fn become_of_last(&mut self, became: Became) {
        let number = self.notices.len() - 1;
        self.notices[number].became = became;
        if became == Became::Refused {
            // What is being gathered has grown; and it is as if all had come with the last of its mailbox.
            self.pending_since = None;
            let latest: Vec<Option<Duration>> = (0..MAILBOXES.len())
                .map(|place| self.mail.iter().filter(|mail| mail.place == place).map(|mail| mail.at).max())
                .collect();
            for mail in self.mail.iter_mut().filter(|mail| mail.told == Some(number)) {
                mail.at = latest[mail.place].unwrap_or(mail.at);
            }
        }
    }

    /// Whether the route is as it may be.
    pub(super) fn look(&mut self, route: &Route, patience: &Patience, now: Duration, midnight: Duration) -> Checked {
        *self.reached.entry(route.state).or_default() += 1;
        self.look_at_counts(route, patience)?;
        self.look_at_buffer(route)?;
        self.look_at_state(route, patience, now)?;
        self.look_at_time(route, now, midnight)
    }

    fn look_at_counts(&self, route: &Route, patience: &Patience) -> Checked {
        let attempts = self.series().iter().filter(|notice| !notice.is_wake_up).count();
        same("attempts", attempts, route.attempts as usize)?;
        same("wake-ups", self.wake_ups, route.wake_ups)?;
        same("seq", self.notices.len() as u64, route.seq)?;
        same("address_version", self.address_version, route.address_version)?;
        let waits = route.in_flight.as_ref().map(|flight| flight.again_at.is_some());
        same("in flight", self.in_flight().map(|became| became == Became::Waiting), waits)?;
        let most = (patience.attempts + patience.wake_ups) as usize;
        holds("a device that does not react gets MAX + 30 at most", self.series().len() <= most)
    }

    /// Every event is in the buffer, or the client knows that it is not.
    fn look_at_buffer(&self, route: &Route) -> Checked {
        for (place, name) in MAILBOXES.iter().enumerate() {
            let mut mail = self.mail.iter().filter(|mail| mail.place == place).peekable();
            let mailbox = route.marks.mailboxes.get(&Name(name.as_bytes().into()));
            let is_dirty = mailbox.is_some_and(|mailbox| mailbox.dirty);
            same("dirty", mail.peek().is_some(), is_dirty)?;
            let is_fresh = mailbox.is_some_and(|mailbox: &Mailbox| mailbox.fresh_since.is_some());
            same("fresh", mail.clone().any(|mail| self.is_fresh(mail)), is_fresh)?;
            if is_dirty {
                same("last UID", Some(self.uids[place]), mailbox.and_then(|mailbox| mailbox.last_uid))?;
            }
        }
        holds("what leaves no trace is kept", route.ring.overflow || route.ring.events.len() == self.untraced)
    }

    fn look_at_state(&self, route: &Route, patience: &Patience, now: Duration) -> Checked {
        let state = route.state;
        let is_grace = !self.is_present && now < self.grace_end;
        let is_away = !self.is_present && !is_grace;
        same("ONLINE", self.is_present, state == State::Online)?;
        same("GRACE", is_grace, state == State::Grace)?;
        same("DISABLED", is_away && !self.can_be_reached(), state == State::Disabled)?;
        let first = self.series().iter().find(|notice| !notice.is_wake_up).map(|notice| notice.at);
        let day = Duration::from_secs(86_400);
        let is_hopeless =
            route.attempts >= patience.attempts || first.is_some_and(|first| now.saturating_sub(first) > day);
        match state {
            State::Idle => holds("IDLE has nothing to tell", !self.is_anything_fresh()),
            State::Sent => holds("SENT has sent", first.is_some()),
            State::Suspended => holds("SUSPENDED has tried", is_hopeless),
            State::Dormant => holds("DORMANT has tried", is_hopeless && self.wake_ups == patience.wake_ups),
            _ => Ok(()),
        }
    }

    fn look_at_time(&mut self, route: &Route, now: Duration, midnight: Duration) -> Checked {
        let is_free = self.in_flight().is_none();
        let pending = (route.state == State::Pending).then_some(now);
        self.pending_since = pending.and(self.pending_since).or(pending);
        let Some(at) = route.wake_at() else {
            let waits = matches!(route.state, State::Pending | State::Sent | State::Suspended);
            let never = [State::Online, State::Idle, State::Dormant, State::Disabled].contains(&route.state);
            return holds("it will wake", never || (waits && self.in_flight() == Some(Became::Open)));
        };
        let seconds = Duration::from_secs;
        match route.state {
            State::Grace => same("end of the grace time", self.grace_end, at),
            State::Capped => same("midnight", midnight, at),
            State::Pending if is_free => {
                let fresh = self.mail.iter().filter(|mail| self.is_fresh(mail)).map(|mail| mail.at).min();
                let is_soon = Some(at) <= fresh.max(self.pending_since).map(|at| at + seconds(18));
                holds("news are gathered for 15 s at most", at <= now || is_soon)
            }
            State::Sent if is_free => {
                let pause = pause(route.attempts as usize);
                holds("a pause is not too long", at <= self.put_off_at + pause * 24 / 5 + seconds(1000))?;
                holds("a pause is not too short", self.is_hurried || at >= self.settled_at + pause * 4 / 5)
            }
            State::Suspended if is_free => holds("it wakes once a day", at <= now + seconds(86_400)),
            _ => Ok(()),
        }
    }
}

fn holds(what: &str, is_so: bool) -> Checked {
    if is_so { Ok(()) } else { Err(format!("not so: {what}")) }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, is: T) -> Checked {
    if expected == is { Ok(()) } else { Err(format!("{what}: {is:?}, and not {expected:?}")) }
}
