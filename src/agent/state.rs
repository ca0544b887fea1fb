//! The agent's state, as probes, metrics and its Lease report it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::metrics::AgentMetrics;
use super::proxy::Proxy;
use crate::published::index::CommitId;

/// Topics of faults. Each has one reason at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    Index,
    Shards,
    Generation,
    Folder,
    Include,
    Strangers,
    Report,
}

/// The content that was handed to Traefik.
#[derive(Clone, Debug)]
struct HandedOn {
    prefix: String,
    /// The newest generation with this content.
    covers: CommitId,
    at: Instant,
    /// Whether Traefik was seen with this content once. It may have restarted since.
    seen: bool,
}

#[derive(Debug, Default)]
struct Knowledge {
    newest: Option<CommitId>,
    written: Option<HandedOn>,
    /// The newest generation that Traefik was seen with since its start.
    loaded: Option<CommitId>,
    proxy: Proxy,
    /// Since when Traefik has answered without a restart.
    answers: Option<Instant>,
    reasons: BTreeMap<Topic, String>,
    /// The newest generation that statuses wait for.
    awaited: Option<CommitId>,
    /// Whether reporting the loaded generation has been tried since it was loaded.
    reported: bool,
}

impl Knowledge {
    /// Whether Traefik has loaded what was handed on last.
    fn is_loaded(&self) -> bool {
        let Proxy::Loaded(prefix) = &self.proxy else { return false };
        self.written.as_ref().is_some_and(|written| written.prefix == *prefix)
    }

    /// The newest generation that Traefik serves as far as is known.
    fn serves(&self) -> Option<CommitId> {
        self.loaded.filter(|_| !matches!(self.proxy, Proxy::Down(_)))
    }

    /// Traefik answers but has not loaded what was handed on for so long that it most likely refuses it.
    fn late(&self) -> bool {
        let (Some(written), Some(answers)) = (&self.written, self.answers) else { return false };
        !self.is_loaded() && written.at.max(answers).elapsed() > LATE
    }
}

/// After this time without loading, something is wrong with Traefik.
const LATE: Duration = Duration::from_secs(15);

/// The minimum time between two generations if it is not known whether Traefik has loaded the first.
const DISTANCE: Duration = Duration::from_secs(2);

/// If Traefik answers but has not loaded a generation after this time, it gets the next one all the same.
const LOADS_WITHIN: Duration = Duration::from_secs(15);

/// Cheap to clone.
#[derive(Clone)]
pub struct AgentState {
    inner: Arc<Mutex<Knowledge>>,
    metrics: AgentMetrics,
    /// Whether Traefik can be asked.
    asks: bool,
    reached: watch::Sender<Option<CommitId>>,
}

impl AgentState {
    /// `asks` is whether Traefik can be asked what it has loaded.
    pub fn new(metrics: AgentMetrics, asks: bool) -> Self {
        Self { inner: Arc::default(), metrics, asks, reached: watch::Sender::new(None) }
    }

    /// An index was seen, and statuses wait for the generation `awaited`.
    pub fn seen(&self, commit: CommitId, awaited: CommitId) {
        let mut inner = self.inner.lock();
        inner.awaited = Some(awaited);
        if inner.newest != Some(commit) {
            inner.newest = Some(commit);
            self.metrics.newest.set(commit.generation as i64);
            self.update(&mut inner);
        }
    }

    /// The content handed to Traefik has the marker `prefix` and is that of the generation `covers`.
    pub fn handed_on(&self, prefix: String, covers: CommitId) {
        let mut inner = self.inner.lock();
        match &mut inner.written {
            Some(written) if written.prefix == prefix => written.covers = covers,
            written => *written = Some(HandedOn { prefix, covers, at: Instant::now(), seen: false }),
        }
        self.metrics.written.set(covers.generation as i64);
        self.settle(&mut inner);
    }

    /// Records an answer of Traefik.
    pub fn asked(&self, proxy: Proxy) {
        let mut inner = self.inner.lock();
        match &proxy {
            // It may be the same process that answers again.
            Proxy::Down(_) => inner.answers = None,
            Proxy::Empty if inner.proxy != Proxy::Empty => {
                (inner.loaded, inner.answers) = (None, Some(Instant::now()));
            }
            _ => {
                inner.answers.get_or_insert_with(Instant::now);
            }
        }
        inner.proxy = proxy;
        self.settle(&mut inner);
    }

