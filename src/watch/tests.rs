//! The watch before a mailbox that a test makes: what is asked, what is found, and a walk in which every message is found once.

use super::*;

const PACE: Pace = Pace { every: Duration::from_secs(60), idle: Duration::from_secs(1500) };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A backend with some mailboxes, of which one reads as a session what it is asked.
#[derive(Debug, Default)]
struct Backend {
    mailboxes: BTreeMap<&'static str, Mailbox>,
    idles: bool,
    said: Vec<String>,
}

#[derive(Debug, Default)]
struct Mailbox {
    uidvalidity: u32,
    next: u32,
    messages: Vec<(u32, bool, String)>,
    /// Something comes while it is looked at.
    grows: bool,
}

impl Mailbox {
    fn deliver(&mut self, text: &str) -> u32 {
        let uid = self.next.max(1);
        self.messages.push((uid, false, text.to_owned()));
        self.next = uid + 1;
        uid
    }
}

impl Backend {
    fn with(names: &[&'static str]) -> Self {
        let new =
            |name: &&'static str| (*name, Mailbox { uidvalidity: 7, next: 1, messages: Vec::new(), grows: false });
        Self { mailboxes: names.iter().map(new).collect(), idles: true, said: Vec::new() }
    }

    fn inbox(&mut self) -> &mut Mailbox {
        self.mailboxes.get_mut("INBOX").unwrap()
    }

    /// What comes of an errand.
    fn run(&mut self, errand: &Errand) -> (Outcome, Examined) {
        let name = std::str::from_utf8(&errand.mailbox).unwrap();
        let Task::Ask { verb, arguments, keep } = &errand.task else {
            self.said.push(format!("{name}: IDLE"));
            let status = if self.idles { Status::Ok } else { Status::Bad };
            return (Outcome::Done(Vec::new(), status, Vec::new()), Examined::default());
        };
        let arguments = String::from_utf8(arguments.clone()).unwrap();
        self.said.push(format!("{name}: {} {arguments}", verb.name));
        let Some(mailbox) = self.mailboxes.get_mut(name) else {
            return (Outcome::Done(Vec::new(), Status::No, Vec::new()), Examined::default());
        };
        let examined = Examined {
            messages: Some(mailbox.messages.len() as u32),
            uidvalidity: Some(mailbox.uidvalidity),
            uidnext: Some(mailbox.next),
            has_grown: std::mem::take(&mut mailbox.grows),
        };
        let mut kept = Vec::new();
        let last = mailbox.messages.last().map_or(0, |(uid, ..)| *uid);
        let set = arguments.strip_prefix("UID ").unwrap_or(&arguments).split(' ').next().unwrap();
        let bound = |text: &str| text.parse().unwrap_or(last);
        let (one, other) =
            set.split_once(':').map_or((bound(set), bound(set)), |(one, other)| (bound(one), bound(other)));
        let within = one.min(other)..=one.max(other);
        let chosen = mailbox.messages.iter().filter(|(uid, ..)| within.contains(uid));
        match verb.name {
            "UID SEARCH" => {
                let key = arguments.rsplit(' ').next().unwrap();
                let matching = chosen.filter(|(.., text)| text.contains(key));
                let uids: String = matching.map(|(uid, ..)| format!(" {uid}")).collect();
                keep(&mut kept, format!("* SEARCH{uids}").as_bytes());
            }
            _ if arguments.contains("BODY") => chosen.for_each(|(uid, _, text)| {
                let line = format!("* 1 FETCH (UID {uid} BODY[]<0> {{{}}}\r\n{text})", text.len());
                keep(&mut kept, line.as_bytes());
            }),
            _ => chosen.for_each(|(uid, read, _)| {
                let flags = if *read { "\\Recent \\seen" } else { "\\Recent" };
                keep(&mut kept, format!("* 1 FETCH (FLAGS ({flags}) UID {uid})").as_bytes());
            }),
        }
        (Outcome::Done(kept, Status::Ok, Vec::new()), examined)
    }
}

fn watching(wishes: &[(&str, Wish)], known: &[(&str, Cursor)]) -> Watch {
    let mut watch = Watch::new(PACE);
    let wishes = wishes.iter().map(|(name, wish)| (name.as_bytes().into(), wish.clone())).collect();
    let known = known.iter().map(|(name, cursor)| (name.as_bytes().into(), *cursor)).collect();
    watch.look_after(wishes, &known);
    watch
}

/// What is found until there is nothing to do but to wait.
fn look(watch: &mut Watch, backend: &mut Backend, now: Duration) -> Vec<News> {
    let mut news = Vec::new();
    while let Next::Run(errand) = watch.next(now) {
        let (outcome, examined) = backend.run(&errand);
        news.extend(watch.told(outcome, examined, now));
    }
    news
}

/// The same, and the end of an IDLE before it.
fn stirred(watch: &mut Watch, backend: &mut Backend, now: Duration) -> Vec<News> {
    let Next::Listen(errand, _) = watch.next(now) else { panic!("{watch:?}") };
    let (outcome, examined) = backend.run(&errand);
    assert_eq!(watch.told(outcome, examined, now), None);
    look(watch, backend, now)
}

fn arrived(news: &[News]) -> Vec<String> {
    news.iter().map(|news| format!("{} {}", news.mailbox.escape_ascii(), news.arrived)).collect()
}

#[test]
fn what_comes_is_found_once_and_what_was_there_is_old() {
    let mut backend = Backend::with(&["INBOX"]);
    backend.inbox().deliver("old");
    let mut watch = watching(&[("INBOX", Wish::default())], &[]);
    assert!(!watch.is_settled());
    assert_eq!(arrived(&look(&mut watch, &mut backend, at(0))), ["INBOX "]);
    assert!(watch.is_settled());
    assert_eq!(watch.cursor(b"INBOX"), Some(Cursor { uidvalidity: 7, next: 2 }));
    backend.inbox().deliver("new");
    backend.inbox().deliver("newer");
    backend.inbox().messages[1].1 = true;
    let news = stirred(&mut watch, &mut backend, at(1));
    assert_eq!((arrived(&news), news[0].read.to_string()), (vec!["INBOX 2:3".to_owned()], "2".to_owned()));
    assert_eq!(arrived(&stirred(&mut watch, &mut backend, at(2))), ["INBOX "], "it is old now");
    let said = [
        "INBOX: UID FETCH * (UID FLAGS)",
        "INBOX: IDLE",
        "INBOX: UID FETCH 2:* (UID FLAGS)",
        "INBOX: IDLE",
        "INBOX: UID FETCH 4:* (UID FLAGS)",
    ];
    assert_eq!(backend.said, said);
}

#[test]
fn a_look_goes_on_where_the_last_process_ended() {
    let mut backend = Backend::with(&["INBOX"]);
    (0..4).for_each(|_| _ = backend.inbox().deliver("x"));
    backend.inbox().messages.remove(3);
    let mut watch = watching(&[("INBOX", Wish::default())], &[("INBOX", Cursor { uidvalidity: 7, next: 2 })]);
    assert_eq!(arrived(&look(&mut watch, &mut backend, at(0))), ["INBOX 2:3"], "one has come and gone");
    backend.inbox().messages.clear();
    assert_eq!(arrived(&stirred(&mut watch, &mut backend, at(1))), ["INBOX "]);
    assert_eq!(watch.cursor(b"INBOX").unwrap().next, 4, "it does not go back");
}

#[test]
fn a_mailbox_that_was_made_anew_is_told_and_begins_anew() {
    let mut backend = Backend::with(&["INBOX"]);
    let mut watch = watching(&[("INBOX", Wish::default())], &[("INBOX", Cursor { uidvalidity: 6, next: 90 })]);
    backend.inbox().deliver("x");
    let news = look(&mut watch, &mut backend, at(0));
    assert_eq!(news.iter().map(|news| news.renewed).collect::<Vec<_>>(), [Some(1)]);
    assert_eq!(watch.cursor(b"INBOX"), Some(Cursor { uidvalidity: 7, next: 2 }));
    backend.inbox().deliver("y");
    assert_eq!(arrived(&stirred(&mut watch, &mut backend, at(1))), ["INBOX 2"]);
}

#[test]
fn filters_are_asked_of_what_is_new_and_one_that_cannot_be_asked_lets_all_pass() {
    let mut backend = Backend::with(&["INBOX"]);
    let programs = vec![Box::from(*b"TEXT juliet"), Box::from("TEXT Grüße".as_bytes())];
    let wish = Wish { programs, heads: true };
    let mut watch = watching(&[("INBOX", wish)], &[("INBOX", Cursor { uidvalidity: 7, next: 1 })]);
    for text in ["from juliet", "from romeo", "from juliet too"] {
        backend.inbox().deliver(text);
    }
    let news = look(&mut watch, &mut backend, at(0)).remove(0);
    let matched: Vec<_> = news.matched.iter().map(|(_, uids)| uids.to_string()).collect();
    assert_eq!((matched, news.head), (vec!["1,3".to_owned(), String::new()], Some((3, b"from juliet too".to_vec()))));
    let said = [
        "INBOX: UID FETCH 1:* (UID FLAGS)",
        "INBOX: UID SEARCH UID 1:3 TEXT juliet",
        "INBOX: UID SEARCH CHARSET UTF-8 UID 1:3 TEXT Grüße",
        "INBOX: UID FETCH 3 (UID BODY.PEEK[]<0.16384>)",
    ];
    assert_eq!(backend.said, said);
    backend.inbox().deliver("from romeo");
    watch.stir(b"INBOX");
    let Next::Run(errand) = watch.next(at(1)) else { panic!("{watch:?}") };
    let (outcome, examined) = backend.run(&errand);
    assert_eq!(watch.told(outcome, examined, at(1)), None);
    for _ in 0..2 {
        let refused = Outcome::Done(Vec::new(), Status::No, b"[BADCHARSET]".to_vec());
        watch.next(at(1));
        assert_eq!(watch.told(refused, examined, at(1)), None);
        let Next::Run(errand) = watch.next(at(1)) else { panic!("{watch:?}") };
        assert_eq!(watch.told(backend.run(&errand).0, examined, at(1)), None);
    }
    let news = look(&mut watch, &mut backend, at(1)).remove(0);
    assert!(news.matched.iter().all(|(_, uids)| uids.to_string() == "4"), "{news:?}");
}

#[test]
fn where_the_backend_cannot_search_the_headers_are_looked_at() {
    let mut backend = Backend::with(&["INBOX"]);
    let wish = Wish { programs: vec![Box::from("FROM \"jürgen\"".as_bytes())], heads: false };
    let mut watch = watching(&[("INBOX", wish)], &[("INBOX", Cursor { uidvalidity: 7, next: 1 })]);
    (0..3).for_each(|_| _ = backend.inbox().deliver("x"));
    let Next::Run(errand) = watch.next(at(0)) else { panic!("{watch:?}") };
    let (outcome, examined) = backend.run(&errand);
    assert_eq!(watch.told(outcome, examined, at(0)), None);
    let refused = Outcome::Done(Vec::new(), Status::No, b"[BADCHARSET]".to_vec());
    assert_eq!(watch.told(refused, examined, at(0)), None);
    let Next::Run(errand) = watch.next(at(0)) else { panic!("{watch:?}") };
    let Task::Ask { verb, arguments, .. } = errand.task else { panic!("{errand:?}") };
    assert_eq!(
        (verb.name, &*arguments),
        ("UID FETCH", &b"1:3 (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER])"[..])
    );
    let one = |uid: u32, from: &str| {
        let header = format!("From: {from} <a@example.org>\r\n\r\n");
        let len = header.len();
        format!("* {uid} FETCH (UID {uid} FLAGS (\\Recent) RFC822.SIZE 310 BODY[HEADER] {{{len}}}\r\n{header})")
            .into_bytes()
    };
    // Of the third one nothing is said.
    let kept = vec![one(1, "=?utf-8?q?J=C3=BCrgen?="), one(2, "Romeo")];
    let news = watch.told(Outcome::Done(kept, Status::Ok, Vec::new()), examined, at(0)).unwrap();
    assert_eq!(news.matched[0].1.to_string(), "1,3");
}

#[test]
fn inbox_is_listened_to_and_the_others_are_looked_at_in_their_turn() {
    let mut backend = Backend::with(&["INBOX", "Work"]);
    let mut watch = watching(&[("INBOX", Wish::default()), ("Work", Wish::default())], &[]);
    look(&mut watch, &mut backend, at(0));
    let Next::Listen(errand, until) = watch.next(at(10)) else { panic!("{watch:?}") };
    assert_eq!((&*errand.mailbox, until), (&b"INBOX"[..], at(60)));
    let Task::Listen { count: Some(0), also } = &errand.task else { panic!("{errand:?}") };
    assert_eq!(also, &[Box::from(*b"Work")]);
    let (outcome, examined) = backend.run(&errand);
    watch.told(outcome, examined, at(60));
    backend.mailboxes.get_mut("Work").unwrap().deliver("x");
    assert_eq!(arrived(&look(&mut watch, &mut backend, at(60))), ["INBOX ", "Work 1"]);
    assert!(watch.stir(b"Work") && !watch.stir(b"Lists"), "nobody wants to hear of that");
}

#[test]
fn where_the_backend_tells_of_all_mailboxes_they_are_looked_at_when_it_does() {
    let mut backend = Backend::with(&["INBOX", "Work"]);
    let mut watch = watching(&[("INBOX", Wish::default()), ("Work", Wish::default())], &[]);
    watch.may_listen(true, true);
    look(&mut watch, &mut backend, at(0));
    let Next::Listen(_, until) = watch.next(at(10)) else { panic!("{watch:?}") };
    assert_eq!(until, at(1500), "no earlier than IDLE is ended anyway");
    backend.mailboxes.get_mut("Work").unwrap().deliver("x");
    let rung = Outcome::Done(vec![b"Work".to_vec(), b"Lists".to_vec()], Status::Ok, Vec::new());
    assert_eq!(watch.told(rung, Examined::default(), at(20)), None);
    assert_eq!(arrived(&look(&mut watch, &mut backend, at(20))), ["INBOX ", "Work 1"]);
}

#[test]
fn what_comes_while_a_mailbox_is_looked_at_is_looked_for_at_once() {
    let mut backend = Backend::with(&["INBOX"]);
    let mut watch = watching(&[("INBOX", Wish::default())], &[("INBOX", Cursor { uidvalidity: 7, next: 1 })]);
    backend.inbox().grows = true;
    assert_eq!(look(&mut watch, &mut backend, at(0)).len(), 2);
    let mut watch = watching(
        &[("INBOX", Wish { heads: true, ..Wish::default() })],
        &[("INBOX", Cursor { uidvalidity: 7, next: 1 })],
    );
    backend.inbox().deliver("x");
    let Next::Run(errand) = watch.next(at(0)) else { panic!("{watch:?}") };
    let (outcome, examined) = backend.run(&errand);
    assert_eq!(watch.told(outcome, examined, at(0)), None);
    backend.inbox().deliver("y");
    assert_eq!(arrived(&look(&mut watch, &mut backend, at(0))), ["INBOX 1", "INBOX 2"]);
}

#[test]
fn where_nobody_else_can_look_a_session_has_eyes() {
    let mut watch = watching(&[("INBOX", Wish { programs: vec![(*b"FROM x").into()], heads: true })], &[]);
    let seen = |uidvalidity, next| Cursor { uidvalidity, next };
    assert_eq!(watch.seen(b"INBOX", seen(7, 4)), None, "all that is there is old");
    let news = watch.seen(b"INBOX", seen(7, 6)).unwrap();
    assert_eq!((news.arrived.to_string(), news.next, news.matched[0].1.to_string()), ("4:5".into(), 6, "4:5".into()));
    assert_eq!(watch.seen(b"INBOX", seen(7, 6)), None);
    assert_eq!(watch.seen(b"INBOX", seen(7, 5)), None);
    assert_eq!(watch.cursor(b"INBOX"), Some(seen(7, 6)), "it does not go back");
    assert_eq!(watch.seen(b"INBOX", seen(8, 3)), None, "another mailbox");
    assert_eq!((watch.cursor(b"INBOX"), watch.seen(b"Lists", seen(7, 5))), (Some(seen(8, 3)), None));
}

#[test]
fn a_backend_that_cannot_idle_is_asked() {
    let mut backend = Backend { idles: false, ..Backend::with(&["INBOX"]) };
    let mut watch = watching(&[("INBOX", Wish::default())], &[]);
    look(&mut watch, &mut backend, at(0));
    stirred(&mut watch, &mut backend, at(1));
    assert!(matches!(watch.next(at(2)), Next::Rest(Some(until)) if until == at(61)));
    backend.inbox().deliver("x");
    assert_eq!(arrived(&look(&mut watch, &mut backend, at(61))), ["INBOX 1"]);
}

#[test]
fn a_backend_that_keeps_news_to_itself_is_asked() {
    let mut backend = Backend::with(&["INBOX"]);
    let mut watch = watching(&[("INBOX", Wish::default())], &[]);
    watch.may_listen(false, false);
    look(&mut watch, &mut backend, at(0));
    assert!(matches!(watch.next(at(1)), Next::Rest(Some(until)) if until == at(60)));
}

#[test]
fn a_mailbox_that_is_not_there_is_tried_again_and_holds_nobody_up() {
    let mut backend = Backend::with(&["INBOX"]);
    let mut watch = watching(&[("INBOX", Wish::default()), ("Gone", Wish::default())], &[]);
    assert_eq!(arrived(&look(&mut watch, &mut backend, at(0))), ["INBOX "]);
    assert!(matches!(watch.next(at(1)), Next::Listen(_, until) if until == at(60)));
}

/// A mailbox to which mail comes, from which it goes, and which is made anew now and then; a connection that is lost at any moment; a process that
/// begins anew with the last cursor that was kept. Every message that is there when it is looked at is found once.
fn walk(seed: u64) {
    let mut state = seed;
    let mut below = |most: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    let mut backend = Backend::with(&["INBOX"]);
    let mut watch = watching(&[("INBOX", Wish { heads: true, ..Wish::default() })], &[]);
    let (mut found, mut kept, mut now) = (BTreeMap::<(u32, u32), u32>::new(), BTreeMap::new(), at(0));
    let mut settled = false;
    for step in 0..5_000 {
        now += Duration::from_millis(below(20_000));
        match below(10) {
            0..3 => {
                let inbox = backend.inbox();
                let key = (inbox.uidvalidity, inbox.deliver("x"));
                // Before the first look all is old.
                if settled {
                    found.entry(key).or_default();
                }
            }
            3 if !backend.inbox().messages.is_empty() => {
                let at = below(backend.inbox().messages.len() as u64) as usize;
                let inbox = backend.inbox();
                let key = (inbox.uidvalidity, inbox.messages.remove(at).0);
                if found.get(&key) == Some(&0) {
                    found.remove(&key);
                }
            }
            4 if below(50) == 0 => {
                let uidvalidity = backend.inbox().uidvalidity;
                found.retain(|key, count| key.0 != uidvalidity || *count > 0);
                *backend.inbox() =
                    Mailbox { uidvalidity: uidvalidity + 1, next: 1, messages: Vec::new(), grows: false };
                settled = false;
            }
            5 => watch.lost(true, now),
            6 => {
                watch = watching(
                    &[("INBOX", Wish { heads: true, ..Wish::default() })],
                    &kept.iter().map(|(name, cursor)| (*name, *cursor)).collect::<Vec<_>>(),
                )
            }
            _ => match watch.next(now) {
                Next::Rest(_) => {}
                Next::Run(errand) | Next::Listen(errand, _) => {
                    let (outcome, examined) = backend.run(&errand);
                    if let Some(news) = watch.told(outcome, examined, now) {
                        for uid in news.arrived.iter() {
                            let count = found.entry((news.uidvalidity, uid)).or_default();
                            *count += 1;
                            assert_eq!(*count, 1, "SEED={seed}, step {step}: {uid} twice");
                        }
                        kept.insert("INBOX", Cursor { uidvalidity: news.uidvalidity, next: news.next });
                        settled |= news.uidvalidity == backend.inbox().uidvalidity;
                    }
                }
            },
        }
        backend.said.clear();
    }
    watch.stir(b"INBOX");
    for _ in 0..3 {
        for news in look(&mut watch, &mut backend, now) {
            for uid in news.arrived.iter() {
                *found.entry((news.uidvalidity, uid)).or_default() += 1;
            }
        }
        watch.lost(true, now);
    }
    let wrong: Vec<_> = found.iter().filter(|(_, count)| **count != 1).collect();
    assert!(wrong.is_empty(), "SEED={seed}: {wrong:?}");
    assert!(found.len() > 200, "SEED={seed}: {} messages", found.len());
}

#[test]
fn a_random_walk_finds_every_message_once() {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => walk(seed),
        None => (0..50).for_each(walk),
    }
}

