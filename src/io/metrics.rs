//! What the proxy counts: THE TABLE of metrics, and the handles through which everybody counts.
//!
//! Names begin with `lemonade_`, units are base units (seconds, bytes), and no label names a user, an address or a token:
//! what a label can say is written in the table, backends and certificates being named by the configuration. The README
//! prints the table ([`markdown`]); a test keeps the two together.
//!
//!     # TYPE lemonade_sessions gauge
//!     lemonade_sessions{state="idle"} 412
//!
//! Handles are resolved once and kept in [`Meters`] (architecture 13.8), so to count is one atomic addition:
//!
//!     meters.octets[Way::ClientSays].increment(taken);
//!
//! A gauge that follows something is moved by a guard ([`Held`]), so that it returns to zero however that something ends.

use std::{
    marker::PhantomData,
    ops::Index,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dashmap::DashMap;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use crate::{
    account::channel::Kind as ChannelKind,
    imap::sasl,
    outband::{channel::Outcome as ChannelOutcome, desk::Bar},
};

mod process;

/// One row of [`METRICS`].
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// What Prometheus calls it.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What one of it is.
    pub unit: Unit,
    /// What tells its series apart.
    pub labels: &'static [Tag],
    /// One sentence for those who run the proxy.
    pub help: &'static str,
}

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Upwards only.
    Counter,
    /// Up and down.
    Gauge,
    /// Counted in buckets.
    Histogram,
}

/// What one of a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Seconds; of a point in time, since 1970.
    Seconds,
    /// Octets.
    Bytes,
}

/// A label and what it can say.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    /// The label's name.
    pub key: &'static str,
    /// All its values; empty where the configuration, or the build, names them.
    pub values: &'static [&'static str],
}

/// THE TABLE: every metric there is, in the order of the README.
pub const METRICS: &[Metric] = &[
    CONNECTIONS,
    CONNECTIONS_REFUSED,
    SESSIONS,
    LOGINS,
    LOGIN_DURATION,
    COMMANDS,
    LISTENERS,
    LOOKS,
    OCTETS,
    LITERALS,
    FAULTS,
    HANDSHAKES,
    BACKEND_UP,
    BACKEND_SESSIONS,
    BACKEND_LOGINS,
    BACKEND_AUXILIARY,
    BACKEND_DIALS,
    BACKEND_DIAL_DURATION,
    BACKEND_RECONNECTS,
    STORE_UP,
    STORE_REQUESTS,
    STORE_DURATION,
    WATCHES,
    NOTICES,
    NOTICE_LATENCY,
    NOTICES_WAITING,
    NOTICES_OLDEST,
    SILENT_DEATHS,
    NOTICES_BARRED,
    FEED_EVENTS,
    FEED_REQUESTS,
    FEED_WAITING,
    FEED_OLDEST,
    DRAINS,
    RELOADS,
    CONFIG_REVISION,
    CONFIG_LOADED,
    CERTIFICATE_EXPIRY,
    TRACED_USERS,
    BUILD,
    process::CPU,
    process::DESCRIPTORS,
    process::RESIDENT,
];

const CONNECTIONS: Metric =
    counter("lemonade_connections_total", Unit::Count, &[], "Client connections accepted and admitted.");
const CONNECTIONS_REFUSED: Metric = counter(
    "lemonade_connections_refused_total",
    Unit::Count,
    &[tag::<Refused>()],
    "Client connections closed before a greeting, by reason.",
);
const SESSIONS: Metric =
    gauge("lemonade_sessions", Unit::Count, &[tag::<State>()], "Client connections open now, by what they do.");
const LOGINS: Metric = counter(
    "lemonade_logins_total",
    Unit::Count,
    &[tag::<Mechanism>(), tag::<Login>()],
    "Attempts to log in, by class of mechanism and outcome.",
);
const LOGIN_DURATION: Metric = histogram(
    "lemonade_login_duration_seconds",
    "From the client's LOGIN or AUTHENTICATE to the end of a successful login, the backend's part included.",
);
const COMMANDS: Metric = counter("lemonade_commands_total", Unit::Count, &[], "Commands received from clients.");
const LISTENERS: Metric = gauge(
    "lemonade_listening_clients",
    Unit::Count,
    &[NAMED_BACKEND, tag::<Listener>(), tag::<News>()],
    "Clients that hear of their selected mailbox without asking, by what they have said and by how news come.",
);
const LOOKS: Metric = counter(
    "lemonade_listening_commands_total",
    Unit::Count,
    BACKEND,
    "Commands given to the backend for the sake of clients that listen, by IDLE or NOTIFY; its own IDLE is one.",
);
const OCTETS: Metric = counter(
    "lemonade_transferred_bytes_total",
    Unit::Bytes,
    &[tag::<Way>()],
    "Octets of IMAP read and written, by who says them to the proxy or hears them from it; without TLS and DEFLATE.",
);
const LITERALS: Metric = counter(
    "lemonade_literals_streamed_total",
    Unit::Count,
    &[tag::<Stream>()],
    "Literals carried through without being held, by whom they were carried to.",
);
const FAULTS: Metric = counter(
    "lemonade_faults_total",
    Unit::Count,
    &[tag::<Whose>()],
    "Sessions that could not go on, by whose fault it was.",
);
const HANDSHAKES: Metric = counter(
    "lemonade_tls_handshakes_total",
    Unit::Count,
    &[tag::<Peer>(), tag::<Outcome>()],
    "TLS handshakes, by peer and outcome.",
);
const BACKEND_UP: Metric =
    gauge("lemonade_backend_up", Unit::Count, BACKEND, "1 while at least one host of the backend accepts connections.");