    fn settle(&self, inner: &mut Knowledge) {
        let Knowledge { written, loaded, proxy, .. } = inner;
        if let (Some(written), Proxy::Loaded(prefix)) = (written, proxy)
            && written.prefix == *prefix
        {
            if !std::mem::replace(&mut written.seen, true) {
                self.metrics.disk_to_loaded.observe(written.at.elapsed().as_secs_f64());
            }
            *loaded = Some(written.covers);
        }
        self.metrics.loaded.set(inner.serves().map_or(0, |commit| commit.generation as i64));
        self.update(inner);
    }

    fn update(&self, inner: &mut Knowledge) {
        let reached = self.reached_by(inner);
        inner.reported &= reached.is_some();
        self.reached.send_if_modified(|last| std::mem::replace(last, reached) != reached);
        let behind = inner.newest.is_some() && inner.newest != reached;
        if !behind { self.metrics.lag.set(None) } else { self.metrics.lag.start() }
    }

    /// Records a fault, or that it is resolved. Every change is logged once.
    pub fn reason(&self, topic: Topic, reason: Option<String>) {
        let mut inner = self.inner.lock();
        let last = match &reason {
            Some(reason) => inner.reasons.insert(topic, reason.clone()),
            None => inner.reasons.remove(&topic),
        };
        match (&last, &reason) {
            (_, Some(reason)) if last.as_ref() != Some(reason) => tracing::warn!("{reason}"),
            (Some(last), None) => tracing::info!("resolved: {last}"),
            _ => {}
        }
    }

    fn reached_by(&self, inner: &Knowledge) -> Option<CommitId> {
        let reached =
            if self.asks { inner.serves() } else { inner.written.as_ref().map(|written| written.covers) };
        // The routing on disk may come from an older cluster of the same name. Then the index is not as new.
        reached.map(|commit| if inner.newest >= Some(commit) { commit } else { CommitId::NOTHING })
    }

    /// The newest generation of the proxy: the loaded one if Traefik can be asked, otherwise the written one.
    /// [`CommitId::NOTHING`] until an index is seen that is at least as new.
    pub fn reaches(&self) -> watch::Receiver<Option<CommitId>> {
        self.reached.subscribe()
    }

    /// The newest generation that statuses wait for.
    pub fn awaited(&self) -> Option<CommitId> {
        self.inner.lock().awaited
    }

    /// Reporting the loaded generation was tried.
    pub fn reported(&self) {
        let mut inner = self.inner.lock();
        inner.reported = self.reached_by(&inner).is_some();
    }

    /// Whether Traefik may get the next generation: it has loaded the last one, or takes suspiciously long.
    pub fn may_hand_on(&self) -> Result<(), Duration> {
        let inner = self.inner.lock();
        let pause = if self.asks { LOADS_WITHIN } else { DISTANCE };
        let Some(written) = &inner.written else { return Ok(()) };
        let idle = self.asks && (inner.is_loaded() || matches!(inner.proxy, Proxy::Down(_)));
        let since = inner.answers.map_or(written.at, |answers| answers.max(written.at));
        let rest = pause.saturating_sub(since.elapsed());
        if idle || rest.is_zero() { Ok(()) } else { Err(rest) }
    }

    /// Whether Traefik has loaded what was handed on last; `None` while it may still be loading.
    pub fn outcome(&self) -> Option<bool> {
        let inner = self.inner.lock();
        if inner.is_loaded() { Some(true) } else { inner.late().then_some(false) }
    }

    /// All current faults.
    pub fn reasons(&self) -> Option<String> {
        let inner = self.inner.lock();
        (!inner.reasons.is_empty()).then(|| inner.reasons.values().cloned().collect::<Vec<_>>().join("; "))
    }

    /// Whether there is a complete generation with which Traefik can start.
    pub fn started(&self) -> Result<String, String> {
        let inner = self.inner.lock();
        match inner.written {
            Some(_) => Ok("ok\n".to_owned()),
            None => Err(lines("nothing is written yet", &inner)),
        }
    }

