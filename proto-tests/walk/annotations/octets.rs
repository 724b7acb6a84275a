//! Any octets as the name of a mailbox, of an entry, of an attribute, or as a value, written in every way there is: what is taken
//! is read back as it was, what is not is NO or BAD and nothing else, and nothing of it is ever a command or more than a word of
//! a log line.
//!
//!     C: a SETMETADATA INBOX (/private/comment ~{28+}
//!     C| x)<CR><LF>z9 CREATE smuggled<CR><LF>...)

use std::{collections::BTreeMap, sync::Arc};

use lemonade_proxy::io::log::Clean;
use proto_tests::{cast::Cut, model::Settings, random::Random};

use super::{
    Kept, kept, same,
    truth::Place,
    wire::{Session, metadata},
};

const RUNS: usize = 6_000;

/// What such octets are made of.
const PIECES: [&[u8]; 20] = [
    b"\r\n",
    b"\r\nz9 CREATE smuggled\r\n",
    b"\"",
    b"\\",
    b"(",
    b")",
    b"{5}",
    b"{3+}\r\n",
    b"~{1}",
    b"\0",
    b"\xff",
    b"\xe2\x80\xae",
    b"\x1b[31m",
    b" ",
    b"NIL",
    b"*",
    b"%",
    b"/private/comment",
    b"INBOX",
    b"x",
];

/// What the backend may be asked to do in such a session.
const VERBS: [&str; 7] = ["CAPABILITY", "GETMETADATA", "LIST", "LOGIN", "LOGOUT", "NOOP", "SETMETADATA"];

#[test]
fn no_octet_of_a_name_or_a_value_does_harm() {
    let seed = Random::seed();
    println!("SEED={seed}");
    let mut random = Random::new(seed);
    for words in ["IMAP4rev1", "IMAP4rev1 LITERAL+", "IMAP4rev1 METADATA", "IMAP4rev1 METADATA LITERAL+"] {
        for _ in 0..20 {
            let mut end = Run::new(&mut random, words);
            for _ in 0..RUNS / 80 {
                end = end.and_then(|run| run.step(&mut random));
            }
            if let Err(failure) = end {
                panic!("SEED={seed}, {words}: {failure}");
            }
        }
    }
}

struct Run {
    session: Session,
    store: Arc<Kept>,
    /// Commands of the backend that were looked at.
    executed: usize,
}

impl Run {
    fn new(random: &mut Random, words: &str) -> Result<Self, String> {
        let store = Arc::new(Kept::default());
        let settings = Settings { most_entries: 100_000, ..Settings::with(words) };
        let own = Random::new(random.bits());
        let session = Session::new(&settings, Cut::Random(own.clone()), own, store.clone(), 2_000, None)?;
        Ok(Self { session, store, executed: 0 })
    }

    fn step(mut self, random: &mut Random) -> Result<Self, String> {
        self.tried(random).map_err(|why| {
            let trace = &self.session.scene.trace;
            format!("{why}\n  {}", trace[trace.len().saturating_sub(25)..].join("\n  "))
        })?;
        Ok(self)
    }