const BACKEND_SESSIONS: Metric =
    gauge("lemonade_backend_sessions", Unit::Count, BACKEND, "Sessions logged in at the backend now.");
const BACKEND_LOGINS: Metric =
    gauge("lemonade_backend_logins_in_flight", Unit::Count, BACKEND, "Logins under way at the backend now.");
const BACKEND_AUXILIARY: Metric = gauge(
    "lemonade_backend_auxiliary_connections",
    Unit::Count,
    BACKEND,
    "Connections open now that look into mailboxes which no client has selected.",
);
const BACKEND_DIALS: Metric = counter(
    "lemonade_backend_connects_total",
    Unit::Count,
    &[NAMED_BACKEND, tag::<Outcome>()],
    "Connections tried to the backend's hosts, by outcome.",
);
const BACKEND_DIAL_DURATION: Metric = Metric {
    labels: BACKEND,
    ..histogram("lemonade_backend_connect_duration_seconds", "Time to connect to a host of the backend, TLS included.")
};
const BACKEND_RECONNECTS: Metric = counter(
    "lemonade_backend_reconnects_total",
    Unit::Count,
    &[tag::<Reconnected>()],
    "Backend connections lost under clients that listen, by what became of it; all but ok ended the session.",
);
const STORE_UP: Metric = gauge(
    "lemonade_store_up",
    Unit::Count,
    &[],
    "1 while the store of devices and settings can be read and written; at 0 clients hear NO [UNAVAILABLE].",
);
const STORE_REQUESTS: Metric = counter(
    "lemonade_store_requests_total",
    Unit::Count,
    &[tag::<StoreOutcome>()],
    "Questions to the store of devices and settings, by outcome.",
);
const STORE_DURATION: Metric =
    histogram("lemonade_store_request_duration_seconds", "Time that the store took to answer, its disk included.");
const WATCHES: Metric = gauge(
    "lemonade_watches",
    Unit::Count,
    &[NAMED_BACKEND, tag::<WatchMode>(), tag::<Watching>()],
    "Accounts of which a device wants to hear while it is away, by how, and whether, somebody looks after their mailboxes.",
);
const NOTICES: Metric = counter(
    "lemonade_notify_total",
    Unit::Count,
    &[tag::<Channel>(), tag::<Notified>()],
    "Notices given to channels, by what became of them.",
);
const NOTICE_LATENCY: Metric = Metric {
    labels: &[tag::<Channel>()],
    ..histogram(
        "lemonade_notify_latency_seconds",
        "From the moment news were seen to the moment a channel had taken the notice.",
    )
};
const SILENT_DEATHS: Metric = counter(
    "lemonade_silent_deaths_total",
    Unit::Count,
    &[tag::<Peer>()],
    "Connections of accounts with subscribed devices that died without a word: a client acknowledged nothing, a backend did not answer.",
);
const NOTICES_WAITING: Metric = gauge(
    "lemonade_notify_waiting",
    Unit::Count,
    &[],
    "Routes with news that nobody has told yet: devices that are away and wait, for a moment, a limit or a provider.",
);
const NOTICES_OLDEST: Metric = gauge(
    "lemonade_notify_oldest_timestamp_seconds",
    Unit::Seconds,
    &[],
    "When the oldest of these news were seen; 0 where there are none.",
);
const NOTICES_BARRED: Metric = gauge(
    "lemonade_notify_barred",
    Unit::Count,
    &[tag::<Barred>()],
    "Routes that tell nothing yet, by reason: what comes waits for a confirmation, or for the next day.",
);
const FEED_EVENTS: Metric = counter(
    "lemonade_feed_events_total",
    Unit::Count,
    &[tag::<Fed>()],
    "Events for the server of [feed], by what became of them; it hears which numbers were lost.",
);
const FEED_REQUESTS: Metric = counter(
    "lemonade_feed_requests_total",
    Unit::Count,
    &[tag::<Outcome>()],
    "Requests to the server of [feed]; behind one that failed there is a pause.",
);
const FEED_WAITING: Metric = gauge(
    "lemonade_feed_waiting",
    Unit::Count,
    &[],
    "Events that the server of [feed] has not acknowledged, with those that were lost until it has heard so.",
);
const FEED_OLDEST: Metric = gauge(
    "lemonade_feed_oldest_timestamp_seconds",
    Unit::Seconds,
    &[],
    "When the first event was written that the server of [feed] has not acknowledged; 0 where there is none.",
);
const DRAINS: Metric = counter("lemonade_drains_total", Unit::Count, &[], "Times the proxy was told to drain.");
const RELOADS: Metric = counter(
    "lemonade_reloads_total",
    Unit::Count,
    &[tag::<Outcome>()],
    "Reloads of configuration and certificates; one that failed left the old ones in force.",
);
const CONFIG_REVISION: Metric = gauge(
    "lemonade_config_revision",
    Unit::Count,
    &[],
    "How many configurations have come into force since the start.",
);
const CONFIG_LOADED: Metric = gauge(
    "lemonade_config_loaded_timestamp_seconds",
    Unit::Seconds,
    &[],
    "When the configuration in force was loaded.",
);
const CERTIFICATE_EXPIRY: Metric = gauge(
    "lemonade_certificate_expiry_timestamp_seconds",
    Unit::Seconds,
    &[Tag { key: "certificate", values: &[] }],
    "When the certificate of this file expires.",
);
const TRACED_USERS: Metric = gauge(
    "lemonade_traced_users",
    Unit::Count,
    &[],
    "Users whose sessions are being traced; zero but for a diagnosis.",
);
const BUILD: Metric = gauge(
    "lemonade_build_info",
    Unit::Count,
    &[Tag { key: "version", values: &[] }],
    "Always 1; the version of the program that runs.",
);

