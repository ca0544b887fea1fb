//! A proxy before the API server that does to requests and watches what a bad network and a bad day do.
//!
//! It speaks plain HTTP to the replica and TLS to the API server, and hands the replica's token and User-Agent on, so
//! that the shipped rights apply. Each replica has one of its own. What befalls a request depends on the seed and on
//! how many like it came before, not on which came first of those that are under way.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::ConfigExt as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::fault::{Asked, Fate, Rule, WatchFate, reason, status};
use super::random::Random;
use super::visible::Inflicted;

/// The connection is to break, or has broken.
#[derive(Debug, thiserror::Error)]
#[error("the connection broke: {0}")]
pub struct Broken(String);

fn broken(error: impl std::fmt::Display) -> Broken {
    Broken(error.to_string())
}

type Body = UnsyncBoxBody<Bytes, Broken>;

/// How often which fault was injected.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<String, u64>>>);

impl Tally {
    pub fn count(&self, what: String) {
        *self.0.lock().unwrap().entry(what).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap().clone()
    }
}

/// Lives as long as the runtime that it was made in.
pub struct Proxy {
    address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    /// The API server's, without a path.
    target: Uri,
    send: Box<dyn Fn(Request<Full<Bytes>>) -> legacy::ResponseFuture + Send + Sync>,
    rules: Mutex<Rules>,
    watches: Mutex<Vec<LiveWatch>>,
    /// How often faults were lifted.
    lifted: watch::Sender<u64>,
    late: AtomicUsize,
    given_up: GivenUp,
    inflicted: Shared,
    tally: Tally,
}

/// What the process behind it has met.
type Shared = Arc<Mutex<Inflicted>>;

#[derive(Default)]
struct Rules {
    seed: u64,
    rules: Vec<Rule>,
    /// Requests of each sort since the rules were set.
    seen: BTreeMap<Asked, u64>,
}

struct LiveWatch {
    resource: String,
    fates: mpsc::UnboundedSender<Struck>,
}

/// A fate, how often faults had been lifted when it was sent, and when that was.
type Struck = (WatchFate, u64, Instant);

/// How many clients are held on stalled watches, and how long others were before they went by themselves.
type GivenUp = Arc<Mutex<(usize, Vec<Duration>)>>;

