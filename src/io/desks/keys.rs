//! How an account can be logged in to while its devices are away, and whose secret that is.
//!
//!     linger    what a session has logged in with, while the session is there
//!     sealed    the same; and of a user who wants it, kept in the store under a key that is not there
//!     master    a login for all users; where the backend does not take it for this one, as linger
//!
//! A secret that was refused is not said again, and not kept. Requirement N16, architecture section 12.

use std::sync::Arc;

use crate::{
    io::{metrics::WatchMode, registry::SessionId, seal::Seal, senders::Mode},
    session::key::Key,
    store::{AccountName, Memo},
};

/// Whose secret opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opener {
    /// A session's.
    Session,
    /// The one that is kept.
    Sealed,
    /// The operator's.
    Master,
}

/// The keys of an account.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// What sessions have logged in with, the newest last. Those of a backend's user are bounded where they are admitted.
    sessions: Vec<(SessionId, Arc<Key>)>,
    /// A device wants the secret kept; and that, if it is.
    is_wanted: bool,
    sealed: Option<Arc<Key>>,
    /// The backend does not take the login for all users.
    shut: bool,
    /// What is to be stored of that, and said of it.
    turns: Vec<(Memo, &'static str)>,
}

/// Under which name a secret is kept.
const SEALED: &str = "sealed";

impl Keys {
    /// A session can be logged in to so once more.
    pub(super) fn came(&mut self, session: SessionId, key: Arc<Key>, account: &AccountName, seal: Option<&Seal>) {
        self.went(session);
        self.sessions.push((session, key));
        self.keep(account, seal);
    }

    /// It is over.
    pub(super) fn went(&mut self, session: SessionId) {
        self.sessions.retain(|(known, _)| *known != session);
    }

    /// All are, as far as anybody knows.
    pub(super) fn all_went(&mut self) {
        self.sessions.clear();
    }

    /// Whether a device wants the secret kept. What is kept goes where none does.
    pub(super) fn want(&mut self, is_wanted: bool, account: &AccountName, seal: Option<&Seal>) {
        self.is_wanted = is_wanted;
        match is_wanted && seal.is_some() {
            true => self.keep(account, seal),
            false => self.forget("no secret is to be kept any more"),
        }
    }

    /// What an earlier process has kept.
    pub(super) fn restore(&mut self, memos: &[Memo], account: &AccountName, seal: Option<&Seal>) {
        let kept = memos.iter().find(|memo| *memo.name == *SEALED).and_then(|memo| memo.state.as_deref());
        let Some(kept) = kept else { return };
        let secret = seal.and_then(|seal| seal.open(account, kept));
        match secret.and_then(|secret| Key::read(&secret)) {
            Some(key) => self.sealed = Some(Arc::new(key)),
            None => self.turn(None, "the sealed secret cannot be opened: it is not kept any more"),
        }
    }

    /// Keeps what a session has logged in with, where that is wanted and is not what is kept.
    fn keep(&mut self, account: &AccountName, seal: Option<&Seal>) {
        let Some(seal) = seal.filter(|_| self.is_wanted) else { return };
        let Some(key) = self.newest() else { return };
        let Some(secret) = key.write().filter(|_| self.sealed.as_ref().is_none_or(|sealed| !sealed.is(&key))) else {
            return;
        };
        if let Some(sealed) = seal.seal(account, &secret) {
            self.sealed = Some(key);
            self.turn(Some(sealed.into()), "the secret is kept, sealed");
        }
    }

    /// The backend has refused this one: it is not said again, whoever has it.
    pub(super) fn refused(&mut self, key: &Key, opener: Opener) {
        self.shut |= opener == Opener::Master;
        self.sessions.retain(|(_, known)| !known.is(key));
        if self.sealed.as_ref().is_some_and(|sealed| sealed.is(key)) {
            self.forget("the backend refuses the secret: it is not kept any more");
        }
    }

    fn newest(&self) -> Option<Arc<Key>> {
        self.sessions.last().map(|(_, key)| Arc::clone(key))
    }

    fn forget(&mut self, why: &'static str) {
        if self.sealed.take().is_some() {
            self.turn(None, why);
        }
    }

    fn turn(&mut self, state: Option<Box<str>>, what: &'static str) {
        self.turns.push((Memo { name: SEALED.into(), state }, what));
    }

    /// What is to be stored since the last time, and what is to be said of it.
    pub(super) fn take_turns(&mut self) -> Vec<(Memo, &'static str)> {
        std::mem::take(&mut self.turns)
    }

    /// How to log in, if that is possible now; and whose secret it is.
    pub(super) fn best(&self, mode: Mode, master: impl FnOnce() -> Option<Key>) -> Option<(Arc<Key>, Opener)> {
        let of_session = || Some((self.newest()?, Opener::Session));
        match mode {
            Mode::Off => None,
            Mode::Linger => of_session(),
            Mode::Sealed => of_session().or_else(|| Some((Arc::clone(self.sealed.as_ref()?), Opener::Sealed))),
            Mode::Master if self.shut => of_session(),
            Mode::Master => Some((Arc::new(master()?), Opener::Master)),
        }
    }

