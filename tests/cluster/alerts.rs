//! Each shipped alert fires at a real Prometheus while what it is about lasts, and goes out when that is over. Every query
//! of the shipped dashboard finds something in that run.
//!
//! The rules are the shipped ones with every minute shortened to a second, and Prometheus scrapes that much more often;
//! `WAYBILL_ALERTS_FACTOR=1` (`make test-alerts-long`) takes them as they are. tests/alerts.yaml holds the durations
//! themselves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::harness::operator::{Operator, SOON, binary, get};
use crate::harness::prometheus::{Prometheus, job, program};
use crate::harness::{ADMIN, ControlPlane, Part, Process, dashboard, eventually, free_port, skip, tool};
use crate::operator::objects::{
    ADDRESS, FAST, has_router, ingress, namespace, service, shop_with, slice, tls_ingress,
};

/// By how much the durations of the rules are shortened.
fn factor() -> u32 {
    std::env::var("WAYBILL_ALERTS_FACTOR").map_or(60, |text| text.parse().unwrap())
}

/// What is compared with the program's own times, which can't be shortened: a watch may be silent for 30 s, and an agent
/// reports every 10 s.
const THRESHOLDS: [(&str, &str); 3] = [
    ("(waybill_watch_age_seconds) > 90", "(waybill_watch_age_seconds) > 40"),
    ("(waybill_agents_lag_seconds) > 120", "(waybill_agents_lag_seconds) > 12"),
    ("(waybill_agent_index_age_seconds) > 90", "(waybill_agent_index_age_seconds) > 40"),
];

/// Every duration in a query or a rule, `10m` or `90s`, made shorter.
fn shortened(text: &str) -> String {
    let mut words = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        words.push_str(before);
        let end = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
        let (digits, after) = from.split_at(end);
        let unit =
            after.chars().next().filter(|_| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        let seconds = match unit {
            Some('m') => 60,
            Some('s') => 1,
            _ => 0,
        };
        let alone = after.chars().nth(1).is_none_or(|next| !next.is_alphanumeric());
        if seconds > 0 && alone {
            words.push_str(&format!("{}ms", digits.parse::<u32>().unwrap() * seconds * 1000 / factor()));
            rest = &after[1..];
        } else {
            words.push_str(digits);
            rest = after;
        }
    }
    words + rest
}

/// The shipped rules for a run that is `factor` times as fast.
fn rules() -> Value {
    let shipped = include_str!("../../manifests/components/alerts/prometheusrule.yaml");
    let mut rules: Value = serde_saphyr::from_str(shipped).unwrap();
    let mut rules = rules["spec"].take();
    let mut thresholds = 0;
    for rule in rules["groups"][0]["rules"].as_array_mut().unwrap() {
        let mut expr = rule["expr"].as_str().unwrap().to_owned();
        for (shipped, ours) in THRESHOLDS.iter().filter(|_| factor() > 1) {
            thresholds += expr.matches(shipped).count();
            expr = expr.replace(shipped, ours);
        }
        rule["expr"] = shortened(&expr).into();
        rule["for"] = shortened(rule["for"].as_str().unwrap()).into();
    }
    assert_eq!(thresholds, if factor() > 1 { THRESHOLDS.len() } else { 0 });
    rules
}

/// As long as so many minutes in the rules take.
fn minutes(count: u32) -> Duration {
    Duration::from_secs(60) * count / factor()
}

/// An API server that accepts connections and says nothing, until it is let through.
struct Silence {
    port: u16,
    over: watch::Sender<bool>,
}

impl Silence {
    async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (over, is_over) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut is_over = is_over.clone();
                tokio::spawn(async move {
                    is_over.wait_for(|over| *over).await.unwrap();
                    let mut server = TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { port, over }
    }
}

struct Run {
    plane: ControlPlane,
    prometheus: Prometheus,
}

impl Run {
    /// Waits until an alert with these labels fires, or until none does.
    async fn waits(&mut self, name: &str, labels: &Value, fires: bool, within: Duration) {
        let what = format!("{name} {labels} {}", if fires { "fires" } else { "is out" });
        let prometheus = &self.prometheus;
        let matches = |alert: &&Value| {
            let mut labels = labels.as_object().unwrap().iter();
            alert["alertname"] == name && labels.all(|(label, value)| alert[label] == *value)
        };
        eventually(&what, within + SOON, async || {
            let firing = prometheus.firing().await?;
            if firing.iter().find(matches).is_some() == fires { Ok(()) } else { Err(format!("{firing:#?}")) }
        })
        .await;
    }

    async fn fires(&mut self, name: &str, labels: Value, within: u32) {
        self.waits(name, &labels, true, minutes(within)).await;
    }

