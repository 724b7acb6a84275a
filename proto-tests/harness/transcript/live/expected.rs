//! The responses that are expected between two deeds of the client, and whether one says what is expected.

use crate::transcript::{
    Action, Pattern, Step,
    meaning::{self, Fact, Part},
    pattern::Variables,
};

/// What is still expected, in the order of the transcript.
pub(super) struct Exchange {
    wanted: Vec<Wanted>,
    /// `S: ...`: other untagged responses may come.
    open: bool,
    /// The messages that EXPUNGE has taken away, by their numbers at the beginning, in order.
    gone: Vec<u32>,
}

struct Wanted {
    line: usize,
    text: String,
    what: What,
}

enum What {
    /// `+`.
    GoesOn,
    /// A tagged line: its word and its code.
    Ended(Pattern),
    /// `* OK` and its like: the same.
    Told(Pattern),
    /// The message of this number at the beginning goes; servers remove them in any order.
    Gone(u32),
    /// One thing that an untagged response says.
    Said(Fact),
    /// A response that is spelled like this.
    Spelled(Pattern),
}

impl Exchange {
    /// Reads the expectations at the front; how many steps they are.
    pub(super) fn expected(steps: &[&Step]) -> (Self, usize) {
        let mut exchange = Self { wanted: Vec::new(), open: false, gone: Vec::new() };
        let mut begun: Option<(usize, String)> = None;
        let mut taken = 0;
        let mut going = Vec::new();
        for step in steps {
            let text = match &step.action {
                Action::Expect(pattern) => pattern.text().to_owned(),
                Action::ExpectOctets(octets) => {
                    String::from_utf8_lossy(octets.strip_suffix(b"\r\n").unwrap_or(octets)).into_owned()
                }
                Action::ExpectAnything if begun.is_some() => "...".to_owned(),
                Action::ExpectAnything => {
                    exchange.open = true;
                    taken += 1;
                    continue;
                }
                _ => break,
            };
            taken += 1;
            let (line, text) = match begun.take() {
                Some((line, begun)) => (line, format!("{begun}\r\n{text}")),
                None => (step.line, text),
            };
            if text.starts_with("* ") && !is_whole(&text) {
                begun = Some((line, text));
            } else {
                let what = What::of(&text, &mut going);
                exchange.wanted.extend(what.into_iter().map(|what| Wanted { line, text: text.clone(), what }));
            }
        }
        (exchange, taken)
    }

    /// What is expected next, if anything is.
    pub(super) fn next(&self) -> Option<(usize, String)> {
        self.wanted.first().map(|wanted| (wanted.line, wanted.text.clone()))
    }

    /// Takes off what this response says; what was expected instead, if nobody expects it. `known`: messages that there are.
    pub(super) fn take(
        &mut self,
        response: &[u8],
        known: Option<u32>,
        variables: &mut Variables,
    ) -> Result<(), String> {
        let instead = self.next().map(|(_, text)| text).unwrap_or_default();
        if response.starts_with(b"* ") {
            let is_expected = self.take_untagged(response, variables);
            return if is_expected || self.open || is_noise(response, known) { Ok(()) } else { Err(instead) };
        }
        let ends = |wanted: &Wanted, variables: &mut Variables| match &wanted.what {
            What::GoesOn => response.starts_with(b"+"),
            What::Ended(pattern) => pattern.matches(response, variables),
            _ => false,
        };
        let at = self.wanted.iter().position(|wanted| ends(wanted, variables)).ok_or(instead.clone())?;
        self.wanted.remove(at);
        // Of several commands in one segment any may end first (RFC 3501 5.5).
        let is_last = !self.wanted.iter().any(|wanted| matches!(wanted.what, What::Ended(_)));
        if is_last && at > 0 && !response.starts_with(b"+") { Err(instead) } else { Ok(()) }
    }

