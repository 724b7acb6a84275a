//! The hand-over between a connection and a notice: a device comes, idles, is lost without a word and comes back, while mail arrives.
//!
//!     t=0      IDLE             mail 1 is written and acknowledged: the device knows it
//!     t=60     (a tunnel)       mail 2 is written, and nobody acknowledges it
//!     t=180                     not present any more
//!     t=183    notice 1         the device knows of mail 2
//!     t=200    LOGIN, SELECT    nothing more goes out
//!
//! Never silent: mail that nobody has shown to the device is told as soon as patience allows. Never both: no notice leaves while the
//! device can be told inband, and none only for what it has acknowledged more than two seconds ago. Requirement N3.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use lemonade_proxy::{
    account::{
        channel::Kind,
        preference::Limit,
        presence::{Attention, End, Presence, Sign, Turn},
    },
    mailbox::event::{Event, Kind as EventKind},
    outband::{
        channel::Outcome,
        patience::Patience,
        route::{
            Effect, Input, Now, Route, Sizes,
            marks::{News, Shown},
        },
    },
};
use proto_tests::random::Random;

use super::Checked;

const STEPS: usize = 200_000;

/// From a write to its acknowledgement, and from a notice to what the channel says.
const ROUND_TRIP: Duration = Duration::from_millis(700);

/// Until mail is told that a device in IDLE does not acknowledge: two minutes, the grace time of a broken connection that came just
/// before, what is gathered, and the way.
const MOST_SILENT: Duration = Duration::from_secs(120 + 120 + 15 + 3 + 2);

/// A session outside IDLE is believed in for longer.
const SILENCE: Duration = Duration::from_secs(30 * 60);

/// How close a notice and an acknowledgement may come.
const OVERLAP: Duration = Duration::from_secs(2);

/// A session as it really is.
struct Session {
    /// The client can hear and be heard.
    is_connected: bool,
    idles: bool,
    spoke_at: Duration,
    /// What was written in IDLE and not acknowledged: when, and up to which UID.
    written: VecDeque<(Duration, u32)>,
}

/// A message that the device does not know of yet.
struct Untold {
    uid: u32,
    /// By then it must.
    by: Duration,
}

struct World {
    random: Random,
    now: Duration,
    patience: Patience,
    attention: Attention,
    presence: Presence,
    route: Route,
    sessions: BTreeMap<u64, Session>,
    logins: u64,
    /// The highest UID of INBOX.
    uid: u32,
    /// Up to which UID a session has shown it, and since when.
    shown: (u32, Duration),
    untold: Vec<Untold>,
    /// When the channel says that it has which notice, and up to which UID that tells.
    carried: Option<(Duration, u64, u32)>,
    notices: usize,
    log: Vec<String>,
}

impl World {
    fn new(random: Random) -> Self {
        Self {
            random,
            now: Duration::from_secs(1_790_000_000),
            patience: Patience::default(),
            attention: Attention::default(),
            presence: Presence::default(),
            route: Route::new(Some(Kind::Udp)),
            sessions: BTreeMap::new(),
            logins: 0,
            uid: 0,
            shown: (0, Duration::ZERO),
            untold: Vec::new(),
            carried: None,
            notices: 0,
            log: Vec::new(),
        }
    }

    fn step(&mut self) -> Checked {
        let span = match self.random.below(8) {
            0..4 => self.random.below(3000),
            4..7 => self.random.below(90_000),
            _ => self.random.below(3_600_000),
        };
        self.pass_time(self.now + Duration::from_millis(span as u64))?;
        let session = self.sessions.keys().nth(self.random.below(self.sessions.len())).copied();
        match (self.random.below(10), session) {
            (0..4, _) => self.mail(),
            (4, _) if self.sessions.len() < 3 => self.login(),
            (5, Some(session)) => self.speak(session),
            (6 | 7, Some(session)) => self.idle(session),
            (8, Some(session)) => {
                self.log.push(format!("{:?} {session} is lost", self.now));
                self.sessions.entry(session).and_modify(|session| session.is_connected = false);
                Ok(())
            }
            (9, Some(session)) => self.end(session),
            _ => Ok(()),
        }
    }

