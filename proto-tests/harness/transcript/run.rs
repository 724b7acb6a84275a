//! Running a transcript: each line in its turn, and nothing comes that no line expects.

use std::collections::VecDeque;

use lemonade_proxy::{
    imap::{entry::EntryName, list},
    mailbox::{status::Status, tree::Renaming},
    session::effect::{Annotated, Looked, Notice, Side},
    store::{DeviceName, Owner},
};

use super::{
    Action, Before, Failure, Pattern, Step, Transcript, flags_of,
    pattern::{self, Variables},
    read::numbered,
    unordered,
};
use crate::{
    cast::{Between, Cut, Disk, Scene, take_line},
    model::Message,
};

/// Who is in the scene and how octets are cut; its name is for the reader.
pub struct Run {
    /// Whoever stands between client and backend.
    pub between: Box<dyn Between>,
    /// How octets are cut.
    pub cut: Cut,
    /// What a failure calls this run.
    pub name: String,
}

/// A transcript under way.
pub(super) struct Play<'a> {
    transcript: &'a Transcript,
    pub(super) scene: Scene,
    pub(super) variables: Variables,
    /// Every line that came to the client.
    heard: Vec<Vec<u8>>,
    /// Where we are.
    line: usize,
    run: String,
    /// Commands that the backend executed before the first line.
    executed: usize,
    /// Events that no line has expected yet; none where nobody tells any.
    events: Option<VecDeque<String>>,
    /// Looks that the other sessions were told of and no line has expected yet; none where nobody tells them.
    published: Option<VecDeque<String>>,
}

/// Lines of the session that a failure shows.
const SHOWN: usize = 30;

/// How a step fails: expected, got.
pub(super) type Wrong = (String, String);

impl Transcript {
    /// Plays the transcript once.
    pub fn run(&self, run: Run) -> Result<(), Failure> {
        let scene = Scene::new(run.between, self.header.settings.clone(), run.cut);
        self.header.fill(&scene.backend);
        let mut play = Play {
            transcript: self,
            scene,
            variables: Variables::new(),
            heard: Vec::new(),
            line: 0,
            run: run.name,
            executed: 0,
            events: None,
            published: None,
        };
        play.prologue().and_then(|()| play.steps()).map_err(|(expected, got)| play.failure(expected, got))
    }
}

