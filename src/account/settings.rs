//! What an operator says of accounts: `[account]` of the configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::channel::{Format, Kind};
use super::special_use::Configured;
use crate::{
    mailbox::{
        diff::Messages,
        event::{self, Group},
    },
    store::Quota,
    units::{Size, Span},
};

/// `[account]`: what a user may keep, and how devices are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What stands between user and device in a login name: with `#`, `joe#phone` is the device `phone` of `joe`.
    pub device_separator: Option<char>,
    /// Annotations of one user, of all devices and mailboxes together.
    pub entries: u32,
    /// Octets of these annotations, names and values together.
    pub octets: Size,
    /// How devices that are away may be told.
    pub outband: Outband,
    /// How much of an account a session watches for a client of NOTIFY.
    pub notify: Notify,
    /// What is told of messages to those who follow events.
    pub events: Events,
    /// What mailboxes are used for, where neither user nor backend says so (RFC 6154).
    pub special_use: Configured,
}

impl Settings {
    /// The bounds as the store keeps them.
    pub fn quota(&self) -> Quota {
        Quota { entries: self.entries.into(), octets: self.octets.0 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            device_separator: None,
            entries: 2000,
            octets: Size::mib(1),
            outband: Outband::default(),
            notify: Notify::default(),
            events: Events::default(),
            special_use: Configured::default(),
        }
    }
}

/// `[account.notify]`: how much a session watches for a client that has asked for it with NOTIFY (RFC 5465), beside the selected
/// mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// Mailboxes; more are refused.
    pub mailboxes: u32,
    /// How long from one look at a mailbox to the next. INBOX is looked at as often as the backend's pace allows.
    pub every: Span,
    /// How long a look at all of them may take the backend; a slower one is not watched any more.
    pub round: Span,
    /// How long from one look at the names of mailboxes to the next.
    pub names: Span,
}

impl Default for Notify {
    fn default() -> Self {
        let (every, round, names) = (Span::seconds(15), Span::seconds(60), Span::minutes(1));
        Self { mailboxes: 100, every, round, names }
    }
}

/// `[account.events]`: what those who follow events hear (RFC 5423 section 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// The groups of events that are told.
    pub groups: Vec<Group>,
    /// How messages in the selected mailboxes of sessions are told of. While somebody follows, each selected mailbox is looked
    /// over once for it.
    pub messages: Messages,
    /// A set of UIDs, or flags, of more octets are left out.
    pub longest: Size,
}

impl Events {
    /// Whether such an event is told.
    pub fn tells(&self, kind: event::Kind) -> bool {
        self.groups.contains(&kind.group())
    }

    /// Whether what becomes of messages is told, whoever does it.
    pub fn tell_messages(&self) -> bool {
        let groups = [Group::MessageNew, Group::MessageExpunge, Group::FlagChange];
        self.messages != Messages::None && groups.iter().any(|group| self.groups.contains(group))
    }
}

impl Default for Events {
    fn default() -> Self {
        Self { groups: Group::ALL.to_vec(), messages: Messages::default(), longest: Size::kib(32) }
    }
}

/// `[account.outband]`: the channels over which devices may ask to be told, and who tells them (requirement N12).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outband {
    /// Channels, and how much may be said over each: `SMS = ["WAKEUP"]`.
    pub channels: BTreeMap<Kind, Vec<Format>>,
    /// From whom notifications come, as a device will see it: `credential.priv`.
    pub sender: Option<String>,
    /// The key with which devices can verify notifications, in base64; it is public.
    pub public_key: Option<String>,
    /// How many recipients a message of a Delta Chat client may have here: `/shared/vendor/deltachat/maxsmtprecipients`.
    pub deltachat_recipients: Option<u32>,
    /// The channels over which somebody really sends. Not an operator's word: a promise is told only while it is kept.
    #[serde(skip)]
    pub running: Vec<Kind>,
    /// Whether secrets are kept, sealed, of those who want it.
    #[serde(skip)]
    pub sealed: bool,
    /// The channels whose addresses somebody has to confirm, as `[outband]` says.
    #[serde(skip)]
    pub confirm: Vec<Kind>,
}

impl Outband {
    /// Whether a device may ask for this.
    pub fn offers(&self, kind: Kind, format: Format) -> bool {
        self.channels.get(&kind).is_some_and(|formats| formats.contains(&format))
    }

    /// What stands in `/notify/outband` channel.priv (section 11.2).
    pub fn provision(&self) -> String {
        let over = |(kind, formats): (&Kind, &Vec<Format>)| {
            formats.iter().map(|format| format!(" {kind}={format}")).collect::<String>()
        };
        format!("NONE{}", self.channels.iter().map(over).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_events_are_switched() {
        let events = |text: &str| toml::from_str::<Events>(text).unwrap();
        let all = events("");
        assert!(all.tells(event::Kind::Login) && all.tells(event::Kind::FlagsClear) && all.tell_messages());
        let some = events("groups = [\"MailboxName\", \"Access\"]");
        assert!(some.tells(event::Kind::Logout) && some.tells(event::Kind::MailboxRename));
        assert!(!some.tells(event::Kind::MessageAppend) && !some.tells(event::Kind::QuotaChange));
        assert!(!some.tell_messages(), "nobody has to look for them");
        assert!(!events("messages = \"none\"").tell_messages());
        assert!(toml::from_str::<Events>("groups = [\"Messages\"]").is_err());
    }
}
