//! The carrier of HTTP requests: push services, webhooks, gateways.
//!
//!     Request to https://push.example.net/x, named by a user
//!       its name resolves to 203.0.113.9 and 10.0.0.1: the connection goes to the first, or to none
//!       201 Created                          ->  Http { 201 }
//!       302 Found, Location: http://...      ->  Http { 302 }: nobody goes there
//!       429, Retry-After: 120                ->  Http { 429, retry_after: 120 s }
//!       nothing for 10 s                     ->  Silence
//!
//! For a place that a user names each address is looked at when the connection is made, behind the resolver: what a name meant a moment ago
//! does not count. An address in place of a name never sees a resolver, and is looked at before. Without TLS such a place is spoken to only
//! where the operator has allowed its address. To one host a few requests go at a time, so that a slow one costs the others nothing. What
//! was answered goes to the channel; it stands in no log, for it is not ours.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, NaiveDateTime};
use reqwest::{
    Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderMap, RETRY_AFTER},
    redirect,
};

use super::{Places, turns::Turns};
use crate::outband::channel::{Answer, NamedBy, Request};

/// The longest pause that a provider may ask for: a mistake of its clock silences nobody for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// How it carries.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a request may take, from waiting for its turn to the end of the answer.
    pub timeout: Duration,
    /// How many requests go to one host at a time.
    pub per_host: usize,
    /// How much of an answer's body is read, in octets.
    pub longest_answer: usize,
    /// Where users may send us.
    pub places: Places,
}

impl Default for Settings {
    fn default() -> Self {
        // A reason, and no page.
        let longest_answer = 4096;
        Self { timeout: Duration::from_secs(10), per_host: 8, longest_answer, places: Places::default() }
    }
}

/// The carrier.
pub struct Http {
    /// To wherever the operator says.
    operators: Client,
    /// To places outside, or allowed, by TLS.
    users: Client,
    /// To places that are allowed, without.
    clear: Client,
    settings: Settings,
    hosts: Turns,
}

impl Http {
    /// With these settings, and the system's resolver.
    pub fn new(settings: Settings) -> Result<Self, reqwest::Error> {
        let users = Arc::new(Named(settings.places.clone()));
        Self::resolving(settings, Arc::new(System), users)
    }

    /// The same, and other resolvers: of what an operator names, and of what users do.
    fn resolving(settings: Settings, names: Arc<dyn Resolve>, users: Arc<dyn Resolve>) -> Result<Self, reqwest::Error> {
        let client = |may: Option<May>| {
            let builder = Client::builder().redirect(redirect::Policy::none()).no_proxy().referer(false);
            let builder = builder.user_agent(concat!("lemonade-proxy/", env!("CARGO_PKG_VERSION")));
            // All addresses of a name share it; the rest is for the answer.
            let builder = builder.connect_timeout(settings.timeout / 2);
            match may {
                None => builder.dns_resolver(names.clone()),
                Some(may) => {
                    let (names, places) = (users.clone(), settings.places.clone());
                    builder.dns_resolver(Arc::new(Checked { names, places, may }))
                }
            }
            .build()
        };
        Ok(Self {
            operators: client(None)?,
            users: client(Some(Places::permit))?,
            clear: client(Some(Places::allow))?,
            hosts: Turns::new(settings.per_host, usize::MAX),
            settings,
        })
    }

    /// Carries the request, and says what came back.
    pub async fn carry(&self, request: &Request) -> Answer {
        let answer = tokio::time::timeout(self.settings.timeout, self.ask(request)).await;
        let answer = answer.unwrap_or(Answer::Silence);
        match &answer {
            Answer::Http { status, .. } => tracing::debug!(status, "request answered"),
            Answer::Forbidden => tracing::info!("request to a place inside refused"),
            _ => tracing::debug!("request not answered"),
        }
        answer
    }

    async fn ask(&self, request: &Request) -> Answer {
        let Ok(url) = Url::parse(&request.url) else { return Answer::Unreachable };
        let Some(client) = self.client(&url, request.named_by) else { return Answer::Forbidden };
        let Some(host) = host_of(&url) else { return Answer::Unreachable };
        let Some(_turn) = self.hosts.turn(host).await else { return Answer::Unreachable };
        let mut asked = client.post(url).body(request.body.clone());
        for (name, value) in &request.headers {
            asked = asked.header(*name, value);
        }
        match asked.send().await {
            Ok(response) => read(response, self.settings.longest_answer).await,
            Err(error) => failed(&error),
        }
    }

