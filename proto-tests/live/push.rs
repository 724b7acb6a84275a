//! Notices as they are sent by HTTP, to receivers that others have written.
//!
//!     live-push webpush STATE https://127.0.0.1:21000/p/1|BCVx...|BTBZ...
//!     live-push kannel http://127.0.0.1:21001/cgi-bin/sendsms USER PASSWORD +447700900123
//!     live-push mms http://127.0.0.1:21002/mm7 USER PASSWORD +447700900123
//!     out: extended Accepted
//!
//! A line each: what was sent, and what the channel made of the answer. The receivers speak no TLS, so that `https` becomes `http` on the way,
//! and loopback is allowed. `push.py` and `mms.py` call it.

#![forbid(unsafe_code)]

use std::{
    env,
    path::Path,
    time::{Duration, SystemTime},
};

use lemonade_proxy::{
    imap::secret::Secret,
    io::{
        carrier::{
            Places,
            http::{Http, Settings},
        },
        vapid,
    },
    outband::{
        channel::{Channel, Delivery, Given, Undeliverable},
        channels::{kannel::Kannel, mms::Mms, webpush::WebPush},
        notice::Notice,
    },
};
use proto_tests::notice::{self, notice};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["webpush", state, address] => {
            let key = vapid::load(Path::new(state), "mailto:push@example.org").expect("a key");
            let channel = WebPush::new(key, Duration::from_secs(600));
            send("extended", &channel, channel.write(&notice(), address, &given())).await;
            send("wakeup", &channel, channel.write(&notice().wakeup(), address, &given())).await;
            send("question", &channel, channel.question("Grüße", address, &given())).await;
        }
        ["kannel", url, user, password, number] => {
            let password = Secret::new(password.as_bytes().to_vec());
            let (url, user, from) = (url.to_owned(), user.to_owned(), Some("Mail".to_owned()));
            let channel = Kannel { url, user, password, from, validity: Duration::from_secs(3600) };
            send("wakeup", &channel, channel.write(&notice(), number, &given())).await;
            let account = "joe@".to_owned() + &"x".repeat(200);
            let long = Notice { account: account.into(), ..notice() };
            send("long", &channel, channel.write(&long, number, &given())).await;
        }
        ["mms", url, user, password, number] => {
            let channel = Mms {
                url: url.to_owned(),
                user: Some(user.to_owned()),
                password: Secret::new(password.as_bytes().to_vec()),
                vaspid: "mem".to_owned(),
                vasid: "emn".to_owned(),
                version: "6.8.0".to_owned(),
                schema: "REL-6-MM7-1-4".to_owned(),
                subject: "New mail".to_owned(),
                validity: Duration::from_secs(3600),
                private: true,
            };
            send("wakeup", &channel, channel.write(&notice().wakeup(), number, &given())).await;
            send("extended", &channel, channel.write(&notice(), number, &given())).await;
        }
        _ => panic!("live-push webpush STATE ADDRESS | kannel|mms URL USER PASSWORD NUMBER"),
    }
}

async fn send(what: &str, channel: &dyn Channel, written: Result<Delivery, Undeliverable>) {
    let Ok(Delivery::Http(mut request)) = written else { panic!("{what}: {written:?}") };
    request.url = request.url.replacen("https://", "http://", 1);
    let places = Places::new(vec!["127.0.0.0/8".parse().expect("a network")]);
    let carrier = Http::new(Settings { places, ..Settings::default() }).expect("a client");
    println!("{what} {:?}", channel.judge(&carrier.carry(&request).await));
}

fn given() -> Given {
    notice::given(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}
