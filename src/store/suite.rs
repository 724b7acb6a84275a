//! What every engine does: each test runs on all of them.

use std::sync::Arc;

use super::{
    AccountName, Change, Changed, Device, DeviceName, Entry, Found, Key, Line, MOST_DEVICES, MOST_LINES, Memo, Outband,
    Owner, Query, Quota, Source, Store, StoreError, Turn, Way,
    feed::{Feed, Keep, Logged, Position, Tail},
    memory::Memory,
    sqlite::Database,
};
use crate::imap::entry::EntryName;

const ANY: Quota = Quota { entries: 1000, octets: 1 << 20 };

/// Runs a test on the log of each engine.
async fn on_each_feed<T: Future<Output = ()>>(test: impl Fn(Arc<dyn Feed>) -> T) {
    test(Arc::new(Memory::default())).await;
    let state = tempfile::tempdir().unwrap();
    let database = Arc::new(Database::open(state.path()).await.unwrap());
    test(database.clone()).await;
    database.close().await;
}

/// Runs a test on each engine.
async fn on_each<T: Future<Output = ()>>(test: impl Fn(Arc<dyn Store>) -> T) {
    test(Arc::new(Memory::default())).await;
    let state = tempfile::tempdir().unwrap();
    let database = Arc::new(Database::open(state.path()).await.unwrap());
    test(database.clone()).await;
    database.close().await;
}

fn account(user: &str) -> AccountName {
    AccountName { backend: "main".into(), user: user.into() }
}

fn device(name: &str) -> DeviceName {
    DeviceName::parse(name.as_bytes()).unwrap()
}

fn key(mailbox: &str, owner: &str, name: &str) -> Key {
    let owner = if owner.is_empty() { Owner::User } else { Owner::Device(device(owner)) };
    Key { mailbox: mailbox.as_bytes().into(), owner, name: EntryName::parse(name.as_bytes()).unwrap() }
}

fn set(mailbox: &str, owner: &str, name: &str, value: &[u8]) -> Change {
    Change::Entries { edits: vec![(key(mailbox, owner, name), Some(value.into()))], quota: ANY }
}

async fn entries(store: &dyn Store, user: &str, query: Query) -> Vec<String> {
    let Found::Entries(found) = store.load(&account(user), &query).await.unwrap() else { panic!("others") };
    let line = |Entry { key, value }: Entry| {
        let owner = if let Owner::Device(name) = &key.owner { name.as_str() } else { "-" };
        format!("{} {owner} {} {}", key.mailbox.escape_ascii(), key.name, value.escape_ascii())
    };
    found.into_iter().map(line).collect()
}

async fn devices(store: &dyn Store, user: &str) -> Vec<Device> {
    let Found::Devices(found) = store.load(&account(user), &Query::Devices).await.unwrap() else { panic!("others") };
    found
}

async fn save(store: &dyn Store, user: &str, change: Change) -> Changed {
    store.save(&account(user), &change).await.unwrap()
}

