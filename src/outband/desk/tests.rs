//! The desk as a session of events: what comes, who is there, what is sent, and what a kill leaves.

use super::*;
use crate::{
    account::{
        enrolment::{self, Question, Standing},
        preference::Limit,
        presence::End,
    },
    outband::{channels::udp::Udp, quota::tomorrow},
    store::{Entry, Key, Way},
};

const CLEAR: &str = "192.0.2.7:5000";
const KEYED: &str = "192.0.2.7:5001|a1b2c3d4:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn device(name: &str) -> DeviceName {
    DeviceName::parse(name.as_bytes()).unwrap()
}

fn subscription(name: &str, mailbox: &str, address: &str, format: Format) -> Subscription {
    Subscription {
        way: subscription::way(&device(name), Kind::Udp, address),
        kind: Kind::Udp,
        format,
        limit: Limit::default(),
        zone: 0,
        mailbox: Name(mailbox.as_bytes().into()),
        program: None,
        proof: Proof::Given,
    }
}

/// An account, and an hour.
struct World {
    desk: Desk,
    time: Duration,
    /// As it is stored.
    rows: BTreeMap<Way, Box<str>>,
    memos: Vec<Memo>,
    entries: BTreeMap<Key, Option<Box<[u8]>>>,
    rules: Rules,
    journal: Vec<Line>,
}

fn desk(rules: &Rules) -> Desk {
    let channels: Channels = [(Kind::Udp, Arc::new(Udp) as Arc<dyn Channel>)].into();
    Desk::new("joe@example.org", Arc::new(rules.clone()), Arc::new(channels))
}

/// The same where nobody knows whose the address is.
fn open(one: Subscription) -> Subscription {
    Subscription { proof: Proof::Open, ..one }
}

impl World {
    fn new(subscriptions: &[Subscription]) -> Self {
        Self::with(Quota::default(), subscriptions)
    }

    fn with(quota: Quota, subscriptions: &[Subscription]) -> Self {
        let rules = Rules { quota, ..Rules::default() };
        let (desk, time) = (desk(&rules), Duration::from_secs(1_000_000));
        let (rows, memos, entries, journal) = (BTreeMap::new(), Vec::new(), BTreeMap::new(), Vec::new());
        let mut world = Self { desk, time, rows, memos, entries, rules, journal };
        world.subscribe(subscriptions);
        world
    }

    fn now(&self) -> Moment {
        Moment { time: self.time, chance: 200 }
    }

    fn save(&mut self) {
        let Turn { routes, memos, entries, journal, .. } = self.desk.take_turn();
        if !memos.is_empty() {
            self.memos = memos;
        }
        self.entries.extend(entries);
        for (way, row) in routes {
            match row {
                Some(row) => _ = self.rows.insert(way, row),
                None => _ = self.rows.remove(&way),
            }
        }
        self.journal.extend(journal);
    }

    /// Time passes.
    fn wait(&mut self, seconds: u64) {
        self.time += Duration::from_secs(seconds);
        self.desk.advance(self.now());
        self.save();
    }

    fn arrives(&mut self, mailbox: &str, uids: &str) {
        self.found(news(mailbox, uids));
    }

    fn found(&mut self, news: News) {
        self.desk.found(&news, self.now());
        self.save();
    }

    fn sign(&mut self, name: &str, sign: Sign) {
        self.desk.sign(&device(name), 1, sign, self.now());
        self.save();
    }

    /// What is sent now.
    fn claim(&mut self) -> Option<Carriage> {
        let carriage = self.desk.claim(&Given { now: self.time, chance: [7; 64] }, self.now());
        self.save();
        carriage
    }

    /// To whom, as which number, and how many octets.
    fn sent(&mut self) -> Vec<(String, u64)> {
        let mut sent = Vec::new();
        while let Some(carriage) = self.claim() {
            sent.push((carriage.way.device.to_string(), carriage.seq));
            self.desk.settle(&carriage.way, carriage.seq, Outcome::Accepted, self.now());
            self.save();
        }
        sent
    }

    /// The process is killed, and another one begins with what was saved.
    fn killed(&mut self, subscriptions: &[Subscription]) {
        self.desk = desk(&self.rules);
        let rows = self.rows.iter().map(|(way, row)| (way.clone(), row.clone())).collect();
        assert_eq!(self.desk.restore(rows, &self.memos, self.now()), 0);
        self.subscribe(subscriptions);
    }

