//! Work that waits for the publisher: outputs with changes, and Ingresses whose status may be wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use crate::kubernetes::Ingress;
use crate::kubernetes::key::{IngressKey, OutputKey};
use crate::parameters::status::Publication;

/// When the oldest uncommitted change of an output arrived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting {
    pub change: Option<Instant>,
    pub deletion: Option<Instant>,
}

/// Changes since the publisher last looked. Only a leader collects them; a new leader checks everything.
#[derive(Debug, Default)]
pub struct Pending {
    pub outputs: BTreeMap<OutputKey, Waiting>,
    /// Ingresses whose status may be wrong, each with the output that its change concerns, if any.
    pub statuses: BTreeMap<IngressKey, Option<OutputKey>>,
    /// Ingresses that are no longer in the watch, in their last version.
    pub left: Vec<(IngressKey, Arc<Ingress>)>,
    /// The addresses for statuses may have changed: check all Ingresses.
    pub all_statuses: bool,
}

impl Pending {
    /// These outputs have to be committed, although no user's change waits for it.
    pub fn look_at(&mut self, outputs: impl IntoIterator<Item = OutputKey>) {
        for output in outputs {
            self.outputs.entry(output).or_default();
        }
    }

    /// These are all outputs, for a leader that has just started. It also checks all statuses.
    pub fn look_at_all(&mut self, outputs: impl IntoIterator<Item = OutputKey>) {
        let first = Waiting { change: Some(Instant::now()), deletion: None };
        for output in outputs {
            self.outputs.entry(output).or_default().since(first);
        }
        self.all_statuses = true;
    }
}

impl Waiting {
    /// The older of the two.
    pub fn oldest(&self) -> Option<Instant> {
        self.change.into_iter().chain(self.deletion).min()
    }

    /// Keeps the older time of each.
    pub fn since(&mut self, other: Self) {
        let older = |a: Option<Instant>, b: Option<Instant>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.change = older(self.change, other.change);
        self.deletion = older(self.deletion, other.deletion);
    }
}

/// Facts about outputs beside the routing.
#[derive(Default)]
pub(super) struct Notes {
    pub pending: Pending,
    pub publications: BTreeMap<OutputKey, Publication>,
    /// Since when moved Ingresses have been in two outputs.
    pub moving: HashMap<IngressKey, Instant>,
    pub leading: bool,
    /// Outputs of classes with new settings, with the Ingresses that are not translated with them yet. Only the class's
    /// parameters wait for that, not the statuses of Ingresses.
    pub new_settings: BTreeMap<OutputKey, HashSet<IngressKey>>,
    /// Outputs whose next successful commit contains new settings.
    pub settings_in_commit: BTreeSet<OutputKey>,
}
