//! Sessions that publish, a log in memory, and a server on loopback that says what it is told to say.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};

use super::*;
use crate::store::{Answer as Answering, StoreError, feed::Position, memory::Memory};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";

/// What a server answers, and to whom it tells what it has heard.
struct Desk {
    /// One after the other; without any left it takes all.
    answers: Mutex<Vec<(u16, &'static str)>>,
    heard: mpsc::UnboundedSender<Value>,
}

async fn answer(State(desk): State<Arc<Desk>>, body: String) -> (StatusCode, String) {
    let _ = desk.heard.send(serde_json::from_str(&body).unwrap());
    let mut answers = desk.answers.lock().unwrap();
    let (status, text) = if answers.is_empty() { (200, "") } else { answers.remove(0) };
    (StatusCode::from_u16(status).unwrap(), text.to_owned())
}

/// Everything around a feed.
struct Scene {
    state: tempfile::TempDir,
    settings: Settings,
    events: Arc<Events>,
    log: Arc<Memory>,
    meters: Arc<Meters>,
    heard: mpsc::UnboundedReceiver<Value>,
}

impl Scene {
    async fn new(answers: &[(u16, &'static str)]) -> Self {
        let (said, heard) = mpsc::unbounded_channel();
        let desk = Arc::new(Desk { answers: Mutex::new(answers.to_vec()), heard: said });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/notifications", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/notifications", post(answer)).with_state(desk);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let state = tempfile::tempdir().unwrap();
        let secret_file = state.path().join("secret");
        fs::write(&secret_file, SECRET).unwrap();
        let text = format!("url = {url:?}\nsecret_file = {secret_file:?}\nsource = \"here\"");
        let settings = toml::from_str(&text).unwrap();
        let (events, log, meters) = (Arc::default(), Arc::new(Memory::default()), Arc::new(Meters::new()));
        Self { state, settings, events, log, meters, heard }
    }

    fn begin(&self) -> Feed {
        Feed::begin(&self.settings, self.log.clone(), &self.events, self.meters.clone()).unwrap()
    }

    fn publish(&self, user: &str) {
        self.events.publish(Some(user), || format!("{{\"event\":\"Login\",\"user\":\"{user}\"}}\n"));
    }

    /// The next batch: its numbers, and of whom each tells, or up to where something is lost.
    async fn batch(&mut self) -> Vec<(u64, Value)> {
        let batch = self.heard.recv().await.unwrap();
        let told = |event: &Value| event.get("user").or(event.get("to")).unwrap().clone();
        batch["events"].as_array().unwrap().iter().map(|event| (event["seq"].as_u64().unwrap(), told(event))).collect()
    }

    fn counts(&self, line: &str) -> bool {
        self.meters.render().contains(&format!("{line}\n"))
    }

    async fn end(&self, feed: Feed) {
        self.events.close().await;
        feed.close().await;
    }
}

#[tokio::test]
async fn what_happens_is_told_in_its_order_and_a_new_start_goes_on() {
    let mut scene = Scene::new(&[]).await;
    let feed = scene.begin();
    scene.publish("joe");
    scene.publish("ann");
    assert_eq!(scene.batch().await, [(1, json!("joe")), (2, json!("ann"))]);
    scene.publish("jim");
    // What has happened is sent before the program ends.
    scene.end(feed).await;
    assert_eq!(scene.batch().await, [(3, json!("jim"))]);
    assert!(scene.counts("lemonade_feed_events_total{outcome=\"acknowledged\"} 3"));
    assert!(scene.counts("lemonade_feed_waiting 0") && scene.counts("lemonade_feed_oldest_timestamp_seconds 0"));
    scene.events = Arc::default();
    let feed = scene.begin();
    scene.publish("joe");
    assert_eq!(scene.batch().await, [(4, json!("joe"))]);
    scene.end(feed).await;
    let position = Log::begin(&*scene.log, "another").await.unwrap();
    assert_eq!((position.acked, position.next, position.stream.len()), (4, 5, 16));
}

#[tokio::test]
async fn what_was_not_taken_is_written_and_told_behind_the_next_start() {
    let mut scene = Scene::new(&[(503, "")]).await;
    let feed = scene.begin();
    scene.publish("joe");
    assert_eq!(scene.batch().await, [(1, json!("joe"))]);
    scene.publish("ann");
    scene.end(feed).await;
    assert!(scene.heard.try_recv().is_err(), "whoever does not answer is not asked again at the end");
    assert!(scene.counts("lemonade_feed_waiting 2") || scene.counts("lemonade_feed_waiting 1"));
    scene.events = Arc::default();
    let feed = scene.begin();
    assert_eq!(scene.batch().await, [(1, json!("joe")), (2, json!("ann"))]);
    scene.end(feed).await;
    drop(scene.state);
}

#[tokio::test]
async fn an_event_that_is_refused_is_counted_and_another_stands_for_it() {
    let refusal = "{\"acked\":1,\"errors\":[{\"seq\":2,\"class\":\"request\",\"code\":\"unknown-user\"}]}";
    let mut scene = Scene::new(&[(200, refusal)]).await;
    let feed = scene.begin();
    ["joe", "ann", "jim"].into_iter().for_each(|user| scene.publish(user));
    assert_eq!(scene.batch().await.len(), 3);
    assert_eq!(scene.batch().await, [(2, json!(2)), (3, json!("jim"))]);
    scene.end(feed).await;
    assert!(scene.counts("lemonade_feed_events_total{outcome=\"refused\"} 1"));
    assert!(scene.counts("lemonade_feed_events_total{outcome=\"acknowledged\"} 2"));
}

#[tokio::test]
async fn what_came_too_fast_is_declared_lost() {
    let mut scene = Scene::new(&[]).await;
    let feed = scene.begin();
    // The feed has had no turn yet, and its queue is full behind some three of these.
    let long = "x".repeat(300_000);
    for _ in 0..8 {
        scene.events.publish(None, || format!("{{\"event\":\"Login\",\"user\":\"{long}\"}}\n"));
    }
    for seq in 1..4 {
        assert_eq!(scene.batch().await, [(seq, json!(long))]);
    }
    assert_eq!(scene.batch().await, [(4, json!(8))]);
    scene.end(feed).await;
    assert!(scene.counts("lemonade_feed_events_total{outcome=\"lost\"} 5"));
}

/// A log on a disk that is full until it is not.
struct Full(Memory, AtomicBool);

impl Log for Full {
    fn begin<'a>(&'a self, stream: &'a str) -> Answering<'a, Position> {
        self.0.begin(stream)
    }

