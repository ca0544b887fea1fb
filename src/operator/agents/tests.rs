use super::*;
use crate::published::agents;

const SECOND: Duration = Duration::from_secs(1);

fn output() -> OutputKey {
    OutputKey::new("edge", "public")
}

/// The report number `number` of an agent.
fn lease(output: &OutputKey, identity: &str, loaded: CommitId, number: u64) -> Lease {
    serde_json::from_value(serde_json::json!({
        "metadata": {
            "name": agents::lease_name(output, identity), "labels": agents::labels(output),
            "annotations": agents::annotations(loaded),
        },
        // The clock of this agent is years behind.
        "spec": {"leaseDurationSeconds": 30, "renewTime": format!("2011-11-26T08:00:00.{number:06}Z")},
    }))
    .unwrap()
}

/// A commit.
fn at(epoch: u64, generation: u64) -> CommitId {
    CommitId::new(epoch, generation)
}

fn counts(known: &KnownAgents, commit: CommitId, now: Instant) -> (usize, usize) {
    let counts = known.count(&output(), commit, now);
    (counts.live, counts.current)
}

#[test]
fn how_old_what_is_not_loaded_yet_is() {
    let begun = Instant::now();
    let mut commits = Commits::default();
    for (second, commit) in [(0, at(1, 1)), (1, at(1, 2)), (2, at(1, 2)), (3, at(2, 3))] {
        commits.push(commit, begun + Duration::from_secs(second));
    }
    let now = begun + Duration::from_secs(10);
    let age = |loaded| commits.age_after(loaded, now).as_secs();
    assert_eq!((age(at(1, 1)), age(at(1, 2)), age(at(2, 3)), age(at(2, 4))), (9, 7, 0, 0));
    let settled = |seconds| commits.up_to_date(begun + Duration::from_secs(seconds));
    assert_eq!(
        [settled(29), settled(30), settled(32), settled(90)],
        [at(0, 0), at(1, 1), at(1, 2), at(2, 3)]
    );
    for generation in 0..1_000 {
        commits.push(at(3, generation), now);
    }
    assert_eq!((commits.newest(), commits.0.len()), (Some(at(3, 999)), REMEMBERED));
}

#[test]
fn who_has_loaded_what() {
    let other = OutputKey::new("edge", "internal");
    let now = Instant::now();
    let mut known = KnownAgents::new(now);
    assert_eq!(known.loaded_by_all(&output(), now), at(0, 0), "there may be some");
    assert_eq!(known.totals(&output(), &Commits::default(), now), None, "nobody knows how many");
    assert_eq!(known.totals(&output(), &Commits::default(), now + LISTING), Some((0, 0)), "and may never");
    known.listed = true;
    assert_eq!(known.totals(&output(), &Commits::default(), now), Some((0, 0)));
    assert_eq!(known.loaded_by_all(&output(), now), CommitId::EVERYTHING, "nobody is waited for");
    for (output, identity, loaded) in
        [(&output(), "a", at(1, 5)), (&output(), "b", at(1, 4)), (&other, "c", at(1, 1))]
    {
        assert!(known.take(&lease(output, identity, loaded, 0), now).unwrap());
    }
    assert_eq!(counts(&known, at(1, 5), now), (2, 1));
    assert_eq!(counts(&known, at(1, 4), now), (2, 2));
    assert_eq!(counts(&known, at(2, 1), now), (2, 0), "a later epoch");
    assert_eq!(known.loaded_by_all(&output(), now), at(1, 4));

    // One reports again, the other runs out.
    assert!(!known.take(&lease(&output(), "a", at(1, 5), 1), now + 20 * SECOND).unwrap(), "no news");
    assert_eq!(counts(&known, at(1, 5), now + 40 * SECOND), (1, 1));
    assert_eq!(known.loaded_by_all(&output(), now + 40 * SECOND), at(1, 5));
}

#[test]
fn only_a_new_report_makes_an_agent_count_for_longer() {
    let now = Instant::now();
    let mut known = KnownAgents::new(now);
    known.take(&lease(&output(), "a", at(1, 5), 0), now).unwrap();
    // A list shows it again, or somebody edits it: with a longer duration, too.
    let mut again = lease(&output(), "a", at(1, 5), 0);
    again.spec.as_mut().unwrap().lease_duration_seconds = Some(i32::MAX);
    known.take(&again, now + 20 * SECOND).unwrap();
    assert_eq!(counts(&known, at(1, 5), now + 31 * SECOND).0, 0);
    // A clock that goes back tells a new report all the same, and none counts for years.
    again.spec.as_mut().unwrap().renew_time.as_mut().unwrap().0 = "1999-01-01T00:00:00Z".parse().unwrap();
    assert!(known.take(&again, now + 40 * SECOND).unwrap(), "it counts again");
    assert_eq!(counts(&known, at(1, 5), now + 41 * SECOND).0, 1);
    assert_eq!(counts(&known, at(1, 5), now + 40 * SECOND + LONGEST).0, 0);
}

#[test]
fn garbage_changes_nothing_and_what_is_known_is_bounded() {
    let now = Instant::now();
    let mut known = KnownAgents::new(now);
    known.take(&lease(&output(), "a", at(1, 5), 0), now).unwrap();
    let mut garbage = lease(&output(), "a", at(1, 5), 1);
    garbage.metadata.annotations.as_mut().unwrap().insert(agents::LOADED.to_owned(), "x".repeat(200_000));
    assert!(matches!(known.take(&garbage, now), Err(Ignored::Unreadable(_))));
    assert_eq!(counts(&known, at(1, 5), now), (1, 1));

    for number in 0..LIMIT + 100 {
        let _ = known.take(&lease(&output(), &format!("forged-{number}"), at(0, 1), 0), now);
    }
    assert_eq!(known.agents.len(), LIMIT);
    let late = lease(&output(), "late", at(1, 5), 0);
    assert!(matches!(known.take(&late, now), Err(Ignored::TooMany)));
    // Those that ran out make room.
    known.take(&late, now + 60 * SECOND).unwrap();
    assert_eq!(known.agents.len(), 1);
}

#[test]
fn totals_are_known_when_those_of_every_output_are() {
    let other = OutputKey::new("edge", "internal");
    let totals = AgentTotals::default();
    let both = [output(), other.clone()].into();
    totals.add(output(), Some((2, 1)));
    assert!(totals.are_committed(&[output()].into()) && !totals.are_committed(&both));
    assert_eq!((totals.of(&[output()].into()), totals.of(&both)), (Some((2, 1)), None));
    totals.add(other.clone(), None);
    assert!(totals.are_committed(&both) && totals.of(&both).is_none());
    totals.add(other, Some((3, 3)));
    assert_eq!(totals.of(&both), Some((5, 4)));
}
