//! A client that believes what it is told: the messages it has, their UIDs, flags and content (RFC 3501 7.3 and 7.4), and what
//! `$` stands for (RFC 5182).

use std::collections::{BTreeMap, BTreeSet};

use crate::commands::{Intent, Meant, Returns, Sent};

/// A message as the client knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Believed {
    pub(crate) uid: Option<u32>,
    pub(crate) flags: Option<BTreeSet<String>>,
}

/// What a client knows and waits for.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// The messages of the selected mailbox.
    pub(crate) messages: Vec<Believed>,
    pub(crate) selected: Option<String>,
    /// Commands that have not ended, oldest first.
    pub(crate) sent: Vec<Sent>,
    pub(crate) idling: bool,
    /// The server waits for octets.
    pub(crate) continued: bool,
    pub(crate) bye: bool,
    /// What `$` means; none when nobody can say.
    pub(crate) saved: Option<Meant>,
    /// What its device wants to hear while it idles.
    pub(crate) wish: Wish,
    /// What it wants to hear at any time; none: it has never said.
    pub(crate) told: Option<Told>,
    /// What it knows of a mailbox that it has not selected.
    pub(crate) lists: Stated,
    /// It has switched QRESYNC on (RFC 7162).
    pub(crate) syncs: bool,
    /// HIGHESTMODSEQ of the mailbox that is selected.
    modseq: Option<u32>,
    /// What it knew of INBOX when it left, and the mod-sequence of which that is true.
    pub(crate) left: Option<(u32, BTreeMap<u32, BTreeSet<String>>)>,
    inbox: Vec<u8>,
}

/// What a device wants to hear while it idles (source document 001 section 11.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wish {
    #[default]
    All,
    /// Messages that come.
    New,
    /// The same, and each is shown.
    Push,
    Nothing,
}

/// What NOTIFY asks for (RFC 5465).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Messages that come to the selected mailbox, and go.
    pub(crate) messages: bool,
    /// Each that comes is shown.
    pub(crate) shown: bool,
    /// Those that go are told also while no command is in progress.
    pub(crate) at_once: bool,
    /// Flags that others change.
    pub(crate) flags: bool,
    /// Of another mailbox, too.
    pub(crate) lists: Option<Lists>,
}

/// What is to be told of another mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    /// How many messages have not been read.
    pub(crate) flags: bool,
}

/// What STATUS says of a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) messages: Option<u32>,
    pub(crate) uidnext: Option<u32>,
    pub(crate) unseen: Option<u32>,
}

/// What an ESEARCH says (RFC 4731).
#[derive(Clone, Debug, Default)]
pub(crate) struct Results {
    tag: String,
    by_uid: bool,
    pub(crate) min: Option<u32>,
    pub(crate) max: Option<u32>,
    pub(crate) all: Option<Vec<u32>>,
    pub(crate) count: Option<usize>,
}

impl Results {
    /// Whether it says what it was asked for, of messages that are certain to be found and others that may be.
    pub(crate) fn check(
        &self,
        wanted: Returns,
        certain: &BTreeSet<u32>,
        possible: &BTreeSet<u32>,
    ) -> Result<(), String> {
        let (first, last) = (certain.first(), certain.last());
        let within = |count: usize| (certain.len()..=possible.len()).contains(&count);
        let wrong = [
            ("MIN", wanted.min && first.is_some_and(|first| self.min.is_some_and(|min| min > *first))),
            ("MAX", wanted.max && last.is_some_and(|last| self.max.is_some_and(|max| max < *last))),
            ("COUNT", wanted.count != self.count.is_some() || self.count.is_some_and(|count| !within(count))),
        ];
        match wrong.into_iter().find(|(_, wrong)| *wrong) {
            Some((item, _)) => Err(format!("{item} of {self:?}, where {certain:?} are certain")),
            None => Ok(()),
        }
    }
}

/// One thing that a server says.
#[derive(Debug)]
enum Said {
    Exists(usize),
    Expunge(usize),
    Fetch(usize, Items),
    Highest(u32),
    Search(Vec<u32>),
    Esearch(Results),
    /// STATUS of that other mailbox.
    Status(Stated),
    Tagged {
        tag: String,
        status: String,
    },
    Continuation,
    /// There is more to be told than can be.
    Overflow,
    Bye,
    Vanished {
        earlier: bool,
        uids: Vec<u32>,
    },
    Other,
}

