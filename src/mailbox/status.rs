//! The STATUS of a mailbox that nobody has selected, and what has happened between two of them (RFC 3501 7.2.4).
//!
//!     * STATUS Lists/Lemonade (MESSAGES 500 UIDNEXT 9999 UIDVALIDITY 4)
//!     * STATUS Lists/Lemonade (MESSAGES 501 UIDNEXT 10000 UIDVALIDITY 4)
//!
//! The difference is told as RFC 5465 section 5 has it: `UIDNEXT 10000 MESSAGES 501`. A server that leaves out an item has not
//! changed it. Requirement N2.

use super::event::Event;
use crate::imap::{
    list,
    token::{self, Cursor},
};

/// What STATUS says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// How many messages there are.
    pub messages: Option<u32>,
    /// The UID of the next one.
    pub uidnext: Option<u32>,
    /// Under which UIDs mean what they mean.
    pub uidvalidity: Option<u32>,
    /// How many have not been read.
    pub unseen: Option<u32>,
    /// The highest mod-sequence (RFC 7162).
    pub modseq: Option<u64>,
    /// The octets of all messages together (RFC 8438).
    pub size: Option<u64>,
}

impl Status {
    /// Reads a line, without its end: which mailbox, by its key, and how it stands.
    pub fn parse(line: &[u8]) -> Option<(Box<[u8]>, Self)> {
        let mut cursor = Cursor::new(line);
        if !cursor.accept(b"* STATUS ") {
            return None;
        }
        let name = cursor.astring().ok()?;
        cursor.space().ok()?;
        let words = cursor.list_or_empty(Cursor::atom).ok()?;
        let mut status = Self::default();
        for pair in words.chunks_exact(2) {
            let value: Option<u64> = std::str::from_utf8(pair[1]).ok().and_then(|digits| digits.parse().ok());
            let number = value.and_then(|value| u32::try_from(value).ok());
            match pair[0].to_ascii_uppercase().as_slice() {
                b"MESSAGES" => status.messages = number,
                b"UIDNEXT" => status.uidnext = number,
                b"UIDVALIDITY" => status.uidvalidity = number,
                b"UNSEEN" => status.unseen = number,
                b"HIGHESTMODSEQ" => status.modseq = value,
                b"SIZE" => status.size = value,
                _ => {}
            }
        }
        Some((list::canonical(&name), status))
    }

    /// What is to be asked for: with flags, what tells of them.
    pub fn items(flags: bool, modseq: bool) -> &'static str {
        match (flags, modseq) {
            (false, false) => "(MESSAGES UIDNEXT UIDVALIDITY)",
            (true, false) => "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)",
            (false, true) => "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)",
            (true, true) => "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)",
        }
    }

    /// All of it, as a line without its end.
    pub fn write(&self, name: &[u8]) -> Vec<u8> {
        let items = [
            item("MESSAGES", self.messages),
            item("UIDNEXT", self.uidnext),
            item("UIDVALIDITY", self.uidvalidity),
            item("UNSEEN", self.unseen),
            item("HIGHESTMODSEQ", self.modseq),
        ];
        line(name, &items)
    }

    /// What has happened since, as a line without its end; none: nothing. `flags`: those count too.
    pub fn news(&self, before: &Self, flags: bool, name: &[u8]) -> Option<Vec<u8>> {
        let recreated = differ(self.uidvalidity, before.uidvalidity);
        let moved = recreated || differ(self.messages, before.messages) || differ(self.uidnext, before.uidnext);
        let read = flags && differ(self.unseen, before.unseen);
        let touched = read || (flags && differ(self.modseq, before.modseq));
        if !moved && !touched {
            return None;
        }
        let tell = |told: bool, item: Option<String>| item.filter(|_| told);
        let items = [
            tell(recreated || (touched && self.modseq.is_some()), item("UIDVALIDITY", self.uidvalidity)),
            tell(moved, item("UIDNEXT", self.uidnext)),
            tell(moved, item("MESSAGES", self.messages)),
            tell(read, item("UNSEEN", self.unseen)),
            item("HIGHESTMODSEQ", self.modseq),
        ];
        Some(line(name, &items))
    }

    /// Of a server whose UIDNEXT grows by itself: where there are as many messages as before, it means nothing that it has.
    pub fn steady(mut self, before: &Self) -> Self {
        if self.messages == before.messages && !differ(self.uidvalidity, before.uidvalidity) {
            self.uidnext = before.uidnext;
        }
        self
    }

    /// Whether a mailbox that stands so is the one that has stood so just before: nothing but its name has changed.
    pub fn is_as(&self, before: &Self) -> bool {
        self.uidvalidity.is_some()
            && (self.uidvalidity, self.uidnext, self.messages) == (before.uidvalidity, before.uidnext, before.messages)
    }

    /// Whether it may be the one that has stood so some time ago: RFC 3501 2.3.1.1, UIDNEXT does not go down.
    pub fn may_follow(&self, before: &Self) -> bool {
        self.uidvalidity.is_some() && self.uidvalidity == before.uidvalidity && self.uidnext >= before.uidnext
    }

    /// A client has stored messages. Whether it is known how the mailbox stands now: where it is not said which they are, it is not.
    pub fn stored(&mut self, event: &Event) -> bool {
        let last = event.uids.last().filter(|_| self.uidvalidity == event.uidvalidity);
        last.map(|last| self.add(event.uids.len(), last)).is_some()
    }

    /// So many, the last one under this UID.
    fn add(&mut self, count: u32, last: u32) {
        self.messages = self.messages.map(|messages| messages.saturating_add(count));
        self.uidnext = self.uidnext.map(|uidnext| uidnext.max(last.saturating_add(1)));
        (self.unseen, self.modseq) = (None, None);
    }
}

