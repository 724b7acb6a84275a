//! What does not pass as it came, because client and backend may not count alike (architecture 4.7).
//!
//!     C: a STORE 2:3 (UNCHANGEDSINCE 9) +FLAGS ($x)
//!     >  a UID STORE 12:14 (UNCHANGEDSINCE 9) +FLAGS ($x)
//!     <  a OK [MODIFIED 14] conditional STORE failed
//!     S: a OK [MODIFIED 3] conditional STORE failed      the client has named numbers
//!     <  * OK [X-NEXT 3] look here
//!     S: * OK X-NEXT 3 look here                         of a code that nobody knows, the words are left
//!
//!     C: b FETCH 3 (FLAGS X-NEXT)
//!     S: b BAD expected a word that is offered at octet 9
//!
//! What is in no row may name messages in a way that nobody translates, and so may what was not offered: servers have words that
//! they only hide. Numbers are translated from the moment at which UIDs are known: whether a removal is untold would be a matter
//! of chance to the client. Where UIDs are not known all words pass; but while a removal is untold there, a command of which nobody
//! knows what it names is refused.

use super::{layer::Refusal, open::Open};
use crate::imap::{
    code::{self, Naming},
    command::Head,
    frame::Literal,
    response,
    uid_set::UidSet,
    verb::Numbers,
    words,
};

impl Open {
    /// Whether messages are called otherwise towards the backend than towards the client, or may be.
    fn translates(&self) -> bool {
        self.numbering.is_mapped() || !self.numbering.is_plain()
    }

    /// Why a command cannot go to the backend as it is: nobody knows what all of it means.
    pub(super) fn unexplained(&self, head: &Head<'_>, open: Option<&Literal>) -> Option<Refusal> {
        let known = head.verb.index().is_some();
        let matters = words::matter(head.verb);
        match self.numbering.is_mapped() {
            _ if !self.translates() => None,
            true if !known => Some(Refusal::bad("unknown command")),
            false if !known => Some(Refusal::no("EXPUNGEISSUED", "messages are gone; NOOP tells which")),
            true if matters && open.is_some() => Some(Refusal::bad("literal too large here")),
            true if matters => {
                let arguments = head.arguments.strip_suffix(b"\r\n").unwrap_or(head.arguments);
                let checked = words::check(head.verb, arguments, &self.plan.told);
                checked.err().map(|error| Refusal::bad(error.to_string()))
            }
            _ => None,
        }
    }

    /// A status line as the client has to read it; `None`: as it came. `tag`: of the command that it ends.
    pub(super) fn own_code(&mut self, tag: Option<&[u8]>, line: &[u8]) -> Option<Vec<u8>> {
        let text = response::text(line, 2);
        let code = code::parse(text);
        if code.name.is_empty() {
            return None;
        }
        let coded = |arguments: String| [b"[", code.name, b" ", arguments.as_bytes(), b"]"].concat();
        let said = match code.naming() {
            Some(_) if code.is("CAPABILITY") => coded(self.told().into_owned()),
            _ if !self.translates() => return None,
            Some(Naming::Absolute) => return None,
            Some(Naming::Number) => coded(self.numbering.up(code.number()?).to_string()),
            Some(Naming::AsNamed) => self.as_named(tag, code.arguments).map(coded).unwrap_or_default(),
            None => [code.name, code.arguments].join(&b" "[..]),
        };
        let start = text.as_ptr() as usize - line.as_ptr() as usize;
        let words: Vec<&[u8]> =
            [said.trim_ascii_end(), code.words].into_iter().filter(|part| !part.is_empty()).collect();
        Some([&line[..start], &words.join(&b" "[..]), b"\r\n"].concat())
    }

    /// Messages as the command of the client has named them; none: nothing is left of them.
    fn as_named(&mut self, tag: Option<&[u8]>, set: &[u8]) -> Option<String> {
        let running = self.gate.find(tag?)?;
        let (numbers, bound) = (running.verb.numbers, running.bound);
        let said = UidSet::parse(set)?;
        let named = match (numbers, bound) {
            (Numbers::None, _) => said,
            (_, true) => self.numbering.numbers(&said),
            (_, false) => said.iter().map(|number| self.numbering.up(number)).collect(),
        };
        (!named.is_empty()).then(|| named.to_string())
    }
}
