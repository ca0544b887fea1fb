//! Handles Secrets beside their watches: fetches data that a watch does not deliver, and ends certificates whose
//! Secrets were deleted.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::kubernetes::key::SecretKey;
use crate::kubernetes::{Secret, with_causes};
use crate::metrics::WatchKind;
use crate::operator::line_limit::LineLimit;
use crate::operator::live::{Live, Phase};
use crate::watch::FetchFailure;

/// The number of concurrent GETs.
const CONCURRENCY: usize = 8;

/// The timeout of a GET.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The first and longest delay before a GET is repeated that failed or returned old data.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The longest wait while the whole start waits for the answer.
const RETRY_AT_START: Duration = Duration::from_secs(15);

/// Limits of log lines about failed GETs: per second, and at once. The owners get Events.
const LINES: (u32, u32) = (1, 20);

/// The longest interval between checks for expired certificates.
const LOOK: Duration = Duration::from_secs(1);

/// Fetches the Secrets that [`Live::secrets`] requests, forever. If a GET has been
/// answered with 403 for `wait_for_right`, the right counts as missing.
pub async fn fetch(client: Client, live: Arc<Live>, wait_for_right: Duration) {
    let places = Arc::new(Semaphore::new(CONCURRENCY));
    let lines = Arc::new(Mutex::new(LineLimit::new(LINES.0, LINES.1)));
    let mut running: JoinSet<SecretKey> = JoinSet::new();
    let mut wanted = HashSet::new();
    let mut again = HashSet::new();
    loop {
        let key = tokio::select! {
            (key, ()) = live.secrets.next() => key,
            Some(ended) = running.join_next() => {
                let Ok(key) = ended else { continue };
                wanted.remove(&key);
                if !again.remove(&key) {
                    continue;
                }
                key
            }
        };
        if !wanted.insert(key.clone()) {
            // Another task may have checked for the last time already.
            again.insert(key);
            continue;
        }
        let (places, lines) = (Arc::clone(&places), Arc::clone(&lines));
        running.spawn(fetch_one(client.clone(), Arc::clone(&live), key, wait_for_right, places, lines));
    }
}

/// Fetches one Secret until there is an answer, or nobody needs it any more.
async fn fetch_one(
    client: Client,
    live: Arc<Live>,
    key: SecretKey,
    wait_for_right: Duration,
    places: Arc<Semaphore>,
    lines: Arc<Mutex<LineLimit>>,
) -> SecretKey {
    let api: Api<Secret> = Api::namespaced(client, key.namespace());
    let mut wait = RETRY.0;
    let mut refused_since = None;
    loop {
        let Some(asked) = live.routing().ask_for_secret(&key) else { return key };
        let answer = {
            let Ok(_place) = places.acquire().await else { return key };
            tokio::time::timeout(TIMEOUT, api.get_opt(key.name())).await
        };
        let error = match answer {
            Ok(Ok(secret)) => {
                live.event(WatchKind::TlsSecret, |routing| {
                    let touched = routing.stores_mut().secret_fetched(&key, &asked, secret.as_ref());
                    routing.release_unnamed(&key);
                    touched
                });
                (wait, refused_since) = (RETRY.0, None);
                if live.routing().ask_for_secret(&key).is_some() {
                    // It has changed since. A Secret that keeps changing must not occupy all slots.
                    tokio::time::sleep(wait).await;
                }
                continue;
            }
            Ok(Err(error)) => {
                let refused = matches!(&error, kube::Error::Api(status) if status.code == 403);
                refused_since = refused.then(|| refused_since.unwrap_or_else(Instant::now));
                with_causes(&error)
            }
            Err(_) => {
                refused_since = None;
                format!("no answer within {} s", TIMEOUT.as_secs())
            }
        };
        let why = match refused_since {
            Some(since) if since.elapsed() >= wait_for_right => FetchFailure::Lasting,
            _ => FetchFailure::Passing,
        };
        let line = lines.lock().allows(Instant::now());
        if let Some(not_logged) = line {
            tracing::warn!(secret = %key, %error, not_logged, "Secret could not be read; trying again");
        }
        live.event(WatchKind::TlsSecret, |routing| {
            let touched = routing.stores_mut().secret_fetch_failed(&key, why);
            routing.release_unnamed(&key);
            touched
        });
        tokio::time::sleep(wait).await;
        let starts = *live.phase().borrow() != Phase::Synced;
        wait = (wait * 2).min(if starts { RETRY_AT_START } else { RETRY.1 });
    }
}

