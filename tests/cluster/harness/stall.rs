//! A way to the API server on which connections can be stalled: they stay open, and nothing moves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards bytes both ways. Lives as long as the runtime that it was made in.
pub struct StallingProxy {
    address: SocketAddr,
    /// Connections up to this number are stalled.
    stalled: watch::Sender<usize>,
    opened: watch::Receiver<usize>,
    answered: Arc<AtomicU64>,
}

impl StallingProxy {
    /// Listens on a port of its own, in front of `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stalled, stalls) = watch::channel(0);
        let (opening, opened) = watch::channel(0);
        let answered = Arc::new(AtomicU64::new(0));
        let answers = Arc::clone(&answered);
        tokio::spawn(async move {
            for number in 1.. {
                let (near, _) = listener.accept().await.unwrap();
                opening.send_replace(number);
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                let asked = Arc::default();
                tokio::spawn(forward(near_read, far_write, number, stalls.clone(), asked));
                tokio::spawn(forward(far_read, near_write, number, stalls.clone(), Arc::clone(&answers)));
            }
        });
        Self { address, stalled, opened, answered }
    }

    /// Where clients connect to.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// How many connections were opened so far.
    pub fn opened(&self) -> usize {
        *self.opened.borrow()
    }

    /// Bytes that came back so far, encrypted.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Stalls every connection that is open, for good. New ones work.
    pub fn stall_open(&self) {
        self.stalled.send_replace(self.opened());
    }
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    number: usize,
    mut stalls: watch::Receiver<usize>,
    bytes: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            () = async { drop(stalls.wait_for(|stalled| *stalled >= number).await) } => return held(from, to).await,
            read = from.read(&mut buffer) => read,
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(read) => {
                bytes.fetch_add(read as u64, Ordering::Relaxed);
                if to.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Holds on to both ends, so that neither side sees the connection end.
async fn held(_from: tokio::net::tcp::OwnedReadHalf, _to: tokio::net::tcp::OwnedWriteHalf) {
    std::future::pending().await
}
