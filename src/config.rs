//! The whole configuration as one struct.
