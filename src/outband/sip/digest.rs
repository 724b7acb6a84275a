//! Digest authentication, the client's side (RFC 7616 as RFC 8760 has it for SIP).
//!
//!     S: WWW-Authenticate: Digest realm="example.com", nonce="47364c...", algorithm=SHA-256, qop="auth"
//!     S: WWW-Authenticate: Digest realm="example.com", nonce="47364c...", algorithm=MD5, qop="auth"
//!     C: Authorization: Digest username="notifier", realm="example.com", nonce="47364c...", uri="sip:romeo@127.0.0.1:25060",
//!          response="25ed17...", algorithm=SHA-256, cnonce="0a4f113b", qop=auth, nc=00000001
//!
//! The server puts the algorithm first that it likes best; the first that we know is taken, and what we do not know is passed over. A
//! challenge without `qop` means `auth` (RFC 8760 section 2.6, 8), and the answer always has one: what RFC 2069 did is no more. Of `Basic` we
//! know nothing. What was quoted in a challenge goes back as it came.

use std::str::FromStr;

use aws_lc_rs::digest;
use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

use super::{end_of_quoted, hex, message::METHOD, response::Response, uri::Uri};
use crate::imap::secret::Secret;

/// With whom we are known, and as whom.
#[derive(Clone, Debug)]
pub struct Account {
    user: String,
    password: Secret,
    /// The realms that may ask.
    realms: Vec<String>,
    /// Everything goes by a proxy of the operator's.
    is_proxied: bool,
}

/// The user cannot stand in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a user name is printable, without quotation marks and backslashes")]
pub struct UserError;

impl Account {
    /// This user, who is known in these realms. Without a proxy only hosts at or below the domain that a realm is named after hear
    /// anything of the password: users name places, and whoever hears an answer can try passwords against it.
    pub fn new(user: String, password: Secret, realms: Vec<String>, is_proxied: bool) -> Result<Self, UserError> {
        let is_plain = |character: char| !character.is_control() && !['"', '\\'].contains(&character);
        match !user.is_empty() && user.chars().all(is_plain) {
            true => Ok(Self { user, password, realms, is_proxied }),
            false => Err(UserError),
        }
    }

    /// Whether a challenge of this realm is answered, that came from there.
    pub(super) fn is_for(&self, realm: &str, target: &Uri) -> bool {
        self.realms.iter().any(|known| known == realm) && (self.is_proxied || target.is_within(realm))
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// The one for whom the request is.
    Server,
    /// Somebody on the way.
    Proxy,
}

impl Asker {
    /// The fields of question and answer.
    const FIELDS: [(Self, &str, &str); 2] = [
        (Self::Server, "www-authenticate", "Authorization"),
        (Self::Proxy, "proxy-authenticate", "Proxy-Authorization"),
    ];

    /// The field in which an answer to it stands.
    pub(super) fn field(self) -> &'static str {
        Self::FIELDS.iter().find(|(asker, ..)| *asker == self).map_or("", |(.., field)| field)
    }
}

/// A challenge that we understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) asker: Asker,
    pub(super) realm: String,
    pub(super) is_stale: bool,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
}

/// All challenges of a response that we understand, in its order.
pub(super) fn challenges(response: &Response) -> Vec<Challenge> {
    let asked = |(asker, field, _)| response.fields(field).filter_map(move |value| Challenge::read(asker, value));
    Asker::FIELDS.into_iter().flat_map(asked).collect()
}

impl Challenge {
    fn read(asker: Asker, value: &str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once([' ', '\t'])?;
        let parameters = scheme.eq_ignore_ascii_case("Digest").then(|| parameters(rest)).flatten()?;
        let find = |name: &str| parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let text = |name: &str| find(name).map(|(_, value)| (*value).to_owned());
        let qop = text("qop").unwrap_or_else(|| "auth".to_owned());
        if !qop.split(',').any(|word| word.trim().eq_ignore_ascii_case("auth")) {
            return None;
        }
        Some(Self {
            asker,
            realm: text("realm")?,
            is_stale: find("stale").is_some_and(|(_, value)| value.eq_ignore_ascii_case("true")),
            nonce: text("nonce")?,
            opaque: text("opaque"),
            algorithm: text("algorithm").map_or(Ok(Algorithm::Md5), |name| name.parse()).ok()?,
        })
    }

