//! The largest objects that an API server accepts: 1.5 MB in etcd, 3 MB in a request, 256 KiB of annotations. Every step
//! from such an Ingress to the routing of its output has to end within [`LIMIT`] on one core, because nothing else moves
//! meanwhile. The same for what a class depends on. Prints a table, and fails when a step takes longer.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use waybill::index::{Dependencies, DependencyIndex};
use waybill::kubernetes::key::{IngressKey, ServiceKey};
use waybill::kubernetes::manifests::Manifests;
use waybill::options;
use waybill::parameters::classes::{NamespaceSource, Sources};
use waybill::routing::Routing;
use waybill::table::Table;
use waybill::translate::settings::{Settings, StatusSource};
use waybill::translate::status;
use waybill::translate::translate;

/// What a step may take.
const LIMIT: Duration = Duration::from_millis(100);

/// How often each step is measured. The least time counts: what else the machine does only adds to it.
const TIMES: usize = 5;

/// Bytes of all annotations of an object.
const ANNOTATIONS: usize = 256 * 1024;

const PREFIX: &str = "traefik.ingress.kubernetes.io/";

/// One of the largest objects, and what it depends on.
struct Case {
    name: &'static str,
    /// The first is the Ingress.
    objects: Vec<Value>,
    settings: Settings,
}

impl Case {
    fn new(name: &'static str, objects: Vec<Value>) -> Self {
        Self { name, objects, settings: Settings::default() }
    }
}

fn ingress(annotations: Value, spec: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
           "metadata": {"namespace": "shop", "name": "large", "annotations": annotations}, "spec": spec})
}

/// An Ingress of one host whose path `at` is `path(at)` and leads to a port of a Service.
fn paths(
    count: usize,
    annotations: Value,
    kind: &str,
    path: impl Fn(usize) -> String,
    backend: impl Fn(usize) -> (String, usize),
) -> Value {
    let paths = (0..count).map(|at| {
        let (service, port) = backend(at);
        json!({"path": path(at), "pathType": kind, "backend": {"service": {"name": service, "port": {"number": port}}}})
    });
    ingress(
        annotations,
        json!({"rules": [{"host": "shop.example", "http": {"paths": paths.collect::<Vec<_>>()}}]}),
    )
}

fn ports(count: usize) -> Vec<Value> {
    (1..=count).map(|port| json!({"name": format!("p{port}"), "port": port})).collect()
}

fn service(count: usize, annotations: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
           "metadata": {"namespace": "shop", "name": "web", "annotations": annotations},
           "spec": {"clusterIP": "10.0.0.1", "ports": ports(count)}})
}

fn slice(number: usize, ports: Vec<Value>, addresses: impl Iterator<Item = String>) -> Value {
    let endpoints: Vec<Value> = addresses.map(|address| json!({"addresses": [address]})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
           "metadata": {"namespace": "shop", "name": format!("web-{number}"),
                        "labels": {"kubernetes.io/service-name": "web"}},
           "ports": ports, "endpoints": endpoints})
}

fn address(number: usize) -> String {
    format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255)
}

/// Annotations up to what an object may have.
fn annotations(mut one: impl FnMut(usize) -> (String, String)) -> Value {
    let mut all = Map::new();
    let mut bytes = 0;
    for at in 0.. {
        let (key, value) = one(at);
        bytes += key.len() + value.len();
        if bytes > ANNOTATIONS {
            break;
        }
        all.insert(key, value.into());
    }
    Value::Object(all)
}

/// One annotation that fills an object, made of `item`.
fn list(key: &str, item: &str) -> Value {
    let value = item.repeat((ANNOTATIONS - PREFIX.len() - key.len()) / item.len());
    json!({format!("{PREFIX}{key}"): value.trim_end_matches(',')})
}

