//! What the header describes, put into a real server over IMAP.
//!
//! No command gives a message the UID that a transcript wants. UIDs between are used up by copies of one message, which go
//! again.

use std::collections::{BTreeMap, BTreeSet};

use lemonade_proxy::imap::date;

use super::{
    Live, Unprepared,
    others::{append, session},
    talk::Talk,
};
use crate::{
    cast::NOON,
    model::{Message, SOME_DATE},
    transcript::{Action, Header, Stored, flags_of, read::numbered},
};

/// The mailbox of the copies that use up UIDs, while there is one; Courier has all mailboxes below INBOX.
const FILLERS: [&str; 2] = ["zz-filler", "INBOX.zz-filler"];
/// Copies in one command: 1000 go into a line of any server, as `1:1000`.
const COPIES: u32 = 1000;
/// Messages in one MULTIAPPEND.
const TOGETHER: usize = 200;

impl Live<'_> {
    /// Brings the mailboxes into the state of the header.
    pub(super) fn prepare(&mut self) -> Result<(), Unprepared> {
        let place = self.place;
        let mut store = Store {
            talk: session(place, place.behind)?,
            header: &self.transcript.header,
            multiple: false,
            filler: None,
        };
        let offered = store.talk.ok("CAPABILITY")?.concat();
        store.multiple = [&b"MULTIAPPEND"[..], b"LITERAL+"].iter().all(|word| contains(&offered, word));
        store.create()?;
        for (mailbox, messages) in store.messages() {
            store.fill(&mailbox, &messages, self.appended_first(&mailbox), place.now)?;
        }
        // Some servers make an INBOX when it is opened first.
        store.talk.ok("EXAMINE INBOX")?;
        store.remove_filler()?;
        store.subscribe()?;
        store.talk.ok("LOGOUT").map(drop).map_err(Unprepared)
    }

    /// The UID of the first message that `O:` brings to a mailbox.
    fn appended_first(&self, mailbox: &str) -> Option<u32> {
        self.transcript.everywhere.iter().find_map(|(_, step)| {
            let Action::Other(what) = &step.action else { return None };
            let first = what.strip_prefix("append ")?.strip_prefix(mailbox)?.split_whitespace().next()?;
            numbered(first).ok().map(|(uid, _)| uid)
        })
    }
}

impl From<String> for Unprepared {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

/// The mailboxes of one user while they are filled.
struct Store<'a> {
    talk: Talk,
    header: &'a Header,
    /// Several messages may come in one APPEND.
    multiple: bool,
    /// The mailbox of copies.
    filler: Option<&'static str>,
}

