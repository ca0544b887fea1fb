//! Which Events there have to be: problems of each object against those that were told. No I/O and no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::publish::backoff::Backoff;
use crate::publish::problems::event_text::{Place, Told, Wanted, delayed, resolved, wanted};
use crate::publish::rate::Rate;
use crate::translate::problem::{Problem, Subject};

/// Events a second, over all.
pub const PER_SECOND: u32 = 20;
/// An Event that still holds is written again after this, since the API server forgets it after an hour.
pub const REFRESH: Duration = Duration::from_secs(1_800);
/// Waits between attempts at an object's Events that fail.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(600));
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
    /// What it says the end of: where, and what was told there.
    over: Option<Box<(Place, Told)>>,
    /// Whether it is said for all that wait, and not because of what is wrong with the object.
    for_all: bool,
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
    /// Where there are problems beyond those, which are only counted.
    hidden: BTreeSet<Place>,
    /// What was told, how often and when last.
    told: BTreeMap<Told, (Place, i32, Instant)>,
    /// What may have been told and is not told now: an attempt failed, and not all that fail have done nothing; or other
    /// words are to take its place.
    doubtful: BTreeMap<Told, Place>,
    /// What was told and is over, which was not told yet.
    over: VecDeque<(Place, Told)>,
    /// Actions that are neither done nor have failed yet.
    under_way: usize,
    queued: bool,
    retry: Option<(Instant, Backoff)>,
}

