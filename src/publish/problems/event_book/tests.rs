use super::*;
use crate::publish::problems::event_text::PER_OBJECT;
use crate::translate::problem::{Category, Kind};

fn operator() -> Subject {
    Subject { kind: Kind::ConfigMap, namespace: "waybill".into(), name: "waybill".into() }
}

fn subject(name: &str) -> Subject {
    Subject { kind: Kind::Ingress, namespace: "ns".into(), name: name.into() }
}

fn problem(category: Category, field: &str, value: &str) -> Problem {
    Problem {
        category,
        subject: subject("web"),
        field: field.into(),
        value: value.into(),
        remedy: "fix it".into(),
    }
}

/// Everything that is to be written now, all of it done at once.
fn drain(book: &mut EventBook, now: Instant) -> Vec<(String, String, i32)> {
    let mut done = Vec::new();
    let mut now = now;
    loop {
        match book.next(now) {
            Next::Act(action) => {
                done.push((action.event.reason.clone(), action.event.note.clone(), action.count));
                book.written(&action);
            }
            Next::Wait(Some(at)) if at < now + Duration::from_secs(1) => now = at,
            Next::Wait(_) => return done,
        }
    }
}

#[test]
fn a_problem_is_written_once_refreshed_and_ended() {
    let start = Instant::now();
    let mut book = EventBook::new(operator());
    let fault = problem(Category::SecretNotFound, "spec.tls[0].secretName", "cert");
    let note = "spec.tls[0].secretName: \"cert\": fix it";
    book.report(&subject("web"), "u", std::slice::from_ref(&fault));
    assert_eq!(drain(&mut book, start), [("SecretNotFound".into(), note.into(), 1)]);
    book.report(&subject("web"), "u", std::slice::from_ref(&fault));
    assert_eq!(drain(&mut book, start + Duration::from_secs(1_700)), []);
    assert_eq!(drain(&mut book, start + REFRESH), [("SecretNotFound".into(), note.into(), 2)]);
    assert_eq!(drain(&mut book, start + 2 * REFRESH), [("SecretNotFound".into(), note.into(), 3)]);
    book.report(&subject("web"), "u", &[]);
    let over = "spec.tls[0].secretName: no longer a problem".to_owned();
    assert_eq!(drain(&mut book, start + 2 * REFRESH), [("SecretNotFoundResolved".into(), over, 1)]);
    assert!(matches!(book.next(start + 20 * REFRESH), Next::Wait(None)));
    assert!(book.objects.is_empty() && book.later.next().is_none());
}

#[test]
fn another_value_is_another_event_and_no_end() {
    let now = Instant::now();
    let mut book = EventBook::new(operator());
    book.report(&subject("web"), "u", &[problem(Category::NoEndpoints, "f", "a")]);
    drain(&mut book, now);
    book.report(&subject("web"), "u", &[problem(Category::NoEndpoints, "f", "b")]);
    assert_eq!(drain(&mut book, now), [("NoEndpoints".into(), "f: \"b\": fix it".into(), 1)]);
}

#[test]
fn an_end_that_was_not_written_yet_is_dropped_when_it_is_back() {
    let now = Instant::now();
    let fault = [problem(Category::NoEndpoints, "f", "a")];
    let mut book = EventBook::new(operator());
    book.report(&subject("web"), "u", &fault);
    drain(&mut book, now);
    book.report(&subject("web"), "u", &[]);
    book.report(&subject("web"), "u", &fault);
    assert_eq!(drain(&mut book, now), [("NoEndpoints".into(), "f: \"a\": fix it".into(), 1)]);
}

#[test]
fn the_next_leader_finds_the_same_names_and_another_object_gets_others() {
    let now = Instant::now();
    let first = |uid: &str, name: &str| {
        let mut book = EventBook::new(operator());
        book.report(&subject(name), uid, &[problem(Category::NoEndpoints, "f", "a")]);
        let Next::Act(action) = book.next(now) else { unreachable!("there is something to tell") };
        action.event.name
    };
    assert_eq!(first("u", "web"), first("u", "web"));
    assert_ne!(first("u", "web"), first("v", "web"), "made anew under the same name");
    let name = first("u", &format!("{}.x", "a".repeat(236)));
    assert!(name.len() <= 253 && name.starts_with("aaa") && !name.contains(".."), "{name}");
}