    async fn is_out(&mut self, name: &str, labels: Value, within: u32) {
        self.waits(name, &labels, false, minutes(within)).await;
    }
}

/// A certificate that ends in three days, in a Secret.
fn near_its_end(namespace: &str, name: &str) -> Value {
    let mut params = rcgen::CertificateParams::new(["near.example.com".to_owned()]).unwrap();
    let day = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(72);
    let day = day.to_zoned(jiff::tz::TimeZone::UTC);
    params.not_after = rcgen::date_time_ymd(i32::from(day.year()), day.month() as u8, day.day() as u8);
    let key = rcgen::KeyPair::generate().unwrap();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {
            "tls.crt": params.self_signed(&key).unwrap().pem(),
            "tls.key": key.serialize_pem(),
        },
    })
}

fn of_class(mut ingress: Value, class: &str) -> Value {
    ingress["spec"]["ingressClassName"] = class.into();
    ingress
}

/// An agent that serves metrics at a port.
struct Agent {
    _process: Process,
    port: u16,
}

/// An agent of `edge-public/public` with the token of the example's service account, which reaches the API server at `port`.
async fn agent(plane: &ControlPlane, name: &str, port: u16, more: &[&str]) -> Agent {
    let token = plane.service_account_token("edge-public", "traefik").await;
    let kubeconfig = plane.folder().join(format!("{name}.kubeconfig"));
    let text = plane.kubeconfig(&token).replace(&format!(":{}'", plane.port()), &format!(":{port}'"));
    std::fs::write(&kubeconfig, text).unwrap();
    let metrics = free_port();
    let mut command = Command::new(binary());
    command
        .args(["agent", "--output=edge-public/public", "--directory"])
        .arg(plane.folder().join(name))
        .arg(format!("--metrics-address=127.0.0.1:{metrics}"))
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .args(more)
        .env_clear()
        .env("POD_NAME", name);
    Agent { _process: plane.spawn(name, &mut command), port: metrics }
}

/// What an agent's folder is for. It starts as in the manifests: once the agent's startup probe succeeds, since Traefik
/// never looks again for a folder that was not there.
async fn traefik(plane: &ControlPlane, folder: &str, agent: &Agent, api: u16) -> Process {
    eventually("there is something for Traefik to start with", SOON, async || {
        match get(agent.port, "/startupz").await? {
            (200, _) => Ok(()),
            (status, body) => Err(format!("{status} {body}")),
        }
    })
    .await;
    let mut command = Command::new(tool("traefik"));
    command
        .args(["--entrypoints.web.address=127.0.0.1:0", "--entrypoints.websecure.address=127.0.0.1:0"])
        .args(["--api.insecure=true", "--api.dashboard=false", "--providers.file.watch=true"])
        .arg(format!("--entrypoints.traefik.address=127.0.0.1:{api}"))
        .arg(format!("--providers.file.directory={}", plane.folder().join(folder).join("dynamic").display()))
        .args(["--providers.providersthrottleduration=100ms", "--global.checknewversion=false"])
        .arg("--global.sendanonymoususage=false")
        .env_clear()
        .env("HOME", plane.folder());
    plane.spawn("traefik", &mut command)
}

/// A replica that hears nothing of the API server until it is let through.
async fn deaf(plane: &ControlPlane) -> (Operator, Silence) {
    let silence = Silence::before(([127, 0, 0, 1], plane.port()).into()).await;
    let token = plane.folder().join("deaf.token");
    std::fs::write(&token, plane.service_account_token("waybill", "waybill").await).unwrap();
    let mut command = Command::new(binary());
    command
        .args(["run", FAST, ADDRESS])
        .arg(format!("--providers.kubernetesingress.endpoint=https://127.0.0.1:{}", silence.port))
        .arg(format!("--providers.kubernetesingress.token={}", token.display()))
        .arg(format!("--providers.kubernetesingress.certauthfilepath={}", plane.ca_file().display()))
        .env_clear();
    (plane.operator_by("deaf", command), silence)
}

