//! Random walks against models (architecture section 10): a client that keeps its own list of messages, a backend with
//! manners, somebody else who changes the store, other sessions of the account, time that passes while clients listen, octets cut
//! anywhere, readers that stall.
//!
//! `SEED=17` runs a walk again, `WALK_STEPS=1000000` makes it longer. A failure prints the seed and the end of the session.
//!
//! | file | question |
//! |---|---|
//! | `client` | what does a client believe, and what may it be told when? |
//! | `commands` | what does it say, and what must come of it? |
//! | `session` | who carries its octets, and what must be true of it? |
//! | `mail` | what mail is there, and who else changes it? |
//! | `world` | whose turn is it, and what do sessions of an account tell each other? |
//! | `cuts` | what is left when a peer goes at any octet? |
//! | `looks` | does every session of an account hear of news, whoever has found them? |
//! | `stalls` | what is held for a reader that does not read? |
//! | `twins` | can a client tell whether UIDs are known? |
//! | `flaws` | would the walk notice? |
//! | `routes` | is a device that is away told, once, within its limits, until it is back? |
//! | `annotations` | is what is read what was set, on either device, after every rename? |

mod annotations;
mod client;
mod commands;
mod cuts;
mod flaws;
mod looks;
mod mail;
mod routes;
mod session;
mod stalls;
mod twins;
mod world;

use proto_tests::{model::Mischief, random::Random};

use self::world::{Plan, World};

/// Steps of each walk: six of them, more than a million together, and ten times that in a long run (`LEMONADE_LONG`).
fn steps() -> usize {
    let usual = if std::env::var_os("LEMONADE_LONG").is_some() { 2_000_000 } else { 200_000 };
    std::env::var("WALK_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(usual)
}

/// Sessions of a few hundred steps each, until the steps are used up.
fn walk(legal: bool, manners: impl Fn(&mut Random) -> Mischief) {
    walk_together(legal, 1, manners);
}

/// The same with several sessions of one account: at most so many, and half as many at least.
fn walk_together(legal: bool, most: usize, manners: impl Fn(&mut Random) -> Mischief) {
    let seed = Random::seed();
    println!("SEED={seed}");
    let mut random = Random::new(seed);
    let mut left = steps();
    while left > 0 {
        let session = random.bits();
        let length = random.within(50..600).min(left);
        left -= length;
        let plan = Plan::random(Random::new(session), legal, manners(&mut random))
            .with_sessions(random.within(most.div_ceil(2)..most + 1));
        if let Err(failure) = World::through_the_proxy(plan).walk(length) {
            panic!("SEED={seed}, session {session}\n{failure}");
        }
    }
}

/// Any of the manners under which a client can know what is true.
fn any_manners(random: &mut Random) -> Mischief {
    let mut manners = Mischief::default();
    for (name, switch) in manners.all() {
        let honest =
            !matches!(name, "silent-expunge" | "silent-arrival" | "snapshot" | "runs-injected" | "refuses-literals");
        *switch = honest && random.one_in(2);
    }
    manners
}

#[test]
fn a_client_that_obeys_the_rfc_believes_what_is_true() {
    walk(true, any_manners);
}

#[test]
fn a_client_that_pipelines_anything_changes_no_wrong_message() {
    walk(false, any_manners);
}

#[test]
fn a_polite_backend_is_no_harder() {
    walk(true, |_| Mischief::default());
}

#[test]
fn sessions_of_an_account_hear_what_each_of_them_finds() {
    walk_together(true, 3, any_manners);
}

#[test]
fn a_backend_that_tells_nothing_of_a_selected_mailbox_is_seen_through() {
    walk(true, |random| Mischief { snapshot: true, ..any_manners(random) });
}

#[test]
fn a_backend_that_refuses_literals_executes_none() {
    walk(true, |random| Mischief { refuses_literals: true, ..any_manners(random) });
}
