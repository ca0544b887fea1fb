//! What agents say about their proxies: a Lease for each, in the namespace of its output.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

use crate::kubernetes::key::OutputKey;
use crate::kubernetes::well_known::{MANAGED_BY_LABEL, PART_LABEL, WAYBILL};
use crate::published::objects::OUTPUT_LABEL;
use crate::table::Digest;

/// Value of [`PART_LABEL`] of an agent's Lease.
pub const AGENT_PART: &str = "agent";

/// Annotation of an agent's Lease: `EPOCH/GENERATION`, the newest that its proxy has loaded.
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

/// What selects the Leases of all agents of an output.
pub fn selector(output: &OutputKey) -> String {
    format!("{PART_LABEL}={AGENT_PART},{OUTPUT_LABEL}={}", output.name())
}

/// The annotations of an agent's Lease.
pub fn annotations(epoch: u64, generation: u64) -> BTreeMap<String, String> {
    BTreeMap::from([(LOADED.to_owned(), format!("{epoch}/{generation}"))])
}

/// What an agent's Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentReport {
    /// The name of the output.
    pub output: String,
    /// Epoch and generation.
    pub loaded: (u64, u64),
    /// By the agent's clock.
    pub renewed: Timestamp,
    /// How long it counts from then on.
    pub counts_for: Duration,
}

impl AgentReport {
    /// Reads a Lease; `None` where it is no agent's.
    pub fn read(lease: &Lease) -> Option<Self> {
        let labels = lease.metadata.labels.as_ref()?;
        if labels.get(PART_LABEL).map(String::as_str) != Some(AGENT_PART) {
            return None;
        }
        let (epoch, generation) = lease.metadata.annotations.as_ref()?.get(LOADED)?.split_once('/')?;
        let spec = lease.spec.as_ref()?;
        Some(Self {
            output: labels.get(OUTPUT_LABEL)?.clone(),
            loaded: (epoch.parse().ok()?, generation.parse().ok()?),
            renewed: spec.renew_time.as_ref()?.0,
            counts_for: Duration::from_secs(u64::try_from(spec.lease_duration_seconds?).ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let output = OutputKey::new("edge", "public");
        let name = lease_name(&output, "traefik-abc");
        assert!(name.starts_with("public.a-") && name.len() == "public.a-".len() + Digest::SHORT, "{name}");
        let lease = |change: fn(&mut Lease)| {
            let mut lease: Lease = serde_json::from_value(serde_json::json!({
                "metadata": {"labels": labels(&output), "annotations": annotations(7, 4711)},
                "spec": {"leaseDurationSeconds": 30, "renewTime": "2026-11-26T08:00:00.000000Z"},
            }))
            .unwrap();
            change(&mut lease);
            AgentReport::read(&lease)
        };
        let wanted = AgentReport {
            output: "public".to_owned(),
            loaded: (7, 4711),
            renewed: "2026-11-26T08:00:00Z".parse().unwrap(),
            counts_for: Duration::from_secs(30),
        };
        assert_eq!(lease(|_| {}), Some(wanted));
        assert_eq!(lease(|lease| lease.metadata.labels = None), None);
        assert_eq!(
            lease(|lease| lease.metadata.annotations = Some([(LOADED.into(), "7".into())].into())),
            None
        );
        assert_eq!(lease(|lease| lease.spec.as_mut().unwrap().lease_duration_seconds = Some(-1)), None);
        assert_eq!(lease(|lease| lease.spec = None), None);
    }
}
