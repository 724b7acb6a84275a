//! PDUs of SMPP 3.4 in octets.
//!
//!     0000005a 00000004 00000000 00000003        length, submit_sm, status, sequence
//!     00  05 00 "MEM"  01 01 "447700900123"      service, source, destination
//!     40 00 00  00  00  01 00 04 00              a header in the user data; no time; a receipt; octets
//!     2a  0605040b8423f001060603...              user data
//!
//! What we say is written by `rusmpp-core`. What we hear is read here: that crate refuses a whole receipt for one parameter that is not as the
//! specification has it, and reads beyond the length that a parameter says of itself, while a receipt is useful as long as number and state can
//! be found in it. Its facade `rusmpp` needs tokio. What we hear is read without a copy, and nothing that a peer says makes us keep more than
//! [`LONGEST`]. Requirement N20.

use std::{str::FromStr, time::Duration};

use rusmpp_core::{
    CommandStatus,
    command::owned::Command,
    encode::{Encode as _, Length as _},
    pdus::owned::{BindTransceiver, DeliverSmResp, Pdu, SubmitSm},
    types::owned::COctetString,
    values::{DataCoding, EsmClass, InterfaceVersion, Npi, RegisteredDelivery, Ton},
};

use crate::{
    imap::secret::Secret,
    outband::channel::{Coding, ShortMessages},
};

/// The longest PDU that is heard, in octets: far more than any that has a meaning for us.
pub const LONGEST: usize = 64 << 10;
/// Octets of a header, which is the shortest PDU.
const HEADER: usize = 16;
/// The bit that makes a response of a request.
const RESPONSE: u32 = 1 << 31;

/// What a PDU is: its command_id.
pub mod command {
    /// submit_sm, a short message.
    pub const SUBMIT: u32 = 0x04;
    /// deliver_sm: a short message for us, or a receipt.
    pub const DELIVER: u32 = 0x05;
    /// unbind, the end of a session.
    pub const UNBIND: u32 = 0x06;
    /// bind_transceiver, its beginning.
    pub const BIND: u32 = 0x09;
    /// outbind: we are asked to bind, which is what we do.
    pub const OUTBIND: u32 = 0x0b;
    /// enquire_link: whether somebody is there.
    pub const ENQUIRE: u32 = 0x15;
    /// alert_notification: a telephone is there again.
    pub const ALERT: u32 = 0x102;
    /// generic_nack: a response to what nobody understands.
    pub const NACK: u32 = 0x8000_0000;
}

/// A PDU that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    /// What it is.
    pub command: u32,
    /// How it went, in a response.
    pub status: u32,
    /// Its number; a response has that of its request.
    pub sequence: u32,
    /// Its body.
    pub body: &'a [u8],
}

/// A length that no PDU has. Where the next one begins nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a PDU of {0} octets")]
pub struct LengthError(pub u32);

impl<'a> Heard<'a> {
    /// The first PDU of these octets and its length, if it is all there.
    pub fn first(octets: &'a [u8]) -> Result<Option<(Self, usize)>, LengthError> {
        let word = |at: usize| octets.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
        let Some(said) = word(0) else { return Ok(None) };
        let length = said as usize;
        if !(HEADER..=LONGEST).contains(&length) {
            return Err(LengthError(said));
        }
        let (Some(command), Some(status), Some(sequence)) = (word(4), word(8), word(12)) else { return Ok(None) };
        let body = octets.get(HEADER..length);
        Ok(body.map(|body| (Self { command, status, sequence, body }, length)))
    }

    /// Whether it answers something.
    pub fn is_response(&self) -> bool {
        self.command & RESPONSE != 0
    }

    /// Whether it answers this request.
    pub fn answers(&self, request: u32) -> bool {
        self.command == request | RESPONSE || self.command == command::NACK
    }

