//! A walk of a route: news, visits, addresses, receipts and crashes in any order, beside a history that knows no states.
//!
//!     t=3.000   Claim     seq 1 WAKEUP -> wire        history: one notice today, told INBOX 1..3
//!     t=3.412   crash     the row as it was saved     history: as it was then; the wire keeps what it has seen
//!     t=3.412   Claim     seq 1 again                 history: nothing new is counted
//!
//! | file | question |
//! |---|---|
//! | `history` | what has happened, and what may therefore be true of the route? |
//! | `handover` | device or notice: is one of the two always told, and never both? |
//!
//! Time is an argument: sixty days pass at the end of each route, and then nothing must be left untold. Requirements N3, N11, N13.

mod handover;
mod history;

use std::time::Duration;

use lemonade_proxy::{
    account::{channel::Kind, preference::Limit},
    mailbox::event::{Event, Kind as EventKind},
    outband::{
        channel::Outcome,
        patience::Patience,
        route::{
            Effect, Input, Now, Route, Sizes, State,
            marks::{News, Shown},
        },
    },
};
use proto_tests::random::Random;

use self::history::History;

/// Steps of the walk: a few seconds.
const STEPS: usize = 300_000;

/// Where there is mail.
const MAILBOXES: [&str; 3] = ["INBOX", "Work", "Entw&APw-rfe"];

/// A route, its store, its channel, and the history beside them.
struct World {
    random: Random,
    now: Duration,
    zone: i32,
    patience: Patience,
    limit: Limit,
    route: Route,
    history: History,
    /// What a crash leaves.
    saved: (String, History),
    /// The notice that the channel has.
    carried: Option<u64>,
    /// What has left, whoever forgets it: number and day.
    wire: Vec<(u64, i64)>,
    /// The highest UID of each mailbox: the store of mail forgets nothing.
    uids: [u32; 3],
    may_crash: bool,
    log: Vec<String>,
}

/// What is not as it should be.
type Checked = Result<(), String>;

impl World {
    fn new(mut random: Random) -> Self {
        let mut patience = Patience { attempts: random.within(1..6) as u32, ..Patience::default() };
        patience.wake_ups = *random.pick(&[0, 1, 3, 30]);
        patience.missed.events = *random.pick(&[3, 1000]);
        let some = |random: &mut Random, most: usize| random.one_in(3).then(|| random.within(1..most) as u32);
        let limit = Limit { size: some(&mut random, 2000), total: some(&mut random, 6) };
        let route = Route::new((!random.one_in(8)).then_some(Kind::Udp));
        let history = History::new(route.channel.is_some());
        let saved = (route.write(), history.clone());
        let now = Duration::from_secs(1_790_000_000 + random.below(86_400) as u64);
        let zone = *random.pick(&[0, 3600, -36_000, 50_400]);
        let (carried, wire, uids, may_crash, log) = (None, Vec::new(), [0; 3], true, Vec::new());
        Self { random, now, zone, patience, limit, route, history, saved, carried, wire, uids, may_crash, log }
    }

    fn walk(&mut self, steps: usize) -> Checked {
        for _ in 0..steps {
            self.step()?;
            self.look()?;
        }
        self.rest()
    }

    fn step(&mut self) -> Checked {
        if self.random.one_in(4) {
            self.route = Route::read(&self.route.write()).map_err(|error| error.to_string())?;
        }
        if self.carried.is_some() && self.random.one_in(3) {
            return self.settle();
        }
        match self.random.below(100) {
            0..35 => self.pass_time(),
            35..60 => self.mail(),
            60..64 => self.event_without_trace(),
            64..70 => self.on("comes", Input::Came, |history, _| history.came()),
            70..77 => {
                let grace = Duration::from_secs(*self.random.pick(&[0, 30, 120]));
                self.on(&format!("leaves, {grace:?}"), Input::Left { grace }, |history, now| history.left(now + grace))
            }
            77..86 => self.sync(),
            86..89 => {
                let channel = (!self.random.one_in(3)).then_some(Kind::Udp);
                let says = format!("sets {channel:?}");
                self.on(&says, Input::Provisioned(channel), |history, _| history.provisioned(channel.is_some()))
            }
            89..92 => {
                let seq = self.random.below(self.route.seq as usize + 2) as u64;
                self.on(&format!("receipt for {seq}"), Input::Delivered { seq }, |history, now| history.receipt(now))
            }
            92..94 => {
                let address_version = self.route.address_version - u64::from(self.random.one_in(2));
                let dead = move |history: &mut History, _| history.dead(address_version);
                self.on(&format!("{address_version} is dead"), Input::Dead { address_version }, dead)
            }
            _ => self.crash(),
        }
    }