#[test]
fn ten_for_an_object_and_the_rest_summed_up() {
    let now = Instant::now();
    let mut book = EventBook::new(operator());
    let many: Vec<_> = (0..30)
        .map(|at| {
            let category = if at < 15 { Category::ServiceNotFound } else { Category::SecretNotFound };
            problem(category, &format!("f[{at:02}]"), "x")
        })
        .collect();
    book.report(&subject("web"), "u", &many);
    let written = drain(&mut book, now);
    assert_eq!(written.len(), PER_OBJECT);
    let sum = written.iter().find(|(reason, ..)| reason == "MoreProblems").map(|(_, note, _)| note.as_str());
    assert_eq!(sum, Some("and 21 more problems: 6 of ServiceNotFound, 15 of SecretNotFound"));
    assert_eq!((book.take_suppressed(), book.take_suppressed()), (21, 0));
}

#[test]
fn twenty_a_second_and_one_event_when_many_wait() {
    let mut now = Instant::now();
    let start = now;
    let mut book = EventBook::new(operator());
    for at in 0..2_000 {
        book.report(&subject(&format!("web-{at}")), "u", &[problem(Category::NoEndpoints, "f", "a")]);
    }
    let (mut written, mut delayed) = (0, 0);
    loop {
        match book.next(now) {
            Next::Act(action) if action.event.reason == "EventsDelayed" => {
                assert_eq!(action.subject, operator());
                assert!(action.event.note.contains("2000 objects"), "{}", action.event.note);
                delayed += 1;
            }
            Next::Act(action) => {
                book.written(&action);
                written += 1;
            }
            Next::Wait(Some(at)) if written < 2_000 => now = at,
            Next::Wait(_) => break,
        }
    }
    assert_eq!((written, delayed), (2_000, 1));
    let seconds = (now - start).as_secs_f64();
    assert!((98.0..102.0).contains(&seconds), "{seconds}");
}

#[test]
fn what_is_over_before_it_is_written_in_other_words_is_written_of_all_the_same() {
    let now = Instant::now();
    let mut book = EventBook::new(operator());
    book.report(&subject("a"), "u", &[problem(Category::NoEndpoints, "f", "a")]);
    assert_eq!(drain(&mut book, now).len(), 1);
    for value in ["b", "c", "d"] {
        book.report(&subject("a"), "u", &[problem(Category::NoEndpoints, "f", value)]);
    }
    book.report(&subject("a"), "u", &[]);
    let written = drain(&mut book, now);
    assert_eq!(written, [("NoEndpointsResolved".to_owned(), "f: no longer a problem".to_owned(), 1)]);
}

#[test]
fn what_comes_back_in_other_words_and_goes_before_anything_is_written_is_over() {
    let now = Instant::now();
    let mut book = EventBook::new(operator());
    let fault = |value| [problem(Category::NoEndpoints, "f", value)];
    for back in ["a", "b"] {
        book.report(&subject("a"), "u", &fault("a"));
        drain(&mut book, now);
        book.report(&subject("a"), "u", &[]);
        book.report(&subject("a"), "u", &fault(back));
        book.report(&subject("a"), "u", &[]);
        let written = drain(&mut book, now);
        assert_eq!(
            written,
            [("NoEndpointsResolved".to_owned(), "f: no longer a problem".to_owned(), 1)],
            "{back}"
        );
    }
    // Also where the end was on its way, or the first words were.
    book.report(&subject("a"), "u", &fault("a"));
    drain(&mut book, now);
    book.report(&subject("a"), "u", &[]);
    let Next::Act(end) = book.next(now) else { unreachable!("end") };
    book.report(&subject("a"), "u", &fault("b"));
    book.failed(&end, now);
    book.report(&subject("a"), "u", &[]);
    let later = now + Duration::from_secs(60);
    assert_eq!(drain(&mut book, later).len(), 1);
    book.report(&subject("a"), "u", &fault("c"));
    let Next::Act(first) = book.next(later) else { unreachable!("first") };
    book.report(&subject("a"), "u", &fault("d"));
    book.written(&first);
    book.report(&subject("a"), "u", &[]);
    assert_eq!(drain(&mut book, later).len(), 1);
}

#[test]
fn an_object_is_the_same_before_and_after_its_uid_is_known() {
    let now = Instant::now();
    let mut book = EventBook::new(operator());
    let fault = [problem(Category::NoEndpoints, "f", "a")];
    for (before, after) in [("", "u"), ("u", "")] {
        book.report(&subject("a"), before, &fault);
        assert_eq!(drain(&mut book, now).len(), 1);
        book.report(&subject("a"), after, &[]);
        let written = drain(&mut book, now);
        assert_eq!(written, [("NoEndpointsResolved".to_owned(), "f: no longer a problem".to_owned(), 1)]);
    }
}

