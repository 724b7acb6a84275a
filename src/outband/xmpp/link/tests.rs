//! Sessions, as they read.

use super::*;
use crate::outband::xmpp::{identity::tests::identity, message::Condition};

const OPENED: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='3BF96D32'>";
const FEATURES: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1</mechanism>\
    <mechanism>PLAIN</mechanism></mechanisms></stream:features>";
const STARTTLS: &str =
    "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";
const ROMEO: &str = "romeo@im.example.com";

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A link and a clock.
struct Stage {
    link: Link<u32, &'static str>,
    now: Instant,
}

impl Stage {
    fn open(jid: &str, is_secure: bool) -> Self {
        let now = Instant::now();
        Self { link: Link::open(identity(jid, "secret"), is_secure, now), now }
    }

    /// A component that is known, and what was said for it forgotten.
    fn bound() -> Self {
        let mut stage = Self::open("notify.example.com", false);
        stage.hears(OPENED);
        stage.hears("<handshake/>");
        assert_eq!(stage.events(), [Event::Bound]);
        stage.said();
        stage
    }

    fn hears(&mut self, text: &str) {
        self.link.hear(text.as_bytes(), self.now);
    }

    fn waits(&mut self, time: Duration) {
        self.now += time;
        self.link.tick(self.now);
    }

    fn said(&mut self) -> String {
        String::from_utf8(self.link.outgoing().expose().to_vec()).unwrap()
    }

    fn events(&mut self) -> Vec<Event<u32, &'static str>> {
        std::iter::from_fn(|| self.link.poll()).collect()
    }

    /// Sends a message, and the server has it.
    fn sends(&mut self, id: &str, who: u32) {
        let message = Message { to: format!("{ROMEO}/phone"), id: id.to_owned(), content: "<body>x</body>".to_owned() };
        self.link.send(&message, who, "receipt", self.now);
        self.pongs();
    }

    fn pongs(&mut self) {
        let number = self.link.pings.0;
        self.hears(&format!("<iq type='result' from='notify.example.com' id='ping-{number}'/>"));
    }

    /// How long until something is due.
    fn due(&self) -> Option<Duration> {
        self.link.deadline().map(|at| at - self.now)
    }
}

fn answered(who: u32, answer: Answer) -> Event<u32, &'static str> {
    Event::Answered { who, answer }
}

fn accepted(who: u32) -> Event<u32, &'static str> {
    answered(who, Answer::Xmpp { refusal: None })
}

fn received(from: &str, id: &str) -> String {
    format!("<message from='{from}' id='r'><received xmlns='urn:xmpp:receipts' id='{id}'/></message>")
}

fn error(from: &str, id: &str) -> String {
    let condition = "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>";
    format!("<message type='error' from='{from}' id='{id}'><error type='cancel'>{condition}</error></message>")
}

#[test]
fn a_component_shakes_hands() {
    let mut stage = Stage::open("notify.example.com", false);
    assert_eq!(
        stage.said(),
        "<?xml version=\"1.0\"?><stream:stream xmlns=\"jabber:component:accept\" \
         xmlns:stream=\"http://etherx.jabber.org/streams\" to=\"notify.example.com\">"
    );
    stage.hears(OPENED);
    // sha1 over the id of the stream and "secret".
    assert_eq!(stage.said(), "<handshake>b09ea9b3b7f586be8a08d0a3dd7466f110aeb136</handshake>");
    assert!(!stage.link.has_room());
    stage.hears("<handshake/>");
    assert_eq!(stage.events(), [Event::Bound]);
    assert!(stage.link.has_room());
}