    fn tried(&mut self, random: &mut Random) -> Result<(), String> {
        let octets = some_octets(random);
        let draft = random.one_in(2);
        let [mut mailbox, mut entry, mut attribute] = [&b"INBOX"[..], b"/private/comment", b""].map(<[u8]>::to_vec);
        let mut value = b"value".to_vec();
        if draft {
            (entry, attribute) = (b"/comment".to_vec(), b"value.priv".to_vec());
            mailbox.clear();
        }
        match random.below(5) {
            0 => mailbox.clone_from(&octets),
            1 => entry = [&entry[..], b"/", &octets].concat(),
            2 if draft => attribute.clone_from(&octets),
            _ => value.clone_from(&octets),
        }
        // A mailbox of that name, if the model can have one.
        if let Ok(name) = std::str::from_utf8(&mailbox)
            && !name.is_empty()
            && !name.contains('\0')
            && random.one_in(2)
        {
            self.session.scene.backend.store().mailbox_or_new(name);
        }
        let before = self.everything()?;
        let mut set = vec![b"SETMETADATA ".to_vec()];
        let mut get = vec![b"GETMETADATA ".to_vec()];
        self.session.string(&mailbox, &mut set);
        for (text, name) in [(" (", &entry), (" (", &attribute)] {
            if !name.is_empty() {
                set.last_mut().expect("a command").extend_from_slice(text.as_bytes());
                self.session.string(name, &mut set);
            }
        }
        let end: &[u8] = if draft { b"))" } else { b")" };
        self.session.value(Some(&value), &mut set);
        set.last_mut().expect("a command").extend_from_slice(end);
        let taken = self.session.say(set)?;
        let after = self.everything()?;
        let changed = after.iter().filter(|(place, value)| before.get(*place) != Some(*value)).count();
        match taken.status.as_str() {
            "OK" if changed <= 1 || draft => {}
            "NO" | "BAD" => same("after a refusal", &after, &before)?,
            status => return Err(format!("{status}, and {changed} entries have changed")),
        }
        // Of the server in the draft, of any mailbox in RFC 5464.
        let [first, second] = if draft { [&entry, &attribute] } else { [&mailbox, &entry] };
        self.session.string(first, &mut get);
        get.last_mut().expect("a command").push(b' ');
        self.session.string(second, &mut get);
        let got = self.session.say(get)?;
        let pattern = draft && entry.iter().any(|octet| b"*%".contains(octet));
        let readable = !pattern && (!draft || mailbox.is_empty());
        if taken.is_ok() && readable {
            let pairs = got.lines.first().and_then(|line| metadata(line)).map(|(_, pairs)| pairs).unwrap_or_default();
            let values: Vec<_> = pairs.into_iter().map(|(_, value)| value).collect();
            same("read back", &values, &vec![value])?;
        }
        if !matches!(got.status.as_str(), "OK" | "NO" | "BAD") {
            return Err(format!("{} {}", got.status, got.text));
        }
        self.session.ok(vec![b"NOOP".to_vec()])?;
        self.check_commands()?;
        check_log(&octets)
    }

    /// All that is kept anywhere.
    fn everything(&mut self) -> Result<BTreeMap<Place, Vec<u8>>, String> {
        let [mut here, there] = kept(&self.store, &self.session.scene.backend)?;
        here.extend(there);
        Ok(here)
    }

    fn check_commands(&mut self) -> Result<(), String> {
        let executed = self.session.scene.backend.executed();
        for command in &executed[self.executed..] {
            let mut words = command.split(|octet| *octet == b' ');
            let (tag, verb) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let known = VERBS.iter().any(|known| verb.eq_ignore_ascii_case(known.as_bytes()));
            if !known || tag == b"z9" {
                return Err(format!("executed: {}", command.escape_ascii()));
            }
        }
        self.executed = executed.len();
        match self.session.scene.backend.store().mailboxes.contains_key("smuggled") {
            true => Err("smuggled exists".to_owned()),
            false => Ok(()),
        }
    }
}

/// Names of users, devices and mailboxes come into a line of the log in one way.
fn check_log(octets: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(octets);
    let written = Clean(&text).to_string();
    let visible = |char: char| char.is_ascii_graphic() || char.is_alphanumeric();
    let sound = !written.is_empty() && written.chars().all(|char| visible(char) && char != '"');
    sound.then_some(()).ok_or_else(|| format!("a line of the log has {written:?}"))
}

fn some_octets(random: &mut Random) -> Vec<u8> {
    let mut octets = Vec::new();
    for _ in 0..random.below(6) {
        octets.extend_from_slice(PIECES[random.below(PIECES.len())]);
        if random.one_in(4) {
            octets.push(random.bits() as u8);
        }
    }
    octets
}