impl Store<'_> {
    fn create(&mut self) -> Result<(), String> {
        let header = self.header;
        let mailboxes: BTreeSet<&String> = header.mailboxes.iter().filter(|name| *name != "INBOX").collect();
        for mailbox in mailboxes {
            self.talk.ok(&format!("CREATE \"{mailbox}\""))?;
        }
        for (mailbox, uses) in &header.special {
            self.talk.ok(&format!("CREATE \"{mailbox}\" (USE ({}))", uses.join(" ")))?;
        }
        for name in &header.noselect {
            if self.attributes(name)?.is_none() {
                self.talk.ok(&format!("CREATE \"{name}/\""))?;
            }
            let attributes = self.attributes(name)?.unwrap_or_default();
            if !attributes.contains("\\noselect") && !attributes.contains("\\nonexistent") {
                return Err(format!("{name} can be selected here"));
            }
        }
        Ok(())
    }

    /// What LIST says of a name, in lower case.
    fn attributes(&mut self, name: &str) -> Result<Option<String>, String> {
        let said = self.talk.ok(&format!("LIST \"\" \"{name}\""))?;
        Ok(said.first().map(|line| String::from_utf8_lossy(line).to_lowercase()))
    }

    /// The messages by mailbox.
    fn messages(&self) -> BTreeMap<String, Vec<Stored>> {
        let mut messages: BTreeMap<String, Vec<Stored>> =
            self.header.mailboxes.iter().map(|mailbox| (mailbox.clone(), Vec::new())).collect();
        for stored in &self.header.messages {
            messages.entry(stored.mailbox.clone()).or_default().push(stored.clone());
        }
        messages
    }

    /// Stores messages under their UIDs. `first`: the UID that the next one is to have.
    fn fill(&mut self, mailbox: &str, messages: &[Stored], first: Option<u32>, now: i64) -> Result<(), String> {
        let mut next = self.talk.uidnext(mailbox)?;
        let mut fillers = Vec::new();
        let mut rest = messages;
        while let Some(stored) = rest.first() {
            self.use_up(mailbox, next..stored.uid, &mut fillers)?;
            let together = rest.iter().zip(stored.uid..).take_while(|(stored, uid)| stored.uid == *uid).count();
            let (some, behind) = rest.split_at(together.min(TOGETHER));
            self.append(mailbox, some, now)?;
            next = stored.uid + some.len() as u32;
            rest = behind;
        }
        self.use_up(mailbox, next..first.unwrap_or(next), &mut fillers)?;
        let last = first.unwrap_or(next).max(next);
        self.talk.is_there(mailbox, last - 1)?;
        if !fillers.is_empty() {
            self.talk.ok(&format!("SELECT \"{mailbox}\""))?;
            self.talk.ok(&format!("UID EXPUNGE {}", fillers.join(",")))?;
            self.talk.ok(&format!("EXAMINE \"{mailbox}\""))?;
        }
        let said = self.talk.ok(&format!("STATUS \"{mailbox}\" (MESSAGES)"))?.concat();
        let count = format!("(MESSAGES {})", messages.len());
        if contains(&said, count.as_bytes()) { Ok(()) } else { Err(format!("{mailbox} has not {count}")) }
    }

    fn append(&mut self, mailbox: &str, messages: &[Stored], now: i64) -> Result<(), String> {
        let mut all = format!("APPEND \"{mailbox}\"").into_bytes();
        for stored in messages {
            let octets = stored.octets.clone().unwrap_or_else(|| Message::plain(stored.uid));
            let date = self.arrival(stored, now);
            if !self.multiple {
                append(&mut self.talk, mailbox, &stored.flags, Some(&date), &octets)?;
                continue;
            }
            let flags = flags_of(&stored.flags).join(" ");
            all.extend(format!(" ({flags}) \"{date}\" {{{}+}}\r\n", octets.len()).into_bytes());
            all.extend(octets);
        }
        if self.multiple { self.talk.ok_octets(&all).map(drop) } else { Ok(()) }
    }

    /// When a message arrived. A moment near that at which the model's clock stands is moved to the server's.
    fn arrival(&self, stored: &Stored, now: i64) -> String {
        let names =
            |(mailbox, uids, _): &&(String, Vec<u32>, String)| *mailbox == stored.mailbox && uids.contains(&stored.uid);
        let date = self.header.arrived.iter().find(names).map_or(SOME_DATE, |(_, _, date)| date);
        let recent = date::moment(date.as_bytes()).filter(|moment| (NOON - moment).abs() < 365 * 86_400);
        recent.map_or_else(|| format!("{date:0>26}"), |moment| written(moment + now - NOON))
    }

    /// Uses up these UIDs.
    fn use_up(&mut self, mailbox: &str, uids: std::ops::Range<u32>, used: &mut Vec<String>) -> Result<(), String> {
        if uids.is_empty() {
            return Ok(());
        }
        used.push(format!("{}:{}", uids.start, uids.end - 1));
        self.make_filler(uids.len().min(COPIES as usize))?;
        let mut left = uids.end - uids.start;
        while left > 0 {
            let some = left.min(COPIES);
            self.talk.ok(&format!("COPY 1:{some} \"{mailbox}\""))?;
            left -= some;
        }
        Ok(())
    }

    /// Opens a mailbox with so many messages at least, all marked as deleted.
    fn make_filler(&mut self, wanted: usize) -> Result<(), String> {
        let filler = match self.filler {
            Some(filler) => filler,
            None => self.first_filler()?,
        };
        loop {
            self.talk.ok(&format!("SELECT {filler}"))?;
            let count = self.talk.uidnext(filler)? as usize - 1;
            if count >= wanted {
                return Ok(());
            }
            self.talk.ok(&format!("COPY 1:{} {filler}", count.min(wanted - count)))?;
        }
    }

    fn first_filler(&mut self) -> Result<&'static str, String> {
        let created = FILLERS.into_iter().find(|name| self.talk.ok(&format!("CREATE {name}")).is_ok());
        let filler = created.ok_or("no mailbox can be created")?;
        append(&mut self.talk, filler, "d", None, &Message::plain(0))?;
        self.filler = Some(filler);
        Ok(filler)
    }

    fn remove_filler(&mut self) -> Result<(), String> {
        let Some(filler) = self.filler else { return Ok(()) };
        self.talk.ok(&format!("DELETE {filler}")).map(drop)
    }

    /// Makes the subscriptions those of the header, also where nothing exists under a name.
    fn subscribe(&mut self) -> Result<(), String> {
        let wanted: BTreeSet<String> = self.header.subscribed.iter().cloned().collect();
        for name in self.subscriptions()?.difference(&wanted) {
            self.talk.ok(&format!("UNSUBSCRIBE \"{name}\""))?;
        }
        for name in &wanted {
            if self.talk.ok(&format!("SUBSCRIBE \"{name}\"")).is_err() {
                for verb in ["CREATE", "SUBSCRIBE", "DELETE"] {
                    self.talk.ok(&format!("{verb} \"{name}\""))?;
                }
            }
        }
        match self.subscriptions()?.symmetric_difference(&wanted).next() {
            Some(name) => Err(format!("nobody can be subscribed to {name}, which does not exist")),
            None => Ok(()),
        }
    }

    fn subscriptions(&mut self) -> Result<BTreeSet<String>, String> {
        let said = self.talk.ok("LSUB \"\" \"*\"")?;
        let name = |line: &Vec<u8>| {
            let line = String::from_utf8_lossy(line).into_owned();
            let (_, name) = line.split_once("\" ")?;
            Some(name.trim_matches('"').to_owned())
        };
        Ok(said.iter().filter_map(name).collect())
    }
}

fn contains(octets: &[u8], word: &[u8]) -> bool {
    octets.windows(word.len()).any(|part| part == word)
}

/// `21-Sep-2026 14:13:20 +0000`.
fn written(moment: i64) -> String {
    let day = date::Day::of(moment).map(|day| day.to_string()).unwrap_or_default();
    let second = moment.rem_euclid(86_400);
    format!("{day:0>11} {:02}:{:02}:{:02} +0000", second / 3600, second / 60 % 60, second % 60)
}
