use std::io::Cursor;

use crate::options::Given;

use super::*;

struct Outcome {
    code: u8,
    stdout: String,
    stderr: String,
}

fn waybill(arguments: &[&str], stdin: &str) -> Outcome {
    let arguments = std::iter::once("waybill").chain(arguments.iter().copied()).map(OsString::from);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut stdin = Cursor::new(stdin);
    let mut streams = Streams { stdin: &mut stdin, stdout: &mut stdout, stderr: &mut stderr };
    let code = run(arguments, &Given::default(), &mut streams);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code, stdout: text(stdout), stderr: text(stderr) }
}

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1]}]
---
apiVersion: v1
kind: Secret
metadata: {name: tls, namespace: shop}
stringData:
  tls.crt: |-
    -----BEGIN CERTIFICATE-----
    -----END CERTIFICATE-----
  tls.key: |-
    -----BEGIN PRIVATE KEY-----
    hidden
    -----END PRIVATE KEY-----
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop, labels: {tier: front}}
spec:
  tls: [{secretName: tls}]
  rules: [{host: shop.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
";

const BROKEN: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: z, namespace: shop}
spec:
  rules: [{host: shop.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: gone, port: {number: 80}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a, namespace: shop}
spec:
  rules: [{host: shop.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: gone, port: {number: 80}}}}]}}]
";

#[test]
fn routing_goes_to_standard_output_and_nothing_else() {
    let outcome = waybill(&["render", "-f", "-", "-o", "json"], SHOP);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (SUCCESS, ""));
    let value: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(
        value["http"]["services"]["shop-web-80"]["loadBalancer"]["servers"][0]["url"],
        "http://10.0.0.1:8080"
    );
    assert_eq!(
        value["tls"]["certificates"][0]["certFile"],
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"
    );
    let yaml = waybill(&["render", "-f", "-"], SHOP).stdout;
    let same: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(same, value);
    assert_eq!(waybill(&["render", "-f", "-"], "").stdout, "{}\n");
}

#[test]
fn a_path_may_be_glued_to_its_letter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.v1=x.yaml");
    std::fs::write(&path, SHOP).unwrap();
    let outcome = waybill(&["render", &format!("-f{}", path.display()), "-ojson"], "");
    assert_eq!((outcome.code, outcome.stderr.as_str()), (SUCCESS, ""));
    assert_eq!(outcome.stdout, waybill(&["render", "-f", "-", "-o", "json"], SHOP).stdout);
}

#[test]
fn private_keys_are_shown_on_demand_alone() {
    for format in ["json", "yaml", "manifests"] {
        let plain = waybill(&["render", "-f", "-", "-o", format], SHOP);
        let shown = waybill(&["render", "-f", "-", "-o", format, "--show-secrets"], SHOP);
        assert_eq!((plain.code, shown.code), (SUCCESS, SUCCESS));
        assert!(!certificates(&plain.stdout).contains("hidden"), "{}", plain.stdout);
        assert!(certificates(&plain.stdout).contains("BEGIN CERTIFICATE"), "{}", plain.stdout);
        assert!(certificates(&shown.stdout).contains("hidden"), "{}", shown.stdout);
    }
}

/// What is printed, with the data of Secrets decoded.
fn certificates(printed: &str) -> String {
    let mut text = printed.to_owned();
    let mut manifests = crate::kubernetes::manifests::Manifests::default();
    manifests.add(&"printed".into(), printed.as_bytes());
    for secret in manifests.secrets {
        for (_, value) in secret.data.unwrap_or_default() {
            text += &String::from_utf8(value.0).unwrap();
        }
    }
    text
}

#[test]
fn manifests_are_the_objects_that_would_be_applied() {
    let outcome = waybill(&["render", "-f", "-", "-o", "manifests", "--show-secrets"], SHOP);
    let mut index = None;
    let mut shards = Vec::new();
    for document in outcome.stdout.split("---\n").filter(|document| !document.is_empty()) {
        let value: serde_json::Value = serde_saphyr::from_str(document).unwrap();
        match value["kind"].as_str() {
            Some("ConfigMap") => index = Some(value),
            Some("Secret") => shards.push(serde_json::from_value(value).unwrap()),
            other => panic!("{other:?}"),
        }
    }
    let index: k8s_openapi::api::core::v1::ConfigMap = serde_json::from_value(index.unwrap()).unwrap();
    assert_eq!(index.metadata.name.as_deref(), Some("waybill"));
    let parsed = crate::published::read::index(&index).unwrap();
    assert_eq!((parsed.counts.routers, parsed.counts.services, parsed.counts.certificates), (1, 1, 1));
    assert_eq!(shards.len(), 1);
    let document = crate::published::read::key_document(&shards[0]).unwrap();
    assert!(document.contains("hidden"));
}

