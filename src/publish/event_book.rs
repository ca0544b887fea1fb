//! Which Events there have to be: problems of each object against those that were told. No I/O and no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::event_text::{Place, Told, delayed, resolved, wanted};
use super::rate::Rate;
use crate::translate::problem::{Problem, Subject};

/// Events a second, over all.
pub const PER_SECOND: u32 = 20;
/// An Event that still holds is written again after this, since the API server forgets it after an hour.
pub const REFRESH: Duration = Duration::from_secs(1_800);
/// Objects that wait, above which one Event says so.
const MANY_WAIT: usize = 1_200;

/// What to write next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The object that it is about.
    pub subject: Subject,
    /// That object's uid; empty when it is not there.
    pub uid: String,
    /// The Event.
    pub event: Told,
    /// How often it was seen, this time included: above 1 it is there already.
    pub count: i32,
    /// What it says the end of.
    over: Option<Place>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Write this, then call [`EventBook::written`] or [`EventBook::failed`].
    Act(Action),
    /// Nothing before then, unless something is reported.
    Wait(Option<Instant>),
}

#[derive(Debug)]
struct Object {
    uid: String,
    /// What has to be told.
    wanted: BTreeMap<Told, Place>,
    /// What was told, how often and when last.
    told: BTreeMap<Told, (Place, i32, Instant)>,
    /// What may have been told: an attempt failed, and not all that fail have done nothing.
    doubtful: BTreeMap<Told, Place>,
    /// What is over and was not told yet.
    over: VecDeque<(Place, Told)>,
    queued: bool,
    retry: Option<(Instant, Backoff)>,
}

impl Object {
    fn new(uid: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            wanted: BTreeMap::new(),
            told: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            over: VecDeque::new(),
            queued: false,
            retry: None,
        }
    }
}

/// All Events.
#[derive(Debug)]
pub struct EventBook {
    objects: HashMap<Subject, Object>,
    ready: VecDeque<Subject>,
    /// Looked at again then: refreshes and retries.
    later: BTreeSet<(Instant, Subject)>,
    rate: Rate,
    suppressed: u64,
    /// The object on which it is said that Events wait, and when it was said.
    operator: Subject,
    said_at: Option<Instant>,
}

impl EventBook {
    /// `operator` is what Events are about that concern none of the users' objects: the index, say.
    pub fn new(operator: Subject) -> Self {
        Self {
            objects: HashMap::new(),
            ready: VecDeque::new(),
            later: BTreeSet::new(),
            rate: Rate::new(PER_SECOND, PER_SECOND),
            suppressed: 0,
            operator,
            said_at: None,
        }
    }

    /// Sets all problems of an object.
    pub fn report(&mut self, subject: &Subject, uid: &str, problems: &[Problem]) {
        if problems.is_empty() && !self.objects.contains_key(subject) {
            return;
        }
        let object = self.objects.entry(subject.clone()).or_insert_with(|| Object::new(uid));
        if object.uid.is_empty() {
            // The same object, known better: the index is told of before it is there.
            uid.clone_into(&mut object.uid);
        } else if object.uid != uid && !uid.is_empty() {
            // Another object of that name: what was told was about the first.
            let queued = object.queued;
            *object = Object { queued, ..Object::new(uid) };
        }
        let (wanted, suppressed) = wanted(&object.uid, subject, problems);
        if wanted == object.wanted {
            return;
        }
        self.suppressed += suppressed;
        let told = object.told.iter().map(|(told, (place, ..))| (told, place));
        let doubtful = object.doubtful.iter().filter(|(told, _)| !object.told.contains_key(*told));
        for (told, place) in told.chain(doubtful).filter(|(told, _)| !wanted.contains_key(*told)) {
            // One that is told in other words stands still.
            if !wanted.values().any(|other| other == place) {
                object.over.push_back((place.clone(), resolved(&object.uid, subject, told, place)));
            }
        }
        // What is back is not over.
        object.over.retain(|(place, _)| !wanted.values().any(|other| other == place));
        object.told.retain(|told, _| wanted.contains_key(told));
        object.doubtful.retain(|told, _| wanted.contains_key(told));
        object.wanted = wanted;
        if !std::mem::replace(&mut object.queued, true) {
            self.ready.push_back(subject.clone());
        }
    }