fn cases() -> Vec<Case> {
    let tls = |count: usize, name: &dyn Fn(usize) -> String| {
        let entries: Vec<Value> = (0..count).map(|at| json!({"secretName": name(at)})).collect();
        ingress(json!({}), json!({"tls": entries}))
    };
    let numbered = |at: usize| format!("/{at:x}");
    let web = |_: usize| ("web".to_owned(), 1);
    let each = |at: usize| ("web".to_owned(), at + 1);
    let small = |annotations: Value| {
        vec![
            paths(1_000, annotations, "Prefix", numbered, web),
            service(1, json!({})),
            slice(0, ports(1), (0..2).map(address)),
        ]
    };
    let many_slices = |address: &dyn Fn(usize) -> String| {
        (0..100)
            .map(|number| slice(number, ports(100), (0..1_000).map(|at| address(number * 1_000 + at))))
            .collect::<Vec<_>>()
    };
    let with = |mut first: Vec<Value>, more: Vec<Value>| {
        first.extend(more);
        first
    };
    let one = || slice(0, ports(1), (0..2).map(address));
    let hosts: Vec<Value> = (0..35_000)
        .map(|at| {
            json!({"host": format!("{at:x}.x"), "http": {"paths": [
                {"pathType": "Prefix", "path": "/", "backend": {"service": {"name": "web", "port": {"number": 1}}}}]}})
        })
        .collect();
    let mut class = Case::new(
        "50,000 paths, a class with 1,000 middlewares",
        vec![paths(50_000, json!({}), "Exact", numbered, web), service(1, json!({})), one()],
    );
    class.settings.default_middlewares = (0..1_000).map(|at| format!("m{at}@file")).collect();
    let mut answer503 = Case::new(
        "50,000 paths to missing Services, answer503",
        vec![paths(50_000, json!({}), "Exact", numbered, |at| (format!("s{at}"), 1))],
    );
    answer503.settings.broken_backends = waybill::translate::settings::BrokenBackends::Answer503;
    vec![
        Case::new("spec.tls: 120,000 Secrets", vec![tls(120_000, &|at| format!("s{at}"))]),
        Case::new("spec.tls: 300,000 times one Secret", vec![tls(300_000, &|_| "s".to_owned())]),
        Case::new(
            "500,000 empty rules",
            vec![ingress(json!({}), json!({"rules": vec![json!({}); 500_000]}))],
        ),
        Case::new(
            "35,000 hosts",
            vec![ingress(json!({}), json!({"rules": hosts})), service(1, json!({})), one()],
        ),
        Case::new(
            "50,000 paths, one port",
            vec![paths(50_000, json!({}), "Exact", numbered, web), service(1, json!({})), one()],
        ),
        Case::new(
            "40,000 paths of one name",
            vec![
                paths(
                    40_000,
                    json!({}),
                    "Exact",
                    |at| format!("/{}", "-".repeat(at % 20) + &"/".repeat(at / 2_000)),
                    web,
                ),
                service(1, json!({})),
                one(),
            ],
        ),
        Case::new(
            "20 paths of 60 KB",
            vec![
                paths(20, json!({}), "Exact", |at| format!("/{at}{}", "\u{1}".repeat(60_000)), web),
                service(1, json!({})),
                one(),
            ],
        ),
        Case::new(
            "40,000 paths × 40,000 ports",
            vec![
                paths(40_000, json!({}), "Exact", numbered, each),
                service(40_000, json!({})),
                slice(0, ports(20_000), (0..1_000).map(address)),
            ],
        ),
        Case::new(
            "40,000 paths × 40,000 ports, no endpoint",
            vec![
                paths(40_000, json!({}), "Exact", numbered, each),
                service(40_000, json!({})),
                slice(0, ports(20_000), std::iter::empty()),
            ],
        ),
        Case::new(
            "40,000 paths × 40,000 ports that are missing",
            vec![
                paths(40_000, json!({}), "Exact", numbered, |at| ("web".to_owned(), at + 100_000)),
                service(40_000, json!({})),
            ],
        ),
        Case::new(
            "50,000 paths to missing Services",
            vec![paths(50_000, json!({}), "Exact", numbered, |at| (format!("s{at}"), 1))],
        ),
        answer503,
        Case::new(
            "50,000 paths, a bad matcher",
            vec![
                paths(
                    50_000,
                    json!({format!("{PREFIX}router.pathmatcher"): "Regexp"}),
                    "ImplementationSpecific",
                    numbered,
                    web,
                ),
                service(1, json!({})),
                one(),
            ],
        ),
        class,
        Case::new(
            "annotations: unknown keys",
            small(annotations(|at| (format!("{PREFIX}router.x{at}"), String::new()))),
        ),
        Case::new(
            "annotations: keys that are not read",
            small(annotations(|at| (format!("nginx.ingress.kubernetes.io/a{at}"), String::new()))),
        ),
        Case::new(
            "annotations: domains",
            small(annotations(|at| (format!("{PREFIX}router.tls.domains.{at}.main"), String::new()))),
        ),
        Case::new("annotations: middlewares", small(list("router.middlewares", "a,"))),
        Case::new(
            "annotations: references",
            small(list("router.middlewares", "shop-a-b-c-d-e@kubernetescrd,")),
        ),
        Case::new("annotations: entry points", small(list("router.entrypoints", "a,"))),
        Case::new("annotations: text to escape", small(list("router.rulesyntax", "{"))),
        Case::new(
            "a Service's unknown keys × 40,000 ports",
            vec![
                paths(40_000, json!({}), "Exact", numbered, each),
                service(40_000, annotations(|at| (format!("{PREFIX}service.x{at}"), String::new()))),
                one(),
            ],
        ),
        Case::new(
            "a Service's cookie × 40,000 ports",
            vec![
                paths(40_000, json!({}), "Exact", numbered, each),
                service(40_000, list("service.sticky.cookie.name", "{")),
                slice(0, ports(20_000), (0..1).map(address)),
            ],
        ),
        Case::new(
            "40,000 paths × 50,000 slices without ports",
            with(
                vec![paths(40_000, json!({}), "Exact", numbered, each), service(40_000, json!({}))],
                (0..50_000).map(|number| slice(number, Vec::new(), std::iter::empty())).collect(),
            ),
        ),
        Case::new(
            "100 slices of 1,000 endpoints, one path",
            with(
                vec![paths(1, json!({}), "Exact", numbered, web), service(100, json!({}))],
                many_slices(&address),
            ),
        ),
        Case::new(
            "100 slices of 1,000 endpoints × 100 ports",
            with(
                vec![paths(100, json!({}), "Exact", numbered, each), service(100, json!({}))],
                many_slices(&address),
            ),
        ),
        Case::new(
            "100 slices of one address × 100 ports",
            with(
                vec![paths(100, json!({}), "Exact", numbered, each), service(100, json!({}))],
                many_slices(&|_| "10.0.0.1".to_owned()),
            ),
        ),
        Case::new(
            "4 slices of 1,000 endpoints × 100 ports",
            with(
                vec![paths(100, json!({}), "Exact", numbered, each), service(100, json!({}))],
                many_slices(&address).into_iter().take(4).collect(),
            ),
        ),
    ]
}

