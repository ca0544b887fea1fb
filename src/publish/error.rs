//! Errors of writes: the object, the answer of the API server, and the remedy.

use std::error::Error;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::metrics::WriteFailure;
use crate::redact::shown;
use crate::translate::problem::{Kind, Subject};

/// Maximum length of the API server's message.
const MESSAGE_LIMIT: usize = 400;

/// Replaces the API server's message when it refuses a Secret.
const NOT_SHOWN: &str = "(not shown because it could contain a key)";

/// Why a write, or a read before it, failed. What is published stays as it was. `object` is kind, namespace and name.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// 409.
    #[error(
        "{object}: changed by someone else in the meantime; it will be read again and the write repeated"
    )]
    Conflict { object: String },
    /// The object or its namespace does not exist (404).
    #[error("{object}: not found: {}; create the namespace, or set another one for the output", words(.source))]
    NotFound { object: String, source: Box<kube::Error> },
    /// Another answer, described by `failure`. If the connection was lost, the write may have been executed.
    #[error("{object}: {}", answer(*.failure, .source))]
    Api { object: String, failure: WriteFailure, source: Box<kube::Error> },
    /// No answer in time, or the API server dropped the request (504). The write may have been executed.
    #[error("{object}: no answer within {:.1} s; trying again", .waited.as_secs_f64())]
    Timeout { object: String, waited: Duration },
    /// The lease expired before the write could start, or a later leader has written.
    #[error("{object}: not written, since this replica no longer leads")]
    LeaseLost { object: String },
    /// The index was written by a newer release.
    #[error(
        "{object}: its format is {found} and this release writes {own}; run the newer release, or delete \
         the index so that it is written again"
    )]
    NewerFormat { object: String, found: u64, own: u64 },
    /// An object of that name belongs to someone else.
    #[error("{object}: it exists without waybill's labels, so it is left alone; {remedy}")]
    OutputNameTaken { object: String, taken: Box<Taken>, remedy: String },
    /// Two texts would have the same shard name. The writer has chosen another salt.
    #[error("{object}: two shards would have this name; all shards of the output get new names")]
    NameClash { object: String },
    /// A request that can't be built or sent.
    #[error("{object}: {}; report this as a bug", shown(&.source.to_string(), MESSAGE_LIMIT))]
    Other { object: String, source: Box<dyn Error + Send + Sync> },
}

/// An object with a name that waybill needs, which belongs to someone else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub subject: Subject,
    pub uid: String,
}

impl PublishError {
    /// The meaning of a client error for `object`, which was `waited` for at most. With `secret`, the API server's message is left out if it could
    /// repeat what was sent.
    pub(in crate::publish) fn new(
        object: String,
        mut error: kube::Error,
        secret: bool,
        waited: Duration,
    ) -> Self {
        let failure = failure(&error);
        if let kube::Error::Api(status) = &mut error
            && secret
            && !matches!(status.code, 401 | 404 | 413 | 429)
            && failure != WriteFailure::QuotaExceeded
        {
            status.message = NOT_SHOWN.to_owned();
            status.details = None;
        }
        let source = Box::new(error);
        match failure {
            WriteFailure::Conflict => Self::Conflict { object },
            WriteFailure::NotFound => Self::NotFound { object, source },
            WriteFailure::Timeout => Self::Timeout { object, waited },
            WriteFailure::Other => Self::Other { object, source },
            failure => Self::Api { object, failure, source },
        }
    }

    /// A request that can't be built or sent.
    pub(super) fn other(object: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Other { object: object.into(), source: Box::new(source) }
    }

    /// The object with this metadata has a name that waybill needs, but not waybill's labels.
    pub fn name_taken(kind: Kind, metadata: &ObjectMeta, remedy: String) -> Self {
        let subject = Subject::new(kind, metadata);
        let uid = metadata.uid.clone().unwrap_or_default();
        Self::OutputNameTaken { object: subject.to_string(), taken: Box::new(Taken { subject, uid }), remedy }
    }

    /// The category, as metrics and Events show it.
    pub fn category(&self) -> WriteFailure {
        match self {
            Self::Conflict { .. } | Self::NameClash { .. } => WriteFailure::Conflict,
            Self::NotFound { .. } => WriteFailure::NotFound,
            Self::Api { failure, .. } => *failure,
            Self::Timeout { .. } => WriteFailure::Timeout,
            Self::LeaseLost { .. } => WriteFailure::NotLeader,
            Self::NewerFormat { .. } => WriteFailure::NewerFormat,
            Self::OutputNameTaken { .. } => WriteFailure::NameTaken,
            Self::Other { .. } => WriteFailure::Other,
        }
    }

    /// Whether nobody has to act: it resolves by a repetition, or another replica leads.
    pub fn is_passing(&self) -> bool {
        self.is_transient() || matches!(self.category(), WriteFailure::Conflict | WriteFailure::NotLeader)
    }

    /// Whether the same request may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        use WriteFailure::{ServerError, Throttled, Timeout, Unreachable};
        matches!(self.category(), Throttled | Timeout | ServerError | Unreachable)
    }

    /// Whether it took long to fail, so that a repetition would delay others.
    pub fn is_slow(&self) -> bool {
        matches!(self.category(), WriteFailure::Timeout | WriteFailure::Unreachable)
    }

    /// Whether the write may have been executed although it failed here.
    pub fn is_ambiguous(&self) -> bool {
        use WriteFailure::{Conflict, Other, ServerError, Timeout, Unreachable};
        matches!(self.category(), Timeout | ServerError | Unreachable | Conflict | Other)
    }
}

