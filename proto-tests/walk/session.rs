//! One session of a walk: what its client says and hears, and who carries octets for it.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use lemonade_proxy::session::effect::{Notice, Side};
use proto_tests::{
    cast::Between,
    model::{Connection, Message},
};

use crate::{
    client::{Believed, Client, Ended, Wish},
    commands::{Intent, Returns, Saying, Sent, Speaker},
    mail::{LISTS, Mail},
};

/// What may be held for one session beside a read and a literal: what a session promises.
const MOST_HELD: usize = 512 << 10;

/// One session under way.
pub(crate) struct Session {
    /// Which one it is.
    at: usize,
    pub(crate) between: Box<dyn Between>,
    connection: Option<Connection>,
    pub(crate) client: Client,
    pub(crate) speaker: Speaker,
    to_backend: Vec<u8>,
    from_backend: Vec<u8>,
    /// Pieces of a command that wait for a `+`.
    owed: Vec<Vec<u8>>,
    /// What other sessions of the account have to say to it.
    pub(crate) notices: VecDeque<Notice>,
    pub(crate) stalled: bool,
    /// How much time has passed since the backend was last heard.
    pub(crate) waited: Duration,
}

impl Session {
    pub(crate) fn new(at: usize, between: Box<dyn Between>, speaker: Speaker) -> Self {
        Self {
            at,
            between,
            connection: None,
            client: Client::default(),
            speaker,
            to_backend: Vec::new(),
            from_backend: Vec::new(),
            owed: Vec::new(),
            notices: VecDeque::new(),
            stalled: false,
            waited: Duration::ZERO,
        }
    }

    pub(crate) fn log_in(&mut self, mail: &mut Mail) -> Result<(), String> {
        // With nobody in between the greeting comes from a connection that is made first.
        if self.between.wants_backend() {
            self.move_octets(mail, true)?;
        }
        self.read(mail)?;
        let saying = self.speaker.login();
        self.say(mail, vec![saying])?;
        for _ in 0..50 {
            self.move_octets(mail, true)?;
            if self.client.sent.is_empty() {
                return self.begin(mail);
            }
        }
        Err("no login".to_owned())
    }

    /// What a client says first of all, or later.
    fn begin(&mut self, mail: &mut Mail) -> Result<(), String> {
        if self.speaker.offers.syncs && mail.random.one_in(2) {
            let enable = self.speaker.enable_qresync();
            self.finish(mail, enable)?;
        }
        if self.speaker.offers.notify && mail.random.one_in(3) {
            let notify = self.speaker.notify();
            self.finish(mail, notify)?;
        }
        Ok(())
    }

    /// Another session of the account tells something. What waits already need not wait twice.
    pub(crate) fn notice(&mut self, notice: &Notice) {
        if !self.notices.contains(notice) {
            self.notices.push_back(notice.clone());
        }
    }

    /// Says this, and hears all that comes of it.
    pub(crate) fn finish(&mut self, mail: &mut Mail, saying: Saying) -> Result<(), String> {
        self.say(mail, vec![saying])?;
        for _ in 0..40 {
            self.move_octets(mail, true)?;
        }
        Ok(())
    }

    /// Begins to idle.
    pub(crate) fn idle(&mut self, mail: &mut Mail) -> Result<(), String> {
        let saying = self.speaker.idle();
        self.client.idling = true;
        self.client.continued = false;
        self.say(mail, vec![saying])
    }

    /// Everything that was begun ends.
    pub(crate) fn come_to_rest(&mut self, mail: &mut Mail) -> Result<(), String> {
        self.stalled = false;
        for _ in 0..400 {
            self.move_octets(mail, true)?;
            let waits = !self.owed.is_empty() || self.client.idling;
            if !waits && self.client.sent.is_empty() {
                break;
            }
            if !self.owed.is_empty() && self.client.continued {
                self.client.continued = false;
                let piece = self.owed.remove(0);
                self.send(mail, &piece, true)?;
            } else if self.client.idling && self.client.continued {
                self.client.idling = false;
                self.send(mail, b"DONE\r\n", false)?;
            }
        }
        match self.client.sent.first() {
            Some(sent) => Err(format!("{} never ended", sent.line)),
            None => Ok(()),
        }
    }

    /// NOOP, and what it brings.
    pub(crate) fn finish_noop(&mut self, mail: &mut Mail) -> Result<(), String> {
        let noop = self.speaker.noop();
        self.finish(mail, noop)
    }