const NAMED_BACKEND: Tag = Tag { key: "backend", values: &[] };
const BACKEND: &[Tag] = &[NAMED_BACKEND];

const fn counter(name: &'static str, unit: Unit, labels: &'static [Tag], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit, labels, help }
}

const fn gauge(name: &'static str, unit: Unit, labels: &'static [Tag], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: Unit::Seconds, labels: &[], help }
}

const fn tag<L: Words>() -> Tag {
    Tag { key: L::KEY, values: L::NAMES }
}

/// A label with a fixed set of values.
pub trait Words: Copy + 'static {
    /// The label's name.
    const KEY: &'static str;
    /// What it can say, in the order of the variants.
    const NAMES: &'static [&'static str];
    /// Which of them this one is.
    fn index(self) -> usize;
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident as $key:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// The word for it in metrics, logs and lists.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl Words for $name {
            const KEY: &'static str = $key;
            const NAMES: &'static [&'static str] = &[$($word,)*];
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

words! {
    /// Why a connection was closed before a greeting.
    Refused as "reason" {
        /// The address has as many connections as one address may have.
        Address = "address",
        /// The proxy is shutting down.
        Draining = "draining",
        /// The handshake was not finished in time, or failed.
        Handshake = "handshake",
        /// The network (IPv6 /64) has as many connections as one network may have.
        Network = "network",
        /// The PROXY header was missing, malformed, or came from elsewhere.
        ProxyHeader = "proxy_header",
        /// The proxy has as many connections as it may have.
        Total = "total",
    }
}

words! {
    /// What a client's connection is doing.
    State as "state" {
        /// Not logged in yet.
        Login = "login",
        /// Logged in.
        Authenticated = "authenticated",
        /// Logged in and inside IDLE.
        Idle = "idle",
    }
}

words! {
    /// The classes of mechanisms a client can log in by.
    Mechanism as "mechanism" {
        /// AUTHENTICATE CRAM-MD5.
        CramMd5 = "cram_md5",
        /// The LOGIN command.
        Login = "login",
        /// XOAUTH2 and OAUTHBEARER.
        Oauth = "oauth",
        /// AUTHENTICATE PLAIN and AUTHENTICATE LOGIN.
        Plain = "plain",
        /// SCRAM with any hash.
        Scram = "scram",
    }
}

words! {
    /// How an attempt to log in ended.
    Login as "outcome" {
        /// Logged in.
        Ok = "ok",
        /// The backend said NO.
        Refused = "refused",
        /// We said NO, because somebody tried too often or has too many sessions.
        Limited = "limited",
        /// No backend could be asked.
        Unavailable = "unavailable",
    }
}

words! {
    /// By what a client listens.
    Listener as "kind" {
        /// IDLE.
        Idle = "idle",
        /// NOTIFY.
        Notify = "notify",
    }
}

words! {
    /// How a client that listens hears of news.
    News as "news" {
        /// The backend tells them in IDLE.
        Idle = "idle",
        /// The backend is asked by NOOP.
        Noop = "noop",
        /// The backend is asked by STATUS, and the mailbox selected again.
        Reselect = "reselect",
    }
}