    /// The message_id of a submit_sm_resp; empty where it has none.
    pub fn message_id(&self) -> &'a [u8] {
        Fields(self.body).c_string().unwrap_or_default()
    }

    /// A deliver_sm in parts, if it is one.
    pub fn delivered(&self) -> Option<Delivered<'a>> {
        let mut fields = Fields(self.body);
        fields.c_string()?;
        fields.take(2)?;
        let source = fields.c_string()?;
        fields.take(2)?;
        fields.c_string()?;
        let esm_class = fields.octet()?;
        fields.take(2)?;
        fields.c_string()?;
        fields.c_string()?;
        fields.take(4)?;
        let length = fields.octet()?;
        let text = fields.take(length.into())?;
        Some(Delivered { source, esm_class, text, parameters: fields.0 })
    }
}

/// What is of use in a deliver_sm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered<'a> {
    /// From where: of a receipt, the number that the message went to.
    pub source: &'a [u8],
    /// What it is.
    pub esm_class: u8,
    /// Its text.
    pub text: &'a [u8],
    /// The optional parameters behind it.
    parameters: &'a [u8],
}

impl<'a> Delivered<'a> {
    /// The value of the first optional parameter (TLV) with this tag. Others are skipped, and what comes behind one that is not all there is
    /// nothing.
    pub fn parameter(&self, tag: u16) -> Option<&'a [u8]> {
        let mut fields = Fields(self.parameters);
        loop {
            let (found, length) = (fields.short()?, fields.short()?);
            let value = fields.take(length.into())?;
            if found == tag {
                return Some(value);
            }
        }
    }
}

/// What is still to be read of a body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn octet(&mut self) -> Option<u8> {
        self.take(1).map(|octets| octets[0])
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2).map(|octets| u16::from_be_bytes([octets[0], octets[1]]))
    }

    /// Up to a NUL, which has to be there.
    fn c_string(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|octet| *octet == 0)?;
        let found = self.take(end);
        self.take(1);
        found
    }
}

/// Who we are to an SMSC, and what we want of it: an external short message entity.
#[derive(Clone)]
pub struct Esme {
    bind: BindTransceiver,
    /// All that is the same in each submit_sm.
    message: SubmitSm,
    octets: DataCoding,
}

/// Who we are, as an operator says it.
#[derive(Clone, Debug)]
pub struct Identity<'a> {
    /// Our name at the SMSC: at most 15 octets of ASCII.
    pub system_id: &'a str,
    /// Its password: at most 8 octets of ASCII.
    pub password: &'a Secret,
    /// What kind of system we are, where the SMSC asks for it: at most 12 octets of ASCII.
    pub system_type: &'a str,
    /// Whom messages are from: `+` and digits, a short code of up to 8 digits, or up to 11 letters.
    pub source: &'a str,
    /// The data_coding of what a program reads: 4, or F5 where the SMSC wants a class.
    pub octets: u8,
    /// For how long the network may try, at most 31 days.
    pub validity: Duration,
    /// Whether the network shall say what became of a message.
    pub receipts: bool,
}

/// What of it an SMSC could not be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}")]
pub struct IdentityError {
    /// Which.
    pub field: &'static str,
    /// What it should be.
    pub expected: &'static str,
}

impl Esme {
    /// With what is the same for all messages.
    pub fn new(identity: &Identity<'_>) -> Result<Self, IdentityError> {
        let password = str::from_utf8(identity.password.expose()).unwrap_or("\u{fffd}");
        let bind = BindTransceiver::builder()
            .system_id(c_string(identity.system_id, "system_id", "at most 15 characters of ASCII")?)
            .password(c_string(password, "password", "at most 8 characters of ASCII")?)
            .system_type(c_string(identity.system_type, "system_type", "at most 12 characters of ASCII")?)
            .interface_version(InterfaceVersion::Smpp3_4)
            .build();
        let (ton, npi, source) = source(identity.source)?;
        let mut message = SubmitSm::default();
        message.source_addr_ton = ton;
        message.source_addr_npi = npi;
        message.source_addr = source;
        message.dest_addr_ton = Ton::International;
        message.dest_addr_npi = Npi::Isdn;
        message.validity_period = relative(identity.validity).parse().map_err(|_| VALIDITY)?;
        message.registered_delivery = RegisteredDelivery::from(u8::from(identity.receipts));
        Ok(Self { bind, message, octets: DataCoding::from(identity.octets) })
    }

