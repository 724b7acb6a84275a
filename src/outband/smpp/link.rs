//! A session with an SMSC, from bind to its end: what is said when, and what is waited for (SMPP 3.4 section 2).
//!
//!     AwaitBind ----> Bound ----> AwaitUnbind ----> ended
//!         | 30 s, refused  | an enquiry unanswered for 10 s, a length that none has, unbind
//!         +----------------+----------------------------------> ended
//!
//!     0 s   submit_sm 2 to 11              ten at most without a response, each for 30 s
//!     1 s   submit_sm_resp 2 RTHROTTLED    nothing for 1 s, then 2, 4 ... 60, and half as fast; each success brings back a tenth
//!     30 s  enquire_link 12                where nothing was heard for so long
//!
//! Pure: octets that were heard and the time go in; octets to be said, events and a deadline come out. What waits for its turn waits outside
//! ([`Link::has_room`]), so that nothing is held here but what was said. What had no response when a session ended may have arrived: who sent it
//! sends it again, and the device knows the number of a notice. Requirement N20.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    pdu::{self, Esme, Heard, Submit, command},
    receipt::Report,
    status,
};

/// The first pause after a refusal for want of room or of patience, ...
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// ... and the longest; also the longest time between two messages.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The last sequence number (section 3.2).
const LAST: u32 = 0x7fff_ffff;

/// How fast a link may be used, and how long anything is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages without a response, at least 1.
    pub window: usize,
    /// Messages a second, at least 1.
    pub rate: u32,
    /// How long a response is waited for.
    pub response: Duration,
    /// How long an SMSC may be silent before it is asked whether it is there, ...
    pub idle: Duration,
    /// ... and how long it may take to say so.
    pub enquiry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (response, idle, enquiry) = (Duration::from_secs(30), Duration::from_secs(30), Duration::from_secs(10));
        Self { window: 10, rate: 10, response, idle, enquiry }
    }
}

/// What has happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// The SMSC knows us.
    Bound,
    /// A message was answered.
    Answered {
        /// Whose it is.
        who: T,
        /// The command_status.
        status: u32,
        /// The SMSC's number for it.
        id: Vec<u8>,
    },
    /// A message was not answered in time.
    Unanswered {
        /// Whose it is.
        who: T,
    },
    /// A receipt has come.
    Reported(Report),
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The SMSC does not want us: somebody has to look.
    Refused(u32),
    /// It says nothing.
    Silent,
    /// It says what is no PDU.
    Unreadable,
    /// It has ended the session, or we have.
    Unbound,
    /// The connection is gone.
    Lost,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitBind { since: Instant },
    Bound,
    AwaitUnbind { since: Instant },
    Ended(End),
}

/// A message without a response.
#[derive(Debug)]
struct Sent<T> {
    at: Instant,
    who: T,
}

/// A session. It does not print: a password stands in what is to be said.
pub struct Link<T> {
    state: State,
    limits: Limits,
    pace: Pace,
    sequence: u32,
    sent: BTreeMap<u32, Sent<T>>,
    /// When something was last heard.
    heard: Instant,
    /// The enquiry without a response, and when it was made.
    enquiry: Option<(u32, Instant)>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    events: VecDeque<Event<T>>,
}

impl<T> Link<T> {
    /// A session over a connection that was just made.
    pub fn open(esme: &Esme, limits: Limits, now: Instant) -> Self {
        let mut link = Self {
            state: State::AwaitBind { since: now },
            limits,
            pace: Pace::new(limits.rate, now),
            sequence: 0,
            sent: BTreeMap::new(),
            heard: now,
            enquiry: None,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            events: VecDeque::new(),
        };
        let bind = esme.bind(link.next());
        link.outgoing.extend(bind);
        link
    }

    /// Whether a message may go now.
    pub fn has_room(&self, now: Instant) -> bool {
        self.state == State::Bound && self.sent.len() < self.limits.window && self.pace.next <= now
    }

    /// Sends a message, where there is room.
    pub fn submit(&mut self, submit: Submit, who: T, now: Instant) {
        let sequence = self.next();
        self.outgoing.extend(submit.written(sequence));
        self.sent.insert(sequence, Sent { at: now, who });
        self.pace.sent(now);
    }

