//! The RFCs' examples at a real server, or through the proxy before it: the same files that run before the model.
//!
//!     live-transcripts --server cyrus --port 21001                  what the server has itself
//!     live-transcripts --server courier --port 21001 --proxy 21004  what the proxy adds
//!     out: 63 passed, 0 failed, 24 skipped
//!
//! `transcripts.py` starts the servers and calls it. Each transcript has a user of its own, `u1`, `u2`, ... What a server does
//! not offer, or cannot be brought to, is skipped, aloud. See `proto_tests::transcript::live`.

#![forbid(unsafe_code)]

use std::{
    fs, io,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use proto_tests::transcript::{
    Transcript,
    live::{Outcome, Place, Stream},
};

/// Which directories are tried, and what a server must offer for each.
const RFCS: &[(&str, &str)] = &[
    ("rfc2177", "IDLE"),
    ("rfc4315", "UIDPLUS"),
    ("rfc4731", "ESEARCH"),
    ("rfc5032", "WITHIN"),
    ("rfc5182", "SEARCHRES"),
    ("rfc5258", "LIST-EXTENDED"),
    ("rfc5464", "METADATA-SERVER"),
    ("rfc5465", "NOTIFY"),
    ("rfc5466", "FILTERS"),
    ("rfc5819", "LIST-STATUS"),
    ("rfc6154", "SPECIAL-USE"),
    ("rfc6851", "MOVE"),
    ("rfc8438", "STATUS=SIZE"),
];

/// Transcripts at once: most of them wait.
const AT_ONCE: usize = 8;

/// What takes longer is named.
const SLOW: Duration = Duration::from_secs(20);

/// Plays the transcripts of RFCs at a real server.
#[derive(Parser)]
struct Arguments {
    /// What the transcripts call the server.
    #[arg(long)]
    server: String,
    /// Its port on loopback.
    #[arg(long)]
    port: u16,
    /// The port of a proxy before it: the client goes there.
    #[arg(long)]
    proxy: Option<u16>,
    /// Only those whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
}

/// How often each outcome came.
#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let way = if arguments.proxy.is_some() { "proxied" } else { "direct" };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let files: Vec<(PathBuf, &str)> = RFCS.iter().flat_map(|(rfc, needed)| files(&root.join(rfc), needed)).collect();
    let (next, counts) = (AtomicUsize::new(0), Mutex::new(Counts::default()));
    let work = || {
        while let Some((index, (path, needed))) = files.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
            let name = path.strip_prefix(&root).unwrap_or(path).display().to_string();
            if !name.contains(&arguments.only) {
                continue;
            }
            let began = Instant::now();
            let outcome = play(&arguments, path, needed, &format!("u{}", index + 1));
            let Ok(mut counts) = counts.lock() else { return };
            if began.elapsed() > SLOW {
                println!("{} {way} {name}: took {} s", arguments.server, began.elapsed().as_secs());
            }
            match outcome {
                Ok(Outcome::Passed) => counts.passed += 1,
                Ok(Outcome::Skipped(reason)) => {
                    counts.skipped += 1;
                    println!("{} {way} {name}: skipped, {reason}", arguments.server);
                }
                Ok(Outcome::Deviates(reason)) => {
                    counts.skipped += 1;
                    println!("{} {way} {name}: deviates, {reason}", arguments.server);
                }
                Err(failure) => {
                    counts.failed += 1;
                    println!("{} {way} {name}: FAILED\n{failure}", arguments.server);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let Ok(Counts { passed, failed, skipped }) = counts.into_inner() else { return ExitCode::FAILURE };
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The transcripts of a directory, in order.
fn files<'a>(directory: &Path, needed: &'a str) -> Vec<(PathBuf, &'a str)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| (entry.path(), needed)).collect();
    files.sort();
    files
}

fn play(arguments: &Arguments, path: &Path, needed: &str, user: &str) -> Result<Outcome, String> {
    let transcript = Transcript::read(path).map_err(|failure| failure.to_string())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let client = |patience| connect(arguments.proxy.unwrap_or(arguments.port), patience);
    let behind = |patience| connect(arguments.port, patience);
    let place = Place {
        server: &arguments.server,
        user,
        password: "pw",
        now: i64::try_from(now.as_secs()).unwrap_or_default(),
        client: &client,
        behind: &behind,
    };
    let offered = place.offers()?;
    let missing =
        |word: &&str| !offered.iter().any(|has| has == word || (*word == "METADATA-SERVER" && has == "METADATA"));
    match std::iter::once(needed).chain(transcript.needs()).find(missing) {
        Some(word) => Ok(Outcome::Skipped(format!("it lacks {word}"))),
        None => transcript.play_live(&place).map_err(|failure| failure.to_string()),
    }
}

fn connect(port: u16, patience: Duration) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}
