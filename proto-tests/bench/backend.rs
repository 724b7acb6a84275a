//! The backend of the bench: an IMAP server that costs next to nothing and always has the same to say.
//!
//!     bench-backend --listen 127.0.0.1:2143 --auth-http 127.0.0.1:2080 --capability "IMAP4rev1 LITERAL+ IDLE"
//!
//! Every user and password is right. A mailbox is named after the size of its messages: `1m` holds messages of 1 MiB,
//! `8k` of 8 KiB; `news`, and the INBOX of each user, begin empty and grow by what is appended. An APPEND to `stall` is read slowly at first, so that whoever reads ahead of it shows.

#![forbid(unsafe_code)]

mod auth_http;
mod backend_session;
mod growing;
mod pattern;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use clap::Parser;
use tokio::net::{TcpListener, TcpStream};

use crate::growing::Growing;

/// A fast synthetic IMAP backend.
#[derive(Parser)]
struct Arguments {
    /// Where IMAP is spoken, without TLS.
    #[arg(long)]
    listen: SocketAddr,
    /// Where the question of nginx's mail proxy is answered: whose backend? Always the one at `--listen`.
    #[arg(long)]
    auth_http: Option<SocketAddr>,
    /// What is advertised.
    #[arg(
        long,
        default_value = "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE UIDPLUS UNSELECT NAMESPACE CHILDREN IDLE AUTH=PLAIN"
    )]
    capability: String,
    /// What has come is kept here, and is there again at the next start.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let imap = TcpListener::bind(arguments.listen).await?;
    if let Some(address) = arguments.auth_http {
        let listener = TcpListener::bind(address).await?;
        tokio::spawn(auth_http::serve(listener, arguments.listen));
    }
    let capability: &'static str = arguments.capability.leak();
    let growing = Arc::new(Growing::open(arguments.keep.as_deref())?);
    loop {
        let (stream, _) = imap.accept().await?;
        tokio::spawn(session(stream, capability, Arc::clone(&growing)));
    }
}

async fn session(stream: TcpStream, capability: &'static str, growing: Arc<Growing>) {
    if let Err(error) = backend_session::serve(stream, capability, growing).await
        && !matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
    {
        eprintln!("session: {error}");
    }
}