words! {
    /// Which way octets go.
    Way as "way" {
        /// From the client.
        ClientSays = "client_says",
        /// To the client.
        ClientHears = "client_hears",
        /// To the backend.
        BackendHears = "backend_hears",
        /// From the backend.
        BackendSays = "backend_says",
    }
}

words! {
    /// Whom a literal is carried to.
    Stream as "to" {
        /// A message that is read.
        Client = "client",
        /// A message that is appended.
        Backend = "backend",
    }
}

words! {
    /// Whose fault it was (architecture 9).
    Whose as "whose" {
        /// The mail program broke the protocol.
        Client = "client",
        /// The mail store broke the protocol, or went away.
        Backend = "backend",
        /// We could not do what we ought to.
        Ours = "ours",
    }
}

words! {
    /// One of the two peers of a session.
    Peer as "peer" {
        /// The mail program.
        Client = "client",
        /// The mail store.
        Backend = "backend",
    }
}

words! {
    /// Whether something succeeded.
    Outcome as "outcome" {
        /// It did.
        Ok = "ok",
        /// It did not.
        Failed = "failed",
    }
}

words! {
    /// What became of a session whose backend connection was lost under a client that listens.
    Reconnected as "result" {
        /// The client need not have noticed.
        Ok = "ok",
        /// Server, account or mailbox were not what they had been, or nobody could tell.
        Changed = "changed",
        /// The backend refused the password or token.
        Refused = "refused",
        /// The backend did not come back in time.
        Unavailable = "unavailable",
    }
}

words! {
    /// What the store said.
    StoreOutcome as "outcome" {
        /// It was done.
        Ok = "ok",
        /// The account would have more than it may.
        OverQuota = "over_quota",
        /// The store could not be written or read.
        Unavailable = "unavailable",
    }
}

words! {
    /// How somebody looks after the mailboxes of an account.
    WatchMode as "mode" {
        /// Over a connection that a session has left.
        Linger = "linger",
        /// With a login for all users.
        Master = "master",
        /// With the user's secret, sealed.
        Sealed = "sealed",
    }
}

words! {
    /// Whether somebody looks after the mailboxes of an account.
    Watching as "state" {
        /// Over a connection.
        Connected = "connected",
        /// The connection is on its way, or was lost and is tried again.
        Waiting = "waiting",
        /// Nobody can, until a device signs in.
        Blind = "blind",
    }
}

words! {
    /// A channel.
    Channel as "channel" {
        /// Short messages.
        Sms = "sms",
        /// Multimedia messages.
        Mms = "mms",
        /// SIP MESSAGE.
        Sip = "sip",
        /// XMPP.
        Xmpp = "xmpp",
        /// Datagrams.
        Udp = "udp",
        /// Web Push.
        WebPush = "webpush",
        /// Webhooks.
        Webhook = "webhook",
        /// Mail.
        Mailto = "mailto",
        /// Delta Chat.
        DeltaChat = "deltachat",
    }
}

words! {
    /// What became of a notice.
    Notified as "outcome" {
        /// Who brings it further has it.
        Accepted = "accepted",
        /// The device has it.
        Delivered = "delivered",
        /// Not now; it goes again.
        Later = "later",
        /// It was too large; less of it goes.
        TooLarge = "too_large",
        /// It did not go, for a reason of ours or of the channel's.
        Failed = "failed",
        /// The address is none any more.
        Dead = "dead",
    }
}

words! {
    /// What became of an event for another server.
    Fed as "outcome" {
        /// It has it.
        Acknowledged = "acknowledged",
        /// It does not want it.
        Refused = "refused",
        /// It was not taken in time, or could not be written.
        Lost = "lost",
    }
}

words! {
    /// Why a route tells nothing yet.
    Barred as "reason" {
        /// Nobody has said that the address is the user's own.
        Unconfirmed = "unconfirmed",
        /// The account has more devices than are told.
        Devices = "devices",
        /// The new addresses of the day are used up.
        Destinations = "destinations",
        /// The notices of the day are used up.
        Notices = "notices",
    }
}

impl From<Bar> for Barred {
    fn from(bar: Bar) -> Self {
        match bar {
            Bar::Unconfirmed => Self::Unconfirmed,
            Bar::Devices => Self::Devices,
            Bar::Destinations => Self::Destinations,
            Bar::Notices => Self::Notices,
        }
    }
}

