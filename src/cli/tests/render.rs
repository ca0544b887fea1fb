//! `waybill render`.

use super::*;

#[test]
fn routing_goes_to_standard_output_and_nothing_else() {
    let outcome = waybill(&["render", "-f", "-", "-o", "json"], SHOP);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (SUCCESS, SHOP_SUMMARY));
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
    assert_eq!((outcome.code, outcome.stderr.as_str()), (SUCCESS, SHOP_SUMMARY));
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
            let mut document = String::new();
            flate2::read::GzDecoder::new(&*value.0).read_to_string(&mut document).unwrap();
            text += &document;
        }
    }
    text
}

#[test]
fn manifests_are_the_objects_that_would_be_applied() {
    let outcome = waybill(&["render", "-f", "-", "-o", "manifests", "--show-secrets"], SHOP);
    let mut objects = Vec::new();
    let mut shards = Vec::new();
    for document in outcome.stdout.split("---\n").filter(|document| !document.is_empty()) {
        let value: serde_json::Value = serde_saphyr::from_str(document).unwrap();
        match value["kind"].as_str() {
            Some("ConfigMap") => objects.push(value),
            Some("Secret") => shards.push(serde_json::from_value(value).unwrap()),
            other => panic!("{other:?}"),
        }
    }
    let objects: Vec<k8s_openapi::api::core::v1::ConfigMap> =
        objects.into_iter().map(|object| serde_json::from_value(object).unwrap()).collect();
    let [routers, services, index] = &objects[..] else { panic!("{objects:?}") };
    let document = |shard| crate::published::read::routing_document(shard).unwrap();
    assert!(document(routers).contains("\"service\":\"shop-web-80\""));
    assert!(document(services).contains("\"shop-web-80\":"));
    assert_eq!(index.metadata.name.as_deref(), Some("waybill"));
    let parsed = crate::published::read::index(index).unwrap();
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
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with(
        "ServiceNotFound: Ingress shop/a: spec.rules[0].http.paths[0].backend.service.name: \"gone\": "
    ));
    assert!(lines[1].starts_with("ServiceNotFound: Ingress shop/z: "));
    assert_eq!(waybill(&["render", "--strict", "-f", "-"], BROKEN).code, PROBLEMS);
    assert_eq!(waybill(&["render", "--strict", "-f", "-"], SHOP).code, SUCCESS);
    let unreadable = format!("{SHOP}---\nkind: {{\n");
    let outcome = waybill(&["render", "--strict", "-f", "-"], &unreadable);
    assert_eq!(outcome.code, USAGE);
    assert!(outcome.stderr.starts_with("error: standard input, document 5, line "), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("shop-web-80"));
    assert_eq!(waybill(&["render", "-f", "-"], &unreadable).code, USAGE, "without --strict as well");
}

#[test]
fn a_class_that_is_not_in_the_input_is_reported_once() {
    let ingress = |name: &str, class: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{ingressClassName: {class}, defaultBackend: {{service: {{name: web, port: {{number: 80}}}}}}}}\n"
        )
    };
    let class = |name: &str, controller: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{name: {name}}}\n\
             spec: {{controller: {controller}}}\n"
        )
    };
    let input = [
        SHOP.to_owned(),
        class("traefik", "traefik.io/ingress-controller"),
        class("nginx", "k8s.io/ingress-nginx"),
        ingress("a", "treafik"),
        ingress("b", "treafik"),
        ingress("c", "nginx"),
        ingress("d", "haproxy"),
    ]
    .concat();
    let outcome = waybill(&["render", "-f", "-", "--strict"], &input);
    assert_eq!(outcome.code, PROBLEMS);
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(
        lines,
        [
            "ClassNotFound: IngressClass \"haproxy\": not in the input, so its Ingress shop/d is not rendered; add the \
             IngressClass to the input, or ignore this when another controller serves it",
            "ClassNotFound: IngressClass \"treafik\": not in the input, so its Ingresses shop/a, shop/b are not \
             rendered; name the class \"traefik\" if that is what you mean, add the IngressClass to the input, or \
             ignore this when another controller serves it",
            "summary: 5 Ingresses read: 1 ours, 4 of other classes; 1 router, 1 certificate; problems: 2 ClassNotFound",
        ]
    );
    assert_eq!(
        waybill(&["render", "-f", "-", "--strict", "--ignore", "ClassNotFound"], &input).code,
        SUCCESS
    );
    // Where the class alone decides, only the chosen one is looked for; without lookup none is.
    let chosen = "--providers.kubernetesingress.ingressclass=haproxy";
    let outcome = waybill(&["render", "-f", "-", chosen], &input);
    assert_eq!(outcome.stderr.matches("ClassNotFound: ").count(), 1, "{}", outcome.stderr);
    let without = "--providers.kubernetesingress.disableingressclasslookup";
    let outcome = waybill(&["render", "-f", "-", "--strict", without], &input);
    assert!(!outcome.stderr.contains("ClassNotFound"), "{}", outcome.stderr);
}

