//! Requests to a real Traefik: does each reach the router that `waybill explain` names?
//!
//! Each made-up routing has an entry point of its own, and each of its routers a middleware that puts the router's name
//! into the answer. Requests are made from the hosts and paths of the routing and sent as they are, byte by byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use waybill::tools::explain::RankedRouter;
use waybill::tools::web_request::WebRequest;
use waybill::traefik::dynamic::{Router, RouterTls};
use waybill::translate::rule::{self, Matcher};
use waybill::translate::settings::RuleSyntax;

use crate::harness::{eventually, free_port, tool};
use crate::random::Random;

const ROUTINGS: usize = 24;
const ROUTERS: usize = 36;
const REQUESTS: usize = 450;
/// Fewer that are served would mean that requests and routers pass each other by.
const SERVED: usize = 5_000;

const HOSTS: &[&str] = &[
    "shop.example",
    "*.shop.example",
    "a.shop.example",
    "b.a.shop.example",
    "*.a.shop.example",
    "Shop.Example",
    "a.b",
    "*",
    "shop.example.",
    "x-1.shop.example",
    "",
];
const PATHS: &[&str] = &[
    "/",
    "/a",
    "/a/",
    "/a.b",
    "/a/b",
    "/a/b/",
    "/a.*",
    "/a b",
    "/caf\u{e9}",
    "/a%2Fb",
    "/a//b",
    "/a+b",
    "/(a)",
    "/{id}",
    "/a/{id:[0-9]+}",
    "^/a.b$",
    "/[ab]+$",
    "/a\\d",
    "(?i)/A",
    "/a;b",
    "/\"a\"",
    "/a|b",
    "/~a",
    "",
    "a",
    "/a(",
];
const SENT_PATHS: &[&str] = &[
    "/",
    "/a",
    "/a/",
    "/a.b",
    "/aXb",
    "/a/b",
    "/a/b/",
    "/a/b/c",
    "/a%20b",
    "/caf%C3%A9",
    "/caf%c3%a9",
    "/a%2Fb",
    "/a%2fb",
    "//a//b",
    "/a/./b",
    "/a/../a/b",
    "/x/%2e%2e/a",
    "/%61",
    "/a+b",
    "/a%2Bb",
    "/(a)",
    "/%28a%29",
    "/%7Bid%7D",
    "/a/12",
    "/A",
    "/a;b",
    "/a%3Bb",
    "/%22a%22",
    "/a|b",
    "/%7Ea",
    "/~a",
    "/a%25",
    "/a1",
    "/a%FFb",
    "/b?c=1",
    "/a?c=1&d=2",
    "/a?c",
    "/a/b/..",
    "/a%5Cb",
    "/a*b",
    "/a'b",
    "/a%23b",
    "/*",
];
const SENT_HOSTS: &[&str] = &[
    "shop.example",
    "a.shop.example",
    "SHOP.example",
    "b.a.shop.example",
    "c.b.a.shop.example",
    "a.b",
    "shop.example.",
    "shop.example:8080",
    "x-1.shop.example",
    "other.example",
    "a.shop.example.",
    "[::1]:80",
];
const METHODS: &[&str] = &["GET", "POST", "PUT", "OPTIONS", "get"];
/// What users write in rules of their own.
const OWN: &[&str] = &[
    r#"Method("GET")"#,
    r#"!Method("post")"#,
    r#"Header("X-Team", "blue")"#,
    r#"HeaderRegexp("x-team", "^b.*e$")"#,
    r#"Query("c", "1")"#,
    r#"Query("c")"#,
    r#"QueryRegexp("d", "[0-9]")"#,
    r#"!PathPrefix("/a")"#,
    r#"(Path("/a") || !(Method("GET") && PathPrefix("/")))"#,
    r#"ClientIP("127.0.0.0/8")"#,
    r#"!ClientIP("127.0.0.1")"#,
    r#"HOST("shop.example")"#,
    r#"pathprefix(`/a`)"#,
    r#"HostRegexp("^[a-z]+\\.shop\\.example$")"#,
    r#"PathRegexp("^/\\w+$")"#,
    r#"PathRegexp("b{2,1}")"#,
    r#"Unknown("a")"#,
    r#"Path("/a", "/b")"#,
];
const OWN_V2: &[&str] = &[
    r#"Method("GET", "POST")"#,
    r#"Headers("X-Team", "blue")"#,
    r#"HeadersRegexp("X-Team", "^b")"#,
    r#"Query("c=1")"#,
    r#"Host("shop.example", "a.b")"#,
    r#"HostHeader("a.b")"#,
    r#"HostRegexp("{any:.+}.example")"#,
    r#"HostRegexp("{one}.shop.example")"#,
    r#"Path("/a/{id}", "/b")"#,
    r#"PathPrefix("/{x:[ab]+}/")"#,
    r#"ClientIP("127.0.0.1")"#,
    r#"!Path("/{y}")"#,
    r#"Query("c=", "d=2")"#,
    r#"PathRegexp("/a")"#,
];

