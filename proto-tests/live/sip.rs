//! Notices as they are sent by SIP, to telephones and proxies that others have written.
//!
//!     live-sip sip.toml sip:romeo@127.0.0.1:21000
//!     out: extended Delivered
//!     out: wakeup Delivered
//!
//! A line each: what was sent, and what the channel made of the answer. `sip.toml` is the section `[outband.sip]`, with the certificates to
//! believe beside it in `ca.pem`, where there are any; loopback is allowed. `sip.py` calls it.

#![forbid(unsafe_code)]

use std::{
    env, fs,
    path::Path,
    time::{Duration, SystemTime},
};

use lemonade_proxy::{
    io::{
        carrier::{
            Places,
            sip::{Settings, Sip},
        },
        tls,
    },
    mailbox::event::Kind,
    outband::{
        channel::{Channel, Delivery, Given},
        notice::{Counts, Message, Notice},
    },
};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, address] = &arguments[..] else { panic!("live-sip SETTINGS ADDRESS") };
    let settings: Settings = toml::from_str(&fs::read_to_string(file).expect("settings")).expect("a section");
    let channel = settings.channel().expect("from");
    let places = Places::new(vec!["127.0.0.0/8".parse().expect("a network")]);
    let roots = Path::new(file).with_file_name("ca.pem");
    let tls = tls::believe(roots.exists().then_some(&*roots)).expect("certificates");
    let carrier = Sip::new(settings, places, tls).expect("a carrier");
    for (what, notice) in [("extended", notice()), ("wakeup", notice().wakeup())] {
        let Ok(Delivery::Sip(message)) = channel.write(&notice, address, &given()) else { panic!("a message") };
        println!("{what} {:?}", channel.judge(&carrier.carry(&message).await));
    }
}

/// Chance that is another each time, as far as a test needs it.
fn given() -> Given {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let octets = now.as_nanos().to_be_bytes();
    Given { now, chance: std::array::from_fn(|at| octets[at % octets.len()] ^ at as u8) }
}

fn notice() -> Notice {
    let message = Message {
        uid: 18,
        from: Some("juliet@example.org".into()),
        subject: Some("Grüße, \"sofort\"!".into()),
        ..Message::default()
    };
    Notice {
        account: "joe@foo.com".into(),
        seq: 7,
        at: Duration::from_secs(1_077_259_200),
        event: Kind::MessageNew,
        mailbox: b"INBOX".as_slice().into(),
        uidvalidity: Some(385_759_045),
        counts: Counts::default(),
        message: Some(message),
        urgent: true,
    }
}
