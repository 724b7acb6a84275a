//! Receipts: what became of a message that the SMSC took (SMPP 3.4 appendix B).
//!
//!     deliver_sm, esm_class 04, from the telephone
//!       001e "m1"  0427 02                                       delivered, where the SMSC says it in parameters
//!       id:0000000026 ... done date:2002201830 stat:DELIVRD ...  and where it does not, in text that each vendor writes in its own way
//!
//! The number of a message that was 1A in the response may be 26 in the receipt, with zeros before it or without. So it is looked for as it
//! stands, then as the other of both; the telephone has to be the same one, so that nobody hears of another's message. What is on its way is
//! no news. Who asks is kept in a bounded place: an SMSC owes nobody a receipt. Requirement N20.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::pdu::Delivered;
use crate::outband::channel::Receipt;

/// A receipt.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    /// The number of the message, as the SMSC writes it.
    id: Vec<u8>,
    /// Digits of the telephone's number.
    from: Vec<u8>,
    /// What it says.
    pub says: Receipt,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Report({:?})", self.says)
    }
}

/// The longest number of a message (section 5.2.23), in octets: under a longer one nobody waits.
const LONGEST_ID: usize = 64;

/// Optional parameters of a receipt.
const RECEIPTED_MESSAGE_ID: u16 = 0x1e;
const MESSAGE_PAYLOAD: u16 = 0x424;
const MESSAGE_STATE: u16 = 0x427;

/// The states of a message that are final: number, word of the text form, and what they are to us.
const STATES: [(u8, &[u8], Receipt); 5] = [
    (2, b"DELIVRD", Receipt::Delivered),
    (3, b"EXPIRED", Receipt::Failed),
    (4, b"DELETED", Receipt::Failed),
    (5, b"UNDELIV", Receipt::Failed),
    (8, b"REJECTD", Receipt::Failed),
];

impl Report {
    /// What this says of a message, if it says something final of one.
    pub fn of(delivered: &Delivered<'_>) -> Option<Self> {
        // Bits 2 to 5 of esm_class: a receipt of the SMSC's, and neither a message nor word from the telephone (section 5.2.12).
        if delivered.esm_class & 0x3c != 0x04 {
            return None;
        }
        let text = delivered.parameter(MESSAGE_PAYLOAD).unwrap_or(delivered.text);
        let id = delivered.parameter(RECEIPTED_MESSAGE_ID).map(without_nul).or_else(|| word(text, b"id:"));
        let id = id.filter(|id| (1..=LONGEST_ID).contains(&id.len()))?;
        let says = match delivered.parameter(MESSAGE_STATE) {
            Some([state]) => STATES.iter().find(|(number, ..)| number == state),
            _ => {
                word(text, b"stat:").and_then(|stat| STATES.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(stat)))
            }
        };
        let (.., says) = says?;
        let from = delivered.source.iter().copied().filter(u8::is_ascii_digit).collect();
        Some(Self { id: id.to_vec(), from, says: *says })
    }
}

fn without_nul(value: &[u8]) -> &[u8] {
    value.split(|octet| *octet == 0).next().unwrap_or_default()
}

/// What stands behind this name, up to the next space.
fn word<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut words = text.split(u8::is_ascii_whitespace);
    words.find_map(|word| {
        let (start, rest) = word.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then_some(rest)
    })
}

/// Messages of which a receipt may come, each with who wants it.
#[derive(Debug)]
pub struct Awaited<T> {
    by_id: HashMap<Vec<u8>, Entry<T>>,
    /// When each came in, the oldest first.
    order: VecDeque<(Instant, Vec<u8>)>,
    /// Receipts for which nobody waited, and when they came.
    early: VecDeque<(Instant, Report)>,
}

#[derive(Debug)]
struct Entry<T> {
    number: Vec<u8>,
    who: T,
}

impl<T> Default for Awaited<T> {
    fn default() -> Self {
        Self { by_id: HashMap::new(), order: VecDeque::new(), early: VecDeque::new() }
    }
}

impl<T> Awaited<T> {
    /// How many are kept; behind them the oldest is forgotten. Two megabytes.
    pub const MOST: usize = 10_000;
    /// How long one is kept: notices live for an hour or so.
    pub const LONGEST: Duration = Duration::from_secs(86_400);
    /// How many receipts are kept that came before the number of their message, ...
    pub const EARLY: usize = 100;
    /// ... and how long: as a response may take.
    pub const EARLY_FOR: Duration = Duration::from_secs(30);

