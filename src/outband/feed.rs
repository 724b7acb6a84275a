//! The feed: every event, in its order, to a server of the operator's that decides whom it tells (source document 001 section 14, RFC 5551
//! section 5).
//!
//!     POST /v1/notifications            {"source":"imap1.example.org","stream":"4b1f","first":1041,"events":[{"seq":1041,"event":"MessageNew",...},...]}
//!     200 {"acked":1041}                the server is done with all up to 1041, and goes on with 1042
//!     200 {"acked":1040,"errors":[{"seq":1041,"class":"request","code":"unknown-user"}]}    1041 goes never; class "system": it goes again
//!     409 {"expected":1030}             1041 is not what it waits for: we go back to 1030
//!     503, Retry-After: 30              the same again, after 30 s; without that after 1 s, 2, 4 ... 5 min, for ever
//!
//! Each event has the next number of its stream, and a server takes them without a gap: what it has had before it knows by the number. For
//! events that are not there any more, because they were too many, too old, or refused, stands one that takes all their numbers, so that the
//! server can look for itself what has become of the mailboxes:
//!
//!     {"seq":1041,"event":"vnd.lemonade.Lost","from":1041,"to":1100}                        the next one is 1101
//!
//! One batch is under way at a time. What is repeated with the same content has the same Idempotency-Key. A server that waits for a number that
//! was never given has heard of events that we do not know: ours is an older copy of the log, and the stream begins under another name.
//! Requirements N17, N18, N19.

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;

use super::{
    channel::{Answer, NamedBy, Request},
    channels::webhook::SigningSecret,
};
use crate::{
    mailbox::event::Kind,
    store::feed::{Logged, Position, Tail},
};

/// How much goes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events in a batch.
    pub events: u32,
    /// Octets of its body; an event that is larger goes alone.
    pub octets: u64,
}

/// How the feed stands.
#[derive(Debug)]
pub struct Feed {
    stream: Box<str>,
    /// Up to this number all is done with.
    acked: u64,
    limits: Limits,
    /// What the next batch may have: less behind one that was too large.
    most: u32,
    /// Answers in a row that did not help.
    tries: u32,
}

/// What is sent at once.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// The number of the first event.
    pub first: u64,
    /// The last number that it takes.
    pub last: u64,
    /// The number that will be given next.
    next: u64,
    /// The numbers of the events that are there, in order.
    pub seqs: Vec<u64>,
    /// As it is sent.
    pub body: Vec<u8>,
}

/// What has come of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// How many events of it the server has.
    pub sent: u64,
    /// Events that it does not want, and why.
    pub refused: Vec<Refusal>,
    /// Those of them that it has not counted as done: they are not to be sent again.
    pub dropped: Vec<u64>,
    /// When the next batch may go; none: at once.
    pub pause: Option<Duration>,
    /// The server knows more of the stream than we do: it is to have another name.
    pub is_renewed: bool,
}

/// An event that a server does not want.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its number.
    pub seq: u64,
    /// Why: a word of the server's.
    pub code: Box<str>,
}

/// The first pause, ...
const FIRST: Duration = Duration::from_secs(1);
/// ... and the longest.
const LONGEST: Duration = Duration::from_secs(300);
/// The longest word of a refusal, in octets; it stands in a log.
const LONGEST_CODE: usize = 64;

impl Feed {
    /// A feed that has come so far.
    pub fn new(position: &Position, limits: Limits) -> Self {
        Self { stream: position.stream.clone(), acked: position.acked, limits, most: limits.events, tries: 0 }
    }

    /// The name of the stream.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Up to this number all is done with.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// How many events are worth reading, and how many octets of them.
    pub fn appetite(&self) -> (u32, u64) {
        (self.most, self.limits.octets)
    }

    /// From now on it goes under this name, with the same numbers.
    pub fn rename(&mut self, stream: &str) {
        self.stream = stream.into();
    }

