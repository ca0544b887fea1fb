//! A control plane with the example in it and the operator against it, until Ctrl-C: `make run-local`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use std::path::Path;
use std::process::{Command, Stdio};

use harness::ControlPlane;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = std::env::args().nth(1).unwrap_or_else(|| "examples/shop".to_owned());
    println!("starting etcd and kube-apiserver …");
    let plane = ControlPlane::start().await;
    plane.kubectl_ok(&["apply", "-k", &root.join("crds").display().to_string()]);
    plane.install("manifests");
    let manifests = manifests(Path::new(&examples));
    let mut apply = vec!["apply", "--server-side"];
    apply.extend(manifests.iter().flat_map(|path| ["-f", path.as_str()]));
    // Twice where an object comes before its namespace.
    plane.kubectl(&apply);
    let applied = plane.kubectl(&apply);
    print!("{}", String::from_utf8_lossy(&applied.stderr));
    let token = plane.service_account_token("waybill", "waybill").await;
    let token_file = plane.folder().join("operator.token");
    std::fs::write(&token_file, token).unwrap();
    println!("kubectl: export KUBECONFIG={}", plane.admin_kubeconfig().display());
    println!("kubectl itself: {}", harness::tools_folder().join("kubectl").display());
    println!("metrics: http://127.0.0.1:8080/metrics\nCtrl-C ends it all.");
    // The operator stands beside this program, as cargo builds both.
    let operator = std::env::current_exe().unwrap();
    let operator = operator.parent().and_then(Path::parent).unwrap().join("waybill");
    let mut child = Command::new(operator)
        .arg("run")
        .arg(format!("--providers.kubernetesingress.endpoint={}", plane.url()))
        .arg(format!("--providers.kubernetesingress.token={}", token_file.display()))
        .arg(format!("--providers.kubernetesingress.certauthfilepath={}", plane.ca_file().display()))
        .arg("--operator.metricsaddress=127.0.0.1:8080")
        .args(std::env::args().skip(2))
        // Either would go before the endpoint.
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .env("POD_NAMESPACE", "waybill")
        .stdin(Stdio::null())
        .spawn()
        .expect("cargo build builds the operator first");
    tokio::signal::ctrl_c().await.unwrap();
    child.wait().unwrap();
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