impl Object {
    fn new(uid: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            wanted: BTreeMap::new(),
            hidden: BTreeSet::new(),
            told: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            over: VecDeque::new(),
            under_way: 0,
            queued: false,
            retry: None,
        }
    }

    /// Whether there is still something wrong in this place, be it told in other words or only counted.
    fn stands(&self, place: &Place) -> bool {
        self.hidden.contains(place) || self.wanted.values().any(|other| other == place)
    }

    /// Whether nothing is left to be said about it. What is under way may fail, and has to be said again then.
    fn is_done(&self) -> bool {
        self.wanted.is_empty() && self.told.is_empty() && self.over.is_empty() && self.under_way == 0
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
            // Another object of that name: what was told was about the first, which is gone.
            let queued = object.queued;
            *object = Object { queued, ..Object::new(uid) };
        }
        let Wanted { events, hidden, suppressed } = wanted(&object.uid, subject, problems);
        if events == object.wanted && hidden == object.hidden {
            return self.tidy(subject);
        }
        self.suppressed += suppressed;
        object.wanted = events;
        object.hidden = hidden;
        let Object { told, doubtful, wanted, .. } = &*object;
        let untold = doubtful.iter().filter(|(event, _)| !told.contains_key(*event));
        let known = told.iter().map(|(event, (place, ..))| (event, place)).chain(untold);
        let unwanted = known.filter(|(event, _)| !wanted.contains_key(*event));
        let unwanted: Vec<_> = unwanted.map(|(event, place)| (place.clone(), event.clone())).collect();
        let mut reworded = BTreeMap::new();
        for (place, event) in std::mem::take(&mut object.over).into_iter().chain(unwanted) {
            if object.stands(&place) {
                // In other words, or again: until those are told, these are what is known.
                reworded.entry(place).or_insert(event);
            } else if !object.over.iter().any(|(other, _)| *other == place) {
                object.over.push_back((place, event));
            }
        }
        let Object { told, doubtful, wanted, .. } = object;
        told.retain(|event, _| wanted.contains_key(event));
        doubtful.retain(|event, _| wanted.contains_key(event));
        doubtful.extend(reworded.into_iter().map(|(place, event)| (event, place)));
        if !std::mem::replace(&mut object.queued, true) {
            self.ready.push_back(subject.clone());
        }
    }

    /// The object is gone: nothing more is to be said about it.
    pub fn forget(&mut self, subject: &Subject) {
        match self.objects.get_mut(subject) {
            // It keeps its place in the queue, so that one that comes and goes all the time has one alone.
            Some(object) if object.queued => *object = Object { queued: true, ..Object::new("") },
            _ => drop(self.objects.remove(subject)),
        }
    }

    /// Whether what is to be told of an object is told of the one with this uid.
    pub fn is_about(&self, subject: &Subject, uid: &str) -> bool {
        self.objects.get(subject).is_some_and(|object| object.uid == uid)
    }

    /// Forgets an object of which nothing is left to be said.
    fn tidy(&mut self, subject: &Subject) {
        if self.objects.get(subject).is_some_and(|object| object.is_done() && !object.queued) {
            self.objects.remove(subject);
        }
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
                } else if object.is_done() {
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
            for_all: true,
        })
    }

    /// An [`Action`] is done.
    pub fn written(&mut self, action: &Action) {
        if let Some(object) = self.object(action) {
            object.under_way = object.under_way.saturating_sub(1);
            object.retry = None;
            if let Some(place) = object.wanted.get(&action.event) {
                object.doubtful.retain(|_, other| other != place);
            }
            self.tidy(&action.subject);
        }
    }

    /// An [`Action`] failed. It comes again later, unless it is over by then; and then that is told, since the Event may
    /// be there all the same.
    pub fn failed(&mut self, action: &Action, now: Instant) {
        let Some(object) = self.object(action) else { return };
        object.under_way = object.under_way.saturating_sub(1);
        if let Some(place) = object.wanted.get(&action.event) {
            object.doubtful.insert(action.event.clone(), place.clone());
        }
        object.told.remove(&action.event);
        if let Some((place, told)) = action.over.clone().map(|over| *over) {
            if object.stands(&place) {
                object.doubtful.insert(told, place);
            } else {
                object.over.push_front((place, told));
            }
        }
        let at = match object.retry.take() {
            // Several that were under way at once have failed once.
            Some((at, backoff)) if at > now => object.retry.insert((at, backoff)).0,
            before => {
                let backoff = before.map(|(_, backoff)| backoff);
                let mut backoff = backoff.unwrap_or_else(|| Backoff::new(RETRY.0, RETRY.1));
                object.retry.insert((now + backoff.next_wait(), backoff)).0
            }
        };
        self.later.insert((at, action.subject.clone()));
    }

    fn object(&mut self, action: &Action) -> Option<&mut Object> {
        let object = self.objects.get_mut(&action.subject).filter(|_| !action.for_all)?;
        (action.uid.is_empty() || object.uid == action.uid).then_some(object)
    }
}

/// The next thing to be said about an object.
fn action(subject: &Subject, object: &Object, now: Instant) -> Option<Action> {
    let act = |event: &Told, count, over| Action {
        subject: subject.clone(),
        uid: object.uid.clone(),
        event: event.clone(),
        count,
        over,
        for_all: false,
    };
    if let Some(new) = object.wanted.keys().find(|told| !object.told.contains_key(told)) {
        return Some(act(new, 1, None));
    }
    if let Some((place, told)) = object.over.front() {
        let over = resolved(&object.uid, subject, told, place);
        return Some(act(&over, 1, Some(Box::new((place.clone(), told.clone())))));
    }
    let stale = object.told.iter().find(|(_, (_, _, at))| now.saturating_duration_since(*at) >= REFRESH);
    stale.map(|(told, (_, count, _))| act(told, count.saturating_add(1), None))
}

/// Takes an action for done; [`EventBook::failed`] takes that back.
fn begin(object: &mut Object, action: &Action, now: Instant) {
    object.under_way += 1;
    if action.over.is_some() {
        object.over.pop_front();
    } else if let Some(place) = object.wanted.get(&action.event) {
        object.told.insert(action.event.clone(), (place.clone(), action.count, now));
    }
}

#[cfg(test)]
#[path = "event_book/tests.rs"]
mod tests;
