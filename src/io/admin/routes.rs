//! The paths, and what each does.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use serde::Deserialize;
use tracing::info;

use super::{AdminState, Door, follow, status::Report};
use crate::{
    account::device::Wish,
    io::{
        accounts::{AccountError, Message, Order, Whom},
        log::Clean,
        registry::{Notice, Row},
    },
    store::{DeviceName, DeviceNameError, StoreError},
};

type Admin = State<Arc<AdminState>>;

/// Octets: a push subscription and all other wishes together need less.
const LONGEST_BODY: usize = 16 << 10;

/// All paths, as they are behind this door.
pub(super) fn router(door: Door, state: Arc<AdminState>) -> Router {
    let guard = middleware::from_fn_with_state((door, state.clone()), guard);
    let personal = Router::new()
        .route("/sessions", get(sessions))
        .route("/sessions/{id}/kick", post(kick))
        .route("/trace", get(traced))
        .route("/trace/{user}", put(trace).delete(untrace))
        .route("/reload", post(reload))
        .route("/events", get(follow::events))
        .route("/devices/{user}", get(devices))
        .route("/devices/{user}/{device}", get(device).put(set_device).delete(forget_device))
        .route("/accounts/{user}", delete(purge))
        .route("/queue", get(queue))
        .route("/queue/{user}", get(queue_of))
        .route("/queue/{user}/{device}", post(retry).put(sign_in).delete(drop_notices))
        .route("/explain/{user}/{device}", get(explain))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .route_layer(guard);
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/statusz", get(statusz))
        .merge(personal)
        .with_state(state)
}

async fn guard(State((door, state)): State<(Door, Arc<AdminState>)>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let admitted = door.admits(state.token.load().as_deref(), authorization);
    match admitted {
        Ok(()) => next.run(request).await,
        Err(denied) => denied.into_response(),
    }
}

async fn readyz(State(state): Admin) -> Response {
    match state.shell.status().unready() {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(state): Admin) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    state.shell.measure();
    (kind, state.meters.render()).into_response()
}

async fn statusz(State(state): Admin, headers: HeaderMap) -> Response {
    let status = state.shell.status();
    let ready = status.unready().is_none();
    let report = Report { version: env!("CARGO_PKG_VERSION"), ready, status, sessions: state.registry.by_state() };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("application/json") { Json(report).into_response() } else { report.to_string().into_response() }
}

/// `?user=joe`: of this user only.
#[derive(Deserialize)]
pub(super) struct Filter {
    pub(super) user: Option<String>,
}

async fn sessions(State(state): Admin, Query(filter): Query<Filter>) -> Json<Vec<Row>> {
    let mut rows: Vec<_> = state.registry.entries().iter().map(|entry| entry.row()).collect();
    rows.retain(|row| filter.user.is_none() || row.user == filter.user);
    rows.sort_by_key(|row| row.age_seconds);
    Json(rows)
}

async fn kick(State(state): Admin, Path(id): Path<String>) -> Response {
    if !state.registry.kick(&id) {
        return (StatusCode::NOT_FOUND, "no such session\n").into_response();
    }
    info!(session = %Clean(&id), "session ended by the operator");
    "ended\n".into_response()
}

async fn traced(State(state): Admin) -> Json<Vec<String>> {
    Json(state.traces.users())
}

async fn trace(State(state): Admin, Path(user): Path<String>) -> Response {
    if let Err(error) = state.traces.switch_on(&user) {
        return (StatusCode::CONFLICT, format!("{error}\n")).into_response();
    }
    // Switched on first and told second: a session that logs in meanwhile hears of it in one way or the other.
    let open = state.registry.tell(&user, Notice::Trace(true));
    info!(user = %Clean(&user), sessions = open, "trace switched on");
    let directory = state.traces.directory().display();
    format!("open sessions: {open}; traces are written to {directory}\n").into_response()
}

async fn untrace(State(state): Admin, Path(user): Path<String>) -> Response {
    if !state.traces.switch_off(&user) {
        return (StatusCode::NOT_FOUND, "this user is not traced\n").into_response();
    }
    let open = state.registry.tell(&user, Notice::Trace(false));
    info!(user = %Clean(&user), sessions = open, "trace switched off");
    format!("open sessions: {open}\n").into_response()
}