    fn append<'a>(&'a self, events: &'a [Logged], next: u64, keep: Keep) -> Answering<'a, u64> {
        match self.1.load(Relaxed) {
            true => Box::pin(async { Err(StoreError::Unavailable("disk full".into())) }),
            false => self.0.append(events, next, keep),
        }
    }

    fn read(&self, behind: u64, events: u32, octets: u64) -> Answering<'_, Tail> {
        self.0.read(behind, events, octets)
    }

    fn settle<'a>(&'a self, stream: &'a str, acked: u64, dropped: &'a [u64]) -> Answering<'a, ()> {
        self.0.settle(stream, acked, dropped)
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_not_sent_until_it_can() {
    let mut scene = Scene::new(&[]).await;
    let log = Arc::new(Full(Memory::default(), AtomicBool::new(true)));
    let feed = Feed::begin(&scene.settings, log.clone(), &scene.events, scene.meters.clone()).unwrap();
    scene.publish("joe");
    tokio::task::yield_now().await;
    log.1.store(false, Relaxed);
    scene.publish("ann");
    let mut told = scene.batch().await;
    if told.len() == 1 {
        told.extend(scene.batch().await);
    }
    assert_eq!(told, [(1, json!("joe")), (2, json!("ann"))]);
    scene.end(feed).await;
}

#[test]
fn what_cannot_be_obeyed_is_named() {
    let of = |text: &str| {
        let base = "secret_file = \"s\"\nsource = \"x\"\n";
        let settings: Settings = toml::from_str(&format!("{base}{text}")).unwrap();
        settings.faults().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    for (text, faults) in [
        ("url = \"https://pna.example.org/v1\"", &[][..]),
        ("url = \"http://127.0.0.1:8080/v1\"", &[]),
        ("url = \"http://[::1]:8080/v1\"", &[]),
        ("url = \"http://localhost/\"", &[]),
        ("url = \"http://10.0.0.1/\"", &["url"]),
        ("url = \"http://localhost.example.org/\"", &["url"]),
        ("url = \"http://10.0.0.1/\"\nallow_clear = true", &[]),
        ("url = \"ftp://localhost/\"", &["url"]),
        ("url = \"pna\"", &["url"]),
        ("url = \"https://x/\"\nevents = 0\nretention = \"0s\"\noctets = \"1 B\"", &["retention", "events", "octets"]),
        ("url = \"https://x/\"\nbatch = { events = 0, octets = \"257 KiB\" }", &["batch.events", "batch.octets"]),
    ] {
        assert_eq!(of(text), faults, "{text}");
    }
}

#[tokio::test]
async fn a_secret_that_is_none_is_not_told() {
    let scene = Scene::new(&[]).await;
    let begin = || {
        let begun = Feed::begin(&scene.settings, scene.log.clone(), &scene.events, scene.meters.clone());
        begun.map(|_| ()).unwrap_err().to_string()
    };
    fs::write(&scene.settings.secret_file, "hush").unwrap();
    assert_eq!(begin(), "feed.secret_file: expected whsec_ and 24 to 64 octets in base64");
    fs::remove_file(&scene.settings.secret_file).unwrap();
    assert!(begin().starts_with(&format!("feed.secret_file: {}: ", scene.settings.secret_file.display())));
}
