//! The sessions of a walk: whose turn it is, what they tell each other, and what is true at the end.

use std::{sync::Arc, time::Duration};

use lemonade_proxy::mailbox::diff::Messages;
use proto_tests::{
    cast::Between,
    model::{Mischief, Settings},
    proxy::{Proxy, Setup},
    random::Random,
};

use crate::{
    commands::{Offers, Speaker},
    mail::{LISTS, Mail},
    session::Session,
};

/// How a walk begins.
pub(crate) struct Plan {
    random: Random,
    legal: bool,
    settings: Settings,
    /// Sessions of the account, of which the first one speaks of everything.
    sessions: usize,
}

/// A walk under way.
pub(crate) struct World {
    mail: Mail,
    sessions: Vec<Session>,
}

impl Plan {
    /// A session before a backend of these capabilities.
    pub(crate) fn before(mut random: Random, legal: bool, mischief: Mischief, capabilities: &str) -> Self {
        let mut settings = Settings { mischief, seed: random.bits(), ..Settings::with(capabilities) };
        if settings.mischief.snapshot {
            settings.greeting = "IMAP4rev1 Debian".to_owned();
        }
        Self { random, legal, settings, sessions: 1 }
    }

    /// So many of one account.
    pub(crate) fn with_sessions(self, sessions: usize) -> Self {
        Self { sessions, ..self }
    }

    /// What a client of the proxy is offered.
    fn offers(&self, at: usize) -> Offers {
        let moves = self.settings.has("MOVE") || self.settings.has("UIDPLUS");
        // What comes into the other mailbox is counted: one session alone copies.
        let first = at == 0;
        Offers {
            searches: true,
            moves: moves && first,
            copies: first,
            roams: first,
            wishes: true,
            notify: true,
            syncs: self.settings.has("QRESYNC") && self.sessions == 1,
        }
    }

    /// What its proxy is like.
    pub(crate) fn proxy(&self, at: usize) -> Proxy {
        let mut setup = Setup::before(&self.settings);
        // Somebody follows, or nobody does. Of several sessions one may have given UIDs up, and what it saw before stays known.
        let followed = self.sessions == 1 && self.settings.seed.wrapping_add(at as u64).is_multiple_of(2);
        let told = if followed { Messages::Simple } else { Messages::None };
        Arc::make_mut(&mut setup.account).events.messages = told;
        Proxy::new(setup, 7)
    }

    pub(crate) fn random(mut random: Random, legal: bool, mischief: Mischief) -> Self {
        const SETS: [&str; 9] = [
            "IMAP4rev1",
            "IMAP4rev1 IDLE",
            "IMAP4rev1 IDLE LITERAL+ UIDPLUS",
            "IMAP4rev1 IDLE LITERAL- UNSELECT NAMESPACE",
            "IMAP4rev1 LITERAL+ UNSELECT NAMESPACE ENABLE ID UIDPLUS MOVE",
            "IMAP4rev1 IDLE UIDPLUS ESEARCH",
            "IMAP4rev1 LITERAL+ MOVE ESEARCH SEARCHRES WITHIN",
            "IMAP4rev1 IDLE ENABLE UNSELECT CONDSTORE QRESYNC",
            "IMAP4rev1 ENABLE UIDPLUS CONDSTORE QRESYNC",
        ];
        // No server is known that must be selected again and keeps a search result, or mod-sequences: it would lose them.
        let kept = |set: &&str| !(mischief.snapshot && ["SEARCHRES", "QRESYNC"].iter().any(|word| set.contains(word)));
        let sets: Vec<&str> = SETS.into_iter().filter(kept).collect();
        let capabilities = *random.pick(&sets);
        Self::before(random, legal, mischief, capabilities)
    }
}

impl World {
    /// Sessions with a real proxy in between.
    pub(crate) fn through_the_proxy(plan: Plan) -> Self {
        Self::through(plan, |proxy, _| Box::new(proxy))
    }