impl Proxy {
    /// Listens on a port of its own, in front of the API server that `config` leads to; its token is not used.
    pub async fn start(config: &kube::Config, tally: Tally) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connector = config.rustls_https_connector().unwrap();
        let client = legacy::Client::builder(TokioExecutor::new()).build(connector);
        let inner = Arc::new(Inner {
            target: config.cluster_url.clone(),
            send: Box::new(move |request| client.request(request)),
            rules: Mutex::default(),
            watches: Mutex::default(),
            lifted: watch::Sender::new(0),
            late: AtomicUsize::new(0),
            given_up: GivenUp::default(),
            inflicted: Shared::default(),
            tally,
        });
        tokio::spawn(accept(listener, Arc::clone(&inner)));
        Self { address, inner }
    }

    /// Where clients connect to.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on these rules decide; the first that hits a request does.
    pub fn set(&self, seed: u64, rules: Vec<Rule>) {
        *self.inner.rules() = Rules { seed, rules, seen: BTreeMap::new() };
    }

    /// Adds a rule to those that decide.
    pub fn add(&self, rule: Rule) {
        self.inner.rules().rules.push(rule);
    }

    /// Ends every fault. What was stalled breaks; what is late still comes.
    pub fn lift(&self) {
        self.inner.rules().rules.clear();
        self.inner.lifted.send_modify(|times| *times += 1);
    }

    /// What was injected so far, here and by others with the same tally.
    pub fn injected(&self) -> BTreeMap<String, u64> {
        self.inner.tally.counts()
    }

    /// What was inflicted on the process, since [`Proxy::new_process`].
    pub fn inflicted(&self) -> MutexGuard<'_, Inflicted> {
        self.inner.inflicted.lock().unwrap()
    }

    /// Another process begins, which has met nothing yet.
    pub fn new_process(&self) {
        *self.inflicted() = Inflicted::default();
    }

    /// Requests that are still to arrive late.
    pub fn late(&self) -> usize {
        self.inner.late.load(Ordering::SeqCst)
    }

    /// What is watched now, once for each connection, sorted.
    pub fn watched(&self) -> Vec<String> {
        let mut watched: Vec<String> =
            self.inner.watches().iter().map(|watch| watch.resource.clone()).collect();
        watched.sort();
        watched
    }

    /// How long each stalled watch was held on to, of those that were given up since this was asked last.
    pub fn take_given_up(&self) -> Vec<Duration> {
        std::mem::take(&mut self.inner.given_up.lock().unwrap().1)
    }

    /// Clients that are held on stalled watches now. A process that has just died may have left watches that were
    /// struck with the others and that nobody is on.
    pub fn held(&self) -> usize {
        self.inner.given_up.lock().unwrap().0
    }

    /// Lets something happen to the watches of a resource, or to all; gives how many those are.
    pub fn strike(&self, resource: Option<&str>, fate: WatchFate) -> usize {
        let watches = self.inner.watches();
        let (lifted, now) = (*self.inner.lifted.borrow(), Instant::now());
        let struck =
            watches.iter().filter(|watch| resource.is_none_or(|resource| watch.resource == resource));
        let struck = struck.filter(|watch| watch.fates.send((fate, lifted, now)).is_ok()).count();
        for _ in 0..struck {
            self.inner.tally.count(format!("watch {fate}"));
        }
        struck
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let inner = Arc::clone(&inner);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&inner), request));
            // It ends with an error whenever a connection is broken on purpose.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(inner: Arc<Inner>, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
    let asked = Asked::of(request.method(), request.uri());
    let mut lifted = inner.lifted.subscribe();
    let fate = inner.fate(&asked);
    if let Some(fate) = fate {
        inner.inflicted.lock().unwrap().request(&asked, fate);
        let sort = if asked.is_write() {
            "write"
        } else if asked.verb == "watch" {
            "new watch"
        } else {
            "read"
        };
        inner.tally.count(format!("{sort} {fate}"));
    }
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, body.collect().await.map_err(broken)?.to_bytes());
    if asked.verb == "watch" {
        return inner.begin_watch(asked, request, fate).await;
    }
    match fate {
        None => {
            let (mut parts, body) = inner.forward(request).await?.into_parts();
            parts.headers.remove(header::TRANSFER_ENCODING);
            Ok(Response::from_parts(parts, body.map_err(broken).boxed_unsync()))
        }
        Some(Fate::Stalled) => {
            let _ = lifted.changed().await;
            Err(broken("stalled"))
        }
        Some(Fate::LostBefore) => Err(broken("lost")),
        Some(Fate::Refused(code)) => refuse(code),
        Some(Fate::Unanswered) => {
            // It is done even when the client gives up first.
            let done = tokio::spawn(async move { inner.whole(request).await });
            let _ = tokio::join!(done, lifted.changed());
            Err(broken("not answered"))
        }
        Some(Fate::LostAfter) => {
            let done = tokio::spawn(async move { inner.whole(request).await });
            let _ = done.await;
            Err(broken("answer lost"))
        }
        Some(Fate::Late(by)) => {
            inner.late.fetch_add(1, Ordering::SeqCst);
            let done = tokio::spawn(async move {
                tokio::time::sleep(by).await;
                let answer = inner.whole(request).await;
                inner.late.fetch_sub(1, Ordering::SeqCst);
                answer
            });
            let (parts, bytes) = done.await.map_err(broken)??.into_parts();
            Ok(Response::from_parts(parts, full(bytes)))
        }
        Some(Fate::HalfAnswered) => {
            let (parts, bytes) = inner.whole(request).await?.into_parts();
            let half = bytes.slice(..bytes.len() / 2);
            let frames = stream::iter([Ok(Frame::data(half)), Err(broken("half answered"))]);
            let frames = frames.then(async |frame| {
                pause().await;
                frame
            });
            Ok(Response::from_parts(parts, StreamBody::new(Box::pin(frames)).boxed_unsync()))
        }
    }
}