    /// Who looks after this account.
    pub(super) fn mode(&self, mode: Mode) -> WatchMode {
        match mode {
            Mode::Master if !self.shut => WatchMode::Master,
            Mode::Sealed if self.sealed.is_some() => WatchMode::Sealed,
            Mode::Linger | Mode::Sealed | Mode::Master | Mode::Off => WatchMode::Linger,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{imap::Secret, io::seal::tests::seal, session::key::tests::key};

    fn account() -> AccountName {
        AccountName { backend: "main".into(), user: "joe".into() }
    }

    fn session(number: u8) -> SessionId {
        SessionId::parse(&format!("aaaaaaaaaaaaaaa{number}")).unwrap()
    }

    /// Joe's, with another password.
    fn other() -> Arc<Key> {
        Arc::new(Key::read(&Secret::new(b"main\0joe\0joe\0\0other".to_vec())).unwrap())
    }

    fn opener(keys: &Keys, mode: Mode) -> Option<Opener> {
        keys.best(mode, || Key::read(&key().write()?)).map(|(_, opener)| opener)
    }

    /// What was stored, and what was said.
    fn turns(keys: &mut Keys) -> (Vec<Memo>, Vec<&'static str>) {
        keys.take_turns().into_iter().unzip()
    }

    #[test]
    fn a_secret_is_kept_from_a_session_that_wants_it_until_it_is_refused() {
        let (account, seal) = (account(), seal());
        let mut keys = Keys::default();
        keys.came(session(1), key(), &account, Some(&seal));
        assert_eq!(turns(&mut keys).0.len(), 0, "nobody has asked for it");
        keys.want(true, &account, Some(&seal));
        let (memos, said) = turns(&mut keys);
        assert_eq!(said, ["the secret is kept, sealed"]);
        keys.came(session(2), key(), &account, Some(&seal));
        assert_eq!(turns(&mut keys).0.len(), 0, "it is kept already");
        assert_eq!(opener(&keys, Mode::Sealed), Some(Opener::Session));

        let mut later = Keys::default();
        later.restore(&memos, &account, Some(&seal));
        assert_eq!(opener(&later, Mode::Sealed), Some(Opener::Sealed));
        assert_eq!(later.mode(Mode::Sealed), WatchMode::Sealed);
        assert_eq!(opener(&later, Mode::Linger), None, "the operator has changed his mind");
        later.refused(&key(), Opener::Sealed);
        assert_eq!(opener(&later, Mode::Sealed), None);
        assert_eq!(later.mode(Mode::Sealed), WatchMode::Linger);
        let (memos, said) = turns(&mut later);
        assert_eq!(said, ["the backend refuses the secret: it is not kept any more"]);
        assert_eq!(memos, [Memo { name: SEALED.into(), state: None }]);
    }

    #[test]
    fn what_nobody_wants_kept_or_can_open_goes() {
        let (account, seal) = (account(), seal());
        let mut keys = Keys::default();
        keys.want(true, &account, Some(&seal));
        keys.came(session(1), key(), &account, Some(&seal));
        let (memos, _) = turns(&mut keys);
        keys.want(false, &account, Some(&seal));
        assert_eq!(turns(&mut keys).1, ["no secret is to be kept any more"]);
        keys.want(false, &account, Some(&seal));
        assert_eq!(turns(&mut keys).1, [""; 0]);
        let mut other = Keys::default();
        other.restore(&memos, &AccountName { user: "ann".into(), ..account }, Some(&seal));
        assert_eq!(turns(&mut other).1, ["the sealed secret cannot be opened: it is not kept any more"]);
    }

    #[test]
    fn a_refused_secret_is_not_said_again() {
        let mut keys = Keys::default();
        keys.came(session(1), key(), &account(), None);
        assert_eq!(opener(&keys, Mode::Linger), Some(Opener::Session));
        keys.came(session(2), other(), &account(), None);
        keys.came(session(3), key(), &account(), None);
        keys.refused(&key(), Opener::Session);
        assert!(keys.best(Mode::Linger, || None).unwrap().0.is(&other()), "another password may be the new one");
        keys.refused(&other(), Opener::Session);
        assert_eq!(opener(&keys, Mode::Linger), None);
        assert_eq!(opener(&keys, Mode::Master), Some(Opener::Master));
        keys.refused(&key(), Opener::Master);
        assert_eq!(opener(&keys, Mode::Master), None);
        keys.came(
            session(4),
            Arc::new(Key::read(&Secret::new(b"main\0joe\0joe\0\0third".to_vec())).unwrap()),
            &account(),
            None,
        );
        assert_eq!(opener(&keys, Mode::Master), Some(Opener::Session), "who signs in can help");
        assert_eq!(keys.mode(Mode::Master), WatchMode::Linger, "and is not kept for ever");
        assert_eq!(opener(&keys, Mode::Off), None);
    }
}
