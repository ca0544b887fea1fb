use kube::runtime::watcher::Event;

use super::*;
use crate::kubernetes::manifests::Manifests;
use crate::metrics::{Metrics, Trigger};
use crate::operator::live::Cause;
use crate::parameters::status::Publication;
use crate::publish::problems::Events;
use crate::translate::problem::{Category, Kind, Subject};
use crate::watch::Scope;
use crate::{offline, options};

/// Two classes with outputs of their own, an Ingress of each, and one that is nobody's.
const CLUSTER: &str = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: a}
spec: {controller: traefik.io/ingress-controller, parameters: {apiGroup: waybill.dev, kind: IngressClassParameters, name: a}}
---
apiVersion: waybill.dev/v1alpha1
kind: IngressClassParameters
metadata: {name: a}
spec: {output: {name: a, namespace: edge}, ingressEndpoint: {ip: 192.0.2.1}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: b}
spec: {controller: traefik.io/ingress-controller, parameters: {apiGroup: waybill.dev, kind: IngressClassParameters, name: b}}
---
apiVersion: waybill.dev/v1alpha1
kind: IngressClassParameters
metadata: {name: b}
spec: {output: {name: b, namespace: edge}, ingressEndpoint: {ip: 192.0.2.2}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, annotations: {traefik.ingress.kubernetes.io/service.nativelb: 'true'}}
spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a, namespace: shop}
spec: {ingressClassName: a, rules: [{host: a.example.com}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: b, namespace: shop}
spec: {ingressClassName: b, rules: [{host: b.example.com}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: left
  namespace: shop
  managedFields: [{manager: 'waybill:waybill/waybill', operation: Apply, subresource: status}]
spec: {ingressClassName: other, rules: [{host: left.example.com}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}
";

const DELAY: Duration = Duration::from_secs(10);

fn key(name: &str) -> IngressKey {
    IngressKey::new("shop", name)
}

fn output(name: &str) -> OutputKey {
    OutputKey::new("edge", name)
}

fn statuses() -> Statuses {
    statuses_of(CLUSTER, "")
}

fn statuses_of(cluster: &str, options: &str) -> Statuses {
    let options = options::from_yaml_str(options).unwrap().options;
    let mut manifests = Manifests::default();
    manifests.add(&"cluster.yaml".into(), cluster.as_bytes());
    let metrics = Metrics::new("x").unwrap();
    let live = Arc::new(Live::new(offline::routing(manifests, &options), metrics.clone()));
    let operator = Subject { kind: Kind::ConfigMap, namespace: "w".into(), name: "w".into() };
    let problems = Arc::new(ProblemReports::new(Events::new(operator), Arc::clone(&live), metrics));
    assert_eq!((options.status, options.status_delay), (true, DELAY));
    Statuses::new(live, problems, "waybill:waybill/waybill".to_owned(), &options)
}

/// The names that the queue holds, which is emptied.
fn queued(statuses: &Statuses) -> Vec<String> {
    let mut names: Vec<String> =
        std::iter::from_fn(|| statuses.queue.try_next()).map(|(key, ())| key.name().to_owned()).collect();
    names.sort();
    names
}

fn look_at(
    statuses: &Statuses,
    keys: BTreeMap<IngressKey, Option<OutputKey>>,
    all: bool,
    uncommitted: impl Fn(&OutputKey) -> bool,
) {
    statuses.look_at(statuses.live.routing(), keys, all, uncommitted);
}

/// Looks at what is pending, as the publisher does: outputs with pending changes have them to commit.
fn look(statuses: &Statuses) {
    let routing = statuses.live.routing();
    let pending = statuses.live.take_pending();
    statuses.look_at(routing, pending.statuses, false, |output| pending.outputs.contains_key(output));
}

fn reconcile(statuses: &Statuses, name: &str) {
    let cause = Cause { trigger: Trigger::Ingress, at: Instant::now(), trace: None };
    statuses.live.reconcile(&key(name), cause).unwrap();
}

fn delete(statuses: &Statuses, name: &str) {
    let mut routing = statuses.live.routing();
    let ingress = Ingress::clone(routing.stores().ingresses().get(&key(name)).unwrap());
    routing.stores_mut().apply_ingress(&Scope::All, Event::Delete(ingress));
    let left = routing.stores_mut().take_left();
    drop(routing);
    statuses.note_left(left);
}

/// Makes Ingress `a` with this uid, which no reconcile has seen.
fn create(statuses: &Statuses, uid: &str, host: &str) {
    let ingress = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "a", "namespace": "shop", "uid": uid},
        "spec": {"ingressClassName": "a", "rules": [{"host": host, "http": {"paths": [{
            "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}},
        }]}}]},
    }));
    statuses.live.routing().stores_mut().apply_ingress(&Scope::All, Event::Apply(ingress.unwrap()));
}

