//! Decides which statuses to write, and which to leave to another controller. No I/O and no clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::networking::v1::IngressLoadBalancerIngress;

use crate::kubernetes::Ingress;
use crate::kubernetes::key::IngressKey;
use crate::publish::requests::MANAGER;
use crate::translate::problem::{Category, Kind, Problem, Subject};
use crate::translate::status::DesiredStatus;

/// The entries of `status.loadBalancer.ingress`.
pub type Entries = Vec<IngressLoadBalancerIngress>;

/// After this number of writes of one value to one Ingress within [`CONTEST_WINDOW`], its status is left alone.
const CONTEST_TRIES: usize = 3;
const CONTEST_WINDOW: Duration = Duration::from_secs(60);
const CONTEST_PAUSE: Duration = Duration::from_secs(600);
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
    /// Whether waybill owns the field; see [`we_own`].
    pub we_own: bool,
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

/// Whether waybill's field manager owns a part of an Ingress's status.
pub fn we_own(ingress: &Ingress) -> bool {
    ingress.metadata.managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref() == Some("status")
    })
}

/// The last writes to an Ingress.
#[derive(Clone, Debug, Default)]
struct WriteRecord {
    uid: Option<String>,
    /// The value of the last write.
    written: Entries,
    /// The value before it, and whether waybill owned that.
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
    /// So many records are looked through for those that no longer matter.
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
            (_, false) if state.we_own => &[],
            _ => return Decision::Nothing,
        };
        let equal = same(wanted, &state.current);
        if let Some(record) = self.records.get_mut(key) {
            if equal {
                record.contested &= !quiet(record, now);
            }
            record.taken_over &= !state.we_own;
            if let Some(until) = record.paused_until.filter(|until| *until > now) {
                return Decision::LookAgain(until);
            }
            let last = record.times.last().copied();
            let unseen = last.map(|last| last + UNSEEN).filter(|until| *until > now);
            if let Some(until) = unseen
                && same(wanted, &record.written)
                && same(&record.over.0, &state.current)
                && record.over.1 == state.we_own
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
        if !state.we_own && !wanted.is_empty() && !taken_over {
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
        record.taken_over |= !state.we_own && same(&written, &state.current);
        record.over = (state.current.clone(), state.we_own);
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
                 minutes; stop the other controller from writing it, or set operator.status to off"
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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::networking::v1::IngressPortStatus;

    use super::*;

    fn entries(ips: &[&str]) -> Entries {
        ips.iter()
            .map(|ip| IngressLoadBalancerIngress { ip: Some((*ip).to_owned()), ..Default::default() })
            .collect()
    }

    /// A state that the watch shows anew.
    fn state(wanted: &[&str], current: &[&str], we_own: bool) -> StatusState {
        static SHOWN: AtomicUsize = AtomicUsize::new(0);
        StatusState {
            uid: None,
            ours: true,
            wanted: DesiredStatus::Entries(entries(wanted)),
            current: entries(current),
            we_own,
            shown: SHOWN.fetch_add(1, Ordering::Relaxed),
        }
    }

    #[test]
    fn a_watch_that_shows_nothing_is_no_fight() {
        let mut policy = StatusPolicy::default();
        let mut now = Instant::now();
        let stale = state(&["a"], &["x"], true);
        for _ in 0..20 {
            assert_eq!(policy.decide(&key(), Some(&stale), now), Decision::Write(entries(&["a"])));
            policy.wrote(&key(), &stale, entries(&["a"]), now);
            assert_eq!(policy.decide(&key(), Some(&stale), now), Decision::LookAgain(now + UNSEEN));
            now += UNSEEN;
        }
        assert_eq!(policy.problem(&key()), None);
    }

    fn key() -> IngressKey {
        IngressKey::new("ns", "web")
    }

    #[test]
    fn equal_as_sets_with_ports() {
        let port = |port, protocol: &str| IngressPortStatus { port, protocol: protocol.into(), error: None };
        let with = |ports: Vec<IngressPortStatus>| {
            vec![IngressLoadBalancerIngress {
                ip: Some("1.1.1.1".into()),
                hostname: None,
                ports: Some(ports),
            }]
        };
        assert!(same(&entries(&["a", "b"]), &entries(&["b", "a"])));
        assert!(!same(&entries(&["a"]), &entries(&["a", "b"])));
        assert!(same(
            &with(vec![port(80, "TCP"), port(443, "TCP")]),
            &with(vec![port(443, "TCP"), port(80, "TCP")])
        ));
        assert!(!same(&with(vec![port(80, "TCP")]), &with(vec![port(80, "UDP")])));
        assert!(!same(&with(vec![port(80, "TCP")]), &entries(&["1.1.1.1"])));
        // What the API server gives back for no ports.
        assert!(same(&with(vec![]), &entries(&["1.1.1.1"])));
    }

    #[test]
    fn writes_what_differs_and_nothing_else() {
        let now = Instant::now();
        let mut policy = StatusPolicy::default();
        let mut decide = |state: StatusState| policy.decide(&key(), Some(&state), now);
        assert_eq!(decide(state(&["a"], &[], false)), Decision::Write(entries(&["a"])));
        assert_eq!(decide(state(&["a"], &["a"], true)), Decision::Nothing);
        assert_eq!(decide(state(&[], &["a"], false)), Decision::Write(vec![]), "emptied on purpose");
        assert_eq!(decide(state(&[], &[], false)), Decision::Nothing);
        let alone = StatusState { wanted: DesiredStatus::LeaveAlone, ..state(&[], &["x"], true) };
        assert_eq!(decide(alone), Decision::Nothing);
    }

    #[test]
    fn withdraws_only_what_is_its_own() {
        let now = Instant::now();
        let mut policy = StatusPolicy::default();
        let foreign = |current: &[&str], own| StatusState { ours: false, ..state(&["a"], current, own) };
        assert_eq!(policy.decide(&key(), Some(&foreign(&["a"], true)), now), Decision::Write(vec![]));
        assert_eq!(policy.decide(&key(), Some(&foreign(&["a"], false)), now), Decision::Nothing);
        assert_eq!(policy.decide(&key(), Some(&foreign(&[], true)), now), Decision::Nothing);
        assert_eq!(policy.decide(&key(), None, now), Decision::Nothing);
    }

    #[test]
    fn an_equal_value_of_another_manager_is_taken_over_once() {
        let mut now = Instant::now();
        let mut policy = StatusPolicy::default();
        let theirs = state(&["a"], &["a"], false);
        assert_eq!(policy.decide(&key(), Some(&theirs), now), Decision::Write(entries(&["a"])));
        policy.wrote(&key(), &theirs, entries(&["a"]), now);
        for _ in 0..10 {
            now += Duration::from_secs(40);
            assert_eq!(policy.decide(&key(), Some(&theirs), now), Decision::Nothing);
        }
    }

    /// Someone who takes the ownership away again and again is a contestant like any other.
    #[test]
    fn a_takeover_is_no_fight_without_end() {
        let mut now = Instant::now();
        let mut policy = StatusPolicy::default();
        let mut writes = 0;
        for _ in 0..29 {
            let (theirs, ours) = (state(&["a"], &["a"], false), state(&["a"], &["a"], true));
            if let Decision::Write(entries) = policy.decide(&key(), Some(&theirs), now) {
                policy.wrote(&key(), &theirs, entries, now);
                writes += 1;
            }
            now += Duration::from_secs(2);
            policy.decide(&key(), Some(&ours), now);
        }
        assert_eq!(writes, CONTEST_TRIES);
        assert!(policy.problem(&key()).is_some());
    }

    #[test]
    fn a_write_that_the_watch_has_not_shown_is_not_repeated_at_once() {
        let now = Instant::now();
        let mut policy = StatusPolicy::default();
        let before = state(&["a"], &[], false);
        policy.wrote(&key(), &before, entries(&["a"]), now);
        assert_eq!(policy.decide(&key(), Some(&before), now), Decision::LookAgain(now + UNSEEN));
        // It did not come: once more.
        assert_eq!(policy.decide(&key(), Some(&before), now + UNSEEN), Decision::Write(entries(&["a"])));
        // Another value is wanted: at once.
        let other = state(&["b"], &[], false);
        assert_eq!(policy.decide(&key(), Some(&other), now), Decision::Write(entries(&["b"])));
    }

    #[test]
    fn a_contested_status_is_left_alone_for_ten_minutes() {
        let start = Instant::now();
        let mut policy = StatusPolicy::default();
        let mut now = start;
        let fight = |policy: &mut StatusPolicy, now: Instant, round: usize| {
            // The other controller's value differs each time, so each of its writes is seen.
            let overwritten = state(&["a"], &[["x", "y", "z"][round % 3]], true);
            let decision = policy.decide(&key(), Some(&overwritten), now);
            if let Decision::Write(entries) = &decision {
                policy.wrote(&key(), &overwritten, entries.clone(), now);
            }
            decision
        };
        for round in 0..3 {
            assert_eq!(fight(&mut policy, now, round), Decision::Write(entries(&["a"])), "{round}");
            assert_eq!(policy.problem(&key()), None);
            now += Duration::from_secs(5);
        }
        let until = now + CONTEST_PAUSE;
        assert_eq!(fight(&mut policy, now, 3), Decision::LookAgain(until));
        assert_eq!(policy.problem(&key()).map(|problem| problem.category), Some(Category::StatusContested));
        assert_eq!(fight(&mut policy, until - Duration::from_secs(1), 4), Decision::LookAgain(until));
        // Tried again after the pause, and it stays this time: over.
        assert_eq!(fight(&mut policy, until, 5), Decision::Write(entries(&["a"])));
        assert!(policy.problem(&key()).is_some());
        let right = state(&["a"], &["a"], true);
        let Decision::LookAgain(check) = policy.decide(&key(), Some(&right), until + Duration::from_secs(1))
        else {
            unreachable!("it has to look whether it stays")
        };
        assert_eq!(policy.decide(&key(), Some(&right), check), Decision::Nothing);
        assert_eq!(policy.problem(&key()), None);
    }

    #[test]
    fn one_that_is_made_anew_gets_its_address_at_once_however_often() {
        let now = Instant::now();
        let mut policy = StatusPolicy::default();
        for number in 0..10 {
            let new = StatusState { uid: Some(format!("{number}")), ..state(&["a"], &[], false) };
            assert_eq!(policy.decide(&key(), Some(&new), now), Decision::Write(entries(&["a"])), "{number}");
            policy.wrote(&key(), &new, entries(&["a"]), now);
            assert_eq!(policy.decide(&key(), Some(&new), now), Decision::LookAgain(now + UNSEEN));
        }
        policy.decide(&key(), None, now);
        assert!(policy.records.is_empty());
    }

    #[test]
    fn three_writes_over_hours_are_no_fight_and_neither_are_changes_of_ours() {
        let mut now = Instant::now();
        let mut policy = StatusPolicy::default();
        for round in 0..10 {
            let edited = state(&["a"], &[["x", "y"][round % 2]], true);
            assert_eq!(policy.decide(&key(), Some(&edited), now), Decision::Write(entries(&["a"])));
            policy.wrote(&key(), &edited, entries(&["a"]), now);
            now += Duration::from_secs(61);
        }
        let mut last = "a".to_owned();
        for round in 0..10 {
            let next = format!("{round}");
            let changed = state(&[&next], &[&last], true);
            assert_eq!(policy.decide(&key(), Some(&changed), now), Decision::Write(entries(&[&next])));
            policy.wrote(&key(), &changed, entries(&[&next]), now);
            last = next;
            now += Duration::from_secs(1);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let start = Instant::now();
        let mut policy = StatusPolicy::default();
        for at in 0..20_000_u32 {
            let key = IngressKey::new("ns", format!("web-{at}"));
            let now = start + Duration::from_millis(100) * at;
            policy.wrote(&key, &state(&["a"], &[], true), entries(&["a"]), now);
        }
        assert!(policy.records.len() <= 2 * RECORDS, "{}", policy.records.len());
    }
}
