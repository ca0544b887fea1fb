//! The texts of Events: reasons, notes and names.
//!
//! In events.k8s.io, only the series of an existing Event can change. So an Event's name is a hash of its text: another
//! text is another Event, and a later leader finds the existing one.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::redact::shown;
use crate::translate::problem::{Category, Problem, Subject};

/// The maximum number of Events of an object at a time, including the one that sums up the rest.
pub const PER_OBJECT: usize = 10;
/// Maximum length of a note; the API server accepts 1,024.
pub const NOTE_LIMIT: usize = 1_000;
/// Maximum length of an object's name within an Event's name.
const NAME_LIMIT: usize = 253 - 1 - HASH;
/// Characters of the hash in an Event's name.
const HASH: usize = 16;

/// An Event without its object and times.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventText {
    pub name: String,
    /// A [`Category`], or that it is resolved.
    pub reason: String,
    pub note: String,
    /// `Normal` or `Warning`.
    pub kind: &'static str,
}

/// The subject of an Event within its object. It stays the same when the text changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EventTopic {
    /// None for the Event that sums up the rest.
    category: Option<Category>,
    field: String,
}

/// The Events that an object should have.
#[derive(Debug)]
pub(super) struct ObjectEvents {
    pub events: BTreeMap<EventText, EventTopic>,
    /// Topics of problems without an Event of their own.
    pub hidden: BTreeSet<EventTopic>,
    /// How many problems those are.
    pub suppressed: u64,
}

/// The Events for these problems.
pub(super) fn object_events(uid: &str, subject: &Subject, problems: &[Problem]) -> ObjectEvents {
    let mut problems: Vec<&Problem> = problems.iter().collect();
    problems.sort_unstable();
    problems.dedup();
    let one_by_one = if problems.len() > PER_OBJECT { PER_OBJECT - 1 } else { problems.len() };
    let (one_by_one, rest) = problems.split_at(one_by_one);
    let mut events: BTreeMap<EventText, EventTopic> = one_by_one
        .iter()
        .map(|problem| {
            let reason = problem.category.as_str();
            let note = note(problem);
            let name = name(uid, subject, &[reason, &problem.field, &note]);
            let event = EventText { name, reason: reason.to_owned(), note, kind: "Warning" };
            (event, topic(problem))
        })
        .collect();
    if !rest.is_empty() {
        let mut counts: BTreeMap<Category, usize> = BTreeMap::new();
        for problem in rest {
            *counts.entry(problem.category).or_default() += 1;
        }
        let counts: Vec<String> =
            counts.iter().map(|(category, count)| format!("{count} of {category}")).collect();
        let note = shown(&format!("and {} more problems: {}", rest.len(), counts.join(", ")), NOTE_LIMIT);
        let reason = "MoreProblems";
        let name = name(uid, subject, &[reason, &note]);
        let event = EventText { name, reason: reason.to_owned(), note, kind: "Warning" };
        events.insert(event, EventTopic { category: None, field: String::new() });
    }
    let hidden = rest.iter().map(|problem| topic(problem)).collect();
    ObjectEvents { events, hidden, suppressed: rest.len() as u64 }
}

fn topic(problem: &Problem) -> EventTopic {
    EventTopic { category: Some(problem.category), field: problem.field.clone() }
}

/// The Event on `operator` with the number of waiting objects.
pub(super) fn delayed(operator: &Subject, waiting: usize, per_second: u32) -> EventText {
    let note = format!(
        "the problems of {waiting} objects are not reported as Events yet, because at most {per_second} Events \
         are written per second; the metric waybill_problems counts all problems"
    );
    let reason = "EventsDelayed";
    let name = name("", operator, &[reason, &note]);
    EventText { name, reason: reason.to_owned(), note, kind: "Warning" }
}

/// The Event for a resolved problem.
pub(super) fn resolved(uid: &str, subject: &Subject, event: &EventText, topic: &EventTopic) -> EventText {
    let reason = format!("{}Resolved", event.reason);
    let name = name(uid, subject, &[&reason, &topic.field, &event.note]);
    let note = if topic.field.is_empty() {
        "every problem has an Event of its own again".to_owned()
    } else {
        shown(&format!("{}: no longer a problem", topic.field), NOTE_LIMIT)
    };
    EventText { name, reason, note, kind: "Normal" }
}

/// Field, value and remedy.
fn note(problem: &Problem) -> String {
    let Problem { field, value, remedy, .. } = problem;
    if value.is_empty() {
        return shown(&format!("{field}: {remedy}"), NOTE_LIMIT);
    }
    shown(&format!("{field}: {value:?}: {remedy}"), NOTE_LIMIT)
}

/// The object's name, shortened, and a hash of the object, its uid and the Event's text.
fn name(uid: &str, subject: &Subject, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in [uid, subject.kind.as_str(), &subject.namespace, &subject.name].iter().chain(parts) {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let hash: String = hash.finalize().iter().take(HASH / 2).map(|byte| format!("{byte:02x}")).collect();
    let end = subject.name.floor_char_boundary(NAME_LIMIT);
    let start = subject.name[..end].trim_end_matches(['.', '-']);
    format!("{start}.{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::problem::Kind;

    fn problem(category: Category, field: &str, value: &str) -> Problem {
        Problem {
            category,
            subject: Subject { kind: Kind::Ingress, namespace: "ns".into(), name: "web".into() },
            field: field.into(),
            value: value.into(),
            remedy: "fix it".into(),
        }
    }

    #[test]
    fn notes_are_cut_between_characters_and_show_no_key() {
        let long = problem(Category::InvalidAnnotation, &"é".repeat(2_000), "x");
        let note = note(&long);
        assert!(note.len() <= NOTE_LIMIT && note.ends_with('…'), "{}", note.len());
        let key = problem(Category::InvalidSecret, "f", "-----BEGIN PRIVATE KEY-----");
        assert_eq!(super::note(&key), r#"f: "(not shown)": fix it"#);
    }
}