    /// Says that this is the end. What waits for a response is still waited for as long as the SMSC takes to agree.
    pub fn unbind(&mut self, now: Instant) {
        match self.state {
            State::Bound => {
                let unbind = pdu::unbind(self.next());
                self.outgoing.extend(unbind);
                self.state = State::AwaitUnbind { since: now };
            }
            State::AwaitBind { .. } => self.end_by(End::Unbound),
            State::AwaitUnbind { .. } | State::Ended(_) => {}
        }
    }

    /// Takes what was heard. A peer that says more than was asked for is answered, PDU by PDU: with no more octets than it has said.
    pub fn hear(&mut self, octets: &[u8], now: Instant) {
        self.heard = now;
        self.incoming.extend_from_slice(octets);
        let incoming = std::mem::take(&mut self.incoming);
        let mut rest = &incoming[..];
        while self.end().is_none() {
            match Heard::first(rest) {
                Ok(Some((pdu, length))) => {
                    self.take(&pdu, now);
                    rest = &rest[length..];
                }
                Ok(None) => break,
                Err(_) => {
                    self.outgoing.extend(pdu::unreadable());
                    self.end_by(End::Unreadable);
                }
            }
        }
        self.incoming = rest.to_vec();
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        let is_due = |since: Instant, after: Duration| now.saturating_duration_since(since) >= after;
        let Limits { response, idle, enquiry, .. } = self.limits;
        self.give_up(|sent| is_due(sent.at, response));
        match (self.state, self.enquiry) {
            (State::AwaitBind { since } | State::AwaitUnbind { since }, _) if is_due(since, response) => {
                self.end_by(End::Silent);
            }
            (State::Bound, Some((_, since))) if is_due(since, enquiry) => self.end_by(End::Silent),
            (State::Bound, None) if is_due(self.heard, idle) => {
                let sequence = self.next();
                self.outgoing.extend(pdu::enquire(sequence));
                self.enquiry = Some((sequence, now));
            }
            _ => {}
        }
    }

