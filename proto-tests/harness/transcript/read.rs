//! Reading a transcript file.

use std::{path::Path, time::Duration};

use super::{Action, Before, Failure, Header, Pattern, Step, Stored, Transcript, live::Servers};
use crate::{cast::End, model::Settings};

impl Transcript {
    /// Reads this file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let failure = |line: usize, expected: &str, got: String| Failure {
            place: format!("{}:{line}", path.display()),
            run: "reading".to_owned(),
            expected: expected.to_owned(),
            got,
            trace: Vec::new(),
        };
        let text = std::fs::read_to_string(path).map_err(|error| failure(0, "a readable file", error.to_string()))?;
        let mut transcript =
            Self { path: path.to_owned(), header: Header::default(), steps: Vec::new(), everywhere: Vec::new() };
        let mut in_header = true;
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |why: String| failure(number, &why, line.to_owned());
            if line.starts_with(['#', ';']) {
                continue;
            }
            if line.is_empty() {
                in_header = false;
                continue;
            }
            if in_header {
                transcript.header.read(line).map_err(wrong)?;
            } else {
                let (servers, line) = Servers::read(line).map_err(wrong)?;
                let deviates = |name: &&String| !transcript.header.deviations.iter().any(|(server, _)| server == *name);
                if let Some(name) = servers.names().iter().find(deviates) {
                    return Err(failure(number, "`deviates:` in the header, with the reason", name.clone()));
                }
                for action in actions(line).map_err(wrong)? {
                    transcript.everywhere.push((servers.clone(), Step { line: number, action }));
                }
            }
        }
        let of_the_model = transcript.everywhere.iter().filter(|(servers, _)| !matches!(servers, Servers::Only(_)));
        transcript.steps = of_the_model.map(|(_, step)| step.clone()).collect();
        transcript.say_who_answers();
        Ok(transcript)
    }

    /// A line to the backend with an answer behind it is not shown to the model.
    fn say_who_answers(&mut self) {
        for at in 0..self.steps.len() {
            let next = self.steps[at + 1..].iter().map(|step| &step.action);
            let mut behind = next.skip_while(|action| matches!(action, Action::Backend { .. }));
            let answered = matches!(behind.next(), Some(Action::BackendSends(_) | Action::BackendLine(_)));
            if let Action::Backend { scripted, .. } = &mut self.steps[at].action {
                *scripted = answered;
            }
        }
    }
}

impl Header {
    fn read(&mut self, line: &str) -> Result<(), String> {
        if let Some(content) = line.strip_prefix('|') {
            let message = self.messages.last_mut().ok_or("`message:` before its lines")?;
            let octets = message.octets.get_or_insert_default();
            octets.extend_from_slice(content.strip_prefix(' ').unwrap_or(content).as_bytes());
            octets.extend_from_slice(b"\r\n");
            return Ok(());
        }
        let (name, value) = without_comment(line).split_once(':').ok_or("`name: value`")?;
        let value = value.trim();
        let settings = &mut self.settings;
        match name {
            "backend" => self.capabilities(value)?,
            "greeting" => settings.greeting = value.to_owned(),
            "announces" => settings.announces = value == "yes",
            "namespace" => settings.namespace = value.to_owned(),
            "id" => settings.id = value.to_owned(),
            "separator" => settings.separator = value.chars().next().ok_or("a separator")?,
            "user" => {
                let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')?.split_once("\" \""));
                let (user, password) = quoted.or_else(|| value.split_once(' ')).ok_or("`user: NAME PASSWORD`")?;
                settings.users.insert(0, (user.to_owned(), password.to_owned()));
            }
            "mischief" => {
                for word in value.split([' ', ',']).filter(|word| !word.is_empty()) {
                    if !settings.mischief.switch_on(word) {
                        return Err(format!("a mischief, not {word}"));
                    }
                }
            }
            "mailbox" => self.mailbox(value)?,
            "message" => {
                let (mailbox, message) = value.split_once(' ').ok_or("`message: BOX UID`")?;
                let (uid, flags) = numbered(message)?;
                self.messages.push(Stored { mailbox: mailbox.into(), uid, flags, octets: Some(Vec::new()) });
            }
            "arrived" => {
                let (messages, date) = value.split_once(", ").ok_or("`arrived: BOX UIDS, DATE`")?;
                let (mailbox, uids) = messages.split_once(' ').ok_or("a mailbox and UIDs")?;
                let uids = uids.split(' ').map(|uid| numbered(uid).map(|(uid, _)| uid)).collect::<Result<_, _>>()?;
                self.arrived.push((mailbox.to_owned(), uids, date.to_owned()));
            }
            "subscribed" => self.subscribed = value.split_whitespace().map(str::to_owned).collect(),
            "noselect" => self.noselect = value.split_whitespace().map(str::to_owned).collect(),
            "special" => {
                for one in value.split(", ") {
                    let (mailbox, uses) = one.split_once('=').ok_or("`special: BOX=\\Use \\Use, BOX=\\Use`")?;
                    let uses = uses.split_whitespace().map(str::to_owned).collect();
                    self.special.push((mailbox.to_owned(), uses));
                }
            }
            "rights" => {
                for one in value.split(", ") {
                    let (mailbox, rights) = one.split_once(' ').unwrap_or((one, ""));
                    self.rights.push((mailbox.to_owned(), rights.to_owned()));
                }
            }
            "quota" => self.quota = Some(value.to_owned()),
            "metadata" => {
                self.is_bounded = true;
                self.bounds(value)?;
            }
            "state" => {
                self.state = match value.split_once(' ') {
                    Some(("selected", mailbox)) => Before::Selected(mailbox.to_owned()),
                    _ if value == "greeting" => Before::Greeting,
                    _ if value == "connected" => Before::Connected,
                    _ if value == "authenticated" => Before::Authenticated,
                    _ => return Err("a state".to_owned()),
                }
            }
            "deviates" => {
                let (servers, reason) = value.split_once(", ").ok_or("`deviates: SERVER, REASON`")?;
                self.deviations.extend(servers.split(' ').map(|server| (server.to_owned(), reason.to_owned())));
            }
            "live" => self.not_live = Some(value.strip_prefix("no, ").ok_or("`live: no, REASON`")?.to_owned()),
            "order" => self.any_order = value == "any",
            "proxy" => self.proxy_only = value == "only",
            "listener" | "dial" | "limits" | "timeouts" | "profile" | "trusted" | "account" | "store" | "events"
            | "extensions" => {
                self.proxy.push((name.to_owned(), value.to_owned()));
            }
            _ => return Err("a header line that is known".to_owned()),
        }
        Ok(())
    }

