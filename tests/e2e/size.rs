//! From nothing to many files and back to nothing.

use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DeleteParams, ListParams};

use crate::client::Backend;
use crate::load::Load;
use crate::objects::{SHOP, service, simple, slice};
use crate::world::{Edge, World};

const MANY: usize = 400;

pub async fn an_output_grows_and_becomes_empty() {
    let world = World::start(&["--operator.maxwithdrawal=100%"]).await;
    let edge = Edge::start(&world, "edge").await;
    let _backend = Backend::start("web", "10.99.1.1:8080").await;
    world.apply(&[service("web"), slice("web", &["10.99.1.1"]), simple("steady", "web")]).await;
    edge.answers(&[("steady.example/", "web")]).await;
    assert_eq!(edge.metric("waybill_agent_files").await, Some(2.0), "the routing and the user's");

    let steady = Load::start(&edge, "steady.example", |found| found == "web");
    let many: Vec<_> = (0..MANY).map(|at| simple(&format!("many-{at}"), "web")).collect();
    world.apply(&many).await;
    edge.answers(&[("many-399.example/", "web"), ("many-0.example/", "web")]).await;
    edge.loaded(&world).await;
    assert_eq!(edge.metric("waybill_agent_files").await, Some(65.0));
    let overview = edge.api("overview").await;
    assert_eq!(overview["http"]["routers"]["errors"], 0, "{overview}");

    // What alters no byte writes nothing.
    let writes = edge.metric("waybill_agent_writes_total").await;
    let (_, generation) = world.generation().await;
    world.plane.kubectl_ok(&["annotate", "service", "-n", SHOP, "web", "nothing=here"]);
    edge.loaded(&world).await;
    assert!(world.generation().await.1 <= generation + 1);
    assert_eq!(edge.metric("waybill_agent_writes_total").await, writes);
    assert!(steady.end().await > 50);

    let ingresses: Api<Ingress> = Api::namespaced(world.plane.admin(), SHOP);
    ingresses.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    edge.answers(&[("steady.example/", "404"), ("many-399.example/", "404")]).await;
    edge.loaded(&world).await;
    assert_eq!(edge.metric("waybill_agent_files").await, Some(65.0), "it stays in as many files");
    world.apply(&[simple("steady", "web")]).await;
    edge.answers(&[("steady.example/", "web")]).await;
    world.assert_nothing_refused();
}
