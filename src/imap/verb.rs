//! THE TABLE: what each command uses, changes and answers.
//!
//! One row a command, extensions included: those that a backend may have and we relay, and those that we add. RFC 3501 5.5
//! (which commands may run side by side), RFC 7162 3.2.10 and RFC 7888 (where `{n+}` may be forwarded) are obeyed by
//! reading it. A verb that stands in no row is [`UNKNOWN`], and passes.

use super::response::{Kind, Kinds};

/// One row of the table.
#[derive(Debug)]
pub struct Verb {
    /// Its name in upper case, `UID FETCH` for the UID form.
    pub name: &'static str,
    /// The capability that brings it; `""` for RFC 3501. A name that ends with `=` stands for all that begin so.
    pub capability: &'static str,
    /// What it does with message numbers.
    pub numbers: Numbers,
    /// EXPUNGE may be told while it runs (RFC 3501 7.4.1).
    pub expunge: bool,
    /// Nothing starts while it runs, and it starts when nothing runs: it changes what the commands around it mean.
    pub alone: bool,
    /// Its grammar has strings, so every backend that has it reads `{n+}` in it as a literal.
    pub strings: bool,
    /// Its literals are values that we read: how many octets one may have, and the code that says so (RFC 5464 5).
    pub values: Option<(u64, &'static str)>,
    /// The untagged responses that answer it.
    pub claims: Kinds,
    /// They name what they answer: who asks several can tell them apart.
    pub named: bool,
}

/// What a command does with message numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Nothing.
    None,
    /// Its first argument is a set of messages to read.
    Reads,
    /// Its first argument is a set of messages to change.
    Changes,
    /// It may name numbers anywhere, and answers with numbers or UIDs: SEARCH and its kin.
    Criteria,
}

/// A command that stands in no row. It may be anything, so it is forwarded as it came, and its literals are synchronising.
pub static UNKNOWN: Verb = Verb { expunge: true, ..row("", "") };

/// The row of a command. `name` as the client wrote it, for UID commands the two words with one space between them.
pub fn find(name: &[u8]) -> Option<&'static Verb> {
    let mut upper = [0; LONGEST];
    let upper = upper.get_mut(..name.len())?;
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    TABLE.binary_search_by(|verb| verb.name.as_bytes().cmp(upper)).ok().map(|at| &TABLE[at])
}

/// The row of a command, for constants of those who ask questions of their own: a name that has no row does not compile.
pub const fn row_of(name: &str) -> &'static Verb {
    let mut at = 0;
    while at < TABLE.len() {
        if equal(TABLE[at].name.as_bytes(), name.as_bytes()) {
            return &TABLE[at];
        }
        at += 1;
    }
    panic!("no such row")
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// No name is longer.
const LONGEST: usize = 16;

impl Verb {
    /// Its place in [`TABLE`]; `None` for [`UNKNOWN`].
    pub fn index(&self) -> Option<usize> {
        TABLE.element_offset(self)
    }

    const fn reads(self) -> Self {
        Self { numbers: Numbers::Reads, expunge: false, ..self }
    }

    const fn changes(self) -> Self {
        Self { numbers: Numbers::Changes, ..self }
    }

    const fn criteria(self) -> Self {
        Self { numbers: Numbers::Criteria, expunge: false, ..self }
    }

    /// UID SEARCH and its kin: numbers may stand in the criteria, UIDs in the answer.
    const fn uid_criteria(self) -> Self {
        Self { numbers: Numbers::Criteria, ..self }
    }

    const fn quiet(self) -> Self {
        Self { expunge: false, ..self }
    }

    const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    const fn strings(self) -> Self {
        Self { strings: true, ..self }
    }

    const fn values(self, most: u64, code: &'static str) -> Self {
        Self { values: Some((most, code)), ..self }
    }

    const fn claims(self, kinds: &[Kind]) -> Self {
        Self { claims: Kinds::of(kinds), ..self }
    }

    const fn named(self) -> Self {
        Self { named: true, ..self }
    }
}

const fn row(name: &'static str, capability: &'static str) -> Verb {
    Verb {
        name,
        capability,
        numbers: Numbers::None,
        expunge: true,
        alone: false,
        strings: false,
        values: None,
        claims: Kinds::NONE,
        named: false,
    }
}