    fn take_untagged(&mut self, response: &[u8], variables: &mut Variables) -> bool {
        let gone = self.gone(response);
        let is_it = |wanted: &Wanted, variables: &mut Variables| match &wanted.what {
            What::Told(pattern) | What::Spelled(pattern) => pattern.matches(response, variables),
            What::Gone(number) => gone == Some(*number),
            _ => false,
        };
        if let Some(at) = self.wanted.iter().position(|wanted| is_it(wanted, variables)) {
            self.wanted.remove(at);
            return true;
        }
        let said = meaning::facts(response).unwrap_or_default();
        let mut take_off = |fact: &Fact| {
            let says = |wanted: &Wanted, variables: &mut Variables| matches!(&wanted.what, What::Said(expected) if says(fact, expected, variables));
            let at = self.wanted.iter().position(|wanted| says(wanted, variables));
            at.map(|at| self.wanted.remove(at)).is_some()
        };
        !said.is_empty() && said.iter().all(&mut take_off)
    }

    /// Which message this EXPUNGE takes away, by its number at the beginning.
    fn gone(&mut self, response: &[u8]) -> Option<u32> {
        let number = numbered(response, "EXPUNGE")?;
        Some(at_the_beginning(number, &mut self.gone))
    }
}

impl What {
    /// What this text expects. `going`: the messages that EXPUNGE takes away before it.
    fn of(text: &str, going: &mut Vec<u32>) -> Vec<Self> {
        if text.starts_with('+') {
            return vec![Self::GoesOn];
        }
        if !text.starts_with("* ") {
            return vec![Self::Ended(up_to_the_code(text))];
        }
        if ["OK", "NO", "BAD", "BYE"].iter().any(|word| text[2..].split(' ').next() == Some(word)) {
            return vec![Self::Told(up_to_the_code(text))];
        }
        if let Some(number) = numbered(text.as_bytes(), "EXPUNGE") {
            return vec![Self::Gone(at_the_beginning(number, going))];
        }
        if numbered(text.as_bytes(), "RECENT").is_some() {
            return Vec::new();
        }
        let is_gap = |part: &Part| matches!(part, Part::Text(text) if text == b"...");
        match meaning::facts(text.as_bytes()) {
            Some(facts) if !facts.iter().flatten().any(is_gap) => facts.into_iter().map(Self::Said).collect(),
            _ => vec![Self::Spelled(Pattern::new(text))],
        }
    }
}

/// Whether its literals, and what stands behind them, are all there. One of any length, `{...}`, ends before `)`.
fn is_whole(text: &str) -> bool {
    let mut rest = text;
    loop {
        let (line, behind) = rest.split_once("\r\n").unwrap_or((rest, ""));
        if line.ends_with("{...}") {
            return behind.ends_with("\r\n)");
        }
        let Some(len) = meaning::announced(line.as_bytes()) else { return true };
        let Some(behind) = behind.get(len..).filter(|_| rest.len() > line.len()) else { return false };
        rest = behind;
        if rest.is_empty() {
            return false;
        }
    }
}

/// `a OK [CODE]`, and any words of a human behind it.
fn up_to_the_code(text: &str) -> Pattern {
    let word_end = text.match_indices(' ').nth(1).map_or(text.len(), |(at, _)| at);
    let code = text[word_end..].strip_prefix(" [");
    let code_end = code.map_or(word_end, |code| code.find(']').map_or(text.len(), |at| word_end + 3 + at));
    Pattern::new(&format!("{}...", &text[..code_end]))
}

/// The number of `* 3 EXPUNGE`.
pub(super) fn numbered(response: &[u8], kind: &str) -> Option<u32> {
    let text = std::str::from_utf8(response).ok()?;
    text.strip_prefix("* ")?.strip_suffix(kind)?.strip_suffix(' ')?.parse().ok()
}

/// The number that this message had before those of `gone` went; it goes too.
fn at_the_beginning(number: u32, gone: &mut Vec<u32>) -> u32 {
    let number = gone.iter().fold(number, |number, gone| number + u32::from(*gone <= number));
    gone.push(number);
    gone.sort_unstable();
    number
}

