//! FILTERS: search criteria with a name, kept as annotations of the server (RFC 5466).
//!
//! Below: SEARCH, and METADATA, by which filters are set.   Above: SEARCH FILTER.
//!
//!     C: a SEARCH UID 300:900 NOT FILTER on-the-road
//!     >  a SEARCH UID 300:900 NOT (OR SMALLER 5000 FROM "boss@example.com")
//!
//! A filter of the user, `/private/filters/values/NAME`, goes before a shared one. What is not ASCII goes down as literals in
//! CHARSET UTF-8. A filter that names itself, goes too deep or is not whole criteria is as good as none (section 3.1). Entries of
//! filters are kept in our store whatever the backend keeps. Requirement A4.

use std::{collections::HashMap, ops::Range};

use crate::{
    imap::{
        command,
        response::Status,
        search::{self, Program, What},
        token::Cursor,
    },
    session::{
        layer::{Extension, Refusal},
        script::{self, Ending, Given, Server},
    },
    store::{Entry, Owner, Query},
};

/// RFC 5466.
pub const FILTERS: Extension = Extension {
    name: "FILTERS",
    spec: "RFC 5466",
    gives: &["FILTERS"],
    needs: &["METADATA"],
    hears: &["SEARCH", "UID SEARCH", "SORT", "UID SORT", "THREAD", "UID THREAD"],
    // The word may stand in a string, or beside a key that we do not know: then it is the backend's affair.
    concerns: |verb, arguments| {
        search::mentions("FILTER", arguments)
            && Program::of(verb, arguments).is_ok_and(|program| used(&program).next().is_some())
    },
    build: || script::layer(|given, server| Box::pin(filters(given, server))),
    ..Extension::NONE
};

/// Filters within filters. Section 3.1 wants three; nobody writes ten.
const DEEPEST: usize = 10;

/// Octets of a command after substitution: half of what we take from a client in a line, and old servers take less.
const LONGEST: usize = 32 << 10;

async fn filters(given: Given, server: Server) -> Result<Ending, Refusal> {
    let Ok(program) = Program::of(given.verb, &given.arguments) else { return Ok(Ending::Forward) };
    if !program.is_unicode() {
        let text = "a filter is in UTF-8";
        return Err(Refusal { status: Status::Bad, code: "BADCHARSET (UTF-8 US-ASCII)".into(), text: text.into() });
    }
    let (entries, _) = server.entries(Query::Mailbox(Box::default())).await?;
    let arguments = substituted(&given.arguments, &program, &Filters::of(&entries))?;
    // Filters within filters add up to what no client may send, and old servers read lists by calling themselves.
    match command::depth(&arguments) > search::DEEPEST {
        true => Err(Refusal::no("LIMIT", "these filters make too deep a search")),
        false => Ok(Ending::ForwardAs(arguments)),
    }
}

/// The filters that criteria name: where, and the name.
fn used<'a>(program: &'a Program<'_>) -> impl Iterator<Item = (&'a Range<usize>, &'a str)> {
    program.parts.iter().filter_map(|part| match &part.what {
        What::Filter(name) => Some((&part.at, &**name)),
        _ => None,
    })
}

/// The arguments as the backend understands them.
fn substituted(arguments: &[u8], program: &Program<'_>, filters: &Filters<'_>) -> Result<Vec<u8>, Refusal> {
    let mut keys = Vec::new();
    filters.expand(arguments, program, &mut Vec::new(), &mut keys)?;
    let mut out = match &program.charset {
        Some((at, _)) => arguments[..at.start].to_vec(),
        None => arguments[..program.keys].to_vec(),
    };
    match &program.charset {
        Some((at, _)) if keys.is_ascii() => out.extend_from_slice(&arguments[at.start..program.keys]),
        Some((at, _)) if !arguments[at.clone()].to_ascii_uppercase().starts_with(b"CHARSET ") => {
            out.extend_from_slice(b"UTF-8 ")
        }
        None if keys.is_ascii() => {}
        _ => out.extend_from_slice(b"CHARSET UTF-8 "),
    }
    write_strings(&keys, &mut out);
    Ok(out)
}

