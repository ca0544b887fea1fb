//! What a leader writes about classes: the settings that were accepted last, the status of their parameters, and their
//! problems.
//!
//! ```text
//! Live ─▶ remember accepted settings (ConfigMap) ─▶ report problems ─▶ status of each IngressClassParameters
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::kubernetes::key::{ObjectKey, OutputKey};
use crate::metrics::ClassStatus;
use crate::operator::agents::AgentTotals;
use crate::operator::live::Live;
use crate::operator::problems::{ProblemReports, ReportedBy};
use crate::parameters::IngressClassParametersStatus;
use crate::parameters::resolve::{Reason, Standing};
use crate::parameters::resource::ClassCounts;
use crate::parameters::status::{CountsKnown, Ledger};
use crate::publish::Backoff;
use crate::publish::PublishError;
use crate::publish::Requests;
use crate::publish::statuses::class_statuses::{ClassWriter, Written};
use crate::routing::Routing;
use crate::translate::problem::{Category, Problem};

/// How often the counts in statuses are computed. They are written less often.
const LOOK: Duration = Duration::from_secs(5);

/// How often the lease is checked.
const PULSE: Duration = Duration::from_millis(500);

/// The first and the longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Writes about classes for one term.
pub struct ClassPublisher {
    writer: ClassWriter,
    live: Arc<Live>,
    problems: Arc<ProblemReports>,
    requests: Requests,
    agents: AgentTotals,
    ledger: Ledger,
    /// Classes whose problems were reported.
    reported: BTreeSet<Arc<str>>,
    /// Parameters that a class has named in this term.
    used: BTreeSet<Arc<str>>,
    /// What the last leader remembered is taken over. Until then nothing may replace it.
    adopted: bool,
}

impl ClassPublisher {
    /// Begins a term.
    pub fn new(
        writer: ClassWriter,
        live: Arc<Live>,
        problems: Arc<ProblemReports>,
        requests: Requests,
        agents: AgentTotals,
    ) -> Self {
        Self {
            writer,
            live,
            problems,
            requests,
            agents,
            ledger: Ledger::default(),
            reported: BTreeSet::new(),
            used: BTreeSet::new(),
            adopted: false,
        }
    }

