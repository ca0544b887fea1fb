//! Decides which Events to write, by comparing the problems of each object with the Events already written. No I/O and
//! no clock. Namespaces take turns, and so do the objects of each, one Event at a time, so that none delays the others.
//!
//! ```text
//! report ─▶ ObjectState ─▶ ready ─▶ next ─▶ (the write) ─▶ written | failed ─▶ later
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::pace::{Backoff, Rate};
use crate::publish::later::Later;
use crate::publish::problems::event_text::{
    EventText, EventTopic, ObjectEvents, PER_OBJECT, delayed, object_events, resolved,
};
use crate::publish::problems::turns::Turns;
use crate::translate::problem::{Problem, Subject};

/// Maximum number of Events per second.
pub const PER_SECOND: u32 = 20;
/// An Event whose problem still exists is refreshed after this time, since the API server drops it after an hour.
pub const REFRESH: Duration = Duration::from_secs(1_800);
/// The first and the longest delay after an object's Event could not be written.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(600));
/// If more objects wait, one Event says so.
const MANY_WAIT: usize = 1_200;

/// An Event to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    pub subject: Subject,
    /// The object's uid; empty if the object does not exist.
    pub uid: String,
    pub event: EventText,
    /// How often the problem was seen, this time included. Above 1, the Event exists.
    pub count: i32,
    /// The Event whose problem this one reports as resolved.
    over: Option<Box<(EventTopic, EventText)>>,
    /// Whether it is about all waiting objects and not about `subject`.
    of_all: bool,
}

/// The result of [`EventBook::next`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Write this Event, then call [`EventBook::written`] or [`EventBook::failed`].
    Act(Action),
    /// Nothing to write before this time, unless something is reported.
    Wait(Option<Instant>),
}

#[derive(Debug, Default)]
struct ObjectState {
    uid: String,
    /// The Events that it should have.
    wanted: BTreeMap<EventText, EventTopic>,
    hidden: BTreeSet<EventTopic>,
    /// The Events that were written, with their counts and last times.
    written: BTreeMap<EventText, (EventTopic, i32, Instant)>,
    /// Events that may exist: a failed attempt may have succeeded, or another text is to follow.
    doubtful: BTreeMap<EventText, EventTopic>,
    /// Events whose problem is resolved, which still has to be written; each topic has at most one.
    over: VecDeque<(EventTopic, EventText)>,
    /// Writes in progress.
    under_way: usize,
    queued: bool,
    retry: Option<(Instant, Backoff)>,
}

impl ObjectState {
    fn new(uid: &str) -> Self {
        Self { uid: uid.to_owned(), ..Self::default() }
    }

    /// Whether there is still a problem of this topic, with any text.
    fn stands(&self, topic: &EventTopic) -> bool {
        self.hidden.contains(topic) || self.wanted.values().any(|other| other == topic)
    }

    /// Whether nothing is left to write about it. A write in progress may fail and has to be repeated then.
    fn is_done(&self) -> bool {
        self.wanted.is_empty() && self.written.is_empty() && self.over.is_empty() && self.under_way == 0
    }

    /// Until when a failure blocks its Events.
    fn held_until(&self, now: Instant) -> Option<Instant> {
        self.retry.as_ref().map(|(at, _)| *at).filter(|at| *at > now)
    }
}

/// The Events of all objects.
#[derive(Debug)]
pub struct EventBook {
    objects: HashMap<Subject, ObjectState>,
    ready: Turns,
    /// When to look at objects again, to refresh and to retry.
    later: Later<Subject>,
    rate: Rate,
    suppressed: u64,
    /// The object whose Event says that objects wait, and when it was written.
    operator: Subject,
    delay_reported_at: Option<Instant>,
}

impl EventBook {
    /// `operator` is the object of Events that concern no object of a user, such as the index.
    pub fn new(operator: Subject) -> Self {
        Self {
            objects: HashMap::new(),
            ready: Turns::default(),
            later: Later::default(),
            rate: Rate::new(PER_SECOND, PER_SECOND),
            suppressed: 0,
            operator,
            delay_reported_at: None,
        }
    }

