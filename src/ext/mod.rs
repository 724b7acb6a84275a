//! The extensions, top to bottom.
