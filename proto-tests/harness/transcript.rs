//! A protocol test that reads as a session: the files of `proto-tests/transcripts`.
//!
//! ```text
//! # noop/news.imap                            RFC 3501 6.1.2: NOOP tells what happened
//! backend: IMAP4rev1 IDLE                     ; what the model backend has
//! mailbox: INBOX 11s 12 13s                   ; messages by UID; s = \Seen a = \Answered f = \Flagged d = \Deleted r = \Recent
//!
//! C: a SELECT INBOX
//! S: * 3 EXISTS
//! S: ...
//! S: a OK ...
//! O: expunge INBOX 12
//! C: b NOOP
//! S: * 2 EXPUNGE
//! S: b OK ...
//! ```
//!
//! | line | meaning |
//! |---|---|
//! | `C:` | the client sends this line; lines behind one another go out in one segment |
//! | `C\|` | the same, taken as it stands: no comment, no variable |
//! | `C\` | the client sends these octets: `\r \n \0 \\ \xHH`, and `\{N*TEXT}` for TEXT N times; no line end is added |
//! | `S:` | the client gets this line: `...` is anything, `$name` what it was before, or anything without blanks |
//! | `S: ...` | any lines, up to the one expected next |
//! | `S\|`, `S\` | the same for literal text and for octets |
//! | `U: deflate` | here the client's stream goes over to DEFLATE, in both directions; what follows is written as it is inflated |
//! | `S.` | its connection is closed by now; `S. clean` at a response boundary, `S. cut` inside a response |
//! | `>` | the backend gets this line, `>\|` as it stands. With `<` behind it, the model does not see it |
//! | `<` | the backend sends this line, `<\|` and `<\` as above; `< (nothing)`: it keeps silent |
//! | `C>` | the client sends this and the backend gets the same |
//! | `S<` | the backend sends this and the client gets the same |
//! | `>.` | the connection to the backend is closed by now |
//! | `C.`, `<.` | the client, or the backend, closes its connection; `O:` lines behind `<.` happen before there is another one |
//! | `!S`, `!>` | no such line comes to the client, no such command was executed by the backend, in the whole session |
//! | `E:` | those who follow events hear of this one: `E: MailboxCreate Work`, see [`crate::events`]; each event has its line, from the first to the last. In a transcript without such lines nobody follows |
//! | `O:` | another client: `append BOX 16s`, `expunge BOX 12`, `flags BOX 12 \Seen \Deleted`, `create BOX`, `delete BOX`, `rename BOX NAME`, `subscribe BOX`, `unsubscribe BOX`, `metadata BOX ENTRY VALUE`; another session of the account, at the proxy: `annotated BOX ENTRY`, `annotated BOX ENTRY DEVICE`; it has looked at a mailbox and found nothing, or something: `looked BOX`, `found BOX`, each perhaps with a STATUS, `looked BOX (MESSAGES 3)`; it has changed `names`, or, `names WORK PLAY`, called one otherwise; the administrator: `quota (STORAGE 10 512)`; the disk under what is kept becomes `store full`, `store gone`, `store well` |
//! | `T:` | time passes: `T: 29m` |
//! | `P: drain` | the operator ends the proxy |
//! | `P: kill` | the proxy is killed; another one begins, with what was kept, and what the header says has happened before happens again |
//! | `P: looked BOX` | the proxy tells the other sessions of the account that this mailbox was looked at and nothing found, or something: `P: found BOX`; each look has its line, from the first to the last |
//!
//! A comment begins with `;`, behind two blanks or at the start of a line. A tag `p1` in `>` and `<` lines is a variable:
//! the prefix of the proxy's own tags is random.
//!
//! The header ends with an empty line. `mailbox: BOX 11..19/2s` are messages 11, 13, 15, 17 and 19. Besides `backend` and
//! `mailbox` it knows: `message: BOX 12s` with the message in
//! `|` lines; `arrived: BOX 12 13, 17-Jul-1996 02:44:25 -0700` (the INTERNALDATE of these messages; the clock says
//! 21-Sep-2026 14:13:20 UTC); `state: greeting | connected | authenticated | selected BOX` (what has happened before the first line, by
//! default a login); `user: NAME PASSWORD`; `greeting:`, `namespace:`, `id:`, `separator:`, `subscribed: NAMES`,
//! `noselect: NAMES`, `special: Sent=\Sent, Bin=\Trash`, `rights: BOX lrs, OTHER l` (of mailboxes where the user has not all
//! of them); `metadata: size=1024 entries=10` (bounds of annotations); `quota: (STORAGE 10 512)`;
//! `announces: yes` (the backend sends CAPABILITY codes); `mischief: NAMES`; `order: any` (untagged lines expected behind
//! one another come in any order); `proxy: only` (what is shown is the proxy's doing, the model alone cannot);
//! `events: unfollowed` (nobody follows, so no event is made), `events: messages` or `messages and flags` (those who follow hear
//! of messages too);
//! `account: SMS=WAKEUP entries=3` (channels and settings of `[account]`), `store: full` (nothing can be kept any more; `store: gone`:
//! nor read), `extensions: FILTERS=always MOVE=never`, `listener:`, `dial:`, `limits:`, `timeouts:` for the proxy, see
//! [`crate::proxy`].
//!
//! With `order: any` an untagged response without gaps stands for what it means: strings may be atoms, quoted or literals,
//! attributes come in any order and case, LIST may add `\HasChildren` and the like where none of them is expected, and
//! METADATA and STATUS responses may be joined or split. `S|` stays as it is. A response with literals is expected line by
//! line, `S: * METADATA INBOX (/private/comment {5}` and `S: hello)`, or, to be understood, whole in one `S\`.
//!
//! A capability in brackets is optional: `backend: IMAP4rev1 [METADATA]`. A client cannot tell whether the backend has it or
//! the proxy does it, so the transcript runs directly and through the proxy with it, and as another test, `... without
//! METADATA`, through the proxy before a backend that lacks it.
//!
//! Every transcript runs whole, octet by octet and cut at random. Those of RFCs are played at real servers too, see [`live`]:
//! `deviates: SERVERS, REASON`, once or more, says what a server does otherwise, lines that begin with `@SERVER,SERVER` or
//! `@!SERVER,SERVER` are said at these alone, or at all but these; `live: no, REASON` where no real server can be asked.