/// What was given to hyper before is sent, and not dropped together with the connection.
async fn pause() {
    tokio::task::yield_now().await;
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn refuse(code: u16) -> Result<Response<Body>, Broken> {
    let body = status(code, reason(code), "injected").to_string();
    let mut answer = Response::builder().status(code).header(header::CONTENT_TYPE, "application/json");
    if code == 429 {
        answer = answer.header(header::RETRY_AFTER, "1");
    }
    answer.body(full(body.into())).map_err(broken)
}

impl Inner {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap()
    }

    fn watches(&self) -> MutexGuard<'_, Vec<LiveWatch>> {
        let mut watches = self.watches.lock().unwrap();
        watches.retain(|watch| !watch.fates.is_closed());
        watches
    }

    fn fate(&self, asked: &Asked) -> Option<Fate> {
        let Rules { seed, rules, seen } = &mut *self.rules();
        if rules.is_empty() {
            return None;
        }
        let nth = seen.entry(asked.clone()).or_default();
        *nth += 1;
        let mut random = Random::part(*seed ^ hash(asked), *nth);
        rules.iter().find(|rule| rule.is_about(asked) && random.chance(rule.percent)).map(|rule| rule.fate)
    }

    async fn forward(&self, request: Request<Bytes>) -> Result<Response<Incoming>, Broken> {
        let (mut parts, body) = request.into_parts();
        let target = self.target.clone().into_parts();
        let mut uri = parts.uri.into_parts();
        uri.scheme = target.scheme;
        uri.authority = target.authority;
        parts.uri = Uri::from_parts(uri).map_err(broken)?;
        parts.headers.remove(header::HOST);
        (self.send)(Request::from_parts(parts, Full::new(body))).await.map_err(broken)
    }

    /// Forwards, and reads the answer to its end.
    async fn whole(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Broken> {
        let (mut parts, body) = self.forward(request).await?.into_parts();
        let bytes = body.collect().await.map_err(broken)?.to_bytes();
        parts.headers.remove(header::TRANSFER_ENCODING);
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        Ok(Response::from_parts(parts, bytes))
    }

    /// A watch has no end that could be waited for, so what is done late or by half means its beginning.
    async fn begin_watch(
        &self,
        asked: Asked,
        request: Request<Bytes>,
        fate: Option<Fate>,
    ) -> Result<Response<Body>, Broken> {
        let mut lifted = self.lifted.subscribe();
        match fate {
            None => self.watch(asked, request, None).await,
            Some(Fate::Stalled | Fate::Unanswered) => {
                let _ = lifted.changed().await;
                Err(broken("stalled"))
            }
            Some(Fate::LostBefore) => Err(broken("lost")),
            Some(Fate::LostAfter) => {
                self.forward(request).await?;
                Err(broken("answer lost"))
            }
            Some(Fate::Refused(code)) => refuse(code),
            Some(Fate::Late(by)) => {
                tokio::time::sleep(by).await;
                self.watch(asked, request, None).await
            }
            Some(Fate::HalfAnswered) => {
                self.watch(asked, request, Some((WatchFate::BrokenOff, 0, Instant::now()))).await
            }
        }
    }

    async fn watch(
        &self,
        asked: Asked,
        request: Request<Bytes>,
        fate: Option<Struck>,
    ) -> Result<Response<Body>, Broken> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let (mut parts, body) = self.forward(request).await?.into_parts();
        parts.headers.remove(header::TRANSFER_ENCODING);
        let (fates, struck) = mpsc::unbounded_channel();
        if parts.status.is_success() {
            self.watches().push(LiveWatch { resource: asked.resource.clone(), fates });
        }
        let events = Events {
            body,
            struck,
            lifted: self.lifted.subscribe(),
            fate,
            given_up: Arc::clone(&self.given_up),
            inflicted: Arc::clone(&self.inflicted),
            watched: (asked.resource, query),
            at_line_end: true,
            then: VecDeque::new(),
        };
        let frames = stream::unfold(events, async |mut events| Some((events.next().await?, events)));
        Ok(Response::from_parts(parts, StreamBody::new(Box::pin(frames)).boxed_unsync()))
    }
}

