//! DEFLATE over a stream (RFC 4978): what is said is compressed, what is heard is inflated. It stands above TLS.
//!
//!     C: c COMPRESS DEFLATE
//!     S: c OK DEFLATE active        the last octets as they are; then raw deflate (RFC 1951), both ways
//!
//! What is said in a turn of the session is flushed once, at its end. A clean end is a final block, as `close_notify` is over
//! TLS: a stream that stops without one was cut (architecture 4.10).
//!
//! Nothing is inflated that nobody takes: however much a few octets stand for, they become as many as the reader has room
//! for, and what is behind them stays compressed, at last in the kernel. A deflater has 312 KiB and an inflater 43: that is
//! what the window of RFC 1951 costs, and this one has no smaller one. Who is at rest gives the deflater back, and the next
//! begins with an empty window. For the peer that is a full flush, of which it need not know (RFC 4978 section 4).
//! Between two turns it is kept, because a single line without what was said before hardly gets shorter. Requirement A4.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop,
};

use super::transport::Transport;

/// What is heard at a time, and so what may wait to be inflated: a record of TLS.
const HEARD: usize = 16 << 10;

/// What is compressed at a time.
const SAID: usize = 16 << 10;

/// Compressed octets that wait for the peer, before no more are made. A deflater gives at most 85 KiB at once.
const MOST_UNSENT: usize = 16 << 10;

/// A stream under DEFLATE.
#[derive(Debug)]
pub struct Deflated {
    below: Transport,
    inflater: Inflater,
    deflater: Deflater,
    /// For the peer, and not written below yet; it begins at `sent`.
    unsent: Vec<u8>,
    sent: usize,
}

/// From what the peer says to what it means.
#[derive(Debug)]
struct Inflater {
    coder: Decompress,
    /// Heard and not inflated; it begins at `at`. At rest there is nothing.
    heard: Vec<u8>,
    at: usize,
    /// The peer has said its final block.
    ended: bool,
}

/// The other way round.
#[derive(Debug, Default)]
struct Deflater {
    /// `None`: the next octets begin with an empty window.
    coder: Option<Box<Compress>>,
    /// It holds octets that a flush would bring out.
    holds: bool,
    ended: bool,
}

impl Deflated {
    /// Begins behind `unsent`, which the peer gets as it is.
    pub fn new(below: Transport, unsent: Vec<u8>) -> Self {
        Self { below, inflater: Inflater::new(), deflater: Deflater::default(), unsent, sent: 0 }
    }

    /// The stream that carries it.
    pub const fn below(&self) -> &Transport {
        &self.below
    }

    /// Octets that were read before it was known that they are compressed: they come first.
    pub fn put_back(&mut self, heard: &[u8]) {
        self.inflater.hear(heard);
    }

    /// The peer may stay silent for long, and so may we.
    pub fn rest(&mut self) {
        if !self.deflater.holds && self.unsent.is_empty() {
            self.deflater.coder = None;
        }
    }

    /// Writes below what is compressed.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            match ready!(self.below.poll_write(cx, &self.unsent[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        (self.unsent, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Deflated {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { below, inflater, .. } = self.get_mut();
        // A thousand reads may come of what was heard at once: others want their turn.
        let turn = ready!(coop::poll_proceed(cx));
        loop {
            let len = inflater.inflate(into.initialize_unfilled())?;
            if len > 0 || inflater.ended {
                into.advance(len);
                turn.made_progress();
                return Poll::Ready(Ok(()));
            }
            let mut heard = [0; HEARD];
            match ready!(below.poll_read(cx, &mut heard))? {
                0 => return Poll::Ready(Ok(())),
                len => inflater.hear(&heard[..len]),
            }
        }
    }
}

impl AsyncWrite for Deflated {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut took = 0;
        for piece in octets.chunks(SAID) {
            if this.unsent.len() - this.sent >= MOST_UNSENT {
                match this.poll_drain(cx) {
                    Poll::Ready(drained) => drained?,
                    Poll::Pending if took == 0 => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            this.deflater.deflate(piece, FlushCompress::None, &mut this.unsent)?;
            took += piece.len();
        }
        Poll::Ready(Ok(took))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.deflater.holds {
            this.deflater.deflate(&[], FlushCompress::Sync, &mut this.unsent)?;
        }
        ready!(this.poll_drain(cx))?;
        this.below.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.deflater.ended {
            this.deflater.deflate(&[], FlushCompress::Finish, &mut this.unsent)?;
        }
        ready!(this.poll_drain(cx))?;
        this.below.poll_shutdown(cx)
    }
}

impl Inflater {
    fn new() -> Self {
        Self { coder: Decompress::new(false), heard: Vec::new(), at: 0, ended: false }
    }

