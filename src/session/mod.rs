//! One client's connection as a pure state machine.

pub mod effect;
pub mod settings;
