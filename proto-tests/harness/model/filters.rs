//! Searches that are kept under a name. RFC 5466 (FILTERS).
//!
//!     C: a SETMETADATA "" (/private/filters/values/boss "FROM \"boss@example.com\"")
//!     C: b SEARCH FILTER boss SINCE 3-Dec-2002
//!
//! A filter may name others; one that names itself at last counts as one that does not exist (section 3.1).

use super::{
    Connection,
    connection::End,
    search::{Key, keys},
    store::Store,
    syntax::{Cursor, Malformed},
};

impl Connection {
    /// The key with the contents of filters in place of their names.
    pub(super) fn with_filters(&self, key: Key) -> Result<Key, End> {
        let store = self.backend.store();
        if !key.is_known(&store.settings) {
            return Err(Malformed.into());
        }
        put_in(key, &store, &[])
    }
}

impl Key {
    /// Whether there is a filter in it.
    pub(super) fn has_filter(&self) -> bool {
        match self {
            Self::Filter(_) => true,
            Self::All(keys) => keys.iter().any(Self::has_filter),
            Self::Not(key) => key.has_filter(),
            Self::Or(one, other) => one.has_filter() || other.has_filter(),
            _ => false,
        }
    }
}

/// `inside`: the filters whose content this is.
fn put_in(key: Key, store: &Store, inside: &[String]) -> Result<Key, End> {
    Ok(match key {
        Key::All(keys) => Key::All(keys.into_iter().map(|key| put_in(key, store, inside)).collect::<Result<_, _>>()?),
        Key::Not(key) => Key::Not(Box::new(put_in(*key, store, inside)?)),
        Key::Or(one, other) => {
            Key::Or(Box::new(put_in(*one, store, inside)?), Box::new(put_in(*other, store, inside)?))
        }
        Key::Filter(name) => {
            let undefined = || End::No(format!("[UNDEFINED-FILTER {name}] no such filter"));
            let lower = name.to_lowercase();
            let content = content(store, &lower).filter(|_| !inside.contains(&lower)).ok_or_else(undefined)?;
            let mut cursor = Cursor(&content);
            let keys = keys(&mut cursor).and_then(|keys| cursor.done().map(|()| keys)).map_err(|_| undefined())?;
            put_in(Key::All(keys), store, &[inside, &[lower]].concat())?
        }
        other => other,
    })
}

/// The user's own filter of this name, else the shared one.
fn content(store: &Store, name: &str) -> Option<Vec<u8>> {
    let value = |root| store.annotations.get(&format!("/{root}/filters/values/{name}"));
    value("private").or_else(|| value("shared")).cloned()
}
