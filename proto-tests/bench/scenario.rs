//! What the load generator can do: a table of scenarios, each a short script.
//!
//! All but `login` log their sessions in first and pass the gate, then work, then leave. What is counted is checked: a
//! message arrives whole, a FETCH of n messages has n responses.

use std::{io, time::Duration};

use clap::ValueEnum;
use tokio::task::JoinSet;

use crate::{
    Amount, Gate, Tally,
    client::{Answer, Client, Target},
};

/// Logins under way at a time while sessions are built up.
const LOGINS_AT_ONCE: u64 = 16;
/// A reader that stalls does so for this long.
const STALL: Duration = Duration::from_secs(1);

/// One way to load a proxy.
#[derive(Clone, Copy, ValueEnum)]
pub enum Scenario {
    /// Cycles of connect, LOGIN, SELECT, LOGOUT.
    Login,
    /// NOOP after NOOP.
    Noop,
    /// Whole messages.
    Fetch,
    /// One message, read by someone who stalls at its beginning.
    FetchStalled,
    /// Small FETCH responses, all of a session in one command.
    Small,
    /// Messages towards the backend in non-synchronising literals.
    Append,
    /// One message towards a backend that stalls at its beginning.
    AppendStalled,
    /// What a mail program does in a day, in rounds of twelve commands.
    Mixed,
    /// Sessions that do nothing.
    Idle,
}

impl Scenario {
    /// Runs it to its end.
    pub async fn run(self, target: Target, amount: Amount, gate: &Gate) -> io::Result<Tally> {
        if let Self::Idle = self {
            return idle(target, amount, gate).await;
        }
        let sessions = amount.sessions[0].max(1);
        let mut clients = match self {
            Self::Login => Vec::new(),
            _ => build_up(&target, sessions, &amount.size).await?,
        };
        gate.pass()?;
        let mut workers = JoinSet::new();
        for index in 0..sessions {
            // Shares that add up to the whole.
            let share = amount.count * (index + 1) / sessions - amount.count * index / sessions;
            match clients.pop() {
                None => workers.spawn(cycles(target.clone(), share, amount.size.clone())),
                Some(client) => workers.spawn(self.work(client, share, amount.size.clone())),
            };
        }
        let mut tally = Tally { sessions, ..Tally::default() };
        while let Some(done) = workers.join_next().await {
            let (commands, octets) = done.map_err(io::Error::other)??;
            tally.commands += commands;
            tally.octets += octets;
        }
        Ok(tally)
    }

    async fn work(self, mut client: Client, share: u64, size: String) -> io::Result<(u64, u64)> {
        let mut octets = 0;
        let size = octets_of(&size)?;
        match self {
            Self::Noop => {
                for _ in 0..share {
                    octets += client.command("NOOP").await?.octets;
                }
            }
            Self::Fetch => {
                for number in 1..=share {
                    let answer = client.command(&format!("FETCH {number} (BODY.PEEK[])")).await?;
                    octets += expect(answer, 1, size)?;
                }
            }
            Self::FetchStalled => {
                client.send("FETCH 1 (BODY.PEEK[])").await?;
                tokio::time::sleep(STALL).await;
                octets += expect(client.answer().await?, 1, size)?;
            }
            Self::Small => {
                let answer = client.command(&format!("FETCH 1:{share} (FLAGS ENVELOPE)")).await?;
                octets += expect(answer, share, 0)?;
            }
            Self::Append | Self::AppendStalled => {
                let mailbox = if matches!(self, Self::Append) { "INBOX" } else { "stall" };
                for _ in 0..share {
                    client.append(mailbox, size, false).await?;
                    octets += size;
                }
            }
            Self::Mixed => {
                for round in 0..share / 12 {
                    octets += day(&mut client, round + 1).await?;
                }
            }
            Self::Login | Self::Idle => {}
        }
        client.command("LOGOUT").await?;
        client.closed().await?;
        Ok((share, octets))
    }
}