#[test]
fn the_summary_says_what_became_of_the_ingresses() {
    let selector = "--providers.kubernetesIngress.labelSelector=tier=back";
    let outcome = waybill(&["render", "-f", "-", selector], SHOP);
    assert_eq!(
        outcome.stderr,
        "summary: 1 Ingress read: 0 ours, 1 outside the watched namespaces or the label selector; 0 routers, \
         0 certificates; no problems\n"
    );
    let outcome = waybill(&["render", "-f", "-"], BROKEN);
    let line = outcome.stderr.lines().last().unwrap_or_default();
    assert_eq!(
        line,
        "summary: 2 Ingresses read: 2 ours; 0 routers, 0 certificates; problems: 2 ServiceNotFound"
    );
    assert_eq!(
        waybill(&["render", "-f", "-"], "").stderr,
        "summary: 0 Ingresses read; 0 routers, 0 certificates; no problems\n"
    );
}

#[test]
fn a_tab_is_named_as_what_it_is() {
    let tab = SHOP.replace("\nspec: {ports", "\n\tspec: {ports");
    let outcome = waybill(&["render", "-f", "-"], &tab);
    assert_eq!(outcome.code, USAGE);
    assert!(outcome.stderr.contains("indent with spaces, not with tabs\n"), "{}", outcome.stderr);
}

#[test]
fn ignored_categories_are_neither_printed_nor_counted_by_strict() {
    let input = BROKEN.replace("name: gone", "name: web") + "---" + SHOP.split("---").next().unwrap();
    let outcome = waybill(&["render", "--strict", "-f", "-"], &input);
    assert_eq!((outcome.code, outcome.stderr.matches("NoEndpoints: ").count()), (PROBLEMS, 2));
    let outcome =
        waybill(&["render", "--strict", "--ignore", "NoEndpoints,SecretNotFound", "-f", "-"], &input);
    assert_eq!(outcome.code, SUCCESS);
    assert_eq!(
        outcome.stderr,
        "summary: 2 Ingresses read: 2 ours; 0 routers, 0 certificates; no problems; ignored: 2 NoEndpoints\n"
    );
    let twice = ["render", "--strict", "--ignore=SecretNotFound", "--ignore=NoEndpoints", "-f", "-"];
    assert_eq!(waybill(&twice, &input).code, SUCCESS);
    let outcome = waybill(&["render", "--ignore", "NoEndpoint", "-f", "-"], &input);
    assert_eq!(outcome.code, USAGE);
    assert!(outcome.stderr.contains("'NoEndpoints'"), "{}", outcome.stderr);
}