/// Withdraws certificates of deleted Secrets when their time is over, and ends the wait for Secrets that cannot be
/// read, until it is dropped.
pub async fn expire(live: Arc<Live>) {
    loop {
        live.end_fetch();
        let due = live.routing().stores().gone_secrets_due();
        let now = Instant::now();
        if due.is_some_and(|due| due <= now) {
            live.event(WatchKind::TlsSecret, |routing| routing.stores_mut().expire_gone_secrets(now));
        }
        let wait = due.filter(|due| *due > now).map_or(LOOK, |due| (due - now).min(LOOK));
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use k8s_openapi::ByteString;
    use kube::client::Body;
    use kube::runtime::watcher::Event;
    use serde_json::json;
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    use super::*;
    use crate::kubernetes::key::IngressKey;
    use crate::kubernetes::manifests::Manifests;
    use crate::kubernetes::{Ingress, MetadataOf};
    use crate::metrics::{Metrics, Trigger};
    use crate::operator::live::{Cause, Phase};
    use crate::routing::Routing;
    use crate::translate::settings::ClassOptions;
    use crate::watch::{Scope, SecretSource, Watched};
    use crate::{offline, options};

    const CLUSTER: &str = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: traefik}
spec: {controller: traefik.io/ingress-controller}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec: {ingressClassName: traefik, tls: [{secretName: tls}], rules: [{host: web.example.com}]}
";

    /// Deletes the Ingress that names the Secret.
    fn delete_ingress(live: &Live) {
        let ingress = IngressKey::new("shop", "web");
        {
            let mut routing = live.routing();
            let deleted = routing.stores().ingresses().get(&ingress).map(|held| Ingress::clone(held));
            if let Some(deleted) = deleted {
                routing.stores_mut().apply_ingress(&Scope::All, Event::Delete(deleted));
            }
        }
        let cause = Cause { trigger: Trigger::Ingress, at: Instant::now(), trace: None };
        live.reconcile(&ingress, cause).unwrap();
    }

    #[tokio::test]
    async fn what_nobody_names_any_more_is_neither_kept_nor_fetched() {
        let options = options::from_yaml_str("").unwrap().options;
        let mut manifests = Manifests::default();
        manifests.add(&"cluster.yaml".into(), CLUSTER.as_bytes());
        let metrics = Metrics::new("x").unwrap();
        let live = Arc::new(Live::new(offline::routing(manifests, &options), metrics));
        let key = SecretKey::new("shop", "tls");
        let metadata = json!({"name": "tls", "namespace": "shop", "resourceVersion": "1"});
        let seen = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        live.routing().stores_mut().apply_secret_metadata(
            SecretSource::Others,
            &Scope::All,
            Event::Apply(seen),
            |_| true,
        );
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, during) = (Arc::clone(&asked), Arc::clone(&live));
        let service = tower::service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            delete_ingress(&during);
            let answer = json!({"metadata": metadata, "data": {"tls.crt": "QQ==", "tls.key": "QQ=="}});
            async move { Ok::<_, tower::BoxError>(Response::new(Body::from(serde_json::to_vec(&answer)?))) }
        });
        let places = Arc::new(Semaphore::new(1));
        let lines = Arc::new(Mutex::new(LineLimit::new(1, 1)));
        // The second one is queued since before the Ingress went.
        for _ in 0..2 {
            let client = Client::new(service.clone(), "default");
            let (places, lines) = (Arc::clone(&places), Arc::clone(&lines));
            fetch_one(client, Arc::clone(&live), key.clone(), Duration::ZERO, places, lines).await;
            assert_eq!(asked.load(Ordering::Relaxed), 1);
            assert!(live.routing().stores().secrets().needs_fetch(&key), "its data is kept");
        }
    }

    /// A replica that has listed everything but Secrets. The Ingress `stays` names the Secret `old`, `goes` names `gone`.
    fn listing() -> Live {
        let routing = Routing::new(
            Watched { namespaces: None, nodes: false },
            ClassOptions { lookup_disabled: true, ..ClassOptions::default() },
            Arc::default(),
        );
        let live = Live::new(routing, Metrics::new("x").unwrap());
        for event in [
            Event::Init,
            Event::InitApply(ingress("stays", "old")),
            Event::InitApply(ingress("goes", "gone")),
            Event::InitDone,
        ] {
            live.event(WatchKind::Ingress, |routing| routing.stores_mut().apply_ingress(&Scope::All, event));
        }
        for event in [Event::Init, Event::InitDone] {
            live.event(WatchKind::Service, |routing| routing.stores_mut().apply_service(&Scope::All, event));
        }
        for event in [Event::Init, Event::InitDone] {
            live.event(WatchKind::EndpointSlice, |routing| {
                routing.stores_mut().apply_slice(&Scope::All, event)
            });
        }
        assert_eq!(*live.phase().borrow(), Phase::SecretsNamed);
        live
    }

    fn ingress(name: &str, secret: &str) -> Ingress {
        let annotations = json!({"kubernetes.io/ingress.class": "traefik"});
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
            "spec": {"tls": [{"secretName": secret}], "rules": [{"host": "web.example.com"}]},
        }))
        .unwrap()
    }

    /// A Secret, or nothing but its metadata.
    fn secret<T: serde::de::DeserializeOwned>(name: &str) -> T {
        let metadata = json!({"name": name, "namespace": "shop", "resourceVersion": "1"});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn list_tls(live: &Live, secrets: Vec<Secret>) {
        let all = secrets.into_iter().map(Event::InitApply);
        for event in std::iter::once(Event::Init).chain(all).chain([Event::InitDone]) {
            live.event(WatchKind::TlsSecret, |routing| {
                let (stores, index) = routing.stores_and_index();
                stores.apply_secret(SecretSource::Tls, &Scope::All, event, |key| index.secret_is_named(key))
            });
        }
    }

    fn list_others(live: &Live, secrets: Vec<MetadataOf<Secret>>) {
        let all = secrets.into_iter().map(Event::InitApply);
        for event in std::iter::once(Event::Init).chain(all).chain([Event::InitDone]) {
            live.event(WatchKind::SecretMetadata, |routing| {
                let (stores, index) = routing.stores_and_index();
                stores.apply_secret_metadata(SecretSource::Others, &Scope::All, event, |key| {
                    index.secret_is_named(key)
                })
            });
        }
    }

    /// The first lists are not through when an Ingress comes to name a Secret whose data was dropped, and another one goes.
    #[tokio::test]
    async fn what_changes_while_secrets_are_listed_counts() {
        let live = listing();
        list_tls(&live, vec![secret("new")]);
        for event in [Event::Apply(ingress("stays", "new")), Event::Delete(ingress("goes", "gone"))] {
            live.event(WatchKind::Ingress, |routing| routing.stores_mut().apply_ingress(&Scope::All, event));
        }
        list_others(&live, Vec::new());
        live.end_fetch();
        assert_eq!(*live.phase().borrow(), Phase::SecretsNamed, "the certificate is not read yet");
        let new = SecretKey::new("shop", "new");
        assert_eq!(live.secrets.try_next(), Some((new.clone(), ())));
        assert!(!live.routing().stores_and_index().1.secret_is_named(&SecretKey::new("shop", "gone")));
        let asked = live.routing().ask_for_secret(&new).unwrap();
        live.event(WatchKind::TlsSecret, |routing| {
            routing.stores_mut().secret_fetched(&new, &asked, Some(&secret("new")))
        });
        assert_eq!(*live.phase().borrow(), Phase::Synced);
        assert!(live.routing().table().fragment(&IngressKey::new("shop", "stays")).is_some());
    }

    /// Fetches while everything else has been listed, until the routing is translated for the first time. The first GETs
    /// of each Secret are answered with these codes; gives whether each Ingress has its certificate.
    async fn started(codes: &'static [u16], wait_for_right: Duration) -> Vec<bool> {
        let live = Arc::new(listing());
        list_tls(&live, Vec::new());
        list_others(&live, vec![secret("old"), secret("gone")]);
        let asked: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let service = tower::service_fn(move |request: Request<Body>| {
            let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let mut asked = asked.lock();
            let count = asked.entry(name.clone()).or_default();
            let code = codes.get(*count).copied().unwrap_or(200);
            *count += 1;
            let pem = |what| format!("-----BEGIN {what}-----\nAA==\n-----END {what}-----\n").into_bytes();
            let answer = match code {
                200 => json!({
                    "metadata": {"name": name, "namespace": "shop", "resourceVersion": "1"},
                    "data": {"tls.crt": ByteString(pem("CERTIFICATE")), "tls.key": ByteString(pem("PRIVATE KEY"))},
                }),
                _ => json!({"kind": "Status", "status": "Failure", "code": code}),
            };
            let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            async move { Ok::<_, tower::BoxError>(answer?) }
        });
        tokio::select! {
            () = fetch(Client::new(service, "default"), Arc::clone(&live), wait_for_right) => unreachable!(),
            () = live.reached(Phase::Synced) => {}
        }
        let routing = live.routing();
        let fragment = |name| routing.table().fragment(&IngressKey::new("shop", name)).unwrap();
        ["stays", "goes"].map(|name| !fragment(name).certificates.is_empty()).to_vec()
    }

    /// What the last leader published has the certificates.
    #[tokio::test]
    async fn a_start_waits_for_certificates_while_the_next_get_may_bring_them() {
        const LONG: Duration = Duration::from_secs(60);
        let ended = tokio::time::timeout(LONG, async {
            tokio::join!(
                started(&[503, 429], Duration::ZERO),
                started(&[403], LONG),
                started(&[500, 403], LONG),
                started(&[403; 100], Duration::from_millis(500)),
            )
        });
        let (failing, refused_once, both, refused) = ended.await.unwrap();
        assert_eq!((failing, refused_once, both), (vec![true; 2], vec![true; 2], vec![true; 2]));
        assert_eq!(refused, [false; 2], "published all the same");
    }

    /// Counts the warnings of this thread.
    struct Warnings(Arc<AtomicUsize>);

    impl<S: tracing::Subscriber> Layer<S> for Warnings {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            if *event.metadata().level() == tracing::Level::WARN {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A tenant can have thousands of Secrets and take away the right to read them.
    #[tokio::test]
    async fn thousands_of_secrets_that_cannot_be_read_are_a_few_lines() {
        const SECRETS: usize = 1_000;
        let options = options::from_yaml_str("").unwrap().options;
        let mut manifests = Manifests::default();
        let tls: Vec<_> = (0..SECRETS).map(|at| json!({"secretName": format!("s-{at}")})).collect();
        let tls = format!("tls: {}", serde_json::to_string(&tls).unwrap());
        let cluster = CLUSTER.replace("tls: [{secretName: tls}]", &tls);
        manifests.add(&"cluster.yaml".into(), cluster.as_bytes());
        let live = Arc::new(Live::new(offline::routing(manifests, &options), Metrics::new("x").unwrap()));
        for at in 0..SECRETS {
            let name = format!("s-{at}");
            let seen = json!({"metadata": {"name": name, "namespace": "shop", "resourceVersion": "1"}});
            live.routing().stores_mut().apply_secret_metadata(
                SecretSource::Others,
                &Scope::All,
                Event::Apply(serde_json::from_value(seen).unwrap()),
                |_| true,
            );
            live.secrets.push(SecretKey::new("shop", name), ());
        }
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let service = tower::service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            let refused = json!({"kind": "Status", "status": "Failure", "code": 403});
            let refused = Response::builder().status(403).body(Body::from(refused.to_string().into_bytes()));
            async move { Ok::<_, tower::BoxError>(refused?) }
        });
        let lines = Arc::new(AtomicUsize::new(0));
        let subscriber = tracing_subscriber::registry().with(Warnings(Arc::clone(&lines)));
        let _logged = tracing::subscriber::set_default(subscriber);
        tokio::select! {
            () = fetch(Client::new(service, "default"), live, Duration::ZERO) => unreachable!("it has no end"),
            () = async {
                while asked.load(Ordering::Relaxed) < SECRETS + 8 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            } => {}
        }
        let lines = lines.load(Ordering::Relaxed);
        assert!((1..=40).contains(&lines), "{lines} lines");
    }

    /// Whoever owns it may see to it that it is never read.
    #[tokio::test]
    async fn a_secret_that_is_never_read_holds_up_its_own_ingresses_alone() {
        let live = listing();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(121)).unwrap();
        live.listed.set(long_ago).unwrap();
        list_others(&live, vec![secret("old")]);
        list_tls(&live, Vec::new());
        assert_eq!(*live.phase().borrow(), Phase::Synced);
        let has = |name| live.routing().table().fragment(&IngressKey::new("shop", name)).is_some();
        assert!(has("goes") && !has("stays"));
    }
}
