//! How the clients of today register a device for push, on the same rows (digest of notifications 7.3).
//!
//!     C: a SETMETADATA INBOX (/private/devicetoken "fcm-chat.delta:abc")          Delta Chat: each SET adds a token
//!     C: b GETMETADATA INBOX /private/devicetoken
//!     S: * METADATA INBOX (/private/devicetoken "fcm-chat.delta:abc openpgp:xyz")
//!
//!     C: c SETMETADATA "" (/private/vendor/vendor.dovecot/webpush/subscriptions/Aw3...9Q {120}
//!     C| {"client":"COI","device":"Pixel","msgtype":"chat","resource":{"endpoint":"https://...","keys":{...}}})
//!
//!     S: (by Web Push) {"validation":"5f0c..."}
//!     C: d SETMETADATA "" (/private/vendor/vendor.dovecot/webpush/subscriptions/Aw3...9Q/validate "5f0c...")
//!
//! Each token and each subscription is a device of its own, with a channel; the entry that a client reads is the list of
//! them. A token dies 90 days after it was last set, a subscription that nobody has validated after five minutes. Requirements N13, N14.

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::channel::{Channel, Format, Kind};
use crate::{
    imap::entry::EntryName,
    store::{DeviceName, Edit, Entry, Owner},
};

/// Where Delta Chat writes its tokens, on INBOX.
pub const TOKEN: &str = "/private/devicetoken";

/// Below it stand the subscriptions of COI, on the server.
pub const SUBSCRIPTIONS: &str = "/private/vendor/vendor.dovecot/webpush/subscriptions";

/// Seconds: 90 days.
const LIFETIME: i64 = 90 * 24 * 3600;

/// Seconds in which a subscription is validated, or discarded (COI section 3).
const VALIDATED_IN: i64 = 300;

/// A registered token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// When it was last set, in seconds since 1970.
    pub set_at: i64,
    /// What the notifier knows the device by.
    pub token: String,
}

/// A subscription of COI, as far as it concerns us: what else the client wrote is dropped (section 3 of that document).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The mail program.
    pub client: String,
    /// Its device.
    pub device: String,
    /// Which messages it wants to hear of: chat, mail or all.
    pub msgtype: String,
    /// Where to, and the keys.
    pub resource: Resource,
    /// When it was registered, in seconds since 1970.
    #[serde(default)]
    pub created: i64,
    /// Whether the device has proved that it hears us.
    #[serde(default)]
    pub validated: bool,
}

/// A push resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// RFC 8030 section 4.
    pub endpoint: String,
    /// RFC 8291 section 2.
    pub keys: Keys,
}

/// The keys of a push resource, in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// The public key.
    pub p256dh: String,
    /// The secret.
    pub auth: String,
}

/// The device that registers with this: the same for the same token.
pub fn device(kind: Kind, secret: &str) -> DeviceName {
    let hash = digest(&SHA256, secret.as_bytes());
    let hex: String = hash.as_ref().iter().take(8).map(|octet| format!("{octet:02x}")).collect();
    let name = format!("{}-{hex}", kind.name().to_ascii_lowercase());
    DeviceName::parse(name.as_bytes()).unwrap_or_default()
}

impl Token {
    /// A token as a client writes it.
    pub fn parse(value: &[u8], now: i64) -> Option<Self> {
        let token = std::str::from_utf8(value).ok().filter(|token| Kind::DeltaChat.check(token).is_ok())?;
        Some(Self { set_at: now, token: token.to_owned() })
    }

    /// The device of this token.
    pub fn device(&self) -> DeviceName {
        device(Kind::DeltaChat, &self.token)
    }

    /// As it is kept: when, and what.
    pub fn stored(&self) -> Box<[u8]> {
        format!("{} {}", self.set_at, self.token).into_bytes().into()
    }

    /// Reads a row.
    pub fn of_row(entry: &Entry) -> Option<Self> {
        let text = std::str::from_utf8(&entry.value).ok().filter(|_| entry.key.name.as_str() == TOKEN)?;
        let (set_at, token) = text.split_once(' ')?;
        Some(Self { set_at: set_at.parse().ok()?, token: token.to_owned() })
    }

    /// Whether it still counts.
    pub fn lives(&self, now: i64) -> bool {
        now < self.set_at.saturating_add(LIFETIME)
    }
}