/// `?backend=main`: where several backends may have this user.
#[derive(Deserialize)]
struct At {
    backend: Option<String>,
}

async fn devices(State(state): Admin, Path(user): Path<String>, Query(at): Query<At>) -> Response {
    manage(&state, user, at, Ok(Order::List)).await
}

async fn device(State(state): Admin, Path((user, device)): Path<(String, String)>, Query(at): Query<At>) -> Response {
    manage(&state, user, at, DeviceName::parse(device.as_bytes()).map(Order::Show)).await
}

async fn set_device(
    State(state): Admin,
    Path((user, device)): Path<(String, String)>,
    Query(at): Query<At>,
    body: Bytes,
) -> Response {
    let body = if body.is_empty() { b"{}" } else { &body[..] };
    match serde_json::from_slice::<Wish>(body) {
        Ok(wish) => {
            let device = DeviceName::parse(device.as_bytes());
            manage(&state, user, at, device.map(|device| Order::Set(device, wish))).await
        }
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")).into_response(),
    }
}

async fn forget_device(
    State(state): Admin,
    Path((user, device)): Path<(String, String)>,
    Query(at): Query<At>,
) -> Response {
    manage(&state, user, at, DeviceName::parse(device.as_bytes()).map(Order::Forget)).await
}

async fn purge(State(state): Admin, Path(user): Path<String>, Query(at): Query<At>) -> Response {
    manage(&state, user, at, Ok(Order::Purge)).await
}

async fn queue(State(state): Admin) -> Response {
    shown(&state.shell.queue().await)
}

async fn queue_of(State(state): Admin, Path(user): Path<String>, Query(at): Query<At>) -> Response {
    manage(&state, user, at, Ok(Order::Queue)).await
}

async fn retry(State(state): Admin, Path((user, device)): Path<(String, String)>, Query(at): Query<At>) -> Response {
    manage(&state, user, at, DeviceName::parse(device.as_bytes()).map(Order::Retry)).await
}

async fn sign_in(State(state): Admin, Path((user, device)): Path<(String, String)>, Query(at): Query<At>) -> Response {
    manage(&state, user, at, DeviceName::parse(device.as_bytes()).map(Order::SignIn)).await
}

async fn drop_notices(
    State(state): Admin,
    Path((user, device)): Path<(String, String)>,
    Query(at): Query<At>,
) -> Response {
    manage(&state, user, at, DeviceName::parse(device.as_bytes()).map(Order::Drop)).await
}

async fn explain(
    State(state): Admin,
    Path((user, device)): Path<(String, String)>,
    Query(at): Query<At>,
    Query(message): Query<Message>,
) -> Response {
    manage(&state, user, at, DeviceName::parse(device.as_bytes()).map(|device| Order::Explain(device, message))).await
}

/// People read it as often as programs do.
fn shown(answer: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{answer:#}\n")).into_response()
}

async fn manage(state: &AdminState, user: String, at: At, order: Result<Order, DeviceNameError>) -> Response {
    let order = match order {
        Ok(order) => order,
        Err(error) => return (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")).into_response(),
    };
    match state.shell.manage(&Whom { user, backend: at.backend }, order).await {
        Ok(answer) => shown(&answer),
        Err(error) => {
            let status = match &error {
                AccountError::User(_) | AccountError::Backend(_) | AccountError::Device | AccountError::Message => {
                    StatusCode::NOT_FOUND
                }
                AccountError::Which(_) => StatusCode::CONFLICT,
                AccountError::Store(StoreError::Unavailable(_)) => StatusCode::SERVICE_UNAVAILABLE,
                AccountError::Wish(_) | AccountError::Store(_) => StatusCode::UNPROCESSABLE_ENTITY,
            };
            (status, format!("{error}\n")).into_response()
        }
    }
}

async fn reload(State(state): Admin) -> Response {
    match state.shell.reload().await {
        Ok(text) => format!("{text}\n").into_response(),
        Err(text) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{text}\n")).into_response(),
    }
}
