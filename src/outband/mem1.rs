//! MEM1: the envelope for what a datagram must not show, and how a device says that it has it.
//!
//!      0  "MEM1"                   8  key id
//!      4  type                    12  sequence, ascending for each key and direction
//!      5  kind of payload         20  seconds since 1970
//!      6  0 0                     24  payload and tag: ChaCha20-Poly1305 over it and these 24 octets
//!
//!     server   01 notice, sequence 7      ->   device
//!     server   <-   81 acknowledgement, sequence 7, no payload
//!
//! Each direction has a key of its own, HKDF-SHA256 of what both know. The nonce is key id and sequence, so that no sequence may stand on
//! two different texts. An acknowledgement has the sequence and the time of what it acknowledges: the same datagram, should it come
//! again, is answered by the same octets. A probe (02, 82) is a notice of nothing. Who cannot prove the key gets no answer.
//! Requirements N10, N21.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use aws_lc_rs::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    constant_time,
    hkdf::{HKDF_SHA256, Salt},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::imap::secret::Secret;

/// The longest datagram, in octets: it passes every network in one piece.
pub const LONGEST: usize = 512;
/// What the envelope adds, in octets.
pub const ADDED: usize = HEADER + TAG;
/// How far the clocks of server and device may differ.
pub const APART: Duration = Duration::from_secs(300);

const HEADER: usize = 24;
const TAG: usize = 16;
/// Octets of what both know.
const PSK: usize = 32;

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Type {
    /// The server tells something.
    Notice = 0x01,
    /// The server asks whether the device is there.
    Probe = 0x02,
    /// The device has a notice.
    Acknowledgement = 0x81,
    /// The device is there.
    ProbeAcknowledgement = 0x82,
}

/// What the payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// There is none.
    None = 0,
    /// EMN as text.
    Emn = 1,
    /// EMN as WBXML.
    EmnWbxml = 2,
    /// XEMN.
    Xemn = 3,
    /// JSON.
    Json = 4,
}

/// What was in an envelope, or shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What it is.
    pub what: Type,
    /// What the payload is.
    pub kind: Kind,
    /// Its number.
    pub sequence: u64,
    /// When it was sealed, in seconds since 1970.
    pub time: u32,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Why a datagram is not listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// Something else, or of a later version.
    #[error("no MEM1")]
    Other,
    /// No key has this id.
    #[error("no key has this id")]
    Unknown,
    /// Whoever wrote it does not know the key, or it was changed on its way.
    #[error("not written by who has the key")]
    Forged,
    /// What a device says.
    #[error("of the other direction")]
    Direction,
    /// It was written at another time, or the clocks differ.
    #[error("more than 300 s from now")]
    Time,
    /// So old that nobody can tell whether it was there before.
    #[error("older than the last 64")]
    Old,
}

impl Type {
    const ALL: [Self; 4] = [Self::Notice, Self::Probe, Self::Acknowledgement, Self::ProbeAcknowledgement];

    fn is_of_device(self) -> bool {
        self as u8 & 0x80 != 0
    }

    fn answer(self) -> Self {
        match self {
            Self::Notice | Self::Acknowledgement => Self::Acknowledgement,
            Self::Probe | Self::ProbeAcknowledgement => Self::ProbeAcknowledgement,
        }
    }
}

impl Kind {
    const ALL: [Self; 5] = [Self::None, Self::Emn, Self::EmnWbxml, Self::Xemn, Self::Json];
}

/// What a server and a device both know. As text it is `a1b2c3d4:` and 32 octets in base64url.
#[derive(Clone)]
pub struct Key {
    id: [u8; 4],
    psk: Secret,
}

impl Key {
    /// A key with this id.
    pub fn new(id: [u8; 4], psk: &[u8; PSK]) -> Self {
        Self { id, psk: Secret::new(psk.to_vec()) }
    }

