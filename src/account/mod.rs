//! What is true of one user across sessions: devices, annotations, preferences.
//!
//! | file | question |
//! |---|---|
//! | [`settings`] | what does the operator say of accounts? |

pub mod settings;

pub use settings::Settings;
