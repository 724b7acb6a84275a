//! Both doors, with real connections on loopback.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    task::JoinHandle,
};

use super::{
    status::{BackendStatus, Listening, Status},
    *,
};
use crate::io::{
    accounts::AccountError,
    events::MOST_FOLLOWERS,
    registry::{Notice, Seat},
};

const TOKEN: &str = "0123456789abcdef";

/// A shell that is as it is told.
#[derive(Default)]
struct Shell {
    draining: AtomicBool,
    broken: AtomicBool,
}

impl Operated for Shell {
    fn measure(&self) {}

    fn status(&self) -> Status {
        Status {
            draining: self.draining.load(Relaxed),
            listeners: vec![Listening { address: "127.0.0.1:1143".to_owned(), tls: "starttls".to_owned() }],
            backends: vec![BackendStatus { name: "main".to_owned(), up: true, ..BackendStatus::default() }],
            ..Status::default()
        }
    }

    fn manage<'a>(&'a self, Whom { user, backend }: &'a Whom, order: Order) -> Managing<'a> {
        Box::pin(async move {
            match (order, backend) {
                (Order::Purge, None) if user == "nobody" => Err(AccountError::Device),
                (order, None) => Ok(serde_json::Value::from(format!("{user} {order:?}"))),
                (order, Some(backend)) => Ok(serde_json::Value::from(format!("{user} of {backend} {order:?}"))),
            }
        })
    }

    fn queue(&self) -> Queueing<'_> {
        Box::pin(async { serde_json::json!([]) })
    }

    fn reload(&self) -> Reloading<'_> {
        let broken = self.broken.load(Relaxed);
        Box::pin(async move { if broken { Err("line 3: what?".to_owned()) } else { Ok("revision 2".to_owned()) } })
    }
}

