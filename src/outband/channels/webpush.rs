//! Web Push: a message that only the device can read, by way of the push service of its maker or of its owner's choice (RFC 8030, 8291).
//!
//!     POST /p/JzLQ3raZJfFBR0aqvOMsLrt54w4rJUsV HTTP/1.1      the address: endpoint|p256dh|auth, named by the user
//!     TTL: 86400                                             for so long the service keeps it
//!     Urgency: normal                                        or high
//!     Topic: S1zDmFhBGrkFhBN2zC8qXaQPzIbYl0-K                a later message of the same mailbox takes the place of this one
//!     Authorization: vapid t=..., k=...                      RFC 8292
//!     Content-Encoding: aes128gcm
//!
//!     salt (16) | 4096 | 65 | our key for this message (65) | AES-128-GCM of JSON and 02
//!
//! The JSON has the names of COI's payload, and beside them how the mailbox stands; of the message itself it says something only in the
//! extended form. UnifiedPush is the same. The topic is a hash under the device's secret: services see it, and no name. COI's
//! round trip begins with [`WebPush::question`]: who gives the text back over IMAP has proved that the device hears us.
//! Requirements N9, N10, N13, N20, N21.

use std::time::Duration;

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    hmac,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;

use super::http;
use crate::{
    account::channel::Kind,
    imap::mailbox_name,
    mailbox::event,
    outband::{
        channel::{Answer, Channel, Delivery, Given, NamedBy, Outcome, Request, Undeliverable},
        emn::timestamp,
        notice::{Counts, Message, Notice, cut},
        vapid::Vapid,
    },
};

/// The longest text, in octets: services have to take 4096, and encryption adds 103 (RFC 8291 section 4).
pub const LONGEST: usize = 3993;

/// The longest question of COI's, in octets.
pub const LONGEST_QUESTION: usize = 1024;

/// Seconds for which an answer to that question counts.
const QUESTION_LIVES: u32 = 300;
/// The longest sender and subject, in octets: COI asks for 100 at least.
const HEADING: usize = 200;
/// The longest name of a mailbox and the longest Message-ID: a part of one is the name of something else.
const NAME: usize = 200;
/// How long the beginning of the text may be, in octets; the first that fits.
const SNIPPETS: [usize; 4] = [2000, 1000, 400, 100];
/// The record size: there is one record, and it is shorter (RFC 8188 section 2.1).
const RECORD: u32 = 4096;
/// Octets of an uncompressed point of P-256.
const POINT: usize = 65;

/// The channel.
#[derive(Debug)]
pub struct WebPush {
    vapid: Vapid,
    ttl: u32,
}

/// A device, as its address says.
struct Device {
    endpoint: String,
    key: Vec<u8>,
    secret: Vec<u8>,
}

impl WebPush {
    /// With this key, and for so long as a service shall keep a message; a service may keep it shorter (RFC 8030 section 5.2).
    pub fn new(vapid: Vapid, ttl: Duration) -> Self {
        const MOST: u64 = 0x7fff_ffff;
        Self { vapid, ttl: u32::try_from(ttl.as_secs().min(MOST)).unwrap_or_default() }
    }

    /// COI's question whether the device hears us: a text of at most [`LONGEST_QUESTION`] octets, which it gives back over IMAP.
    pub fn question(&self, text: &str, address: &str, given: &Given) -> Result<Delivery, Undeliverable> {
        #[derive(Serialize)]
        struct Question<'a> {
            validation: &'a str,
        }
        if text.len() > LONGEST_QUESTION {
            return Err(Undeliverable::TooLarge);
        }
        let text = serde_json::to_vec(&Question { validation: text }).unwrap_or_default();
        let ttl = self.ttl.min(QUESTION_LIVES).to_string();
        let headers = vec![("TTL", ttl), ("Urgency", "high".to_owned()), ("WebPush-Validation", String::new())];
        self.request(&text, &Device::of(address)?, headers, given)
    }

    /// The request with this text, and these headers beside those that every message has.
    fn request(
        &self,
        text: &[u8],
        device: &Device,
        mut headers: Vec<(&'static str, String)>,
        given: &Given,
    ) -> Result<Delivery, Undeliverable> {
        if text.len() > LONGEST {
            return Err(Undeliverable::TooLarge);
        }
        let key = below_the_order(std::array::from_fn(|at| given.chance[at]));
        let salt = std::array::from_fn(|at| given.chance[32 + at]);
        let body = seal(text, device, key, &salt).ok_or(Undeliverable::Address)?;
        let authorization = self.vapid.authorization(&device.origin(), given.now).ok_or(SIGNATURE)?;
        headers.extend([
            ("Content-Type", "application/octet-stream".to_owned()),
            ("Content-Encoding", "aes128gcm".to_owned()),
            ("Authorization", authorization),
        ]);
        let (url, named_by) = (device.endpoint.clone(), NamedBy::User);
        Ok(Delivery::Http(Request { url, headers, body, named_by }))
    }
}

