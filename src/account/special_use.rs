//! What a user's mailboxes are used for: drafts, sent mail, trash (RFC 6154).
//!
//!     [account.special_use]
//!     Sent = ["Gesendete Elemente", "Postausgang/Gesendet"]      names as people write them; the first that exists
//!
//! What the user said is kept as the annotation `/private/specialuse` of the mailbox, and stands over everything; a use belongs
//! to one mailbox. What an operator knows stands over [`Use::well_known`] names. Requirement A4.

use serde::{Deserialize, Serialize};

use crate::{
    imap::{
        entry::EntryName,
        list::{self, USES},
        mailbox_name::on_the_wire,
    },
    store::{Entry, Key, Owner},
};

/// A use, in the order of [`USES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// All messages.
    All,
    /// What is kept out of the way.
    Archive,
    /// What is being written.
    Drafts,
    /// All that is flagged.
    Flagged,
    /// Spam.
    Junk,
    /// What was sent.
    Sent,
    /// What was thrown away.
    Trash,
}

/// `[account.special_use]`: names of mailboxes by what they are used for; of each list the first that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
pub struct Configured {
    /// Mailboxes that show all messages.
    pub all: Vec<String>,
    /// Archives.
    pub archive: Vec<String>,
    /// Drafts.
    pub drafts: Vec<String>,
    /// Mailboxes that show all flagged messages.
    pub flagged: Vec<String>,
    /// Spam.
    pub junk: Vec<String>,
    /// Sent messages.
    pub sent: Vec<String>,
    /// Trash.
    pub trash: Vec<String>,
}

/// A client asks for a use that it cannot have: `NO [USEATTR]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} not supported")]
pub struct Unsupported(pub String);

impl Use {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::All, Self::Archive, Self::Drafts, Self::Flagged, Self::Junk, Self::Sent, Self::Trash];

    /// As it stands in LIST, and in the annotation.
    pub fn attribute(self) -> &'static str {
        USES[self as usize]
    }

    /// The use of this attribute, in any case.
    fn find(attribute: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.attribute().as_bytes().eq_ignore_ascii_case(attribute))
    }

    /// Whether a client may give it to a mailbox: \All and \Flagged are views of other mailboxes, and a mailbox does not
    /// become one by being told so.
    fn is_assignable(self) -> bool {
        !matches!(self, Self::All | Self::Flagged)
    }

    /// What mail programs have called such a mailbox: English first, then German, French, Spanish, Italian, Portuguese,
    /// Dutch, Polish, Swedish, Danish, Norwegian, Finnish, Czech, Russian, Japanese and Chinese.
    #[rustfmt::skip]
    pub fn well_known(self) -> &'static [&'static str] {
        match self {
            Self::All | Self::Flagged => &[],
            Self::Archive => &[
                "Archive", "Archives", "Archiv", "Archivio", "Archivo", "Arquivo", "Archief", "Archiwum", "Arkiv", "Arkisto", "Архив",
                "アーカイブ", "存档", "归档", "封存",
            ],
            Self::Drafts => &[
                "Drafts", "Draft", "Entwürfe", "Entwurf", "Brouillons", "Borradores", "Bozze", "Rascunhos", "Concepten",
                "Wersje robocze", "Szkice", "Utkast", "Kladder", "Udkast", "Luonnokset", "Koncepty", "Rozepsané", "Черновики",
                "下書き", "草稿", "草稿箱", "草稿匣",
            ],
            Self::Junk => &[
                "Junk", "Spam", "Junk E-mail", "Junk Email", "Junk Mail", "Bulk Mail", "Junk-E-Mail", "Spamverdacht", "Unerwünscht",
                "Courrier indésirable", "Indésirables", "Pourriel", "Correo no deseado", "Posta indesiderata", "Lixo Eletrônico",
                "Ongewenste e-mail", "Ongewenst", "Wiadomości-śmieci", "Skräppost", "Uønsket mail", "Uønsket e-post", "Søppelpost",
                "Roskaposti", "Nevyžádaná pošta", "Спам", "Нежелательная почта", "迷惑メール", "垃圾邮件", "垃圾郵件",
            ],
            Self::Sent => &[
                "Sent", "Sent Items", "Sent Messages", "Sent Mail", "sent-mail", "Gesendet", "Gesendete Elemente", "Gesendete Objekte",
                "Envoyés", "Messages envoyés", "Éléments envoyés", "Enviados", "Elementos enviados", "Posta inviata", "Inviati",
                "Inviata", "Itens Enviados", "Verzonden", "Verzonden items", "Wysłane", "Elementy wysłane",
                "Skickat", "Skickade objekt", "Sendt post", "Sendt", "Sendte elementer", "Lähetetyt", "Odeslané",
                "Odeslaná pošta", "Отправленные", "送信済み", "送信済みアイテム", "已发送", "已发送邮件", "寄件備份",
            ],
            Self::Trash => &[
                "Trash", "Deleted Items", "Deleted Messages", "Deleted", "Papierkorb", "Gelöscht", "Gelöschte Elemente",
                "Gelöschte Objekte", "Corbeille", "Éléments supprimés", "Papelera", "Elementos eliminados", "Cestino",
                "Posta eliminata", "Lixeira", "Lixo", "Itens Excluídos", "Prullenbak", "Verwijderde items", "Kosz",
                "Elementy usunięte", "Papperskorg", "Papperskorgen", "Borttaget", "Papirkurv", "Slettet post", "Slettede elementer",
                "Roskakori", "Poistetut", "Koš", "Odstraněná pošta", "Корзина", "Удаленные", "ゴミ箱", "削除済みアイテム",
                "已删除", "已删除邮件", "垃圾桶", "刪除的郵件",
            ],
        }
    }

    /// How good a name is for this use where nobody has said anything: the best is the least. Names below INBOX come
    /// behind those beside it.
    fn rank_well_known(self, name: &[u8], delimiter: Option<u8>) -> Option<(usize, usize)> {
        let key = list::canonical(name);
        let below = delimiter.and_then(|delimiter| key.strip_prefix(b"INBOX")?.strip_prefix(&[delimiter]));
        let own = below.unwrap_or(&key);
        // No such name has levels; most names do.
        if delimiter.is_some_and(|delimiter| own.contains(&delimiter)) {
            return None;
        }
        let place = self.well_known().iter().position(|known| on_the_wire(known).eq_ignore_ascii_case(own))?;
        Some((usize::from(below.is_some()), place))
    }
}

