//! What a response says, however it is spelled: for transcripts in which untagged lines come in any order.
//!
//!     * LIST (\Sent \HasNoChildren) "/" {8}       says the same as       * LIST (\hasnochildren \Sent) "/" SentMail
//!     SentMail
//!
//! An atom, a quoted string and a literal are one text. Attributes have neither order nor case. A METADATA or STATUS
//! response says as much as one response for each of its entries or items (RFC 5464 4.4.1).

/// A part of a response.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Nil,
    /// `\Seen`, in lower case.
    Attribute(Vec<u8>),
    Text(Vec<u8>),
    List(Vec<Part>),
}

/// One thing that a response says.
pub(super) type Fact = Vec<Part>;

/// What this response says. `None`: it is not made of strings and lists alone.
pub(super) fn facts(response: &[u8]) -> Option<Vec<Fact>> {
    let mut rest = response;
    let parts = parts(&mut rest)?;
    if !rest.is_empty() {
        return None;
    }
    let kind = parts.get(1).and_then(Part::text).unwrap_or_default();
    if !matches!(kind, b"METADATA" | b"STATUS") || parts.len() < 4 {
        return Some(vec![parts]);
    }
    let (head, said) = parts.split_at(3);
    let with = |one: &[Part]| [head, one].concat();
    Some(match said {
        [Part::List(pairs)] if !pairs.is_empty() => pairs.chunks(2).map(with).collect(),
        names => names.chunks(1).map(with).collect(),
    })
}

/// Whether this is what is expected. A LIST may bring more attributes than were asked for.
pub(super) fn says(fact: &Fact, expected: &Fact) -> bool {
    let ([star, kind, Part::List(has), rest @ ..], [_, _, Part::List(wanted), ..]) = (&**fact, &**expected) else {
        return fact == expected;
    };
    if kind.text() != Some(b"LIST") || has.is_empty() {
        return fact == expected;
    }
    let has_any = |list: &[Part], of: &[&[u8]]| list.iter().any(|it| of.iter().any(|name| it.is_attribute(name)));
    let may_add = |more: &Part| {
        UNASKED.iter().any(|pair| has_any(std::slice::from_ref(more), pair) && !has_any(wanted, pair))
            // RFC 5258 3.4: the one implies the other.
            || (more.is_attribute(b"\\noselect") && has_any(wanted, &[b"\\nonexistent"]))
    };
    let without_attributes = |fact: &Fact| [&fact[..2], &fact[3..]].concat();
    [&[star.clone(), kind.clone()], rest].concat() == without_attributes(expected)
        && wanted.iter().all(|it| has.contains(it))
        && has.iter().all(|it| wanted.contains(it) || may_add(it))
}

/// Attributes that a server may add to any LIST (RFC 3501 7.2.2, RFC 5258 section 4); where one is expected, it is checked.
const UNASKED: [[&[u8]; 2]; 2] = [[b"\\haschildren", b"\\hasnochildren"], [b"\\marked", b"\\unmarked"]];

impl Part {
    fn is_attribute(&self, name: &[u8]) -> bool {
        matches!(self, Self::Attribute(attribute) if attribute == name)
    }

    fn text(&self) -> Option<&[u8]> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// The octets of the literal that this line announces.
pub(super) fn announced(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}")?;
    let open = line.iter().rposition(|&octet| octet == b'{')?;
    std::str::from_utf8(&line[open + 1..]).ok()?.parse().ok()
}

/// Parts up to the end, or to the parenthesis that closes the list.
fn parts(rest: &mut &[u8]) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    loop {
        match rest.first() {
            None | Some(b')') => return Some(parts),
            Some(b' ') => *rest = &rest[1..],
            Some(b'(') => parts.push(list(rest)?),
            Some(b'"') => parts.push(Part::Text(quoted(rest)?)),
            Some(b'{' | b'~') => parts.push(Part::Text(literal(rest)?)),
            Some(_) => parts.push(atom(rest)),
        }
    }
}

fn list(rest: &mut &[u8]) -> Option<Part> {
    *rest = &rest[1..];
    let mut inside = parts(rest)?;
    *rest = rest.strip_prefix(b")")?;
    if inside.iter().all(|part| matches!(part, Part::Attribute(_))) {
        inside.sort();
    }
    Some(Part::List(inside))
}

fn quoted(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let mut at = 1;
    loop {
        match rest.get(at)? {
            b'"' => break,
            b'\\' => {
                at += 1;
                text.push(*rest.get(at)?);
            }
            octet => text.push(*octet),
        }
        at += 1;
    }
    *rest = &rest[at + 1..];
    Some(text)
}

fn literal(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    let len = announced(&rest[..end])?;
    let text = rest.get(end + 2..end + 2 + len)?.to_vec();
    *rest = &rest[end + 2 + len..];
    Some(text)
}

fn atom(rest: &mut &[u8]) -> Part {
    let len = rest.iter().position(|octet| b" ()\"".contains(octet)).unwrap_or(rest.len());
    let (atom, behind) = rest.split_at(len);
    *rest = behind;
    match atom {
        [b'\\', ..] => Part::Attribute(atom.to_ascii_lowercase()),
        _ if atom.eq_ignore_ascii_case(b"NIL") => Part::Nil,
        _ => Part::Text(atom.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &[u8], other: &[u8]) -> bool {
        let sorted = |response| {
            let mut facts = facts(response).expect("strings and lists");
            facts.sort();
            facts
        };
        sorted(one) == sorted(other)
    }

    #[test]
    fn spelling_is_no_matter_and_content_is() {
        assert!(same(b"* LIST (\\A \\b) \"/\" {3}\r\na b (\"X\" (\"Y\"))", b"* LIST (\\B \\a) \"/\" \"a b\" (X (Y))"));
        assert!(same(b"* STATUS x (MESSAGES 1 UNSEEN 2)", b"* STATUS \"x\" (UNSEEN 2 MESSAGES 1)"));
        assert!(same(b"* METADATA \"\" (/a \"x\" /b ~{1}\r\n\0)", b"* METADATA \"\" (/b {1}\r\n\0 /a x)"));
        assert!(!same(b"* METADATA \"\" (/a NIL)", b"* METADATA \"\" (/a \"NIL\")"));
        assert!(!same(b"* LIST (\\A) \"/\" x", b"* LIST () \"/\" x"));
        assert!(!same(b"* METADATA x /a /b", b"* METADATA x /a"));
        assert_eq!(facts(b"* LIST (\\A \"/\" x"), None);
    }

    #[test]
    fn a_list_may_say_more_than_it_was_asked() {
        let says = |response: &str, expected: &str| {
            let fact = |attributes: &str| facts(format!("* LIST ({attributes}) \"/\" x").as_bytes()).unwrap().remove(0);
            says(&fact(response), &fact(expected))
        };
        assert!(says("\\HasChildren", "") && says("\\Marked \\Subscribed", "\\Subscribed"));
        assert!(says("\\HasNoChildren \\UnMarked", "\\HasNoChildren"));
        assert!(says("\\NonExistent \\NoSelect", "\\NonExistent"));
        assert!(!says("\\HasNoChildren", "\\HasChildren") && !says("", "\\HasChildren"));
        assert!(!says("\\Subscribed", "") && !says("\\NoSelect", ""));
    }
}
