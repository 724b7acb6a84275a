//! NOTIFY: the client is told what happens without asking, also while no command is in progress (RFC 5465).
//!
//! Below: IDLE, or NOOP, or just STATUS; LIST, LSUB, NAMESPACE.   Above: NOTIFY SET, NOTIFY NONE.
//!
//!     C: a NOTIFY SET STATUS (selected (MessageNew (UID FLAGS) MessageExpunge)) (subtree Lists (MessageNew MessageExpunge))
//!     >  p1 LIST "" "*"                      which mailboxes these are: asked again every minute
//!     >  p2 STATUS Lists/Lemonade (MESSAGES UIDNEXT UIDVALIDITY)
//!     S: * STATUS Lists/Lemonade (MESSAGES 500 UIDNEXT 9999 UIDVALIDITY 4)
//!     >  p3 NOOP                             SET implies one: what was held back is told
//!     S: a OK NOTIFY done
//!     >  p4 STATUS Lists/Lemonade (MESSAGES UIDNEXT UIDVALIDITY)
//!     S: * STATUS Lists/Lemonade (UIDNEXT 10000 MESSAGES 501)
//!     S: * 24 EXISTS
//!     S: * 24 FETCH (UID 1017 FLAGS ())
//!
//! What is told of the selected mailbox, and when, is a matter of `session/idle.rs`: `selected` hears of removals at any time,
//! `selected-delayed` when a command allows it, and who names neither hears nothing of it. What it does not hear is held in the
//! numbering, so that numbers go on to mean what they meant. Of messages that come at once the last fifty are shown.
//!
//! Other mailboxes are asked for by STATUS on the session's own connection, one at a time while no command of the client's is in
//! progress: INBOX as often as the backend's pace allows, others every 15 s. One of them, INBOX for choice, is listened to beside
//! that where the backend can IDLE (`notify/ear.rs`). What the client does itself is not told to it. Names are compared every minute;
//! that a mailbox was renamed tells the session that has done it, or how the mailbox stood before.
//! Bounds are the operator's (`[account.notify]`): beyond them it is `NOTIFICATIONOVERFLOW`, and the client hears nothing more.
//! Annotations are ours, and told at once. Requirements N2 and A4.

mod ear;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use self::ear::Ear;
use super::{idle::LARGEST, metadata};
use crate::{
    imap::{
        fetch::FetchItems,
        list::{self, Listed},
        notify::{EVENTS, Event, Group, Notify, NotifyError, Which},
        response,
        token::{self, Cursor},
        verb::{self, Verb},
    },
    mailbox::{
        event,
        overview::Found,
        status::Status,
        tree::{Change, Renaming, Tree},
        watch::{Watch, Watched},
    },
    session::{
        effect::{Annotated, Looked, Notice},
        idle::Listening,
        layer::{Ask, Command, Extension, Layer, Out, Refusal, Reply},
        script::{Ending, Given, Script, Server},
    },
};

/// RFC 5465.
pub const NOTIFY: Extension = Extension {
    name: "NOTIFY",
    spec: "RFC 5465",
    gives: &["NOTIFY"],
    hears: &["NOTIFY"],
    build: || Box::<Notifier>::default(),
    ..Extension::NONE
};

const LIST: &Verb = verb::row_of("LIST");
const LSUB: &Verb = verb::row_of("LSUB");
const NAMESPACE: &Verb = verb::row_of("NAMESPACE");
const NOOP: &Verb = verb::row_of("NOOP");
const STATUS: &Verb = verb::row_of("STATUS");

/// Names that are compared: a session keeps them all day.
const MOST_NAMES: usize = 10_000;

/// Octets that the answer to one question may have.
const MOST_OCTETS: usize = 2 << 20;

/// Renamings that other sessions have told and that no look at the names has shown yet.
const MOST_RENAMINGS: usize = 16;

/// What a NOTIFY that went well has found; no watch: NONE.
type Outcome = Arc<Mutex<Option<Option<Box<Watch>>>>>;

