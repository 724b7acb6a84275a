//! One client's connection as a pure state machine.
//!
//! | file | question |
//! |---|---|
//! | [`session`] | what goes in, what comes out? |
//! | [`effect`] | which things can go in and come out? |
//! | [`front`], [`settings`] | what does the listener know beforehand? |
//! | `login`, `join` | how does a client become a session with a backend? |
//! | `open` | what do the two sides of a session share? |
//! | [`key`] | what does it take to log in once more? |
//! | `again` | what becomes of a client that listens when its backend is gone? |
//! | `client_edge`, `backend_edge` | how do octets become commands and responses, and back? |
//! | [`idle`] | how does an idling client hear of news? |
//! | [`gate`] | which commands may run side by side? |
//! | [`profile`] | what is this server like? |
//! | [`numbering`], `mapping` | what does this client believe, and how are UIDs learnt? |
//! | `translation` | what is said otherwise than it came, because client and backend may not count alike? |
//! | [`layer`], `stack`, [`plan`] | what is a layer, who carries commands through them, which stand there? |
//! | [`script`] | how is work of several steps written? |
//! | `witness`, `sight` | what changes the message store, and is an event? what becomes of messages? |
//! | `inquiry` | what has to be asked for the sake of an event? |

mod again;
pub mod aside;
mod backend_edge;
mod client_edge;
pub mod effect;
pub mod front;
pub mod gate;
pub mod idle;
mod inquiry;
mod join;
pub mod key;
pub mod layer;
mod login;
mod mapping;
pub mod numbering;
mod open;
pub mod plan;
pub mod profile;
pub mod script;
#[expect(clippy::module_inception, reason = "the session is what this directory is about")]
pub mod session;
pub mod settings;
mod sight;
mod stack;
mod translation;
mod witness;

pub use session::{Appetite, Session, Shown};
