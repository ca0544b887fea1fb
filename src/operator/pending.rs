//! What waits for the publisher: outputs with changes, and Ingresses whose status may be wrong.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use crate::kubernetes::Ingress;
use crate::kubernetes::key::{IngressKey, OutputKey};
use crate::parameters::status::Publication;

/// When the oldest change that an output has not committed arrived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting {
    pub change: Option<Instant>,
    pub deletion: Option<Instant>,
}

/// What changed since the publisher last looked. Only a leader collects it; a new one looks at everything.
#[derive(Debug, Default)]
pub struct Pending {
    pub outputs: BTreeMap<OutputKey, Waiting>,
    /// Ingresses whose status may be wrong, each with the output that its change concerns, if any.
    pub statuses: BTreeMap<IngressKey, Option<OutputKey>>,
    /// Ingresses that are not shown any more, as they were.
    pub left: Vec<(IngressKey, Arc<Ingress>)>,
    /// The addresses that statuses are made from may have changed: look at all Ingresses.
    pub all_statuses: bool,
}

impl Pending {
    /// These outputs have to be committed, though no change of anybody's waits for it.
    pub fn look_at(&mut self, outputs: impl IntoIterator<Item = OutputKey>) {
        for output in outputs {
            self.outputs.entry(output).or_default();
        }
    }

    /// These are all outputs, and a leader that has just begun looks at them and all statuses.
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

    /// Keeps the older of each.
    pub fn since(&mut self, other: Self) {
        let older = |a: Option<Instant>, b: Option<Instant>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.change = older(self.change, other.change);
        self.deletion = older(self.deletion, other.deletion);
    }
}

/// What is known of outputs, beside the routing.
#[derive(Default)]
pub(super) struct Notes {
    pub pending: Pending,
    pub publications: BTreeMap<OutputKey, Publication>,
    /// Since when Ingresses that moved are in two outputs.
    pub moving: HashMap<IngressKey, Instant>,
    pub leading: bool,
}
