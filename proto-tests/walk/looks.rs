//! Two sessions of one account in one mailbox share their looks at it, and both hear of all that happens there in time.
//!
//!     A idles      >  p1 NOOP      "I have looked, and found something"     ->  B looks at once
//!                                  "I have looked, and found nothing"       ->  B need not, for now

use std::time::Duration;

use lemonade_proxy::session::effect::Side;
use proto_tests::{
    cast::Between,
    model::{Backend, Connection, Message, Settings},
    proxy::{Proxy, Setup},
};

/// The longest distance between two looks, and a second for what they find.
const IN_TIME: Duration = Duration::from_secs(31);

/// Time passes in such steps: between them notices go from one session to the other.
const STEP: Duration = Duration::from_millis(250);

/// A client's session, with its connection to the backend that both have.
struct Member {
    proxy: Proxy,
    connection: Connection,
    /// What the client has heard and the test has not looked at.
    heard: String,
}

impl Member {
    /// Logged in, with the INBOX selected.
    fn enter(backend: &Backend, settings: &Settings, seed: u64) -> Self {
        let mut proxy = Proxy::new(Setup::before(settings), seed);
        proxy.hear(Side::Client, b"a LOGIN joe secret\r\n");
        proxy.connected();
        let mut connection = backend.connect();
        proxy.hear(Side::Backend, &connection.greeting());
        let mut member = Self { proxy, connection, heard: String::new() };
        member.settle();
        member.say("b SELECT INBOX");
        assert!(member.heard.contains("b OK"), "{}", member.heard);
        member
    }

    fn say(&mut self, line: &str) {
        self.proxy.hear(Side::Client, format!("{line}\r\n").as_bytes());
        self.settle();
    }

    /// So much time goes by, and nobody else is there.
    fn pass_time(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / STEP.as_millis() {
            self.proxy.pass_time(STEP);
            self.settle();
        }
    }

    /// Proxy and backend speak until neither has more to say.
    fn settle(&mut self) {
        loop {
            let said = self.proxy.take_sent(Side::Backend);
            let mut answer = self.connection.feed(&said);
            answer.extend(self.connection.poll());
            self.proxy.hear(Side::Backend, &answer);
            self.heard.push_str(&String::from_utf8_lossy(&self.proxy.take_sent(Side::Client)));
            if said.is_empty() && answer.is_empty() {
                return;
            }
        }
    }
}

/// So much time goes by for both. Each hears what the other one publishes.
fn pass_time(members: &mut [Member; 2], time: Duration) {
    let end = time.as_millis() / STEP.as_millis();
    for _ in 0..end {
        for at in [0, 1] {
            members[at].proxy.pass_time(STEP);
            members[at].settle();
            for notice in members[at].proxy.take_published().unwrap_or_default() {
                members[1 - at].proxy.noticed(&notice);
                members[1 - at].settle();
            }
        }
    }
}

/// A backend like this, with two messages in its INBOX.
fn backend(settings: &Settings) -> Backend {
    let backend = Backend::new(settings.clone());
    [11, 12].iter().for_each(|uid| append(&backend, *uid));
    backend
}

/// Two sessions before a backend like this that have idled for so long.
fn idling(settings: &Settings, time: Duration) -> (Backend, [Member; 2]) {
    let backend = backend(settings);
    let mut members = [5, 9].map(|seed| Member::enter(&backend, settings, seed));
    // The second one is later: its looks would come behind those of the first for ever.
    members[0].say("c IDLE");
    pass_time(&mut members, Duration::from_secs(1));
    members[1].say("c IDLE");
    pass_time(&mut members, time);
    members.iter_mut().for_each(|member| member.heard.clear());
    (backend, members)
}

/// Backends that have to be asked: by NOOP, and by selecting the mailbox again.
fn backends() -> [Settings; 2] {
    let polled = Settings::with("IMAP4rev1");
    let mut snapshot = Settings::with("IMAP4rev1 IDLE");
    snapshot.greeting = "* OK IMAP4rev1 Debian".to_owned();
    assert!(snapshot.mischief.switch_on("snapshot"));
    [polled, snapshot]
}

fn append(backend: &Backend, uid: u32) {
    backend.store().mailbox_or_new("INBOX").append(Some(uid), Vec::new(), Message::plain(uid));
}

