//! Whose address is it? What is known of each address of a device, and how the user says that it is his.
//!
//!     SMS +4915112345678   asked: 49001731, at 1790000000, 0 wrong answers     it was sent the code, and nothing else
//!     C: a SETMETADATA "" (/private/vendor/lemonade/notify/outband/confirm "49001731")
//!     SMS +4915112345678   confirmed                                           it is told of news
//!
//! Anybody can write down the number of somebody else. What is known of an address stands in an entry of the device that no client reads or
//! writes, and lasts as long as the device names the address. A code is good for a day and for five answers; that of COI's Web Push, which a
//! program gives back, for five minutes. Who sets an address again that was asked before asks for another code, and until there is one the
//! old one counts. An address that an operator has set is the user's own. Requirements N12, N20, N21.

use std::{collections::BTreeSet, fmt};

use aws_lc_rs::{
    constant_time,
    digest::{SHA256, digest},
};
use serde::{Deserialize, Serialize};

use super::{channel::Kind, preference::Preference, registration};
use crate::{
    imap::entry::EntryName,
    store::{DeviceName, Edit, Entry, Key, Owner},
};

/// The entry that a code is written to; reading says how it stands with the addresses of the device.
pub const CONFIRM: &str = "/private/vendor/lemonade/notify/outband/confirm";

/// Below it stands what is known of addresses.
const ENROLMENTS: &str = "/private/vendor/lemonade/enrolment/";

/// Answers that a code is good for.
const ANSWERS: u32 = 5;

/// Seconds that a code is good for, where a person gives it back: a day; and where a program does (COI's Web Push).
const LIFETIMES: (i64, i64) = (24 * 3600, 300);

/// Seconds behind a code in which none is asked for again: a client may say everything twice.
const AT_ONCE: i64 = 60;

/// What is known of an address of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody there was asked, and has not answered.
    Asked(Question),
    /// It is the user's own.
    Confirmed,
}

/// What somebody was asked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What the user is to write back; none: the device itself answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Box<str>>,
    /// When, in seconds since 1970.
    pub at: i64,
    /// Answers that were wrong.
    #[serde(default)]
    pub wrong: u32,
    /// The address was set again: another code is wanted.
    #[serde(default)]
    pub again: bool,
}

/// An entry: `{"to":"SMS +4915112345678","asked":{..}}`; without a question it is confirmed.
#[derive(Serialize, Deserialize)]
struct Row {
    to: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<Question>,
}

/// What an answer was.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it was a code that was waited for.
    pub is_right: bool,
    /// As it stood: where it does not stand so any more, somebody else has answered in between.
    pub mark: Entry,
    /// As it is to stand.
    pub edit: Edit,
}

/// What is known of an address, as `SMS +4915112345678`.
pub fn standing(entries: &[Entry], device: &DeviceName, to: &str) -> Option<Standing> {
    own(entries, device).find(|(_, row)| *row.to == *to).map(|(_, row)| row.standing())
}

/// So it stands with an address from now on.
pub fn edit(device: &DeviceName, to: &str, standing: &Standing) -> Option<Edit> {
    let asked = match standing {
        Standing::Asked(question) => Some(question.clone()),
        Standing::Confirmed => None,
    };
    let value = serde_json::to_vec(&Row { to: to.into(), asked }).ok()?;
    Some((key(device, to)?, Some(value.into())))
}

/// Judges an answer of a device; none: nobody has asked it, or not lately.
pub fn judge(entries: &[Entry], device: &DeviceName, answer: &[u8], now: i64) -> Option<Verdict> {
    let waits: Vec<_> = own(entries, device).filter(|(_, row)| row.waits(now)).collect();
    // All are compared, each as a whole: how long it takes tells nothing.
    let right: Vec<_> = waits.iter().map(|(_, row)| row.is_answered_by(answer)).collect();
    let at = right.iter().position(|is_right| *is_right);
    let (mark, row) = waits.get(at.unwrap_or(0))?;
    let standing = match (at, row.asked.clone()?) {
        (Some(_), _) => Standing::Confirmed,
        (None, question) => Standing::Asked(Question { wrong: question.wrong + 1, ..question }),
    };
    Some(Verdict { is_right: at.is_some(), mark: (*mark).clone(), edit: edit(device, &row.to, &standing)? })
}

/// A device has set this address: where it was asked before, another code is wanted.
pub fn set_again(entries: &[Entry], device: &DeviceName, address: &str, now: i64) -> Vec<Edit> {
    let again = |row: Row| {
        let question = row.asked.clone().filter(|question| row.is_at(address) && now >= question.at + AT_ONCE)?;
        edit(device, &row.to, &Standing::Asked(Question { again: true, ..question }))
    };
    own(entries, device).filter_map(|(_, row)| again(row)).collect()
}

