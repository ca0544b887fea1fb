//! Records when each watch last gave a sign of life. There is one watch for each kind and namespace. The age of a kind
//! is that of its quietest watch, so that no dead one hides behind another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::instrument::{Catalogue, Refresh, label};
use super::labels::{Label, WatchKind};

/// After this number of broken answers in a row, opening the watch again proves nothing. Only what it delivers does.
const BELIEVED: u32 = 2;

/// All current watches. Cheap to clone.
#[derive(Clone)]
pub struct Watches(Arc<Ages>);

struct Ages {
    vec: prometheus::GaugeVec,
    held: Mutex<BTreeMap<(WatchKind, Arc<str>), Heard>>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    /// The last sign of life of the watch, or the time from which it was wanted.
    at: Instant,
    /// The number of answers in a row that began well and broke off before they delivered anything.
    broken: u32,
}

impl Watches {
    /// Registers the ages of watches, by kind.
    pub(super) fn new(catalogue: &mut Catalogue, name: &str, help: &str) -> prometheus::Result<Self> {
        let vec = prometheus::GaugeVec::new(prometheus::Opts::new(name, help), &["kind"])?;
        let vec = catalogue.register(vec, "gauge", label::<WatchKind>("kind"))?;
        let ages = Arc::new(Ages { vec, held: Mutex::default() });
        catalogue.refreshed.push(ages.clone());
        Ok(Self(ages))
    }

    /// Returns false if the watch is not wanted.
    fn change(&self, kind: WatchKind, path: &str, change: impl FnOnce(&mut Heard)) -> bool {
        self.0.held.lock().get_mut(&(kind, Arc::from(path))).map(change).is_some()
    }

    /// The watch of the collection at `path` is wanted from now on. Its age starts at 0.
    pub fn begun(&self, kind: WatchKind, path: &str) {
        let new = Heard { at: Instant::now(), broken: 0 };
        self.0.held.lock().entry((kind, Arc::from(path))).or_insert(new);
    }

    /// The watch is no longer wanted.
    pub fn ended(&self, kind: WatchKind, path: &str) {
        self.0.held.lock().remove(&(kind, Arc::from(path)));
    }

    /// No watch of this kind is wanted any more.
    pub fn clear(&self, kind: WatchKind) {
        self.0.held.lock().retain(|(of, _), _| *of != kind);
    }

    /// The watch is up to date: a list was completed, or an event, a bookmark or an orderly end arrived.
    pub fn heard(&self, kind: WatchKind, path: &str, at: Instant) {
        self.change(kind, path, |heard| *heard = Heard { at: at.max(heard.at), broken: 0 });
    }

    /// The API server began to answer. This counts, unless the last answers only broke off.
    pub fn opened(&self, kind: WatchKind, path: &str, at: Instant) {
        self.change(kind, path, |heard| {
            if heard.broken < BELIEVED {
                heard.at = at.max(heard.at);
            }
        });
    }

    /// An answer that began well broke off, fell silent, or reported that the watch has failed. Returns whether the
    /// watch is wanted.
    pub fn broken(&self, kind: WatchKind, path: &str) -> bool {
        self.change(kind, path, |heard| heard.broken = heard.broken.saturating_add(1))
    }

    /// Of the watches of these kinds, the one that has been silent for the longest time, and that time.
    pub fn quietest(&self, of: impl Fn(WatchKind) -> bool, now: Instant) -> Option<(WatchKind, Duration)> {
        let held = self.0.held.lock();
        let (kind, at) = held
            .iter()
            .filter(|((kind, _), _)| of(*kind))
            .map(|((kind, _), heard)| (*kind, heard.at))
            .min_by_key(|(_, at)| *at)?;
        Some((kind, now.saturating_duration_since(at)))
    }
}

impl Refresh for Ages {
    fn refresh(&self) {
        let held = self.held.lock();
        for kind in WatchKind::ALL {
            let of_kind = held.iter().filter(|((of, _), _)| of == kind);
            match of_kind.map(|(_, heard)| heard.at).min() {
                Some(at) => self.vec.with_label_values(&[kind.as_str()]).set(at.elapsed().as_secs_f64()),
                // An error means that it did not exist.
                None => drop(self.vec.remove_label_values(&[kind.as_str()])),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    const KIND: WatchKind = WatchKind::Service;

    fn age(watches: &Watches, now: Instant) -> Option<Duration> {
        watches.quietest(|kind| kind == KIND, now).map(|(_, age)| age)
    }

    #[test]
    fn the_quietest_of_a_kind_counts_and_only_watches_that_are_wanted() {
        let watches = Metrics::new("x").unwrap().watch_age;
        let start = Instant::now();
        let later = start + Duration::from_secs(100);
        watches.heard(KIND, "/a", later);
        assert_eq!(age(&watches, later), None, "nobody wants it");
        watches.begun(KIND, "/a");
        watches.begun(KIND, "/b");
        watches.begun(WatchKind::Ingress, "/a");
        watches.heard(KIND, "/a", later);
        let (kind, oldest) = watches.quietest(|_| true, later).unwrap();
        assert!(kind != KIND || oldest > Duration::from_secs(99));
        assert!(age(&watches, later) > Some(Duration::from_secs(99)), "/b is quiet");
        watches.heard(KIND, "/b", later - Duration::from_secs(3));
        assert_eq!(age(&watches, later), Some(Duration::from_secs(3)));
        watches.ended(KIND, "/b");
        assert_eq!(age(&watches, later), Some(Duration::ZERO));
        watches.clear(KIND);
        assert_eq!(age(&watches, later), None);
    }

    #[test]
    fn a_watch_that_opens_and_only_breaks_is_believed_no_more() {
        let watches = Metrics::new("x").unwrap().watch_age;
        watches.begun(KIND, "/a");
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        watches.opened(KIND, "/a", at(10));
        watches.broken(KIND, "/a");
        // As after a restart of the API server.
        watches.opened(KIND, "/a", at(20));
        assert_eq!(age(&watches, at(20)), Some(Duration::ZERO));
        watches.broken(KIND, "/a");
        for again in 3..10 {
            watches.opened(KIND, "/a", at(10 * again));
            watches.broken(KIND, "/a");
        }
        assert_eq!(age(&watches, at(90)), Some(Duration::from_secs(70)));
        watches.heard(KIND, "/a", at(91));
        watches.opened(KIND, "/a", at(92));
        assert_eq!(age(&watches, at(92)), Some(Duration::ZERO));
    }
}
