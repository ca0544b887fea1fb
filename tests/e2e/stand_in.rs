//! What a cluster has besides its API server, in so far as the pages need it: pods of Deployments, with the programs that
//! are under test, endpoints of Services, load balancers, and namespaces that go.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Command;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::Backend;
use crate::harness::operator::{Operator, binary};
use crate::objects;
use crate::world::{Edge, World};

/// Every pod that is no part of waybill answers here.
const PODS: &str = "10.99.1.1";
/// The load balancer of the edge in each namespace.
const BALANCERS: &[(&str, &str)] =
    &[("waybill", "203.0.113.10"), ("edge-public", "203.0.113.20"), ("edge-internal", "203.0.113.30")];

/// Where each pod of the page `docs/first-ingress.md` listens.
const POD_PORT: u16 = 80;

/// Goes on until it is dropped.
pub async fn play(world: &World) {
    let client = world.plane.admin();
    let _pods = Backend::start("web", &format!("{PODS}:{POD_PORT}")).await;
    // Pods run while there is a sender, and are said to be of the generation that it holds.
    let mut running: HashMap<(String, String), watch::Sender<i64>> = HashMap::new();
    let mut pods = FuturesUnordered::new();
    let mut deployments = pin!(watcher(Api::<Deployment>::all(client.clone()), watcher::Config::default()));
    let mut services = pin!(watcher(Api::<Service>::all(client.clone()), watcher::Config::default()));
    let mut namespaces = pin!(watcher(Api::<Namespace>::all(client.clone()), watcher::Config::default()));
    loop {
        tokio::select! {
            Some(event) = deployments.next() => match event {
                Ok(Event::Apply(one) | Event::InitApply(one)) => {
                    let generation = one.metadata.generation.unwrap_or_default();
                    let key = (one.namespace().unwrap(), one.name_any());
                    if let Some(sender) = running.get(&key) {
                        sender.send_if_modified(|held| std::mem::replace(held, generation) != generation);
                        continue;
                    }
                    let (sender, receiver) = watch::channel(generation);
                    pods.push(deployment(world, one, receiver));
                    running.insert(key, sender);
                }
                Ok(Event::Delete(one)) => {
                    running.remove(&(one.namespace().unwrap(), one.name_any()));
                }
                _ => {}
            },
            Some(()) = pods.next() => {}
            Some(event) = services.next() => {
                if let Ok(Event::Apply(one) | Event::InitApply(one)) = event {
                    endpoints(world, &one).await;
                }
            }
            Some(event) = namespaces.next() => {
                if let Ok(Event::Apply(one) | Event::InitApply(one)) = event
                    && one.metadata.deletion_timestamp.is_some()
                {
                    world.plane.let_namespace_go(&one.name_any()).await;
                }
            }
        }
    }
}

/// What runs in the pods of a Deployment. Dropping it ends it.
#[allow(dead_code, reason = "held to be dropped")]
enum Pods {
    Operators(Vec<Operator>),
    Edges(Vec<Edge>, JoinSet<()>),
    Others,
}

/// Starts the pods of a Deployment and says so in its status.
async fn deployment(world: &World, one: Deployment, mut generation: watch::Receiver<i64>) {
    let (namespace, name) = (one.namespace().unwrap(), one.name_any());
    let replicas = one.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let client = world.plane.admin();
    let _pods = match name.as_str() {
        "waybill" => Pods::Operators(operators(world, &client, &one, replicas).await),
        "traefik" => {
            let mut edges = Vec::new();
            for number in 0..replicas {
                edges.push(Edge::start_for(world, &format!("{namespace}-{number}"), &output(&one)).await);
            }
            let balancer = balance(&client, &namespace, &edges[0]).await;
            Pods::Edges(edges, balancer)
        }
        _ => Pods::Others,
    };
    let api: Api<Deployment> = Api::namespaced(client, &namespace);
    loop {
        let observed = *generation.borrow_and_update();
        let status = json!({"status": {
            "observedGeneration": observed, "replicas": replicas, "updatedReplicas": replicas,
            "readyReplicas": replicas, "availableReplicas": replicas,
        }});
        // It may be gone already.
        let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await;
        if generation.changed().await.is_err() {
            return;
        }
    }
}

/// Replicas with the options of the ConfigMap that the pods mount.
async fn operators(world: &World, client: &Client, one: &Deployment, replicas: i32) -> Vec<Operator> {
    let pod = one.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let map = pod.volumes.iter().flatten().find_map(|volume| volume.config_map.as_ref()).unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "waybill");
    let map = maps.get(&map.name).await.unwrap();
    let file: PathBuf = world.plane.folder().join("options.yaml");
    std::fs::write(&file, &map.data.unwrap()["waybill.yaml"]).unwrap();
    let token = world.plane.folder().join("operators.token");
    std::fs::write(&token, world.plane.service_account_token("waybill", "waybill").await).unwrap();
    let mut operators = Vec::new();
    for number in 0..replicas {
        let mut command = Command::new(binary());
        command.arg("run").arg(format!("--configFile={}", file.display())).env_clear();
        world.plane.reached_by(&mut command, &token);
        let operator = world.plane.operator_by(&format!("waybill-{number}"), command);
        operator.ready().await;
        operators.push(operator);
    }
    operators
}

/// The output that the agent of an edge reads.
fn output(one: &Deployment) -> String {
    let pod = one.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let variables = pod.init_containers.iter().flatten().flat_map(|container| container.env.iter().flatten());
    variables.filter(|one| one.name == "OUTPUT").find_map(|one| one.value.clone()).unwrap()
}

/// Gives the Service of an edge an address, whose ports 80 and 443 lead to the edge.
async fn balance(client: &Client, namespace: &str, edge: &Edge) -> JoinSet<()> {
    let (_, address) = BALANCERS.iter().find(|(of, _)| *of == namespace).unwrap();
    let mut tasks = JoinSet::new();
    for (port, to) in [(80, edge.web()), (443, edge.secure())] {
        let listener = TcpListener::bind((*address, port)).await.unwrap();
        tasks.spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut to = TcpStream::connect(("127.0.0.1", to)).await?;
                    tokio::io::copy_bidirectional(&mut from, &mut to).await
                });
            }
        });
    }
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    services.patch_status("traefik", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    tasks
}

/// The endpoints of a Service of the pages.
async fn endpoints(world: &World, service: &Service) {
    if service.namespace().as_deref() != Some(objects::SHOP) {
        return;
    }
    let mut slice = objects::slice(&service.name_any(), &[PODS]);
    slice["ports"] = json!([{"port": POD_PORT, "protocol": "TCP"}]);
    world.apply(&[slice]).await;
}