/// Each query of the dashboard has found something since then. Draws the panels into the file that
/// `WAYBILL_DASHBOARD_PICTURE` names (`make dashboard-picture`).
async fn look_at_dashboard(prometheus: &Prometheus, began: jiff::Timestamp) {
    let seconds = |at: jiff::Timestamp| at.as_millisecond() as f64 / 1000.0;
    let (from, to) = (seconds(began), seconds(jiff::Timestamp::now()));
    // Grafana takes at least four times the interval of the scrapes.
    let interval = if factor() > 1 { "10s" } else { "120s" };
    for panel in dashboard::panels(interval) {
        for query in panel.queries() {
            let found = prometheus.range(query, from, to).await.unwrap();
            let mut values = found.iter().flat_map(|(_, points)| points).map(|(_, value)| value);
            assert!(values.any(|value| value.is_finite()), "nothing in the whole run: {query}");
        }
    }
    let picture = dashboard::picture(prometheus, interval, from, to).await.unwrap();
    assert!(!picture.contains("no data"), "a panel of the dashboard is empty");
    if let Some(path) = std::env::var_os("WAYBILL_DASHBOARD_PICTURE") {
        std::fs::write(path, picture).unwrap();
    }
}

fn config(rules: &PathBuf, plain: &[u16], agents: &[u16], secure: u16, reader: &PathBuf) -> Value {
    let every = format!("{}ms", 30_000 / factor());
    let secure_job = json!({
        "scheme": "https",
        "tls_config": {"insecure_skip_verify": true},
        "authorization": {"credentials_file": reader},
    });
    json!({
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [rules],
        "scrape_configs": [
            job("plain", plain, json!({})),
            job("agents", agents, json!({})),
            job("secure", &[secure], secure_job),
        ],
    })
}

