//! What goes into a `Session` and what comes out of it.
//!
//! The shell gives octets and moments; the session answers with effects, to be carried out in order:
//!
//!     in:  Octets(Client, "a NOOP\r\n")        out: Pass { from: Client, start: 0, len: 8 }
//!     in:  Octets(Backend, "a OK done\r\n")    out: Pass { from: Backend, start: 0, len: 11 }
//!
//! A span (`Pass`) names octets of the input just given, so a line that nobody changes is never copied by the core.

use std::{ops::Range, sync::Arc};

use super::{
    aside::{Sent, Told},
    idle::Pace,
    key::Key,
    layer::Ask,
    profile::{Look, Profile},
};
use crate::{
    imap::{entry::EntryName, id::Fields, sasl::Mechanism},
    mailbox::{
        self,
        event::{Event, Manner},
        overview::Finding,
        shadow::Sighting,
        tree::Renaming,
    },
    store::{Change, Changed, DeviceName, Found, Owner, Query, Source, StoreError},
};

/// One of the two peers of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The mail program.
    Client,
    /// The mail store behind us.
    Backend,
}

impl Side {
    /// The peer that hears what this one says.
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
}

/// Something happened outside.
#[derive(Debug)]
pub enum Input<'a> {
    /// The client has connected (and TLS runs, on a listener for implicit TLS): first of all inputs.
    Opened,
    /// All that this side has sent and the session has not taken yet, in one piece.
    ///
    /// Given again, with more behind it or with nothing new, until it is taken.
    Octets(Side, &'a [u8]),
    /// The literal of the last [`Effect::Connect`] or [`Effect::Discard`] from this side is through.
    Carried(Side),
    /// The answer to [`Effect::Dial`].
    Dialled(Result<Box<Dialled>, DialError>),
    /// The answer to [`Effect::Upgrade`]: TLS, or DEFLATE, runs on this side.
    Upgraded(Side),
    /// The answer to [`Effect::Keep`].
    Kept(Box<Answer>),
    /// The answer to [`Effect::Aside`].
    Told(Box<Told>),
    /// Another session of this account, or an operator, has something to say.
    Noticed(&'a Notice),
    /// This side is gone: end of stream, reset, or no answer to keep-alives.
    Gone(Side),
    /// The proxy shuts down: say BYE at the next response boundary.
    Drain,
    /// The moment of `Session::deadline` has come.
    Wake,
}

/// Something to be done outside, in the order given.
#[derive(Debug)]
pub enum Effect {
    /// Send this span of the input just given to the other side.
    Pass {
        /// Whose octets they are.
        from: Side,
        /// Where in the input they begin.
        start: usize,
        /// How many they are.
        len: usize,
    },
    /// Send these octets of [`Effects::text`] to this side.
    Put(Side, Range<usize>),
    /// Carry the next octets of this side to the other one, without asking; then say [`Input::Carried`].
    Connect {
        /// Whose octets they are.
        from: Side,
        /// How many they are; they begin behind what `Session::handle` took.
        len: u64,
    },
    /// Read and drop the next octets of this side, then say [`Input::Carried`].
    Discard {
        /// Whose octets they are.
        from: Side,
        /// How many they are.
        len: u64,
    },
    /// Find the backend of this user and connect to it; answer with [`Input::Dialled`].
    Dial(Box<Dial>),
    /// Behind everything before it, begin this on this side; answer with [`Input::Upgraded`].
    Upgrade(Side, Upgrade),
    /// The backend accepted the login: count the session, log it.
    Authenticated {
        /// Who; unknown only where a relayed mechanism did not say.
        user: Option<Arc<str>>,
        /// In whose name, if not in their own (RFC 4616, authzid): whose mail it is.
        acting: Option<Arc<str>>,
        /// How to log in so once more, if the secret was ours to read.
        key: Option<Arc<Key>>,
    },
    /// The backend refused the login: count it, write the line for fail2ban.
    Refused {
        /// Who, if it was said.
        user: Option<Arc<str>>,
    },
    /// Ask the store, after everything asked before; answer with [`Input::Kept`].
    Keep(Box<Request>),
    /// Do this on an auxiliary connection of the account; answer with [`Input::Told`].
    Aside(Box<Sent>),
    /// Who had this errand, a layer by its level in the stack, wants no answer any more.
    Recall((u8, Ask)),
    /// Tell the other sessions of this account.
    Publish(Box<Notice>),
    /// Something has happened in the message store: tell those who follow.
    Event(Box<Event>),
    /// This is seen of the selected mailbox: it becomes events for those who follow, where it is news.
    Seen(Box<Sighting>),
    /// This was found out about the account: likewise.
    Found(Box<Finding>),
    /// Where somebody looks after the account: its client is told by STATUS that this mailbox, by its key, stands so.
    Shown(Box<[u8]>, Box<mailbox::status::Status>),
    /// The session belongs to this device from now on: keep that it was seen.
    Bind(Box<Binding>),
    /// This backend tells its news so, and not as it says, as far as this session has found out.
    Learned(Look),
    /// The backend connection was lost under a client that listens: how far it is to be had again.
    Reconnect(Reconnect),
    /// Close the connection to the backend, at once; the client may try another login, or need not know.
    HangUp,
    /// The connection to the backend outlives the session: nothing is under way on it. `idling`: but an IDLE. `told`: the backend tells its news
    /// there.
    Leave {
        /// It is to be ended by DONE.
        idling: bool,
        /// As far as anybody knows.
        told: bool,
    },
    /// The session is over: send what is unsent, then close both sides.
    ///
    /// `clean: false` means that the client's stream stops inside a response: no BYE, and on TLS no close_notify, so that
    /// half a response never passes for a whole one.
    End {
        /// Why, for the log and the metrics.
        why: End,
        /// Whether the client's stream ends at a response boundary.
        clean: bool,
    },
}

/// What a connection goes over to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// TLS. Nothing is said to this side before it runs, and what the side has said in clear is void (RFC 3501 6.2.1).
    Tls,
    /// DEFLATE. Whatever stands behind this is compressed, and so is what the side has said and we have not taken (RFC 4978).
    Deflate,
}