/// What the client has asked for, and what is under way.
#[derive(Default)]
struct Notifier {
    /// NOTIFY itself.
    script: Option<Script>,
    outcome: Outcome,
    /// What goes on between the client's commands.
    watch: Option<Box<Watch>>,
    asked: Option<Asked>,
    ear: Ear,
    /// When to compare names.
    names: Option<Instant>,
    /// When names were asked for last.
    listed: Option<Instant>,
    /// What other sessions have renamed since.
    renamed: Vec<Renaming>,
}

/// A question of ours that is under way.
struct Asked {
    ask: Ask,
    step: Step,
    since: Instant,
    lines: Vec<Vec<u8>>,
    octets: usize,
    /// Meanwhile another session has found something there: the answer may be older.
    overtaken: bool,
}

/// What it is about.
enum Step {
    /// How this mailbox stands.
    Status(Box<[u8]>),
    /// Which names there are.
    List,
    /// Which of them, and others, are subscribed to.
    Lsub(Vec<Listed>),
    /// How this mailbox stands, so that it is known again under another name.
    Identity(Box<[u8]>),
    /// How the mailbox stands that may have been renamed.
    Renamed { renaming: Renaming, tree: Tree, changes: Vec<Change> },
}

impl Layer for Notifier {
    fn command(&mut self, command: Command<'_>, out: &mut Out<'_>) {
        self.listed = Some(out.now());
        let (outcome, modseq) = (Arc::clone(&self.outcome), out.knows_modseq());
        self.script = Script::begin(command, out, |given, server| Box::pin(notify(given, server, outcome, modseq)));
        self.settle(out);
    }

    fn reply(&mut self, ask: Ask, reply: Reply<'_>, out: &mut Out<'_>) {
        if let Some(key) = self.ear.hear(ask, &reply, out) {
            return self.stirred(&key);
        }
        let Some(asked) = self.asked.as_mut().filter(|asked| asked.ask == ask) else {
            Script::hear(&mut self.script, ask, reply, out);
            return self.settle(out);
        };
        match reply {
            Reply::Part(line) => {
                asked.octets += line.len();
                if asked.octets <= MOST_OCTETS {
                    asked.lines.push(line.to_vec());
                }
            }
            Reply::TooLong => asked.octets = MOST_OCTETS + 1,
            Reply::Found(_) | Reply::Kept(..) => {}
            Reply::Done(status, _) => self.answered(Some(status), out),
            Reply::Unavailable | Reply::Lost => self.answered(None, out),
        }
    }

    fn wake(&mut self, now: Instant, out: &mut Out<'_>) {
        let Some(watch) = self.watch.as_mut().filter(|_| self.asked.is_none()) else { return };
        watch.select(out.mailbox().map(list::canonical));
        let listens = self.ear.listen(Some(watch), out);
        if self.names.is_some_and(|names| now >= names) {
            self.listed = Some(now);
            return self.ask(Step::List, LIST, b"\"\" \"*\"".to_vec(), out);
        }
        match watch.due(now) {
            Some(key) => {
                let arguments = status_of(&key, watch.mailboxes.get(&key), out.knows_modseq());
                self.ask(Step::Status(key), STATUS, arguments, out);
            }
            None => match watch.unidentified(out.plan().account.notify.mailboxes as usize) {
                Some(key) => {
                    let arguments = status_of(&key, None, false);
                    self.ask(Step::Identity(key), STATUS, arguments, out);
                }
                None => {
                    let next = [watch.next(), self.names, listens].into_iter().flatten().min();
                    next.into_iter().for_each(|next| out.wake_at(next));
                }
            },
        }
    }