    fn span(&mut self) -> Duration {
        let until_it_wakes = self.route.wake_at().map(|at| at.saturating_sub(self.now));
        match self.random.below(6) {
            0 | 1 => until_it_wakes.unwrap_or_default(),
            // Late, or a little too early.
            2 => until_it_wakes.unwrap_or_default() + Duration::from_millis(self.random.below(90_000) as u64),
            3 => until_it_wakes.unwrap_or_default().saturating_sub(Duration::from_millis(1)),
            4 => Duration::from_millis(self.random.below(5000) as u64),
            _ => Duration::from_secs(self.random.below(3 * 86_400) as u64),
        }
    }

    fn pass_time(&mut self) -> Checked {
        let span = self.span();
        self.now += span;
        self.on("time", Input::Time, |_, _| {})
    }

    fn mail(&mut self) -> Checked {
        let place = self.random.below(MAILBOXES.len());
        self.uids[place] += 1;
        let uid = self.uids[place];
        let (rings, urgent) = (!self.random.one_in(4), self.random.one_in(8));
        let uids = [uid].into_iter().collect();
        let event = Event { uids, ..Event::of_mailbox(EventKind::MessageNew, MAILBOXES[place].as_bytes()) };
        let news = News { event: &event, unseen: None, rings, urgent };
        let happens = move |history: &mut History, now| history.mail(place, uid, rings, urgent, now);
        self.on(&format!("mail {place} {uid}, rings {rings}, urgent {urgent}"), Input::Event(news), happens)
    }

    fn event_without_trace(&mut self) -> Checked {
        let event = Event { old_mailbox: Some((*b"a").into()), ..Event::new(EventKind::MailboxRename) };
        let news = News { event: &event, unseen: None, rings: false, urgent: false };
        self.on("rename", Input::Event(news), |history, _| history.untraced += 1)?;
        if self.random.one_in(5) {
            let patience = self.patience.clone();
            let now = Now { time: self.now, zone: self.zone, chance: 0, patience: &patience };
            let taken = self.route.missed(now);
            if taken.events.len() != self.history.untraced && !taken.overflow {
                return Err(format!("{} of {} events are kept", taken.events.len(), self.history.untraced));
            }
            self.history.untraced = 0;
            self.save();
        }
        Ok(())
    }

    fn sync(&mut self) -> Checked {
        let place = self.random.below(MAILBOXES.len());
        // Sometimes as it was a moment ago.
        let uidnext = self.uids[place] + 1 - u32::from(self.random.one_in(4) && self.uids[place] > 0);
        let shown = Shown { mailbox: MAILBOXES[place].as_bytes(), uidnext: Some(uidnext), ..Shown::default() };
        self.on(&format!("sees {place} to {uidnext}"), Input::Synced(shown), move |history, _| {
            history.sync(place, uidnext)
        })
    }

    /// The route hears of it; the history too.
    fn on(&mut self, says: &str, input: Input<'_>, happens: impl FnOnce(&mut History, Duration)) -> Checked {
        happens(&mut self.history, self.now);
        let before = self.route.clone();
        let patience = self.patience.clone();
        let now = Now { time: self.now, zone: self.zone, chance: self.random.bits() as u32, patience: &patience };
        let effect = self.route.on(input, now);
        self.log.push(format!("{:?} {says}: {effect:?}, {:?}", self.now, self.route.state));
        if effect == Effect::Nothing && self.route != before {
            return Err("the row has changed, and nobody was told to save it".to_owned());
        }
        self.after(effect)
    }

    fn after(&mut self, effect: Effect) -> Checked {
        if effect != Effect::Nothing && self.may_crash && self.random.one_in(40) {
            return self.crash();
        }
        self.save();
        if effect == Effect::Claim && !self.random.one_in(8) { self.claim() } else { Ok(()) }
    }

    fn save(&mut self) {
        self.saved = (self.route.write(), self.history.clone());
    }

    fn claim(&mut self) -> Checked {
        let wakeup = (!self.random.one_in(30)).then(|| self.random.within(20..100) as u32);
        let extended = self.random.one_in(2).then(|| self.random.within(100..400) as u32);
        let sizes = Sizes { extended, wakeup };
        let subject = self.route.subject();
        let was = self.route.state;
        let day = history::day(self.now, self.zone);
        let patience = self.patience.clone();
        let now = Now { time: self.now, zone: self.zone, chance: self.random.bits() as u32, patience: &patience };
        let claimed = self.route.claim(sizes, self.limit, now).cloned();
        self.log.push(format!("{:?} claim {sizes:?}: {claimed:?}, {:?}", self.now, self.route.state));
        let seen = claimed.as_ref().map(|flight| (flight.subject.seq, flight.format));
        let expected = self.history.claim(was == State::Suspended, sizes, self.limit, day, self.now);
        if seen != expected {
            return Err(format!("claimed {seen:?}, expected {expected:?}"));
        }
        self.save();
        let Some(flight) = claimed else { return Ok(()) };
        if subject.as_ref() != Some(&flight.subject) {
            return Err("the candidate was about something else".to_owned());
        }
        if self.carried.is_some() {
            return Err("two notices are in flight".to_owned());
        }
        self.history.may_send(flight.address_version, self.now)?;
        if self.may_crash && self.random.one_in(20) {
            return self.crash();
        }
        self.leave(flight.subject.seq)
    }

