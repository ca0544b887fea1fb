use super::*;
use crate::parameters::resolve::Reason;

fn observed() -> Observed {
    Observed {
        generation: Some(3),
        accepted: Some(Verdict { reason: Reason::Accepted, message: String::new() }),
        classes: [("public".into(), Standing::Current)].into(),
        publication: Publication::Committed,
        counts: ClassCounts {
            ingresses: 2,
            routers: 3,
            services: 2,
            certificates: 1,
            problems: 0,
            shards: 1,
            agents: 2,
            updated_agents: 1,
        },
        known: CountsKnown { shards: true, agents: true },
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_millisecond(second * 1000 + 250).unwrap()
}

fn json(status: &IngressClassParametersStatus) -> Value {
    serde_json::to_value(status).unwrap()
}

fn conditions(status: &IngressClassParametersStatus) -> Vec<(&str, &str, &str, i64)> {
    let of = |condition: &'_ Condition| condition.last_transition_time.0.as_second();
    status.conditions.iter().map(|c| (&*c.type_, &*c.status, &*c.reason, of(c))).collect()
}

#[test]
fn a_conditions_time_changes_only_with_its_status() {
    let first = status(&observed(), None, at(100));
    assert_eq!(
        conditions(&first),
        [
            ("Accepted", "True", "Accepted", 100),
            ("Published", "True", "Committed", 100),
            ("Ready", "True", "Ready", 100),
        ]
    );
    assert_eq!((first.observed_generation, first.counts.ingresses, first.counts.routers), (Some(3), 2, 3));
    assert_eq!(first.ingress_classes, ["public"]);

    let held = Observed { publication: Publication::Held(Category::Paused), ..observed() };
    let second = status(&held, Some(&first), at(200));
    assert_eq!(
        conditions(&second),
        [
            ("Accepted", "True", "Accepted", 100),
            ("Published", "False", "Paused", 200),
            ("Ready", "False", "Paused", 200),
        ]
    );
    let pending = Observed { publication: Publication::Pending, ..observed() };
    assert_eq!(status(&pending, Some(&second), at(300)), second, "a new leader does not know yet");
    let third = status(&Observed { generation: Some(4), ..pending }, Some(&second), at(300));
    assert_eq!(
        conditions(&third)[1..],
        [("Published", "False", "Pending", 200), ("Ready", "False", "Pending", 200)]
    );
    // As the API server gives it back.
    let json = serde_json::to_value(&third).unwrap();
    assert_eq!(json["conditions"][1]["lastTransitionTime"], "1970-01-01T00:03:20Z");
}

#[test]
fn bad_settings_say_what_becomes_of_which_class() {
    let bad = Observed {
        accepted: Some(Verdict { reason: Reason::Invalid, message: "spec.precedence: x".to_owned() }),
        classes: [("a".into(), Standing::LastAccepted), ("b".into(), Standing::NotAccepted)].into(),
        ..observed()
    };
    let said = status(&bad, None, at(1));
    assert_eq!(
        said.conditions[0].message,
        "spec.precedence: x; the last accepted settings still apply to a; there is no routing yet for b"
    );
    assert_eq!(conditions(&said)[0].1, "False");
    let none = Observed { classes: [("b".into(), Standing::NotAccepted)].into(), ..bad };
    assert_eq!(conditions(&status(&none, None, at(1)))[1].2, "NotAccepted");
    let unused = Observed { accepted: None, classes: BTreeMap::new(), ..none };
    assert_eq!(
        conditions(&status(&unused, None, at(1))),
        [
            ("Accepted", "Unknown", "NotUsed", 1),
            ("Published", "False", "NotUsed", 1),
            ("Ready", "Unknown", "NotUsed", 1),
        ]
    );
    let long = Observed {
        accepted: Some(Verdict { reason: Reason::Invalid, message: "ä".repeat(9000) }),
        ..observed()
    };
    assert!(status(&long, None, at(1)).conditions[0].message.len() <= MESSAGE_LIMIT);
}

#[test]
fn settings_that_were_published_stay_ready_while_later_changes_wait() {
    let ready = |observed: &Observed, before: Option<&IngressClassParametersStatus>| {
        let status = status(observed, before, at(200));
        let ready = status.conditions.iter().find(|condition| condition.type_ == READY).unwrap();
        (ready.status.clone(), ready.reason.clone())
    };
    let is = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
    let pending = Observed { publication: Publication::Pending, ..observed() };
    assert_eq!(ready(&pending, None), is("False", "Pending"));
    let published = status(&observed(), None, at(100));
    assert_eq!(status(&pending, Some(&published), at(200)), published);
    let unused = status(&Observed { accepted: None, ..observed() }, None, at(100));
    assert_eq!(ready(&pending, Some(&unused)), is("False", "Pending"));
    let changed = Observed { generation: Some(4), ..pending };
    assert_eq!(ready(&changed, Some(&published)), is("False", "Pending"));
    let bad = Some(Verdict { reason: Reason::Invalid, message: "x".to_owned() });
    assert_eq!(ready(&Observed { accepted: bad, ..observed() }, Some(&published)), is("False", "Invalid"));
    let failing = Observed { publication: Publication::Failing("timeout"), ..observed() };
    assert_eq!(ready(&failing, Some(&published)), is("False", "CommitFailed"));
}

#[test]
fn conditions_are_due_at_once_and_counts_now_and_then() {
    let mut ledger = Ledger::default();
    let start = Instant::now();
    let second = Duration::from_secs(1);
    let Some(first) = ledger.due("p", &observed(), start, at(0)) else { panic!("nothing due") };
    ledger.written("p", first, start);
    assert_eq!(ledger.due("p", &observed(), start + second, at(1)), None);

    let mut more = observed();
    more.counts.routers = 9;
    assert_eq!(ledger.due("p", &more, start + 29 * second, at(29)), None);
    assert!(ledger.due("p", &more, start + 30 * second, at(30)).is_some());

    more.generation = Some(4);
    assert!(ledger.due("p", &more, start + 2 * second, at(2)).is_some());
    let class = Observed { classes: BTreeMap::new(), ..observed() };
    assert!(ledger.due("p", &class, start + 2 * second, at(2)).is_some());
}

#[test]
fn what_a_new_leader_has_not_counted_stays_as_it_is() {
    let mut ledger = Ledger::default();
    let now = Instant::now();
    ledger.seen("p", &json(&status(&observed(), None, at(0))));
    let zero = ClassCounts { shards: 0, agents: 0, updated_agents: 0, ..observed().counts };
    let new = Observed {
        publication: Publication::Pending,
        counts: zero,
        known: CountsKnown { shards: false, agents: false },
        ..observed()
    };
    assert_eq!(ledger.due("p", &new, now, at(1)), None);
    let written = |observed: &Observed| ledger.due("p", observed, now, at(1)).unwrap().counts;
    // The class is paused, or no commit succeeds, or something else has to be said.
    let paused = Observed { publication: Publication::Held(Category::Paused), ..new.clone() };
    assert_eq!(written(&paused), observed().counts);
    let failing = Observed { publication: Publication::Failing("timeout"), ..new.clone() };
    assert_eq!(written(&failing), observed().counts);
    let more = Observed { counts: ClassCounts { routers: 9, ..zero }, ..new.clone() };
    assert_eq!(written(&more), ClassCounts { routers: 9, ..observed().counts });
    let cut = Observed { known: CountsKnown { shards: true, agents: false }, ..new.clone() };
    assert_eq!(written(&cut), ClassCounts { shards: 0, ..observed().counts });
    let counted = Observed { known: CountsKnown { shards: true, agents: true }, ..new };
    assert_eq!(written(&counted), zero);
}

#[test]
fn what_others_write_is_put_back_but_their_own_conditions_stay() {
    let mut ledger = Ledger::default();
    let now = Instant::now();
    let mut there = status(&observed(), None, at(0));
    there.conditions.push(Condition { type_: "Theirs".to_owned(), ..there.conditions[0].clone() });
    ledger.seen("p", &json(&there));
    assert_eq!(ledger.due("p", &observed(), now, at(9)), None);
    there.conditions[0].status = "False".to_owned();
    ledger.seen("p", &json(&there));
    let Some(back) = ledger.due("p", &observed(), now, at(9)) else { panic!("nothing due") };
    assert_eq!(conditions(&back)[0], ("Accepted", "True", "Accepted", 9));
    ledger.seen("p", &Value::Null);
    assert!(ledger.due("p", &observed(), now, at(9)).is_some());
    ledger.forget("p");
    assert!(ledger.due("p", &observed(), now, at(9)).is_some());
}