    /// Sets all problems of an object.
    pub fn report(&mut self, subject: &Subject, uid: &str, problems: &[Problem]) {
        if problems.is_empty() && !self.objects.contains_key(subject) {
            return;
        }
        let object = self.objects.entry(subject.clone()).or_insert_with(|| ObjectState::new(uid));
        if object.uid.is_empty() {
            // The same object, whose uid is now known: problems of an index are reported before it exists.
            uid.clone_into(&mut object.uid);
        } else if object.uid != uid && !uid.is_empty() {
            // Another object of that name: the existing Events are about the first one, which was deleted.
            let queued = object.queued;
            *object = ObjectState { queued, ..ObjectState::new(uid) };
        }
        let ObjectEvents { events, hidden, suppressed } = object_events(&object.uid, subject, problems);
        if events == object.wanted && hidden == object.hidden {
            return self.tidy(subject);
        }
        self.suppressed += suppressed;
        object.wanted = events;
        object.hidden = hidden;
        let ObjectState { written, doubtful, wanted, .. } = &*object;
        let unwritten = doubtful.iter().filter(|(event, _)| !written.contains_key(*event));
        let known = written.iter().map(|(event, (topic, ..))| (event, topic)).chain(unwritten);
        let unwanted = known.filter(|(event, _)| !wanted.contains_key(*event));
        let unwanted: Vec<_> = unwanted.map(|(event, topic)| (topic.clone(), event.clone())).collect();
        let mut reworded = BTreeMap::new();
        let mut over = BTreeSet::new();
        for (topic, event) in std::mem::take(&mut object.over).into_iter().chain(unwanted) {
            if object.stands(&topic) {
                // With another text, or again. Until that is written, people see this one.
                reworded.entry(topic).or_insert(event);
            } else if over.insert(topic.clone()) {
                object.over.push_back((topic, event));
            }
        }
        let ObjectState { written, doubtful, wanted, .. } = object;
        written.retain(|event, _| wanted.contains_key(event));
        doubtful.retain(|event, _| wanted.contains_key(event));
        doubtful.extend(reworded.into_iter().map(|(topic, event)| (event, topic)));
        if !std::mem::replace(&mut object.queued, true) {
            self.ready.push(subject.clone());
        }
    }

    /// The object was deleted: no more Events about it.
    pub fn forget(&mut self, subject: &Subject) {
        match self.objects.get_mut(subject) {
            // It keeps its place in the queue, so that an object that comes and goes takes only one place.
            Some(object) if object.queued => *object = ObjectState { queued: true, ..ObjectState::new("") },
            _ => self.remove(subject),
        }
    }

    fn remove(&mut self, subject: &Subject) {
        self.objects.remove(subject);
        self.later.remove(subject);
    }

    /// Whether the Events of an object are about the one with this uid.
    pub fn is_about(&self, subject: &Subject, uid: &str) -> bool {
        self.objects.get(subject).is_some_and(|object| object.uid == uid)
    }

    /// Forgets an object about which nothing is left to write.
    fn tidy(&mut self, subject: &Subject) {
        if self.objects.get(subject).is_some_and(|object| object.is_done() && !object.queued) {
            self.remove(subject);
        }
    }

    /// The number of problems without an Event of their own since the last call.
    pub fn take_suppressed(&mut self) -> u64 {
        std::mem::take(&mut self.suppressed)
    }

    /// The number of waiting objects.
    pub fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// The next thing to write.
    pub fn next(&mut self, now: Instant) -> Next {
        while let Some(subject) = self.later.due(now) {
            if let Some(object) = self.objects.get_mut(&subject)
                && !std::mem::replace(&mut object.queued, true)
            {
                self.ready.push(subject);
            }
        }
        if let Some(action) = self.report_delay(now) {
            return Next::Act(action);
        }
        while let Some(subject) = self.ready.first() {
            let object = self.objects.get_mut(subject);
            let action = object.as_ref().and_then(|object| next_action(subject, object, now));
            if let (Some(action), Some(object)) = (&action, object) {
                if let Err(wait) = self.rate.take(now) {
                    return Next::Wait(Some(now + wait));
                }
                begin(object, action, now);
            }
            if let Some(subject) = self.ready.pop() {
                self.line_up(subject, now);
            }
            if let Some(action) = action {
                return Next::Act(action);
            }
        }
        Next::Wait(self.later.next())
    }

