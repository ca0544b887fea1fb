//! That the proxy does what it says, before a server that is no API server.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use futures::StreamExt as _;
use http::StatusCode;
use kube::{Client, Config};
use tokio::sync::watch;

use super::fault::{Fate, REFUSALS, Rule, WatchFate};
use super::harness::eventually;
use super::proxy::{Proxy, Tally};

const SOON: Duration = Duration::from_secs(5);
const TEN_LETTERS: &str = "\"abcdefgh\"";

/// Counts what arrives; a watch shows the count as it changes, a line each.
async fn server() -> (Config, watch::Sender<usize>) {
    let arrived = watch::Sender::new(0);
    let router = Router::new()
        .route("/api/v1/services", get(watched))
        .fallback(any(|State(arrived): State<watch::Sender<usize>>| async move {
            arrived.send_modify(|count| *count += 1);
            TEN_LETTERS
        }))
        .with_state(arrived.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (Config::new(url.parse().unwrap()), arrived)
}

async fn watched(State(arrived): State<watch::Sender<usize>>) -> Response {
    let counts = futures::stream::unfold(arrived.subscribe(), async |mut arrived| {
        arrived.changed().await.ok()?;
        let line = format!("{{\"count\":{}}}\n", *arrived.borrow_and_update());
        Some((Ok::<_, std::io::Error>(line), arrived))
    });
    (StatusCode::OK, axum::body::Body::from_stream(counts)).into_response()
}

async fn proxied() -> (Proxy, Client, watch::Sender<usize>) {
    let (config, arrived) = server().await;
    let proxy = Proxy::start(&config, Tally::default()).await;
    // Without kube's own retries.
    let mut config = Config::new(proxy.url().parse().unwrap());
    config.default_retry = false;
    (proxy, Client::try_from(config).unwrap(), arrived)
}

async fn put(client: &Client) -> Result<String, kube::Error> {
    let path = "/api/v1/namespaces/a/configmaps/b";
    client.request_text(http::Request::put(path).body(b"{}".to_vec()).unwrap()).await
}

fn all(fate: Fate) -> Vec<Rule> {
    vec![Rule { verbs: &["update"], resources: &[], percent: 100, fate }]
}

#[tokio::test]
async fn a_request_meets_its_fate() {
    let (proxy, client, arrived) = proxied().await;
    let count = || *arrived.borrow();
    assert_eq!(put(&client).await.unwrap(), TEN_LETTERS);
    assert_eq!(count(), 1);
    for code in REFUSALS {
        proxy.set(1, all(Fate::Refused(code)));
        let error = put(&client).await.unwrap_err();
        assert!(matches!(&error, kube::Error::Api(status) if status.code == code), "{error}");
    }
    proxy.set(1, all(Fate::LostBefore));
    put(&client).await.unwrap_err();
    assert_eq!(count(), 1, "nothing arrived so far");
    for (fate, wanted) in [(Fate::LostAfter, 2), (Fate::HalfAnswered, 3)] {
        proxy.set(1, all(fate));
        put(&client).await.unwrap_err();
        assert_eq!(count(), wanted, "{fate}");
    }
    // Late: although nobody waits any more.
    proxy.set(1, all(Fate::Late(Duration::from_millis(300))));
    tokio::time::timeout(Duration::from_millis(50), put(&client)).await.unwrap_err();
    assert_eq!((count(), proxy.late()), (3, 1));
    eventually("it arrives", SOON, async || if count() == 4 { Ok(()) } else { Err("not yet") }).await;
    eventually("it is over", SOON, async || if proxy.late() == 0 { Ok(()) } else { Err("not yet") }).await;
    // Stalled: until faults are lifted.
    for (fate, wanted) in [(Fate::Stalled, 4), (Fate::Unanswered, 5)] {
        proxy.set(1, all(fate));
        let asking = tokio::spawn({
            let client = client.clone();
            async move { put(&client).await }
        });
        let stalls = || proxy.injected().get(&format!("write {fate}")) == Some(&1) && count() == wanted;
        eventually("it stalls", SOON, async || if stalls() { Ok(()) } else { Err("not yet") }).await;
        assert!(!asking.is_finished());
        proxy.lift();
        tokio::time::timeout(SOON, asking).await.unwrap().unwrap().unwrap_err();
    }
    assert_eq!(put(&client).await.unwrap(), TEN_LETTERS);
    assert_eq!(count(), 6);
}

#[tokio::test]
async fn the_same_seed_hits_the_same_requests() {
    let (proxy, client, _arrived) = proxied().await;
    let mut runs = Vec::new();
    for seed in [5, 5, 6] {
        proxy.set(seed, vec![Rule { percent: 50, ..all(Fate::Refused(500)).remove(0) }]);
        let mut hits = Vec::new();
        for _ in 0..32 {
            hits.push(put(&client).await.is_err());
        }
        runs.push(hits);
    }
    assert!(runs[0] == runs[1] && runs[0] != runs[2], "{runs:?}");
}

/// What comes of a watch.
struct Reading {
    text: watch::Receiver<String>,
    /// Whether it ended in order.
    end: tokio::task::JoinHandle<bool>,
}

impl Reading {
    async fn ended(self) -> (String, bool) {
        let in_order = tokio::time::timeout(SOON, self.end).await.unwrap().unwrap();
        let text = self.text.borrow().clone();
        (text, in_order)
    }
}

async fn reading(client: &Client, proxy: &Proxy) -> Reading {
    let request = http::Request::get("/api/v1/services?watch=true").body(Vec::new()).unwrap();
    let answer = client.send(request.map(kube::client::Body::from)).await.unwrap();
    assert_eq!(proxy.watched().last().map(String::as_str), Some("services"));
    let (sender, text) = watch::channel(String::new());
    let end = tokio::spawn(async move {
        let mut body = http_body_util::BodyDataStream::new(answer.into_body());
        while let Some(chunk) = body.next().await {
            let Ok(chunk) = chunk else { return false };
            sender.send_modify(|text| text.push_str(&String::from_utf8_lossy(&chunk)));
        }
        true
    });
    Reading { text, end }
}

#[tokio::test]
async fn a_watch_meets_its_fate_and_others_go_on() {
    for fate in WatchFate::ALL {
        let (proxy, client, arrived) = proxied().await;
        let struck = reading(&client, &proxy).await;
        assert_eq!(proxy.strike(Some("pods"), fate), 0);
        assert_eq!(proxy.strike(Some("services"), fate), 1);
        let mut other = reading(&client, &proxy).await;
        arrived.send_replace(7);
        if fate == WatchFate::Stalled {
            eventually("the other goes on", SOON, async || match put(&client).await {
                Ok(_) if *arrived.borrow() > 7 => Ok(()),
                answer => Err(format!("{answer:?}")),
            })
            .await;
            assert!(!struck.end.is_finished());
            proxy.lift();
        }
        let (text, in_order) = struck.ended().await;
        let (wanted, ends) = match fate {
            WatchFate::Stalled | WatchFate::Cut => (String::new(), false),
            WatchFate::BrokenOff => ("{\"coun".to_owned(), false),
            WatchFate::Expired | WatchFate::Failed => (fate.event().unwrap(), true),
        };
        assert_eq!((text, in_order), (wanted, ends), "{fate}");
        let goes_on = other.text.wait_for(|text| text.starts_with("{\"count\":7}\n"));
        drop(tokio::time::timeout(SOON, goes_on).await.unwrap().unwrap());
        assert!(!other.end.is_finished(), "{fate}");
        assert!(proxy.take_given_up().is_empty(), "{fate}: nobody went");
        proxy.strike(None, WatchFate::Cut);
        assert!(!other.ended().await.1, "{fate}");
    }
}

#[tokio::test]
async fn a_client_that_gives_up_a_stalled_watch_is_noted() {
    let (proxy, client, _arrived) = proxied().await;
    let struck = reading(&client, &proxy).await;
    assert_eq!(proxy.strike(None, WatchFate::Stalled), 1);
    struck.end.abort();
    let noted = async || match proxy.take_given_up().as_slice() {
        [after] if *after < SOON => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually("it is noted", SOON, noted).await;
}
