//! A leader's term with the rights that are shipped, for tests of what a leader writes.

use std::path::Path;

use kube::Client;
use tokio::sync::oneshot;
use waybill::kubernetes::client::{Access, Environment, Token, connect};
use waybill::metrics::Metrics;
use waybill::publish::Requests;
use waybill::publish::lease::Elector;

use crate::harness::ControlPlane;

/// Leads until it is dropped.
pub struct Term {
    pub requests: Requests,
    _stop: oneshot::Sender<()>,
}

impl Term {
    /// A term of a replica called `identity` in `namespace`, where [`grant`] has to have been called.
    pub async fn begin(plane: &ControlPlane, namespace: &str, identity: &str) -> Self {
        Self::begin_with(plane, namespace, identity, |client| client).await
    }

    /// As [`Self::begin`], with something between the replica and its client.
    pub async fn begin_with(
        plane: &ControlPlane,
        namespace: &str,
        identity: &str,
        between: impl FnOnce(Client) -> Client,
    ) -> Self {
        let metrics = Metrics::new("waybill").unwrap();
        let access = Access {
            endpoint: Some(plane.url().parse().unwrap()),
            token: Some(Token::new(&plane.service_account_token(namespace, "waybill").await)),
            cert_auth_file_path: Some(plane.ca_file().to_owned()),
        };
        let outside =
            Environment { variables: [].into(), service_account: "/not/there".into(), context: None };
        let client = connect(&access, &outside, identity, &metrics).await.unwrap().client;
        let (elector, handle) = Elector::without_election(metrics.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(elector.run(async {
            let _ = stopped.await;
        }));
        let guard = handle.changes().wait_for(Option::is_some).await.unwrap().clone().unwrap();
        Self { requests: Requests::new(between(client), guard, metrics), _stop: stop }
    }
}

/// Gives a service account `waybill` in `namespace` exactly what the shipped manifests give it: the Role there, the
/// ClusterRole everywhere.
pub async fn grant(plane: &ControlPlane, namespace: &str) {
    let read = |path: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(path)).unwrap()
    };
    let here = format!("namespace: {namespace}\n");
    let account = read("base/serviceaccount.yaml").replace("namespace: waybill\n", &here);
    let role = read("base/role.yaml")
        .replace("namespace: waybill\n", &here)
        .replace("\nmetadata:\n", &format!("\nmetadata:\n  {here}"));
    for text in [account, role] {
        plane.apply(&text).await;
    }
    // A name of its own, since tests share the cluster.
    let text = read("cluster/clusterrole.yaml")
        .replace("name: waybill\n", &format!("name: waybill-{namespace}\n"))
        .replace(
            &format!("    name: waybill-{namespace}\n    namespace: waybill\n"),
            &format!("    name: waybill\n    namespace: {namespace}\n"),
        );
    plane.apply(&text).await;
}