/// The items of a FETCH that we look at.
#[derive(Debug, Default)]
struct Items {
    uid: Option<u32>,
    flags: Option<BTreeSet<String>>,
    body: Option<Vec<u8>>,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) sent: Sent,
    pub(crate) status: String,
}

impl Client {
    /// Reads what came; the commands that have ended by it.
    pub(crate) fn hear(&mut self, octets: &[u8]) -> Result<Vec<Ended>, String> {
        self.inbox.extend_from_slice(octets);
        let mut ended = Vec::new();
        while let Some(len) = response_len(&self.inbox) {
            let response: Vec<u8> = self.inbox.drain(..len).collect();
            let said = parse(&response).ok_or_else(|| format!("not a response: {}", response.escape_ascii()))?;
            let what = self.believe(said).map_err(|why| format!("{why}: {}", response.escape_ascii()))?;
            ended.extend(what);
        }
        Ok(ended)
    }

    fn believe(&mut self, said: Said) -> Result<Option<Ended>, String> {
        match said {
            Said::Exists(count) => self.exists(count)?,
            Said::Expunge(number) => self.expunge(number)?,
            Said::Fetch(number, items) => self.fetch(number, items)?,
            Said::Highest(modseq) => self.modseq = Some(modseq),
            Said::Vanished { earlier, uids } => self.vanish(earlier, &uids)?,
            Said::Search(numbers) => self.search(&numbers)?,
            Said::Esearch(results) => self.esearch(results)?,
            Said::Status(stated) => self.status(stated)?,
            // RFC 5465 5.8: as if it had said NONE.
            Said::Overflow => self.told = Some(Told::default()),
            Said::Continuation => self.continued = true,
            Said::Bye => self.bye = true,
            Said::Tagged { tag, status } => return self.end(&tag, status).map(Some),
            Said::Other => {}
        }
        Ok(None)
    }

    fn exists(&mut self, count: usize) -> Result<(), String> {
        // RFC 3501 7.3.1 and 5.2: it never shrinks but by EXPUNGE; inside SELECT it begins.
        if self.sent.iter().any(|sent| matches!(sent.intent, Intent::Select(_))) {
            self.messages = vec![Believed::default(); count];
            return Ok(());
        }
        if self.is_told_in_idle() && self.wish == Wish::Nothing {
            return Err("EXISTS for a device that wants to hear nothing".to_owned());
        }
        // What it asks for itself may be of a message that it was not told of.
        let fetches = self
            .sent
            .iter()
            .any(|sent| ["EXPUNGE", "FETCH", "MOVE", "STORE"].iter().any(|verb| sent.line.contains(verb)));
        if self.wants(|told| !told.messages) && !fetches {
            return Err("EXISTS for a client that has not asked for messages".to_owned());
        }
        if count < self.messages.len() {
            return Err(format!("EXISTS shrinks from {}", self.messages.len()));
        }
        self.messages.resize(count, Believed::default());
        Ok(())
    }

    fn expunge(&mut self, number: usize) -> Result<(), String> {
        // RFC 7162 3.2.10.
        if self.syncs {
            return Err("EXPUNGE in the place of VANISHED".to_owned());
        }
        self.may_hear_of_removals()?;
        if number == 0 || number > self.messages.len() {
            return Err(format!("EXPUNGE of none of {} messages", self.messages.len()));
        }
        self.messages.remove(number - 1);
        Ok(())
    }

    /// Messages are gone by UID (RFC 7162 3.2.10).
    fn vanish(&mut self, earlier: bool, uids: &[u32]) -> Result<(), String> {
        let asks = |sent: &Sent| sent.line.contains("VANISHED") || sent.line.contains("(QRESYNC");
        let begins = self.sent.iter().any(|sent| matches!(sent.intent, Intent::Sync));
        if !self.syncs && !begins {
            return Err("VANISHED for a client that has not asked for it".to_owned());
        }
        if earlier {
            if let Some((_, known)) = &mut self.left {
                known.retain(|uid, _| !uids.contains(uid));
            }
            return if self.sent.iter().any(asks) { Ok(()) } else { Err("VANISHED (EARLIER) unasked".to_owned()) };
        }
        self.may_hear_of_removals()?;
        uids.iter().try_for_each(|uid| self.lose(*uid))
    }