    /// The answer, for a request to this target; this challenge is answered for the so-manieth time.
    pub(super) fn answer(&self, account: &Account, target: &Uri, cnonce: &str, count: u32) -> String {
        let Self { realm, nonce, algorithm, .. } = self;
        let mut secret = Zeroizing::new(format!("{}:{realm}:", account.user).into_bytes());
        secret.extend_from_slice(account.password.expose());
        let (who, what) = (algorithm.hash(&secret), algorithm.hash(format!("{METHOD}:{target}").as_bytes()));
        let response = algorithm.hash(format!("{who}:{nonce}:{count:08x}:{cnonce}:auth:{what}").as_bytes());
        let opaque = self.opaque.as_ref().map(|opaque| format!("opaque=\"{opaque}\", ")).unwrap_or_default();
        format!(
            "Digest username=\"{}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{target}\", response=\"{response}\", \
             algorithm={}, cnonce=\"{cnonce}\", {opaque}qop=auth, nc={count:08x}",
            account.user,
            algorithm.name(),
        )
    }
}

/// A hash, by the names of IANA's registry of digest algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Md5,
    Sha256,
    Sha512_256,
}

impl Algorithm {
    const NAMES: [(Self, &str); 3] = [(Self::Md5, "MD5"), (Self::Sha256, "SHA-256"), (Self::Sha512_256, "SHA-512-256")];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(known, _)| *known == self).map_or("", |(_, name)| name)
    }

    /// In hexadecimal digits.
    fn hash(self, octets: &[u8]) -> String {
        match self {
            Self::Md5 => hex(&Md5::digest(octets)),
            Self::Sha256 => hex(digest::digest(&digest::SHA256, octets).as_ref()),
            Self::Sha512_256 => hex(digest::digest(&digest::SHA512_256, octets).as_ref()),
        }
    }
}

impl FromStr for Algorithm {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)).map(|(known, _)| *known).ok_or(())
    }
}