    /// What is known of an address.
    fn standing(&self, one: &Subscription) -> Option<Standing> {
        let entries =
            self.entries.iter().filter_map(|(key, value)| Some(Entry { key: key.clone(), value: value.clone()? }));
        enrolment::standing(&entries.collect::<Vec<_>>(), &one.way.device, &one.way.to)
    }

    /// The same subscription, as the entries say now.
    fn as_known(&self, one: &Subscription) -> Subscription {
        let proof = match self.standing(one) {
            Some(Standing::Asked(question)) => Proof::Asked(question),
            Some(Standing::Confirmed) => Proof::Given,
            None => Proof::Open,
        };
        Subscription { proof, ..one.clone() }
    }

    /// The code that somebody was sent.
    fn code(&self, one: &Subscription) -> Box<str> {
        let Some(Standing::Asked(Question { code: Some(code), .. })) = self.standing(one) else { panic!("no code") };
        code
    }

    fn subscribe(&mut self, subscriptions: &[Subscription]) {
        let devices = self.rows.keys().map(|way| way.device.clone()).collect();
        self.desk.subscribe(subscriptions.to_vec(), &devices, self.now());
        self.save();
    }

    /// The devices are forgotten, and what they have said.
    fn forget(&mut self) {
        self.desk.subscribe(Vec::new(), &BTreeSet::new(), self.now());
        self.save();
    }

    fn settle(&mut self, carried: &Carriage, outcome: Outcome) {
        let now = self.now();
        self.desk.settle(&carried.way, carried.seq, outcome, now);
        self.save();
    }

    fn says(&self) -> Vec<&str> {
        self.journal.iter().map(|line| &*line.what).collect()
    }
}

fn news(mailbox: &str, uids: &str) -> News {
    let arrived = UidSet::parse(uids.as_bytes()).unwrap();
    News {
        mailbox: mailbox.as_bytes().into(),
        uidvalidity: 7,
        next: arrived.last().unwrap() + 1,
        renewed: None,
        arrived,
        read: UidSet::default(),
        matched: Vec::new(),
        messages: Some(3),
        head: None,
    }
}

fn one(name: &str, seq: u64) -> Vec<(String, u64)> {
    vec![(name.to_owned(), seq)]
}

#[test]
fn who_is_away_is_told_once_and_again_until_he_reacts() {
    let mut world = World::new(&[subscription("phone", "INBOX", CLEAR, Format::Wakeup)]);
    world.arrives("INBOX", "18");
    assert_eq!(world.sent(), [], "more may come");
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 1));
    world.arrives("INBOX", "19");
    world.wait(59);
    assert_eq!(world.sent(), []);
    world.wait(1);
    assert_eq!(world.sent(), one("phone", 2));
    world.sign("phone", Sign::Comes);
    world.wait(3600);
    assert_eq!(world.sent(), []);
    let words = |what: &str| what.split(',').next().unwrap_or_default().to_owned();
    let says =
        ["new", "sent as UDP=WAKEUP", "accepted", "new", "sent as UDP=WAKEUP", "accepted", "the device is there"];
    assert_eq!(world.says()[..7].iter().map(|what| words(what)).collect::<Vec<_>>(), says);
}

#[test]
fn who_is_there_is_not_told_and_what_he_was_shown_is_no_news() {
    let mut world = World::new(&[subscription("phone", "INBOX", CLEAR, Format::Wakeup)]);
    world.sign("phone", Sign::Comes);
    world.sign("phone", Sign::Idles(true));
    world.arrives("INBOX", "18");
    world.wait(600);
    assert_eq!(world.sent(), []);
    let now = world.now();
    let shown = |uidnext| Shown { mailbox: b"INBOX", uidvalidity: Some(7), uidnext: Some(uidnext), ..Shown::default() };
    world.desk.shown(&device("phone"), shown(19), now);
    world.sign("phone", Sign::Goes(End::Logout));
    world.wait(600);
    assert_eq!(world.sent(), [], "it was shown");
    world.sign("phone", Sign::Comes);
    world.arrives("INBOX", "19");
    let now = world.now();
    world.desk.shown(&device("phone"), shown(19), now);
    world.sign("phone", Sign::Goes(End::Broken));
    world.wait(119);
    assert_eq!(world.sent(), [], "it may be back soon");
    world.wait(1);
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 1), "it was not shown, or nobody knows");
}