#[test]
fn problems_are_sorted_and_strict_makes_them_count() {
    let relaxed = waybill(&["render", "-f", "-"], BROKEN);
    assert_eq!(relaxed.code, SUCCESS);
    let lines: Vec<&str> = relaxed.stderr.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with(
        "ServiceNotFound: Ingress shop/a: spec.rules[0].http.paths[0].backend.service.name: \"gone\": "
    ));
    assert!(lines[1].starts_with("ServiceNotFound: Ingress shop/z: "));
    assert_eq!(waybill(&["render", "--strict", "-f", "-"], BROKEN).code, PROBLEMS);
    assert_eq!(waybill(&["render", "--strict", "-f", "-"], SHOP).code, SUCCESS);
    let unreadable = format!("{SHOP}---\nkind: {{\n");
    let outcome = waybill(&["render", "--strict", "-f", "-"], &unreadable);
    assert_eq!(outcome.code, PROBLEMS);
    assert!(outcome.stderr.starts_with("error: standard input, document 5, line "), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("shop-web-80"));
}

/// A key that somebody pasted into a wrong place.
#[test]
fn nothing_that_is_printed_about_objects_quotes_a_key() {
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\\nhush\\n-----END PRIVATE KEY-----";
    let rules = "rules: [{http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: gone, port: {number: 80}}}}]}}]";
    for broken in [
        format!(
            "metadata: {{name: a, namespace: shop, annotations: {{traefik.ingress.kubernetes.io/router.priority: \"{KEY}\"}}}}\nspec: {{{rules}}}"
        ),
        format!("metadata: {{name: a, namespace: shop}}\nspec: {{tls: \"{KEY}\", {rules}}}"),
        format!(
            "metadata: {{name: a, namespace: shop}}\nspec: {{ingressClassName: \"{KEY}\", rules: \"{KEY}\"}}"
        ),
    ] {
        let input = format!("apiVersion: networking.k8s.io/v1\nkind: Ingress\n{broken}\n");
        let outcome = waybill(&["render", "-f", "-"], &input);
        assert!(!outcome.stderr.is_empty() && !outcome.stderr.contains("hush"), "{}", outcome.stderr);
        assert!(!outcome.stdout.contains("hush"), "{}", outcome.stdout);
    }
}

#[test]
fn options_steer_the_translation() {
    let hidden =
        waybill(&["render", "-f", "-", "--providers.kubernetesIngress.labelSelector=tier=back"], SHOP);
    assert_eq!((hidden.code, hidden.stdout.as_str()), (SUCCESS, "{}\n"));
    let elsewhere = waybill(&["render", "--providers.kubernetesingress.namespaces=other", "-f", "-"], SHOP);
    assert_eq!(elsewhere.stdout, "{}\n");
    let published = "--providers.kubernetesingress.ingressendpoint.publishedservice=edge/gone";
    let outcome = waybill(&["render", "-f", "-", published], SHOP);
    assert!(outcome.stderr.starts_with("PublishedServiceNotFound: Service edge/gone"), "{}", outcome.stderr);
    let wrong =
        waybill(&["render", "-f", "-", "--providers.kubernetesingress.allowemptyservices=maybe"], SHOP);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (USAGE, ""));
    assert!(wrong.stderr.contains("allowEmptyServices"), "{}", wrong.stderr);
}

#[test]
fn bad_usage_and_unreadable_input_exit_with_2() {
    for arguments in [
        &["render"][..],
        &["render", "-f", "no/such/file.yaml"],
        &["render", "-f", "-", "-f", "-"],
        &["render", "-f", "-", "-o", "xml"],
        &["render", "-f", "-", "--output", "waybill"],
        &["render", "-f", "-", "--output", "waybill/other"],
        &["deliver"],
        &[],
    ] {
        let outcome = waybill(arguments, SHOP);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (USAGE, ""), "{arguments:?}");
        assert!(!outcome.stderr.is_empty());
    }
}