/// A running admin interface, and one session of joe's.
struct Scene {
    state: tempfile::TempDir,
    shell: Arc<Shell>,
    admin: Arc<AdminState>,
    seat: Seat,
    events: Arc<Events>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn scene(token: bool) -> Scene {
    let state = tempfile::tempdir().unwrap();
    let token_file = token.then(|| state.path().join("token"));
    if let Some(path) = &token_file {
        std::fs::write(path, format!("{TOKEN}\n")).unwrap();
    }
    let section = Admin { address: Address::At(SocketAddr::from(([127, 0, 0, 1], 0))), token_file };
    let meters = Arc::new(Meters::new());
    let registry = Registry::new(meters.clone());
    let seat = registry.enter("192.0.2.7:4711".parse().unwrap(), Arc::from("127.0.0.1:1143"));
    seat.named(Some(Arc::from("joe@example.org")), Some(Arc::from("main")));
    let shell = Arc::new(Shell::default());
    let traces = Traces::new(state.path(), meters.clone());
    let events = Arc::new(Events::default());
    let token = section.token().unwrap();
    let admin = AdminState::new(meters, registry, events.clone(), traces, shell.clone(), token);
    let doors = section.open(state.path()).unwrap();
    let address = doors.address().unwrap();
    let serving = tokio::spawn(doors.serve(admin.clone()));
    Scene { state, shell, admin, seat, events, address, serving }
}

impl Scene {
    /// Asks over TCP; the status and the body.
    async fn network(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{method} {path} HTTP/1.0\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    /// Asks over the socket, as the subcommands do.
    async fn socket(&self, method: &'static str, path: &str) -> Result<String, client::ClientError> {
        self.socket_with(method, path, "").await
    }

    async fn socket_with(
        &self,
        method: &'static str,
        path: &str,
        body: &'static str,
    ) -> Result<String, client::ClientError> {
        let (state, path) = (self.state.path().to_owned(), path.to_owned());
        tokio::task::spawn_blocking(move || client::request(&state, method, &path, body)).await.unwrap()
    }

    fn notice(&self) -> Option<Notice> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match self.seat.inbox().poll_take(&mut context) {
            std::task::Poll::Ready(notice) => Some(notice),
            std::task::Poll::Pending => None,
        }
    }
}

/// Every path but `/events`, whose answer does not end: method, path, and whether it names a user or changes anything.
const PATHS: &[(&str, &str, bool)] = &[
    ("GET", "/livez", false),
    ("GET", "/readyz", false),
    ("GET", "/metrics", false),
    ("GET", "/statusz", false),
    ("GET", "/sessions", true),
    ("POST", "/sessions/{id}/kick", true),
    ("GET", "/trace", true),
    ("PUT", "/trace/joe@example.org", true),
    ("DELETE", "/trace/joe@example.org", true),
    ("POST", "/reload", true),
    ("GET", "/devices/joe", true),
    ("GET", "/devices/joe/pixel", true),
    ("PUT", "/devices/joe/pixel", true),
    ("DELETE", "/devices/joe/pixel", true),
    ("GET", "/queue", true),
    ("GET", "/queue/joe", true),
    ("POST", "/queue/joe/pixel", true),
    ("PUT", "/queue/joe/pixel", true),
    ("DELETE", "/queue/joe/pixel", true),
    ("GET", "/explain/joe/pixel?mailbox=INBOX&uid=18", true),
    ("DELETE", "/accounts/joe", true),
];

#[tokio::test]
async fn what_names_a_user_needs_the_token_over_tcp_and_none_over_the_socket() {
    for token in [false, true] {
        let scene = scene(token);
        let right = format!("Authorization: Bearer {TOKEN}\r\n");
        let wrong = "Authorization: Bearer 0123456789abcdeF\r\n";
        for (method, path, personal) in PATHS {
            let path = path.replace("{id}", scene.seat.id().as_str());
            let denied = if token { 401 } else { 403 };
            let status = async |headers: &str| scene.network(method, &path, headers).await.0;
            assert_eq!(status("").await, if *personal { denied } else { 200 }, "{method} {path}");
            assert_eq!(status(wrong).await, if *personal { denied } else { 200 }, "{method} {path}");
            let expected = if *personal && !token { 403 } else { 200 };
            assert_eq!(status(&right).await, expected, "{method} {path}");
            if path.starts_with("/trace/") && *method == "DELETE" {
                scene.socket("PUT", &path).await.unwrap();
            }
            scene.socket(method, &path).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_denied_is_not_done() {
    let scene = scene(true);
    for (method, path, _) in PATHS.iter().filter(|(.., personal)| *personal) {
        let path = path.replace("{id}", scene.seat.id().as_str());
        let (_, body) = scene.network(method, &path, "").await;
        assert!(!body.contains("joe"), "{body}");
    }
    assert_eq!(scene.notice(), None);
    assert!(scene.admin.traces.users().is_empty());
}

#[tokio::test]
async fn what_needs_no_token_names_no_user() {
    let scene = scene(true);
    scene.admin.traces.switch_on("joe@example.org").unwrap();
    for (method, path, _) in PATHS.iter().filter(|(.., personal)| !*personal) {
        for accept in ["", "Accept: application/json\r\n"] {
            let (_, body) = scene.network(method, path, accept).await;
            assert!(!body.contains("joe") && !body.contains("192.0.2.7") && !body.contains(TOKEN), "{body}");
            assert!(!body.contains(scene.seat.id().as_str()), "{body}");
        }
    }
}

#[tokio::test]
async fn another_token_holds_from_the_next_request() {
    let scene = scene(true);
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(scene.network("GET", "/sessions", &right).await.0, 200);
    scene.admin.set_token(None);
    assert_eq!(scene.network("GET", "/sessions", &right).await.0, 403);
}

#[tokio::test]
async fn ready_turns_to_no_with_the_drain_and_alive_stays() {
    let scene = scene(false);
    assert_eq!(scene.network("GET", "/readyz", "").await, (200, "ready\n".to_owned()));
    scene.shell.draining.store(true, Relaxed);
    assert_eq!(scene.network("GET", "/readyz", "").await, (503, "draining\n".to_owned()));
    assert_eq!(scene.network("GET", "/livez", "").await.0, 200);
}

#[tokio::test]
async fn status_is_text_for_people_and_json_for_programs() {
    let scene = scene(false);
    let (_, text) = scene.network("GET", "/statusz", "").await;
    assert!(text.contains("backend         main up\n"), "{text}");
    let (_, json) = scene.network("GET", "/statusz", "Accept: application/json\r\n").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["ready"], true);
    assert_eq!(json["sessions"]["login"], 1);
    assert_eq!(json["backends"][0]["name"], "main");
}

#[tokio::test]
async fn sessions_are_listed_and_filtered() {
    let scene = scene(false);
    let list =
        async |path| -> serde_json::Value { serde_json::from_str(&scene.socket("GET", path).await.unwrap()).unwrap() };
    let all = list("/sessions").await;
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(all[0]["user"], "joe@example.org");
    assert_eq!(all[0]["client"], "192.0.2.7:4711");
    let path = format!("/sessions?user={}", client::segment("joe@example.org"));
    assert_eq!(list(&path).await, all);
    assert!(list("/sessions?user=ann").await.as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_session_is_ended_by_its_name() {
    let scene = scene(false);
    let path = format!("/sessions/{}/kick", scene.seat.id());
    scene.socket("POST", &path).await.unwrap();
    assert_eq!(scene.notice(), Some(Notice::Kick));
    let unknown = scene.socket("POST", "/sessions/0000000000000000/kick").await;
    assert!(matches!(unknown, Err(client::ClientError::Refused { status: 404, .. })), "{unknown:?}");
}

#[tokio::test]
async fn a_trace_reaches_open_sessions_and_later_ones() {
    let scene = scene(false);
    let path = format!("/trace/{}", client::segment("joe@example.org"));
    let said = scene.socket("PUT", &path).await.unwrap();
    assert!(said.starts_with("open sessions: 1; traces are written to "), "{said}");
    assert_eq!(scene.notice(), Some(Notice::Trace(true)));
    assert!(scene.admin.traces.wants("joe@example.org"));
    assert_eq!(scene.socket("GET", "/trace").await.unwrap(), r#"["joe@example.org"]"#);
    scene.socket("DELETE", &path).await.unwrap();
    assert_eq!(scene.notice(), Some(Notice::Trace(false)));
    assert!(scene.socket("DELETE", &path).await.is_err());
}

#[tokio::test]
async fn devices_are_managed_and_mistakes_are_named() {
    let scene = scene(false);
    let path = format!("/devices/{}/pixel", client::segment("joe@example.org"));
    let said = scene.socket_with("PUT", &path, r#"{"channel":"SMS=WAKEUP"}"#).await.unwrap();
    assert!(said.contains("joe@example.org Set(DeviceName") && said.contains("SMS=WAKEUP"), "{said}");
    assert_eq!(scene.socket("DELETE", "/accounts/joe").await.unwrap(), "\"joe Purge\"\n");
    let path_of_main = format!("/accounts/joe?backend={}", client::segment("ma+in"));
    assert_eq!(scene.socket("DELETE", &path_of_main).await.unwrap(), "\"joe of ma+in Purge\"\n");
    for (method, path, body, status) in [
        ("PUT", path.as_str(), r#"{"chanel":"SMS=WAKEUP"}"#, 422),
        ("PUT", path.as_str(), "{", 422),
        ("GET", "/devices/joe/two%20words", "", 422),
        ("DELETE", "/accounts/nobody", "", 404),
    ] {
        match scene.socket_with(method, path, body).await {
            Err(client::ClientError::Refused { status: said, .. }) => assert_eq!(said, status, "{path} {body}"),
            other => panic!("{path} {body}: {other:?}"),
        }
    }
}

/// Begins to follow over TCP: the status, and where the lines come from.
async fn follow(scene: &Scene, path: &str, headers: &str) -> (u16, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(scene.address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n{headers}\r\n").as_bytes()).await.unwrap();
    let mut stream = BufReader::new(stream);
    let status = line(&mut stream).await[9..12].parse().unwrap();
    while line(&mut stream).await != "\r\n" {}
    (status, stream)
}

async fn line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    line
}

#[tokio::test]
async fn events_are_for_those_with_the_token_and_come_until_they_go() {
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(follow(&scene(false), "/events", &right).await.0, 403);
    let scene = scene(true);
    assert_eq!(follow(&scene, "/events", "").await.0, 401);
    assert!(!scene.events.is_followed());
    let (status, mut all) = follow(&scene, "/events", &right).await;
    let (_, mut ann) = follow(&scene, "/events?user=ann%40example.org", &right).await;
    assert_eq!(status, 200);
    for (user, text) in [("joe", "1\n"), ("ann@example.org", "2\n")] {
        scene.events.publish(Some(user), || text.to_owned());
    }
    assert_eq!([line(&mut all).await, line(&mut all).await, line(&mut ann).await], ["1\n", "2\n", "2\n"]);
    drop((all, ann));
    while scene.events.is_followed() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn only_who_follows_may_stay() {
    let scene = scene(false);
    let router = routes::router(Door::Socket, scene.admin.clone());
    let begin = |path: &str| {
        let (mut client, ours) = tokio::io::duplex(4096);
        let talk = tokio::spawn(converse(ours, router.clone(), Duration::from_millis(50)));
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        async move {
            client.write_all(request.as_bytes()).await.unwrap();
            let mut lines = BufReader::new(client).lines();
            while lines.next_line().await.unwrap().is_some_and(|line| !line.is_empty()) {}
            (lines, talk)
        }
    };
    let (_asked, talk) = begin("/livez").await;
    let (mut following, _talk) = begin("/events").await;
    talk.await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    scene.events.publish(None, || "still here\n".to_owned());
    let said = [following.next_line().await.unwrap(), following.next_line().await.unwrap()];
    assert_eq!(said.map(Option::unwrap), ["B", "still here"], "a chunk of eleven octets");
}

#[tokio::test]
async fn followers_leave_room_for_others() {
    let scene = scene(true);
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let mut followers = Vec::new();
    for _ in 0..MOST_FOLLOWERS {
        followers.push(follow(&scene, "/events", &right).await);
    }
    assert_eq!(follow(&scene, "/events", &right).await.0, 503);
    assert_eq!(scene.network("GET", "/livez", "").await.0, 200);
}

#[tokio::test]
async fn the_command_line_follows_over_the_socket_until_the_proxy_ends() {
    let scene = scene(false);
    let state = scene.state.path().to_owned();
    let mut told = Vec::new();
    let following = tokio::task::spawn_blocking(move || {
        client::follow(&state, "/events?user=joe", |line| {
            told.extend_from_slice(line);
            Ok(())
        })
        .map(|()| told)
    });
    while !scene.events.is_followed() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (user, text) in [("joe", "1\n"), ("ann", "2\n"), ("joe", "\n"), ("joe", "3\n")] {
        scene.events.publish(Some(user), || text.to_owned());
    }
    scene.events.close().await;
    assert_eq!(following.await.unwrap().unwrap(), b"1\n3\n");
    let state = scene.state.path().to_owned();
    let late = tokio::task::spawn_blocking(move || client::follow(&state, "/events", |_| Ok(()))).await.unwrap();
    assert!(matches!(late, Err(client::ClientError::Refused { status: 503, .. })), "{late:?}");
}

#[tokio::test]
async fn a_reload_says_what_became_of_it() {
    let scene = scene(false);
    assert_eq!(scene.socket("POST", "/reload").await.unwrap(), "revision 2\n");
    scene.shell.broken.store(true, Relaxed);
    let refused = scene.socket("POST", "/reload").await.unwrap_err();
    assert_eq!(refused.to_string(), "line 3: what?");
}

#[tokio::test]
async fn a_method_or_path_that_there_is_not_is_refused() {
    let scene = scene(false);
    assert_eq!(scene.network("GET", "/", "").await.0, 404);
    assert_eq!(scene.network("POST", "/livez", "").await.0, 405);
    assert_eq!(scene.network("GET", "/../../etc/passwd", "").await.0, 404);
}

#[tokio::test]
async fn a_body_is_not_read_and_a_head_is_bounded() {
    let scene = scene(false);
    assert_eq!(scene.network("GET", "/livez", "Content-Length: 1099511627776\r\n").await.0, 200);
    let long = format!("X: {}\r\n", "x".repeat(64 << 10).as_str()).repeat(10);
    let mut stream = TcpStream::connect(scene.address).await.unwrap();
    // The answer may come, and the connection be closed, before all of it is written.
    let _ = stream.write_all(format!("GET /livez HTTP/1.0\r\n{long}\r\n").as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "), "{}", answer.escape_ascii());
}

#[tokio::test]
async fn those_who_only_connect_do_not_shut_the_socket() {
    let scene = scene(false);
    let mut silent = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        silent.push(TcpStream::connect(scene.address).await.unwrap());
    }
    assert_eq!(scene.socket("GET", "/livez").await.unwrap(), "alive\n");
}

#[test]
fn the_section_reads_as_it_is_written() {
    let section: Admin = toml::from_str("address = \"off\"\ntoken_file = \"/etc/token\"").unwrap();
    assert_eq!(section, Admin { address: Address::Off, token_file: Some("/etc/token".into()) });
    assert_eq!(toml::from_str::<Admin>("").unwrap(), Admin::default());
    assert!(toml::from_str::<Admin>("address = \"9143\"").is_err());
    assert!(toml::from_str::<Admin>("adress = \"off\"").is_err());
    let shown = toml::to_string(&Admin::default()).unwrap();
    assert_eq!(shown, "address = \"127.0.0.1:9143\"\n");
}