    /// Its id, as it is shown: it is no secret.
    pub fn id(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.id))
    }

    /// The key as text, for the device that has to know it.
    pub fn text(&self) -> Secret {
        Secret::new(format!("{}:{}", self.id(), URL_SAFE_NO_PAD.encode(self.psk.expose())).into_bytes())
    }

    /// The datagram for this content. None where the payload is longer than any that the cipher takes.
    pub fn seal(&self, content: &Content) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(ADDED + content.payload.len());
        out.extend(b"MEM1");
        out.extend([content.what as u8, content.kind as u8, 0, 0]);
        out.extend(self.id);
        out.extend(content.sequence.to_be_bytes());
        out.extend(content.time.to_be_bytes());
        let mut sealed = content.payload.clone();
        let key = self.cipher(content.what)?;
        key.seal_in_place_append_tag(self.nonce(content.sequence), Aad::from(&out[..]), &mut sealed).ok()?;
        out.append(&mut sealed);
        Some(out)
    }

    /// What is in this datagram. Whether it is new, and for whom, is not asked.
    pub fn open(&self, datagram: &[u8]) -> Result<Content, Dropped> {
        let (header, sealed) = datagram.split_at_checked(HEADER).ok_or(Dropped::Other)?;
        let what = Type::ALL.into_iter().find(|what| header[4] == *what as u8);
        let kind = Kind::ALL.into_iter().find(|kind| header[5] == *kind as u8);
        let (Some(what), Some(kind), b"MEM1", [0, 0]) = (what, kind, &header[..4], &header[6..8]) else {
            return Err(Dropped::Other);
        };
        if sealed.len() < TAG || datagram.len() > LONGEST {
            return Err(Dropped::Other);
        }
        if header[8..12] != self.id {
            return Err(Dropped::Unknown);
        }
        let (sequence, time) = (sequence(datagram), time(datagram));
        let mut payload = sealed.to_vec();
        let key = self.cipher(what).ok_or(Dropped::Forged)?;
        let opened = key.open_in_place(self.nonce(sequence), Aad::from(header), &mut payload);
        let len = opened.map_err(|_| Dropped::Forged)?.len();
        payload.truncate(len);
        Ok(Content { what, kind, sequence, time, payload })
    }

    /// Whether a datagram that was heard says that the device has the one that was sent.
    pub fn acknowledges(&self, sent: &[u8], heard: &[u8], now: Duration) -> bool {
        let Ok(sent) = self.open(sent) else { return false };
        self.open(heard).is_ok_and(|heard| {
            heard.what.is_of_device()
                && heard.what == sent.what.answer()
                && heard.sequence == sent.sequence
                && is_of(now, heard.time)
        })
    }

    /// The key of the direction in which such a datagram goes.
    fn cipher(&self, what: Type) -> Option<LessSafeKey> {
        let info: &[u8] = if what.is_of_device() { b"mem-udp-wakeup v1 c2s=1" } else { b"mem-udp-wakeup v1 c2s=0" };
        let mut key = Zeroizing::new([0; PSK]);
        let secret = Salt::new(HKDF_SHA256, &[]).extract(self.psk.expose());
        secret.expand(&[info], HKDF_SHA256.hmac_algorithm()).ok()?.fill(&mut *key).ok()?;
        UnboundKey::new(&CHACHA20_POLY1305, &*key).ok().map(LessSafeKey::new)
    }

    fn nonce(&self, sequence: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.id);
        nonce[4..].copy_from_slice(&sequence.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && constant_time::verify_slices_are_equal(self.psk.expose(), other.psk.expose()).is_ok()
    }
}

impl Eq for Key {}

/// What is wrong with the text of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a key: 8 hexadecimal digits, a colon, and 32 octets in base64url")]
pub struct KeyError;

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (id, psk) = text.split_once(':').ok_or(KeyError)?;
        if id.len() != 8 || !id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(KeyError);
        }
        let id = u32::from_str_radix(id, 16).map_err(|_| KeyError)?;
        let psk = Zeroizing::new(URL_SAFE_NO_PAD.decode(psk.trim_end_matches('=')).map_err(|_| KeyError)?);
        let psk: Zeroizing<[u8; PSK]> = Zeroizing::new(psk.as_slice().try_into().map_err(|_| KeyError)?);
        Ok(Self::new(id.to_be_bytes(), &psk))
    }
}

/// A device that listens: its keys, and what it has heard under each.
#[derive(Debug)]
pub struct Receiver {
    keys: Vec<(Key, Window)>,
}

/// What a device has heard.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    /// What it was.
    pub content: Content,
    /// Under which key.
    pub key: String,
    /// It was heard before: the answer to it was lost.
    pub is_repeated: bool,
    /// What is answered.
    pub answer: Vec<u8>,
}

impl Receiver {
    /// A device that has these keys: two while one follows another. Of those with the same id the first counts.
    pub fn new(keys: Vec<Key>) -> Self {
        let mut ids = BTreeSet::new();
        let once = keys.into_iter().filter(|key| ids.insert(key.id));
        Self { keys: once.map(|key| (key, Window::default())).collect() }
    }