    /// When something is due if nothing happens before.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let Limits { response, idle, enquiry, .. } = self.limits;
        let own = match (self.state, self.enquiry) {
            (State::AwaitBind { since } | State::AwaitUnbind { since }, _) => since + response,
            (State::Bound, Some((_, since))) => since + enquiry,
            (State::Bound, None) => self.heard + idle,
            (State::Ended(_), _) => return None,
        };
        let answer = self.sent.values().next().map(|sent| sent.at + response);
        let room = Some(self.pace.next).filter(|next| *next > now);
        [Some(own), answer, room].into_iter().flatten().min()
    }

    /// What has happened, each once.
    pub fn poll(&mut self) -> Option<Event<T>> {
        self.events.pop_front()
    }

    /// What is to be said, once.
    pub fn outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }

    /// Why it is over, if it is.
    pub fn end(&self) -> Option<End> {
        match self.state {
            State::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// The connection is gone, or whoever drives it does not want it any more.
    pub fn lose(&mut self) {
        self.end_by(End::Lost);
    }

    fn end_by(&mut self, end: End) {
        if self.end().is_none() {
            self.state = State::Ended(end);
            self.give_up(|_| true);
        }
    }

    fn give_up(&mut self, which: impl Fn(&Sent<T>) -> bool) {
        let late = self.sent.extract_if(.., |_, sent| which(sent));
        self.events.extend(late.map(|(_, sent)| Event::Unanswered { who: sent.who }));
    }

    fn next(&mut self) -> u32 {
        self.sequence = if self.sequence == LAST { 1 } else { self.sequence + 1 };
        self.sequence
    }

    fn take(&mut self, pdu: &Heard<'_>, now: Instant) {
        if pdu.is_response() { self.answered(pdu, now) } else { self.asked(pdu) }
    }

    fn answered(&mut self, pdu: &Heard<'_>, now: Instant) {
        match self.state {
            // The first number is that of the bind.
            State::AwaitBind { .. } if pdu.sequence == 1 && pdu.answers(command::BIND) => match pdu.status {
                status::OK if pdu.command != command::NACK => {
                    self.state = State::Bound;
                    self.events.push_back(Event::Bound);
                }
                status => self.end_by(End::Refused(status)),
            },
            State::AwaitUnbind { .. } if pdu.answers(command::UNBIND) && !self.sent.contains_key(&pdu.sequence) => {
                self.end_by(End::Unbound);
            }
            _ if self
                .enquiry
                .is_some_and(|(sequence, _)| sequence == pdu.sequence && pdu.answers(command::ENQUIRE)) =>
            {
                self.enquiry = None;
            }
            _ if pdu.answers(command::SUBMIT) => self.submitted(pdu, now),
            _ => {}
        }
    }

    fn submitted(&mut self, pdu: &Heard<'_>, now: Instant) {
        // Whoever comes too late, or answers what nobody asked, is not heard.
        let Some(sent) = self.sent.remove(&pdu.sequence) else { return };
        // A refusal to understand is no success, whatever stands in it.
        let status = match pdu.status {
            status::OK if pdu.command == command::NACK => status::INVALID_COMMAND,
            status => status,
        };
        if status::is_throttling(status) {
            self.pace.throttled(sent.at, now);
        } else if status == status::OK {
            self.pace.accepted();
        }
        let id = if status == status::OK { pdu.message_id().to_vec() } else { Vec::new() };
        self.events.push_back(Event::Answered { who: sent.who, status, id });
    }

    fn asked(&mut self, pdu: &Heard<'_>) {
        let is_bound = matches!(self.state, State::Bound | State::AwaitUnbind { .. });
        let status = match pdu.command {
            // They have no response (sections 4.1.7 and 4.12.1).
            command::OUTBIND | command::ALERT => return,
            command::ENQUIRE | command::UNBIND => status::OK,
            _ if !is_bound => status::INVALID_BIND_STATUS,
            command::DELIVER => match pdu.delivered() {
                Some(delivered) => {
                    self.events.extend(Report::of(&delivered).map(Event::Reported));
                    status::OK
                }
                None => status::INVALID_COMMAND_LENGTH,
            },
            _ => status::INVALID_COMMAND,
        };
        self.outgoing.extend(pdu::response(pdu, status));
        if pdu.command == command::UNBIND {
            self.end_by(End::Unbound);
        }
    }
}

/// How fast messages go.
#[derive(Debug)]
struct Pace {
    /// From one to the next, as the operator says and as it is now.
    usual: Duration,
    current: Duration,
    /// Not before this.
    next: Instant,
    /// The pause behind the next refusal.
    pause: Duration,
    /// When the last pause began.
    paused: Option<Instant>,
}

impl Pace {
    fn new(rate: u32, now: Instant) -> Self {
        let usual = Duration::from_secs(1) / rate.max(1);
        Self { usual, current: usual, next: now, pause: FIRST_PAUSE, paused: None }
    }

    fn sent(&mut self, now: Instant) {
        self.next = self.next.max(now) + self.current;
    }

    fn accepted(&mut self) {
        self.pause = FIRST_PAUSE;
        self.current = (self.current * 9 / 10).max(self.usual);
    }

    /// Those that went before a pause began say nothing new.
    fn throttled(&mut self, sent: Instant, now: Instant) {
        if self.paused.is_some_and(|paused| sent <= paused) {
            return;
        }
        self.paused = Some(now);
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.current = (self.current * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::pdu::tests::{delivery, esme, messages, octets_of},
        *,
    };
    use crate::outband::channel::Receipt;

    const LIMITS: Limits =
        Limits { window: 10, rate: 1000, response: seconds(30), idle: seconds(30), enquiry: seconds(10) };

    /// A link and a clock.
    struct Stage {
        link: Link<u32>,
        now: Instant,
    }

    impl Stage {
        fn open(limits: Limits) -> Self {
            let now = Instant::now();
            Self { link: Link::open(&esme(), limits, now), now }
        }

        /// Bound, and what was said for it forgotten.
        fn bound(limits: Limits) -> Self {
            let mut stage = Self::open(limits);
            stage.said();
            stage.hears("00000015 80000009 00000000 00000001 534d534300");
            assert_eq!(stage.link.poll(), Some(Event::Bound));
            stage
        }

        fn hears(&mut self, hex: &str) {
            self.link.hear(&octets_of(hex), self.now);
        }

        /// A response that is a header alone.
        fn answers(&mut self, command: u32, status: u32, sequence: u32) {
            self.hears(&format!("00000010 {command:08x} {status:08x} {sequence:08x}"));
        }

        fn waits(&mut self, time: Duration) {
            self.now += time;
            self.link.tick(self.now);
        }

        fn submits(&mut self, who: u32) {
            let submit = esme().submits(&messages()).unwrap().remove(0);
            self.link.submit(submit, who, self.now);
        }

        fn has_room(&self) -> bool {
            self.link.has_room(self.now)
        }

        /// The PDUs that were said: command, status, sequence.
        fn said(&mut self) -> Vec<(u32, u32, u32)> {
            let octets = self.link.outgoing();
            let (mut rest, mut said) = (&octets[..], Vec::new());
            while let Ok(Some((pdu, length))) = Heard::first(rest) {
                said.push((pdu.command, pdu.status, pdu.sequence));
                rest = &rest[length..];
            }
            assert!(rest.is_empty());
            said
        }

        fn events(&mut self) -> Vec<Event<u32>> {
            std::iter::from_fn(|| self.link.poll()).collect()
        }

        /// How long until something is due.
        fn due(&self) -> Option<Duration> {
            self.link.deadline(self.now).map(|at| at - self.now)
        }
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn answered(who: u32, status: u32, id: &str) -> Event<u32> {
        Event::Answered { who, status, id: id.into() }
    }

    #[test]
    fn an_smsc_has_as_long_as_the_digest_says() {
        assert_eq!(Limits::default(), Limits { rate: 10, ..LIMITS });
    }

    #[test]
    fn a_session_is_bound_used_and_unbound() {
        let mut stage = Stage::open(LIMITS);
        assert_eq!(stage.said(), [(command::BIND, 0, 1)]);
        assert!(!stage.has_room());
        stage.hears("00000015 80000009 00000000 00000001 534d534300");
        assert_eq!(stage.events(), [Event::Bound]);
        assert!(stage.has_room());
        stage.submits(7);
        assert_eq!(stage.said(), [(command::SUBMIT, 0, 2)]);
        stage.hears("00000013 80000004 00000000 00000002 6d3100");
        assert_eq!(stage.events(), [answered(7, 0, "m1")]);
        stage.link.unbind(stage.now);
        assert_eq!(stage.said(), [(command::UNBIND, 0, 3)]);
        assert!(!stage.has_room());
        stage.answers(0x8000_0006, 0, 3);
        assert_eq!((stage.link.end(), stage.due()), (Some(End::Unbound), None));
    }

    #[test]
    fn a_bind_that_is_refused_or_not_answered_is_the_end() {
        for (command, status, end) in [
            (0x8000_0009, 0x0e, Some(End::Refused(0x0e))),
            (0x8000_0009, 0x05, Some(End::Refused(0x05))),
            (command::NACK, 0x03, Some(End::Refused(0x03))),
            (command::NACK, 0x00, Some(End::Refused(0x00))),
            // Nobody asked for that.
            (0x8000_0004, 0x00, None),
        ] {
            let mut stage = Stage::open(LIMITS);
            stage.answers(command, status, 1);
            assert_eq!(stage.link.end(), end);
            assert_eq!(stage.events(), []);
        }
        let mut stage = Stage::open(LIMITS);
        stage.answers(0x8000_0009, 0, 2);
        assert_eq!(stage.due(), Some(seconds(30)));
        stage.waits(seconds(29));
        assert_eq!(stage.link.end(), None);
        stage.waits(seconds(1));
        assert_eq!(stage.link.end(), Some(End::Silent));
    }

    #[test]
    fn a_window_of_messages_is_without_a_response() {
        let mut stage = Stage::bound(Limits { window: 2, ..LIMITS });
        for who in [0, 1] {
            stage.waits(Duration::from_millis(1));
            assert!(stage.has_room());
            stage.submits(who);
        }
        stage.waits(seconds(1));
        assert!(!stage.has_room());
        // In any order.
        stage.answers(0x8000_0004, 0, 3);
        assert_eq!(stage.events(), [answered(1, 0, "")]);
        assert!(stage.has_room());
        stage.waits(seconds(28));
        assert_eq!((stage.events(), stage.due()), (vec![], Some(seconds(1) - Duration::from_millis(1))));
        stage.waits(seconds(1));
        assert_eq!(stage.events(), [Event::Unanswered { who: 0 }]);
        // Too late.
        stage.answers(0x8000_0004, 0, 2);
        assert_eq!((stage.events(), stage.link.end()), (vec![], None));
    }

    #[test]
    fn a_rate_is_kept() {
        let mut stage = Stage::bound(Limits { rate: 4, ..LIMITS });
        stage.submits(0);
        assert!(!stage.has_room());
        assert_eq!(stage.due(), Some(Duration::from_millis(250)));
        stage.waits(Duration::from_millis(249));
        assert!(!stage.has_room());
        stage.waits(Duration::from_millis(1));
        assert!(stage.has_room());
    }

    #[test]
    fn an_smsc_with_too_much_to_do_is_left_alone_for_longer_each_time() {
        let mut stage = Stage::bound(Limits { rate: 10, ..LIMITS });
        let mut sequence = 2;
        for (status, pause) in
            [(0x58, 1), (0x14, 2), (0x58, 4), (0x58, 8), (0x58, 16), (0x58, 32), (0x58, 60), (0x58, 60)]
        {
            stage.submits(1);
            stage.waits(Duration::from_millis(1));
            stage.answers(0x8000_0004, status, sequence);
            assert_eq!(stage.events(), [answered(1, status, "")]);
            sequence += 1;
            let until = stage.link.pace.next - stage.now;
            assert_eq!(until, seconds(pause), "{status:x}");
            assert!(!stage.has_room());
            stage.now += until;
            assert!(stage.has_room());
            // It is there, and need not be asked.
            stage.answers(command::ALERT, 0, 1);
        }
        // 0.1 s, eight times doubled; each success brings back a tenth, and the first the short pause.
        let current = |stage: &Stage| stage.link.pace.current.as_millis();
        assert_eq!(current(&stage), 25_600);
        stage.submits(1);
        stage.answers(0x8000_0004, 0, sequence);
        assert_eq!((current(&stage), stage.link.pace.pause), (23_040, seconds(1)));
        (0..100).for_each(|_| stage.link.pace.accepted());
        assert_eq!(current(&stage), 100);
    }

    #[test]
    fn ten_refusals_at_once_are_one() {
        let mut stage = Stage::bound(LIMITS);
        (0..10).for_each(|who| stage.submits(who));
        stage.waits(seconds(1));
        (2..12).for_each(|sequence| stage.answers(0x8000_0004, 0x58, sequence));
        assert_eq!(stage.events().len(), 10);
        assert_eq!(stage.link.pace.next - stage.now, seconds(1));
        assert_eq!(stage.link.pace.current, Duration::from_millis(2));
    }

    #[test]
    fn a_silent_smsc_is_asked_and_then_left() {
        let mut stage = Stage::bound(LIMITS);
        assert_eq!(stage.due(), Some(seconds(30)));
        stage.waits(seconds(29));
        assert_eq!(stage.said(), []);
        stage.waits(seconds(1));
        assert_eq!(stage.said(), [(command::ENQUIRE, 0, 2)]);
        assert_eq!(stage.due(), Some(seconds(10)));
        stage.waits(seconds(9));
        stage.answers(0x8000_0015, 0, 2);
        assert_eq!((stage.said(), stage.due()), (vec![], Some(seconds(30))));
        stage.waits(seconds(30));
        assert_eq!(stage.said(), [(command::ENQUIRE, 0, 3)]);
        // The answer to the one before is none to this one.
        stage.answers(0x8000_0015, 0, 2);
        stage.submits(5);
        stage.waits(seconds(10));
        assert_eq!((stage.link.end(), stage.events()), (Some(End::Silent), vec![Event::Unanswered { who: 5 }]));
    }

    #[test]
    fn what_the_smsc_asks_is_answered() {
        let mut stage = Stage::bound(LIMITS);
        for (command, answer) in [
            (command::ENQUIRE, Some((0x8000_0015, 0))),
            // data_sm, submit_sm: not from there.
            (0x103, Some((command::NACK, 3))),
            (command::SUBMIT, Some((command::NACK, 3))),
            (command::ALERT, None),
            (command::OUTBIND, None),
            // Without a body.
            (command::DELIVER, Some((command::NACK, 2))),
        ] {
            stage.answers(command, 0, 77);
            let expected: Vec<_> = answer.map(|(command, status)| (command, status, 77)).into_iter().collect();
            assert_eq!(stage.said(), expected, "{command:x}");
        }
        stage.submits(3);
        stage.said();
        stage.answers(command::UNBIND, 0, 78);
        assert_eq!(stage.said(), [(0x8000_0006, 0, 78)]);
        assert_eq!((stage.link.end(), stage.events()), (Some(End::Unbound), vec![Event::Unanswered { who: 3 }]));
    }

    #[test]
    fn a_receipt_is_told_and_a_message_is_only_taken() {
        let mut stage = Stage::bound(LIMITS);
        let receipt = delivery(4, "", "001e 0003 6d3100 0427 0001 02");
        // In pieces.
        for octet in &receipt {
            stage.link.hear(&[*octet], stage.now);
        }
        let [Event::Reported(report)] = &stage.events()[..] else { panic!("a report") };
        assert_eq!(report.says, Receipt::Delivered);
        stage.link.hear(&[delivery(0, "STOP", ""), receipt].concat(), stage.now);
        assert_eq!(stage.events().len(), 1);
        assert_eq!(stage.said(), [(0x8000_0005, 0, 9); 3]);
        // Before it knows us nobody may deliver.
        let mut early = Stage::open(LIMITS);
        early.said();
        early.link.hear(&delivery(4, "", "001e 0003 6d3100 0427 0001 02"), early.now);
        assert_eq!((early.said(), early.events()), (vec![(command::NACK, 4, 9)], vec![]));
    }

    #[test]
    fn what_nobody_understands_is_no_success() {
        let mut stage = Stage::bound(LIMITS);
        stage.submits(1);
        stage.submits(2);
        stage.answers(command::NACK, 3, 2);
        stage.answers(command::NACK, 0, 3);
        assert_eq!(stage.events(), [answered(1, 3, ""), answered(2, 3, "")]);
    }

    #[test]
    fn a_length_that_none_has_is_the_end() {
        for length in ["0000000f", "00010001", "ffffffff"] {
            let mut stage = Stage::bound(LIMITS);
            stage.submits(1);
            stage.said();
            stage.hears(length);
            assert_eq!(stage.said(), [(command::NACK, 2, 0)]);
            assert_eq!((stage.link.end(), stage.events()), (Some(End::Unreadable), vec![Event::Unanswered { who: 1 }]));
        }
    }

    #[test]
    fn a_connection_that_is_lost_leaves_nothing_open() {
        let mut stage = Stage::bound(LIMITS);
        (0..3).for_each(|who| stage.submits(who));
        stage.answers(0x8000_0004, 0, 3);
        stage.link.lose();
        let unanswered = |who| Event::Unanswered { who };
        assert_eq!(stage.events(), [answered(1, 0, ""), unanswered(0), unanswered(2)]);
        assert_eq!((stage.link.end(), stage.has_room(), stage.due()), (Some(End::Lost), false, None));
        // The reason stays.
        stage.link.unbind(stage.now);
        stage.waits(seconds(60));
        assert_eq!(stage.link.end(), Some(End::Lost));
    }

    #[test]
    fn numbers_begin_anew_behind_the_last() {
        let mut stage = Stage::bound(LIMITS);
        stage.link.sequence = LAST - 1;
        stage.submits(1);
        stage.submits(2);
        assert_eq!(stage.said(), [(command::SUBMIT, 0, LAST), (command::SUBMIT, 0, 1)]);
        stage.answers(0x8000_0004, 0, 1);
        stage.answers(0x8000_0004, 0, LAST);
        assert_eq!(stage.events(), [answered(2, 0, ""), answered(1, 0, "")]);
    }

    #[test]
    fn whatever_is_heard_nobody_panics_and_nothing_grows() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut chance = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let good = [
            delivery(4, "id:1 stat:DELIVRD", "001e 0003 6d3100 0427 0001 02"),
            octets_of("00000013 80000004 00000000 00000002 6d3100"),
            octets_of("00000010 00000015 00000000 00000002"),
        ];
        let mut reached = 0;
        for _ in 0..20_000 {
            let mut stage = Stage::bound(LIMITS);
            stage.submits(1);
            let mut octets: Vec<u8> = (0..3).flat_map(|_| good[chance() as usize % good.len()].clone()).collect();
            for _ in 0..chance() % 4 {
                let at = chance() as usize % octets.len();
                octets[at] = chance() as u8;
            }
            octets.truncate(octets.len() - chance() as usize % 3);
            let heard = octets.len();
            octets.chunks(1 + chance() as usize % 40).for_each(|part| stage.link.hear(part, stage.now));
            stage.waits(seconds(chance() % 60));
            reached += stage.events().len();
            let said = stage.link.outgoing().len();
            assert!(said <= heard + 200 && stage.link.incoming.len() <= heard);
        }
        assert!(reached > 10_000, "{reached}");
    }
}