    /// Whether this proxy may get requests: it serves a complete routing, if not the newest one. A generation that
    /// every proxy refuses must not take all of them out of service, so that is only reported.
    pub fn ready(&self) -> Result<String, String> {
        let inner = self.inner.lock();
        let Some(written) = &inner.written else {
            return Err(lines("nothing is written yet", &inner));
        };
        if !self.asks {
            return Ok(lines("ok", &inner));
        }
        let late = inner.late();
        match (&inner.proxy, inner.loaded) {
            (Proxy::Down(reason), _) => {
                Err(lines(&format!("Traefik's API does not answer: {reason}"), &inner))
            }
            (_, None) if late => Err(lines(
                "Traefik answers but does not load the files; its log says which one it refuses",
                &inner,
            )),
            (_, None) => Err(lines("Traefik has not loaded the routing yet", &inner)),
            // From now on, addresses wait for this proxy too.
            (_, Some(_)) if !inner.reported => {
                Err(lines("Traefik has loaded the routing, which is not reported yet", &inner))
            }
            (_, Some(commit)) if late => Ok(lines(
                &format!(
                    "ok: Traefik serves generation {commit} but does not load generation {}; its log says why",
                    written.covers
                ),
                &inner,
            )),
            (_, Some(_)) => Ok(lines("ok", &inner)),
        }
    }
}

