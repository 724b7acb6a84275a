//! How many turns of the outband side the store takes in a second, and how long each waits for the disk.
//!
//!     $ bench-store --accounts 100 --seconds 5 --state DIR
//!     done {"accounts": 100, "turns": 15200, "refused": 0, "seconds": 5.003, "p50_ms": 31.2, "p99_ms": 48.7}
//!
//! Each account is a task that saves its next turn when the one before is on the disk, as a desk does: the route, how far INBOX was looked
//! at, and a line of the journal, of the size that real ones have.

#![forbid(unsafe_code)]

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use lemonade_proxy::store::{
    AccountName, Change, Device, DeviceName, Line, Source, Store, StoreError, Turn, Way, sqlite::Database,
};

/// Measures the store.
#[derive(Parser)]
struct Arguments {
    /// How many save at a time.
    #[arg(long, default_value_t = 100)]
    accounts: u32,
    /// For how long.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// A directory for the store.
    #[arg(long)]
    state: PathBuf,
}

/// Octets of a route's state as it is stored.
const ROUTE: usize = 300;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let Arguments { accounts, seconds, state } = Arguments::parse();
    let store = Arc::new(Database::open(&state).await.map_err(io::Error::other)?);
    let mut names = Vec::new();
    for number in 0..accounts {
        let name = AccountName { backend: "main".into(), user: format!("user{number}").into() };
        let device = Device { name: DeviceName::default(), source: Source::Operator, first_seen: 0, last_seen: 0 };
        store.save(&name, &Change::Seen(device)).await.map_err(io::Error::other)?;
        names.push(name);
    }
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let tasks: Vec<_> = names.into_iter().map(|name| tokio::spawn(turns(Arc::clone(&store), name, until))).collect();
    let (mut times, mut refused) = (Vec::new(), 0);
    for task in tasks {
        let (took, failed) = task.await.map_err(io::Error::other)?;
        times.extend(took);
        refused += failed;
    }
    let seconds = began.elapsed().as_secs_f64();
    store.close().await;
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    println!(
        "done {{\"accounts\": {accounts}, \"turns\": {}, \"refused\": {refused}, \"seconds\": {seconds:.3}, \
         \"p50_ms\": {:.2}, \"p99_ms\": {:.2}}}",
        times.len(),
        at(50),
        at(99)
    );
    Ok(())
}

/// Saves turns of one account until then: how long each took, and how many were refused.
async fn turns(store: Arc<Database>, name: AccountName, until: Instant) -> (Vec<Duration>, u32) {
    let (mut times, mut refused) = (Vec::new(), 0);
    for number in 0.. {
        let began = Instant::now();
        if began >= until {
            break;
        }
        match store.save(&name, &Change::Turn(turn(number))).await {
            Ok(_) => times.push(began.elapsed()),
            Err(StoreError::Unavailable(_) | StoreError::TooMany(_) | StoreError::TooLarge(_)) => refused += 1,
        }
    }
    (times, refused)
}

fn turn(number: u64) -> Turn {
    let inbox = || Box::<[u8]>::from(*b"INBOX");
    let way = Way { device: DeviceName::default(), to: "UDP 127.0.0.1:4000".into() };
    let row = format!("{{\"n\":{number},\"x\":\"{}\"}}", "x".repeat(ROUTE));
    let line = Line {
        at: 1_790_000_000_000,
        device: Some(DeviceName::default()),
        mailbox: inbox(),
        uids: number.to_string().into(),
        seq: number,
        what: "sent".into(),
    };
    let looked = format!("{{\"uidvalidity\":1,\"next\":{number}}}");
    Turn {
        routes: vec![(way, Some(row.into()))],
        looked: vec![(inbox(), Some(looked.into()))],
        journal: vec![line],
        ..Turn::default()
    }
}
