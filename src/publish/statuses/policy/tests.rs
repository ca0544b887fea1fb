use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::networking::v1::IngressPortStatus;

use super::*;

fn entries(ips: &[&str]) -> Entries {
    ips.iter()
        .map(|ip| IngressLoadBalancerIngress { ip: Some((*ip).to_owned()), ..Default::default() })
        .collect()
}

/// A state that the watch shows anew.
fn state(wanted: &[&str], current: &[&str], we: bool) -> StatusState {
    static SHOWN: AtomicUsize = AtomicUsize::new(0);
    StatusState {
        uid: None,
        ours: true,
        wanted: DesiredStatus::Entries(entries(wanted)),
        current: entries(current),
        owners: StatusOwners { we, ..StatusOwners::default() },
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
        vec![IngressLoadBalancerIngress { ip: Some("1.1.1.1".into()), hostname: None, ports: Some(ports) }]
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

#[test]
fn an_installation_owns_what_it_applied_itself() {
    let ours = field_manager("edge", "waybill");
    let owners = |managers: &[(&str, &str, &str)]| {
        let entries = managers.iter().map(|(manager, operation, subresource)| {
            serde_json::json!({"manager": manager, "operation": operation, "subresource": subresource})
        });
        let metadata = serde_json::json!({"managedFields": entries.collect::<Vec<_>>()});
        let ingress: Ingress = serde_json::from_value(serde_json::json!({"metadata": metadata})).unwrap();
        let StatusOwners { we, another_installation, others } = StatusOwners::new(&ingress, &ours);
        (we, another_installation, others)
    };
    assert_eq!(owners(&[]), (false, false, false));
    assert_eq!(owners(&[("waybill:edge/waybill", "Apply", "status")]), (true, false, false));
    assert_eq!(owners(&[("waybill:edge/waybill", "Update", "status")]), (false, false, true));
    for other in ["waybill:edge/other", "waybill:other/waybill", "waybill:edge/waybill-2"] {
        assert_eq!(owners(&[(other, "Apply", "status")]), (false, true, false), "{other}");
    }
    let both = [("waybill", "Apply", "status"), ("traefik", "Update", "status"), (&*ours, "Apply", "status")];
    assert_eq!(owners(&both), (true, false, true));
    assert_eq!(owners(&[(&*ours, "Apply", "scale"), ("kubectl", "Update", "scale")]), (false, false, false));
    let label = "x".repeat(63);
    assert_eq!(field_manager(&label, &label).len(), LONGEST_MANAGER);
}
