//! The status of an IngressClassParameters, and when to write it: conditions at once, counts at most every 30 seconds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::resolve::{Standing, Verdict};
use super::resource::{ClassCounts, Condition, IngressClassParametersStatus, MAX_ENTRIES};
use crate::redact::shown;
use crate::translate::problem::Category;

/// Minimum time between two writes that change only counts.
pub const COUNTS_EVERY: Duration = Duration::from_secs(30);

/// Bytes of a condition's message.
const MESSAGE_LIMIT: usize = 4096;

const ACCEPTED: &str = "Accepted";
const PUBLISHED: &str = "Published";
const READY: &str = "Ready";

/// Whether the last commit contains the current routing of the classes that name one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    Committed,
    Pending,
    /// Commits are on hold: someone has to decide.
    Held(Category),
    /// Commits fail, with the metric's category of the error.
    Failing(&'static str),
}

/// The state of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    pub generation: Option<i64>,
    /// Whether it is accepted; `None` while no class of ours names it.
    pub accepted: Option<Verdict>,
    pub classes: BTreeMap<Arc<str>, Standing>,
    pub publication: Publication,
    pub counts: ClassCounts,
    pub known: CountsKnown,
}

/// The counts that a leader knows. Before its first commit it has not cut the routing into shards, and agents have to
/// be listed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountsKnown {
    pub shards: bool,
    pub agents: bool,
}

/// The status for an observation. `before` is the existing one: a condition whose status is unchanged keeps its time,
/// and conditions of other types stay as they are.
pub fn status(
    observed: &Observed,
    before: Option<&IngressClassParametersStatus>,
    now: Timestamp,
) -> IngressClassParametersStatus {
    let (status, reason, message) = match &observed.accepted {
        Some(verdict) => (verdict.status(), verdict.reason.as_str(), accepted_message(observed, verdict)),
        None => ("Unknown", "NotUsed", "no IngressClass of waybill names this object".to_owned()),
    };
    let accepted = (ACCEPTED, status, reason, message);
    let (status, reason, message) = published(observed, before);
    let published = (PUBLISHED, status, reason, message);
    let (status, reason, message) = match (accepted.1, status) {
        ("True", "True") => ("True", "Ready", "the settings apply and are published".to_owned()),
        ("True", _) => (published.1, published.2, published.3.clone()),
        _ => (accepted.1, accepted.2, accepted.3.clone()),
    };
    let ready = (READY, status, reason, message);
    let condition = |(type_, status, reason, message): (&str, &str, &str, String)| {
        let held = before
            .and_then(|before| before.conditions.iter().find(|held| held.type_ == type_))
            .filter(|held| held.status == status);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            observed_generation: observed.generation,
            last_transition_time: held
                .map_or_else(|| Time(seconds(now)), |held| held.last_transition_time.clone()),
            reason: reason.to_owned(),
            message: shown(&message, MESSAGE_LIMIT),
        }
    };
    IngressClassParametersStatus {
        observed_generation: observed.generation,
        conditions: vec![condition(accepted), condition(published), condition(ready)],
        ingress_classes: observed.classes.keys().take(MAX_ENTRIES).map(|class| class.to_string()).collect(),
        counts: observed.counts,
    }
}

fn accepted_message(observed: &Observed, verdict: &Verdict) -> String {
    if verdict.status() == "True" {
        return "the settings apply".to_owned();
    }
    let names = |standing| {
        let names: Vec<&str> =
            observed.classes.iter().filter(|class| *class.1 == standing).map(|class| &**class.0).collect();
        let more = names.len().saturating_sub(8);
        let mut names = names.into_iter().take(8).collect::<Vec<_>>().join(", ");
        if more > 0 {
            names.push_str(&format!(" and {more} more"));
        }
        names
    };
    let (last, none) = (names(Standing::LastAccepted), names(Standing::NotAccepted));
    let mut message = verdict.message.clone();
    if !last.is_empty() {
        message.push_str(&format!("; the last accepted settings still apply to {last}"));
    }
    if !none.is_empty() {
        message.push_str(&format!("; there is no routing yet for {none}"));
    }
    message
}

