//! SMPP 3.4: how a network of telephones is given short messages, as far as one that wakes devices needs it.
//!
//!     ESME                                   SMSC
//!     bind_transceiver 1  mem                ->
//!                         <- bind_transceiver_resp 1 ROK
//!     submit_sm 2  0605040b8423f0...         ->
//!                         <- submit_sm_resp 2 ROK  "m1"
//!                         <- deliver_sm 1  id:m1 ... stat:DELIVRD
//!     deliver_sm_resp 1                      ->
//!
//! | module | question |
//! |---|---|
//! | [`pdu`] | what are the octets? |
//! | [`status`] | what does a refusal mean? |
//! | [`link`] | what is said when, and what is waited for? |
//! | [`receipt`] | what became of a message? |
//!
//! All of it is pure: octets and the time are given to it. `io/carrier/smpp.rs` drives it. Requirement N20.

pub mod link;
pub mod pdu;
pub mod receipt;
pub mod status;