/// The tokens that live, as a client reads them.
pub fn tokens(entries: &[Entry], now: i64) -> Option<String> {
    let tokens: Vec<_> = entries.iter().filter_map(Token::of_row).filter(|token| token.lives(now)).collect();
    let texts: Vec<_> = tokens.iter().map(|token| token.token.as_str()).collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

/// The name of the subscription that this entry is, if it is one.
pub fn subscription_id(name: &EntryName) -> Option<&str> {
    name.as_str().strip_prefix(SUBSCRIPTIONS)?.strip_prefix('/').filter(|id| is_id(id))
}

/// The name of the subscription that is validated by this entry, if it is one.
pub fn validated_id(name: &EntryName) -> Option<&str> {
    let below = name.as_str().strip_prefix(SUBSCRIPTIONS)?.strip_prefix('/')?;
    below.strip_suffix("/validate").filter(|id| is_id(id))
}

fn is_id(id: &str) -> bool {
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"_-".contains(&octet);
    (10..=36).contains(&id.len()) && id.bytes().all(fits)
}

/// What nobody wants to hear by any more: subscriptions that were not validated.
pub fn discarded(entries: &[Entry], now: i64) -> Vec<Edit> {
    let is_over = |entry: &&Entry| Subscription::of_row(entry).is_some_and(|subscription| !subscription.lives(now));
    entries.iter().filter(is_over).map(|entry| (entry.key.clone(), None)).collect()
}

/// The device of a subscription.
pub fn subscriber(id: &str) -> DeviceName {
    DeviceName::parse(format!("webpush-{id}").as_bytes()).unwrap_or_default()
}

impl Subscription {
    /// A subscription as a client writes it.
    pub fn parse(value: &[u8], now: i64) -> Result<Self, &'static str> {
        let read: Self = serde_json::from_slice(value)
            .map_err(|_| "a subscription is JSON with client, device, msgtype and resource")?;
        let subscription = Self { created: now, validated: false, ..read };
        let Self { client, device, msgtype, .. } = &subscription;
        match () {
            () if client.len() > 128 || device.len() > 128 => Err("client and device have at most 128 octets"),
            () if !["chat", "mail", "all"].contains(&msgtype.as_str()) => Err("msgtype is chat, mail or all"),
            () => Kind::WebPush
                .check(&subscription.address())
                .map_err(|_| "this is no push resource")
                .map(|()| subscription),
        }
    }

    /// Reads a row.
    pub fn of_row(entry: &Entry) -> Option<Self> {
        subscription_id(&entry.key.name).and_then(|_| serde_json::from_slice(&entry.value).ok())
    }

    /// Whether it counts: it is validated, or may still be.
    pub fn lives(&self, now: i64) -> bool {
        self.validated || now < self.created.saturating_add(VALIDATED_IN)
    }

    /// The same where it stood before, as far as it is the same.
    pub fn following(self, before: Option<Self>) -> Self {
        let validated = before.is_some_and(|before| before.validated && before.resource == self.resource);
        Self { validated, ..self }
    }

    /// The device has proved that it hears us: what is to be kept.
    pub fn validated(entries: &[Entry], id: &str) -> Option<Edit> {
        let is_it = |entry: &&Entry| subscription_id(&entry.key.name) == Some(id);
        let entry = entries.iter().find(is_it)?;
        let subscription = Self { validated: true, ..Self::of_row(entry)? };
        Some((entry.key.clone(), Some(subscription.stored())))
    }

    /// As the channel knows the address.
    pub fn address(&self) -> String {
        let Resource { endpoint, keys } = &self.resource;
        format!("{endpoint}|{}|{}", keys.p256dh, keys.auth)
    }

    /// As it is kept, and read back by the client.
    pub fn stored(&self) -> Box<[u8]> {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// Over which channel, and where, a device is reached that has registered; nothing for a device that has not.
pub fn reached(entries: &[Entry], device: &DeviceName, now: i64) -> Option<(Channel, String)> {
    let own = entries.iter().filter(|entry| entry.key.owner == Owner::Device(device.clone()));
    own.filter_map(|entry| match (Token::of_row(entry), Subscription::of_row(entry)) {
        (Some(token), _) => {
            token.lives(now).then(|| (Channel::Over(Kind::DeltaChat, Format::Wakeup), token.token.clone()))
        }
        (None, Some(subscription)) => {
            subscription.lives(now).then(|| (Channel::Over(Kind::WebPush, Format::Extended), subscription.address()))
        }
        (None, None) => None,
    })
    .next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Key;

    fn row(owner: DeviceName, name: &str, value: &[u8]) -> Entry {
        let name = EntryName::parse(name.as_bytes()).unwrap();
        Entry { key: Key { mailbox: b"INBOX"[..].into(), owner: Owner::Device(owner), name }, value: value.into() }
    }

    #[test]
    fn tokens_are_a_list_and_die_after_ninety_days() {
        let [old, new] = [("openpgp:abc", 0), ("fcm-chat.delta:x", 10)].map(|(token, at)| {
            let token = Token::parse(token.as_bytes(), at).unwrap();
            row(token.device(), TOKEN, &token.stored())
        });
        let all = [old, new];
        assert_eq!(tokens(&all, LIFETIME - 1).unwrap(), "openpgp:abc fcm-chat.delta:x");
        assert_eq!(tokens(&all, LIFETIME).unwrap(), "fcm-chat.delta:x");
        assert_eq!(tokens(&all, LIFETIME + 10), None);
        assert!(Token { set_at: i64::MAX, token: "x".to_owned() }.lives(0), "whatever the row says");
        assert_eq!(Token::parse(b"two tokens", 0), None);
        assert_eq!(Token::parse(b"", 0), None);
        assert!(Token::parse(&[b'x'; 4096], 0).is_some() && Token::parse(&[b'x'; 4097], 0).is_none());
    }

    #[test]
    fn a_subscription_is_read_as_coi_writes_it() {
        let key = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
        let text = format!(
            r#"{{"client":"COI","device":"Pixel","msgtype":"chat","more":1,"validated":true,
                "resource":{{"endpoint":"https://push.example.org/x","keys":{{"p256dh":"{key}","auth":"BTBZMqHH6r4Tts7J_aSIgg"}}}}}}"#
        );
        let read = Subscription::parse(text.as_bytes(), 7).unwrap();
        assert_eq!((read.created, read.validated), (7, false), "a client does not validate itself");
        assert!(Subscription { created: i64::MAX, ..read.clone() }.lives(0), "whatever the row says");
        let name = format!("{SUBSCRIPTIONS}/aw3nnq-9q12");
        let entry = row(subscriber("aw3nnq-9q12"), &name, &read.stored());
        assert_eq!(subscription_id(&entry.key.name), Some("aw3nnq-9q12"));
        let (channel, address) = reached(&[entry], &subscriber("aw3nnq-9q12"), 0).unwrap();
        assert_eq!((channel.to_string(), Kind::WebPush.check(&address)), ("WEBPUSH=EXTENDED".to_owned(), Ok(())));
        let entry = row(subscriber("aw3nnq-9q12"), &name, &read.stored());
        let all = [entry.clone()];
        assert_eq!(discarded(&all, 306), []);
        assert_eq!(discarded(&all, 307), [(entry.key.clone(), None)], "nobody has validated it");
        assert_eq!(reached(&all, &subscriber("aw3nnq-9q12"), 307), None);
        let (_, value) = Subscription::validated(&all, "aw3nnq-9q12").unwrap();
        let valid = [Entry { value: value.unwrap(), ..entry }];
        assert_eq!(discarded(&valid, i64::MAX), []);
        let again = |read: &Subscription| read.clone().following(Subscription::of_row(&valid[0])).validated;
        let mut other = read.clone();
        other.resource.endpoint.push('y');
        assert_eq!((again(&read), again(&other)), (true, false), "another resource has to be validated anew");
        let validates = |name: &str| validated_id(&EntryName::parse(name.as_bytes()).unwrap()).map(str::to_owned);
        assert_eq!(validates(&format!("{name}/validate")).as_deref(), Some("aw3nnq-9q12"));
        assert_eq!((validates(&name), validates(&format!("{SUBSCRIPTIONS}/short/validate"))), (None, None));
        for bad in ["", "{}", &text.replace("chat", "spam"), &text.replace("https", "http")] {
            assert!(Subscription::parse(bad.as_bytes(), 7).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_device_is_the_same_for_the_same_token() {
        let [one, same, other] = ["a", "a", "b"].map(|token| device(Kind::DeltaChat, token));
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert!(one.as_str().starts_with("deltachat-"));
    }
}