    /// Sessions with some proxy in between: made of a real one, for each of them.
    pub(crate) fn through(plan: Plan, between: impl Fn(Proxy, usize) -> Box<dyn Between>) -> Self {
        let sessions = (0..plan.sessions).map(|at| (between(plan.proxy(at), at), plan.offers(at))).collect();
        Self::new(plan, sessions)
    }

    /// Sessions with these in between.
    pub(crate) fn new(mut plan: Plan, between: Vec<(Box<dyn Between>, Offers)>) -> Self {
        let sessions = between.into_iter().enumerate().map(|(at, (between, offers))| {
            let speaker = Speaker::new(Random::new(plan.random.bits()), offers, at);
            Session::new(at, between, speaker)
        });
        let sessions = sessions.collect();
        Self { mail: Mail::new(plan.random, plan.legal, plan.settings), sessions }
    }

    /// Walks, then settles, and compares with the truth; a failure shows the end of the session.
    pub(crate) fn walk(&mut self, steps: usize) -> Result<(), String> {
        let result = self.log_in().and_then(|()| (0..steps).try_for_each(|_| self.step())).and_then(|()| self.settle());
        result.map_err(|why| {
            let trace = &self.mail.trace;
            format!("{why}\n  {}", trace[trace.len().saturating_sub(100)..].join("\n  "))
        })
    }

    fn log_in(&mut self) -> Result<(), String> {
        self.sessions.iter_mut().try_for_each(|session| session.log_in(&mut self.mail))
    }

    fn step(&mut self) -> Result<(), String> {
        let at = self.mail.random.below(self.sessions.len());
        let (mail, session) = (&mut self.mail, &mut self.sessions[at]);
        match mail.random.below(20) {
            0..=4 => self.client_speaks(at)?,
            5 | 6 => mail.other_client(),
            7 => session.stalled = !session.stalled && mail.random.one_in(3),
            8 if mail.random.one_in(20) => self.time_passes()?,
            _ => _ = session.move_octets(mail, false)?,
        }
        self.publish();
        self.sessions.iter().try_for_each(Session::check_bounds)
    }

    fn time_passes(&mut self) -> Result<(), String> {
        let time = Duration::from_secs(self.mail.random.within(1..300) as u64);
        for session in &mut self.sessions {
            // All of it together shorter than any timeout while something is owed.
            if session.waited > Duration::from_secs(240) {
                session.move_octets(&mut self.mail, true)?;
            }
            session.waited += time;
        }
        self.pass_time(time);
        Ok(())
    }

    fn pass_time(&mut self, time: Duration) {
        self.mail.note(0, 'T', format!("{time:?}").as_bytes());
        self.sessions.iter_mut().for_each(|session| session.between.pass_time(time));
    }

    /// What one session has found out, the others are told.
    fn publish(&mut self) {
        for at in 0..self.sessions.len() {
            for notice in self.sessions[at].between.take_published().unwrap_or_default() {
                let others = self.sessions.iter_mut().enumerate().filter(|(other, _)| *other != at);
                others.for_each(|(_, session)| session.notice(&notice));
            }
        }
    }

    /// The client says something, if it may; or nobody does, for a long time.
    fn client_speaks(&mut self, at: usize) -> Result<(), String> {
        let (mail, session) = (&mut self.mail, &mut self.sessions[at]);
        session.read(mail)?;
        let listens = session.is_listening() && session.speaker.offers.wishes;
        match listens && mail.random.one_in(12) {
            true => self.listen(),
            false => session.speak(mail),
        }
    }

    /// Nobody says anything, and time passes. Whoever has a moment at which it does something does it, and is answered.
    fn rest(&mut self, time: Duration) -> Result<(), String> {
        let mut left = time;
        while !left.is_zero() {
            self.everything_arrives()?;
            let due = self.sessions.iter().filter_map(|session| session.between.until_due()).min();
            let due = due.map_or(left, |due| due.min(left));
            self.pass_time(due);
            left -= due;
        }
        self.sessions.iter_mut().for_each(|session| session.waited = Duration::ZERO);
        self.everything_arrives()
    }

