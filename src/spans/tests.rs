use super::*;

fn followed() -> (Spans, mpsc::Receiver<Span>, Metrics) {
    let metrics = Metrics::new("x").unwrap();
    let (queue, spans) = mpsc::channel(QUEUE);
    let clock = (Instant::now(), SystemTime::now());
    let shared = SpansState { open: Mutex::default(), queue, metrics: metrics.clone(), clock };
    (Spans(Some(Arc::new(shared))), spans, metrics)
}

fn slice(name: &str) -> ChangedObject {
    let namespace = "shop".to_owned();
    ChangedObject { kind: "endpointslices", namespace, name: name.to_owned(), deleted: false }
}

fn names(spans: &mut mpsc::Receiver<Span>) -> Vec<String> {
    std::iter::from_fn(|| spans.try_recv().ok()).map(|span| span.name).collect()
}

fn facts(generation: u64, awaited: bool) -> CommitFacts {
    CommitFacts { commit: CommitId::new(1, generation), bytes: 10, awaited }
}

#[test]
fn two_changes_in_one_commit_are_two_whole_traces() {
    let (spans, mut sent, _) = followed();
    let output = OutputKey::new("edge", "public");
    let web = IngressKey::new("shop", "web");
    let now = Instant::now();
    let traces = ["a", "b"].map(|name| spans.begin(slice(name), now, 1).unwrap());
    for trace in traces {
        spans.reconciled(trace, &web, now, [&output].into_iter());
    }
    let failing = spans.committing(&output).unwrap();
    assert_eq!(failing.first(), Some(traces[0]));
    failing.failed("forbidden");
    spans.committing(&output).unwrap().committed(&facts(7, true));
    assert!(spans.committing(&output).is_none());
    spans.loaded(&output, CommitId::new(1, 6));
    spans.loaded(&OutputKey::new("edge", "other"), CommitId::new(1, 8));
    let before: Vec<_> = std::iter::from_fn(|| sent.try_recv().ok()).collect();
    assert!(before.iter().all(|span| span.name != "load" && span.name != "change"));
    spans.loaded(&output, CommitId::new(1, 8));
    let all: Vec<_> = before.into_iter().chain(std::iter::from_fn(|| sent.try_recv().ok())).collect();
    let roots: Vec<_> = all.iter().filter(|span| span.name == "change").collect();
    assert_eq!(roots.len(), 2);
    for root in roots {
        assert!(root.parent_span_id.is_empty());
        let below = all.iter().filter(|span| span.parent_span_id == root.span_id);
        let below: Vec<_> = below.map(|span| (&*span.name, span.status.is_some())).collect();
        assert_eq!(below, [("reconcile", false), ("commit", true), ("commit", false), ("load", false)]);
        assert!(all.iter().filter(|span| span.parent_span_id == root.span_id).all(|span| {
            span.trace_id == root.trace_id
                && span.start_time_unix_nano >= root.start_time_unix_nano
                && span.end_time_unix_nano <= root.end_time_unix_nano
        }));
    }
}

#[test]
fn without_agents_a_trace_ends_with_the_commit() {
    let (spans, mut sent, _) = followed();
    let output = OutputKey::new("edge", "public");
    let trace = spans.begin(slice("a"), Instant::now(), 1).unwrap();
    spans.reconciled(trace, &IngressKey::new("shop", "web"), Instant::now(), [&output].into_iter());
    spans.committing(&output).unwrap().committed(&facts(1, false));
    assert_eq!(names(&mut sent), ["reconcile", "commit", "change"]);
}

