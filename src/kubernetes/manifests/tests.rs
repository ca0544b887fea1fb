use std::io::empty;

use proptest::prelude::*;

use super::*;
use crate::kubernetes::{Service, ServiceType, Slice};

const SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}]}\n";

fn read(text: &str) -> Manifests {
    read_bytes("shop.yaml", text.as_bytes())
}

fn read_bytes(name: &str, bytes: &[u8]) -> Manifests {
    let mut manifests = Manifests::default();
    manifests.add(&name.into(), bytes);
    manifests
}

fn faults(text: &str) -> Vec<String> {
    read(text).faults.iter().map(ToString::to_string).collect()
}

fn names<K: Resource>(objects: &[K]) -> Vec<String> {
    objects.iter().map(|object| object.meta().name.clone().unwrap()).collect()
}

#[test]
fn every_kind_finds_its_place_whatever_comes_first() {
    let manifests = read(
        "spec: {rules: []}\nkind: Ingress\nmetadata: {name: i}\napiVersion: networking.k8s.io/v1\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: c, namespace: ignored}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: e}\naddressType: IPv4\nendpoints: []\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n---\n\
         apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\n---\n\
         apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {a: b}}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {name: waybill.classes, labels: {waybill.dev/part: classes}}\n---\n\
         apiVersion: waybill.dev/v1alpha1\nkind: IngressClassParameters\nmetadata: {name: p}\nspec: {a: 1}\n",
    );
    assert_eq!(manifests.faults, []);
    assert_eq!(manifests.skipped_line(), None);
    assert_eq!(manifests.len(), 9);
    assert_eq!(names(&manifests.ingresses), ["i"]);
    assert_eq!(manifests.ingresses[0].metadata.namespace.as_deref(), Some("default"));
    assert_eq!(manifests.ingresses[0].spec.as_ref().unwrap().rules, Some(Vec::new()));
    assert_eq!(manifests.classes[0].metadata.namespace, None);
    assert_eq!(manifests.services[0].metadata.namespace.as_deref(), Some("shop"));
    assert_eq!(manifests.parameters[0].data["spec"]["a"], 1);
    for list in [names(&manifests.slices), names(&manifests.secrets), names(&manifests.nodes)] {
        assert_eq!(list.len(), 1);
    }
    assert_eq!(names(&manifests.namespaces), ["shop"]);
    assert_eq!(names(&manifests.class_memory), ["waybill.classes"]);
}

#[test]
fn what_an_api_server_fills_in_is_filled_in() {
    let manifests = read(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}, {port: 53, protocol: UDP}]}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {name: b}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\naddressType: IPv4\n\
         endpoints: []\nports: [{port: 80}, {name: x, protocol: UDP}]\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {a: YQ==, b: Yg==}\nstringData: {b: c}\n",
    );
    let services: Vec<Service> = manifests.services.iter().cloned().map(Service::from).collect();
    assert!(services.iter().all(|service| service.kind == ServiceType::ClusterIp));
    let protocols: Vec<_> = services[0].ports.iter().map(|port| &*port.protocol).collect();
    assert_eq!(protocols, ["TCP", "UDP"]);
    let slice = Slice::from(manifests.slices[0].clone());
    let ports: Vec<_> = slice.ports.iter().map(|port| (&*port.name, port.number)).collect();
    assert_eq!(ports, [("", 80), ("x", 0)]);
    let data: Vec<_> =
        manifests.secrets[0].data.iter().flatten().map(|(key, value)| (&**key, &*value.0)).collect();
    assert_eq!(data, [("a", &b"a"[..]), ("b", b"c")]);
}