fn router(random: &mut Random) -> Router {
    let v2 = random.below(3) == 0;
    let syntax = if v2 { RuleSyntax::V2 } else { RuleSyntax::V3 };
    let matcher = [Matcher::PathPrefix, Matcher::Path, Matcher::PathRegexp][random.below(3)];
    let whole = random.below(4) == 0;
    let mut rule = rule::rule(pick(random, HOSTS), pick(random, PATHS), matcher, syntax, whole);
    if random.below(3) == 0 {
        let own = pick(random, if v2 { OWN_V2 } else { OWN });
        rule = match random.below(4) {
            0 => own.to_owned(),
            1 => format!("{own} || {rule}"),
            _ => format!("{rule} && {own}"),
        };
    }
    Router {
        rule,
        rule_syntax: if v2 {
            "v2".to_owned()
        } else {
            ["", "v3", "default", "v4"][random.below(4)].to_owned()
        },
        priority: [0, 0, 0, 0, 30, 50, -5, i64::MAX][random.below(8)],
        tls: (random.below(10) == 0).then(RouterTls::default),
        ..Router::default()
    }
}

fn pick(random: &mut Random, all: &[&'static str]) -> &'static str {
    all[random.below(all.len())]
}

struct Sent {
    method: &'static str,
    host: &'static str,
    path: &'static str,
    team: Option<&'static str>,
}

impl Sent {
    fn new(random: &mut Random) -> Self {
        let team = [None, Some("blue"), Some("bluegreen"), Some("bee")][random.below(4)];
        Self {
            method: pick(random, METHODS),
            host: pick(random, SENT_HOSTS),
            path: pick(random, SENT_PATHS),
            team,
        }
    }

    fn request(&self) -> Result<WebRequest, String> {
        let headers: Vec<String> = self.team.iter().map(|team| format!("X-Team: {team}")).collect();
        let url = format!("http://{}{}", self.host, self.path);
        WebRequest::new(&url, self.method, &headers, "127.0.0.1".parse().ok())
            .map_err(|error| error.to_string())
    }

    fn bytes(&self) -> String {
        let mut text = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.path, self.host);
        self.team.iter().for_each(|team| write!(text, "X-Team: {team}\r\n").unwrap());
        text + "\r\n"
    }
}

/// The routers that may serve a request: those of the highest priority that take it.
fn expected(routers: &BTreeMap<String, RankedRouter<'_>>, request: &WebRequest) -> Vec<String> {
    let takes = |router: &RankedRouter<'_>| router.takes(request, None) == Some(true);
    let taking: Vec<_> = routers.iter().filter(|(_, router)| takes(router)).collect();
    let highest = taking.iter().map(|(_, router)| router.priority).max();
    taking
        .into_iter()
        .filter(|(_, router)| Some(router.priority) == highest)
        .map(|(name, _)| name.clone())
        .collect()
}

/// A backend that answers every request with 200 and nothing.
async fn backend() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                    if line == "\r\n"
                        && stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.is_err()
                    {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
    port
}

/// The router that answered, or the status.
async fn answer(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let (mut who, mut length, mut line) = (String::new(), 0, String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let lower = line.to_ascii_lowercase();
        if lower.starts_with("http/1.1 ") && who.is_empty() {
            who = line[9..12].to_owned();
        } else if lower.starts_with("x-router: ") {
            who = line[10..].trim().to_owned();
        } else if let Some(value) = lower.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        } else if line == "\r\n" {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length]).await?;
    Ok(who)
}

