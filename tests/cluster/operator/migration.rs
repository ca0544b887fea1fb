//! The switch from Traefik's own provider and the way back, as docs/migration.md tells them: statuses have an owner all
//! the time, and never two who fight.

use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::networking::v1::Ingress;
use kube::api::Api;
use serde_json::Value;

use super::objects::{ADDRESS, FAST, has_router, ingress, shop_with};
use crate::harness::operator::{Operator, SOON};
use crate::harness::{ControlPlane, Process, Signal, eventually, tool};

const OUTPUT: &str = "waybill/waybill";
const OFF: &str = "--operator.status=off";

/// Traefik's provider, which writes statuses with this address. It ends when its standard input does.
fn provider(plane: &ControlPlane, address: &str) -> Process {
    let mut command = Command::new("sh");
    command
        .args(["-c", "tail -f /dev/null | \"$@\"", "sh"])
        .arg(tool("peer"))
        .arg(format!("--endpoint={}", plane.url()))
        .arg(format!("--token={}", crate::harness::ADMIN))
        .arg(format!("--certauthfilepath={}", plane.ca_file().display()))
        .arg(format!("--ingressendpoint.ip={address}"));
    plane.spawn("provider", &mut command)
}

struct Status {
    addresses: Vec<String>,
    /// Who wrote it.
    managers: Vec<String>,
}

async fn status(plane: &ControlPlane, name: &str) -> Status {
    let ingresses: Api<Ingress> = Api::namespaced(plane.admin(), "shop");
    let ingress = ingresses.get(name).await.unwrap();
    let managers = ingress.metadata.managed_fields.unwrap_or_default().into_iter();
    let managers = managers.filter(|entry| entry.subresource.as_deref() == Some("status"));
    let entries = ingress.status.and_then(|status| status.load_balancer?.ingress).unwrap_or_default();
    Status {
        addresses: entries.into_iter().filter_map(|entry| entry.ip).collect(),
        managers: managers.filter_map(|entry| entry.manager).collect(),
    }
}

async fn has_address(plane: &ControlPlane, name: &str, address: &str) {
    eventually(&format!("{name} has {address}"), SOON, async || {
        let found = status(plane, name).await.addresses;
        if found == [address] { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// Waits until everything that was done before has been seen: an Ingress that came later is published.
async fn marked(plane: &ControlPlane, name: &str) {
    plane.apply_objects(&[ingress("shop", name, "web")]).await;
    let has = |document: &Value| has_router(document, "shop", name);
    plane.eventually_published(OUTPUT, &format!("{name} is published"), has).await;
}

fn status_writes(plane: &ControlPlane, replica: &str) -> usize {
    let writes = plane.requests_of(replica).into_iter();
    writes.filter(|event| event.object_ref.subresource == "status" && event.is_write()).count()
}

async fn end(mut operator: Operator) {
    operator.process.signal(Signal::TERM);
    assert!(operator.process.ended(SOON).await.success(), "{}", operator.process.log_tail());
}

#[tokio::test]
async fn statuses_change_hands_and_back_without_a_moment_without_one() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    plane.apply_objects(&shop_with([ingress("shop", "first", "web")])).await;
    let traefik = provider(&plane, "192.0.2.1");
    has_address(&plane, "first", "192.0.2.1").await;

    // 2. Beside Traefik's provider: published, and no status is touched.
    let beside = plane.operator("beside", &[FAST, ADDRESS, OFF]).await;
    beside.leads().await;
    marked(&plane, "second").await;
    has_address(&plane, "second", "192.0.2.1").await;
    marked(&plane, "third").await;
    assert_eq!(status_writes(&plane, "beside"), 0, "operator.status is off");

    // 5. The provider is off, and waybill takes the statuses over, also those that are right already.
    drop(traefik);
    end(beside).await;
    let switched = plane.operator("switched", &[FAST, ADDRESS]).await;
    switched.leads().await;
    for name in ["first", "second", "third"] {
        eventually(&format!("waybill owns the status of {name}"), SOON, async || {
            let now = status(&plane, name).await;
            assert_eq!(now.addresses, ["192.0.2.1"], "{name} had no address for a moment");
            let ours = now.managers.iter().any(|manager| manager.starts_with("waybill"));
            if ours { Ok(()) } else { Err(format!("{:?}", now.managers)) }
        })
        .await;
    }

    // Back: statuses stay where they are, and are the provider's alone once it is on.
    end(switched).await;
    let back = plane.operator("back", &[FAST, ADDRESS, OFF]).await;
    back.leads().await;
    marked(&plane, "fourth").await;
    has_address(&plane, "first", "192.0.2.1").await;
    let _traefik = provider(&plane, "192.0.2.2");
    for name in ["first", "second", "third", "fourth"] {
        has_address(&plane, name, "192.0.2.2").await;
    }
    marked(&plane, "fifth").await;
    has_address(&plane, "fifth", "192.0.2.2").await;
    // Longer than a status that waybill cares about would stay wrong.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(status(&plane, "first").await.addresses, ["192.0.2.2"]);
    assert_eq!(status_writes(&plane, "back"), 0, "operator.status is off");
    plane.assert_nothing_refused();
}
