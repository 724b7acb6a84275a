//! The log of events for another server, in the tables `feed` and `fed`.
//!
//! One transaction writes whatever has gathered, and forgets what is too much: one wait for the disk. Reading is one transaction too, so that
//! an event which is written meanwhile is there with its number, or neither is.

use sqlx::{Connection as _, Sqlite, SqliteConnection, Transaction};

use super::Database;
use crate::store::{
    Answer, StoreError,
    feed::{Feed, Keep, Logged, Position, Tail},
};

impl Database {
    async fn begin_feed(&self, stream: &str) -> Result<Position, StoreError> {
        let mut writer = self.pools().await?.writer.acquire().await?;
        let sql = "INSERT INTO feed (id, stream, acked, next) VALUES (1, $1, 0, 1) ON CONFLICT (id) DO NOTHING";
        sqlx::query(sql).bind(stream).execute(&mut *writer).await?;
        let found = sqlx::query_as("SELECT stream, acked, next FROM feed").fetch_one(&mut *writer).await?;
        let (stream, acked, next): (String, i64, i64) = found;
        Ok(Position { stream: stream.into(), acked: acked as u64, next: next as u64 })
    }

    async fn append_fed(&self, events: &[Logged], next: u64, keep: Keep) -> Result<u64, StoreError> {
        let mut writer = self.pools().await?.writer.acquire().await?;
        let appended = append(&mut writer, events, next, keep).await;
        if appended.is_err() {
            // A full disk makes SQLite end the transaction by itself, and sqlx would take this one to be open for ever.
            let _ = writer.close().await;
        }
        Ok(appended?)
    }

    async fn read_fed(&self, behind: u64, events: u32, octets: u64) -> Result<Tail, StoreError> {
        let mut within = self.pools().await?.readers.begin().await?;
        let next: Option<i64> = sqlx::query_scalar("SELECT next FROM feed").fetch_optional(&mut *within).await?;
        let last = last(&mut within, signed(behind), events, signed(octets)).await?;
        let sql = "SELECT seq, at, line FROM fed WHERE seq > $1 AND seq <= $2 ORDER BY seq";
        let asked = sqlx::query_as(sql).bind(signed(behind)).bind(last);
        let rows: Vec<(i64, i64, String)> = asked.fetch_all(&mut *within).await?;
        let event = |(seq, at, line): (i64, i64, String)| Logged { seq: seq as u64, at, line: line.into() };
        Ok(Tail { next: next.unwrap_or(1) as u64, events: rows.into_iter().map(event).collect() })
    }

    async fn settle_fed(&self, stream: &str, acked: u64, dropped: &[u64]) -> Result<(), StoreError> {
        let mut writer = self.pools().await?.writer.acquire().await?;
        let settled = settle(&mut writer, stream, acked, dropped).await;
        if settled.is_err() {
            let _ = writer.close().await;
        }
        Ok(settled?)
    }
}

async fn append(writer: &mut SqliteConnection, events: &[Logged], next: u64, keep: Keep) -> Result<u64, sqlx::Error> {
    let mut within = writer.begin_with("BEGIN IMMEDIATE").await?;
    let last = sqlx::query_scalar("SELECT upto FROM fed ORDER BY seq DESC LIMIT 1");
    let mut upto: i64 = last.fetch_optional(&mut *within).await?.unwrap_or(0);
    for Logged { seq, at, line } in events {
        let sql = "INSERT INTO fed (seq, at, upto, line) VALUES ($1, $2, $3, $4) ON CONFLICT (seq) DO NOTHING";
        let asked = sqlx::query(sql).bind(signed(*seq)).bind(at).bind(upto + line.len() as i64).bind(&**line);
        if asked.execute(&mut *within).await?.rows_affected() > 0 {
            upto += line.len() as i64;
        }
    }
    let asked = sqlx::query("UPDATE feed SET next = $1 WHERE next < $1").bind(signed(next));
    asked.execute(&mut *within).await?;
    // What is kept begins with the first row that is young enough and has little enough behind it.
    let asked = sqlx::query_scalar("SELECT seq FROM fed WHERE at >= $1 AND upto > $2 ORDER BY seq LIMIT 1");
    let asked = asked.bind(keep.since).bind(upto.saturating_sub(signed(keep.octets)));
    let first: i64 = asked.fetch_optional(&mut *within).await?.unwrap_or(signed(next));
    let asked = sqlx::query("DELETE FROM fed WHERE seq < $1").bind(first.max(signed(next.saturating_sub(keep.events))));
    let forgotten = asked.execute(&mut *within).await?;
    within.commit().await?;
    Ok(forgotten.rows_affected())
}

/// The last row that may be read with those before it.
async fn last(within: &mut Transaction<'_, Sqlite>, behind: i64, events: u32, octets: i64) -> Result<i64, sqlx::Error> {
    let asked = sqlx::query_as("SELECT seq, upto FROM fed WHERE seq > $1 ORDER BY seq LIMIT $2");
    let rows: Vec<(i64, i64)> = asked.bind(behind).bind(events).fetch_all(&mut **within).await?;
    let most = rows.first().map_or(0, |(_, upto)| upto.saturating_add(octets));
    Ok(rows.iter().take_while(|(_, upto)| *upto <= most).last().map_or(behind, |(seq, _)| *seq))
}

async fn settle(writer: &mut SqliteConnection, stream: &str, acked: u64, dropped: &[u64]) -> Result<(), sqlx::Error> {
    let mut within = writer.begin_with("BEGIN IMMEDIATE").await?;
    let asked = sqlx::query("UPDATE feed SET stream = $1, acked = $2").bind(stream).bind(signed(acked));
    asked.execute(&mut *within).await?;
    sqlx::query("DELETE FROM fed WHERE seq <= $1").bind(signed(acked)).execute(&mut *within).await?;
    for seq in dropped {
        sqlx::query("DELETE FROM fed WHERE seq = $1").bind(signed(*seq)).execute(&mut *within).await?;
    }
    within.commit().await
}

/// As the tables have it. Nobody counts so far.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Feed for Database {
    fn begin<'a>(&'a self, stream: &'a str) -> Answer<'a, Position> {
        Box::pin(self.begin_feed(stream))
    }

    fn append<'a>(&'a self, events: &'a [Logged], next: u64, keep: Keep) -> Answer<'a, u64> {
        Box::pin(self.append_fed(events, next, keep))
    }

    fn read(&self, behind: u64, events: u32, octets: u64) -> Answer<'_, Tail> {
        Box::pin(self.read_fed(behind, events, octets))
    }

    fn settle<'a>(&'a self, stream: &'a str, acked: u64, dropped: &'a [u64]) -> Answer<'a, ()> {
        Box::pin(self.settle_fed(stream, acked, dropped))
    }
}