/// Takes back what is known of addresses that their devices do not name any more, of all entries of the account.
pub fn left_over(entries: &[Entry]) -> Vec<Edit> {
    let addresses: BTreeSet<_> = entries.iter().filter_map(named).collect();
    let is_over = |(entry, row): &(&Entry, Row)| {
        row.address().is_none_or(|it| !addresses.contains(&(&entry.key.owner, it.into())))
    };
    rows(entries).filter(is_over).map(|(entry, _)| (entry.key.clone(), None)).collect()
}

/// How it stands with the addresses of a device, as it reads it.
pub fn said(entries: &[Entry], device: &DeviceName, now: i64) -> Option<&'static str> {
    let rows: Vec<_> = own(entries, device).map(|(_, row)| row).collect();
    let any = |is: &dyn Fn(&Row) -> bool| rows.iter().any(is);
    match () {
        () if any(&|row| row.waits(now)) => Some("waiting"),
        () if any(&|row| row.asked.as_ref().is_some_and(|question| question.code.is_some())) => Some("expired"),
        () if any(&|row| row.asked.is_some()) => Some("waiting"),
        () => (!rows.is_empty()).then_some("confirmed"),
    }
}

/// A code for an address over this channel, out of octets that nobody can guess: eight digits, and where a program gives it back more.
pub fn code(kind: Kind, chance: &[u8]) -> Box<str> {
    let hash = digest(&SHA256, &[b"code".as_slice(), chance].concat());
    let number = hash.as_ref().iter().take(16).fold(0u128, |number, octet| number << 8 | u128::from(*octet));
    match kind {
        Kind::WebPush => format!("{number:032x}"),
        _ => format!("{:08}", number % 100_000_000),
    }
    .into()
}

/// What stands in an entry, and the entry.
fn rows(entries: &[Entry]) -> impl Iterator<Item = (&Entry, Row)> {
    let read = |entry: &Entry| serde_json::from_slice(&entry.value).ok().filter(|_| is_enrolment(&entry.key.name));
    entries.iter().filter_map(move |entry| Some((entry, read(entry)?)))
}

fn own<'a>(entries: &'a [Entry], device: &DeviceName) -> impl Iterator<Item = (&'a Entry, Row)> {
    rows(entries).filter(|(entry, _)| entry.key.owner == Owner::Device(device.clone()))
}

fn is_enrolment(name: &EntryName) -> bool {
    name.as_str().starts_with(ENROLMENTS)
}

/// An address that a device names, and whose it is.
fn named(entry: &Entry) -> Option<(&Owner, String)> {
    let preference = Preference::find(&entry.key.name, entry.key.mailbox.is_empty());
    let address = match preference {
        Some(Preference::Address) => Some(String::from_utf8_lossy(&entry.value).into_owned()),
        _ => registration::Subscription::of_row(entry).map(|subscription| subscription.address()),
    };
    Some((&entry.key.owner, address?))
}

/// An address may be longer than a name, and stands in the value.
fn key(device: &DeviceName, to: &str) -> Option<Key> {
    let hash: String =
        digest(&SHA256, to.as_bytes()).as_ref()[..16].iter().map(|octet| format!("{octet:02x}")).collect();
    let name = EntryName::parse(format!("{ENROLMENTS}{hash}").as_bytes()).ok()?;
    Some(Key { mailbox: Box::default(), owner: Owner::Device(device.clone()), name })
}

impl Row {
    fn standing(self) -> Standing {
        self.asked.map_or(Standing::Confirmed, Standing::Asked)
    }

    fn address(&self) -> Option<&str> {
        self.to.split_once(' ').map(|(_, address)| address)
    }

    fn is_at(&self, address: &str) -> bool {
        self.address() == Some(address)
    }

    /// Whether a code is good for an answer.
    fn waits(&self, now: i64) -> bool {
        let is_web_push = self.to.split(' ').next() == Some(Kind::WebPush.name());
        let lifetime = if is_web_push { LIFETIMES.1 } else { LIFETIMES.0 };
        let waits = |it: &Question| it.code.is_some() && it.wrong < ANSWERS && now < it.at + lifetime;
        self.asked.as_ref().is_some_and(waits)
    }

