//! Limits the number of connections, in total and for each address, so that nobody who reaches a port can keep others
//! out of it or fill the memory.
//!
//! If there are too many, the oldest one is closed instead of the new one. A probe takes milliseconds, so it is never the
//! oldest. This holds for clients that send no header or no body, and for those that do not read the answer.

use std::collections::VecDeque;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// The maximum number of connections at once.
const CONNECTIONS: usize = 256;

/// The maximum number of connections from one address.
const PER_PEER: usize = 16;

/// Timeout of a connection, which carries one request.
const LONGEST: Duration = Duration::from_secs(20);

/// Timeout of a handshake, and of the header of a request.
pub(super) const PROMPT: Duration = Duration::from_secs(5);

/// The maximum size of a request's header, including a token.
const LONGEST_HEADER: usize = 32 << 10;

/// The delay after the system could not accept a connection, most likely for lack of file descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// How long current requests may take once the server is stopped.
const GRACE: Duration = Duration::from_secs(1);

/// Answers every connection of the listener until `shutdown` resolves.
pub(super) async fn each<A: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    answer: impl Fn(TcpStream, IpAddr) -> A,
) {
    let mut places = Places::default();
    let mut open = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = open.join_next() => continue,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, from)) => {
                let peer = from.ip().to_canonical();
                places.make_room(peer);
                let answered = answer(stream, peer);
                let task = open.spawn(async move {
                    // If a client breaks off or stays silent, there is nobody to report to.
                    let _ = tokio::time::timeout(LONGEST, answered).await;
                });
                places.0.push_back((peer, task));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::debug!(%error, "a connection can't be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    let _ = tokio::time::timeout(GRACE, async { while open.join_next().await.is_some() {} }).await;
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Answers the request of a connection. Handlers find the peer's address as an extension.
pub(super) async fn answer(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: IpAddr,
    router: Router,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PROMPT)
        .keep_alive(false)
        .max_buf_size(LONGEST_HEADER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.layer(Extension(peer))));
    let _ = connection.await;
}

/// Open connections, the oldest first.
#[derive(Default)]
struct Places(VecDeque<(IpAddr, AbortHandle)>);

impl Places {
    /// Closes the oldest connection of an address that has reached its limit, or else the oldest of all if there are too
    /// many.
    fn make_room(&mut self, peer: IpAddr) {
        self.0.retain(|(_, task)| !task.is_finished());
        let of_peer = self.0.iter().enumerate().filter(|(_, (of, _))| *of == peer);
        let of_peer: Vec<usize> = of_peer.map(|(at, _)| at).collect();
        let oldest = if of_peer.len() >= PER_PEER {
            of_peer.first().copied()
        } else {
            (self.0.len() >= CONNECTIONS).then_some(0)
        };
        if let Some((_, task)) = oldest.and_then(|at| self.0.remove(at)) {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::*;

    async fn connect(from: &str, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap()
    }

    async fn ask(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// At `/x` the address of who asks, at `/long` what takes more than the system's buffers.
    async fn start() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let long = Bytes::from(vec![0; 8 << 20]);
        let router = Router::new()
            .route("/x", get(|Extension(peer): Extension<IpAddr>| async move { peer.to_string() }))
            .route("/long", get(move || async move { long }));
        tokio::spawn(each(listener, std::future::pending(), move |stream, peer| {
            answer(stream, peer, router.clone())
        }));
        address
    }

    #[tokio::test]
    async fn connections_that_are_held_keep_no_probe_out() {
        for held in [
            "",
            "GET /x HTTP/1.1\r\nHost:",
            "GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n",
            "GET /long HTTP/1.1\r\nHost: x\r\n\r\n",
        ] {
            let address = start().await;
            let mut others = Vec::new();
            for of in 0..CONNECTIONS {
                let mut stream = connect(&format!("127.0.0.{}", 2 + of / PER_PEER), address).await;
                stream.write_all(held.as_bytes()).await.unwrap();
                others.push(stream);
            }
            // From an address of its own, and from one that has its share: pods of the host's network have kubelet's.
            for from in ["127.0.0.1", "127.0.0.2"] {
                for _ in 0..2 * PER_PEER {
                    let text = ask(connect(from, address).await).await;
                    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with(from), "{held}: {text}");
                }
            }
        }
    }

    #[tokio::test]
    async fn an_address_has_its_share_and_no_more() {
        let address = start().await;
        let mut held = Vec::new();
        for _ in 0..2 * PER_PEER {
            held.push(connect("127.0.0.2", address).await);
        }
        // The first half is closed long before its header is due.
        let closing = held.drain(..PER_PEER).map(|mut stream| async move { stream.read(&mut [0]).await });
        let closed = tokio::time::timeout(PROMPT / 2, futures::future::join_all(closing)).await.unwrap();
        assert!(closed.iter().all(|read| matches!(read, Ok(0) | Err(_))), "{closed:?}");
        for stream in held {
            assert!(ask(stream).await.starts_with("HTTP/1.1 200"), "the newer half is answered");
        }
    }
}