#[test]
fn lists_are_read_with_their_kind_in_front_or_behind() {
    let item = "{apiVersion: v1, kind: Service, metadata: {name: a}}";
    let bare = "{metadata: {name: b}}";
    for text in [
        format!("apiVersion: v1\nkind: List\nitems: [{item}]\n"),
        format!("apiVersion: v1\nitems: [{item}]\nkind: List\nmetadata: {{}}\n"),
        format!("items: [{item}]\nkind: List\napiVersion: v1\n"),
        format!("apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, kind: List, items: [{item}]}}\n"),
    ] {
        let manifests = read(&text);
        assert_eq!((names(&manifests.services), manifests.faults), (vec!["a".to_owned()], vec![]), "{text}");
    }
    for text in [
        format!("apiVersion: v1\nkind: ServiceList\nitems: [{bare}, {item}]\n"),
        format!("items: [{bare}, {item}]\nkind: ServiceList\napiVersion: v1\n"),
    ] {
        let manifests = read(&text);
        assert_eq!(
            (names(&manifests.services), manifests.faults),
            (vec!["b".into(), "a".into()], vec![]),
            "{text}"
        );
    }
    assert_eq!(faults("items: []\nkind: Thing\napiVersion: v1\n"), Vec::<String>::new());
    assert_eq!(faults("items: 3\nkind: List\napiVersion: v1\n").len(), 1);
    assert_eq!(faults("items: null\nkind: List\napiVersion: v1\n"), Vec::<String>::new());
}

#[test]
fn json_is_read_alone_in_a_stream_and_between_documents() {
    let service =
        |name: &str| format!(r#"{{"kind":"Service","apiVersion":"v1","metadata":{{"name":"{name}"}}}}"#);
    let stream = format!("{}\n{}", service("a"), service("b"));
    assert_eq!(names(&read(&stream).services), ["a", "b"]);
    let mixed = format!("{}\n---\n{}", service("a"), SERVICE);
    assert_eq!(names(&read(&mixed).services), ["a", "web"]);
    let flow = "{kind: Service, apiVersion: v1, metadata: {name: a}}";
    assert_eq!(names(&read(flow).services), ["a"]);
    let broken =
        format!("{}\n{}\n{}", service("a"), r#"{"kind":"Service","apiVersion":"v1","spec":3}"#, service("c"));
    let manifests = read_bytes("shop.json", broken.as_bytes());
    assert_eq!(names(&manifests.services), ["a", "c"]);
    assert_eq!(manifests.faults.len(), 1);
    assert!(
        manifests.faults[0]
            .to_string()
            .starts_with("shop.json, document 2, line 2: this Service can't be read:")
    );
    let list = format!(
        r#"{{"apiVersion":"v1","items":[{},{{"kind":"Service","apiVersion":"v1","spec":3}},{}],"kind":"List"}}"#,
        service("a"),
        service("b")
    );
    let manifests = read_bytes("shop.json", list.as_bytes());
    assert_eq!(names(&manifests.services), ["a", "b"]);
    assert!(
        manifests.faults[0].to_string().starts_with("shop.json, document 1, item 2, line 1: this Service")
    );
    let cut = read_bytes("shop.json", &stream.as_bytes()[..stream.len() - 1]);
    assert_eq!(names(&cut.services), ["a"]);
    assert_eq!(cut.faults.len(), 1);
}

#[test]
fn a_bad_document_costs_only_itself_and_says_where_it_is() {
    let text = format!(
        "# ours\n{SERVICE}---\nkind: Service\napiVersion: v1\nspec:\n  ports: 3\n---\nkind: {{\n---\nnothing\n---\n{SERVICE}"
    );
    let manifests = read(&text);
    assert_eq!(names(&manifests.services), ["web"]);
    assert_eq!(manifests.repeated.len(), 1);
    let remedy = "write one Kubernetes object, or a list of them, as YAML or JSON";
    let lines: Vec<String> = manifests.faults.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 3);
    assert!(
        lines[0].starts_with(
            "shop.yaml, document 2, line 10: this Service can't be read: spec.ports: invalid type: "
        ),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with("shop.yaml, document 3, line ") && lines[1].ends_with(remedy),
        "{}",
        lines[1]
    );
    assert!(
        lines[2].starts_with("shop.yaml, document 4, line 14: invalid type") && lines[2].ends_with(remedy),
        "{}",
        lines[2]
    );
}

#[test]
fn a_bad_item_of_a_list_costs_only_itself() {
    let text = "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n- apiVersion: v1\n  kind: Service\n  metadata:\n    name: 3\n- {}\n- apiVersion: v1\n  kind: Service\n  metadata: {name: b}\nkind: List\n";
    let manifests = read(text);
    assert_eq!(names(&manifests.services), ["a", "b"]);
    let lines: Vec<String> = manifests.faults.iter().map(ToString::to_string).collect();
    assert!(
        lines[0].starts_with(
            "shop.yaml, document 1, item 2, line 9: this Service can't be read: metadata.name: invalid type: "
        ),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with("shop.yaml, document 1, item 3, line 10: `apiVersion` and `kind` are missing: "),
        "{}",
        lines[1]
    );
}

#[test]
fn what_kubectl_prints_without_quotes_is_text() {
    let of = |value: &str| {
        let text = format!(
            "kind: List\napiVersion: v1\nitems:\n- {{apiVersion: v1, kind: Service, metadata: {{name: s, annotations: {{waybill.dev/a: {value}}}}}}}\n"
        );
        let manifests = read(&text);
        let annotations = manifests.services.first().and_then(|service| service.metadata.annotations.clone());
        annotations.and_then(|annotations| annotations.get("waybill.dev/a").cloned())
    };
    for value in ["tRUE", "yES", "oN", "offF", "nO", "fALSE"] {
        assert_eq!(of(value).as_deref(), Some(value), "{value}");
    }
    // These are booleans for kubectl as well.
    for value in ["true", "True", "TRUE", "yes", "Yes", "YES", "on", "n", "Y"] {
        assert_eq!(of(value), None, "{value}");
        assert_eq!(of(&format!("\"{value}\"")).as_deref(), Some(value), "{value}");
    }
}

#[test]
fn text_that_looks_like_something_else_has_to_be_quoted() {
    let annotated = |value: &str| {
        let text =
            format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  annotations:\n    x: {value}\n");
        faults(&text).len()
    };
    assert_eq!(["true", "10", "\"true\"", "'10'", "text", "1.2.3.4"].map(annotated), [1, 1, 0, 0, 0, 0]);
}

#[test]
fn nothing_of_a_secret_is_shown() {
    for text in [
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {tls.key: not base 64 hunter2}\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {tls.key: {hunter2: 1}}\n",
        "data: {tls.key: not base 64 hunter2}\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\n",
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, data: {a: hunter2 !}}\n",
        "apiVersion: v1\nkind: SecretList\nitems:\n- data: {a: hunter2 !}\n- data: hunter2\n",
        "{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"data\": {\"a\": \"hunter2 !\"}}",
        "{\"apiVersion\": \"v1\", \"kind\": \"SecretList\", \"items\": [{\"data\": \"hunter2\"}, {\"data\": {\"a\": \"hunter2 !\"}}]}",
    ] {
        let lines = faults(text);
        assert!(!lines.is_empty(), "{text}");
        assert!(!lines.concat().contains("hunter2"), "{lines:?}");
        assert!(lines[0].contains("Secret"), "{lines:?}");
    }
}

