//! LIST, LSUB and SUBSCRIBE. RFC 3501 6.3.6 to 6.3.9; RFC 5258 (LIST-EXTENDED), 3348 (CHILDREN), 5819 (LIST-STATUS) and
//! 6154 (SPECIAL-USE).
//!
//!     C: a LIST (SUBSCRIBED RECURSIVEMATCH) "" "%" RETURN (CHILDREN)
//!     S: * LIST (\HasChildren) "/" Foo ("CHILDINFO" ("SUBSCRIBED"))
//!
//! A mailbox on which the user has no `l` (RFC 4314) is not there.

use std::collections::BTreeSet;

use super::{
    Connection, Settings,
    changes::say,
    connection::End,
    mailboxes::ITEMS,
    store::{Store, canonical},
    syntax::{Cursor, Malformed},
};

/// What a LIST asks for.
#[derive(Debug, Default)]
struct Asked {
    /// In one of the three ways of RFC 5258 section 1.
    extended: bool,
    patterns: Vec<String>,
    /// Selection options.
    subscribed: bool,
    special_use: bool,
    recursive_match: bool,
    /// Return options.
    return_subscribed: bool,
    return_children: bool,
    return_special_use: bool,
    status: Option<Vec<String>>,
}

/// A name that might be listed.
struct Candidate<'a> {
    name: &'a str,
    exists: bool,
    /// It satisfies the selection options.
    selected: bool,
    /// Something below it does, and CHILDINFO may say so.
    child_info: bool,
}

impl Connection {
    pub(super) fn list(&self, cursor: Cursor<'_>, out: &mut Vec<u8>) -> Result<End, End> {
        self.authenticated()?;
        let store = self.backend.store();
        let asked = Asked::read(cursor, &store.settings)?;
        if !asked.extended && asked.patterns[0].is_empty() {
            // The separator and the root of the reference are asked for.
            say(out, &format!("* LIST (\\Noselect) \"{}\" \"\"", store.settings.separator));
            return Ok(End::Ok("LIST completed".to_owned()));
        }
        let names = asked.names(&store);
        for name in names.iter().filter(|name| asked.matches(name, &store)) {
            if let Some(candidate) = asked.consider(name, &names, &store) {
                asked.say(&candidate, &store, out);
            }
        }
        Ok(End::Ok("LIST completed".to_owned()))
    }

    pub(super) fn lsub(&self, mut cursor: Cursor<'_>, out: &mut Vec<u8>) -> Result<End, End> {
        self.authenticated()?;
        let reference = cursor.text()?;
        cursor.space()?;
        let pattern = format!("{reference}{}", cursor.text()?);
        cursor.done()?;
        let store = self.backend.store();
        let separator = store.settings.separator;
        let mut names = store.subscriptions.clone();
        if pattern.contains('%') {
            names.extend(parents(&store.subscriptions, separator));
        }
        for name in names.iter().filter(|name| matches(&pattern, name, separator)) {
            // RFC 3501 6.3.9: a parent that is not subscribed itself.
            let attributes = if store.subscriptions.contains(name) { "" } else { "\\Noselect" };
            say(out, &format!("* LSUB ({attributes}) \"{separator}\" {}", store.settings.name(name)));
        }
        Ok(End::Ok("LSUB completed".to_owned()))
    }

    pub(super) fn subscribe(&self, mut cursor: Cursor<'_>, wanted: bool) -> Result<End, End> {
        self.authenticated()?;
        let name = canonical(&cursor.text()?);
        cursor.done()?;
        let mut store = self.backend.store();
        if wanted {
            store.subscriptions.insert(name);
            return Ok(End::Ok("SUBSCRIBE completed".to_owned()));
        }
        if store.subscriptions.remove(&name) {
            Ok(End::Ok("UNSUBSCRIBE completed".to_owned()))
        } else {
            Err(End::No("Not subscribed".to_owned()))
        }
    }
}

impl Asked {
    fn read(mut cursor: Cursor<'_>, settings: &Settings) -> Result<Self, Malformed> {
        let mut asked = Self::default();
        if cursor.peek() == Some(b'(') {
            asked.extended = true;
            asked.select(&cursor.words()?, settings)?;
            cursor.space()?;
        }
        let reference = cursor.text()?;
        cursor.space()?;
        if cursor.peek() == Some(b'(') {
            asked.extended = true;
            asked.patterns = cursor.words()?;
        } else {
            asked.patterns = vec![cursor.text()?];
        }
        if cursor.eat(b" RETURN (") {
            asked.extended = true;
            asked.returns(&mut cursor, settings)?;
        }
        cursor.done()?;
        if asked.patterns.is_empty() || (asked.extended && !settings.has("LIST-EXTENDED")) {
            return Err(Malformed);
        }
        // RFC 5258 section 3: in an extended LIST the empty pattern means nothing.
        asked.patterns.retain(|pattern| !asked.extended || !pattern.is_empty());
        asked.patterns.iter_mut().filter(|pattern| !pattern.is_empty()).for_each(|it| it.insert_str(0, &reference));
        Ok(asked)
    }