const SIGNATURE: Undeliverable = Undeliverable::Ours("the VAPID key does not sign");

impl Channel for WebPush {
    fn kind(&self) -> Kind {
        Kind::WebPush
    }

    fn is_private(&self, _: &str) -> bool {
        true
    }

    fn write(&self, notice: &Notice, address: &str, given: &Given) -> Result<Delivery, Undeliverable> {
        if let Some(code) = &notice.code {
            return self.question(code, address, given);
        }
        let device = Device::of(address)?;
        let urgency = if notice.urgent { "high" } else { "normal" };
        let headers =
            vec![("TTL", self.ttl.to_string()), ("Urgency", urgency.to_owned()), ("Topic", device.topic(notice))];
        self.request(&json(notice).ok_or(Undeliverable::TooLarge)?, &device, headers, given)
    }

    fn judge(&self, answer: &Answer) -> Outcome {
        match answer {
            // RFC 8030 sections 7.3 and 8.4: the subscription has ended.
            Answer::Http { status: 404 | 410, .. } => Outcome::Dead,
            answer => http::judge(answer),
        }
    }
}

impl Device {
    fn of(address: &str) -> Result<Self, Undeliverable> {
        Kind::WebPush.check(address).map_err(|_| Undeliverable::Address)?;
        let mut parts = address.split('|');
        let endpoint = parts.next().unwrap_or_default().to_owned();
        let mut decoded = || URL_SAFE_NO_PAD.decode(parts.next().unwrap_or_default().trim_end_matches('=')).ok();
        let (Some(key), Some(secret)) = (decoded(), decoded()) else { return Err(Undeliverable::Address) };
        Ok(Self { endpoint, key, secret })
    }

    /// Scheme, host and port, as RFC 6454 section 6.2 writes them: without a port that the scheme has anyway.
    fn origin(&self) -> String {
        let origin = self.endpoint.split('/').take(3).collect::<Vec<_>>().join("/").to_ascii_lowercase();
        origin.strip_suffix(":443").map(str::to_owned).unwrap_or(origin)
    }

    /// At most 32 characters of base64url (RFC 8030 section 5.4).
    fn topic(&self, notice: &Notice) -> String {
        let mut hash = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret));
        for part in [b"topic".as_slice(), notice.account.as_bytes(), &notice.mailbox] {
            hash.update(part);
            hash.update(b"\0");
        }
        URL_SAFE_NO_PAD.encode(&hash.sign().as_ref()[..24])
    }
}

/// Below 2^255, and so below the order of the curve; without this, one key in 2^32 would be none.
fn below_the_order(mut key: [u8; 32]) -> [u8; 32] {
    key[0] &= 0x7f;
    key
}

/// So many octets of keys.
struct Octets(usize);

impl KeyType for Octets {
    fn len(&self) -> usize {
        self.0
    }
}

/// The text for this device, with a key and a salt that are used for nothing else (RFC 8291 section 3, RFC 8188 section 2).
fn seal(text: &[u8], device: &Device, key: [u8; 32], salt: &[u8; 16]) -> Option<Vec<u8>> {
    let ours = PrivateKey::from_private_key(&ECDH_P256, &key).ok()?;
    let public = ours.compute_public_key().ok()?;
    let mut shared = [0; 32];
    agree(&ours, UnparsedPublicKey::new(&ECDH_P256, &device.key), (), |secret| {
        let derived = Salt::new(HKDF_SHA256, &device.secret).extract(secret);
        fill(&derived, &[b"WebPush: info\0", &device.key, public.as_ref()], &mut shared)
    })
    .ok()?;
    let derived = Salt::new(HKDF_SHA256, salt).extract(&shared);
    let (mut cipher, mut nonce) = ([0; 16], [0; 12]);
    fill(&derived, &[b"Content-Encoding: aes128gcm\0"], &mut cipher).ok()?;
    fill(&derived, &[b"Content-Encoding: nonce\0"], &mut nonce).ok()?;
    // RFC 8188 section 2: 02 ends the last record.
    let mut sealed = [text, b"\x02"].concat();
    LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &cipher).ok()?)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
        .ok()?;
    let length = [u8::try_from(POINT).ok()?];
    Some([salt, RECORD.to_be_bytes().as_slice(), &length, public.as_ref(), &sealed].concat())
}