    /// What its client did not want to hear of, it wants to hear of now.
    pub(crate) fn hear_all(&mut self, mail: &mut Mail) -> Result<(), String> {
        let Some(told) = self.client.told else { return Ok(()) };
        let notify = self.speaker.notify_all(told.lists);
        self.finish(mail, notify)
    }

    /// Whether its client may be told things for a while without saying anything.
    pub(crate) fn is_listening(&self) -> bool {
        let notified = self.client.told.is_some() && self.client.selected.is_some() && self.client.sent.is_empty();
        self.is_idling() || (self.owed.is_empty() && notified)
    }

    /// Whether its client idles.
    pub(crate) fn is_idling(&self) -> bool {
        self.client.idling && self.client.continued
    }

    /// A client that has listened has been told what it wanted to hear.
    pub(crate) fn check_heard(&self, mail: &Mail) -> Result<(), String> {
        let idling = self.client.idling;
        let (messages, flags) = match &self.client.told {
            Some(told) => (told.messages && (told.at_once || idling), told.flags),
            None => (idling && self.client.wish == Wish::All, true),
        };
        match () {
            () if messages && flags => self.check_truth(mail)?,
            () if messages => self.check_messages(&self.selected_messages(mail))?,
            () => {}
        }
        self.check_lists(mail)
    }

    /// What its client knows of a mailbox that it has not selected is true (RFC 5465 section 6).
    fn check_lists(&self, mail: &Mail) -> Result<(), String> {
        let Some(lists) = self.client.told.as_ref().and_then(|told| told.lists.as_ref()) else { return Ok(()) };
        let uidnext = mail.backend.store().mailbox_or_new(LISTS).uidnext;
        let messages = mail.messages(LISTS);
        let unseen = messages.iter().filter(|message| !message.has("\\Seen")).count() as u32;
        let known = &self.client.lists;
        // Of GNU mailutils it says nothing.
        let counts = !mail.backend.store().settings.mischief.snapshot;
        let wrong = [
            ("MESSAGES", messages.len() as u32, known.messages),
            ("UIDNEXT", uidnext, known.uidnext.filter(|_| counts)),
            ("UNSEEN", unseen, known.unseen.filter(|_| lists.flags)),
        ];
        match wrong.into_iter().find(|(_, truth, known)| known.is_some_and(|known| known != *truth)) {
            Some((item, truth, known)) => {
                Err(format!("session {}: {LISTS}: {item} {truth}, and the client believes {known:?}", self.at))
            }
            None => Ok(()),
        }
    }

    /// The client says something, if it may.
    pub(crate) fn speak(&mut self, mail: &mut Mail) -> Result<(), String> {
        self.read(mail)?;
        if self.client.bye {
            return Err("BYE from nowhere".to_owned());
        }
        if !self.owed.is_empty() {
            if self.client.continued {
                self.client.continued = false;
                let piece = self.owed.remove(0);
                return self.send(mail, &piece, true);
            }
            return Ok(());
        }
        if self.client.idling {
            return self.end_idle(mail);
        }
        if self.client.sent.iter().any(|sent| sent.alone || self.client.syncs) {
            return Ok(());
        }
        let quiet = self.client.sent.is_empty();
        let often = if self.client.syncs { 9 } else { 25 };
        if quiet && (self.client.selected.is_none() || mail.random.one_in(often)) {
            if self.client.selected.is_none() && self.client.left.is_some() {
                // Something to be told of what has happened meanwhile.
                (0..3).for_each(|_| mail.other_client());
            }
            let saying = self.speaker.select(&self.client);
            return self.say(mail, vec![saying]);
        }
        if quiet && mail.random.one_in(6) {
            let saying = self.speaker.alone();
            return self.say(mail, vec![saying]);
        }
        if quiet && mail.random.one_in(5) && (self.speaker.offers.wishes || mail.backend.store().settings.has("IDLE")) {
            return self.idle(mail);
        }
        let burst = self.burst(mail);
        self.say(mail, burst)
    }

    fn end_idle(&mut self, mail: &mut Mail) -> Result<(), String> {
        // DONE before the `+` is nothing a client may say.
        if !self.client.continued || !mail.random.one_in(3) {
            return Ok(());
        }
        self.client.idling = false;
        self.client.continued = false;
        let mut segment = b"DONE\r\n".to_vec();
        // Behind DONE anything may be pipelined that the client's own list of messages gives a meaning.
        let burst = if !self.client.syncs && mail.random.one_in(2) { self.burst(mail) } else { Vec::new() };
        for saying in burst {
            segment.extend(saying.pieces.concat());
            self.remember(mail, saying.sent);
        }
        self.send(mail, &segment, false)
    }

