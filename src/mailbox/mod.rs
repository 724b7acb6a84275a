//! What we remember of one mailbox, and what can happen in it.
//!
//! | file | question |
//! |---|---|
//! | [`event`] | what can happen in a message store, and how is it told? |
//! | [`shadow`] | which messages are there, and which flags do they have? |
//! | [`diff`] | what has happened between two such moments? |

pub mod diff;
pub mod event;
pub mod shadow;