#[test]
fn the_end_of_what_may_have_been_written_is_written() {
    let start = Instant::now();
    let mut book = EventBook::new(operator());
    let fault = [problem(Category::NoEndpoints, "f", "a")];
    book.report(&subject("a"), "u", &fault);
    let Next::Act(first) = book.next(start) else { unreachable!("a") };
    book.failed(&first, start);
    book.report(&subject("a"), "u", &[]);
    let late = start + Duration::from_secs(60);
    let written = drain(&mut book, late);
    assert_eq!(written, [("NoEndpointsResolved".to_owned(), "f: no longer a problem".to_owned(), 1)]);
    // Once, also when an attempt succeeded later.
    book.report(&subject("a"), "u", &fault);
    let Next::Act(again) = book.next(late) else { unreachable!("again") };
    book.failed(&again, late);
    let later = late + Duration::from_secs(60);
    assert_eq!(drain(&mut book, later).len(), 1);
    book.report(&subject("a"), "u", &[]);
    assert_eq!(drain(&mut book, later).len(), 1);
    assert_eq!(drain(&mut book, later), []);
}

#[test]
fn what_failed_comes_again_later_and_holds_up_nobody() {
    let start = Instant::now();
    let mut book = EventBook::new(operator());
    let fault = [problem(Category::NoEndpoints, "f", "a")];
    book.report(&subject("a"), "u", &fault);
    book.report(&subject("b"), "u", &fault);
    let Next::Act(first) = book.next(start) else { unreachable!("a") };
    book.failed(&first, start);
    let Next::Act(second) = book.next(start) else { unreachable!("b") };
    assert_eq!(second.subject, subject("b"));
    book.written(&second);
    let Next::Wait(Some(again)) = book.next(start) else { unreachable!("later") };
    assert!(again > start + Duration::from_secs(1) && again <= start + Duration::from_secs(2));
    let Next::Act(third) = book.next(again) else { unreachable!("again") };
    assert_eq!(third, first);
    // An end is written again as well.
    book.written(&third);
    book.report(&subject("a"), "u", &[]);
    let Next::Act(over) = book.next(again) else { unreachable!("over") };
    book.failed(&over, again);
    let late = again + Duration::from_secs(60);
    assert_eq!(drain(&mut book, late).len(), 1);
}

#[test]
fn nothing_is_said_about_what_is_gone() {
    let now = Instant::now();
    let mut book = EventBook::new(operator());
    book.report(&subject("web"), "u", &[problem(Category::NoEndpoints, "f", "a")]);
    drain(&mut book, now);
    book.forget(&subject("web"));
    assert_eq!(drain(&mut book, now + 2 * REFRESH), []);
}

/// What is under way is not forgotten, however often the book is asked for more meanwhile.
#[test]
fn an_end_that_fails_is_written_again_though_nothing_else_was_left_to_say() {
    let start = Instant::now();
    let mut book = EventBook::new(operator());
    book.report(&subject("a"), "u", &[problem(Category::NoEndpoints, "f", "a")]);
    drain(&mut book, start);
    book.report(&subject("a"), "u", &[]);
    let mut now = start;
    for _ in 0..3 {
        let Next::Act(end) = book.next(now) else { unreachable!("an end") };
        assert_eq!(end.event.reason, "NoEndpointsResolved");
        assert!(!matches!(book.next(now), Next::Act(_)));
        book.failed(&end, now);
        now += Duration::from_secs(60);
    }
    assert_eq!(drain(&mut book, now).len(), 1);
    assert_eq!(drain(&mut book, now + 2 * REFRESH), []);
    assert!(book.objects.is_empty() && book.later.next().is_none());
}

/// The beginning and the end are under way together, and both fail.
#[test]
fn an_end_that_overtakes_its_beginning_is_written_when_either_fails() {
    let start = Instant::now();
    for order in [[0, 1], [1, 0]] {
        let mut book = EventBook::new(operator());
        book.report(&subject("a"), "u", &[problem(Category::NoEndpoints, "f", "a")]);
        let Next::Act(begin) = book.next(start) else { unreachable!("a beginning") };
        book.report(&subject("a"), "u", &[]);
        let Next::Act(end) = book.next(start) else { unreachable!("an end") };
        assert!(!matches!(book.next(start), Next::Act(_)));
        for at in order {
            book.failed([&begin, &end][at], start);
            assert!(!matches!(book.next(start), Next::Act(_)));
        }
        let written = drain(&mut book, start + Duration::from_secs(60));
        assert_eq!(written, [("NoEndpointsResolved".to_owned(), "f: no longer a problem".to_owned(), 1)]);
        drain(&mut book, start + 2 * REFRESH);
        assert!(book.objects.is_empty() && book.later.next().is_none());
    }
}