impl From<ChannelKind> for Channel {
    fn from(kind: ChannelKind) -> Self {
        match kind {
            ChannelKind::Sms => Self::Sms,
            ChannelKind::Mms => Self::Mms,
            ChannelKind::Sip => Self::Sip,
            ChannelKind::Xmpp => Self::Xmpp,
            ChannelKind::Udp => Self::Udp,
            ChannelKind::WebPush => Self::WebPush,
            ChannelKind::Webhook => Self::Webhook,
            ChannelKind::Mailto => Self::Mailto,
            ChannelKind::DeltaChat => Self::DeltaChat,
        }
    }
}

impl From<ChannelOutcome> for Notified {
    fn from(outcome: ChannelOutcome) -> Self {
        match outcome {
            ChannelOutcome::Accepted => Self::Accepted,
            ChannelOutcome::Delivered => Self::Delivered,
            ChannelOutcome::Later { .. } => Self::Later,
            ChannelOutcome::TooLarge => Self::TooLarge,
            ChannelOutcome::Failed => Self::Failed,
            ChannelOutcome::Dead => Self::Dead,
        }
    }
}

impl Mechanism {
    /// The class of a SASL mechanism; `None` is the LOGIN command.
    pub const fn of(mechanism: Option<sasl::Mechanism>) -> Self {
        use sasl::Mechanism as Sasl;
        match mechanism {
            None => Self::Login,
            Some(Sasl::Plain | Sasl::Login) => Self::Plain,
            Some(Sasl::CramMd5) => Self::CramMd5,
            Some(Sasl::ScramSha1 | Sasl::ScramSha256) => Self::Scram,
            Some(Sasl::OauthBearer | Sasl::Xoauth2) => Self::Oauth,
        }
    }
}

impl Outcome {
    /// Whether this result is a success.
    pub fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Ok } else { Self::Failed }
    }
}

/// The handles of everything that is counted.
///
/// The recorder is ours and not the process's: tests run side by side, each with its own.
pub struct Meters {
    /// Client connections admitted.
    pub connections: Counter,
    /// Client connections refused.
    pub refused: Family<Refused, Counter>,
    /// Client connections open, moved by [`Held`].
    pub sessions: Family<State, Gauge>,
    /// Attempts to log in.
    pub logins: Family<(Mechanism, Login), Counter>,
    /// Seconds a successful login took.
    pub login_duration: Histogram,
    /// Commands of clients.
    pub commands: Counter,
    /// Octets of IMAP.
    pub octets: Family<Way, Counter>,
    /// Literals not held.
    pub literals: Family<Stream, Counter>,
    /// Sessions that could not go on.
    pub faults: Family<Whose, Counter>,
    /// Backend connections made again.
    pub reconnects: Family<Reconnected, Counter>,
    /// TLS handshakes.
    pub handshakes: Family<(Peer, Outcome), Counter>,
    /// 1 while the store can be used.
    pub store_up: Gauge,
    /// Questions to the store.
    pub store_requests: Family<StoreOutcome, Counter>,
    /// Seconds the store took.
    pub store_duration: Histogram,
    /// Notices given to channels.
    pub notices: Family<(Channel, Notified), Counter>,
    /// Seconds until a channel had them.
    pub notice_latency: Family<Channel, Histogram>,
    /// Routes with news that nobody has told, moved by [`Held`].
    pub notices_waiting: Gauge,
    /// When the oldest of these news were seen, in seconds since 1970: set when it is asked for.
    pub notices_oldest: Gauge,
    /// Connections that died without a word, by whose.
    pub silent_deaths: Family<Peer, Counter>,
    /// Routes that tell nothing yet, moved by [`Held`].
    pub notices_barred: Family<Barred, Gauge>,
    /// Events for another server.
    pub fed: Family<Fed, Counter>,
    /// Requests to it.
    pub feed_requests: Family<Outcome, Counter>,
    /// Events that it has not acknowledged.
    pub feed_waiting: Gauge,
    /// When the first of them was written.
    pub feed_oldest: Gauge,
    /// Times we were told to drain.
    pub drains: Counter,
    /// Reloads.
    pub reloads: Family<Outcome, Counter>,
    /// Users being traced.
    pub traced_users: Gauge,
    config_revision: Gauge,
    config_loaded: Gauge,
    backends: DashMap<Arc<str>, Arc<BackendMeters>>,
    recorder: PrometheusRecorder,
}

/// What is counted per backend.
pub struct BackendMeters {
    /// 1 while a host accepts connections.
    pub up: Gauge,
    /// Sessions logged in, moved by [`Held`].
    pub sessions: Gauge,
    /// Logins under way, moved by [`Held`].
    pub logins: Gauge,
    /// Auxiliary connections, moved by [`Held`].
    pub auxiliary: Gauge,
    /// Accounts that are looked after, moved by [`Held`].
    pub watches: Family<(WatchMode, Watching), Gauge>,
    /// Clients that listen, moved by [`Held`].
    pub listeners: Family<(Listener, News), Gauge>,
    /// Commands for their sake.
    pub looks: Counter,
    /// Connections tried.
    pub dials: Family<Outcome, Counter>,
    /// Seconds a connection took.
    pub dial_duration: Histogram,
}

