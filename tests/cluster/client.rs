//! The three ways to the API server.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use waybill::kubernetes::client::{Access, Connection, Environment, Token, Way, connect};
use waybill::metrics::{Code, Method, Metrics};

use crate::harness::{self, ADMIN, eventually};

fn environment(variables: &[(&str, &str)], service_account: &Path) -> Environment {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Environment { variables, service_account: service_account.to_owned(), context: None }
}

fn outside() -> Environment {
    environment(&[], Path::new("/not/there"))
}

fn access(endpoint: &str, token: &str, ca: &Path) -> Access {
    Access {
        endpoint: Some(endpoint.parse().unwrap()),
        token: (!token.is_empty()).then(|| Token::new(token)),
        cert_auth_file_path: (ca != Path::new("")).then(|| ca.to_owned()),
    }
}

async fn connected(access: &Access, environment: &Environment) -> (Connection, Metrics) {
    let metrics = Metrics::new("x").unwrap();
    (connect(access, environment, "me", &metrics).await.unwrap(), metrics)
}

/// Who the API server takes us for.
async fn who(client: &Client) -> Result<String, kube::Error> {
    let review: SelfSubjectReview =
        Api::all(client.clone()).create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    Ok(review.status.unwrap().user_info.unwrap().username.unwrap())
}

/// A service account's folder as a pod has it.
async fn pod(plane: &harness::ControlPlane, namespace: &str) -> tempfile::TempDir {
    plane
        .apply(&format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: waybill, namespace: {namespace}}}\n"
        ))
        .await;
    let token = plane.service_account_token(namespace, "waybill").await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), token).unwrap();
    std::fs::write(folder.path().join("namespace"), namespace).unwrap();
    std::fs::copy(plane.ca_file(), folder.path().join("ca.crt")).unwrap();
    folder
}

#[tokio::test]
async fn in_a_cluster_it_is_the_service_account() {
    let plane = harness::shared().await;
    let namespace = plane.namespace("client").await;
    let folder = pod(plane, &namespace).await;
    let url = plane.url();
    let port = url.rsplit(':').next().unwrap();
    let inside = environment(
        &[("KUBERNETES_SERVICE_HOST", "127.0.0.1"), ("KUBERNETES_SERVICE_PORT", port), ("KUBECONFIG", "/x")],
        folder.path(),
    );
    let (connection, metrics) = connected(&Access::default(), &inside).await;
    assert_eq!((connection.way, connection.warnings), (Way::InCluster, vec![]));
    let user = format!("system:serviceaccount:{namespace}:waybill");
    assert_eq!(who(&connection.client).await.unwrap(), user);
    assert_eq!(metrics.api_requests.get(Code::Created, Method::Post), 1);

    let maps: Api<ConfigMap> = Api::default_namespaced(connection.client);
    assert!(maps.list(&Default::default()).await.is_err());
    assert_eq!(metrics.api_requests.get(Code::Forbidden, Method::Get), 1);
    let agents: Vec<String> =
        plane.audit().into_iter().filter(|e| e.user.username == user).map(|e| e.user_agent).collect();
    let wanted = concat!("waybill/", env!("CARGO_PKG_VERSION"), " (me)");
    assert!(agents.len() == 2 && agents.iter().all(|agent| agent == wanted), "{agents:?}");
}

#[tokio::test]
async fn in_a_cluster_the_endpoint_overrides_the_address() {
    let plane = harness::shared().await;
    let namespace = plane.namespace("client").await;
    let folder = pod(plane, &namespace).await;
    let inside = environment(
        &[("KUBERNETES_SERVICE_HOST", "192.0.2.1"), ("KUBERNETES_SERVICE_PORT", "443")],
        folder.path(),
    );
    let ignored = access(&plane.url(), "ignored", Path::new("/ignored.pem"));
    let (connection, _) = connected(&ignored, &inside).await;
    assert_eq!(connection.way, Way::InCluster);
    assert_eq!(connection.warnings.len(), 2, "token and CA: {:?}", connection.warnings);
    assert!(who(&connection.client).await.unwrap().ends_with(":waybill"));
}

