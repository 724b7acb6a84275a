//! Each row of the table of digest section 10 as a test, and what must hold over days: bursts, limits, restarts, addresses.
//!
//! Between every two steps the route is written and read again: a restart may come at any point.

use super::*;
use crate::{
    account::preference::Limit,
    mailbox::event::{Event, Kind as EventKind},
    outband::channel::Outcome,
};

const HOUR: u64 = 3600;

/// Noon of a day, where nobody is ahead of UTC.
const NOON: u64 = 20_000 * 86_400 + 12 * HOUR;

/// A pause is then neither longer nor shorter.
const EVEN: u32 = 200;

/// A route, and all that stands around it.
struct Scene {
    route: Route,
    time: Duration,
    zone: i32,
    patience: Patience,
    limit: Limit,
    sizes: Sizes,
    uid: u32,
}

impl Scene {
    fn new() -> Self {
        Self {
            route: Route::new(Some(Kind::Sms)),
            time: Duration::from_secs(NOON),
            zone: 0,
            patience: Patience::default(),
            limit: Limit::default(),
            sizes: Sizes { extended: Some(300), wakeup: Some(100) },
            uid: 0,
        }
    }

    /// A route that has come to this state by what can happen to it.
    fn waiting(state: State) -> Self {
        let mut scene = Self::new();
        match state {
            State::Idle => {}
            State::Online => _ = scene.on(Input::Came),
            State::Grace => {
                scene.on(Input::Came);
                scene.on(Input::Left { grace: Duration::from_secs(30) });
            }
            State::Pending => _ = scene.news(),
            State::Sent => {
                scene.news();
                scene.send_next();
            }
            State::Capped => {
                scene.limit.total = Some(1);
                scene.news();
                scene.send_next();
                assert_eq!(scene.claim_next(), None);
            }
            State::Suspended => {
                scene.news();
                (0..5).for_each(|_| _ = scene.send_next());
                assert_eq!(scene.claim_next(), None);
            }
            State::Dormant => {
                scene = Self::waiting(State::Suspended);
                (0..30).for_each(|_| _ = scene.send_next());
                assert_eq!(scene.claim_next(), None);
            }
            State::Disabled => _ = scene.on(Input::Provisioned(None)),
        }
        assert_eq!(scene.route.state, state);
        scene
    }

