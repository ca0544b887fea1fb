//! Every rule of the schema, by the API server and by our own check of the same spec.

use kube::api::{DynamicObject, PostParams};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use waybill::parameters::check::check;

use super::{object, plane, untyped};

/// What the API server says: the spec that it would keep, or its words of refusal.
async fn ask(api: &kube::Api<DynamicObject>, spec: &Value) -> Result<Value, String> {
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match api.create(&params, &object("asked", spec)).await {
        Ok(object) => Ok(object.data["spec"].clone()),
        Err(kube::Error::Api(status)) if status.code == 422 => Err(status.message.clone()),
        Err(error) => panic!("{spec}: {error}"),
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("n{at}")).collect()
}

fn requirement(requirement: Value) -> Value {
    json!({"namespaces": {"selector": {"matchExpressions": [requirement]}}})
}

#[tokio::test]
async fn what_is_right_passes_both() {
    let api = untyped(plane().await.admin());
    let label = "x".repeat(63);
    for spec in [
        json!({}),
        json!({"output": {}}),
        json!({"output": {"name": "public", "namespace": "edge"}}),
        json!({"output": {"name": label, "namespace": "0"}}),
        json!({"ingressEndpoint": {"ip": "192.0.2.1"}}),
        json!({"ingressEndpoint": {"ip": "2001:db8::1", "hostname": "lb.example.com"}}),
        json!({"ingressEndpoint": {"hostname": "lb"}}),
        json!({"ingressEndpoint": {"publishedService": "edge/public"}}),
        json!({"ingressEndpoint": {"publishedService": format!("{label}/a{}", &label[1..])}}),
        json!({"ingressEndpoint": {"hostname": "lb"}, "reportNodeInternalIPs": false}),
        json!({"reportNodeInternalIPs": true}),
        json!({"allowEmptyServices": true, "allowExternalNameServices": false, "allowCrossNamespace": true,
               "nativeLBByDefault": true, "strictPrefixMatching": true}),
        json!({"crossProviderNamespaces": []}),
        json!({"crossProviderNamespaces": names(256)}),
        json!({"defaultRuleSyntax": "v2"}),
        json!({"defaultRuleSyntax": "v3", "precedence": "Spec", "brokenBackends": "Answer503"}),
        json!({"precedence": "Traefik", "brokenBackends": "Drop"}),
        json!({"defaultEntryPoints": names(256), "defaultMiddlewares": ["ns-auth@kubernetescrd", "x".repeat(512)]}),
        json!({"namespaces": {"names": []}}),
        json!({"namespaces": {"names": ["a", "a"]}}),
        json!({"namespaces": {"selector": {}}}),
        json!({"namespaces": {"selector": {"matchLabels": {"example.com/Team_1": "", "b": "A.b-c_d"}}}}),
        requirement(json!({"key": "team", "operator": "In", "values": ["a", ""]})),
        requirement(json!({"key": "example.com/team", "operator": "NotIn", "values": names(256)})),
        requirement(json!({"key": "team", "operator": "Exists"})),
        requirement(json!({"key": "team", "operator": "DoesNotExist", "values": []})),
        json!({"output": null, "precedence": null, "namespaces": null, "crossProviderNamespaces": null}),
    ] {
        let kept = ask(&api, &spec).await.unwrap_or_else(|refusal| panic!("{spec}: {refusal}"));
        let checked = check(&spec).unwrap_or_else(|faults| panic!("{spec}: {faults}"));
        assert_eq!(check(&kept).unwrap(), checked, "{spec}");
    }
}

