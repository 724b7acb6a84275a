//! Notices as short messages and as mails, to receivers that others have written.
//!
//!     live-smpp sms SETTINGS.toml +447700900101
//!     live-smpp mail SETTINGS.toml joe@phone.example
//!     out: wakeup Accepted Delivered
//!
//! A line each: what was sent, what the channel made of the answer, and what was heard later, where anything was. The settings are those of
//! `[outband.sms.smpp]` and `[outband.mail]`, in a file of their own. `smpp.py` calls it.

#![forbid(unsafe_code)]

use std::{
    env, fs,
    time::{Duration, SystemTime},
};

use lemonade_proxy::{
    io::carrier::{
        smpp::{self, Condition},
        smtp,
    },
    outband::{
        channel::{Channel, Delivery, Given, Receipt},
        channels::{mailto::Mailto, smpp::Smpp},
        notice::Notice,
    },
};
use proto_tests::notice::{self, notice};
use tokio::{sync::oneshot, time};

/// How long is waited for a link, and for a receipt.
const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [what, file, address] = &arguments[..] else { panic!("live-smpp sms|mail SETTINGS ADDRESS") };
    let settings = fs::read_to_string(file).expect("settings");
    match what.as_str() {
        "sms" => sms(&toml::from_str(&settings).expect("settings of an SMSC"), address).await,
        "mail" => mail(&toml::from_str(&settings).expect("settings of a mail server"), address).await,
        _ => panic!("sms or mail"),
    }
}

async fn sms(settings: &smpp::Settings, number: &str) {
    let carrier = smpp::Smpp::begin(settings).expect("settings").expect("a server");
    let bound = time::timeout(PATIENCE, async {
        while carrier.state().condition == Condition::Connecting {
            time::sleep(Duration::from_millis(10)).await;
        }
    });
    bound.await.expect("a link, or none");
    let long = Notice { account: ("joe@".to_owned() + &"x".repeat(200)).into(), ..notice() };
    let whole = Smpp { text: true };
    for (name, channel, notice) in
        [("wakeup", Smpp::default(), notice().wakeup()), ("long", Smpp::default(), long), ("extended", whole, notice())]
    {
        let Ok(Delivery::ShortMessages(messages)) = channel.write(&notice, number, &given()) else { panic!("{name}") };
        let (receipt, hears) = oneshot::channel();
        let outcome = channel.judge(&carrier.carry(&messages, receipt).await);
        let told: Option<Receipt> = time::timeout(PATIENCE, hears).await.ok().and_then(Result::ok);
        println!("{name} {outcome:?} {}", told.map_or("nothing".to_owned(), |told| format!("{told:?}")));
    }
}

async fn mail(settings: &smtp::Settings, address: &str) {
    let carrier = smtp::Smtp::new(settings).expect("settings").expect("a server");
    let channel = Mailto { from: settings.from.clone(), private: settings.private };
    for (name, notice) in [("wakeup", notice().wakeup()), ("extended", notice())] {
        let Ok(Delivery::Mail(mail)) = channel.write(&notice, address, &given()) else { panic!("{name}") };
        println!("{name} {:?}", channel.judge(&carrier.carry(&mail).await));
    }
}

/// With the chance that `smpp.py` finds again in the references of parts.
fn given() -> Given {
    Given { chance: [0x5c; 64], ..notice::given(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()) }
}