impl Configured {
    fn names(&self, use_: Use) -> &[String] {
        match use_ {
            Use::All => &self.all,
            Use::Archive => &self.archive,
            Use::Drafts => &self.drafts,
            Use::Flagged => &self.flagged,
            Use::Junk => &self.junk,
            Use::Sent => &self.sent,
            Use::Trash => &self.trash,
        }
    }

    /// How good a name is for a use by the word of the operator, or, behind that, by what it is usually called.
    pub fn rank(&self, use_: Use, name: &[u8], delimiter: Option<u8>) -> Option<(usize, usize)> {
        let key = list::canonical(name);
        let is_named = |own: &String| list::canonical(&on_the_wire(own)) == key;
        match self.names(use_).iter().position(is_named) {
            Some(place) => Some((0, place)),
            None => use_.rank_well_known(name, delimiter).map(|(depth, place)| (1 + depth, place)),
        }
    }
}

/// The name of the annotation (RFC 6154 section 4).
pub const ENTRY: &str = "/private/specialuse";

/// Reads a value that a client wants to give to [`ENTRY`], or the list behind USE: attributes, a space between two.
pub fn read(value: &[u8]) -> Result<Vec<Use>, Unsupported> {
    let mut uses = Vec::new();
    for word in value.split(|octet| *octet == b' ').filter(|word| !word.is_empty()) {
        let unsupported = || Unsupported(word.escape_ascii().to_string().replace("\\\\", "\\"));
        let found = Use::find(word).filter(|use_| use_.is_assignable()).ok_or_else(unsupported)?;
        if !uses.contains(&found) {
            uses.push(found);
        }
    }
    Ok(uses)
}

/// The value again.
pub fn write(uses: &[Use]) -> Vec<u8> {
    uses.iter().map(|use_| use_.attribute()).collect::<Vec<_>>().join(" ").into_bytes()
}

/// What the user has said of mailboxes: names as keys, and their uses.
pub fn said(entries: &[Entry]) -> Vec<(Box<[u8]>, Vec<Use>)> {
    let own = entries.iter().filter(|entry| entry.key.owner == Owner::User && entry.key.name.as_str() == ENTRY);
    own.map(|entry| (list::canonical(&entry.key.mailbox), read(&entry.value).unwrap_or_default())).collect()
}

