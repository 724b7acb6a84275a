//! Header, body and parts of a message: ENVELOPE, BODYSTRUCTURE and the sections of FETCH. RFC 3501 6.4.5 and 7.4.2.
//!
//! Enough for the messages of our tests: text and multipart, addresses without groups and routes.

use super::syntax::{string, text};

/// Header (with its empty line) and body.
pub(super) fn split(octets: &[u8]) -> (&[u8], &[u8]) {
    if octets.starts_with(b"\r\n") {
        return octets.split_at(2);
    }
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n");
    octets.split_at(end.map_or(octets.len(), |at| at + 4))
}

/// Lines of a header, each with what it is folded into, without the empty line.
pub(super) fn fields(header: &[u8]) -> Vec<&[u8]> {
    let mut fields = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < header.len() {
        let end = header[at..].windows(2).position(|two| two == b"\r\n").map_or(header.len(), |len| at + len + 2);
        let folded = matches!(header.get(end), Some(b' ' | b'\t'));
        if !folded {
            fields.push(&header[start..end]);
            start = end;
        }
        at = end;
    }
    fields.retain(|field| *field != b"\r\n");
    fields
}

/// The name of a header line, if it has one.
pub(super) fn name(field: &[u8]) -> String {
    text(field.split(|&octet| octet == b':').next().unwrap_or_default()).trim().to_owned()
}

/// The value of a header line, unfolded.
pub(super) fn value(header: &[u8], wanted: &str) -> Option<String> {
    let field = fields(header).into_iter().find(|field| name(field).eq_ignore_ascii_case(wanted))?;
    let value = text(&field[field.iter().position(|&octet| octet == b':')? + 1..]);
    Some(value.replace("\r\n", "").trim().to_owned())
}

fn nil_or(value: Option<&str>) -> String {
    value.map_or_else(|| "NIL".to_owned(), |value| string(value.as_bytes()))
}

/// ENVELOPE.
pub(super) fn envelope(octets: &[u8]) -> String {
    let header = split(octets).0;
    let plain = |name| nil_or(value(header, name).as_deref());
    let list = |name| value(header, name).map_or_else(|| "NIL".to_owned(), |value| addresses(&value));
    let from = list("From");
    // RFC 3501 7.4.2: sender and reply-to default to from.
    let or_from = |name| value(header, name).map_or_else(|| from.clone(), |value| addresses(&value));
    format!(
        "({} {} {from} {} {} {} {} {} {} {})",
        plain("Date"),
        plain("Subject"),
        or_from("Sender"),
        or_from("Reply-To"),
        list("To"),
        list("Cc"),
        list("Bcc"),
        plain("In-Reply-To"),
        plain("Message-Id"),
    )
}

fn addresses(value: &str) -> String {
    let each: Vec<String> = value.split(',').map(str::trim).filter(|one| !one.is_empty()).map(address).collect();
    if each.is_empty() { "NIL".to_owned() } else { format!("({})", each.concat()) }
}

fn address(one: &str) -> String {
    let (name, mail) = match one.split_once('<') {
        Some((name, mail)) => (Some(name.trim().trim_matches('"')), mail.trim_end_matches('>')),
        None => (None, one),
    };
    let (mailbox, host) = mail.split_once('@').unwrap_or((mail, ""));
    let name = name.filter(|name| !name.is_empty());
    format!("({} NIL {} {})", nil_or(name), string(mailbox.as_bytes()), string(host.as_bytes()))
}

/// A media type with its parameters.
struct Media {
    kind: String,
    subtype: String,
    parameters: Vec<(String, String)>,
}

impl Media {
    /// RFC 2045 5.2: what says nothing is text/plain in US-ASCII.
    fn of(header: &[u8]) -> Self {
        let field = value(header, "Content-Type").unwrap_or_else(|| "TEXT/PLAIN; CHARSET=US-ASCII".to_owned());
        let mut words = field.split(';').map(str::trim);
        let (kind, subtype) = words.next().and_then(|word| word.split_once('/')).unwrap_or(("TEXT", "PLAIN"));
        let parameters = words
            .filter_map(|word| word.split_once('='))
            .map(|(name, value)| (name.trim().to_uppercase(), value.trim().trim_matches('"').to_owned()))
            .collect();
        Self { kind: kind.to_uppercase(), subtype: subtype.to_uppercase(), parameters }
    }

    fn boundary(&self) -> Option<&str> {
        let boundary = self.parameters.iter().find(|(name, _)| name == "BOUNDARY");
        boundary.map(|(_, value)| value.as_str()).filter(|_| self.kind == "MULTIPART")
    }

    fn parameters(&self) -> String {
        let each: Vec<String> = self
            .parameters
            .iter()
            .map(|(name, value)| format!("{} {}", string(name.as_bytes()), string(value.as_bytes())))
            .collect();
        if each.is_empty() { "NIL".to_owned() } else { format!("({})", each.join(" ")) }
    }
}

