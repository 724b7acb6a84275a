//! Routing: which backend is responsible for a user, and under which name.
//!
//! Asked in this order: the table, the domain of the name, the lookup service, the default.
//!
//!     GET /route?user=joe%40example.org          200 {"backend": "main", "user": "joe"}     or 404: nobody knows
//!
//! Names are compared without regard to ASCII case, as nearly all mail stores do.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use reqwest::{Client, StatusCode, Url, redirect};
use serde::{Deserialize, Serialize};

use crate::{session::effect::DialError, units::Span};

/// `[routing]`: which backend is responsible for a user; asked in the order table, domain, lookup, default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Routing {
    /// The backend of users whom nothing else routes. Default: the only backend there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Backends by the domain of the user's name.
    pub domains: BTreeMap<String, String>,
    /// A file with a line `user backend [user at the backend]` for each user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<PathBuf>,
    /// A service to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<Lookup>,
}

/// `[routing.lookup]`: `GET URL?user=joe` answers `{"backend": "main", "user": "joe@example.org"}`, or 404.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lookup {
    /// The address of the service, `http://` or `https://`.
    pub url: String,
    /// How long an answer is believed.
    pub cache: Span,
    /// How long to wait for one.
    pub timeout: Span,
}

impl Default for Lookup {
    fn default() -> Self {
        Self { url: String::new(), cache: Span::seconds(60), timeout: Span::seconds(3) }
    }
}

/// Where a user belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The backend's name.
    pub backend: Arc<str>,
    /// The name the backend knows the user by, if it is said; then nothing else rewrites it.
    pub user: Option<Arc<str>>,
}

/// Why there are no routes.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// The table could not be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// The table.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of the table is not one.
    #[error("{}:{line}: {problem}", file.display())]
    Line {
        /// The table.
        file: PathBuf,
        /// Which line.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The address of the lookup service is not one.
    #[error("routing.lookup.url: {0}")]
    Url(String),
    /// No HTTP client could be made.
    #[error("routing.lookup: {0}")]
    Client(#[from] reqwest::Error),
}

/// The routes as they are used.
#[derive(Debug)]
pub struct Router {
    table: HashMap<String, Route>,
    domains: HashMap<String, Arc<str>>,
    lookup: Option<Asking>,
    default: Option<Arc<str>>,
}

impl Router {
    /// Reads the table and prepares the lookup; `backends` are the names there are.
    pub fn new(routing: &Routing, backends: &HashSet<Arc<str>>) -> Result<Self, RoutingError> {
        let lower = |(domain, backend): (&String, &String)| (domain.to_ascii_lowercase(), backend.as_str().into());
        Ok(Self {
            table: routing.table.as_deref().map(|file| read_table(file, backends)).transpose()?.unwrap_or_default(),
            domains: routing.domains.iter().map(lower).collect(),
            lookup: routing.lookup.as_ref().map(Asking::new).transpose()?,
            default: routing.default.as_deref().map(Arc::from),
        })
    }

    /// Where this user belongs; `None` if nothing says so, and then the only backend of a listener may be meant.
    pub async fn route(&self, user: &str) -> Result<Option<Route>, DialError> {
        let name = user.to_ascii_lowercase();
        if let Some(route) = self.table.get(&name) {
            return Ok(Some(route.clone()));
        }
        let to = |backend: &Arc<str>| Some(Route { backend: backend.clone(), user: None });
        if let Some(backend) = name.rsplit_once('@').and_then(|(_, domain)| self.domains.get(domain)) {
            return Ok(to(backend));
        }
        match &self.lookup {
            Some(lookup) => match lookup.ask(user).await? {
                Some(route) => Ok(Some(route)),
                None => self.default.as_ref().map(to).ok_or(DialError::Unknown),
            },
            None => Ok(self.default.as_ref().and_then(to)),
        }
    }
}

fn read_table(file: &Path, backends: &HashSet<Arc<str>>) -> Result<HashMap<String, Route>, RoutingError> {
    let text = fs::read_to_string(file).map_err(|source| RoutingError::Read { file: file.to_owned(), source })?;
    let mut table = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |problem| RoutingError::Line { file: file.to_owned(), line: index + 1, problem };
        let Some((user, route)) = read_line(line, backends).map_err(wrong)? else { continue };
        if table.insert(user, route).is_some() {
            return Err(wrong("this user stands in an earlier line too".to_owned()));
        }
    }
    Ok(table)
}