/// The change that gives a mailbox these uses, and takes them from others that the user gave them to. Without uses the mailbox
/// has no word of the user's any more.
///
/// Of two sessions that give one use to two mailboxes at the same moment neither sees the other, and both mailboxes have it. That
/// does no harm: RFC 6154 section 2 allows it, LIST shows both, and whoever gives the use next takes it from both.
pub fn assign(entries: &[Entry], mailbox: &[u8], uses: &[Use]) -> Vec<(Key, Option<Box<[u8]>>)> {
    let Ok(name) = EntryName::parse(ENTRY.as_bytes()) else { return Vec::new() };
    let key = |mailbox: &[u8]| Key { mailbox: mailbox.into(), owner: Owner::User, name: name.clone() };
    let value = |uses: &[Use]| (!uses.is_empty()).then(|| write(uses).into_boxed_slice());
    let mailbox = list::canonical(mailbox);
    let mut edits = vec![(key(&mailbox), value(uses))];
    for (other, before) in said(entries).into_iter().filter(|(other, _)| *other != mailbox) {
        let left: Vec<Use> = before.iter().filter(|use_| !uses.contains(use_)).copied().collect();
        if left.len() < before.len() {
            edits.push((key(&other), value(&left)));
        }
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_list_of_attributes() {
        let read = |value: &[u8]| super::read(value).map(|uses| String::from_utf8_lossy(&write(&uses)).into_owned());
        assert_eq!(read(b"\\drafts  \\Sent \\DRAFTS"), Ok("\\Drafts \\Sent".to_owned()));
        assert_eq!(read(b""), Ok(String::new()));
        for wrong in ["\\All", "\\Flagged", "Drafts", "\\X"] {
            assert_eq!(read(wrong.as_bytes()), Err(Unsupported(wrong.to_owned())));
        }
        assert_eq!(read(b"\\Sent \r\n\xff"), Err(Unsupported("\\r\\n\\xff".to_owned())));
    }

    #[test]
    fn a_use_belongs_to_one_mailbox() {
        let entry = |mailbox: &str, value: &str| Entry {
            key: Key {
                mailbox: mailbox.as_bytes().into(),
                owner: Owner::User,
                name: EntryName::parse(ENTRY.as_bytes()).unwrap(),
            },
            value: value.as_bytes().into(),
        };
        let entries = [entry("a", "\\Sent \\Drafts"), entry("b", "\\Trash"), entry("INBOX.c", "\\Junk")];
        let edits = |mailbox: &str, uses: &[Use]| {
            let edits = assign(&entries, mailbox.as_bytes(), uses).into_iter();
            let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
            edits.map(|(key, value)| (text(&key.mailbox), value.map(|value| text(&value)))).collect::<Vec<_>>()
        };
        let value = |mailbox: &str, value: &str| (mailbox.to_owned(), Some(value.to_owned()));
        assert_eq!(edits("b", &[Use::Sent]), [value("b", "\\Sent"), value("a", "\\Drafts")]);
        assert_eq!(edits("x", &[Use::Trash]), [value("x", "\\Trash"), ("b".to_owned(), None)]);
        assert_eq!(edits("inbox.c", &[]), [("INBOX.c".to_owned(), None)]);
        let entries = [entry("a", "\\Sent"), entry("b", "\\Sent \\Junk")];
        let keys = assign(&entries, b"c", &[Use::Sent]).into_iter().map(|(key, value)| (key.mailbox, value.is_some()));
        let keys: Vec<_> = keys.map(|(mailbox, kept)| (String::from_utf8_lossy(&mailbox).into_owned(), kept)).collect();
        let expected = [("c", true), ("a", false), ("b", true)];
        assert_eq!(
            keys,
            expected.map(|(mailbox, kept)| (mailbox.to_owned(), kept)),
            "it is taken from all who have it"
        );
    }

    #[test]
    fn names_are_known_in_many_languages_and_the_operator_knows_better() {
        let rank = |names: &Configured, use_: Use, name: &str| names.rank(use_, &on_the_wire(name), Some(b'.'));
        let none = Configured::default();
        assert_eq!(rank(&none, Use::Sent, "sent"), Some((1, 0)));
        assert_eq!(rank(&none, Use::Sent, "inbox.Sent Items"), Some((2, 1)));
        assert!(rank(&none, Use::Drafts, "Entwürfe") < rank(&none, Use::Drafts, "INBOX.Drafts"));
        assert!(rank(&none, Use::Drafts, "草稿").is_some() && rank(&none, Use::Trash, "Корзина").is_some());
        for other in ["Sent.Sent", "Work.Sent", "Unsent", "INBOX", "INBOX/Sent", ""] {
            assert_eq!(rank(&none, Use::Sent, other), None, "{other}");
        }
        let own = Configured { sent: vec!["Büro.Weg".to_owned(), "inbox.Out".to_owned()], ..none };
        assert_eq!(rank(&own, Use::Sent, "Büro.Weg"), Some((0, 0)));
        assert_eq!(rank(&own, Use::Sent, "Inbox.Out"), Some((0, 1)));
        assert_eq!(rank(&own, Use::Sent, "Sent"), Some((1, 0)));
    }

    #[test]
    fn no_name_has_two_uses() {
        let mut names: Vec<_> =
            Use::ALL.iter().flat_map(|use_| use_.well_known()).map(|name| name.to_lowercase()).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(count, names.len());
    }
}
