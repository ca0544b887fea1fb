//! Writes what a leader publishes about classes: the last accepted settings, the status of their parameters, and their
//! problems.
//!
//! ```text
//! Live ─▶ remember accepted settings (ConfigMap) ─▶ report problems ─▶ status of each IngressClassParameters
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::kubernetes::key::{ObjectKey, OutputKey};
use crate::metrics::ClassStatus;
use crate::operator::agents::AgentTotals;
use crate::operator::live::Live;
use crate::operator::problems::{ProblemReports, ReportedBy};
use crate::pace::Backoff;
use crate::parameters::IngressClassParametersStatus;
use crate::parameters::resolve::{Reason, Standing};
use crate::parameters::resource::ClassCounts;
use crate::parameters::status::{CountsKnown, Ledger};
use crate::publish::PublishError;
use crate::publish::Requests;
use crate::publish::outputs::refused;
use crate::publish::statuses::class_statuses::{ClassWriter, Written};
use crate::routing::Routing;
use crate::translate::problem::{Category, Problem};

/// How often the counts in statuses are computed. They are written less often.
const LOOK: Duration = Duration::from_secs(5);

/// How often the lease is checked.
const PULSE: Duration = Duration::from_millis(500);

/// The first and the longest delay after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The totals over the classes that name an object, and their last changes then.
struct LastCounts {
    counts: ClassCounts,
    changes: Vec<(Arc<str>, u64)>,
}

/// Writes about classes for one term.
pub struct ClassPublisher {
    writer: ClassWriter,
    live: Arc<Live>,
    problems: Arc<ProblemReports>,
    requests: Requests,
    agents: AgentTotals,
    ledger: Ledger,
    /// What was counted of parameters.
    counted: HashMap<Arc<str>, LastCounts>,
    /// Classes whose problems were reported.
    reported: BTreeSet<Arc<str>>,
    /// Parameters that a class has named in this term.
    used: BTreeSet<Arc<str>>,
    /// Whether the settings stored by the last leader have been loaded. Until then nothing may replace them.
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
            counted: HashMap::new(),
            reported: BTreeSet::new(),
            used: BTreeSet::new(),
            adopted: false,
        }
    }

    /// Writes until the guard allows no more. Cancel-safe.
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

    /// Reports what keeps the ConfigMap from being written, if only a person can fix it: a refusal, or somebody else's
    /// ConfigMap with its name. The problem exists until our ConfigMap is up to date.
    fn memory_refused(&self, error: &PublishError) {
        let PublishError::OutputNameTaken { taken, remedy, .. } = error else {
            const EFFECT: &str =
                "a class whose parameters are refused at a restart may have older settings then, or none";
            if let Some(problem) = refused(self.writer.subject(), error, EFFECT) {
                let held =
                    self.live.routing().stores().class_memory().iter().next().map(|(_, map)| Arc::clone(map));
                let uid = held.and_then(|map| map.metadata.uid.clone());
                self.problems.set_uid(&problem.subject, uid.as_deref().unwrap_or_default());
                self.problems.set(ReportedBy::ClassMemory, vec![problem]);
            }
            return;
        };
        self.problems.set_uid(&taken.subject, &taken.uid);
        let problem = Problem {
            category: Category::OutputNameTaken,
            subject: taken.subject.clone(),
            field: "metadata.labels".to_owned(),
            value: String::new(),
            remedy: format!(
                "waybill stores the settings of classes under this name, but the object lacks waybill's \
                 labels; {remedy}"
            ),
        };
        self.problems.set(ReportedBy::ClassMemory, vec![problem]);
    }

    /// Loads the settings stored by the last leader, which the watch may not have shown yet.
    async fn adopt(&self) -> Result<(), PublishError> {
        let map = self.writer.read_memory().await?;
        let mut routing = self.live.routing();
        for key in routing.adopt_class_memory(map.as_ref()) {
            tracing::warn!(key, "the stored settings of this class cannot be read and are ignored");
        }
        self.live.resolve_classes(&mut routing);
        Ok(())
    }

    /// Stores, reports and writes statuses. A failure of one does not stop the others.
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
        let objects = {
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
            objects
        };
        let mut refused = Ok(());
        for object in objects {
            let live = Arc::clone(&self.live);
            let Some(status) = self.due(&live.routing(), &object) else { continue };
            match self.writer.write_status(&object, &status).await {
                Ok(Written::Gone) => {
                    self.ledger.forget(&object);
                    self.counted.remove(&object);
                    self.used.remove(&object);
                }
                Ok(Written::Done | Written::Unchanged) => {
                    self.ledger.written(&object, status, Instant::now());
                }
                Err(error @ PublishError::LeaseLost { .. }) => return Err(error),
                // The others still get theirs.
                Err(error) => refused = refused.and(Err(error)),
            }
        }
        refused
    }

    /// Reports the problems of classes, and the number of classes by their settings.
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

    /// The status of an object that is due. Its counts are computed again only if they would be written and something
    /// changed, since that iterates over every Ingress of its classes.
    fn due(&mut self, routing: &Routing, object: &Arc<str>) -> Option<IngressClassParametersStatus> {
        let now = Instant::now();
        let changes = changes(routing, object);
        if let Some(counted) = self.counted.get(object) {
            let status = self.due_with(routing, object, counted.counts, now);
            let may_change = status.is_some() || self.ledger.counts_may_be_written(object, now);
            if counted.changes == changes || !may_change {
                return status;
            }
        }
        let counts = counts(routing, object);
        self.counted.insert(Arc::clone(object), LastCounts { counts, changes });
        self.due_with(routing, object, counts, now)
    }

    fn due_with(
        &self,
        routing: &Routing,
        object: &Arc<str>,
        mut counts: ClassCounts,
        now: Instant,
    ) -> Option<IngressClassParametersStatus> {
        let outputs = outputs(routing, object);
        // First, because what was committed was counted before.
        let publication = self.live.publication(&outputs);
        counts.shards = shards(routing, &outputs);
        let agents = self.agents.of(&outputs);
        (counts.agents, counts.updated_agents) = agents.unwrap_or_default();
        let known = CountsKnown { shards: self.agents.are_committed(&outputs), agents: agents.is_some() };
        let observed = routing.classes().observed(routing.stores(), object, publication, counts, known);
        let pending = observed.accepted.as_ref().is_some_and(|verdict| verdict.reason == Reason::Pending);
        if pending {
            return None;
        }
        self.ledger.due(object, &observed, now, Timestamp::now())
    }
}

/// Parameters whose status names classes although no class names them: the classes were deleted while no replica was
/// running.
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

/// The totals over the classes that name an object, without shards and agents.
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
    counts
}

/// The last change of each class that names an object.
fn changes(routing: &Routing, object: &str) -> Vec<(Arc<str>, u64)> {
    let classes = routing.classes().iter().filter(|(_, one)| one.object.as_deref() == Some(object));
    classes.map(|(class, _)| (Arc::clone(class), routing.last_change(class))).collect()
}

fn shards(routing: &Routing, outputs: &BTreeSet<OutputKey>) -> u64 {
    let outputs = outputs.iter().filter_map(|output| routing.table().output(output));
    outputs.map(|output| output.routing_shards().count() + output.key_shards().count()).sum::<usize>() as u64
}

#[cfg(test)]
#[path = "class_publisher/tests.rs"]
mod tests;