#[test]
fn one_notice_of_a_device_is_on_its_way_and_others_do_not_wait() {
    let mut world = World::new(&[
        subscription("phone", "INBOX", CLEAR, Format::Wakeup),
        subscription("phone", "Work", "192.0.2.7:6000", Format::Wakeup),
        subscription("tablet", "INBOX", CLEAR, Format::Wakeup),
    ]);
    world.arrives("INBOX", "18");
    world.arrives("Work", "5");
    world.wait(3);
    let [first, second] = [world.claim().unwrap(), world.claim().unwrap()];
    assert_eq!((first.way.device.as_str(), second.way.device.as_str()), ("phone", "tablet"));
    assert!(world.claim().is_none() && world.desk.next_at(world.now()).is_none());
    let now = world.now();
    world.desk.settle(&first.way, first.seq, Outcome::Later { after: None }, now);
    let third = world.claim().unwrap();
    assert_eq!((third.way.device.as_str(), third.way == first.way), ("phone", false));
}

#[test]
fn what_was_claimed_is_sent_again_under_its_number() {
    let subscriptions = [subscription("phone", "INBOX", CLEAR, Format::Wakeup)];
    let mut world = World::new(&subscriptions);
    world.arrives("INBOX", "18");
    world.killed(&subscriptions);
    world.wait(3);
    let sent = world.claim().unwrap();
    world.killed(&subscriptions);
    assert_eq!(world.sent(), one("phone", sent.seq));
    world.killed(&subscriptions);
    assert_eq!(world.sent(), [], "that is known");
}

#[test]
fn what_nobody_remembers_a_device_that_is_back_finds_by_comparing() {
    let mut world = World::new(&[subscription("phone", "INBOX", CLEAR, Format::Wakeup)]);
    world.sign("phone", Sign::Comes);
    let now = world.now();
    world.desk.lose_sight(now);
    world.sign("phone", Sign::Comes);
    world.arrives("INBOX", "18");
    world.wait(1000);
    assert_eq!(world.sent(), [], "it has said that it is there");
    assert!(world.desk.missed(&device("phone"), now).overflow);
    let now = world.now();
    world.desk.lose_sight(now);
    world.wait(119);
    assert_eq!(world.sent(), []);
    world.wait(1);
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 1), "as behind a connection that broke");
}

#[test]
fn a_device_that_wants_nothing_keeps_what_all_its_routes_had_to_tell() {
    let work = subscription("phone", "Work", "192.0.2.7:6000", Format::Wakeup);
    let mut world = World::new(&[subscription("phone", "INBOX", CLEAR, Format::Wakeup), work.clone()]);
    world.arrives("INBOX", "18");
    world.arrives("Work", "5");
    world.subscribe(&[]);
    assert_eq!(world.rows.len(), 1);
    world.subscribe(&[work]);
    assert_eq!(world.desk.views(world.now())[0].fresh, 2);
}

#[test]
fn who_was_told_to_sign_in_and_could_not_help_is_told_so_again_a_day_later() {
    let mut world = World::new(&[subscription("phone", "INBOX", CLEAR, Format::Wakeup)]);
    let called = |world: &mut World, seconds| {
        world.time += Duration::from_secs(seconds);
        let now = world.now();
        world.desk.look_after(false, now);
        world.wait(3);
        world.sent().len()
    };
    assert_eq!(called(&mut world, 0), 1);
    for sign in [Sign::Comes, Sign::Goes(End::Logout)] {
        world.sign("phone", sign);
        assert_eq!(called(&mut world, 10), 0, "else it would come and go for ever");
    }
    assert_eq!(world.desk.next_at(world.now()), Some(Duration::from_secs(1_000_000 + 86_400)), "then it is looked");
    assert_eq!(called(&mut world, 86_400), 1);
    assert_eq!(called(&mut world, 86_400 * 40), 0, "it has not come since");
}