    fn noticed(&mut self, notice: &Notice, out: &mut Out<'_>) {
        match notice {
            Notice::Annotated(what) => self.annotated(what, out),
            Notice::Looked(looked) => self.looked(looked, out),
            Notice::Names(renamed) if self.names.is_some() => {
                // RFC 3501 6.3.5: INBOX stays.
                let renamed = renamed.iter().filter(|renamed| *renamed.from != *b"INBOX");
                self.renamed.extend(renamed.take(MOST_RENAMINGS - self.renamed.len()).cloned());
                self.names = Some(out.now());
                out.wake_at(out.now());
            }
            Notice::Names(_) | Notice::Alert(..) => {}
        }
    }

    fn changed(&mut self, event: &event::Event, out: &mut Out<'_>) {
        let (Some(watch), Some(key)) = (&mut self.watch, event.mailbox.clone()) else { return };
        if event.kind == event::Kind::MessageAppend {
            watch.mailboxes.get_mut(&key).into_iter().for_each(|watched| stored(watched, event));
            return out.wake_at(out.now());
        }
        let Some(change) = Change::by(event, &watch.tree) else { return };
        watch.tree.apply(&change);
        watch.resolve();
        out.wake_at(out.now());
    }
}

impl Notifier {
    fn annotated(&self, what: &Annotated, out: &mut Out<'_>) {
        let Some(watch) = &self.watch else { return };
        let delimiter = watch.tree.delimiter();
        let wanted = match what.mailbox.is_empty() {
            true => watch.wants(Event::ServerMetadataChange),
            false => watch.yields(&watch.tree.listed(&what.mailbox, delimiter), Event::MailboxMetadataChange),
        };
        if wanted && metadata::concerns(what, out) {
            out.answer(metadata::told(what));
        }
    }

    /// Something has happened in a mailbox: it is looked at now.
    fn stirred(&mut self, key: &[u8]) {
        let asked = self.asked.as_mut().filter(|asked| asked.is_about(key));
        asked.into_iter().for_each(|asked| asked.overtaken = true);
        let watched = self.watch.as_mut().and_then(|watch| watch.mailboxes.get_mut(key));
        watched.into_iter().for_each(|watched| watched.due = None);
    }

    /// Another session of the account has looked at a mailbox: so this one need not.
    fn looked(&mut self, looked: &Looked, out: &mut Out<'_>) {
        let selected = out.mailbox().is_some_and(|name| list::canonical(name) == looked.mailbox);
        if let Some(asked) = self.asked.as_mut().filter(|asked| asked.is_about(&looked.mailbox)) {
            asked.overtaken |= looked.stirred;
            return;
        }
        if selected {
            return;
        }
        let Some(Watch { mailboxes, tree, latest, .. }) = self.watch.as_deref_mut() else { return };
        let known = mailboxes.get_mut(&looked.mailbox).filter(|watched| watched.status.is_some());
        let Some(watched) = known else { return };
        let modseq = out.knows_modseq();
        let complete = |status: &&Status| {
            let unseen = status.unseen.is_some() || !watched.flags;
            status.uidnext.is_some() && unseen && (status.modseq.is_some() || !modseq)
        };
        match looked.status.as_ref().filter(complete) {
            Some(status) => {
                let now = steady(status.clone(), watched.status.as_ref(), out);
                let news = look(watched, Some(now), false, &looked.mailbox, tree);
                schedule(&looked.mailbox, watched, news.is_some(), out);
                if news.is_some() {
                    *latest = Some(looked.mailbox.clone());
                }
                news.into_iter().for_each(|line| out.answer(line));
            }
            None if looked.stirred => watched.due = None,
            None if looked.status.is_none() => schedule(&looked.mailbox, watched, false, out),
            None => {}
        }
        out.wake_at(out.now());
    }

