//! A control plane with the example in it, the operator against it, and a Traefik with its agent, until Ctrl-C:
//! `make run-local`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use axum::Router;
use harness::operator::SOON;
use harness::{ControlPlane, Process, eventually, tool};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

/// curl and browsers take every name below `localhost` for this machine.
const HOST: &str = "hello.localhost";

/// How often it is looked whether everything still runs.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> ExitCode {
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let stopped = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    // All that is started ends with the control plane, which `run` owns.
    tokio::select! {
        ended = run() => {
            eprintln!("{ended}");
            ExitCode::FAILURE
        }
        () = stopped => {
            println!("\nstopping; nothing stays behind");
            ExitCode::SUCCESS
        }
    }
}

/// Where everything listens on 127.0.0.1.
struct Ports {
    operator: u16,
    agent: u16,
    web: u16,
    secure: u16,
    api: u16,
}

/// `preferred`, or another one where somebody has that.
fn port(preferred: u16) -> u16 {
    if TcpListener::bind(("127.0.0.1", preferred)).is_ok() {
        return preferred;
    }
    let other = harness::free_port();
    println!("port {preferred} is taken, so {other} is used instead");
    other
}

/// Gives what ended by itself, which nothing should.
async fn run() -> String {
    let examples = std::env::args().nth(1).unwrap_or_else(|| "examples/shop".to_owned());
    let manifests = manifests(Path::new(&examples));
    println!("starting etcd and kube-apiserver ...");
    let plane = ControlPlane::start().await;
    for kustomization in ["crds", "manifests", "manifests/examples/traefik/proxy"] {
        let namespace = ["-n", "waybill"];
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(kustomization).display().to_string();
        plane.kubectl_ok(&[&["apply", "-k", &path][..], &namespace].concat());
    }
    let mut apply = vec!["apply", "--server-side"];
    apply.extend(manifests.iter().flat_map(|path| ["-f", path.as_str()]));
    // Twice where an object comes before its namespace.
    plane.kubectl(&apply);
    let applied = plane.kubectl(&apply);
    print!("{}", String::from_utf8_lossy(&applied.stderr));

    let ports = Ports {
        operator: port(8080),
        agent: port(8081),
        web: port(8000),
        secure: port(8443),
        api: port(9000),
    };
    let certificate = hello(&plane).await;
    println!("starting waybill run, waybill agent and Traefik ...");
    let mut parts = vec![operator(&plane, &ports).await, agent(&plane, &ports).await];
    let folder = edge(&plane);
    eventually("the agent has something for Traefik to start with", SOON, async || {
        check(&mut parts)?;
        let written = folder.join("dynamic/changed").exists();
        if written { Ok(()) } else { Err("nothing is written yet".to_owned()) }
    })
    .await;
    parts.push(traefik(&plane, &ports));
    eventually("the agent is ready: Traefik has loaded the routing", SOON, async || {
        check(&mut parts)?;
        let (status, text) = harness::operator::get(ports.agent, "/readyz").await?;
        if status == 200 { Ok(()) } else { Err(text) }
    })
    .await;
    eventually("the backend answers", SOON, async || {
        let (status, text) = harness::operator::get_host(ports.web, HOST, "/").await?;
        if status == 200 { Ok(()) } else { Err(format!("{status}: {text}")) }
    })
    .await;
    say(&plane, &ports, &certificate);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Err(ended) = check(&mut parts) {
            return ended;
        }
    }
}

/// Gives an error that shows the end of its log where a part has ended.
fn check(parts: &mut [Process]) -> Result<(), String> {
    for part in parts {
        if let Some(status) = part.exited() {
            return Err(format!("{} ended with {status}:\n{}", part.name(), part.log_tail()));
        }
    }
    Ok(())
}

/// A backend on this machine, and an Ingress of a class of its own that leads to it. Gives the certificate's file. The
/// endpoints of the example are made up.
async fn hello(plane: &ControlPlane) -> PathBuf {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Router::new().fallback(async || "hello from a backend behind Traefik\n");
    tokio::spawn(async move { axum::serve(listener, answer).await });
    let (certificate, key) = (plane.folder().join("hello.crt"), plane.folder().join("hello.key"));
    let openssl = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args([
            "-days",
            "30",
            "-subj",
            &format!("/CN={HOST}"),
            "-addext",
            &format!("subjectAltName=DNS:{HOST}"),
        ])
        .args([Path::new("-keyout"), &key, Path::new("-out"), &certificate])
        .output()
        .unwrap();
    assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));
    let read = |file: &Path| std::fs::read_to_string(file).unwrap();
    let metadata = json!({"name": "hello", "namespace": "default"});
    let backend = json!({"service": {"name": "hello", "port": {"number": port}}});
    plane
        .apply_objects(&[
            json!({
                "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters", "metadata": {"name": "hello"},
                "spec": {"allowExternalNameServices": true},
            }),
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "hello"},
                "spec": {"controller": "traefik.io/ingress-controller", "parameters": {
                    "apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": "hello"}},
            }),
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata,
                "stringData": {"tls.crt": read(&certificate), "tls.key": read(&key)},
            }),
            // An API server takes no loopback address in an EndpointSlice.
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": metadata,
                "spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"port": port}]},
            }),
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata,
                "spec": {
                    "ingressClassName": "hello",
                    "rules": [{"host": HOST, "http": {"paths": [
                        {"path": "/", "pathType": "Prefix", "backend": backend}]}}],
                    "tls": [{"secretName": "hello"}],
                },
            }),
        ])
        .await;
    certificate
}

