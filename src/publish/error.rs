//! Why a write failed, said so that an operator knows which object it was and what to do.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::Status;

use crate::metrics::WriteResult;
use crate::translate::problem::{Kind, Subject};

/// Bytes of the API server's own words that are shown.
const MESSAGE_LIMIT: usize = 400;

/// Why a write, or what had to be read for it, failed. What is published stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Someone else wrote in between (409).
    #[error("{object}: someone else changed it in between; it is read again and the write repeated")]
    Conflict {
        /// Kind, namespace and name.
        object: String,
    },
    /// The object or its namespace is not there (404).
    #[error("{object}: not found: {message}; create the namespace, or name another one for the output")]
    NotFound {
        /// Kind, namespace and name.
        object: String,
        /// The API server's words.
        message: String,
    },
    /// RBAC or an admission plugin refused it (401, 403).
    #[error("{object}: refused: {message}; grant the right (manifests/base/role.yaml) or mend the policy")]
    Forbidden {
        /// Kind, namespace and name.
        object: String,
        /// The API server's words.
        message: String,
    },
    /// A ResourceQuota refused it (403).
    #[error("{object}: refused by a quota: {message}; raise the ResourceQuota of its namespace")]
    QuotaExceeded {
        /// Kind, namespace and name.
        object: String,
        /// The API server's words.
        message: String,
    },
    /// The API server takes nothing of that size (413).
    #[error("{object}: too large for the API server: {message}; raise its request limit or cut the object")]
    TooLarge {
        /// Kind, namespace and name.
        object: String,
        /// The API server's words.
        message: String,
    },
    /// The API server found it invalid (400, 422).
    #[error("{object}: found invalid: {message}; look for an admission policy, else report it as a fault")]
    Invalid {
        /// Kind, namespace and name.
        object: String,
        /// The API server's words.
        message: String,
    },
    /// The API server asks for patience (429).
    #[error("{object}: the API server asks for patience: {message}; it is tried again")]
    Throttled {
        /// Kind, namespace and name.
        object: String,
        /// The API server's words.
        message: String,
    },
    /// No answer in time, or the API server dropped it (504). It may have been written all the same.
    #[error("{object}: no answer within {seconds:.1} s; it is tried again")]
    Timeout {
        /// Kind, namespace and name.
        object: String,
        /// How long it was waited for, in seconds.
        seconds: Seconds,
    },
    /// The API server failed (other 5xx).
    #[error("{object}: the API server failed ({code}): {message}; it is tried again")]
    Unavailable {
        /// Kind, namespace and name.
        object: String,
        /// The status code.
        code: u16,
        /// The API server's words.
        message: String,
    },
    /// No connection, or it broke. It may have been written all the same.
    #[error("{object}: no answer from the API server: {message}; it is tried again")]
    Unreachable {
        /// Kind, namespace and name.
        object: String,
        /// What the connection said.
        message: String,
    },
    /// The lease ran out before the write could be started, or a later leader has written.
    #[error("{object}: not written, since this replica does not lead any more")]
    LeaseLost {
        /// Kind, namespace and name.
        object: String,
    },
    /// The index was written by a newer release.
    #[error(
        "{object}: its format is {found} and this release writes {own}; run the newer release, or delete the \
         index to have it written anew"
    )]
    NewerFormat {
        /// Kind, namespace and name.
        object: String,
        /// The format found.
        found: u64,
        /// The format of this release.
        own: u64,
    },
    /// An object of that name belongs to someone else.
    #[error("{object}: it is there without waybill's labels, so it is left alone; {remedy}")]
    OutputNameTaken {
        /// Kind, namespace and name.
        object: String,
        /// The object itself, to tell its owner.
        taken: Box<Taken>,
        /// What to do.
        remedy: String,
    },
    /// Anything else.
    #[error("{object}: unexpected answer: {message}; report it as a fault")]
    Other {
        /// Kind, namespace and name.
        object: String,
        /// What was said.
        message: String,
    },
}

/// An object of a name that waybill needs, and that is somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which it is.
    pub subject: Subject,
    /// Its uid.
    pub uid: String,
}

/// Seconds, comparable so that errors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(
    /// In milliseconds.
    pub u64,
);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&(self.0 as f64 / 1000.0), f)
    }
}

impl PublishError {
    /// That the object with this metadata has a wanted name and not our labels.
    pub fn name_taken(kind: Kind, metadata: &ObjectMeta, remedy: String) -> Self {
        let subject = Subject::new(kind, metadata);
        let uid = metadata.uid.clone().unwrap_or_default();
        Self::OutputNameTaken { object: subject.to_string(), taken: Box::new(Taken { subject, uid }), remedy }
    }