    /// Some commands behind one another.
    fn burst(&mut self, mail: &mut Mail) -> Vec<Saying> {
        let mut burst: Vec<Saying> = Vec::new();
        // Which number a message has behind a VANISHED that the client may not hear yet, nobody knows: it says one thing at a time.
        let most = if self.client.syncs { 1 } else { mail.random.within(1..5) };
        for _ in 0..most {
            let earlier = self.client.sent.iter().chain(burst.iter().map(|saying| &saying.sent));
            let (mut unsafe_now, mut searching, mut copying) = (false, false, false);
            for sent in earlier {
                unsafe_now |= sent.may_expunge;
                searching |= matches!(sent.intent, Intent::Search { .. } | Intent::SearchAny);
                copying |= sent.line.contains("COPY ") || sent.line.contains("MOVE ");
            }
            let known = !self.client.messages.is_empty() && self.client.messages.iter().all(|one| one.uid.is_some());
            let may = if mail.legal { !unsafe_now } else { self.between.backlog() == 0 };
            // RFC 5465 5.3: to whom removals are told at any time, numbers mean nothing.
            let counts = !self.stalled && self.client.told.is_none_or(|told| !told.at_once);
            let by_number = known && may && counts;
            let saying = if by_number && mail.random.one_in(2) {
                let copies = mail.work();
                self.speaker.by_number(&self.client, &copies)
            } else if !known && !unsafe_now && !self.client.messages.is_empty() && counts {
                self.speaker.fetch_all()
            } else {
                let copies = mail.work();
                self.speaker.without_numbers(&self.client, &copies)
            };
            // Answers of SEARCH belong to nobody by name, and copies are counted.
            let twice = (searching && matches!(saying.sent.intent, Intent::Search { .. }))
                // Behind others, nobody can say what its numbers mean.
                || (!mail.legal && saying.sent.names_numbers && saying.sent.line.contains("SAVE"))
                || (copying && matches!(saying.sent.intent, Intent::Copy { .. } | Intent::Move { .. }));
            if !twice {
                self.client.saves(&saying.sent);
                burst.push(saying);
            }
        }
        burst
    }

    /// A command is about to be sent.
    fn remember(&mut self, mail: &mut Mail, mut sent: Sent) {
        match &mut sent.intent {
            Intent::Move { uids, .. } => {
                // What `$` has meant may have gone already.
                let alive = self.alive(mail);
                let (there, gone) = uids.uids.iter().partition(|uid| alive.contains(uid));
                uids.uids = there;
                uids.others.extend::<BTreeSet<u32>>(gone);
                mail.let_go(&uids.clone());
            }
            Intent::Select(_) | Intent::Leave => self.client.leave(),
            Intent::Store { uids, .. } if sent.line.contains("\\Deleted") => {
                mail.removed.extend(uids.uids.iter().chain(&uids.others));
                mail.let_go(&uids.clone());
            }
            _ => {}
        }
        self.client.sent.push(sent);
    }

    pub(crate) fn say(&mut self, mail: &mut Mail, burst: Vec<Saying>) -> Result<(), String> {
        let mut segment = Vec::new();
        for saying in burst {
            let mut pieces = saying.pieces.into_iter();
            segment.extend(pieces.next().unwrap_or_default());
            self.owed = pieces.collect();
            self.client.continued = false;
            self.remember(mail, saying.sent);
        }
        let last = self.owed.is_empty();
        self.send(mail, &segment, last)
    }

    /// The client's octets reach the proxy in one piece or more; nobody else moves meanwhile.
    fn send(&mut self, mail: &mut Mail, octets: &[u8], complete: bool) -> Result<(), String> {
        mail.note(self.at, 'C', octets);
        let mut rest = octets;
        while !rest.is_empty() {
            // What is told between two pieces, a client that pipelines numbers would have to read between them too.
            let cut = mail.legal && mail.random.one_in(3);
            let len = if cut { mail.random.within(1..rest.len() + 1) } else { rest.len() };
            let (piece, behind) = rest.split_at(len);
            if behind.is_empty() && (complete || self.owed.is_empty()) {
                self.client.sent.iter_mut().for_each(|sent| sent.complete = true);
            }
            self.between.hear(Side::Client, piece);
            rest = behind;
        }
        self.unbind(mail);
        Ok(())
    }