    /// Writes until the guard allows no more. May be dropped at any point.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut again = Instant::now();
        while self.requests.allowed() {
            if again <= Instant::now() {
                match self.write().await {
                    Ok(()) => {
                        again = Instant::now() + LOOK;
                        backoff.reset();
                    }
                    Err(error) => {
                        tracing::warn!(%error, "settings or statuses of classes were not written; trying again");
                        again = Instant::now() + backoff.next_wait();
                    }
                }
            }
            let wait = again.saturating_duration_since(Instant::now()).min(PULSE);
            tokio::select! {
                () = self.live.classes_changed.notified() => again = again.min(Instant::now()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Reports somebody else's ConfigMap of the name that ours needs: only a person can fix that. It stands until ours is
    /// there.
    fn memory_refused(&self, error: &PublishError) {
        let PublishError::OutputNameTaken { taken, remedy, .. } = error else { return };
        self.problems.set_uid(&taken.subject, &taken.uid);
        let problem = Problem {
            category: Category::OutputNameTaken,
            subject: taken.subject.clone(),
            field: "metadata.labels".to_owned(),
            value: String::new(),
            remedy: format!(
                "waybill remembers the settings of classes under this name, and it lacks waybill's labels; {remedy}"
            ),
        };
        self.problems.set(ReportedBy::ClassMemory, vec![problem]);
    }

    /// Takes over what the last leader remembered, which the watch may not have shown yet.
    async fn adopt(&self) -> Result<(), PublishError> {
        let map = self.writer.read_memory().await?;
        let mut routing = self.live.routing();
        for key in routing.adopt_class_memory(map.as_ref()) {
            tracing::warn!(key, "the remembered settings of this class cannot be read and are ignored");
        }
        self.live.resolve_classes(&mut routing);
        Ok(())
    }

    /// Remembers, reports and writes statuses, each of them whatever becomes of the others.
    async fn write(&mut self) -> Result<(), PublishError> {
        let remembered = self.remember().await;
        match &remembered {
            Ok(()) => self.problems.set(ReportedBy::ClassMemory, Vec::new()),
            Err(error) => self.memory_refused(error),
        }
        self.report();
        let written = self.write_statuses().await;
        remembered.and(written)
    }

    async fn remember(&mut self) -> Result<(), PublishError> {
        if !self.adopted {
            self.adopt().await?;
            self.adopted = true;
        }
        let memory = self.live.routing().classes().memory().clone();
        self.writer.write_memory(&memory).await?;
        Ok(())
    }

    async fn write_statuses(&mut self) -> Result<(), PublishError> {
        let due = {
            let routing = self.live.routing();
            let named = routing.classes().objects();
            self.used.extend(named.iter().cloned());
            self.used.retain(|object| named.contains(object) || !is_anothers(&routing, object));
            let mut objects = unused(&routing);
            objects.extend(self.used.iter().cloned());
            objects.retain(|object| {
                let parameters = routing.stores().parameters().get(&ObjectKey::new("", &**object));
                if let Some(parameters) = parameters {
                    self.ledger.seen(object, &parameters.status);
                }
                parameters.is_some()
            });
            self.due(&routing, objects)
        };
        let mut refused = Ok(());
        for (object, status) in due {
            match self.writer.write_status(&object, &status).await {
                Ok(Written::Gone) => {
                    self.ledger.forget(&object);
                    self.used.remove(&object);
                }
                Ok(Written::Done | Written::Unchanged) => {
                    self.ledger.written(&object, status, Instant::now());
                }
                Err(error @ PublishError::LeaseLost { .. }) => return Err(error),
                // The others get theirs all the same.
                Err(error) => refused = refused.and(Err(error)),
            }
        }
        refused
    }

    /// Reports the problems of classes, and how many of them run on which settings.
    fn report(&mut self) {
        let resolutions: BTreeMap<Arc<str>, (Standing, Vec<Problem>)> = {
            let routing = self.live.routing();
            let classes = routing.classes().iter();
            classes
                .map(|(class, one)| (Arc::clone(class), (one.standing, routing.classes().problems_of(class))))
                .collect()
        };
        let count = |standing: &[Standing]| {
            resolutions.values().filter(|(one, _)| standing.contains(one)).count() as f64
        };
        let metrics = &self.requests.metrics().classes;
        metrics.set(ClassStatus::Current, count(&[Standing::Operator, Standing::Current]));
        metrics.set(ClassStatus::LastAccepted, count(&[Standing::LastAccepted]));
        metrics.set(ClassStatus::NotAccepted, count(&[Standing::Withheld, Standing::NotAccepted]));
        for class in
            std::mem::take(&mut self.reported).into_iter().filter(|class| !resolutions.contains_key(class))
        {
            self.problems.set(ReportedBy::Class(class), Vec::new());
        }
        for (class, (_, problems)) in resolutions {
            self.reported.insert(Arc::clone(&class));
            self.problems.set(ReportedBy::Class(class), problems);
        }
    }

    /// The statuses to write now.
    fn due(
        &self,
        routing: &Routing,
        objects: BTreeSet<Arc<str>>,
    ) -> Vec<(Arc<str>, IngressClassParametersStatus)> {
        let classes = routing.classes();
        let mut due = Vec::new();
        for object in objects {
            let outputs = outputs(routing, &object);
            // First: what was committed was counted before.
            let publication = self.live.publication(&outputs);
            let mut counts = counts(routing, &object);
            let agents = self.agents.of(&outputs);
            (counts.agents, counts.updated_agents) = agents.unwrap_or_default();
            let known = CountsKnown { shards: self.agents.are_committed(&outputs), agents: agents.is_some() };
            let observed = classes.observed(routing.stores(), &object, publication, counts, known);
            let pending = observed.accepted.as_ref().is_some_and(|verdict| verdict.reason == Reason::Pending);
            if pending {
                continue;
            }
            if let Some(status) = self.ledger.due(&object, &observed, Instant::now(), Timestamp::now()) {
                due.push((object, status));
            }
        }
        due
    }
}

/// Parameters whose status names classes although no class names them: the classes were deleted while no replica ran.
fn unused(routing: &Routing) -> BTreeSet<Arc<str>> {
    let named = routing.classes().objects();
    let objects = routing.stores().parameters().iter();
    let unused = objects.filter(|(key, parameters)| {
        !named.contains(key.name())
            && classes_in_status(&parameters.status).next().is_some()
            && !is_anothers(routing, key.name())
    });
    unused.map(|(key, _)| Arc::from(key.name())).collect()
}

/// Whether parameters that no class of ours names belong to another installation: a class in their status exists and is not
/// ours.
fn is_anothers(routing: &Routing, object: &str) -> bool {
    let exists = |class: &str| routing.stores().classes().get(&ObjectKey::new("", class)).is_some();
    let parameters = routing.stores().parameters().get(&ObjectKey::new("", object));
    parameters.is_some_and(|parameters| {
        classes_in_status(&parameters.status)
            .any(|class| exists(class) && routing.classes().resolution(class).is_none())
    })
}

fn classes_in_status(status: &serde_json::Value) -> impl Iterator<Item = &str> {
    let classes = status.get("ingressClasses").and_then(serde_json::Value::as_array);
    classes.into_iter().flatten().filter_map(serde_json::Value::as_str)
}

/// The outputs of the classes that name an object.
fn outputs(routing: &Routing, object: &str) -> BTreeSet<OutputKey> {
    let classes = routing.classes().iter();
    let named = classes.filter(|(_, one)| one.object.as_deref() == Some(object));
    named.filter_map(|(_, one)| one.output().cloned()).collect()
}

/// The totals over the classes that name an object.
fn counts(routing: &Routing, object: &str) -> ClassCounts {
    let mut counts = ClassCounts::default();
    let mut services = BTreeSet::new();
    let mut certificates = BTreeSet::new();
    let classes = routing.classes().iter().filter(|(_, one)| one.object.as_deref() == Some(object));
    for key in classes.flat_map(|(class, _)| routing.of_class(class)) {
        counts.problems += routing.problems(&key).len() as u64;
        let Some(fragment) = routing.table().fragment(&key) else { continue };
        counts.ingresses += 1;
        counts.routers += fragment.routers.len() as u64 + u64::from(fragment.default_backend.is_some());
        services.extend(fragment.routers.iter().map(|router| router.service.owner.clone()));
        certificates.extend(fragment.certificates.iter().map(|certificate| certificate.secret.clone()));
    }
    counts.services = services.len() as u64;
    counts.certificates = certificates.len() as u64;
    let shards = |output: &OutputKey| {
        routing
            .table()
            .output(output)
            .map_or(0, |output| output.routing_shards().count() + output.key_shards().count())
    };
    counts.shards = outputs(routing, object).iter().map(shards).sum::<usize>() as u64;
    counts
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http::{Method, Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::kubernetes::manifests::Manifests;
    use crate::metrics::Metrics;
    use crate::publish::lease::LeaseGuard;
    use crate::publish::problems::Events;
    use crate::translate::problem::{Kind, Subject};
    use crate::{offline, options};

    const CLASSES: &str = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: a}
spec: {controller: traefik.io/ingress-controller, parameters: {apiGroup: waybill.dev, kind: IngressClassParameters, name: a}}
---
apiVersion: waybill.dev/v1alpha1
kind: IngressClassParameters
metadata: {name: a}
spec: {output: {name: a, namespace: edge}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: b}
spec: {controller: traefik.io/ingress-controller, parameters: {apiGroup: waybill.dev, kind: IngressClassParameters, name: b}}
---
apiVersion: waybill.dev/v1alpha1
kind: IngressClassParameters
metadata: {name: b}
spec: {output: {name: b, namespace: edge}}
";

    /// What the API server answers: an error's code, an object, or `None` for the object that was sent.
    type Answer = Result<Option<Value>, u16>;

    /// What it answers where the memory is concerned.
    type OfMemory = fn(&Method) -> Answer;

    struct Bench {
        publisher: ClassPublisher,
        metrics: Metrics,
        /// The paths that were patched.
        patched: Arc<Mutex<Vec<String>>>,
    }

    impl Bench {
        fn new(manifest: &str, answer: impl Fn(&Method, &str) -> Answer + Clone + Send + 'static) -> Self {
            let patched: Arc<Mutex<Vec<String>>> = Arc::default();
            let seen = Arc::clone(&patched);
            let service = tower::service_fn(move |request: Request<Body>| {
                let (seen, answer) = (Arc::clone(&seen), answer.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    let path = parts.uri.path().to_owned();
                    let (code, answer) = match answer(&parts.method, &path) {
                        Ok(Some(object)) => (200, object),
                        Ok(None) => (201, serde_json::from_slice(&body.collect_bytes().await?)?),
                        Err(code) => (code, json!({"kind": "Status", "status": "Failure", "code": code})),
                    };
                    if parts.method == Method::PATCH {
                        seen.lock().unwrap().push(path);
                    }
                    let answer =
                        Response::builder().status(code).body(Body::from(serde_json::to_vec(&answer)?));
                    Ok::<_, tower::BoxError>(answer?)
                }
            });
            let options = options::from_yaml_str("").unwrap().options;
            let mut manifests = Manifests::default();
            manifests.add(&"classes.yaml".into(), manifest.as_bytes());
            let metrics = Metrics::new("x").unwrap();
            let live = Arc::new(Live::new(offline::routing(manifests, &options), metrics.clone()));
            let operator = Subject { kind: Kind::ConfigMap, namespace: "w".into(), name: "w".into() };
            let problems =
                Arc::new(ProblemReports::new(Events::new(operator), Arc::clone(&live), metrics.clone()));
            let client = Client::new(service, "default");
            let requests = Requests::new(client, LeaseGuard::without_lease(), metrics.clone());
            let writer = ClassWriter::new(requests.clone(), "waybill", "waybill");
            let publisher = ClassPublisher::new(writer, live, problems, requests, AgentTotals::default());
            Self { publisher, metrics, patched }
        }
    }

    #[tokio::test]
    async fn a_status_that_is_refused_keeps_no_other_from_being_written() {
        let mut bench = Bench::new(CLASSES, |method, path| match *method {
            Method::GET => Err(404),
            Method::PATCH if path.ends_with("/a/status") => Err(403),
            Method::PATCH => Ok(Some(json!({"metadata": {}}))),
            _ => Ok(None),
        });
        let error = bench.publisher.write().await.unwrap_err();
        assert!(error.to_string().contains("IngressClassParameters a"), "{error}");
        let patched = bench.patched.lock().unwrap();
        assert!(patched.last().is_some_and(|path| path.ends_with("/b/status")), "{patched:?}");
    }

    /// From the first moment of a term, and whatever keeps the ConfigMap from being read or written.
    #[tokio::test]
    async fn without_its_memory_the_problems_and_statuses_of_classes_are_written_all_the_same() {
        let manifest = CLASSES.replace("{output: {name: b,", "{output: {name: NO,");
        let strangers =
            || Ok(Some(json!({"metadata": {"name": "waybill.classes", "namespace": "waybill", "uid": "u"}})));
        let cases: [(OfMemory, f64); 3] = [
            (|_| Err(403), 0.0),
            (|method| Err(if *method == Method::GET { 404 } else { 403 }), 0.0),
            (|_| Err(409), 1.0),
        ];
        for (memory, taken) in cases {
            let bench = Bench::new(&manifest, move |method, path| match *method {
                Method::PATCH => Ok(Some(json!({"metadata": {}}))),
                _ if path.contains("configmaps") && taken > 0.0 => strangers(),
                _ => memory(method),
            });
            let all_there = async {
                loop {
                    let text = bench.metrics.render().unwrap();
                    let shows = |line: &str| text.lines().any(|other| other == line);
                    let statuses = bench.patched.lock().unwrap().len();
                    if shows("waybill_problems{category=\"InvalidParameters\"} 2")
                        && shows(&format!("waybill_problems{{category=\"OutputNameTaken\"}} {taken}"))
                        && shows("waybill_ingressclasses{settings=\"current\"} 1")
                        && shows("waybill_ingressclasses{settings=\"not_accepted\"} 1")
                        && statuses >= 2
                    {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::select! {
                () = bench.publisher.run() => unreachable!("the guard has no end"),
                written = tokio::time::timeout(Duration::from_secs(10), all_there) => {
                    let text = bench.metrics.render().unwrap();
                    assert!(written.is_ok(), "{:?} {text}", bench.patched.lock().unwrap());
                }
            }
        }
    }
}
