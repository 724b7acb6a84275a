//! VAPID: who we are to a push service (RFC 8292).
//!
//!     Authorization: vapid t=eyJ0eXAiOi...S0X9Vw, k=BDd3_hVL9fZi9Ybo2UUzA284WG5FZR30_95YeZJsiApwXKpNcF1rRPF3foIiBHXRdJI2Qhumhf6_LFTeZaNndIo
//!
//!     t   {"typ":"JWT","alg":"ES256"} . {"aud":"https://push.example.net","exp":1453523768,"sub":"mailto:push@example.com"} . signature
//!     k   the public key, an uncompressed point of P-256
//!
//! A client subscribes for this key, and the service then takes messages from nobody else: another key ends its subscription. A token is
//! made for each message. It costs less than the handshake it travels in, and none is ever refused because it is old. The signature has
//! chance of the library's own in it (FIPS 186-5 6.3): it is the one thing here that is not the same twice.

use std::{fmt, time::Duration};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

/// How long a token is good: half of what is allowed (section 2), so that clocks may differ.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Our key, and whom a push service may ask about us.
pub struct Vapid {
    pair: EcdsaKeyPair,
    contact: Box<str>,
}

/// What is wrong with a key or a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VapidError {
    /// The key is none of P-256 in PKCS #8.
    #[error("not a key of P-256 in PKCS #8")]
    Key,
    /// The contact is none (section 2.1).
    #[error("the contact is no URI that begins with mailto: or https:")]
    Contact,
}

impl Vapid {
    /// A private key in PKCS #8 (DER), and a contact: `mailto:postmaster@example.org`, `https://example.org/contact`.
    pub fn new(pkcs8: &[u8], contact: &str) -> Result<Self, VapidError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(|_| VapidError::Key)?;
        let is_uri = contact.bytes().all(|octet| octet.is_ascii_graphic() && !b"\"\\".contains(&octet));
        let is_known = ["mailto:", "https:"].iter().any(|scheme| contact.starts_with(scheme));
        if is_uri && is_known { Ok(Self { pair, contact: contact.into() }) } else { Err(VapidError::Contact) }
    }

    /// The public key as clients subscribe for it, in base64url.
    pub fn public(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.public_key())
    }

    /// The public key as COI reads it: a SubjectPublicKeyInfo in PEM (RFC 7468 section 13).
    pub fn public_pem(&self) -> String {
        let der: Result<PublicKeyX509Der<'_>, _> = self.pair.public_key().as_der();
        let text = der.map(|der| STANDARD.encode(der.as_ref())).unwrap_or_default();
        let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| str::from_utf8(line).ok()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// The value of `Authorization` for a message to a service of this origin (`https://push.example.net`), at this hour since 1970.
    pub fn authorization(&self, origin: &str, now: Duration) -> Option<String> {
        let signed = self.claims(origin, (now + LIFETIME).as_secs());
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(format!("vapid t={signed}.{}, k={}", URL_SAFE_NO_PAD.encode(signature), self.public()))
    }

    /// Header and claims of a token (RFC 7515 section 7.1). Nothing in them has to be escaped.
    fn claims(&self, origin: &str, expires: u64) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ES256"}"#);
        let claims = format!(r#"{{"aud":"{origin}","exp":{expires},"sub":"{}"}}"#, self.contact);
        format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims))
    }
}

impl fmt::Debug for Vapid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vapid({})", self.public())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    pub(crate) fn vapid() -> Vapid {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Vapid::new(pair.to_pkcs8v1().unwrap().as_ref(), "mailto:push@example.com").unwrap()
    }

    /// RFC 8292 section 2.4.
    const TOKEN: &str = concat!(
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1ha",
        "Wx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA"
    );
    const KEY: &str = "BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs";

    /// Whether the token was signed with the key.
    fn is_signed(token: &str, key: &str) -> bool {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, decode(key));
        key.verify(signed.as_bytes(), &decode(signature)).is_ok()
    }

    #[test]
    fn a_token_says_what_that_of_rfc_8292_2_4_says() {
        let vapid = vapid();
        assert!(TOKEN.starts_with(&vapid.claims("https://push.example.net", 1_453_523_768)));
        assert!(is_signed(TOKEN, KEY), "the check itself");
        let now = Duration::from_secs(1_453_523_768) - LIFETIME;
        let value = vapid.authorization("https://push.example.net", now).unwrap();
        let (token, key) = value.strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap();
        assert_eq!(token.rsplit_once('.').unwrap().0, TOKEN.rsplit_once('.').unwrap().0);
        assert!(is_signed(token, key) && !is_signed(token, KEY));
        assert_eq!(key, vapid.public());
    }

    #[test]
    fn the_public_key_is_told_in_pem_too() {
        let vapid = vapid();
        let pem = vapid.public_pem();
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(body).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(&der[der.len() - 65..]), vapid.public());
        assert_eq!((der.len(), pem.lines().all(|line| line.len() <= 64)), (91, true));
    }

    #[test]
    fn what_is_no_key_or_no_contact_is_refused() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der = pair.to_pkcs8v1().unwrap();
        let new = |der: &[u8], contact: &str| Vapid::new(der, contact).map(|_| ());
        assert_eq!(new(b"0", "mailto:a@b"), Err(VapidError::Key));
        for contact in ["", "a@b", "http://b", "mailto:a b", "mailto:\"a\"@b", "mailto:ü@b"] {
            assert_eq!(new(der.as_ref(), contact), Err(VapidError::Contact), "{contact}");
        }
    }

    #[test]
    fn the_private_key_does_not_print() {
        let vapid = vapid();
        assert_eq!(format!("{vapid:?}"), format!("Vapid({})", vapid.public()));
    }
}
