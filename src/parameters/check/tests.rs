use serde_json::json;

use super::*;

fn faults(spec: Value) -> Vec<(String, String)> {
    let faults = check(&spec).expect_err("accepted");
    faults.shown.into_iter().map(|fault| (fault.field, fault.remedy)).collect()
}

/// Field and value of the only fault.
fn fault(spec: Value) -> (String, String) {
    let faults = check(&spec).expect_err("accepted");
    assert_eq!((faults.shown.len(), faults.more), (1, 0), "{faults}");
    (faults.shown[0].field.clone(), faults.shown[0].value.clone())
}

#[test]
fn everything_at_once_is_taken_over_as_it_is() {
    let spec = json!({
        "output": {"name": "public", "namespace": "edge"},
        "ingressEndpoint": {"ip": "192.0.2.1", "hostname": "lb.example.com"},
        "reportNodeInternalIPs": false,
        "allowEmptyServices": true,
        "allowExternalNameServices": true,
        "allowCrossNamespace": true,
        "crossProviderNamespaces": ["a", "b"],
        "nativeLBByDefault": true,
        "strictPrefixMatching": true,
        "defaultRuleSyntax": "v2",
        "precedence": "Spec",
        "brokenBackends": "Answer503",
        "defaultEntryPoints": ["websecure"],
        "defaultMiddlewares": ["edge-auth@kubernetescrd"],
        "namespaces": {"selector": {
            "matchLabels": {"example.com/team": "a"},
            "matchExpressions": [{"key": "tier", "operator": "In", "values": ["x", ""]}],
        }},
    });
    let checked = check(&spec).unwrap();
    assert_eq!(serde_json::to_value(&checked).unwrap(), spec);
    assert_eq!(serde_json::from_value::<IngressClassParametersSpec>(spec).unwrap(), checked);
}

#[test]
fn null_is_left_out_and_unknown_fields_are_not_looked_at() {
    let spec = json!({"output": null, "allowEmptyServices": null, "colour": 7});
    assert_eq!(check(&spec).unwrap(), IngressClassParametersSpec::default());
}

#[test]
fn every_fault_names_its_field_and_value() {
    for (spec, field, value) in [
        (json!(null), "spec", "null"),
        (json!([]), "spec", "a list of 0"),
        (json!({"output": "x"}), "spec.output", "x"),
        (json!({"output": {"name": "A"}}), "spec.output.name", "A"),
        (json!({"output": {"name": 7}}), "spec.output.name", "7"),
        (json!({"output": {"name": ""}}), "spec.output.name", ""),
        (json!({"output": {"namespace": "a.b"}}), "spec.output.namespace", "a.b"),
        (json!({"ingressEndpoint": {}}), "spec.ingressEndpoint", "a group of fields"),
        (json!({"ingressEndpoint": {"ip": "lb"}}), "spec.ingressEndpoint.ip", "lb"),
        (json!({"ingressEndpoint": {"ip": "::ffff:1.2.3.4"}}), "spec.ingressEndpoint.ip", "::ffff:1.2.3.4"),
        (json!({"ingressEndpoint": {"hostname": "1.2.3.4"}}), "spec.ingressEndpoint.hostname", "1.2.3.4"),
        (
            json!({"ingressEndpoint": {"publishedService": "edge"}}),
            "spec.ingressEndpoint.publishedService",
            "edge",
        ),
        (
            json!({"ingressEndpoint": {"publishedService": "a/b", "ip": "1.2.3.4"}}),
            "spec.ingressEndpoint",
            "a group of fields",
        ),
        (
            json!({"ingressEndpoint": {"ip": "1.2.3.4"}, "reportNodeInternalIPs": true}),
            "spec.reportNodeInternalIPs",
            "true",
        ),
        (json!({"allowEmptyServices": "true"}), "spec.allowEmptyServices", "true"),
        (json!({"crossProviderNamespaces": "a"}), "spec.crossProviderNamespaces", "a"),
        (json!({"crossProviderNamespaces": ["a", null]}), "spec.crossProviderNamespaces[1]", "null"),
        (json!({"precedence": "spec"}), "spec.precedence", "spec"),
        (json!({"brokenBackends": "answer503"}), "spec.brokenBackends", "answer503"),
        (json!({"defaultRuleSyntax": 3}), "spec.defaultRuleSyntax", "3"),
        (json!({"defaultEntryPoints": ["web,websecure"]}), "spec.defaultEntryPoints[0]", "web,websecure"),
        (json!({"defaultMiddlewares": [""]}), "spec.defaultMiddlewares[0]", ""),
        (json!({"namespaces": {}}), "spec.namespaces", "a group of fields"),
        (json!({"namespaces": ["a"]}), "spec.namespaces", "a list of 1"),
        (json!({"namespaces": {"names": [], "selector": {}}}), "spec.namespaces", "a group of fields"),
        (
            json!({"namespaces": {"selector": {"matchLabels": {"a b": "c"}}}}),
            "spec.namespaces.selector.matchLabels",
            "a b",
        ),
        (
            json!({"namespaces": {"selector": {"matchLabels": {"a": "-"}}}}),
            "spec.namespaces.selector.matchLabels[a]",
            "-",
        ),
        (
            json!({"namespaces": {"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}}),
            "spec.namespaces.selector.matchExpressions[0]",
            "a group of fields",
        ),
        (
            json!({"namespaces": {"selector": {"matchExpressions": [{"operator": "Exists"}]}}}),
            "spec.namespaces.selector.matchExpressions[0].key",
            "",
        ),
    ] {
        assert_eq!(fault(spec.clone()), (field.to_owned(), value.to_owned()), "{spec}");
    }
}

#[test]
fn faults_are_all_told_up_to_a_bound() {
    assert_eq!(faults(json!({"output": {"name": "A"}, "precedence": "x"})).len(), 2);
    let many: Vec<Value> = (0..40).map(|at| json!(format!("BAD{at}"))).collect();
    let faults = check(&json!({"crossProviderNamespaces": many.clone()})).unwrap_err();
    assert!(faults.shown.len() <= MAX_FAULTS && faults.shown.len() + faults.more >= 1);
    let faults = check(&json!({"output": {"name": "x".repeat(9000)}})).unwrap_err();
    assert!(faults.summary().len() < 1000, "{}", faults.summary().len());
}

#[test]
fn lists_and_the_whole_are_bounded() {
    let names = |count: usize| (0..count).map(|at| json!(format!("n{at}"))).collect::<Vec<_>>();
    assert!(check(&json!({"namespaces": {"names": names(256)}})).is_ok());
    assert_eq!(fault(json!({"namespaces": {"names": names(257)}})).0, "spec.namespaces.names");
    let large: Vec<Value> = (0..256).map(|at| json!(format!("{at}{}", "x".repeat(200)))).collect();
    let faults = check(&json!({"defaultMiddlewares": large})).unwrap_err();
    assert!(faults.too_large);
    assert_eq!(faults.shown[0].field, "spec");
}
