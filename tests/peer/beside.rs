//! Each difference on purpose by itself: the least objects that show it, what Traefik makes of them, and beside it what
//! waybill does.

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::difference::Difference;
use super::generate::{KEY_AND_CERTIFICATE, MANY, Make};
use super::meaning::{Answer, Route};
use super::narrow::compare_statuses;
use super::object::{Cluster, path, title};
use super::place::{Place, compare_all};
use super::report::Report;
use super::waybill::{Library, options};

/// Examples that are looked at at once.
const AT_ONCE: usize = 3;

/// A line for each router, certificate and unused service, without the name of the cluster; sorted.
type Lines = Vec<&'static str>;

struct Example {
    /// The options, as a file.
    file: Value,
    objects: Vec<Value>,
    /// What Traefik may make of it: where the order in which it reads objects decides, one of several.
    theirs: Vec<Lines>,
    ours: Lines,
}

impl Example {
    fn new(objects: Vec<Value>, theirs: Vec<Lines>, ours: Lines) -> Self {
        Self { file: json!({}), objects, theirs, ours }
    }

    fn with(mut self, file: Value) -> Self {
        self.file = file;
        self
    }
}

/// Shows all of them.
pub async fn run() -> Report {
    let node = |name: &str, address: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
               "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
    };
    let place = Place::start(vec![node("worker-a", "192.0.2.10"), node("worker-b", "192.0.2.11")]).await;
    let mut reports =
        stream::iter(Difference::ALL).map(|difference| show(&place, *difference)).buffer_unordered(AT_ONCE);
    let mut all = Report::default();
    while let Some(report) = reports.next().await {
        all.add(report);
    }
    all
}

async fn show(place: &Place, difference: Difference) -> Report {
    let mut report = Report::default();
    let name = format!("d{}", difference as usize);
    let example = example(difference, &Make { cluster: &name });
    let mut cluster = Cluster {
        namespaces: ["a", "a-b"].iter().map(|end| format!("{name}-{end}")).collect(),
        objects: example.objects,
        name,
    };
    let created = place.server.fill(std::slice::from_mut(&mut cluster)).await;
    assert!(created.refused.is_empty(), "{difference:?}: {:?}", created.refused);
    for object in &mut cluster.objects {
        if difference == Difference::StatusPorts && object["kind"] == "Ingress" {
            object["status"] = json!({"loadBalancer": {"ingress": [
                {"ip": "192.0.2.1", "ports": [{"port": 9, "protocol": "TCP"}]}]}});
            let written = place.server.replace_at(&format!("{}/status", path(object)), object).await;
            *object = written.unwrap_or_else(|error| panic!("{}: {error}", title(object)));
        }
    }
    let mut file = example.file;
    file["providers"]["kubernetesIngress"]["labelSelector"] = format!("cluster={}", cluster.name).into();
    let theirs = place.theirs(&file).await;
    let clusters = [cluster];
    let library = Library::with(options(&file), &place.snapshot(&clusters, &file).await);
    let what = format!("{difference:?}");
    let [cluster] = &clusters;
    if difference == Difference::StatusPorts {
        compare_statuses(&mut report, place, &what, &clusters, &file, &library).await;
    }
    compare_all(&mut report, &what, &clusters, &file, &theirs, &library);
    let lines = |answer: &Value| lines(answer, &cluster.name);
    let (theirs, ours) = (lines(&theirs), lines(library.answer()));
    // Where the order decides, Traefik may happen to do what waybill does.
    let happens = example.theirs.len() > 1 && theirs == ours;
    let mut noted = report.tally.noted();
    // A router that is lost leaves its service behind.
    noted
        .retain(|other| difference != Difference::RouterNameCollision || *other != Difference::UnusedService);
    if noted != [difference] && !(happens && noted.is_empty()) {
        report.fail(&what, format!("what shows is {noted:?}"), Some(cluster), &file);
    }
    if !example.theirs.iter().any(|wanted| *wanted == theirs) {
        report.fail(&what, format!("Traefik does something else: {theirs:#?}"), Some(cluster), &file);
    }
    if example.ours != ours {
        report.fail(&what, format!("waybill does something else: {ours:#?}"), Some(cluster), &file);
    }
    report
}