/// The parts of a multipart, each with its own header; none if it is not one.
fn parts(octets: &[u8]) -> Vec<&[u8]> {
    let (header, body) = split(octets);
    let media = Media::of(header);
    let Some(boundary) = media.boundary() else { return Vec::new() };
    let fence = format!("--{boundary}").into_bytes();
    let at: Vec<usize> = (0..body.len()).filter(|&at| body[at..].starts_with(&fence)).collect();
    at.windows(2)
        .map(|two| {
            let line = body[two[0]..].windows(2).position(|end| end == b"\r\n").map_or(two[1], |len| two[0] + len + 2);
            // The line end before a boundary belongs to the boundary (RFC 2046 5.1.1).
            &body[line..two[1].saturating_sub(2).max(line)]
        })
        .collect()
}

/// BODY or, with its extension data, BODYSTRUCTURE.
pub(super) fn structure(octets: &[u8], extended: bool) -> String {
    let (header, body) = split(octets);
    let media = Media::of(header);
    let parts = parts(octets);
    if !parts.is_empty() {
        let each: String = parts.iter().map(|part| structure(part, extended)).collect();
        let more = if extended { format!(" {} NIL NIL", media.parameters()) } else { String::new() };
        return format!("({each} \"{}\"{more})", media.subtype);
    }
    let encoding = value(header, "Content-Transfer-Encoding").unwrap_or_else(|| "7BIT".to_owned());
    let lines = if media.kind == "TEXT" {
        format!(" {}", body.iter().filter(|&&octet| octet == b'\n').count())
    } else {
        String::new()
    };
    let more = if extended { " NIL NIL NIL" } else { "" };
    format!(
        "(\"{}\" \"{}\" {} {} {} \"{encoding}\" {}{lines}{more})",
        media.kind,
        media.subtype,
        media.parameters(),
        nil_or(value(header, "Content-Id").as_deref()),
        nil_or(value(header, "Content-Description").as_deref()),
        body.len(),
    )
}

/// The octets of a section: ``, `HEADER`, `TEXT`, `HEADER.FIELDS (A B)`, `1`, `2.MIME`.
pub(super) fn section(octets: &[u8], section: &str) -> Option<Vec<u8>> {
    let (number, rest) = section.split_once('.').unwrap_or((section, ""));
    if let Ok(number) = number.parse::<usize>() {
        return numbered(octets, number, rest);
    }
    let (header, body) = split(octets);
    let upper = section.to_uppercase();
    match upper.as_str() {
        "" => Some(octets.to_vec()),
        "HEADER" => Some(header.to_vec()),
        "TEXT" => Some(body.to_vec()),
        _ => {
            let (listed, names) = match upper.strip_prefix("HEADER.FIELDS.NOT ") {
                Some(names) => (false, names),
                None => (true, upper.strip_prefix("HEADER.FIELDS ")?),
            };
            Some(some_fields(header, names, listed))
        }
    }
}

fn numbered(octets: &[u8], number: usize, rest: &str) -> Option<Vec<u8>> {
    let parts = parts(octets);
    // RFC 3501 6.4.5: a message that is not a multipart has one part, its body.
    if parts.is_empty() {
        return (number == 1 && rest.is_empty()).then(|| split(octets).1.to_vec());
    }
    let part = *parts.get(number.checked_sub(1)?)?;
    match rest.to_uppercase().as_str() {
        "" => Some(split(part).1.to_vec()),
        "MIME" => Some(split(part).0.to_vec()),
        _ => section(part, rest),
    }
}

fn some_fields(header: &[u8], names: &str, listed: bool) -> Vec<u8> {
    let names: Vec<&str> = names.trim_matches(['(', ')']).split(' ').map(|name| name.trim_matches('"')).collect();
    let wanted = |field: &&&[u8]| names.iter().any(|wanted| name(field).eq_ignore_ascii_case(wanted)) == listed;
    let mut found: Vec<u8> = fields(header).iter().filter(wanted).flat_map(|field| field.iter().copied()).collect();
    found.extend_from_slice(b"\r\n");
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &[u8] = b"Subject: two\r\n parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\n\r\nfirst\r\n--b\r\nContent-Type: IMAGE/GIF\r\n\r\nGIF\r\n--b--\r\n";

    #[test]
    fn sections_of_a_multipart_are_its_parts() {
        let table: [(&str, Option<&[u8]>); 7] = [
            ("1", Some(b"first")),
            ("2", Some(b"GIF")),
            ("2.MIME", Some(b"Content-Type: IMAGE/GIF\r\n\r\n")),
            ("3", None),
            ("HEADER.FIELDS (SUBJECT)", Some(b"Subject: two\r\n parts\r\n\r\n")),
            ("HEADER.FIELDS.NOT (Subject Content-Type)", Some(b"\r\n")),
            ("NONSENSE", None),
        ];
        for (name, expected) in table {
            assert_eq!(section(MIXED, name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_structure_names_the_parts() {
        let expected = r#"(("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 5 0)("IMAGE" "GIF" NIL NIL NIL "7BIT" 3) "MIXED")"#;
        assert_eq!(structure(MIXED, false), expected);
    }
}
