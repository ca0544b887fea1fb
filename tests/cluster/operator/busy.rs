//! Workers that do nothing else for a while cost neither the lease nor an answer to a probe.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use tokio::sync::oneshot;
use waybill::kubernetes::client::Environment;
use waybill::operator::run::Operator;
use waybill::options::from_yaml_str;

use crate::harness::operator::{SOON, get};
use crate::harness::{ControlPlane, eventually, free_port};

/// Longer than two leases.
const BUSY: Duration = Duration::from_secs(8);

#[tokio::test]
async fn a_routing_that_is_locked_costs_neither_the_lease_nor_a_probe() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let token = plane.service_account_token("waybill", "waybill").await;
    let token_file = plane.folder().join("busy.token");
    std::fs::write(&token_file, token).unwrap();
    let port = free_port();
    let options = format!(
        "
providers:
  kubernetesIngress:
    endpoint: {url}
    token: {token}
    certAuthFilePath: {ca}
operator:
  namespace: waybill
  metricsAddress: 127.0.0.1:{port}
  leaderElection: {{leaseDuration: 3s, renewDeadline: 2s, retryPeriod: 500ms}}
",
        url = plane.url(),
        token = token_file.display(),
        ca = plane.ca_file().display(),
    );
    let options = from_yaml_str(&options).unwrap_or_else(|faults| panic!("{faults}")).options;
    let variables = [("POD_NAME".to_owned(), "busy".to_owned())].into();
    let environment = Environment { variables, ..Environment::of_process() };
    let operator = Operator::new(options, environment).unwrap();
    let live = Arc::clone(operator.live());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = std::thread::spawn(move || {
        operator.run(async {
            let _ = stopped.await;
            Ok(())
        })
    });
    let probe = async |path: &str| get(port, path).await.map(|(code, _)| code);
    eventually("it is ready", SOON, async || match probe("/readyz").await {
        Ok(200) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let leases: Api<Lease> = Api::namespaced(plane.admin(), "waybill");
    let held = async || {
        let spec = leases.get("waybill").await.unwrap().spec.unwrap();
        (spec.holder_identity.unwrap_or_default(), spec.lease_transitions, spec.renew_time)
    };
    eventually("it leads", SOON, async || match held().await {
        (holder, ..) if holder.starts_with("busy_") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let before = held().await;

    // Whatever wants the routing on any worker waits.
    let (locked, is_locked) = oneshot::channel();
    let holding = std::thread::spawn(move || {
        let routing = live.routing();
        let _ = locked.send(());
        std::thread::sleep(BUSY);
        drop(routing);
    });
    is_locked.await.unwrap();
    let begun = Instant::now();
    plane.kubectl_ok(&["create", "ingress", "wake", "--rule=a.example.com/*=b:80"]);
    while begun.elapsed() < BUSY - Duration::from_secs(1) {
        for path in ["/livez", "/readyz", "/metrics"] {
            let asked = Instant::now();
            assert_eq!(probe(path).await, Ok(200), "{path} after {:?}", begun.elapsed());
            assert!(asked.elapsed() < Duration::from_secs(1), "{path} took {:?}", asked.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let after = held().await;
    assert_eq!((&after.0, after.1), (&before.0, before.1), "the same term");
    assert!(after.2.unwrap().0.duration_since(before.2.unwrap().0).as_secs() >= 5, "it was renewed");
    holding.join().unwrap();

    stop.send(()).unwrap();
    tokio::task::spawn_blocking(|| running.join().unwrap()).await.unwrap().unwrap();
    assert_eq!(held().await.0, "", "it was given back");
}