    /// The object is gone: nothing more is to be said about it.
    pub fn forget(&mut self, subject: &Subject) {
        self.objects.remove(subject);
    }

    /// Problems without an Event of their own since this was asked last.
    pub fn take_suppressed(&mut self) -> u64 {
        std::mem::take(&mut self.suppressed)
    }

    /// Objects that wait.
    pub fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// What to write next.
    pub fn next(&mut self, now: Instant) -> Next {
        while let Some((at, subject)) = self.later.first().cloned() {
            if at > now {
                break;
            }
            self.later.remove(&(at, subject.clone()));
            if let Some(object) = self.objects.get_mut(&subject)
                && !std::mem::replace(&mut object.queued, true)
            {
                self.ready.push_back(subject);
            }
        }
        if let Some(action) = self.say_that_many_wait(now) {
            return Next::Act(action);
        }
        while let Some(subject) = self.ready.front() {
            let Some(object) = self.objects.get_mut(subject) else {
                self.ready.pop_front();
                continue;
            };
            let retry = object.retry.as_ref().map(|(at, _)| *at).filter(|at| *at > now);
            let action = if retry.is_some() { None } else { action(subject, object, now) };
            let Some(action) = action else {
                // Nothing is left to be said about it now.
                object.queued = false;
                let refresh = object.told.values().map(|(.., at)| *at + REFRESH).min();
                if let Some(at) = retry.or(refresh) {
                    self.later.insert((at, subject.clone()));
                } else if object.wanted.is_empty() && object.over.is_empty() {
                    self.objects.remove(subject);
                }
                self.ready.pop_front();
                continue;
            };
            if let Err(wait) = self.rate.take(now) {
                return Next::Wait(Some(now + wait));
            }
            begin(object, &action, now);
            return Next::Act(action);
        }
        Next::Wait(self.later.first().map(|(at, _)| *at))
    }

    /// One Event for all that wait, at most twice an hour.
    fn say_that_many_wait(&mut self, now: Instant) -> Option<Action> {
        let due = self.said_at.is_none_or(|at| now.saturating_duration_since(at) >= REFRESH);
        if self.ready.len() <= MANY_WAIT || !due || self.rate.take(now).is_err() {
            return None;
        }
        self.said_at = Some(now);
        Some(Action {
            subject: self.operator.clone(),
            uid: String::new(),
            event: delayed(&self.operator, self.ready.len(), PER_SECOND),
            count: 1,
            over: None,
        })
    }

    /// An [`Action`] is done.
    pub fn written(&mut self, action: &Action) {
        if let Some(object) = self.object(action) {
            object.retry = None;
            object.doubtful.remove(&action.event);
        }
    }

    /// An [`Action`] failed. It comes again later, unless it is over by then; and then that is told, since the Event may
    /// be there all the same.
    pub fn failed(&mut self, action: &Action, now: Instant) {
        let Some(object) = self.object(action) else { return };
        if let Some(place) = object.wanted.get(&action.event) {
            object.doubtful.insert(action.event.clone(), place.clone());
        }
        if object.told.remove(&action.event).is_none()
            && let Some(place) = &action.over
        {
            object.over.push_front((place.clone(), action.event.clone()));
        }
        let mut backoff = object.retry.take().map_or_else(
            || Backoff::new(Duration::from_secs(2), Duration::from_secs(600)),
            |(_, backoff)| backoff,
        );
        let at = now + backoff.next_wait();
        object.retry = Some((at, backoff));
        self.later.insert((at, action.subject.clone()));
    }

    fn object(&mut self, action: &Action) -> Option<&mut Object> {
        self.objects
            .get_mut(&action.subject)
            .filter(|object| action.uid.is_empty() || object.uid == action.uid)
    }
}