/// Ingress `a` is published and every proxy has it, in commit 5.
fn published() -> Statuses {
    published_with("")
}

fn published_with(options: &str) -> Statuses {
    let statuses = statuses_of(CLUSTER, options);
    statuses.live.set_leading(true);
    statuses.live.set_publication(&output("a"), Publication::Committed);
    create(&statuses, "first", "a.example.com");
    reconcile(&statuses, "a");
    look(&statuses);
    statuses.committed(&output("a"), CommitId::new(1, 5), false, CommitId::new(1, 5));
    assert_eq!(queued(&statuses), ["a"]);
    assert!(!leaves_alone(&statuses, "a"));
    statuses
}

fn leaves_alone(statuses: &Statuses, name: &str) -> bool {
    let state = statuses.state(&key(name)).unwrap();
    state.ours && state.wanted == DesiredStatus::LeaveAlone
}

#[test]
fn nothing_is_written_before_the_first_commit_or_while_commits_fail() {
    let statuses = statuses();
    for publication in
        [None, Some(Publication::Failing("quota_exceeded")), Some(Publication::Held(Category::Paused))]
    {
        if let Some(publication) = publication {
            statuses.live.set_publication(&output("a"), publication);
        }
        look_at(&statuses, BTreeMap::from([(key("a"), None)]), false, |_| false);
        assert_eq!(queued(&statuses), [""; 0], "{publication:?}");
        // Also where it is looked at for another reason.
        assert!(leaves_alone(&statuses, "a"), "{publication:?}");
    }
    statuses.live.set_publication(&output("a"), Publication::Committed);
    statuses.committed(&output("a"), CommitId::new(1, 1), true, CommitId::new(1, 1));
    assert_eq!(queued(&statuses), ["a"]);
    let state = statuses.state(&key("a")).unwrap();
    assert!(
        matches!(state.wanted, DesiredStatus::Entries(entries) if entries[0].ip.as_deref() == Some("192.0.2.1"))
    );
}

#[test]
fn a_status_waits_for_its_own_output_alone() {
    let statuses = statuses();
    for name in ["a", "b"] {
        statuses.live.set_publication(&output(name), Publication::Committed);
    }
    // Both have something to commit, always.
    let all = || BTreeMap::from([(key("a"), None), (key("b"), None)]);
    look_at(&statuses, all(), false, |_| true);
    assert_eq!(queued(&statuses), [""; 0]);
    assert!(leaves_alone(&statuses, "a"));
    statuses.committed(&output("a"), CommitId::new(1, 1), false, CommitId::new(1, 1));
    look_at(&statuses, BTreeMap::from([(key("b"), None)]), false, |_| true);
    assert_eq!(queued(&statuses), ["a"]);
    assert!(!leaves_alone(&statuses, "a") && leaves_alone(&statuses, "b"));
    // One that has nothing to commit holds up nobody.
    look_at(&statuses, all(), false, |busy| *busy == output("b"));
    assert_eq!(queued(&statuses), ["a"]);
    statuses.committed(&output("b"), CommitId::new(1, 1), false, CommitId::new(1, 1));
    assert_eq!(queued(&statuses), ["b"]);
}

#[test]
fn an_address_is_withdrawn_when_the_routing_is() {
    let statuses = statuses();
    statuses.live.set_publication(&output("a"), Publication::Held(Category::WithdrawalHeld));
    look_at(&statuses, BTreeMap::from([(key("left"), Some(output("a")))]), false, |_| true);
    // An event that concerns no output changes nothing about that.
    look_at(&statuses, BTreeMap::from([(key("left"), None)]), false, |_| true);
    assert_eq!(queued(&statuses), [""; 0]);
    assert!(leaves_alone(&statuses, "left"));
    statuses.committed(&output("a"), CommitId::new(1, 1), true, CommitId::new(1, 1));
    assert_eq!(queued(&statuses), ["a", "left"]);
    assert!(!statuses.state(&key("left")).unwrap().ours);
}

