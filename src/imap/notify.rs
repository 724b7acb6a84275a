//! What NOTIFY asks for (RFC 5465 section 8).
//!
//!     C: b NOTIFY SET STATUS (selected (MessageNew (UID FLAGS) MessageExpunge)) (subtree Lists (MessageNew MessageExpunge))
//!
//! The events of a group stand in parentheses. The examples of section 3.1 leave them out, and MessageExpunge with them; the
//! errata mend that, and what was written by the examples is understood as it was meant.

use super::{command::SyntaxError, token::Cursor};

/// An event that may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A message came, by whatever way.
    MessageNew,
    /// A message is gone.
    MessageExpunge,
    /// Flags are others than they were.
    FlagChange,
    /// A mailbox was created, deleted or renamed.
    MailboxName,
    /// A mailbox was subscribed to, or not any more.
    SubscriptionChange,
    /// Annotations of a mailbox.
    MailboxMetadataChange,
    /// Annotations of the server.
    ServerMetadataChange,
}

/// The events that we know, as they are written.
pub const EVENTS: [(&str, Event); 7] = [
    ("MessageNew", Event::MessageNew),
    ("MessageExpunge", Event::MessageExpunge),
    ("FlagChange", Event::FlagChange),
    ("MailboxName", Event::MailboxName),
    ("SubscriptionChange", Event::SubscriptionChange),
    ("MailboxMetadataChange", Event::MailboxMetadataChange),
    ("ServerMetadataChange", Event::ServerMetadataChange),
];

impl Event {
    /// It concerns messages.
    pub fn is_of_messages(self) -> bool {
        self <= Self::FlagChange
    }
}

/// Which mailboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The selected one, at once.
    Selected,
    /// The selected one; removals when a command allows it.
    SelectedDelayed,
    /// Those to which mail is delivered.
    Inboxes,
    /// Those of the personal namespaces.
    Personal,
    /// Those that are subscribed to.
    Subscribed,
    /// These, and all below them.
    Subtree(Vec<Vec<u8>>),
    /// These.
    Mailboxes(Vec<Vec<u8>>),
}

/// Which mailboxes, and which of their events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Which mailboxes.
    pub which: Which,
    /// Which events; none: these mailboxes are to keep silent.
    pub events: Vec<Event>,
    /// What is to be shown of a new message: a list of fetch-att, as it was written.
    pub items: Option<Vec<u8>>,
}

/// The command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notify {
    /// Nothing is to be told any more.
    None,
    /// This, and nothing else.
    Set {
        /// The STATUS of each mailbox that is not selected and has events of messages comes first.
        status: bool,
        /// In their order.
        groups: Vec<Group>,
    },
}

/// Why it is not what can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifyError {
    /// It breaks the grammar, or a rule of section 5 or 6.
    Bad(String),
    /// It names an event that we do not have (section 3.1).
    Event,
    /// It is too much to be watched (section 3.1).
    TooMuch,
}

impl From<SyntaxError> for NotifyError {
    fn from(error: SyntaxError) -> Self {
        Self::Bad(error.to_string())
    }
}

impl Notify {
    /// Groups, and names in all of them together: each mailbox of the account is looked up among them whenever names change.
    /// A client that names more can say `personal` or `subtree`.
    const MOST: usize = 1000;

    /// Reads the arguments.
    pub fn parse(arguments: &[u8]) -> Result<Self, NotifyError> {
        let mut cursor = Cursor::new(arguments);
        if cursor.accept(b"NONE") {
            cursor.end()?;
            return Ok(Self::None);
        }
        let expected = cursor.expected("SET or NONE");
        if !cursor.accept(b"SET") {
            return Err(expected.into());
        }
        let status = cursor.accept(b" STATUS");
        let mut groups: Vec<Group> = Vec::new();
        let mut names = 0;
        while cursor.peek().is_some() {
            cursor.space()?;
            let group = group(&mut cursor)?;
            names += group.which.names().len();
            if names > Self::MOST || groups.len() == Self::MOST {
                return Err(NotifyError::TooMuch);
            }
            groups.push(group);
        }
        match groups.iter().filter(|group| group.which.is_selected()).count() {
            _ if groups.is_empty() => Err(cursor.expected("a group of events").into()),
            2.. => Err(NotifyError::Bad("selected and selected-delayed stand for one mailbox".into())),
            _ => Ok(Self::Set { status, groups }),
        }
    }
}

