//! The channels, a file each.
//!
//! | module | way |
//! |---|---|
//! | [`udp`] | a datagram to the device itself |

pub mod udp;
