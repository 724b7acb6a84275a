//! Who carries octets in a walk, who else changes the store, and what is true at the end.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use lemonade_proxy::{mailbox::diff::Messages, session::effect::Side};
use proto_tests::{
    cast::{Between, NOON},
    model::{Backend, Connection, Message, Mischief, Settings},
    proxy::{Proxy, Setup},
    random::Random,
};

use crate::{
    client::{Client, Ended, Wish},
    commands::{HARM, Intent, Meant, Offers, Returns, Saying, Sent, Speaker},
};

/// UIDs below this one belong to messages that carry their UID in the subject.
pub(crate) const FIRST_COPY: u32 = 100_000;

/// What may be held for one session beside a read and a literal: what a session promises.
const MOST_HELD: usize = 512 << 10;

/// How old a message of INBOX is at noon, in seconds: not two of them are alike, and all came on this day.
pub(crate) fn age(uid: u32) -> u32 {
    uid * 7919 % 50_000
}

/// Its INTERNALDATE, in one zone or another.
fn arrival(uid: u32) -> String {
    let zone = i64::from(uid % 25) - 12;
    let seconds = 21 * 86_400 + NOON % 86_400 - i64::from(age(uid)) + zone * 3600;
    let (day, hour, minute, second) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let sign = if zone < 0 { '-' } else { '+' };
    format!("{day}-Sep-2026 {hour:02}:{minute:02}:{second:02} {sign}{:02}00", zone.abs())
}

/// How a walk begins.
pub(crate) struct Plan {
    random: Random,
    legal: bool,
    settings: Settings,
}

/// One session under way.
pub(crate) struct World {
    random: Random,
    legal: bool,
    between: Box<dyn Between>,
    backend: Backend,
    connection: Option<Connection>,
    client: Client,
    speaker: Speaker,
    to_backend: Vec<u8>,
    from_backend: Vec<u8>,
    /// Pieces of a command that wait for a `+`.
    owed: Vec<Vec<u8>>,
    stalled: bool,
    /// How much time has passed since the backend was last heard.
    waited: Duration,
    /// Messages of INBOX that others have removed, or the client has marked as deleted.
    removed: BTreeSet<u32>,
    /// Messages that the client may have removed.
    may_go: BTreeSet<u32>,
    /// And those behind this one.
    may_go_behind: u32,
    next_uid: u32,
    trace: Vec<String>,
}

impl Plan {
    /// A session before a backend of these capabilities.
    pub(crate) fn before(mut random: Random, legal: bool, mischief: Mischief, capabilities: &str) -> Self {
        let mut settings = Settings { mischief, seed: random.bits(), ..Settings::with(capabilities) };
        if settings.mischief.snapshot {
            settings.greeting = "IMAP4rev1 Debian".to_owned();
        }
        Self { random, legal, settings }
    }

    /// What a client of the proxy is offered.
    fn offers(&self) -> Offers {
        let moves = self.settings.has("MOVE") || self.settings.has("UIDPLUS");
        Offers { searches: true, moves, wishes: true }
    }

    /// What its proxy is like.
    pub(crate) fn proxy(&self) -> Proxy {
        let mut setup = Setup::before(&self.settings);
        // Somebody follows, or nobody does.
        let told = if self.settings.seed.is_multiple_of(2) { Messages::Simple } else { Messages::None };
        Arc::make_mut(&mut setup.account).events.messages = told;
        Proxy::new(setup, 7)
    }

    pub(crate) fn random(mut random: Random, legal: bool, mischief: Mischief) -> Self {
        const SETS: [&str; 7] = [
            "IMAP4rev1",
            "IMAP4rev1 IDLE",
            "IMAP4rev1 IDLE LITERAL+ UIDPLUS",
            "IMAP4rev1 IDLE LITERAL- UNSELECT NAMESPACE",
            "IMAP4rev1 LITERAL+ UNSELECT NAMESPACE ENABLE ID UIDPLUS MOVE",
            "IMAP4rev1 IDLE UIDPLUS ESEARCH",
            "IMAP4rev1 LITERAL+ MOVE ESEARCH SEARCHRES WITHIN",
        ];
        // No server is known that must be selected again and keeps a search result: it would lose that one.
        let kept = |set: &&str| !(mischief.snapshot && set.contains("SEARCHRES"));
        let sets: Vec<&str> = SETS.into_iter().filter(kept).collect();
        let capabilities = *random.pick(&sets);
        Self::before(random, legal, mischief, capabilities)
    }
}