fn lines(answer: &Value, cluster: &str) -> Vec<String> {
    let prefix = format!("{cluster}-");
    let mut answer = Answer::new(answer);
    let view = answer.clusters.remove(cluster).unwrap_or_default();
    let mut lines: Vec<String> = view.routes.iter().map(line).collect();
    lines.extend(answer.default.iter().map(|route| format!("default: {}", line(route))));
    lines.extend(
        view.unused.iter().map(|key| format!("service {} that no router uses", key.replace(&prefix, ""))),
    );
    lines.extend(view.certificates.iter().map(|(certificate, _)| {
        let text = certificate.split('#').next().unwrap_or_default().replace(&prefix, "");
        format!("certificate {}", text.split_whitespace().collect::<Vec<_>>().join(" "))
    }));
    lines.sort();
    lines
}

fn line(route: &Route) -> String {
    let meaning = &route.meaning;
    let mut line = meaning["rule"].as_str().unwrap_or_default().to_owned();
    for key in ["priority", "ruleSyntax", "middlewares"] {
        // What every default router has says nothing.
        if meaning.get(key).is_some() && meaning["priority"].as_i64().is_none_or(|priority| priority > 0) {
            line.push_str(&format!(" {key}={}", meaning[key]));
        }
    }
    let servers = meaning["service"]["loadBalancer"]["servers"].as_array();
    for server in servers.into_iter().flatten() {
        let fenced = if server["fenced"] == true { "fenced " } else { "" };
        line.push_str(&format!(" -> {fenced}{}", server["url"].as_str().unwrap_or_default()));
    }
    line
}

const PREFIX: &str = "traefik.ingress.kubernetes.io/";

