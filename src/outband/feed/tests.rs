//! Golden octets, what each answer means, and a walk beside a receiver that forgets, refuses and goes away.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

const LIMITS: Limits = Limits { events: 500, octets: 256 << 10 };
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn feed(acked: u64) -> Feed {
    Feed::new(&Position { stream: "4b1f".into(), acked, next: 0 }, LIMITS)
}

fn event(seq: u64) -> Logged {
    Logged { seq, at: 0, line: format!("{{\"event\":\"Login\",\"n\":{seq}}}").into() }
}

fn tail(seqs: impl IntoIterator<Item = u64>, next: u64) -> Tail {
    Tail { next, events: seqs.into_iter().map(event).collect() }
}

fn batch(feed: &Feed, tail: &Tail) -> Batch {
    feed.batch("imap1.example.org", tail).unwrap()
}

fn http(status: u16, body: &str) -> Answer {
    Answer::Http { status, retry_after: None, body: body.as_bytes().to_vec() }
}

const fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn a_batch_is_written_as_the_binding_says() {
    let line = "{\"event\":\"MessageNew\",\"user\":\"juliet\",\"uidset\":\"18\"}\n";
    let line = logged(line.as_bytes()).unwrap();
    let tail = Tail { next: 1045, events: vec![Logged { seq: 1041, at: 7, line }, event(1044)] };
    let batch = batch(&feed(1040), &tail);
    let written = concat!(
        r#"{"source":"imap1.example.org","stream":"4b1f","first":1041,"events":["#,
        r#"{"seq":1041,"event":"MessageNew","user":"juliet","uidset":"18","inform":["juliet"],"action":"alert"},"#,
        r#"{"seq":1042,"event":"vnd.lemonade.Lost","from":1042,"to":1043},"#,
        r#"{"seq":1044,"event":"Login","n":1044}]}"#
    );
    assert_eq!(String::from_utf8_lossy(&batch.body), written);
    assert_eq!((batch.first, batch.last, &batch.seqs[..]), (1041, 1044, &[1041, 1044][..]));
}

#[test]
fn a_request_is_signed_and_bears_the_same_key_when_it_is_repeated() {
    let (secret, feed) = (SECRET.parse().unwrap(), feed(0));
    let first = batch(&feed, &tail([1], 2));
    let request = first.request("https://pna.example.org/v1", &secret, Duration::from_secs(1_614_265_330));
    let header = |request: &Request, name: &str| {
        request.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone()).unwrap()
    };
    let id = header(&request, "webhook-id");
    assert_eq!((request.named_by, &request.body), (NamedBy::Operator, &first.body));
    assert_eq!(header(&request, "Content-Type"), "application/vnd.lemonade.events+json");
    assert_eq!(header(&request, "Idempotency-Key"), id);
    assert_eq!(header(&request, "webhook-signature"), secret.sign(&id, 1_614_265_330, &first.body));
    let again = first.request("https://pna.example.org/v1", &secret, Duration::from_secs(1_614_265_390));
    assert_eq!(header(&again, "webhook-id"), id);
    assert_ne!(header(&again, "webhook-signature"), header(&request, "webhook-signature"));
    let more = batch(&feed, &tail([1, 2], 3)).request("https://pna.example.org/v1", &secret, Duration::ZERO);
    assert_ne!(header(&more, "webhook-id"), id, "another content");
}