/// What a server may say at any time: the flags of a message too, and `O:` marks one as deleted before it removes it.
fn is_noise(response: &[u8], known: Option<u32>) -> bool {
    let is_of_flags = |fact: &Fact| match normal(fact).as_slice() {
        [_, _, kind, Part::List(items)] if is(kind, b"FETCH") => {
            items.iter().all(|item| matches!(name_of(item), Some(b"UID" | b"FLAGS")))
                && items.iter().any(|item| name_of(item) == Some(b"FLAGS"))
        }
        _ => false,
    };
    // RFC 3501 7.1: human text. 7.2.6: the flags of the mailbox, when there is a new one. 7.3.1: as many messages as before.
    response.starts_with(b"* OK ")
        || response.starts_with(b"* FLAGS ")
        || numbered(response, "RECENT").is_some()
        || numbered(response, "EXISTS").is_some_and(|count| Some(count) == known)
        || meaning::facts(response).is_some_and(|facts| facts.iter().all(is_of_flags))
}

/// Whether a response says what is expected.
fn says(said: &Fact, expected: &Fact, variables: &mut Variables) -> bool {
    if meaning::says(said, expected) {
        return true;
    }
    let (mut said, expected) = (normal(said), normal(expected));
    // RFC 3501 6.4.8: the UID may always be there.
    if let ([.., Part::List(items)], [_, _, kind, Part::List(wanted)]) = (said.as_mut_slice(), expected.as_slice())
        && is(kind, b"FETCH")
        && !wanted.iter().any(|item| name_of(item) == Some(b"UID"))
    {
        items.retain(|item| name_of(item) != Some(b"UID"));
    }
    fits_all(&said, &expected, variables)
}

fn fits_all(said: &[Part], expected: &[Part], variables: &mut Variables) -> bool {
    said.len() == expected.len() && said.iter().zip(expected).all(|(said, expected)| fits(said, expected, variables))
}

fn fits(said: &Part, expected: &Part, variables: &mut Variables) -> bool {
    match (said, expected) {
        (Part::Text(said), Part::Text(expected)) => {
            let gaps = std::str::from_utf8(expected).map(Pattern::new);
            said == expected || gaps.is_ok_and(|pattern| pattern.matches(said, variables))
        }
        (Part::List(_), Part::List(expected)) if matches!(&**expected, [Part::Text(gap)] if gap == b"...") => true,
        (Part::List(said), Part::List(expected)) => fits_all(said, expected, variables),
        _ => said == expected,
    }
}

/// The same, with items and results in an order of their own, and without `\Recent`.
fn normal(fact: &Fact) -> Fact {
    let mut fact = fact.clone();
    match fact.as_mut_slice() {
        [_, _, kind, Part::List(items)] if is(kind, b"FETCH") => *items = paired(items),
        [_, kind, numbers @ ..] if is(kind, b"SEARCH") => numbers.sort(),
        [_, kind, ..] if is(kind, b"ESEARCH") => {
            let tag = usize::from(matches!(fact.get(2), Some(Part::List(_))));
            let begins = 2 + tag + usize::from(fact.get(2 + tag).is_some_and(|part| is(part, b"UID")));
            let results = paired(&fact[begins..]);
            fact.splice(begins.., results);
        }
        _ => {}
    }
    fact
}

/// Names and values, each pair a list: `BODY[HEADER.FIELDS`, `(FROM)` and `]` are one name.
fn paired(items: &[Part]) -> Vec<Part> {
    let mut pairs = Vec::new();
    let mut rest = items.iter();
    while let Some(name) = rest.next() {
        let mut pair = vec![name.clone()];
        if matches!(name, Part::Text(text) if text.contains(&b'[') && !text.contains(&b']')) {
            pair.extend(rest.by_ref().take(2).cloned());
        }
        pair.extend(rest.next().cloned().map(|value| without_recent(name, value)));
        pairs.push(Part::List(pair));
    }
    pairs.sort();
    pairs
}

