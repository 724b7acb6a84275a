//! `GET /events`: what happens in the message store, a line of JSON each, until the client goes or the proxy ends.
//!
//!     > GET /events?user=joe HTTP/1.0
//!     < HTTP/1.0 200 OK
//!     <
//!     < {"event":"Login","timestamp":"2026-11-02T09:14:03.120Z","user":"joe",...}
//!     <                              an empty line, when nothing has happened for a while
//!     < {"dropped":17}               so many are missing here: they came faster than they were read

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Extension,
    body::{Body, Bytes, HttpBody},
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use tokio::time::{Instant, Sleep};

use super::{AdminState, routes::Filter};
use crate::io::events::Follower;

/// How long nothing is said where nothing happens: firewalls forget silent connections, and one whose other end is gone is
/// found out only by writing.
const SILENCE: Duration = Duration::from_secs(30);

/// Whether a connection may last: only that of a follower.
#[derive(Clone, Debug, Default)]
pub(super) struct Lasting(Arc<AtomicBool>);

impl Lasting {
    /// Whether it may.
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Answers for as long as there is somebody to answer.
pub(super) async fn events(
    State(state): State<Arc<AdminState>>,
    Query(filter): Query<Filter>,
    Extension(lasting): Extension<Lasting>,
) -> Response {
    let Some(follower) = state.events.follow(filter.user) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many follow already, or the proxy is shutting down\n")
            .into_response();
    };
    lasting.0.store(true, Relaxed);
    let lines = Lines { follower, silence: Box::pin(tokio::time::sleep(SILENCE)) };
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(lines)).into_response()
}

/// The lines as the body of an answer.
struct Lines {
    follower: Follower,
    silence: Pin<Box<Sleep>>,
}

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let line = match self.follower.poll_next(context) {
            Poll::Ready(line) => line,
            Poll::Pending => {
                ready!(self.silence.as_mut().poll(context));
                Some(Bytes::from_static(b"\n"))
            }
        };
        self.silence.as_mut().reset(Instant::now() + SILENCE);
        Poll::Ready(line.map(|line| Ok(Frame::data(line))))
    }
}
