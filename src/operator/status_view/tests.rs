use super::*;
use crate::kubernetes::manifests::Manifests;
use crate::metrics::Metrics;
use crate::parameters::status::Publication;
use crate::publish::problems::Events;
use crate::translate::problem::{Category, Kind, Subject};
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
  managedFields: [{manager: waybill, operation: Apply, subresource: status}]
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
    let options = options::from_yaml_str("").unwrap().options;
    let mut manifests = Manifests::default();
    manifests.add(&"cluster.yaml".into(), CLUSTER.as_bytes());
    let metrics = Metrics::new("x").unwrap();
    let live = Arc::new(Live::new(offline::routing(manifests, &options), metrics.clone()));
    let operator = Subject { kind: Kind::ConfigMap, namespace: "w".into(), name: "w".into() };
    let problems = Arc::new(ProblemReports::new(Events::new(operator), Arc::clone(&live), metrics));
    Statuses::new(live, problems, true, DELAY)
}

/// The names that the queue holds, which is emptied.
fn queued(statuses: &Statuses) -> Vec<String> {
    let mut names: Vec<String> =
        std::iter::from_fn(|| statuses.queue.try_next()).map(|(key, ())| key.name().to_owned()).collect();
    names.sort();
    names
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
        statuses.look_at(BTreeMap::from([(key("a"), None)]), false, |_| false);
        assert_eq!(queued(&statuses), [""; 0], "{publication:?}");
        // Also where it is looked at for another reason.
        assert!(leaves_alone(&statuses, "a"), "{publication:?}");
    }
    statuses.live.set_publication(&output("a"), Publication::Committed);
    statuses.committed(&output("a"), (1, 1), true, (1, 1));
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
    statuses.look_at(all(), false, |_| true);
    assert_eq!(queued(&statuses), [""; 0]);
    assert!(leaves_alone(&statuses, "a"));
    statuses.committed(&output("a"), (1, 1), false, (1, 1));
    statuses.look_at(BTreeMap::from([(key("b"), None)]), false, |_| true);
    assert_eq!(queued(&statuses), ["a"]);
    assert!(!leaves_alone(&statuses, "a") && leaves_alone(&statuses, "b"));
    // One that has nothing to commit holds up nobody.
    statuses.look_at(all(), false, |busy| *busy == output("b"));
    assert_eq!(queued(&statuses), ["a"]);
    statuses.committed(&output("b"), (1, 1), false, (1, 1));
    assert_eq!(queued(&statuses), ["b"]);
}

#[test]
fn an_address_is_withdrawn_when_the_routing_is() {
    let statuses = statuses();
    statuses.live.set_publication(&output("a"), Publication::Held(Category::WithdrawalHeld));
    statuses.look_at(BTreeMap::from([(key("left"), Some(output("a")))]), false, |_| true);
    // An event that concerns no output changes nothing about that.
    statuses.look_at(BTreeMap::from([(key("left"), None)]), false, |_| true);
    assert_eq!(queued(&statuses), [""; 0]);
    assert!(leaves_alone(&statuses, "left"));
    statuses.committed(&output("a"), (1, 1), true, (1, 1));
    assert_eq!(queued(&statuses), ["a", "left"]);
    assert!(!statuses.state(&key("left")).unwrap().ours);
}

#[test]
fn what_waits_for_an_output_that_never_commits_is_bounded() {
    let statuses = statuses();
    let keys = (0..1_000).map(|at| (key(&format!("deleted-{at}")), Some(output("a"))));
    statuses.look_at(keys.collect(), false, |_| true);
    statuses.look_at(BTreeMap::from([(key("a"), None)]), false, |_| true);
    assert!(statuses.waiting().len() <= 3, "{}", statuses.waiting().len());
}

#[test]
fn an_address_is_written_once_every_proxy_has_the_routing() {
    let statuses = statuses();
    statuses.live.set_publication(&output("a"), Publication::Committed);
    let held = || statuses.state(&key("a")).unwrap().wanted == DesiredStatus::LeaveAlone;
    let changed = || statuses.look_at([(key("a"), Some(output("a")))].into(), false, |_| true);
    let release = |now, loaded| statuses.release(now, |_| loaded).get(&output("a")).copied();
    changed();
    assert!(statuses.await_commit(&output("a")) && !statuses.await_commit(&output("b")));
    statuses.committed(&output("a"), (1, 5), false, (1, 4));
    assert!(held());
    let now = Instant::now();
    assert_eq!(release(now, (1, 4)), None);
    assert!(held());
    // What changes again meanwhile does not wait for longer.
    changed();
    statuses.committed(&output("a"), (1, 6), false, (1, 4));
    assert!(held());
    assert_eq!(queued(&statuses), ["a"]);
    assert_eq!(release(now, (1, 5)), None);
    assert!(!held());
    assert_eq!(queued(&statuses), ["a"]);
    // Nor does it wait again before its status is written.
    changed();
    statuses.committed(&output("a"), (1, 7), false, (1, 5));
    assert!(!held());
}

#[test]
fn an_address_waits_for_its_delay_at_most() {
    let statuses = statuses();
    statuses.live.set_publication(&output("a"), Publication::Committed);
    let held = || statuses.state(&key("a")).unwrap().wanted == DesiredStatus::LeaveAlone;
    statuses.look_at([(key("a"), Some(output("a")))].into(), false, |_| true);
    statuses.committed(&output("a"), (1, 5), false, (0, 0));
    assert!(held());
    let late = statuses.release(Instant::now() + DELAY, |_| (0, 0));
    assert_eq!(late, [(output("a"), 1)].into());
    assert!(!held());
    assert_eq!(statuses.release(Instant::now() + DELAY, |_| (0, 0)), BTreeMap::new(), "counted once");
}

#[test]
fn one_that_is_made_anew_waits_for_a_commit_of_its_own() {
    let statuses = statuses();
    statuses.live.set_publication(&output("a"), Publication::Committed);
    let commit = |commit| {
        statuses.look_at([(key("a"), Some(output("a")))].into(), false, |_| true);
        statuses.committed(&output("a"), commit, false, (1, 1));
    };
    commit((1, 5));
    statuses.arriving().get_mut(&key("a")).unwrap().uid = Some("of the one before".to_owned());
    commit((1, 6));
    statuses.release(Instant::now(), |_| (1, 5));
    assert!(leaves_alone(&statuses, "a"));
    statuses.release(Instant::now(), |_| (1, 6));
    assert!(!leaves_alone(&statuses, "a"));
}