    fn hear(&mut self, octets: &[u8]) {
        self.heard.extend_from_slice(octets);
    }

    /// Inflates what fits. Nothing comes of it before more is heard, or behind the final block.
    fn inflate(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.ended {
            let (took, gave) = (self.coder.total_in(), self.coder.total_out());
            let status = self.coder.decompress(&self.heard[self.at..], into, FlushDecompress::None);
            self.ended = status.map_err(|_| io::ErrorKind::InvalidData)? == Status::StreamEnd;
            let (took, gave) = ((self.coder.total_in() - took) as usize, (self.coder.total_out() - gave) as usize);
            self.at += took;
            if self.at == self.heard.len() {
                (self.heard, self.at) = (Vec::new(), 0);
            }
            if gave > 0 || took == 0 {
                return Ok(gave);
            }
        }
        Ok(0)
    }
}

impl Deflater {
    /// Room that is made for what comes out, and made again while all of it is used.
    const ROOM: usize = 4 << 10;

    /// Compresses these octets; what comes out is appended.
    fn deflate(&mut self, octets: &[u8], flush: FlushCompress, to: &mut Vec<u8>) -> io::Result<()> {
        // The fastest level leaves a fifth of a list of envelopes, the default an eighth, in four times the time.
        let begin = || Box::new(Compress::new(Compression::fast(), false));
        let coder = self.coder.get_or_insert_with(begin);
        let (mut rest, mut was_full) = (octets, false);
        loop {
            to.reserve(Self::ROOM);
            let took = coder.total_in();
            coder.compress_vec(rest, to, flush).map_err(io::Error::other)?;
            rest = &rest[(coder.total_in() - took) as usize..];
            let is_full = to.len() == to.capacity();
            // A call that finds octets waiting for room brings out those and does not flush.
            if rest.is_empty() && !is_full && !was_full {
                break;
            }
            was_full = is_full;
        }
        self.holds = matches!(flush, FlushCompress::None) && (self.holds || !octets.is_empty());
        self.ended = matches!(flush, FlushCompress::Finish);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Waker, time::Duration};

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// The octets as one flushed piece of a stream.
    fn deflated(octets: &[u8], flush: FlushCompress) -> Vec<u8> {
        let mut out = Vec::new();
        Deflater::default().deflate(octets, flush, &mut out).unwrap();
        out
    }

    /// All that can be inflated now, by so much at a time.
    fn inflate(inflater: &mut Inflater, room: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut into = vec![0; room];
        loop {
            match inflater.inflate(&mut into)? {
                0 => return Ok(all),
                len => all.extend_from_slice(&into[..len]),
            }
        }
    }

    /// Octets that no deflater makes smaller.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn session() -> Vec<u8> {
        let line =
            |number: usize| format!("* {number} FETCH (UID {} FLAGS (\\Seen) RFC822.SIZE {})\r\n", number * 3, 99);
        (1..200).flat_map(|number| line(number).into_bytes()).chain(noise(3000)).collect()
    }

    #[test]
    fn what_is_cut_at_every_octet_is_whole_again() {
        let said = session();
        let wire = deflated(&said, FlushCompress::Sync);
        for room in [1, 7, 64 << 10] {
            let mut inflater = Inflater::new();
            let mut heard = Vec::new();
            for octet in &wire {
                inflater.hear(&[*octet]);
                heard.extend(inflate(&mut inflater, room).unwrap());
            }
            assert_eq!(heard, said, "{room}");
            assert!(inflater.heard.capacity() == 0 && !inflater.ended);
        }
        for cut in 0..wire.len() {
            let mut inflater = Inflater::new();
            inflater.hear(&wire[..cut]);
            let mut heard = inflate(&mut inflater, 1000).unwrap();
            inflater.hear(&wire[cut..]);
            heard.extend(inflate(&mut inflater, 1000).unwrap());
            assert_eq!(heard, said, "{cut}");
        }
    }

