//! A message of XMPP (RFC 5437, as far as a notice is one that Sieve would send).
//!
//!     <message from="notify.example.com" to="romeo@im.example.com" id="9c41..." type="normal" xml:lang="en">
//!       <subject>New mail</subject>
//!       <body>Mail for romeo@example.com</body>                               EXTENDED: sender, subject, and how the text begins
//!       <x xmlns="jabber:x:oob"><url>imap://romeo@example.com/INBOX;UIDVALIDITY=385759043/;UID=18</url></x>        EXTENDED
//!       <headers xmlns="http://jabber.org/protocol/shim"><header name="Urgency">medium</header></headers>
//!       <request xmlns="urn:xmpp:receipts"/>                                  the device is asked to say that it has it (XEP-0184)
//!     </message>
//!
//! The type is `normal`: a headline that nobody is there to read is thrown away without an error, and of this we hear. The same notice has the same
//! id. The address may be an `xmpp:` URI (RFC 5122), of which only the JID is used: what else we would say is nobody's to choose. Servers on the
//! way read along, so that the channel is private where the operator says so. Nothing can be put into a stanza by those who write mails: text is
//! escaped, and what XML cannot say is left out. Requirements N9, N10, N20.

use aws_lc_rs::digest::{SHA256, digest};

use super::text;
use crate::{
    account::channel::Kind,
    imap::url::ImapUrl,
    outband::{
        channel::{Answer, Channel, Delivery, Given, Outcome, Undeliverable},
        notice::{self, Notice},
        xml,
        xmpp::{
            identity::is_local,
            message::{Condition, Message, Refusal},
        },
    },
};

/// Octets of the hash that is an id.
const HASH: usize = 16;

/// The channel. Who we are its carrier knows.
#[derive(Clone, Debug)]
pub struct Xmpp {
    /// The subject of each message: text that says what it is (RFC 5437 section 2.7).
    pub subject: String,
    /// The operator says that the way is private enough for EXTENDED.
    pub private: bool,
}

impl Channel for Xmpp {
    fn kind(&self) -> Kind {
        Kind::Xmpp
    }

    fn is_private(&self, _: &str) -> bool {
        self.private
    }

    fn write(&self, notice: &Notice, address: &str, _: &Given) -> Result<Delivery, Undeliverable> {
        Kind::Xmpp.check(address).map_err(|_| Undeliverable::Address)?;
        let to = jid(address).ok_or(Undeliverable::Address)?;
        let id = id(notice, &to);
        Ok(Delivery::Xmpp(Message { to, id, content: self.content(notice) }))
    }

    /// RFC 5437 section 4: what is of type `wait` may go again. The recipient's server says of somebody who is merely away that there is no such
    /// service, and of somebody whom it does not know mostly too: that is no reason to forget an address.
    fn judge(&self, answer: &Answer) -> Outcome {
        use Condition::{
            Gone, ItemNotFound, JidMalformed, RecipientUnavailable, RemoteServerTimeout, ResourceConstraint,
        };

        match answer {
            Answer::Xmpp { refusal: None } | Answer::Sent => Outcome::Accepted,
            Answer::Acknowledged => Outcome::Delivered,
            Answer::Xmpp { refusal: Some(Refusal { is_temporary: true, .. }) } => Outcome::Later { after: None },
            Answer::Xmpp { refusal: Some(Refusal { condition, .. }) } => match condition {
                Gone | ItemNotFound | JidMalformed => Outcome::Dead,
                RecipientUnavailable | RemoteServerTimeout | ResourceConstraint => Outcome::Later { after: None },
                Condition::Other => Outcome::Failed,
            },
            Answer::Silence | Answer::Unreachable => Outcome::Later { after: None },
            Answer::Forbidden => Outcome::Dead,
            _ => Outcome::Failed,
        }
    }
}

impl Xmpp {
    fn content(&self, notice: &Notice) -> String {
        let urgency = if notice.urgent { "high" } else { "medium" };
        let url = notice.message.as_ref().and_then(|message| url(notice, message));
        let link = url.map(|url| format!("<x xmlns=\"jabber:x:oob\"><url>{}</url></x>", xml::escaped(&url)));
        [
            format!("<subject>{}</subject>", escaped(&text::line(&self.subject))),
            format!("<body>{}</body>", escaped(&text::lines(notice).join("\n"))),
            link.unwrap_or_default(),
            format!(
                "<headers xmlns=\"http://jabber.org/protocol/shim\"><header name=\"Urgency\">{urgency}</header></headers>"
            ),
            "<request xmlns=\"urn:xmpp:receipts\"/>".to_owned(),
        ]
        .concat()
    }
}