#[test]
fn a_new_leader_withdraws_no_address_while_an_output_may_still_hold_the_routing() {
    let statuses = statuses();
    let outputs: Vec<OutputKey> =
        statuses.live.routing().table().outputs().map(|(key, _)| key.clone()).collect();
    let rest: Vec<&OutputKey> = outputs.iter().filter(|key| **key != output("a")).collect();
    assert!(outputs.len() > rest.len() && !rest.is_empty(), "{outputs:?}");
    // No change says which output it was in.
    look_at(&statuses, BTreeMap::new(), true, |_| true);
    assert!(leaves_alone(&statuses, "left"), "not a single commit");
    for key in &rest {
        statuses.live.set_publication(key, Publication::Committed);
        statuses.committed(key, CommitId::new(1, 1), false, CommitId::new(1, 1));
    }
    for publication in [
        Publication::Held(Category::WithdrawalHeld),
        Publication::Held(Category::Paused),
        Publication::Failing("quota_exceeded"),
    ] {
        statuses.live.set_publication(&output("a"), publication);
        look_at(&statuses, BTreeMap::new(), true, |_| false);
        assert!(leaves_alone(&statuses, "left"), "{publication:?}");
    }
    queued(&statuses);
    statuses.live.set_publication(&output("a"), Publication::Committed);
    statuses.committed(&output("a"), CommitId::new(1, 2), true, CommitId::new(1, 2));
    assert_eq!(queued(&statuses), ["a", "left"]);
    assert!(!statuses.state(&key("left")).unwrap().ours, "withdrawn");
    // An output that fails from now on holds nothing of it.
    statuses.live.set_publication(&output("a"), Publication::Failing("quota_exceeded"));
    look_at(&statuses, BTreeMap::new(), true, |_| false);
    assert!(!statuses.state(&key("left")).unwrap().ours);
}

#[test]
fn what_waits_for_an_output_that_never_commits_is_bounded() {
    let statuses = statuses();
    let keys = (0..1_000).map(|at| (key(&format!("deleted-{at}")), Some(output("a"))));
    look_at(&statuses, keys.collect(), false, |_| true);
    look_at(&statuses, BTreeMap::from([(key("a"), None)]), false, |_| true);
    assert!(statuses.held.lock().waiting.len() <= 3, "{}", statuses.held.lock().waiting.len());
}

#[test]
fn an_address_is_written_once_every_proxy_has_the_routing() {
    let statuses = statuses();
    statuses.live.set_publication(&output("a"), Publication::Committed);
    let held = || statuses.state(&key("a")).unwrap().wanted == DesiredStatus::LeaveAlone;
    let changed = || look_at(&statuses, [(key("a"), Some(output("a")))].into(), false, |_| true);
    let release = |now, loaded| statuses.release(now, |_| loaded).get(&output("a")).copied();
    changed();
    assert!(statuses.await_commit(&output("a")) && !statuses.await_commit(&output("b")));
    statuses.committed(&output("a"), CommitId::new(1, 5), false, CommitId::new(1, 4));
    assert!(held());
    let now = Instant::now();
    assert_eq!(release(now, CommitId::new(1, 4)), None);
    assert!(held());
    // What changes again meanwhile does not wait for longer.
    changed();
    statuses.committed(&output("a"), CommitId::new(1, 6), false, CommitId::new(1, 4));
    assert!(held());
    assert_eq!(queued(&statuses), ["a"]);
    assert_eq!(release(now, CommitId::new(1, 5)), None);
    assert!(!held());
    assert_eq!(queued(&statuses), ["a"]);
    // Nor does it wait again before its status is written.
    changed();
    statuses.committed(&output("a"), CommitId::new(1, 7), false, CommitId::new(1, 5));
    assert!(!held());
}

/// The second commit found everything published already: an Ingress was made anew with the same routing, say.
#[test]
fn two_commits_of_one_generation_are_waited_for_together() {
    let second = "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: second, namespace: shop}
spec: {ingressClassName: a, rules: [{host: second.example.com}]}
";
    let statuses = statuses_of(&(CLUSTER.to_owned() + second), "");
    statuses.live.set_publication(&output("a"), Publication::Committed);
    for name in ["a", "second"] {
        look_at(&statuses, [(key(name), Some(output("a")))].into(), false, |_| true);
        statuses.committed(&output("a"), CommitId::new(1, 5), false, CommitId::new(1, 4));
    }
    assert!(leaves_alone(&statuses, "a") && leaves_alone(&statuses, "second"));
    assert!(queued(&statuses).is_empty());
    statuses.release(Instant::now(), |_| CommitId::new(1, 5));
    assert_eq!(queued(&statuses), ["a", "second"]);
    assert!(!leaves_alone(&statuses, "a") && !leaves_alone(&statuses, "second"));
}

#[test]
fn an_address_waits_for_its_delay_at_most() {
    let statuses = statuses();
    statuses.live.set_publication(&output("a"), Publication::Committed);
    let held = || statuses.state(&key("a")).unwrap().wanted == DesiredStatus::LeaveAlone;
    look_at(&statuses, [(key("a"), Some(output("a")))].into(), false, |_| true);
    statuses.committed(&output("a"), CommitId::new(1, 5), false, CommitId::new(0, 0));
    assert!(held());
    let late = statuses.release(Instant::now() + DELAY, |_| CommitId::new(0, 0));
    assert_eq!(late, [(output("a"), 1)].into());
    assert!(!held());
    assert_eq!(
        statuses.release(Instant::now() + DELAY, |_| CommitId::new(0, 0)),
        BTreeMap::new(),
        "counted once"
    );
}