    /// A message is gone: one that is known, or of those whose UIDs are not known one that can be it.
    fn lose(&mut self, uid: u32) -> Result<(), String> {
        let below = |known: &Believed| known.uid.is_some_and(|known| known < uid);
        let first = self.messages.iter().rposition(below).map_or(0, |at| at + 1);
        let Some(next) = self.messages.get(first) else {
            return Err(format!("VANISHED of {uid}, which the client does not have"));
        };
        match next.uid {
            Some(known) if known == uid => {}
            Some(_) => return Err(format!("VANISHED of {uid}, which the client does not have")),
            None => {
                // Which of them has which flags, nobody can say any more.
                let unknown = self.messages[first..].iter_mut().take_while(|message| message.uid.is_none());
                unknown.for_each(|message| message.flags = None);
                if let Some(at) = self.messages[first..].iter().position(|message| message.uid == Some(uid)) {
                    self.messages.remove(first + at);
                    return Ok(());
                }
            }
        }
        self.messages.remove(first);
        Ok(())
    }

    /// Whether it may be told now that messages are gone.
    fn may_hear_of_removals(&self) -> Result<(), String> {
        // RFC 3501 7.4.1: not without a command, not during FETCH, STORE and SEARCH.
        let complete = || self.sent.iter().filter(|sent| sent.complete);
        // RFC 5465 5.3: but to a client that has asked for it.
        if complete().next().is_none() && !self.wants(|told| told.at_once) {
            return Err("EXPUNGE while no command is in progress".to_owned());
        }
        let removes = |sent: &Sent| ["EXPUNGE", "MOVE"].iter().any(|verb| sent.line.contains(verb));
        if self.wants(|told| !told.messages) && !complete().any(removes) {
            return Err("EXPUNGE for a client that has not asked for messages".to_owned());
        }
        if let Some(sent) = complete().find(|sent| sent.uses_numbers) {
            return Err(format!("EXPUNGE while {} has not ended", sent.line));
        }
        if self.is_told_in_idle() && self.wish != Wish::All {
            return Err(format!("EXPUNGE for a device that wants to hear {:?}", self.wish));
        }
        Ok(())
    }

    /// Whether what comes now comes because the client idles, and its device has a say in it.
    fn is_told_in_idle(&self) -> bool {
        self.idling && self.continued && self.told.is_none()
    }

    /// Whether it has said this with NOTIFY. While one is in progress, it has said nothing yet.
    fn wants(&self, what: impl Fn(&Told) -> bool) -> bool {
        let undecided = self.sent.iter().any(|sent| matches!(sent.intent, Intent::Notify(_)));
        !undecided && self.told.as_ref().is_some_and(what)
    }

    fn status(&mut self, stated: Stated) -> Result<(), String> {
        let asked = self.sent.iter().any(|sent| matches!(sent.intent, Intent::Notify(Told { lists: Some(_), .. })));
        if !asked && self.told.is_none_or(|told| told.lists.is_none()) {
            return Err("STATUS of a mailbox that the client has not asked for".to_owned());
        }
        let Stated { messages, uidnext, unseen } = &mut self.lists;
        *messages = stated.messages.or(*messages);
        *uidnext = stated.uidnext.or(*uidnext);
        *unseen = stated.unseen.or(*unseen);
        Ok(())
    }

