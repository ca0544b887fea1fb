//! The Leases in which agents report the generation that their proxies have loaded, in the namespace of the output.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use thiserror::Error;

use crate::kubernetes::key::OutputKey;
use crate::kubernetes::well_known::{MANAGED_BY_LABEL, PART_LABEL, WAYBILL};
use crate::published::index::CommitId;
use crate::published::objects::OUTPUT_LABEL;
use crate::table::Digest;

/// Value of [`PART_LABEL`] of an agent's Lease.
pub const AGENT_PART: &str = "agent";

/// Annotation of an agent's Lease: `EPOCH/GENERATION` of the newest generation that its proxy has loaded.
pub const LOADED: &str = "waybill.dev/loaded";

/// The name of an agent's Lease.
pub fn lease_name(output: &OutputKey, identity: &str) -> String {
    format!("{}.a-{}", output.name(), Digest::new(identity).short())
}

/// The labels of an agent's Lease.
pub fn labels(output: &OutputKey) -> BTreeMap<String, String> {
    [(MANAGED_BY_LABEL, WAYBILL), (OUTPUT_LABEL, output.name()), (PART_LABEL, AGENT_PART)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The label selector for the Leases of all agents of an output.
pub fn selector(output: &OutputKey) -> String {
    format!("{PART_LABEL}={AGENT_PART},{OUTPUT_LABEL}={}", output.name())
}

/// The annotations of an agent's Lease.
pub fn annotations(loaded: CommitId) -> BTreeMap<String, String> {
    BTreeMap::from([(LOADED.to_owned(), format!("{}/{}", loaded.epoch, loaded.generation))])
}

/// The content of an agent's Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentReport {
    pub output: String,
    pub loaded: CommitId,
    /// By the agent's clock. It only distinguishes one report from the next.
    pub renewed: Timestamp,
    /// How long the report is valid.
    pub counts_for: Duration,
}

/// Why a Lease is not an agent's report.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReportError {
    #[error("it has no label {PART_LABEL}={AGENT_PART}")]
    Part,
    #[error("it has no label {OUTPUT_LABEL}, which names the output")]
    Output,
    #[error("its annotation {LOADED} is {value:?} and should be EPOCH/GENERATION, such as \"3/4711\"")]
    Loaded { value: String },
    #[error("it has no spec.renewTime")]
    RenewTime,
    #[error("its spec.leaseDurationSeconds is {value:?} and should be a number of seconds above 0")]
    Duration { value: Option<i32> },
}

/// Number of bytes of an annotation in an error.
const SHOWN: usize = 64;

impl TryFrom<&Lease> for AgentReport {
    type Error = ReportError;

    fn try_from(lease: &Lease) -> Result<Self, ReportError> {
        let label = |key| lease.metadata.labels.as_ref().and_then(|labels| labels.get(key));
        if label(PART_LABEL).map(String::as_str) != Some(AGENT_PART) {
            return Err(ReportError::Part);
        }
        let output = label(OUTPUT_LABEL).ok_or(ReportError::Output)?.clone();
        let annotations = lease.metadata.annotations.as_ref();
        let value = annotations.and_then(|annotations| annotations.get(LOADED)).map_or("", String::as_str);
        let parsed = value.split_once('/').and_then(|(epoch, generation)| {
            let number =
                |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
            Some(CommitId::new(number(epoch)?, number(generation)?))
        });
        let loaded = parsed.ok_or_else(|| ReportError::Loaded {
            value: value[..value.floor_char_boundary(SHOWN)].to_owned(),
        })?;
        let spec = lease.spec.as_ref().ok_or(ReportError::RenewTime)?;
        let value = spec.lease_duration_seconds;
        let seconds = value.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
        Ok(Self {
            output,
            loaded,
            renewed: spec.renew_time.as_ref().ok_or(ReportError::RenewTime)?.0,
            counts_for: Duration::from_secs(seconds.ok_or(ReportError::Duration { value })?),
        })
    }
}