/// The filters that there are, by their names in lower case.
struct Filters<'a>(HashMap<String, &'a [u8]>);

impl<'a> Filters<'a> {
    fn of(entries: &'a [Entry]) -> Self {
        let mut filters = HashMap::new();
        for root in ["/shared/filters/values/", "/private/filters/values/"] {
            for entry in entries.iter().filter(|entry| entry.key.owner == Owner::User) {
                if let Some(name) = entry.key.name.as_str().strip_prefix(root) {
                    filters.insert(name.to_owned(), &*entry.value);
                }
            }
        }
        Self(filters)
    }

    /// Writes the keys of a program, with the keys of each filter, in parentheses, in its place. `path`: the filters that we are in.
    fn expand(
        &self,
        text: &[u8],
        program: &Program<'_>,
        path: &mut Vec<String>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let mut at = program.keys;
        for (place, name) in used(program) {
            let undefined = || Refusal::no(format!("UNDEFINED-FILTER {name}"), "there is no such filter");
            out.extend_from_slice(&text[at..place.start]);
            at = place.end;
            let name = name.to_ascii_lowercase();
            if path.contains(&name) || path.len() == DEEPEST {
                return Err(undefined());
            }
            let value = self.0.get(&name).ok_or_else(undefined)?;
            let inner = search::criteria(value).map_err(|_| undefined())?;
            path.push(name);
            out.push(b'(');
            self.expand(value, &inner, path, out)?;
            out.push(b')');
            path.pop();
            bounded(out)?;
        }
        out.extend_from_slice(&text[at..]);
        bounded(out)
    }
}

fn bounded(out: &[u8]) -> Result<(), Refusal> {
    match out.len() > LONGEST {
        true => Err(Refusal::no("LIMIT", "these filters make too long a search")),
        false => Ok(()),
    }
}

