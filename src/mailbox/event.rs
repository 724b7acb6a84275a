//! What can happen in a message store, and how it is told: the vocabulary of RFC 5423.
//!
//!     {"event":"MessageAppend","timestamp":"2026-11-02T09:14:03.120Z",
//!      "uri":"imap://joe@192.0.2.10/Entw%C3%BCrfe;UIDVALIDITY=385759045/;UID=17","user":"joe",
//!      "clientIP":"198.51.100.7","clientPort":50000,"service":"imap","backend":"main","session":"k3v9x2m7qd4hntwc",
//!      "mailbox":"Entwürfe","mailboxID":"imap://joe@192.0.2.10/Entw%C3%BCrfe;UIDVALIDITY=385759045",
//!      "uidvalidity":385759045,"uidset":"17","flagNames":["\\Draft"],"messageSize":310}
//!
//! On the wire it is one line. An [`Event`] says what has happened and is plain data; a [`Report`] adds by whom, from where
//! and when, and writes the line. Parameters have the names that section 5 gives them; what that section has no name for is
//! called by the word of the RFC it comes from. What is not known is left out. Requirements E1 to E6.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

use crate::imap::{mailbox_name, uid_set::UidSet, url::ImapUrl};

/// The events of RFC 5423 section 4, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    // Messages come and go (4.1).
    /// A client has stored a message.
    MessageAppend,
    /// The server's policy has removed messages.
    MessageExpire,
    /// A client has removed messages.
    MessageExpunge,
    /// A message was delivered.
    MessageNew,
    /// Something failed, or would, because a quota is used up.
    QuotaExceed,
    /// The quota has room again.
    QuotaWithin,
    /// The quota is another one.
    QuotaChange,
    // Flags (4.2).
    /// Messages were read: \Seen was set.
    MessageRead,
    /// Messages are to go: \Deleted was set.
    MessageTrash,
    /// Flags were set.
    FlagsSet,
    /// Flags were taken away.
    FlagsClear,
    // Access (4.3).
    /// A user has logged in.
    Login,
    /// A user is gone.
    Logout,
    // Mailboxes (4.4).
    /// A mailbox was created; those above it are implied.
    MailboxCreate,
    /// A mailbox was deleted; those below it were not.
    MailboxDelete,
    /// A mailbox has another name; so have those below it, which is implied.
    MailboxRename,
    /// A mailbox stands on the user's list.
    MailboxSubscribe,
    /// A mailbox stands there no more. (The capital S is the RFC's.)
    MailboxUnSubscribe,
}

/// Events that an operator switches together (RFC 5423 section 3): those of NOTIFY (RFC 5465 section 5), and two more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Group {
    /// Messages that came.
    MessageNew,
    /// Messages that went.
    MessageExpunge,
    /// Flags.
    FlagChange,
    /// Names of mailboxes.
    MailboxName,
    /// Subscriptions.
    SubscriptionChange,
    /// Quotas.
    Quota,
    /// Who comes and goes.
    Access,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::MessageNew,
        Self::MessageExpunge,
        Self::FlagChange,
        Self::MailboxName,
        Self::SubscriptionChange,
        Self::Quota,
        Self::Access,
    ];
}

impl Kind {
    /// To which group it belongs.
    pub fn group(self) -> Group {
        match self {
            Self::MessageAppend | Self::MessageNew => Group::MessageNew,
            Self::MessageExpire | Self::MessageExpunge => Group::MessageExpunge,
            Self::MessageRead | Self::MessageTrash | Self::FlagsSet | Self::FlagsClear => Group::FlagChange,
            Self::MailboxCreate | Self::MailboxDelete | Self::MailboxRename => Group::MailboxName,
            Self::MailboxSubscribe | Self::MailboxUnSubscribe => Group::SubscriptionChange,
            Self::QuotaExceed | Self::QuotaWithin | Self::QuotaChange => Group::Quota,
            Self::Login | Self::Logout => Group::Access,
        }
    }
}

/// Something that has happened: what it was, and what it happened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// Where, as the backend writes the name; none: in the whole account.
    pub mailbox: Option<Box<[u8]>>,
    /// What a renamed mailbox was called before.
    pub old_mailbox: Option<Box<[u8]>>,
    /// Under which UIDVALIDITY the UIDs are true.
    pub uidvalidity: Option<u32>,
    /// To which messages; none where they are not known.
    pub uids: UidSet,
    /// The flags that were set or cleared, or that a new message has.
    pub flags: Vec<Box<str>>,
    /// The octets of a new message.
    pub size: Option<u64>,
    /// How many messages there are now.
    pub messages: Option<u32>,
    /// The UID that the next message will have.
    pub uidnext: Option<u32>,
    /// The mod-sequence of a single message (RFC 7162).
    pub modseq: Option<u64>,
    /// Which quota.
    pub quota: Option<Quota>,
    /// How the user has logged in.
    pub mechanism: Option<&'static str>,
    /// How the session has ended.
    pub end: Option<Ending>,
}