#[test]
fn what_is_claimed_does_not_go_to_a_device_that_has_come_meanwhile() {
    let mut world = World::new(&[subscription("phone", "INBOX", CLEAR, Format::Wakeup)]);
    world.arrives("INBOX", "18");
    world.wait(3);
    let claimed = world.claim().unwrap();
    let now = world.now();
    assert!(!world.desk.recall(&claimed.way, claimed.seq, false, now));
    world.sign("phone", Sign::Comes);
    assert!(world.desk.recall(&claimed.way, claimed.seq, false, now));
    world.sign("phone", Sign::Goes(End::Logout));
    world.wait(3);
    assert_eq!(world.sent(), one("phone", claimed.seq + 1), "it has not looked");

    let mut world = World::new(&[open(subscription("phone", "INBOX", CLEAR, Format::Wakeup))]);
    world.sign("phone", Sign::Comes);
    let question = world.claim().unwrap();
    let now = world.now();
    assert!(!world.desk.recall(&question.way, question.seq, true, now), "its user waits for it");
    world.subscribe(&[]);
    assert!(world.desk.recall(&question.way, question.seq, false, now), "that address is removed");
}

#[test]
fn another_address_is_told_what_the_old_one_was_not() {
    let mut world = World::new(&[subscription("phone", "INBOX", CLEAR, Format::Wakeup)]);
    world.arrives("INBOX", "18");
    world.subscribe(&[subscription("phone", "INBOX", "192.0.2.8:1", Format::Wakeup)]);
    assert_eq!(world.rows.len(), 1);
    world.wait(3);
    let carriage = world.claim().unwrap();
    assert_eq!(&*carriage.way.to, "UDP 192.0.2.8:1");
    world.settle(&carriage, Outcome::Accepted);
    world.forget();
    assert!(world.rows.is_empty() && !world.desk.is_subscribed());
}

#[test]
fn a_device_that_wants_nothing_for_a_while_goes_on_with_its_numbers() {
    let [phone, other] = [CLEAR, KEYED].map(|address| subscription("phone", "INBOX", address, Format::Wakeup));
    let mut world = World::new(std::slice::from_ref(&phone));
    world.arrives("INBOX", "18");
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 1));
    world.arrives("INBOX", "19");
    world.subscribe(&[]);
    let ways: Vec<_> = world.rows.keys().map(|way| &*way.to).collect();
    assert_eq!(ways, ["NONE"], "the address is not kept");
    assert!(!world.desk.is_subscribed());
    let view = &world.desk.views(world.now())[0];
    assert_eq!((&*view.channel, &*view.address, &*view.state, view.seq), ("NONE", "", "DISABLED", 1));
    assert_eq!((world.desk.waiting(world.now()).count(), world.desk.next_at(world.now())), (0, None));
    world.killed(&[]);
    world.wait(86_400);
    assert_eq!(world.sent(), []);
    world.killed(&[other]);
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 2), "of what came before that");
    world.forget();
    world.subscribe(&[phone]);
    world.arrives("INBOX", "20");
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 1), "of a device that was forgotten nothing is known");
}

#[test]
fn a_mailbox_that_changes_its_route_takes_its_news_along() {
    let both = |address| {
        [subscription("phone", "INBOX", CLEAR, Format::Wakeup), subscription("phone", "Work", address, Format::Wakeup)]
    };
    let mut world = World::new(&both("192.0.2.7:6000"));
    world.arrives("Work", "5");
    world.subscribe(&both(CLEAR));
    world.wait(3);
    let carriage = world.claim().unwrap();
    assert_eq!((&*carriage.way.to, world.rows.len()), ("UDP 192.0.2.7:5000", 1));
}

#[test]
fn what_does_not_match_or_is_read_does_not_ring() {
    let program: Box<[u8]> = (*b"FROM boss").into();
    let wanted =
        Subscription { program: Some(program.clone()), ..subscription("phone", "INBOX", CLEAR, Format::Wakeup) };
    let mut world = World::new(&[wanted]);
    let of = |uids: &str| UidSet::parse(uids.as_bytes()).unwrap_or_default();
    world.found(News { matched: vec![(program.clone(), of("19"))], read: of("19"), ..news("INBOX", "18:19") });
    world.wait(60);
    assert_eq!((world.sent(), world.says()), (vec![], vec!["new, does not match", "new, read already"]));
    world.found(News { matched: vec![(program, of("20"))], ..news("INBOX", "20:21") });
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 1));
}