#[test]
fn everything_is_bounded_and_what_is_dropped_counted() {
    let (spans, mut sent, metrics) = followed();
    let output = OutputKey::new("edge", "public");
    let long = "x".repeat(10 * LONGEST_VALUE);
    let now = Instant::now();
    let traces: Vec<_> = (0..2 * OPEN).filter_map(|_| spans.begin(slice(&long), now, 1)).collect();
    assert_eq!((traces.len(), metrics.spans.get(SpanResult::Dropped)), (OPEN, OPEN as u64));
    for _ in 0..100 {
        spans.reconciled(traces[0], &IngressKey::new("shop", "web"), now, [].into_iter());
    }
    assert_eq!(names(&mut sent).len(), RECONCILED as usize);
    for trace in &traces {
        spans.reconciled(*trace, &IngressKey::new("shop", "web"), now, [&output].into_iter());
    }
    names(&mut sent);
    let commit = spans.committing(&output).unwrap();
    assert_eq!(commit.traces.len(), WAITING);
    commit.committed(&facts(1, false));
    let values = std::iter::from_fn(|| sent.try_recv().ok()).flat_map(|span| span.attributes);
    for attribute in values {
        if let Some(Value::StringValue(text)) = attribute.value.unwrap().value {
            assert!(text.len() <= LONGEST_VALUE);
        }
    }
    // Nobody comes back to the others.
    let shared = spans.0.as_ref().unwrap();
    shared.sweep();
    assert_eq!(shared.open.lock().traces.len(), OPEN - WAITING);
    let long_ago = Instant::now().checked_sub(IDLE).unwrap();
    shared.open.lock().traces.values_mut().for_each(|trace| trace.seen = long_ago);
    shared.sweep();
    assert!(shared.open.lock().traces.is_empty() && shared.open.lock().waiting.is_empty());
    let before = metrics.spans.get(SpanResult::Dropped);
    for _ in 0..2 * QUEUE {
        let trace = spans.begin(slice("a"), now, 1).unwrap();
        spans.reconciled(trace, &IngressKey::new("shop", "web"), now, [&output].into_iter());
        spans.committing(&output).unwrap().committed(&facts(1, false));
    }
    assert!(metrics.spans.get(SpanResult::Dropped) > before + QUEUE as u64);
}

#[test]
fn a_commit_that_goes_on_failing_is_not_followed_for_ever() {
    let (spans, mut sent, _) = followed();
    let output = OutputKey::new("edge", "public");
    let web = IngressKey::new("shop", "web");
    let Some(long_ago) = Instant::now().checked_sub(LONGEST_WAIT) else { return };
    let trace = spans.begin(slice("a"), long_ago, 1).unwrap();
    spans.reconciled(trace, &web, Instant::now(), [&output].into_iter());
    spans.committing(&output).unwrap().failed("forbidden");
    let shared = spans.0.as_ref().unwrap();
    shared.sweep();
    assert!(shared.open.lock().traces.is_empty() && shared.open.lock().waiting.is_empty());
    assert_eq!(names(&mut sent), ["reconcile", "commit", "change"]);
}

#[test]
fn what_waits_again_after_a_failure_waits_once_and_what_does_not_fit_ends() {
    let (spans, mut sent, _) = followed();
    let output = OutputKey::new("edge", "public");
    let web = IngressKey::new("shop", "web");
    let now = Instant::now();
    let begin = || {
        let trace = spans.begin(slice("a"), now, 1).unwrap();
        spans.reconciled(trace, &web, now, [&output].into_iter());
        trace
    };
    let again = begin();
    let commit = spans.committing(&output).unwrap();
    spans.reconciled(again, &web, now, [&output].into_iter());
    let later: Vec<_> = (0..WAITING - 1).map(|_| begin()).collect();
    commit.failed("forbidden");
    let commit = spans.committing(&output).unwrap();
    assert_eq!(commit.traces, [vec![again], later].concat());
    begin();
    commit.failed("forbidden");
    assert_eq!(names(&mut sent).iter().filter(|name| *name == "change").count(), 1, "one too many");
    spans.committing(&output).unwrap().committed(&facts(1, false));
    assert_eq!(names(&mut sent).iter().filter(|name| *name == "change").count(), WAITING);
    assert!(spans.0.as_ref().unwrap().open.lock().traces.is_empty());
}

#[test]
fn a_change_that_reconciles_nothing_is_no_trace() {
    let (spans, mut sent, _) = followed();
    spans.begin(slice("a"), Instant::now(), 1).unwrap();
    let shared = spans.0.as_ref().unwrap();
    let Some(long_ago) = Instant::now().checked_sub(IDLE) else { return };
    shared.open.lock().traces.values_mut().for_each(|trace| trace.seen = long_ago);
    shared.sweep();
    assert!(shared.open.lock().traces.is_empty() && names(&mut sent).is_empty());
}

#[test]
fn nothing_happens_where_it_is_off() {
    let spans = Spans::default();
    assert!(!spans.is_on() && spans.begin(slice("a"), Instant::now(), 1).is_none());
    assert!(spans.committing(&OutputKey::new("edge", "public")).is_none());
    assert!(spans.log(None).is_disabled());
}