/// The events of a watch on their way.
struct Events {
    body: Incoming,
    struck: mpsc::UnboundedReceiver<Struck>,
    lifted: watch::Receiver<u64>,
    /// What is to happen at the next opportunity.
    fate: Option<Struck>,
    given_up: GivenUp,
    inflicted: Shared,
    /// Resource and query.
    watched: (String, String),
    at_line_end: bool,
    /// What comes next whatever the API server sends, and last; `None` is the end.
    then: VecDeque<Option<Result<Frame<Bytes>, Broken>>>,
}

/// A client on a stalled watch. When it goes, that is noted.
struct Held {
    since: Instant,
    let_go: bool,
    given_up: GivenUp,
}

impl Held {
    fn new(since: Instant, given_up: &GivenUp) -> Self {
        given_up.lock().unwrap().0 += 1;
        Self { since, let_go: false, given_up: Arc::clone(given_up) }
    }

    /// It is no longer held, so it did not go by itself.
    fn let_go(mut self) {
        self.let_go = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut given_up = self.given_up.lock().unwrap();
        given_up.0 -= 1;
        if !self.let_go {
            given_up.1.push(self.since.elapsed());
        }
    }
}

impl Events {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, Broken>> {
        loop {
            if let Some(next) = self.then.pop_front() {
                pause().await;
                return next;
            }
            match self.fate {
                Some((WatchFate::Cut, ..)) => return self.end(Err(broken("cut"))),
                Some((WatchFate::Stalled, before, since)) => {
                    let held = Held::new(since, &self.given_up);
                    drop(self.lifted.wait_for(|times| *times > before).await);
                    held.let_go();
                    return self.end(Err(broken("stalled")));
                }
                Some((fate @ (WatchFate::Expired | WatchFate::Failed), ..)) if self.at_line_end => {
                    let line = fate.event().unwrap_or_default();
                    self.inflicted.lock().unwrap().watch_failed(&self.watched.0, &self.watched.1);
                    return self.end(Ok(Frame::data(line.into())));
                }
                _ => {}
            }
            let frame = tokio::select! {
                biased;
                Some(fate) = self.struck.recv() => {
                    self.fate = Some(fate);
                    continue;
                }
                frame = self.body.frame() => frame?,
            };
            let data = match frame.map(Frame::into_data) {
                Ok(Ok(data)) => data,
                Ok(Err(_)) => continue,
                Err(error) => return self.end(Err(broken(error))),
            };
            if self.fate.is_some_and(|(fate, ..)| fate == WatchFate::BrokenOff) {
                return self.broken_off(&data);
            }
            self.at_line_end = data.last().is_none_or(|byte| *byte == b'\n');
            return Some(Ok(Frame::data(data)));
        }
    }

    fn broken_off(&mut self, data: &Bytes) -> Option<Result<Frame<Bytes>, Broken>> {
        self.inflicted.lock().unwrap().watch_broke_off();
        self.then.push_back(Some(Err(broken("broken off"))));
        self.end(Ok(Frame::data(data.slice(..data.len() / 2))))
    }

    /// The last but for what is in `then`.
    fn end(&mut self, last: Result<Frame<Bytes>, Broken>) -> Option<Result<Frame<Bytes>, Broken>> {
        if last.is_err() {
            self.inflicted.lock().unwrap().watch_broke_off();
        }
        self.then.push_back(None);
        Some(last)
    }
}

/// FNV-1a: the same on every machine and with every release.
fn hash(asked: &Asked) -> u64 {
    let text = format!("{}/{}/{}/{}", asked.verb, asked.resource, asked.name, asked.subresource);
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
