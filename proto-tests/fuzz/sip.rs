//! What we send by SIP after what any peer may have said: it is short, has our fields alone, and is another request.

use std::time::Duration;

use lemonade_proxy::{
    imap::secret::Secret,
    outband::sip::{
        digest::Account,
        exchange::{Exchange, Next},
        message::{LONGEST, Message},
        response::{self, Response},
        uri::{Transport, Uri},
    },
};

use crate::fuzz;

const LOCAL: &str = "192.0.2.1:5060";

const RESPONSES: &[&[u8]] = &[
    b"SIP/2.0 401 Who\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1\r\nCSeq: 1 MESSAGE\r\n\
      WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", opaque=\"o\\\"\", algorithm=SHA-256, qop=\"auth\"\r\nl: 0\r\n\r\n",
    b"SIP/2.0 407 Who\r\nProxy-Authenticate: Digest realm=r,\r\n nonce=\"n\", stale=true\r\nContent-Length: 0\r\n\r\n",
    b"\r\nSIP/2.0 302 There\r\nContact: \"a, <b>\" <sip:romeo@h:5070;transport=tcp;x=y>;q=1, <sips:c@d>\r\nl: 3\r\n\r\nabc",
    b"SIP/2.0 503 Busy\r\nRetry-After: 120 (later);duration=1\r\nContent-Length: 0\r\n\r\n",
];

const URIS: &[&[u8]] = &[
    b"sip:romeo@example.com:5070;user=phone;transport=tcp;method=MESSAGE?subject=SIEVE",
    b"sips:+1555;ext=7:pw@[2001:db8::1];x=%5b[y]",
];

#[test]
fn responses() {
    let account = Account::new("joe".to_owned(), Secret::new(b"pw".to_vec()), vec!["r".to_owned()], true).unwrap();
    let message = Message {
        to: "sip:romeo@example.com".parse().unwrap(),
        from: "sip:notifier@example.com".parse().unwrap(),
        headers: vec![("Content-Type", "text/plain".to_owned())],
        body: b"hello".to_vec(),
        chance: [7; 64],
    };
    fuzz("sip responses", RESPONSES, |octets, _| {
        if let Ok(Some(cut)) = response::cut(octets) {
            assert!((1..=octets.len()).contains(&cut.octets));
        }
        let Some(response) = Response::datagram(octets) else { return };
        assert!(response.retry_after() <= Some(Duration::from_secs(24 * 3600)));
        let mut exchange = Exchange::new(&message, Some(&account));
        let first = exchange.request(Transport::Udp, LOCAL).unwrap();
        if exchange.hear(&response) == Next::Again
            && let Some(sent) = exchange.request(Transport::Udp, LOCAL)
        {
            assert!(sent.octets.len() <= LONGEST && sent.octets != first.octets);
            judge(&sent.octets);
        }
    });
}

/// Whether the request has these lines, and no others.
fn judge(request: &[u8]) {
    const FIELDS: [&str; 10] = [
        "Authorization",
        "CSeq",
        "Call-ID",
        "Content-Length",
        "Content-Type",
        "From",
        "Max-Forwards",
        "Proxy-Authorization",
        "To",
        "Via",
    ];
    let text = str::from_utf8(request).unwrap();
    let head = text.strip_suffix("\r\n\r\nhello").unwrap();
    let (first, rest) = head.split_once("\r\n").unwrap();
    assert!(
        first.starts_with("MESSAGE sip") && first.ends_with(" SIP/2.0") && first.matches(' ').count() == 2,
        "{text}"
    );
    for line in rest.split("\r\n") {
        let name = line.split(": ").next().unwrap_or_default();
        assert!(FIELDS.contains(&name) && !line.contains(|it: char| it.is_control() && it != '\t'), "{text}");
    }
}

#[test]
fn uris() {
    fuzz("sip uris", URIS, |octets, _| {
        let Some(uri) = str::from_utf8(octets).ok().and_then(|text| text.parse::<Uri>().ok()) else { return };
        let written = uri.to_string();
        assert_eq!(written.parse::<Uri>().as_ref(), Ok(&uri), "{written}");
        assert!(written.bytes().all(|octet| octet.is_ascii_graphic() && !b"<>\"\\".contains(&octet)), "{written}");
        let identity = uri.identity().to_string();
        assert!(identity.parse::<Uri>().is_ok_and(|uri| uri.to_string() == identity), "{identity}");
    });
}
