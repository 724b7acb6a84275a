//! Asks the backend for what is to be said with an event: questions of ours, while the client has nothing to do.
//!
//!     >  a CREATE Work
//!     <  a OK created
//!     >  p1 STATUS Work (MESSAGES UIDNEXT UIDVALIDITY)
//!     <  * STATUS Work (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 7)     MailboxCreate: Work, UIDVALIDITY 7
//!     >  b APPEND Work {310}
//!     <  b NO [OVERQUOTA] no room
//!     >  p2 GETQUOTAROOT Work
//!     <  * QUOTA "" (STORAGE 512 512)                           QuotaExceed: Work, 512 of 512
//!
//! The event waits for the answer; where there is none it is told without. Quotas are also looked at when messages have come or
//! gone, once a minute at most: that there is room again nobody says unasked. While nobody follows, nothing is asked.
//! RFC 5423 sections 4.1 and 4.4. Requirements E2 and E5.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    effect::{Effect, Effects},
    gate::{Owner, Running},
    open::Open,
    witness,
};
use crate::{
    imap::{
        response::{self, Kind as Line, Status as End},
        token,
        verb::{self, Verb},
    },
    mailbox::{
        event::{Event, Kind, Quota},
        overview::{Finding, Found, Overview},
        status::Status,
    },
};

/// What is asked, and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Inquiry {
    waiting: VecDeque<Question>,
    asked: Option<Box<Asked>>,
    /// Messages have come or gone since quotas were looked at.
    stirred: bool,
    /// When they were.
    looked: Option<Instant>,
    /// The backend does not tell them.
    lacks_quotas: bool,
}

#[derive(Debug)]
enum Question {
    /// How the mailbox stands that was created.
    Created(Event),
    /// How much of the quotas of a mailbox is used, and what was refused because of one.
    Quotas(Box<[u8]>, Option<Event>),
}

/// A question that is under way.
#[derive(Debug)]
struct Asked {
    question: Question,
    since: Instant,
    quotas: Vec<Quota>,
}

const STATUS: &Verb = verb::row_of("STATUS");
const GETQUOTAROOT: &Verb = verb::row_of("GETQUOTAROOT");

/// From one look at quotas to the next, if messages have come or gone.
const EVERY: Duration = Duration::from_secs(60);

/// Questions that wait. A client that is busier than that is not followed into every detail.
const MOST_WAITING: usize = 16;

impl Question {
    fn event(self) -> Option<Event> {
        match self {
            Self::Created(event) => Some(event),
            Self::Quotas(_, refused) => refused,
        }
    }
}

impl Open {
    /// The client has done this. It is told as soon as all is known that is to be said with it.
    pub(super) fn happened(&mut self, event: Event, out: &mut Effects) {
        if event.kind == Kind::MessageAppend {
            self.stir_quotas();
        }
        let tells = self.plan.account.events.tells(event.kind);
        let question = match (event.kind, event.mailbox.clone().filter(|_| tells)) {
            (Kind::MailboxCreate, Some(_)) => {
                // Other sessions may find the name before it is told.
                let found = Found::Done(event.clone());
                out.push(Effect::Found(Box::new(Finding { asked: self.now, own: true, found })));
                Question::Created(event)
            }
            (Kind::QuotaExceed, Some(mailbox)) if self.has_quotas() => Question::Quotas(mailbox, Some(event)),
            _ => return out.push(Effect::Event(Box::new(event))),
        };
        let waiting = &mut self.inquiry.get_or_insert_default().waiting;
        if waiting.len() >= MOST_WAITING {
            let first = waiting.pop_front().and_then(Question::event);
            first.into_iter().for_each(|event| out.push(Effect::Event(Box::new(event))));
        }
        waiting.push_back(question);
    }

    /// Messages have come or gone: quotas are worth a look.
    pub(super) fn stir_quotas(&mut self) {
        if self.has_quotas() {
            self.inquiry.get_or_insert_default().stirred = true;
        }
    }

    fn has_quotas(&self) -> bool {
        let lacks = self.inquiry.as_ref().is_some_and(|inquiry| inquiry.lacks_quotas);
        !lacks && self.plan.backend.has("QUOTA") && self.plan.account.events.tells(Kind::QuotaExceed)
    }

    /// When quotas are to be looked at, or, before that, what waits is to be asked.
    pub(super) fn inquires_at(&self) -> Option<Instant> {
        let inquiry = self.inquiry.as_ref().filter(|inquiry| inquiry.asked.is_none())?;
        let free = self.news.idle.since().is_some() || (self.news.is_resting() && self.gate.is_only_idle());
        let may =
            free && self.is_at_rest() && !self.is_mid_command() && !self.is_settling() && !self.stack.has_waiting();
        let due = inquiry.looked.map_or(self.now, |looked| looked + EVERY);
        let next = if inquiry.waiting.is_empty() { inquiry.stirred.then_some(due) } else { Some(self.now) };
        next.filter(|_| may)
    }