    /// Everything that is due until then, in its order.
    fn pass_time(&mut self, end: Duration) -> Checked {
        loop {
            let acknowledged = self.sessions.iter().filter(|(_, session)| session.is_connected);
            let acknowledged =
                acknowledged.filter_map(|(id, session)| Some((session.written.front()?.0 + ROUND_TRIP, *id)));
            let acknowledged = acknowledged.min();
            let lapse = self.presence.next_change(self.now, &self.attention);
            let settled = self.carried.map(|carried| carried.0);
            let times = [acknowledged.map(|next| next.0), lapse, settled, self.route.wake_at()];
            let Some(next) = times.into_iter().flatten().min().filter(|&next| next <= end) else { break };
            self.now = self.now.max(next);
            if let Some((_, session)) = acknowledged.filter(|due| due.0 <= self.now) {
                self.acknowledge(session)?;
            } else if settled.is_some_and(|at| at <= self.now) {
                self.settle()?;
            } else if lapse.is_some_and(|at| at <= self.now) {
                let turn = self.presence.turn(self.now, &self.attention);
                self.take(turn)?;
            } else {
                self.on(Input::Time)?;
            }
            self.look()?;
        }
        self.now = end;
        self.look()
    }

    fn sign(&mut self, session: u64, sign: Sign) -> Checked {
        self.log.push(format!("{:?} {session} {sign:?}", self.now));
        let turn = self.presence.on(session, sign, self.now, &self.attention);
        self.take(turn)
    }

    fn take(&mut self, turn: Option<Turn>) -> Checked {
        match turn {
            Some(Turn::Came) => self.on(Input::Came),
            Some(Turn::Left { grace }) => self.on(Input::Left { grace }),
            None => Ok(()),
        }
    }

    fn now(&mut self) -> (Duration, u32) {
        (self.now, self.random.bits() as u32)
    }

    fn on(&mut self, input: Input<'_>) -> Checked {
        let (time, chance) = self.now();
        let now = Now { time, zone: 0, chance, patience: &self.patience };
        let effect = self.route.on(input, now);
        self.log.push(format!("{:?} {effect:?}, {:?}", self.now, self.route.state));
        if effect == Effect::Claim { self.claim() } else { Ok(()) }
    }

    fn mail(&mut self) -> Checked {
        self.uid += 1;
        let uid = self.uid;
        self.untold.push(Untold { uid, by: self.now + MOST_SILENT });
        let uids = [uid].into_iter().collect();
        let event = Event { uids, ..Event::of_mailbox(EventKind::MessageNew, *b"INBOX") };
        self.on(Input::Event(News { event: &event, unseen: None, rings: true, urgent: uid.is_multiple_of(7) }))?;
        let idling: Vec<u64> = self.sessions.iter().filter(|(_, it)| it.idles).map(|(id, _)| *id).collect();
        for id in idling {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.written.push_back((self.now, uid));
            let oldest = session.written.front().map(|written| written.0);
            self.sign(id, Sign::Unacknowledged(oldest))?;
        }
        Ok(())
    }

    fn login(&mut self) -> Checked {
        self.logins += 1;
        let (spoke_at, written) = (self.now, VecDeque::new());
        self.sessions.insert(self.logins, Session { is_connected: true, idles: false, spoke_at, written });
        self.sign(self.logins, Sign::Comes)
    }

