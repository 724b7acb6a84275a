//! Seals what an account logs in with, so that it can be stored: `watch = "sealed"` (architecture section 12).
//!
//!     key file      base64 of 32 octets a line         the first line seals, all lines open: a key is changed by a line above it
//!     sealed        base64(nonce 12, ciphertext, tag)  AES-256-GCM; the account is authenticated with it
//!
//! The key is not in the store: a copy of the store opens nothing. A file of systemd's credentials serves as well as any other. Requirement N16.

use std::{fs, io, path::Path};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{imap::Secret, store::AccountName};

/// The keys.
pub struct Seal(Vec<LessSafeKey>);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// What stands in it.
    #[error("expected lines of 32 octets in base64, such as `openssl rand -base64 32` writes")]
    Key,
}

impl Seal {
    /// Reads the file.
    pub fn load(file: &Path) -> Result<Self, SealError> {
        let text = Secret::new(fs::read(file)?);
        let lines =
            text.expose().split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let key = |line: &[u8]| {
            let octets = Secret::new(STANDARD.decode(line).ok()?);
            Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, octets.expose()).ok()?))
        };
        let keys = lines.map(key).collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty());
        keys.map(Self).ok_or(SealError::Key)
    }

    /// Seals the secret of an account; none: the system has no random numbers.
    pub fn seal(&self, account: &AccountName, secret: &Secret) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut octets = secret.expose().to_vec();
        let nonce_of = Nonce::assume_unique_for_key(nonce);
        self.0.first()?.seal_in_place_append_tag(nonce_of, Aad::from(bound(account)), &mut octets).ok()?;
        Some(STANDARD.encode([&nonce[..], &octets].concat()))
    }

    /// What was sealed for this account; none: with none of these keys, or not for it.
    pub fn open(&self, account: &AccountName, sealed: &str) -> Option<Secret> {
        let octets = STANDARD.decode(sealed).ok()?;
        let (nonce, text) = octets.split_at_checked(NONCE_LEN)?;
        self.0.iter().find_map(|key| {
            let mut text = text.to_vec();
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let len = key.open_in_place(nonce, Aad::from(bound(account)), &mut text).ok()?.len();
            text.truncate(len);
            Some(Secret::new(text))
        })
    }
}

/// What a secret is bound to.
fn bound(account: &AccountName) -> Vec<u8> {
    [b"lemonade-proxy sealed 1", account.backend.as_bytes(), account.user.as_bytes()].join(&0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A seal of a key that anybody knows.
    pub(in crate::io) fn seal() -> Seal {
        load(&STANDARD.encode([1; 32])).unwrap()
    }

    fn load(text: &str) -> Result<Seal, SealError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("seal.key");
        fs::write(&file, text).unwrap();
        Seal::load(&file)
    }

    fn account(user: &str) -> AccountName {
        AccountName { backend: "main".into(), user: user.into() }
    }

    #[test]
    fn what_is_sealed_opens_for_its_account_and_with_its_key_only() {
        let (old, new) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 32]));
        let [first, other] = [&old, &new].map(|key| load(key).unwrap());
        let secret = Secret::new(b"hunter2".to_vec());
        let sealed = first.seal(&account("joe"), &secret).unwrap();
        assert_ne!(sealed, first.seal(&account("joe"), &secret).unwrap(), "no nonce is used twice");
        assert_eq!(first.open(&account("joe"), &sealed).unwrap().expose(), b"hunter2");
        assert!(first.open(&account("ann"), &sealed).is_none());
        assert!(other.open(&account("joe"), &sealed).is_none());
        assert!(first.open(&account("joe"), "AAAA").is_none() && first.open(&account("joe"), "?").is_none());
        let both = load(&format!("{new}\n\n{old}\n")).unwrap();
        assert_eq!(both.open(&account("joe"), &sealed).unwrap().expose(), b"hunter2");
        let renewed = both.seal(&account("joe"), &secret).unwrap();
        assert!(other.open(&account("joe"), &renewed).is_some(), "the first line seals");
    }

    #[test]
    fn a_file_without_keys_is_an_error() {
        for text in ["", "hello\n", "AAAA\n", &format!("{}\nhello", STANDARD.encode([1; 32]))] {
            assert!(matches!(load(text), Err(SealError::Key)), "{text}");
        }
        assert!(matches!(Seal::load(Path::new("/nowhere")), Err(SealError::Read(_))));
    }
}