/// `user backend [user at the backend]`; an empty line or one that begins with `#` says nothing.
fn read_line(line: &str, backends: &HashSet<Arc<str>>) -> Result<Option<(String, Route)>, String> {
    let words: Vec<_> = line.split_whitespace().collect();
    let (user, backend, at_backend) = match words[..] {
        [] => return Ok(None),
        [first, ..] if first.starts_with('#') => return Ok(None),
        [user, backend] => (user, backend, None),
        [user, backend, at_backend] => (user, backend, Some(Arc::from(at_backend))),
        _ => return Err("not of the form `user backend [user at the backend]`".to_owned()),
    };
    let backend = backends.get(backend).ok_or_else(|| format!("no backend `{backend}`"))?.clone();
    Ok(Some((user.to_ascii_lowercase(), Route { backend, user: at_backend })))
}

/// The service that knows where users belong.
#[derive(Debug)]
struct Asking {
    client: Client,
    url: Url,
    cache: Mutex<Cache>,
}

/// The longest answer that makes sense: two names.
const LONGEST_ANSWER: usize = 4096;

impl Asking {
    fn new(lookup: &Lookup) -> Result<Self, RoutingError> {
        let url = Url::parse(&lookup.url).map_err(|error| RoutingError::Url(error.to_string()))?;
        let client =
            Client::builder().timeout(lookup.timeout.0).redirect(redirect::Policy::none()).no_proxy().build()?;
        Ok(Self { client, url, cache: Mutex::new(Cache::new(lookup.cache.0)) })
    }

    async fn ask(&self, user: &str) -> Result<Option<Route>, DialError> {
        if let Some(answer) = self.cache().get(user, Instant::now()) {
            return Ok(answer);
        }
        let answer = self.get(user).await.map_err(|error| {
            tracing::warn!(url = %self.url, error = %error, "routing lookup failed");
            DialError::Down
        })?;
        self.cache().put(user, answer.clone(), Instant::now());
        Ok(answer)
    }