async fn cycles(target: Target, share: u64, mailbox: String) -> io::Result<(u64, u64)> {
    for _ in 0..share {
        let mut client = target.select(&mailbox).await?;
        client.command("LOGOUT").await?;
        client.closed().await?;
    }
    Ok((share, 0))
}

/// Twelve commands: look around, search, list 50 messages, read one, mark it, store a copy, wait a moment.
async fn day(client: &mut Client, round: u64) -> io::Result<u64> {
    let from = round % 9_000 + 1;
    let to = from + 49;
    let mut octets = 0;
    for command in ["LIST \"\" \"*\"", "STATUS INBOX (MESSAGES UIDNEXT UNSEEN)", "SELECT 8k", "UID SEARCH UNDELETED"] {
        octets += client.command(command).await?.octets;
    }
    octets += expect(client.command(&format!("FETCH {from}:{to} (UID FLAGS ENVELOPE)")).await?, 50, 0)?;
    octets += expect(client.command(&format!("UID FETCH {from} (UID BODY.PEEK[])")).await?, 1, 8 << 10)?;
    octets += client.command(&format!("UID STORE {from} +FLAGS (\\Seen)")).await?.octets;
    octets += client.append("INBOX", 2 << 10, true).await?.octets;
    client.send("IDLE").await?;
    client.invited().await?;
    client.write(b"DONE\r\n").await?;
    octets += client.answer().await?.octets;
    octets += client.command(&format!("FETCH {from}:{to} (FLAGS)")).await?.octets;
    octets += client.command("CHECK").await?.octets;
    Ok(octets + client.command("NOOP").await?.octets)
}

/// Holds sessions at each of the numbers asked for, then shows by a NOOP that all of them still live.
async fn idle(target: Target, amount: Amount, gate: &Gate) -> io::Result<Tally> {
    let mut clients = Vec::new();
    for level in &amount.sessions {
        let more = level.saturating_sub(clients.len() as u64);
        clients.append(&mut build_up(&target, more, &amount.size).await?);
        gate.pass()?;
    }
    let mut tally = Tally { sessions: clients.len() as u64, ..Tally::default() };
    for client in &mut clients {
        tally.octets += client.command("NOOP").await?.octets;
        tally.commands += 1;
    }
    Ok(tally)
}

/// Sessions with the mailbox selected, a few logins at a time.
async fn build_up(target: &Target, sessions: u64, mailbox: &str) -> io::Result<Vec<Client>> {
    let mut under_way = JoinSet::new();
    let mut clients = Vec::new();
    for begun in 0..sessions + LOGINS_AT_ONCE {
        if begun >= LOGINS_AT_ONCE
            && let Some(done) = under_way.join_next().await
        {
            clients.push(done.map_err(io::Error::other)??);
        }
        if begun < sessions {
            let (target, mailbox) = (target.clone(), mailbox.to_owned());
            under_way.spawn(async move { target.select(&mailbox).await });
        }
    }
    Ok(clients)
}

/// The octets of an answer that has as many responses and octets of literals as it must have.
fn expect(answer: Answer, responses: u64, literals: u64) -> io::Result<u64> {
    match answer.responses == responses && answer.literals == literals {
        true => Ok(answer.octets),
        false => Err(io::Error::other(format!(
            "expected {responses} responses and {literals} octets of literals, got {} and {}",
            answer.responses, answer.literals
        ))),
    }
}

/// `8k` is 8 KiB, `1m` 1 MiB.
fn octets_of(size: &str) -> io::Result<u64> {
    let (number, unit) = match (size.strip_suffix('k'), size.strip_suffix('m')) {
        (Some(number), _) => (number, 10),
        (_, Some(number)) => (number, 20),
        _ => (size, 0),
    };
    number.parse::<u64>().map(|number| number << unit).map_err(io::Error::other)
}