    #[test]
    fn a_deflater_may_begin_anew_at_any_flush() {
        let mut inflater = Inflater::new();
        for number in 0..100 {
            let line = format!("* {number} EXISTS\r\n");
            inflater.hear(&deflated(line.as_bytes(), FlushCompress::Sync));
            assert_eq!(inflate(&mut inflater, 64).unwrap(), line.as_bytes());
        }
        inflater.hear(&deflated(b"* BYE\r\n", FlushCompress::Finish));
        assert_eq!(inflate(&mut inflater, 64).unwrap(), b"* BYE\r\n");
        assert!(inflater.ended);
    }

    #[test]
    fn a_flush_costs_a_few_octets_and_one_that_brings_out_nothing_is_none() {
        let mut deflater = Deflater::default();
        let mut out = Vec::new();
        let lines = b"* 3 FETCH (FLAGS (\\Seen))\r\n".repeat(100);
        lines.chunks(27).for_each(|line| deflater.deflate(line, FlushCompress::None, &mut out).unwrap());
        assert!(deflater.holds);
        deflater.deflate(&[], FlushCompress::Sync, &mut out).unwrap();
        assert!(!deflater.holds && out.len() < 100, "{}", out.len());
        assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    }

    #[test]
    fn whatever_was_said_a_flush_brings_out_all_of_it() {
        let said = noise(200 << 10);
        for len in (0..said.len()).step_by(997) {
            let (mut deflater, mut wire) = (Deflater::default(), Vec::new());
            said[..len].chunks(SAID).for_each(|piece| deflater.deflate(piece, FlushCompress::None, &mut wire).unwrap());
            deflater.deflate(&[], FlushCompress::Sync, &mut wire).unwrap();
            let mut inflater = Inflater::new();
            inflater.hear(&wire);
            assert!(inflate(&mut inflater, 64 << 10).unwrap() == said[..len], "{len}");
        }
    }

    #[test]
    fn a_bomb_is_as_large_as_what_is_taken_of_it() {
        let wire = deflated(&vec![b' '; 64 << 20], FlushCompress::Sync);
        assert!(wire.len() < 400 << 10, "{}", wire.len());
        let mut inflater = Inflater::new();
        inflater.hear(&wire);
        let mut into = [0; 100];
        for _ in 0..1000 {
            assert!((1..=100).contains(&inflater.inflate(&mut into).unwrap()));
        }
        // Two or three windows have gone through, and no more: the rest is as it came.
        assert!(inflater.heard.len() - inflater.at > wire.len() - (1 << 10));
    }

    #[test]
    fn what_is_no_deflate_is_an_error_and_never_a_panic() {
        let mut reserved = Inflater::new();
        reserved.hear(&[0b111; 10]);
        assert_eq!(inflate(&mut reserved, 100).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(inflate(&mut reserved, 100).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let wire = deflated(&session(), FlushCompress::Sync);
        for (at, flip) in (0..wire.len()).flat_map(|at| [1, 0x10, 0xff].map(|flip| (at, flip))) {
            let mut broken = wire.clone();
            broken[at] ^= flip;
            let mut inflater = Inflater::new();
            inflater.hear(&broken);
            let _ = inflate(&mut inflater, 1000);
        }
        for seed in 0..1000 {
            let mut inflater = Inflater::new();
            inflater.hear(&noise(2000)[seed..]);
            let _ = inflate(&mut inflater, 1000);
        }
    }

    /// Both ends of a connection, compressed.
    async fn pair() -> (Transport, Transport) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Transport::from(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let server = Transport::from(listener.accept().await.unwrap().0);
        (client.deflate(Vec::new()), server.deflate(Vec::new()))
    }

    async fn hear(transport: &mut Transport) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; 64 << 10];
        let len = poll_fn(|cx| transport.poll_read(cx, &mut octets)).await?;
        octets.truncate(len);
        Ok(octets)
    }

    async fn say(transport: &mut Transport, octets: &[u8]) {
        let mut rest = octets;
        while !rest.is_empty() {
            let took = poll_fn(|cx| transport.poll_write(cx, rest)).await.unwrap();
            rest = &rest[took..];
        }
        poll_fn(|cx| transport.poll_flush(cx)).await.unwrap();
    }

