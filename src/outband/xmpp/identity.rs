//! Who we are to an XMPP server: a component or a client, as our JID has it.
//!
//!     notify.example.com     a component: proves itself by a hash over its secret and the number of the stream (XEP-0114)
//!     mem@example.com        a client: by its password, in SASL PLAIN over TLS (RFC 4616)
//!
//! Requirement N20.

use std::str::FromStr;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::imap::secret::Secret;

/// The longest part of a JID (RFC 7622 section 3.1), in octets.
const PART: usize = 1023;

/// A JID of ours, without a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jid {
    /// A client's name.
    local: Option<String>,
    /// The host, or the component.
    domain: String,
}

/// What is no JID of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a component, notify.example.com, or a client, mem@example.com")]
pub struct JidError;

impl FromStr for Jid {
    type Err = JidError;

    fn from_str(text: &str) -> Result<Self, JidError> {
        let (local, domain) = text.rsplit_once('@').map_or((None, text), |(local, domain)| (Some(local), domain));
        let is_domain = (1..=PART).contains(&domain.len())
            && domain.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._".contains(&octet));
        if is_domain && local.is_none_or(is_local) {
            Ok(Self { local: local.map(str::to_owned), domain: domain.to_owned() })
        } else {
            Err(JidError)
        }
    }
}

/// Whether this may stand before the `@` (RFC 7622 section 3.3.1).
pub fn is_local(text: &str) -> bool {
    let is_allowed =
        |character: char| !character.is_control() && !character.is_whitespace() && !"\"&'/:<>@".contains(character);
    (1..=PART).contains(&text.len()) && text.chars().all(is_allowed)
}

impl Jid {
    /// Whether it is a client's; else it is a component's.
    pub fn is_client(&self) -> bool {
        self.local.is_some()
    }

    /// The host whose certificate a client has to see, or the component.
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

/// A JID of ours and what proves it. It does not print.
#[derive(Clone)]
pub struct Identity {
    jid: Jid,
    secret: Secret,
}

impl Identity {
    /// With this password or secret.
    pub fn new(jid: Jid, secret: Secret) -> Self {
        Self { jid, secret }
    }

    /// Who we are.
    pub(super) fn jid(&self) -> &Jid {
        &self.jid
    }

    /// Who a message is from; a client does not say it.
    pub(super) fn from(&self) -> Option<&str> {
        (!self.jid.is_client()).then_some(&self.jid.domain)
    }

    /// Whether a stanza from there is one that only our server or we ourselves can have sent.
    pub(super) fn is_ours(&self, from: Option<&str>) -> bool {
        let Some(from) = from else { return true };
        let (local, domain) = parts(from);
        let own = self.jid.local.as_deref();
        domain.eq_ignore_ascii_case(&self.jid.domain)
            && local.is_none_or(|local| own.is_some_and(|own| own.eq_ignore_ascii_case(local)))
    }

    /// The proof of a component (XEP-0114 section 3).
    pub(super) fn handshake(&self, stream: &str) -> String {
        let whole = [stream.as_bytes(), self.secret.expose()].concat();
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, Secret::new(whole).expose());
        hash.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// The proof of a client (RFC 4616).
    pub(super) fn plain(&self) -> Secret {
        let local = self.jid.local.as_deref().unwrap_or_default();
        let whole = Secret::new([b"\0", local.as_bytes(), b"\0", self.secret.expose()].concat());
        Secret::new(STANDARD.encode(whole.expose()).into_bytes())
    }
}

/// Name and host of a JID, without its resource.
pub(super) fn parts(jid: &str) -> (Option<&str>, &str) {
    let bare = bare(jid);
    bare.split_once('@').map_or((None, bare), |(local, domain)| (Some(local), domain))
}

/// A JID without its resource.
pub(super) fn bare(jid: &str) -> &str {
    jid.split('/').next().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::outband::xmpp) fn identity(jid: &str, secret: &str) -> Identity {
        Identity::new(jid.parse().unwrap(), Secret::new(secret.into()))
    }

    #[test]
    fn a_component_has_no_name_and_a_client_one() {
        assert!("mem@example.com".parse::<Jid>().unwrap().is_client());
        let component: Jid = "notify.example.com".parse().unwrap();
        assert_eq!((component.is_client(), component.domain()), (false, "notify.example.com"));
        for text in ["", "@example.com", "mem@", "mem@example.com/phone", "m m@example.com", "m<m@example.com", "a@b@c"]
        {
            assert_eq!(text.parse::<Jid>(), Err(JidError), "{text}");
        }
    }

    #[test]
    fn each_proves_itself_in_its_way() {
        // Computed by sha1sum.
        assert_eq!(
            identity("a.example.com", "secret").handshake("3BF96D32"),
            "b09ea9b3b7f586be8a08d0a3dd7466f110aeb136"
        );
        // RFC 4616 section 4.
        assert_eq!(identity("tim@example.com", "tanstaaftanstaaf").plain().expose(), b"AHRpbQB0YW5zdGFhZnRhbnN0YWFm");
    }

    #[test]
    fn only_our_server_and_we_ourselves_are_ours() {
        let client = identity("mem@example.com", "x");
        for from in [None, Some("example.com"), Some("MEM@example.com"), Some("mem@example.com/a/b@c")] {
            assert!(client.is_ours(from), "{from:?}");
        }
        for from in ["romeo@example.com", "example.org", "mem@example.org", "example.com@example.org", ""] {
            assert!(!client.is_ours(Some(from)), "{from}");
        }
        let component = identity("notify.example.com", "x");
        assert!(component.is_ours(Some("notify.example.com")) && !component.is_ours(Some("a@notify.example.com")));
    }
}