    /// Keeps who wants to hear of the message that the SMSC calls so, and that went to this number. Where its receipt has overtaken its number,
    /// it is given back with that.
    pub fn insert(&mut self, id: &[u8], number: &str, who: T, now: Instant) -> Option<(T, Receipt)> {
        if !(1..=LONGEST_ID).contains(&id.len()) {
            return None;
        }
        let number = number.bytes().filter(u8::is_ascii_digit).collect();
        let id = plain(id);
        // Under a number that is given out anew nobody waits for the message before.
        self.remove(&id);
        self.forget(Self::MOST - 1, now);
        self.order.push_back((now, id.clone()));
        self.by_id.insert(id, Entry { number, who });
        let found = |(at, (_, report)): (usize, &(Instant, Report))| Some((at, self.find(report)?));
        let (at, id) = self.early.iter().enumerate().find_map(found)?;
        let (_, report) = self.early.remove(at)?;
        Some((self.remove(&id)?, report.says))
    }

    /// Who wants to hear this. It is told once.
    pub fn take(&mut self, report: Report, now: Instant) -> Option<T> {
        self.forget(Self::MOST, now);
        if let Some(id) = self.find(&report) {
            return self.remove(&id);
        }
        if self.early.len() == Self::EARLY {
            self.early.pop_front();
        }
        self.early.push_back((now, report));
        None
    }

    /// Under which number somebody waits for this.
    fn find(&self, report: &Report) -> Option<Vec<u8>> {
        let id = plain(&report.id);
        let same = |id: &Vec<u8>| self.by_id.get(id).is_some_and(|entry| is_same(&entry.number, &report.from));
        let other = [decimal_as_hex(&id), hex_as_decimal(&id)];
        [Some(id)].into_iter().chain(other).flatten().find(same)
    }

    fn remove(&mut self, id: &Vec<u8>) -> Option<T> {
        let entry = self.by_id.remove(id)?;
        self.order.retain(|(_, other)| other != id);
        Some(entry.who)
    }

    /// Forgets who has waited too long, and the oldest where there are more than so many.
    fn forget(&mut self, most: usize, now: Instant) {
        while let Some((since, id)) = self.order.front() {
            if now.saturating_duration_since(*since) < Self::LONGEST && self.order.len() <= most {
                break;
            }
            self.by_id.remove(id);
            self.order.pop_front();
        }
        self.early.retain(|(since, _)| now.saturating_duration_since(*since) < Self::EARLY_FOR);
    }
}

/// A message's number without what vendors write differently: zeros before it, and the case of letters.
fn plain(id: &[u8]) -> Vec<u8> {
    let zeros = id.iter().take_while(|octet| **octet == b'0').count();
    id[zeros.min(id.len().saturating_sub(1))..].to_ascii_lowercase()
}

fn decimal_as_hex(id: &[u8]) -> Option<Vec<u8>> {
    let number: u64 = str::from_utf8(id).ok()?.parse().ok()?;
    Some(format!("{number:x}").into_bytes())
}

fn hex_as_decimal(id: &[u8]) -> Option<Vec<u8>> {
    let number = u64::from_str_radix(str::from_utf8(id).ok()?, 16).ok()?;
    Some(number.to_string().into_bytes())
}

/// Whether both may be the number of one telephone: a receipt may leave out the country, and write zeros for it.
fn is_same(number: &[u8], from: &[u8]) -> bool {
    const ENOUGH: usize = 7;
    from.is_empty() || number.iter().rev().zip(from.iter().rev()).take(ENOUGH).all(|(ours, theirs)| ours == theirs)
}

#[cfg(test)]
mod tests {
    use super::{
        super::pdu::{Heard, tests::delivery},
        *,
    };

    /// What a deliver_sm says.
    fn report(class: u8, text: &str, parameters: &str) -> Option<Report> {
        let pdu = delivery(class, text, parameters);
        Report::of(&Heard::first(&pdu).unwrap().unwrap().0.delivered().unwrap())
    }

    const TEXT: &str =
        "id:0000000026 sub:001 dlvrd:001 submit date:2611301200 done date:2611301201 stat:DELIVRD err:000 text:";

    #[test]
    fn a_receipt_is_read_from_parameters_or_from_text() {
        for (text, parameters, id, says) in [
            // node-smpp.
            (TEXT, "001e 0003 6d3100 0427 0001 02", "m1", Receipt::Delivered),
            ("", "001e 0003 6d3100 0427 0001 05", "m1", Receipt::Failed),
            // Without its NUL, and with more than the specification has.
            ("", "001e 0002 6d31 0423 0001 03 0427 0001 03", "m1", Receipt::Failed),
            (TEXT, "", "0000000026", Receipt::Delivered),
            ("ID:1A Stat:undeliv", "", "1A", Receipt::Failed),
            (TEXT, "0427 0001 08", "0000000026", Receipt::Failed),
            (TEXT, "001e 0003 6d3100", "m1", Receipt::Delivered),
            // A state of two octets is none.
            (TEXT, "0427 0002 0005", "0000000026", Receipt::Delivered),
            // The text in message_payload.
            ("", "0424 0017 69643a31206572723a3020737461743a4445 4c455445 44", "1", Receipt::Failed),
        ] {
            let report = report(4, text, parameters).unwrap_or_else(|| panic!("{text} {parameters}"));
            assert_eq!((report.id, report.says), (id.as_bytes().to_vec(), says), "{text} {parameters}");
            assert_eq!(report.from, b"447700900123");
        }
    }