    /// Listens to a datagram: a key that is known, the tag, the time, the sequence, in this order.
    pub fn hear(&mut self, datagram: &[u8], now: Duration) -> Result<Heard, Dropped> {
        let id = datagram.get(8..12).filter(|_| datagram.starts_with(b"MEM1")).ok_or(Dropped::Other)?;
        let known = self.keys.iter_mut().find(|(key, _)| key.id == id);
        let (key, window) = known.ok_or(Dropped::Unknown)?;
        let content = key.open(datagram)?;
        if content.what.is_of_device() {
            return Err(Dropped::Direction);
        }
        if !is_of(now, content.time) {
            return Err(Dropped::Time);
        }
        let is_repeated = !window.is_new(content.sequence).ok_or(Dropped::Old)?;
        let answer = Content { what: content.what.answer(), kind: Kind::None, payload: Vec::new(), ..content };
        let answer = key.seal(&answer).ok_or(Dropped::Other)?;
        Ok(Heard { content, key: key.id(), is_repeated, answer })
    }
}

/// The last 64 sequences, and which of them were there.
#[derive(Debug, Default)]
struct Window {
    /// The highest so far.
    last: u64,
    /// Bit 0 is the last, bit 63 the oldest.
    seen: u64,
}

impl Window {
    /// Whether it was not there before; None: nobody can tell.
    fn is_new(&mut self, sequence: u64) -> Option<bool> {
        if let Some(ahead) = sequence.checked_sub(self.last).filter(|ahead| *ahead > 0 || self.seen == 0) {
            let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
            (self.last, self.seen) = (sequence, self.seen.checked_shl(ahead).unwrap_or(0) | 1);
            return Some(true);
        }
        let bit = 1u64.checked_shl(u32::try_from(self.last - sequence).ok()?)?;
        let is_new = self.seen & bit == 0;
        self.seen |= bit;
        Some(is_new)
    }
}

/// The sequence in a header.
fn sequence(datagram: &[u8]) -> u64 {
    datagram[12..20].iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
}

/// The time in a header.
fn time(datagram: &[u8]) -> u32 {
    datagram[20..24].iter().fold(0, |number, octet| number << 8 | u32::from(*octet))
}