    /// bind_transceiver.
    pub fn bind(&self, sequence: u32) -> Vec<u8> {
        written(sequence, self.bind.clone())
    }

    /// A submit_sm for each of these messages, without its number. None, if the address is no number or a message is longer than 254 octets.
    pub fn submits(&self, messages: &ShortMessages) -> Option<Vec<Submit>> {
        let mut message = self.message.clone();
        message.destination_addr = messages.to.strip_prefix('+')?.parse().ok()?;
        message.esm_class = EsmClass::from(if messages.have_header { 0x40 } else { 0 });
        message.data_coding = match messages.coding {
            Coding::Octets => self.octets,
            Coding::Text => DataCoding::McSpecific,
            Coding::Ucs2 => DataCoding::Ucs2,
        };
        let with = |part: &Vec<u8>| {
            let mut message = message.clone();
            message.set_short_message(part.clone().try_into().ok().filter(|_| part.len() < 255)?);
            Some(Submit(message))
        };
        messages.parts.iter().map(with).collect()
    }
}

/// A submit_sm that has no number yet.
#[derive(Clone)]
pub struct Submit(SubmitSm);

impl Submit {
    /// Its octets.
    pub fn written(self, sequence: u32) -> Vec<u8> {
        written(sequence, self.0)
    }
}

/// enquire_link.
pub fn enquire(sequence: u32) -> Vec<u8> {
    written(sequence, Pdu::EnquireLink)
}

/// unbind.
pub fn unbind(sequence: u32) -> Vec<u8> {
    written(sequence, Pdu::Unbind)
}

/// The response to a request of the SMSC's: to one that we do not know, or that comes at the wrong time, generic_nack with this status.
pub fn response(to: &Heard<'_>, status: u32) -> Vec<u8> {
    let body = match to.command {
        command::DELIVER if status == super::status::OK => Pdu::from(DeliverSmResp::default()),
        command::ENQUIRE => Pdu::EnquireLinkResp,
        command::UNBIND => Pdu::UnbindResp,
        _ => Pdu::GenericNack,
    };
    octets(&Command::new(CommandStatus::from(status), to.sequence, body))
}

/// generic_nack to what cannot be read.
pub fn unreadable() -> Vec<u8> {
    octets(&Command::new(CommandStatus::from(super::status::INVALID_COMMAND_LENGTH), 0, Pdu::GenericNack))
}

fn written(sequence: u32, body: impl Into<Pdu>) -> Vec<u8> {
    octets(&Command::new(CommandStatus::EsmeRok, sequence, body))
}

/// The command behind its length.
fn octets(command: &Command) -> Vec<u8> {
    let length = 4 + command.length();
    let mut octets = vec![0; length];
    octets[..4].copy_from_slice(&(length as u32).to_be_bytes());
    command.encode(&mut octets[4..]);
    octets
}

fn c_string<const MAX: usize>(
    text: &str,
    field: &'static str,
    expected: &'static str,
) -> Result<COctetString<1, MAX>, IdentityError> {
    COctetString::from_str(text).map_err(|_| IdentityError { field, expected })
}

const SOURCE: IdentityError =
    IdentityError { field: "from", expected: "+ and digits, a short code of up to 8 digits, or up to 11 letters" };
const VALIDITY: IdentityError = IdentityError { field: "validity", expected: "at most 31 days" };