    #[test]
    fn what_is_no_receipt_or_not_final_says_nothing() {
        for (class, text, parameters) in [
            (0, TEXT, "001e 0003 6d3100 0427 0001 02"),
            (0x20, TEXT, ""),
            (8, TEXT, ""),
            (4, "id:26 stat:ENROUTE", ""),
            (4, "id:26 stat:ACCEPTD", ""),
            (4, TEXT, "0427 0001 01"),
            (4, "stat:DELIVRD", ""),
            (4, "id:26", ""),
            (4, "", ""),
            (4, "id: stat:DELIVRD", ""),
            (4, &format!("id:{} stat:DELIVRD", "1".repeat(65)), ""),
        ] {
            assert_eq!(report(class, text, parameters), None, "{class} {text} {parameters}");
        }
    }

    fn of(id: &str, from: &str) -> Report {
        Report { id: id.into(), from: from.into(), says: Receipt::Delivered }
    }

    #[test]
    fn a_number_is_found_however_it_is_written() {
        let now = Instant::now();
        for (answered, receipted, found) in [
            ("m1", "m1", true),
            ("m1", "M1", true),
            ("0000001A", "26", true),
            ("26", "0000001a", true),
            ("26", "0000000026", true),
            ("1A", "1a", true),
            ("0", "000", true),
            ("26", "27", false),
            ("m1", "m2", false),
        ] {
            let mut awaited = Awaited::default();
            awaited.insert(answered.as_bytes(), "+447700900123", (), now);
            assert_eq!(awaited.take(of(receipted, "447700900123"), now).is_some(), found, "{answered} {receipted}");
            assert!(awaited.take(of(receipted, "447700900123"), now).is_none(), "it was told");
        }
    }

    #[test]
    fn nobody_hears_of_anothers_message() {
        let now = Instant::now();
        let mut awaited = Awaited::default();
        // 1A is 26 of the one who writes hexadecimal, and 26 is somebody else's.
        awaited.insert(b"1A", "+447700900123", "first", now);
        awaited.insert(b"26", "+491511234567", "second", now);
        assert_eq!(awaited.take(of("26", "07700900123"), now), Some("first"));
        assert_eq!(awaited.take(of("26", "447700900123"), now), None);
        // Without a number it is whose it is.
        assert_eq!(awaited.take(of("26", ""), now), Some("second"));
    }

    #[test]
    fn a_receipt_that_is_faster_than_the_response_is_kept_for_a_moment() {
        let start = Instant::now();
        let mut awaited = Awaited::default();
        assert_eq!(awaited.take(of("26", "447700900123"), start), None);
        assert_eq!(awaited.insert(b"1A", "+491511234567", "another", start), None);
        let told = awaited.insert(b"1A", "+447700900123", "first", start + Duration::from_secs(29));
        assert_eq!(told, Some(("first", Receipt::Delivered)));
        assert_eq!((awaited.by_id.len(), awaited.order.len(), awaited.early.len()), (0, 0, 0));
        // Once, and not for ever; and only so many.
        assert_eq!(awaited.take(of("27", ""), start), None);
        assert_eq!(awaited.insert(b"27", "+447700900123", "late", start + Duration::from_secs(30)), None);
        (0..1000).for_each(|number| assert_eq!(awaited.take(of(&format!("x{number}"), ""), start), None));
        assert_eq!(awaited.early.len(), 100);
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_time() {
        let start = Instant::now();
        let mut awaited = Awaited::default();
        for number in 0..2 * Awaited::<usize>::MOST {
            awaited.insert(format!("m{number}").as_bytes(), "+447700900123", number, start);
        }
        assert_eq!((awaited.by_id.len(), awaited.order.len()), (10_000, 10_000));
        assert_eq!(awaited.take(of("m9999", ""), start), None);
        assert_eq!(awaited.take(of("m10000", ""), start), Some(10_000));
        assert_eq!(awaited.take(of("m19999", ""), start), Some(19_999));
        // Whoever was told takes no place of others.
        assert_eq!((awaited.by_id.len(), awaited.order.len()), (9998, 9998));
        // A number that is given out anew counts from then on.
        let later = start + Duration::from_secs(3600);
        awaited.insert(b"m19998", "+447700900123", 7, later);
        let day = start + Duration::from_secs(86_400);
        assert_eq!(awaited.take(of("m19997", ""), day), None);
        assert_eq!((awaited.by_id.len(), awaited.order.len()), (1, 1));
        assert_eq!(awaited.take(of("m19998", ""), day), Some(7));
        for (id, kept) in [(&[b'm'; 0][..], 0), (&[b'm'; 65], 0), (&[b'm'; 64], 1)] {
            awaited.insert(id, "+447700900123", 8, day);
            assert_eq!((awaited.by_id.len(), awaited.order.len()), (kept, kept));
        }
    }
}