    /// The category, as metrics label it.
    pub fn result(&self) -> WriteResult {
        match self {
            Self::Conflict { .. } => WriteResult::Conflict,
            Self::NotFound { .. } => WriteResult::NotFound,
            Self::Forbidden { .. } => WriteResult::Forbidden,
            Self::QuotaExceeded { .. } => WriteResult::QuotaExceeded,
            Self::TooLarge { .. } => WriteResult::TooLarge,
            Self::Invalid { .. } => WriteResult::Invalid,
            Self::Throttled { .. } => WriteResult::Throttled,
            Self::Timeout { .. } => WriteResult::Timeout,
            Self::Unavailable { .. } => WriteResult::ServerError,
            Self::Unreachable { .. } => WriteResult::Unreachable,
            Self::LeaseLost { .. } => WriteResult::NotLeader,
            Self::NewerFormat { .. } => WriteResult::NewerFormat,
            Self::OutputNameTaken { .. } => WriteResult::NameTaken,
            Self::Other { .. } => WriteResult::Other,
        }
    }

    /// Whether the same request may go through a moment later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Throttled { .. }
                | Self::Timeout { .. }
                | Self::Unavailable { .. }
                | Self::Unreachable { .. }
        )
    }

    /// Whether the write may have been done although it failed here.
    pub fn is_ambiguous(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. }
                | Self::Unavailable { .. }
                | Self::Unreachable { .. }
                | Self::Conflict { .. }
                | Self::Other { .. }
        )
    }

    /// Kind, namespace and name of the object.
    pub fn object(&self) -> &str {
        match self {
            Self::Conflict { object }
            | Self::NotFound { object, .. }
            | Self::Forbidden { object, .. }
            | Self::QuotaExceeded { object, .. }
            | Self::TooLarge { object, .. }
            | Self::Invalid { object, .. }
            | Self::Throttled { object, .. }
            | Self::Timeout { object, .. }
            | Self::Unavailable { object, .. }
            | Self::Unreachable { object, .. }
            | Self::LeaseLost { object }
            | Self::NewerFormat { object, .. }
            | Self::OutputNameTaken { object, .. }
            | Self::Other { object, .. } => object,
        }
    }

    /// What an error of the client means for `object`. With `secret` the API server's words are only shown where
    /// they can't repeat what was sent.
    pub(super) fn of(object: String, error: &kube::Error, secret: bool) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(object, status, secret),
            kube::Error::HyperError(_) | kube::Error::Service(_) => {
                Self::Unreachable { object, message: shown(&error.to_string()) }
            }
            // Half an answer.
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) | kube::Error::ReadEvents(_) => {
                Self::Unreachable { object, message: "the answer is cut off or no JSON".to_owned() }
            }
            _ => Self::Other { object, message: shown(&error.to_string()) },
        }
    }

    fn of_status(object: String, status: &Status, secret: bool) -> Self {
        let message = shown(&status.message);
        let kept = if secret { "(not shown, since it could hold a key)".to_owned() } else { message.clone() };
        match status.code {
            401 => Self::Forbidden { object, message },
            // The second is what is said before anyone has counted.
            403 if status.message.contains("exceeded quota")
                || status.message.contains("status unknown for quota") =>
            {
                Self::QuotaExceeded { object, message }
            }
            403 => Self::Forbidden { object, message: kept },
            404 => Self::NotFound { object, message },
            409 => Self::Conflict { object },
            413 => Self::TooLarge { object, message },
            400 | 422 => Self::Invalid { object, message: kept },
            429 => Self::Throttled { object, message },
            504 => Self::Timeout { object, seconds: Seconds(0) },
            code @ 500..=599 => Self::Unavailable { object, code, message: kept },
            _ => Self::Other { object, message: kept },
        }
    }
}

/// Cuts what someone else said to one line of bounded length.
fn shown(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > MESSAGE_LIMIT {
        line.truncate(line.floor_char_boundary(MESSAGE_LIMIT));
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status { code, message: message.to_owned(), ..Status::default() }))
    }

    #[test]
    fn a_quota_is_told_from_a_missing_right() {
        let error =
            PublishError::of("ConfigMap a/b".into(), &api(403, "forbidden: exceeded quota: q, used"), false);
        assert_eq!(error.result(), WriteResult::QuotaExceeded);
        assert!(error.to_string().starts_with("ConfigMap a/b: refused by a quota"), "{error}");
        let error = PublishError::of("ConfigMap a/b".into(), &api(403, "no right"), false);
        assert_eq!(error.result(), WriteResult::Forbidden);
    }

    #[test]
    fn a_refused_secret_is_not_quoted() {
        for code in [400, 403, 422, 500, 418] {
            let error = PublishError::of("Secret a/b".into(), &api(code, "the key is hush"), true);
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }

    #[test]
    fn long_words_are_cut_between_characters_and_stay_one_line() {
        let error = PublishError::of("x".into(), &api(429, &"é\n".repeat(1_000)), false);
        assert!(error.to_string().len() < 600);
        assert!(!error.to_string().contains('\n'));
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
            let error = PublishError::of("x".into(), &api(code, ""), false);
            assert_eq!((error.is_ambiguous(), error.is_transient()), (ambiguous, transient), "{code}");
        }
    }
}