    /// The step, behind a restart.
    fn step<T>(&mut self, step: impl FnOnce(&mut Route, Now<'_>) -> T) -> T {
        let row = self.route.write();
        assert_eq!(Route::read(&row).unwrap(), self.route, "{row}");
        self.route = Route::read(&row).unwrap();
        step(&mut self.route, Now { time: self.time, zone: self.zone, chance: EVEN, patience: &self.patience })
    }

    fn on(&mut self, input: Input<'_>) -> Effect {
        self.step(|route, now| route.on(input, now))
    }

    /// A message comes.
    fn message(&mut self, mailbox: &[u8], rings: bool, urgent: bool) -> Effect {
        self.uid += 1;
        let uids = [self.uid].into_iter().collect();
        let event = Event { uids, ..Event::of_mailbox(EventKind::MessageNew, mailbox) };
        self.on(Input::Event(News { event: &event, unseen: Some(self.uid), rings, urgent }))
    }

    fn news(&mut self) -> Effect {
        self.message(b"INBOX", true, false)
    }

    fn urgent(&mut self) -> Effect {
        self.message(b"INBOX", true, true)
    }

    /// The client is shown all there is in INBOX.
    fn sync(&mut self) -> Effect {
        let uidnext = Some(self.uid + 1);
        self.on(Input::Synced(Shown { mailbox: b"INBOX", uidnext, unseen: Some(0), ..Shown::default() }))
    }

    fn wait(&mut self, seconds: u64) -> Effect {
        self.time += Duration::from_secs(seconds);
        self.on(Input::Time)
    }

    /// Time passes until the route wants to hear of it.
    fn wake(&mut self) -> Effect {
        self.time = self.route.wake_at().unwrap();
        self.on(Input::Time)
    }

    fn claim(&mut self) -> Option<(u64, Format)> {
        let (sizes, limit) = (self.sizes, self.limit);
        self.step(|route, now| route.claim(sizes, limit, now).map(|flight| (flight.subject.seq, flight.format)))
    }

    fn claim_next(&mut self) -> Option<(u64, Format)> {
        self.wake();
        self.claim()
    }

    /// The next notice leaves, and the channel takes it.
    fn send_next(&mut self) -> (u64, Format) {
        let claimed = self.claim_next().unwrap();
        self.settle(Outcome::Accepted);
        claimed
    }

    fn settle(&mut self, outcome: Outcome) -> Effect {
        let seq = self.route.seq;
        self.step(|route, now| route.settle(seq, outcome, now))
    }

    /// In so many seconds the route wants to hear of the time.
    fn wakes_in(&self) -> Option<u64> {
        self.route.wake_at().map(|at| (at - self.time).as_secs())
    }

    /// Sends all that is due within so many seconds; when each was sent, since now.
    fn sent_within(&mut self, seconds: u64) -> Vec<u64> {
        let (begin, mut sent) = (self.time, Vec::new());
        let end = begin + Duration::from_secs(seconds);
        while let Some(at) = self.route.wake_at().filter(|&at| at <= end) {
            self.time = at.max(self.time);
            self.on(Input::Time);
            if self.claim().is_some() {
                sent.push((self.time - begin).as_secs());
                self.settle(Outcome::Accepted);
            }
        }
        self.time = end;
        sent
    }
}

/// What a row says: its name, from, what happens, what is to be done, to, and in how many seconds it wants to hear of the time.
type Row = (&'static str, State, fn(&mut Scene) -> Effect, Effect, State, Option<u64>);

fn check(rows: &[Row]) {
    for &(name, from, happens, effect, to, wakes_in) in rows {
        let mut scene = Scene::waiting(from);
        let done = happens(&mut scene);
        assert_eq!((done, scene.route.state, scene.wakes_in()), (effect, to, wakes_in), "{name}");
    }
}

const ALL: [State; 9] = [
    State::Online,
    State::Grace,
    State::Idle,
    State::Pending,
    State::Sent,
    State::Capped,
    State::Suspended,
    State::Dormant,
    State::Disabled,
];

#[test]
fn from_any_state_a_device_that_comes_is_online_and_has_reacted() {
    for state in ALL {
        let mut scene = Scene::waiting(state);
        let buffer = scene.route.marks.clone();
        assert_eq!(scene.on(Input::Came), Effect::Save, "{state:?}");
        let route = &scene.route;
        assert_eq!((route.state, route.wake_at(), route.attempts, route.wake_ups), (State::Online, None, 0, 0));
        assert_eq!((route.unreacted_since, route.last_reacted_at), (None, Some(scene.time)));
        assert_eq!(route.marks, buffer, "the buffer is kept");
    }
}

#[test]
fn rows_of_a_device_that_is_there_or_has_just_gone() {
    use {Effect::*, State::*};
    check(&[
        ("an event sends nothing", Online, Scene::news, Save, Online, None),
        (
            "the last session ends",
            Online,
            |s| s.on(Input::Left { grace: Duration::from_secs(30) }),
            Save,
            Grace,
            Some(30),
        ),
        ("LOGOUT", Online, |s| s.on(Input::Left { grace: Duration::ZERO }), Save, Idle, None),
        ("an event in the grace time waits", Grace, Scene::news, Save, Grace, Some(30)),
        ("the grace time goes on", Grace, |s| s.wait(29), Nothing, Grace, Some(1)),
        ("the grace time ends, nothing is fresh", Grace, |s| s.wait(30), Save, Idle, None),
        (
            "the grace time ends, something is fresh",
            Grace,
            |s| {
                s.news();
                s.wait(30)
            },
            Save,
            Pending,
            Some(3),
        ),
        (
            "what is synchronised is not fresh",
            Grace,
            |s| {
                s.news();
                s.sync();
                s.wait(30)
            },
            Save,
            Idle,
            None,
        ),
        ("who is back in time is online", Grace, |s| s.on(Input::Came), Save, Online, None),
        ("there is nothing to synchronise", Online, Scene::sync, Nothing, Online, None),
    ]);
}

#[test]
fn rows_of_news() {
    use {Effect::*, State::*};
    check(&[
        ("an event", Idle, Scene::news, Save, Pending, Some(3)),
        ("an urgent event", Idle, Scene::urgent, Claim, Pending, Some(0)),
        ("an event that does not ring", Idle, |s| s.message(b"INBOX", false, false), Save, Idle, None),
        (
            "another event puts it off",
            Pending,
            |s| {
                s.wait(2);
                s.news()
            },
            Save,
            Pending,
            Some(3),
        ),
        ("an urgent event does not wait", Pending, Scene::urgent, Claim, Pending, Some(0)),
        (
            "the oldest is 15 s old",
            Pending,
            |s| {
                (0..6).for_each(|_| {
                    s.time += Duration::from_millis(2400);
                    assert_eq!(s.news(), Save);
                });
                s.time += Duration::from_millis(600);
                s.news()
            },
            Claim,
            Pending,
            Some(0),
        ),
        ("d0 fires", Pending, |s| s.wait(3), Claim, Pending, Some(0)),
        ("an event rides on the next notice", Sent, Scene::news, Save, Sent, Some(60)),
        ("an event is merged", Capped, Scene::news, Save, Capped, Some(12 * HOUR - 63)),
        ("an event is merged", Suspended, Scene::urgent, Save, Suspended, Some(24 * HOUR)),
        ("an event is merged", Dormant, Scene::urgent, Save, Dormant, None),
        ("an event is kept", Disabled, Scene::urgent, Save, Disabled, None),
    ]);
}

#[test]
fn rows_of_what_was_sent() {
    use {Effect::*, State::*};
    fn claimed(scene: &mut Scene) -> Effect {
        assert!(scene.claim_next().is_some());
        Effect::Save
    }
    fn settled(scene: &mut Scene, outcome: Outcome) -> Effect {
        claimed(scene);
        scene.settle(outcome)
    }
    check(&[
        ("d0 fires, and it is claimed", Pending, claimed, Save, Sent, None),
        ("it is taken", Pending, |s| settled(s, Outcome::Accepted), Save, Sent, Some(60)),
        ("the second attempt", Sent, |s| settled(s, Outcome::Accepted), Save, Sent, Some(240)),
        ("it is delivered", Pending, |s| settled(s, Outcome::Delivered), Save, Sent, Some(240)),
        ("a receipt comes later", Sent, |s| s.on(Input::Delivered { seq: 1 }), Save, Sent, Some(240)),
        ("a receipt for nothing", Sent, |s| s.on(Input::Delivered { seq: 2 }), Nothing, Sent, Some(60)),
        ("not now", Pending, |s| settled(s, Outcome::Later { after: None }), Save, Sent, Some(10)),
        (
            "not now, and when",
            Pending,
            |s| settled(s, Outcome::Later { after: Some(Duration::from_secs(100)) }),
            Save,
            Sent,
            Some(100),
        ),
        ("too large", Pending, |s| settled(s, Outcome::TooLarge), Claim, Sent, Some(0)),
        ("something of ours is wrong", Pending, |s| settled(s, Outcome::Failed), Save, Sent, Some(60)),
        ("the address is dead", Pending, |s| settled(s, Outcome::Dead), Save, Disabled, None),
        ("its death is heard of later", Sent, |s| s.on(Input::Dead { address_version: 1 }), Save, Disabled, None),
        ("another address is dead", Sent, |s| s.on(Input::Dead { address_version: 0 }), Nothing, Sent, Some(60)),
        ("urgent news", Sent, Scene::urgent, Claim, Sent, Some(0)),
        ("next_at fires", Sent, |s| s.wait(60), Claim, Sent, Some(0)),
        (
            "the fifth has had no reaction",
            Sent,
            |s| {
                (0..4).for_each(|_| _ = s.send_next());
                s.wake()
            },
            Save,
            Suspended,
            Some(24 * HOUR),
        ),
        ("24 h have had none", Sent, |s| s.wait(24 * HOUR + 1), Save, Suspended, Some(24 * HOUR)),
        ("a wake-up", Suspended, |s| settled(s, Outcome::Accepted), Save, Suspended, Some(24 * HOUR)),
        (
            "30 wake-ups",
            Suspended,
            |s| {
                (0..30).for_each(|_| _ = s.send_next());
                s.wake()
            },
            Save,
            Dormant,
            None,
        ),
        ("the day rolls", Capped, Scene::wake, Save, Pending, Some(3)),
        (
            "the day rolls, and there is nothing",
            Capped,
            |s| {
                s.sync();
                s.wake()
            },
            Save,
            Idle,
            None,
        ),
    ]);
}

#[test]
fn rows_of_channel_and_address() {
    use {Effect::*, State::*};
    let set: fn(&mut Scene) -> Effect = |s| s.on(Input::Provisioned(Some(Kind::Udp)));
    let set_behind_news: fn(&mut Scene) -> Effect = |s| {
        s.news();
        s.on(Input::Provisioned(Some(Kind::Udp)))
    };
    let none: fn(&mut Scene) -> Effect = |s| s.on(Input::Provisioned(None));
    for state in [Idle, Pending, Sent, Capped, Suspended, Dormant, Disabled] {
        let to_nothing = if state == Pending { (Pending, Some(3)) } else { (Idle, None) };
        check(&[
            ("another address, nothing is fresh", state, set, Save, to_nothing.0, to_nothing.1),
            ("another address, something is fresh", state, set_behind_news, Save, Pending, Some(3)),
            ("NONE", state, none, Save, Disabled, None),
        ]);
        let mut scene = Scene::waiting(state);
        let version = scene.route.address_version;
        set(&mut scene);
        assert_eq!((scene.route.address_version, scene.route.attempts), (version + 1, 0), "{state:?}");
    }
    check(&[("while it is there", Online, set, Save, Online, None), ("or may be", Grace, none, Save, Grace, Some(30))]);
}

#[test]
fn none_and_a_dead_address_survive_a_visit() {
    let mut none = Scene::waiting(State::Disabled);
    let mut dead = Scene::waiting(State::Sent);
    dead.on(Input::Dead { address_version: 1 });
    for scene in [&mut none, &mut dead] {
        scene.on(Input::Came);
        scene.news();
        scene.on(Input::Left { grace: Duration::ZERO });
        assert_eq!(scene.route.state, State::Disabled);
        scene.on(Input::Provisioned(Some(Kind::Sms)));
        assert_eq!((scene.route.state, scene.route.dead), (State::Pending, false), "what it has missed is told");
    }
}

#[test]
fn what_is_dirty_from_an_earlier_visit_does_not_cause_a_notice() {
    let mut scene = Scene::waiting(State::Sent);
    scene.on(Input::Came);
    scene.on(Input::Left { grace: Duration::ZERO });
    assert_eq!((scene.route.state, scene.route.marks.any_dirty()), (State::Idle, true));
}

#[test]
fn five_hundred_messages_in_ten_seconds_are_two_wake_ups_at_most() {
    for (name, urgent_every, at_most) in [("ordinary", 0, 1), ("some are urgent", 100, 2), ("all are urgent", 1, 2)] {
        let mut scene = Scene::new();
        let mut sent = 0;
        for number in 1..=500 {
            scene.time += Duration::from_millis(20);
            let urgent = urgent_every > 0 && number % urgent_every == 0;
            if scene.message(b"INBOX", true, urgent) == Effect::Claim && scene.claim().is_some() {
                scene.settle(Outcome::Accepted);
                sent += 1;
            }
        }
        sent += scene.sent_within(20).len();
        assert!((1..=at_most).contains(&sent), "{name}: {sent}");
        assert!(urgent_every > 0 || !scene.route.marks.any_fresh());
    }
}

#[test]
fn a_device_that_never_reacts_gets_five_notices_and_thirty_wake_ups() {
    let mut scene = Scene::new();
    scene.news();
    let sent = scene.sent_within(60 * 86_400);
    assert_eq!(sent[..5], [3, 63, 303, 1263, 5103]);
    assert_eq!(sent[5], 5103 + 256 * 60 + 86_400);
    assert!(sent[5..].windows(2).all(|pair| pair[1] - pair[0] == 86_400));
    assert_eq!((sent.len(), scene.route.state), (35, State::Dormant));
}

#[test]
fn a_limit_does_not_make_a_route_send_for_ever() {
    for total in 1..=4 {
        let mut scene = Scene::new();
        scene.limit.total = Some(total);
        scene.news();
        let sent = scene.sent_within(60 * 86_400);
        assert!(sent.len() <= 35, "{total} a day: {sent:?}");
        assert_eq!(scene.route.state, State::Dormant, "{total} a day");
    }
}

#[test]
fn a_wake_up_of_a_suspended_route_is_never_extended() {
    let mut scene = Scene::waiting(State::Suspended);
    scene.message(b"Work", true, false);
    assert_eq!(scene.send_next(), (6, Format::Wakeup));
    assert!(!scene.route.marks.any_fresh(), "it covers all the same");
}

#[test]
fn urgent_news_shorten_a_pause_once_in_a_minute() {
    let mut scene = Scene::waiting(State::Sent);
    scene.wait(10);
    assert_eq!(scene.urgent(), Effect::Claim);
    scene.send_next();
    scene.wait(5);
    assert_eq!((scene.urgent(), scene.wakes_in()), (Effect::Save, Some(55)));
    assert_eq!(scene.wait(55), Effect::Claim);
}

#[test]
fn a_mailbox_in_which_all_was_seen_and_now_something_is_not_shortens_a_pause() {
    let mut scene = Scene::waiting(State::Online);
    scene.message(b"Work", true, false);
    scene.news();
    scene.sync();
    scene.on(Input::Left { grace: Duration::ZERO });
    scene.send_next();
    assert_eq!(scene.message(b"Work", true, false), Effect::Save, "there was something unseen before");
    assert_eq!(scene.news(), Effect::Claim);
}

#[test]
fn urgent_news_do_not_shorten_the_last_pause() {
    let mut scene = Scene::waiting(State::Sent);
    (0..4).for_each(|_| _ = scene.send_next());
    assert_eq!((scene.urgent(), scene.wakes_in()), (Effect::Save, Some(256 * 60)));
}

#[test]
fn a_receipt_does_not_put_urgent_news_off() {
    let mut scene = Scene::waiting(State::Pending);
    scene.claim_next();
    assert_eq!(scene.urgent(), Effect::Save, "one is in flight");
    assert_eq!(scene.settle(Outcome::Delivered), Effect::Claim);
}

#[test]
fn a_notice_is_about_the_mailbox_that_changed_last_and_covers_the_others() {
    let mut scene = Scene::new();
    for mailbox in [&b"INBOX"[..], b"Work", b"Lists"] {
        scene.message(mailbox, true, false);
    }
    scene.wake();
    let subject = scene.route.subject().unwrap();
    assert_eq!((subject.seq, &*subject.mailbox.0, subject.about.last_uid), (1, &b"Lists"[..], Some(3)));
    scene.send_next();
    assert!(!scene.route.marks.any_fresh());
}

#[test]
fn one_notice_is_in_flight() {
    let mut scene = Scene::waiting(State::Pending);
    assert_eq!(scene.claim_next(), Some((1, Format::Extended)));
    scene.urgent();
    assert_eq!((scene.wait(HOUR), scene.claim(), scene.wakes_in()), (Effect::Nothing, None, None));
    // Not even when the device was there in between.
    scene.on(Input::Came);
    scene.on(Input::Left { grace: Duration::ZERO });
    assert_eq!((scene.wait(HOUR), scene.claim(), scene.route.state), (Effect::Nothing, None, State::Pending));
    assert_eq!(scene.settle(Outcome::Accepted), Effect::Claim);
    assert_eq!(scene.claim(), Some((2, Format::Extended)));
}

#[test]
fn what_cannot_be_brought_now_goes_three_times_again_under_its_number_and_is_counted_once() {
    let mut scene = Scene::waiting(State::Pending);
    scene.claim_next();
    for seconds in [10, 40, 160] {
        scene.settle(Outcome::Later { after: None });
        assert_eq!(scene.wakes_in(), Some(seconds));
        assert_eq!(scene.claim_next(), Some((1, Format::Extended)));
    }
    assert_eq!((scene.route.day_notices, scene.route.day_octets, scene.route.attempts), (1, 300, 1));
    scene.settle(Outcome::Later { after: Some(Duration::from_secs(500)) });
    assert_eq!((scene.wakes_in(), scene.route.marks.any_fresh()), (Some(500), true), "it has told nobody");
    assert_eq!(scene.claim_next(), Some((2, Format::Extended)));
}

#[test]
fn what_is_too_large_goes_again_as_wakeup_under_its_number() {
    let mut scene = Scene::waiting(State::Pending);
    scene.claim_next();
    assert_eq!(scene.settle(Outcome::TooLarge), Effect::Claim);
    assert_eq!(scene.claim(), Some((1, Format::Wakeup)));
    assert_eq!(scene.settle(Outcome::TooLarge), Effect::Save, "and that is the end");
    assert_eq!((scene.wakes_in(), scene.route.day_notices), (Some(60), 1));
}

#[test]
fn a_device_that_comes_is_not_sent_what_waits_to_go_again() {
    let mut scene = Scene::waiting(State::Pending);
    scene.claim_next();
    scene.settle(Outcome::Later { after: None });
    scene.on(Input::Came);
    assert_eq!((scene.wait(HOUR), scene.claim()), (Effect::Nothing, None));
    scene.on(Input::Left { grace: Duration::ZERO });
    assert_eq!(scene.claim_next(), Some((2, Format::Extended)), "nobody has told it, and it has not looked");
}

#[test]
fn the_last_notice_of_a_day_is_a_wakeup() {
    let sent = |limit: Limit| {
        let mut scene = Scene::new();
        scene.limit = limit;
        scene.news();
        let formats: Vec<Format> = std::iter::from_fn(|| {
            let claimed = scene.claim_next();
            scene.settle(Outcome::Accepted);
            claimed.map(|(_, format)| format)
        })
        .take(4)
        .collect();
        (formats, scene.route.day_octets)
    };
    use Format::{Extended, Wakeup};
    let limit = |size, total| Limit { size, total };
    assert_eq!(sent(limit(None, Some(1))).0, [Wakeup]);
    assert_eq!(sent(limit(None, Some(3))).0, [Extended, Extended, Wakeup]);
    assert_eq!(sent(limit(Some(99), None)).0, []);
    assert_eq!(sent(limit(Some(399), None)).0, [Wakeup, Wakeup, Wakeup]);
    assert_eq!(sent(limit(Some(750), None)), (vec![Extended, Extended, Wakeup], 700));
    assert_eq!(sent(limit(Some(400), Some(9))), (vec![Extended, Wakeup], 400));
}

#[test]
fn what_cannot_be_written_at_all_waits_for_another_day() {
    let mut scene = Scene::waiting(State::Pending);
    scene.sizes = Sizes::default();
    assert_eq!((scene.claim_next(), scene.route.state), (None, State::Capped));
    scene.wake();
    scene.sizes.wakeup = Some(100);
    assert_eq!(scene.claim_next(), Some((1, Format::Wakeup)));
}

#[test]
fn a_day_is_that_of_the_user() {
    for (zone, midnight) in [(0, 12 * HOUR), (2 * 3600, 10 * HOUR), (-5 * 3600, 17 * HOUR), (14 * 3600, 22 * HOUR)] {
        let mut scene = Scene::new();
        (scene.zone, scene.limit.total) = (zone, Some(1));
        scene.news();
        scene.send_next();
        assert_eq!(scene.claim_next(), None);
        assert_eq!(scene.wakes_in(), Some(midnight - 63), "{zone}");
        assert_eq!(scene.wake(), Effect::Save);
        assert_eq!((scene.route.state, scene.route.day_notices), (State::Pending, 0));
    }
}

#[test]
fn who_travels_does_not_get_more_in_a_day() {
    let mut scene = Scene::waiting(State::Capped);
    scene.zone = -10 * 3600;
    assert_eq!(scene.wake(), Effect::Save);
    assert_eq!((scene.route.state, scene.wakes_in()), (State::Capped, Some(10 * HOUR)));
}

#[test]
fn what_was_claimed_goes_again_behind_a_restart_under_its_number_and_is_counted_once() {
    let mut scene = Scene::waiting(State::Pending);
    scene.limit.total = Some(1);
    scene.claim_next();
    let grace = Duration::from_secs(120);
    assert_eq!(scene.on(Input::Restarted { grace }), Effect::Claim);
    assert_eq!(scene.claim(), Some((1, Format::Wakeup)));
    assert_eq!((scene.route.day_notices, scene.route.attempts), (1, 1));
    scene.settle(Outcome::Accepted);
    assert_eq!(scene.on(Input::Restarted { grace }), Effect::Save);
    assert_eq!((scene.wakes_in(), scene.claim()), (Some(60), None), "its outcome is known");
}

#[test]
fn a_device_that_was_there_has_its_grace_behind_a_restart() {
    let mut scene = Scene::waiting(State::Pending);
    scene.claim_next();
    scene.on(Input::Came);
    scene.on(Input::Restarted { grace: Duration::from_secs(120) });
    assert_eq!((scene.route.state, scene.wakes_in()), (State::Grace, Some(120)));
    scene.wake();
    assert_eq!(scene.claim_next(), Some((2, Format::Extended)), "nobody knows whether the first came");
}

#[test]
fn nothing_goes_again_to_an_address_that_has_changed() {
    let grace = Duration::ZERO;
    let waits: fn(&mut Scene) = |scene| _ = scene.settle(Outcome::Later { after: None });
    let carried: fn(&mut Scene) = |_| {};
    for (name, before) in [("it waits to go again", waits), ("the channel has it", carried)] {
        let mut scene = Scene::waiting(State::Pending);
        scene.claim_next();
        before(&mut scene);
        scene.on(Input::Provisioned(Some(Kind::Udp)));
        scene.on(Input::Restarted { grace });
        assert_eq!(scene.claim_next(), Some((2, Format::Extended)), "{name}");
        let flight = scene.route.in_flight.as_ref().unwrap();
        assert_eq!(flight.address_version, scene.route.address_version, "{name}");
    }
}

#[test]
fn what_went_to_the_old_address_is_told_to_the_new_one_and_says_nothing_of_it() {
    for outcome in [Outcome::Accepted, Outcome::Dead, Outcome::Failed] {
        let mut scene = Scene::waiting(State::Pending);
        scene.claim_next();
        scene.on(Input::Provisioned(Some(Kind::Udp)));
        assert_eq!(scene.settle(outcome), Effect::Save, "{outcome:?}");
        assert_eq!((scene.route.state, scene.wakes_in()), (State::Pending, Some(3)), "{outcome:?}");
    }
}

#[test]
fn events_without_a_trace_are_in_the_ring_whatever_the_state() {
    for state in ALL {
        let mut scene = Scene::waiting(state);
        let event = Event::of_mailbox(EventKind::MailboxDelete, *b"Work");
        scene.on(Input::Event(News { event: &event, unseen: None, rings: false, urgent: false }));
        assert_eq!((scene.route.ring.events.len(), scene.route.state), (1, state));
    }
}

#[test]
fn what_concerns_the_account_is_told_and_found_in_the_ring() {
    let mut scene = Scene::new();
    let event = Event::new(EventKind::QuotaExceed);
    for (rings, state) in [(false, State::Idle), (true, State::Pending)] {
        scene.on(Input::Event(News { event: &event, unseen: None, rings, urgent: false }));
        assert_eq!((scene.route.state, scene.route.marks.any_dirty()), (state, rings));
    }
    scene.wake();
    assert_eq!(scene.route.subject().map(|subject| subject.about.last), Some(EventKind::QuotaExceed));
    scene.send_next();
    scene.on(Input::Came);
    let missed = scene.step(|route, now| route.missed(now));
    assert_eq!((missed.events.len(), missed.overflow), (2, false));
    assert!(!scene.route.marks.any_dirty() && scene.route.ring.events.is_empty());
}

#[test]
fn a_mailbox_that_had_to_go_is_told_by_overflow() {
    let mut scene = Scene::new();
    for number in 0..=marks::MOST {
        assert!(!scene.route.ring.overflow);
        scene.message(number.to_string().as_bytes(), true, false);
    }
    assert!(scene.route.ring.overflow);
}

#[test]
fn sessions_are_no_news() {
    let mut scene = Scene::new();
    let event = Event::new(EventKind::Login);
    let effect = scene.on(Input::Event(News { event: &event, unseen: None, rings: true, urgent: true }));
    assert_eq!((effect, scene.route.marks.any_dirty()), (Effect::Nothing, false));
}
