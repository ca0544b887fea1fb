use kube::client::Body;

use super::*;

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