/// The example of a difference. Each has the namespaces `a` and `a-b`.
fn example(difference: Difference, make: &Make<'_>) -> Example {
    let (a, ab) = (format!("{}-a", make.cluster), format!("{}-a-b", make.cluster));
    let (a, ab) = (a.as_str(), ab.as_str());
    let backend = |namespace: &str, name: &str, address: &str| {
        [
            make.service(namespace, name, json!({})),
            make.slice(namespace, name, json!([{"addresses": [address]}])),
        ]
    };
    let plain = |name: &str, annotations: Value, path: &str, service: &str| {
        make.ingress(a, name, annotations, path, service, json!([]))
    };
    let tls = |names: &[&str]| {
        let entries: Vec<Value> = names.iter().map(|name| json!({"secretName": name})).collect();
        make.ingress(a, "web", json!({}), "/", "web", entries.into())
    };
    let annotated = |key: &str, value: &str| json!({format!("{PREFIX}{key}"): value});
    let web = || backend(a, "web", "10.0.0.1").to_vec();
    let joined = |parts: Vec<Vec<Value>>| parts.concat();
    const WEB: &str = "PathPrefix(\"/\") -> http://10.0.0.1:8080";
    match difference {
        Difference::RouterNameCollision => Example::new(
            joined(vec![
                web(),
                backend(ab, "app", "10.0.0.2").to_vec(),
                vec![
                    plain("b-c", json!({}), "/", "web"),
                    make.ingress(ab, "c", json!({}), "/", "app", json!([])),
                ],
            ]),
            vec![
                vec![WEB, "service a-b-app-80 that no router uses"],
                vec!["PathPrefix(\"/\") -> http://10.0.0.2:8080", "service a-web-80 that no router uses"],
            ],
            vec![WEB, "PathPrefix(\"/\") -> http://10.0.0.2:8080"],
        ),
        Difference::ServiceNameCollision => Example::new(
            joined(vec![
                backend(a, "b-c", "10.0.0.1").to_vec(),
                backend(ab, "c", "10.0.0.2").to_vec(),
                vec![
                    plain("one", json!({}), "/one", "b-c"),
                    make.ingress(ab, "two", json!({}), "/two", "c", json!([])),
                ],
            ]),
            vec![
                vec![
                    "PathPrefix(\"/one\") -> http://10.0.0.1:8080",
                    "PathPrefix(\"/two\") -> http://10.0.0.1:8080",
                ],
                vec![
                    "PathPrefix(\"/one\") -> http://10.0.0.2:8080",
                    "PathPrefix(\"/two\") -> http://10.0.0.2:8080",
                ],
            ],
            vec![
                "PathPrefix(\"/one\") -> http://10.0.0.1:8080",
                "PathPrefix(\"/two\") -> http://10.0.0.2:8080",
            ],
        ),
        Difference::SecretNameCollision => {
            let mut ingresses = Vec::new();
            for (namespace, secret) in [(a, "b-c"), (ab, "c")] {
                ingresses.push(make.secret(namespace, secret, "-----BEGIN CERTIFICATE-----"));
                let entries = json!([{"secretName": secret}]);
                // A Service that is not there: certificates don't need one.
                ingresses.push(make.ingress(namespace, "web", json!({}), "/", "web", entries));
            }
            Example::new(
                ingresses,
                vec![
                    vec!["certificate -----BEGIN CERTIFICATE----- a-b/c"],
                    vec!["certificate -----BEGIN CERTIFICATE----- a/b-c"],
                ],
                vec![
                    "certificate -----BEGIN CERTIFICATE----- a-b/c",
                    "certificate -----BEGIN CERTIFICATE----- a/b-c",
                ],
            )
        }
        Difference::EmptyRule => Example::new(
            joined(vec![web(), vec![plain("web", json!({}), "", "web")]]),
            vec![vec![" -> http://10.0.0.1:8080"]],
            vec![WEB],
        ),
        Difference::TerminatingEndpoint => Example::new(
            vec![
                make.service(a, "web", json!({})),
                make.slice(
                    a,
                    "web",
                    json!([{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions":
                        {"ready": false, "serving": true, "terminating": true}}]),
                ),
                plain("web", json!({}), "/", "web"),
            ],
            vec![vec!["PathPrefix(\"/\") -> http://10.0.0.1:8080 -> fenced http://10.0.0.2:8080"]],
            vec![WEB],
        ),
        Difference::NotPem => Example::new(
            joined(vec![web(), vec![make.secret(a, "path", "/no/such/file"), tls(&["path"])]]),
            vec![vec![WEB, "certificate /no/such/file a/path"]],
            vec![WEB],
        ),
        Difference::KeyInCertificate => Example::new(
            joined(vec![web(), vec![make.secret(a, "both", KEY_AND_CERTIFICATE), tls(&["both"])]]),
            vec![vec![
                WEB,
                "certificate -----BEGIN PRIVATE KEY----- abc -----END PRIVATE KEY----- -----BEGIN CERTIFICATE----- a/both",
            ]],
            vec![WEB, "certificate -----BEGIN CERTIFICATE----- a/both"],
        ),
        Difference::EntryTooLarge => {
            let (annotation, list) = ("m,".repeat(MANY), vec!["m"; MANY]);
            let theirs = format!("PathPrefix(\"/\") middlewares={} -> http://10.0.0.1:8080", json!(list));
            Example::new(
                joined(vec![
                    web(),
                    vec![plain(
                        "web",
                        annotated("router.middlewares", annotation.trim_end_matches(',')),
                        "/",
                        "web",
                    )],
                ]),
                vec![vec![Box::leak(theirs.into_boxed_str())]],
                vec![],
            )
        }
        Difference::EmptyListItem => Example::new(
            joined(vec![
                web(),
                vec![plain("web", annotated("router.middlewares", "a@file,,b@file"), "/", "web")],
            ]),
            vec![vec!["PathPrefix(\"/\") middlewares=[\"a@file\",\"\",\"b@file\"] -> http://10.0.0.1:8080"]],
            vec![],
        ),
        Difference::ListSeparator => Example::new(
            joined(vec![
                web(),
                vec![plain("web", annotated("router.middlewares", "a@file║b@file"), "/", "web")],
            ]),
            vec![vec!["PathPrefix(\"/\") middlewares=[\"a@file║b@file\"] -> http://10.0.0.1:8080"]],
            vec![],
        ),
        Difference::ServersScheme => {
            let mut objects = web();
            objects[0]["metadata"]["annotations"] =
                annotated("service.serversscheme", "http://db.other.svc:5432/#");
            objects.push(plain("web", json!({}), "/", "web"));
            let theirs = "PathPrefix(\"/\") -> http://db.other.svc:5432/#://10.0.0.1:8080";
            Example::new(objects, vec![vec![theirs]], vec![])
        }
        Difference::CrossNamespaceReference => Example::new(
            joined(vec![
                web(),
                vec![plain("web", annotated("router.middlewares", "auth-x@kubernetescrd"), "/", "web")],
            ]),
            vec![vec!["PathPrefix(\"/\") middlewares=[\"auth-x@kubernetescrd\"] -> http://10.0.0.1:8080"]],
            vec![],
        ),
        Difference::CrossNamespaceExternalName => Example::new(
            vec![
                make.service(a, "far", json!({"type": "ExternalName", "externalName": "web.other.svc"})),
                plain("web", json!({}), "/", "far"),
            ],
            vec![vec!["PathPrefix(\"/\") -> http://web.other.svc:80"]],
            vec![],
        )
        .with(json!({"providers": {"kubernetesIngress": {"allowExternalNameServices": true}}})),
        Difference::CrossProviderNowhere => Example::new(
            joined(vec![web(), vec![plain("web", annotated("router.middlewares", "a@file"), "/", "web")]]),
            vec![vec!["PathPrefix(\"/\") middlewares=[\"a@file\"] -> http://10.0.0.1:8080"]],
            vec![],
        )
        .with(json!({"providers": {"kubernetesIngress": {"crossProviderNamespaces": []}}})),
        Difference::OneMissingSecret => Example::new(
            joined(vec![
                web(),
                vec![make.secret(a, "there", "-----BEGIN CERTIFICATE-----"), tls(&["missing", "there"])],
            ]),
            vec![vec![WEB]],
            vec![WEB, "certificate -----BEGIN CERTIFICATE----- a/there"],
        ),
        Difference::UnusedService => Example::new(
            joined(vec![web(), vec![plain("web", annotated("router.pathmatcher", "Regexp"), "/", "web")]]),
            vec![vec!["service a-web-80 that no router uses"]],
            vec![],
        ),
        Difference::DefaultBackendOrder => {
            let default = |name: &str, service: &str| {
                let mut ingress = plain(name, json!({}), "", service);
                ingress["spec"] =
                    json!({"defaultBackend": {"service": {"name": service, "port": {"number": 80}}}});
                ingress
            };
            Example::new(
                joined(vec![
                    web(),
                    backend(a, "app", "10.0.0.2").to_vec(),
                    vec![default("first", "web"), default("second", "app")],
                ]),
                vec![
                    vec!["default: PathPrefix(\"/\") -> http://10.0.0.1:8080"],
                    vec!["default: PathPrefix(\"/\") -> http://10.0.0.2:8080"],
                ],
                vec!["default: PathPrefix(\"/\") -> http://10.0.0.1:8080"],
            )
        }
        Difference::NodeOrder => {
            let mut service = make.service(a, "web", json!({"type": "NodePort"}));
            service["metadata"]["annotations"] = annotated("service.nodeportlb", "true");
            service["spec"]["ports"][0]["nodePort"] = 30080.into();
            Example::new(
                vec![service, plain("web", json!({}), "/", "web")],
                vec![
                    vec!["PathPrefix(\"/\") -> http://192.0.2.10:30080 -> http://192.0.2.11:30080"],
                    vec!["PathPrefix(\"/\") -> http://192.0.2.11:30080 -> http://192.0.2.10:30080"],
                ],
                vec!["PathPrefix(\"/\") -> http://192.0.2.10:30080 -> http://192.0.2.11:30080"],
            )
        }
        Difference::StatusPorts => Example::new(
            joined(vec![web(), vec![plain("web", json!({}), "/", "web")]]),
            vec![vec![WEB]],
            vec![WEB],
        )
        .with(json!({"providers": {"kubernetesIngress": {"ingressEndpoint": {"ip": "192.0.2.1"}}}})),
        Difference::RuleSyntaxSpelledOut => Example::new(
            joined(vec![web(), vec![plain("web", json!({}), "/", "web")]]),
            vec![vec![WEB]],
            vec!["PathPrefix(\"/\") ruleSyntax=\"v2\" -> http://10.0.0.1:8080"],
        )
        .with(json!({"core": {"defaultRuleSyntax": "v2"}})),
    }
}