#[test]
fn what_a_message_says_is_asked_once_more_behind_a_restart() {
    let subscriptions =
        [subscription("phone", "INBOX", KEYED, Format::Extended), subscription("phone", "Work", KEYED, Format::Wakeup)];
    let mut world = World::new(&subscriptions);
    let head = b"From: Juliet <juliet@example.org>\r\nSubject: Contact me\r\n\r\nRomeo".to_vec();
    world.found(News { head: Some((18, head.clone())), ..news("INBOX", "18") });
    world.arrives("Work", "3");
    assert_eq!(world.desk.unknown(), []);
    world.killed(&subscriptions);
    assert_eq!(world.desk.unknown(), [(Box::from(*b"INBOX"), 7, 18)]);
    let known = News { head: Some((18, head)), ..News::of((*b"INBOX").into(), 7, 19) };
    world.found(known.clone());
    assert_eq!(world.desk.unknown(), []);
    let mut world = World::new(&subscriptions[..1]);
    world.found(known);
    world.arrives("INBOX", "18");
    world.wait(3);
    world.claim().unwrap();
    world.killed(&subscriptions[..1]);
    assert_eq!(world.desk.unknown(), [(Box::from(*b"INBOX"), 7, 18)], "it goes again under its number");
}

#[test]
fn who_is_back_reads_what_he_has_missed_once() {
    let mut world = World::new(&[
        subscription("phone", "INBOX", CLEAR, Format::Wakeup),
        subscription("tablet", "INBOX", CLEAR, Format::Wakeup),
    ]);
    let renamed =
        Event { old_mailbox: Some((*b"Work").into()), ..Event::of_mailbox(event::Kind::MailboxRename, *b"Office") };
    let now = world.now();
    world.desk.happened_by(&device("tablet"), &renamed, now);
    world.wait(60);
    assert_eq!(world.sent(), [], "it does not ring");
    let missed = world.desk.missed(&device("phone"), now);
    assert_eq!((missed.events.len(), missed.overflow), (1, false));
    assert_eq!(world.desk.missed(&device("phone"), now).events.len(), 0);
    assert_eq!(world.desk.missed(&device("tablet"), now).events.len(), 0, "it was its own");
}

#[test]
fn an_address_that_is_dead_is_told_at_the_next_login() {
    let mut world = World::new(&[subscription("phone", "INBOX", CLEAR, Format::Wakeup)]);
    world.arrives("INBOX", "18");
    world.wait(3);
    let carriage = world.claim().unwrap();
    let now = world.now();
    world.desk.settle(&carriage.way, carriage.seq, Outcome::Dead, now);
    assert!(world.desk.sign(&device("phone"), 1, Sign::Comes, now));
    assert!(!world.desk.sign(&device("phone"), 2, Sign::Comes, now), "it was there already");
    assert_eq!(
        world.desk.alerts(&device("phone")),
        ["You are not told of new mail by UDP any more: the address is none. Set another, or NONE and then this one"]
    );
}

#[test]
fn what_there_is_to_say_of_routes_is_said() {
    let world = World::new(&[
        subscription("phone", "INBOX", CLEAR, Format::Extended),
        subscription("tablet", "INBOX", KEYED, Format::Extended),
    ]);
    let remarks: Vec<_> = world.desk.remarks().into_iter().map(|(name, said)| (name.to_string(), said)).collect();
    let said = ["UDP=EXTENDED goes as UDP=WAKEUP: nothing protects it there".to_owned()].into();
    assert_eq!(remarks, [("phone".to_owned(), said), ("tablet".to_owned(), BTreeSet::new())]);
}

#[test]
fn what_a_message_says_goes_only_where_nobody_else_reads_it() {
    let octets = |address: &str, format| {
        let mut world = World::new(&[subscription("phone", "INBOX", address, format)]);
        let head = b"From: Juliet <juliet@example.org>\r\nSubject: Contact me\r\n\r\nRomeo".to_vec();
        world.found(News { head: Some((18, head)), ..news("INBOX", "18") });
        world.wait(3);
        world.claim().unwrap();
        world.says().last().unwrap().split(',').next().unwrap().to_owned()
    };
    assert_eq!(octets(CLEAR, Format::Extended), "sent as UDP=WAKEUP");
    assert_eq!(octets(KEYED, Format::Wakeup), "sent as UDP=WAKEUP");
    assert_eq!(octets(KEYED, Format::Extended), "sent as UDP=EXTENDED");
}

