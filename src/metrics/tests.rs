use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn the_page_in_docs_is_what_the_program_registers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let wanted = markdown().unwrap();
    if std::env::var_os("WAYBILL_WRITE_DOCS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap_or_default() == wanted,
        "docs/metrics.md is stale; write it with WAYBILL_WRITE_DOCS=1 cargo test --lib metrics"
    );
}

#[test]
fn names_say_their_unit_and_type() {
    for metric in Metrics::new("x").unwrap().described.iter() {
        let total = metric.name.ends_with("_total");
        assert_eq!(total, metric.kind == "counter", "{}", metric.name);
        assert!(metric.help.ends_with('.'), "{}", metric.name);
        if metric.help.starts_with("Seconds") {
            assert!(metric.name.ends_with("_seconds"), "{}", metric.name);
        }
    }
}

/// The series that are shown, with their values.
fn series(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = metrics.render().unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn every_metric_shows_what_was_set() {
    let metrics = Metrics::new("elect").unwrap();
    metrics.reconciles.add(Controller::IngressClass, ReconcileResult::Error, 2);
    drop(metrics.reconcile_seconds.timer(Controller::Ingress));
    metrics.queue_depth.set(Queue::Status, 3.0);
    metrics.api_requests.add(Code::new(409), Method::Put, 4);
    metrics.answers_broken.add(Method::Get, 5);
    metrics.leader.set(1.0);
    metrics.lease_transitions.set(6.0);
    metrics.leases_lost.inc();
    let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
    metrics.lease_renewal_age.since(ago(7));
    metrics.watch_age.begun(WatchKind::Service, "/x");
    metrics.candidate.set(0.0);
    metrics.watch_restarts.add(WatchKind::Node, 8);
    metrics.watch_errors.add(WatchKind::Lease, 9);
    metrics.objects.set(WatchKind::Ingress, 10.0);
    metrics.translations.add(Trigger::Secret, 11);
    metrics.problems.set("SecretNotFound", 12.0);
    metrics.classes.set(ClassStatus::LastAccepted, 13.0);
    metrics.published_age.since(ago(14));
    metrics.pending_age.since(ago(15));
    metrics.change_to_commit.observe(0.75);
    metrics.deletion_to_commit.observe(20.0);
    metrics.writes.add(WriteKind::KeyShard, WriteResult::Failed(WriteFailure::QuotaExceeded), 16);
    metrics.written_bytes.add(WriteKind::Index, WriteResult::Success, 17);
    metrics.publish_error.set(WriteFailure::NameTaken, 1.0);
    metrics.throttle_stretch.set(18.5);
    metrics.text_fill.set(0.5);
    metrics.withdrawal_held.set(1.0);
    metrics.paused.set(1.0);
    metrics.published.set(PublishedKind::Certificate, 19.0);
    metrics.shards.set(ShardKind::Keys, 20.0);
    metrics.statuses_pending.set(21.0);
    let output = || "edge/public".to_owned();
    metrics.agents.show([(output(), 23.0)]);
    metrics.agents_behind.show([(output(), 24.0)]);
    metrics.agents_lag.show([(output(), 25.0)]);
    metrics.statuses_unconfirmed.add(&output(), 26);
    metrics.agent_reports_ignored.add(IgnoredReport::TooMany, 27);
    metrics.events.add(EventResult::Suppressed, 22);
    metrics.certificates_expiring.set(EndsWithin::Week, 28.0);
    metrics.reviews.add(ReviewResult::Throttled, 29);
    metrics.spans.add(SpanResult::Dropped, 30);

    let shown = series(&metrics);
    let mut expected = BTreeMap::from([
        ("controller_runtime_reconcile_total{controller=\"ingressclass\",result=\"error\"}", 2.0),
        ("controller_runtime_reconcile_time_seconds_count{controller=\"ingress\"}", 1.0),
        ("workqueue_depth{name=\"status\"}", 3.0),
        ("rest_client_requests_total{code=\"409\",method=\"PUT\"}", 4.0),
        ("waybill_api_answers_broken_total{method=\"GET\"}", 5.0),
        ("leader_election_master_status{name=\"elect\"}", 1.0),
        ("waybill_lease_transitions", 6.0),
        ("waybill_leases_lost_total", 1.0),
        ("waybill_lease_renewal_age_seconds", 7.0),
        ("waybill_watch_age_seconds{kind=\"services\"}", 0.0),
        ("waybill_candidate", 0.0),
        ("waybill_watch_restarts_total{kind=\"nodes\"}", 8.0),
        ("waybill_watch_errors_total{kind=\"leases\"}", 9.0),
        ("waybill_objects{kind=\"ingresses\"}", 10.0),
        ("waybill_translations_total{trigger=\"secret\"}", 11.0),
        ("waybill_problems{category=\"SecretNotFound\"}", 12.0),
        ("waybill_ingressclasses{settings=\"last_accepted\"}", 13.0),
        ("waybill_published_age_seconds", 14.0),
        ("waybill_publish_pending_seconds", 15.0),
        ("waybill_change_to_commit_seconds_bucket{le=\"1\"}", 1.0),
        ("waybill_deletion_to_commit_seconds_sum", 20.0),
        ("waybill_writes_total{kind=\"key_shard\",result=\"quota_exceeded\"}", 16.0),
        ("waybill_written_bytes_total{kind=\"index\",result=\"success\"}", 17.0),
        ("waybill_publish_error{category=\"name_taken\"}", 1.0),
        ("waybill_publish_throttle_stretch_seconds", 18.5),
        ("waybill_text_fill_ratio", 0.5),
        ("waybill_withdrawal_held", 1.0),
        ("waybill_publish_paused", 1.0),
        ("waybill_published_entries{kind=\"certificates\"}", 19.0),
        ("waybill_shards{kind=\"keys\"}", 20.0),
        ("waybill_statuses_pending", 21.0),
        ("waybill_agents{output=\"edge/public\"}", 23.0),
        ("waybill_agents_behind{output=\"edge/public\"}", 24.0),
        ("waybill_agents_lag_seconds{output=\"edge/public\"}", 25.0),
        ("waybill_statuses_unconfirmed_total{output=\"edge/public\"}", 26.0),
        ("waybill_agent_reports_ignored_total{reason=\"too_many\"}", 27.0),
        ("waybill_events_total{result=\"suppressed\"}", 22.0),
        ("waybill_certificates_expiring{within=\"7d\"}", 28.0),
        ("waybill_metrics_reviews_total{result=\"throttled\"}", 29.0),
        ("waybill_spans_total{result=\"dropped\"}", 30.0),
        (concat!("waybill_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ]);
    for metric in metrics.described.iter().filter(|metric| metric.name.starts_with("process_")) {
        let value = shown.get(&metric.name).copied().unwrap_or_default();
        assert!(value > 0.0, "{} is {value}", metric.name);
        expected.insert(&metric.name, value);
    }
    for (name, wanted) in &expected {
        // Ages go on.
        let right = shown.get(*name).is_some_and(|value| (wanted - 0.001..wanted + 5.0).contains(value));
        assert!(right, "{name} is {:?} and not {wanted}", shown.get(*name));
    }
    for metric in metrics.described.iter() {
        let name = metric.name.as_str();
        assert!(expected.keys().any(|series| series.starts_with(name)), "{name} is not in this test");
    }

    metrics.clear_leaders();
    let cleared = series(&metrics);
    let of_leaders = [
        "workqueue_depth{name=\"status\"}",
        "waybill_problems{category=\"SecretNotFound\"}",
        "waybill_ingressclasses{settings=\"last_accepted\"}",
        "waybill_publish_error{category=\"name_taken\"}",
        "waybill_publish_throttle_stretch_seconds",
        "waybill_text_fill_ratio",
        "waybill_withdrawal_held",
        "waybill_publish_paused",
        "waybill_published_entries{kind=\"certificates\"}",
        "waybill_shards{kind=\"keys\"}",
        "waybill_certificates_expiring{within=\"7d\"}",
        "waybill_statuses_pending",
    ];
    for (name, value) in &shown {
        let gone = ["waybill_published_age", "waybill_publish_pending", "waybill_agents"]
            .iter()
            .any(|start| name.starts_with(start));
        if of_leaders.contains(&name.as_str()) {
            assert_eq!(cleared.get(name), Some(&0.0), "{name}");
        } else if gone {
            assert_eq!(cleared.get(name), None, "{name}");
        } else if !["process_", "waybill_watch_age", "waybill_lease_renewal"]
            .iter()
            .any(|goes_on| name.starts_with(goes_on))
        {
            assert_eq!(cleared.get(name), Some(value), "{name}");
        }
    }
}

#[test]
fn an_age_is_computed_at_the_scrape_and_absent_when_cleared() {
    let metrics = Metrics::new("x").unwrap();
    let name = "waybill_watch_age_seconds{kind=\"services\"}";
    assert_eq!(series(&metrics).get(name), None);
    metrics.watch_age.begun(WatchKind::Service, "/x");
    let seen = series(&metrics).get(name).copied().unwrap();
    assert!((0.0..10.0).contains(&seen), "{seen}");
    metrics.watch_age.clear(WatchKind::Service);
    assert_eq!(series(&metrics).get(name), None);
}

#[test]
fn a_metric_shows_the_outputs_that_there_are_and_a_bounded_number_of_them() {
    let metrics = Metrics::new("x").unwrap();
    let show = |names: std::ops::Range<usize>| {
        metrics.agents.show(names.map(|name| (format!("edge/{name:04}"), 1.0)));
        series(&metrics).keys().filter(|name| name.starts_with("waybill_agents{")).count()
    };
    assert_eq!((show(0..3), show(2..4), show(0..2_000), show(0..0)), (3, 2, 1_000, 0));
    (0..2_000).for_each(|name| metrics.statuses_unconfirmed.add(&format!("edge/{name}"), 1));
    let counted = series(&metrics).keys().filter(|name| name.starts_with("waybill_statuses_unc")).count();
    assert_eq!(counted, 1_000);
}