    fn fetch(&mut self, number: usize, items: Items) -> Result<(), String> {
        let count = self.messages.len();
        if self.is_told_in_idle() && matches!(self.wish, Wish::New | Wish::Nothing) {
            return Err(format!("FETCH for a device that wants to hear {:?}", self.wish));
        }
        let asked = self.sent.iter().any(|sent| !matches!(sent.intent, Intent::Idle));
        if !asked && items.flags.is_some() && self.wants(|told| !told.flags && !told.shown) {
            return Err("flags for a client that has not asked for them".to_owned());
        }
        let Some(message) = number.checked_sub(1).and_then(|at| self.messages.get_mut(at)) else {
            return Err(format!("FETCH of none of {count} messages"));
        };
        if let Some(uid) = items.uid {
            if message.uid.is_some_and(|known| known != uid) {
                return Err(format!("UID {uid} is not the {:?} it was", message.uid));
            }
            message.uid = Some(uid);
        }
        if let Some(flags) = items.flags {
            message.flags = Some(flags);
        }
        let uid = message.uid;
        if let (Some(body), Some(uid)) = (&items.body, uid) {
            let mine = String::from_utf8_lossy(body).starts_with(&format!("Subject: message {uid}\r\n"));
            // Copies and appended messages carry another's name; the first messages of a mailbox their own.
            if !mine && uid < crate::mail::FIRST_COPY {
                return Err(format!("the content of another message than {uid}"));
            }
        }
        for sent in &mut self.sent {
            if let (Intent::Fetch { seen, .. }, Some(uid)) = (&mut sent.intent, uid) {
                seen.insert(uid);
            }
        }
        let uids: Vec<u32> = self.messages.iter().filter_map(|message| message.uid).collect();
        if uids.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(format!("UIDs do not ascend: {uids:?}")) }
    }

    fn search(&mut self, numbers: &[u32]) -> Result<(), String> {
        let uid_of = |number: u32| (number as usize).checked_sub(1).and_then(|at| self.messages.get(at)?.uid);
        let uids: Vec<Option<u32>> = numbers.iter().map(|number| uid_of(*number)).collect();
        let searching =
            self.sent.iter_mut().find(|sent| matches!(sent.intent, Intent::Search { .. } | Intent::SearchAny));
        let Some(Sent { intent: Intent::Search { wanted, found, by_uid, .. }, .. }) = searching else { return Ok(()) };
        for (number, uid) in numbers.iter().zip(uids) {
            let uid = if *by_uid { Some(*number) } else { uid };
            let Some(uid) = uid else { continue };
            if !wanted.contains(&uid) {
                return Err(format!("SEARCH found {number}, which is UID {uid}, not one of {wanted:?}"));
            }
            found.insert(uid);
        }
        Ok(())
    }

    fn esearch(&mut self, results: Results) -> Result<(), String> {
        let uid_of = |number: u32| (number as usize).checked_sub(1).and_then(|at| self.messages.get(at)?.uid);
        let uid = |number: u32| if results.by_uid { Some(number) } else { uid_of(number) };
        let (min, max) = (results.min.and_then(uid), results.max.and_then(uid));
        let all = results.all.as_ref().map(|numbers| numbers.iter().filter_map(|number| uid(*number)).collect());
        let Some(sent) = self.sent.iter_mut().find(|sent| sent.tag == results.tag) else {
            return Err("ESEARCH of a tag that no command has".to_owned());
        };
        let Intent::Search { wanted, found, by_uid, results: told, .. } = &mut sent.intent else { return Ok(()) };
        if *by_uid != results.by_uid {
            return Err("ESEARCH that mistakes numbers and UIDs".to_owned());
        }
        let all: Vec<u32> = all.unwrap_or_default();
        if let Some(uid) = min.iter().chain(&max).chain(&all).find(|uid| !wanted.contains(uid)) {
            return Err(format!("{} found UID {uid}, not one of {wanted:?}", sent.line));
        }
        found.extend(&all);
        if told.replace(Results { min, max, all: Some(all), ..results }).is_some() {
            return Err("a second ESEARCH".to_owned());
        }
        Ok(())
    }

    /// It leaves the mailbox: what it has seen of it, it need not see again.
    pub(crate) fn leave(&mut self) {
        let known = |message: &Believed| Some((message.uid?, message.flags.clone()?));
        let known: Option<BTreeMap<_, _>> = self.messages.iter().map(known).collect();
        let of_inbox = self.syncs && self.selected.as_deref() == Some("INBOX");
        if of_inbox && let (Some(modseq), Some(known)) = (self.modseq, known) {
            self.left = Some((modseq, known));
        }
    }

    /// INBOX is selected again: what it knew of it, what it has been told of, and nothing else, is there.
    fn resync(&mut self) -> Result<(), String> {
        let Some((_, mut known)) = self.left.take() else { return Ok(()) };
        for message in &self.messages {
            if let (Some(uid), Some(flags)) = (message.uid, &message.flags) {
                known.insert(uid, flags.clone());
            }
        }
        if known.len() != self.messages.len() {
            return Err(format!("{} messages, and the client knows of {:?}", self.messages.len(), known.keys()));
        }
        let known = known.into_iter().map(|(uid, flags)| Believed { uid: Some(uid), flags: Some(flags) });
        self.messages = known.collect();
        Ok(())
    }

    /// A command is sent: what `$` will be to the next one.
    pub(crate) fn saves(&mut self, sent: &Sent) {
        if let Intent::Search { wanted, known, returns: Some(returns), .. } = &sent.intent
            && returns.save
        {
            // RFC 5182 2.4: of the ends nobody knows yet which they are.
            let uids = if returns.is_narrow() { BTreeSet::new() } else { known & wanted };
            self.saved = Some(Meant { uids, others: wanted.clone(), beyond: None });
        }
    }

    /// RFC 5182 2.1: a search that was to be saved and failed leaves nothing, or (BAD) what there was.
    fn note_saved(&mut self, sent: &Sent, status: &str) {
        if status == "OK" || !sent.line.contains("SAVE") {
            return;
        }
        self.saved = None;
        for sent in self.sent.iter_mut().filter(|sent| sent.line.contains('$')) {
            sent.intent.doubt();
        }
    }

    fn end(&mut self, tag: &str, status: String) -> Result<Ended, String> {
        let Some(at) = self.sent.iter().position(|sent| sent.tag == tag) else {
            return Err("a tag that no command has".to_owned());
        };
        let sent = self.sent.remove(at);
        self.note_saved(&sent, &status);
        match &sent.intent {
            Intent::Select(mailbox) => {
                self.selected = (status == "OK").then(|| mailbox.clone());
                self.saved = Some(Meant::default());
                if sent.line.contains("(QRESYNC") {
                    self.resync()?;
                }
            }
            Intent::Sync if status == "OK" => self.syncs = true,
            Intent::Leave if status == "OK" => self.selected = None,
            Intent::Idle => self.idling = false,
            Intent::Wish(wish) if status == "OK" => self.wish = *wish,
            // What was known of the other mailbox may be old: what is told from now on is new.
            Intent::Notify(told) if status == "OK" => {
                self.told = Some(*told);
                self.lists = if told.lists.is_some() { self.lists } else { Stated::default() };
            }
            _ => {}
        }
        if self.selected.is_none() {
            self.messages.clear();
        }
        Ok(Ended { sent, status })
    }
}