#[test]
fn what_was_half_found_when_the_connection_broke_is_found_again() {
    let mut backend = Backend::with(&["INBOX"]);
    let wish = Wish { programs: vec![(*b"TEXT x").into()], heads: true };
    let mut watch = watching(&[("INBOX", wish)], &[("INBOX", Cursor { uidvalidity: 7, next: 1 })]);
    backend.inbox().deliver("x");
    for errands in [1, 2] {
        for _ in 0..errands {
            let Next::Run(errand) = watch.next(at(0)) else { panic!("{watch:?}") };
            let (outcome, examined) = backend.run(&errand);
            assert_eq!(watch.told(outcome, examined, at(0)), None);
        }
        watch.lost(true, at(0));
    }
    assert_eq!(arrived(&look(&mut watch, &mut backend, at(0))), ["INBOX 1"]);
}

#[test]
fn a_question_that_costs_connections_is_given_up_and_takes_nothing_from_other_mailboxes() {
    let mut backend = Backend::with(&["INBOX", "Work"]);
    let program: Box<[u8]> = (*b"TEXT x").into();
    let wish = Wish { programs: vec![program.clone()], heads: true };
    let known = [("INBOX", Cursor { uidvalidity: 7, next: 1 }), ("Work", Cursor { uidvalidity: 7, next: 1 })];
    let mut watch = watching(&[("INBOX", wish), ("Work", Wish::default())], &known);
    backend.inbox().deliver("y");
    let (mut news, mut now, mut searches) = (Vec::new(), at(0), 0);
    for _ in 0..20 {
        let Next::Run(errand) = watch.next(now) else {
            now += PACE.every;
            continue;
        };
        if matches!(&errand.task, Task::Ask { verb, .. } if verb.name == "UID SEARCH") {
            searches += 1;
            watch.lost(true, now);
            continue;
        }
        let (outcome, examined) = backend.run(&errand);
        news.extend(watch.told(outcome, examined, now));
    }
    assert_eq!(searches, 3);
    assert_eq!(news[0].mailbox, (*b"Work").into(), "it is not kept waiting");
    let found = news.iter().find(|news| *news.mailbox == *b"INBOX").unwrap();
    assert_eq!((&found.matched, &found.head), (&vec![(program, found.arrived.clone())], &None), "it passes");
    assert_eq!(found.arrived.to_string(), "1");
}

