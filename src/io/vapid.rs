//! The key by which push services know us, in a file below the state directory (RFC 8292).
//!
//!     vapid.pem     -----BEGIN PRIVATE KEY-----       PKCS #8, P-256, for its owner only
//!
//! It is made at the first start. Clients have subscribed for it: with another key, all their subscriptions are over, so that one that is
//! damaged is an error, and not made anew.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustls_pki_types::{
    PrivatePkcs8KeyDer,
    pem::{self, PemObject as _},
};

use super::tls;
use crate::outband::vapid::{Vapid, VapidError};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum VapidFileError {
    /// None could be made.
    #[error("VAPID key: {0}")]
    Make(#[from] rcgen::Error),
    /// It could not be written.
    #[error("{}: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could not be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// It is none.
    #[error("{}: {source}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// Why.
        source: VapidError,
    },
}

/// The key of this state directory, made if it is not there; and a contact that push services may turn to.
pub fn load(state: &Path, contact: &str) -> Result<Vapid, VapidFileError> {
    let file = state.join("vapid.pem");
    if !file.exists() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let write = |source| VapidFileError::Write { file: file.clone(), source };
        tls::write_file(&file, 0o600, &key.serialize_pem()).map_err(write)?;
    }
    match PrivatePkcs8KeyDer::from_pem_file(&file) {
        Ok(key) => Vapid::new(key.secret_pkcs8_der(), contact).map_err(|source| VapidFileError::Key { file, source }),
        Err(source) => Err(VapidFileError::Read { file, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const CONTACT: &str = "mailto:postmaster@example.org";

    #[test]
    fn the_key_is_made_once_and_ours_alone() {
        let state = tempfile::tempdir().unwrap();
        let made = load(state.path(), CONTACT).unwrap().public();
        assert_eq!(load(state.path(), CONTACT).unwrap().public(), made);
        let file = state.path().join("vapid.pem");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_wrong_names_the_file_and_stays_as_it_is() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("vapid.pem");
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        for text in ["", "hello", "-----BEGIN PRIVATE KEY-----\n", &other] {
            fs::write(&file, text).unwrap();
            let error = load(state.path(), CONTACT).unwrap_err().to_string();
            assert!(error.contains("vapid.pem: "), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        fs::remove_file(&file).unwrap();
        load(state.path(), CONTACT).unwrap();
        let error = load(state.path(), "nobody").unwrap_err().to_string();
        assert!(error.ends_with("the contact is no URI that begins with mailto: or https:"), "{error}");
        let nowhere = load(&state.path().join("none"), CONTACT).unwrap_err();
        assert!(matches!(nowhere, VapidFileError::Write { .. }), "{nowhere}");
    }
}
