//! Parameters, classes and the CRD that go: what was accepted last goes on to apply, nothing else is touched.

use serde_json::json;

use super::*;
use crate::harness::Signal;

const WITHOUT_CRD: &str =
    "ingressclasses,configmaps,ingresses,services,endpointslices,secrets,nodes,namespaces";

/// Both classes are as strict as before: broken backends of `public` answer, and namespaces stay shut out of
/// `internal`.
async fn still_strict(plane: &ControlPlane, name: &str) {
    plane.apply(&ingress("shop", name, "public").replace("name: app,", "name: nothing,")).await;
    let public = published(plane, PUBLIC, "shop", name).await;
    assert_eq!(public["http"]["routers"][router_key("shop", name)]["entryPoints"], json!(["websecure"]));
    let sneaky = format!("{name}-sneaky");
    plane.apply(&ingress("shop", &sneaky, "internal")).await;
    event(plane, "shop", &sneaky, "NamespaceNotAdmitted", &["internal"]).await;
    plane.apply(&ingress("team-a", name, "internal")).await;
    let internal = published(plane, INTERNAL, "team-a", name).await;
    assert!(!has_router(&internal, "shop", &sneaky));
    let (_, own) = plane.published(OWN).await.unwrap();
    for shut_out in [(name, "shop"), (&*sneaky, "shop"), (name, "team-a")] {
        assert!(!has_router(&own, shut_out.1, shut_out.0));
    }
}

#[tokio::test]
async fn what_was_accepted_last_applies_through_failovers_and_without_the_definition() {
    let plane = plane().await;
    plane.apply(&ingress("shop", "web", "public")).await;
    plane.apply(&ingress("team-a", "tool", "internal")).await;
    let first = plane.operator("first", QUICK).await;
    first.leads().await;
    published(&plane, PUBLIC, "shop", "web").await;
    published(&plane, INTERNAL, "team-a", "tool").await;
    condition(&plane, "internal", "Accepted", "True", "Accepted").await;
    let second = plane.operator("second", QUICK).await;
    second.ready().await;

    // The object of one class goes.
    let generation = plane.published(INTERNAL).await.unwrap().0.generation;
    delete_parameters(&plane, "internal").await;
    event(&plane, "default", "internal", "InvalidParameters", &["last accepted", "create it"]).await;
    metric(&first, "waybill_ingressclasses{settings=\"last_accepted\"}", 1.0).await;
    metric(&first, "waybill_problems{category=\"InvalidParameters\"}", 1.0).await;
    assert_eq!(plane.published(INTERNAL).await.unwrap().0.generation, generation);
    still_strict(&plane, "after-delete").await;

    // The leader dies.
    first.process.signal(Signal::KILL);
    second.leads().await;
    still_strict(&plane, "after-failover").await;
    assert!(has_router(&plane.published(INTERNAL).await.unwrap().1, "team-a", "tool"));
    metric(&second, "waybill_ingressclasses{settings=\"last_accepted\"}", 1.0).await;
    condition(&plane, "public", "Accepted", "True", "Accepted").await;

    // The definition goes, with the other class's object.
    plane.kubectl_ok(&["delete", "crd", "ingressclassparameters.waybill.dev"]);
    event(&plane, "default", "public", "InvalidParameters", &["last accepted"]).await;
    metric(&second, "waybill_ingressclasses{settings=\"last_accepted\"}", 2.0).await;
    still_strict(&plane, "without-crd").await;

    // Nobody is left who remembers: a fresh process takes over.
    let mut second = second;
    second.process.signal(Signal::TERM);
    second.process.ended(SOON).await;
    let third = plane.operator("third", QUICK).await;
    third.leads().await;
    metric(&third, "waybill_ingressclasses{settings=\"last_accepted\"}", 2.0).await;
    still_strict(&plane, "after-restart").await;
    assert!(has_router(&plane.published(INTERNAL).await.unwrap().1, "team-a", "tool"));
    assert!(has_router(&plane.published(PUBLIC).await.unwrap().1, "shop", "web"));
    for output in [PUBLIC, INTERNAL] {
        let (_, document) = plane.published(output).await.unwrap();
        assert_eq!(document, rendered(&plane, output, WITHOUT_CRD), "{output}");
    }
    let said = third.process.log();
    assert_eq!(said.matches("IngressClassParameters are not available").count(), 1, "{said}");

    // It comes back, and so do the objects.
    plane.install("crds");
    let api: Api<IngressClassParameters> = Api::all(plane.admin());
    eventually("the kind is served", SOON, async || api.list(&ListParams::default()).await).await;
    plane.install("manifests/examples/two-classes");
    eventually("it is found", SOON * 2, async || {
        let status = status_of(&plane, "public").await;
        if status.conditions.is_empty() { Err(third.process.log_tail()) } else { Ok(()) }
    })
    .await;
    condition(&plane, "public", "Accepted", "True", "Accepted").await;
    condition(&plane, "internal", "Accepted", "True", "Accepted").await;
    metric(&third, "waybill_ingressclasses{settings=\"last_accepted\"}", 0.0).await;
    metric(&third, "waybill_problems{category=\"InvalidParameters\"}", 0.0).await;
    assert!(refused(&plane).is_empty(), "{:#?}", refused(&plane));
}