    async fn get(&self, user: &str) -> Result<Option<Route>, LookupError> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("user", user);
        let mut response = self.client.get(url).send().await.map_err(reqwest::Error::without_url)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            other => return Err(LookupError::Status(other)),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(LookupError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        let answer: Answer = serde_json::from_slice(&body)?;
        Ok(Some(Route { backend: answer.backend.into(), user: answer.user.map(Arc::from) }))
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it says of a user it knows.
#[derive(Deserialize)]
struct Answer {
    backend: String,
    user: Option<String>,
}

/// Why the service gave no answer that we understand.
#[derive(Debug, thiserror::Error)]
enum LookupError {
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer is too long")]
    TooLong,
    #[error("its answer is not of the form {{\"backend\": ..., \"user\": ...}}: {0}")]
    Json(#[from] serde_json::Error),
}

/// Answers that are still believed, unknown users among them.
#[derive(Debug)]
struct Cache {
    lifetime: Duration,
    answers: HashMap<String, (Instant, Option<Route>)>,
}

impl Cache {
    /// Some 2 MB. When it is full of fresh answers it begins anew, which costs one question for each user.
    const MOST: usize = 10_000;
    /// No mail address is longer (RFC 5321 4.5.3.1); names that are, are made up, and not worth their room.
    const LONGEST_NAME: usize = 320;

    fn new(lifetime: Duration) -> Self {
        Self { lifetime, answers: HashMap::new() }
    }

    fn get(&self, user: &str, now: Instant) -> Option<Option<Route>> {
        let (since, answer) = self.answers.get(user)?;
        (now.saturating_duration_since(*since) < self.lifetime).then(|| answer.clone())
    }

    fn put(&mut self, user: &str, answer: Option<Route>, now: Instant) {
        if user.len() > Self::LONGEST_NAME || self.lifetime.is_zero() {
            return;
        }
        if self.answers.len() >= Self::MOST {
            let lifetime = self.lifetime;
            self.answers.retain(|_, (since, _)| now.saturating_duration_since(*since) < lifetime);
        }
        if self.answers.len() >= Self::MOST {
            self.answers.clear();
        }
        self.answers.insert(user.to_owned(), (now, answer));
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
        net::TcpListener,
        sync::mpsc,
    };

    use super::*;

    fn backends() -> HashSet<Arc<str>> {
        ["main", "old", "third"].map(Arc::from).into()
    }

    fn to(backend: &str, user: Option<&str>) -> Route {
        Route { backend: backend.into(), user: user.map(Arc::from) }
    }

    #[tokio::test]
    async fn the_table_comes_before_the_domain_and_the_domain_before_the_default() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "# the first ones to move\n\nJoe@example.org main joe\nann@example.org\tmain\n").unwrap();
        let routing = Routing {
            default: Some("third".to_owned()),
            domains: [("Example.ORG".to_owned(), "old".to_owned())].into(),
            table: Some(file.path().to_owned()),
            lookup: None,
        };
        let router = Router::new(&routing, &backends()).unwrap();
        for (user, expected) in [
            ("joe@example.org", to("main", Some("joe"))),
            ("ANN@example.org", to("main", None)),
            ("bob@EXAMPLE.org", to("old", None)),
            ("bob@elsewhere.org", to("third", None)),
            ("bob", to("third", None)),
        ] {
            assert_eq!(router.route(user).await.unwrap(), Some(expected), "{user}");
        }
    }

    #[tokio::test]
    async fn without_any_word_nothing_is_said() {
        let router = Router::new(&Routing::default(), &backends()).unwrap();
        assert_eq!(router.route("joe").await, Ok(None));
    }

    #[test]
    fn a_wrong_line_of_the_table_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, problem) in [
            ("joe\n", ":1: not of the form"),
            ("\njoe mian\n", ":2: no backend `mian`"),
            ("joe main joe too\n", ":1: not of the form"),
            ("joe main\nJOE main\n", ":2: this user stands in an earlier line too"),
        ] {
            fs::write(&file, text).unwrap();
            let routing = Routing { table: Some(file.path().to_owned()), ..Routing::default() };
            let error = Router::new(&routing, &backends()).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    /// A service that answers each question with the next of these, and tells what it was asked.
    async fn service(answers: &'static [&'static str]) -> (String, mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/route?key=1", listener.local_addr().unwrap());
        let (said, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut lines = BufReader::new(&mut stream).lines();
                said.send(lines.next_line().await.unwrap().unwrap()).unwrap();
                while !lines.next_line().await.unwrap().unwrap().is_empty() {}
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (url, asked)
    }

    fn asking(url: String, default: Option<&str>) -> Router {
        let lookup = Some(Lookup { url, ..Lookup::default() });
        let routing = Routing { lookup, default: default.map(str::to_owned), ..Routing::default() };
        Router::new(&routing, &backends()).unwrap()
    }

    #[tokio::test]
    async fn the_service_is_asked_once_for_each_user() {
        let (url, mut asked) = service(&[
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"backend\": \"old\", \"user\": \"j\"}",
            "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n",
        ])
        .await;
        let router = asking(url, None);
        for _ in 0..2 {
            assert_eq!(router.route("j+a&b@example.org").await, Ok(Some(to("old", Some("j")))));
            assert_eq!(router.route("nobody").await, Err(DialError::Unknown));
        }
        assert_eq!(asked.recv().await.unwrap(), "GET /route?key=1&user=j%2Ba%26b%40example.org HTTP/1.1");
        assert_eq!(asked.recv().await.unwrap(), "GET /route?key=1&user=nobody HTTP/1.1");
        assert_eq!(asked.recv().await, None);
    }

    #[tokio::test]
    async fn a_user_unknown_to_the_service_belongs_to_the_default_if_there_is_one() {
        let (url, _asked) = service(&["HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n"]).await;
        assert_eq!(asking(url, Some("main")).route("nobody").await, Ok(Some(to("main", None))));
    }

    #[tokio::test]
    async fn a_service_that_fails_is_not_an_unknown_user() {
        let long: &str = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{:9000}", "").leak();
        let answers: &[&str] = vec![
            "HTTP/1.1 500 No\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[]",
            long,
            "",
        ]
        .leak();
        let (url, _asked) = service(answers).await;
        let router = asking(url, Some("main"));
        for _ in answers {
            assert_eq!(router.route("joe").await, Err(DialError::Down));
        }
    }

    #[test]
    fn an_answer_is_believed_for_its_time_and_the_cache_is_bounded() {
        let mut cache = Cache::new(Duration::from_secs(60));
        let now = Instant::now();
        cache.put("joe", None, now);
        assert_eq!(cache.get("joe", now + Duration::from_secs(59)), Some(None));
        assert_eq!(cache.get("joe", now + Duration::from_secs(60)), None);
        for n in 0..2 * Cache::MOST {
            cache.put(&n.to_string(), None, now);
        }
        assert!(cache.answers.len() <= Cache::MOST);
        cache.put(&"x".repeat(321), None, now);
        assert_eq!(cache.get(&"x".repeat(321), now), None);
    }
}
