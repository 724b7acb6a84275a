//! Everything that touches the world.

pub mod admin;
pub mod admission;
pub mod backends;
pub mod certificate;
pub mod dialer;
pub mod drain;
pub mod listener;
pub mod log;
pub mod metrics;
pub mod network;
pub mod probe;
pub mod proxy_header;
pub mod registry;
pub mod routing;
pub mod tls;
pub mod trace;
pub mod transport;