/// What becomes of a session whose backend connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// It is lost.
    Lost,
    /// The backend has let the client in again.
    Joined,
    /// The client knows what has changed meanwhile: the end of the trouble.
    Settled,
    /// Server, account or mailbox are not what they were, or nobody can tell: the session ends.
    Changed,
    /// The backend does not take the password or token any more: the session ends.
    Refused,
    /// The backend did not come back in time: the session ends.
    GivenUp,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The client said LOGOUT.
    #[error("logout")]
    Logout,
    /// The client was gone.
    #[error("client gone")]
    ClientGone,
    /// The backend said BYE, or was gone.
    #[error("backend gone")]
    BackendGone,
    /// A peer was silent for too long.
    #[error("silent for too long")]
    Idle,
    /// No login within the time there is for it, or too many bad commands before it.
    #[error("no login")]
    NoLogin,
    /// The proxy shuts down.
    #[error("shut down")]
    Drained,
    /// The connection could not go on.
    #[error("{0}")]
    Fault(Fault),
}

impl End {
    /// What those who follow events are told of it. Only a client that said LOGOUT has left; from all others something was taken.
    pub const fn manner(self) -> Manner {
        match self {
            Self::Logout => Manner::Graceful,
            Self::Idle | Self::NoLogin => Manner::Timeout,
            Self::ClientGone | Self::BackendGone | Self::Drained | Self::Fault(_) => Manner::Abort,
        }
    }
}

/// Whose fault it is that a connection cannot go on, and what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The client broke the protocol in a way that leaves nothing to rely on.
    #[error("client: {0}")]
    Client(&'static str),
    /// The backend did.
    #[error("backend: {0}")]
    Backend(&'static str),
    /// We did.
    #[error("ours: {0}")]
    Ours(&'static str),
}

/// A question to the store, and who asks.
#[derive(Debug)]
pub struct Request {
    /// The layer, by its level in the stack, and its question.
    pub from: (u8, Ask),
    /// What is asked.
    pub keeping: Keeping,
}

/// What the store is asked. The shell knows whose session it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// To change something.
    Save(Change),
    /// To find something.
    Load(Query),
}

/// What the store has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is on the disk.
    Saved(Changed),
    /// This was found.
    Found(Found),
    /// Nothing was changed: the account would have more than it may.
    OverQuota(OverQuota),
}