    /// A command behind one that is held has not been read: nobody can say what its numbers mean when it will be.
    ///
    /// RFC 3501 5.5 forbids a client to send such a thing, and a server alone would not know better.
    fn unbind(&mut self, mail: &mut Mail) {
        let backlog = self.between.backlog();
        let mut behind = 0;
        let unread = self.client.sent.iter().rev().take_while(|sent| {
            let unread = behind < backlog;
            behind += sent.len;
            unread
        });
        let bound = self.client.sent.len() - unread.count();
        for sent in self.client.sent.iter_mut().skip(bound + 1) {
            if sent.alone || mail.legal || !sent.names_numbers {
                continue;
            }
            let searches = matches!(sent.intent, Intent::Search { .. } | Intent::SearchAny);
            if matches!(sent.intent, Intent::Move { .. } | Intent::Store { .. }) {
                mail.may_go_behind = 0;
            }
            sent.intent = if searches { Intent::SearchAny } else { Intent::Nothing };
            sent.uses_numbers = false;
        }
    }

    /// Octets go a step further, here or there; with `all` they go as far as they can.
    /// The answer is whether anything moved.
    pub(crate) fn move_octets(&mut self, mail: &mut Mail, all: bool) -> Result<bool, String> {
        let mut moved = !self.notices.is_empty();
        while let Some(notice) = self.notices.pop_front() {
            self.between.noticed(&notice);
        }
        self.to_backend.extend(self.between.take_sent(Side::Backend));
        if self.between.wants_backend() {
            let mut connection = mail.backend.connect();
            self.from_backend = connection.greeting();
            self.to_backend.clear();
            self.connection = Some(connection);
            self.between.connected();
        }
        if let Some(connection) = &mut self.connection {
            let whole = all || mail.random.one_in(2);
            let len = if whole { self.to_backend.len() } else { mail.random.below(self.to_backend.len() + 1) };
            let heard: Vec<u8> = self.to_backend.drain(..len).collect();
            let mut answer = connection.feed(&heard);
            answer.extend(connection.poll());
            mail.note(self.at, '>', &heard);
            moved |= !heard.is_empty() || !answer.is_empty();
            self.from_backend.extend(answer);
        }
        let len = match mail.random.below(4) {
            _ if all => self.from_backend.len(),
            1 | 2 => self.from_backend.len(),
            0 => self.from_backend.len().min(7),
            _ => mail.random.below(self.from_backend.len() + 1),
        };
        if len > 0 {
            let piece: Vec<u8> = self.from_backend.drain(..len).collect();
            mail.note(self.at, '<', &piece);
            self.waited = Duration::ZERO;
            self.between.hear(Side::Backend, &piece);
            moved = true;
        }
        if all || mail.random.one_in(2) {
            self.read(mail)?;
        }
        Ok(moved)
    }

    /// The client reads, if it does at all.
    pub(crate) fn read(&mut self, mail: &mut Mail) -> Result<(), String> {
        if self.stalled {
            return Ok(());
        }
        // What waited for room comes as soon as there is some.
        loop {
            let said = self.between.take_sent(Side::Client);
            if said.is_empty() {
                break;
            }
            mail.note(self.at, 'S', &said);
            for ended in self.client.hear(&said)? {
                self.check(mail, &ended)?;
            }
        }
        if let Some(end) = self.between.end(Side::Client) {
            return Err(format!("the session ended, {end:?}"));
        }
        Ok(())
    }

