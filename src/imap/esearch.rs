//! What a search has found, and how it is asked for and told (RFC 4731, in the syntax of RFC 4466).
//!
//!     C: b SEARCH RETURN (MIN COUNT) FLAGGED
//!     >  p1 UID SEARCH FLAGGED
//!     <  * SEARCH 14 100 1115 (MODSEQ 917162500)
//!     S: * ESEARCH (TAG "b") MIN 2 COUNT 3 MODSEQ 917162500

use super::{
    command::{self, SyntaxError},
    token,
    token::Cursor,
    uid_set::UidSet,
};

/// What a UID SEARCH has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Which messages.
    pub uids: UidSet,
    /// The highest mod-sequence of them, where the criteria had one (RFC 7162 3.1.5).
    pub modseq: Option<u64>,
}

/// Reads the arguments of SEARCH responses as they come, in pieces of any length.
#[derive(Debug, Default)]
pub struct Reader {
    found: Found,
    /// The digits at the end of what has come.
    digits: Option<u64>,
    /// Behind the numbers: `(MODSEQ n)`.
    behind: bool,
}

impl Reader {
    /// Takes more.
    pub fn read(&mut self, octets: &[u8]) {
        for octet in octets {
            match (octet, self.digits) {
                (b'0'..=b'9', digits) => {
                    let digit = u64::from(octet - b'0');
                    self.digits = Some(digits.unwrap_or(0).saturating_mul(10).saturating_add(digit));
                }
                (_, Some(number)) => self.number(number),
                (_, None) => {}
            }
            match octet {
                b'(' => self.behind = true,
                b'\n' => self.behind = false,
                _ => {}
            }
        }
    }

    fn number(&mut self, number: u64) {
        self.digits = None;
        match u32::try_from(number) {
            _ if self.behind => self.found.modseq = self.found.modseq.max(Some(number)),
            Ok(uid) if uid > 0 => _ = self.found.uids.insert(uid),
            _ => {}
        }
    }

    /// What was read.
    pub fn finish(self) -> Found {
        self.found
    }
}

/// What is to be told of what is found: `RETURN (MIN COUNT SAVE)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Return {
    /// The lowest.
    pub min: bool,
    /// The highest.
    pub max: bool,
    /// All.
    pub all: bool,
    /// How many.
    pub count: bool,
    /// Nothing, but `$` is to stand for it (RFC 5182).
    pub save: bool,
}

impl Return {
    /// Reads what stands in front of search criteria, and says where they begin; `None`: nothing is asked for.
    pub fn parse(arguments: &[u8]) -> Result<Option<(Self, usize)>, SyntaxError> {
        let mut cursor = Cursor::new(arguments);
        if !cursor.accept(b"RETURN ") {
            return Ok(None);
        }
        let mut wanted = Self::default();
        cursor.list_or_empty(|cursor| {
            let unknown = cursor.expected("MIN, MAX, ALL, COUNT or SAVE");
            let option = match cursor.atom()?.to_ascii_uppercase().as_slice() {
                b"MIN" => &mut wanted.min,
                b"MAX" => &mut wanted.max,
                b"ALL" => &mut wanted.all,
                b"COUNT" => &mut wanted.count,
                b"SAVE" => &mut wanted.save,
                _ => return Err(unknown),
            };
            *option = true;
            Ok(())
        })?;
        cursor.space()?;
        // RFC 4731 3.1: an empty list is (ALL).
        wanted.all |= wanted == Self::default();
        Ok(Some((wanted, cursor.at())))
    }

    /// Whether something is to be told.
    pub fn tells(&self) -> bool {
        self.min || self.max || self.all || self.count
    }

    /// Only the ends of what is found are of interest, not all of it.
    pub fn is_narrow(&self) -> bool {
        (self.min || self.max) && !(self.all || self.count)
    }

    /// The ends that are of interest.
    pub fn ends(&self, uids: &UidSet) -> UidSet {
        let ends = [self.min.then(|| uids.first()), self.max.then(|| uids.last())];
        ends.into_iter().flatten().flatten().collect()
    }

    /// What is told, by UID.
    pub fn tell(&self, tag: &[u8], found: &Found) -> Esearch {
        let uids = &found.uids;
        Esearch {
            tag: tag.to_vec(),
            uid: true,
            min: uids.first().filter(|_| self.min),
            max: uids.last().filter(|_| self.max),
            all: Some(uids.clone()).filter(|uids| self.all && !uids.is_empty()),
            count: self.count.then(|| uids.len()),
            modseq: found.modseq,
        }
    }
}

