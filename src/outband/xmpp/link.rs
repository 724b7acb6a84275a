//! A session with an XMPP server, from the stream to its end: what is said when, and what is waited for (RFC 6120, XEP-0114).
//!
//!     component   AwaitStream -> AwaitHandshake ----------------------------------------> Bound
//!     client      AwaitStream -> AwaitFeatures -> AwaitProceed -> (TLS) -> AwaitStream
//!                             -> AwaitFeatures -> AwaitSuccess          -> AwaitStream
//!                             -> AwaitFeatures -> AwaitBind             ----------------> Bound
//!
//!     0 s    <message id='9c41...'/><iq id='ping-7'/>    a ping goes behind each message: the server takes both in this order (RFC 6120 10.1)
//!     0.1 s  the answer to ping-7                        it has the message
//!     2 s    no error has come                           answered: accepted; by then most servers elsewhere have said that they do not know anybody
//!     9 s    <received id='9c41...'/>                    reported: delivered (XEP-0184)
//!     30 s   nothing is waited for any longer
//!
//! An error within 2 s is the answer, and behind them a report; a receipt likewise. Who it comes from has to be whom the message went to, or a
//! server of ours or theirs. A ping that is not answered for 10 s ends the session, and what had no answer may have arrived. Where it is quiet a
//! ping goes each minute. Requests of others get the error that RFC 6120 section 8.2.3 wants, messages and presence nothing: a service must not
//! answer by itself (RFC 5437 section 6). No presence is sent, so that nothing that is stored for our account is brought.
//!
//! Pure: octets and the time go in; octets, events and a deadline come out. Requirement N20.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    identity::{Identity, bare, parts},
    message::{Message, Refusal},
    stream::{Element, Heard, Reader, STREAMS},
};
use crate::{
    imap::secret::Secret,
    outband::{
        channel::{Answer, Receipt},
        xml,
    },
};

/// Messages of which something may still be heard.
const MOST: usize = 1000;
/// How long an error is waited for before a message counts as accepted.
const GRACE: Duration = Duration::from_secs(2);
/// How long a receipt is waited for.
const LONGEST: Duration = Duration::from_secs(30);
/// How long it may take until we are known.
const NEGOTIATION: Duration = Duration::from_secs(30);
/// How long it may be quiet before the server is asked whether it is there, ...
const IDLE: Duration = Duration::from_secs(60);
/// ... and how long it may take to say so.
const PONG: Duration = Duration::from_secs(10);
/// The longest id that is answered, in octets.
const LONGEST_ID: usize = 1024;

const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const RECEIPTS: &str = "urn:xmpp:receipts";
const ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";

/// Why a server does not want us, as far as somebody can do something about it (RFC 6120 sections 4.9.3 and 6.5).
const REASONS: [&str; 10] = [
    "account-disabled",
    "conflict",
    "credentials-expired",
    "host-gone",
    "host-unknown",
    "invalid-namespace",
    "not-authorized",
    "policy-violation",
    "temporary-auth-failure",
    "unsupported-version",
];

/// What has happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<A, R> {
    /// TLS is to begin; then [`Link::secured`].
    Secure,
    /// The server knows us.
    Bound,
    /// A message was answered.
    Answered {
        /// Who waits for that.
        who: A,
        /// What it is.
        answer: Answer,
    },
    /// Something was heard of a message that was accepted.
    Reported {
        /// Who waits for that.
        who: R,
        /// What it is.
        receipt: Receipt,
    },
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The server does not want us, or not in this way: somebody has to look.
    Refused(&'static str),
    /// It says nothing.
    Silent,
    /// It says what is no XMPP.
    Unreadable,
    /// It has ended the session, or we have.
    Closed,
    /// The connection is gone.
    Lost,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitStream,
    AwaitFeatures,
    AwaitProceed,
    AwaitTls,
    AwaitSuccess,
    AwaitBind,
    AwaitHandshake,
    Bound,
    Ended(End),
}

/// A message of which something may be heard.
#[derive(Debug)]
struct Sent<A, R> {
    at: Instant,
    /// Whom it went to.
    to: String,
    /// The ping behind it.
    ping: u64,
    /// Who waits for an answer, until there is one.
    answer: Option<A>,
    receipt: R,
}