#[test]
fn what_an_api_server_refuses_is_a_problem_and_is_routed_all_the_same() {
    let drafted = SHOP
        .replace("host: shop.example", "host: Shop.example")
        .replace("path: /, pathType: Prefix, ", "path: shop, ")
        .replace(
            "metadata: {name: web, namespace: shop, labels: {tier: front}}",
            "metadata: {namespace: shop}",
        );
    let outcome = waybill(&["render", "--strict", "-f", "-", "-o", "json"], &drafted);
    assert_eq!(outcome.code, PROBLEMS, "{}", outcome.stderr);
    let found: Vec<&str> =
        outcome.stderr.lines().filter(|line| line.starts_with("InvalidObject: ")).collect();
    assert_eq!(found.len(), 3, "{}", outcome.stderr);
    for (line, field) in
        found.iter().zip(["metadata.name", "spec.rules[0].host: \"Shop.example\"", ".pathType: \"\""])
    {
        assert!(line.contains(field), "{line}");
    }
    assert!(outcome.stdout.contains("Shop.example"), "{}", outcome.stdout);
    assert_eq!(waybill(&["render", "--strict", "--ignore=InvalidObject", "-f", "-"], &drafted).code, SUCCESS);
    let path = SHOP.replace("path: /, pathType: Prefix", "path: shop, pathType: Exact");
    let outcome = waybill(&["render", "--strict", "-f", "-"], &path);
    assert_eq!(outcome.code, PROBLEMS);
    assert!(outcome.stderr.contains("paths[0].path: \"shop\": "), "{}", outcome.stderr);
    let quoted = SHOP.replace("number: 80", "number: \"80\"").replace("port: 80}", "port: '80'}");
    let outcome = waybill(&["render", "--strict", "-f", "-", "-o", "json"], &quoted);
    assert_eq!(outcome.code, PROBLEMS);
    for line in [
        "InvalidObject: standard input, document 1, line 2: spec.ports[0].port: \"80\": an API server refuses it",
        "document 4, line 26: spec.rules[0].http.paths[0].backend.service.port.number: \"80\": ",
    ] {
        assert!(outcome.stderr.contains(line), "{}", outcome.stderr);
    }
    assert!(outcome.stdout.contains("shop-web-80"), "{}", outcome.stdout);
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

/// The example is part of what is promised: every mistake in it is found, and nothing else.
#[test]
fn the_example_shop_has_the_mistakes_that_it_says() {
    let outcome = waybill(&["render", "-f", "examples/shop", "--strict"], "");
    assert_eq!(outcome.code, PROBLEMS);
    let found: Vec<String> = outcome
        .stderr
        .lines()
        .filter(|line| !line.starts_with("summary: "))
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

#[test]
fn a_routing_that_is_too_large_for_the_text_is_told_of_and_is_no_fault() {
    let paths: String = (0..4_000)
        .map(|at| {
            format!(
                "      - {{path: /{at:0>160}, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}\n"
            )
        })
        .collect();
    let large = format!(
        "{SHOP}---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: large, namespace: shop}}\n\
         spec:\n  rules:\n  - http:\n      paths:\n{paths}"
    );
    let outcome = waybill(&["render", "--strict", "-f", "-"], &large);
    assert_eq!(outcome.code, SUCCESS, "{}", outcome.stderr);
    assert!(
        outcome.stderr.starts_with("warning: TextTooLarge: ConfigMap waybill/waybill: "),
        "{}",
        outcome.stderr
    );
    assert!(!waybill(&["render", "-f", "-"], SHOP).stderr.contains("TextTooLarge"));
}

#[test]
fn explain_names_the_router_that_serves_a_request() {
    let explain = |url: &str, more: &[&str]| waybill(&[&["explain", url, "-f", "-"], more].concat(), SHOP);
    let served = explain("http://SHOP.example:8080/a//b", &[]);
    assert_eq!((served.code, served.stderr.as_str()), (SUCCESS, ""));
    for part in [
        "Router shop-web-shop-example serves it.",
        "compares rules with the path \"/a/b\"",
        "Ingress shop/web, spec.rules[0].http.paths[0]",
        "http://10.0.0.1:8080  serving",
    ] {
        assert!(served.stdout.contains(part), "{part}: {}", served.stdout);
    }
    let json = explain("http://shop.example/", &["-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json[0]["servedBy"], "shop-web-shop-example");
    let conflict = "tests/lint/TlsOptionsConflict/input.yaml";
    for (url, tls) in [
        (
            "https://pay.example/",
            "on; mtls@file does not apply: Ingress shop/extra has no TLS options on pay.example, and Traefik applies its \
             default ones to both",
        ),
        ("https://same.example/", "on, options mtls"),
        ("https://pay.example/extra/", "on"),
    ] {
        let served = waybill(&["explain", url, "-f", conflict], "");
        assert!(served.stdout.contains(&format!("\n  TLS          {tls}\n")), "{url}: {}", served.stdout);
    }
    let missed = explain("http://shpo.example/", &[]);
    assert_eq!(missed.code, PROBLEMS);
    assert!(missed.stdout.contains("Similar hosts: shop.example"), "{}", missed.stdout);
}

#[test]
fn explain_says_that_a_rule_cannot_be_evaluated() {
    let pattern = SHOP
        .replace(
            "labels: {tier: front}",
            r#"annotations: {traefik.ingress.kubernetes.io/router.pathmatcher: PathRegexp}"#,
        )
        .replace("path: /, pathType: Prefix", r"path: '/\pL{400}', pathType: ImplementationSpecific");
    let outcome = waybill(&["explain", "http://shop.example/", "-f", "-"], &pattern);
    assert_eq!(outcome.code, PROBLEMS, "{}", outcome.stderr);
    for part in [
        "No router is known to serve it, but the rule of one or more cannot be evaluated here.",
        "1. shop-web-shop-example-pL-400  cannot be evaluated here",
    ] {
        assert!(outcome.stdout.contains(part), "{part}: {}", outcome.stdout);
    }
    let outcome = waybill(&["lint", "-f", "-", "--ignore", "UnanchoredPattern"], &pattern);
    assert!(!outcome.stdout.contains("RefusedRule"), "{}", outcome.stdout);
    let elsewhere = waybill(&["explain", "http://b.example/", "-f", "-"], &pattern);
    assert!(elsewhere.stdout.contains("No router serves it"), "{}", elsewhere.stdout);
}

#[test]
fn explain_without_endpoint_slices_still_knows_the_routes() {
    let slices = SHOP.split("---").filter(|document| !document.contains("EndpointSlice"));
    let outcome =
        waybill(&["explain", "http://shop.example/", "-f", "-"], &slices.collect::<Vec<_>>().join("---"));
    assert_eq!(outcome.code, SUCCESS);
    assert!(outcome.stdout.contains("none: Traefik answers 503"), "{}", outcome.stdout);
}

#[test]
fn explain_says_what_is_wrong_with_its_input() {
    for (arguments, stdin, said) in [
        (&["shop.example/x", "-f", "-"][..], SHOP, "has no scheme: write https://shop.example/x"),
        (&["http://a/", "-f", "/nowhere"], "", "name a readable file"),
        (&["http://a/", "-f", "-"], "", "there is no Ingress"),
        (&["http://a/", "-f", "-", "--context", "c"], SHOP, "leave one of them out"),
        (&["http://a/", "-f", "-", "-H", "x"], SHOP, "'Name: value'"),
        (&["http://a/%zz", "-f", "-"], SHOP, "answers 400"),
        (
            &["http://a/", "-f", "-", "--output-name", "a/b"],
            SHOP,
            "no such output; name one of waybill/waybill",
        ),
    ] {
        let outcome = waybill(&[&["explain"], arguments].concat(), stdin);
        assert_ne!(outcome.code, SUCCESS, "{arguments:?}");
        assert!(outcome.stderr.contains(said), "{arguments:?}: {}", outcome.stderr);
    }
}

/// Names come from whoever wrote the manifests, and lines go to a terminal or a log of CI.
#[test]
fn no_name_ends_a_line_or_reaches_the_terminal() {
    const HOSTILE: &str = r"x\e[2J\u202e\n::error::x\nsummary: 1 Ingress read: 1 ours; no problems";
    let ingress = |name: &str, annotation: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: \"{name}\", namespace: shop, \
             annotations: {{\"{annotation}\": x}}}}\nspec: {{rules: [{{host: a.example, http: {{paths: [{{path: /, \
             pathType: Prefix, backend: {{service: {{name: gone, port: {{number: 80}}}}}}}}]}}}}]}}\n---\n"
        )
    };
    let input = [
        ingress(HOSTILE, "a"),
        ingress(HOSTILE, "a"),
        ingress("key", &format!("traefik.ingress.kubernetes.io/router.{HOSTILE}")),
        format!("apiVersion: v1\nkind: \"{HOSTILE}\"\n---\n"),
        format!("apiVersion: v1\nkind: \"{HOSTILE}List\"\nitems: [3]\n---\n"),
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s, \"{HOSTILE}\": 1}}\nspec: {{ports: 1}}\n"
        ),
    ]
    .concat();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a\u{1b}[2J\nsummary: none.yaml");
    std::fs::write(&file, &input).unwrap();
    for path in ["-", file.to_str().unwrap()] {
        let said = waybill(&["render", "-f", path], &input).stderr;
        let raw = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!said.contains(raw), "{said:?}");
        let lines: Vec<&str> = said.lines().collect();
        let count = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
        assert_eq!(
            (count("error: "), count("warning: "), count("skipped "), count("summary: ")),
            (2, 1, 1, 1)
        );
        // What is wrong with the names themselves, the Services that are not there, and the key that nobody knows.
        let named: usize =
            ["InvalidObject: ", "ServiceNotFound: ", "UnknownAnnotation: "].map(count).iter().sum();
        assert_eq!(lines.len(), 5 + named, "{said}");
        assert!(
            ["ServiceNotFound: ", "UnknownAnnotation: "].map(count).iter().all(|count| *count > 0),
            "{said}"
        );
        assert!(lines.last().unwrap().starts_with("summary: 2 Ingresses read"), "{said}");
        // The other commands that read manifests.
        let said = waybill(&["explain", "http://a.example/", "-f", path], &input).stderr;
        assert!(!said.contains(raw) && said.lines().count() == 2, "{said}");
    }
    let missing = format!("{}/no\u{1b}[2J\nsummary: none", folder.path().display());
    let said = waybill(&["render", "-f", &missing], "").stderr;
    assert!(said.lines().count() == 1 && !said.contains('\u{1b}'), "{said:?}");
}
