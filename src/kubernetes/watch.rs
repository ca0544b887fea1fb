//! Listens to the answers of watches. kube's watcher shows neither bookmarks nor orderly ends, which are all that a quiet
//! watch sends. Without them a dead watch would look like a quiet one. It does not report an answer that breaks off
//! between two events either, so those are counted here.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::metrics::{CounterBy, Method, Metrics, WatchKind};

/// The beginning of an event that reports a failed watch.
const FAILED: &[u8] = br#"{"type":"ERROR""#;

/// The kind and the collection path of a watch request; `None` for all other requests.
pub(super) fn of(uri: &http::Uri) -> Option<(WatchKind, String)> {
    let query = uri.query().unwrap_or_default();
    if !query.contains("watch=true") {
        return None;
    }
    let path = uri.path();
    let kind = match path.rsplit('/').next()? {
        "ingresses" => WatchKind::Ingress,
        "ingressclasses" => WatchKind::IngressClass,
        "services" => WatchKind::Service,
        "endpointslices" => WatchKind::EndpointSlice,
        "nodes" => WatchKind::Node,
        "namespaces" => WatchKind::Namespace,
        "ingressclassparameters" => WatchKind::Parameters,
        "leases" if query.contains("labelSelector") => WatchKind::AgentLease,
        "leases" => WatchKind::Lease,
        "configmaps" if query.contains("managed-by") => WatchKind::OwnConfigMap,
        "configmaps" => WatchKind::ClassMemory,
        "secrets" if query.contains("managed-by") => WatchKind::OwnSecret,
        "secrets" if query.contains("type%21%3D") || query.contains("type!=") => WatchKind::SecretMetadata,
        "secrets" => WatchKind::TlsSecret,
        _ => return None,
    };
    Some((kind, path.to_owned()))
}

/// Records the signs of life in one answer of a watch.
pub(super) struct Listener {
    metrics: Metrics,
    kind: WatchKind,
    path: String,
    /// It ended in order, or is known to have broken.
    over: bool,
}

impl Listener {
    /// The start of an answer.
    pub fn opened(metrics: &Metrics, kind: WatchKind, path: String) -> Self {
        metrics.watch_age.opened(kind, &path, Instant::now());
        Self { metrics: metrics.clone(), kind, path, over: false }
    }

    fn heard(&self) {
        self.metrics.watch_age.heard(self.kind, &self.path, Instant::now());
    }

    fn data(&mut self, data: &[u8]) {
        if data.split(|byte| *byte == b'\n').any(|line| line.starts_with(FAILED)) {
            let _ = self.broken();
        } else if !self.over {
            self.heard();
        }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.heard();
        }
    }

    /// Returns false if it was already over, or if nobody wants the watch any more.
    fn broken(&mut self) -> bool {
        !std::mem::replace(&mut self.over, true) && self.metrics.watch_age.broken(self.kind, &self.path)
    }
}

impl Drop for Listener {
    /// If an answer is dropped before its end, somebody waited for it in vain. kube's watcher does not report this.
    fn drop(&mut self) {
        if self.broken() {
            self.metrics.watch_errors.inc(self.kind);
        }
    }
}

/// The body of an answer, observed if it belongs to a watch.
pub(super) struct Listened<B> {
    body: B,
    listener: Option<Listener>,
    /// Counts it if it breaks off.
    broken: Option<(CounterBy<Method>, Method)>,
}