    /// NOTIFY has ended, and what it has found holds from now on.
    fn settle(&mut self, out: &mut Out<'_>) {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(watch) = outcome else { return };
        let now = out.now();
        self.watch = watch;
        (self.asked, self.names) = (None, None);
        self.renamed.clear();
        if let Some(watch) = &mut self.watch {
            if out.is_followed() {
                let listed = self.listed.unwrap_or(now);
                out.found(listed, names_of(watch, watch.tree.clone(), &[]));
                let statuses =
                    watch.mailboxes.iter().filter_map(|(key, watched)| Some((key, watched.status.as_ref()?)));
                statuses.for_each(|(key, status)| found_status(listed, key, status, out));
            }
            self.names = watch.needs_names().then(|| later(out));
            watch.mailboxes.iter_mut().for_each(|(key, watched)| schedule(key, watched, false, out));
            out.wake_at(now);
        } else {
            self.ear.listen(None, out);
        }
    }

    fn ask(&mut self, step: Step, verb: &'static Verb, arguments: Vec<u8>, out: &mut Out<'_>) {
        let ask = out.ask(verb, arguments);
        self.asked = Some(Asked { ask, step, since: out.now(), lines: Vec::new(), octets: 0, overtaken: false });
    }

    /// A question of ours has ended; `None`: without an answer.
    fn answered(&mut self, status: Option<response::Status>, out: &mut Out<'_>) {
        let Some(Asked { step, since, lines, octets, overtaken, .. }) = self.asked.take() else { return };
        let Some(watch) = &mut self.watch else { return };
        // Behind whatever the client has to say.
        out.wake_at(out.now());
        if octets > MOST_OCTETS {
            return self.overflow(out);
        }
        let good = status == Some(response::Status::Ok);
        match step {
            Step::Status(key) => {
                if let Some(watched) = watch.mailboxes.get_mut(&key) {
                    watched.took = out.now().duration_since(since);
                    let now = lines.iter().filter_map(|line| Status::parse(line)).find(|(name, _)| *name == key);
                    let refused = status == Some(response::Status::No);
                    if refused && !watched.refused && !std::mem::replace(&mut watched.doubtful, true) {
                        (watched.due, self.names) = (None, Some(out.now()));
                        return;
                    }
                    watched.doubtful = false;
                    let now = now.filter(|_| good).map(|(_, now)| steady(now, watched.status.as_ref(), out));
                    let looked = look(watched, now, refused, &key, &watch.tree);
                    let stirred = looked.is_some();
                    if let Some(status) = watched.status.clone().filter(|_| good) {
                        found_status(since, &key, &status, out);
                        let (mailbox, status) = (key.clone(), Some(status));
                        out.publish(Notice::Looked(Looked { mailbox, stirred, status }));
                    }
                    looked.into_iter().for_each(|line| out.answer(line));
                    schedule(&key, watched, stirred, out);
                    watched.due = watched.due.filter(|_| !overtaken);
                    if stirred {
                        watch.latest = Some(key);
                    }
                }
                if watch.round() > out.plan().account.notify.round.0 {
                    self.overflow(out);
                }
            }
            Step::List | Step::Lsub(_) if !good => self.names = Some(later(out)),
            Step::List => {
                let listed = names(lines, out);
                match watch.needs_subscriptions() {
                    true => self.ask(Step::Lsub(listed), LSUB, b"\"\" \"*\"".to_vec(), out),
                    false => self.compare(Tree::new(listed, []), out),
                }
            }
            Step::Lsub(listed) => self.compare(Tree::new(listed, names(lines, out)), out),
            Step::Identity(key) => {
                let now = lines.iter().filter_map(|line| Status::parse(line)).find(|(name, _)| *name == key);
                watch.identify(key, now.map(|(_, now)| now).filter(|_| good));
            }
            Step::Renamed { renaming, tree, changes } => {
                let now = lines.iter().filter_map(|line| Status::parse(line)).find(|(name, _)| *name == renaming.to);
                let known = watch.mailboxes.get(&renaming.from).and_then(|watched| watched.status.clone());
                let same = now.is_some_and(|(_, now)| watch.was(&renaming.from, &steady(now, known.as_ref(), out)));
                self.tell(tree, &changes, Some(renaming).filter(|_| same).as_slice(), out);
            }
        }
    }