/// A summary of the agents of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportedAgents {
    pub live: usize,
    /// Those that have loaded a commit, or a later one.
    pub current: usize,
}

impl ReportedAgents {
    /// Counts the Leases that have not expired by the clocks of two machines, and those of them that report `commit`.
    /// Only for people: a decision must be based on seeing a Lease change.
    pub fn new<'a>(leases: impl IntoIterator<Item = &'a Lease>, commit: CommitId, now: Timestamp) -> Self {
        let reports = leases.into_iter().filter_map(|lease| AgentReport::try_from(lease).ok());
        let live = reports.filter(|report| {
            let age = Duration::try_from(now.duration_since(report.renewed)).unwrap_or_default();
            age < report.counts_for
        });
        live.fold(Self::default(), |counts, report| Self {
            live: counts.live + 1,
            current: counts.current + usize::from(report.loaded >= commit),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::ShortDigest;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let output = OutputKey::new("edge", "public");
        let name = lease_name(&output, "traefik-abc");
        assert!(
            name.starts_with("public.a-") && name.len() == "public.a-".len() + ShortDigest::LENGTH,
            "{name}"
        );
        let lease = |change: fn(&mut Lease)| {
            let mut lease: Lease = serde_json::from_value(serde_json::json!({
                "metadata": {"labels": labels(&output), "annotations": annotations(CommitId::new(7, 4711))},
                "spec": {"leaseDurationSeconds": 30, "renewTime": "2026-11-26T08:00:00.000000Z"},
            }))
            .unwrap();
            change(&mut lease);
            AgentReport::try_from(&lease)
        };
        let wanted = AgentReport {
            output: "public".to_owned(),
            loaded: CommitId::new(7, 4711),
            renewed: "2026-11-26T08:00:00Z".parse().unwrap(),
            counts_for: Duration::from_secs(30),
        };
        assert_eq!(lease(|_| {}), Ok(wanted));
        assert_eq!(lease(|lease| lease.metadata.labels = None), Err(ReportError::Part));
        assert_eq!(lease(|lease| lease.spec = None), Err(ReportError::RenewTime));
        assert_eq!(
            lease(|lease| lease.spec.as_mut().unwrap().lease_duration_seconds = Some(-1)),
            Err(ReportError::Duration { value: Some(-1) })
        );
    }

    #[test]
    fn agents_are_counted_for_people() {
        let output = OutputKey::new("edge", "public");
        let at = CommitId::new;
        let lease = |loaded: CommitId, seconds: i64| -> Lease {
            serde_json::from_value(serde_json::json!({
                "metadata": {"labels": labels(&output), "annotations": annotations(loaded)},
                "spec": {
                    "leaseDurationSeconds": 30,
                    "renewTime": format!("{:.6}", Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(seconds)),
                },
            }))
            .unwrap()
        };
        // The last two ran out, or have a clock that is ahead.
        let leases = [lease(at(1, 5), 90), lease(at(1, 4), 90), lease(at(1, 5), 60), lease(at(2, 1), 5_000)];
        let now = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(100);
        assert_eq!(ReportedAgents::new(&leases, at(1, 5), now), ReportedAgents { live: 3, current: 2 });
    }

    #[test]
    fn garbage_is_refused_and_shown_in_part() {
        let output = OutputKey::new("edge", "public");
        let long = "ä".repeat(100_000);
        for value in ["", "7", "7/", "/7", "+7/8", "7/8/9", "7/-8", "7/18446744073709551616", &long] {
            let lease = serde_json::from_value(serde_json::json!({
                "metadata": {"labels": labels(&output), "annotations": {LOADED: value}},
                "spec": {"leaseDurationSeconds": 30, "renewTime": "2026-11-26T08:00:00.000000Z"},
            }));
            let error = AgentReport::try_from(&lease.unwrap()).unwrap_err();
            assert!(matches!(error, ReportError::Loaded { .. }), "{value}: {error}");
            assert!(error.to_string().len() < 200, "{error}");
        }
    }
}