/// Keeps repeated failures out of the log.
#[derive(Debug, Default)]
pub(super) struct FailureLog(Option<(Instant, WriteFailure)>);

impl FailureLog {
    /// Whether to log a failure: its category differs from the last one's, or a minute has passed.
    pub(super) fn is_news(&mut self, error: &PublishError, now: Instant) -> bool {
        let category = error.category();
        let news = self.0.is_none_or(|(at, last)| {
            last != category || now.saturating_duration_since(at) >= Duration::from_secs(60)
        });
        if news {
            self.0 = Some((now, category));
        }
        news
    }
}

/// The category of an error of the client.
pub(super) fn failure(error: &kube::Error) -> WriteFailure {
    match error {
        kube::Error::Api(status) => match status.code {
            // The second is the message while the quota controller has not counted yet.
            403 if status.message.contains("exceeded quota")
                || status.message.contains("status unknown for quota") =>
            {
                WriteFailure::QuotaExceeded
            }
            401 | 403 => WriteFailure::Forbidden,
            404 => WriteFailure::NotFound,
            409 => WriteFailure::Conflict,
            413 => WriteFailure::TooLarge,
            400 | 422 => WriteFailure::Invalid,
            429 => WriteFailure::Throttled,
            504 => WriteFailure::Timeout,
            500..=599 => WriteFailure::ServerError,
            _ => WriteFailure::Other,
        },
        // The last three are incomplete answers.
        kube::Error::HyperError(_)
        | kube::Error::Service(_)
        | kube::Error::SerdeError(_)
        | kube::Error::FromUtf8(_)
        | kube::Error::ReadEvents(_) => WriteFailure::Unreachable,
        _ => WriteFailure::Other,
    }
}

/// The meaning of an answer, its text, and the remedy.
fn answer(failure: WriteFailure, error: &kube::Error) -> String {
    let (what, remedy) = match failure {
        WriteFailure::Forbidden => {
            ("refused", "grant the right (manifests/base/role.yaml) or fix the policy")
        }
        WriteFailure::QuotaExceeded => ("refused by a quota", "raise the ResourceQuota of its namespace"),
        WriteFailure::TooLarge => ("too large for the API server", "raise its request size limit"),
        WriteFailure::Invalid => (
            "invalid",
            "look for an admission policy that changes or refuses it; otherwise report this as a bug",
        ),
        WriteFailure::Throttled => ("the API server is busy", "trying again"),
        WriteFailure::Unreachable => ("no answer from the API server", "trying again"),
        _ => ("the API server failed", "trying again"),
    };
    format!("{what}: {}; {remedy}", words(error))
}

/// The shown part of an answer: one line of limited length.
fn words(error: &kube::Error) -> String {
    let text = match error {
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) | kube::Error::ReadEvents(_) => {
            "the answer is cut off or not JSON".to_owned()
        }
        error => error.to_string(),
    };
    shown(&text, MESSAGE_LIMIT).replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answered(code: u16, message: &str, secret: bool) -> PublishError {
        let status = Status { code, message: message.to_owned(), ..Status::default() };
        PublishError::new(
            "ConfigMap a/b".into(),
            kube::Error::Api(Box::new(status)),
            secret,
            Duration::from_secs(1),
        )
    }

    #[test]
    fn a_quota_is_told_from_a_missing_right() {
        let error = answered(403, "forbidden: exceeded quota: q, used", false);
        assert_eq!(error.category(), WriteFailure::QuotaExceeded);
        assert!(error.to_string().starts_with("ConfigMap a/b: refused by a quota"), "{error}");
        assert_eq!(answered(403, "no right", false).category(), WriteFailure::Forbidden);
    }

    #[test]
    fn the_answer_is_the_source() {
        let error = answered(422, "no shards today", false);
        let source = error.source().unwrap().downcast_ref::<Box<kube::Error>>();
        assert!(matches!(source.map(|error| &**error), Some(kube::Error::Api(status)) if status.code == 422));
    }

    #[test]
    fn a_refused_secret_is_not_quoted() {
        for code in [400, 403, 422, 500, 418] {
            let error = answered(code, "the key is hush", true);
            let mut chain = format!("{error} {error:?}");
            if let Some(source) = error.source() {
                chain.push_str(&source.to_string());
            }
            assert!(!chain.contains("hush"), "{chain}");
        }
    }

    #[test]
    fn long_words_are_cut_between_characters_and_stay_one_line() {
        let error = answered(429, &"é\n".repeat(1_000), false);
        assert!(error.to_string().len() < 600);
        assert!(!error.to_string().contains('\n'));
    }

    #[test]
    fn a_timeout_of_the_server_says_how_long_was_waited() {
        let error = answered(504, "timeout", false).to_string();
        assert!(error.contains("no answer within 1.0 s"), "{error}");
    }

    #[test]
    fn a_write_that_may_have_been_done_is_told_from_one_that_was_not() {
        for (code, ambiguous, transient) in [
            (403, false, false),
            (409, true, false),
            (429, false, true),
            (500, true, true),
            (504, true, true),
        ] {
            let error = answered(code, "", false);
            assert_eq!((error.is_ambiguous(), error.is_transient()), (ambiguous, transient), "{code}");
        }
    }
}