    /// RFC 5258 3.1. There are no remote mailboxes, so REMOTE adds none.
    fn select(&mut self, options: &[String], settings: &Settings) -> Result<(), Malformed> {
        for option in options {
            match option.to_uppercase().as_str() {
                "SUBSCRIBED" => self.subscribed = true,
                "REMOTE" => {}
                "RECURSIVEMATCH" => self.recursive_match = true,
                "SPECIAL-USE" if settings.has("SPECIAL-USE") => self.special_use = true,
                _ => return Err(Malformed),
            }
        }
        // Each implies the return option of its name.
        self.return_subscribed = self.subscribed;
        self.return_special_use = self.special_use;
        if self.recursive_match && !self.subscribed && !self.special_use { Err(Malformed) } else { Ok(()) }
    }

    /// RFC 5258 3.2, behind `RETURN (`.
    fn returns(&mut self, cursor: &mut Cursor<'_>, settings: &Settings) -> Result<(), Malformed> {
        while !cursor.eat(b")") {
            match cursor.word()?.to_uppercase().as_str() {
                "SUBSCRIBED" => self.return_subscribed = true,
                "CHILDREN" => self.return_children = true,
                "SPECIAL-USE" if settings.has("SPECIAL-USE") => self.return_special_use = true,
                "STATUS" if settings.has("LIST-STATUS") => {
                    self.status = Some(status_items(cursor, settings.has("STATUS=SIZE"))?)
                }
                _ => return Err(Malformed),
            }
            if cursor.peek() != Some(b')') {
                cursor.space()?;
            }
        }
        Ok(())
    }

    /// All names that might be listed: mailboxes, subscriptions if they count, and what only has children.
    fn names(&self, store: &Store) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = store.listed().map(str::to_owned).collect();
        if self.subscribed {
            names.extend(store.subscriptions.iter().cloned());
        }
        let parents = parents(&names, store.settings.separator);
        names.extend(parents);
        names
    }

    fn matches(&self, name: &str, store: &Store) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern, name, store.settings.separator))
    }

    fn selects(&self, name: &str, store: &Store) -> bool {
        let base = if self.subscribed { store.subscriptions.contains(name) } else { store.lists(name) };
        let used = || store.mailboxes.get(name).is_some_and(|mailbox| !mailbox.uses().is_empty());
        base && (!self.special_use || used())
    }

    /// RFC 5258 3.3 and 3.5: whether a name that matches is listed.
    fn consider<'a>(&self, name: &'a str, names: &BTreeSet<String>, store: &Store) -> Option<Candidate<'a>> {
        let prefix = format!("{name}{}", store.settings.separator);
        let below = || names.iter().filter(|other| other.starts_with(&prefix) && self.selects(other, store));
        let exists = store.lists(name);
        let selected = self.selects(name, store);
        let child_info = self.recursive_match && below().next().is_some();
        let untold = below().any(|child| !self.matches(child, store));
        let listed = match (self.extended, self.recursive_match) {
            _ if selected => true,
            (true, true) => untold,
            // A parent that does not exist stands for its children, where they are not listed themselves.
            (true, false) => untold && !exists && !self.subscribed && !self.special_use,
            (false, _) => !exists && self.patterns[0].contains('%'),
        };
        listed.then_some(Candidate { name, exists, selected, child_info })
    }

    fn say(&self, candidate: &Candidate<'_>, store: &Store, out: &mut Vec<u8>) {
        let status = self.status.as_ref().filter(|_| candidate.selected).and_then(|items| {
            let mailbox = store.mailboxes.get(candidate.name).filter(|mailbox| !mailbox.noselect)?;
            store.allows(candidate.name, 'r').then(|| mailbox.status(items))
        });
        let attributes = self.attributes(candidate, status.is_some(), store).join(" ");
        let name = store.settings.name(candidate.name);
        let child_info = if candidate.child_info { self.child_info() } else { String::new() };
        say(out, &format!("* LIST ({attributes}) \"{}\" {name}{child_info}", store.settings.separator));
        if let Some(status) = status {
            say(out, &format!("* STATUS {name} ({status})"));
        }
    }

    fn attributes(&self, candidate: &Candidate<'_>, has_status: bool, store: &Store) -> Vec<String> {
        let name = candidate.name;
        let mut attributes = Vec::new();
        // RFC 5819 section 2: what has no STATUS cannot be selected.
        let noselect = |mailbox: &super::Mailbox| mailbox.noselect || (self.wants_status(candidate) && !has_status);
        match store.mailboxes.get(name) {
            _ if !candidate.exists && self.extended => attributes.push("\\NonExistent"),
            _ if !candidate.exists => attributes.push("\\Noselect"),
            Some(mailbox) if noselect(mailbox) => attributes.push("\\Noselect"),
            _ => {}
        }
        if self.return_subscribed && store.subscriptions.contains(name) {
            attributes.push("\\Subscribed");
        }
        let stands_for_children = !candidate.exists && !candidate.selected && !self.recursive_match;
        if self.return_children || (self.extended && stands_for_children) || self.plain(store, "CHILDREN") {
            attributes.push(if store.has_listed_children(name) { "\\HasChildren" } else { "\\HasNoChildren" });
        }
        let mut attributes: Vec<String> = attributes.into_iter().map(str::to_owned).collect();
        if self.return_special_use || self.plain(store, "SPECIAL-USE") {
            attributes.extend(store.mailboxes.get(name).map(super::Mailbox::uses).unwrap_or_default());
        }
        attributes
    }

    fn wants_status(&self, candidate: &Candidate<'_>) -> bool {
        self.status.is_some() && candidate.selected
    }

    /// Whether a LIST that asks for nothing brings what this capability brings.
    fn plain(&self, store: &Store, capability: &str) -> bool {
        !self.extended && store.settings.has(capability)
    }

    /// RFC 5258 3.5, with the selection options that something below the mailbox satisfies.
    fn child_info(&self) -> String {
        let criteria = [(self.subscribed, "\"SUBSCRIBED\""), (self.special_use, "\"SPECIAL-USE\"")];
        let criteria: Vec<&str> = criteria.iter().filter(|(asked, _)| *asked).map(|(_, name)| *name).collect();
        format!(" (\"CHILDINFO\" ({}))", criteria.join(" "))
    }
}