/// The source in the three parts in which it is said (digest 2.2).
fn source(text: &str) -> Result<(Ton, Npi, COctetString<1, 21>), IdentityError> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    let (ton, npi, address) = match text.strip_prefix('+') {
        Some(number) if is_digits(number) && number.len() <= 15 => (Ton::International, Npi::Isdn, number),
        None if is_digits(text) && text.len() <= 8 => (Ton::NetworkSpecific, Npi::Unknown, text),
        None if text.len() <= 11 && !is_digits(text) => (Ton::Alphanumeric, Npi::Unknown, text),
        _ => return Err(SOURCE),
    };
    Ok((ton, npi, address.parse().map_err(|_| SOURCE)?))
}

/// A time from now on (section 7.1.1.2): `YYMMDDhhmmsst00R`, at most 31 days.
fn relative(validity: Duration) -> String {
    let seconds = validity.as_secs().min(31 * 86_400);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    format!("0000{days:02}{hours:02}{minutes:02}{:02}000R", seconds % 60)
}

#[cfg(test)]
pub(super) mod tests {
    use rusmpp_core::{decode::borrowed::DecodeWithLength as _, pdus::borrowed};

    use super::*;

    pub(in crate::outband::smpp) fn octets_of(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    fn password() -> Secret {
        Secret::new(b"secret08".to_vec())
    }

    fn identity(password: &Secret) -> Identity<'_> {
        let (system_id, system_type, source) = ("SMPP3TEST", "SUBMIT1", "MEM");
        Identity {
            system_id,
            password,
            system_type,
            source,
            octets: 4,
            validity: Duration::from_secs(3600),
            receipts: true,
        }
    }

    pub(in crate::outband::smpp) fn esme() -> Esme {
        Esme::new(&identity(&password())).unwrap()
    }

    pub(in crate::outband::smpp) fn messages() -> ShortMessages {
        let push = "0605040b8423f0 01060603 02030aaf89 030d6a008507036a6f6540666f6f008505c30620040220064001";
        let (to, parts) = ("+447700900123".to_owned(), vec![octets_of(push)]);
        ShortMessages { to, parts, have_header: true, coding: Coding::Octets }
    }

    #[test]
    fn a_submit_is_what_others_write() {
        // The digest's example (2.2), which node-smpp and Kannel took and tshark decoded; its validity period is empty.
        let mut esme = esme();
        esme.message.validity_period = Default::default();
        let example = "0000005a 00000004 00000000 00000003 00 05 00 4d454d00 01 01 34343737303039303031323300
            40 00 00 00 00 01 00 04 00 2a
            0605040b8423f00106060302030aaf89030d6a008507036a6f6540666f6f008505c30620040220064001";
        let submit = esme.submits(&messages()).unwrap().remove(0);
        assert_eq!(hex(&submit.written(3)), hex(&octets_of(example)));
    }

    #[test]
    fn a_bind_is_that_of_the_specification() {
        // SMPP 3.4 section 3.2.3.1, as a transceiver, of version 3.4 and without an address range.
        let example = "0000002f 00000009 00000000 00000001 534d50503354455354 00 7365637265743038 00 5355424d495431 00 34 00 00 00";
        assert_eq!(hex(&esme().bind(1)), hex(&octets_of(example)));
    }

    #[test]
    fn what_is_small_is_a_header() {
        assert_eq!(hex(&enquire(0x7fff_ffff)), "0000001000000015000000007fffffff");
        assert_eq!(hex(&unbind(2)), "00000010000000060000000000000002");
        assert_eq!(hex(&unreadable()), "00000010800000000000000200000000");
        let answer = |command, status| hex(&response(&Heard { command, status: 0, sequence: 7, body: &[] }, status));
        assert_eq!(answer(command::DELIVER, 0), "0000001180000005000000000000000700");
        assert_eq!(answer(command::DELIVER, 2), "00000010800000000000000200000007");
        assert_eq!(answer(command::ENQUIRE, 0), "00000010800000150000000000000007");
        assert_eq!(answer(command::UNBIND, 0), "00000010800000060000000000000007");
        // data_sm.
        assert_eq!(answer(0x103, 3), "00000010800000000000000300000007");
    }