/// `(EARLIER) 3:5`.
fn vanished(text: &str) -> Option<Said> {
    let later = text.strip_prefix("(EARLIER) ");
    Some(Said::Vanished { earlier: later.is_some(), uids: numbers(later.unwrap_or(text))? })
}

/// `(TAG "c5") UID MIN 2 ALL 2,10:11 COUNT 3`.
fn results(text: &str) -> Option<Results> {
    let (tag, mut rest) = text.strip_prefix("(TAG \"")?.split_once("\")")?;
    let mut results = Results { tag: tag.to_owned(), ..Results::default() };
    if let Some(behind) = rest.strip_prefix(" UID") {
        (results.by_uid, rest) = (true, behind);
    }
    let mut words = rest.split(' ').skip(1);
    while let Some(name) = words.next() {
        let value = words.next()?;
        match name {
            "MIN" => results.min = Some(value.parse().ok()?),
            "MAX" => results.max = Some(value.parse().ok()?),
            "COUNT" => results.count = Some(value.parse().ok()?),
            "ALL" => results.all = Some(numbers(value)?),
            _ => return None,
        }
    }
    Some(results)
}

/// The number in `* OK [HIGHESTMODSEQ 12] Highest`.
fn number_of_code(text: &str) -> Option<u32> {
    text.split([' ', ']']).nth(3)?.parse().ok()
}

/// `MESSAGES 2 UIDNEXT 9)`.
fn stated(items: &str) -> Said {
    let words: Vec<&str> = items.trim_end_matches(')').split(' ').collect();
    let number = |name: &str| words.chunks_exact(2).find(|pair| pair[0] == name)?[1].parse().ok();
    Said::Status(Stated { messages: number("MESSAGES"), uidnext: number("UIDNEXT"), unseen: number("UNSEEN") })
}

