//! The extensions, top to bottom: the only place that knows them all.
//!
//! Height is meaning: each makes the server below look like one that has it, to everything above (architecture section 7).

pub mod enable;
pub mod id;
pub mod namespace;
pub mod unselect;

use crate::session::layer::Extension;

/// The list, top to bottom.
pub static ALL: [&Extension; 4] = [&id::ID, &enable::ENABLE, &namespace::NAMESPACE, &unselect::UNSELECT];