impl Which {
    /// Whether it is the selected mailbox.
    pub fn is_selected(&self) -> bool {
        matches!(self, Self::Selected | Self::SelectedDelayed)
    }

    /// The names that it gives.
    pub fn names(&self) -> &[Vec<u8>] {
        match self {
            Self::Subtree(names) | Self::Mailboxes(names) => names,
            Self::Selected | Self::SelectedDelayed | Self::Inboxes | Self::Personal | Self::Subscribed => &[],
        }
    }
}

fn group(cursor: &mut Cursor<'_>) -> Result<Group, NotifyError> {
    cursor.open()?;
    let unknown = cursor.expected("which mailboxes");
    let which = match cursor.atom()?.to_ascii_lowercase().as_slice() {
        b"selected" => Which::Selected,
        b"selected-delayed" => Which::SelectedDelayed,
        b"inboxes" => Which::Inboxes,
        b"personal" => Which::Personal,
        b"subscribed" => Which::Subscribed,
        b"subtree" => Which::Subtree(names(cursor)?),
        b"mailboxes" => Which::Mailboxes(names(cursor)?),
        _ => return Err(unknown.into()),
    };
    cursor.space()?;
    let mut group = Group { which, events: Vec::new(), items: None };
    if !cursor.accept(b"NONE") {
        let one = cursor.peek() != Some(b'(');
        if !one {
            cursor.open()?;
        }
        event(cursor, &mut group)?;
        while cursor.peek() == Some(b' ') {
            cursor.space()?;
            event(cursor, &mut group)?;
        }
        match one {
            true if group.events == [Event::MessageNew] => group.events.push(Event::MessageExpunge),
            true => {}
            false => cursor.close()?,
        }
    }
    cursor.close()?;
    checked(group)
}

fn names(cursor: &mut Cursor<'_>) -> Result<Vec<Vec<u8>>, SyntaxError> {
    cursor.space()?;
    cursor.list_or_one(|cursor| cursor.astring().map(std::borrow::Cow::into_owned))
}

fn event(cursor: &mut Cursor<'_>, group: &mut Group) -> Result<(), NotifyError> {
    let name = cursor.atom()?;
    let known = EVENTS.iter().find(|(other, _)| other.as_bytes().eq_ignore_ascii_case(name));
    let Some((_, event)) = known else { return Err(NotifyError::Event) };
    group.events.push(*event);
    if *event == Event::MessageNew && cursor.accept(b" (") {
        let mut items = b"(".to_vec();
        let mut depth = 1usize;
        while depth > 0 {
            let wrong = cursor.expected("items of FETCH");
            match cursor.peek() {
                Some(b'"' | b'{') => {
                    let start = cursor.at();
                    cursor.string()?;
                    items.extend_from_slice(cursor.since(start));
                    continue;
                }
                Some(octet @ b' '..=b'~') => {
                    depth = if octet == b'(' { depth + 1 } else { depth - usize::from(octet == b')') };
                    cursor.accept(&[octet]);
                    items.push(octet);
                }
                _ => return Err(wrong.into()),
            }
        }
        group.items = Some(items);
    }
    Ok(())
}