#[test]
fn other_kinds_and_versions_are_counted_on_one_line() {
    let manifests = read(
        "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: a}\nspec: {x: [1, {y: 2}]}\n---\n\
         apiVersion: apps/v1\nkind: Deployment\n---\napiVersion: apps/v1\nkind: Deployment\n---\n\
         apiVersion: serving.knative.dev/v1\nkind: Service\n---\napiVersion: v1\nkind: ConfigMap\n---\n\
         apiVersion: v1\nkind: \"Bad\\nName\"\n",
    );
    assert_eq!(manifests.faults, []);
    assert_eq!(
        manifests.skipped_line().unwrap(),
        "skipped objects of other kinds: 1 Bad\\nName (v1), 1 ConfigMap (v1), 2 Deployment (apps/v1), \
         1 Ingress (extensions/v1beta1; only networking.k8s.io/v1 is read: convert it), \
         1 Service (serving.knative.dev/v1)"
    );
}

#[test]
fn of_two_objects_of_one_name_the_later_counts() {
    let again = SERVICE.replace("80", "81");
    let manifests = read(&format!("{SERVICE}---\n{again}"));
    assert_eq!(manifests.services.len(), 1);
    assert_eq!(Service::from(manifests.services[0].clone()).ports[0].port, 81);
    assert_eq!(
        manifests.repeated[0].to_string(),
        "shop.yaml, document 2, line 6: Service shop/web is already in shop.yaml, document 1, line 1: \
         the later one is used, remove one of them"
    );
    let other_namespace = SERVICE.replace("shop", "blog");
    assert_eq!(read(&format!("{SERVICE}---\n{other_namespace}")).services.len(), 2);
}

