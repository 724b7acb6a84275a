//! A message as it goes out, and the errors that come back (RFC 6120 section 8).
//!
//!     <message from="notify.example.com" to="romeo@example.com" id="9c41..." type="normal" xml:lang="en"><body>...</body></message>
//!     <message from="romeo@example.com" to="notify.example.com" id="9c41..." type="error">
//!       <error type="cancel"><item-not-found xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/></error></message>
//!
//! Requirement N20.

use std::fmt;

use super::stream::Element;
use crate::outband::xml;

/// The namespace of conditions of stanzas.
const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// A message. Address and content are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// To whom: a JID.
    pub to: String,
    /// Its number: letters and digits, the same where the same is sent again.
    pub id: String,
    /// What stands in it: XML.
    pub content: String,
}

impl Message {
    /// The stanza. A client leaves out from whom it is: its server knows.
    pub fn stanza(&self, from: Option<&str>) -> String {
        let mut out = "<message".to_owned();
        let attributes = [("from", from), ("to", Some(&self.to)), ("id", Some(&self.id)), ("type", Some("normal"))];
        for (name, value) in attributes {
            if let Some(value) = value {
                xml::attribute(name, value, &mut out);
            }
        }
        format!("{out} xml:lang=\"en\">{}</message>", self.content)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} octets)", self.content.len())
    }
}

/// Why a message came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The type is `wait`: it may go later.
    pub is_temporary: bool,
    /// What is the matter.
    pub condition: Condition,
}

/// Conditions of which one can make something (RFC 6120 section 8.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nobody is called so any more.
    Gone,
    /// Nobody is called so.
    ItemNotFound,
    /// Nobody can be called so.
    JidMalformed,
    /// It is not there now.
    RecipientUnavailable,
    /// Its server does not answer.
    RemoteServerTimeout,
    /// A server has too much to do.
    ResourceConstraint,
    /// Any other.
    Other,
}

impl Condition {
    const NAMES: [(&str, Self); 6] = [
        ("gone", Self::Gone),
        ("item-not-found", Self::ItemNotFound),
        ("jid-malformed", Self::JidMalformed),
        ("recipient-unavailable", Self::RecipientUnavailable),
        ("remote-server-timeout", Self::RemoteServerTimeout),
        ("resource-constraint", Self::ResourceConstraint),
    ];
}

impl Refusal {
    /// What the error of a stanza says; where it says nothing that can be read, it is one all the same.
    pub fn of(stanza: &Element) -> Self {
        let error = stanza.children.iter().find(|child| child.name == "error");
        let conditions = error.into_iter().flat_map(|error| &error.children);
        let mut names = conditions.filter(|child| child.namespace == STANZAS).map(|child| child.name.as_str());
        let known = |name| Condition::NAMES.iter().find(|(known, _)| *known == name);
        Self {
            is_temporary: error.and_then(|error| error.attribute("type")) == Some("wait"),
            condition: names.find_map(known).map_or(Condition::Other, |(_, condition)| *condition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outband::xmpp::stream::tests::element;

    fn refusal(error: &str) -> (bool, Condition) {
        let refusal = Refusal::of(&element(&format!("<message type='error'><body>x</body>{error}</message>")));
        (refusal.is_temporary, refusal.condition)
    }

    #[test]
    fn a_message_is_a_stanza_and_nothing_can_be_put_into_it() {
        let message = Message { to: "a@b/\"/><c>".into(), id: "7".into(), content: "<body>x</body>".into() };
        assert_eq!(
            message.stanza(Some("notify.example.com")),
            "<message from=\"notify.example.com\" to=\"a@b/&quot;/&gt;&lt;c&gt;\" id=\"7\" type=\"normal\" xml:lang=\"en\">\
             <body>x</body></message>"
        );
        assert!(message.stanza(None).starts_with("<message to=\"a@b/"));
        assert_eq!(format!("{message:?}"), "Message(14 octets)");
    }

    #[test]
    fn an_error_has_a_type_and_a_condition() {
        let of = |kind: &str, name: &str| {
            refusal(&format!(
                "<error type='{kind}'><text xmlns='{STANZAS}'>x</text><{name} xmlns='{STANZAS}'/></error>"
            ))
        };
        for (name, condition) in Condition::NAMES {
            assert_eq!(of("cancel", name), (false, condition), "{name}");
        }
        assert_eq!(of("wait", "internal-server-error"), (true, Condition::Other));
        // An application's own condition of the same name is none of these.
        assert_eq!(refusal("<error type='modify'><gone xmlns='urn:x'/></error>"), (false, Condition::Other));
        assert_eq!(refusal(""), (false, Condition::Other));
    }
}
