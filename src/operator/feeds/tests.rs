use kube::client::Body;

use super::*;

/// An API server that lists, and answers each watch with 410 as its HTTP status.
#[tokio::test]
async fn a_watch_that_is_gone_before_it_begins_is_listed_anew() {
    let service = tower::service_fn(|request: http::Request<Body>| async move {
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let (code, body) = if watches {
            (410, serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410}))
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
    assert_eq!(failures, 2, "one for each watch that was gone");
}
