//! Problems that `render` and `lint` both report for a routing that is not live.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::kubernetes::key::{IngressKey, ObjectKey};
use crate::routing::Routing;
use crate::translate::problem::Problem;
use crate::translate::settings::{ClassOptions, Settings};
use crate::translate::status;

/// Problems of the sources of statuses.
pub fn of_statuses(routing: &Routing) -> BTreeSet<Problem> {
    let mut looked_at: Vec<&Arc<Settings>> = Vec::new();
    for fragment in routing.table().fragments() {
        if !looked_at.iter().any(|settings| Arc::ptr_eq(settings, &fragment.settings)) {
            looked_at.push(&fragment.settings);
        }
    }
    looked_at.into_iter().filter_map(|settings| status::fault(settings, routing.stores())).collect()
}

/// Missing classes, and the Ingresses that would be ours if these classes had our controller.
pub fn missing_classes(routing: &Routing, options: &ClassOptions) -> BTreeMap<String, BTreeSet<IngressKey>> {
    let mut missing: BTreeMap<String, BTreeSet<IngressKey>> = BTreeMap::new();
    if options.lookup_disabled {
        return missing;
    }
    let classes = routing.stores().classes();
    for (key, ingress) in routing.stores().ingresses().iter() {
        let class = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
        let chosen = &options.ingress_class;
        if let Some(class) = class.filter(|class| chosen.is_empty() || chosen == class)
            && classes.get(&ObjectKey::new("", class)).is_none()
        {
            missing.entry(class.to_owned()).or_default().insert(IngressKey(key.clone()));
        }
    }
    missing
}
