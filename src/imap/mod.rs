//! The language of IMAP, with no opinion about sessions.
//!
//! | file | question |
//! |---|---|
//! | [`frame`] | where does a command or a response line end, and where does a literal begin? |
//! | [`command`] | what does a command say? |
//! | [`response`] | what is this line of a backend? |
//! | [`verb`] | THE TABLE: what does a command use, change and answer? |
//! | [`capability`] | which words are ours, which are relayed, which never? |
//! | [`code`] | what stands in the brackets of a status response, and does it name messages? |
//! | [`date`] | which moment, which day? |
//! | [`entry`] | what is an annotation called? |
//! | [`esearch`] | what has a search found, and how is it told? |
//! | [`fetch`] | what does a FETCH that nobody asked for show, and what does a response say? |
//! | [`id`] | who says it is whom? |
//! | [`list`] | which mailboxes does LIST ask for, and which does a line name? |
//! | [`mailbox_name`] | how does a name stand on the wire? |
//! | [`metadata`] | what do GETMETADATA and SETMETADATA ask for, in either dialect? |
//! | [`search`] | what in search criteria may have to be said otherwise? |
//! | [`notify`] | what does a client want to hear without asking? |
//! | [`sequence_set`] | which messages does `2:4,7,*` name? |
//! | [`token`] | what atom, string or list stands next? |
//! | [`sasl`] | who is it that authenticates? |
//! | [`url`] | how is a server, a mailbox or a message named from outside? |
//! | [`secret`] | octets that do not print |
//! | [`uid_set`] | which message has which place? |
//! | [`words`] | which capability brings a word of FETCH, STORE, SELECT or SEARCH? |

pub mod capability;
pub mod code;
pub mod command;
pub mod date;
pub mod entry;
pub mod esearch;
pub mod fetch;
pub mod frame;
pub mod id;
pub mod list;
pub mod mailbox_name;
pub mod metadata;
pub mod notify;
pub mod response;
pub mod sasl;
pub mod search;
pub mod secret;
pub mod sequence_set;
pub mod token;
pub mod uid_set;
pub mod url;
pub mod verb;
pub mod words;

pub use secret::Secret;
