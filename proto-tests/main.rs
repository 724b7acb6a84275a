//! Runs every transcript as one test of its name: whole, octet by octet and cut at random.
//!
//!     cargo test -p proto-tests --test transcripts -- idle/
//!
//! `SEED=17` runs one choice of cuts again. A transcript runs against the model alone first, unless it says
//! `proxy: only`: what the model does not do, nobody need ask of the proxy. With optional capabilities it is two tests: the
//! second, `NAME without METADATA`, runs through the proxy before a backend that lacks them.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use libtest_mimic::{Arguments, Failed, Trial};
use proto_tests::{
    cast::{Between, Cut, Direct},
    proxy::{Proxy, Setup},
    random::Random,
    transcript::{Run, Transcript},
};

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let seed = Random::seed();
    let trials = files(&root).into_iter().flat_map(|path| {
        let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        trials(name, &path, seed)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// The test of a transcript, and one more if it has optional capabilities.
fn trials(name: String, path: &Path, seed: u64) -> Vec<Trial> {
    let transcript = match Transcript::read(path) {
        Ok(transcript) => transcript,
        Err(failure) => return vec![Trial::test(name, move || Err(failure.to_string().into()))],
    };
    let optional = transcript.header.optional.join(" ");
    let proxied = if optional.is_empty() { "through the proxy" } else { "through the proxy, native" };
    let mut trials = Vec::new();
    if let Some(without) = transcript.without_optional() {
        let run = format!("through the proxy, without {optional}");
        trials.push(Trial::test(format!("{name} without {optional}"), move || play(&without, false, &run, seed)));
    }
    let direct = !transcript.header.proxy_only;
    trials.push(Trial::test(name, move || play(&transcript, direct, proxied, seed)));
    trials
}

/// Every transcript below this directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "imap"))
        .collect();
    found.sort();
    found
}

fn play(transcript: &Transcript, directly: bool, name: &str, seed: u64) -> Result<(), Failed> {
    let mut setup = Setup::before(&transcript.header.settings);
    for (name, value) in &transcript.header.proxy {
        let wrong = |expected| format!("{}: {name}: {value}: expected {expected}", transcript.path.display());
        setup.set(name, value).map_err(wrong)?;
    }
    // What is done for those who follow would stand in the way where nobody is meant to.
    setup.followed &= transcript.tells_events();
    let direct = || Box::new(Direct::default()) as Box<dyn Between>;
    let proxied = || Box::new(Proxy::new(setup.clone(), seed)) as Box<dyn Between>;
    for (cut, cut_name) in cuts(seed) {
        if directly {
            let run = Run { between: direct(), cut: cut.clone(), name: format!("direct, {cut_name}") };
            transcript.run(run).map_err(|failure| failure.to_string())?;
        }
        let run = Run { between: proxied(), cut, name: format!("{name}, {cut_name}") };
        transcript.run(run).map_err(|failure| failure.to_string())?;
    }
    Ok(())
}

/// The three ways in which every transcript runs.
fn cuts(seed: u64) -> [(Cut, String); 3] {
    [
        (Cut::Whole, "whole".to_owned()),
        (Cut::Octets, "octet by octet".to_owned()),
        (Cut::Random(Random::new(seed)), format!("cut at random, SEED={seed}")),
    ]
}
