//! Notices as they are sent by SIP, to telephones and proxies that others have written.
//!
//!     live-sip sip.toml sip:romeo@127.0.0.1:21000
//!     out: extended Delivered
//!     out: wakeup Delivered
//!
//! A line each: what was sent, and what the channel made of the answer. `sip.toml` is the section `[outband.sip]`, with the certificates to
//! believe beside it in `ca.pem`, where there are any; loopback is allowed. `sip.py` calls it.

#![forbid(unsafe_code)]

use std::{env, fs, path::Path, time::SystemTime};

use lemonade_proxy::{
    io::{
        carrier::{
            Places,
            sip::{Settings, Sip},
        },
        tls,
    },
    outband::{
        channel::{Channel, Delivery, Given},
        notice::{Counts, Message, Notice},
    },
};
use proto_tests::notice;

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

fn given() -> Given {
    notice::given(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

fn notice() -> Notice {
    let message = Message {
        uid: 18,
        from: Some("juliet@example.org".into()),
        subject: Some("Grüße, \"sofort\"!".into()),
        ..Message::default()
    };
    let (mailbox, counts) = (b"INBOX".as_slice().into(), Counts::default());
    Notice { mailbox, counts, message: Some(message), ..notice::notice() }
}
