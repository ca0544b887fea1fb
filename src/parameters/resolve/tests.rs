use k8s_openapi::api::networking::v1::{IngressClassParametersReference, IngressClassSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kubernetes::key::{OutputKey, ServiceKey};
use crate::translate::settings::{NamespacePolicy, Precedence, StatusSource};

const CONTROLLER: &str = "traefik.io/ingress-controller";

fn reference() -> IngressClassParametersReference {
    IngressClassParametersReference {
        api_group: Some(GROUP.to_owned()),
        kind: KIND.to_owned(),
        name: "settings".to_owned(),
        namespace: None,
        scope: Some("Cluster".to_owned()),
    }
}

fn class(parameters: Option<IngressClassParametersReference>) -> IngressClass {
    IngressClass {
        metadata: ObjectMeta {
            name: Some("public".to_owned()),
            uid: Some("1".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(IngressClassSpec { controller: Some(CONTROLLER.to_owned()), parameters }),
    }
}

fn entry(spec: Value) -> AcceptedParameters {
    AcceptedParameters { uid: Some("1".to_owned()), spec: check(&spec).unwrap() }
}

fn run(class: &IngressClass, parameters: Found<'_>, last: Option<&AcceptedParameters>) -> Resolution {
    let defaults = Arc::new(Settings::default());
    run_with(class, parameters, last, &defaults, NamespaceLabels::Unavailable)
}

fn run_with(
    class: &IngressClass,
    parameters: Found<'_>,
    last_accepted: Option<&AcceptedParameters>,
    defaults: &Arc<Settings>,
    namespaces: NamespaceLabels<'_>,
) -> Resolution {
    let inputs = Inputs { class, controller_name: CONTROLLER, parameters, last_accepted, defaults };
    resolve(&inputs, namespaces).expect("ours")
}

fn settings(resolution: &Resolution) -> &Settings {
    match &resolution.state {
        ClassState::Accepted(settings) => settings,
        ClassState::NotAccepted => panic!("not accepted: {:?}", resolution.verdict),
    }
}

#[test]
fn another_controllers_class_is_nothing_to_us() {
    let class = class(None);
    let defaults = Arc::new(Settings::default());
    let inputs = Inputs {
        class: &class,
        controller_name: "other.io/x",
        parameters: Found::Missing,
        last_accepted: None,
        defaults: &defaults,
    };
    assert_eq!(resolve(&inputs, NamespaceLabels::Pending), None);
    assert!(!is_ours(&IngressClass::default(), CONTROLLER));
}

#[test]
fn a_class_without_parameters_has_the_operators_very_settings() {
    let defaults = Arc::new(Settings::default());
    let last = entry(json!({"strictPrefixMatching": true}));
    let class = class(None);
    let resolution =
        run_with(&class, Found::NotInstalled, Some(&last), &defaults, NamespaceLabels::Unavailable);
    assert!(matches!(&resolution.state, ClassState::Accepted(settings) if Arc::ptr_eq(settings, &defaults)));
    assert_eq!(resolution.standing, Standing::Operator);
    assert_eq!((resolution.accepted_now, resolution.problem, resolution.verdict), (None, None, None));
}

#[test]
fn what_is_set_counts_and_what_is_not_is_the_operators() {
    let defaults = Arc::new(Settings {
        output: OutputKey::new("ops", "all"),
        allow_empty_services: true,
        status: StatusSource::NodeInternalIPs,
        ..Settings::default()
    });
    let class = class(Some(reference()));
    let resolve =
        |spec: Value| run_with(&class, Found::Spec(&spec), None, &defaults, NamespaceLabels::Unavailable);
    let resolution = resolve(json!({}));
    assert_eq!(settings(&resolution), &*defaults);
    assert_eq!(resolution.standing, Standing::Current);
    assert_eq!(resolution.accepted_now, Some(entry(json!({}))));
    assert_eq!(resolution.object.as_deref(), Some("settings"));
    assert_eq!(resolution.verdict.unwrap().status(), "True");

    let spec = json!({
        "output": {"name": "public"},
        "ingressEndpoint": {"publishedService": "edge/public"},
        "precedence": "Spec",
        "defaultEntryPoints": ["websecure"],
        "namespaces": {"names": ["a", "b"]},
    });
    let wanted = Settings {
        output: OutputKey::new("ops", "public"),
        status: StatusSource::PublishedService(ServiceKey::new("edge", "public")),
        precedence: Precedence::Spec,
        default_entry_points: vec!["websecure".to_owned()],
        namespaces: NamespacePolicy::List(["a".to_owned(), "b".to_owned()].into()),
        ..(*defaults).clone()
    };
    assert_eq!(settings(&resolve(spec)), &wanted);

    let output = |spec| settings(&resolve(spec)).output.clone();
    assert_eq!(output(json!({"output": {"namespace": "edge"}})), OutputKey::new("edge", "all"));
    let status = |spec| settings(&resolve(spec)).status.clone();
    assert_eq!(status(json!({"reportNodeInternalIPs": false})), StatusSource::None);
    let fixed = status(json!({"ingressEndpoint": {"ip": "192.0.2.1", "hostname": "lb"}}));
    let ip = "192.0.2.1".parse().ok();
    assert_eq!(fixed, StatusSource::Fixed { ip, hostname: Some("lb".to_owned()) });
}

#[test]
fn the_variant_tells_services_apart_and_nothing_else() {
    let class = class(Some(reference()));
    let variant = |spec: Value| settings(&run(&class, Found::Spec(&spec), None)).service_variant;
    assert_eq!(variant(json!({})), 0);
    assert_eq!(variant(json!({"allowEmptyServices": false, "brokenBackends": "Drop"})), 0);
    assert_eq!(
        variant(json!({"strictPrefixMatching": true, "precedence": "Spec", "output": {"name": "x"}})),
        0
    );
    let shapes = [
        json!({"allowEmptyServices": true}),
        json!({"allowExternalNameServices": true}),
        json!({"allowCrossNamespace": true}),
        json!({"crossProviderNamespaces": []}),
        json!({"crossProviderNamespaces": ["a"]}),
        json!({"nativeLBByDefault": true}),
        json!({"brokenBackends": "Answer503"}),
    ];
    let variants: std::collections::BTreeSet<u64> = shapes.into_iter().map(variant).collect();
    assert_eq!(variants.len(), 7);
    assert!(!variants.contains(&0));
    // Names in published routing hang on it: a new release must not change it.
    assert_eq!(variant(json!({"allowEmptyServices": true})), 533_503_263_674_929_298);
}

#[test]
fn a_reference_to_anything_else_is_refused_with_the_field_that_is_wrong() {
    let change = |change: fn(&mut IngressClassParametersReference)| {
        let mut reference = reference();
        change(&mut reference);
        class(Some(reference))
    };
    let spec = json!({});
    for (class, field) in [
        (change(|reference| reference.api_group = None), "spec.parameters.apiGroup"),
        (change(|reference| reference.api_group = Some("x.io".to_owned())), "spec.parameters.apiGroup"),
        (change(|reference| reference.kind = "ConfigMap".to_owned()), "spec.parameters.kind"),
        (change(|reference| reference.scope = Some("Namespace".to_owned())), "spec.parameters.scope"),
        (change(|reference| reference.namespace = Some("a".to_owned())), "spec.parameters.namespace"),
        (change(|reference| reference.name.clear()), "spec.parameters.name"),
    ] {
        assert_eq!(parameters_name(&class), None);
        let resolution = run(&class, Found::Spec(&spec), None);
        assert_eq!(resolution.state, ClassState::NotAccepted);
        assert_eq!(resolution.object, None);
        let problem = resolution.problem.unwrap();
        assert_eq!((problem.category, problem.field.as_str()), (Category::InvalidParameters, field));
        assert_eq!(resolution.verdict.unwrap().reason, Reason::UnsupportedReference);
    }
    let class = change(|reference| reference.scope = None);
    assert_eq!(parameters_name(&class), Some("settings"));
    assert_eq!(run(&class, Found::Spec(&spec), None).standing, Standing::Current);
}

#[test]
fn what_was_accepted_last_goes_on_when_the_parameters_are_bad_or_gone() {
    let last = entry(json!({"strictPrefixMatching": true, "namespaces": {"names": ["a"]}}));
    let good = class(Some(reference()));
    let foreign =
        class(Some(IngressClassParametersReference { kind: "ConfigMap".to_owned(), ..reference() }));
    let bad = json!({"strictPrefixMatching": false, "output": {"name": "BAD"}});
    for (class, parameters, reason, object) in [
        (&good, Found::Spec(&bad), Reason::Invalid, true),
        (&good, Found::Missing, Reason::NotFound, false),
        (&good, Found::NotInstalled, Reason::NotInstalled, false),
        (&foreign, Found::Missing, Reason::UnsupportedReference, false),
    ] {
        let resolution = run(class, parameters, Some(&last));
        assert!(settings(&resolution).strict_prefix_matching);
        assert!(!settings(&resolution).namespaces.admits("b"));
        assert_eq!(resolution.standing, Standing::LastAccepted);
        assert_eq!(resolution.accepted_now, None);
        assert_eq!(resolution.object.is_some(), object);
        assert_eq!(resolution.verdict.as_ref().unwrap().reason, reason);
        assert_eq!(resolution.verdict.as_ref().unwrap().status(), "False");
        let problem = resolution.problem.unwrap();
        assert!(problem.remedy.contains("still apply"), "{problem}");
        assert_eq!(problem.subject.kind, Kind::IngressClass);

        let resolution = run(class, parameters, None);
        assert_eq!(
            (&resolution.state, resolution.standing),
            (&ClassState::NotAccepted, Standing::NotAccepted)
        );
        assert!(resolution.problem.unwrap().remedy.contains("no routing"));
    }
    let faults = run(&good, Found::Spec(&bad), Some(&last)).faults;
    assert_eq!(faults.len(), 1);
    assert_eq!(
        faults[0].to_string(),
        "InvalidParameters: IngressClassParameters settings: spec.output.name: \"BAD\": write a DNS label: \
         a-z, 0-9 and -, with no - at either end"
    );
}

#[test]
fn a_class_made_anew_starts_afresh() {
    let class = class(Some(reference()));
    let other = AcceptedParameters { uid: Some("0".to_owned()), ..entry(json!({})) };
    assert_eq!(run(&class, Found::Missing, Some(&other)).state, ClassState::NotAccepted);
    let manifest = AcceptedParameters { uid: None, ..other };
    assert_eq!(run(&class, Found::Missing, Some(&manifest)).standing, Standing::LastAccepted);
}

#[test]
fn a_selector_needs_the_labels_of_namespaces() {
    let class = class(Some(reference()));
    let defaults = Arc::new(Settings::default());
    let spec = json!({"namespaces": {"selector": {
        "matchLabels": {"tier": "public"},
        "matchExpressions": [
            {"key": "team", "operator": "NotIn", "values": ["c"]},
            {"key": "team", "operator": "Exists"},
            {"key": "closed", "operator": "DoesNotExist"},
            {"key": "zone", "operator": "In", "values": ["x", "y"]},
        ],
    }}});
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let namespaces = [
        ("a", labels(&[("tier", "public"), ("team", "a"), ("zone", "x")])),
        ("b", labels(&[("tier", "public"), ("team", "b"), ("zone", "z")])),
        ("c", labels(&[("tier", "public"), ("team", "c"), ("zone", "x")])),
        ("d", labels(&[("tier", "public"), ("zone", "y")])),
        ("e", labels(&[("tier", "public"), ("team", "a"), ("zone", "x"), ("closed", "")])),
        ("f", labels(&[])),
    ];
    let mut all = namespaces.iter().map(|(name, labels)| (*name, labels));
    let known = run_with(&class, Found::Spec(&spec), None, &defaults, NamespaceLabels::Known(&mut all));
    assert_eq!(settings(&known).namespaces, NamespacePolicy::Selected(["a".to_owned()].into()));
    assert!(known.uses_namespace_labels);

    let last = entry(json!({"namespaces": {"names": ["z"]}}));
    for (labels, reason, problem) in [
        (NamespaceLabels::Unavailable, Reason::NamespacesUnavailable, Some(Category::NamespacesUnavailable)),
        (NamespaceLabels::Pending, Reason::Pending, None),
    ] {
        let resolution = run_with(&class, Found::Spec(&spec), Some(&last), &defaults, labels);
        assert_eq!(settings(&resolution).namespaces, NamespacePolicy::List(["z".to_owned()].into()));
        assert_eq!(resolution.verdict.unwrap().reason, reason);
        assert_eq!(resolution.problem.map(|problem| problem.category), problem);
        assert!(resolution.uses_namespace_labels, "so that they are watched");
    }
    // What was accepted selected namespaces too, and nobody knows which: none may be let in.
    let last = entry(spec.clone());
    let resolution = run_with(&class, Found::Missing, Some(&last), &defaults, NamespaceLabels::Unavailable);
    assert_eq!(resolution.state, ClassState::NotAccepted);
    assert!(resolution.uses_namespace_labels);
}

fn junk() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[a-z0-9./,A-]{0,8}".prop_map(Value::from),
        Just(json!("edge/public")),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        let key = prop_oneof![
            prop::sample::select(vec![
                "output",
                "name",
                "namespace",
                "ingressEndpoint",
                "ip",
                "hostname",
                "publishedService",
                "reportNodeInternalIPs",
                "allowEmptyServices",
                "allowExternalNameServices",
                "allowCrossNamespace",
                "crossProviderNamespaces",
                "nativeLBByDefault",
                "strictPrefixMatching",
                "defaultRuleSyntax",
                "precedence",
                "brokenBackends",
                "defaultEntryPoints",
                "defaultMiddlewares",
                "namespaces",
                "names",
                "selector",
                "matchLabels",
                "matchExpressions",
                "key",
                "operator",
                "values",
            ])
            .prop_map(str::to_owned),
            "[a-z/ ]{0,6}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever stands there: either it is right and counts, or exactly what was accepted last goes on.
    #[test]
    fn junk_never_loosens_a_class(spec in junk(), strict in any::<bool>(), remembered in any::<bool>()) {
        let class = class(Some(reference()));
        let last = entry(json!({
            "strictPrefixMatching": strict,
            "crossProviderNamespaces": [],
            "namespaces": {"names": ["a"]},
        }));
        let last = remembered.then_some(&last);
        let before = last.map(|last| {
            let spec = serde_json::to_value(&last.spec).unwrap();
            run(&class, Found::Spec(&spec), None).state
        });
        let resolution = run(&class, Found::Spec(&spec), last);
        match &resolution.accepted_now {
            Some(entry) => {
                prop_assert_eq!(resolution.standing, Standing::Current);
                // What is remembered gives the same settings again, past the checks.
                let spec = serde_json::to_value(&entry.spec).unwrap();
                prop_assert_eq!(check(&spec).unwrap(), entry.spec.clone());
                let again = run(&class, Found::Missing, Some(entry));
                prop_assert_eq!(&again.state, &resolution.state);
            }
            None => {
                prop_assert_eq!(&resolution.state, &before.unwrap_or(ClassState::NotAccepted));
                prop_assert!(resolution.problem.is_some());
            }
        }
    }
}