    #[test]
    fn text_and_ucs2_have_their_own_coding_and_no_header() {
        let password = password();
        let classed = Esme::new(&Identity { octets: 0xf5, receipts: false, ..identity(&password) }).unwrap();
        for (esme, coding, have_header, class, receipt, data_coding) in [
            (esme(), Coding::Text, false, 0, 1, 0),
            (esme(), Coding::Ucs2, false, 0, 1, 8),
            (esme(), Coding::Octets, true, 0x40, 1, 4),
            (classed, Coding::Octets, true, 0x40, 0, 0xf5),
        ] {
            let messages = ShortMessages { coding, have_header, ..messages() };
            let octets = esme.submits(&messages).unwrap().remove(0).written(1);
            // Behind the header and three addresses: class, protocol, priority, no schedule, an hour, and what follows.
            let fixed = &octets[16 + 1 + 6 + 15..];
            assert_eq!(hex(&fixed[..4]), format!("{class:02x}000000"));
            assert_eq!(&fixed[4..21], b"000000010000000R\0");
            assert_eq!(fixed[21..25], [receipt, 0, data_coding, 0]);
        }
    }

    #[test]
    fn each_part_is_a_message_and_what_cannot_be_said_is_none() {
        let several = ShortMessages { parts: vec![vec![1; 140], vec![2; 20]], ..messages() };
        assert_eq!(esme().submits(&several).unwrap().len(), 2);
        for wrong in [
            ShortMessages { parts: vec![vec![1; 255]], ..messages() },
            ShortMessages { to: "447700900123".to_owned(), ..messages() },
            ShortMessages { to: "+4477009001234477009001".to_owned(), ..messages() },
        ] {
            assert!(esme().submits(&wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_source_is_a_number_a_short_code_or_a_name() {
        for (text, expected) in [("MEM", "0500"), ("Lemonade 24", "0500"), ("+447700900123", "0101"), ("80012", "0300")]
        {
            let password = password();
            let esme = Esme::new(&Identity { source: text, ..identity(&password) }).unwrap();
            let octets = esme.submits(&messages()).unwrap().remove(0).written(1);
            assert_eq!(hex(&octets[17..19]), expected, "{text}");
            assert!(octets[19..].starts_with(text.trim_start_matches('+').as_bytes()));
        }
        for text in ["+44 7700", "+", "447700900123", "Lemonade 2026", "M\u{fc}ller", "a\0b"] {
            assert_eq!(Esme::new(&Identity { source: text, ..identity(&password()) }).err(), Some(SOURCE), "{text}");
        }
    }

    #[test]
    fn what_an_smsc_cannot_be_told_is_named() {
        let (long, strange) = (Secret::new(b"nine char".to_vec()), Secret::new(vec![0xff]));
        let named = |identity: Identity<'_>| Esme::new(&identity).err().map(|error| error.field);
        assert_eq!(named(identity(&long)), Some("password"));
        assert_eq!(named(identity(&strange)), Some("password"));
        assert_eq!(named(Identity { system_id: "sixteen octets..", ..identity(&password()) }), Some("system_id"));
        assert_eq!(named(Identity { system_type: "thirteen oct.", ..identity(&password()) }), Some("system_type"));
    }

    #[test]
    fn a_validity_is_days_hours_minutes_and_seconds() {
        for (seconds, text) in [
            (3600, "000000010000000R"),
            (2 * 86_400 + 3 * 3600 + 4 * 60 + 5, "000002030405000R"),
            (u64::MAX, "000031000000000R"),
            (0, "000000000000000R"),
        ] {
            assert_eq!(relative(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_pdu_is_cut_where_it_says_and_no_length_that_none_has_is_believed() {
        let two = octets_of("00000010 80000004 00000058 00000003 00000012 80000004 00000000 00000004 6d 00");
        let (first, length) = Heard::first(&two).unwrap().unwrap();
        assert_eq!((first.command, first.status, first.sequence, length), (0x8000_0004, 0x58, 3, 16));
        assert!(first.is_response() && first.answers(command::SUBMIT) && !first.answers(command::BIND));
        assert_eq!(first.message_id(), b"");
        let (second, length) = Heard::first(&two[16..]).unwrap().unwrap();
        assert_eq!((second.message_id(), length), (&b"m"[..], 18));
        assert!((0..16).all(|end| Heard::first(&two[..end]) == Ok(None)));
        for (length, wrong) in [(0, true), (15, true), (16, false), (0x10000, false), (0x10001, true), (u32::MAX, true)]
        {
            // Said with the first four octets, before anything is kept.
            assert_eq!(
                Heard::first(&u32::to_be_bytes(length)),
                if wrong { Err(LengthError(length)) } else { Ok(None) }
            );
        }
    }

    /// A deliver_sm as node-smpp sends it, with these optional parameters.
    pub(in crate::outband::smpp) fn delivery(class: u8, text: &str, parameters: &str) -> Vec<u8> {
        let mut body = octets_of("00 01 01 34343737303039303031323300 05 00 4d454d00");
        body.extend([class, 0, 0, 0, 0, 0, 0, 0, 0, text.len() as u8]);
        body.extend(text.as_bytes());
        body.extend(octets_of(parameters));
        let mut pdu = u32::to_be_bytes(16 + body.len() as u32).to_vec();
        pdu.extend(octets_of("00000005 00000000 00000009"));
        pdu.extend(body);
        pdu
    }

    #[test]
    fn a_delivery_is_read_and_what_is_strange_in_it_is_skipped() {
        let pdu = delivery(4, "id:m1", "1501 0002 ffff 001e 0003 6d3100 0427 0001 02 0423 0009 01");
        let delivered = Heard::first(&pdu).unwrap().unwrap().0.delivered().unwrap();
        assert_eq!((delivered.source, delivered.esm_class, delivered.text), (&b"447700900123"[..], 4, &b"id:m1"[..]));
        assert_eq!(delivered.parameter(0x1e), Some(&b"m1\0"[..]));
        assert_eq!(delivered.parameter(0x427), Some(&[2][..]));
        // Its length is beyond the end; one that is not there.
        assert_eq!((delivered.parameter(0x423), delivered.parameter(0x424)), (None, None));
        // Without its end, or a text longer than what is left: nothing to read.
        let body = &pdu[16..];
        let cut = |end: usize| Heard { command: 5, status: 0, sequence: 9, body: &body[..end] }.delivered();
        let whole = body.len() - "1501 0002 ffff 001e 0003 6d3100 0427 0001 02 0423 0009 01".replace(' ', "").len() / 2;
        assert!((0..whole).all(|end| cut(end).is_none()) && cut(whole).is_some());
    }

    #[test]
    fn what_we_write_another_reads() {
        // The crate's own decoder is another program than the encoder that we use.
        let octets = esme().submits(&messages()).unwrap().remove(0).written(7);
        let (read, used) = borrowed::SubmitSm::<'_, 0>::decode(&octets[16..], octets.len() - 16).unwrap();
        assert_eq!(used, octets.len() - 16);
        assert_eq!(read.short_message().as_ref(), messages().parts[0]);
        assert_eq!(read.validity_period.as_str(), "000000010000000R");
        let bind = esme().bind(1);
        let (read, used) = borrowed::BindTransceiver::decode(&bind[16..], bind.len() - 16).unwrap();
        assert_eq!((read.system_id.as_str(), read.password.as_str(), used), ("SMPP3TEST", "secret08", bind.len() - 16));
    }
}
