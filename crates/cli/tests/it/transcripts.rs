//! What `patronictl` 4.1 was seen to say: every command line of `tests/transcripts/` with the keys in the store and the answers of
//! the members that it met, and its output, exit status, requests and changed keys, which must be ours.
//!
//! Recorded from Patroni's own tool against etcd. Left out of the record: what it says when it breaks down, the texts of
//! Python's own errors, and its help. Written for a time of day: `<time>`, with a number for its digits of a second.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bellwether_cli::{OpenError, OpenStore, Surroundings, run_patronictl};
use bellwether_config::ClientConfig;
use bellwether_dcs::{
    Deadline, MemoryStore, Store, Write,
    codec::{COMPATIBLE_VERSION, keys::base_path},
};
use clap::CommandFactory;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{screen::Screen, world::Program};

#[tokio::test]
async fn listing() {
    replay(include_str!("../transcripts/listing.yml")).await;
}

#[tokio::test]
async fn changing_the_leader() {
    replay(include_str!("../transcripts/changing_the_leader.yml")).await;
}

#[tokio::test]
async fn operating() {
    replay(include_str!("../transcripts/operating.yml")).await;
}

#[tokio::test]
async fn configuring() {
    replay(include_str!("../transcripts/configuring.yml")).await;
}

#[tokio::test]
async fn citus() {
    replay(include_str!("../transcripts/citus.yml")).await;
}

#[tokio::test]
async fn usage() {
    replay(include_str!("../transcripts/usage.yml")).await;
}