/// Text as it stands in an element, without what XML cannot say.
fn escaped(text: &str) -> String {
    let clean: String = text.chars().filter(|&character| xml::is_allowed(character)).collect();
    xml::escaped(&clean)
}

/// Where the message is, for an account that is a mail address.
fn url(notice: &Notice, message: &notice::Message) -> Option<String> {
    let (user, host) = notice.account.rsplit_once('@')?;
    let is_host = host.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-.".contains(&octet));
    let url = ImapUrl {
        user: Some(user),
        host,
        port: 143,
        mailbox: Some(&notice.mailbox),
        uidvalidity: notice.uidvalidity,
        uid: Some(message.uid),
    };
    (is_host && !notice.mailbox.is_empty()).then(|| url.to_string())
}

/// The JID that an address is. What XML cannot say is none: it would cut the stream.
fn jid(address: &str) -> Option<String> {
    let jid = match address.strip_prefix("xmpp:") {
        Some(uri) => decoded(uri.split(['?', '#']).next().unwrap_or_default())?,
        None => address.to_owned(),
    };
    let (bare, resource) = jid.split_once('/').unwrap_or((&jid, ""));
    let is_jid = bare.rsplit_once('@').is_some_and(|(local, domain)| is_local(local) && !domain.is_empty());
    (is_jid && jid.chars().all(xml::is_allowed) && !resource.contains(char::is_control)).then_some(jid)
}

/// The text that is percent-encoded here (RFC 3986 section 2.1).
fn decoded(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut octets = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, behind) = piece.split_at_checked(2)?;
        // A sign is a digit to from_str_radix.
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        octets.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        octets.extend_from_slice(behind.as_bytes());
    }
    String::from_utf8(octets).ok()
}