/// A session. It does not print: a password stands in what is to be said.
pub struct Link<A, R> {
    identity: Identity,
    state: State,
    is_secure: bool,
    is_known: bool,
    began: Instant,
    reader: Reader,
    sent: HashMap<String, Sent<A, R>>,
    /// When something was last heard.
    heard: Instant,
    /// The last ping that was sent, and the last that was answered.
    pings: (u64, u64),
    /// When the oldest ping without an answer was sent.
    pinged: Option<Instant>,
    outgoing: Vec<u8>,
    events: VecDeque<Event<A, R>>,
}

impl<A, R> Link<A, R> {
    /// A session over a connection that was just made, with TLS or without.
    pub fn open(identity: Identity, is_secure: bool, now: Instant) -> Self {
        let mut link = Self {
            identity,
            state: State::AwaitStream,
            is_secure,
            is_known: false,
            began: now,
            reader: Reader::default(),
            sent: HashMap::new(),
            heard: now,
            pings: (0, 0),
            pinged: None,
            outgoing: Vec::new(),
            events: VecDeque::new(),
        };
        link.begin();
        link
    }

    /// Whether a message may go now.
    pub fn has_room(&self) -> bool {
        self.state == State::Bound && self.sent.len() < MOST
    }

    /// Sends a message, where there is room. What was heard of the same one before counts no more.
    pub fn send(&mut self, message: &Message, answer: A, receipt: R, now: Instant) {
        let stanza = message.stanza(self.identity.from());
        self.say(&stanza);
        self.ping(now);
        let to = message.to.clone();
        let sent = Sent { at: now, to, ping: self.pings.0, answer: Some(answer), receipt };
        if let Some(Sent { answer: Some(who), .. }) = self.sent.insert(message.id.clone(), sent) {
            self.events.push_back(Event::Answered { who, answer: Answer::Silence });
        }
    }

    /// TLS runs now. What came before it was not protected, and is forgotten.
    pub fn secured(&mut self) {
        self.is_secure = true;
        self.begin();
    }

    /// Says that this is the end.
    pub fn close(&mut self) {
        self.say("</stream:stream>");
        self.end_by(End::Closed);
    }

    /// The connection is gone, or whoever drives it does not want it any more.
    pub fn lose(&mut self) {
        self.end_by(End::Lost);
    }