    /// What goes next, of what was found behind [`acked`](Self::acked); none where there is nothing.
    pub fn batch(&self, source: &str, tail: &Tail) -> Option<Batch> {
        let first = self.acked + 1;
        // Nothing in it can fail.
        let [source, stream] = [source, &*self.stream].map(|text| serde_json::to_string(text).unwrap_or_default());
        let head = format!("{{\"source\":{source},\"stream\":{stream},\"first\":{first},\"events\":[");
        let mut batch = Batch { first, last: self.acked, next: tail.next, seqs: Vec::new(), body: head.into_bytes() };
        let mut room = self.most;
        for event in &tail.events {
            let is_whole = (event.seq == batch.last + 1 || self.add(&mut batch, &mut room, &Item::Lost(event.seq - 1)))
                && self.add(&mut batch, &mut room, &Item::Event(event));
            if !is_whole {
                break;
            }
        }
        if tail.events.is_empty() && first < tail.next {
            self.add(&mut batch, &mut room, &Item::Lost(tail.next - 1));
        }
        batch.body.extend_from_slice(b"]}");
        (batch.last >= first).then_some(batch)
    }

    /// Adds this, if it is the first or fits; whether it does.
    fn add(&self, batch: &mut Batch, room: &mut u32, item: &Item<'_>) -> bool {
        let from = batch.last + 1;
        let (last, text) = match item {
            Item::Event(Logged { seq, line, .. }) => {
                (*seq, format!("{{\"seq\":{seq},{}", line.get(1..).unwrap_or("}")))
            }
            Item::Lost(to) => {
                (*to, format!("{{\"seq\":{from},\"event\":\"vnd.lemonade.Lost\",\"from\":{from},\"to\":{to}}}"))
            }
        };
        let is_first = from == batch.first;
        let octets = (batch.body.len() + text.len() + ",]}".len()) as u64;
        if !is_first && (*room == 0 || octets > self.limits.octets) {
            return false;
        }
        if !is_first {
            batch.body.push(b',');
        }
        batch.body.extend_from_slice(text.as_bytes());
        if matches!(item, Item::Event(_)) {
            batch.seqs.push(last);
        }
        batch.last = last;
        *room = room.saturating_sub(1);
        true
    }

    /// What the answer to a batch means.
    pub fn settle(&mut self, batch: &Batch, answer: &Answer) -> Settled {
        let (status, retry_after, said) = self.read(answer, batch);
        let up_to = match (status, said.expected) {
            (409, Some(expected)) => expected.saturating_sub(1),
            _ => said.acked.unwrap_or(self.acked).max(self.acked),
        };
        if up_to >= batch.next {
            return Settled { pause: Some(self.pause(None)), is_renewed: true, ..Settled::default() };
        }
        let (mut refused, has_more) = said.complaints(batch);
        // 413: it may be smaller, until there is one event that is to blame.
        let is_too_large = status == 413 && up_to < batch.last;
        if let ([only], true) = (&batch.seqs[..], is_too_large && batch.first == batch.last) {
            refused.push(Refusal { seq: *only, code: "too-large".into() });
        }
        refused.dedup_by_key(|refusal| refusal.seq);
        let dropped: Vec<u64> = refused.iter().map(|refusal| refusal.seq).filter(|seq| *seq > up_to).collect();
        let done = batch.seqs.iter().filter(|seq| **seq <= up_to).count();
        let sent = (done - refused.iter().filter(|refusal| refusal.seq <= up_to).count()) as u64;
        let has_moved = up_to > self.acked;
        let waits_elsewhere = status == 409 && up_to != self.acked && self.tries == 0;
        self.acked = up_to;
        let pause = match () {
            () if up_to >= batch.last => {
                self.most = self.most.saturating_mul(2).min(self.limits.events);
                self.tries = 0;
                None
            }
            () if is_too_large && self.most > 1 => {
                self.most = (self.most / 2).min(u32::try_from(batch.seqs.len() / 2).unwrap_or(u32::MAX)).max(1);
                None
            }
            () if !dropped.is_empty() && !has_more => None,
            () if waits_elsewhere => {
                self.tries = 1;
                None
            }
            () => {
                if has_moved {
                    self.tries = 0;
                }
                Some(self.pause(retry_after))
            }
        };
        Settled { sent, refused, dropped, pause, is_renewed: false }
    }

    /// The pause behind an answer that did not help.
    fn pause(&mut self, retry_after: Option<Duration>) -> Duration {
        self.tries = self.tries.saturating_add(1);
        let usual = FIRST.saturating_mul(2u32.saturating_pow(self.tries - 1)).min(LONGEST);
        retry_after.unwrap_or(usual).max(FIRST)
    }

