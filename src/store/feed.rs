//! The log of events that wait for another server: written at its end, read from its beginning, and of a bounded length.
//!
//!     append   1041 {"event":"MessageNew",...}   1042 ...      on the disk with one write, whatever their number
//!     read     behind 1040                  ->   1041, 1042    in their order
//!     settle   acked 1041                   ->   1042 is left
//!
//! A number is given once, whether its event is there or not: what is missing between two that are there has fallen out of the log, or was
//! never in it. Requirement N19.

use super::Answer;

/// Which stream it is, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The name of the stream, made once.
    pub stream: Box<str>,
    /// Up to this number all is done with; 0: nothing is.
    pub acked: u64,
    /// The number of the next event; the first is 1.
    pub next: u64,
}

/// An event in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its number.
    pub seq: u64,
    /// When it was written, in milliseconds since 1970.
    pub at: i64,
    /// What has happened, as JSON.
    pub line: Box<str>,
}

/// How much the log may hold. What is beyond is forgotten from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Events.
    pub events: u64,
    /// Octets of them.
    pub octets: u64,
    /// Written since then, in milliseconds since 1970.
    pub since: i64,
}

/// What was found of the log at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The number of the next event to be written.
    pub next: u64,
    /// The first of those that were asked for, in order.
    pub events: Vec<Logged>,
}

/// The log.
pub trait Feed: Send + Sync {
    /// How far it has come; where there is none yet it begins as this stream.
    fn begin<'a>(&'a self, stream: &'a str) -> Answer<'a, Position>;

    /// Writes events at its end, and forgets what is too much at its beginning: the answer is how many. `Ok`: they are on the disk. The next
    /// event will have the number `next`. What is there already stays as it is, so that an attempt of which nobody knows the end can be repeated.
    fn append<'a>(&'a self, events: &'a [Logged], next: u64, keep: Keep) -> Answer<'a, u64>;

    /// The first events behind this number: at most so many, and behind the first of them at most so many octets.
    fn read(&self, behind: u64, events: u32, octets: u64) -> Answer<'_, Tail>;

    /// This stream is done with up to this number, and with these events behind it: they are forgotten.
    fn settle<'a>(&'a self, stream: &'a str, acked: u64, dropped: &'a [u64]) -> Answer<'a, ()>;
}