/// Writes keys with every quoted string that is not ASCII as a literal (RFC 3501 section 9: QUOTED-CHAR is 7 bits wide).
fn write_strings(keys: &[u8], out: &mut Vec<u8>) {
    let mut cursor = Cursor::new(keys);
    while let Some(octet) = cursor.peek() {
        let start = cursor.at();
        let text = match octet {
            b'"' | b'{' => cursor.string().ok(),
            _ => None,
        };
        match text {
            Some(text) if octet == b'"' && !text.octets.is_ascii() => {
                out.extend_from_slice(format!("{{{}}}\r\n", text.octets.len()).as_bytes());
                out.extend_from_slice(&text.octets);
            }
            Some(_) => out.extend_from_slice(cursor.since(start)),
            None => {
                cursor.accept(&[octet]);
                out.push(octet);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        imap::{entry::EntryName, verb},
        store::Key,
    };

    fn entry(name: &str, value: &str) -> Entry {
        let key = Key { mailbox: Box::default(), owner: Owner::User, name: EntryName::parse(name.as_bytes()).unwrap() };
        Entry { key, value: value.as_bytes().into() }
    }

    fn go(verb: &str, arguments: &str, entries: &[(&str, &str)]) -> Result<String, String> {
        let entries: Vec<_> = entries.iter().map(|(name, value)| entry(name, value)).collect();
        let verb = verb::find(verb.as_bytes()).unwrap();
        let program = Program::of(verb, arguments.as_bytes()).map_err(|error| error.to_string())?;
        let out =
            substituted(arguments.as_bytes(), &program, &Filters::of(&entries)).map_err(|why| why.code.into_owned())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_filter_is_replaced_by_its_criteria() {
        let entries = [
            // RFC 5466 3.1.
            ("/private/filters/values/on-the-road", "OR SMALLER 5000 FROM \"boss@example.com\""),
            ("/shared/filters/values/mine", "SEEN"),
            ("/private/filters/values/mine", "UNSEEN"),
            ("/shared/filters/values/one", "FLAGGED"),
            ("/private/filters/values/two", "CHARSET UTF-8 FILTER one SEEN"),
            ("/private/filters/values/three", "NOT FILTER two"),
            ("/private/filters/values/eight", "SUBJECT \"\u{e9}\\\"\" TEXT {2}\r\n\u{e8}"),
        ];
        let table = [
            (
                "SEARCH",
                "UID 300:900 FILTER on-the-road SINCE \"3-Dec-2002\"",
                "UID 300:900 (OR SMALLER 5000 FROM \"boss@example.com\") SINCE \"3-Dec-2002\"",
            ),
            ("UID SEARCH", "OR filter MINE NOT FILTER three", "OR (UNSEEN) NOT (NOT ((FLAGGED) SEEN))"),
            ("SEARCH", "RETURN (MIN) CHARSET US-ASCII FILTER one", "RETURN (MIN) CHARSET US-ASCII (FLAGGED)"),
            (
                "SEARCH",
                "RETURN (MIN) FILTER eight",
                "RETURN (MIN) CHARSET UTF-8 (SUBJECT {3}\r\n\u{e9}\" TEXT {2}\r\n\u{e8})",
            ),
            (
                "SEARCH",
                "charset us-ascii BODY \"FILTER one\" FILTER eight",
                "CHARSET UTF-8 BODY \"FILTER one\" (SUBJECT {3}\r\n\u{e9}\" TEXT {2}\r\n\u{e8})",
            ),
            ("SORT", "(DATE) US-ASCII FILTER one", "(DATE) US-ASCII (FLAGGED)"),
            (
                "UID THREAD",
                "REFERENCES US-ASCII FILTER eight",
                "REFERENCES UTF-8 (SUBJECT {3}\r\n\u{e9}\" TEXT {2}\r\n\u{e8})",
            ),
        ];
        for (verb, arguments, expected) in table {
            assert_eq!(go(verb, arguments, &entries).as_deref(), Ok(expected), "{arguments}");
        }
    }

    #[test]
    fn what_is_no_filter_is_undefined_and_what_is_too_long_is_refused() {
        let many = "FILTER b ".repeat(10);
        let values = ["a", "b", "c", "d", "e", "f"].map(|name| format!("/private/filters/values/{name}"));
        let bomb: Vec<String> =
            ["b", "c", "d", "e", "f"].map(|next| many.replace('b', next).trim_end().to_owned()).into();
        let mut laughs: Vec<(&str, &str)> =
            values.iter().map(String::as_str).zip(bomb.iter().map(String::as_str)).collect();
        laughs.push((&values[5], "ALL"));
        assert_eq!(go("SEARCH", "FILTER a", &laughs), Err("LIMIT".to_owned()));
        let chain: Vec<(String, String)> =
            (0..=DEEPEST).map(|n| (format!("/private/filters/values/f{n}"), format!("FILTER f{}", n + 1))).collect();
        let mut chain: Vec<(&str, &str)> = chain.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        chain.push(("/private/filters/values/f11", "ALL"));
        assert_eq!(go("SEARCH", "FILTER f0", &chain), Err("UNDEFINED-FILTER f10".to_owned()));
        assert_eq!(go("SEARCH", "FILTER f2", &chain).map(|text| text.len()), Ok(3 + 2 * DEEPEST));
        let entries = [
            ("/private/filters/values/itself", "OR SEEN FILTER Itself"),
            ("/private/filters/values/half", "OR SMALLER"),
            ("/private/filters/values/odd", "SEEN\r\nb LOGOUT"),
        ];
        for (name, expected) in [("nobody", "nobody"), ("ITSELF", "Itself"), ("half", "half"), ("odd", "odd")] {
            let found = go("SEARCH", &format!("FILTER {name}"), &entries);
            assert_eq!(found, Err(format!("UNDEFINED-FILTER {expected}")), "{name}");
        }
    }
}
