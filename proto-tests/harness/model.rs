//! The model backend: a small IMAP4rev1 store (RFC 3501) that does what a real server may do.
//!
//! A [`Backend`] is one store; every [`Connection`] onto it is a state machine without a socket:
//!
//!     backend.connect().feed(b"a LOGIN joe secret\r\n")   ->   "a OK LOGIN completed\r\n"
//!
//! Its [`Settings`] say what it advertises and how it behaves where the specification leaves a choice, and, as
//! [`Mischief`], what real servers do although they should not. What it has executed stands in [`Backend::executed`]:
//! a test of smuggling asks there, not the answers.

mod annotations;
mod changes;
mod condstore;
mod connection;
mod fetch;
mod filters;
mod listing;
mod login;
mod mailboxes;
mod messages;
mod mime;
mod results;
mod rights;
mod search;
mod settings;
mod special_use;
mod store;
mod syntax;

use std::sync::{Arc, Mutex, MutexGuard};

pub use self::{
    annotations::Annotations,
    connection::Connection,
    settings::{Mischief, Settings},
    store::{Flag, Mailbox, Message, SOME_DATE, Store, Uid},
};

/// One store, shared by all who hold it.
#[derive(Clone, Debug)]
pub struct Backend(Arc<Mutex<Store>>);

impl Backend {
    /// An empty store, with an INBOX.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Mutex::new(Store::new(settings))))
    }

    /// A new connection, which has not said its greeting yet.
    pub fn connect(&self) -> Connection {
        let number = {
            let mut store = self.store();
            store.connections += 1;
            store.connections
        };
        Connection::new(self.clone(), number)
    }

    /// The store itself: what "another client" would change, and what a test looks at.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().expect("no test panics while it holds the store")
    }

    /// Every command executed so far, as it came, literals included and without the last line end.
    pub fn executed(&self) -> Vec<Vec<u8>> {
        self.store().executed.clone()
    }
}