    /// Status and words of an answer. What is not said of this stream says nothing; a success without words is one for all of the batch.
    fn read(&self, answer: &Answer, batch: &Batch) -> (u16, Option<Duration>, Said) {
        let Answer::Http { status, retry_after, body } = answer else { return (0, None, Said::default()) };
        let said = match body.trim_ascii() {
            b"" if (200..300).contains(status) => Said { acked: Some(batch.last), ..Said::default() },
            body => serde_json::from_slice(body).unwrap_or_default(),
        };
        let is_ours = said.stream.as_deref().is_none_or(|stream| stream == &*self.stream);
        (*status, *retry_after, if is_ours { said } else { Said::default() })
    }
}

/// What stands in a batch.
enum Item<'a> {
    Event(&'a Logged),
    /// Up to this number.
    Lost(u64),
}

/// What a server says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    stream: Option<String>,
    acked: Option<u64>,
    expected: Option<u64>,
    errors: Vec<Complaint>,
}

/// What it says of an event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Complaint {
    seq: u64,
    class: String,
    code: String,
    /// Whether it wants the event again, as it is.
    retry: bool,
}

impl Said {
    /// The events of the batch that it does not want, in order; and whether there are some that it could not take now.
    fn complaints(self, batch: &Batch) -> (Vec<Refusal>, bool) {
        let (mut refused, mut has_more) = (Vec::new(), false);
        for Complaint { seq, class, code, retry } in self.errors {
            match class == "request" && !retry {
                true if batch.seqs.binary_search(&seq).is_ok() => refused.push(Refusal { seq, code: word(&code) }),
                true => {}
                false => has_more = true,
            }
        }
        refused.sort_by_key(|refusal| refusal.seq);
        (refused, has_more)
    }
}

/// A word that can stand in a log, and can tell nothing of a user.
fn word(code: &str) -> Box<str> {
    let is_word = (1..=LONGEST_CODE).contains(&code.len())
        && code.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-');
    if is_word { code.into() } else { "unknown".into() }
}

impl Batch {
    /// The request to this URL of the operator's, at this time since 1970.
    pub fn request(&self, url: &str, secret: &SigningSecret, now: Duration) -> Request {
        let (id, seconds) = (secret.id_of(&[b"feed", &self.body]), now.as_secs());
        let headers = vec![
            ("Content-Type", "application/vnd.lemonade.events+json".to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", secret.sign(&id, seconds, &self.body)),
            ("webhook-id", id.clone()),
            ("Idempotency-Key", id),
        ];
        Request { url: url.to_owned(), headers, body: self.body.clone(), named_by: NamedBy::Operator }
    }
}

/// What is logged of an event that was told to those who follow: with whom it concerns, and what is to be done about it (source document 001
/// section 14.6). None: it is no event.
pub fn logged(line: &[u8]) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Head<'a> {
        event: Kind,
        #[serde(borrow)]
        user: Option<Cow<'a, str>>,
    }
    let line = std::str::from_utf8(line).ok()?.trim_ascii_end();
    let Head { event, user } = serde_json::from_str(line).ok()?;
    let inform = user.and_then(|user| Some(format!("\"inform\":[{}],", serde_json::to_string(&user).ok()?)));
    let inform = inform.unwrap_or_default();
    Some(format!("{},{inform}\"action\":\"{}\"}}", line.strip_suffix('}')?, action(event)).into())
}

/// What a server is to do about such an event.
fn action(kind: Kind) -> &'static str {
    match kind {
        // Somebody is told.
        Kind::MessageNew | Kind::QuotaExceed => "alert",
        // What was told is so no more.
        Kind::QuotaWithin => "cancel",
        // A lamp for waiting messages goes on or off.
        Kind::MessageAppend
        | Kind::MessageExpire
        | Kind::MessageExpunge
        | Kind::MessageRead
        | Kind::MessageTrash
        | Kind::FlagsSet
        | Kind::FlagsClear => "update",
        // Who is there is not told outband (RFC 5551 section 5.3).
        Kind::Login | Kind::Logout => "presence",
        Kind::QuotaChange
        | Kind::MailboxCreate
        | Kind::MailboxDelete
        | Kind::MailboxRename
        | Kind::MailboxSubscribe
        | Kind::MailboxUnSubscribe => "none",
    }
}

#[cfg(test)]
mod tests;