#[test]
fn an_address_that_is_none_ends_the_route_and_says_so() {
    let mut world = World::new(&[subscription("phone", "INBOX", "nowhere", Format::Wakeup)]);
    world.arrives("INBOX", "18");
    world.wait(3);
    assert!(world.claim().is_none() && world.desk.next_at(world.now()).is_none());
    assert_eq!(world.says(), ["new", "not an address of this channel"]);
}

#[test]
fn who_is_away_is_asked_to_sign_in_where_nobody_can_look_any_more() {
    let mut world = World::new(&[
        subscription("phone", "INBOX", CLEAR, Format::Wakeup),
        subscription("phone", "Work", CLEAR, Format::Wakeup),
        subscription("tablet", "INBOX", CLEAR, Format::Wakeup),
    ]);
    world.sign("tablet", Sign::Comes);
    let asleep = |world: &mut World, somebody| {
        let now = world.now();
        world.desk.look_after(somebody, now);
        world.wait(3);
        world.sent()
    };
    assert_eq!(asleep(&mut world, false), one("phone", 1));
    world.sign("tablet", Sign::Goes(End::Logout));
    assert_eq!(asleep(&mut world, false), one("tablet", 1), "it hears of it when it goes, and the phone once");
    assert_eq!(asleep(&mut world, true), []);
    world.sign("phone", Sign::Comes);
    world.sign("phone", Sign::Goes(End::Logout));
    assert_eq!(asleep(&mut world, false)[0], ("phone".to_owned(), 2), "it has happened again");
}

#[test]
fn a_mailbox_that_was_made_anew_rings_if_there_is_something_in_it() {
    let mut world = World::new(&[subscription("phone", "INBOX", CLEAR, Format::Wakeup)]);
    let renewed = |messages| News { renewed: Some(messages), arrived: UidSet::default(), ..news("INBOX", "1") };
    world.found(renewed(0));
    world.wait(60);
    assert_eq!(world.sent(), []);
    world.found(renewed(4));
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 1));
}

#[test]
fn an_operator_has_it_told_again_or_not_at_all() {
    let mut world = World::new(&[subscription("phone", "INBOX", CLEAR, Format::Wakeup)]);
    world.arrives("INBOX", "18");
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 1));
    let now = world.now();
    assert!(world.desk.order(&device("phone"), Instruction::Again, now));
    assert!(!world.desk.order(&device("tablet"), Instruction::Again, now));
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 2));
    let now = world.now();
    world.desk.order(&device("phone"), Instruction::Nothing, now);
    world.wait(3600);
    assert_eq!((world.sent(), world.desk.waiting(world.now()).count()), (vec![], 0));
    world.arrives("INBOX", "19");
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 3));
}

#[test]
fn an_operator_asks_a_device_to_sign_in() {
    let mut world = World::new(&[subscription("phone", "INBOX", CLEAR, Format::Wakeup)]);
    let now = world.now();
    assert!(world.desk.order(&device("phone"), Instruction::SignIn, now));
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 1));
    assert_eq!(world.says()[0], "the operator wants it to sign in");
}

#[test]
fn what_was_shown_before_anybody_has_looked_does_not_ring() {
    let mut world = World::new(&[subscription("phone", "INBOX", CLEAR, Format::Wakeup)]);
    world.sign("phone", Sign::Comes);
    let now = world.now();
    let shown = Shown { mailbox: b"INBOX", uidvalidity: Some(7), uidnext: Some(19), ..Shown::default() };
    world.desk.shown(&device("phone"), shown, now);
    world.sign("phone", Sign::Goes(End::Logout));
    world.arrives("INBOX", "18:19");
    world.wait(3);
    assert_eq!(
        (world.sent(), world.says()),
        (
            one("phone", 1),
            vec![
                "the device is there",
                "the device has gone",
                "new, shown already",
                "new",
                "sent as UDP=WAKEUP, 34 octets",
                "accepted",
            ]
        )
    );
}

#[test]
fn an_address_that_changes_while_a_notice_is_on_its_way_is_told() {
    let mut world = World::new(&[subscription("phone", "INBOX", CLEAR, Format::Wakeup)]);
    world.arrives("INBOX", "18");
    world.wait(3);
    let carried = world.claim().unwrap();
    world.subscribe(&[subscription("phone", "INBOX", "192.0.2.8:1", Format::Wakeup)]);
    world.settle(&carried, Outcome::Accepted);
    world.wait(3);
    let carriage = world.claim().unwrap();
    assert_eq!((&*carriage.way.to, carriage.seq), ("UDP 192.0.2.8:1", carried.seq + 1));
}