#[tokio::test]
async fn every_rule_refuses_what_it_should_with_words_that_help() {
    let api = untyped(plane().await.admin());
    let label = "DNS label";
    let reference = "one name per entry";
    let labels = |count: usize| -> Value {
        Value::Object(names(count).into_iter().map(|name| (name, json!("x"))).collect())
    };
    for (spec, words) in [
        (json!(null), "spec"),
        (json!({"output": {"name": "Public"}}), label),
        (json!({"output": {"name": ""}}), label),
        (json!({"output": {"name": "-a"}}), label),
        (json!({"output": {"name": "a-"}}), label),
        (json!({"output": {"name": "a.b"}}), label),
        (json!({"output": {"name": "a\n"}}), label),
        (json!({"output": {"namespace": "ä"}}), label),
        (json!({"output": {"name": "x".repeat(64)}}), "63"),
        (json!({"output": {"name": 7}}), "string"),
        (json!({"output": []}), "object"),
        (json!({"ingressEndpoint": {}}), "give ip, hostname or publishedService"),
        (
            json!({"ingressEndpoint": {"publishedService": "a/b", "ip": "192.0.2.1"}}),
            "publishedService excludes ip and hostname",
        ),
        (
            json!({"ingressEndpoint": {"publishedService": "a/b", "hostname": "lb"}}),
            "publishedService excludes ip and hostname",
        ),
        (json!({"ingressEndpoint": {"publishedService": "public"}}), "namespace/name"),
        (json!({"ingressEndpoint": {"publishedService": "a/b/c"}}), "namespace/name"),
        (json!({"ingressEndpoint": {"publishedService": "a/0b"}}), "namespace/name"),
        (json!({"ingressEndpoint": {"publishedService": "A/b"}}), "namespace/name"),
        (json!({"ingressEndpoint": {"publishedService": ""}}), "namespace/name"),
        (json!({"ingressEndpoint": {"publishedService": format!("a/{}", "x".repeat(64))}}), "namespace/name"),
        (json!({"ingressEndpoint": {"ip": "lb"}}), "IPv4 or IPv6"),
        (json!({"ingressEndpoint": {"ip": "192.0.2.01"}}), "IPv4 or IPv6"),
        (json!({"ingressEndpoint": {"ip": "fe80::1%eth0"}}), "IPv4 or IPv6"),
        (json!({"ingressEndpoint": {"ip": "::ffff:192.0.2.1"}}), "IPv4 or IPv6"),
        (json!({"ingressEndpoint": {"ip": ""}}), "IPv4 or IPv6"),
        (json!({"ingressEndpoint": {"hostname": "192.0.2.1"}}), "DNS name"),
        (json!({"ingressEndpoint": {"hostname": "*.example.com"}}), "DNS name"),
        (json!({"ingressEndpoint": {"hostname": "a..b"}}), "DNS name"),
        (json!({"ingressEndpoint": {"hostname": "LB"}}), "DNS name"),
        (json!({"ingressEndpoint": {"hostname": "x".repeat(254)}}), "253"),
        (
            json!({"ingressEndpoint": {"ip": "192.0.2.1"}, "reportNodeInternalIPs": true}),
            "reportNodeInternalIPs and ingressEndpoint exclude each other",
        ),
        (json!({"allowEmptyServices": "true"}), "boolean"),
        (json!({"crossProviderNamespaces": names(257)}), "256"),
        (json!({"crossProviderNamespaces": ["a", "B"]}), label),
        (json!({"crossProviderNamespaces": "a"}), "array"),
        (json!({"defaultEntryPoints": names(257)}), "256"),
        (json!({"defaultEntryPoints": ["web,websecure"]}), reference),
        (json!({"defaultEntryPoints": ["web "]}), reference),
        (json!({"defaultMiddlewares": ["a@file║b@file"]}), reference),
        (json!({"defaultMiddlewares": [""]}), reference),
        (json!({"defaultMiddlewares": ["x".repeat(513)]}), "512"),
        (json!({"defaultMiddlewares": names(257)}), "256"),
        (json!({"defaultRuleSyntax": "v1"}), "v3"),
        (json!({"precedence": "spec"}), "Spec"),
        (json!({"brokenBackends": "answer503"}), "Answer503"),
        (json!({"namespaces": {}}), "either names or selector"),
        (json!({"namespaces": {"names": ["a"], "selector": {}}}), "either names or selector"),
        (json!({"namespaces": {"names": ["a/b"]}}), label),
        (json!({"namespaces": {"names": names(257)}}), "256"),
        (json!({"namespaces": ["a"]}), "object"),
        (json!({"namespaces": {"selector": {"matchLabels": {"a b": "x"}}}}), "label's key"),
        (json!({"namespaces": {"selector": {"matchLabels": {"-a/b": "x"}}}}), "label's key"),
        (json!({"namespaces": {"selector": {"matchLabels": {"a": "b/c"}}}}), "label's value"),
        (json!({"namespaces": {"selector": {"matchLabels": labels(33)}}}), "32"),
        (requirement(json!({"operator": "Exists"})), "key"),
        (requirement(json!({"key": "a"})), "operator"),
        (requirement(json!({"key": "a/b/c", "operator": "Exists"})), "label's key"),
        (requirement(json!({"key": "", "operator": "Exists"})), "label's key"),
        (requirement(json!({"key": "a", "operator": "Equals"})), "NotIn"),
        (requirement(json!({"key": "a", "operator": "In"})), "need values"),
        (requirement(json!({"key": "a", "operator": "NotIn", "values": []})), "need values"),
        (requirement(json!({"key": "a", "operator": "Exists", "values": ["x"]})), "take none"),
        (requirement(json!({"key": "a", "operator": "In", "values": ["-"]})), "label's value"),
        (requirement(json!({"key": "a", "operator": "In", "values": names(257)})), "256"),
    ] {
        let refusal = ask(&api, &spec).await.expect_err(&format!("{spec} passed"));
        assert!(refusal.contains(words), "{spec}: {refusal}");
        assert!(check(&spec).is_err(), "{spec} passes our own check");
    }
}