    /// NOOP, STATUS: whatever tells the client what there is.
    fn speak(&mut self, id: u64) -> Checked {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&id).filter(|it| it.is_connected && !it.idles) else { return Ok(()) };
        session.spoke_at = now;
        self.sign(id, Sign::Speaks)?;
        self.show(self.uid)
    }

    /// IDLE, behind a SELECT; or DONE.
    fn idle(&mut self, id: u64) -> Checked {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&id).filter(|it| it.is_connected) else { return Ok(()) };
        session.idles = !session.idles;
        session.spoke_at = now;
        let idles = session.idles;
        self.sign(id, Sign::Idles(idles))?;
        if idles { self.show(self.uid) } else { Ok(()) }
    }

    fn end(&mut self, id: u64) -> Checked {
        let Some(session) = self.sessions.remove(&id) else { return Ok(()) };
        let end = match session.is_connected {
            true => *self.random.pick(&[End::Logout, End::Closed, End::Broken]),
            false => End::Broken,
        };
        self.sign(id, Sign::Goes(end))
    }

    fn acknowledge(&mut self, id: u64) -> Checked {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let Some((_, uid)) = session.written.pop_front() else { return Ok(()) };
        let oldest = session.written.front().map(|written| written.0);
        self.show(uid)?;
        self.sign(id, Sign::Unacknowledged(oldest))
    }

    /// The device has been shown INBOX up to this UID.
    fn show(&mut self, uid: u32) -> Checked {
        if uid > self.shown.0 {
            self.shown = (uid, self.now);
        }
        self.untold.retain(|mail| mail.uid > uid);
        self.on(Input::Synced(Shown { mailbox: b"INBOX", uidnext: Some(uid + 1), ..Shown::default() }))
    }

    fn claim(&mut self) -> Checked {
        let (time, chance) = self.now();
        let now = Now { time, zone: 0, chance, patience: &self.patience };
        let sizes = Sizes { extended: None, wakeup: Some(100) };
        let Some(seq) = self.route.claim(sizes, Limit::default(), now).map(|flight| flight.subject.seq) else {
            return Ok(());
        };
        self.notices += 1;
        self.log.push(format!("{:?} notice {seq}", self.now));
        let is_heard = |session: &Session| {
            let is_awake = session.idles || time < session.spoke_at + SILENCE;
            session.is_connected && is_awake && time > session.spoke_at + OVERLAP
        };
        if self.sessions.values().any(is_heard) {
            return Err(format!("notice {seq} leaves while a session hears"));
        }
        if self.shown.0 == self.uid && time > self.shown.1 + OVERLAP {
            return Err(format!("notice {seq} tells what was shown"));
        }
        self.carried = Some((time + ROUND_TRIP, seq, self.uid));
        Ok(())
    }

    fn settle(&mut self) -> Checked {
        let Some((_, seq, uid)) = self.carried.take() else { return Ok(()) };
        self.untold.retain(|mail| mail.uid > uid);
        let (time, chance) = self.now();
        let now = Now { time, zone: 0, chance, patience: &self.patience };
        let effect = self.route.settle(seq, Outcome::Accepted, now);
        if effect == Effect::Claim { self.claim() } else { Ok(()) }
    }

    /// Nothing is kept from the device for longer than there is a reason.
    fn look(&mut self) -> Checked {
        let (now, attempts) = (self.now, self.route.attempts);
        // A session outside IDLE asks when it likes; what came behind a notice rides on the next one.
        let asks = self.sessions.values().filter(|session| !session.idles);
        let asks_until = asks.map(|session| now.min(session.spoke_at + SILENCE)).max();
        let reason = asks_until.unwrap_or_default() + MOST_SILENT;
        let rides = if attempts > 0 { self.route.next_at.unwrap_or(now) + MOST_SILENT } else { Duration::ZERO };
        for mail in &mut self.untold {
            mail.by = mail.by.max(reason).max(rides);
        }
        match self.untold.iter().find(|mail| mail.by < now) {
            Some(mail) => Err(format!("nobody has told of mail {}", mail.uid)),
            None => Ok(()),
        }
    }
}

#[test]
fn a_device_is_told_inband_or_outband_and_never_by_both() {
    let seed = Random::seed();
    println!("SEED={seed}");
    let mut random = Random::new(seed);
    let (mut left, mut notices, mut logins) = (STEPS, 0, 0);
    while left > 0 {
        let (device, length) = (random.bits(), random.within(20..400).min(left));
        left -= length;
        let mut world = World::new(Random::new(device));
        for _ in 0..length {
            if let Err(failure) = world.step() {
                let end = world.log.len().saturating_sub(30);
                panic!("SEED={seed}, device {device}: {failure}\n{}", world.log[end..].join("\n"));
            }
        }
        (notices, logins) = (notices + world.notices, logins + world.logins);
    }
    assert!(notices > STEPS / 50 && logins > STEPS as u64 / 50, "{notices} notices, {logins} logins: too dull a walk");
}