    fn is_answered_by(&self, answer: &[u8]) -> bool {
        let code = self.asked.as_ref().and_then(|question| question.code.as_deref()).unwrap_or_default();
        constant_time::verify_slices_are_equal(code.as_bytes(), answer).is_ok()
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Question(at {}, {} wrong, again {})", self.at, self.wrong, self.again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: &str = "+4915112345678";
    const TO: &str = "SMS +4915112345678";
    const AT: i64 = 1_790_000_000;

    fn phone() -> DeviceName {
        DeviceName::parse(b"phone").unwrap()
    }

    /// Entries as they stand behind these edits.
    fn after(mut entries: Vec<Entry>, edits: impl IntoIterator<Item = Edit>) -> Vec<Entry> {
        for (key, value) in edits {
            entries.retain(|entry| entry.key != key);
            entries.extend(value.map(|value| Entry { key, value }));
        }
        entries
    }

    fn asked(code: &str) -> Vec<Entry> {
        let question = Question { code: Some(code.into()), at: AT, wrong: 0, again: false };
        after(Vec::new(), edit(&phone(), TO, &Standing::Asked(question)))
    }

    fn answered(entries: &mut Vec<Entry>, answer: &str, now: i64) -> Option<bool> {
        let verdict = judge(entries, &phone(), answer.as_bytes(), now)?;
        assert!(entries.contains(&verdict.mark));
        *entries = after(entries.clone(), [verdict.edit]);
        Some(verdict.is_right)
    }

    #[test]
    fn who_gives_the_code_back_is_believed() {
        let mut entries = asked("49001731");
        assert_eq!(said(&entries, &phone(), AT), Some("waiting"));
        assert_eq!(answered(&mut entries, "49001732", AT), Some(false));
        assert_eq!(answered(&mut entries, "4900173", AT), Some(false));
        assert_eq!(judge(&entries, &DeviceName::default(), b"49001731", AT), None, "another device");
        assert_eq!(answered(&mut entries, "49001731", AT), Some(true));
        assert_eq!(standing(&entries, &phone(), TO), Some(Standing::Confirmed));
        assert_eq!(said(&entries, &phone(), AT), Some("confirmed"));
        assert_eq!(answered(&mut entries, "49001731", AT), None, "nobody asks any more");
        assert_eq!(said(&[], &phone(), AT), None);
    }

    #[test]
    fn a_code_is_good_for_five_answers_and_a_day() {
        let mut entries = asked("49001731");
        assert_eq!([0; 5].map(|_| answered(&mut entries, "0", AT)), [Some(false); 5]);
        assert_eq!(answered(&mut entries, "49001731", AT), None);
        assert_eq!(said(&entries, &phone(), AT), Some("expired"));
        let mut entries = asked("49001731");
        assert_eq!(judge(&entries, &phone(), b"49001731", AT + 86_400), None);
        assert_eq!(answered(&mut entries, "49001731", AT + 86_399), Some(true));
    }

    #[test]
    fn of_several_codes_each_confirms_its_address_and_an_empty_one_none() {
        let mut entries = asked("49001731");
        let question = Question { code: Some("11111111".into()), at: AT, wrong: 0, again: false };
        let device = Question { code: None, ..question.clone() };
        entries = after(entries, edit(&phone(), "XMPP joe@example.org", &Standing::Asked(question)));
        entries = after(entries, edit(&phone(), "UDP 192.0.2.7:1|key", &Standing::Asked(device)));
        assert_eq!(answered(&mut entries, "", AT), Some(false));
        assert_eq!(answered(&mut entries, "11111111", AT), Some(true));
        assert_eq!(standing(&entries, &phone(), "XMPP joe@example.org"), Some(Standing::Confirmed));
        assert!(matches!(standing(&entries, &phone(), TO), Some(Standing::Asked(_))));
    }

    #[test]
    fn who_sets_an_address_again_asks_for_another_code() {
        let entries = asked("49001731");
        assert_eq!(set_again(&entries, &phone(), NUMBER, AT + 59), []);
        assert_eq!(set_again(&entries, &phone(), "+4915112345679", AT + 60), []);
        let mut entries = after(entries.clone(), set_again(&entries, &phone(), NUMBER, AT + 60));
        assert!(matches!(standing(&entries, &phone(), TO), Some(Standing::Asked(Question { again: true, .. }))));
        assert_eq!(answered(&mut entries, "49001731", AT), Some(true), "until there is another one");
        assert_eq!(set_again(&entries, &phone(), NUMBER, AT + 60), [], "it is confirmed");
    }

    #[test]
    fn what_is_known_of_an_address_goes_with_it() {
        let mut entries = asked("49001731");
        let name = EntryName::parse(Preference::Address.entry().as_bytes()).unwrap();
        let key = Key { mailbox: (*b"Work").into(), owner: Owner::Device(phone()), name };
        entries.push(Entry { key: key.clone(), value: NUMBER.as_bytes().into() });
        assert_eq!(left_over(&entries), []);
        entries[1].key.owner = Owner::Device(DeviceName::default());
        assert_eq!(left_over(&entries).len(), 1, "another device names it");
        assert_eq!(after(entries.clone(), left_over(&entries)).len(), 1);
    }

    #[test]
    fn a_code_is_eight_digits_and_another_each_time() {
        let [one, other] = [[7; 64], [8; 64]].map(|chance| code(Kind::Sms, &chance));
        assert!(one != other && one.len() == 8 && one.bytes().all(|digit| digit.is_ascii_digit()), "{one}");
        assert_eq!(code(Kind::WebPush, &[7; 64]).len(), 32);
        assert!(!format!("{:?}", standing(&asked("49001731"), &phone(), TO)).contains("4900"));
    }
}