#[test]
fn an_event_says_whom_it_concerns_and_what_is_to_be_done() {
    let told = |line: &str| -> Option<Value> { Some(serde_json::from_str(&logged(line.as_bytes())?).unwrap()) };
    let line = "{\"event\":\"QuotaExceed\",\"user\":\"jo\\\"e\"}\n";
    assert_eq!(
        told(line),
        Some(json!({"event": "QuotaExceed", "user": "jo\"e", "inform": ["jo\"e"], "action": "alert"}))
    );
    for (kind, action) in [
        ("MessageNew", "alert"),
        ("QuotaWithin", "cancel"),
        ("MessageRead", "update"),
        ("MessageExpunge", "update"),
        ("Login", "presence"),
        ("Logout", "presence"),
        ("MailboxCreate", "none"),
    ] {
        let line = format!("{{\"event\":\"{kind}\"}}\n");
        assert_eq!(told(&line), Some(json!({"event": kind, "action": action})), "nobody is known");
    }
    for line in ["", "\n", "{\"dropped\":17}\n", "{\"event\":\"Nothing\"}\n", "{\"event\":\"Login\"", "[]"] {
        assert_eq!(logged(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn a_batch_has_a_bound_and_one_event_at_least() {
    let numbers = |limits: Limits, tail: &Tail| {
        let feed = Feed { limits, most: limits.events, ..feed(0) };
        let batch = batch(&feed, tail);
        assert!(batch.seqs.len() < 2 || batch.body.len() as u64 <= limits.octets);
        (batch.last, batch.seqs)
    };
    let whole = tail([1, 2, 3], 4);
    let octets = batch(&feed(0), &whole).body.len() as u64;
    assert_eq!(numbers(Limits { octets, ..LIMITS }, &whole), (3, vec![1, 2, 3]));
    assert_eq!(numbers(Limits { octets: octets - 1, ..LIMITS }, &whole), (2, vec![1, 2]));
    assert_eq!(numbers(Limits { octets: 1, ..LIMITS }, &whole), (1, vec![1]));
    assert_eq!(numbers(Limits { events: 2, ..LIMITS }, &whole), (2, vec![1, 2]));
    assert_eq!(numbers(Limits { events: 1, ..LIMITS }, &tail([3], 4)), (2, vec![]), "what is lost is an event too");
    assert_eq!(feed(3).batch("x", &tail([], 4)), None);
    assert_eq!(batch(&feed(3), &tail([], 9)).last, 8, "all that there was has been lost");
}

#[test]
fn each_answer_means_what_it_says() {
    let lost = |expected: u64| format!("{{\"expected\":{expected}}}");
    let error = |seq: u64, class: &str| format!("{{\"seq\":{seq},\"class\":\"{class}\",\"code\":\"unknown-user\"}}");
    let partly = |acked: u64, errors: &[String]| format!("{{\"acked\":{acked},\"errors\":[{}]}}", errors.join(","));
    // Events 11 to 14 of 11 to 20 are sent. Then: acked, sent, dropped, refused, pause.
    type Row<'a> = (Answer, u64, u64, &'a [u64], u64, Option<Duration>);
    let table: &[Row<'_>] = &[
        (http(200, "{\"stream\":\"4b1f\",\"acked\":14}"), 14, 4, &[], 0, None),
        (http(204, ""), 14, 4, &[], 0, None),
        (http(200, "{\"acked\":17}"), 17, 4, &[], 0, None),
        (http(200, "{\"acked\":12}"), 12, 2, &[], 0, seconds(1)),
        (http(200, "{\"acked\":3}"), 10, 0, &[], 0, seconds(1)),
        (http(200, "{\"stream\":\"other\",\"acked\":14}"), 10, 0, &[], 0, seconds(1)),
        (http(200, "<html>"), 10, 0, &[], 0, seconds(1)),
        (http(200, "{\"ok\":true}"), 10, 0, &[], 0, seconds(1)),
        (http(302, ""), 10, 0, &[], 0, seconds(1)),
        (http(404, "no"), 10, 0, &[], 0, seconds(1)),
        (http(207, &partly(11, &[error(12, "request")])), 11, 1, &[12], 1, None),
        (http(400, &partly(11, &[error(12, "request"), error(12, "request")])), 11, 1, &[12], 1, None),
        (http(200, &partly(14, &[error(12, "request")])), 14, 3, &[], 1, None),
        (http(200, &partly(11, &[error(12, "system")])), 11, 1, &[], 0, seconds(1)),
        (http(200, &partly(11, &[error(12, "system"), error(14, "request")])), 11, 1, &[14], 1, seconds(1)),
        (http(200, &partly(11, &[error(99, "request")])), 11, 1, &[], 0, seconds(1)),
        (
            http(200, "{\"acked\":11,\"errors\":[{\"seq\":12,\"class\":\"request\",\"retry\":true}]}"),
            11,
            1,
            &[],
            0,
            seconds(1),
        ),
        (http(409, &lost(13)), 12, 2, &[], 0, None),
        (http(409, &lost(4)), 3, 0, &[], 0, None),
        (http(409, &lost(11)), 10, 0, &[], 0, seconds(1)),
        (http(409, &lost(15)), 14, 4, &[], 0, None),
        (http(409, ""), 10, 0, &[], 0, seconds(1)),
        (Answer::Silence, 10, 0, &[], 0, seconds(1)),
        (Answer::Unreachable, 10, 0, &[], 0, seconds(1)),
        (Answer::Forbidden, 10, 0, &[], 0, seconds(1)),
    ];
    for (answer, acked, sent, dropped, refused, pause) in table {
        let mut feed = feed(10);
        let settled = feed.settle(&batch(&feed, &tail(11..15, 21)), answer);
        assert_eq!((feed.acked(), settled.sent, &settled.dropped[..]), (*acked, *sent, *dropped), "{answer:?}");
        assert_eq!((settled.refused.len() as u64, settled.pause), (*refused, *pause), "{answer:?}");
        assert!(!settled.is_renewed, "{answer:?}");
    }
}

#[test]
fn pauses_grow_to_five_minutes_and_the_server_may_say_how_long_they_are() {
    let mut feed = feed(0);
    let batch = batch(&feed, &tail(1..3, 3));
    let pause = |feed: &mut Feed, answer: &Answer| feed.settle(&batch, answer).pause;
    for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        assert_eq!(pause(&mut feed, &http(503, "")), seconds(expected));
    }
    let busy =
        |seconds| Answer::Http { status: 429, retry_after: Some(Duration::from_secs(seconds)), body: Vec::new() };
    assert_eq!(pause(&mut feed, &busy(30)), seconds(30));
    assert_eq!(pause(&mut feed, &busy(0)), seconds(1));
    assert_eq!(pause(&mut feed, &http(200, "{\"acked\":1}")), seconds(1), "it goes on");
    assert_eq!(pause(&mut feed, &http(503, "")), seconds(2));
}

#[test]
fn a_server_that_waits_elsewhere_twice_is_given_time() {
    let mut feed = feed(10);
    for (expected, pause) in [(5, None), (3, seconds(2)), (2, seconds(4))] {
        let answer = http(409, &format!("{{\"expected\":{expected}}}"));
        let settled = feed.settle(&batch(&feed, &tail(11..15, 21)), &answer);
        assert_eq!((feed.acked(), settled.pause), (expected - 1, pause));
    }
}

#[test]
fn what_is_too_large_is_halved_and_one_event_that_is_goes_never() {
    let mut feed = Feed { most: 8, limits: Limits { events: 8, ..LIMITS }, ..feed(0) };
    let mut log: Vec<u64> = (1..9).collect();
    for sizes in [8, 4, 2, 1] {
        let next = batch(&feed, &tail(log.iter().copied(), 9));
        assert_eq!(next.seqs.len(), sizes);
        let settled = feed.settle(&next, &http(413, "<html>"));
        assert_eq!((settled.pause, settled.dropped.len()), (None, usize::from(sizes == 1)));
    }
    log.remove(0);
    for (last, seqs) in [(1, 0), (3, 2), (7, 4), (8, 1)] {
        let next = batch(&feed, &tail(log.iter().copied().filter(|seq| *seq > feed.acked()), 9));
        assert_eq!((next.last, next.seqs.len()), (last, seqs));
        feed.settle(&next, &http(200, ""));
    }
    (feed.most, feed.acked) = (1, 0);
    let lost = batch(&feed, &tail([], 9));
    assert!(feed.settle(&lost, &http(413, "")).pause.is_some(), "nothing can be made smaller");
}

#[test]
fn a_server_that_knows_more_than_we_do_gets_a_stream_of_another_name() {
    for answer in [http(409, "{\"expected\":22}"), http(200, "{\"acked\":21}")] {
        let mut feed = feed(10);
        let settled = feed.settle(&batch(&feed, &tail(11..15, 21)), &answer);
        assert_eq!((settled.is_renewed, settled.sent, settled.pause, feed.acked()), (true, 0, seconds(1), 10));
        feed.rename("5c2a");
        let next = batch(&feed, &tail(11..15, 21));
        assert!(next.body.starts_with(b"{\"source\":\"imap1.example.org\",\"stream\":\"5c2a\",\"first\":11,"));
        // It has not heard of this stream.
        feed.settle(&next, &http(409, "{\"stream\":\"5c2a\",\"expected\":1}"));
        let next: Value = serde_json::from_slice(&batch(&feed, &tail(11..15, 21)).body).unwrap();
        assert_eq!(next["events"][0], json!({"seq": 1, "event": "vnd.lemonade.Lost", "from": 1, "to": 10}));
    }
}

#[test]
fn a_word_of_the_server_is_fit_for_a_log() {
    for (code, said) in [
        ("unknown-user", "unknown-user"),
        ("", "unknown"),
        ("joe@example.org", "unknown"),
        ("a\nb", "unknown"),
        (&"x".repeat(65), "unknown"),
    ] {
        assert_eq!(&*word(code), said);
    }
}

/// A small generator: no more is needed to choose among a few things, and to do it again.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// What a receiver has of a stream: each number once, as an event or as lost.
#[derive(Clone, Debug, Default)]
struct Applied {
    /// Number to content; none: it was declared lost.
    known: BTreeMap<u64, Option<String>>,
}

/// The simplest thing that follows the rules of a receiver.
#[derive(Default)]
struct Receiver {
    streams: BTreeMap<String, Applied>,
    /// What a crash leaves of it.
    saved: BTreeMap<String, Applied>,
    calm: bool,
}

impl Receiver {
    /// Whether it will never take this event.
    fn hates(seq: u64) -> bool {
        seq % 13 == 5
    }

    fn hear(&mut self, body: &[u8], random: &mut Random) -> Answer {
        let noise = if self.calm { u64::MAX } else { 12 };
        match random.below(noise) {
            0 => return Answer::Silence,
            1 => return http(503, ""),
            2 => self.streams = self.saved.clone(),
            3 => self.saved = self.streams.clone(),
            4 => return http(413, "too much"),
            _ => {}
        }
        let body: Value = serde_json::from_slice(body).unwrap();
        let applied = self.streams.entry(body["stream"].as_str().unwrap().to_owned()).or_default();
        let mut expected = applied.known.last_key_value().map_or(1, |(last, _)| last + 1);
        let first = body["first"].as_u64().unwrap();
        if first > expected {
            return http(409, &format!("{{\"expected\":{expected}}}"));
        }
        let (mut errors, stop) = (Vec::new(), if self.calm { u64::MAX } else { 1 + random.below(12) });
        for (at, event) in body["events"].as_array().unwrap().iter().enumerate() {
            let seq = event["seq"].as_u64().unwrap();
            let to = event.get("to").map_or(seq, |to| to.as_u64().unwrap());
            if at as u64 >= stop {
                errors.push(json!({"seq": seq, "class": "system", "code": "busy"}));
                break;
            }
            if Self::hates(seq) && to == seq && event["event"] != "vnd.lemonade.Lost" {
                errors.push(json!({"seq": seq, "class": "request", "code": "no-such-user"}));
                if seq >= expected {
                    break;
                }
                continue;
            }
            assert!(seq <= expected, "{seq} comes, {expected} is expected");
            for number in seq.max(expected)..=to {
                let content = (event["event"] == "Login").then(|| event["n"].to_string());
                assert!(applied.known.insert(number, content).is_none());
            }
            expected = expected.max(to + 1);
        }
        match self.calm {
            // It has it, and nobody hears that.
            false if random.one_in(8) => Answer::Silence,
            _ => http(200, &json!({"stream": body["stream"], "acked": expected - 1, "errors": errors}).to_string()),
        }
    }
}

#[test]
fn whatever_happens_all_comes_once_in_its_order_or_is_declared_lost() {
    let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()) << 32 | 17);
    println!("SEED={seed}");
    let mut random = Random(seed);
    let (mut lost, mut batches) = (0, 0);
    for _ in 0..200 {
        let limits = Limits { events: 1 + random.below(9) as u32, octets: 100 + random.below(400) };
        let mut position = Position { stream: "a".into(), acked: 0, next: 1 };
        let mut feed = Feed::new(&position, limits);
        let (mut log, mut receiver) = (BTreeMap::<u64, Logged>::new(), Receiver::default());
        // Numbers whose events may be missing: fallen out, refused, or acknowledged and forgotten since.
        let mut gone = std::collections::BTreeSet::new();
        for step in 0..5000 {
            receiver.calm = step >= 300;
            match random.below(6) {
                0..=2 if step < 300 => {
                    for _ in 0..random.below(6) {
                        log.insert(position.next, event(position.next));
                        position.next += 1;
                    }
                }
                // Too many, too old; or they were never written.
                3 if step < 300 && random.one_in(4) => {
                    let keep = position.next.saturating_sub(random.below(12));
                    gone.extend(log.range(..keep).map(|(seq, _)| *seq));
                    log.retain(|seq, _| *seq >= keep);
                    let unwritten = random.below(3);
                    gone.extend(position.next..position.next + unwritten);
                    position.next += unwritten;
                }
                // The program begins anew, with what is on the disk.
                4 if random.one_in(5) => feed = Feed::new(&position, limits),
                _ => {
                    let (events, _) = feed.appetite();
                    let found = log.range(feed.acked() + 1..).take(events as usize);
                    let found = Tail { next: position.next, events: found.map(|(_, event)| event.clone()).collect() };
                    let Some(batch) = feed.batch("x", &found) else {
                        if receiver.calm {
                            break;
                        }
                        continue;
                    };
                    assert!(batch.seqs.len() <= events as usize && batch.first == feed.acked() + 1, "SEED={seed}");
                    batches += 1;
                    let answer = receiver.hear(&batch.body, &mut random);
                    let settled = feed.settle(&batch, &answer);
                    assert!(!settled.is_renewed, "SEED={seed}");
                    assert!(settled.dropped.iter().all(|seq| Receiver::hates(*seq) || answer == http(413, "too much")));
                    // A crash before this is on the disk repeats the batch.
                    if receiver.calm || !random.one_in(9) {
                        position.acked = feed.acked();
                        gone.extend(settled.dropped.iter().copied());
                        gone.extend(log.range(..=position.acked).map(|(seq, _)| *seq));
                        log.retain(|seq, _| *seq > position.acked && !settled.dropped.contains(seq));
                    } else {
                        feed = Feed::new(&position, limits);
                    }
                }
            }
            for (number, (at, content)) in (1..).zip(receiver.streams.get("a").cloned().unwrap_or_default().known) {
                assert_eq!(number, at, "SEED={seed}, step {step}: a number is missing");
                match content {
                    Some(content) => assert_eq!(content, at.to_string(), "SEED={seed}, step {step}"),
                    None => assert!(gone.contains(&at), "SEED={seed}, step {step}: {at} was there"),
                }
            }
        }
        let known = receiver.streams.get("a").cloned().unwrap_or_default().known;
        assert_eq!(known.len() as u64, position.next - 1, "SEED={seed}: all of it has come in the end");
        assert_eq!((feed.acked(), log.len()), (position.next - 1, 0), "SEED={seed}");
        lost += known.values().filter(|content| content.is_none()).count();
    }
    assert!(lost > 100 && batches > 10_000, "the walk has seen something: {lost} lost, {batches} batches");
}