#[test]
fn writes_that_fail_together_have_failed_once() {
    let start = Instant::now();
    let mut book = EventBook::new(operator());
    let many: Vec<_> =
        (0..8).map(|at| problem(Category::ServiceNotFound, &format!("f[{at}]"), "x")).collect();
    book.report(&subject("a"), "u", &many);
    let acts: Vec<_> = std::iter::from_fn(|| match book.next(start) {
        Next::Act(action) => Some(action),
        Next::Wait(_) => None,
    })
    .collect();
    assert_eq!(acts.len(), 8);
    acts.iter().for_each(|act| book.failed(act, start));
    assert_eq!(drain(&mut book, start + Duration::from_secs(2)).len(), 8);
}

#[test]
fn what_is_only_counted_is_not_over_until_it_is() {
    let now = Instant::now();
    let mut book = EventBook::new(operator());
    let faults = |from: usize| -> Vec<_> {
        (from..15).map(|at| problem(Category::ServiceNotFound, &format!("f[{at:02}]"), "x")).collect()
    };
    let reasons = |written: Vec<(String, String, i32)>| -> Vec<String> {
        written.into_iter().map(|(reason, note, _)| format!("{reason} {}", &note[..5])).collect()
    };
    book.report(&subject("a"), "u", &faults(10));
    assert_eq!(drain(&mut book, now).len(), 5);
    // The first ten push those that were written out of what is shown.
    book.report(&subject("a"), "u", &faults(0));
    let written = reasons(drain(&mut book, now));
    assert!(
        written.len() == PER_OBJECT && written.iter().all(|written| !written.contains("Resolved")),
        "{written:?}"
    );
    // One that was written once and is only counted now ends.
    let mut fewer = faults(0);
    fewer.retain(|fault| fault.field != "f[12]");
    book.report(&subject("a"), "u", &fewer);
    let written = reasons(drain(&mut book, now));
    assert_eq!(written, ["MoreProblems and 5", "ServiceNotFoundResolved f[12]"]);
    book.report(&subject("a"), "u", &[]);
    let mut written = reasons(drain(&mut book, now));
    written.retain(|written| written.starts_with("ServiceNotFoundResolved"));
    assert_eq!(written.len(), 9 + 4, "the nine shown, and the four of before");
}

#[test]
fn an_object_that_is_made_again_is_another_one_and_leaves_nothing_behind() {
    let now = Instant::now();
    let mut book = EventBook::new(operator());
    let fault = [problem(Category::NoEndpoints, "f", "a")];
    book.report(&subject("a"), "u", &fault);
    let first = drain(&mut book, now);
    book.report(&subject("a"), "v", &fault);
    assert!(book.is_about(&subject("a"), "v"));
    assert_eq!(
        drain(&mut book, now),
        first,
        "written of the new one in the same words, and no end of the old one"
    );
    book.report(&subject("a"), "w", &[]);
    assert!(book.objects.is_empty());
    // However often it comes and goes while Events wait, it waits once.
    for turn in 0..100 {
        book.report(&subject("a"), &format!("x-{turn}"), &fault);
        book.forget(&subject("a"));
    }
    assert_eq!((book.ready.len(), drain(&mut book, now).len()), (1, 0));
    assert!(book.objects.is_empty());
}

/// What is said on the operator's index for all that wait has nothing to do with what is wrong with the index.
#[test]
fn that_many_wait_settles_nothing_about_the_object_it_is_said_on() {
    let mut now = Instant::now();
    let mut book = EventBook::new(operator());
    book.report(&operator(), "m", &[problem(Category::Paused, "f", "a")]);
    drain(&mut book, now);
    book.report(&operator(), "m", &[]);
    let Next::Act(end) = book.next(now) else { unreachable!("an end") };
    for at in 0..=MANY_WAIT {
        book.report(&subject(&format!("web-{at}")), "u", &[problem(Category::NoEndpoints, "f", "a")]);
    }
    now += Duration::from_secs(1);
    let Next::Act(delayed) = book.next(now) else { unreachable!("many wait") };
    assert_eq!(delayed.event.reason, "EventsDelayed");
    book.failed(&delayed, now);
    book.failed(&end, now);
    for at in 0..=MANY_WAIT {
        book.forget(&subject(&format!("web-{at}")));
    }
    let written = drain(&mut book, now + Duration::from_secs(2));
    assert_eq!(written, [("PausedResolved".to_owned(), "f: no longer a problem".to_owned(), 1)]);
}