#[test]
fn help_explains_the_command_and_the_options() {
    let outcome = waybill(&["render", "--help"], "");
    assert_eq!(outcome.code, SUCCESS);
    for word in ["--strict", "--show-secrets", "Exit codes"] {
        assert!(outcome.stdout.contains(word), "{}", outcome.stdout);
    }
    let outcome = waybill(&["--help"], "");
    for word in ["render", "--providers.kubernetesingress.ingressclass", "--operator.routing.precedence"] {
        assert!(outcome.stdout.to_lowercase().contains(word), "{word}: {}", outcome.stdout);
    }
}

/// A reader that has gone.
struct Closed(io::ErrorKind);

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let code = |kind| {
        let arguments = ["waybill", "render", "-f", "-"].map(OsString::from);
        let mut stderr = Vec::new();
        let mut streams =
            Streams { stdin: &mut Cursor::new(SHOP), stdout: &mut Closed(kind), stderr: &mut stderr };
        (run(arguments, &Given::default(), &mut streams), String::from_utf8(stderr).unwrap())
    };
    assert_eq!(code(io::ErrorKind::BrokenPipe), (SUCCESS, String::new()));
    let (full, stderr) = code(io::ErrorKind::StorageFull);
    assert_eq!(full, USAGE);
    assert!(stderr.starts_with("error: standard output: "), "{stderr}");
}

/// The example is part of what is promised: every mistake in it is found, and nothing else.
#[test]
fn the_example_shop_has_the_mistakes_that_it_says() {
    let outcome = waybill(&["render", "-f", "examples/shop", "--strict"], "");
    assert_eq!(outcome.code, PROBLEMS);
    let found: Vec<String> = outcome
        .stderr
        .lines()
        .map(|line| line.splitn(3, ": ").take(2).collect::<Vec<_>>().join(": "))
        .collect();
    assert_eq!(
        found,
        [
            "UnknownAnnotation: Ingress logistics/tracking",
            "UnknownAnnotation: Service logistics/labels",
            "InvalidAnnotation: Ingress logistics/priority",
            "EmptyListItem: Ingress logistics/tracking-api",
            "ServiceNotFound: Ingress logistics/planner",
            "ServiceUnusable: Ingress logistics/labels",
            "ServicePortNotFound: Ingress payments/refunds",
            "ExternalNameNotAllowed: Ingress logistics/carrier",
            "NoEndpoints: Ingress logistics/depot",
            "SecretNotFound: Ingress payments/ledger",
            "InvalidSecret: Ingress payments/reports",
            "CrossNamespaceNotAllowed: Ingress partner/eu-login",
            "DefaultBackendTaken: Ingress intern/second-fallback",
            "skipped objects of other kinds: 1 Deployment (apps/v1), 1 Ingress (extensions/v1beta1; only \
             networking.k8s.io/v1 is read",
        ]
    );
    let yaml: crate::traefik::dynamic::Configuration = serde_saphyr::from_str(&outcome.stdout).unwrap();
    assert_eq!(yaml.tls.unwrap().certificates.len(), 4);
    let http = yaml.http.unwrap();
    let servers = |key: &str| -> Vec<String> {
        let balancer = &http.services[key].load_balancer;
        balancer.servers.iter().map(|server| server.url.clone()).collect()
    };
    assert_eq!(
        servers("web-storefront-80"),
        [
            "http://10.1.1.10:8080",
            "http://10.1.1.11:8080",
            "http://[fd00:1::10]:8080",
            "http://[fd00:1::11]:8080"
        ]
    );
    assert_eq!(servers("web-draining-80"), ["http://10.1.1.40:8080"]);
    assert_eq!(servers("web-images-http"), ["http://10.96.1.12:80"]);
    assert_eq!(servers("payments-webhooks-http"), ["http://192.0.2.11:31080", "http://192.0.2.12:31080"]);
    assert_eq!(servers("partner-eu-api-80"), ["http://10.1.4.10:8080"]);
}