async fn ask(port: u16, all: &[Sent]) -> Vec<String> {
    let mut stream: Option<BufReader<TcpStream>> = None;
    let mut answers = Vec::new();
    for sent in all {
        for attempt in 0.. {
            if stream.is_none() {
                stream = Some(BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap()));
            }
            let open = stream.as_mut().unwrap();
            let result = match open.write_all(sent.bytes().as_bytes()).await {
                Ok(()) => answer(open).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(who) => {
                    // Go closes the connection after a request that it can't read.
                    if who == "400" {
                        stream = None;
                    }
                    answers.push(who);
                    break;
                }
                Err(error) => assert!(attempt < 3, "{error}: {}", sent.bytes()),
            }
            stream = None;
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_reach_the_routers_that_explain_names() {
    let seed = crate::number("WAYBILL_PEER_SEED", || 1);
    println!("WAYBILL_PEER_SEED={seed}");
    let begun = Instant::now();
    let mut random = Random::new(seed);
    let backend = backend().await;
    let ports: Vec<u16> = (0..ROUTINGS).map(|_| free_port()).collect();
    let all: Vec<BTreeMap<String, Router>> = (0..ROUTINGS)
        .map(|routing| {
            let named = |at| (format!("w{routing}-{at}"), router(&mut random));
            (0..ROUTERS).map(named).collect()
        })
        .collect();

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routing.json");
    let mut routers = serde_json::Map::new();
    let mut middlewares = serde_json::Map::new();
    for (routing, own) in all.iter().enumerate() {
        for (name, router) in own {
            let mut value = serde_json::to_value(router).unwrap();
            value["entryPoints"] = json!([format!("w{routing}")]);
            value["middlewares"] = json!([name]);
            value["service"] = json!("backend");
            routers.insert(name.clone(), value);
            middlewares
                .insert(name.clone(), json!({"headers": {"customResponseHeaders": {"X-Router": name}}}));
        }
    }
    let server = json!({"url": format!("http://127.0.0.1:{backend}")});
    let configuration: Value = json!({"http": {
        "routers": routers, "middlewares": middlewares, "services": {"backend": {"loadBalancer": {"servers": [server]}}},
    }});
    // Traefik runs a file as a template. Two braces in a row are in texts alone.
    std::fs::write(&file, configuration.to_string().replace("{{", "\\u007b\\u007b")).unwrap();

    let mut command = Command::new(tool("traefik"));
    for (routing, port) in ports.iter().enumerate() {
        command.arg(format!("--entrypoints.w{routing}.address=127.0.0.1:{port}"));
    }
    command
        .arg(format!("--providers.file.filename={}", file.display()))
        .args(["--providers.file.watch=false", "--log.level=ERROR"])
        .args(["--global.checknewversion=false", "--global.sendanonymoususage=false"])
        .env_clear()
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut traefik = command.spawn().unwrap();
    let probe = Sent { method: "GET", host: "probe.invalid", path: "/", team: None };
    for port in &ports {
        eventually("Traefik listens", Duration::from_secs(30), async || {
            TcpStream::connect(("127.0.0.1", *port)).await.map(|_| ()).map_err(|error| error.to_string())
        })
        .await;
    }
    // Some router of the first routing answers everything once the file is loaded: wait for any of them.
    eventually("Traefik has loaded the file", Duration::from_secs(30), async || {
        for sent in SENT_PATHS.iter().map(|path| Sent { path, host: "shop.example", ..probe }) {
            if ask(ports[0], &[sent]).await[0].starts_with('w') {
                return Ok(());
            }
        }
        Err("no router answers".to_owned())
    })
    .await;

    let (mut served, mut wrong) = (0, Vec::new());
    for (own, port) in all.iter().zip(&ports) {
        let ranked = own.iter().map(|(name, router)| (name.clone(), RankedRouter::new(router))).collect();
        let requests: Vec<Sent> = (0..REQUESTS).map(|_| Sent::new(&mut random)).collect();
        for (sent, found) in requests.iter().zip(ask(*port, &requests).await) {
            let wanted = match sent.request() {
                Ok(request) => expected(&ranked, &request),
                Err(_) => vec!["400".to_owned()],
            };
            served += usize::from(found.starts_with('w'));
            let is_right = if wanted.is_empty() { found == "404" } else { wanted.contains(&found) };
            if !is_right {
                let rules = wanted.iter().chain([&found]).filter_map(|name| own.get(name));
                let rules: Vec<_> = rules.map(|router| (&router.rule, &router.rule_syntax)).collect();
                wrong.push(format!("{:?}: wanted {wanted:?}, got {found}; {rules:?}", sent.bytes()));
            }
        }
    }
    traefik.kill().unwrap();
    traefik.wait().unwrap();
    let sent = ROUTINGS * REQUESTS;
    println!(
        "{sent} requests, {served} served, {} wrong, {:.1} s",
        wrong.len(),
        begun.elapsed().as_secs_f64()
    );
    assert!(wrong.is_empty(), "{}", wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n"));
    assert!(served >= SERVED && sent >= 10_000);
}