fn octets(carried: &Carriage) -> Vec<u8> {
    match &carried.delivery {
        Delivery::Datagram(datagram) => datagram.octets.clone(),
        other => panic!("{other:?}"),
    }
}

const LATER: Outcome = Outcome::Later { after: None };

#[test]
fn an_address_that_may_be_a_strangers_is_asked_about_and_told_nothing_until_somebody_answers() {
    let phone = open(subscription("phone", "INBOX", CLEAR, Format::Wakeup));
    let mut world = World::new(std::slice::from_ref(&phone));
    // Also while the device is there: its user waits for it.
    world.sign("phone", Sign::Comes);
    let carried = world.claim().unwrap();
    let (code, octets) = (world.code(&phone), octets(&carried));
    assert!(octets.ends_with(format!(">{code}</xemn>").as_bytes()), "{}", octets.escape_ascii());
    world.settle(&carried, Outcome::Accepted);
    world.sign("phone", Sign::Goes(End::Logout));
    world.arrives("INBOX", "18");
    world.wait(3);
    assert_eq!((carried.seq, world.sent()), (1, vec![]));
    assert_eq!(world.desk.next_at(world.now()), None, "nobody waits for nothing");
    assert_eq!(world.desk.bars(world.now()), [Bar::Unconfirmed]);
    world.subscribe(&[Subscription { proof: Proof::Given, ..phone }]);
    assert_eq!(world.sent(), one("phone", 2));
    let said = [
        "the device is there",
        "asked to confirm the address",
        "accepted",
        "the device has gone",
        "new",
        "not told yet: the address is not confirmed",
        "the address is confirmed",
        "sent as UDP=WAKEUP, 34 octets",
        "accepted",
    ];
    assert_eq!(world.says(), said);
}

#[test]
fn a_device_with_a_key_answers_by_itself() {
    let phone = open(subscription("phone", "INBOX", KEYED, Format::Wakeup));
    let mut world = World::new(std::slice::from_ref(&phone));
    world.arrives("INBOX", "18");
    let carried = world.claim().unwrap();
    assert_eq!(octets(&carried)[..6], *b"MEM1\x02\x00", "a probe");
    assert!(matches!(world.standing(&phone), Some(Standing::Asked(Question { code: None, .. }))));
    world.settle(&carried, Outcome::Delivered);
    assert_eq!(world.standing(&phone), Some(Standing::Confirmed));
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 2));
}

#[test]
fn a_device_that_does_not_answer_is_asked_again_when_it_is_there() {
    let phone = open(subscription("phone", "INBOX", KEYED, Format::Wakeup));
    let mut world = World::new(std::slice::from_ref(&phone));
    for pause in [10, 40, 160] {
        let carried = world.claim().unwrap();
        world.settle(&carried, LATER);
        assert_eq!((carried.seq, world.sent()), (1, vec![]));
        world.wait(pause);
    }
    let carried = world.claim().unwrap();
    world.settle(&carried, LATER);
    world.wait(3600);
    assert_eq!(world.sent(), []);
    for seq in [2, 3] {
        world.sign("phone", Sign::Comes);
        assert_eq!(world.sent(), one("phone", seq));
        world.sign("phone", Sign::Goes(End::Logout));
    }
    world.sign("phone", Sign::Comes);
    assert_eq!(world.sent(), [], "three times a day");
    world.sign("phone", Sign::Goes(End::Logout));
    assert_eq!(world.desk.next_at(world.now()), Some(tomorrow(world.time)));
    world.time = tomorrow(world.time);
    assert_eq!(world.sent(), one("phone", 4));
}

#[test]
fn a_question_of_which_nobody_knows_is_asked_again_with_its_number_and_its_code() {
    let phone = open(subscription("phone", "INBOX", CLEAR, Format::Wakeup));
    let mut world = World::new(std::slice::from_ref(&phone));
    let first = world.claim().unwrap();
    world.wait(60);
    world.killed(&[world.as_known(&phone)]);
    let second = world.claim().unwrap();
    assert_eq!((first.seq, octets(&first)), (second.seq, octets(&second)));
    world.settle(&second, Outcome::Accepted);
    world.killed(&[world.as_known(&phone)]);
    assert_eq!(world.sent(), [], "it has arrived");
}