/// `2,10:11`.
fn numbers(set: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for range in set.split(',') {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        numbers.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(numbers)
}

/// How long the response at the front is, literals included; none if it is not whole.
pub(crate) fn response_len(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let end = at + octets[at..].iter().position(|&octet| octet == b'\n')? + 1;
        let line = &octets[at..end];
        // In text `{5}` opens nothing.
        let mut words = line.split(|&octet| octet == b' ').skip(1);
        let has_strings = match (words.next(), words.next()) {
            (Some(b"LIST" | b"LSUB" | b"METADATA" | b"STATUS"), _) | (_, Some(b"FETCH")) => true,
            _ => at > 0,
        };
        let literal = line.strip_suffix(b"}\r\n").filter(|_| has_strings).and_then(|line| {
            let open = line.iter().rposition(|&octet| octet == b'{')?;
            std::str::from_utf8(&line[open + 1..]).ok()?.parse::<usize>().ok()
        });
        match literal {
            Some(len) if octets.len() >= end + len => at = end + len,
            Some(_) => return None,
            None => return Some(end),
        }
    }
}

fn parse(response: &[u8]) -> Option<Said> {
    let line = response.strip_suffix(b"\r\n")?;
    if line.starts_with(b"+") {
        return Some(Said::Continuation);
    }
    let text = String::from_utf8_lossy(line);
    let mut words = text.split(' ');
    let (tag, word) = (words.next()?, words.next()?);
    if tag != "*" {
        return Some(Said::Tagged { tag: tag.to_owned(), status: word.to_owned() });
    }
    let number: Option<usize> = word.parse().ok();
    Some(match (number, words.next().unwrap_or(word)) {
        (Some(number), "EXISTS") => Said::Exists(number),
        (Some(number), "EXPUNGE") => Said::Expunge(number),
        (Some(number), "FETCH") => {
            let open = line.iter().position(|&octet| octet == b'(')?;
            Said::Fetch(number, items(&line[open + 1..])?)
        }
        _ if word == "SEARCH" => Said::Search(text.split(' ').skip(2).map(str::parse).collect::<Result<_, _>>().ok()?),
        _ if word == "ESEARCH" => Said::Esearch(results(text.strip_prefix("* ESEARCH ")?)?),
        _ if word == "STATUS" => text.strip_prefix("* STATUS Lists (").map_or(Said::Other, stated),
        _ if word == "VANISHED" => vanished(text.strip_prefix("* VANISHED ")?)?,
        _ if text.starts_with("* OK [HIGHESTMODSEQ ") => Said::Highest(number_of_code(&text)?),
        _ if text.starts_with("* OK [NOTIFICATIONOVERFLOW]") => Said::Overflow,
        _ if word == "BYE" => Said::Bye,
        _ => Said::Other,
    })
}

/// `UID 3 FLAGS (\Seen) BODY[] {3}...)`.
fn items(mut rest: &[u8]) -> Option<Items> {
    let mut items = Items::default();
    while !rest.starts_with(b")") {
        let len = rest.iter().position(|&octet| octet == b' ')?;
        let name = String::from_utf8_lossy(&rest[..len]).to_uppercase();
        rest = &rest[len + 1..];
        let (value, behind) = value(rest)?;
        rest = behind.strip_prefix(b" ").unwrap_or(behind);
        match name.as_str() {
            "UID" => items.uid = std::str::from_utf8(value).ok()?.parse().ok(),
            "FLAGS" => {
                let flags = String::from_utf8_lossy(value).into_owned();
                let flags = flags.trim_matches(['(', ')']).split(' ');
                items.flags = Some(flags.filter(|flag| !flag.is_empty()).map(str::to_lowercase).collect());
            }
            "BODY[]" => items.body = Some(value.to_vec()),
            _ => {}
        }
    }
    Some(items)
}

/// One value and what follows it.
fn value(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    match rest.first()? {
        b'(' => Some(rest.split_at(rest.iter().position(|&octet| octet == b')')? + 1)),
        b'"' => Some(rest.split_at(rest[1..].iter().position(|&octet| octet == b'"')? + 2)),
        b'{' => {
            let end = rest.iter().position(|&octet| octet == b'\n')? + 1;
            let len: usize = std::str::from_utf8(&rest[1..end - 3]).ok()?.parse().ok()?;
            Some(rest[end..].split_at_checked(len)?)
        }
        _ => Some(rest.split_at(rest.iter().position(|octet| b" )".contains(octet))?)),
    }
}