/// Section 5: what goes together, and what stands where.
fn checked(group: Group) -> Result<Group, NotifyError> {
    let has = |event| group.events.contains(&event);
    let bad = |text: &str| Err(NotifyError::Bad(text.into()));
    let messages = group.events.iter().any(|event| event.is_of_messages());
    match () {
        () if messages && !(has(Event::MessageNew) && has(Event::MessageExpunge)) => {
            bad("MessageNew and MessageExpunge go together, and FlagChange only with them")
        }
        () if group.which.is_selected() && group.events.iter().any(|event| !event.is_of_messages()) => {
            bad("only events of messages can be asked for of the selected mailbox")
        }
        () if group.items.is_some() && !group.which.is_selected() => {
            bad("items of new messages can be asked for of the selected mailbox only")
        }
        () => Ok(group),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Notify, String> {
        Notify::parse(text.as_bytes()).map_err(|error| match error {
            NotifyError::Bad(text) => text,
            NotifyError::Event => "BADEVENT".to_owned(),
            NotifyError::TooMuch => "too much".to_owned(),
        })
    }

    #[test]
    fn groups_are_read() {
        use Event::{FlagChange, MailboxName, MessageExpunge, MessageNew};
        assert_eq!(parse("none"), Ok(Notify::None));
        let text = "SET STATUS (selected (MessageNew (uid body.peek[header.fields (from \"to)\" subject)]) MessageExpunge)) \
                    (subtree Lists (MessageNew MessageExpunge flagchange)) (mailboxes (INBOX \"a b\") NONE) (personal MailboxName)";
        let Ok(Notify::Set { status: true, groups }) = parse(text) else { panic!("{:?}", parse(text)) };
        let group = |which, events: &[Event]| Group { which, events: events.to_vec(), items: None };
        let items = b"(uid body.peek[header.fields (from \"to)\" subject)])".to_vec();
        assert_eq!(groups[0], Group { items: Some(items), ..group(Which::Selected, &[MessageNew, MessageExpunge]) });
        let subtree = Which::Subtree(vec![b"Lists".to_vec()]);
        assert_eq!(groups[1], group(subtree, &[MessageNew, MessageExpunge, FlagChange]));
        assert_eq!(groups[2], group(Which::Mailboxes(vec![b"INBOX".to_vec(), b"a b".to_vec()]), &[]));
        assert_eq!(groups[3], group(Which::Personal, &[MailboxName]));
    }

    #[test]
    fn the_examples_of_section_3_1_are_understood() {
        let text = "set status (selected MessageNew (uid body.peek[header.fields (from to subject)]) MessageExpunge) \
                    (subtree Lists MessageNew)";
        let Ok(Notify::Set { status: true, groups }) = parse(text) else { panic!("{:?}", parse(text)) };
        assert!(groups.iter().all(|group| group.events == [Event::MessageNew, Event::MessageExpunge]));
        let text =
            "set (selected (Messagenew (uid flags) messageExpunge)) (personal (MessageNew FlagChange MessageExpunge))";
        assert!(matches!(parse(text), Ok(Notify::Set { status: false, .. })));
    }

    #[test]
    fn names_and_groups_are_bounded() {
        let named = |count: usize| format!("(mailboxes ({}) NONE)", vec!["a"; count].join(" "));
        let table = [
            (format!("SET {}", named(1000)), true),
            (format!("SET {} {}", named(600), named(400)), true),
            (format!("SET {} {}", named(600), named(401)), false),
            (format!("SET{}", " (subscribed NONE)".repeat(1000)), true),
            (format!("SET{}", " (subscribed NONE)".repeat(1001)), false),
        ];
        for (text, good) in table {
            let expected = if good { Ok(()) } else { Err("too much".to_owned()) };
            assert_eq!(parse(&text).map(drop), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let pair = "MessageNew and MessageExpunge go together, and FlagChange only with them";
        let table = [
            ("", "expected SET or NONE at octet 0"),
            ("SET", "expected a group of events at octet 3"),
            ("SET (selected (MessageNew))", pair),
            ("SET (personal (FlagChange))", pair),
            ("SET (selected (MailboxName))", "only events of messages can be asked for of the selected mailbox"),
            (
                "SET (personal (MessageNew (UID) MessageExpunge))",
                "items of new messages can be asked for of the selected mailbox only",
            ),
            ("SET (selected NONE) (selected-delayed NONE)", "selected and selected-delayed stand for one mailbox"),
            ("SET (personal (AnnotationChange))", "BADEVENT"),
            ("SET (nowhere NONE)", "expected which mailboxes at octet 5"),
            ("SET (mailboxes NONE)", "expected a space at octet 19"),
            ("NONE x", "expected the end of the command at octet 4"),
            ("SET (selected (MessageNew (UID", "expected items of FETCH at octet 30"),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
    }
}