/// Whether both are known and not the same.
fn differ<T: PartialEq>(now: Option<T>, before: Option<T>) -> bool {
    now.zip(before).is_some_and(|(now, before)| now != before)
}

fn item(name: &str, value: Option<impl std::fmt::Display>) -> Option<String> {
    value.map(|value| format!("{name} {value}"))
}

fn line(name: &[u8], items: &[Option<String>]) -> Vec<u8> {
    let mut line = b"* STATUS ".to_vec();
    token::write_astring(name, &mut line);
    let items: Vec<&str> = items.iter().flatten().map(String::as_str).collect();
    line.extend_from_slice(format!(" ({})", items.join(" ")).as_bytes());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::event::Kind;

    fn status(items: &str) -> Status {
        Status::parse(format!("* STATUS a ({items})").as_bytes()).unwrap().1
    }

    #[test]
    fn a_line_is_read_and_written() {
        let line = b"* STATUS \"a b\" (MESSAGES 5 UIDNEXT 9 UIDVALIDITY 3 UNSEEN 2 HIGHESTMODSEQ 4294967296)";
        let (name, status) = Status::parse(line).unwrap();
        assert_eq!((&*name, status.write(&name).as_slice()), (&b"a b"[..], &line[..]));
        assert_eq!(Status::parse(b"* STATUS inbox ()"), Some(((*b"INBOX").into(), Status::default())));
        for line in [&b"* STATUS a"[..], b"* LIST () NIL a", b"* STATUS a (MESSAGES"] {
            assert_eq!(Status::parse(line), None);
        }
        assert_eq!(super::tests::status("MESSAGES x UIDNEXT -1 UNSEEN 4294967296 RECENT 1"), Status::default());
    }

    #[test]
    fn what_has_happened_is_told() {
        let table = [
            ("MESSAGES 5 UIDNEXT 9", "MESSAGES 5 UIDNEXT 9", true, None),
            ("MESSAGES 5 UIDNEXT 9", "MESSAGES 6 UIDNEXT 10", false, Some("UIDNEXT 10 MESSAGES 6")),
            ("MESSAGES 5 UIDNEXT 9", "MESSAGES 4 UIDNEXT 9", false, Some("UIDNEXT 9 MESSAGES 4")),
            ("MESSAGES 5 UIDNEXT 9", "MESSAGES 5 UIDNEXT 10", false, Some("UIDNEXT 10 MESSAGES 5")),
            ("MESSAGES 5 UNSEEN 1", "MESSAGES 5 UNSEEN 2", false, None),
            ("MESSAGES 5 UNSEEN 1", "MESSAGES 5 UNSEEN 2", true, Some("UNSEEN 2")),
            ("MESSAGES 5 UNSEEN 1", "MESSAGES 6 UNSEEN 2", true, Some("MESSAGES 6 UNSEEN 2")),
            ("MESSAGES 5", "MESSAGES 5 UNSEEN 2", true, None),
            (
                "UIDVALIDITY 3 HIGHESTMODSEQ 7",
                "UIDVALIDITY 3 HIGHESTMODSEQ 8",
                true,
                Some("UIDVALIDITY 3 HIGHESTMODSEQ 8"),
            ),
            ("HIGHESTMODSEQ 7", "HIGHESTMODSEQ 8", false, None),
            (
                "UIDVALIDITY 3 MESSAGES 5 UIDNEXT 9",
                "UIDVALIDITY 4 MESSAGES 5 UIDNEXT 9",
                false,
                Some("UIDVALIDITY 4 UIDNEXT 9 MESSAGES 5"),
            ),
        ];
        for (before, now, flags, expected) in table {
            let told = status(now).news(&status(before), flags, b"a");
            let expected = expected.map(|items| format!("* STATUS a ({items})").into_bytes());
            assert_eq!(told, expected, "{before} -> {now}");
        }
    }

    #[test]
    fn uidnext_that_moves_by_itself_is_no_news() {
        let before = status("MESSAGES 5 UIDNEXT 9 UNSEEN 1");
        let now = |items: &str| status(items).steady(&before).news(&before, true, b"a");
        assert_eq!(now("MESSAGES 5 UIDNEXT 10 UNSEEN 1"), None);
        assert_eq!(now("MESSAGES 5 UIDNEXT 10 UNSEEN 2"), Some(b"* STATUS a (UNSEEN 2)".to_vec()));
        assert_eq!(now("MESSAGES 6 UIDNEXT 10 UNSEEN 1"), Some(b"* STATUS a (UIDNEXT 10 MESSAGES 6)".to_vec()));
    }

    #[test]
    fn what_a_client_stores_itself_is_no_news() {
        let event = |uidvalidity, uids: &[u32]| Event {
            uidvalidity: Some(uidvalidity),
            uids: uids.iter().copied().collect(),
            ..Event::new(Kind::MessageAppend)
        };
        let mut known = status("MESSAGES 5 UIDNEXT 9 UNSEEN 1 UIDVALIDITY 3");
        assert!(!known.stored(&event(4, &[9])) && !known.stored(&event(3, &[])));
        assert!(known.stored(&event(3, &[9, 10])));
        assert_eq!(status("MESSAGES 7 UIDNEXT 11 UNSEEN 3").news(&known, true, b"a"), None);
        assert!(status("MESSAGES 8 UIDNEXT 12 UNSEEN 4").news(&known, true, b"a").is_some());
    }
}
