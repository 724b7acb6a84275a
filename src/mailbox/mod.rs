//! What we remember of one mailbox, and what can happen in it.
//!
//! | file | question |
//! |---|---|
//! | [`event`] | what can happen in a message store, and how is it told? |
//! | [`shadow`] | which messages are there, and which flags do they have? |
//! | [`diff`] | what has happened between two such moments? |
//! | [`status`] | the same, of a mailbox that nobody has selected |
//! | [`overview`] | what is known of a whole account while somebody follows, and what of it is news? |
//! | [`tree`] | which mailboxes are there, and what has become of their names? |
//! | [`groups`] | of which events in which of them does a client want to hear? |
//! | [`membership`] | is a message one of those that a search program means? |
//! | [`news`] | what has a look at a mailbox found? |
//! | [`watch`] | what is known of those, and what has become of it? |

pub mod diff;
pub mod event;
pub mod groups;
pub mod membership;
pub mod news;
pub mod overview;
pub mod shadow;
pub mod status;
pub mod tree;
pub mod watch;