#[test]
fn a_backend_that_lets_nobody_in_is_no_fault_of_a_mailbox() {
    let mut backend = Backend::with(&["INBOX"]);
    let wish = Wish { programs: vec![(*b"TEXT y").into()], heads: true };
    let mut watch = watching(&[("INBOX", wish)], &[("INBOX", Cursor { uidvalidity: 7, next: 1 })]);
    backend.inbox().deliver("y");
    for _ in 0..9 {
        assert!(matches!(watch.next(at(0)), Next::Run(_)));
        watch.lost(false, at(0));
    }
    let news = look(&mut watch, &mut backend, at(0));
    assert_eq!((arrived(&news), news[0].head.is_some()), (vec!["INBOX 1".to_owned()], true));
}

#[test]
fn a_filter_with_a_literal_is_judged_here_and_a_long_one_passes() {
    let mut backend = Backend::with(&["INBOX"]);
    let short: Box<[u8]> = (*b"SUBJECT {1}\r\nx").into();
    let long: Box<[u8]> = [b"SUBJECT {2000}\r\n".as_slice(), &[b'x'; 2000]].concat().into();
    let wish = Wish { programs: vec![long.clone(), short], heads: false };
    let mut watch = watching(&[("INBOX", wish)], &[("INBOX", Cursor { uidvalidity: 7, next: 1 })]);
    backend.inbox().deliver("x");
    let news = look(&mut watch, &mut backend, at(0));
    let header = "INBOX: UID FETCH 1 (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER])";
    assert_eq!(backend.said, ["INBOX: UID FETCH 1:* (UID FLAGS)", header]);
    assert_eq!(news[0].matched[0], (long, news[0].arrived.clone()));
}

