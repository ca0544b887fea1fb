//! A bounded HTTP client, one connection for each request, and backends that say who they are.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Some(Self { status, headers, body: body.to_owned() })
    }

    /// The backend's name, or the status where it is not 200.
    pub fn who(&self) -> String {
        match self.status {
            200 => self.body.lines().next().unwrap_or_default().to_owned(),
            other => other.to_string(),
        }
    }
}

/// GET `path` from `host` at a local port.
pub async fn get(port: u16, host: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        // Of the two versions of HTTP this is the one whose answers never come in chunks.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    let text = tokio::time::timeout(ANSWER_WITHIN, ask)
        .await
        .map_err(|_| format!("no answer within {ANSWER_WITHIN:?}"))?
        .map_err(|error| error.to_string())?;
    Answer::parse(&text).ok_or(format!("no answer: {text:?}"))
}

/// GET `/` from `host` over TLS, by a client that trusts one certificate alone and insists on the host's name.
pub fn get_with_tls(port: u16, host: &str, trusted: &Path) -> Result<Answer, String> {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-verify_return_error", "-connect", &format!("127.0.0.1:{port}")])
        .args(["-servername", host, "-verify_hostname", host, "-CAfile"])
        .arg(trusted)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let request = format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n");
    // Refused before the request is read: what it says tells more than a broken pipe.
    let _ = client.stdin.as_mut().unwrap().write_all(request.as_bytes());
    let output = client.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Answer::parse(&text).ok_or_else(|| format!("no answer: {text:?}"))
}

/// A server that answers every request with its name, and then the request's headers.
pub struct Backend {
    task: JoinHandle<()>,
}

impl Backend {
    pub async fn start(name: &'static str, address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let router = Router::new().fallback(async move |headers: HeaderMap| {
            let headers: String = headers
                .iter()
                .map(|(key, value)| format!("\n{key}: {}", String::from_utf8_lossy(value.as_bytes())))
                .collect();
            format!("{name}{headers}")
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { task }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}