#[tokio::test]
async fn a_class_that_goes_is_withdrawn_and_no_other() {
    let plane = plane().await;
    plane.apply(&ingress("shop", "web", "public")).await;
    plane.apply(&ingress("team-a", "tool", "internal")).await;
    let mut first = plane.operator("first", QUICK).await;
    first.leads().await;
    published(&plane, PUBLIC, "shop", "web").await;
    published(&plane, INTERNAL, "team-a", "tool").await;
    address(&plane, "team-a", "tool", &json!([{"hostname": "internal.example.com"}])).await;
    let remembers = async |classes: &[&str]| {
        let api: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(plane.admin(), "waybill");
        eventually(&format!("{classes:?} are remembered"), SOON, async || {
            let map = api.get_opt("waybill.classes").await.unwrap();
            let mut data = map.and_then(|map| map.data).unwrap_or_default();
            data.remove("_outputs");
            if data.keys().eq(classes) { Ok(()) } else { Err(format!("{data:?}")) }
        })
        .await;
    };
    remembers(&["internal", "public"]).await;

    delete_class(&plane, "internal").await;
    plane.eventually_published(INTERNAL, "it is withdrawn", |document| *document == json!({})).await;
    remembers(&["public"]).await;
    assert!(has_router(&plane.published(PUBLIC).await.unwrap().1, "shop", "web"));
    condition(&plane, "internal", "Accepted", "Unknown", "NotUsed").await;

    // Another controller's, and ours again.
    plane.kubectl_ok(&["delete", "ingressclass", "public"]);
    let foreign = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: public}
spec: {controller: example.com/other}
";
    plane.apply(foreign).await;
    plane.eventually_published(PUBLIC, "it is withdrawn", |document| *document == json!({})).await;
    plane.kubectl_ok(&["delete", "ingressclass", "public"]);
    plane.install("manifests/examples/two-classes");
    published(&plane, PUBLIC, "shop", "web").await;
    published(&plane, INTERNAL, "team-a", "tool").await;
    remembers(&["internal", "public"]).await;

    // Gone while nobody looks.
    first.process.signal(Signal::TERM);
    first.process.ended(SOON).await;
    delete_class(&plane, "public").await;
    let second = plane.operator("second", QUICK).await;
    second.leads().await;
    plane.eventually_published(PUBLIC, "it is withdrawn", |document| *document == json!({})).await;
    assert!(has_router(&plane.published(INTERNAL).await.unwrap().1, "team-a", "tool"));
    remembers(&["internal"]).await;
    assert!(refused(&plane).is_empty(), "{:#?}", refused(&plane));
}

#[tokio::test]
async fn without_the_definition_the_operator_runs_and_says_so_once() {
    let plane = ControlPlane::start().await;
    without_definition(&plane).await;
    plane.apply(&SURROUNDINGS[SURROUNDINGS.rfind("---").unwrap()..]).await;
    plane.apply(&ingress("shop", "web", "traefik")).await;
    let operator = plane.operator("first", QUICK).await;
    operator.leads().await;
    published(&plane, OWN, "shop", "web").await;
    let asked = async || {
        let lists =
            ours(&plane).into_iter().filter(|event| event.uri.contains("ingressclassparameters")).count();
        if lists >= 2 { Ok(()) } else { Err(format!("{lists} tries")) }
    };
    eventually("it looks for the definition again and again", SOON, asked).await;
    let said = operator.process.log();
    assert_eq!(said.matches("IngressClassParameters are not available").count(), 1, "{said}");
    assert!(!said.contains("watch failed"), "{said}");

    plane.install("crds");
    plane.apply(&namespace_with_app("edge-public")).await;
    plane.install("manifests/examples/two-classes");
    plane.apply(&ingress("shop", "later", "public")).await;
    eventually("it is found", SOON * 2, async || match operator.process.log() {
        log if log.contains("IngressClassParameters are available") => Ok(()),
        log => Err(log),
    })
    .await;
    published(&plane, PUBLIC, "shop", "later").await;
    assert!(refused(&plane).is_empty(), "{:#?}", refused(&plane));
}