impl Event {
    /// This has happened; to what, is said by the fields.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            mailbox: None,
            old_mailbox: None,
            uidvalidity: None,
            uids: UidSet::default(),
            flags: Vec::new(),
            size: None,
            messages: None,
            uidnext: None,
            modseq: None,
            quota: None,
            mechanism: None,
            end: None,
        }
    }

    /// This has happened in, or to, this mailbox.
    pub fn of_mailbox(kind: Kind, name: impl Into<Box<[u8]>>) -> Self {
        Self { mailbox: Some(name.into()), ..Self::new(kind) }
    }
}

/// A quota, and how much of it is used (RFC 9208).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What it is counted for, as the backend calls it.
    pub root: Box<[u8]>,
    /// What is counted.
    pub resource: Resource,
    /// So much is used.
    pub used: u64,
    /// So much may be.
    pub limit: u64,
}

/// What a quota counts, of that which RFC 5423 has parameters for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Units of 1024 octets.
    Storage,
    /// Messages.
    Message,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// In which way.
    pub manner: Manner,
    /// After how long.
    pub duration: Duration,
}

/// The types of disconnect that RFC 5423 section 4.3 suggests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manner {
    /// The client said LOGOUT.
    Graceful,
    /// The connection ended without it, whoever ended it.
    Abort,
    /// Silence.
    Timeout,
    /// TLS could not go on.
    #[serde(rename = "security layer error")]
    SecurityLayerError,
}

/// An event, and by whom, from where and when: what those who follow are told.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What has happened.
    pub event: &'a Event,
    /// The time of day, since 1970.
    pub at: Duration,
    /// Whose mail it is; unknown only where a relayed mechanism did not say.
    pub user: Option<&'a str>,
    /// Who has authenticated, if that is somebody else.
    pub admin: Option<&'a str>,
    /// The address and port of the client that did it; none where it was only seen.
    pub client: Option<(&'a str, u16)>,
    /// The address and port of ours that the session connected to.
    pub server: (&'a str, u16),
    /// The backend, as the configuration calls it.
    pub backend: Option<&'a str>,
    /// The session that did it, as logs call it.
    pub session: Option<&'a str>,
    /// A set of UIDs, or flags, of more octets than this are left out.
    pub longest: u64,
}

impl Report<'_> {
    /// The line, its end included.
    pub fn line(&self) -> String {
        let event = self.event;
        let access = event.kind.group() == Group::Access;
        let fits = |octets: usize| octets as u64 <= self.longest;
        let flags = event.flags.iter().map(|flag| flag.len()).sum();
        let (storage, messages) = match &event.quota {
            Some(quota) if quota.resource == Resource::Storage => (Some(quota), None),
            quota => (None, quota.as_ref()),
        };
        let line = Line {
            event: event.kind,
            timestamp: timestamp(self.at),
            uri: self.message().to_string(),
            user: self.user,
            admin: self.admin,
            client_ip: self.client.map(|client| client.0),
            client_port: self.client.map(|client| client.1),
            server_domain: access.then_some(self.server.0),
            server_port: access.then_some(self.server.1),
            service: "imap",
            backend: self.backend,
            session: self.session,
            mailbox: event.mailbox.as_deref().map(mailbox_name::as_people_read),
            mailbox_id: event.mailbox.as_ref().map(|_| self.mailbox().to_string()),
            old_mailbox: event.old_mailbox.as_deref().map(mailbox_name::as_people_read),
            old_mailbox_id: event.old_mailbox.as_ref().map(|_| self.old_mailbox().to_string()),
            uidvalidity: event.uidvalidity,
            uidset: (!event.uids.is_empty()).then(|| event.uids.to_string()).filter(|text| fits(text.len())),
            flag_names: if fits(flags) { &event.flags } else { &[] },
            message_size: event.size,
            messages: messages.map(|quota| quota.used).or(event.messages.map(u64::from)),
            max_messages: messages.map(|quota| quota.limit),
            uidnext: event.uidnext,
            modseq: event.modseq.map(|modseq| modseq.to_string()),
            quota_root: event.quota.as_ref().map(|quota| String::from_utf8_lossy(&quota.root)),
            disk_used: storage.map(|quota| quota.used),
            disk_quota: storage.map(|quota| quota.limit),
            mechanism: event.mechanism,
            disconnect: event.end.map(|end| end.manner),
            duration: event.end.map(|end| end.duration.as_millis() as f64 / 1000.0),
        };
        // Nothing in it can fail: its keys are text.
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        text
    }

    fn server(&self) -> ImapUrl<'_> {
        ImapUrl { user: self.user, host: self.server.0, port: self.server.1, ..ImapUrl::default() }
    }

    fn mailbox(&self) -> ImapUrl<'_> {
        let (mailbox, uidvalidity) = (self.event.mailbox.as_deref(), self.event.uidvalidity);
        ImapUrl { mailbox, uidvalidity, ..self.server() }
    }

    fn old_mailbox(&self) -> ImapUrl<'_> {
        ImapUrl { mailbox: self.event.old_mailbox.as_deref(), ..self.server() }
    }

    /// The message, if it is one; else the mailbox, if there is one; else the server (RFC 5423 section 5, uri).
    fn message(&self) -> ImapUrl<'_> {
        let uids = &self.event.uids;
        let only = uids.runs().next().filter(|_| uids.len() == 1).map(|(uid, _)| uid);
        ImapUrl { uid: only.filter(|_| self.event.mailbox.is_some()), ..self.mailbox() }
    }
}

