//! What is true of one user across sessions: devices, annotations, preferences.
//!
//! | file | question |
//! |---|---|
//! | [`annotation`] | what is this entry to us, and whose? |
//! | [`channel`] | how can a device be reached, and what is an address there? |
//! | [`device`] | which devices are there, and what holds for them? |
//! | [`draft`] | what does source document 001 call a row? |
//! | [`enrolment`] | whose is an address? |
//! | [`moving`] | what is under way with the names of mailboxes? |
//! | [`preference`] | what does a device prefer, and in which order does that hold? |
//! | [`presence`] | is a device there? |
//! | [`registration`] | how do clients of today register? |
//! | [`ringing`] | which of the messages that come ring? |
//! | [`settings`] | what does the operator say of accounts? |
//! | [`special_use`] | what are the mailboxes used for? |
//! | [`template`] | how does a device want to be told in plain text? |
//! | [`watching`] | how does a device want its mailboxes looked after, and how does that stand? |
//! | [`zone`] | when does a device's day begin? |

pub mod annotation;
pub mod channel;
pub mod device;
pub mod draft;
pub mod enrolment;
pub mod moving;
pub mod preference;
pub mod presence;
pub mod registration;
pub mod ringing;
pub mod settings;
pub mod special_use;
pub mod template;
pub mod watching;
pub mod zone;

pub use settings::Settings;
