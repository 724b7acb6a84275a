//! Answers nginx's `auth_http`: every user lives at the one backend.
//!
//!     GET / HTTP/1.0                 HTTP/1.0 200 OK
//!     Auth-User: joe                 Auth-Status: OK
//!     ...                            Auth-Server: 127.0.0.1
//!                                    Auth-Port: 2143

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Answers all who ask, one request a connection.
pub async fn serve(listener: TcpListener, backend: SocketAddr) -> io::Result<()> {
    let (server, port) = (backend.ip(), backend.port());
    let answer = format!("HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: {server}\r\nAuth-Port: {port}\r\n\r\n");
    let answer: &'static str = answer.leak();
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(reply(stream, answer));
    }
}

async fn reply(mut stream: TcpStream, answer: &'static str) -> io::Result<()> {
    let mut request = Vec::with_capacity(1024);
    // A head longer than 8 KiB is none that nginx sends.
    while !request.ends_with(b"\r\n\r\n") && request.len() < 8192 {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