/// All rows, in the order of their names.
#[rustfmt::skip]
pub static TABLE: [Verb; 65] = [
    row("APPEND", "").strings(),
    row("AUTHENTICATE", "").alone().quiet(),
    row("CANCELUPDATE", "CONTEXT=").strings(),
    row("CAPABILITY", "").claims(&[Kind::Capability]),
    row("CHECK", ""),
    row("CLOSE", "").alone().quiet(),
    row("COMPARATOR", "I18NLEVEL=2").strings(),
    row("COMPRESS", "COMPRESS=").alone(),
    row("CONVERSIONS", "CONVERT").strings(),
    row("CONVERT", "CONVERT").reads().strings(),
    row("COPY", "").changes().strings(),
    row("CREATE", "").strings(),
    row("DELETE", "").strings(),
    row("DELETEACL", "ACL").strings(),
    row("ENABLE", "ENABLE").claims(&[Kind::Enabled]),
    row("ESEARCH", "MULTISEARCH").strings().claims(&[Kind::Esearch]),
    row("EXAMINE", "").alone().quiet().strings(),
    row("EXPUNGE", "").claims(&[Kind::Expunge, Kind::Vanished]),
    row("FETCH", "").reads().strings().claims(&[Kind::Fetch]),
    row("GENURLAUTH", "URLAUTH").strings().claims(&[Kind::Genurlauth]),
    row("GETACL", "ACL").strings().claims(&[Kind::Acl]),
    row("GETMETADATA", "METADATA").strings().claims(&[Kind::Metadata]),
    row("GETQUOTA", "QUOTA").strings().claims(&[Kind::Quota]),
    row("GETQUOTAROOT", "QUOTA").strings().claims(&[Kind::Quota, Kind::Quotaroot]),
    row("ID", "ID").strings().claims(&[Kind::Id]),
    row("IDLE", "IDLE").alone(),
    row("LANGUAGE", "LANGUAGE").strings(),
    row("LIST", "").strings().claims(&[Kind::List, Kind::Status, Kind::Metadata, Kind::Myrights]),
    row("LISTRIGHTS", "ACL").strings().claims(&[Kind::Listrights]),
    row("LOGIN", "").alone().strings(),
    row("LOGOUT", "").alone().quiet(),
    row("LSUB", "").strings().claims(&[Kind::Lsub, Kind::List]),
    row("MOVE", "MOVE").changes().strings().claims(&[Kind::Expunge, Kind::Vanished]),
    row("MYRIGHTS", "ACL").strings().claims(&[Kind::Myrights]),
    row("NAMESPACE", "NAMESPACE").claims(&[Kind::Namespace]),
    row("NOOP", ""),
    row("NOTIFY", "NOTIFY").strings(),
    row("RENAME", "").strings(),
    row("REPLACE", "REPLACE").changes().strings().claims(&[Kind::Expunge, Kind::Vanished]),
    row("RESETKEY", "URLAUTH").strings(),
    row("SEARCH", "").criteria().strings().claims(&[Kind::Search, Kind::Esearch]),
    row("SELECT", "").alone().quiet().strings(),
    row("SETACL", "ACL").strings(),
    row("SETMETADATA", "METADATA").strings().values(64 << 10, "METADATA MAXSIZE 65536"),
    row("SETQUOTA", "QUOTA").strings().claims(&[Kind::Quota]),
    row("SORT", "SORT").criteria().strings().claims(&[Kind::Sort, Kind::Esearch]),
    row("STARTTLS", "STARTTLS").alone().quiet(),
    row("STATUS", "").strings().claims(&[Kind::Status]).named(),
    row("STORE", "").changes().quiet().claims(&[Kind::Fetch]),
    row("SUBSCRIBE", "").strings(),
    row("THREAD", "THREAD=").criteria().strings().claims(&[Kind::Thread]),
    row("UID CONVERT", "CONVERT").strings(),
    row("UID COPY", "").strings(),
    row("UID EXPUNGE", "UIDPLUS").claims(&[Kind::Expunge, Kind::Vanished]),
    row("UID FETCH", "").strings().claims(&[Kind::Fetch]),
    row("UID MOVE", "MOVE").strings().claims(&[Kind::Expunge, Kind::Vanished]),
    row("UID REPLACE", "REPLACE").strings().claims(&[Kind::Expunge, Kind::Vanished]),
    row("UID SEARCH", "").uid_criteria().strings().claims(&[Kind::Search, Kind::Esearch]),
    row("UID SORT", "SORT").uid_criteria().strings().claims(&[Kind::Sort, Kind::Esearch]),
    row("UID STORE", "").claims(&[Kind::Fetch]),
    row("UID THREAD", "THREAD=").uid_criteria().strings().claims(&[Kind::Thread]),
    row("UNAUTHENTICATE", "UNAUTHENTICATE").alone(),
    row("UNSELECT", "UNSELECT").alone().quiet(),
    row("UNSUBSCRIBE", "").strings(),
    row("URLFETCH", "URLAUTH").strings().claims(&[Kind::Urlfetch]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
        assert!(TABLE.iter().all(|verb| verb.name.len() <= LONGEST));
    }

    #[test]
    fn a_verb_is_found_in_any_case() {
        assert_eq!(find(b"uid Fetch").unwrap().name, "UID FETCH");
        assert!(find(b"XYZZY").is_none());
        assert!(find(b"").is_none());
        assert_eq!(UNKNOWN.index(), None);
    }

    #[test]
    fn expunge_is_never_told_during_fetch_store_or_search() {
        // RFC 3501 7.4.1, and SORT and THREAD by analogy (RFC 5256).
        for name in ["FETCH", "STORE", "SEARCH", "SORT", "THREAD", "CONVERT"] {
            assert!(!find(name.as_bytes()).unwrap().expunge, "{name}");
        }
        for name in ["NOOP", "CHECK", "IDLE", "EXPUNGE", "UID FETCH", "UID STORE", "UID SEARCH", "COPY"] {
            assert!(find(name.as_bytes()).unwrap().expunge, "{name}");
        }
    }
}