/// The next thing to be said about an object.
fn action(subject: &Subject, object: &Object, now: Instant) -> Option<Action> {
    let act = |event: &Told, count, over: Option<&Place>| Action {
        subject: subject.clone(),
        uid: object.uid.clone(),
        event: event.clone(),
        count,
        over: over.cloned(),
    };
    if let Some(new) = object.wanted.keys().find(|told| !object.told.contains_key(told)) {
        return Some(act(new, 1, None));
    }
    if let Some((place, over)) = object.over.front() {
        return Some(act(over, 1, Some(place)));
    }
    let stale = object.told.iter().find(|(_, (_, _, at))| now.saturating_duration_since(*at) >= REFRESH);
    stale.map(|(told, (_, count, _))| act(told, count.saturating_add(1), None))
}

/// Takes an action for done; [`EventBook::failed`] takes that back.
fn begin(object: &mut Object, action: &Action, now: Instant) {
    if action.over.is_some() {
        object.over.pop_front();
    } else if let Some(place) = object.wanted.get(&action.event) {
        object.told.insert(action.event.clone(), (place.clone(), action.count, now));
    }
}

#[cfg(test)]
mod tests {
    use super::super::event_text::PER_OBJECT;
    use super::*;
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
            remedy: "mend it".into(),
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
    fn a_problem_is_told_once_refreshed_and_ended() {
        let start = Instant::now();
        let mut book = EventBook::new(operator());
        let fault = problem(Category::SecretNotFound, "spec.tls[0].secretName", "cert");
        let note = "spec.tls[0].secretName: \"cert\": mend it";
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
        assert!(book.objects.is_empty() && book.later.is_empty());
    }

    #[test]
    fn another_value_is_another_event_and_no_end() {
        let now = Instant::now();
        let mut book = EventBook::new(operator());
        book.report(&subject("web"), "u", &[problem(Category::NoEndpoints, "f", "a")]);
        drain(&mut book, now);
        book.report(&subject("web"), "u", &[problem(Category::NoEndpoints, "f", "b")]);
        assert_eq!(drain(&mut book, now), [("NoEndpoints".into(), "f: \"b\": mend it".into(), 1)]);
    }

    #[test]
    fn an_end_that_was_not_told_yet_is_dropped_when_it_is_back() {
        let now = Instant::now();
        let fault = [problem(Category::NoEndpoints, "f", "a")];
        let mut book = EventBook::new(operator());
        book.report(&subject("web"), "u", &fault);
        drain(&mut book, now);
        book.report(&subject("web"), "u", &[]);
        book.report(&subject("web"), "u", &fault);
        assert_eq!(drain(&mut book, now), [("NoEndpoints".into(), "f: \"a\": mend it".into(), 1)]);
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
        let told = drain(&mut book, now);
        assert_eq!(told.len(), PER_OBJECT);
        let sum = told.iter().find(|(reason, ..)| reason == "MoreProblems").map(|(_, note, _)| note.as_str());
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
        let (mut told, mut delayed) = (0, 0);
        loop {
            match book.next(now) {
                Next::Act(action) if action.event.reason == "EventsDelayed" => {
                    assert_eq!(action.subject, operator());
                    assert!(action.event.note.contains("2000 objects"), "{}", action.event.note);
                    delayed += 1;
                }
                Next::Act(action) => {
                    book.written(&action);
                    told += 1;
                }
                Next::Wait(Some(at)) if told < 2_000 => now = at,
                Next::Wait(_) => break,
            }
        }
        assert_eq!((told, delayed), (2_000, 1));
        let seconds = (now - start).as_secs_f64();
        assert!((98.0..102.0).contains(&seconds), "{seconds}");
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
            let told = drain(&mut book, now);
            assert_eq!(told, [("NoEndpointsResolved".to_owned(), "f: no longer a problem".to_owned(), 1)]);
        }
    }

    #[test]
    fn the_end_of_what_may_have_been_told_is_told() {
        let start = Instant::now();
        let mut book = EventBook::new(operator());
        let fault = [problem(Category::NoEndpoints, "f", "a")];
        book.report(&subject("a"), "u", &fault);
        let Next::Act(first) = book.next(start) else { unreachable!("a") };
        book.failed(&first, start);
        book.report(&subject("a"), "u", &[]);
        let late = start + Duration::from_secs(60);
        let told = drain(&mut book, late);
        assert_eq!(told, [("NoEndpointsResolved".to_owned(), "f: no longer a problem".to_owned(), 1)]);
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
        // An end is told again as well.
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
}