/// So many problems, with fields that nothing before had.
fn unheard_of(turn: u32) -> Vec<Problem> {
    (0..PER_OBJECT)
        .map(|at| problem(Category::UnknownAnnotation, &format!("annotations[{turn}-{at}]"), "x"))
        .collect()
}

#[test]
fn an_object_with_ever_new_problems_holds_up_nobody_and_each_of_them_ends() {
    let start = Instant::now();
    let mut book = EventBook::new(operator());
    let mut written: Vec<(Subject, String, Instant)> = Vec::new();
    let mut write_until = |book: &mut EventBook, end: Instant, mut now: Instant| loop {
        match book.next(now) {
            Next::Act(action) => {
                let field = action.event.note.split(':').next().unwrap_or_default();
                written.push((action.subject.clone(), format!("{} {field}", action.event.reason), now));
                book.written(&action);
            }
            Next::Wait(Some(at)) if at < end => now = at,
            Next::Wait(_) => return written.len(),
        }
    };
    let turn = Duration::from_millis(500);
    let mut now = start;
    for at in 0..120 {
        book.report(&subject("a"), "u", &unheard_of(at));
        if at == 60 {
            book.report(&subject("b"), "v", &[problem(Category::NoEndpoints, "f", "b")]);
        }
        write_until(&mut book, now + turn, now);
        now += turn;
        let over = book.objects.get(&subject("a")).map_or(0, |object| object.over.len());
        assert!(over <= 2 * PER_OBJECT, "{over} ends wait");
        assert!(book.later.len() <= 2, "{} times for two objects", book.later.len());
    }
    book.report(&subject("a"), "u", &[]);
    let count = write_until(&mut book, now + Duration::from_secs(10), now);
    assert!(count <= 20 + 20 * 70, "{count} Events in 70 seconds");
    let other = written.iter().find(|(about, ..)| *about == subject("b")).map(|(_, _, at)| *at);
    let waited = other.map(|at| at - (start + 60 * turn));
    assert!(waited.is_some_and(|waited| waited <= Duration::from_millis(100)), "{waited:?}");
    let of = |reason: &str| -> BTreeSet<String> {
        let fields = written.iter().filter_map(|(_, text, _)| text.strip_prefix(reason));
        fields.map(str::to_owned).collect()
    };
    let begun = of("UnknownAnnotation ");
    assert!(begun.len() > 500, "{} of 1,200", begun.len());
    assert_eq!(begun, of("UnknownAnnotationResolved "));
}

#[test]
fn an_object_whose_events_are_written_waits_no_more() {
    let mut now = Instant::now();
    let mut book = EventBook::new(operator());
    for at in 0..100 {
        book.report(&subject(&format!("web-{at}")), "u", &[problem(Category::NoEndpoints, "f", "a")]);
    }
    let mut waiting = book.waiting();
    assert_eq!(waiting, 100);
    while waiting > 0 {
        match book.next(now) {
            Next::Act(_) => {
                waiting -= 1;
                assert_eq!(book.waiting(), waiting);
            }
            Next::Wait(at) => now = at.unwrap(),
        }
    }
}

#[test]
fn the_many_objects_of_a_namespace_hold_up_no_other_namespace() {
    let start = Instant::now();
    let mut book = EventBook::new(operator());
    let fault = |value: &str| [problem(Category::NoEndpoints, "f", value)];
    for at in 0..1_000 {
        book.report(&subject(&format!("web-{at}")), "u", &fault("a"));
    }
    let others = ["b", "c"].map(|namespace| Subject { namespace: namespace.into(), ..subject("web") });
    for other in &others {
        book.report(other, "v", &fault("b"));
    }
    let mut first = Vec::new();
    while let Next::Act(action) = book.next(start) {
        first.push(action.subject);
    }
    assert_eq!(first.len(), PER_SECOND as usize);
    assert!(first.contains(&subject("web-0")) && first.contains(&subject("web-1")), "{first:?}");
    assert!(others.iter().all(|other| first[..3].contains(other)), "{first:?}");
    assert_eq!(book.waiting(), 982);
}