    async fn carries(mut from: Transport, mut to: Transport, octets: Vec<u8>) {
        let said = octets.clone();
        let saying = tokio::spawn(async move {
            say(&mut from, &said).await;
            from
        });
        let mut heard = Vec::new();
        while heard.len() < octets.len() {
            heard.extend(hear(&mut to).await.unwrap());
        }
        assert!(heard == octets);
        saying.await.unwrap();
    }

    #[tokio::test]
    async fn large_things_go_through_in_both_directions() {
        for octets in [noise(3 << 20), b"A line of a letter.\r\n".repeat(1 << 20)] {
            let (client, server) = pair().await;
            carries(client, server, octets.clone()).await;
            let (client, server) = pair().await;
            carries(server, client, octets).await;
        }
    }

    #[tokio::test]
    async fn who_does_not_read_makes_nobody_hold_more() {
        let (mut client, mut server) = pair().await;
        let octets = noise(64 << 20);
        let mut took = 0;
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(written) = server.poll_write(&mut cx, &octets[took..]) {
            took += written.unwrap();
            assert!(took < octets.len(), "all of it was taken");
        }
        let Transport::Deflated(deflated) = &server else { panic!("it was deflated") };
        assert!(deflated.unsent.len() - deflated.sent < MOST_UNSENT + (85 << 10));
        assert!(server.poll_flush(&mut cx).is_pending());
        let mut heard = Vec::new();
        let saying = tokio::spawn(async move { say(&mut server, b"").await });
        while heard.len() < took {
            heard.extend(hear(&mut client).await.unwrap());
        }
        assert!(heard == octets[..took]);
        saying.await.unwrap();
    }

    #[tokio::test]
    async fn a_stream_that_is_cut_is_told_from_one_that_ends() {
        for ends in [true, false] {
            let (mut client, mut server) = pair().await;
            say(&mut server, b"* BYE\r\n").await;
            let end = tokio::spawn(async move {
                match ends {
                    true => server.close(Duration::from_secs(30)).await,
                    false => server.abort(),
                }
            });
            assert_eq!(hear(&mut client).await.unwrap(), b"* BYE\r\n");
            assert_eq!(hear(&mut client).await.unwrap(), b"");
            let Transport::Deflated(deflated) = &client else { panic!("it was deflated") };
            assert_eq!(deflated.inflater.ended, ends);
            drop(client);
            end.await.unwrap();
        }
    }

    #[tokio::test]
    async fn who_rests_owns_no_deflater_and_goes_on() {
        let (mut client, mut server) = pair().await;
        for _ in 0..3 {
            say(&mut server, b"* 1 EXISTS\r\n").await;
            assert_eq!(hear(&mut client).await.unwrap(), b"* 1 EXISTS\r\n");
            server.rest();
            let Transport::Deflated(deflated) = &server else { panic!("it was deflated") };
            assert!(deflated.deflater.coder.is_none() && deflated.unsent.capacity() == 0);
        }
        let Poll::Ready(Ok(6)) = server.poll_write(&mut Context::from_waker(Waker::noop()), b"a OK\r\n") else {
            panic!("there is room")
        };
        server.rest();
        say(&mut server, b"").await;
        assert_eq!(hear(&mut client).await.unwrap(), b"a OK\r\n");
    }

    #[tokio::test]
    async fn what_was_said_and_heard_too_early_comes_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Transport::from(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let server = Transport::from(listener.accept().await.unwrap().0);
        let mut server = server.deflate(b"c OK\r\n".to_vec());
        server.put_back(&deflated(b"d NOOP\r\n", FlushCompress::Sync));
        assert_eq!(hear(&mut server).await.unwrap(), b"d NOOP\r\n");
        say(&mut server, b"d OK\r\n").await;
        let mut heard = Vec::new();
        let expected = [b"c OK\r\n".as_slice(), &deflated(b"d OK\r\n", FlushCompress::Sync)].concat();
        while heard.len() < expected.len() {
            heard.extend(hear(&mut client).await.unwrap());
        }
        assert_eq!(heard, expected);
    }
}
