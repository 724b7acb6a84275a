//! A route: one device, one channel, one address, and where it stands between news and the reaction to them.
//!
//!                 event            d0             next_at, 5 times          next_at          30 wake-ups
//!        IDLE -----------> PENDING ----> SENT --------------------> SUSPENDED ------------> DORMANT
//!         ^                   ^  |        |                             (a WAKEUP a day)
//!         | nothing fresh     |  +--------+--> CAPPED (until midnight)
//!       GRACE ----------------+ fresh                                    DISABLED (NONE, or the address is dead)
//!         ^
//!       ONLINE   <--- the device is there, from any state
//!
//! The states, rows and numbers are those of the digest of notifications, section 10. [`Route::on`] says whether something is to be
//! saved, or is due. What is due is claimed: the number ascends, limits are counted, the row is saved, and only then the first octet
//! leaves; [`Route::settle`] says what came of it. What was claimed and is without an outcome after a restart goes again under its
//! number, and is not counted again. Times are since 1970. A channel's outcome for a notice is asked for once; receipts that come later
//! are inputs.
//!
//! Where the digest is silent, or says two things:
//!
//! - Presence (`account/presence.rs`) knows nothing of the grace time. It is here, once, because a restart must not shorten it.
//! - While the device is online news are marked even where they are told inband; what it acknowledges is [`Input::Synced`]. So nothing is
//!   lost in a connection that has died unseen.
//! - An event in PENDING puts the notice off by d0 again, else "older than 15 s" could never be.
//! - `attempts` begins anew with a reaction or a new address only, not behind CAPPED: a day that rolls must not let a route send for ever.
//!   PENDING goes to SUSPENDED as SENT does.
//! - CAPPED becomes PENDING where something is fresh, or dirty and a notice is without a reaction; what is only dirty from an earlier visit
//!   does not cause a notice, there as elsewhere.
//! - A wake-up that the limit forbids counts among the 30: else there would be no end.
//! - What a notice covered that the channel did not take in the end is fresh again; so is what one covered on its way to an old address.
//! - Pauses are counted from the moment at which the channel has the notice. Urgent news are not put off by "delivered".
//! - Urgent news within 60 s of the last that shortened a pause shorten it to the end of these 60 s. They never shorten the last pause.
//! - The last notice of a day is WAKEUP: EXTENDED goes only while there is room for a WAKEUP behind it.
//! - What concerns the whole account, and does not ring, is in the ring alone: no mailbox could be synchronised for it.
//! - NONE and a dead address survive a visit: behind GRACE comes DISABLED again.
//! - One notice of a route is in flight; that the routes of one device wait for one another is up to who claims.
//!
//! Requirements N3, N4, N11, N13.

pub mod marks;
pub mod question;
pub mod ring;
mod rows;
mod send;
pub mod stored;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::{
    marks::{Mailbox, Marks, News, Shown},
    question::Question,
    ring::Ring,
    stored::{Name, maybe},
};
use super::patience::Patience;
use crate::account::channel::{Format, Kind};

/// What a route waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// That the device goes: it is there, and nothing is sent.
    Online,
    /// Whether it comes back at once.
    Grace,
    /// News.
    Idle,
    /// More news, for a moment.
    Pending,
    /// A reaction.
    Sent,
    /// The next day: this one's limit is used up.
    Capped,
    /// A reaction, without much hope.
    Suspended,
    /// The device, or a new address.
    Dormant,
    /// A channel, or another address.
    Disabled,
}

/// All that is kept of a route: one row. Others read its fields; they are changed here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// What it waits for.
    pub state: State,
    /// Until when.
    #[serde(default, with = "maybe", skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Duration>,
    /// The number of the last notice; 0: there was none.
    pub seq: u64,
    /// Over which channel; none: NONE.
    pub channel: Option<Kind>,
    /// Ascends with each change of channel or address.
    pub address_version: u64,
    /// Nothing will ever go to this address: the user hears of it at the next login.
    pub dead: bool,
    /// When the first notice went to which there was no reaction yet.
    #[serde(default, with = "maybe", skip_serializing_if = "Option::is_none")]
    pub unreacted_since: Option<Duration>,
    /// Notices since then.
    pub attempts: u32,
    /// Wake-ups since the route is suspended.
    pub wake_ups: u32,
    /// When urgent news last shortened a pause.
    #[serde(default, with = "maybe", skip_serializing_if = "Option::is_none")]
    pub hurried_at: Option<Duration>,
    /// The day that is counted, of the days since 1970 where the user is.
    pub day: i64,
    /// Notices on it.
    pub day_notices: u32,
    /// Octets of them.
    pub day_octets: u64,
    /// The last notice that the channel has taken.
    pub last_sent: u64,
    /// The last one that the device is known to have.
    pub last_delivered: u64,
    /// When the device was last seen to come.
    #[serde(default, with = "maybe", skip_serializing_if = "Option::is_none")]
    pub last_reacted_at: Option<Duration>,
    /// The notice without an outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<InFlight>,
    /// The question without one, whether the address is the user's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
    /// Nothing has gone to this address yet.
    #[serde(default)]
    pub is_new: bool,
    /// What the device has not seen.
    pub marks: Marks,
    /// What it will not find by itself.
    pub ring: Ring,
}