pub mod live;
mod meaning;
mod pattern;
mod read;
mod run;
mod unordered;

use std::{fmt, path::PathBuf, time::Duration};

pub use self::run::Run;
use self::{live::Servers, pattern::Pattern};
use crate::model::{Backend, Message, Settings};

/// One transcript, read.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// Where it stands.
    pub path: PathBuf,
    /// What it needs.
    pub header: Header,
    /// What is said before the model.
    steps: Vec<Step>,
    /// What is said before it, or before some real server.
    everywhere: Vec<(Servers, Step)>,
}

/// What a transcript needs.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// The backend.
    pub settings: Settings,
    /// Its mailboxes: name, UID, flags, content.
    pub messages: Vec<Stored>,
    /// When messages arrived, where it matters: mailbox, UIDs, date.
    pub arrived: Vec<(String, Vec<u32>, String)>,
    /// Mailboxes that exist, with or without messages.
    pub mailboxes: Vec<String>,
    /// What is subscribed to.
    pub subscribed: Vec<String>,
    /// Names that cannot be selected.
    pub noselect: Vec<String>,
    /// What mailboxes are for.
    pub special: Vec<(String, Vec<String>)>,
    /// What the user may do, where it is not everything.
    pub rights: Vec<(String, String)>,
    /// How much of the quota is used.
    pub quota: Option<String>,
    /// Capabilities of the backend that the proxy may stand in for.
    pub optional: Vec<String>,
    /// What has happened before the first line.
    pub state: Before,
    /// Untagged lines come in any order.
    pub any_order: bool,
    /// Shows what only the proxy does.
    pub proxy_only: bool,
    /// The bounds of annotations are given.
    pub is_bounded: bool,
    /// Servers that say something else, and why.
    pub deviations: Vec<(String, String)>,
    /// Why no real server can be asked this.
    pub not_live: Option<String>,
    /// Settings of the proxy, by name.
    pub proxy: Vec<(String, String)>,
}