    /// Who may go there; nobody where the place is inside, or is no place of HTTP.
    fn client(&self, url: &Url, named_by: NamedBy) -> Option<&Client> {
        let (client, may): (_, May) = match (named_by, url.scheme()) {
            (NamedBy::Operator, "http" | "https") => return Some(&self.operators),
            (NamedBy::User, "https") => (&self.users, Places::permit),
            (NamedBy::User, "http") => (&self.clear, Places::allow),
            _ => return None,
        };
        let host = url.host_str()?;
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match address {
            Ok(address) if !may(&self.settings.places, address) => None,
            _ => Some(client),
        }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Whose turns a URL takes.
fn host_of(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

/// Whether a connection to this address may be made.
type May = fn(&Places, IpAddr) -> bool;

/// The system's resolver.
struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The same for users: a few names at a time.
struct Named(Places);

impl Resolve for Named {
    fn resolve(&self, name: Name) -> Resolving {
        let places = self.0.clone();
        Box::pin(async move {
            let addresses = places.find(format!("{}:0", name.as_str())).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// A resolver that tells only the addresses to which a connection may be made.
struct Checked {
    names: Arc<dyn Resolve>,
    places: Places,
    may: May,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolving, places, may) = (self.names.resolve(name), self.places.clone(), self.may);
        Box::pin(async move {
            let permitted: Vec<SocketAddr> = resolving.await?.filter(|address| may(&places, address.ip())).collect();
            match permitted.is_empty() {
                true => Err(Box::new(Inside) as Box<dyn Error + Send + Sync>),
                false => Ok(Box::new(permitted.into_iter()) as Addrs),
            }
        })
    }
}

/// No address of the name is outside.
#[derive(Debug, thiserror::Error)]
#[error("no address outside")]
struct Inside;

/// What an error means: it tells more in its causes.
fn failed(error: &reqwest::Error) -> Answer {
    let mut cause = error.source();
    while let Some(deeper) = cause {
        if deeper.is::<Inside>() {
            return Answer::Forbidden;
        }
        cause = deeper.source();
    }
    // A connection that was made and broke may have brought the request.
    if error.is_connect() || error.is_builder() { Answer::Unreachable } else { Answer::Silence }
}

async fn read(mut response: reqwest::Response, longest: usize) -> Answer {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers(), SystemTime::now());
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk[..chunk.len().min(longest - body.len())]);
        if body.len() == longest {
            break;
        }
    }
    Answer::Http { status, retry_after, body }
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => date(text)?.duration_since(now).unwrap_or_default(),
    };
    Some(pause.min(LONGEST_PAUSE))
}

/// The three forms of RFC 9110 section 5.6.7.
fn date(text: &str) -> Option<SystemTime> {
    let usual = DateTime::parse_from_rfc2822(text).ok().map(|date| date.to_utc());
    let old = || NaiveDateTime::parse_from_str(text, "%A, %d-%b-%y %H:%M:%S GMT");
    let older = || NaiveDateTime::parse_from_str(text, "%a %b %e %H:%M:%S %Y");
    let date = usual.or_else(|| old().or_else(|_| older()).ok().map(|date| date.and_utc()))?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(date.timestamp()).ok()?))
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        sync::mpsc,
    };

    use super::*;
    use crate::io::reach::tests::silent;

    const OURS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
    const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

    /// A receiver at this address: it answers every request with these octets, and tells what it heard.
    async fn receiver(address: Ipv4Addr, answer: impl Into<Vec<u8>>) -> (u16, mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (said, heard) = mpsc::unbounded_channel();
        let answer = answer.into();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(respond(stream, answer.clone(), said.clone()));
            }
        });
        (port, heard)
    }

    async fn respond(mut stream: TcpStream, answer: Vec<u8>, said: mpsc::UnboundedSender<String>) {
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        while !is_whole(&heard) {
            let Ok(read @ 1..) = stream.read(&mut buffer).await else { return };
            heard.extend_from_slice(&buffer[..read]);
        }
        let _ = said.send(String::from_utf8_lossy(&heard).into_owned());
        let _ = stream.write_all(&answer).await;
    }

    /// Whether head and body of a request are there.
    fn is_whole(heard: &[u8]) -> bool {
        let text = String::from_utf8_lossy(heard);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        body.len() >= length.and_then(|length| length.parse().ok()).unwrap_or(0)
    }

    /// What a status line and headers look like, and no body.
    fn head(lines: &str) -> String {
        format!("HTTP/1.1 {lines}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }

    fn request(url: &str, named_by: NamedBy) -> Request {
        let headers = vec![("TTL", "60".to_owned()), ("WebPush-Validation", String::new())];
        Request { url: url.to_owned(), headers, body: b"hello".to_vec(), named_by }
    }

    fn settings(allowed: &[&str]) -> Settings {
        let allowed = allowed.iter().map(|network| network.parse().unwrap()).collect();
        Settings { timeout: Duration::from_secs(5), places: Places::new(allowed), ..Settings::default() }
    }

    /// A carrier that finds these addresses one after the other, whatever the name; the last for ever.
    fn finding(allowed: &[&str], found: &[&[Ipv4Addr]]) -> Http {
        struct Changing(Vec<Vec<Ipv4Addr>>, AtomicUsize);
        impl Resolve for Changing {
            fn resolve(&self, _: Name) -> Resolving {
                let at = self.1.fetch_add(1, Ordering::SeqCst).min(self.0.len() - 1);
                let addresses: Vec<_> = self.0[at].iter().map(|address| SocketAddr::from((*address, 0))).collect();
                Box::pin(async move { Ok(Box::new(addresses.into_iter()) as Addrs) })
            }
        }
        let found = found.iter().map(|addresses| addresses.to_vec()).collect();
        let names = Arc::new(Changing(found, AtomicUsize::new(0)));
        Http::resolving(settings(allowed), names.clone(), names).unwrap()
    }

    fn status(status: u16) -> Answer {
        Answer::Http { status, retry_after: None, body: Vec::new() }
    }

    #[tokio::test]
    async fn a_request_is_carried_as_it_was_written() {
        let (port, mut heard) = receiver(OURS, head("201 Created")).await;
        let carrier = Http::new(settings(&[])).unwrap();
        let url = format!("http://127.0.0.1:{port}/a?b=%2f");
        assert_eq!(carrier.carry(&request(&url, NamedBy::Operator)).await, status(201));
        let said = heard.recv().await.unwrap();
        assert!(said.starts_with("POST /a?b=%2f HTTP/1.1\r\n") && said.ends_with("\r\n\r\nhello"), "{said}");
        for line in ["\r\nttl: 60\r\n", "\r\nwebpush-validation: \r\n", "\r\ncontent-length: 5\r\n"] {
            assert!(said.contains(line), "{line}: {said}");
        }
    }

    #[tokio::test]
    async fn a_redirection_is_an_answer_and_nobody_goes_there() {
        let (target, mut reached) = receiver(OURS, head("200 OK")).await;
        let carrier = Http::new(settings(&["127.0.0.0/8"])).unwrap();
        for number in [301, 302, 303, 307, 308] {
            let there = head(&format!("{number} There\r\nLocation: http://127.0.0.1:{target}/"));
            let (port, _heard) = receiver(OURS, there).await;
            for named_by in [NamedBy::User, NamedBy::Operator] {
                let answer = carrier.carry(&request(&format!("http://127.0.0.1:{port}/"), named_by)).await;
                assert_eq!(answer, status(number));
            }
        }
        assert!(reached.try_recv().is_err());
    }

    #[tokio::test]
    async fn retry_after_is_heard() {
        let (port, _heard) = receiver(OURS, head("503 Wait\r\nRetry-After: 120")).await;
        let carrier = Http::new(settings(&[])).unwrap();
        let answer = carrier.carry(&request(&format!("http://127.0.0.1:{port}/"), NamedBy::Operator)).await;
        let retry_after = Some(Duration::from_secs(120));
        assert_eq!(answer, Answer::Http { status: 503, retry_after, body: Vec::new() });
    }

    #[test]
    fn a_pause_is_seconds_or_a_date_and_at_most_a_day() {
        // RFC 9110 section 5.6.7, four minutes before.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 240);
        let pause = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers, now).map(|pause| pause.as_secs())
        };
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(240)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(240)),
            ("Sun Nov  6 08:49:37 1994", Some(240)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(86_400)),
            ("18446744073709551615", Some(86_400)),
            ("99999999999999999999", None),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(pause(text), seconds, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[tokio::test]
    async fn of_a_large_body_the_beginning_is_read() {
        let body = "x".repeat(1 << 20);
        let whole = format!("HTTP/1.1 400 No\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (port, _heard) = receiver(OURS, whole).await;
        let carrier = Http::new(settings(&[])).unwrap();
        let answer = carrier.carry(&request(&format!("http://127.0.0.1:{port}/"), NamedBy::Operator)).await;
        let expected = Answer::Http { status: 400, retry_after: None, body: vec![b'x'; 4096] };
        assert!(answer == expected);
        // One that never ends: nobody waits for the rest.
        let listener = TcpListener::bind((OURS, 0)).await.unwrap();
        let asked = request(&format!("http://{}/", listener.local_addr().unwrap()), NamedBy::Operator);
        let (answer, _open) = tokio::join!(carrier.carry(&asked), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            let endless = format!("HTTP/1.1 400 No\r\nContent-Length: 100000000\r\n\r\n{}", &body[..5000]);
            stream.write_all(endless.as_bytes()).await.unwrap();
            stream
        });
        assert!(answer == expected);
    }

    #[tokio::test]
    async fn without_an_answer_it_is_silence_and_without_a_way_unreachable() {
        let listener = TcpListener::bind((OURS, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let short = Settings { timeout: Duration::from_millis(100), ..settings(&[]) };
        let carrier = Http::new(short).unwrap();
        let url = format!("http://127.0.0.1:{port}/");
        assert_eq!(carrier.carry(&request(&url, NamedBy::Operator)).await, Answer::Silence);
        drop(listener);
        assert_eq!(carrier.carry(&request(&url, NamedBy::Operator)).await, Answer::Unreachable);
        // The connection breaks: the request may have come.
        let (port, _heard) = receiver(OURS, "").await;
        let url = format!("http://127.0.0.1:{port}/");
        assert_eq!(carrier.carry(&request(&url, NamedBy::Operator)).await, Answer::Silence);
        // It is no TLS that answers.
        let listener = TcpListener::bind((OURS, 0)).await.unwrap();
        let url = format!("https://127.0.0.1:{}/", listener.local_addr().unwrap().port());
        let asked = request(&url, NamedBy::Operator);
        let (answer, ()) = tokio::join!(carrier.carry(&asked), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 No\r\n\r\n").await.unwrap();
        });
        assert_eq!(answer, Answer::Unreachable);
        assert_eq!(carrier.carry(&request("no url", NamedBy::Operator)).await, Answer::Unreachable);
        let strange = Request { headers: vec![("TTL", "a\r\nb".to_owned())], ..request(&url, NamedBy::Operator) };
        assert_eq!(carrier.carry(&strange).await, Answer::Unreachable);
    }

    #[tokio::test]
    async fn an_address_inside_is_refused_however_it_is_written() {
        let (port, mut heard) = receiver(OURS, head("201 Created")).await;
        let carrier = Http::new(settings(&["127.0.0.2"])).unwrap();
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "2130706433",
            "0",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "169.254.169.254",
            "127.0.0.1%2e",
            "\u{ff11}27.0.0.1",
        ] {
            for scheme in ["http", "https"] {
                let answer = carrier.carry(&request(&format!("{scheme}://{host}:{port}/"), NamedBy::User)).await;
                assert_eq!(answer, Answer::Forbidden, "{scheme}://{host}");
            }
        }
        for url in [format!("ftp://127.0.0.2:{port}/"), "file:///etc/passwd".to_owned()] {
            assert_eq!(carrier.carry(&request(&url, NamedBy::User)).await, Answer::Forbidden);
        }
        assert!(heard.try_recv().is_err());
        let url = format!("http://127.0.0.1:{port}/");
        assert_eq!(carrier.carry(&request(&url, NamedBy::Operator)).await, status(201));
    }

    #[tokio::test]
    async fn a_name_of_an_address_inside_is_refused() {
        let (port, mut heard) = receiver(OURS, head("201 Created")).await;
        let carrier = Http::new(settings(&[])).unwrap();
        for scheme in ["http", "https"] {
            let answer = carrier.carry(&request(&format!("{scheme}://localhost:{port}/"), NamedBy::User)).await;
            assert_eq!(answer, Answer::Forbidden);
        }
        assert!(heard.try_recv().is_err());
        let url = format!("http://localhost:{port}/");
        assert_eq!(carrier.carry(&request(&url, NamedBy::Operator)).await, status(201));
    }

    #[tokio::test]
    async fn a_name_that_means_another_address_the_next_time_is_refused_then() {
        // Both hear: what is refused would be answered.
        let (port, mut outside) = receiver(OTHER, head("201 Created")).await;
        let inside = TcpListener::bind((OURS, port)).await.unwrap();
        let carrier = finding(&["127.0.0.2"], &[&[OTHER], &[OURS]]);
        let url = format!("http://push.example:{port}/");
        assert_eq!(carrier.carry(&request(&url, NamedBy::User)).await, status(201));
        assert!(outside.recv().await.is_some());
        assert_eq!(carrier.carry(&request(&url, NamedBy::User)).await, Answer::Forbidden);
        let came = tokio::time::timeout(Duration::from_millis(50), inside.accept()).await;
        assert!(came.is_err() && outside.try_recv().is_err());
    }

    #[tokio::test]
    async fn of_several_addresses_only_those_outside_are_tried() {
        let (port, mut outside) = receiver(OTHER, head("201 Created")).await;
        let inside = TcpListener::bind((OURS, port)).await.unwrap();
        let carrier = finding(&["127.0.0.2"], &[&[OURS, OTHER, OURS]]);
        let url = format!("http://push.example:{port}/");
        assert_eq!(carrier.carry(&request(&url, NamedBy::User)).await, status(201));
        assert!(outside.recv().await.is_some());
        let came = tokio::time::timeout(Duration::from_millis(50), inside.accept()).await;
        assert!(came.is_err());
    }

    #[tokio::test]
    async fn a_silent_address_leaves_time_for_the_next() {
        let (port, mut reached) = receiver(OTHER, head("201 Created")).await;
        let (_quiet, _waiting) = silent((OURS, port).into()).await;
        let carrier = finding(&[], &[&[OURS, OTHER]]);
        let asked = request(&format!("http://push.example:{port}/"), NamedBy::Operator);
        assert_eq!(carrier.carry(&asked).await, status(201));
        assert!(reached.recv().await.is_some());
    }

    #[tokio::test]
    async fn without_tls_users_send_us_only_where_it_is_allowed() {
        // Outside, but not allowed: no connection is tried, by address or by name.
        let carrier = finding(&[], &[&[Ipv4Addr::new(1, 1, 1, 1)]]);
        for host in ["1.1.1.1", "one.example"] {
            let answer = carrier.carry(&request(&format!("http://{host}/"), NamedBy::User)).await;
            assert_eq!(answer, Answer::Forbidden, "{host}");
        }
    }

    #[tokio::test]
    async fn to_one_host_go_a_few_at_a_time() {
        let (port, mut heard) = receiver(OURS, "").await;
        let url: Url = format!("http://127.0.0.1:{port}/").parse().unwrap();
        let few = Settings { per_host: 2, timeout: Duration::from_millis(200), ..settings(&[]) };
        let carrier = Http::new(few).unwrap();
        let turn = || carrier.hosts.turn(host_of(&url).unwrap());
        let (first, _second) = (turn().await, turn().await);
        assert_eq!(carrier.carry(&request(url.as_str(), NamedBy::Operator)).await, Answer::Silence);
        assert!(heard.try_recv().is_err(), "it waited for its turn");
        let (other, mut reached) = receiver(OURS, head("200 OK")).await;
        let elsewhere = request(&format!("http://127.0.0.1:{other}/"), NamedBy::Operator);
        assert_eq!(carrier.carry(&elsewhere).await, status(200));
        assert!(reached.recv().await.is_some());
        drop(first);
        carrier.carry(&request(url.as_str(), NamedBy::Operator)).await;
        assert!(heard.recv().await.is_some());
    }
}
