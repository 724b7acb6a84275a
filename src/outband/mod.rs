//! From an event to a device that is away (architecture section 4; requirements N9 to N21). Pure: no socket, no clock.
//!
//! | module | question |
//! |---|---|
//! | [`notice`] | what is a device told? |
//! | [`channel`] | how does that become octets, and what does the answer mean? |
//! | [`emn`] | what does a payload look like? |

pub mod channel;
pub mod emn;
pub mod notice;