impl Play<'_> {
    fn failure(&self, expected: String, got: String) -> Failure {
        let trace = &self.scene.trace;
        Failure {
            place: format!("{}:{}", self.transcript.path.display(), self.line),
            run: self.run.clone(),
            expected,
            got,
            trace: trace[trace.len().saturating_sub(SHOWN)..].to_vec(),
        }
    }

    /// What the header says has happened before.
    fn prologue(&mut self) -> Result<(), Wrong> {
        self.scene.run_backend();
        let before = self.transcript.header.state.clone();
        if before == Before::Greeting {
            return Ok(());
        }
        self.expect_end_of("* OK ...")?;
        let mut commands = Vec::new();
        if before != Before::Connected {
            let (user, password) = self.transcript.header.settings.users[0].clone();
            commands.push(format!("z1 LOGIN \"{user}\" \"{password}\""));
        }
        if let Before::Selected(mailbox) = before {
            commands.push(format!("z2 SELECT \"{mailbox}\""));
        }
        for command in commands {
            self.scene.client_sends(format!("{command}\r\n").as_bytes(), false);
            self.expect_end_of(&format!("{} OK ...", &command[..2]))?;
        }
        self.heard.clear();
        self.scene.take_events();
        self.scene.take_published();
        self.executed = self.scene.backend.executed().len();
        Ok(())
    }

    /// Lets lines go by up to one of this kind.
    fn expect_end_of(&mut self, text: &str) -> Result<(), Wrong> {
        let pattern = Pattern::new(text);
        loop {
            let line = self.next_line().ok_or_else(|| (text.to_owned(), "nothing".to_owned()))?;
            if pattern.matches(&line, &mut self.variables) {
                return Ok(());
            }
        }
    }

    fn steps(&mut self) -> Result<(), Wrong> {
        let steps = &self.transcript.steps;
        let mut at = 0;
        while at < steps.len() {
            self.line = steps[at].line;
            at += self.step(&steps[at..])?;
        }
        let open = matches!(steps.last(), Some(Step { action: Action::ExpectAnything, .. }));
        if !open {
            self.expect_nothing()?;
        }
        self.scene.run_backend();
        self.expect_no_event()?;
        self.expect_no_look()?;
        self.check_what_never_comes()
    }

    /// Does what stands at the front; how many steps that took.
    fn step(&mut self, steps: &[Step]) -> Result<usize, Wrong> {
        let action = &steps[0].action;
        match action {
            Action::Client(_) | Action::ClientLine(_) => return self.client_sends(steps),
            _ if self.transcript.header.any_order && unordered::begins(action) => {
                return self.expect_in_any_order(steps);
            }
            Action::Backend { pattern, scripted } => self.backend_gets(pattern, *scripted)?,
            _ => {}
        }
        match action {
            Action::ClientCloses => {
                self.scene.run_backend();
                self.scene.client_closes();
            }
            Action::Expect(pattern) => self.expect(pattern)?,
            Action::Event(pattern) => self.expect_event(pattern)?,
            Action::Published(look) => self.expect_look(look)?,
            Action::ExpectOctets(octets) => self.expect_octets(octets)?,
            Action::ExpectAnything => self.skip_up_to(steps.get(1))?,
            Action::ExpectEnd(how) => {
                self.scene.run_backend();
                let end = self.scene.end(Side::Client);
                if end.is_none() || how.is_some_and(|how| end != Some(how)) {
                    return Err((format!("the client's connection closed, {how:?}"), format!("{end:?}")));
                }
            }
            Action::BackendEnd => {
                self.scene.run_backend();
                if self.scene.end(Side::Backend).is_none() {
                    return Err(("the connection to the backend closed".to_owned(), "open".to_owned()));
                }
            }
            Action::BackendSends(octets) => self.scene.backend_sends(octets),
            Action::BackendLine(text) => {
                let mut line = self.fill(text)?;
                line.extend_from_slice(b"\r\n");
                self.scene.backend_sends(&line);
            }
            Action::BackendCloses => {
                self.scene.run_backend();
                self.scene.backend_closes();
            }
            Action::Other(what) => {
                let connected = self.scene.is_connected();
                if connected {
                    self.scene.run_backend();
                }
                self.other_client(what).map_err(|expected| (expected, what.clone()))?;
                if connected {
                    self.scene.run_backend();
                }
            }
            Action::Time(time) => {
                self.scene.run_backend();
                // What the transcript answers itself, the model must not see first.
                let scripted = matches!(steps.get(1), Some(Step { action: Action::Backend { .. }, .. }));
                self.scene.pass_time(*time, !scripted);
                if !scripted {
                    self.scene.run_backend();
                }
            }
            Action::Drain => {
                self.scene.run_backend();
                self.scene.drain();
            }
            Action::Kill => {
                self.scene.kill();
                // The prefix of own tags is another one.
                self.variables = Variables::new();
                self.prologue()?;
            }
            Action::Client(_)
            | Action::ClientLine(_)
            | Action::Backend { .. }
            | Action::NeverClient(_)
            | Action::NeverBackend(_) => {}
        }
        Ok(1)
    }

    fn fill(&self, text: &str) -> Result<Vec<u8>, Wrong> {
        pattern::fill(text, &self.variables).map_err(|why| ("a variable with a value".to_owned(), why))
    }

    /// Lines of the client behind one another are one segment.
    fn client_sends(&mut self, steps: &[Step]) -> Result<usize, Wrong> {
        self.scene.run_backend();
        self.expect_nothing()?;
        let mut segment = Vec::new();
        let mut taken = 0;
        for step in steps {
            match &step.action {
                Action::Client(octets) => segment.extend_from_slice(octets),
                Action::ClientLine(text) => {
                    segment.extend(self.fill(text)?);
                    segment.extend_from_slice(b"\r\n");
                }
                _ => break,
            }
            taken += 1;
        }
        // What the transcript answers itself, the model must not see first.
        let scripted = matches!(steps.get(taken), Some(Step { action: Action::Backend { .. }, .. }));
        self.scene.client_sends(&segment, scripted);
        Ok(taken)
    }

    pub(super) fn next_line(&mut self) -> Option<Vec<u8>> {
        let line = take_line(self.scene.client_inbox()).or_else(|| {
            self.scene.run_backend();
            take_line(self.scene.client_inbox())
        })?;
        let line = without_end(&line).to_vec();
        self.heard.push(line.clone());
        Some(line)
    }

    fn expect(&mut self, pattern: &Pattern) -> Result<(), Wrong> {
        let Some(line) = self.next_line() else { return Err((pattern.text().to_owned(), "nothing".to_owned())) };
        if pattern.matches(&line, &mut self.variables) {
            Ok(())
        } else {
            Err((pattern.text().to_owned(), shown(&line)))
        }
    }

    fn expect_octets(&mut self, octets: &[u8]) -> Result<(), Wrong> {
        self.scene.run_backend();
        let inbox = self.scene.client_inbox();
        let got: Vec<u8> = inbox.drain(..octets.len().min(inbox.len())).collect();
        if got == octets { Ok(()) } else { Err((shown(octets), shown(&got))) }
    }

    /// Lets lines go by until the next expected one is at the front.
    fn skip_up_to(&mut self, next: Option<&Step>) -> Result<(), Wrong> {
        let Some(Step { action: Action::Expect(pattern), .. }) = next else {
            while self.next_line().is_some() {}
            return Ok(());
        };
        loop {
            let waiting = take_line(&mut self.scene.client_inbox().clone());
            let waiting = waiting.or_else(|| {
                self.scene.run_backend();
                take_line(&mut self.scene.client_inbox().clone())
            });
            let Some(line) = waiting else { return Err((pattern.text().to_owned(), "nothing".to_owned())) };
            if pattern.matches(without_end(&line), &mut self.variables.clone()) {
                return Ok(());
            }
            self.next_line();
        }
    }

    fn expect_nothing(&mut self) -> Result<(), Wrong> {
        self.scene.run_backend();
        let inbox = self.scene.client_inbox();
        if inbox.is_empty() { Ok(()) } else { Err(("nothing more".to_owned(), shown(inbox))) }
    }

    /// The next event is this one, where any are told.
    fn expect_event(&mut self, pattern: &Pattern) -> Result<(), Wrong> {
        self.take_events();
        let Some(events) = &mut self.events else { return Ok(()) };
        match events.pop_front() {
            Some(event) if pattern.matches(event.as_bytes(), &mut self.variables) => Ok(()),
            other => Err((format!("E: {}", pattern.text()), other.unwrap_or_else(|| "nothing".to_owned()))),
        }
    }

    /// A transcript that expects an event expects all of them.
    fn expect_no_event(&mut self) -> Result<(), Wrong> {
        let about_events = self.transcript.tells_events();
        self.take_events();
        match self.events.as_mut().and_then(VecDeque::pop_front).filter(|_| about_events) {
            Some(event) => Err(("no more events".to_owned(), event)),
            None => Ok(()),
        }
    }

    fn take_events(&mut self) {
        self.scene.run_backend();
        if let Some(events) = self.scene.take_events() {
            self.events.get_or_insert_default().extend(events);
        }
    }

    /// The next look that others hear of is this one, where anybody tells them.
    fn expect_look(&mut self, expected: &str) -> Result<(), Wrong> {
        self.take_published();
        let Some(published) = &mut self.published else { return Ok(()) };
        match published.pop_front() {
            Some(look) if look == expected => Ok(()),
            other => Err((format!("P: {expected}"), other.unwrap_or_else(|| "nothing".to_owned()))),
        }
    }

    /// A transcript that expects a look to be told expects all of them.
    fn expect_no_look(&mut self) -> Result<(), Wrong> {
        let about_looks = self.transcript.steps.iter().any(|step| matches!(step.action, Action::Published(_)));
        self.take_published();
        match self.published.as_mut().and_then(VecDeque::pop_front).filter(|_| about_looks) {
            Some(look) => Err(("no more looks".to_owned(), look)),
            None => Ok(()),
        }
    }

    fn take_published(&mut self) {
        self.scene.run_backend();
        if let Some(published) = self.scene.take_published() {
            self.published.get_or_insert_default().extend(published.iter().filter_map(look));
        }
    }

    fn backend_gets(&mut self, pattern: &Pattern, scripted: bool) -> Result<(), Wrong> {
        let wrong = |got: String| (format!("> {}", pattern.text()), got);
        let Some(line) = self.scene.take_backend_line() else {
            let unread = shown(self.scene.unread_by_backend());
            return Err(wrong(format!("nothing for the backend but \"{unread}\"")));
        };
        if !pattern.matches(without_end(&line), &mut self.variables) {
            return Err(wrong(shown(&line)));
        }
        if !scripted {
            self.scene.model_reads(&line);
        }
        Ok(())
    }

    /// Somebody else changes the store.
    fn other_client(&mut self, what: &str) -> Result<(), String> {
        if let Some(annotation) = what.strip_prefix("annotated ") {
            self.scene.noticed(&Notice::Annotated(annotated(annotation)?));
            return Ok(());
        }
        if let Some(annotation) = what.strip_prefix("metadata ") {
            return self.other_client_annotates(annotation);
        }
        let words: Vec<&str> = what.split_whitespace().collect();
        match words.as_slice() {
            ["store", disk] => {
                self.scene.store_becomes(Disk::parse(disk)?);
                return Ok(());
            }
            ["names"] => {
                self.scene.noticed(&Notice::Names(None));
                return Ok(());
            }
            ["names", from, to] => {
                let renaming = Renaming { from: from.as_bytes().into(), to: to.as_bytes().into() };
                self.scene.noticed(&Notice::Names(Some(renaming)));
                return Ok(());
            }
            [verb @ ("looked" | "found"), mailbox, items @ ..] => {
                let line = format!("* STATUS {mailbox} {}", items.join(" "));
                let status = Status::parse(line.as_bytes()).map(|(_, status)| status);
                let mailbox = list::canonical(mailbox.as_bytes());
                self.scene.noticed(&Notice::Looked(Looked { mailbox, stirred: *verb == "found", status }));
                return Ok(());
            }
            _ => {}
        }
        let mut store = self.scene.backend.store();
        match words.as_slice() {
            ["create", mailbox] => {
                store.mailbox_or_new(mailbox);
            }
            ["delete", mailbox] => _ = store.mailboxes.remove(*mailbox),
            ["rename", from, to] => {
                let within = |name: &&String| {
                    name.strip_prefix(from).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                let names: Vec<String> = store.mailboxes.keys().filter(within).cloned().collect();
                for name in names {
                    if let Some(moved) = store.mailboxes.remove(&name) {
                        store.mailboxes.insert(format!("{to}{}", &name[from.len()..]), moved);
                    }
                }
            }
            ["quota", ..] => store.quota = what.strip_prefix("quota ").map(str::to_owned),
            ["subscribe", mailbox] => _ = store.subscriptions.insert((*mailbox).to_owned()),
            ["unsubscribe", mailbox] => _ = store.subscriptions.remove(*mailbox),
            ["append", mailbox, messages @ ..] => {
                for word in messages {
                    let (uid, flags) = numbered(word)?;
                    let octets = Message::plain(uid);
                    store.mailbox_or_new(mailbox).append(Some(uid), flags_of(&flags), octets);
                }
            }
            ["expunge", mailbox, uids @ ..] => {
                let uids: Vec<u32> = uids.iter().filter_map(|uid| uid.parse().ok()).collect();
                store.mailbox_or_new(mailbox).expunge(&uids);
            }
            ["flags", mailbox, uid, flags @ ..] => {
                let uid = uid.parse().map_err(|_| "a UID")?;
                let message = store.mailbox_or_new(mailbox).message_mut(uid).ok_or("a message that is there")?;
                message.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
            }
            _ => {
                return Err(
                    "append, expunge, flags, create, delete, rename, subscribe, unsubscribe or metadata".to_owned()
                );
            }
        }
        Ok(())
    }

    /// `BOX ENTRY VALUE`: the value is the rest of the line, NIL for none; the box `""` is the server.
    fn other_client_annotates(&mut self, what: &str) -> Result<(), String> {
        let mut words = what.splitn(3, ' ');
        let (Some(mailbox), Some(entry), Some(value)) = (words.next(), words.next(), words.next()) else {
            return Err("metadata BOX ENTRY VALUE".to_owned());
        };
        let value = (value != "NIL").then(|| value.trim_matches('"').as_bytes().to_vec());
        self.scene.backend.store().annotate_as_another(mailbox.trim_matches('"'), entry, value);
        Ok(())
    }

    /// `!S` and `!>` speak of the whole session.
    fn check_what_never_comes(&mut self) -> Result<(), Wrong> {
        while self.next_line().is_some() {}
        let executed = self.scene.backend.executed().split_off(self.executed);
        for step in &self.transcript.steps {
            let (pattern, lines) = match &step.action {
                Action::NeverClient(pattern) => (pattern, &self.heard),
                Action::NeverBackend(pattern) => (pattern, &executed),
                _ => continue,
            };
            if let Some(line) = lines.iter().find(|line| pattern.matches(line, &mut Variables::new())) {
                self.line = step.line;
                return Err((format!("never {}", pattern.text()), shown(line)));
            }
        }
        Ok(())
    }
}