/// What may stand anywhere.
fn junk() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[a-c./-]{0,4}", "[A-Ba-b0-1_.-]{0,3}", Just("::1".to_owned()), "\\PC{0,3}"];
    prop_oneof![
        6 => text.prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        2 => Just(Value::Null),
        1 => (0_i64..9).prop_map(Value::from),
        1 => Just(json!([])),
        1 => Just(json!({})),
    ]
}

/// A group of fields; each may be missing, and mostly is what it should be.
fn group(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, right)| {
            let value = prop_oneof![12 => right, 1 => junk()];
            prop::option::weighted(0.4, value).prop_map(move |value| Some((name.to_owned(), value?)))
        })
        .collect();
    fields.prop_map(|fields| fields.into_iter().flatten().collect()).boxed()
}

/// Values that come near being right.
fn near_specs() -> impl Strategy<Value = Value> {
    let text = |pattern: &'static str| pattern.prop_map(Value::from).boxed();
    let one_of = |texts: &'static [&'static str]| prop::sample::select(texts).prop_map(Value::from).boxed();
    let list = |item: BoxedStrategy<Value>| {
        prop::collection::vec(prop_oneof![20 => item, 1 => junk()], 0..3).prop_map(Value::from).boxed()
    };
    let flag = || any::<bool>().prop_map(Value::from).boxed();
    let label = || text("[a-z0-9]{1,2}[a-z0-9-]{0,2}");
    let requirement = group(vec![
        ("key", text("([a-z0-9][a-z.]{0,2}/)?[A-Za-z0-9][A-Za-z_.-]{0,2}")),
        ("operator", one_of(&["In", "NotIn", "Exists", "DoesNotExist"])),
        ("values", list(text("[A-Za-z0-9_.-]{0,3}"))),
    ]);
    let labels = vec![("a", text("[a-z0-9.]{0,3}")), ("b.c/D_e", text("[a-z]{0,1}")), ("-", label())];
    let selector = group(vec![("matchLabels", group(labels)), ("matchExpressions", list(requirement))]);
    group(vec![
        ("output", group(vec![("name", label()), ("namespace", label())])),
        (
            "ingressEndpoint",
            group(vec![
                ("ip", one_of(&["192.0.2.1", "2001:db8::1", "::", "1.2.3", "0:0:0:0:0:0:0:1", "1::2::3"])),
                ("hostname", text("[a-z0-9]{1,2}(\\.[a-z0-9-]{1,2}){0,2}")),
                ("publishedService", text("[a-z0-9]{1,2}/[a-z0-9][a-z-]{0,2}")),
            ]),
        ),
        ("reportNodeInternalIPs", flag()),
        ("allowEmptyServices", flag()),
        ("crossProviderNamespaces", list(label())),
        ("defaultRuleSyntax", one_of(&["v2", "v3"])),
        ("precedence", one_of(&["Traefik", "Spec"])),
        ("brokenBackends", one_of(&["Drop", "Answer503"])),
        ("defaultEntryPoints", list(text("[a-z, ║]{1,3}"))),
        ("defaultMiddlewares", list(text("[a-z@]{1,3}"))),
        ("namespaces", group(vec![("names", list(label())), ("selector", selector)])),
        ("unheardOf", junk().boxed()),
    ])
}

#[tokio::test]
async fn the_schema_and_our_check_agree_on_whatever_comes() {
    let api = untyped(plane().await.admin());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..600 {
        let spec = near_specs().new_tree(&mut runner).unwrap().current();
        match (ask(&api, &spec).await, check(&spec)) {
            (Ok(kept), Ok(checked)) => {
                assert_eq!(check(&kept).unwrap(), checked, "{spec}");
                passed += 1;
            }
            (Err(_), Err(_)) => refused += 1,
            (Ok(_), Err(faults)) => panic!("the API server takes {spec}, and we do not: {faults}"),
            (Err(refusal), Ok(_)) => panic!("we take {spec}, and the API server does not: {refusal}"),
        }
    }
    assert!(passed > 100 && refused > 100, "{passed} passed, {refused} refused");
}
