use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

/// An exporter with spans that wait.
struct Bench {
    queue: mpsc::Sender<Span>,
    metrics: Metrics,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Bench {
    fn new(collector: SocketAddr, waiting: usize) -> Self {
        let metrics = Metrics::new("x").unwrap();
        let (queue, spans) = mpsc::channel(4_096);
        (0..waiting).for_each(|_| queue.try_send(Span::default()).unwrap());
        let endpoint = format!("http://{collector}/v1/traces").parse().unwrap();
        let collector = Collector { endpoint, identity: "a".to_owned() };
        let exporter = Exporter::new(collector, spans, Weak::new(), metrics.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(exporter.run(async {
            let _ = stopped.await;
        }));
        Self { queue, metrics, stop, running }
    }

    /// Stops it; how many spans were sent, and how many dropped.
    async fn stopped(self) -> (u64, u64) {
        let _ = self.stop.send(());
        tokio::time::timeout(WITHIN, self.running).await.unwrap().unwrap();
        (self.metrics.spans.get(SpanResult::Sent), self.metrics.spans.get(SpanResult::Dropped))
    }
}

/// Reads a request from a connection, unless that is closed.
async fn request(stream: &mut TcpStream) -> Option<()> {
    let mut bytes = Vec::new();
    let whole = |bytes: &[u8]| {
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        Some(head + length.parse::<usize>().unwrap())
    };
    while whole(&bytes).is_none_or(|whole| bytes.len() < whole) {
        (stream.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
    }
    Some(())
}

async fn answer(stream: &mut TcpStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
}

#[tokio::test]
async fn what_waits_at_the_end_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bench = Bench::new(listener.local_addr().unwrap(), 2 * BATCH + 10);
    let (mut stream, _) = listener.accept().await.unwrap();
    request(&mut stream).await.unwrap();
    let stopped = tokio::spawn(bench.stopped());
    // It is told to stop in the middle of the first batch.
    tokio::time::sleep(LAST / 10).await;
    answer(&mut stream).await;
    while request(&mut stream).await.is_some() {
        answer(&mut stream).await;
    }
    assert_eq!(stopped.await.unwrap(), (2 * BATCH as u64 + 10, 0));
}

#[tokio::test]
async fn what_cannot_be_sent_at_the_end_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bench = Bench::new(listener.local_addr().unwrap(), 2 * BATCH);
    let (mut stream, _) = listener.accept().await.unwrap();
    request(&mut stream).await.unwrap();
    assert_eq!(bench.stopped().await, (0, 2 * BATCH as u64));
}

#[tokio::test]
async fn spans_that_trickle_in_are_sent_together() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bench = Bench::new(listener.local_addr().unwrap(), 1);
    let queue = bench.queue.clone();
    let trickle = tokio::spawn(async move {
        while queue.try_send(Span::default()).is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut requests = 0;
    let _ = tokio::time::timeout(EVERY / 2, async {
        while request(&mut stream).await.is_some() {
            // More spans have come when it is taken.
            tokio::time::sleep(Duration::from_millis(30)).await;
            answer(&mut stream).await;
            requests += 1;
        }
    })
    .await;
    assert_eq!(requests, 1);
    trickle.abort();
}

#[tokio::test]
async fn why_a_collector_cannot_be_reached_is_told() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let collector =
        Collector { endpoint: format!("http://{address}/").parse().unwrap(), identity: String::new() };
    let (_, spans) = mpsc::channel(1);
    let exporter = Exporter::new(collector, spans, Weak::new(), Metrics::new("x").unwrap());
    let error = exporter.post(Bytes::new()).await.unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
}
