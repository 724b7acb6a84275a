//! Notices as messages of XMPP, to receivers that others have written.
//!
//!     live-xmpp SETTINGS.toml romeo@localhost [CUT]
//!     out: wakeup Accepted Delivered
//!     out: extended Delivered nothing
//!
//! A line each: what was sent, what the channel made of the answer, and what was heard later, where anything was. With CUT, a third one is sent when
//! this file is there and the stream is known again: what cuts it is `xmpp.py`, which calls this. The settings are those of `[outband.xmpp]`, in
//! a file of their own.

#![forbid(unsafe_code)]

use std::{
    env, fs,
    path::Path,
    time::{Duration, SystemTime},
};

use lemonade_proxy::{
    io::carrier::xmpp::{self, Condition},
    outband::{
        channel::{Channel, Delivery, Given, Receipt},
        channels::xmpp::Xmpp,
        notice::{Message, Notice},
    },
};
use proto_tests::notice;
use tokio::{sync::oneshot, time};

/// How long is waited for a stream.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long is waited for a receipt.
const RECEIPT: Duration = Duration::from_secs(4);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (file, address, cut) = match &arguments[..] {
        [file, address] => (file, address, None),
        [file, address, cut] => (file, address, Some(cut)),
        _ => panic!("live-xmpp SETTINGS ADDRESS [CUT]"),
    };
    let settings = fs::read_to_string(file).expect("settings");
    let settings: xmpp::Settings = toml::from_str(&settings).expect("settings of an XMPP server");
    let carrier = xmpp::Xmpp::begin(&settings).expect("settings").expect("a server");
    until(|| carrier.condition() != Condition::Connecting).await;
    let channel = Xmpp { subject: settings.subject, private: settings.private };
    send(&carrier, &channel, "wakeup", &notice(1).wakeup(), address).await;
    send(&carrier, &channel, "extended", &notice(2), address).await;
    if let Some(cut) = cut {
        until(|| Path::new(cut).exists() && carrier.condition() != Condition::Bound).await;
        until(|| carrier.condition() == Condition::Bound).await;
        send(&carrier, &channel, "again", &notice(3), address).await;
    }
}

async fn until(is_so: impl Fn() -> bool) {
    let waits = async {
        while !is_so() {
            time::sleep(Duration::from_millis(10)).await;
        }
    };
    time::timeout(PATIENCE, waits).await.expect("a stream, or none");
}

async fn send(carrier: &xmpp::Xmpp, channel: &Xmpp, name: &str, notice: &Notice, address: &str) {
    let Ok(Delivery::Xmpp(message)) = channel.write(notice, address, &given()) else { panic!("{name}") };
    let (receipt, hears) = oneshot::channel();
    let outcome = channel.judge(&carrier.carry(&message, receipt).await);
    let told: Option<Receipt> = time::timeout(RECEIPT, hears).await.ok().and_then(Result::ok);
    println!("{name} {outcome:?} {}", told.map_or("nothing".to_owned(), |told| format!("{told:?}")));
}

fn given() -> Given {
    notice::given(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

/// With what must not become markup.
fn notice(seq: u64) -> Notice {
    let whole = notice::notice();
    let message = whole.message.map(|message| Message {
        name: Some("Juliet \"J\" <&>".into()),
        subject: Some("1 < 2 ]]> </body></message>: Grüße".into()),
        ..message
    });
    Notice { seq, message, ..whole }
}