fn without_recent(name: &Part, value: Part) -> Part {
    let Part::List(mut flags) = value else { return value };
    if is(name, b"FLAGS") {
        flags.retain(|flag| *flag != Part::Attribute(b"\\recent".to_vec()));
        flags.sort();
    }
    Part::List(flags)
}

fn name_of(pair: &Part) -> Option<&[u8]> {
    match pair {
        Part::List(pair) => match pair.first()? {
            Part::Text(name) => Some(name),
            _ => None,
        },
        _ => None,
    }
}

fn is(part: &Part, text: &[u8]) -> bool {
    matches!(part, Part::Text(said) if said.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether these responses are what is expected, to the last one.
    fn passes(expected: &[&str], said: &[&str]) -> bool {
        let action = |text: &&str| match *text {
            "..." => Action::ExpectAnything,
            text => Action::Expect(Pattern::new(text)),
        };
        let steps: Vec<Step> = expected.iter().map(|text| Step { line: 1, action: action(text) }).collect();
        let (mut exchange, _) = Exchange::expected(&steps.iter().collect::<Vec<_>>());
        let mut variables = Variables::new();
        said.iter().all(|response| exchange.take(response.as_bytes(), Some(3), &mut variables).is_ok())
            && exchange.next().is_none()
    }

    #[test]
    fn a_server_has_its_own_order_and_words() {
        assert!(passes(
            &["* 1 FETCH (UID 7 FLAGS (\\Seen))", "a OK ..."],
            &["* 1 FETCH (FLAGS (\\Seen \\Recent) UID 7)", "a OK x"]
        ));
        assert!(passes(&["* ESEARCH (TAG \"a\") UID MIN 2 COUNT 3"], &["* ESEARCH (TAG a) UID COUNT 3 MIN 2"]));
        assert!(passes(&["a NO [TRYCREATE] ..."], &["a NO [TRYCREATE] no such mailbox"]));
        assert!(passes(
            &["* 1 FETCH (BODY[HEADER.FIELDS (FROM)] {...}", "...", ")"],
            &["* 1 FETCH (BODY[HEADER.FIELDS (FROM)] {2}\r\n\r\n)"]
        ));
        assert!(passes(&["* 1 FETCH (BODY[1] {5}", "a", "", ")"], &["* 1 FETCH (BODY[1] {5}\r\na\r\n\r\n)"]));
        assert!(passes(&["* 2 EXISTS", "* 1 RECENT", "...", "a OK ..."], &["* FLAGS ()", "* X", "* 2 EXISTS", "a OK"]));
        assert!(passes(&["a OK ...", "b OK ..."], &["b OK", "a OK"]));
    }

    #[test]
    fn messages_go_in_any_order() {
        assert!(passes(&["* 2 EXPUNGE", "* 2 EXPUNGE", "a OK ..."], &["* 3 EXPUNGE", "* 2 EXPUNGE", "a OK"]));
        assert!(!passes(&["* 2 EXPUNGE", "* 2 EXPUNGE", "a OK ..."], &["* 2 EXPUNGE", "* 3 EXPUNGE", "a OK"]));
    }

    #[test]
    fn what_says_something_else_does_not_pass() {
        assert!(!passes(&["* 1 FETCH (FLAGS ())", "a OK ..."], &["* 1 FETCH (FLAGS (\\Seen))", "a OK x"]));
        assert!(!passes(&["a OK ..."], &["* 1 FETCH (BODY[1] \"x\" FLAGS ())", "a OK x"]));
        assert!(!passes(&["* SEARCH 2", "a OK ..."], &["* SEARCH 2 3", "a OK"]));
        assert!(!passes(&["* SEARCH 2", "a OK ..."], &["a OK", "* SEARCH 2"]));
        assert!(!passes(&["a NO [TRYCREATE] ..."], &["a NO no such mailbox"]));
        assert!(!passes(&["a OK ..."], &["* 4 EXISTS", "a OK"]));
        assert!(passes(&["a OK ..."], &["* 3 EXISTS", "a OK"]));
    }
}