    /// `IMAP4rev1 [METADATA FILTERS]`: what stands in brackets is optional.
    fn capabilities(&mut self, value: &str) -> Result<(), String> {
        let mut rest = value;
        self.settings.capabilities.clear();
        while let Some((before, behind)) = rest.split_once('[') {
            let (inside, behind) = behind.split_once(']').ok_or("`]` behind `[`")?;
            self.settings.capabilities.extend(Settings::with(before).capabilities);
            self.settings.capabilities.extend(Settings::with(inside).capabilities);
            self.optional.extend(Settings::with(inside).capabilities);
            rest = behind;
        }
        self.settings.capabilities.extend(Settings::with(rest).capabilities);
        Ok(())
    }

    /// `metadata: size=1024 entries=10`.
    fn bounds(&mut self, value: &str) -> Result<(), String> {
        for word in value.split_whitespace() {
            let (name, bound) = word.split_once('=').ok_or("`size=N` or `entries=N`")?;
            let bound = bound.parse().map_err(|_| "a number")?;
            match name {
                "size" => self.settings.largest_value = bound,
                "entries" => self.settings.most_entries = bound,
                _ => return Err("`size=N` or `entries=N`".to_owned()),
            }
        }
        Ok(())
    }

    /// `INBOX 11s 12 20..30f`; a name with blanks stands in quotes.
    fn mailbox(&mut self, value: &str) -> Result<(), String> {
        let (mailbox, messages) = match value.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            Some(quoted) => quoted,
            None => value.split_once(' ').unwrap_or((value, "")),
        };
        self.mailboxes.push(mailbox.to_owned());
        for word in messages.split_whitespace() {
            let (range, step) = word.split_once('/').unwrap_or((word, "1"));
            let (first, last) = range.split_once("..").unwrap_or((range, range));
            let ((first, _), (last, flags), (step, more)) = (numbered(first)?, numbered(last)?, numbered(step)?);
            for uid in (first..=last).step_by(step.max(1) as usize) {
                self.messages.push(Stored { mailbox: mailbox.into(), uid, flags: flags.clone() + &more, octets: None });
            }
        }
        Ok(())
    }
}

/// `12sf`: a UID and the letters of flags.
pub(super) fn numbered(word: &str) -> Result<(u32, String), String> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let (uid, flags) = word.split_at(digits);
    Ok((uid.parse().map_err(|_| format!("a UID, not {word}"))?, flags.to_owned()))
}

/// What stands before `;` behind two blanks.
fn without_comment(line: &str) -> &str {
    line.find("  ;").map_or(line, |at| &line[..at]).trim_end()
}

