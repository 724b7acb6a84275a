//! Who carries octets in a walk, who else changes the store, and what is true at the end.

use std::{collections::BTreeSet, time::Duration};

use lemonade_proxy::session::effect::Side;
use proto_tests::{
    cast::Between,
    model::{Backend, Connection, Message, Mischief, Settings},
    proxy::{Proxy, Setup},
    random::Random,
};

use crate::{
    client::{Client, Ended},
    commands::{HARM, Intent, Saying, Speaker},
};

/// UIDs below this one belong to messages that carry their UID in the subject.
pub(crate) const FIRST_COPY: u32 = 100_000;

/// What may be held for one session beside a read and a literal: what a session promises.
const MOST_HELD: usize = 512 << 10;

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
    next_uid: u32,
    trace: Vec<String>,
}

impl Plan {
    /// A session before a backend of these capabilities.
    pub(crate) fn before(mut random: Random, legal: bool, mischief: Mischief, capabilities: &str) -> Self {
        let settings = Settings { mischief, seed: random.bits(), ..Settings::with(capabilities) };
        Self { random, legal, settings }
    }

    /// What its proxy is like.
    pub(crate) fn proxy(&self) -> Proxy {
        Proxy::new(Setup::before(&self.settings), 7)
    }

    pub(crate) fn random(mut random: Random, legal: bool, mischief: Mischief) -> Self {
        const SETS: [&str; 5] = [
            "IMAP4rev1",
            "IMAP4rev1 IDLE",
            "IMAP4rev1 IDLE LITERAL+ UIDPLUS",
            "IMAP4rev1 IDLE LITERAL- UNSELECT NAMESPACE",
            "IMAP4rev1 LITERAL+ UNSELECT NAMESPACE ENABLE ID UIDPLUS MOVE",
        ];
        let capabilities = *random.pick(&SETS);
        Self::before(random, legal, mischief, capabilities)
    }
}

impl World {
    /// A session with a real proxy in between.
    pub(crate) fn through_the_proxy(plan: Plan) -> Self {
        let proxy = plan.proxy();
        Self::new(plan, Box::new(proxy))
    }

    pub(crate) fn new(mut plan: Plan, between: Box<dyn Between>) -> Self {
        let backend = Backend::new(plan.settings);
        let count = plan.random.below(12) as u32;
        {
            let mut store = backend.store();
            for uid in 1..=count {
                store.mailbox_or_new("INBOX").append(Some(uid), Vec::new(), Message::plain(uid));
            }
            store.mailbox_or_new("Work").uidnext = FIRST_COPY;
        }
        Self {
            speaker: Speaker::new(Random::new(plan.random.bits())),
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
            _ => self.move_octets(false)?,
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
        if quiet && self.random.one_in(5) && self.backend.store().settings.has("IDLE") {
            let saying = self.speaker.idle();
            self.client.idling = true;
            self.client.continued = false;
            return self.say(vec![saying]);
        }
        let burst = self.burst();
        self.say(burst)
    }

    fn client_ends_idle(&mut self) -> Result<(), String> {
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
            self.client.sent.push(saying.sent);
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
                copying |= sent.line.starts_with("COPY ");
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
                self.speaker.without_numbers(&self.client)
            };
            // Answers of SEARCH belong to nobody by name, and copies are counted.
            let twice = (searching && matches!(saying.sent.intent, Intent::Search { .. }))
                || (copying && matches!(saying.sent.intent, Intent::Copy { .. }));
            if !twice {
                burst.push(saying);
            }
        }
        burst
    }

    fn say(&mut self, burst: Vec<Saying>) -> Result<(), String> {
        let mut segment = Vec::new();
        for saying in burst {
            let mut pieces = saying.pieces.into_iter();
            segment.extend(pieces.next().unwrap_or_default());
            self.owed = pieces.collect();
            self.client.continued = false;
            self.client.sent.push(saying.sent);
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
            if sent.alone || self.legal || sent.line.starts_with("UID ") {
                continue;
            }
            let searches = matches!(sent.intent, Intent::Search { .. } | Intent::SearchAny);
            sent.intent = if searches { Intent::SearchAny } else { Intent::Nothing };
            sent.uses_numbers = false;
        }
    }

    /// Octets go a step further, here or there; with `all` they go as far as they can.
    fn move_octets(&mut self, all: bool) -> Result<(), String> {
        self.to_backend.extend(self.between.take_sent(Side::Backend));
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
        }
        if all || self.random.one_in(2) { self.read() } else { Ok(()) }
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
                let mut copies = self.work();
                for known in before {
                    if let Some(at) = copies.iter().position(|copy| copy == known) {
                        copies.swap_remove(at);
                    }
                }
                let meant: BTreeSet<Vec<u8>> =
                    (1..self.next_uid).filter(|&uid| uids.may_be(uid)).map(Message::plain).collect();
                if let Some(copy) = copies.iter().find(|copy| !meant.contains(*copy)) {
                    return wrong(format!("a copy of {}", copy.escape_ascii()));
                }
            }
            Intent::Fetch { uids, seen } if ok => {
                let alive = self.alive();
                if let Some(uid) = uids.iter().find(|uid| alive.contains(uid) && !seen.contains(uid)) {
                    return wrong(format!("nothing came for UID {uid}"));
                }
            }
            Intent::Search { wanted, known, found, .. } if ok => {
                let missing =
                    wanted.iter().find(|uid| self.alive().contains(uid) && known.contains(uid) && !found.contains(uid));
                if let Some(uid) = missing {
                    return wrong(format!("UID {uid} was not found"));
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
                mailbox.append(Some(self.next_uid), Vec::new(), Message::plain(self.next_uid));
                self.next_uid += 1;
                drop(store);
                self.note('O', b"append");
            }
            1 if !uids.is_empty() => {
                let uid = *self.random.pick(&uids);
                mailbox.expunge(&[uid]);
                drop(store);
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
        self.check_smuggling()
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