/// Upper bounds of the buckets of every histogram: a LAN's connect to the slowest login one waits for.
///
/// Between 2.5 and 5 s they are closer: what devices are told has waited 3 s for more (`outband.patience`).
const BUCKETS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 3.0, 3.5, 4.0, 5.0, 10.0, 30.0];

/// How often histograms are emptied into their buckets when nobody asks for the metrics: until then each sample is held.
const UPKEEP: Duration = Duration::from_secs(5);

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

impl Meters {
    /// Registers what does not depend on the configuration, so that every series stands at zero from the start.
    pub fn new() -> Self {
        let recorder =
            PrometheusBuilder::new().set_buckets(&BUCKETS).expect("the buckets are not empty").build_recorder();
        for metric in METRICS {
            describe(&recorder, metric);
        }
        recorder.register_gauge(&key(&BUILD, vec![Label::new("version", env!("CARGO_PKG_VERSION"))]), &ABOUT).set(1.0);
        Self {
            connections: recorder.register_counter(&key(&CONNECTIONS, Vec::new()), &ABOUT),
            refused: family(&CONNECTIONS_REFUSED, &[], |key| recorder.register_counter(key, &ABOUT)),
            sessions: family(&SESSIONS, &[], |key| recorder.register_gauge(key, &ABOUT)),
            logins: family(&LOGINS, &[], |key| recorder.register_counter(key, &ABOUT)),
            login_duration: recorder.register_histogram(&key(&LOGIN_DURATION, Vec::new()), &ABOUT),
            commands: recorder.register_counter(&key(&COMMANDS, Vec::new()), &ABOUT),
            octets: family(&OCTETS, &[], |key| recorder.register_counter(key, &ABOUT)),
            literals: family(&LITERALS, &[], |key| recorder.register_counter(key, &ABOUT)),
            faults: family(&FAULTS, &[], |key| recorder.register_counter(key, &ABOUT)),
            reconnects: family(&BACKEND_RECONNECTS, &[], |key| recorder.register_counter(key, &ABOUT)),
            handshakes: family(&HANDSHAKES, &[], |key| recorder.register_counter(key, &ABOUT)),
            store_up: recorder.register_gauge(&key(&STORE_UP, Vec::new()), &ABOUT),
            store_requests: family(&STORE_REQUESTS, &[], |key| recorder.register_counter(key, &ABOUT)),
            store_duration: recorder.register_histogram(&key(&STORE_DURATION, Vec::new()), &ABOUT),
            notices: family(&NOTICES, &[], |key| recorder.register_counter(key, &ABOUT)),
            notice_latency: family(&NOTICE_LATENCY, &[], |key| recorder.register_histogram(key, &ABOUT)),
            silent_deaths: family(&SILENT_DEATHS, &[], |key| recorder.register_counter(key, &ABOUT)),
            notices_oldest: recorder.register_gauge(&key(&NOTICES_OLDEST, Vec::new()), &ABOUT),
            notices_waiting: recorder.register_gauge(&key(&NOTICES_WAITING, Vec::new()), &ABOUT),
            notices_barred: family(&NOTICES_BARRED, &[], |key| recorder.register_gauge(key, &ABOUT)),
            fed: family(&FEED_EVENTS, &[], |key| recorder.register_counter(key, &ABOUT)),
            feed_requests: family(&FEED_REQUESTS, &[], |key| recorder.register_counter(key, &ABOUT)),
            feed_waiting: recorder.register_gauge(&key(&FEED_WAITING, Vec::new()), &ABOUT),
            feed_oldest: recorder.register_gauge(&key(&FEED_OLDEST, Vec::new()), &ABOUT),
            drains: recorder.register_counter(&key(&DRAINS, Vec::new()), &ABOUT),
            reloads: family(&RELOADS, &[], |key| recorder.register_counter(key, &ABOUT)),
            traced_users: recorder.register_gauge(&key(&TRACED_USERS, Vec::new()), &ABOUT),
            config_revision: recorder.register_gauge(&key(&CONFIG_REVISION, Vec::new()), &ABOUT),
            config_loaded: recorder.register_gauge(&key(&CONFIG_LOADED, Vec::new()), &ABOUT),
            backends: DashMap::new(),
            recorder,
        }
    }

