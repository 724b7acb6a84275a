//! What goes into a `Session` and what comes out of it.
//!
//! The shell gives octets and moments; the session answers with effects, to be carried out in order:
//!
//!     in:  Octets(Client, "a NOOP\r\n")        out: Pass { from: Client, start: 0, len: 8 }
//!     in:  Octets(Backend, "a OK done\r\n")    out: Pass { from: Backend, start: 0, len: 11 }
//!
//! A span (`Pass`) names octets of the input just given, so a line that nobody changes is never copied by the core.

use std::{ops::Range, sync::Arc};

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
    /// The answer to [`Effect::Upgrade`]: TLS runs on this side.
    Upgraded(Side),
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
    /// After everything before it has been sent, begin TLS on this side; answer with [`Input::Upgraded`].
    Upgrade(Side),
    /// The backend accepted the login: count the session, log it.
    Authenticated,
    /// The backend refused the login: count it, write the line for fail2ban.
    Refused,
    /// Send what is unsent, then close this side.
    ///
    /// `clean: false` means that the stream stops inside a response: no BYE, and on TLS no close_notify, so that half a
    /// response never passes for a whole one.
    Close {
        /// Which side.
        side: Side,
        /// Whether the stream ends at a response boundary.
        clean: bool,
    },
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
}

/// Who wants to log in.
#[derive(Debug)]
pub struct Dial {
    /// The name the client gave, decoded, as it will stand in logs and in the registry of sessions.
    ///
    /// `None` under CRAM-MD5, where the backend's challenge comes before the name: only on listeners with one backend.
    pub user: Option<Arc<str>>,
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
    pub profile: Option<Arc<str>>,
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