fn routing(objects: &[Value]) -> Routing {
    // The Ingress is measured by itself, so another one stands for it here.
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let mut manifests = Manifests::default();
    manifests.add(&Arc::from("input.json"), list.to_string().as_bytes());
    assert!(manifests.faults.is_empty(), "{:?}", manifests.faults);
    waybill::offline::routing(manifests, &options::from_yaml_str("").unwrap().options)
}

/// What is not about an Ingress: a published Service, and the parameters of a class.
fn others() -> Vec<(&'static str, Duration)> {
    let published = |kind: &str, ports: usize, addresses: usize| {
        let ports: Vec<Value> = (1..=ports).map(|port| json!({"port": port, "nodePort": port})).collect();
        let addresses = || (0..addresses).map(address);
        let proxy = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "edge", "name": "proxy"},
            "spec": {"type": kind, "ports": ports, "externalIPs": addresses().collect::<Vec<_>>()},
            "status": {"loadBalancer": {"ingress": addresses().map(|ip| json!({"ip": ip})).collect::<Vec<_>>()}},
        });
        let routing = routing(&[proxy]);
        let settings = Settings {
            status: StatusSource::PublishedService(ServiceKey::new("edge", "proxy")),
            ..Settings::default()
        };
        least(|| (status::wanted(&settings, routing.stores()), status::fault(&settings, routing.stores())))
    };
    let parameters = |spec: Value, classes: usize| {
        let named = |at: usize| {
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": format!("c{at}")},
                   "spec": {"controller": "traefik.io/ingress-controller", "parameters": {
                        "apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": "large"}}})
        };
        let object = json!({"apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
                            "metadata": {"name": "large"}, "spec": spec});
        let objects: Vec<Value> = [object].into_iter().chain((0..classes).map(named)).collect();
        let routing = routing(&objects);
        let sources = Sources { parameters: true, namespaces: NamespaceSource::Listed };
        least(|| {
            let mut classes = routing.classes().clone();
            classes.resolve_all(routing.stores(), sources)
        })
    };
    let label = |at: usize| format!("{at:x}-{}", "n".repeat(55));
    let labels = |count: usize| (0..count).map(label).collect::<Vec<_>>();
    vec![
        ("a published Service of 8,000 ports × 20,000 IPs", published("ClusterIP", 8_000, 20_000)),
        ("a published Service of 100 ports × 160 IPs", published("ClusterIP", 100, 160)),
        ("a published Service of 40,000 balancer addresses", published("LoadBalancer", 1, 40_000)),
        (
            "parameters of 32 KB, 10 classes",
            parameters(
                json!({"namespaces": {"names": labels(256)},
            "crossProviderNamespaces": labels(256)}),
                10,
            ),
        ),
        ("parameters of 1.4 MB", parameters(json!({"crossProviderNamespaces": labels(24_000)}), 1)),
        (
            "parameters of 1.4 MB, 20,000 faults",
            parameters(
                json!({"crossProviderNamespaces":
            vec!["N".repeat(60); 20_000]}),
                1,
            ),
        ),
    ]
}