    /// What is counted for the backend of this name; the same handles for the same name.
    pub fn backend(&self, name: &Arc<str>) -> Arc<BackendMeters> {
        if let Some(known) = self.backends.get(name) {
            return known.clone();
        }
        let label = Label::new("backend", name.to_string());
        let only = || vec![label.clone()];
        let recorder = &self.recorder;
        let meters = BackendMeters {
            up: recorder.register_gauge(&key(&BACKEND_UP, only()), &ABOUT),
            sessions: recorder.register_gauge(&key(&BACKEND_SESSIONS, only()), &ABOUT),
            logins: recorder.register_gauge(&key(&BACKEND_LOGINS, only()), &ABOUT),
            auxiliary: recorder.register_gauge(&key(&BACKEND_AUXILIARY, only()), &ABOUT),
            watches: family(&WATCHES, &only(), |key| recorder.register_gauge(key, &ABOUT)),
            listeners: family(&LISTENERS, &only(), |key| recorder.register_gauge(key, &ABOUT)),
            looks: recorder.register_counter(&key(&LOOKS, only()), &ABOUT),
            dials: family(&BACKEND_DIALS, &only(), |key| recorder.register_counter(key, &ABOUT)),
            dial_duration: recorder.register_histogram(&key(&BACKEND_DIAL_DURATION, only()), &ABOUT),
        };
        self.backends.entry(name.clone()).or_insert_with(|| Arc::new(meters)).clone()
    }

    /// A configuration came into force.
    pub fn configured(&self, revision: u64, at: SystemTime) {
        self.config_revision.set(revision as f64);
        self.config_loaded.set(since_1970(at));
    }

    /// The certificate chain of this file is in use and ends then.
    pub fn certificate(&self, file: &str, expires: SystemTime) {
        let label = Label::new("certificate", file.to_owned());
        self.recorder.register_gauge(&key(&CERTIFICATE_EXPIRY, vec![label]), &ABOUT).set(since_1970(expires));
    }

    /// All of it, in the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut text = self.recorder.handle().render();
        process::write(&mut text);
        text
    }

    /// Keeps the samples of histograms from gathering where nobody asks for the metrics; runs for ever, in a task of its own.
    pub async fn upkeep(self: Arc<Self>) {
        let handle = self.recorder.handle();
        loop {
            tokio::time::sleep(UPKEEP).await;
            handle.run_upkeep();
        }
    }
}

/// Handles of one metric, one for each value of its label.
pub struct Family<L, M> {
    handles: Box<[M]>,
    label: PhantomData<fn(L)>,
}

impl<L: Series, M> Index<L> for Family<L, M> {
    type Output = M;

    fn index(&self, label: L) -> &M {
        &self.handles[label.place()]
    }
}

/// A label, or two, by which a [`Family`] is told apart.
pub trait Series: Copy {
    /// Where its handle stands.
    fn place(self) -> usize;
    /// The labels of every series there can be, in order of place.
    fn all() -> Vec<Vec<Label>>;
}

impl<L: Words> Series for L {
    fn place(self) -> usize {
        self.index()
    }

    fn all() -> Vec<Vec<Label>> {
        L::NAMES.iter().map(|name| vec![Label::from_static_parts(L::KEY, name)]).collect()
    }
}

impl<A: Words, B: Words> Series for (A, B) {
    fn place(self) -> usize {
        self.0.index() * B::NAMES.len() + self.1.index()
    }

    fn all() -> Vec<Vec<Label>> {
        let pair = |a: &[Label]| B::all().into_iter().map(|b| [a, &b].concat()).collect::<Vec<_>>();
        A::all().iter().flat_map(|a| pair(a)).collect()
    }
}

/// Counts one in a gauge for as long as it lives.
pub struct Held(Gauge);

impl Held {
    /// One more in this gauge.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The table as the README prints it.
pub fn markdown() -> String {
    let mut text = "| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for metric in METRICS {
        let labels: Vec<_> = metric.labels.iter().map(|tag| label_words(*tag)).collect();
        let kind = format!("{:?}", metric.kind).to_lowercase();
        text += &format!("| `{}` | {kind} | {} | {} |\n", metric.name, labels.join("; "), metric.help);
    }
    text
}

fn label_words(tag: Tag) -> String {
    match tag.values {
        [] => format!("`{}`", tag.key),
        values => format!("`{}`: {}", tag.key, values.join(", ")),
    }
}

/// What the exporter asks for and does not use: who registers, and how loudly.
const ABOUT: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

fn key(metric: &Metric, labels: Vec<Label>) -> Key {
    Key::from_parts(metric.name, labels)
}

fn family<L: Series, M>(metric: &Metric, before: &[Label], register: impl Fn(&Key) -> M) -> Family<L, M> {
    let handles = L::all().into_iter().map(|labels| register(&key(metric, [before, &labels].concat()))).collect();
    Family { handles, label: PhantomData }
}

fn describe(recorder: &PrometheusRecorder, metric: &Metric) {
    let (name, help) = (KeyName::from_const_str(metric.name), metric.help.into());
    match metric.kind {
        Kind::Counter => recorder.describe_counter(name, None, help),
        Kind::Gauge => recorder.describe_gauge(name, None, help),
        Kind::Histogram => recorder.describe_histogram(name, None, help),
    }
}

