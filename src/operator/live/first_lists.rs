//! The start: the first lists, and the translation of everything once they are complete.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Live;
use crate::metrics::Trigger;
use crate::parameters::classes::Sources;
use crate::routing::Routing;

/// How long a start waits for Secrets that are fetched one by one. Somebody who keeps making theirs unreadable must not
/// delay the others. Ingresses that name such a Secret are left out until it has been read.
const LONGEST_FETCH: Duration = Duration::from_secs(120);

/// The progress of the first lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Ingresses and classes are still being listed.
    Listing,
    /// All named Secrets are known, so they can be listed.
    SecretsNamed,
    /// Every watch has listed once, and everything is translated.
    Synced,
}

impl Live {
    /// The progress of the first lists, to wait for.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Waits for a phase.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives as long as self, so this can't fail.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// What can be read of the cluster beside IngressClasses has changed.
    pub fn set_sources(&self, change: impl FnOnce(&mut Sources)) {
        let mut routing = self.routing();
        if !routing.set_sources(change) {
            return;
        }
        let phase = *self.phase.borrow();
        match phase {
            Phase::Listing => {}
            // Nothing is queued before everything is listed, as for events.
            Phase::SecretsNamed => {
                let (classes, changed) = routing.resolve_classes();
                self.note_classes(&routing, changed);
                let ingresses = classes.iter().flat_map(|class| routing.of_class(class)).collect();
                let fetch = routing.note_dependencies(ingresses);
                self.secrets.extend(fetch.into_iter().map(|secret| (secret, ())));
                self.advance(&mut routing, phase);
            }
            Phase::Synced => self.resolve_classes(&mut routing),
        }
    }

    /// Checks whether the first lists have progressed.
    pub(super) fn advance(&self, routing: &mut Routing, phase: Phase) {
        if phase == Phase::Listing && routing.classes_listed() {
            for key in routing.adopt_stored_class_memory() {
                tracing::warn!(key, "the stored settings of this class can't be read and are ignored");
            }
            let (_, changed) = routing.resolve_classes();
            self.note_classes(routing, changed);
            routing.note_all_dependencies();
            self.phase.send_replace(Phase::SecretsNamed);
        }
        if *self.phase.borrow() == Phase::SecretsNamed && routing.all_listed() {
            let listed = *self.listed.get_or_init(Instant::now);
            if routing.all_fetched() || listed.elapsed() >= LONGEST_FETCH {
                self.full_pass(routing);
            }
        }
    }

    /// Checks whether the wait for Secrets has lasted long enough. Has to be called regularly.
    pub fn end_fetch(&self) {
        if *self.phase.borrow() == Phase::SecretsNamed {
            self.advance(&mut self.routing(), Phase::SecretsNamed);
        }
    }

    fn full_pass(&self, routing: &mut Routing) {
        let at = Instant::now();
        let (translated, fetch) = routing.reconcile_all();
        self.metrics.translations.add(Trigger::Resync, translated as u64);
        self.secrets.extend(fetch.into_iter().map(|secret| (secret, ())));
        self.collect(|pending| pending.look_at_all(routing.table().outputs().map(|(key, _)| key.clone())));
        self.report_problems(routing.own_ingresses());
        self.phase.send_replace(Phase::Synced);
        tracing::info!(
            ingresses = translated,
            milliseconds = at.elapsed().as_millis() as u64,
            "all watches have listed"
        );
    }
}