    /// An object had its turn. If it has more to write now, it goes to the end of the queue.
    fn line_up(&mut self, subject: Subject, now: Instant) {
        let Some(object) = self.objects.get_mut(&subject) else { return };
        object.queued = next_action(&subject, object, now).is_some();
        if object.queued {
            return self.ready.push(subject);
        }
        let refresh = object.written.values().map(|(.., at)| *at + REFRESH).min();
        match object.held_until(now).or(refresh) {
            Some(at) => self.later.add(subject, at),
            None => self.tidy(&subject),
        }
    }

    /// One Event about all waiting objects, at most twice an hour.
    fn report_delay(&mut self, now: Instant) -> Option<Action> {
        let due = self.delay_reported_at.is_none_or(|at| now.saturating_duration_since(at) >= REFRESH);
        if self.ready.len() <= MANY_WAIT || !due || self.rate.take(now).is_err() {
            return None;
        }
        self.delay_reported_at = Some(now);
        Some(Action {
            subject: self.operator.clone(),
            uid: String::new(),
            event: delayed(&self.operator, self.ready.len(), PER_SECOND),
            count: 1,
            over: None,
            of_all: true,
        })
    }

    /// An Event was written.
    pub fn written(&mut self, action: &Action) {
        if let Some(object) = self.object(action) {
            object.under_way = object.under_way.saturating_sub(1);
            object.retry = None;
            if let Some(topic) = object.wanted.get(&action.event) {
                object.doubtful.retain(|_, other| other != topic);
            }
            self.tidy(&action.subject);
        }
    }

    /// An Event could not be written. It is tried again later. If its problem is resolved by then, that is written
    /// instead, since the Event may exist all the same.
    pub fn failed(&mut self, action: &Action, now: Instant) {
        let Some(object) = self.object(action) else { return };
        object.under_way = object.under_way.saturating_sub(1);
        if let Some(topic) = object.wanted.get(&action.event) {
            object.doubtful.insert(action.event.clone(), topic.clone());
        }
        object.written.remove(&action.event);
        if let Some((topic, event)) = action.over.clone().map(|over| *over) {
            if object.stands(&topic) {
                object.doubtful.insert(event, topic);
            } else {
                object.over.push_back((topic, event));
            }
        }
        let at = match object.retry.take() {
            // Several concurrent writes that fail count as one failure.
            Some((at, backoff)) if at > now => object.retry.insert((at, backoff)).0,
            before => {
                let backoff = before.map(|(_, backoff)| backoff);
                let mut backoff = backoff.unwrap_or_else(|| Backoff::new(RETRY.0, RETRY.1));
                object.retry.insert((now + backoff.next_wait(), backoff)).0
            }
        };
        self.later.add(action.subject.clone(), at);
    }

    fn object(&mut self, action: &Action) -> Option<&mut ObjectState> {
        let object = self.objects.get_mut(&action.subject).filter(|_| !action.of_all)?;
        (action.uid.is_empty() || object.uid == action.uid).then_some(object)
    }
}

/// The next Event about an object. New problems come before resolved ones, unless so many resolved ones wait that they
/// would pile up.
fn next_action(subject: &Subject, object: &ObjectState, now: Instant) -> Option<Action> {
    if object.held_until(now).is_some() {
        return None;
    }
    let act = |event: &EventText, count, over| Action {
        subject: subject.clone(),
        uid: object.uid.clone(),
        event: event.clone(),
        count,
        over,
        of_all: false,
    };
    let new = object.wanted.keys().find(|event| !object.written.contains_key(event));
    if let Some(new) = new.filter(|_| object.over.len() < PER_OBJECT) {
        return Some(act(new, 1, None));
    }
    if let Some((topic, event)) = object.over.front() {
        let over = resolved(&object.uid, subject, event, topic);
        return Some(act(&over, 1, Some(Box::new((topic.clone(), event.clone())))));
    }
    let stale = object.written.iter().find(|(_, (_, _, at))| now.saturating_duration_since(*at) >= REFRESH);
    stale.map(|(event, (_, count, _))| act(event, count.saturating_add(1), None))
}

/// Counts an Event as written; [`EventBook::failed`] undoes this.
fn begin(object: &mut ObjectState, action: &Action, now: Instant) {
    object.under_way += 1;
    if action.over.is_some() {
        object.over.pop_front();
    } else if let Some(topic) = object.wanted.get(&action.event) {
        object.written.insert(action.event.clone(), (topic.clone(), action.count, now));
    }
}

#[cfg(test)]
#[path = "event_book/tests.rs"]
mod tests;
