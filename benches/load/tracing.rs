//! What traces cost: CPU for a changed endpoint with `operator.otlpEndpoint` and without, by operators that take turns.

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use tokio::net::TcpListener;

use super::Arguments;
use super::harness::ControlPlane;
use super::report::{Goal, Report, Sample};
use super::rounds;

/// As much again as without traces.
const RATIO_GOAL: f64 = 2.0;

/// Measures, prints, and gives the goals that are missed.
pub async fn measure(plane: &ControlPlane, arguments: &Arguments) -> Vec<String> {
    let count = arguments.ingresses;
    // A collector that reads what it gets, in this process.
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("--operator.otlpEndpoint=http://{}", collector.local_addr().unwrap());
    let router = Router::new().route("/v1/traces", post(|_: Bytes| async {}));
    tokio::spawn(async move { axum::serve(collector, router).await });

    let (mut without, mut with, mut spans) = (vec![], vec![], vec![]);
    for round in 0..arguments.rounds as u64 {
        let changes = arguments.busy_seconds * rounds::BUSY;
        for (turn, flags) in [&[][..], &[&*endpoint][..]].into_iter().enumerate() {
            let (mut operator, _) =
                rounds::start(plane, &format!("load-tracing-{round}-{turn}"), count, flags).await;
            let first = (round * 2 + turn as u64) * changes;
            let spent = rounds::busy_cpu(plane, &operator, count, first..first + changes).await;
            if turn == 0 {
                without.push(spent);
            } else {
                with.push(spent);
                let sent = operator.metric("waybill_spans_total{result=\"sent\"}").await.unwrap();
                let dropped = operator.metric("waybill_spans_total{result=\"dropped\"}").await.unwrap();
                assert!(sent > changes as f64 && dropped == 0.0, "{sent} spans sent, {dropped} dropped");
                spans.push(sent / changes as f64);
            }
            rounds::stop(&mut operator).await;
        }
    }
    let without = Sample::new(without);
    let most = without.median() * RATIO_GOAL;
    let mut report = Report::default();
    report.line("CPU for a change, no traces", "ms", &without, &[]);
    report.line(
        "CPU for a change, with traces",
        "ms",
        &Sample::new(with),
        &[Goal::Beside("no traces", without.median()), Goal::AtMost(most)],
    );
    report.line("spans of a change", "", &Sample::new(spans), &[]);
    report.missed
}