/// Plays every case of a file and reports all that went another way.
async fn replay(text: &str) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let document = bellwether_config::parse_yaml(text, "transcript").unwrap();
    let cases = document["cases"].as_object().unwrap();
    assert!(cases.len() > 10, "the file has its cases");
    let mut wrong = Vec::new();
    for (name, case) in cases {
        let base = case["base"].as_str().unwrap_or("three");
        let seen = play(case, &document["bases"][base]).await;
        for (what, seen) in seen.as_object().unwrap() {
            let expected = match case.get(what) {
                Some(Value::String(text)) => json!(with_tables(text, &document["tables"])),
                other => other.cloned().unwrap_or(Value::Null),
            };
            if *seen != expected {
                wrong.push(format!(
                    "{name}: {}\n{what}:\n{}\nnot:\n{}",
                    case["line"],
                    show(seen),
                    show(&expected)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// Tables that many cases show are written down once.
fn with_tables(text: &str, tables: &Value) -> String {
    map(tables).fold(text.to_owned(), |text, (name, table)| {
        text.replace(&format!("<{name}>\n"), table.as_str().unwrap())
    })
}

fn show(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Carries out one case; what is empty comes as null.
async fn play(case: &Value, base: &Value) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let stage = Arc::new(Stage::new(case, base));
    let servers =
        [stage.serve("a").await, stage.serve("b").await, stage.serve("c").await, stage.serve("d").await];
    stage.fill(&servers);
    let before = stage.keys.lock().unwrap().clone();
    let words =
        |text: &str| text.replace("<dir>", dir.path().to_str().unwrap()).replace("<etcd>", "127.0.0.1:2379");
    let config = case["config"].as_str().unwrap_or("scope: demo\netcd3: {host: '<etcd>'}\n");
    std::fs::write(dir.path().join("ctl.yml"), words(config)).unwrap();
    for (name, text) in map(&case["files"]) {
        let path = dir.path().join(name);
        std::fs::write(&path, text.as_str().unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let line = match &case["line"] {
        Value::String(line) => line.split_whitespace().map(&words).collect::<Vec<_>>(),
        line => line.as_array().unwrap().iter().map(|word| words(word.as_str().unwrap())).collect(),
    };
    let globals =
        if case["bare"] == json!(true) { vec![] } else { vec!["-c".to_owned(), words("<dir>/ctl.yml")] };
    let arguments: Vec<OsString> =
        ["patronictl".to_owned()].into_iter().chain(globals).chain(line).map(Into::into).collect();
    let mut env = BTreeMap::from([
        ("HOME".to_owned(), words("<dir>")),
        ("PATH".to_owned(), std::env::var("PATH").unwrap_or_default()),
    ]);
    env.extend(map(&case["env"]).map(|(name, value)| (name.clone(), words(value.as_str().unwrap()))));
    let screen = match case["stdin"].as_str() {
        Some(input) => Screen::with_input(input),
        None => {
            let answers = case["answers"].as_array().into_iter().flatten();
            Screen::with_answers(&answers.map(|answer| answer.as_str().unwrap()).collect::<Vec<_>>())
        }
    };
    let surroundings = Surroundings {
        stores: Arc::new(Stores(stage.clone())),
        terminal: Box::new(screen.clone()),
        env,
        program: Program::command(),
    };
    let status = run_patronictl(arguments, surroundings).await;
    stage.collect().await;
    let tidy = |text: &str| {
        let text = text.replace(dir.path().to_str().unwrap(), "<dir>");
        let text =
            servers.iter().fold(text, |text, (name, address)| text.replace(address, &format!("<{name}>")));
        let own_version = format!("patronictl version {COMPATIBLE_VERSION}");
        without_times(&text.replace(&own_version, "patronictl version <version>"))
    };
    let calls: Vec<Value> = stage.calls.lock().unwrap().iter().map(|call| json!(tidy(call))).collect();
    let after = stage.keys.lock().unwrap().clone();
    let touched = before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key));
    let changed: Map<String, Value> = touched
        .map(|key| {
            (
                key.trim_start_matches("/service/").to_owned(),
                after.get(key).map_or(Value::Null, |value| json!(value)),
            )
        })
        .collect();
    let some = |text: String| if text.is_empty() { Value::Null } else { json!(text) };
    json!({
        "status": status, "out": some(tidy(&screen.out())), "err": some(tidy(&screen.err())),
        "calls": if calls.is_empty() { Value::Null } else { json!(calls) },
        "changed": if changed.is_empty() { Value::Null } else { json!(changed) },
    })
}

fn map(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// The store and the members of a case.
struct Stage {
    /// Key to text, to be put into the store.
    written: BTreeMap<String, Value>,
    /// Member, then `METHOD /path`: `[status, body]`, then keys to be written at the same time; or a list of such.
    replies: Mutex<Value>,
    keys: Mutex<BTreeMap<String, String>>,
    calls: Mutex<Vec<String>>,
    /// By what the keys of the cluster begin with.
    opened: Mutex<BTreeMap<String, MemoryStore>>,
}

impl Stage {
    fn new(case: &Value, base: &Value) -> Self {
        let mut written: BTreeMap<String, Value> =
            map(base).map(|(key, value)| (key.clone(), value.clone())).collect();
        for (key, value) in map(&case["keys"]) {
            match value.get("+") {
                Some(fields) => written
                    .get_mut(key)
                    .unwrap()
                    .as_object_mut()
                    .unwrap()
                    .extend(fields.as_object().unwrap().clone()),
                None if value.is_null() => drop(written.remove(key)),
                None => drop(written.insert(key.clone(), value.clone())),
            }
        }
        Self {
            written,
            replies: Mutex::new(case["rest"].clone()),
            keys: Mutex::default(),
            calls: Mutex::default(),
            opened: Mutex::default(),
        }
    }

    fn fill(&self, servers: &[(&'static str, String)]) {
        let mut keys = self.keys.lock().unwrap();
        for (key, value) in &self.written {
            let text = servers
                .iter()
                .fold(show(value), |text, (name, address)| text.replace(&format!("<{name}>"), address));
            keys.insert(format!("/service/{key}"), text);
        }
    }

    /// Reads back what the command wrote.
    async fn collect(&self) {
        let opened = self.opened.lock().unwrap().clone();
        for (base, store) in opened {
            let snapshot = store.snapshot(Deadline::after(Duration::from_secs(5))).await.unwrap();
            let mut keys = self.keys.lock().unwrap();
            keys.retain(|key, _| !key.starts_with(&base));
            for (key, entry) in snapshot.entries {
                keys.insert(format!("{base}{key}"), String::from_utf8(entry.value).unwrap());
            }
        }
    }

    async fn put(&self, key: &str, text: &str) {
        self.keys.lock().unwrap().insert(key.to_owned(), text.to_owned());
        let opened = self.opened.lock().unwrap().clone();
        for (base, store) in opened {
            if let Some(key) = key.strip_prefix(&base) {
                store.commit(&[], &[Write::put(key, text)], Deadline::after(Duration::from_secs(5))).await;
            }
        }
    }

    /// A member's REST server; gives its address.
    async fn serve(self: &Arc<Self>, name: &'static str) -> (&'static str, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stage = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stage = stage.clone();
                tokio::spawn(async move { stage.answer(name, stream).await });
            }
        });
        (name, address)
    }

    /// One request per connection.
    async fn answer(&self, name: &str, mut stream: TcpStream) -> Option<()> {
        let (line, body) = request(&mut stream).await?;
        let is_probe = line == "GET /liveness" || line.starts_with("OPTIONS ");
        if !is_probe {
            let body = if body.is_empty() { body } else { format!(" {body}") };
            self.calls.lock().unwrap().push(format!("{name}: {line}{body}"));
        }
        let reply = self.reply(name, &line);
        let (status, text) = match &reply {
            Some(reply) => (reply[0].as_u64().unwrap(), reply[1].as_str().unwrap().to_owned()),
            None => (if is_probe { 200 } else { 501 }, String::new()),
        };
        for (key, value) in reply.iter().flat_map(|reply| map(&reply[2])) {
            self.put(key, value.as_str().unwrap()).await;
        }
        let head =
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
        stream.write_all(format!("{head}{text}").as_bytes()).await.ok()
    }

    fn reply(&self, name: &str, line: &str) -> Option<Value> {
        let mut replies = self.replies.lock().unwrap();
        let reply = replies.get_mut(name)?.get_mut(line)?;
        match reply.as_array_mut() {
            Some(several) if several[0].is_array() && several.len() > 1 => Some(several.remove(0)),
            Some(several) if several[0].is_array() => Some(several[0].clone()),
            _ => Some(reply.clone()),
        }
    }
}

/// `METHOD /path` and the body.
async fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, length)| length.parse().unwrap());
        if body.len() >= length {
            let mut words = head.split(' ');
            return Some((format!("{} {}", words.next()?, words.next()?), body.to_owned()));
        }
    }
}

struct Stores(Arc<Stage>);

#[async_trait]
impl OpenStore for Stores {
    async fn open(&self, config: &ClientConfig) -> Result<Arc<dyn Store>, OpenError> {
        let base = base_path(&config.namespace, config.scope.as_ref().unwrap());
        let stage = &self.0;
        if let Some(store) = stage.opened.lock().unwrap().get(&base) {
            return Ok(Arc::new(store.clone()));
        }
        let store = MemoryStore::new();
        let keys = stage.keys.lock().unwrap().clone();
        let writes: Vec<Write> = keys
            .iter()
            .filter_map(|(key, text)| Some(Write::put(key.strip_prefix(&base)?, text.as_str())))
            .collect();
        store.commit(&[], &writes, Deadline::after(Duration::from_secs(5))).await;
        stage.opened.lock().unwrap().insert(base, store.clone());
        Ok(Arc::new(store))
    }
}

/// `2026-11-28 19:20:33.12345` becomes `<time5>`, and so on.
fn without_times(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let (placeholder, length) = match (date(rest), rest.as_bytes().get(10)) {
            (true, Some(b' ')) if clock(&rest[11..]) => {
                let after = &rest[19..];
                let digits = after.bytes().skip(1).take_while(u8::is_ascii_digit).count();
                match after.bytes().next() {
                    Some(b'.') if digits > 0 => (format!("<time{digits}>"), 20 + digits),
                    Some(b',') if digits > 0 => (format!("<time,{digits}>"), 20 + digits),
                    _ => ("<time>".to_owned(), 19),
                }
            }
            (true, Some(b'T')) if rest[16..].trim_start().starts_with(')') => ("<in an hour>".to_owned(), 16),
            _ => (character.to_string(), character.len_utf8()),
        };
        shown.push_str(&placeholder);
        rest = &rest[length..];
    }
    shown
}

fn date(text: &str) -> bool {
    shaped(text, "dddd-dd-dd")
}

fn clock(text: &str) -> bool {
    shaped(text, "dd:dd:dd")
}

fn shaped(text: &str, shape: &str) -> bool {
    let fits = |(byte, shape): (u8, u8)| if shape == b'd' { byte.is_ascii_digit() } else { byte == shape };
    text.len() >= shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

#[test]
fn times_are_not_compared() {
    let text = "2026-11-28 19:20:33 a 2026-11-28 19:20:33.12345 (2026-11-28T19:20 ) 2026-11-28 19:20:33,123 2030-01-01T00:00:00";
    assert_eq!(without_times(text), "<time> a <time5> (<in an hour> ) <time,3> 2030-01-01T00:00:00");
}
