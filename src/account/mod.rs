//! What is true of one user across sessions: devices, annotations, preferences.
//!
//! | file | question |
//! |---|---|
//! | [`settings`] | what does the operator say of accounts? |
//! | [`special_use`] | what are the mailboxes used for? |

pub mod settings;
pub mod special_use;

pub use settings::Settings;