#[test]
fn an_object_without_a_name_is_a_fault() {
    let lines = faults("\n\napiVersion: v1\nkind: Service\nmetadata: {generateName: a-}\n");
    assert_eq!(
        lines,
        ["shop.yaml, document 1, line 3: metadata.name of this Service is missing; a generateName is not \
             a name yet: give it a name"]
    );
}

#[test]
fn an_ingress_without_a_name_is_read_and_told_of() {
    let nameless = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: '', namespace: shop}\n";
    let generated = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {generateName: web-}\n";
    let manifests = read(&format!("{nameless}---\n{generated}---\n{nameless}---\n{generated}"));
    assert_eq!(names(&manifests.ingresses), ["", "web", "2", "web-2"]);
    assert!(manifests.faults.is_empty() && manifests.repeated.is_empty());
    let warnings: Vec<String> = manifests.unnamed.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings[0],
        "shop.yaml, document 1, line 1: metadata.name of this Ingress is missing: an API server refuses it, \
         give it a name; it is read as \"shop/\""
    );
    assert!(warnings[3].ends_with("it is read as \"default/web-2\""), "{warnings:?}");
}

#[test]
fn what_is_not_text_costs_only_its_document() {
    let mut bytes = format!("{SERVICE}---\napiVersion: v1\n# ").into_bytes();
    bytes.extend(b"\xff\xfe\n---\n");
    bytes.extend(SERVICE.replace("web", "other").bytes());
    let manifests = read_bytes("shop.yaml", &bytes);
    assert_eq!(names(&manifests.services), ["web", "other"]);
    assert_eq!(
        manifests.faults[0].to_string(),
        "shop.yaml, document 2, line 7: this is not UTF-8 text: save the file as UTF-8"
    );
}

#[test]
fn long_documents_pass_and_alias_bombs_do_not() {
    let mut list = "apiVersion: v1\nkind: List\nitems:\n".to_owned();
    for number in 0..20_000 {
        list += &format!("- {{apiVersion: v1, kind: Service, metadata: {{name: s{number}}}}}\n");
    }
    assert_eq!(read(&list).services.len(), 20_000);
    let long = format!(
        "{SERVICE}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData:\n  a: \"{}\"\n",
        "x".repeat(1 << 21)
    );
    assert_eq!(read(&long).secrets.len(), 1);
    let mut bomb =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            .to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", "));
    }
    assert_eq!(faults(&bomb).len(), 1);
    let text = "x".repeat(1 << 20);
    let aliases = "*t, ".repeat(90);
    let fat = format!(
        "t: &t {text}\napiVersion: waybill.dev/v1alpha1\nkind: IngressClassParameters\nmetadata: {{name: a}}\nspec: [{aliases}]\n"
    );
    assert_eq!(faults(&fat).len(), 1);
    let fair = "x: &x {name: a}\napiVersion: v1\nkind: Service\nmetadata: *x\n";
    assert_eq!(names(&read(fair).services), ["a"]);
    let deep = format!("kind: Service\napiVersion: v1\nspec: {}", "[".repeat(100_000));
    assert_eq!(faults(&deep).len(), 1);
    let deep = format!("{{\"kind\": \"Service\", \"apiVersion\": \"v1\", \"spec\": {}", "[".repeat(100_000));
    assert_eq!(faults(&deep).len(), 1);
    let mut indented = "kind: Other\napiVersion: v1\nspec:\n".to_owned();
    for level in 1..1_000 {
        indented += &format!("{}a:\n", " ".repeat(level));
    }
    assert_eq!(faults(&indented).len(), 1);
}