/// An ESEARCH response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Esearch {
    /// The command that it answers.
    pub tag: Vec<u8>,
    /// It speaks of UIDs.
    pub uid: bool,
    /// The lowest.
    pub min: Option<u32>,
    /// The highest.
    pub max: Option<u32>,
    /// All.
    pub all: Option<UidSet>,
    /// How many.
    pub count: Option<u32>,
    /// The highest mod-sequence.
    pub modseq: Option<u64>,
}

impl Esearch {
    /// Reads a line that we have written, or one that says no more than ours do.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(line.strip_prefix(b"* ESEARCH (TAG ")?);
        let mut said = Self { tag: cursor.astring().ok()?.into_owned(), ..Self::default() };
        // RFC 4466 section 3, tag-string: the string holds a tag, and so no octet that only a literal can.
        said.tag.iter().all(|octet| command::is_tag_octet(*octet)).then_some(())?;
        cursor.close().ok()?;
        said.uid = cursor.accept(b" UID");
        while cursor.accept(b" ") {
            let name = cursor.atom().ok()?.to_ascii_uppercase();
            cursor.space().ok()?;
            let value = cursor.run(|octet| octet.is_ascii_digit() || b":,".contains(&octet), "a number").ok()?;
            let number = || std::str::from_utf8(value).ok()?.parse().ok();
            match name.as_slice() {
                b"MIN" => said.min = Some(u32::try_from(number()?).ok()?),
                b"MAX" => said.max = Some(u32::try_from(number()?).ok()?),
                b"COUNT" => said.count = Some(u32::try_from(number()?).ok()?),
                b"MODSEQ" => said.modseq = Some(number()?),
                b"ALL" => said.all = Some(UidSet::parse(value)?),
                _ => return None,
            }
        }
        cursor.end().ok().map(|()| said)
    }

    /// Writes it, without the line's end.
    pub fn write(&self) -> Vec<u8> {
        let mut line = b"* ESEARCH (TAG ".to_vec();
        token::write_quoted(&self.tag, &mut line);
        line.extend_from_slice(if self.uid { b") UID" } else { b")" });
        let items = [
            self.min.map(|uid| format!(" MIN {uid}")),
            self.max.map(|uid| format!(" MAX {uid}")),
            self.all.as_ref().map(|uids| format!(" ALL {uids}")),
            self.count.map(|count| format!(" COUNT {count}")),
            self.modseq.map(|modseq| format!(" MODSEQ {modseq}")),
        ];
        items.into_iter().flatten().for_each(|item| line.extend_from_slice(item.as_bytes()));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_read_in_pieces() {
        let line = b"SEARCH 14 1115 100 (MODSEQ 917162500)\r\n* SEARCH 7\r\n";
        for cut in 0..line.len() {
            let mut reader = Reader::default();
            reader.read(&line[..cut]);
            reader.read(&line[cut..]);
            let found = reader.finish();
            assert_eq!((found.uids.to_string().as_str(), found.modseq), ("7,14,100,1115", Some(917_162_500)));
        }
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let options = |arguments: &[u8]| Return::parse(arguments);
        let (wanted, keys) = options(b"RETURN (MIN count) FLAGGED").unwrap().unwrap();
        assert_eq!((wanted, keys), (Return { min: true, count: true, ..Return::default() }, 19));
        assert_eq!(options(b"return () ALL").unwrap().unwrap().0, Return { all: true, ..Return::default() });
        assert_eq!(options(b"RETURN (SAVE) ALL").unwrap().unwrap().0, Return { save: true, ..Return::default() });
        assert_eq!(options(b"FLAGGED"), Ok(None));
        for bad in ["RETURN (PARTIAL 1:2) ALL", "RETURN MIN ALL", "RETURN (MIN)", "RETURN (MIN"] {
            assert!(options(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_told_can_be_read_back() {
        let found = Found { uids: [14, 100, 15].into_iter().collect(), modseq: Some(5) };
        let all = Return { min: true, max: true, all: true, count: true, save: false };
        let table = [
            (all, &found, "UID MIN 14 MAX 100 ALL 14:15,100 COUNT 3 MODSEQ 5"),
            (all, &Found::default(), "UID COUNT 0"),
            (Return { min: true, ..Return::default() }, &Found::default(), "UID"),
        ];
        for (wanted, found, text) in table {
            let told = wanted.tell(b"a'b", found);
            assert_eq!(String::from_utf8(told.write()).unwrap(), format!("* ESEARCH (TAG \"a'b\") {text}"));
            assert_eq!(Esearch::parse(&told.write()), Some(told));
        }
        for other in ["(TAG \"a\") ADDTO (0 5)", "(TAG {3+}\r\na\r\n) UID", "(TAG \"a b\") UID"] {
            assert_eq!(Esearch::parse(format!("* ESEARCH {other}").as_bytes()), None, "{other}");
        }
        assert_eq!(Return { min: true, max: true, ..Return::default() }.ends(&found.uids).to_string(), "14,100");
    }
}