/// The line as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    event: Kind,
    timestamp: String,
    uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<&'a str>,
    #[serde(rename = "clientIP", skip_serializing_if = "Option::is_none")]
    client_ip: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_domain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_port: Option<u16>,
    service: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mailbox: Option<Cow<'a, str>>,
    #[serde(rename = "mailboxID", skip_serializing_if = "Option::is_none")]
    mailbox_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_mailbox: Option<Cow<'a, str>>,
    #[serde(rename = "oldMailboxID", skip_serializing_if = "Option::is_none")]
    old_mailbox_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uidvalidity: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uidset: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    flag_names: &'a [Box<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    message_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uidnext: Option<u32>,
    /// As text: it has 63 bits, and a number of JSON may be read with 53.
    #[serde(skip_serializing_if = "Option::is_none")]
    modseq: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota_root: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_used: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_quota: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mechanism: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect: Option<Manner>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
}

/// A time of day as RFC 3339 writes it, in UTC.
fn timestamp(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since_1970.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of so many days after 1970: whole cycles of 400 years, centuries, four years and years that begin in
/// March, so that a leap day comes last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is told of it, as JSON.
    fn told(event: &Event) -> Value {
        let report = Report {
            event,
            at: Duration::from_millis(1_793_610_843_120),
            user: Some("joe"),
            admin: Some("root"),
            client: Some(("198.51.100.7", 50_000)),
            server: ("2001:db8::1", 993),
            backend: Some("main"),
            session: Some("k3v9"),
            longest: 100,
        };
        let line = report.line();
        assert_eq!(line.find('\n'), Some(line.len() - 1), "{line}");
        serde_json::from_str(&line).unwrap()
    }

    /// An event of this kind with all that it may have.
    fn full(kind: Kind) -> Event {
        let quota = Quota { root: (*b"").into(), resource: Resource::Storage, used: 512, limit: 500 };
        let end = Ending { manner: Manner::SecurityLayerError, duration: Duration::from_millis(1500) };
        match kind {
            Kind::QuotaExceed | Kind::QuotaWithin | Kind::QuotaChange => {
                Event { quota: Some(quota), ..Event::new(kind) }
            }
            Kind::Login => Event { mechanism: Some("plain"), ..Event::new(kind) },
            Kind::Logout => Event { end: Some(end), ..Event::new(kind) },
            Kind::MailboxRename => {
                Event { old_mailbox: Some((*b"Tom &- Jerry").into()), ..Event::of_mailbox(kind, *b"Entw&APw-rfe") }
            }
            _ => Event {
                uidvalidity: Some(7),
                uids: [12, 13].into_iter().collect(),
                flags: vec!["\\Seen".into()],
                ..Event::of_mailbox(kind, *b"Entw&APw-rfe")
            },
        }
    }

    #[test]
    fn each_event_has_the_parameters_that_the_rfc_asks_for() {
        // RFC 5423 sections 4 and 5; the first row is for all of them.
        const ALL: &[&str] = &["event", "timestamp", "uri", "user", "admin", "clientIP", "clientPort"];
        let message: &[&str] = &["mailboxID", "uidvalidity", "uidset"];
        let flags: &[&str] = &["mailboxID", "uidset", "flagNames"];
        let quota: &[&str] = &["diskQuota", "diskUsed"];
        let table = [
            (Kind::MessageAppend, message),
            (Kind::MessageExpire, message),
            (Kind::MessageExpunge, message),
            (Kind::MessageNew, message),
            (Kind::QuotaExceed, quota),
            (Kind::QuotaWithin, quota),
            (Kind::QuotaChange, quota),
            (Kind::MessageRead, message),
            (Kind::MessageTrash, message),
            (Kind::FlagsSet, flags),
            (Kind::FlagsClear, flags),
            (Kind::Login, &["serverDomain", "serverPort"]),
            (Kind::Logout, &["serverDomain", "disconnect", "duration"]),
            (Kind::MailboxCreate, &["mailboxID", "uidvalidity"]),
            (Kind::MailboxDelete, &["mailboxID"]),
            (Kind::MailboxRename, &["mailboxID", "oldMailboxID"]),
            (Kind::MailboxSubscribe, &["mailboxID"]),
            (Kind::MailboxUnSubscribe, &["mailboxID"]),
        ];
        for (kind, parameters) in table {
            let told = told(&full(kind));
            assert_eq!(told["event"], format!("{kind:?}"));
            for parameter in ALL.iter().chain(parameters) {
                assert!(told.get(parameter).is_some(), "{parameter} is missing: {told}");
            }
        }
    }

    #[test]
    fn names_are_as_people_read_them_and_urls_as_programs_do() {
        let told = told(&full(Kind::MailboxRename));
        assert_eq!((&told["mailbox"], &told["oldMailbox"]), (&json!("Entwürfe"), &json!("Tom & Jerry")));
        assert_eq!(told["mailboxID"], "imap://joe@[2001:db8::1]:993/Entw%C3%BCrfe");
        assert_eq!(told["oldMailboxID"], "imap://joe@[2001:db8::1]:993/Tom%20&%20Jerry");
    }

    #[test]
    fn the_uri_says_as_much_as_is_known() {
        let of = |uids: &[u32]| {
            let uids = uids.iter().copied().collect();
            told(&Event { uids, uidvalidity: Some(7), ..Event::of_mailbox(Kind::MessageNew, *b"A") })["uri"].clone()
        };
        assert_eq!(of(&[17]), "imap://joe@[2001:db8::1]:993/A;UIDVALIDITY=7/;UID=17");
        assert_eq!(of(&[17, 18]), "imap://joe@[2001:db8::1]:993/A;UIDVALIDITY=7");
        assert_eq!(told(&full(Kind::Login))["uri"], "imap://joe@[2001:db8::1]:993/");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let told = told(&Event::of_mailbox(Kind::MailboxDelete, *b"A"));
        for parameter in ["uidvalidity", "uidset", "flagNames", "oldMailbox", "diskQuota", "messages", "duration"] {
            assert_eq!(told.get(parameter), None, "{parameter}");
        }
    }

    #[test]
    fn what_is_large_is_left_out() {
        let of = |uids: u32, flag: &str| {
            let uids = (0..uids).map(|number| 1000 + 2 * number).collect();
            told(&Event { uids, flags: vec![flag.into(); 2], ..Event::of_mailbox(Kind::FlagsSet, *b"A") })
        };
        let (small, large) = (of(20, &"k".repeat(50)), of(21, &"k".repeat(51)));
        for parameter in ["uidset", "flagNames"] {
            assert!(small.get(parameter).is_some(), "{parameter}: {small}");
            assert_eq!(large.get(parameter), None, "{parameter}");
        }
    }

    #[test]
    fn a_quota_of_messages_has_its_own_parameters() {
        let quota = Quota { root: (*b"user.joe").into(), resource: Resource::Message, used: 3, limit: 3 };
        let told = told(&Event { quota: Some(quota), ..Event::new(Kind::QuotaExceed) });
        assert_eq!((&told["messages"], &told["maxMessages"], told.get("diskUsed")), (&json!(3), &json!(3), None));
        assert_eq!(told["quotaRoot"], "user.joe");
    }

    #[test]
    fn whatever_a_name_is_made_of_the_line_stays_one() {
        let told = told(&Event::of_mailbox(Kind::MailboxCreate, *b"a\r\nb\"\xff\0"));
        assert_eq!(told["mailbox"], "a\r\nb\"\u{fffd}\0");
        assert_eq!(told["mailboxID"], "imap://joe@[2001:db8::1]:993/a%0D%0Ab%22%FF%00");
    }

    #[test]
    fn the_groups_are_those_of_notify() {
        assert_eq!(Kind::MessageAppend.group(), Kind::MessageNew.group());
        assert_eq!(Kind::MessageExpire.group(), Group::MessageExpunge);
        assert_eq!(Kind::FlagsClear.group(), Group::FlagChange);
        assert_eq!(Kind::MailboxUnSubscribe.group(), Group::SubscriptionChange);
        assert_eq!((Kind::Login.group(), Kind::QuotaChange.group()), (Group::Access, Group::Quota));
    }

    #[test]
    fn a_timestamp_is_a_date_and_a_time() {
        for (seconds, written) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000Z"),
            (1_798_761_600, "2027-01-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(Duration::from_secs(seconds)), written);
        }
    }
}