fn since_1970(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Name and labels to value, of a text that must be wholly in the text format of Prometheus.
    fn parse(text: &str) -> BTreeMap<String, f64> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').unwrap();
                (series.to_owned(), value.parse().unwrap())
            })
            .collect()
    }

    fn touched() -> Meters {
        let meters = Meters::new();
        let backend = meters.backend(&Arc::from("main"));
        backend.dial_duration.record(0.2);
        meters.login_duration.record(0.2);
        meters.certificate("example.pem", UNIX_EPOCH + Duration::from_secs(5));
        meters.configured(3, UNIX_EPOCH + Duration::from_millis(1500));
        meters
    }

    #[test]
    fn the_table_and_what_is_rendered_are_the_same() {
        let text = touched().render();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let rendered: BTreeSet<_> = types.map(str::to_owned).collect();
        let table: BTreeSet<_> =
            METRICS.iter().map(|metric| format!("{} {:?}", metric.name, metric.kind).to_lowercase()).collect();
        assert_eq!(rendered, table);
        for metric in METRICS {
            assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
        }
    }

    #[test]
    fn every_series_bears_the_labels_of_its_row() {
        for (series, _) in parse(&touched().render()) {
            let (name, labels) = series.split_once('{').unwrap_or((&series, ""));
            let metric = METRICS.iter().find(|metric| {
                name.strip_prefix(metric.name).is_some_and(|rest| matches!(rest, "" | "_bucket" | "_sum" | "_count"))
            });
            let metric = metric.unwrap_or_else(|| panic!("{name} has no row"));
            let given: Vec<_> = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect();
            for label in &given {
                let (key, value) = label.split_once('=').unwrap();
                let value = value.trim_matches('"');
                let row = metric.labels.iter().find(|tag| tag.key == key);
                assert!(
                    key == "le" || row.is_some_and(|tag| tag.values.is_empty() || tag.values.contains(&value)),
                    "{series}"
                );
            }
            let bucket = usize::from(name.ends_with("_bucket"));
            assert_eq!(given.len(), metric.labels.len() + bucket, "{series}");
        }
    }

    #[test]
    fn names_have_the_prefix_and_the_unit_at_the_end() {
        for metric in METRICS {
            let name = metric.name.strip_prefix("lemonade_").unwrap();
            let name = match metric.kind {
                Kind::Counter => name.strip_suffix("_total").unwrap(),
                Kind::Gauge | Kind::Histogram => name,
            };
            match metric.unit {
                Unit::Count => assert!(!name.ends_with("_seconds") && !name.ends_with("_bytes"), "{name}"),
                Unit::Seconds => assert!(name.ends_with("_seconds"), "{name}"),
                Unit::Bytes => assert!(name.ends_with("_bytes"), "{name}"),
            }
            for tag in metric.labels {
                assert!(!["user", "address", "token", "session"].contains(&tag.key), "{name}");
            }
        }
    }

    #[test]
    fn a_pair_of_labels_has_one_series_each() {
        let meters = Meters::new();
        meters.logins[(Mechanism::Scram, Login::Refused)].increment(2);
        meters.logins[(Mechanism::Plain, Login::Ok)].increment(1);
        let values = parse(&meters.render());
        let logins = |mechanism: &str, outcome: &str| {
            values[&format!("lemonade_logins_total{{mechanism=\"{mechanism}\",outcome=\"{outcome}\"}}")]
        };
        assert_eq!(logins("scram", "refused"), 2.0);
        assert_eq!(logins("plain", "ok"), 1.0);
        assert_eq!(logins("login", "ok"), 0.0);
    }

    #[test]
    fn a_gauge_returns_to_zero_with_its_guards() {
        let meters = Meters::new();
        let value = |state| parse(&meters.render())[&format!("lemonade_sessions{{state=\"{state}\"}}")];
        let held = [Held::new(&meters.sessions[State::Idle]), Held::new(&meters.sessions[State::Idle])];
        assert_eq!(value("idle"), 2.0);
        drop(held);
        assert_eq!(value("idle"), 0.0);
    }

    #[test]
    fn the_handles_of_a_backend_are_shared() {
        let meters = Meters::new();
        let main: Arc<str> = Arc::from("main");
        assert!(Arc::ptr_eq(&meters.backend(&main), &meters.backend(&main)));
        meters.backend(&main).dials[Outcome::Failed].increment(1);
        assert_eq!(
            parse(&meters.render())["lemonade_backend_connects_total{backend=\"main\",outcome=\"failed\"}"],
            1.0
        );
    }

    #[test]
    fn the_readme_prints_this_table() {
        let readme = include_str!("../../README.md");
        let table = markdown();
        assert!(readme.contains(&table), "put this into README.md, section Metrics:\n{table}");
    }
}
