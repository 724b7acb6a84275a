//! What it takes to log in at a backend once more in a client's name: with what it has logged in, and where that led.
//!
//! Made of a password or a token that we have read; where the secret was never ours (relayed SCRAM, CRAM-MD5) there is none. It
//! stays in memory while the session lasts, and prints nothing (architecture section 12, "secrets in memory"). It is written only where
//! operator and user want it sealed.

use std::{sync::Arc, time::Instant};

use super::{
    effect::Dialled,
    gate::Tag,
    join::{Credentials, Join},
    login::Attempt,
};
use crate::imap::{Secret, id::Fields};

/// The way in, once more.
#[derive(Debug)]
pub struct Key {
    attempt: Attempt,
    /// What the client said of itself before.
    id: Fields,
    /// Where it has arrived, and under which name: nowhere else is its mail.
    backend: Arc<str>,
    user: Arc<str>,
}

impl Key {
    /// A client that has logged in so.
    pub(super) fn new(attempt: &Attempt, dialled: &Dialled, id: Fields) -> Self {
        let attempt = Attempt { tag: Tag::default(), device: None, again: true, ..attempt.clone() };
        Self { attempt, id, backend: dialled.backend.clone(), user: dialled.user.clone() }
    }

    /// The way into a user's mail for one who may act for all users (RFC 4616, authzid).
    pub fn master(backend: Arc<str>, user: &str, master: Arc<str>, password: Secret) -> Self {
        let credentials = Credentials::Password { authzid: user.to_owned(), password };
        let attempt = Attempt { tag: Tag::default(), user: Some(user.into()), credentials, device: None, again: true };
        Self { attempt, id: Fields::default(), backend, user: master }
    }

    /// Whether it says the same as another one.
    pub fn is(&self, other: &Self) -> bool {
        let same = |(own, theirs): (Secret, Secret)| own.expose() == theirs.expose();
        std::ptr::eq(self, other) || self.write().zip(other.write()).is_some_and(same)
    }

    /// The key as octets, to be sealed: they are the secret itself. None where it is a token, which lives too short to be kept, and where somebody acts
    /// for the user: that secret is not the user's.
    pub fn write(&self) -> Option<Secret> {
        let Credentials::Password { authzid, password } = &self.attempt.credentials else { return None };
        if !authzid.is_empty() && Some(authzid.as_str()) != self.attempt.user.as_deref() {
            return None;
        }
        let names = [&*self.backend, &*self.user, self.attempt.user.as_deref()?, authzid];
        let parts: Vec<_> = names.into_iter().map(str::as_bytes).chain([password.expose()]).collect();
        // No name has NUL in it (RFC 4616 section 2).
        Some(Secret::new(parts.join(&0)))
    }

    /// What was written so.
    pub fn read(written: &Secret) -> Option<Self> {
        let mut parts = written.expose().splitn(5, |octet| *octet == 0);
        let mut name = || std::str::from_utf8(parts.next()?).ok();
        let (backend, user, said, authzid) = (name()?, name()?, name()?, name()?.to_owned());
        let password = Secret::new(parts.next()?.to_vec());
        let credentials = Credentials::Password { authzid, password };
        let attempt = Attempt { tag: Tag::default(), user: Some(said.into()), credentials, device: None, again: true };
        Some(Self { attempt, id: Fields::default(), backend: backend.into(), user: user.into() })
    }

    /// Who, as the client said it: what backends are found by.
    pub fn user(&self) -> Option<Arc<str>> {
        self.attempt.user.clone()
    }

    /// Under which name it logs in at the backend.
    pub fn name(&self) -> &Arc<str> {
        &self.user
    }

    /// Whether this is where it leads.
    pub(super) fn fits(&self, dialled: &Dialled) -> bool {
        self.backend == dialled.backend && self.user == dialled.user
    }

    /// The login itself. `prefix` begins its tags.
    pub(super) fn join(&self, dialled: Dialled, prefix: &Tag, now: Instant) -> Join {
        Join::new(self.attempt.clone(), dialled, self.id.clone(), prefix, now)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::session::idle::Pace;

    /// A connection to the backend `main`.
    pub(in crate::session) fn dialled() -> Dialled {
        let (backend, user) = ("main".into(), "joe".into());
        let (profile, look, pace) = (None, None, Pace::default());
        Dialled { backend, user, starttls: false, origin: None, profile, look, pace, auxiliary: true }
    }

    /// Joe's.
    pub(crate) fn key() -> Arc<Key> {
        let credentials = Credentials::Password { authzid: String::new(), password: Secret::new(b"secret".to_vec()) };
        let user = Some("joe".into());
        let attempt = Attempt { tag: Tag::default(), user, credentials, device: None, again: false };
        Arc::new(Key::new(&attempt, &dialled(), Fields::default()))
    }

    #[test]
    fn what_is_written_opens_the_same_account() {
        let read = Key::read(&key().write().unwrap()).unwrap();
        assert!(read.fits(&dialled()));
        assert_eq!(read.write().unwrap().expose(), b"main\0joe\0joe\0\0secret");
        for wrong in [&b""[..], b"main\0joe\0joe\0", b"main\0\xff\0joe\0\0secret"] {
            assert!(Key::read(&Secret::new(wrong.to_vec())).is_none(), "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn what_is_not_the_users_is_not_written() {
        let credentials = Credentials::Password { authzid: "joe".into(), password: Secret::new(b"secret".to_vec()) };
        let user = Some("admin".into());
        let attempt = Attempt { tag: Tag::default(), user, credentials, device: None, again: false };
        let acting = Key::new(&attempt, &dialled(), Fields::default());
        assert!(acting.write().is_none());
        assert!(acting.is(&acting) && !acting.is(&key()) && key().is(&key()));
    }

    #[test]
    fn it_opens_one_account_and_tells_nobody_how() {
        let (key, dialled) = (key(), dialled());
        assert!(key.fits(&dialled));
        assert!(!key.fits(&Dialled { user: "ann".into(), ..dialled }));
        assert!(!format!("{key:?}").contains("secret"));
    }
}