fn lines(first: &str, inner: &Knowledge) -> String {
    let rest = inner.reasons.values().map(|reason| format!("{reason}\n"));
    [format!("{first}\n")].into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::agent::proxy::{Sight, TraefikAnswer};
    use crate::kubernetes::key::OutputKey;

    fn state(asks: bool) -> AgentState {
        AgentState::new(AgentMetrics::new(&OutputKey::new("waybill", "waybill")).unwrap(), asks)
    }

    fn commit(generation: u64) -> CommitId {
        CommitId::new(1, generation)
    }

    #[test]
    fn ready_means_loaded_where_traefik_can_be_asked() {
        let state = state(true);
        assert!(state.started().is_err() && state.ready().is_err());
        state.seen(commit(4), commit(1));
        state.handed_on("/a".to_owned(), commit(4));
        assert!(state.started().is_ok());
        assert_eq!((state.ready().is_ok(), *state.reaches().borrow()), (false, None));
        assert!(state.may_hand_on().is_err_and(|rest| rest > DISTANCE));
        state.asked(Proxy::Loaded("/a".to_owned()));
        assert_eq!((state.ready().is_ok(), *state.reaches().borrow()), (false, Some(commit(4))));
        state.reported();
        assert!(state.ready().is_ok());
        assert!(state.may_hand_on().is_ok());

        // The same content under a newer generation is loaded already.
        state.seen(commit(5), commit(1));
        state.handed_on("/a".to_owned(), commit(5));
        assert_eq!(*state.reaches().borrow(), Some(commit(5)));

        // On the way to the next one it goes on serving.
        state.seen(commit(6), commit(1));
        state.handed_on("/b".to_owned(), commit(6));
        state.asked(Proxy::Behind);
        assert_eq!((state.ready().is_ok(), *state.reaches().borrow()), (true, Some(commit(5))));

        // An answer that fails says that nothing is served now, and no more.
        state.asked(Proxy::Down("timeout".to_owned()));
        assert_eq!((state.ready().is_ok(), *state.reaches().borrow()), (false, None));
        state.asked(Proxy::Behind);
        assert_eq!(*state.reaches().borrow(), Some(commit(5)));
        state.reported();
        assert!(state.ready().is_ok());

        // A Traefik that starts anew has nothing, also where it was not seen to be away.
        for restart in [&[Proxy::Down("refused".to_owned()), Proxy::Empty][..], &[Proxy::Empty]] {
            for seen in restart {
                state.asked(seen.clone());
                assert_eq!((state.ready().is_ok(), *state.reaches().borrow()), (false, None));
                assert_eq!(state.may_hand_on().is_ok(), matches!(seen, Proxy::Down(_)));
                assert_eq!(state.outcome(), None);
            }
            // It refuses what is on disk.
            pass(&state, LATE);
            state.asked(Proxy::Empty);
            assert!(state.ready().is_err_and(|text| text.contains("does not load the files")));
            assert_eq!((state.outcome(), state.may_hand_on()), (Some(false), Ok(())));
            state.asked(Proxy::Loaded("/b".to_owned()));
            assert_eq!((state.ready().is_ok(), *state.reaches().borrow()), (false, Some(commit(6))));
            assert_eq!(state.outcome(), Some(true));
            state.reported();
            assert!(state.ready().is_ok() && state.may_hand_on().is_ok());
        }
    }

    /// Lets so much time go by, and a little.
    fn pass(state: &AgentState, time: Duration) {
        let mut inner = state.inner.lock();
        let earlier = |at: Instant| at.checked_sub(time + Duration::from_millis(1)).unwrap();
        inner.answers = inner.answers.map(earlier);
        inner.written.iter_mut().for_each(|written| written.at = earlier(written.at));
    }

    /// A Traefik that does what it may, in any order.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        HandOn,
        Load,
        StartAnew,
        Ask,
        AskInVain,
        Report,
    }

    proptest! {
        #[test]
        fn in_every_order_what_is_said_to_be_loaded_is(
            steps in prop::collection::vec(prop::sample::select(vec![
                Step::HandOn, Step::Load, Step::StartAnew, Step::Ask, Step::Ask, Step::AskInVain, Step::Report,
            ]), 0..40)
        ) {
            let state = state(true);
            let (mut newest, mut has, mut process) = (0, None, 0);
            let mut sight = Sight::default();
            // What an agent may still believe: nobody was asked since.
            let mut certain = true;
            for step in steps {
                let before = *state.reaches().borrow();
                let marker = |generation: u64| format!("/{generation}");
                match step {
                    Step::HandOn => {
                        newest += 1;
                        state.seen(commit(newest), commit(newest));
                        state.handed_on(marker(newest), commit(newest));
                    }
                    Step::Load => has = (newest > 0).then_some(newest),
                    Step::StartAnew => (process, has, certain) = (process + 1, None, false),
                    Step::Ask if newest > 0 => {
                        let prefix = has.filter(|has| *has == newest).map(marker);
                        let answer = TraefikAnswer { started: Some(process.to_string()), prefix };
                        state.asked(sight.judge(&marker(newest), Ok(answer)));
                        // Nothing is lost without a reason.
                        let reached = *state.reaches().borrow();
                        prop_assert!(reached >= before || !certain, "{before:?} and then {reached:?}");
                        certain = true;
                    }
                    Step::AskInVain if newest > 0 => {
                        state.asked(sight.judge(&marker(newest), Err("refused".to_owned())));
                        prop_assert!(state.ready().is_err());
                        certain = true;
                    }
                    Step::Report => state.reported(),
                    _ => {}
                }
                let reached = *state.reaches().borrow();
                if certain {
                    prop_assert!(reached <= has.map(commit), "{reached:?} of {has:?}");
                }
                prop_assert!(state.ready().is_err() || reached.is_some());
                if matches!(step, Step::Ask) && newest > 0 && has == Some(newest) {
                    prop_assert_eq!((reached, state.outcome()), (Some(commit(newest)), Some(true)));
                }
            }
        }
    }

    /// A cluster that was made anew counts from 1 again.
    #[test]
    fn what_was_on_disk_counts_once_the_index_has_come_as_far() {
        let state = state(false);
        state.handed_on("/a".to_owned(), commit(9));
        assert_eq!((state.ready().is_ok(), *state.reaches().borrow()), (true, Some(CommitId::NOTHING)));
        state.seen(commit(2), commit(2));
        assert_eq!(*state.reaches().borrow(), Some(CommitId::NOTHING));
        state.handed_on("/b".to_owned(), commit(2));
        assert_eq!(*state.reaches().borrow(), Some(commit(2)));
        state.handed_on("/a".to_owned(), commit(9));
        state.seen(commit(10), commit(10));
        assert_eq!(*state.reaches().borrow(), Some(commit(9)));
    }

    #[test]
    fn without_the_api_written_is_ready_and_reasons_are_shown() {
        let state = state(false);
        state.reason(Topic::Generation, Some("generation 5 is refused".to_owned()));
        assert!(state.ready().is_err_and(|text| text.contains("generation 5 is refused")));
        state.handed_on("/a".to_owned(), commit(4));
        assert!(state.ready().is_ok_and(|text| text.contains("generation 5 is refused")));
        assert!(state.may_hand_on().is_err_and(|rest| rest <= DISTANCE));
        state.reason(Topic::Generation, None);
        assert_eq!(state.ready(), Ok("ok\n".to_owned()));
    }
}
