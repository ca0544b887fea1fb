//! Limits the number of connections, in total and for each address, so that nobody who reaches a port can keep others
//! out of it or fill the memory.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The maximum number of connections at once. Others are closed immediately, so that nobody waits behind them.
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
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let peers = Peers::default();
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
                let place = Arc::clone(&places).try_acquire_owned();
                let (Ok(place), Some(place_of_peer)) = (place, peers.take(peer)) else { continue };
                let answered = answer(stream, peer);
                open.spawn(async move {
                    // If a client breaks off or stays silent, there is nobody to report to.
                    let _ = tokio::time::timeout(LONGEST, answered).await;
                    drop((place, place_of_peer));
                });
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

/// Open connections by address.
#[derive(Clone, Default)]
struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Peers {
    /// `None` if the address has reached its limit.
    fn take(&self, peer: IpAddr) -> Option<PeerPlace> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(peer).or_default();
        (*count < PER_PEER).then(|| {
            *count += 1;
            PeerPlace { peers: self.clone(), peer }
        })
    }
}

/// A connection of an address, until it is dropped.
struct PeerPlace {
    peers: Peers,
    peer: IpAddr,
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut open = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::*;

    async fn connect(from: &str, to: std::net::SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap()
    }

    async fn ask(mut stream: TcpStream) -> String {
        let mut text = String::new();
        let request = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n";
        // A connection that is closed at once may refuse the request as well.
        let _ = stream.write_all(request).await;
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    #[tokio::test]
    async fn silent_connections_of_one_address_keep_nobody_else_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/x", get(|Extension(peer): Extension<IpAddr>| async move { peer.to_string() }));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(each(listener, async { drop(stopped.await) }, move |stream, peer| {
            answer(stream, peer, router.clone())
        }));
        let mut silent = Vec::new();
        for _ in 0..PER_PEER {
            silent.push(connect("127.0.0.2", address).await);
        }
        assert_eq!(ask(connect("127.0.0.2", address).await).await, "", "one more is closed");
        for _ in 0..2 * PER_PEER {
            let text = ask(connect("127.0.0.1", address).await).await;
            assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("127.0.0.1"), "{text}");
        }
        drop(silent);
        stop.send(()).unwrap();
        server.await.unwrap();
    }
}