/// What the same notice to the same address is called, and no other: a hash of these, each behind its length.
fn id(notice: &Notice, to: &str) -> String {
    let (seq, at) = (notice.seq.to_be_bytes(), notice.at.as_nanos().to_be_bytes());
    let parts = [notice.account.as_bytes(), to.as_bytes(), &seq, &at];
    let whole: Vec<u8> =
        parts.iter().flat_map(|part| [&(part.len() as u64).to_be_bytes()[..], part].concat()).collect();
    digest(&SHA256, &whole).as_ref()[..HASH].iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outband::{
        channels::tests::{GIVEN, notice},
        xmpp::stream::tests::element,
    };

    const ADDRESS: &str = "romeo@im.example.com";

    fn xmpp() -> Xmpp {
        Xmpp { subject: "New mail".to_owned(), private: false }
    }

    fn message(notice: &Notice, address: &str) -> Message {
        match xmpp().write(notice, address, &GIVEN) {
            Ok(Delivery::Xmpp(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    /// Subject and body, as they are read.
    fn read(notice: &Notice) -> (String, String) {
        let stanza = element(&message(notice, ADDRESS).stanza(None));
        let text = |name| stanza.child(name, "jabber:client").unwrap().text.clone();
        (text("subject"), text("body"))
    }

    #[test]
    fn a_wakeup_says_for_whom_there_is_news() {
        let message = message(&notice().wakeup(), ADDRESS);
        assert_eq!(
            message.content,
            "<subject>New mail</subject><body>Mail for joe@foo.com</body>\
             <headers xmlns=\"http://jabber.org/protocol/shim\"><header name=\"Urgency\">medium</header></headers>\
             <request xmlns=\"urn:xmpp:receipts\"/>"
        );
        assert_eq!((message.to.as_str(), message.id.len()), (ADDRESS, 32));
        assert_eq!((xmpp().kind(), xmpp().is_private(ADDRESS)), (Kind::Xmpp, false));
        assert!(Xmpp { private: true, ..xmpp() }.is_private(ADDRESS));
        let octets = message.content.len() as u32;
        assert_eq!(Delivery::Xmpp(message).octets(), octets);
    }

    #[test]
    fn an_extended_one_says_what_and_where_as_in_the_rfc() {
        // RFC 5437 section 3.1, with what is ours.
        let notice = Notice {
            account: "romeo@example.com".into(),
            mailbox: b"INBOX".as_slice().into(),
            uidvalidity: Some(385_759_043),
            urgent: true,
            ..notice()
        };
        assert_eq!(
            message(&notice, ADDRESS).content,
            "<subject>New mail</subject>\
             <body>Juliet &lt;juliet@example.org&gt; wrote: Contact me immediately!\nRomeo, where are you?</body>\
             <x xmlns=\"jabber:x:oob\"><url>imap://romeo@example.com/INBOX;UIDVALIDITY=385759043/;UID=18</url></x>\
             <headers xmlns=\"http://jabber.org/protocol/shim\"><header name=\"Urgency\">high</header></headers>\
             <request xmlns=\"urn:xmpp:receipts\"/>"
        );
        // A login that is no address is no place.
        assert!(!message(&Notice { account: "joe".into(), ..notice }, ADDRESS).content.contains("jabber:x:oob"));
    }

    #[test]
    fn text_of_others_is_text() {
        let mut notice = notice();
        let told = notice.message.as_mut().unwrap();
        told.name = None;
        told.from = None;
        told.subject = Some("</body></message>\r\n<presence to='x'/>&\u{0}\u{fffe}]]>".into());
        told.snippet = Some("\u{1}".into());
        let (subject, body) = read(&notice);
        assert_eq!(subject, "New mail");
        // NUL is a control character, and U+FFFE is nothing that XML has.
        assert_eq!(body, "Somebody wrote: </body></message>  <presence to='x'/>& ]]>");
    }

    #[test]
    fn the_same_notice_has_the_same_id_and_no_other_has() {
        let id = |notice: &Notice, address: &str| message(notice, address).id;
        let first = id(&notice(), ADDRESS);
        assert_eq!(id(&notice(), ADDRESS), first);
        assert_eq!(id(&notice(), "xmpp:romeo@im.example.com?message;body=x"), first);
        let others = [
            id(&Notice { seq: 8, ..notice() }, ADDRESS),
            id(&Notice { account: "jo@foo.com".into(), ..notice() }, ADDRESS),
            id(&Notice { at: Duration::ZERO, ..notice() }, ADDRESS),
            id(&notice(), "romeo@im.example.com/phone"),
        ];
        assert!(!others.contains(&first));
    }

    #[test]
    fn an_address_is_a_jid_or_a_uri_of_one() {
        for (address, expected) in [
            ("joe@example.org/phone", Some("joe@example.org/phone")),
            ("joe@example.org/a@b/c?d", Some("joe@example.org/a@b/c?d")),
            // RFC 5122 section 2.7.2.
            ("xmpp:nasty!%23$%25()*+,-.;=%3F%5B%5C%5D%5E_%60%7B%7C%7D~node@example.com", {
                Some("nasty!#$%()*+,-.;=?[\\]^_`{|}~node@example.com")
            }),
            ("xmpp:joe@example.org/phone?message;subject=x", Some("joe@example.org/phone")),
            ("xmpp:joe%40x@example.org", None),
            ("xmpp:joe@example.org/%00", None),
            ("xmpp:joe%ff@example.org", None),
            ("xmpp:joe%+1@example.org", None),
            // U+FFFF, U+FFFE: characters, and none of XML. A server cuts the stream of all for them.
            ("xmpp:joe%EF%BF%BF@example.org", None),
            ("xmpp:joe%EF%BF%BE@example.org/phone", None),
            ("xmpp:joe@example.org/%EF%BF%BE", None),
            ("joe\"/><x@example.org", None),
            ("example.org", None),
        ] {
            let to = xmpp().write(&notice(), address, &GIVEN).map(|delivery| match delivery {
                Delivery::Xmpp(message) => message.to,
                other => panic!("{other:?}"),
            });
            assert_eq!(to, expected.map(str::to_owned).ok_or(Undeliverable::Address), "{address}");
        }
    }

    #[test]
    fn an_answer_means_what_the_tables_say() {
        let refused = |is_temporary, condition| Answer::Xmpp { refusal: Some(Refusal { is_temporary, condition }) };
        let later = Outcome::Later { after: None };
        for (answer, outcome) in [
            (Answer::Xmpp { refusal: None }, Outcome::Accepted),
            (Answer::Acknowledged, Outcome::Delivered),
            (refused(false, Condition::Gone), Outcome::Dead),
            (refused(false, Condition::ItemNotFound), Outcome::Dead),
            (refused(false, Condition::JidMalformed), Outcome::Dead),
            (refused(false, Condition::RecipientUnavailable), later),
            (refused(false, Condition::RemoteServerTimeout), later),
            (refused(false, Condition::ResourceConstraint), later),
            (refused(false, Condition::Other), Outcome::Failed),
            (refused(true, Condition::Other), later),
            (refused(true, Condition::ItemNotFound), later),
            (Answer::Silence, later),
            (Answer::Unreachable, later),
            (Answer::Smpp { status: 0 }, Outcome::Failed),
        ] {
            assert_eq!(xmpp().judge(&answer), outcome, "{answer:?}");
        }
    }
}