impl World {
    /// A session with a real proxy in between.
    pub(crate) fn through_the_proxy(plan: Plan) -> Self {
        let proxy = plan.proxy();
        Self::through(plan, Box::new(proxy))
    }

    /// A session with some proxy in between.
    pub(crate) fn through(plan: Plan, between: Box<dyn Between>) -> Self {
        let offers = plan.offers();
        Self::new(plan, between, offers)
    }

    pub(crate) fn new(mut plan: Plan, between: Box<dyn Between>, offers: Offers) -> Self {
        let backend = Backend::new(plan.settings);
        let count = plan.random.below(12) as u32;
        {
            let mut store = backend.store();
            for uid in 1..=count {
                let mailbox = store.mailbox_or_new("INBOX");
                mailbox.append(Some(uid), Vec::new(), Message::plain(uid)).date = arrival(uid);
            }
            store.mailbox_or_new("Work").uidnext = FIRST_COPY;
        }
        Self {
            speaker: Speaker::new(Random::new(plan.random.bits()), offers),
            random: plan.random,
            legal: plan.legal,
            between,
            backend,
            connection: None,
            client: Client::default(),
            to_backend: Vec::new(),
            from_backend: Vec::new(),
            owed: Vec::new(),
            stalled: false,
            waited: Duration::ZERO,
            removed: BTreeSet::new(),
            may_go: BTreeSet::new(),
            may_go_behind: u32::MAX,
            next_uid: count + 1,
            trace: Vec::new(),
        }
    }

    /// Walks, then settles, and compares with the truth; a failure shows the end of the session.
    pub(crate) fn walk(&mut self, steps: usize) -> Result<(), String> {
        let result = self.log_in().and_then(|()| (0..steps).try_for_each(|_| self.step())).and_then(|()| self.settle());
        result.map_err(|why| {
            let shown = self.trace.len().saturating_sub(60);
            format!("{why}\n  {}", self.trace[shown..].join("\n  "))
        })
    }

    fn log_in(&mut self) -> Result<(), String> {
        // With nobody in between the greeting comes from a connection that is made first.
        if self.between.wants_backend() {
            self.move_octets(true)?;
        }
        self.read()?;
        let saying = self.speaker.login();
        self.say(vec![saying])?;
        for _ in 0..50 {
            self.move_octets(true)?;
            if self.client.sent.is_empty() {
                return Ok(());
            }
        }
        Err("no login".to_owned())
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(20) {
            0..=4 => self.client_speaks()?,
            5 | 6 => self.other_client(),
            7 => self.stalled = !self.stalled && self.random.one_in(3),
            8 if self.random.one_in(20) => {
                // All of it together shorter than any timeout while something is owed.
                if self.waited > Duration::from_secs(240) {
                    self.move_octets(true)?;
                }
                let time = Duration::from_secs(self.random.within(1..300) as u64);
                self.note('T', format!("{time:?}").as_bytes());
                self.waited += time;
                self.between.pass_time(time);
            }
            _ => _ = self.move_octets(false)?,
        }
        self.check_bounds()
    }

    /// The client says something, if it may.
    fn client_speaks(&mut self) -> Result<(), String> {
        self.read()?;
        if self.client.bye {
            return Err("BYE from nowhere".to_owned());
        }
        if !self.owed.is_empty() {
            if self.client.continued {
                self.client.continued = false;
                let piece = self.owed.remove(0);
                return self.send(&piece, true);
            }
            return Ok(());
        }
        if self.client.idling {
            return self.client_ends_idle();
        }
        if self.client.sent.iter().any(|sent| sent.alone) {
            return Ok(());
        }
        let quiet = self.client.sent.is_empty();
        if quiet && (self.client.selected.is_none() || self.random.one_in(25)) {
            let saying = self.speaker.select(&self.client);
            return self.say(vec![saying]);
        }
        if quiet && self.random.one_in(6) {
            let saying = self.speaker.alone();
            return self.say(vec![saying]);
        }
        if quiet && self.random.one_in(5) && (self.speaker.offers.wishes || self.backend.store().settings.has("IDLE")) {
            let saying = self.speaker.idle();
            self.client.idling = true;
            self.client.continued = false;
            return self.say(vec![saying]);
        }
        let burst = self.burst();
        self.say(burst)
    }