#[test]
fn directories_are_read_in_order_and_whole() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    std::fs::create_dir_all(root.join("b/c")).unwrap();
    std::fs::create_dir_all(root.join(".git")).unwrap();
    let put = |path: &str, name: &str| std::fs::write(root.join(path), SERVICE.replace("web", name)).unwrap();
    put("b/c/z.yaml", "z");
    put("b/d.YML", "d");
    put("a.yaml", "a");
    put(".git/x.yaml", "hidden");
    put("README.md", "readme");
    // A file without a kind, and one that nobody will ever write to.
    std::fs::write(root.join("b/kustomization.yaml"), "resources: [d.YML]\n").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("b/pipe.yaml"), rustix::fs::Mode::RUSR).unwrap();
    std::os::unix::net::UnixListener::bind(root.join("socket.json")).unwrap();
    std::fs::write(root.join("c.json"), r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"c"}}"#)
        .unwrap();
    std::os::unix::fs::symlink(root, root.join("b/loop")).unwrap();
    let manifests = Manifests::read(&[root.to_owned()], empty()).unwrap();
    assert_eq!(manifests.faults, []);
    assert_eq!(names(&manifests.services), ["a", "z", "d", "c"]);
    let twice = [root.join("a.yaml"), root.join("b"), root.join("a.yaml")];
    let manifests = Manifests::read(&twice, empty()).unwrap();
    // b/loop leads back to all of it.
    assert_eq!(names(&manifests.services), ["a", "z", "d", "c"]);
}

#[test]
fn sources_that_cannot_be_read_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let read = |paths: &[PathBuf]| Manifests::read(paths, SERVICE.as_bytes()).map(|read| read.len());
    assert_eq!(read(&["-".into()]).unwrap(), 1);
    assert!(matches!(read(&["-".into(), "-".into()]), Err(ManifestError::StdinTwice)));
    assert!(matches!(read(&[directory.path().to_owned()]), Err(ManifestError::NoManifest(_))));
    let missing = read(&[directory.path().join("missing")]).unwrap_err().to_string();
    assert!(missing.contains("missing: No such file"), "{missing}");
}

/// A document that is good, or one of many kinds of bad.
fn any_document() -> impl Strategy<Value = (String, bool)> {
    let bad = prop::sample::select(vec![
        "kind: {",
        "a: b: c",
        "\t- x",
        "kind: Service\napiVersion: v1\nspec: 3",
        "[]",
        "'open",
        "*alias",
        "- &x",
        "kind: Service\napiVersion: v1",
        "? [a\n: b",
        "kind: List\napiVersion: v1\nitems: 3",
        "%X y\nz",
        "\u{0}",
        "!!int x",
        "a: |2\n b",
        "<<: 3",
        "\"\\x\"",
        "{\"kind\": \"Service\"",
    ]);
    let good = (0..1000u32).prop_map(|number| (SERVICE.replace("web", &format!("n{number}")), true));
    prop_oneof![good, bad.prop_map(|text| (text.to_owned(), false))]
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_bytes("x.yaml", &bytes);
        read_bytes("x.json", &[b"{", &bytes[..]].concat());
    }

    #[test]
    fn random_text_never_panics_and_messages_keep_to_one_line(
        text in "([-{}\\[\\]:,&*#|>'\"%!?a0 \n\t\u{85}]|kind: Service\n|apiVersion: v1\n|items:\n|kind: List\n|--- ){0,40}"
    ) {
        for fault in read(&text).faults {
            let line = fault.to_string();
            prop_assert!(!line.contains(char::is_control), "{:?}", line);
            prop_assert!(line.len() < 1000);
        }
    }

    /// Whatever stands between them, good documents are read, and each bad one is told of.
    #[test]
    fn a_bad_document_costs_only_itself(documents in prop::collection::vec(any_document(), 0..12)) {
        let text: Vec<&str> = documents.iter().map(|(text, _)| text.as_str()).collect();
        // A border in front: a file that begins with a brace would be taken for JSON.
        let manifests = read(&format!("---\n{}", text.join("\n---\n")));
        let good = documents.iter().filter(|(_, good)| *good).count();
        prop_assert_eq!(manifests.services.len() + manifests.repeated.len(), good);
        prop_assert_eq!(manifests.faults.len(), documents.len() - good, "{:?}", manifests.faults);
    }
}