#[tokio::test]
async fn each_alert_fires_and_goes_out() {
    let Some(prometheus) = program("prometheus") else {
        skip("there is no Prometheus; `make prometheus` fetches it");
        return;
    };
    let plane = ControlPlane::start().await;
    for folder in ["crds", "manifests", "manifests/examples/two-classes"] {
        plane.install(folder);
    }
    for file in ["reviews", "reader"] {
        let path = format!("{}/manifests/components/metrics-secure/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
        plane.kubectl_ok(&["apply", "-f", &path]);
    }
    let (deaf, silence) = deaf(&plane).await;
    plane
        .apply_objects(&shop_with([
            near_its_end("shop", "near"),
            tls_ingress("shop", "near", "web", &["near"]),
            ingress("shop", "passing", "web"),
            of_class(ingress("shop", "public", "web"), "public"),
            ingress("shop", "lost", "nowhere"),
            namespace("team-a"),
            service("team-a", "web"),
            slice("team-a", "web", "10.1.0.1"),
            of_class(ingress("team-a", "internal", "web"), "internal"),
            namespace("twin"),
        ]))
        .await;

    // Two replicas, one of which is scraped over TLS, one that hears nothing, and one of another installation that is
    // taken for theirs.
    let first = plane.operator("first", &[FAST, ADDRESS]).await;
    first.leads().await;
    let port = free_port();
    let secure = format!("--operator.metricsSecureAddress=127.0.0.1:{port}");
    let secured = [FAST, ADDRESS, "--operator.metricsSecure", &secure];
    let second = plane.operator("second", &secured).await;
    let twin_flags = [
        FAST,
        "--operator.namespace=twin",
        "--operator.controllerName=twin.example.com/controller",
        "--operator.status=off",
    ];
    let twin = plane.operator_with_token("twin", ADMIN, &twin_flags);
    let api = free_port();
    let traefik_api = format!("--traefik-api=http://127.0.0.1:{api}");
    let proxy = agent(&plane, "proxy", plane.port(), &[&traefik_api]).await;
    let _traefik = traefik(&plane, "proxy", &proxy, api).await;
    let deaf_proxy = agent(&plane, "deaf-proxy", silence.port, &[]).await;
    second.ready().await;
    twin.leads().await;

    let rules_file = plane.folder().join("rules.json");
    std::fs::write(&rules_file, rules().to_string()).unwrap();
    let reader = plane.folder().join("reader.token");
    std::fs::write(&reader, plane.service_account_token("waybill", "waybill-metrics-reader").await).unwrap();
    let targets = [first.port(), deaf.port(), twin.port()];
    let agents = [proxy.port, deaf_proxy.port];
    let running = plane.prometheus(&prometheus, &config(&rules_file, &targets, &agents, port, &reader));
    let mut run = Run { prometheus: running, plane };
    let began = jiff::Timestamp::now();
    let prometheus = &run.prometheus;
    eventually("all replicas and agents are scraped", SOON, async || {
        match prometheus.query("sum(up)").await?.first() {
            Some((_, value)) if *value == 6.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;

    // What can be wrong at once. The output of the class `internal` is refused, the agent of `public` may not fetch what
    // is published, and the output of all others is paused.
    let kubectl = |arguments: &[&str]| run.plane.kubectl_ok(arguments);
    let roles = kubectl(&["-n", "edge-internal", "get", "rolebinding", "waybill-output", "-o", "json"]);
    let mut binding: Value = serde_json::from_str(&roles).unwrap();
    let metadata = binding["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| matches!(&**key, "name" | "namespace"));
    kubectl(&["-n", "edge-internal", "delete", "rolebinding", "waybill-output"]);
    let take = r#"[{"op": "replace", "path": "/rules/0/verbs", "value": ["list", "watch"]}]"#;
    let give = r#"[{"op": "replace", "path": "/rules/0/verbs", "value": ["get", "list", "watch"]}]"#;
    kubectl(&["-n", "edge-public", "patch", "role", "waybill-agent", "--type=json", "-p", take]);
    eventually("the agent may not fetch", SOON, async || {
        let as_agent = "--as=system:serviceaccount:edge-public:traefik";
        let may = run.plane.kubectl(&["auth", "can-i", "get", "configmaps", "-n", "edge-public", as_agent]);
        if may.status.success() { Err("it may") } else { Ok(()) }
    })
    .await;
    run.plane.may_no_longer("create", "configmaps", "edge-internal").await;
    run.plane
        .apply_objects(&[
            slice("shop", "web", "10.1.0.2"),
            slice("team-a", "web", "10.1.0.2"),
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "broken"},
                "spec": {
                    "controller": "traefik.io/ingress-controller",
                    "parameters": {"apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": "broken"},
                },
            }),
        ])
        .await;
    kubectl(&["-n", "shop", "delete", "ingress", "passing"]);
    run.plane
        .eventually_published("waybill/waybill", "a deletion is published", |document| {
            !has_router(document, "shop", "passing")
        })
        .await;
    kubectl(&["-n", "waybill", "annotate", "configmap", "waybill", "waybill.dev/paused=true"]);

    run.fires("WaybillSeveralLeaders", json!({"name": "waybill"}), 3).await;
    drop(twin);
    run.is_out("WaybillSeveralLeaders", json!({}), 2).await;
    run.fires("WaybillHeld", json!({"category": "Paused"}), 6).await;
    run.plane.kubectl_ok(&["-n", "waybill", "annotate", "configmap", "waybill", "waybill.dev/paused-"]);
    run.is_out("WaybillHeld", json!({}), 2).await;
    run.fires("WaybillForbidden", json!({}), 6).await;
    run.fires("WaybillPublishFailing", json!({}), 12).await;
    run.plane.apply_objects(&[binding]).await;
    run.fires("WaybillAgentsLag", json!({"output": "edge-public/public"}), 6).await;
    run.plane.kubectl_ok(&["-n", "edge-public", "patch", "role", "waybill-agent", "--type=json", "-p", give]);
    run.fires("WaybillClassUnusable", json!({"category": "InvalidParameters"}), 18).await;
    let parameters = json!({
        "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
        "metadata": {"name": "broken"}, "spec": {},
    });
    run.plane.apply_objects(&[parameters]).await;
    run.is_out("WaybillClassUnusable", json!({}), 2).await;
    run.is_out("WaybillAgentsLag", json!({}), 2).await;
    run.is_out("WaybillPublishFailing", json!({}), 2).await;

    // By now the leader has counted problems for 20 minutes.
    let lost: Vec<_> = (0..25).map(|at| ingress("shop", &format!("lost-{at}"), "nowhere")).collect();
    run.plane.apply_objects(&lost).await;
    run.fires("WaybillProblemsRising", json!({}), 24).await;
    run.plane.kubectl_ok(&["-n", "shop", "delete", "ingress", "--all"]);
    run.is_out("WaybillProblemsRising", json!({}), 2).await;

    // An API server that comes again breaks watches off, and is listed anew.
    run.plane.kill(Part::ApiServer);
    run.plane.revive(Part::ApiServer).await;

    run.fires("WaybillWatchStale", json!({"kind": "nodes"}), 4).await;
    run.fires("WaybillAgentStale", json!({"instance": format!("127.0.0.1:{}", deaf_proxy.port)}), 4).await;
    silence.over.send_replace(true);
    run.is_out("WaybillWatchStale", json!({}), 2).await;
    run.is_out("WaybillAgentStale", json!({}), 2).await;
    run.is_out("WaybillForbidden", json!({}), 16).await;
    drop((first, second, deaf));
    run.fires("WaybillNoLeader", json!({}), 4).await;
    let third = run.plane.operator("third", &[FAST, ADDRESS]).await;
    run.prometheus.reload(&config(&rules_file, &[third.port()], &agents, port, &reader));
    run.is_out("WaybillNoLeader", json!({}), 4).await;
    let left = run.prometheus.firing().await.unwrap();
    assert!(left.is_empty(), "{left:#?}");
    look_at_dashboard(&run.prometheus, began).await;
}