    fn everything_arrives(&mut self) -> Result<(), String> {
        for _ in 0..60 {
            let mut moved = false;
            for session in &mut self.sessions {
                session.stalled = false;
                moved |= session.move_octets(&mut self.mail, true)?;
            }
            self.publish();
            if !moved && self.sessions.iter().all(|session| session.notices.is_empty()) {
                return Ok(());
            }
        }
        Err("no end of what is said".to_owned())
    }

    /// How long a client has to wait at most until it has heard of everything, whatever the backend does by itself.
    fn patience(&self) -> Duration {
        /// The longest pace, and a second.
        const PACE: Duration = Duration::from_secs(31);
        /// A backend that seems to tell by itself is looked after every 5 minutes.
        const FOUND_OUT: Duration = Duration::from_secs(700);
        let store = self.mail.backend.store();
        let manners = &store.settings.mischief;
        let keeps_silent = store.settings.has("IDLE") && (manners.lazy_idle || manners.deaf_idle);
        if keeps_silent || manners.snapshot { FOUND_OUT } else { PACE }
    }

    /// Clients that listen long enough have been told everything.
    fn listen(&mut self) -> Result<(), String> {
        let snapshot = self.mail.backend.store().settings.mischief.snapshot;
        for at in 0..self.sessions.len() {
            let (mail, session) = (&mut self.mail, &mut self.sessions[at]);
            if !session.is_idling() {
                session.come_to_rest(mail)?;
                match mail.random.one_in(2) {
                    true => session.idle(mail)?,
                    false => session.finish_noop(mail)?,
                }
            }
        }
        // What has changed before the first STATUS and left the number of messages as it was, nobody can see from it.
        let first = self.mail.random.within(1..40) + if snapshot { 40 } else { 0 };
        self.rest(Duration::from_secs(first as u64))?;
        for _ in 0..self.mail.random.within(1..5) {
            self.mail.other_client();
        }
        if self.sessions.iter().any(|session| session.client.told.is_some_and(|told| told.lists.is_some())) {
            self.mail.append(LISTS);
        }
        if snapshot {
            // Of flags alone STATUS does not tell (but for the number of those that are not seen).
            self.mail.append("INBOX");
        }
        self.rest(self.patience())?;
        if snapshot {
            self.rest_until_looked()?;
        }
        self.check_heard()
    }

    fn check_heard(&self) -> Result<(), String> {
        self.sessions.iter().try_for_each(|session| session.check_heard(&self.mail))
    }

    /// One has come, another has gone: of that STATUS does not tell where nobody believes UIDNEXT, and a look at all messages is
    /// made again when twenty times as long has passed as the last one took. The octets of that one may have been on their way
    /// for long.
    fn rest_until_looked(&mut self) -> Result<(), String> {
        const PIECE: Duration = Duration::from_secs(60);
        /// Twenty times SELECT and what lists all messages, each of which waits for at most 240 s, and 300 s more.
        const LONGEST: u32 = 20 * 2 * (240 + 300);
        let mut pieces = LONGEST / PIECE.as_secs() as u32;
        while pieces > 0 && self.check_heard().is_err() {
            self.rest(PIECE)?;
            pieces -= 1;
        }
        Ok(())
    }

    /// Everything that was begun ends; then NOOP, and what the clients believe is true.
    fn settle(&mut self) -> Result<(), String> {
        for session in &mut self.sessions {
            session.come_to_rest(&mut self.mail)?;
            session.hear_all(&mut self.mail)?;
        }
        self.publish();
        if self.mail.backend.store().settings.mischief.snapshot {
            return self.settle_in_idle();
        }
        // What has just happened, NOOP has to tell.
        for _ in 0..self.mail.random.below(4) {
            self.mail.other_client();
        }
        for session in &mut self.sessions {
            for _ in 0..2 {
                session.finish_noop(&mut self.mail)?;
            }
            session.check_truth(&self.mail)?;
        }
        self.mail.check_gone()?;
        self.mail.check_smuggling()?;
        self.listen()
    }

    /// Of a backend to which NOOP means nothing.
    fn settle_in_idle(&mut self) -> Result<(), String> {
        self.sessions.iter_mut().try_for_each(|session| session.idle(&mut self.mail))?;
        self.everything_arrives()?;
        self.listen()
    }
}