fn published<'a>(
    observed: &Observed,
    before: Option<&'a IngressClassParametersStatus>,
) -> (&'a str, &'a str, String) {
    if observed.accepted.is_none() {
        return ("False", "NotUsed", "no IngressClass of waybill names this object".to_owned());
    }
    if observed.classes.values().all(|standing| *standing == Standing::NotAccepted) {
        return ("False", "NotAccepted", "there is no routing until the settings are accepted".to_owned());
    }
    // A new leader keeps the last leader's result for these settings until it knows more.
    let stands = |held: &&Condition| {
        held.type_ == PUBLISHED
            && held.observed_generation == observed.generation
            && !matches!(&*held.reason, "NotUsed" | "NotAccepted")
    };
    if observed.publication == Publication::Pending
        && let Some(held) = before.and_then(|before| before.conditions.iter().find(stands))
    {
        return (&held.status, &held.reason, held.message.clone());
    }
    match observed.publication {
        Publication::Committed => (
            "True",
            "Committed",
            "the last commit contains the current \
            routing"
                .to_owned(),
        ),
        Publication::Pending => ("False", "Pending", "changes wait for the next commit".to_owned()),
        Publication::Held(category) => {
            ("False", category.as_str(), format!("nothing is committed for now: {category}"))
        }
        Publication::Failing(category) => {
            ("False", "CommitFailed", format!("the last commit did not succeed: {category}"))
        }
    }
}

/// What was written about every object, and when. There is one for each term of a leader.
#[derive(Debug, Default)]
pub struct Ledger {
    held: HashMap<Arc<str>, Held>,
}

#[derive(Debug, Default)]
struct Held {
    status: Option<IngressClassParametersStatus>,
    written: Option<Instant>,
}

impl Ledger {
    /// The status of an object according to a watch; `Null` if there is none. Foreign changes, and a status that can't
    /// be parsed, are corrected by the next [`Ledger::due`].
    pub fn seen(&mut self, object: &str, status: &Value) {
        self.held.entry(object.into()).or_default().status = serde_json::from_value(status.clone()).ok();
    }

    /// A write of this status was confirmed.
    pub fn written(&mut self, object: &str, status: IngressClassParametersStatus, at: Instant) {
        self.held.insert(object.into(), Held { status: Some(status), written: Some(at) });
    }

    /// Whether a status may be written in which only the counts differ.
    pub fn counts_may_be_written(&self, object: &str, now: Instant) -> bool {
        let written = self.held.get(object).and_then(|held| held.written);
        written.is_none_or(|at| now.saturating_duration_since(at) >= COUNTS_EVERY)
    }

    /// The object was deleted.
    pub fn forget(&mut self, object: &str) {
        self.held.remove(object);
    }

    /// The status to write now, if any. If only the counts differ, it waits for a while. `now` is monotonic; `wall` is
    /// for times in the status.
    pub fn due(
        &self,
        object: &str,
        observed: &Observed,
        now: Instant,
        wall: Timestamp,
    ) -> Option<IngressClassParametersStatus> {
        let held = self.held.get(object);
        let before = held.and_then(|held| held.status.as_ref());
        let mut wanted = status(observed, before, wall);
        let Some(before) = before else { return Some(wanted) };
        if !observed.known.shards {
            wanted.counts.shards = before.counts.shards;
        }
        if !observed.known.agents {
            wanted.counts.agents = before.counts.agents;
            wanted.counts.updated_agents = before.counts.updated_agents;
        }
        if says_the_same(before, &wanted) {
            return None;
        }
        if !says_the_same(&IngressClassParametersStatus { counts: before.counts, ..wanted.clone() }, before) {
            return Some(wanted);
        }
        self.counts_may_be_written(object, now).then_some(wanted)
    }
}

/// Whether `before` contains everything in `wanted`. Conditions of other types belong to others.
fn says_the_same(before: &IngressClassParametersStatus, wanted: &IngressClassParametersStatus) -> bool {
    let held = IngressClassParametersStatus { conditions: wanted.conditions.clone(), ..before.clone() };
    held == *wanted && wanted.conditions.iter().all(|condition| before.conditions.contains(condition))
}

/// Kubernetes stores whole seconds.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests;