fn flag(backend: &Backend, uid: u32, flag: &str) {
    let mut store = backend.store();
    let message = store.mailbox_or_new("INBOX").message_mut(uid).expect("a message that is there");
    message.flags = vec![flag.to_owned()];
}

#[test]
fn what_one_session_finds_both_tell() {
    for settings in backends() {
        // In the middle of growing distances, and at their longest.
        for before in [0, 4, 300] {
            let (backend, mut members) = idling(&settings, Duration::from_secs(before));
            append(&backend, 13);
            pass_time(&mut members, IN_TIME);
            for member in &members {
                assert!(member.heard.contains("* 3 EXISTS"), "behind {before} s: {}", member.heard);
            }
            backend.store().mailbox_or_new("INBOX").expunge(&[11]);
            pass_time(&mut members, IN_TIME);
            for member in &members {
                assert!(member.heard.contains("* 1 EXPUNGE"), "behind {before} s: {}", member.heard);
            }
        }
    }
}

#[test]
fn flags_are_told_by_both() {
    for settings in backends() {
        for before in [0, 4, 300] {
            let (backend, mut members) = idling(&settings, Duration::from_secs(before));
            // A look at flags is compared with the one before it.
            pass_time(&mut members, IN_TIME * 2);
            flag(&backend, 12, "\\Flagged");
            pass_time(&mut members, IN_TIME * 2);
            for member in &members {
                assert!(member.heard.contains("\\Flagged"), "behind {before} s: {}", member.heard);
            }
        }
    }
}

#[test]
fn what_a_client_does_in_silence_the_other_session_tells() {
    let (_, mut members) = idling(&Settings::with("IMAP4rev1"), Duration::from_secs(300));
    members[0].say("DONE");
    members[0].say("d STORE 1 +FLAGS.SILENT (\\Flagged)");
    members[0].say("e IDLE");
    pass_time(&mut members, IN_TIME);
    assert!(members[1].heard.contains("\\Flagged"), "{}", members[1].heard);
}

#[test]
fn what_a_client_knows_from_opening_the_mailbox_the_other_session_tells() {
    let settings = Settings::with("IMAP4rev1");
    let (backend, mut members) = idling(&settings, Duration::from_secs(300));
    append(&backend, 13);
    members[0] = Member::enter(&backend, &settings, 7);
    members[0].say("c IDLE");
    pass_time(&mut members, IN_TIME);
    assert!(members[1].heard.contains("* 3 EXISTS"), "{}", members[1].heard);
}

#[test]
fn what_a_client_costs_that_listens_is_counted_and_bounded() {
    let [polled, snapshot] = backends();
    let idling = Settings::with("IMAP4rev1 IDLE");
    let notify = "c NOTIFY SET (selected (MessageNew MessageExpunge)) \
                  (mailboxes (Work Play) (MessageNew MessageExpunge SubscriptionChange))";
    // What stands in the README, below its table of metrics; 280 for each of two mailboxes, and 140 for names.
    let table = [
        ("idle", &idling, "c IDLE", 40),
        ("noop", &polled, "c IDLE", 150),
        ("reselect", &snapshot, "c IDLE", 280),
        ("noop, and two others", &polled, notify, 150 + 2 * 280 + 140),
        ("idle, and two others", &idling, notify, 40 + 2 * 280 + 140 + 280),
    ];
    for (news, settings, command, most) in table {
        let backend = backend(settings);
        ["Work", "Play"].iter().for_each(|name| _ = backend.store().mailbox_or_new(name));
        let mut member = Member::enter(&backend, settings, 5);
        member.say(command);
        member.pass_time(Duration::from_secs(300));
        let (asked, counted) = (backend.executed().len(), member.proxy.looks);
        member.pass_time(Duration::from_secs(3600));
        let asked = backend.executed().len() - asked;
        assert!(asked <= most, "{news}: {asked} commands in an hour");
        assert!(asked > most / 4, "{news}: {asked} commands in an hour, far fewer than we say");
        assert_eq!(member.proxy.looks - counted, asked as u64, "{news}: all of them are counted");
    }
}

#[test]
fn in_silence_one_session_looks_for_both() {
    let (backend, mut members) = idling(&Settings::with("IMAP4rev1"), Duration::from_secs(300));
    let before = backend.executed().len();
    pass_time(&mut members, Duration::from_secs(3600));
    let asked = backend.executed().len() - before;
    assert!((100..=170).contains(&asked), "{asked} commands in an hour");
}
