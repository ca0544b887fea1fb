//! What the writer of statuses asks of the routing.

use std::sync::{Arc, Mutex, PoisonError};

use crate::kubernetes::key::IngressKey;
use crate::operator::live::Live;
use crate::operator::problems::{Problems, Source};
use crate::publish::statuses::policy::{StatusState, we_own};
use crate::publish::statuses::writer::StatusView;
use crate::translate::problem::Problem;
use crate::translate::settings::Settings;
use crate::translate::status::{self, Wanted};

/// The statuses that are wanted.
pub struct Statuses {
    live: Arc<Live>,
    problems: Arc<Problems>,
    /// `operator.status`; off leaves every status to another controller.
    enabled: bool,
    /// What each source of addresses came to, until [`Statuses::addresses_changed`].
    known: Mutex<Vec<(Arc<Settings>, Wanted)>>,
}

impl Statuses {
    /// `enabled` is `operator.status`.
    pub fn new(live: Arc<Live>, problems: Arc<Problems>, enabled: bool) -> Self {
        Self { live, problems, enabled, known: Mutex::default() }
    }

    /// Forgets what the sources of addresses came to, and tells what is wrong with them.
    pub fn addresses_changed(&self) {
        let faults: Vec<Problem> = {
            let routing = self.live.routing();
            let settings = routing.all_settings();
            settings
                .iter()
                .filter_map(|settings| status::wanted(settings, routing.stores()).err())
                .map(|fault| *fault)
                .collect()
        };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.problems.set(Source::Statuses, if self.enabled { faults } else { Vec::new() });
    }

    fn wanted(&self, settings: &Arc<Settings>, routing: &crate::routing::Routing) -> Wanted {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, wanted)) = known.iter().find(|(of, _)| Arc::ptr_eq(of, settings)) {
            return wanted.clone();
        }
        let wanted = status::wanted(settings, routing.stores()).unwrap_or(Wanted::LeaveAlone);
        known.push((Arc::clone(settings), wanted.clone()));
        wanted
    }
}

impl StatusView for Statuses {
    fn state(&self, key: &IngressKey) -> Option<StatusState> {
        let routing = self.live.routing();
        let ingress = routing.stores().ingresses().get(key)?;
        let settings = routing.settings(key);
        // Where nothing new is published no address is told or taken back either.
        let still = routing.is_paused(key) || settings.is_some_and(|one| self.live.is_held(&one.output));
        let wanted = match settings {
            Some(settings) if self.enabled && !still => self.wanted(settings, &routing),
            _ => Wanted::LeaveAlone,
        };
        let current = ingress
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref())
            .and_then(|load_balancer| load_balancer.ingress.clone())
            .unwrap_or_default();
        // With statuses off nothing is withdrawn either: they are another controller's now.
        let ours = settings.is_some() || still || !self.enabled;
        let shown = Arc::as_ptr(ingress).addr();
        Some(StatusState { ours, wanted, current, we_own: we_own(ingress), shown })
    }

    fn keys(&self) -> Vec<IngressKey> {
        let routing = self.live.routing();
        routing.stores().ingresses().iter().map(|(key, _)| IngressKey(key.clone())).collect()
    }

    fn contested(&self, key: &IngressKey, problem: Option<Problem>) {
        self.problems.set(Source::Contest(key.clone()), problem.into_iter().collect());
    }
}