#[test]
fn one_that_is_made_anew_has_no_address_until_it_is_published() {
    let statuses = published();
    delete(&statuses, "a");
    create(&statuses, "second", "a.example.com");
    assert!(leaves_alone(&statuses, "a"), "what is published is of the one before");
    delete(&statuses, "a");
    reconcile(&statuses, "a");
    create(&statuses, "third", "new.example.com");
    reconcile(&statuses, "a");
    assert!(leaves_alone(&statuses, "a"), "the publisher has not looked yet");
    look(&statuses);
    assert!(leaves_alone(&statuses, "a"), "it waits for a commit");
    statuses.committed(&output("a"), CommitId::new(1, 6), false, CommitId::new(1, 5));
    assert!(leaves_alone(&statuses, "a"), "it waits for the proxies");
    statuses.release(Instant::now(), |_| CommitId::new(1, 6));
    assert!(!leaves_alone(&statuses, "a"));
}

#[test]
fn one_that_is_made_anew_during_a_commit_is_not_in_it() {
    let statuses = published();
    let make_anew = |uid, host| {
        delete(&statuses, "a");
        reconcile(&statuses, "a");
        create(&statuses, uid, host);
        reconcile(&statuses, "a");
    };
    make_anew("second", "b.example.com");
    look(&statuses);
    make_anew("third", "c.example.com");
    statuses.committed(&output("a"), CommitId::new(1, 6), false, CommitId::new(1, 5));
    look(&statuses);
    statuses.committed(&output("a"), CommitId::new(1, 7), false, CommitId::new(1, 5));
    queued(&statuses);
    statuses.release(Instant::now(), |_| CommitId::new(1, 6));
    assert!(leaves_alone(&statuses, "a") && queued(&statuses).is_empty());
    statuses.release(Instant::now(), |_| CommitId::new(1, 7));
    assert!(!leaves_alone(&statuses, "a"));
}

#[test]
fn one_that_is_made_anew_with_the_same_routing_waits_for_the_proxies() {
    let statuses = statuses();
    statuses.live.set_leading(true);
    statuses.live.set_publication(&output("a"), Publication::Committed);
    create(&statuses, "first", "a.example.com");
    reconcile(&statuses, "a");
    look(&statuses);
    // Gone for the moment at which the commit ends, and nothing but its uid changes.
    delete(&statuses, "a");
    statuses.committed(&output("a"), CommitId::new(1, 6), false, CommitId::new(1, 5));
    create(&statuses, "second", "a.example.com");
    reconcile(&statuses, "a");
    look(&statuses);
    assert!(leaves_alone(&statuses, "a"));
    statuses.release(Instant::now(), |_| CommitId::new(1, 6));
    assert!(!leaves_alone(&statuses, "a"));
}

#[test]
fn one_that_changes_all_the_time_gets_its_address() {
    let statuses = published();
    for number in 0..5 {
        create(&statuses, "first", &format!("{number}.example.com"));
        reconcile(&statuses, "a");
        assert!(!leaves_alone(&statuses, "a"), "not looked at");
        look(&statuses);
        assert!(!leaves_alone(&statuses, "a"), "not committed");
        statuses.committed(&output("a"), CommitId::new(1, 6 + number), false, CommitId::new(1, 5));
    }
    // But not while nothing is published.
    statuses.live.set_publication(&output("a"), Publication::Failing("other"));
    assert!(leaves_alone(&statuses, "a"));
}

#[test]
fn what_waits_for_an_output_that_is_let_go_waits_no_longer() {
    let statuses = statuses();
    look_at(&statuses, [(key("left"), Some(output("a")))].into(), false, |_| true);
    assert!(leaves_alone(&statuses, "left"));
    statuses.forget_output(&output("b"));
    assert!(leaves_alone(&statuses, "left") && queued(&statuses).is_empty());
    statuses.forget_output(&output("a"));
    assert_eq!(queued(&statuses), ["left"]);
    assert!(!statuses.state(&key("left")).unwrap().ours, "withdrawn");
}

#[test]
fn nothing_is_remembered_of_one_that_is_deleted() {
    let statuses = published();
    delete(&statuses, "a");
    reconcile(&statuses, "a");
    look(&statuses);
    assert_eq!(queued(&statuses), ["a"], "so that the writer forgets it too");
    assert!(statuses.state(&key("a")).is_none());
    let held = statuses.held.lock();
    assert!(held.waiting.len() == 0 && held.arriving.is_empty());
}

#[path = "owner_tests.rs"]
mod owner_tests;
