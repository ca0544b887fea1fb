//! What a failed commit tells beside log and metrics: only what somebody has to mend, and where they will look.

use crate::kubernetes::key::OutputKey;
use crate::metrics::Label as _;
use crate::publish::error::PublishError;
use crate::publish::outputs::withdrawal::index_subject;
use crate::translate::problem::{Category, Problem};

/// The problem that a failed commit is, and the uid of the object that it is about where that is known. `None` for
/// what passes by itself.
///
/// Its words are the same at every attempt, since other words are another Event; the API server's own are logged.
pub fn problem(
    output: &OutputKey,
    index_uid: Option<&str>,
    error: &PublishError,
) -> Option<(Problem, String)> {
    let refused = |remedy: &str| {
        let problem = Problem {
            category: Category::PublishRefused,
            subject: index_subject(output),
            field: "data".to_owned(),
            value: error.category().as_str().to_owned(),
            remedy: format!("{remedy}; the last commit stays as it is, and the leader's log has the answer"),
        };
        Some((problem, index_uid.unwrap_or_default().to_owned()))
    };
    match error {
        PublishError::OutputNameTaken { object, taken, remedy } => {
            let problem = Problem {
                category: Category::OutputNameTaken,
                subject: taken.subject.clone(),
                field: "metadata.labels".to_owned(),
                value: Problem::shown(object),
                remedy: format!(
                    "it has the name that output {output} needs, without waybill's labels; {remedy}"
                ),
            };
            Some((problem, taken.uid.clone()))
        }
        PublishError::QuotaExceeded { .. } => {
            refused("a ResourceQuota of the output's namespace leaves no room for an object; raise it")
        }
        PublishError::Forbidden { .. } => refused(
            "the API server refuses to write an object; grant the right (manifests/base/role.yaml), or mend the \
             admission policy",
        ),
        PublishError::TooLarge { .. } => {
            refused("the API server takes nothing of an object's size; raise its request limit")
        }
        PublishError::Invalid { .. } => {
            refused("the API server finds an object invalid; look for an admission policy or webhook")
        }
        PublishError::NewerFormat { .. } => {
            refused("a newer release wrote the index; run that, or delete the index to have it written anew")
        }
        _ => None,
    }
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
        let (problem, uid) = problem(&output(), Some("index"), &error).unwrap();
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
    fn a_refusal_is_told_in_the_same_words_each_time_and_what_passes_is_not_told() {
        let answered = |code: u16, message: &str| {
            let status = Status { code, message: message.to_owned(), ..Status::default() };
            PublishError::new("ConfigMap ns/out.r-x".to_owned(), kube::Error::Api(Box::new(status)), false)
        };
        let quota = |used: &str| answered(403, &format!("exceeded quota, used {used}"));
        let first = problem(&output(), Some("u"), &quota("3"));
        assert_eq!(first, problem(&output(), Some("u"), &quota("4")));
        let (problem_, uid) = first.unwrap();
        assert_eq!((problem_.category, uid.as_str()), (Category::PublishRefused, "u"));
        assert_eq!(problem_.value, "quota_exceeded");
        for passing in [
            answered(409, ""),
            answered(429, ""),
            answered(500, ""),
            PublishError::LeaseLost { object: "x".into() },
        ] {
            assert_eq!(problem(&output(), None, &passing), None, "{passing}");
        }
    }
}