    /// The first octet leaves.
    fn leave(&mut self, seq: u64) -> Checked {
        // It counts for the day on which it was claimed, however late it leaves.
        let day = self.history.last_day();
        self.carried = Some(seq);
        let last = self.wire.last().map_or(0, |last| last.0);
        if seq < last {
            return Err(format!("{seq} leaves behind {last}"));
        }
        if seq > last {
            self.wire.push((seq, day));
        }
        let today = self.wire.iter().filter(|(_, on)| *on == day).count();
        match self.limit.total.is_some_and(|total| today > total as usize) {
            true => Err(format!("{today} notices left on one day")),
            false => Ok(()),
        }
    }

    fn settle(&mut self) -> Checked {
        let Some(seq) = self.carried.take() else { return Ok(()) };
        self.now += Duration::from_millis(self.random.below(20_000) as u64);
        let after = self.random.one_in(3).then(|| Duration::from_secs(self.random.below(1000) as u64));
        let outcome = match self.random.below(10) {
            0..4 => Outcome::Accepted,
            4 => Outcome::Delivered,
            5..7 => Outcome::Later { after },
            7 => Outcome::TooLarge,
            8 => Outcome::Failed,
            _ if self.random.one_in(4) => Outcome::Dead,
            _ => Outcome::Accepted,
        };
        self.settle_with(seq, outcome)
    }

    fn settle_with(&mut self, seq: u64, outcome: Outcome) -> Checked {
        self.history.settle(outcome, self.patience.retries, self.now);
        let patience = self.patience.clone();
        let now = Now { time: self.now, zone: self.zone, chance: self.random.bits() as u32, patience: &patience };
        let effect = self.route.settle(seq, outcome, now);
        self.log.push(format!("{:?} {seq} {outcome:?}: {effect:?}, {:?}", self.now, self.route.state));
        self.after(effect)
    }

    /// The process ends here, and begins anew with what was saved.
    fn crash(&mut self) -> Checked {
        let (row, history) = self.saved.clone();
        self.route = Route::read(&row).map_err(|error| error.to_string())?;
        self.history = history;
        self.carried = None;
        // What came and was not saved is found again by whoever looks after the mailbox.
        self.uids = self.history.uids;
        let grace = Duration::from_secs(120);
        self.on("crash", Input::Restarted { grace }, |history, now| history.restarted(now + grace))
    }

    /// What must be true at each moment.
    fn look(&mut self) -> Checked {
        self.history.look(&self.route, &self.patience, self.now, history::midnight(self.now, self.zone))
    }

    /// The device stays away, all is taken, and sixty days pass: whatever rang has been told, or enough was told before.
    fn rest(&mut self) -> Checked {
        (self.limit, self.may_crash) = (Limit::default(), false);
        self.on("leaves for ever", Input::Left { grace: Duration::ZERO }, |history, now| history.left(now))?;
        if !self.history.can_be_reached() {
            self.on("is reached", Input::Provisioned(Some(Kind::Udp)), |history, _| history.provisioned(true))?;
        }
        let end = self.now + Duration::from_secs(60 * 86_400);
        loop {
            if let Some(seq) = self.carried.take() {
                self.settle_with(seq, Outcome::Accepted)?;
            } else if let Some(at) = self.route.wake_at().filter(|&at| at < end) {
                self.now = self.now.max(at);
                self.on("time", Input::Time, |_, _| {})?;
            } else {
                break;
            }
            self.look()?;
        }
        let given_up = self.route.state == State::Dormant;
        match self.history.is_anything_fresh() && !given_up {
            true => Err(format!("something was never told, {:?}", self.route.state)),
            false => Ok(()),
        }
    }
}

#[test]
fn a_route_does_what_its_history_says() {
    let seed = Random::seed();
    println!("SEED={seed}");
    let mut random = Random::new(seed);
    let mut left = STEPS;
    let mut reached = std::collections::BTreeMap::new();
    while left > 0 {
        let (route, length) = (random.bits(), random.within(20..400).min(left));
        left -= length;
        let mut world = World::new(Random::new(route));
        if let Err(failure) = world.walk(length) {
            let end = world.log.len().saturating_sub(25);
            panic!("SEED={seed}, route {route}: {failure}\n{}\n{:?}", world.log[end..].join("\n"), world.route);
        }
        for (seen, count) in &world.history.reached {
            *reached.entry(*seen).or_insert(0) += count;
        }
    }
    assert_eq!(reached.len(), 9, "all states were seen: {reached:?}");
}
