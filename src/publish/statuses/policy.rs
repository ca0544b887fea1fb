//! Decides which statuses to write, and which to leave to another controller. No I/O and no clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::networking::v1::IngressLoadBalancerIngress;

use crate::kubernetes::Ingress;
use crate::kubernetes::key::IngressKey;
use crate::translate::problem::{Category, Kind, Problem, Subject};
use crate::translate::status::DesiredStatus;

/// The entries of `status.loadBalancer.ingress`.
pub type Entries = Vec<IngressLoadBalancerIngress>;

/// After this number of writes of one value to one Ingress within [`CONTEST_WINDOW`], its status is left alone.
const CONTEST_TRIES: usize = 3;
const CONTEST_WINDOW: Duration = Duration::from_secs(60);
const CONTEST_PAUSE: Duration = Duration::from_secs(600);
/// What the field managers of all installations begin with.
const INSTALLATION: &str = "waybill:";
/// Bytes of a field manager that the API server accepts.
const LONGEST_MANAGER: usize = 128;
/// How long the watch may take to show a write.
const UNSEEN: Duration = Duration::from_secs(10);
/// Above this number of records, obsolete ones are dropped.
const RECORDS: usize = 1_024;

/// The known state of an Ingress and its status.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusState {
    pub uid: Option<String>,
    pub ours: bool,
    /// The desired status, if the Ingress is ours.
    pub wanted: DesiredStatus,
    pub current: Entries,
    pub owners: StatusOwners,
    /// Changes whenever the watch shows another state of the Ingress.
    pub shown: usize,
}

/// What to do about a status.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Nothing,
    LookAgain(Instant),
    Write(Entries),
}

/// The field manager of an installation's statuses. Two installations in one cluster see all Ingresses alike, and each may
/// withdraw only what it wrote itself, also after a restart.
pub fn field_manager(namespace: &str, lease_name: &str) -> String {
    let mut manager = format!("{INSTALLATION}{namespace}/{lease_name}");
    manager.truncate(LONGEST_MANAGER);
    manager
}

/// Who owns something of an Ingress's status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusOwners {
    pub we: bool,
    pub another_installation: bool,
    /// Traefik's provider, for example, or a waybill that was older than [`field_manager`].
    pub others: bool,
}

impl StatusOwners {
    /// `manager` is our [`field_manager`].
    pub fn new(ingress: &Ingress, manager: &str) -> Self {
        let mut owners = Self::default();
        for entry in ingress.metadata.managed_fields.iter().flatten() {
            if entry.subresource.as_deref() != Some("status") {
                continue;
            }
            match entry.manager.as_deref().filter(|_| entry.operation.as_deref() == Some("Apply")) {
                Some(name) if name == manager => owners.we = true,
                Some(name) if name.starts_with(INSTALLATION) => owners.another_installation = true,
                _ => owners.others = true,
            }
        }
        owners
    }
}

/// The last writes to an Ingress.
#[derive(Clone, Debug, Default)]
struct WriteRecord {
    uid: Option<String>,
    /// The value of the last write.
    written: Entries,
    /// The value before it, and whether we owned that.
    over: (Entries, bool),
    /// [`StatusState::shown`] before it.
    shown: usize,
    /// When the value was written, oldest first. Writes between which the watch showed nothing count as one, since
    /// nobody is known to have overwritten them.
    times: Vec<Instant>,
    paused_until: Option<Instant>,
    /// It was contested, and is not known to be resolved.
    contested: bool,
    /// Another manager's equal value was taken over.
    taken_over: bool,
}

/// Decides about statuses, and remembers writes so that it does not fight with another controller.
#[derive(Debug, Default)]
pub struct StatusPolicy {
    records: HashMap<IngressKey, WriteRecord>,
    /// At this number of records, those that no longer matter are removed.
    sweep_at: usize,
}

impl StatusPolicy {
    /// What to do about the status of `key`. `None` stands for an Ingress that does not exist.
    pub fn decide(&mut self, key: &IngressKey, state: Option<&StatusState>, now: Instant) -> Decision {
        let Some(state) = state else {
            self.records.remove(key);
            return Decision::Nothing;
        };
        // A recreated Ingress has neither a contest nor a write.
        if self.records.get(key).is_some_and(|record| record.uid != state.uid) {
            self.records.remove(key);
        }
        let wanted: &[IngressLoadBalancerIngress] = match (&state.wanted, state.ours) {
            (DesiredStatus::Entries(entries), true) => entries,
            // The address is withdrawn, unless others wrote it.
            (_, false) if state.owners.we => &[],
            _ => return Decision::Nothing,
        };
        let equal = same(wanted, &state.current);
        if let Some(record) = self.records.get_mut(key) {
            if equal {
                record.contested &= !quiet(record, now);
            }
            record.taken_over &= !state.owners.we;
            if let Some(until) = record.paused_until.filter(|until| *until > now) {
                return Decision::LookAgain(until);
            }
            let last = record.times.last().copied();
            let unseen = last.map(|last| last + UNSEEN).filter(|until| *until > now);
            if let Some(until) = unseen
                && same(wanted, &record.written)
                && same(&record.over.0, &state.current)
                && record.over.1 == state.owners.we
            {
                return Decision::LookAgain(until);
            }
        }
        if equal {
            return self.about_equal(key, state, wanted, now);
        }
        if self.is_fought_over(key, wanted, now) {
            return Decision::LookAgain(now + CONTEST_PAUSE);
        }
        Decision::Write(wanted.to_vec())
    }