#[tokio::test]
async fn entries_are_found_by_account_and_mailbox() {
    on_each(|store| async move {
        let store = &*store;
        save(store, "joe", set("INBOX", "", "/private/comment", b"mine\r\n\0\xff")).await;
        save(store, "joe", set("INBOX", "phone", "/private/vendor/lemonade/view", b"x")).await;
        save(store, "joe", set("", "", "/private/comment", b"")).await;
        save(store, "ann", set("INBOX", "", "/private/comment", b"hers")).await;
        let inbox = Query::Mailbox(b"INBOX".as_slice().into());
        let mine = ["INBOX - /private/comment mine\\r\\n\\x00\\xff", "INBOX phone /private/vendor/lemonade/view x"];
        assert_eq!(entries(store, "joe", inbox.clone()).await, mine);
        assert_eq!(entries(store, "joe", Query::Entries).await.len(), 3);
        assert_eq!(entries(store, "ann", inbox.clone()).await, ["INBOX - /private/comment hers"]);
        assert!(entries(store, "nobody", inbox).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn of_several_edits_all_are_made_or_none() {
    on_each(|store| async move {
        let store = &*store;
        let quota = Quota { entries: 2, octets: 60 };
        let edit = |name: &str, value: &str| (key("INBOX", "", name), Some(value.as_bytes().into()));
        let try_to = |edits: Vec<_>| async move {
            store.save(&account("joe"), &Change::Entries { edits, quota }).await.map_err(|error| error.to_string())
        };
        let both = vec![edit("/private/a", "1"), edit("/private/b", "2")];
        assert_eq!(try_to(both).await, Ok(Changed { entries: 2, devices: 0 }));
        let third = vec![edit("/private/a", "changed"), edit("/private/c", "3")];
        assert_eq!(try_to(third).await, Err("more than 2 entries".to_owned()));
        let large = vec![edit("/private/b", "changed"), edit("/private/a", &"x".repeat(60))];
        assert_eq!(try_to(large).await, Err("more than 60 octets".to_owned()));
        assert_eq!(entries(store, "joe", Query::Entries).await, ["INBOX - /private/a 1", "INBOX - /private/b 2"]);
        let swap = vec![(key("INBOX", "", "/private/a"), None), edit("/private/c", "3")];
        assert_eq!(try_to(swap).await, Ok(Changed { entries: 2, devices: 0 }));
        let removed = vec![(key("INBOX", "", "/private/c"), None), (key("INBOX", "", "/private/never"), None)];
        assert_eq!(try_to(removed).await, Ok(Changed { entries: 1, devices: 0 }));
        assert_eq!(entries(store, "joe", Query::Entries).await, ["INBOX - /private/b 2"]);
    })
    .await;
}

#[tokio::test]
async fn entries_follow_a_mailbox_to_its_new_name() {
    // RFC 5464 section 4; RFC 3501 6.3.5 for what is below, and for INBOX.
    on_each(|store| async move {
        let store = &*store;
        for mailbox in ["a", "a.b", "ab", "a.b.c", "INBOX", "INBOX.x", "z", "z.b", "z.y"] {
            save(store, "joe", set(mailbox, "", "/private/comment", mailbox.as_bytes())).await;
        }
        let names = |found: Vec<String>| {
            found.into_iter().map(|line| line.replace(" - /private/comment ", "=")).collect::<Vec<_>>()
        };
        let looked = ["a", "a.b", "ab", "z", "z.y"].map(|name| (name.as_bytes().into(), Some(name.into())));
        save(store, "joe", Change::Turn(Turn { looked: looked.into(), ..Turn::default() })).await;
        let rename = |from: &str, to: &str| Change::Renamed {
            from: from.as_bytes().into(),
            to: to.as_bytes().into(),
            delimiter: Some(b'.'),
        };
        assert_eq!(save(store, "joe", rename("a", "z")).await.entries, 3);
        let now = ["INBOX=INBOX", "INBOX.x=INBOX.x", "ab=ab", "z=a", "z.b=a.b", "z.b.c=a.b.c", "z.y=z.y"];
        assert_eq!(
            names(entries(store, "joe", Query::Entries).await),
            now,
            "only what was at these names before is gone"
        );
        let Found::Outband(found) = store.load(&account("joe"), &Query::Outband).await.unwrap() else {
            panic!("what?")
        };
        let looked = found.looked.iter().map(|(name, was)| format!("{}={was}", String::from_utf8_lossy(name)));
        assert_eq!(looked.collect::<Vec<_>>(), ["ab=ab", "z=a", "z.b=a.b", "z.y=z.y"], "as far as it was looked at");
        save(store, "joe", Change::Deleted(b"z.y".as_slice().into())).await;
        save(store, "joe", rename("z", "z.b")).await;
        save(store, "joe", rename("z.b", "a")).await;
        let (from, to) = (b"INBOX".as_slice().into(), b"old".as_slice().into());
        save(store, "joe", set("INBOX", "phone", "/private/devicetoken", b"token")).await;
        let copied = Change::Copied { from, to, except: &["/private/devicetoken"], quota: ANY };
        assert_eq!(save(store, "joe", copied).await.entries, 1, "a token is registered on INBOX alone");
        save(store, "joe", Change::Forget(device("phone"))).await;
        let now = ["INBOX=INBOX", "INBOX.x=INBOX.x", "a=a", "a.b=a.b", "a.b.c=a.b.c", "ab=ab", "old=INBOX"];
        assert_eq!(names(entries(store, "joe", Query::Entries).await), now);
        assert_eq!(save(store, "joe", Change::Deleted(b"a".as_slice().into())).await.entries, 1);
        assert_eq!(entries(store, "joe", Query::Entries).await.len(), 6);
    })
    .await;
}

#[tokio::test]
async fn a_change_that_hangs_on_an_entry_is_made_once() {
    on_each(|store| async move {
        let store = &*store;
        save(store, "joe", set("a", "", "/private/comment", b"a")).await;
        save(store, "joe", set("z", "", "/private/mark", b"from a")).await;
        let once = |mark: &[u8], quota| {
            let (from, to) = (b"a".as_slice().into(), b"z".as_slice().into());
            let mark = Entry { key: key("z", "", "/private/mark"), value: mark.into() };
            Change::Once { mark, change: Box::new(Change::Copied { from, to, except: &[], quota }) }
        };
        assert_eq!(save(store, "joe", once(b"from b", ANY)).await, Changed::default());
        let none = Quota { entries: 0, octets: 0 };
        assert!(store.save(&account("joe"), &once(b"from a", none)).await.is_err());
        assert_eq!(entries(store, "joe", Query::Entries).await.len(), 2, "all of it or nothing");
        assert_eq!(save(store, "joe", once(b"from a", ANY)).await.entries, 1);
        save(store, "joe", set("z", "", "/private/comment", b"changed since")).await;
        assert_eq!(save(store, "joe", once(b"from a", ANY)).await, Changed::default());
        let now = ["a - /private/comment a", "z - /private/comment changed since"];
        assert_eq!(entries(store, "joe", Query::Entries).await, now);
    })
    .await;
}

#[tokio::test]
async fn names_of_devices_are_free_and_so_only_the_last_ones_are_remembered() {
    on_each(|store| async move {
        let store = &*store;
        save(store, "joe", set("INBOX", "d0", "/private/vendor/lemonade/view", b"x")).await;
        for at in 0..MOST_DEVICES + 5 {
            let at = at as i64;
            let name = device(&format!("d{at}"));
            save(store, "joe", Change::Seen(Device { name, source: Source::Entry, first_seen: at, last_seen: at }))
                .await;
        }
        let names: Vec<_> = devices(store, "joe").await.into_iter().map(|device| device.name.to_string()).collect();
        assert_eq!(names.len(), MOST_DEVICES + 1);
        assert!(names.contains(&"d0".to_owned()) && !names.contains(&"d1".to_owned()), "{names:?}");
    })
    .await;
}

#[tokio::test]
async fn a_copy_keeps_to_the_quota() {
    on_each(|store| async move {
        let store = &*store;
        save(store, "joe", set("INBOX", "", "/private/comment", b"x")).await;
        let quota = Quota { entries: 1, octets: 1000 };
        let (from, to) = (b"INBOX".as_slice().into(), b"old".as_slice().into());
        let copied = Change::Copied { from, to, except: &[], quota };
        assert!(matches!(store.save(&account("joe"), &copied).await, Err(StoreError::TooMany(1))));
        assert_eq!(entries(store, "joe", Query::Entries).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_device_is_remembered_until_it_is_forgotten() {
    on_each(|store| async move {
        let store = &*store;
        let seen =
            |name: &str, source, at| Change::Seen(Device { name: device(name), source, first_seen: at, last_seen: at });
        save(store, "joe", seen("phone", Source::Default, 10)).await;
        save(store, "joe", seen("phone", Source::Id, 20)).await;
        save(store, "joe", seen("watch", Source::Operator, 30)).await;
        save(store, "joe", set("INBOX", "phone", "/private/vendor/lemonade/view", b"x")).await;
        save(store, "joe", set("INBOX", "", "/private/comment", b"x")).await;
        let phone = Device { name: device("phone"), source: Source::Id, first_seen: 10, last_seen: 20 };
        assert_eq!(devices(store, "joe").await[0], phone);
        assert_eq!(save(store, "joe", Change::Forget(device("phone"))).await, Changed { entries: 1, devices: 1 });
        assert_eq!(devices(store, "joe").await.len(), 1);
        assert_eq!(save(store, "joe", Change::Purge).await, Changed { entries: 1, devices: 1 });
        assert_eq!(save(store, "joe", Change::Purge).await, Changed::default());
        assert!(devices(store, "joe").await.is_empty() && entries(store, "joe", Query::Entries).await.is_empty());
    })
    .await;
}

/// Both engines say the same to the same, whatever is said.
fn way(name: &str, to: &str) -> Way {
    Way { device: device(name), to: to.into() }
}

fn line(at: i64, name: Option<&str>) -> Line {
    let mailbox = (*b"INBOX").into();
    Line { at, device: name.map(device), mailbox, uids: "4294967295".into(), seq: u64::MAX, what: "seen".into() }
}

#[tokio::test]
async fn a_turn_of_the_outband_side_stands_as_a_whole() {
    on_each(|store| async move {
        let store = &*store;
        let outband = async || match store.load(&account("joe"), &Query::Outband).await.unwrap() {
            Found::Outband(found) => found,
            other => panic!("{other:?}"),
        };
        assert_eq!(outband().await, Outband::default());
        let (phone, tablet, inbox) = (way("phone", "UDP a:1"), way("tablet", "UDP b:2"), Box::<[u8]>::from(*b"INBOX"));
        let routes = vec![(phone.clone(), Some("1".into())), (tablet.clone(), Some("2".into()))];
        let memo = |state: Option<&str>| Memo { name: "day".into(), state: state.map(Into::into) };
        let looked = vec![(inbox.clone(), Some("17".into()))];
        let turn = Turn { routes, looked, memos: vec![memo(Some("4"))], ..Turn::default() };
        save(store, "joe", Change::Turn(turn.clone())).await;
        assert_eq!(outband().await, Outband::default(), "nobody knows this account, or any more");
        save(store, "joe", set("INBOX", "", "/private/comment", b"x")).await;
        save(store, "joe", Change::Turn(turn)).await;
        let routes = vec![(tablet.clone(), None), (phone.clone(), Some("3".into()))];
        save(store, "joe", Change::Turn(Turn { routes, ..Turn::default() })).await;
        let looked = vec![(inbox.clone(), "17".into())];
        let memos = vec![memo(Some("4"))];
        let found = Outband { routes: vec![(phone, "3".into())], looked: looked.clone(), memos: memos.clone() };
        assert_eq!(outband().await, found);
        for value in [Some("y"), None, Some("x")] {
            let edit = (key("INBOX", "", "/private/comment"), value.map(|value| value.as_bytes().into()));
            save(store, "joe", Change::Turn(Turn { entries: vec![edit], ..Turn::default() })).await;
            let line = value.map(|value| format!("INBOX - /private/comment {value}"));
            assert_eq!(entries(store, "joe", Query::Entries).await.first(), line.as_ref());
        }
        assert_eq!(store.subscribers().await.unwrap(), [account("joe")]);
        save(store, "joe", Change::Forget(device("phone"))).await;
        assert_eq!(outband().await, Outband { routes: Vec::new(), looked, memos });
        assert_eq!(store.subscribers().await.unwrap(), []);
        save(store, "ann", set("", "phone", "/private/vendor/lemonade/notify/default/channel", b"UDP=WAKEUP")).await;
        assert_eq!(store.subscribers().await.unwrap(), [account("ann")], "nobody has made a route of it yet");
        save(store, "ann", Change::Purge).await;
        save(
            store,
            "joe",
            Change::Turn(Turn { looked: vec![(inbox, None)], memos: vec![memo(None)], ..Turn::default() }),
        )
        .await;
        assert_eq!(outband().await, Outband::default());
    })
    .await;
}

#[tokio::test]
async fn the_journal_has_an_end() {
    on_each(|store| async move {
        let store = &*store;
        let journal = async || match store.load(&account("joe"), &Query::Journal).await.unwrap() {
            Found::Journal(found) => found,
            other => panic!("{other:?}"),
        };
        save(store, "joe", set("INBOX", "", "/private/comment", b"x")).await;
        let lines: Vec<_> =
            (0..MOST_LINES as i64 + 5).map(|at| line(at, Some("phone").filter(|_| at % 2 == 0))).collect();
        let routes = vec![(way("phone", "x"), Some("1".into()))];
        for journal in lines.chunks(1000) {
            let turn = Turn { routes: routes.clone(), journal: journal.to_vec(), ..Turn::default() };
            save(store, "joe", Change::Turn(turn)).await;
        }
        assert!(journal().await == lines[5..], "the last ones, in their order");
        save(store, "joe", Change::Forget(device("phone"))).await;
        assert_eq!(journal().await.len(), MOST_LINES / 2);
        save(store, "joe", Change::Purge).await;
        assert_eq!(journal().await, []);
    })
    .await;
}

#[tokio::test]
async fn a_random_walk_finds_no_difference() {
    let mut random = Random::from_environment();
    let seed = random.seed;
    let state = tempfile::tempdir().unwrap();
    let (memory, database) = (Memory::default(), Database::open(state.path()).await.unwrap());
    let mut below = |most| random.below(most);
    const BOXES: [&str; 6] = ["", "INBOX", "a", "a.b", "a.b.b", "ab"];
    const NAMES: [&str; 3] = ["/private/comment", "/shared/comment", "/private/vendor/lemonade/x"];
    let quota = Quota { entries: 12, octets: 400 };
    for step in 0..600 {
        let mailbox = BOXES[below(6)].as_bytes();
        let change = match below(12) {
            0 => Change::Deleted(mailbox.into()),
            1 => Change::Renamed {
                from: BOXES[2 + below(4)].as_bytes().into(),
                to: BOXES[2 + below(4)].as_bytes().into(),
                delimiter: Some(b'.'),
            },
            2 => Change::Copied {
                from: b"INBOX".as_slice().into(),
                to: BOXES[2 + below(4)].as_bytes().into(),
                except: &NAMES[2..],
                quota,
            },
            3 => Change::Seen(Device { name: device("d"), source: Source::Id, first_seen: step, last_seen: step }),
            4 if below(2) == 0 => {
                let change = match below(3) {
                    0 => Change::Deleted(mailbox.into()),
                    _ => Change::Renamed {
                        from: BOXES[2 + below(4)].as_bytes().into(),
                        to: mailbox.into(),
                        delimiter: Some(b'.'),
                    },
                };
                let mark = Entry { key: key(BOXES[below(6)], "", NAMES[0]), value: vec![b'x'; below(4)].into() };
                save(
                    &memory,
                    "joe",
                    Change::Entries { edits: vec![(mark.key.clone(), Some(mark.value.clone()))], quota: ANY },
                )
                .await;
                save(
                    &database,
                    "joe",
                    Change::Entries { edits: vec![(mark.key.clone(), Some(mark.value.clone()))], quota: ANY },
                )
                .await;
                let value = if below(3) == 0 { b"another".as_slice().into() } else { mark.value };
                Change::Once { mark: Entry { key: mark.key, value }, change: Box::new(change) }
            }
            4 if below(4) == 0 => Change::Forget(device("d")),
            5 if below(6) == 0 => Change::Purge,
            6 => {
                // An account of which nothing is kept any more, one engine still knows.
                let seen = Device { name: device("e"), source: Source::Id, first_seen: step, last_seen: step };
                save(&memory, "joe", Change::Seen(seen.clone())).await;
                save(&database, "joe", Change::Seen(seen)).await;
                let state = (below(3) > 0).then(|| step.to_string().into());
                Change::Turn(Turn { looked: vec![(mailbox.into(), state)], ..Turn::default() })
            }
            _ => {
                let mut edit = || {
                    let value = (below(3) > 0).then(|| vec![b'x'; below(60)].into());
                    (key(BOXES[below(6)], ["", "d"][below(2)], NAMES[below(3)]), value)
                };
                Change::Entries { edits: vec![edit(), edit()], quota }
            }
        };
        let said = [memory.save(&account("joe"), &change).await, database.save(&account("joe"), &change).await];
        let [first, second] = said.map(|said| said.map_err(|error| error.to_string()));
        assert_eq!(first, second, "SEED={seed}, step {step}: {change:?}");
        for query in [Query::Entries, Query::Devices, Query::Outband, Query::Mailbox(mailbox.into())] {
            let [first, second] =
                [memory.load(&account("joe"), &query).await, database.load(&account("joe"), &query).await];
            assert_eq!(first.unwrap(), second.unwrap(), "SEED={seed}, step {step}, after {change:?}");
        }
    }
}

/// An event of so many octets, written at this moment.
fn event(seq: u64, at: i64, octets: usize) -> Logged {
    Logged { seq, at, line: "x".repeat(octets).into() }
}

/// More than there is.
const ALL: Keep = Keep { events: 1 << 40, octets: 1 << 40, since: i64::MIN };

/// The numbers that are there behind this one.
async fn numbers(feed: &dyn Feed, behind: u64) -> Vec<u64> {
    feed.read(behind, 1000, 1 << 40).await.unwrap().events.iter().map(|event| event.seq).collect()
}

#[tokio::test]
async fn a_log_is_read_in_the_order_in_which_it_was_written_until_it_is_settled() {
    on_each_feed(|feed| async move {
        let feed = &*feed;
        assert_eq!(feed.read(0, 10, 10).await.unwrap(), Tail { next: 1, events: Vec::new() });
        let begun = Position { stream: "a".into(), acked: 0, next: 1 };
        assert_eq!(feed.begin("a").await.unwrap(), begun);
        let events: Vec<_> = (1..=5).map(|seq| event(seq, 0, 10)).collect();
        assert_eq!(feed.append(&events[..3], 4, ALL).await.unwrap(), 0);
        // Nobody has heard the end of it, and so it is written again, with what has come since.
        assert_eq!(feed.append(&events, 7, ALL).await.unwrap(), 0);
        assert_eq!(feed.read(1, 3, 1000).await.unwrap(), Tail { next: 7, events: events[1..4].to_vec() });
        feed.settle("a", 2, &[4]).await.unwrap();
        assert_eq!(numbers(feed, 0).await, [3, 5]);
        assert_eq!(feed.begin("b").await.unwrap(), Position { acked: 2, next: 7, ..begun });
        feed.settle("b", 1, &[]).await.unwrap();
        assert_eq!(feed.begin("c").await.unwrap(), Position { stream: "b".into(), acked: 1, next: 7 });
        assert_eq!(numbers(feed, 0).await, [3, 5]);
    })
    .await;
}

#[tokio::test]
async fn what_is_read_at_once_has_a_bound_and_is_one_event_at_least() {
    on_each_feed(|feed| async move {
        let feed = &*feed;
        feed.begin("a").await.unwrap();
        let events: Vec<_> = [10, 20, 30, 40].into_iter().zip(1..).map(|(octets, seq)| event(seq, 0, octets)).collect();
        feed.append(&events, 5, ALL).await.unwrap();
        for (behind, most, octets, found) in [
            (0, 9, 0, 1),
            (0, 9, 19, 1),
            (0, 9, 20, 2),
            (0, 9, 50, 3),
            (0, 2, 50, 2),
            (1, 9, 29, 1),
            (1, 9, 30, 2),
            (4, 9, 9, 0),
        ] {
            let read = feed.read(behind, most, octets).await.unwrap().events;
            assert_eq!(read, events[behind as usize..][..found], "{behind} {most} {octets}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_log_forgets_from_its_beginning_what_is_too_many_too_large_or_too_old() {
    for (keep, first) in [
        (ALL, 1),
        (Keep { events: 3, ..ALL }, 7),
        (Keep { octets: 30, ..ALL }, 7),
        (Keep { octets: 31, ..ALL }, 6),
        (Keep { octets: 1, ..ALL }, 9),
        (Keep { since: 5, ..ALL }, 5),
        (Keep { since: 5, events: 2, ..ALL }, 8),
        (Keep { since: 10, ..ALL }, 10),
    ] {
        on_each_feed(|feed| async move {
            feed.begin("a").await.unwrap();
            let events: Vec<_> = (1..10).map(|seq| event(seq, seq as i64, 10)).collect();
            feed.append(&events, 10, ALL).await.unwrap();
            let forgotten = feed.append(&[], 10, keep).await.unwrap();
            assert_eq!(numbers(&*feed, 0).await, (first..10).collect::<Vec<_>>(), "{keep:?}");
            assert_eq!(forgotten, 9 - numbers(&*feed, 0).await.len() as u64);
            assert_eq!(feed.begin("a").await.unwrap().next, 10, "numbers are not given twice");
        })
        .await;
    }
}

/// SplitMix64: no more is needed to choose among a few things, and to do it again.
pub(super) struct Random {
    /// With what it began.
    pub(super) seed: u64,
    state: u64,
}

impl Random {
    /// Begins with `SEED`, else anywhere; says with what.
    pub(super) fn from_environment() -> Self {
        let mut octets = [0; 8];
        aws_lc_rs::rand::fill(&mut octets).unwrap();
        let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or(u64::from_le_bytes(octets));
        println!("SEED={seed}");
        Self { seed, state: seed }
    }

    /// A number below this one.
    pub(super) fn below(&mut self, most: u64) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % most) as usize
    }
}

#[test]
fn the_name_of_a_device_is_fit_for_a_log() {
    let table = [
        ("phone", true),
        ("a-b._:@+9", true),
        ("", false),
        ("a b", false),
        ("a\r\n", false),
        ("a/b", false),
        ("\u{e9}", false),
    ];
    for (name, good) in table {
        assert_eq!(DeviceName::parse(name.as_bytes()).is_ok(), good, "{name:?}");
    }
    assert!(DeviceName::parse(&[b'x'; DeviceName::LONGEST]).is_ok());
    assert!(DeviceName::parse(&[b'x'; DeviceName::LONGEST + 1]).is_err());
}