/// Which of the bounds of an account a change would have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverQuota {
    /// So many entries.
    Entries(u64),
    /// So many octets.
    Octets(u64),
}

impl OverQuota {
    /// Which bound it is, if that is what is wrong.
    pub fn of(error: &StoreError) -> Option<Self> {
        match error {
            StoreError::TooMany(most) => Some(Self::Entries(*most)),
            StoreError::TooLarge(most) => Some(Self::Octets(*most)),
            StoreError::Unavailable(_) => None,
        }
    }
}

/// The answer of the store on its way to who asked.
#[derive(Debug)]
pub struct Answer {
    /// Who asked.
    pub to: (u8, Ask),
    /// The time of day, in seconds since 1970: the core has no clock of its own.
    pub at: i64,
    /// What came of it; nothing: the store is not available.
    pub kept: Option<Kept>,
}

impl Answer {
    /// What the store says, as a session hears it.
    pub fn new(to: (u8, Ask), at: i64, result: Result<Kept, StoreError>) -> Self {
        let kept = match result {
            Ok(kept) => Some(kept),
            Err(error) => OverQuota::of(&error).map(Kept::OverQuota),
        };
        Self { to, at, kept }
    }
}

/// What those who work for one account tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The user of this device is to be told this (RFC 3501 section 7.1, ALERT), in ASCII.
    Alert(DeviceName, Box<str>),
    /// Entries were changed.
    Annotated(Annotated),
    /// A mailbox was looked at: nobody need ask again at once.
    Looked(Looked),
    /// A mailbox was created, deleted or renamed, this one perhaps, or what the user is subscribed to has changed.
    Names(Option<Renaming>),
}

/// A look at a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Its key.
    pub mailbox: Box<[u8]>,
    /// Something may have happened since the look before.
    pub stirred: bool,
    /// How it stands, if that was asked.
    pub status: Option<mailbox::status::Status>,
}

/// Entries of an account that were changed (RFC 5464 section 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotated {
    /// Of which mailbox; empty: of the server.
    pub mailbox: Box<[u8]>,
    /// Whose they are: what belongs to one device, no other hears of.
    pub owner: Owner,
    /// Which.
    pub entries: Vec<EntryName>,
}

/// To which device a session belongs, and how that is known (architecture section 12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its name.
    pub device: DeviceName,
    /// How it is known.
    pub source: Source,
}

impl Binding {
    /// What a client says of its device in ID, if that is a name.
    pub fn said_by(fields: &Fields) -> Option<Self> {
        let device = DeviceName::parse(fields.value("device-id")?.as_bytes()).ok()?;
        Some(Self { device, source: Source::Id })
    }

    /// Whether it stands over what was known before: the first ID over all that was guessed, an entry over everything, and
    /// a registration only over nothing.
    pub fn replaces(&self, before: &Self) -> bool {
        match self.source {
            Source::Entry => true,
            Source::Suffix | Source::Id => matches!(before.source, Source::Registration | Source::Default),
            Source::Registration | Source::Operator | Source::Default => before.source == Source::Default,
        }
    }
}

impl Default for Binding {
    fn default() -> Self {
        Self { device: DeviceName::default(), source: Source::Default }
    }
}

/// Effects on their way out, and the octets that [`Effect::Put`] names.
///
/// It belongs to the caller, who uses one for many sessions: a session at rest owns no buffer (architecture 13.2).
#[derive(Debug, Default)]
pub struct Effects {
    /// What to do, first things first.
    pub list: Vec<Effect>,
    /// The octets that are ours.
    pub text: Vec<u8>,
    /// Commands that began, for the metrics.
    pub commands: u64,
    /// Commands that the backend was given on behalf of a client that listens.
    pub looks: u64,
    /// Somebody follows events of this user, says the caller: then they are worth making.
    pub followed: bool,
    /// Somebody looks after the account while its devices are away, says the caller: he hears of what leaves no trace in a mailbox.
    pub attended: bool,
    /// Somebody wants the connection to the backend when the client has gone, says the caller.
    pub kept: bool,
}

