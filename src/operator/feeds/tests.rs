use std::sync::atomic::{AtomicUsize, Ordering};

use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::kubernetes::key::{IngressKey, OutputKey};
use crate::options;
use crate::parameters::classes::NamespaceSource;
use crate::watch::Watched;

/// An API server that lists, and refuses each watch with the codes in turn.
#[tokio::test]
async fn a_watch_that_is_refused_before_it_begins_is_listed_anew() {
    for code in [410, 404, 403] {
        lists_after_each(code).await;
    }
}

async fn lists_after_each(code: u16) {
    let service = tower::service_fn(move |request: http::Request<Body>| async move {
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let (code, body) = if watches {
            (
                code,
                serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}),
            )
        } else {
            let metadata = serde_json::json!({"resourceVersion": "7"});
            (
                200,
                serde_json::json!({"kind": "ServiceList", "apiVersion": "v1", "metadata": metadata, "items": []}),
            )
        };
        let body = Body::from(serde_json::to_vec(&body)?);
        Ok::<_, tower::BoxError>(http::Response::builder().status(code).body(body)?)
    });
    let api: Api<WireService> = Api::all(Client::new(service, "default"));
    let mut events = events(api, watcher::Config::default());
    let (mut lists, mut failures) = (0, 0);
    while lists < 3 {
        match events.next().await {
            Some(Ok(Event::InitDone)) => lists += 1,
            Some(Ok(_)) => {}
            Some(Err(_)) => failures += 1,
            None => unreachable!("it has no end"),
        }
    }
    assert_eq!(failures, 2, "one for each watch that was refused");
}

/// A replica that starts beside what an earlier leader remembered: class `public` selects namespaces by label and has an
/// output of its own. So many first lists of Namespaces are answered 403; gives what it knows once all is translated.
async fn started(refusals: usize, wait_for_right: Duration) -> Arc<Live> {
    let spec = json!({
        "output": {"name": "public", "namespace": "edge"},
        "namespaces": {"selector": {"matchLabels": {"team": "edge"}}},
    });
    let class = json!({
        "metadata": {"name": "public", "uid": "u"},
        "spec": {
            "controller": "traefik.io/ingress-controller",
            "parameters": {"apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": "public"},
        },
    });
    let items = move |resource: &str| -> Vec<Value> {
        match resource {
            "ingressclasses" => vec![class.clone()],
            "ingressclassparameters" => vec![json!({
                "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
                "metadata": {"name": "public"}, "spec": spec,
            })],
            "configmaps" => vec![json!({
                "metadata": {"name": "waybill.classes", "namespace": "waybill"},
                "data": {"public": json!({"uid": "u", "spec": spec}).to_string()},
            })],
            "namespaces" => vec![json!({"metadata": {"name": "shop", "labels": {"team": "edge"}}})],
            "ingresses" => vec![json!({
                "metadata": {"name": "web", "namespace": "shop"},
                "spec": {"ingressClassName": "public", "rules": [{"host": "web.example.com"}]},
            })],
            _ => Vec::new(),
        }
    };
    let asked = Arc::new(AtomicUsize::new(0));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let resource = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let refused =
            resource == "namespaces" && !watches && asked.fetch_add(1, Ordering::Relaxed) < refusals;
        let (code, body) = if refused {
            (403, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403}))
        } else {
            (
                200,
                json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": items(&resource)}),
            )
        };
        async move {
            if watches {
                std::future::pending::<()>().await;
            }
            let body = Body::from(serde_json::to_vec(&body)?);
            Ok::<_, tower::BoxError>(http::Response::builder().status(code).body(body)?)
        }
    });
    let options = options::from_yaml_str("").unwrap().options;
    let watched = Watched { namespaces: None, nodes: false };
    let routing = Routing::new(watched, options.class.clone(), Arc::new(options.settings.clone()));
    let metrics = Metrics::new("x").unwrap();
    let live = Arc::new(Live::new(routing, metrics.clone()));
    let what = Feeds {
        label_selector: String::new(),
        classes: true,
        nodes: false,
        namespace: "waybill".to_owned(),
        class_memory: "waybill.classes".to_owned(),
        watch_seconds: WATCH_SECONDS,
        wait_for_right,
    };
    let tasks = feeds(&what, &Client::new(service, "default"), &live, &metrics);
    tokio::select! {
        _ = futures::future::select_all(tasks) => unreachable!("watches have no end"),
        () = live.reached(Phase::Synced) => {}
    }
    live
}

#[tokio::test]
async fn a_right_that_is_missing_for_a_moment_costs_a_class_nothing() {
    let (long, output) = (Duration::from_secs(60), OutputKey::new("edge", "public"));
    let live = tokio::time::timeout(long, started(1, long)).await.unwrap();
    let routing = live.routing();
    assert!(routing.table().fragment(&IngressKey::new("shop", "web")).is_some());
    assert_eq!(routing.classes().withholding(&output), None);
}

/// A leader that publishes nothing of the class would withdraw what the one before has published.
#[tokio::test]
async fn what_is_published_by_labels_that_cannot_be_read_is_left_alone() {
    let (web, output) = (IngressKey::new("shop", "web"), OutputKey::new("edge", "public"));
    let started = started(usize::MAX, Duration::from_millis(1));
    let live = tokio::time::timeout(Duration::from_secs(60), started).await.unwrap();
    let routing = live.routing();
    assert!(routing.table().fragment(&web).is_none());
    assert_eq!(routing.classes().withholding(&output).map(|class| &**class), Some("public"));
    assert!(routing.is_paused(&web) && !routing.is_retired(&output));
    drop(routing);
    // The right is back.
    live.set_sources(|sources| sources.namespaces = NamespaceSource::Listed);
    let routing = live.routing();
    assert_eq!(routing.classes().withholding(&output), None);
    assert!(!routing.is_paused(&web) && !routing.is_retired(&output));
}