/// A look, in the words of the transcript.
fn look(notice: &Notice) -> Option<String> {
    let Notice::Looked(looked) = notice else { return None };
    let word = if looked.stirred { "found" } else { "looked" };
    Some(format!("{word} {}", String::from_utf8_lossy(&looked.mailbox)))
}

/// `BOX ENTRY` and, if it belongs to one, `DEVICE`.
fn annotated(text: &str) -> Result<Annotated, String> {
    let words: Vec<&str> = text.split(' ').collect();
    let (mailbox, entry, owner) = match words.as_slice() {
        [mailbox, entry] => (mailbox, entry, Owner::User),
        [mailbox, entry, device] => {
            let device = DeviceName::parse(device.as_bytes()).map_err(|error| error.to_string())?;
            (mailbox, entry, Owner::Device(device))
        }
        _ => return Err("annotated BOX ENTRY".to_owned()),
    };
    let entry = EntryName::parse(entry.as_bytes()).map_err(|error| error.to_string())?;
    Ok(Annotated { mailbox: mailbox.trim_matches('"').as_bytes().into(), owner, entries: vec![entry] })
}

fn without_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r\n").or_else(|| line.strip_suffix(b"\n")).unwrap_or(line)
}

pub(super) fn shown(octets: &[u8]) -> String {
    octets.iter().take(300).flat_map(|octet| octet.escape_ascii()).map(char::from).collect()
}