fn is_of(now: Duration, time: u32) -> bool {
    Duration::from_secs(now.as_secs()).abs_diff(Duration::from_secs(u64::from(time))) <= APART
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2004-02-20T06:40:00Z.
    const TIME: u32 = 1_077_259_200;
    const NOW: Duration = Duration::from_secs(TIME as u64 + 3);

    fn octets(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|octet| !octet.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn key() -> Key {
        Key::new([0xa1, 0xb2, 0xc3, 0xd4], &std::array::from_fn(|at| at as u8))
    }

    fn notice(sequence: u64) -> Content {
        // With the token for .com, as in the vector.
        let payload = octets("030d6a008507036a6f6540666f6f008505c30620040220064001");
        Content { what: Type::Notice, kind: Kind::EmnWbxml, sequence, time: TIME, payload }
    }

    fn datagram() -> Vec<u8> {
        octets(
            "4d454d3101020000a1b2c3d400000000000000074035abc0 8e0fc8e5e63773b0aef0836e78e117de9f59b65442a29c8f96850e28047c2dc0
             86367b38d364242a2444",
        )
    }

    fn acknowledgement() -> Vec<u8> {
        octets("4d454d3181000000a1b2c3d400000000000000074035abc3 84bb33754ece403130bd191ebbf4c2fe")
    }

    #[test]
    fn the_vector_is_sealed_and_opened() {
        assert_eq!(key().seal(&notice(7)), Some(datagram()));
        assert_eq!(datagram().len(), 66);
        assert_eq!(key().open(&datagram()), Ok(notice(7)));
        let answer =
            Content { what: Type::Acknowledgement, kind: Kind::None, sequence: 7, time: TIME + 3, payload: vec![] };
        assert_eq!(key().seal(&answer), Some(acknowledgement()));
        assert!(key().acknowledges(&datagram(), &acknowledgement(), NOW));
    }

    #[test]
    fn a_device_acknowledges_each_time_by_the_same_octets() {
        let mut device = Receiver::new(vec![key()]);
        let first = device.hear(&datagram(), NOW).unwrap();
        assert_eq!((first.content, first.is_repeated, first.key.as_str()), (notice(7), false, "a1b2c3d4"));
        assert!(key().acknowledges(&datagram(), &first.answer, NOW));
        let again = device.hear(&datagram(), NOW + Duration::from_secs(9)).unwrap();
        assert_eq!((again.is_repeated, again.answer), (true, first.answer));
    }

    #[test]
    fn a_probe_is_answered_as_one() {
        let probe = Content { what: Type::Probe, kind: Kind::None, payload: vec![], ..notice(8) };
        let probe = key().seal(&probe).unwrap();
        let answer = Receiver::new(vec![key()]).hear(&probe, NOW).unwrap().answer;
        assert_eq!((answer[4], answer.len()), (0x82, probe.len()));
        assert!(key().acknowledges(&probe, &answer, NOW));
        assert!(!key().acknowledges(&datagram(), &answer, NOW));
    }

    #[test]
    fn what_is_dropped_is_dropped_for_the_first_reason() {
        let mut device = Receiver::new(vec![key()]);
        let mut why = |octets: &[u8], now| device.hear(octets, now).map(|_| ()).unwrap_err();
        let changed = |at: usize, octet: u8| {
            let mut datagram = datagram();
            datagram[at] = octet;
            datagram
        };
        let late = NOW + APART;
        assert_eq!(why(b"", late), Dropped::Other);
        assert_eq!(why(&datagram()[..39], late), Dropped::Other);
        assert_eq!(why(&changed(3, b'2'), late), Dropped::Other);
        assert_eq!(why(&changed(4, 3), late), Dropped::Other);
        assert_eq!(why(&changed(5, 5), late), Dropped::Other);
        assert_eq!(why(&changed(7, 1), late), Dropped::Other);
        assert_eq!(why(&changed(8, 0), late), Dropped::Unknown);
        // Header and payload are both under the tag.
        for at in [4, 5, 12, 19, 20, 23, 24, 49, 50, 65] {
            let octet = datagram()[at] ^ if at == 4 { 3 } else { 1 };
            assert_eq!(why(&changed(at, octet), late), Dropped::Forged, "{at}");
        }
        assert_eq!(why(&acknowledgement(), late), Dropped::Direction);
        assert_eq!(why(&datagram(), late), Dropped::Time);
        assert_eq!(why(&datagram(), NOW - APART - Duration::from_secs(4)), Dropped::Time);
        device.hear(&key().seal(&notice(71)).unwrap(), NOW).unwrap();
        assert_eq!(device.hear(&datagram(), NOW), Err(Dropped::Old));
        let long = Content { payload: vec![0; LONGEST - ADDED + 1], ..notice(72) };
        assert_eq!(device.hear(&key().seal(&long).unwrap(), NOW), Err(Dropped::Other));
    }

    #[test]
    fn an_acknowledgement_is_of_this_datagram_and_of_now() {
        let key = key();
        let eighth = key.seal(&notice(8)).unwrap();
        assert!(!key.acknowledges(&eighth, &acknowledgement(), NOW));
        assert!(!key.acknowledges(&datagram(), &datagram(), NOW));
        assert!(!key.acknowledges(&datagram(), &acknowledgement(), NOW + APART + Duration::from_secs(1)));
        assert!(!key.acknowledges(&datagram(), b"MEM1", NOW));
        let other = Key::new([0xa1, 0xb2, 0xc3, 0xd4], &[0; 32]);
        assert!(!other.acknowledges(&other.seal(&notice(7)).unwrap(), &acknowledgement(), NOW));
    }

    #[test]
    fn the_window_is_64_wide() {
        let mut window = Window::default();
        let table = [
            (0, Some(true)),
            (0, Some(false)),
            (5, Some(true)),
            (3, Some(true)),
            (3, Some(false)),
            (68, Some(true)),
            (5, Some(false)),
            (4, None),
            (69, Some(true)),
            (5, None),
            (6, Some(true)),
            (u64::MAX, Some(true)),
            (69, None),
            (u64::MAX - 63, Some(true)),
            (u64::MAX - 64, None),
        ];
        for (sequence, expected) in table {
            assert_eq!(window.is_new(sequence), expected, "{sequence}");
        }
    }

    #[test]
    fn two_keys_are_known_while_one_follows_the_other() {
        let next = Key::new([0xa1, 0xb2, 0xc3, 0xd5], &[9; 32]);
        let mut device = Receiver::new(vec![key(), next.clone()]);
        assert!(device.hear(&datagram(), NOW).is_ok());
        assert_eq!(device.hear(&next.seal(&notice(7)).unwrap(), NOW).map(|heard| heard.is_repeated), Ok(false));
    }

    #[test]
    fn a_key_is_read_and_written_and_does_not_print() {
        let text = "a1b2c3d4:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        assert_eq!(text.parse(), Ok(key()));
        assert_eq!(key().text().expose(), text.as_bytes());
        assert_eq!(format!("{:?}", key()), "Key(a1b2c3d4)");
        for text in
            ["", "a1b2c3d4", "a1b2c3:AAEC", "+1b2c3d4:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "a1b2c3d4:AAEC"]
        {
            assert_eq!(text.parse::<Key>(), Err(KeyError), "{text}");
        }
    }
}