#[tokio::test]
async fn a_kubeconfig_comes_before_the_endpoint() {
    let plane = harness::shared().await;
    let file = plane.admin_kubeconfig();
    let with_file = environment(&[("KUBECONFIG", file.to_str().unwrap())], Path::new("/not/there"));
    let (connection, _) = connected(&access("https://192.0.2.1", "", Path::new("")), &with_file).await;
    assert_eq!(connection.way, Way::Kubeconfig);
    assert!(connection.warnings[0].contains("https://192.0.2.1"), "{:?}", connection.warnings);
    assert_eq!(who(&connection.client).await.unwrap(), "admin");
}

#[tokio::test]
async fn endpoint_token_and_authorities() {
    let plane = harness::shared().await;
    let (connection, _) = connected(&access(&plane.url(), ADMIN, &plane.ca_file()), &outside()).await;
    assert_eq!(connection.way, Way::Endpoint);
    assert_eq!(who(&connection.client).await.unwrap(), "admin");
}

#[tokio::test]
async fn a_token_file_is_read_again_when_it_rotates() {
    let plane = harness::shared().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "of-yesterday\n").unwrap();
    let token = path.to_str().unwrap();
    let (connection, metrics) = connected(&access(&plane.url(), token, &plane.ca_file()), &outside()).await;
    assert!(matches!(who(&connection.client).await, Err(kube::Error::Api(status)) if status.code == 401));
    std::fs::write(&path, format!("{ADMIN}\n")).unwrap();
    assert_eq!(who(&connection.client).await.unwrap(), "admin");
    assert_eq!(metrics.api_requests.get(Code::Unauthorized, Method::Post), 1);
}

#[tokio::test]
async fn authorities_that_did_not_sign_are_no_good() {
    let plane = harness::shared().await;
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.crt");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-subj", "/CN=other", "-keyout", "/dev/null", "-out"])
        .arg(&other)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (connection, metrics) = connected(&access(&plane.url(), ADMIN, &other), &outside()).await;
    assert!(!matches!(who(&connection.client).await, Ok(_) | Err(kube::Error::Api(_))));
    assert_eq!(metrics.api_requests.get(Code::NoAnswer, Method::Post), 1);
}

#[tokio::test]
async fn plain_http_as_of_kubectl_proxy() {
    let plane = harness::shared().await;
    let kubectl = harness::tools_folder().join("kubectl");
    let mut command = Command::new(kubectl);
    command.args(["proxy", "--port=0"]).env("KUBECONFIG", plane.admin_kubeconfig());
    let proxy = plane.spawn("proxy", &mut command);
    let address = eventually("kubectl proxy listens", Duration::from_secs(10), async || {
        let log = proxy.log();
        let address = log.split("serve on ").nth(1).and_then(|rest| rest.split_once('\n'));
        address.map(|(address, _)| address.to_owned()).ok_or(log)
    })
    .await;
    let (connection, _) =
        connected(&access(&format!("http://{address}"), "", Path::new("")), &outside()).await;
    assert_eq!(who(&connection.client).await.unwrap(), "admin");
}

/// kube would repeat such a request for minutes by itself.
#[tokio::test]
async fn a_request_is_sent_once_whatever_the_answer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = "HTTP/1.1 503 no\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    let (connection, metrics) =
        connected(&access(&format!("http://{address}"), "", Path::new("")), &outside()).await;
    for sent in 1..=3 {
        let request = http::Request::get("/version").body(Vec::new()).unwrap();
        let answer =
            tokio::time::timeout(Duration::from_secs(5), connection.client.request_text(request)).await;
        assert!(answer.expect("it is not repeated").is_err());
        assert_eq!(requests.load(Ordering::SeqCst), sent);
    }
    assert_eq!(metrics.api_requests.get(Code::Unavailable, Method::Get), 3);
}