/// `name=value, name="value"`: the quoted ones with their escapes. None where it is nothing of the kind, or has control characters in it.
fn parameters(mut text: &str) -> Option<Vec<(&str, &str)>> {
    const BETWEEN: [char; 3] = [' ', '\t', ','];
    let mut found = Vec::new();
    if text.contains(|character: char| character.is_control() && character != '\t') {
        return None;
    }
    loop {
        text = text.trim_start_matches(BETWEEN);
        if text.is_empty() {
            return Some(found);
        }
        let (name, rest) = text.split_once('=')?;
        let rest = rest.trim_start();
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_at_checked(end_of_quoted(quoted)?)?,
            None => rest.split_at(rest.find(BETWEEN).unwrap_or(rest.len())),
        };
        found.push((name.trim(), value));
        text = rest.strip_prefix('"').unwrap_or(rest);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) const TARGET: &str = "sip:romeo@127.0.0.1:25060";
    pub(crate) const NONCE: &str = "47364c23432d2e131a5fb210812c";

    pub(crate) fn account(realms: &[&str], is_proxied: bool) -> Account {
        let realms = realms.iter().map(|&realm| realm.to_owned()).collect();
        Account::new("notifier".to_owned(), Secret::new(b"s3cret".to_vec()), realms, is_proxied).unwrap()
    }

    fn challenge(value: &str) -> Challenge {
        Challenge::read(Asker::Server, value).unwrap_or_else(|| panic!("{value}"))
    }

    /// What is answered to a challenge of `example.com` with this algorithm.
    pub(crate) fn answer(algorithm: &str, rest: &str, count: u32) -> String {
        let value = format!("Digest realm=\"example.com\", nonce=\"{NONCE}\", algorithm={algorithm}{rest}");
        challenge(&value).answer(&account(&[], true), &TARGET.parse().unwrap(), "0a4f113b", count)
    }

    #[test]
    fn the_digests_are_those_of_another_implementation() {
        for (algorithm, response) in [
            // The worked example of the digest of notifications, which SIPp has accepted.
            ("SHA-256", "25ed1786f829f528f2c3768a47e553dd9bde6bf21e156d72c27aa64abd767856"),
            ("MD5", "f80decb67a456855645d5318363a0835"),
            // By Python's hashlib.
            ("SHA-512-256", "13b330057e81bd2455d6c87bb8194ca4cbac6a6e9aaccb702a42b3aa15f2a6f6"),
        ] {
            let expected = format!(
                "Digest username=\"notifier\", realm=\"example.com\", nonce=\"{NONCE}\", uri=\"{TARGET}\", \
                 response=\"{response}\", algorithm={algorithm}, cnonce=\"0a4f113b\", qop=auth, nc=00000001"
            );
            assert_eq!(answer(algorithm, ", qop=\"auth\"", 1), expected);
        }
    }

    #[test]
    fn rfc_7616_3_9_1() {
        const NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        for (algorithm, response) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let who = algorithm.hash(b"Mufasa:http-auth@example.org:Circle of Life");
            let what = algorithm.hash(b"GET:/dir/index.html");
            let whole = format!("{who}:{NONCE}:00000001:{CNONCE}:auth:{what}");
            assert_eq!(algorithm.hash(whole.as_bytes()), response);
        }
    }

    #[test]
    fn what_was_quoted_goes_back_as_it_came_and_uses_are_counted() {
        let said = answer("MD5", ", opaque=\"a\\\"b, c=d\"", 26);
        assert!(said.contains(", opaque=\"a\\\"b, c=d\", qop=auth, nc=0000001a"), "{said}");
    }

    #[test]
    fn a_challenge_is_read_however_it_is_written() {
        let usual = challenge("Digest realm=\"r\",nonce=\"n\",algorithm=MD5,qop=\"auth,auth-int\",stale=TRUE");
        assert_eq!((usual.realm.as_str(), usual.nonce.as_str(), usual.is_stale), ("r", "n", true));
        let odd = "DIGEST  nonce = \"n\" ,\tRealm=\"r\", domain=\"sip:a sip:b\", Stale=\"true\", QOP=auth";
        assert_eq!(challenge(odd), usual);
    }

    #[test]
    fn what_is_not_understood_is_passed_over() {
        for value in [
            "",
            "Basic realm=\"r\"",
            "Digest",
            "Digest nonce=\"n\"",
            "Digest realm=\"r\"",
            "Digest realm=\"r\", nonce=\"n",
            "Digest realm=\"r\", nonce=\"n\\\"",
            "Digest realm=\"r\", nonce=\"n\", what",
            "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-1",
            "Digest realm=\"r\", nonce=\"n\", algorithm=MD5-sess",
            "Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"",
            "Digest realm=\"r\", nonce=\"a\nX: b\"",
        ] {
            assert_eq!(Challenge::read(Asker::Proxy, value), None, "{value:?}");
        }
    }

    #[test]
    fn only_who_knows_us_is_answered() {
        let at = |host: &str| format!("sip:romeo@{host}").parse::<Uri>().unwrap();
        let direct = account(&["example.com"], false);
        assert!(direct.is_for("example.com", &at("ims.example.com")));
        assert!(!direct.is_for("example.com", &at("example.net")) && !direct.is_for("example.net", &at("example.net")));
        let proxied = account(&["example.com"], true);
        assert!(proxied.is_for("example.com", &at("10.0.0.1")) && !proxied.is_for("evil", &at("10.0.0.1")));
    }

    #[test]
    fn a_user_who_cannot_stand_in_a_header_is_refused_and_the_password_does_not_print() {
        for user in ["", "a\"b", "a\\b", "a\r\nb"] {
            assert_eq!(Account::new(user.to_owned(), Secret::new(vec![]), vec![], true).map(|_| ()), Err(UserError));
        }
        assert!(!format!("{:?}", account(&[], true)).contains("s3cret"));
    }
}