    /// What should have come of a command.
    fn check(&mut self, mail: &mut Mail, ended: &Ended) -> Result<(), String> {
        let ok = ended.status == "OK";
        if matches!(ended.status.as_str(), "NO" | "BAD") && !self.owed.is_empty() {
            // The literal was refused: its octets are not sent.
            self.owed.clear();
        }
        let wrong = |what: String| Err(format!("{} {}: {what}", ended.sent.line, ended.status));
        match &ended.sent.intent {
            Intent::Append { mailbox, content } => {
                let mut store = mail.backend.store();
                let messages = store.mailbox(mailbox).map(|mailbox| mailbox.messages.as_slice()).unwrap_or_default();
                let count = messages.iter().filter(|message| message.octets == *content).count();
                // The first session selects the other mailbox too, and may have removed it from there already.
                let removed = ok && self.at > 0 && count == 0;
                if count != usize::from(ok) && !removed {
                    return wrong(format!("{count} messages with its content"));
                }
            }
            Intent::Copy { uids, before } => {
                if let Err(copy) = mail.new_copies(uids, before) {
                    return wrong(format!("a copy of {}", copy.escape_ascii()));
                }
            }
            Intent::Move { uids, before } => {
                let copies = match mail.new_copies(uids, before) {
                    Ok(copies) => copies,
                    Err(copy) => return wrong(format!("a copy of {}", copy.escape_ascii())),
                };
                mail.check_gone()?;
                let (alive, arrived) = (self.alive(mail), |uid: &&u32| copies.contains(&Message::plain(**uid)));
                if let Some(uid) = uids.uids.iter().filter(|_| ok).filter(arrived).find(|uid| alive.contains(uid)) {
                    return wrong(format!("UID {uid} is in both mailboxes"));
                }
                let lost =
                    |uid: &&u32| !alive.contains(uid) && !mail.removed.contains(uid) && **uid <= mail.may_go_behind;
                if let Some(uid) = uids.uids.iter().filter(lost).find(|uid| !arrived(uid)) {
                    return wrong(format!("UID {uid} is in neither mailbox"));
                }
                if let Some(uid) = uids.uids.iter().find(|uid| ok && alive.contains(uid)) {
                    return wrong(format!("UID {uid} was not moved"));
                }
            }
            Intent::Fetch { uids, seen } if ok => {
                let alive = self.alive(mail);
                if let Some(uid) = uids.iter().find(|uid| alive.contains(uid) && !seen.contains(uid)) {
                    return wrong(format!("nothing came for UID {uid}"));
                }
            }
            Intent::Search { wanted, known, found, returns, results, .. } if ok => {
                let alive = self.alive(mail);
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
                let with: BTreeSet<u32> = self.with_keyword(keyword, mail);
                if let Some(uid) = with.iter().find(|uid| !uids.may_be(**uid)) {
                    return wrong(format!("it changed UID {uid}, not one of {uids:?}"));
                }
                let alive = self.alive(mail);
                if let Some(uid) = uids.uids.iter().find(|uid| ok && alive.contains(uid) && !with.contains(uid)) {
                    return wrong(format!("it did not change UID {uid}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// List and flags are what the store says.
    pub(crate) fn check_truth(&self, mail: &Mail) -> Result<(), String> {
        if self.client.selected.is_none() {
            return Ok(());
        }
        let truth = self.selected_messages(mail);
        self.check_messages(&truth)?;
        for (message, believed) in truth.iter().zip(&self.client.messages) {
            let flags: BTreeSet<String> = message.flags.iter().map(|flag| flag.to_lowercase()).collect();
            if let Some(known) = &believed.flags {
                let known: BTreeSet<String> = known.iter().filter(|flag| *flag != "\\recent").cloned().collect();
                if known != flags {
                    let (at, uid) = (self.at, message.uid);
                    return Err(format!("session {at}, UID {uid}: flags {flags:?}, and the client believes {known:?}"));
                }
            }
        }
        self.check_seen(&truth)
    }

    /// The list is what the store says.
    fn check_messages(&self, truth: &[Message]) -> Result<(), String> {
        let (at, believed) = (self.at, &self.client.messages);
        if truth.len() != believed.len() {
            return Err(format!(
                "session {at}: {} messages, and the client believes in {}",
                truth.len(),
                believed.len()
            ));
        }
        let other = |(message, believed): &(&Message, &Believed)| believed.uid.is_some_and(|uid| uid != message.uid);
        match truth.iter().zip(believed).find(other) {
            Some((message, believed)) => {
                Err(format!("session {at}: UID {} is believed to be {:?}", message.uid, believed.uid))
            }
            None => Ok(()),
        }
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

    pub(crate) fn check_bounds(&self) -> Result<(), String> {
        let held = self.between.held();
        if held > MOST_HELD { Err(format!("{held} octets are held")) } else { Ok(()) }
    }

    /// The messages of the mailbox that its client has selected.
    fn selected_messages(&self, mail: &Mail) -> Vec<Message> {
        self.client.selected.as_deref().map(|name| mail.messages(name)).unwrap_or_default()
    }

    fn alive(&self, mail: &Mail) -> BTreeSet<u32> {
        self.selected_messages(mail).iter().map(|message| message.uid).collect()
    }

    fn with_keyword(&self, keyword: &str, mail: &Mail) -> BTreeSet<u32> {
        let messages = self.selected_messages(mail);
        messages.iter().filter(|message| message.has(keyword)).map(|message| message.uid).collect()
    }
}