    /// Asks what may be asked now. A backend that idles stops for it.
    pub(super) fn inquire(&mut self, out: &mut Effects) {
        if !out.followed {
            self.inquiry = self.inquiry.take().filter(|inquiry| inquiry.asked.is_some());
            return;
        }
        if self.inquires_at().is_none_or(|when| self.now < when) {
            return;
        }
        if self.news.idle.since().is_some() {
            return self.idle_off(out);
        }
        let inquiry = self.inquiry.get_or_insert_default();
        let question = inquiry.waiting.pop_front().unwrap_or_else(|| Question::Quotas((*b"INBOX").into(), None));
        let (verb, mailbox, items) = match &question {
            Question::Created(event) => {
                (STATUS, event.mailbox.clone().unwrap_or_default(), Status::items(false, false))
            }
            Question::Quotas(mailbox, _) => {
                (inquiry.stirred, inquiry.looked) = (false, Some(self.now));
                (GETQUOTAROOT, mailbox.clone(), "")
            }
        };
        inquiry.asked = Some(Box::new(Asked { question, since: self.now, quotas: Vec::new() }));
        let tag = self.backend.next_tag();
        let mut octets = [&tag, b" ".as_slice(), verb.name.as_bytes(), b" "].concat();
        token::write_astring(&mailbox, &mut octets);
        if !items.is_empty() {
            octets.extend_from_slice(&[b" ", items.as_bytes()].concat());
        }
        octets.extend_from_slice(b"\r\n");
        self.write(&octets, None, &tag, verb, None, out);
        self.gate.start(Running::ours(tag, verb, Owner::Witness));
    }

    /// Whether this line may answer a question of ours.
    pub(super) fn is_inquired(&self, line: &[u8]) -> bool {
        let asked = self.inquiry.as_ref().is_some_and(|inquiry| inquiry.asked.is_some());
        asked
            && matches!(response::line(line), response::Line::Untagged { kind, .. }
                if self.gate.claimant(kind) == Some(Owner::Witness))
    }

    /// A response while a question of ours is under way. Whether it answers that.
    pub(super) fn inquired(&mut self, line: &[u8]) -> bool {
        let asked = self.inquiry.as_mut().and_then(|inquiry| inquiry.asked.as_mut());
        let (Some(asked), response::Line::Untagged { kind, .. }) = (asked, response::line(line)) else { return false };
        match (&mut asked.question, kind) {
            (Question::Created(event), Line::Status) => {
                let said =
                    Status::parse(line.trim_ascii_end()).filter(|(name, _)| Some(name) == event.mailbox.as_ref());
                let Some((_, status)) = said else { return false };
                event.uidvalidity = status.uidvalidity;
                (event.messages, event.uidnext) = (status.messages, status.uidnext);
                true
            }
            (Question::Quotas(..), Line::Quota) => {
                asked.quotas.extend(witness::quotas(line).into_iter().flatten());
                asked.quotas.truncate(Overview::MOST_QUOTAS);
                true
            }
            (Question::Quotas(..), Line::Quotaroot) => true,
            _ => false,
        }
    }

    /// A question of ours has ended; `None`: without an answer.
    pub(super) fn inquiry_ended(&mut self, status: Option<End>, out: &mut Effects) {
        let Some(inquiry) = &mut self.inquiry else { return };
        let Some(Asked { question, since, quotas }) = inquiry.asked.take().map(|asked| *asked) else { return };
        match question {
            Question::Created(event) => out.push(Effect::Event(Box::new(event))),
            Question::Quotas(_, refused) => {
                inquiry.lacks_quotas = matches!(status, Some(End::No | End::Bad));
                let own = refused.is_some();
                let found = Found::Quotas { quotas, refused };
                out.push(Effect::Found(Box::new(Finding { asked: since, own, found })));
            }
        }
    }

    /// The session ends: what waits for an answer is told without.
    pub(super) fn end_inquiry(&mut self, out: &mut Effects) {
        let Some(inquiry) = self.inquiry.take().map(|inquiry| *inquiry) else { return };
        let questions = inquiry.asked.map(|asked| asked.question).into_iter().chain(inquiry.waiting);
        questions.filter_map(Question::event).for_each(|event| out.push(Effect::Event(Box::new(event))));
    }
}