    /// The value is right. If only others own it, it is applied once all the same, so that it stays if they withdraw
    /// theirs.
    fn about_equal(
        &mut self,
        key: &IngressKey,
        state: &StatusState,
        wanted: &[IngressLoadBalancerIngress],
        now: Instant,
    ) -> Decision {
        let taken_over = self.records.get(key).is_some_and(|record| record.taken_over);
        if !state.owners.we && !wanted.is_empty() && !taken_over {
            if self.is_fought_over(key, wanted, now) {
                return Decision::LookAgain(now + CONTEST_PAUSE);
            }
            return Decision::Write(wanted.to_vec());
        }
        match self.records.get(key) {
            // To see whether it stays.
            Some(record) if record.contested => Decision::LookAgain(
                record.times.last().map_or(now, |last| (*last + CONTEST_WINDOW).max(now)) + UNSEEN,
            ),
            _ => Decision::Nothing,
        }
    }

    fn is_fought_over(
        &mut self,
        key: &IngressKey,
        wanted: &[IngressLoadBalancerIngress],
        now: Instant,
    ) -> bool {
        let Some(record) = self.records.get_mut(key) else { return false };
        record.times.retain(|time| now.saturating_duration_since(*time) < CONTEST_WINDOW);
        // Another value means that ours has changed, and that there is no contest.
        if record.times.len() < CONTEST_TRIES || !same(wanted, &record.written) {
            return false;
        }
        record.times.clear();
        record.paused_until = Some(now + CONTEST_PAUSE);
        record.contested = true;
        true
    }

    /// A write that was decided from `state` succeeded.
    pub fn wrote(&mut self, key: &IngressKey, state: &StatusState, written: Entries, now: Instant) {
        if self.records.len() >= self.sweep_at.max(RECORDS) {
            self.records.retain(|_, record| {
                record.contested
                    || record.taken_over
                    || record
                        .times
                        .last()
                        .is_some_and(|last| now.saturating_duration_since(*last) < CONTEST_WINDOW)
            });
            // What is left has to double first, so that a write costs the same however many there are.
            self.sweep_at = 2 * self.records.len();
        }
        let record = self.records.entry(key.clone()).or_insert_with(|| WriteRecord {
            uid: state.uid.clone(),
            shown: state.shown,
            ..WriteRecord::default()
        });
        if !same(&record.written, &written) {
            record.times.clear();
        } else if record.shown == state.shown {
            record.times.pop();
        }
        record.shown = state.shown;
        record.taken_over |= !state.owners.we && same(&written, &state.current);
        record.over = (state.current.clone(), state.owners.we);
        record.written = written;
        record.paused_until = None;
        record.times.push(now);
        if record.times.len() > CONTEST_TRIES {
            record.times.remove(0);
        }
    }

    /// Whether the status of `key` is contested, as a problem.
    pub fn problem(&self, key: &IngressKey) -> Option<Problem> {
        self.records.get(key).filter(|record| record.contested)?;
        Some(Problem {
            category: Category::StatusContested,
            subject: Subject::from((Kind::Ingress, &key.0)),
            field: "status.loadBalancer.ingress".to_owned(),
            value: String::new(),
            remedy:
                "another controller keeps overwriting the addresses, so waybill leaves them alone for 10 \
                 minutes; stop the other controller from writing them, or set operator.status to off"
                    .to_owned(),
        })
    }
}

/// Whether the last write is so long ago that a contest would have shown.
fn quiet(record: &WriteRecord, now: Instant) -> bool {
    record.paused_until.is_none_or(|until| until <= now)
        && record.times.last().is_some_and(|last| now.saturating_duration_since(*last) >= CONTEST_WINDOW)
}

/// Whether two statuses are equal as sets, including ports. Ports are a set too; a port's error is not ours.
pub fn same(a: &[IngressLoadBalancerIngress], b: &[IngressLoadBalancerIngress]) -> bool {
    type Sorted<'a> = (&'a str, &'a str, Vec<(i32, &'a str, &'a str)>);
    fn sorted(entries: &[IngressLoadBalancerIngress]) -> Vec<Sorted<'_>> {
        let mut sorted: Vec<Sorted<'_>> = entries
            .iter()
            .map(|entry| {
                let mut ports: Vec<_> = entry
                    .ports
                    .iter()
                    .flatten()
                    .map(|port| (port.port, &*port.protocol, port.error.as_deref().unwrap_or_default()))
                    .collect();
                ports.sort_unstable();
                ports.dedup();
                (
                    entry.ip.as_deref().unwrap_or_default(),
                    entry.hostname.as_deref().unwrap_or_default(),
                    ports,
                )
            })
            .collect();
        sorted.sort_unstable();
        sorted.dedup();
        sorted
    }
    sorted(a) == sorted(b)
}

#[cfg(test)]
mod tests;