#[test]
fn what_a_message_says_is_found_out_once_more_for_who_begins_anew() {
    let mut backend = Backend::with(&["INBOX"]);
    let cursor = Cursor { uidvalidity: 7, next: 3 };
    (0..2).for_each(|_| _ = backend.inbox().deliver("from juliet"));
    let mut watch = watching(&[("INBOX", Wish { heads: true, ..Wish::default() })], &[("INBOX", cursor)]);
    watch.fetch(b"INBOX", 7, 2);
    watch.fetch(b"Lists", 7, 2);
    assert!(watch.fetches());
    let news = look(&mut watch, &mut backend, at(0));
    assert_eq!(news[0].head, Some((2, b"from juliet".to_vec())));
    assert_eq!((arrived(&news), watch.cursor(b"INBOX")), (vec!["INBOX ".to_owned(); 2], Some(cursor)));
    assert!(!watch.fetches());
    watch.fetch(b"INBOX", 6, 2);
    backend.said.clear();
    look(&mut watch, &mut backend, at(1));
    assert_eq!(backend.said, [""; 0], "that message is no more");
}

#[test]
fn the_first_look_begins_where_somebody_was_shown_all() {
    let mut backend = Backend::with(&["INBOX", "Work"]);
    for _ in 0..3 {
        backend.inbox().deliver("x");
    }
    let mut watch = watching(&[("INBOX", Wish::default()), ("Work", Wish::default())], &[]);
    watch.begin_at(b"INBOX", Cursor { uidvalidity: 7, next: 3 });
    watch.begin_at(b"Lists", Cursor { uidvalidity: 7, next: 3 });
    assert_eq!(arrived(&look(&mut watch, &mut backend, at(0))), ["INBOX 3", "Work "]);
    watch.begin_at(b"INBOX", Cursor { uidvalidity: 7, next: 1 });
    assert_eq!(arrived(&stirred(&mut watch, &mut backend, at(1))), ["INBOX "], "it was looked at by now");
}
