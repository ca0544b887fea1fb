//! The last seen state of the Lease, and since when it was seen by our own clock.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;

use super::LeaseOptions;

/// Assumed if a Lease does not say its duration.
const DEFAULT_DURATION: Duration = Duration::from_secs(15);

/// The last seen record.
#[derive(Clone, Debug, Default)]
pub(super) struct LeaseRecord {
    /// The object, which is replaced as a whole; `None` if it does not exist.
    lease: Option<Lease>,
    /// The last seen holder.
    holder: String,
    /// When its holder counts as gone; `None` if nobody holds it.
    held_until: Option<Instant>,
    /// The most transitions ever seen, so that counting continues if the Lease is deleted and recreated.
    transitions: i32,
}

impl LeaseRecord {
    /// Records the current object. An unchanged record does not extend its validity.
    pub fn observe(&mut self, lease: Option<Lease>, now: Instant) {
        let Some(lease) = lease else {
            // The last holder may still act as the leader for a while, so `held_until` stays.
            self.lease = None;
            return;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        self.transitions = self.transitions.max(spec.lease_transitions.unwrap_or_default());
        let known = self.lease.as_ref().and_then(|known| known.spec.as_ref());
        if known != Some(&spec) {
            self.holder = spec.holder_identity.unwrap_or_default();
            let duration = spec.lease_duration_seconds.map_or(DEFAULT_DURATION, |seconds| {
                Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
            });
            self.held_until = (!self.holder.is_empty()).then(|| now + duration);
        }
        self.lease = Some(lease);
    }

    /// The last holder; empty for nobody.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// The most transitions ever seen.
    pub fn transitions(&self) -> i32 {
        self.transitions
    }

    /// When `identity` may take it; a past moment means now.
    pub fn free_at(&self, identity: &str, now: Instant) -> Instant {
        if self.holder == identity { now } else { self.held_until.unwrap_or(now) }
    }

    /// Whether the object exists.
    pub fn exists(&self) -> bool {
        self.lease.is_some()
    }

    /// The version to watch from.
    pub fn resource_version(&self) -> Option<&str> {
        self.lease.as_ref()?.metadata.resource_version.as_deref()
    }

    /// The record of a new term. Its transitions are one more than any seen before, even if we held it before: no epoch
    /// is used twice.
    pub fn taken(&self, options: &LeaseOptions, wall: Timestamp) -> Lease {
        let mut lease = self.lease.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(options.name.clone()),
                namespace: Some(options.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let first = self.lease.is_none() && self.transitions == 0 && self.holder.is_empty();
        lease.metadata.managed_fields = None;
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(options.identity.clone());
        // Whole seconds, rounded up: others wait longer than we count on, never shorter.
        let seconds = options.timings.lease_duration.as_millis().div_ceil(1_000);
        spec.lease_duration_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
        spec.lease_transitions = Some(if first { 0 } else { self.transitions.saturating_add(1) });
        spec.acquire_time = Some(MicroTime(wall));
        spec.renew_time = Some(MicroTime(wall));
        lease
    }
}

/// The next record of the current term.
pub(super) fn renewed(lease: &Lease, wall: Timestamp) -> Lease {
    let mut lease = lease.clone();
    lease.metadata.managed_fields = None;
    lease.spec.get_or_insert_default().renew_time = Some(MicroTime(wall));
    lease
}

/// The record that lets others take over at once, in the form of client-go.
pub(super) fn released(lease: &Lease, wall: Timestamp) -> Lease {
    let mut lease = renewed(lease, wall);
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(1);
    spec.acquire_time = Some(MicroTime(wall));
    lease
}

/// The epoch of the term that a record began.
pub(super) fn epoch(lease: &Lease) -> u64 {
    let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
    transitions.and_then(|count| u64::try_from(count).ok()).unwrap_or_default()
}

/// Whether a record belongs to the same term as `ours`.
pub(super) fn same_term(found: &Lease, ours: &Lease) -> bool {
    let term = |lease: &Lease| {
        let spec = lease.spec.clone().unwrap_or_default();
        (lease.metadata.uid.clone(), LeaseSpec { renew_time: None, ..spec })
    };
    term(found) == term(ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::lease::Timings;

    fn options() -> LeaseOptions {
        LeaseOptions {
            namespace: "n".into(),
            name: "l".into(),
            identity: "me".into(),
            timings: Timings {
                lease_duration: Duration::from_millis(2_500),
                renew_deadline: Duration::from_millis(2_000),
                retry_period: Duration::from_millis(500),
            },
        }
    }

    fn held(holder: &str, seconds: i32, transitions: i32, renewed: i64) -> Lease {
        Lease {
            metadata: ObjectMeta { resource_version: Some("7".into()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.into()),
                lease_duration_seconds: Some(seconds),
                lease_transitions: Some(transitions),
                renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
                ..LeaseSpec::default()
            }),
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn it_holds_from_when_we_saw_it_change_whatever_its_clock_says() {
        let start = Instant::now();
        let mut record = LeaseRecord::default();
        assert_eq!(record.free_at("me", start), start, "nothing was ever there");
        // A renewal time far in the past or the future makes no difference.
        record.observe(Some(held("other", 15, 3, 0)), start);
        assert_eq!(record.free_at("me", start), start + seconds(15));
        record.observe(Some(held("other", 15, 3, 0)), start + seconds(4));
        assert_eq!(record.free_at("me", start), start + seconds(15), "it did not change");
        record.observe(Some(held("other", 15, 3, 99_999_999_999)), start + seconds(6));
        assert_eq!(record.free_at("me", start), start + seconds(21));
    }

    #[test]
    fn an_edit_of_its_annotations_is_no_renewal() {
        let start = Instant::now();
        let mut record = LeaseRecord::default();
        record.observe(Some(held("other", 15, 3, 0)), start);
        let mut edited = held("other", 15, 3, 0);
        edited.metadata.resource_version = Some("8".into());
        edited.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
        record.observe(Some(edited), start + seconds(9));
        assert_eq!(record.free_at("me", start), start + seconds(15));
        let taken = record.taken(&options(), Timestamp::now());
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("8"));
        assert_eq!(taken.metadata.annotations.unwrap()["a"], "b", "what others wrote stays");
    }

    #[test]
    fn released_or_ours_is_free_at_once() {
        let start = Instant::now();
        let mut record = LeaseRecord::default();
        record.observe(Some(held("", 1, 3, 0)), start);
        assert_eq!(record.free_at("me", start), start);
        record.observe(Some(held("me", 15, 3, 0)), start);
        assert_eq!(record.free_at("me", start), start);
    }

    #[test]
    fn deleting_it_neither_frees_it_nor_takes_the_count_back() {
        let start = Instant::now();
        let mut record = LeaseRecord::default();
        record.observe(Some(held("other", 15, 41, 0)), start);
        record.observe(None, start + seconds(2));
        assert_eq!(record.free_at("me", start), start + seconds(15));
        let taken = record.taken(&options(), Timestamp::now());
        assert_eq!(epoch(&taken), 42);
        assert_eq!(taken.metadata.resource_version, None, "it is created");
    }

    #[test]
    fn every_term_has_an_epoch_of_its_own() {
        let mut record = LeaseRecord::default();
        let first = record.taken(&options(), Timestamp::now());
        assert_eq!(epoch(&first), 0);
        assert_eq!(first.spec.as_ref().unwrap().lease_duration_seconds, Some(3), "rounded up");
        record.observe(Some(first.clone()), Instant::now());
        let again = record.taken(&options(), Timestamp::now());
        assert_eq!(epoch(&again), 1, "taken again by the same process");
        assert!(!same_term(&again, &first));
        assert!(same_term(&renewed(&again, Timestamp::now()), &again));
        record.observe(Some(released(&again, Timestamp::now())), Instant::now());
        assert_eq!(epoch(&record.taken(&options(), Timestamp::now())), 2);
    }

    #[test]
    fn a_record_that_makes_no_sense_is_no_reason_to_stop() {
        let start = Instant::now();
        let mut record = LeaseRecord::default();
        record.observe(Some(Lease::default()), start);
        assert_eq!(record.free_at("me", start), start);
        record.observe(Some(held("other", -5, i32::MAX, 0)), start);
        assert_eq!(record.free_at("me", start), start);
        assert_eq!(epoch(&record.taken(&options(), Timestamp::now())), i32::MAX as u64);
        record.observe(Some(held("other", -5, -3, 0)), start);
        assert_eq!(epoch(&held("x", 1, -3, 0)), 0);
    }
}
