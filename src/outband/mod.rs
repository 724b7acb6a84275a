//! From an event to a device that is away (architecture section 4; requirements N9 to N21). Pure: no socket, no clock.
//!
//! | module | question |
//! |---|---|
//! | [`subscription`] | who wants to hear of what? |
//! | [`desk`] | what of all that happens to an account is whom to be told, and now? |
//! | [`excerpt`] | what does a message say? |
//! | [`notice`] | what is a device told? |
//! | [`channel`] | how does that become octets, and what does the answer mean? |
//! | [`channels`] | and over this one? |
//! | [`emn`] | what does a payload look like? |
//! | [`vapid`] | who are we to a push service? |
//! | [`smpp`] | what do we say to a network of telephones? |
//! | [`wap`] | how does a payload become a short message? |
//! | [`sip`] | how does a message reach somebody who is called by SIP? |
//! | [`xmpp`] | and by XMPP? |
//! | [`redial`] | when is a server called again that has left us? |
//! | [`mem1`], [`sealed`] | how is it hidden from who carries it, and how does a device say that it has it? |
//! | [`feed`] | what is another server told, which tells devices itself? |
//! | [`route`] | when is a device told, when again, and when no more? |
//! | [`quota`] | how much may an account make us write? |
//! | [`patience`] | how long do we wait for it to react? |

pub mod channel;
pub mod channels;
pub mod desk;
pub mod emn;
pub mod excerpt;
pub mod feed;
pub mod mem1;
pub mod notice;
pub mod patience;
pub mod quota;
pub mod redial;
pub mod route;
pub mod sealed;
pub mod sip;
pub mod smpp;
pub mod subscription;
pub mod vapid;
pub mod wap;
mod xml;
pub mod xmpp;