    /// Takes what was heard.
    pub fn hear(&mut self, octets: &[u8], now: Instant) {
        self.heard = now;
        match self.reader.hear(octets) {
            Ok(heard) => heard.into_iter().for_each(|heard| self.take(heard, now)),
            Err(_) => self.end_by(End::Unreadable),
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        let is_due = |since: Instant, after: Duration| now.saturating_duration_since(since) >= after;
        match (self.state, self.pinged) {
            (State::Ended(_), _) => return,
            (State::Bound, Some(since)) if is_due(since, PONG) => return self.end_by(End::Silent),
            (State::Bound, None) if is_due(self.heard, IDLE) => self.ping(now),
            (State::Bound, _) => {}
            _ if is_due(self.began, NEGOTIATION) => return self.end_by(End::Silent),
            _ => {}
        }
        let answered = self.pings.1;
        for sent in self.sent.values_mut().filter(|sent| sent.ping <= answered && is_due(sent.at, GRACE)) {
            let accepted = Answer::Xmpp { refusal: None };
            self.events.extend(sent.answer.take().map(|who| Event::Answered { who, answer: accepted }));
        }
        self.sent.retain(|_, sent| sent.answer.is_some() || !is_due(sent.at, LONGEST));
    }

    /// When something is due if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        let own = match (self.state, self.pinged) {
            (State::Ended(_), _) => return None,
            (State::Bound, Some(since)) => since + PONG,
            (State::Bound, None) => self.heard + IDLE,
            _ => self.began + NEGOTIATION,
        };
        let sent = self.sent.values().filter_map(|sent| match sent.answer {
            Some(_) => (sent.ping <= self.pings.1).then_some(sent.at + GRACE),
            None => Some(sent.at + LONGEST),
        });
        sent.chain([own]).min()
    }

    /// What has happened, each once.
    pub fn poll(&mut self) -> Option<Event<A, R>> {
        self.events.pop_front()
    }

    /// What is to be said, once.
    pub fn outgoing(&mut self) -> Secret {
        Secret::new(std::mem::take(&mut self.outgoing))
    }

    /// Why it is over, if it is.
    pub fn end(&self) -> Option<End> {
        match self.state {
            State::Ended(end) => Some(end),
            _ => None,
        }
    }

    fn end_by(&mut self, end: End) {
        if self.end().is_none() {
            self.state = State::Ended(end);
            let unanswered = self.sent.drain().filter_map(|(_, sent)| sent.answer);
            self.events.extend(unanswered.map(|who| Event::Answered { who, answer: Answer::Silence }));
        }
    }

    fn say(&mut self, text: &str) {
        self.outgoing.extend_from_slice(text.as_bytes());
    }

    /// Begins a stream; what was heard of the one before is forgotten.
    fn begin(&mut self) {
        let namespace = if self.identity.jid().is_client() { "jabber:client" } else { "jabber:component:accept" };
        let mut tag = "<?xml version=\"1.0\"?><stream:stream".to_owned();
        xml::attribute("xmlns", namespace, &mut tag);
        xml::attribute("xmlns:stream", STREAMS, &mut tag);
        xml::attribute("to", self.identity.jid().domain(), &mut tag);
        if self.identity.jid().is_client() {
            xml::attribute("version", "1.0", &mut tag);
        }
        self.say(&format!("{tag}>"));
        self.reader = Reader::default();
        self.state = State::AwaitStream;
    }

    /// Asks whether the server is there, and has come so far: a component asks itself, which goes by way of the server.
    fn ping(&mut self, now: Instant) {
        self.pings.0 += 1;
        let mut iq = "<iq".to_owned();
        if let Some(from) = self.identity.from() {
            xml::attribute("from", from, &mut iq);
        }
        xml::attribute("to", self.identity.jid().domain(), &mut iq);
        self.say(&format!("{iq} id=\"ping-{}\" type=\"get\"><ping xmlns=\"urn:xmpp:ping\"/></iq>", self.pings.0));
        self.pinged.get_or_insert(now);
    }

    fn take(&mut self, heard: Heard, now: Instant) {
        match heard {
            // What stood behind it may be said by anybody between.
            _ if matches!(self.state, State::AwaitTls | State::Ended(_)) => {}
            Heard::Opened(stream) => self.opened(&stream),
            Heard::Closed => self.end_by(End::Closed),
            Heard::Whole(element) if element.is("error", STREAMS) => {
                let reason = reason(&element, ERRORS);
                self.end_by(if self.state == State::Bound { End::Closed } else { End::Refused(reason) });
            }
            Heard::Whole(element) => match self.state {
                State::AwaitFeatures if element.is("features", STREAMS) => self.features(&element),
                State::AwaitProceed if element.is("proceed", TLS) => {
                    self.state = State::AwaitTls;
                    self.events.push_back(Event::Secure);
                }
                State::AwaitProceed => self.end_by(End::Refused("no TLS")),
                State::AwaitSuccess if element.is("success", SASL) => {
                    self.is_known = true;
                    self.begin();
                }
                State::AwaitSuccess => self.end_by(End::Refused(reason(&element, SASL))),
                State::AwaitHandshake if element.name == "handshake" => self.bound(now),
                State::AwaitBind if element.name == "iq" && element.attribute("id") == Some("bind") => {
                    match element.attribute("type") {
                        Some("result") => self.bound(now),
                        _ => self.end_by(End::Refused("no resource")),
                    }
                }
                State::Bound => self.stanza(&element, now),
                _ => {}
            },
        }
    }

    fn opened(&mut self, stream: &Element) {
        if !stream.is("stream", STREAMS) || self.state != State::AwaitStream {
            return self.end_by(End::Unreadable);
        }
        self.state = State::AwaitFeatures;
        if !self.identity.jid().is_client() {
            let hash = self.identity.handshake(stream.attribute("id").unwrap_or_default());
            self.say(&format!("<handshake>{hash}</handshake>"));
            self.state = State::AwaitHandshake;
        }
    }

    fn features(&mut self, features: &Element) {
        let mechanisms = features.child("mechanisms", SASL);
        let knows_plain = || mechanisms.is_some_and(|it| it.children.iter().any(|one| one.text == "PLAIN"));
        match (self.is_secure, self.is_known) {
            (false, _) if features.child("starttls", TLS).is_some() => {
                self.say(&format!("<starttls xmlns=\"{TLS}\"/>"));
                self.state = State::AwaitProceed;
            }
            (false, _) => self.end_by(End::Refused("no TLS")),
            (true, false) if knows_plain() => {
                self.say(&format!("<auth xmlns=\"{SASL}\" mechanism=\"PLAIN\">"));
                let proof = self.identity.plain();
                self.outgoing.extend_from_slice(proof.expose());
                self.say("</auth>");
                self.state = State::AwaitSuccess;
            }
            (true, false) => self.end_by(End::Refused("no PLAIN")),
            (true, true) => {
                self.say(&format!("<iq id=\"bind\" type=\"set\"><bind xmlns=\"{BIND}\"/></iq>"));
                self.state = State::AwaitBind;
            }
        }
    }

    fn bound(&mut self, now: Instant) {
        self.state = State::Bound;
        self.heard = now;
        self.events.push_back(Event::Bound);
    }

    fn stanza(&mut self, stanza: &Element, now: Instant) {
        let (from, kind) = (stanza.attribute("from"), stanza.attribute("type").unwrap_or_default());
        match (stanza.name.as_str(), kind) {
            ("iq", _) if self.identity.is_ours(from) && self.ponged(stanza, now) => {}
            ("iq", "get" | "set") => self.refuse(stanza),
            ("message", "error") => {
                let id = stanza.attribute("id").unwrap_or_default();
                let refusal = Refusal::of(stanza);
                self.settle(id, from, Answer::Xmpp { refusal: Some(refusal) }, Receipt::Failed);
            }
            ("message", _) => {
                let received = stanza.child("received", RECEIPTS).and_then(|received| received.attribute("id"));
                if let Some(id) = received {
                    self.settle(id, from, Answer::Acknowledged, Receipt::Delivered);
                }
            }
            _ => {}
        }
    }

    /// Whether this answers a ping, in any way: also our own, which has come back to us.
    fn ponged(&mut self, iq: &Element, now: Instant) -> bool {
        let id = iq.attribute("id").and_then(|id| id.strip_prefix("ping-")).and_then(|id| id.parse().ok());
        let Some(number) = id.filter(|number| (1..=self.pings.0).contains(number)) else { return false };
        self.pings.1 = self.pings.1.max(number);
        self.pinged = self.pinged.filter(|_| self.pings.1 < self.pings.0).map(|_| now);
        true
    }

    /// RFC 6120 section 8.2.3.
    fn refuse(&mut self, iq: &Element) {
        let id = iq.attribute("id").unwrap_or_default();
        if id.len() > LONGEST_ID {
            return;
        }
        let mut out = "<iq".to_owned();
        for (name, value) in [("from", iq.attribute("to")), ("to", iq.attribute("from")), ("id", Some(id))] {
            if let Some(value) = value {
                xml::attribute(name, value, &mut out);
            }
        }
        let condition = "<service-unavailable xmlns=\"urn:ietf:params:xml:ns:xmpp-stanzas\"/>";
        self.say(&format!("{out} type=\"error\"><error type=\"cancel\">{condition}</error></iq>"));
    }

    /// Something was heard of a message, from somebody who may know: it is the answer, or a report behind it.
    fn settle(&mut self, id: &str, from: Option<&str>, answer: Answer, receipt: Receipt) {
        let may_know = |to: &str| {
            from.is_none_or(|from| {
                [bare(to), parts(to).1].iter().any(|known| known.eq_ignore_ascii_case(bare(from)))
                    || from.eq_ignore_ascii_case(self.identity.jid().domain())
            })
        };
        if !self.sent.get(id).is_some_and(|sent| may_know(&sent.to)) {
            return;
        }
        let event = self.sent.remove(id).map(|sent| match sent.answer {
            Some(who) => Event::Answered { who, answer },
            None => Event::Reported { who: sent.receipt, receipt },
        });
        self.events.extend(event);
    }
}

/// What of the reasons for a refusal it is.
fn reason(error: &Element, namespace: &str) -> &'static str {
    let named = error.children.iter().filter(|child| child.namespace == namespace);
    let mut known = named.filter_map(|child| REASONS.into_iter().find(|known| *known == child.name));
    known.next().unwrap_or("another reason")
}

#[cfg(test)]
mod tests {
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
            let message =
                Message { to: format!("{ROMEO}/phone"), id: id.to_owned(), content: "<body>x</body>".to_owned() };
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
        assert_eq!(
            stage.said(),
            "<iq id=\"bind\" type=\"set\"><bind xmlns=\"urn:ietf:params:xml:ns:xmpp-bind\"/></iq>"
        );
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
}