/// A message of the header.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where it lies.
    pub mailbox: String,
    /// Its UID.
    pub uid: u32,
    /// Its flags as letters.
    pub flags: String,
    /// Header and body, if the transcript cares.
    pub octets: Option<Vec<u8>>,
}

/// What has happened before the first line of a transcript.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Before {
    /// Nothing: the greeting is expected.
    Greeting,
    /// The greeting came.
    Connected,
    /// The first user logged in.
    #[default]
    Authenticated,
    /// And selected this mailbox.
    Selected(String),
}

#[derive(Clone, Debug)]
struct Step {
    line: usize,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    /// The client sends; variables are filled in.
    Client(Vec<u8>),
    ClientLine(String),
    ClientCloses,
    /// The client gets a line.
    Expect(Pattern),
    /// The client gets these octets.
    ExpectOctets(Vec<u8>),
    /// The client gets any lines, up to the next that is expected.
    ExpectAnything,
    /// The connection of the client is closed.
    ExpectEnd(Option<crate::cast::End>),
    /// The backend gets a line; `scripted` when the transcript answers it.
    Backend {
        pattern: Pattern,
        scripted: bool,
    },
    /// The connection to the backend is closed.
    BackendEnd,
    BackendSends(Vec<u8>),
    BackendLine(String),
    BackendCloses,
    /// No line for the client is like this.
    NeverClient(Pattern),
    /// No command is like this.
    NeverBackend(Pattern),
    /// Those who follow events hear of this one.
    Event(Pattern),
    /// The other sessions of the account hear of a look at a mailbox: what the line says.
    Published(String),
    Other(String),
    Time(Duration),
    Drain,
    Kill,
}

/// Why a transcript is not what happened.
#[derive(Debug)]
pub struct Failure {
    /// File and line.
    pub place: String,
    /// Which run.
    pub run: String,
    /// What was expected.
    pub expected: String,
    /// What came instead.
    pub got: String,
    /// The end of the session.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.place, self.run)?;
        writeln!(f, "  expected: {}", self.expected)?;
        writeln!(f, "  got:      {}", self.got)?;
        for line in &self.trace {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}

impl Transcript {
    /// Whether it is about events.
    pub fn tells_events(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.action, Action::Event(_)))
            || self.header.proxy.iter().any(|(name, _)| name == "events")
    }

    /// The same before a backend without what is optional; none if nothing is.
    pub fn without_optional(&self) -> Option<Self> {
        let mut without = self.clone();
        let optional = std::mem::take(&mut without.header.optional);
        without.header.settings.capabilities.retain(|word| !optional.contains(word));
        (!optional.is_empty()).then_some(without)
    }
}

impl Header {
    /// Fills a store with what the header describes.
    fn fill(&self, backend: &Backend) {
        let mut store = backend.store();
        for name in &self.mailboxes {
            store.mailbox_or_new(name);
        }
        for name in &self.noselect {
            store.mailbox_or_new(name).noselect = true;
        }
        for (name, uses) in &self.special {
            store.mailbox_or_new(name);
            store.assign(name, uses);
        }
        store.rights.extend(self.rights.iter().cloned());
        store.quota.clone_from(&self.quota);
        store.subscriptions.extend(self.subscribed.iter().cloned());
        for stored in &self.messages {
            let octets = stored.octets.clone().unwrap_or_else(|| Message::plain(stored.uid));
            let flags = flags_of(&stored.flags);
            let message = store.mailbox_or_new(&stored.mailbox).append(Some(stored.uid), flags, octets);
            message.recent = stored.flags.contains('r');
        }
        for (mailbox, uids, date) in &self.arrived {
            let messages = &mut store.mailbox_or_new(mailbox).messages;
            for message in messages.iter_mut().filter(|message| uids.contains(&message.uid)) {
                message.date.clone_from(date);
            }
        }
    }
}

/// The flags that these letters mean.
fn flags_of(letters: &str) -> Vec<String> {
    let flag = |letter| match letter {
        's' => Some("\\Seen"),
        'a' => Some("\\Answered"),
        'f' => Some("\\Flagged"),
        'd' => Some("\\Deleted"),
        't' => Some("\\Draft"),
        _ => None,
    };
    letters.chars().filter_map(flag).map(str::to_owned).collect()
}
