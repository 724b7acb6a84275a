//! LIST and LSUB. RFC 3501 6.3.8 and 6.3.9.

use std::collections::BTreeMap;

use super::{Connection, changes::say, connection::End, store::Store, syntax::Cursor};

impl Connection {
    pub(super) fn list(&self, mut cursor: Cursor<'_>, subscribed: bool, out: &mut Vec<u8>) -> Result<End, End> {
        self.authenticated()?;
        let reference = cursor.text()?;
        cursor.space()?;
        let pattern = cursor.text()?;
        cursor.done()?;
        let store = self.backend.store();
        let verb = if subscribed { "LSUB" } else { "LIST" };
        let separator = store.settings.separator;
        if pattern.is_empty() && !subscribed {
            // The separator and the root of the reference are asked for.
            say(out, &format!("* LIST (\\Noselect) \"{separator}\" \"\""));
            return Ok(End::Ok(format!("{verb} completed")));
        }
        let pattern: Vec<char> = format!("{reference}{pattern}").chars().collect();
        for (name, attributes) in names(&store, subscribed, pattern.contains(&'%')) {
            if matches(&pattern, &name.chars().collect::<Vec<_>>(), separator) {
                say(out, &format!("* {verb} ({attributes}) \"{separator}\" {}", store.settings.name(&name)));
            }
        }
        Ok(End::Ok(format!("{verb} completed")))
    }

    pub(super) fn subscribe(&self, mut cursor: Cursor<'_>, wanted: bool) -> Result<End, End> {
        self.authenticated()?;
        let name = cursor.text()?;
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

/// All names with their attributes; with `%` also those that only have children.
fn names(store: &Store, subscribed: bool, parents: bool) -> BTreeMap<String, &'static str> {
    let separator = store.settings.separator;
    let mut names = BTreeMap::new();
    if subscribed {
        names.extend(store.subscriptions.iter().map(|name| (name.clone(), "")));
    } else {
        let attributes = |noselect| if noselect { "\\Noselect" } else { "" };
        names.extend(store.mailboxes.iter().map(|(name, mailbox)| (name.clone(), attributes(mailbox.noselect))));
    }
    if parents {
        let children: Vec<String> = names.keys().cloned().collect();
        for child in children {
            let mut name = child.as_str();
            while let Some((parent, _)) = name.rsplit_once(separator) {
                if !parent.is_empty() {
                    names.entry(parent.to_owned()).or_insert("\\Noselect");
                }
                name = parent;
            }
        }
    }
    names
}

/// `*` matches anything, `%` anything but the separator.
fn matches(pattern: &[char], name: &[char], separator: char) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((wild @ ('*' | '%'), rest)) => {
            matches(rest, name, separator)
                || name.split_first().is_some_and(|(first, behind)| {
                    (*wild == '*' || *first != separator) && matches(pattern, behind, separator)
                })
        }
        Some((literal, rest)) => {
            name.split_first().is_some_and(|(first, behind)| first == literal && matches(rest, behind, separator))
        }
    }
}