/// Who wants to log in.
#[derive(Debug)]
pub struct Dial {
    /// The name the client gave, decoded, as it will stand in logs and in the registry of sessions.
    ///
    /// `None` under CRAM-MD5, where the backend's challenge comes before the name: only on listeners with one backend.
    pub user: Option<Arc<str>>,
    /// With which mechanism; `None` for the LOGIN command.
    pub mechanism: Option<Mechanism>,
    /// The session has its place already: only its backend connection was lost.
    pub again: bool,
}

/// A connection to a backend stands, and its greeting has not been read.
#[derive(Debug)]
pub struct Dialled {
    /// The backend's name in the configuration.
    pub backend: Arc<str>,
    /// The user's name as this backend knows it.
    pub user: Arc<str>,
    /// TLS must begin by STARTTLS before anything secret is said.
    pub starttls: bool,
    /// Where the client comes from, if the operator trusts this backend with it.
    pub origin: Option<Origin>,
    /// The profile set by the operator, if any; otherwise the greeting tells.
    pub profile: Option<&'static Profile>,
    /// How it tells its news, if earlier sessions have found out.
    pub look: Option<Look>,
    /// How often it may be asked for news.
    pub pace: Pace,
    /// Other connections may be opened there in the client's name.
    pub auxiliary: bool,
}

/// What a trusted backend is told about the client, as fields of the ID command (RFC 2971).
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's address: `x-originating-ip`.
    pub ip: Box<str>,
    /// The client's port: `x-originating-port`.
    pub port: u16,
    /// Our own address that it connected to: `x-connected-ip`.
    pub connected_ip: Box<str>,
    /// The session's name in our logs: `x-session-id`.
    pub session_id: Box<str>,
}

impl Origin {
    /// What the client says of itself, and what we say of it. It does not speak for us.
    pub fn extend(&self, mut fields: Fields) -> Fields {
        ["x-originating-", "x-connected-", "x-session-"].iter().for_each(|prefix| fields.remove(prefix));
        fields.add(b"x-originating-ip", self.ip.as_bytes());
        fields.add(b"x-originating-port", self.port.to_string().as_bytes());
        fields.add(b"x-connected-ip", self.connected_ip.as_bytes());
        fields.add(b"x-session-id", self.session_id.as_bytes());
        fields
    }
}

/// Why there is no connection to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// No backend is responsible for this user.
    #[error("no backend for this user")]
    Unknown,
    /// No host of the backend answers, or the way to it could not be found out in time.
    #[error("backend unavailable")]
    Down,
    /// Too many failed logins of this user or address.
    #[error("too many failed logins")]
    TooManyFailures,
    /// This user has as many sessions as one user may have.
    #[error("too many sessions of this user")]
    TooManySessions,
    /// Too many logins are under way at this backend.
    #[error("too many logins under way")]
    Busy,
}

impl Effects {
    /// A span of the input goes to the other side. Neighbours are merged.
    pub fn pass(&mut self, from: Side, start: usize, len: usize) {
        match self.list.last_mut() {
            _ if len == 0 => {}
            Some(Effect::Pass { from: before, start: at, len: octets })
                if *before == from && *at + *octets == start =>
            {
                *octets += len;
            }
            _ => self.list.push(Effect::Pass { from, start, len }),
        }
    }

    /// Octets of ours go to this side. Neighbours are merged.
    pub fn put(&mut self, to: Side, octets: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(octets);
        self.put_from(to, start);
    }

    /// The octets of [`Effects::text`] from `start` on go to this side: for those who write there piece by piece.
    pub fn put_from(&mut self, to: Side, start: usize) {
        let end = self.text.len();
        match self.list.last_mut() {
            _ if start == end => {}
            Some(Effect::Put(side, range)) if *side == to && range.end == start => range.end = end,
            _ => self.list.push(Effect::Put(to, start..end)),
        }
    }

    /// Any other effect.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Empties both lists and keeps their memory, and the caller's word.
    pub fn clear(&mut self) {
        self.list.clear();
        self.text.clear();
        self.commands = 0;
        self.looks = 0;
    }
}