    /// Nobody says anything, and time passes. Whoever has a moment at which it does something does it, and is answered.
    fn rest(&mut self, time: Duration) -> Result<(), String> {
        self.note('T', format!("{time:?}").as_bytes());
        self.stalled = false;
        let mut left = time;
        while !left.is_zero() {
            self.everything_arrives()?;
            let due = self.between.until_due().map_or(left, |due| due.min(left));
            self.between.pass_time(due);
            left -= due;
        }
        self.waited = Duration::ZERO;
        self.everything_arrives()
    }

    fn everything_arrives(&mut self) -> Result<(), String> {
        for _ in 0..40 {
            if !self.move_octets(true)? {
                return Ok(());
            }
        }
        Err("no end of what is said".to_owned())
    }

    /// A client that idles long enough has been told everything, whatever the backend does by itself.
    fn idle_on(&mut self) -> Result<(), String> {
        /// A look every 30 s; a backend that seems to tell by itself is looked after every 5 minutes.
        const ENOUGH: Duration = Duration::from_secs(700);
        let snapshot = self.backend.store().settings.mischief.snapshot;
        // What has changed before the first STATUS and left the number of messages as it was, nobody can see from it.
        let first = self.random.within(1..40) + if snapshot { 40 } else { 0 };
        self.rest(Duration::from_secs(first as u64))?;
        for _ in 0..self.random.within(1..4) {
            self.other_client();
        }
        if snapshot {
            // Of flags alone STATUS does not tell (but for the number of those that are not seen).
            self.append();
        }
        self.rest(ENOUGH)?;
        if self.client.wish == Wish::All { self.check_truth() } else { Ok(()) }
    }

    fn client_ends_idle(&mut self) -> Result<(), String> {
        if self.client.continued && self.speaker.offers.wishes && self.random.one_in(12) {
            return self.idle_on();
        }
        // DONE before the `+` is nothing a client may say.
        if !self.client.continued || !self.random.one_in(3) {
            return Ok(());
        }
        self.client.idling = false;
        self.client.continued = false;
        let mut segment = b"DONE\r\n".to_vec();
        // Behind DONE anything may be pipelined that the client's own list of messages gives a meaning.
        let burst = if self.random.one_in(2) { self.burst() } else { Vec::new() };
        for saying in burst {
            segment.extend(saying.pieces.concat());
            self.remember(saying.sent);
        }
        self.send(&segment, false)
    }

    /// Some commands behind one another.
    fn burst(&mut self) -> Vec<Saying> {
        let mut burst: Vec<Saying> = Vec::new();
        for _ in 0..self.random.within(1..5) {
            let earlier = self.client.sent.iter().chain(burst.iter().map(|saying| &saying.sent));
            let (mut unsafe_now, mut searching, mut copying) = (false, false, false);
            for sent in earlier {
                unsafe_now |= sent.may_expunge;
                searching |= matches!(sent.intent, Intent::Search { .. } | Intent::SearchAny);
                copying |= sent.line.contains("COPY ") || sent.line.contains("MOVE ");
            }
            let known = !self.client.messages.is_empty() && self.client.messages.iter().all(|one| one.uid.is_some());
            let may = if self.legal { !unsafe_now } else { self.between.backlog() == 0 };
            let by_number = known && may && !self.stalled;
            let saying = if by_number && self.random.one_in(2) {
                let copies = self.work();
                self.speaker.by_number(&self.client, &copies)
            } else if !known && !unsafe_now && !self.client.messages.is_empty() && !self.stalled {
                self.speaker.fetch_all()
            } else {
                let copies = self.work();
                self.speaker.without_numbers(&self.client, &copies)
            };
            // Answers of SEARCH belong to nobody by name, and copies are counted.
            let twice = (searching && matches!(saying.sent.intent, Intent::Search { .. }))
                // Behind others, nobody can say what its numbers mean.
                || (!self.legal && saying.sent.names_numbers && saying.sent.line.contains("SAVE"))
                || (copying && matches!(saying.sent.intent, Intent::Copy { .. } | Intent::Move { .. }));
            if !twice {
                self.client.saves(&saying.sent);
                burst.push(saying);
            }
        }
        burst
    }

