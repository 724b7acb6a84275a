//! The load generator of the bench: one scenario a run, through whatever proxy listens at `--connect`.
//!
//!     bench-load fetch --size 1m --count 1024 --connect 127.0.0.1:1143 --steps
//!     out: ready          every session is logged in; with --steps it waits here for a line on standard input
//!     out: done {"sessions": 4, "commands": 1024, "octets": 1073825792, "seconds": 1.24}
//!
//! The runner reads the proxy's CPU time and memory at `ready` and at `done`. An octet that is not the one sent ends the run.

#![forbid(unsafe_code)]

mod client;
mod pattern;
mod scenario;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Parser;

use crate::{client::Target, scenario::Scenario};

/// A load generator for IMAP proxies.
#[derive(Parser)]
struct Arguments {
    /// What is done.
    #[arg(value_enum)]
    scenario: Scenario,
    /// The proxy.
    #[arg(long)]
    connect: SocketAddr,
    /// Speak TLS and trust this certificate.
    #[arg(long)]
    tls: Option<PathBuf>,
    #[command(flatten)]
    amount: Amount,
    /// Wait for a line on standard input at each `ready`.
    #[arg(long)]
    steps: bool,
    /// Give up after so many seconds.
    #[arg(long, default_value_t = 120)]
    deadline: u64,
}

/// How much of it.
#[derive(clap::Args, Clone)]
pub struct Amount {
    /// Sessions side by side; for `idle` a list: the number grows from one to the next.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    sessions: Vec<u64>,
    /// Commands (or cycles, or responses) in all.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Size of a message, as the backend's mailbox is called: `8k`, `1m`, `64m`.
    #[arg(long, default_value = "1m")]
    size: String,
}

/// What came of it.
#[derive(Default)]
pub struct Tally {
    sessions: u64,
    commands: u64,
    octets: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let target = Target::new(arguments.connect, arguments.tls.as_deref())?;
    let gate = Gate { waits: arguments.steps };
    let run = arguments.scenario.run(target, arguments.amount, &gate);
    let begin = Instant::now();
    let tally = tokio::time::timeout(Duration::from_secs(arguments.deadline), run)
        .await
        .map_err(|_| io::Error::other("not done in time"))??;
    let Tally { sessions, commands, octets } = tally;
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "done {{\"sessions\": {sessions}, \"commands\": {commands}, \"octets\": {octets}, \"seconds\": {seconds:.3}}}"
    );
    Ok(())
}

/// Where a run stops until the runner has read what it wants to read.
pub struct Gate {
    waits: bool,
}

impl Gate {
    /// Says `ready` and waits. Blocks the whole program: nothing is to move meanwhile.
    pub fn pass(&self) -> io::Result<()> {
        println!("ready");
        io::stdout().flush()?;
        if self.waits {
            io::stdin().read_line(&mut String::new())?;
        }
        Ok(())
    }
}