    /// The names of now, beside those that were known.
    fn compare(&mut self, tree: Tree, out: &mut Out<'_>) {
        let Some(watch) = &mut self.watch else { return };
        if tree.names.len() > MOST_NAMES {
            return self.overflow(out);
        }
        let changes = tree.changes(&watch.tree);
        // What a session has done it has told; what others do has to be found out.
        let told = |Renaming { from, to }: &Renaming| {
            changes.contains(&Change::Deleted(from.clone())) && changes.contains(&Change::Created(to.clone()))
        };
        let renamed: Vec<Renaming> = self.renamed.extract_if(.., |renaming| told(renaming)).collect();
        self.renamed.retain(|renaming| tree.names.contains_key(&renaming.from));
        if !renamed.is_empty() {
            return self.tell(tree, &changes, &renamed, out);
        }
        let renaming = tree.renaming(&changes);
        let renaming = renaming.filter(|renaming| watch.wants(Event::MailboxName) && watch.knows(&renaming.from));
        match renaming {
            Some(renaming) => {
                let arguments = status_of(&renaming.to, None, false);
                self.ask(Step::Renamed { renaming, tree, changes }, STATUS, arguments, out);
            }
            None => self.tell(tree, &changes, &[], out),
        }
    }

    fn tell(&mut self, tree: Tree, changes: &[Change], renamed: &[Renaming], out: &mut Out<'_>) {
        let Some(watch) = &mut self.watch else { return };
        if let Some(listed) = self.listed.filter(|_| out.is_followed()) {
            out.found(listed, names_of(watch, tree.clone(), renamed));
        }
        watch.tell(tree, changes, renamed).into_iter().for_each(|line| out.answer(line));
        self.names = Some(later(out));
        if watch.mailboxes.len() > out.plan().account.notify.mailboxes as usize {
            self.overflow(out);
        }
    }

    /// Section 5.8: as if the client had said NONE.
    fn overflow(&mut self, out: &mut Out<'_>) {
        self.watch = None;
        self.ear.listen(None, out);
        out.answer(*b"* OK [NOTIFICATIONOVERFLOW] more than can be watched; no notifications from here on");
        out.listen(Some(Listening::NOTHING));
    }
}

impl Asked {
    /// Whether it is how this mailbox stands.
    fn is_about(&self, mailbox: &[u8]) -> bool {
        matches!(&self.step, Step::Status(key) if **key == *mailbox)
    }
}

async fn notify(given: Given, server: Server, outcome: Outcome, modseq: bool) -> Result<Ending, Refusal> {
    let watch = match Notify::parse(&given.arguments).map_err(refused)? {
        Notify::None => {
            server.listen(Some(Listening::NOTHING));
            None
        }
        Notify::Set { status, groups } => {
            let listening = selected(&groups, modseq)?;
            let selected = given.mailbox.as_deref().map(list::canonical);
            let watch = watch(&server, groups, selected, status, modseq).await?;
            // As if it had never said NOTIFY: all that was held back comes, and what the backend has to say.
            server.listen(None);
            server.ask(NOOP, "").await?.ok()?;
            server.listen(Some(listening));
            Some(Box::new(watch))
        }
    };
    *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
    Ending::done("NOTIFY done")
}

/// What the client wants to hear of the selected mailbox. Nobody names it: nothing (section 3.1).
///
/// `modseq`: mod-sequences can be had, and may be among what is shown (section 5.2).
fn selected(groups: &[Group], modseq: bool) -> Result<Listening, Refusal> {
    let Some(group) = groups.iter().find(|group| group.which.is_selected()) else { return Ok(Listening::NOTHING) };
    let has = |event| group.events.contains(&event);
    let items = group.items.as_deref().map(|items| FetchItems::parse_with(items, modseq)).transpose();
    let items = items.map_err(|error| Refusal::bad(format!("MessageNew: {error}")))?;
    Ok(Listening {
        arrivals: has(Event::MessageNew),
        format: items.map(|items| items.bounded(LARGEST).into()),
        removals: has(Event::MessageExpunge),
        at_once: has(Event::MessageExpunge) && group.which == Which::Selected,
        flags: has(Event::FlagChange),
    })
}