    /// A command is about to be sent.
    fn remember(&mut self, mut sent: Sent) {
        match &mut sent.intent {
            Intent::Move { uids, .. } => {
                // What `$` has meant may have gone already.
                let alive = self.alive();
                let (there, gone) = uids.uids.iter().partition(|uid| alive.contains(uid));
                uids.uids = there;
                uids.others.extend::<BTreeSet<u32>>(gone);
                self.let_go(&uids.clone());
            }
            Intent::Store { uids, .. } if sent.line.contains("\\Deleted") => {
                self.removed.extend(uids.uids.iter().chain(&uids.others));
                self.let_go(&uids.clone());
            }
            _ => {}
        }
        self.client.sent.push(sent);
    }

    fn say(&mut self, burst: Vec<Saying>) -> Result<(), String> {
        let mut segment = Vec::new();
        for saying in burst {
            let mut pieces = saying.pieces.into_iter();
            segment.extend(pieces.next().unwrap_or_default());
            self.owed = pieces.collect();
            self.client.continued = false;
            self.remember(saying.sent);
        }
        let last = self.owed.is_empty();
        self.send(&segment, last)
    }

    /// The client's octets reach the proxy in one piece or more; nobody else moves meanwhile.
    fn send(&mut self, octets: &[u8], complete: bool) -> Result<(), String> {
        self.note('C', octets);
        let mut rest = octets;
        while !rest.is_empty() {
            // What is told between two pieces, a client that pipelines numbers would have to read between them too.
            let cut = self.legal && self.random.one_in(3);
            let len = if cut { self.random.within(1..rest.len() + 1) } else { rest.len() };
            let (piece, behind) = rest.split_at(len);
            if behind.is_empty() && (complete || self.owed.is_empty()) {
                self.client.sent.iter_mut().for_each(|sent| sent.complete = true);
            }
            self.between.hear(Side::Client, piece);
            rest = behind;
        }
        self.unbind();
        Ok(())
    }

    /// A command behind one that is held has not been read: nobody can say what its numbers mean when it will be.
    ///
    /// RFC 3501 5.5 forbids a client to send such a thing, and a server alone would not know better.
    fn unbind(&mut self) {
        let backlog = self.between.backlog();
        let mut behind = 0;
        let unread = self.client.sent.iter().rev().take_while(|sent| {
            let unread = behind < backlog;
            behind += sent.len;
            unread
        });
        let bound = self.client.sent.len() - unread.count();
        for sent in self.client.sent.iter_mut().skip(bound + 1) {
            if sent.alone || self.legal || !sent.names_numbers {
                continue;
            }
            let searches = matches!(sent.intent, Intent::Search { .. } | Intent::SearchAny);
            if matches!(sent.intent, Intent::Move { .. } | Intent::Store { .. }) {
                self.may_go_behind = 0;
            }
            sent.intent = if searches { Intent::SearchAny } else { Intent::Nothing };
            sent.uses_numbers = false;
        }
    }

    /// Octets go a step further, here or there; with `all` they go as far as they can.
    /// The answer is whether anything moved.
    fn move_octets(&mut self, all: bool) -> Result<bool, String> {
        self.to_backend.extend(self.between.take_sent(Side::Backend));
        let mut moved = false;
        if self.between.wants_backend() {
            let mut connection = self.backend.connect();
            self.from_backend = connection.greeting();
            self.to_backend.clear();
            self.connection = Some(connection);
            self.between.connected();
        }
        if let Some(connection) = &mut self.connection {
            let whole = all || self.random.one_in(2);
            let len = if whole { self.to_backend.len() } else { self.random.below(self.to_backend.len() + 1) };
            let heard: Vec<u8> = self.to_backend.drain(..len).collect();
            let mut answer = connection.feed(&heard);
            answer.extend(connection.poll());
            self.note('>', &heard);
            moved |= !heard.is_empty() || !answer.is_empty();
            self.from_backend.extend(answer);
        }
        let len = match self.random.below(4) {
            _ if all => self.from_backend.len(),
            1 | 2 => self.from_backend.len(),
            0 => self.from_backend.len().min(7),
            _ => self.random.below(self.from_backend.len() + 1),
        };
        if len > 0 {
            let piece: Vec<u8> = self.from_backend.drain(..len).collect();
            self.note('<', &piece);
            self.waited = Duration::ZERO;
            self.between.hear(Side::Backend, &piece);
            moved = true;
        }
        if all || self.random.one_in(2) {
            self.read()?;
        }
        Ok(moved)
    }