/// Octets of a key that is derived with this; RFC 5869 counts its blocks itself.
fn fill(derived: &aws_lc_rs::hkdf::Prk, info: &[&[u8]], out: &mut [u8]) -> Result<(), ()> {
    derived.expand(info, Octets(out.len())).and_then(|key| key.fill(out)).map_err(|_| ())
}

/// What the device is told. The names down to `snippet` are COI's, but for that one: ours is the beginning of the text, and never all of it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Told<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    from_email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uidvalidity: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snippet: Option<String>,
    account: &'a str,
    seq: u64,
    event: event::Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(flatten)]
    counts: Counts,
}

/// The text, at most [`LONGEST`] octets of it; none if even without a snippet it is longer.
fn json(notice: &Notice) -> Option<Vec<u8>> {
    let none = Message::default();
    let message = notice.message.as_ref().unwrap_or(&none);
    let heading = |text: &Option<Box<str>>| text.as_deref().map(|text| cut(text, HEADING));
    let folder = mailbox_name::as_people_read(&notice.mailbox);
    let snippets = message.snippet.iter().flat_map(|text| SNIPPETS.map(|octets| Some(cut(text, octets))));
    let written = |snippet| {
        let told = Told {
            from_email: heading(&message.from),
            from_name: heading(&message.name),
            subject: heading(&message.subject),
            date: message.sent.and_then(timestamp),
            msg_id: message.id.as_deref().filter(|id| id.len() <= NAME),
            uid: notice.message.as_ref().map(|message| message.uid),
            uidvalidity: notice.uidvalidity,
            folder: Some(&*folder).filter(|folder| (1..=NAME).contains(&folder.len())),
            snippet,
            account: &notice.account,
            seq: notice.seq,
            event: notice.event,
            timestamp: timestamp(notice.at),
            counts: notice.counts,
        };
        serde_json::to_vec(&told).ok().filter(|text| text.len() <= LONGEST)
    };
    snippets.chain([None]).find_map(written)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::outband::{
        channels::{
            http::tests::{LATER, status},
            tests::notice,
        },
        vapid,
    };

    /// RFC 8291 section 5: the receiver, and what it subscribed for.
    const ADDRESS: &str = concat!(
        "https://push.example.net/push/JzLQ3raZJfFBR0aqvOMsLrt54w4rJUsV|",
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4|BTBZMqHH6r4Tts7J_aSIgg"
    );
    /// The receiver's private key.
    const RECEIVER: &str = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94";
    const GIVEN: Given = Given { now: Duration::from_secs(1_453_480_568), chance: [7; 64] };

    fn decoded(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    fn channel() -> WebPush {
        WebPush::new(vapid::tests::vapid(), Duration::from_secs(86_400))
    }

    fn request(delivery: Result<Delivery, Undeliverable>) -> Request {
        match delivery {
            Ok(Delivery::Http(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn header<'a>(request: &'a Request, name: &str) -> &'a str {
        let found: Vec<_> = request.headers.iter().filter(|(known, _)| *known == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        &found[0].1
    }

    /// What the receiver of RFC 8291 reads.
    fn opened(body: &[u8]) -> Vec<u8> {
        let (head, sealed) = body.split_at(16 + 4 + 1 + POINT);
        assert_eq!(&head[16..21], [0, 0, 16, 0, 65]);
        let ours = PrivateKey::from_private_key(&ECDH_P256, &decoded(RECEIVER)).unwrap();
        let public = ours.compute_public_key().unwrap();
        let mut shared = [0; 32];
        agree(&ours, UnparsedPublicKey::new(&ECDH_P256, &head[21..]), (), |secret| {
            let derived = Salt::new(HKDF_SHA256, &decoded("BTBZMqHH6r4Tts7J_aSIgg")).extract(secret);
            fill(&derived, &[b"WebPush: info\0", public.as_ref(), &head[21..]], &mut shared)
        })
        .unwrap();
        let derived = Salt::new(HKDF_SHA256, &head[..16]).extract(&shared);
        let (mut cipher, mut nonce) = ([0; 16], [0; 12]);
        fill(&derived, &[b"Content-Encoding: aes128gcm\0"], &mut cipher).unwrap();
        fill(&derived, &[b"Content-Encoding: nonce\0"], &mut nonce).unwrap();
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &cipher).unwrap());
        let mut text = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let text = key.open_in_place(nonce, Aad::empty(), &mut text).unwrap().to_vec();
        text.strip_suffix(b"\x02").unwrap().to_vec()
    }

    fn told(notice: &Notice) -> Value {
        serde_json::from_slice(&opened(&request(channel().write(notice, ADDRESS, &GIVEN)).body)).unwrap()
    }

    #[test]
    fn the_example_of_rfc_8291_5_is_sealed_octet_for_octet() {
        let key: [u8; 32] = decoded("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw").try_into().unwrap();
        let salt: [u8; 16] = decoded("DGv6ra1nlYgDCS1FRnbzlw").try_into().unwrap();
        let text = b"When I grow up, I want to be a watermelon";
        let sealed = seal(text, &Device::of(ADDRESS).unwrap(), key, &salt).unwrap();
        let expected = concat!(
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_",
            "yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
        );
        assert_eq!(URL_SAFE_NO_PAD.encode(&sealed), expected);
        assert_eq!(opened(&sealed), text);
    }

    #[test]
    fn a_message_has_the_headers_of_rfc_8030() {
        let sent = request(channel().write(&notice(), ADDRESS, &GIVEN));
        assert_eq!(sent.url, "https://push.example.net/push/JzLQ3raZJfFBR0aqvOMsLrt54w4rJUsV");
        assert_eq!(sent.named_by, NamedBy::User);
        assert_eq!((header(&sent, "TTL"), header(&sent, "Urgency")), ("86400", "normal"));
        assert_eq!(header(&sent, "Content-Encoding"), "aes128gcm");
        let token = header(&sent, "Authorization").strip_prefix("vapid t=").unwrap();
        let claims = decoded(token.split('.').nth(1).unwrap());
        assert_eq!(
            serde_json::from_slice::<Value>(&claims).unwrap(),
            json!({"aud": "https://push.example.net", "exp": 1_453_523_768, "sub": "mailto:push@example.com"})
        );
        let urgent = request(channel().write(&Notice { urgent: true, ..notice() }, ADDRESS, &GIVEN));
        assert_eq!(header(&urgent, "Urgency"), "high");
        let long = WebPush::new(vapid::tests::vapid(), Duration::MAX);
        assert_eq!(header(&request(long.write(&notice(), ADDRESS, &GIVEN)), "TTL"), "2147483647");
    }

    #[test]
    fn a_topic_is_one_for_each_mailbox_and_names_none() {
        let topic = |notice: &Notice, address: &str| {
            header(&request(channel().write(notice, address, &GIVEN)), "Topic").to_owned()
        };
        let first = topic(&notice(), ADDRESS);
        assert_eq!(first.len(), 32);
        assert!(first.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet)));
        assert_eq!(topic(&Notice { seq: 8, ..notice() }, ADDRESS), first);
        let elsewhere = [
            topic(&Notice { mailbox: b"INBOX".as_slice().into(), ..notice() }, ADDRESS),
            topic(&Notice { account: "jim@example.com".into(), ..notice() }, ADDRESS),
            topic(&notice(), &ADDRESS.replace("BTBZ", "BTBA")),
        ];
        assert!(!elsewhere.contains(&first));
    }

    #[test]
    fn an_origin_has_no_port_that_https_has_anyway() {
        let origin = |endpoint: &str| {
            let keys = ADDRESS.split_once('|').unwrap().1;
            Device::of(&format!("{endpoint}|{keys}")).unwrap().origin()
        };
        assert_eq!(origin("https://Push.example.net:443/a/b"), "https://push.example.net");
        assert_eq!(origin("https://push.example.net:8443/"), "https://push.example.net:8443");
        assert_eq!(origin("https://[2001:db8::443]/a"), "https://[2001:db8::443]");
        assert_eq!(origin("https://push.example.net"), "https://push.example.net");
    }

    #[test]
    fn extended_says_what_coi_says_and_how_the_mailbox_stands() {
        assert_eq!(
            told(&notice()),
            json!({
                "from-email": "juliet@example.org", "from-name": "Juliet", "subject": "Contact me immediately!",
                "date": "2004-02-20T06:39:57Z", "msg-id": "<a@b>", "uid": 18, "uidvalidity": 385_759_045,
                "folder": "Entwürfe", "snippet": "Romeo, where are you?", "account": "joe@foo.com", "seq": 7,
                "event": "MessageNew", "timestamp": "2004-02-20T06:40:00Z", "messages": 1503, "unseen": 299,
                "uidnext": 19, "modseq": "9223372036854775807",
            })
        );
    }

    #[test]
    fn wakeup_says_nothing_of_the_message() {
        let small = Notice { counts: Counts::default(), uidvalidity: None, ..notice().wakeup() };
        assert_eq!(
            told(&small),
            json!({"folder": "Entwürfe", "account": "joe@foo.com", "seq": 7, "event": "MessageNew",
                   "timestamp": "2004-02-20T06:40:00Z"})
        );
        assert_eq!(told(&notice().wakeup()).get("subject"), None);
    }

    #[test]
    fn long_text_gives_way_and_a_long_name_is_left_out() {
        let mut large = notice();
        large.mailbox = b"x".repeat(NAME + 1).into();
        let message = large.message.as_mut().unwrap();
        message.subject = Some("ü".repeat(150).into());
        message.id = Some("x".repeat(NAME + 1).into());
        message.snippet = Some("x".repeat(3000).into());
        let read = told(&large);
        assert_eq!((read.get("folder"), read.get("msg-id")), (None, None));
        assert_eq!(read["subject"], cut(&"ü".repeat(150), 200));
        assert_eq!(read["snippet"], cut(&"x".repeat(3000), 2000));
        // What has to be escaped six times over is cut further.
        large.message.as_mut().unwrap().snippet = Some("\u{1}".repeat(3000).into());
        assert_eq!(told(&large)["snippet"], cut(&"\u{1}".repeat(3000), 400));
        let account: Box<str> = "x".repeat(LONGEST).into();
        let sent = channel().write(&Notice { account, ..large }, ADDRESS, &GIVEN);
        assert_eq!(sent, Err(Undeliverable::TooLarge));
    }

    #[test]
    fn what_is_sent_is_never_longer_than_services_have_to_take() {
        let longest = (0..LONGEST).rev().find_map(|len| json(&Notice { account: "x".repeat(len).into(), ..notice() }));
        let device = Device::of(ADDRESS).unwrap();
        assert_eq!(longest.as_ref().map(Vec::len), Some(LONGEST));
        assert_eq!(seal(&longest.unwrap(), &device, below_the_order([255; 32]), &[0; 16]).unwrap().len(), 4096);
    }

    #[test]
    fn the_question_of_coi_is_a_message_of_its_own() {
        let sent = request(channel().question("a \"text\"", ADDRESS, &GIVEN));
        assert_eq!((header(&sent, "WebPush-Validation"), header(&sent, "TTL")), ("", "300"));
        assert_eq!(opened(&sent.body), br#"{"validation":"a \"text\""}"#);
        let long = channel().question(&"x".repeat(LONGEST_QUESTION + 1), ADDRESS, &GIVEN);
        assert_eq!(long, Err(Undeliverable::TooLarge));
    }

    #[test]
    fn an_address_that_is_none_is_told() {
        // The point is on no curve: its first octet says uncompressed, and that is all that the syntax knows.
        let off = ADDRESS.replace("|BCVx", "|BCVy");
        for address in ["https://push.example.net/", &ADDRESS.replace("https", "http"), &off] {
            assert_eq!(channel().write(&notice(), address, &GIVEN), Err(Undeliverable::Address), "{address}");
        }
    }

    #[test]
    fn the_answer_says_what_has_become_of_it() {
        let channel = channel();
        for (answer, outcome) in [
            (status(201), Outcome::Accepted),
            (status(202), Outcome::Accepted),
            (status(400), Outcome::Failed),
            (status(401), Outcome::Failed),
            (status(403), Outcome::Failed),
            (status(404), Outcome::Dead),
            (status(410), Outcome::Dead),
            (status(413), Outcome::TooLarge),
            (status(429), LATER),
            (status(503), LATER),
            (status(307), Outcome::Failed),
            (Answer::Silence, Outcome::Later { after: None }),
            (Answer::Forbidden, Outcome::Dead),
        ] {
            assert_eq!(channel.judge(&answer), outcome, "{answer:?}");
        }
        assert!(channel.is_private(ADDRESS) && channel.kind() == Kind::WebPush);
    }
}