/// Which other mailboxes these are, and how they stand. `status`: the client wants to know that too.
async fn watch(
    server: &Server,
    groups: Vec<Group>,
    selected: Option<Box<[u8]>>,
    status: bool,
    modseq: bool,
) -> Result<Watch, Refusal> {
    let mut watch = Watch::new(groups);
    if !watch.needs_names() {
        return Ok(watch);
    }
    if watch.needs_namespaces() && server.below().has("NAMESPACE") {
        let answers = server.ask(NAMESPACE, "").await?.ok()?;
        watch.foreign = answers.parts.iter().filter_map(|line| foreign(line)).flatten().collect();
    }
    let listed = server.list(b"*").await?;
    let mut subscribed = Vec::new();
    if watch.needs_subscriptions() {
        let answers = server.ask(LSUB, "\"\" \"*\"").await?.ok()?;
        subscribed.extend(answers.parts.iter().filter_map(|line| Listed::parse(line)));
    }
    watch.tree = Tree::new(listed, subscribed);
    watch.resolve();
    let most = server.plan().account.notify.mailboxes as usize;
    if watch.tree.names.len() > MOST_NAMES || watch.mailboxes.len() > most {
        return Err(Refusal::no("NOTIFICATIONOVERFLOW", "these mailboxes are more than can be watched"));
    }
    watch.select(selected.clone());
    for (key, watched) in watch.mailboxes.iter_mut().filter(|(key, _)| Some(*key) != selected.as_ref()) {
        let answers = server.ask(STATUS, status_of(key, Some(watched), modseq)).await?;
        let now = answers.parts.iter().filter_map(|line| Status::parse(line)).find(|(name, _)| name == key);
        let now = now.map(|(_, now)| now).filter(|_| answers.status == response::Status::Ok);
        if let Some(now) = now.as_ref().filter(|_| status) {
            server.answer(now.write(key));
        }
        let refused = answers.status == response::Status::No;
        look(watched, now, refused, key, &watch.tree).into_iter().for_each(|line| server.answer(line));
    }
    Ok(watch)
}

/// A mailbox was looked at. What the client is to be told of it.
fn look(watched: &mut Watched, now: Option<Status>, refused: bool, key: &[u8], tree: &Tree) -> Option<Vec<u8>> {
    let was_refused = std::mem::replace(&mut watched.refused, refused);
    let before = watched.status.take();
    if refused != was_refused {
        // Sections 3.1 and 5.9: it can be listed, and that is all.
        let mut listed = tree.listed(key, tree.delimiter());
        if refused {
            listed.add(b"\\NoAccess");
        }
        watched.status = now;
        let mut line = Vec::new();
        listed.write(&mut line);
        return Some(line);
    }
    let news = now.as_ref().zip(before.as_ref()).and_then(|(now, before)| now.news(before, watched.flags, key));
    watched.status = now.or(before.filter(|_| !refused));
    news
}

/// How a mailbox stands, without what means nothing before this backend.
fn steady(now: Status, before: Option<&Status>, out: &Out<'_>) -> Status {
    match before {
        Some(before) if out.moves_uidnext() => now.steady(before),
        _ => now,
    }
}

/// When to look again: INBOX as the backend's pace has it, others when the operator says.
fn schedule(key: &[u8], watched: &mut Watched, stirred: bool, out: &Out<'_>) {
    let pace = out.pace();
    let before = if stirred || watched.every.is_zero() { pace.shortest.0 } else { watched.every * 3 / 2 };
    watched.every = if key == b"INBOX" { before.min(pace.longest.0) } else { out.plan().account.notify.every.0 };
    watched.due = Some(out.now() + out.spread(watched.every));
}