/// CPU time of this thread: what else the machine does counts for little.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What `step` takes at least.
fn least<T>(mut step: impl FnMut() -> T) -> Duration {
    let times = (0..TIMES).map(|_| {
        let start = cpu_time();
        let done = black_box(step());
        let time = cpu_time() - start;
        drop(done);
        time
    });
    times.min().unwrap_or_default()
}

fn main() -> ExitCode {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    println!("CPU time in ms, best of {TIMES}; a step may take {} ms", LIMIT.as_millis());
    println!(
        "{:<50} {:>7} {:>9} {:>7} {:>7} {:>7} {:>8}",
        "object", "KB", "translate", "index", "set", "remove", "problems"
    );
    let mut missed = String::new();
    for case in cases().into_iter().filter(|case| case.name.contains(&filter)) {
        let bytes = case.objects[0].to_string().len();
        let routing = routing(&case.objects);
        let key = IngressKey::new("shop", "large");
        let ingress = Arc::clone(routing.stores().ingresses().get(&key).unwrap());
        let settings = Arc::new(case.settings);
        let translated = least(|| translate(&key, &ingress, &settings, routing.stores()));
        let fragment = Arc::new(translate(&key, &ingress, &settings, routing.stores()));
        let indexed = least(|| {
            let mut index = DependencyIndex::default();
            let named = index.set(&key, Dependencies::new(&ingress, key.shared_namespace()));
            (named, index)
        });
        let mut table = Table::default();
        let (mut set, mut removed, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TIMES {
            let start = cpu_time();
            black_box(table.set(Arc::clone(&fragment)));
            let before = cpu_time();
            set.push(before - start);
            black_box((table.problems(&key), table.has_problems(&key)));
            let after = cpu_time();
            problems.push(after - before);
            black_box(table.remove(&key));
            removed.push(cpu_time() - after);
        }
        let best = |times: Vec<Duration>| times.into_iter().min().unwrap_or_default();
        let steps = [
            ("translate", translated),
            ("index", indexed),
            ("set", best(set)),
            ("remove", best(removed)),
            ("problems", best(problems)),
        ];
        let ms = steps.map(|(_, time)| time.as_secs_f64() * 1_000.0);
        println!(
            "{:<50} {:>7} {:>9.1} {:>7.1} {:>7.1} {:>7.1} {:>8.1}",
            case.name,
            bytes / 1000,
            ms[0],
            ms[1],
            ms[2],
            ms[3],
            ms[4]
        );
        for (step, time) in steps.iter().filter(|(_, time)| *time > LIMIT) {
            let _ = writeln!(missed, "{}: {step} took {time:?}", case.name);
        }
    }
    for (name, time) in others().into_iter().filter(|(name, _)| name.contains(&filter)) {
        println!("{name:<50} {:>17.1}", time.as_secs_f64() * 1_000.0);
        if time > LIMIT {
            let _ = writeln!(missed, "{name} took {time:?}");
        }
    }
    if missed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("\nover the limit:\n{missed}");
    ExitCode::FAILURE
}
