//! One side of a session: its transport, what it said and was not taken yet, what it was told and has not read yet.
//!
//! At rest it owns no buffer (architecture 13.2): octets are read into one buffer that all sessions of a thread share, and
//! only a line that is not whole, or what the peer's window did not take, is copied and kept.

use std::{
    cell::RefCell,
    io,
    task::{Context, Poll},
};

use super::transport::Transport;

/// What is read at a time. Larger than the usual socket buffer brings nothing, smaller costs system calls.
const READ: usize = 64 << 10;

/// Of the shared buffer, the part in front that takes what was left over from the read before.
const LEFT_OVER: usize = 16 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LEFT_OVER + READ]);
}

/// One side of a session.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// `None` before the backend is dialled, and while TLS begins.
    pub(super) transport: Option<Transport>,
    /// Said by the peer and not taken.
    tail: Vec<u8>,
    /// For the peer, and not written yet; it begins at `sent`.
    unsent: Vec<u8>,
    sent: usize,
    /// Octets of a literal that are carried without being looked at.
    pub(super) carry: u64,
    /// They go nowhere.
    pub(super) discards: bool,
    /// TLS or DEFLATE may hold octets that are not on the wire.
    dirty: bool,
    /// What went wrong first; none where its stream just ended.
    pub(super) failure: Option<io::ErrorKind>,
    /// It had nothing to say when it was last asked: it wakes the task when it has.
    pub(super) waits: bool,
}

/// What a read brought.
pub(super) enum Read {
    /// Something.
    Octets,
    /// Nothing for now.
    Nothing,
    /// The end of the stream.
    End,
}

impl Peer {
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport: Some(transport), ..Self::default() }
    }

    /// Reads once and shows what is there, with what was left over in front. What `take` leaves is kept.
    ///
    /// `take` is told how many of the octets, the last ones, are new. `most`: so much may be kept, whatever the peer sends; `take` makes sure that it takes something before that.
    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        take: impl FnOnce(&mut Self, &mut Context<'_>, &[u8], usize) -> usize,
    ) -> Read {
        BUFFER.with_borrow_mut(|buffer| {
            let Some(transport) = &mut self.transport else { return Read::Nothing };
            let window = most.saturating_sub(self.tail.len()).clamp(1, READ);
            let start = LEFT_OVER.saturating_sub(self.tail.len());
            let polled = transport.poll_read(cx, &mut buffer[LEFT_OVER..LEFT_OVER + window]);
            self.waits = polled.is_pending();
            let read = match polled {
                Poll::Pending => return Read::Nothing,
                Poll::Ready(Ok(0)) => return Read::End,
                Poll::Ready(Err(error)) => {
                    self.failed(&error);
                    return Read::End;
                }
                Poll::Ready(Ok(read)) => read,
            };
            let tail = std::mem::take(&mut self.tail);
            if tail.len() <= LEFT_OVER {
                buffer[start..LEFT_OVER].copy_from_slice(&tail);
                let octets = &buffer[start..LEFT_OVER + read];
                let took = take(self, cx, octets, read);
                self.keep(&octets[took..]);
                return Read::Octets;
            }
            let mut octets = tail;
            octets.extend_from_slice(&buffer[LEFT_OVER..LEFT_OVER + read]);
            let took = take(self, cx, &octets, read);
            octets.drain(..took);
            self.tail = octets;
            Read::Octets
        })
    }

    /// Shows what was left over once more.
    pub(super) fn again(&mut self, take: impl FnOnce(&mut Self, &[u8]) -> usize) {
        let octets = std::mem::take(&mut self.tail);
        let took = take(self, &octets);
        self.keep(&octets[took..]);
    }

    fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.tail = rest.to_vec();
        }
    }

    /// Whether there is something to do on this side that nothing else will wake the task for.
    pub(super) fn is_due(&self) -> bool {
        !self.waits || self.unsent() > 0 || self.dirty
    }

    /// Whether something was left over.
    pub(super) fn has_left_over(&self) -> bool {
        !self.tail.is_empty()
    }

    /// Says this to the peer: now as far as its window takes it, the rest later. `more`: something follows at once.
    pub(super) fn send(&mut self, cx: &mut Context<'_>, octets: &[u8], more: bool) -> io::Result<()> {
        self.write(cx, octets, more).inspect_err(|error| self.failed(error))
    }

    /// Writes what is unsent, as far as the peer's window takes it. True if nothing is left, also inside TLS and DEFLATE.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        self.write_unsent(cx).inspect_err(|error| self.failed(error))
    }

    fn failed(&mut self, error: &io::Error) {
        self.failure.get_or_insert(error.kind());
    }

    fn write(&mut self, cx: &mut Context<'_>, octets: &[u8], more: bool) -> io::Result<()> {
        let mut rest = octets;
        if !more
            && self.unsent.is_empty()
            && let Some(transport) = &mut self.transport
        {
            self.dirty = transport.buffers();
            if let Poll::Ready(written) = transport.poll_write(cx, rest) {
                rest = &rest[written?..];
            }
        }
        self.unsent.extend_from_slice(rest);
        Ok(())
    }

    fn write_unsent(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let Some(transport) = &mut self.transport else { return Ok(self.unsent.is_empty()) };
        while self.sent < self.unsent.len() {
            self.dirty = transport.buffers();
            match transport.poll_write(cx, &self.unsent[self.sent..]) {
                Poll::Ready(written) => self.sent += written?,
                Poll::Pending => return Ok(false),
            }
        }
        if self.sent > 0 {
            (self.unsent, self.sent) = (Vec::new(), 0);
        }
        if self.dirty {
            match transport.poll_flush(cx) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => return Ok(false),
            }
            self.dirty = false;
        }
        Ok(true)
    }

    /// What the peer is told from here on is compressed. What it was told before and has not read goes first, as it is.
    pub(super) fn deflate(&mut self) {
        let Some(transport) = self.transport.take() else { return };
        let unsent = self.unsent.split_off(self.sent);
        (self.unsent, self.sent) = (Vec::new(), 0);
        self.transport = Some(transport.deflate(unsent));
        self.dirty = true;
    }

    /// What the peer has said and was not taken is compressed, and so is what follows.
    pub(super) fn inflate(&mut self) {
        let heard = std::mem::take(&mut self.tail);
        if let Some(transport) = &mut self.transport {
            transport.put_back(&heard);
        }
        self.waits = false;
    }

    /// The peer may stay silent for long.
    pub(super) fn rest(&mut self) {
        if let Some(transport) = &mut self.transport {
            transport.rest();
        }
    }

    /// The connection, for somebody else; none: something is half said on it.
    pub(super) fn leave(self) -> Option<Transport> {
        let is_whole = self.tail.is_empty() && self.unsent() == 0 && self.carry == 0 && !self.dirty;
        self.transport.filter(|_| is_whole)
    }

    /// How many octets wait for the peer.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.len() - self.sent
    }
}