/// When to compare names again.
fn later(out: &Out<'_>) -> Instant {
    out.now() + out.spread(out.plan().account.notify.names.0)
}

/// The client has stored messages itself. Where it is not said which, what was known is void.
fn stored(watched: &mut Watched, event: &event::Event) {
    if !watched.status.as_mut().is_some_and(|status| status.stored(event)) {
        (watched.status, watched.due) = (None, None);
    }
}

/// Names, as those who follow events are to hear what of them is news.
fn names_of(watch: &Watch, tree: Tree, renamed: &[Renaming]) -> Found {
    Found::Names { tree, subscriptions: watch.needs_subscriptions(), renamed: renamed.to_vec() }
}

/// The same of how a mailbox stands.
fn found_status(asked: Instant, key: &[u8], status: &Status, out: &mut Out<'_>) {
    if out.is_followed() && out.plan().account.events.tell_messages() {
        out.found(asked, Found::Status { mailbox: key.into(), status: status.clone() });
    }
}

/// The arguments of STATUS.
fn status_of(key: &[u8], watched: Option<&Watched>, modseq: bool) -> Vec<u8> {
    let mut arguments = Vec::new();
    token::write_astring(key, &mut arguments);
    arguments.push(b' ');
    let flags = watched.is_some_and(|watched| watched.flags);
    arguments.extend_from_slice(Status::items(flags, modseq).as_bytes());
    arguments
}

/// The names of these lines. What is none is for the client.
fn names(lines: Vec<Vec<u8>>, out: &mut Out<'_>) -> Vec<Listed> {
    let mut names = Vec::new();
    for line in lines {
        match Listed::parse(&line) {
            Some(listed) => names.push(listed),
            None => out.answer(line),
        }
    }
    names
}

/// With what the names of others' mailboxes begin: `* NAMESPACE (("" "/")) (("~" "/")) (("#shared/" "/"))`.
fn foreign(line: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let mut cursor = Cursor::new(line.strip_prefix(b"* NAMESPACE ")?);
    let mut prefixes = Vec::new();
    for own in [true, false, false] {
        let namespaces = if cursor.accept(b"NIL") { b"" } else { cursor.list_as_written().ok()? };
        let mut within = Cursor::new(namespaces);
        within.accept(b"(");
        while within.peek() == Some(b'(') {
            let mut namespace = Cursor::new(within.list_as_written().ok()?);
            namespace.open().ok()?;
            let prefix = namespace.string().ok()?.octets;
            if !own && !prefix.is_empty() {
                prefixes.push((*prefix).into());
            }
        }
        cursor.accept(b" ");
    }
    Some(prefixes)
}

fn refused(error: NotifyError) -> Refusal {
    match error {
        NotifyError::Bad(text) => Refusal::bad(text),
        NotifyError::Event => {
            let names = EVENTS.map(|(name, _)| name).join(" ");
            Refusal::no(format!("BADEVENT ({names})"), "there is no such event here")
        }
        NotifyError::TooMuch => Refusal::no("NOTIFICATIONOVERFLOW", "so many names are more than can be watched"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_of_others_are_found() {
        let table: [(&str, &[&str]); 4] = [
            ("((\"\" \"/\")) NIL NIL", &[]),
            (
                "((\"\" \"/\")) ((\"~\" \"/\")) ((\"#shared/\" \"/\")(\"#public/\" \"/\"))",
                &["~", "#shared/", "#public/"],
            ),
            ("NIL NIL ((\"\" \".\"))", &[]),
            ("((\"INBOX.\" \".\")) ((\"user.\" \".\")) NIL", &["user."]),
        ];
        for (line, expected) in table {
            let found = foreign(format!("* NAMESPACE {line}").as_bytes()).unwrap();
            let expected: Vec<Box<[u8]>> = expected.iter().map(|prefix| prefix.as_bytes().into()).collect();
            assert_eq!(found, expected, "{line}");
        }
        assert_eq!(foreign(b"* NAMESPACE (("), None);
    }
}