#[test]
fn who_sets_an_address_again_gets_another_code_three_times_a_day() {
    let phone = open(subscription("phone", "INBOX", CLEAR, Format::Wakeup));
    let mut world = World::new(std::slice::from_ref(&phone));
    let mut set_again = |seq| {
        let sent = world.sent();
        let Proof::Asked(question) = world.as_known(&phone).proof else { panic!() };
        world.wait(60);
        world.subscribe(&[Subscription { proof: Proof::Asked(Question { again: true, ..question }), ..phone.clone() }]);
        assert_eq!(sent, one("phone", seq));
    };
    (1..=3).for_each(&mut set_again);
    assert_eq!(world.sent(), []);
    world.time = tomorrow(world.time);
    assert_eq!(world.sent(), one("phone", 4));
}

#[test]
fn notices_beyond_the_quota_wait_for_the_next_day() {
    let phone = subscription("phone", "INBOX", CLEAR, Format::Wakeup);
    let tablet = subscription("tablet", "INBOX", KEYED, Format::Wakeup);
    let both = [phone, tablet];
    let mut world = World::with(Quota { notices: 1, ..Quota::default() }, &both);
    world.arrives("INBOX", "18");
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 1));
    assert_eq!(world.says()[3], "the notices of today are used up: more are told tomorrow");
    assert_eq!(world.desk.next_at(world.now()), Some(tomorrow(world.time)));
    world.killed(&both);
    world.wait(200);
    assert_eq!(world.sent(), [], "a restart gives nobody more");
    assert_eq!(world.desk.bars(world.now()), [Bar::Notices, Bar::Notices]);
    world.time = tomorrow(world.time);
    assert_eq!(world.sent(), one("tablet", 1), "nothing is lost");
}

#[test]
fn new_addresses_beyond_the_quota_wait_for_the_next_day() {
    let both = [
        subscription("phone", "INBOX", CLEAR, Format::Wakeup),
        open(subscription("tablet", "INBOX", "192.0.2.8:5000", Format::Wakeup)),
    ];
    let mut world = World::with(Quota { destinations: 1, ..Quota::default() }, &both);
    assert_eq!(world.sent(), one("tablet", 1), "a question is something that goes there");
    world.arrives("INBOX", "18");
    world.wait(3);
    assert_eq!(world.sent(), []);
    assert_eq!(world.says()[3], "not told yet: the new addresses of today are used up");
    world.time = tomorrow(world.time);
    assert_eq!(world.sent(), one("phone", 1));
}

#[test]
fn devices_beyond_the_quota_wait_until_others_go() {
    let [a, b, c] = ["a", "b", "c"].map(|name| subscription(name, "INBOX", CLEAR, Format::Wakeup));
    let mut world = World::with(Quota { devices: 1, ..Quota::default() }, &[b.clone(), c.clone()]);
    world.arrives("INBOX", "18");
    world.wait(3);
    assert_eq!(world.sent(), one("b", 1));
    world.subscribe(&[a.clone(), b, c.clone()]);
    world.arrives("INBOX", "19");
    world.wait(3);
    assert_eq!(world.desk.bars(world.now()), [Bar::Devices, Bar::Devices], "who was told of something stays");
    assert_eq!(world.sent(), []);
    world.subscribe(&[c]);
    assert_eq!(world.sent(), one("c", 1), "with what has come in between");
}

#[test]
fn a_limit_is_of_the_users_day() {
    let limit = Limit { total: Some(1), size: None };
    let phone = Subscription { limit, zone: 2 * 3600, ..subscription("phone", "INBOX", CLEAR, Format::Wakeup) };
    let mut world = World::new(&[phone]);
    world.arrives("INBOX", "18");
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 1));
    world.wait(200);
    assert_eq!(world.sent(), [], "the day has one");
    // Midnight is two hours sooner than that of UTC.
    let midnight = tomorrow(world.time) - Duration::from_secs(2 * 3600);
    assert_eq!(world.desk.next_at(world.now()), Some(midnight));
    world.time = midnight;
    world.wait(0);
    world.wait(3);
    assert_eq!(world.sent(), one("phone", 2));
}