/// `waybill` with a token of a shipped ServiceAccount. It stands beside this program, as cargo builds both.
async fn waybill(plane: &ControlPlane, command: &str, account: &str) -> Command {
    let token = plane.folder().join(format!("{account}.token"));
    std::fs::write(&token, plane.service_account_token("waybill", account).await).unwrap();
    let program = std::env::current_exe().unwrap();
    let mut waybill = Command::new(program.parent().and_then(Path::parent).unwrap().join("waybill"));
    waybill
        .arg(command)
        // Either would go before the endpoint.
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST");
    plane.reached_by(&mut waybill, &token);
    waybill
}

async fn operator(plane: &ControlPlane, ports: &Ports) -> Process {
    let mut command = waybill(plane, "run", "waybill").await;
    command
        .arg(format!("--operator.metricsaddress=127.0.0.1:{}", ports.operator))
        .args(std::env::args().skip(2))
        .env("POD_NAMESPACE", "waybill");
    plane.spawn("operator", &mut command)
}

/// The agent's folder.
fn edge(plane: &ControlPlane) -> PathBuf {
    plane.folder().join("edge")
}

async fn agent(plane: &ControlPlane, ports: &Ports) -> Process {
    let mut command = waybill(plane, "agent", "traefik").await;
    command
        .args(["--output=waybill/waybill", "--directory"])
        .arg(edge(plane))
        .arg(format!("--traefik-api=http://127.0.0.1:{}", ports.api))
        .arg(format!("--metrics-address=127.0.0.1:{}", ports.agent));
    plane.spawn("agent", &mut command)
}

fn traefik(plane: &ControlPlane, ports: &Ports) -> Process {
    let mut command = Command::new(tool("traefik"));
    command
        .arg(format!("--entrypoints.web.address=127.0.0.1:{}", ports.web))
        .arg(format!("--entrypoints.websecure.address=127.0.0.1:{}", ports.secure))
        .arg(format!("--entrypoints.traefik.address=127.0.0.1:{}", ports.api))
        .args(["--entrypoints.websecure.http.tls=true", "--api.insecure=true", "--api.dashboard=false"])
        .arg(format!("--providers.file.directory={}", edge(plane).join("dynamic").display()))
        .args(["--providers.file.watch=true", "--providers.providersthrottleduration=100ms"])
        .args(["--global.checknewversion=false", "--global.sendanonymoususage=false"]);
    plane.spawn("traefik", &mut command)
}

/// What there is to try.
fn say(plane: &ControlPlane, ports: &Ports, certificate: &Path) {
    let Ports { operator, agent, web, secure, api } = ports;
    let folder = plane.folder().display();
    let (certificate, tools) = (certificate.display(), harness::tools_folder().display());
    println!(
        "\nEverything runs. Requests that a backend answers:\n\n  \
         curl http://{HOST}:{web}/\n  \
         curl --cacert {certificate} https://{HOST}:{secure}/\n\n\
         What Traefik has loaded:  http://127.0.0.1:{api}/api/http/routers\n\
         Metrics:                  http://127.0.0.1:{operator}/metrics (operator), http://127.0.0.1:{agent}/metrics \
         (agent)\n\
         kubectl:                  export KUBECONFIG={folder}/admin.kubeconfig PATH={tools}:$PATH\n\
         Logs:                     {folder}/{{operator,agent,traefik}}-*.log\n\n\
         Ctrl-C ends it all."
    );
}

/// The manifests below a path, but for those with an API version that no API server has any more: the example shows
/// what `render` says about one.
fn manifests(path: &Path) -> Vec<String> {
    if path.is_file() {
        return vec![path.display().to_string()];
    }
    let mut paths: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let is_manifest = |path: &Path| path.extension().is_some_and(|ending| ending == "yaml");
    let is_old =
        |path: &Path| std::fs::read_to_string(path).unwrap().contains("apiVersion: extensions/v1beta1");
    paths
        .into_iter()
        .flat_map(|path| match path.is_dir() {
            true => manifests(&path),
            false if is_manifest(&path) && !is_old(&path) => vec![path.display().to_string()],
            false => Vec::new(),
        })
        .collect()
}
