//! Parameters that can't be used, of classes that never had any others: they cost that class alone.

use serde_json::json;

use super::*;

fn class(name: &str, parameters: &str) -> String {
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: {name}}}
spec: {{controller: traefik.io/ingress-controller, parameters: {parameters}}}
"
    )
}

#[tokio::test]
async fn a_reference_that_leads_nowhere_gives_no_routing_an_event_and_a_count() {
    let plane = plane().await;
    plane.apply(&ingress("shop", "web", "public")).await;
    let operator = plane.operator("first", QUICK).await;
    operator.leads().await;
    published(&plane, PUBLIC, "shop", "web").await;
    let cases = [
        ("group", "{apiGroup: example.com, kind: IngressClassParameters, name: public}", "waybill.dev"),
        ("kind", "{apiGroup: waybill.dev, kind: Settings, name: public}", "IngressClassParameters"),
        (
            "scope",
            "{apiGroup: waybill.dev, kind: IngressClassParameters, name: public, scope: Namespace, namespace: shop}",
            "cluster-scoped",
        ),
        ("missing", "{apiGroup: waybill.dev, kind: IngressClassParameters, name: nothing}", "create it"),
    ];
    for (name, parameters, _) in cases {
        plane.apply(&class(name, parameters)).await;
        plane.apply(&ingress("shop", &format!("of-{name}"), name)).await;
    }
    for (name, _, words) in cases {
        event(&plane, "default", name, "InvalidParameters", &[words, "no routing"]).await;
        event(&plane, "shop", &format!("of-{name}"), "ClassNotAccepted", &[name]).await;
    }
    metric(&operator, "waybill_ingressclasses{settings=\"not_accepted\"}", 4.0).await;
    metric(&operator, "waybill_ingressclasses{settings=\"current\"}", 3.0).await;
    metric(&operator, "waybill_problems{category=\"InvalidParameters\"}", 4.0).await;
    metric(&operator, "waybill_problems{category=\"ClassNotAccepted\"}", 4.0).await;
    for output in [PUBLIC, INTERNAL, OWN] {
        let (_, document) = plane.published(output).await.unwrap();
        let routers = document.pointer("/http/routers").and_then(|routers| routers.as_object());
        assert!(routers.into_iter().flatten().all(|(key, _)| !key.contains("-of-")), "{document}");
    }

    // Mended: its Ingress is published.
    let spec = json!({"output": {"name": "public", "namespace": "edge-public"}});
    let object = json!({
        "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
        "metadata": {"name": "nothing"}, "spec": spec,
    });
    plane.apply(&object.to_string()).await;
    let document = published(&plane, PUBLIC, "shop", "of-missing").await;
    // It shares an output with a class that has other settings.
    let rule = |name: &str| document["http"]["routers"][router_key("shop", name)]["rule"].clone();
    assert_eq!(rule("of-missing"), r#"Host("of-missing.example.com") && PathPrefix("/app")"#);
    assert_eq!(rule("web"), r#"Host("web.example.com") && (Path("/app") || PathPrefix("/app/"))"#);
    metric(&operator, "waybill_ingressclasses{settings=\"not_accepted\"}", 3.0).await;
    assert!(refused(&plane).is_empty(), "{:#?}", refused(&plane));
}

/// A definition of another release, or somebody's own, may let anything through.
#[tokio::test]
async fn a_spec_that_breaks_the_rules_is_told_on_its_object_and_lifts_nothing() {
    let plane = plane().await;
    plane.apply(&ingress("shop", "web", "public")).await;
    plane.apply(&ingress("team-a", "tool", "internal")).await;
    let operator = plane.operator("first", QUICK).await;
    operator.leads().await;
    published(&plane, PUBLIC, "shop", "web").await;
    published(&plane, INTERNAL, "team-a", "tool").await;
    condition(&plane, "internal", "Accepted", "True", "Accepted").await;
    let lax = json!([{
        "op": "replace",
        "path": "/spec/versions/0/schema/openAPIV3Schema",
        "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }]);
    plane.kubectl_ok(&[
        "patch",
        "crd",
        "ingressclassparameters.waybill.dev",
        "--type=json",
        "-p",
        &lax.to_string(),
    ]);
    let api: Api<IngressClassParameters> = Api::all(plane.admin());
    let bad = json!({"spec": {"namespaces": {"names": null, "selector": 7}, "output": {"name": "No Label"}}});
    // The API server takes a moment to use another schema.
    eventually("the bad spec is let through", SOON, async || {
        api.patch_metadata("internal", &PatchParams::default(), &Patch::Merge(&bad)).await
    })
    .await;
    // The typed form does not take it any more.
    let message = eventually("it is not accepted", SOON, async || {
        let path = "{range .status.conditions[*]}{.type}={.status} {.reason} {.message}{'\\n'}{end}";
        let said = plane.kubectl_ok(&["get", "icp", "internal", "-o", &format!("jsonpath={path}")]);
        if said.contains("Accepted=False Invalid") { Ok(said) } else { Err(said) }
    })
    .await;
    assert!(message.contains("internal") && message.contains("last accepted"), "{message}");
    event(&plane, "default", "internal", "InvalidParameters", &["last accepted"]).await;
    metric(&operator, "waybill_ingressclasses{settings=\"last_accepted\"}", 1.0).await;
    plane.apply(&ingress("shop", "sneaky", "internal")).await;
    event(&plane, "shop", "sneaky", "NamespaceNotAdmitted", &["internal"]).await;
    let (_, document) = plane.published(INTERNAL).await.unwrap();
    assert!(has_router(&document, "team-a", "tool") && !has_router(&document, "shop", "sneaky"));
    condition(&plane, "public", "Accepted", "True", "Accepted").await;
    assert!(refused(&plane).is_empty(), "{:#?}", refused(&plane));
}