/// What one line of a transcript asks for.
fn actions(line: &str) -> Result<Vec<Action>, String> {
    // Where the text is octets, nothing is taken off it.
    let raw = line.get(1..2).is_some_and(|kind| matches!(kind, "|" | "\\"));
    let line = if raw { line } else { without_comment(line) };
    let (kind, text) = match line.as_bytes() {
        [b'>' | b'<', b'.', ..] => line.split_at(2),
        [b'>' | b'<', b'|' | b'\\', ..] => line.split_at(2),
        [b'>' | b'<', ..] => line.split_at(1),
        _ => line.split_at_checked(2).ok_or("a line of a transcript")?,
    };
    let raw_text = text.strip_prefix(' ').unwrap_or(text);
    let text = text.trim_start();
    Ok(match kind {
        "C:" => vec![Action::ClientLine(raw_text.to_owned())],
        "C|" => vec![Action::Client(format!("{raw_text}\r\n").into_bytes())],
        "C\\" => vec![Action::Client(octets(raw_text)?)],
        "C." => vec![Action::ClientCloses],
        "C>" => {
            vec![Action::ClientLine(text.to_owned()), Action::Backend { pattern: Pattern::new(text), scripted: false }]
        }
        "S:" if text == "..." => vec![Action::ExpectAnything],
        "S:" => vec![Action::Expect(Pattern::new(raw_text))],
        "S|" => vec![Action::Expect(Pattern::exactly(raw_text))],
        "U:" => vec![Action::Expect(Pattern::exactly(line))],
        "S\\" => vec![Action::ExpectOctets(octets(raw_text)?)],
        "S." => vec![Action::ExpectEnd(match text {
            "" => None,
            "clean" => Some(End::Clean),
            "cut" => Some(End::Cut),
            _ => return Err("`S.`, `S. clean` or `S. cut`".to_owned()),
        })],
        "S<" => vec![Action::BackendLine(text.to_owned()), Action::Expect(Pattern::new(text))],
        ">" => vec![Action::Backend { pattern: Pattern::new(&own_tag(text)), scripted: false }],
        ">|" => vec![Action::Backend { pattern: Pattern::exactly(raw_text), scripted: false }],
        ">." => vec![Action::BackendEnd],
        "<" if text == "(nothing)" => vec![Action::BackendSends(Vec::new())],
        "<" => vec![Action::BackendLine(own_tag(text))],
        "<|" => vec![Action::BackendSends(format!("{raw_text}\r\n").into_bytes())],
        "<\\" => vec![Action::BackendSends(octets(raw_text)?)],
        "<." => vec![Action::BackendCloses],
        "!S" => vec![Action::NeverClient(Pattern::new(text))],
        "!>" => vec![Action::NeverBackend(Pattern::new(text))],
        "E:" => vec![Action::Event(Pattern::new(text))],
        "O:" => vec![Action::Other(text.to_owned())],
        "T:" => vec![Action::Time(span(text)?)],
        "P:" if text == "drain" => vec![Action::Drain],
        "P:" if text == "kill" => vec![Action::Kill],
        "P:" if text.starts_with("looked ") || text.starts_with("found ") => vec![Action::Published(text.to_owned())],
        _ => return Err("a line of a transcript".to_owned()),
    })
}

/// `p1` at the start of a line is a tag of the proxy's own.
fn own_tag(text: &str) -> String {
    let tag = text.split(' ').next().unwrap_or_default();
    let own = tag
        .strip_prefix('p')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit()));
    if own { format!("${text}") } else { text.to_owned() }
}

fn span(text: &str) -> Result<Duration, String> {
    text.parse::<lemonade_proxy::units::Span>().map(|span| span.0).map_err(|error| error.to_string())
}

/// `a NOOP\r\n\{3*(}`: octets.
fn octets(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('\\') {
        octets.extend_from_slice(before.as_bytes());
        let wrong = || format!("an escape, not \\{behind}");
        let kind = behind.chars().next().ok_or_else(wrong)?;
        let mut skip = kind.len_utf8();
        match kind {
            'r' => octets.push(b'\r'),
            'n' => octets.push(b'\n'),
            '0' => octets.push(0),
            '\\' => octets.push(b'\\'),
            'x' => {
                let hex = behind.get(1..3).ok_or_else(wrong)?;
                octets.push(u8::from_str_radix(hex, 16).map_err(|_| wrong())?);
                skip += 2;
            }
            '{' => {
                let (times, repeated) = behind[1..].split_once('*').ok_or_else(wrong)?;
                let (repeated, _) = repeated.split_once('}').ok_or_else(wrong)?;
                skip += times.len() + 1 + repeated.len() + 1;
                let times: usize = times.parse().map_err(|_| wrong())?;
                octets.extend(self::octets(repeated)?.repeat(times));
            }
            _ => return Err(wrong()),
        }
        rest = &behind[skip..];
    }
    octets.extend_from_slice(rest.as_bytes());
    Ok(octets)
}
