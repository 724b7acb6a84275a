//! Everything that touches the world: sockets, clocks, files, signals.
//!
//! | file | question |
//! |---|---|
//! | [`serve`] | how does the program run, reload and end? |
//! | [`shell`] | what do all sessions share, and what of it does a reload replace? |
//! | [`accounts`] | what may an operator ask and change of what is kept? |
//! | [`keeper`] | how does a session ask the store? |
//! | [`listener`], [`sockets`] | where do clients come in, and what happens before their session begins? |
//! | [`session_task`], `peer`, `visit` | who drives a session? |
//! | [`login`], [`routing`], [`dialer`], [`reach`], [`backends`] | how does a user come to the right backend? |
//! | [`auxiliary`], [`line`](mod@line) | who looks into mailboxes that nobody has selected? |
//! | [`probe`], [`learning`] | how is a backend, what can it do, and what does it not do? |
//! | [`admission`], [`drain`] | who may come in, and when do they all have to go? |
//! | [`transport`], [`deflate`], [`tls`], [`certificate`], [`proxy_header`], [`network`] | what does a connection consist of? |
//! | [`events`], [`shadows`] | who follows what happens in the message store, and what of it is news? |
//! | [`desks`] | who looks after mailboxes while their owners are away, and tells these? |
//! | [`senders`], [`carrier`], [`vapid`] | how does what devices are told come on its way, and with which key? |
//! | [`seal`] | how is a secret kept that the store must not tell? |
//! | [`feed`] | how does another server, which tells devices itself, hear of all events? |
//! | [`receive`] | what does a device hear by UDP? |
//! | [`admin`], [`operated`], [`log`], [`metrics`], [`registry`], [`trace`] | how does an operator look inside? |

pub mod accounts;
pub mod admin;
pub mod admission;
mod attendance;
pub mod auxiliary;
pub mod backends;
pub mod carrier;
pub mod certificate;
pub mod deflate;
pub mod desks;
pub mod dialer;
pub mod drain;
pub mod events;
pub mod feed;
pub mod keeper;
pub mod learning;
pub mod line;
pub mod listener;
pub mod log;
pub mod login;
pub mod metrics;
pub mod network;
pub mod operated;
mod peer;
pub mod probe;
pub mod proxy_header;
pub mod reach;
pub mod receive;
pub mod registry;
pub mod routing;
pub mod seal;
pub mod senders;
pub mod serve;
pub mod session_task;
pub mod shadows;
pub mod shell;
pub mod sockets;
pub mod tls;
pub mod trace;
pub mod transport;
pub mod vapid;
mod visit;