impl<B> Listened<B> {
    /// An observed body.
    pub fn new(body: B, listener: Option<Listener>, broken: CounterBy<Method>, method: Method) -> Self {
        Self { body, listener, broken: Some((broken, method)) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Listened<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if matches!(frame, Some(Err(_)))
            && let Some((broken, method)) = this.broken.take()
        {
            broken.inc(method);
        }
        if let Some(listener) = &mut this.listener {
            match &frame {
                Some(Ok(frame)) => listener.data(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(_)) => {
                    let _ = listener.broken();
                }
                None => listener.end(),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // Checking this instead of the last frame would hide the end.
        self.listener.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PATH: &str = "/api/v1/services";

    fn listener() -> (Metrics, Listener) {
        let metrics = Metrics::new("x").unwrap();
        metrics.watch_age.begun(WatchKind::Service, PATH);
        let listener = Listener::opened(&metrics, WatchKind::Service, PATH.to_owned());
        (metrics, listener)
    }

    /// Whether an opening still counts, which it does as long as answers do not only break.
    fn believed(metrics: &Metrics) -> bool {
        let later = Instant::now() + Duration::from_secs(1_000);
        metrics.watch_age.opened(WatchKind::Service, PATH, later);
        metrics.watch_age.quietest(|_| true, later).is_some_and(|(_, age)| age.is_zero())
    }

    #[test]
    fn every_watch_is_told_by_its_address() {
        let uri = |text: &str| of(&text.parse().unwrap());
        let kind = |text: &str| uri(text).map(|(kind, _)| kind);
        assert_eq!(
            uri("/api/v1/namespaces/shop/services?watch=true&timeoutSeconds=30"),
            Some((WatchKind::Service, "/api/v1/namespaces/shop/services".to_owned()))
        );
        assert_eq!(kind("/api/v1/services?limit=200"), None, "a list");
        assert_eq!(kind("/api/v1/namespaces/shop/secrets/services"), None, "one object");
        let secrets = |query: &str| kind(&format!("/api/v1/secrets?watch=true&{query}"));
        assert_eq!(secrets("fieldSelector=type%3Dkubernetes.io%2Ftls"), Some(WatchKind::TlsSecret));
        assert_eq!(secrets("fieldSelector=type%21%3Dkubernetes.io%2Ftls"), Some(WatchKind::SecretMetadata));
        assert_eq!(secrets("labelSelector=app.kubernetes.io%2Fmanaged-by"), Some(WatchKind::OwnSecret));
        let maps = |query: &str| kind(&format!("/api/v1/namespaces/a/configmaps?watch=true&{query}"));
        assert_eq!(maps("labelSelector=waybill.dev%2Fpart%3Dclasses"), Some(WatchKind::ClassMemory));
        assert_eq!(maps("labelSelector=app.kubernetes.io%2Fmanaged-by"), Some(WatchKind::OwnConfigMap));
    }

    #[test]
    fn events_and_an_orderly_end_are_heard() {
        let (metrics, mut listener) = listener();
        for _ in 0..5 {
            listener.data(b"{\"type\":\"BOOKMARK\",\"object\":{}}\n");
        }
        listener.end();
        drop(listener);
        assert!(believed(&metrics));
    }

    #[test]
    fn an_answer_that_fails_breaks_off_or_is_given_up_is_not() {
        type Fault = fn(&mut Listener);
        let faults: [Fault; 3] = [
            |listener| {
                listener.data(b"{\"type\":\"ERROR\",\"object\":{\"code\":500}}\n");
                listener.end();
            },
            |listener| assert!(listener.broken()),
            |_| {},
        ];
        for (number, fault) in faults.iter().enumerate() {
            let (metrics, mut first) = listener();
            fault(&mut first);
            drop(first);
            assert!(believed(&metrics), "{number}: once is forgiven");
            let mut second = Listener::opened(&metrics, WatchKind::Service, PATH.to_owned());
            fault(&mut second);
            drop(second);
            assert!(!believed(&metrics), "{number}");
            // The first is counted by who reads kube's watcher, the second as an answer that broke off.
            let counted = metrics.watch_errors.get(WatchKind::Service);
            assert_eq!(counted, if number == 2 { 2 } else { 0 }, "{number}");
            metrics.watch_age.clear(WatchKind::Service);
            drop(Listener::opened(&metrics, WatchKind::Service, PATH.to_owned()));
            assert_eq!(metrics.watch_errors.get(WatchKind::Service), counted, "nobody wants it any more");
        }
    }
}
