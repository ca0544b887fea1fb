//! Whose address it is: another installation's, that of an Ingress which left the watch, or that of a paused class.

use super::*;
use crate::publish::statuses::policy::{Decision, StatusPolicy};

/// What is to be done about the status of an Ingress.
fn decided(statuses: &Statuses, name: &str) -> Decision {
    StatusPolicy::default().decide(&key(name), statuses.state(&key(name)).as_ref(), Instant::now())
}

/// Ingress `name` of a class that is not ours, with an address that this manager applied.
fn foreign(statuses: &Statuses, name: &str, manager: &str) {
    let ingress = serde_json::from_value(serde_json::json!({
        "metadata": {
            "name": name, "namespace": "shop",
            "managedFields": [{"manager": manager, "operation": "Apply", "subresource": "status"}],
        },
        "spec": {"ingressClassName": "other", "rules": [{"host": "foreign.example.com"}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}},
    }));
    statuses.live.routing().stores_mut().apply_ingress(&Scope::All, Event::Apply(ingress.unwrap()));
}

#[test]
fn the_address_of_another_installation_is_left_alone() {
    let statuses = statuses();
    for (name, manager) in [("theirs", "waybill:edge/waybill"), ("older", "waybill"), ("traefiks", "traefik")]
    {
        foreign(&statuses, name, manager);
    }
    look_at(&statuses, BTreeMap::new(), true, |_| true);
    let inherited = statuses.held.lock().inherited.clone();
    assert_eq!(inherited, Some([key("left")].into()));
    let outputs: Vec<OutputKey> =
        statuses.live.routing().table().outputs().map(|(key, _)| key.clone()).collect();
    for output in outputs {
        statuses.live.set_publication(&output, Publication::Committed);
        statuses.committed(&output, CommitId::new(1, 1), false, CommitId::new(1, 1));
    }
    assert_eq!(decided(&statuses, "left"), Decision::Write(Vec::new()));
    for name in ["theirs", "older", "traefiks"] {
        assert_eq!(decided(&statuses, name), Decision::Nothing, "{name}");
    }
}

#[test]
fn one_that_loses_the_label_loses_its_address_once_its_routing_is_withdrawn() {
    let statuses = published_with("{providers: {kubernetesIngress: {labelSelector: 'tier=front'}}}");
    let mut shown = Ingress::clone(statuses.live.routing().stores().ingresses().get(&key("a")).unwrap());
    let ours = serde_json::json!([{"manager": "waybill:waybill/waybill", "operation": "Apply", "subresource": "status"}]);
    shown.metadata.managed_fields = Some(serde_json::from_value(ours).unwrap());
    shown.status =
        serde_json::from_value(serde_json::json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}))
            .unwrap();
    let show = |ingress: &Ingress| {
        statuses.live.routing().stores_mut().apply_ingress(&Scope::All, Event::Apply(ingress.clone()));
    };
    show(&shown);
    for back in [true, false] {
        delete(&statuses, "a");
        assert!(leaves_alone(&statuses, "a"), "it is routed to");
        reconcile(&statuses, "a");
        assert!(leaves_alone(&statuses, "a"), "the publisher has not looked");
        look(&statuses);
        assert!(leaves_alone(&statuses, "a") && queued(&statuses).is_empty(), "not committed");
        if back {
            show(&shown);
            assert!(statuses.state(&key("a")).is_some() && statuses.held.lock().left.is_empty());
            reconcile(&statuses, "a");
            look(&statuses);
            statuses.committed(&output("a"), CommitId::new(1, 6), false, CommitId::new(1, 6));
            queued(&statuses);
            assert_eq!(decided(&statuses, "a"), Decision::Nothing, "it has its address");
        }
    }
    statuses.committed(&output("a"), CommitId::new(1, 7), false, CommitId::new(1, 7));
    assert_eq!(queued(&statuses), ["a"]);
    let state = statuses.state(&key("a")).unwrap();
    assert_eq!((state.uid.as_deref(), state.ours), (Some("first"), false));
    assert_eq!(decided(&statuses, "a"), Decision::Write(Vec::new()));
    statuses.written(&key("a"));
    assert!(statuses.state(&key("a")).is_none() && statuses.held.lock().left.is_empty());
}

/// An annotation names no IngressClass: the one that is called like it publishes elsewhere.
const SAME_NAME: &str = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: traefik, annotations: {waybill.dev/paused: 'true'}}
spec: {controller: traefik.io/ingress-controller, parameters: {apiGroup: waybill.dev, kind: IngressClassParameters, name: c}}
---
apiVersion: waybill.dev/v1alpha1
kind: IngressClassParameters
metadata: {name: c}
spec: {output: {name: c, namespace: edge}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: annotated, namespace: shop, annotations: {kubernetes.io/ingress.class: traefik}}
spec: {rules: [{host: annotated.example.com}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: classed, namespace: shop}
spec: {ingressClassName: traefik, rules: [{host: classed.example.com}]}
";

#[test]
fn a_pause_holds_the_statuses_of_its_output_alone() {
    let statuses = statuses_of(SAME_NAME, "");
    for output in [OutputKey::new("waybill", "waybill"), output("c")] {
        statuses.live.set_publication(&output, Publication::Committed);
        statuses.committed(&output, CommitId::new(1, 1), false, CommitId::new(1, 1));
    }
    let paused = |name: &str| statuses.live.routing().is_paused(&key(name));
    assert_eq!((paused("annotated"), paused("classed")), (false, true));
}