/// A notice that was claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// What it is about.
    pub subject: Subject,
    /// How much it says.
    pub format: Format,
    /// For how many octets it was counted.
    pub octets: u32,
    /// It goes to the address of this version, and to no other.
    pub address_version: u64,
    /// How often the channel has said that it cannot bring it now.
    pub tries: u32,
    /// When it is given to the channel again; none: the channel has it.
    #[serde(default, with = "maybe", skip_serializing_if = "Option::is_none")]
    pub again_at: Option<Duration>,
}

/// What a notice is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its number.
    pub seq: u64,
    /// Where something happened last.
    pub mailbox: Name,
    /// How it stands there; urgent, if anything is that the notice covers.
    pub about: Mailbox,
}

/// The moment, and what a route cannot know by itself.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// The time of day, since 1970.
    pub time: Duration,
    /// Seconds by which the user's clock is ahead of UTC: his day is counted.
    pub zone: i32,
    /// Any number.
    pub chance: u32,
    /// What the operator has set.
    pub patience: &'a Patience,
}

/// What happens to a route.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The device is there: it has logged in, or a session of it speaks that was given up.
    Came,
    /// It is not there any more; it may be back within this time.
    Left {
        /// Zero behind LOGOUT.
        grace: Duration,
    },
    /// Something has happened in a mailbox of the route.
    Event(News<'a>),
    /// Something may have happened that nobody remembers.
    Missed,
    /// The device was shown how a mailbox stands.
    Synced(Shown<'a>),
    /// Channel or address were set; none: NONE, or filter.priv says NONE everywhere.
    Provisioned(Option<Kind>),
    /// A receipt for an earlier notice.
    Delivered {
        /// Its number.
        seq: u64,
    },
    /// The address of this version is none any more.
    Dead {
        /// Another one is not concerned.
        address_version: u64,
    },
    /// The process has begun anew: there are no sessions, and nobody carries anything.
    Restarted {
        /// As after a broken connection.
        grace: Duration,
    },
    /// It is as late as [`Route::wake_at`] has said.
    Time,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// The row has changed.
    Save,
    /// A notice is due: write its candidates, claim, and save the row, whatever the claim says.
    Claim,
}

/// Octets that the candidates for a notice would put on the channel, sealed; none where one cannot be written, or may not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// With the message.
    pub extended: Option<u32>,
    /// Without it.
    pub wakeup: Option<u32>,
}

impl Route {
    /// A route that has told nothing, of a device that is away.
    pub fn new(channel: Option<Kind>) -> Self {
        Self {
            state: if channel.is_some() { State::Idle } else { State::Disabled },
            next_at: None,
            seq: 0,
            channel,
            address_version: 1,
            dead: false,
            unreacted_since: None,
            attempts: 0,
            wake_ups: 0,
            hurried_at: None,
            day: 0,
            day_notices: 0,
            day_octets: 0,
            last_sent: 0,
            last_delivered: 0,
            last_reacted_at: None,
            in_flight: None,
            question: None,
            is_new: true,
            marks: Marks::default(),
            ring: Ring::default(),
        }
    }

    /// The row as it is stored.
    pub fn write(&self) -> String {
        // Nothing in it can fail: its keys are text.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What was stored.
    pub fn read(row: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(row)
    }

    /// When it wants to hear of the time.
    pub fn wake_at(&self) -> Option<Duration> {
        match (&self.in_flight, self.state) {
            (Some(flight), State::Pending | State::Sent | State::Suspended) => flight.again_at,
            _ => self.next_at,
        }
    }

    /// What a notice that is claimed now would be about.
    pub fn subject(&self) -> Option<Subject> {
        if let Some(flight) = &self.in_flight {
            return Some(flight.subject.clone());
        }
        let (name, about) = self.marks.latest()?;
        let mut about = about.clone();
        about.urgent |= self.marks.any_urgent();
        Some(Subject { seq: self.seq + 1, mailbox: name.clone(), about })
    }
}