impl Store {
    /// The mailboxes that the user may see.
    fn listed(&self) -> impl Iterator<Item = &str> {
        self.mailboxes.keys().map(String::as_str).filter(|name| self.allows(name, 'l'))
    }

    fn lists(&self, name: &str) -> bool {
        self.mailboxes.contains_key(name) && self.allows(name, 'l')
    }

    fn has_listed_children(&self, name: &str) -> bool {
        let prefix = format!("{name}{}", self.settings.separator);
        self.listed().any(|other| other.starts_with(&prefix))
    }
}

/// ` (MESSAGES UNSEEN)` behind STATUS.
fn status_items(cursor: &mut Cursor<'_>, sizes: bool) -> Result<Vec<String>, Malformed> {
    cursor.space()?;
    let items: Vec<String> = cursor.words()?.iter().map(|item| item.to_uppercase()).collect();
    let known =
        !items.is_empty() && items.iter().all(|item| ITEMS.contains(&item.as_str()) && (sizes || item != "SIZE"));
    known.then_some(items).ok_or(Malformed)
}

/// Everything above these names.
fn parents(names: &BTreeSet<String>, separator: char) -> BTreeSet<String> {
    let above = |name: &str| name.rmatch_indices(separator).map(|(at, _)| name[..at].to_owned()).collect::<Vec<_>>();
    names.iter().flat_map(|name| above(name)).filter(|parent| !parent.is_empty()).collect()
}

/// Whether a pattern means this name; INBOX has no case.
fn matches(pattern: &str, name: &str, separator: char) -> bool {
    let pattern: Vec<char> =
        if name == "INBOX" { pattern.to_uppercase() } else { pattern.to_owned() }.chars().collect();
    fits(&pattern, &name.chars().collect::<Vec<_>>(), separator)
}

/// `*` matches anything, `%` anything but the separator.
fn fits(pattern: &[char], name: &[char], separator: char) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((wild @ ('*' | '%'), rest)) => {
            fits(rest, name, separator)
                || name.split_first().is_some_and(|(first, behind)| {
                    (*wild == '*' || *first != separator) && fits(pattern, behind, separator)
                })
        }
        Some((literal, rest)) => {
            name.split_first().is_some_and(|(first, behind)| first == literal && fits(rest, behind, separator))
        }
    }
}