    /// The client reads, if it does at all.
    fn read(&mut self) -> Result<(), String> {
        if self.stalled {
            return Ok(());
        }
        // What waited for room comes as soon as there is some.
        loop {
            let said = self.between.take_sent(Side::Client);
            if said.is_empty() {
                break;
            }
            self.note('S', &said);
            for ended in self.client.hear(&said)? {
                self.check(&ended)?;
            }
        }
        if let Some(end) = self.between.end(Side::Client) {
            return Err(format!("the session ended, {end:?}"));
        }
        Ok(())
    }

    /// What should have come of a command.
    fn check(&mut self, ended: &Ended) -> Result<(), String> {
        let ok = ended.status == "OK";
        if matches!(ended.status.as_str(), "NO" | "BAD") && !self.owed.is_empty() {
            // The literal was refused: its octets are not sent.
            self.owed.clear();
        }
        let wrong = |what: String| Err(format!("{} {}: {what}", ended.sent.line, ended.status));
        match &ended.sent.intent {
            Intent::Append { mailbox, content } => {
                let mut store = self.backend.store();
                let messages = store.mailbox(mailbox).map(|mailbox| mailbox.messages.as_slice()).unwrap_or_default();
                let count = messages.iter().filter(|message| message.octets == *content).count();
                if count != usize::from(ok) {
                    return wrong(format!("{count} messages with its content"));
                }
            }
            Intent::Copy { uids, before } => {
                if let Err(copy) = self.new_copies(uids, before) {
                    return wrong(format!("a copy of {}", copy.escape_ascii()));
                }
            }
            Intent::Move { uids, before } => {
                let copies = match self.new_copies(uids, before) {
                    Ok(copies) => copies,
                    Err(copy) => return wrong(format!("a copy of {}", copy.escape_ascii())),
                };
                self.check_gone()?;
                let (alive, arrived) = (self.alive(), |uid: &&u32| copies.contains(&Message::plain(**uid)));
                if let Some(uid) = uids.uids.iter().filter(|_| ok).filter(arrived).find(|uid| alive.contains(uid)) {
                    return wrong(format!("UID {uid} is in both mailboxes"));
                }
                let lost =
                    |uid: &&u32| !alive.contains(uid) && !self.removed.contains(uid) && **uid <= self.may_go_behind;
                if let Some(uid) = uids.uids.iter().filter(lost).find(|uid| !arrived(uid)) {
                    return wrong(format!("UID {uid} is in neither mailbox"));
                }
                if let Some(uid) = uids.uids.iter().find(|uid| ok && alive.contains(uid)) {
                    return wrong(format!("UID {uid} was not moved"));
                }
            }
            Intent::Fetch { uids, seen } if ok => {
                let alive = self.alive();
                if let Some(uid) = uids.iter().find(|uid| alive.contains(uid) && !seen.contains(uid)) {
                    return wrong(format!("nothing came for UID {uid}"));
                }
            }
            Intent::Search { wanted, known, found, returns, results, .. } if ok => {
                let alive = self.alive();
                let certain: BTreeSet<u32> =
                    known.iter().copied().filter(|uid| wanted.contains(uid) && alive.contains(uid)).collect();
                let tells_all = returns.is_none_or(Returns::tells_all);
                if let Some(uid) = certain.iter().find(|uid| tells_all && !found.contains(uid)) {
                    return wrong(format!("UID {uid} was not found"));
                }
                let silent = returns.is_none_or(|returns| returns == Returns { save: true, ..Returns::default() });
                match results {
                    None if silent => {}
                    None => return wrong("no ESEARCH".to_owned()),
                    Some(results) => {
                        results.check(returns.unwrap_or_default(), &certain, wanted).or_else(wrong)?;
                    }
                }
            }
            Intent::Store { uids, keyword } => {
                let with: BTreeSet<u32> = self.with_keyword(keyword);
                if let Some(uid) = with.iter().find(|uid| !uids.may_be(**uid)) {
                    return wrong(format!("it changed UID {uid}, not one of {uids:?}"));
                }
                let alive = self.alive();
                if let Some(uid) = uids.uids.iter().find(|uid| ok && alive.contains(uid) && !with.contains(uid)) {
                    return wrong(format!("it did not change UID {uid}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What is new in the other mailbox; or a copy that is not of these.
    fn new_copies(&self, uids: &Meant, before: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Vec<u8>> {
        let mut copies = self.work();
        for known in before {
            if let Some(at) = copies.iter().position(|copy| copy == known) {
                copies.swap_remove(at);
            }
        }
        let meant: BTreeSet<Vec<u8>> = (1..self.next_uid).filter(|&uid| uids.may_be(uid)).map(Message::plain).collect();
        match copies.iter().find(|copy| !meant.contains(*copy)) {
            Some(copy) => Err(copy.clone()),
            None => Ok(copies),
        }
    }

    /// These may be gone from now on.
    fn let_go(&mut self, uids: &Meant) {
        self.may_go.extend(uids.uids.iter().chain(&uids.others));
        self.may_go_behind = self.may_go_behind.min(uids.beyond.unwrap_or(u32::MAX));
    }

    /// No message has gone that nobody has removed.
    fn check_gone(&self) -> Result<(), String> {
        let there: BTreeSet<u32> = self.backend.store().mailbox_or_new("INBOX").uids().into_iter().collect();
        let gone = (1..self.next_uid).find(|uid| {
            !there.contains(uid)
                && !self.may_go.contains(uid)
                && !self.removed.contains(uid)
                && *uid <= self.may_go_behind
        });
        gone.map_or(Ok(()), |uid| Err(format!("UID {uid} is gone, and nobody has removed it")))
    }

    fn selected_messages(&self) -> Vec<Message> {
        let Some(name) = &self.client.selected else { return Vec::new() };
        self.backend.store().mailbox(name).map(|mailbox| mailbox.messages.clone()).unwrap_or_default()
    }

    fn alive(&self) -> BTreeSet<u32> {
        self.selected_messages().iter().map(|message| message.uid).collect()
    }

    fn with_keyword(&self, keyword: &str) -> BTreeSet<u32> {
        self.selected_messages().iter().filter(|message| message.has(keyword)).map(|message| message.uid).collect()
    }

    fn work(&self) -> Vec<Vec<u8>> {
        let mut store = self.backend.store();
        store.mailbox_or_new("Work").messages.iter().map(|message| message.octets.clone()).collect()
    }

    /// Somebody else adds, removes, marks.
    fn other_client(&mut self) {
        let mut store = self.backend.store();
        let mailbox = store.mailbox_or_new("INBOX");
        let uids = mailbox.uids();
        match self.random.below(4) {
            0 if uids.len() < 30 => {
                drop(store);
                self.append();
            }
            1 if !uids.is_empty() => {
                let uid = *self.random.pick(&uids);
                mailbox.expunge(&[uid]);
                drop(store);
                self.removed.insert(uid);
                self.note('O', format!("expunge {uid}").as_bytes());
            }
            _ if !uids.is_empty() => {
                let uid = *self.random.pick(&uids);
                let flag = *self.random.pick(&["\\Seen", "\\Flagged", "\\Answered"]);
                if let Some(message) = mailbox.message_mut(uid) {
                    if message.has(flag) { message.clear(flag) } else { message.set(flag) }
                }
                drop(store);
                self.note('O', format!("flags {uid} {flag}").as_bytes());
            }
            _ => {}
        }
    }

    fn append(&mut self) {
        let uid = self.next_uid;
        let mut store = self.backend.store();
        let mailbox = store.mailbox_or_new("INBOX");
        mailbox.append(Some(uid), Vec::new(), Message::plain(uid)).date = arrival(uid);
        drop(store);
        self.next_uid += 1;
        self.note('O', b"append");
    }

    /// Everything that was begun ends; then NOOP, and what the client believes is true.
    fn settle(&mut self) -> Result<(), String> {
        self.stalled = false;
        for _ in 0..400 {
            self.move_octets(true)?;
            let waits = !self.owed.is_empty() || self.client.idling;
            if !waits && self.client.sent.is_empty() {
                break;
            }
            if !self.owed.is_empty() && self.client.continued {
                self.client.continued = false;
                let piece = self.owed.remove(0);
                self.send(&piece, true)?;
            } else if self.client.idling && self.client.continued {
                self.client.idling = false;
                self.send(b"DONE\r\n", false)?;
            }
        }
        if let Some(sent) = self.client.sent.first() {
            return Err(format!("{} never ended", sent.line));
        }
        if self.backend.store().settings.mischief.snapshot {
            return self.settle_in_idle();
        }
        // What has just happened, NOOP has to tell.
        for _ in 0..self.random.below(4) {
            self.other_client();
        }
        for _ in 0..2 {
            let noop = self.speaker.noop();
            self.say(vec![noop])?;
            for _ in 0..40 {
                self.move_octets(true)?;
            }
        }
        self.check_truth()?;
        self.check_gone()?;
        self.check_smuggling()
    }

    /// Of a backend to which NOOP means nothing.
    fn settle_in_idle(&mut self) -> Result<(), String> {
        let saying = self.speaker.idle();
        self.client.idling = true;
        self.client.continued = false;
        self.say(vec![saying])?;
        self.everything_arrives()?;
        self.idle_on()
    }

    /// List and flags are what the store says.
    fn check_truth(&self) -> Result<(), String> {
        if self.client.selected.is_none() {
            return Ok(());
        }
        let (truth, believed) = (self.selected_messages(), &self.client.messages);
        if truth.len() != believed.len() {
            return Err(format!("{} messages, and the client believes in {}", truth.len(), believed.len()));
        }
        for (message, believed) in truth.iter().zip(believed) {
            if believed.uid.is_some_and(|uid| uid != message.uid) {
                return Err(format!("UID {} is believed to be {:?}", message.uid, believed.uid));
            }
            let flags: BTreeSet<String> = message.flags.iter().map(|flag| flag.to_lowercase()).collect();
            if let Some(known) = &believed.flags {
                let known: BTreeSet<String> = known.iter().filter(|flag| *flag != "\\recent").cloned().collect();
                if known != flags {
                    return Err(format!("UID {}: flags {flags:?}, and the client believes {known:?}", message.uid));
                }
            }
        }
        self.check_seen(&truth)
    }

    /// Those who follow know the same.
    fn check_seen(&self, truth: &[Message]) -> Result<(), String> {
        let selected = self.client.selected.as_deref().unwrap_or_default().as_bytes();
        let Some((_, seen)) = self.between.seen().filter(|(mailbox, _)| *mailbox == selected) else { return Ok(()) };
        let uids: Vec<u32> = truth.iter().map(|message| message.uid).collect();
        if !seen.messages().iter().eq(uids.iter().copied()) {
            return Err(format!("UIDs {uids:?}, and those who follow know of {}", seen.messages()));
        }
        for message in truth {
            let flags: BTreeSet<String> = message.flags.iter().map(|flag| flag.to_lowercase()).collect();
            let known: BTreeSet<String> = seen.flags_of(message.uid).map(str::to_lowercase).collect();
            if known != flags {
                return Err(format!("UID {}: flags {flags:?}, and those who follow know {known:?}", message.uid));
            }
        }
        Ok(())
    }

    /// No octet of a literal is ever executed.
    fn check_smuggling(&self) -> Result<(), String> {
        let harm = HARM.trim_end().as_bytes();
        if let Some(line) = self.backend.executed().iter().find(|line| line.starts_with(harm)) {
            return Err(format!("executed: {}", line.escape_ascii()));
        }
        if self.backend.store().mailboxes.contains_key("smuggled") {
            return Err("smuggled exists".to_owned());
        }
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), String> {
        let held = self.between.held();
        if held > MOST_HELD { Err(format!("{held} octets are held")) } else { Ok(()) }
    }

    fn note(&mut self, who: char, octets: &[u8]) {
        if octets.is_empty() {
            return;
        }
        let shown: String = octets.iter().take(400).flat_map(|octet| octet.escape_ascii()).map(char::from).collect();
        self.trace.push(format!("{who}: {shown}"));
        if self.trace.len() > 400 {
            self.trace.drain(..200);
        }
    }
}