#[test]
fn a_client_begins_tls_proves_itself_and_binds() {
    let mut stage = Stage::open("mem@example.com", false);
    let begin = "<?xml version=\"1.0\"?><stream:stream xmlns=\"jabber:client\" \
        xmlns:stream=\"http://etherx.jabber.org/streams\" to=\"example.com\" version=\"1.0\">";
    assert_eq!(stage.said(), begin);
    stage.hears(OPENED);
    stage.hears(STARTTLS);
    assert_eq!(stage.said(), "<starttls xmlns=\"urn:ietf:params:xml:ns:xmpp-tls\"/>");
    // What somebody between puts behind it is never heard.
    stage.hears(&format!("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>{FEATURES}<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/><iq type='get'"));
    assert_eq!((stage.events(), stage.said()), (vec![Event::Secure], String::new()));
    stage.link.secured();
    assert_eq!(stage.said(), begin);
    stage.hears(OPENED);
    stage.hears(FEATURES);
    // NUL mem NUL secret.
    assert_eq!(
        stage.said(),
        "<auth xmlns=\"urn:ietf:params:xml:ns:xmpp-sasl\" mechanism=\"PLAIN\">AG1lbQBzZWNyZXQ=</auth>"
    );
    stage.hears("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    assert_eq!(stage.said(), begin);
    stage.hears(OPENED);
    stage.hears("<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>");
    assert_eq!(stage.said(), "<iq id=\"bind\" type=\"set\"><bind xmlns=\"urn:ietf:params:xml:ns:xmpp-bind\"/></iq>");
    stage.hears("<iq id='bind' type='result'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>mem@example.com/x</jid></bind></iq>");
    assert_eq!(stage.events(), [Event::Bound]);
    stage.sends("7", 1);
    assert_eq!(
        stage.said(),
        "<message to=\"romeo@im.example.com/phone\" id=\"7\" type=\"normal\" xml:lang=\"en\"><body>x</body></message>\
         <iq to=\"example.com\" id=\"ping-1\" type=\"get\"><ping xmlns=\"urn:xmpp:ping\"/></iq>"
    );
}

#[test]
fn a_password_is_never_said_without_tls() {
    for (features, end) in [(FEATURES, "no TLS"), ("<stream:features/>", "no TLS")] {
        let mut stage = Stage::open("mem@example.com", false);
        stage.hears(OPENED);
        stage.said();
        stage.hears(features);
        assert_eq!((stage.link.end(), stage.said()), (Some(End::Refused(end)), String::new()));
    }
    let mut stage = Stage::open("mem@example.com", true);
    stage.hears(OPENED);
    stage.hears("<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>X</mechanism></mechanisms></stream:features>");
    assert_eq!(stage.link.end(), Some(End::Refused("no PLAIN")));
}

#[test]
fn a_server_says_why_it_does_not_want_us() {
    let mut stage = Stage::open("notify.example.com", false);
    stage.hears(OPENED);
    stage.hears("<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>x</text></stream:error></stream:stream>");
    assert_eq!(stage.link.end(), Some(End::Refused("not-authorized")));
    let mut stage = Stage::open("mem@example.com", true);
    stage.hears(OPENED);
    stage.hears(FEATURES);
    stage.hears("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>");
    assert_eq!(stage.link.end(), Some(End::Refused("not-authorized")));
    // Once we are known it is the end of this session, and no more.
    let mut stage = Stage::bound();
    stage.hears("<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>");
    assert_eq!(stage.link.end(), Some(End::Closed));
    let mut stage = Stage::bound();
    stage.hears("</stream:stream>");
    assert_eq!(stage.link.end(), Some(End::Closed));
}

#[test]
fn a_server_that_says_nothing_is_left() {
    let mut stage = Stage::open("notify.example.com", false);
    assert_eq!(stage.due(), Some(NEGOTIATION));
    stage.waits(NEGOTIATION - seconds(1));
    assert_eq!(stage.link.end(), None);
    stage.waits(seconds(1));
    assert_eq!((stage.link.end(), stage.due()), (Some(End::Silent), None));
    let mut stage = Stage::bound();
    assert_eq!(stage.due(), Some(IDLE));
    stage.waits(IDLE);
    let ping = "<iq from=\"notify.example.com\" to=\"notify.example.com\" id=\"ping-1\" type=\"get\"><ping xmlns=\"urn:xmpp:ping\"/></iq>";
    assert_eq!((stage.said(), stage.due()), (ping.to_owned(), Some(PONG)));
    // It comes back to us by way of the server: that is as good as an answer.
    stage.hears(ping);
    assert_eq!((stage.said(), stage.due()), (String::new(), Some(IDLE)));
    stage.waits(IDLE);
    stage.hears("<iq type='result' from='romeo@im.example.com' id='ping-2'/>");
    stage.waits(PONG);
    assert_eq!(stage.link.end(), Some(End::Silent));
}

#[test]
fn a_message_is_accepted_when_no_error_has_come() {
    let mut stage = Stage::bound();
    stage.sends("7", 1);
    assert_eq!(
        stage.said(),
        "<message from=\"notify.example.com\" to=\"romeo@im.example.com/phone\" id=\"7\" type=\"normal\" xml:lang=\"en\">\
         <body>x</body></message><iq from=\"notify.example.com\" to=\"notify.example.com\" id=\"ping-1\" type=\"get\">\
         <ping xmlns=\"urn:xmpp:ping\"/></iq>"
    );
    assert_eq!((stage.events(), stage.due()), (vec![], Some(GRACE)));
    stage.waits(GRACE);
    assert_eq!(stage.events(), [accepted(1)]);
    // Behind it: a receipt from whichever resource, and each but once.
    stage.hears(&received("Romeo@im.example.com/other", "7"));
    stage.hears(&received(ROMEO, "7"));
    assert_eq!(stage.events(), [Event::Reported { who: "receipt", receipt: Receipt::Delivered }]);
    stage.sends("8", 2);
    stage.waits(GRACE);
    stage.hears(&error("im.example.com", "8"));
    assert_eq!(stage.events(), [accepted(2), Event::Reported { who: "receipt", receipt: Receipt::Failed }]);
}

#[test]
fn an_error_or_a_receipt_that_is_quick_is_the_answer() {
    let mut stage = Stage::bound();
    stage.sends("7", 1);
    stage.hears(&error(ROMEO, "7"));
    let refusal = Refusal { is_temporary: false, condition: Condition::ItemNotFound };
    assert_eq!(stage.events(), [answered(1, Answer::Xmpp { refusal: Some(refusal) })]);
    stage.sends("8", 2);
    stage.hears(&received(&format!("{ROMEO}/phone"), "8"));
    assert_eq!(stage.events(), [answered(2, Answer::Acknowledged)]);
    assert_eq!(stage.link.sent.len(), 0);
}

#[test]
fn nobody_else_speaks_for_who_got_it() {
    let mut stage = Stage::bound();
    stage.sends("7", 1);
    for from in ["mallory@im.example.com/phone", "example.net", "", "mallory@notify.example.com"] {
        stage.hears(&received(from, "7"));
        stage.hears(&error(from, "7"));
    }
    stage.hears(&received(ROMEO, "8"));
    assert_eq!(stage.events(), []);
}

#[test]
fn what_the_server_may_not_have_is_not_accepted() {
    let mut stage = Stage::bound();
    stage.sends("7", 1);
    let message = Message { to: ROMEO.to_owned(), id: "8".to_owned(), content: String::new() };
    stage.link.send(&message, 2, "receipt", stage.now);
    stage.waits(GRACE);
    assert_eq!((stage.events(), stage.due()), (vec![accepted(1)], Some(PONG - GRACE)));
    stage.waits(PONG - GRACE);
    assert_eq!(stage.link.end(), Some(End::Silent));
    assert_eq!(stage.events(), [answered(2, Answer::Silence)]);
    // A pong that comes late is good enough.
    let mut stage = Stage::bound();
    stage.link.send(&message, 3, "receipt", stage.now);
    stage.waits(GRACE + seconds(1));
    stage.pongs();
    stage.waits(Duration::ZERO);
    assert_eq!(stage.events(), [accepted(3)]);
}

#[test]
fn only_so_many_are_waited_for_and_not_for_ever() {
    let mut stage = Stage::bound();
    for who in 0..MOST {
        assert!(stage.link.has_room());
        stage.sends(&who.to_string(), who as u32);
    }
    assert!(!stage.link.has_room());
    stage.waits(GRACE);
    assert_eq!(stage.events().len(), MOST);
    assert!(!stage.link.has_room());
    assert_eq!(stage.due(), Some(LONGEST - GRACE));
    stage.waits(LONGEST - GRACE);
    assert!(stage.link.has_room() && stage.link.sent.is_empty());
    assert_eq!(stage.events(), []);
}

#[test]
fn the_same_message_is_waited_for_once() {
    let mut stage = Stage::bound();
    stage.sends("7", 1);
    stage.sends("7", 2);
    assert_eq!(stage.events(), [answered(1, Answer::Silence)]);
    stage.waits(GRACE);
    assert_eq!(stage.events(), [accepted(2)]);
}

#[test]
fn requests_are_refused_and_nothing_else_is_answered() {
    let mut stage = Stage::bound();
    stage.hears(
        "<iq from='a@b/&quot;' to='x@notify.example.com' id='1' type='get'><query xmlns='jabber:iq:version'/></iq>",
    );
    assert_eq!(
        stage.said(),
        "<iq from=\"x@notify.example.com\" to=\"a@b/&quot;\" id=\"1\" type=\"error\"><error type=\"cancel\">\
         <service-unavailable xmlns=\"urn:ietf:params:xml:ns:xmpp-stanzas\"/></error></iq>"
    );
    stage.hears("<iq from='a@b' id='1' type='error'/><message from='a@b'><body>hi</body><request xmlns='urn:xmpp:receipts'/></message><presence from='a@b' type='subscribe'/>");
    stage.hears("<iq from='a@b' type='result' id='ping-1'/>");
    assert_eq!((stage.said(), stage.events()), (String::new(), vec![]));
}

#[test]
fn an_end_is_told_to_those_who_wait() {
    let mut stage = Stage::bound();
    stage.sends("7", 1);
    stage.link.lose();
    assert_eq!(stage.events(), [answered(1, Answer::Silence)]);
    let mut stage = Stage::bound();
    stage.said();
    stage.link.close();
    assert_eq!((stage.said().as_str(), stage.link.end()), ("</stream:stream>", Some(End::Closed)));
    let mut stage = Stage::bound();
    stage.hears("<a></b>");
    assert_eq!(stage.link.end(), Some(End::Unreadable));
}

#[test]
fn whatever_is_heard_nobody_panics() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut chance = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let good = [received(ROMEO, "7"), error(ROMEO, "7"), "<iq type='get' id='ping-1'/>".to_owned()].concat();
    let mut answered = 0;
    for _ in 0..5_000 {
        let mut stage = Stage::bound();
        stage.sends("7", 1);
        let mut octets = good.clone().into_bytes();
        for _ in 0..chance() % 3 {
            let at = chance() as usize % octets.len();
            octets[at] = b"<>/'\"&;! x\xff\0"[chance() as usize % 12];
        }
        let (first, second) = octets.split_at(chance() as usize % octets.len());
        stage.link.hear(first, stage.now);
        stage.link.hear(second, stage.now);
        stage.waits(GRACE);
        answered += stage.events().len();
    }
    // Each is answered exactly once.
    assert_eq!(answered, 5_000);
}
