//! Reports a failed commit on the object where users will look, if somebody has to fix it. Also decides when to give up
//! an output for which the API server refuses everything.

use std::time::{Duration, Instant};

use crate::kubernetes::key::OutputKey;
use crate::metrics::{Label as _, WriteFailure};
use crate::publish::error::PublishError;
use crate::publish::outputs::withdrawal::index_subject;
use crate::translate::problem::{Category, Problem, Subject};

/// An output that no class has is given up once everything there has been refused for this time. The rights in a
/// namespace are deleted with it, so a deleted namespace looks like a missing right.
pub const GIVE_UP: Duration = Duration::from_secs(300);

/// Since when all requests about an output that no class has are refused.
#[derive(Debug, Default)]
pub struct Refusals {
    since: Option<Instant>,
    are_final: bool,
}

impl Refusals {
    /// A request failed. `retired` says whether no class has the output; others do not count.
    pub fn note(&mut self, error: &PublishError, now: Instant, retired: impl FnOnce() -> bool) {
        if !matches!(error.category(), WriteFailure::Forbidden | WriteFailure::NotFound) {
            return;
        }
        if !retired() {
            return self.reset();
        }
        let since = *self.since.get_or_insert(now);
        self.are_final = now.saturating_duration_since(since) >= GIVE_UP;
    }

    /// A request succeeded.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether the last request was refused.
    pub fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// Whether it is useless to ask again.
    pub fn are_final(&self) -> bool {
        self.are_final
    }
}

/// A failed commit as a problem, and the uid of the object concerned if it is known. `None` for temporary failures.
///
/// Its text is the same at every attempt, since another text would be another Event. The API server's message is
/// logged.
pub fn refusal_problem(
    output: &OutputKey,
    index_uid: Option<&str>,
    error: &PublishError,
) -> Option<(Problem, String)> {
    if let PublishError::OutputNameTaken { object, taken, remedy } = error {
        let problem = Problem {
            category: Category::OutputNameTaken,
            subject: taken.subject.clone(),
            field: "metadata.labels".to_owned(),
            value: Problem::shown(object),
            remedy: format!("it has the name that output {output} needs, without waybill's labels; {remedy}"),
        };
        return Some((problem, taken.uid.clone()));
    }
    let problem = refused(index_subject(output), error, "the last commit stays as it is")?;
    Some((problem, index_uid.unwrap_or_default().to_owned()))
}

/// The problem of an object that cannot be written until somebody acts, with what follows from that. `None` for temporary
/// failures.
pub fn refused(subject: Subject, error: &PublishError, effect: &str) -> Option<Problem> {
    let remedy = match error {
        PublishError::Api { failure: WriteFailure::QuotaExceeded, .. } => {
            "a ResourceQuota of its namespace leaves no room for an object; raise it"
        }
        PublishError::Api { failure: WriteFailure::Forbidden, .. } => {
            "the API server refuses to write an object; grant the right (manifests/base/role.yaml), or fix the \
             admission policy"
        }
        PublishError::Api { failure: WriteFailure::TooLarge, .. } => {
            "the API server refuses an object because of its size; raise its request size limit"
        }
        PublishError::Api { failure: WriteFailure::Invalid, .. } => {
            "the API server finds an object invalid; look for an admission policy or webhook"
        }
        PublishError::NewerFormat { .. } => {
            "a newer release wrote the index; run that release, or delete the index so that it is \
                written again"
        }
        _ => return None,
    };
    Some(Problem {
        category: Category::PublishRefused,
        subject,
        field: "data".to_owned(),
        value: error.category().as_str().to_owned(),
        remedy: format!("{remedy}; {effect}, and the leader's log has the answer"),
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use kube::core::Status;

    use super::*;
    use crate::translate::problem::Kind;

    fn output() -> OutputKey {
        OutputKey::new("ns", "out")
    }

    #[test]
    fn a_taken_name_is_told_on_the_object_that_has_it() {
        let metadata = ObjectMeta {
            namespace: Some("ns".into()),
            name: Some("out.k-aaaaaaaaaaaa".into()),
            uid: Some("u".into()),
            ..ObjectMeta::default()
        };
        let error = PublishError::name_taken(Kind::Secret, &metadata, "delete it".into());
        let (problem, uid) = refusal_problem(&output(), Some("index"), &error).unwrap();
        assert_eq!(
            (problem.subject.to_string().as_str(), uid.as_str()),
            ("Secret ns/out.k-aaaaaaaaaaaa", "u")
        );
        assert!(
            problem.remedy.contains("output ns/out") && problem.remedy.ends_with("delete it"),
            "{problem}"
        );
    }

    #[test]
    fn only_an_output_without_a_class_is_given_up_and_only_where_nothing_was_granted_for_long() {
        let answered = |code: u16| {
            let status = Status { code, ..Status::default() };
            PublishError::new(
                "ConfigMap ns/out".to_owned(),
                kube::Error::Api(Box::new(status)),
                false,
                Duration::from_secs(1),
            )
        };
        let start = Instant::now();
        let mut refusals = Refusals::default();
        refusals.note(&answered(403), start, || false);
        assert!(!refusals.has_begun(), "a class has it");
        refusals.note(&answered(500), start, || true);
        assert!(!refusals.has_begun(), "that says nothing about rights");
        refusals.note(&answered(403), start, || true);
        assert!(refusals.has_begun() && !refusals.are_final());
        refusals.note(&answered(404), start + GIVE_UP - Duration::from_secs(1), || true);
        refusals.note(&answered(500), start + GIVE_UP, || true);
        assert!(!refusals.are_final());
        refusals.note(&answered(404), start + GIVE_UP, || true);
        assert!(refusals.are_final());
        refusals.note(&answered(404), start + GIVE_UP, || false);
        assert!(!refusals.are_final() && !refusals.has_begun(), "a class has it again");
        refusals.note(&answered(403), start, || true);
        refusals.reset();
        refusals.note(&answered(403), start + GIVE_UP, || true);
        assert!(!refusals.are_final(), "something was granted meanwhile");
    }

    #[test]
    fn a_refusal_is_told_in_the_same_words_each_time_and_what_passes_is_not_told() {
        let answered = |code: u16, message: &str| {
            let status = Status { code, message: message.to_owned(), ..Status::default() };
            PublishError::new(
                "ConfigMap ns/out.r-x".to_owned(),
                kube::Error::Api(Box::new(status)),
                false,
                Duration::from_secs(1),
            )
        };
        let quota = |used: &str| answered(403, &format!("exceeded quota, used {used}"));
        let first = refusal_problem(&output(), Some("u"), &quota("3"));
        assert_eq!(first, refusal_problem(&output(), Some("u"), &quota("4")));
        let (problem_, uid) = first.unwrap();
        assert_eq!((problem_.category, uid.as_str()), (Category::PublishRefused, "u"));
        assert_eq!(problem_.value, "quota_exceeded");
        for passing in [
            answered(409, ""),
            answered(429, ""),
            answered(500, ""),
            PublishError::LeaseLost { object: "x".into() },
        ] {
            assert_eq!(refusal_problem(&output(), None, &passing), None, "{passing}");
        }
    }
}
