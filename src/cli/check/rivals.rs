//! Looks for others that do the same work: another waybill, Traefik's provider, another controller.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};

use super::{Checklist, OwnClasses};
use crate::kubernetes::Ingress;
use crate::kubernetes::well_known::PART_LABEL;
use crate::kubernetes::with_causes;
use crate::offline::watched;
use crate::publish::{MANAGER, field_manager};
use crate::published::agents::AGENT_PART;
use crate::translate::class::{Ownership, claim};
use crate::translate::settings::ClassState;
use crate::watch::Scope;

/// The maximum number of Ingresses to check, for each namespace or for all together.
const SAMPLE: u32 = 500;

/// The maximum number of Leases to check.
const LEASES: u32 = 5_000;

/// A Lease that was not renewed for this many times its duration belongs to no running process.
const GONE: i64 = 4;

impl Checklist<'_> {
    /// Reports who leads here, and which other operators there are.
    pub(super) async fn lease(&mut self) {
        let (namespace, name) = (&self.options.namespace, &self.options.leader_election.lease_name);
        let own = format!("{namespace}/{name}");
        let everywhere = self.may_list_all_leases().await;
        let api: Api<Lease> = if everywhere {
            Api::all(self.client.clone())
        } else {
            Api::namespaced(self.client.clone(), namespace)
        };
        // Nodes and agents have a Lease each.
        let list = ListParams::default()
            .labels(&format!("{PART_LABEL}!={AGENT_PART}"))
            .fields("metadata.namespace!=kube-node-lease")
            .limit(LEASES);
        let leases = match api.list(&list).await {
            Ok(leases) => leases.items,
            Err(error) => return self.fail(format!("Lease {own}: {}", with_causes(&error))),
        };
        let is_own =
            |lease: &Lease| lease.namespace().as_deref() == Some(namespace) && lease.name_any() == *name;
        let now = Timestamp::now();
        let elects = self.options.leader_election.enabled;
        let ours = leases.iter().find(|lease| is_own(lease));
        match ours.and_then(|lease| lease.spec.as_ref()).and_then(|spec| holder(spec, now)) {
            Some((holder, _)) if !elects => self.fail(format!(
                "Lease {own}: {holder:?} holds it, and leader election is off here, so two would write; turn it on"
            )),
            Some((holder, age)) => self.ok(format!("Lease {own}: {holder:?} leads and renewed it {age} s ago")),
            None if !elects => {
                self.note("Lease: leader election is off, so there must never be two replicas");
            }
            None => self.ok(format!("Lease {own}: nobody leads yet")),
        }
        let mut alone = true;
        for lease in leases.iter().filter(|lease| !is_own(lease) && is_waybill(lease)) {
            let Some((holder, age)) = lease.spec.as_ref().and_then(|spec| holder(spec, now)) else {
                continue;
            };
            alone = false;
            let other = format!("{}/{}", lease.namespace().unwrap_or_default(), lease.name_any());
            self.note(format!(
                "other waybill: {holder:?} holds the Lease {other} and renewed it {age} s ago; make sure \
                 that they do not serve the same Ingresses (controllerName, namespaces, labelSelector)"
            ));
        }
        if alone {
            let place = if everywhere { "the cluster".to_owned() } else { format!("namespace {namespace}") };
            self.ok(format!("other waybill: none leads in {place}"));
        }
    }

    /// Reports who else has written statuses of our Ingresses.
    pub(super) async fn statuses(&mut self, classes: Option<&OwnClasses>) {
        let list = ListParams::default().limit(SAMPLE).labels(self.options.label_selector.as_str());
        let mut writers: BTreeMap<String, (String, usize)> = BTreeMap::new();
        let defaults = Arc::new(self.options.settings.clone());
        let accepted = ClassState::Accepted(Arc::clone(&defaults));
        let own = field_manager(&self.options.namespace, &self.options.leader_election.lease_name);
        for scope in watched(self.options).scopes() {
            let api: Api<Ingress> = match scope {
                Scope::All => Api::all(self.client.clone()),
                Scope::Namespace(namespace) => Api::namespaced(self.client.clone(), &namespace),
            };
            let ingresses = match api.list(&list).await {
                Ok(ingresses) => ingresses,
                Err(error) => {
                    return self.fail(format!(
                        "other controllers: Ingresses can't be listed: {}",
                        with_causes(&error)
                    ));
                }
            };
            let state_of = |class: &str| classes?.contains_key(class).then_some(&accepted);
            for ingress in ingresses {
                if claim(&ingress, &self.options.class, &defaults, state_of) == Ownership::NotOurs {
                    continue;
                }
                let managers = ingress.metadata.managed_fields.iter().flatten();
                let managers = managers.filter_map(|entry| entry.manager.as_deref());
                // The second is that of older releases.
                let others = managers.filter(|manager| *manager != own && *manager != MANAGER);
                for manager in others.collect::<BTreeSet<_>>() {
                    let name = format!("{}/{}", ingress.namespace().unwrap_or_default(), ingress.name_any());
                    writers.entry(manager.to_owned()).or_insert((name, 0)).1 += 1;
                }
            }
        }
        if writers.is_empty() {
            self.ok("other controllers: none has written the status of one of our Ingresses");
        }
        for (manager, (example, count)) in writers {
            self.note(format!(
                "other controllers: {manager:?} has written the status of {count} of our Ingresses, such as {example}; if it \
                 still runs, give it another class (docs/migration.md)"
            ));
        }
    }
}

/// Who holds a Lease, and how many seconds ago it was renewed; `None` when nobody does.
fn holder(spec: &LeaseSpec, now: Timestamp) -> Option<(&str, i64)> {
    let holder = spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())?;
    let age = now.duration_since(spec.renew_time.as_ref()?.0).as_secs();
    let duration = i64::from(spec.lease_duration_seconds.unwrap_or(15).max(1));
    // The clocks of two machines differ.
    (age <= GONE * duration).then_some((holder, age.max(0)))
}

/// Whether a waybill wrote it.
fn is_waybill(lease: &Lease) -> bool {
    lease.meta().managed_fields.iter().flatten().any(|entry| entry.manager.as_deref() == Some(MANAGER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    #[test]
    fn a_lease_that_is_renewed_no_more_has_no_holder() {
        let now = Timestamp::now();
        let spec = |seconds: i64, duration: Option<i32>| LeaseSpec {
            holder_identity: Some("a".to_owned()),
            lease_duration_seconds: duration,
            renew_time: Some(MicroTime(now - SignedDuration::from_secs(seconds))),
            ..LeaseSpec::default()
        };
        assert_eq!(holder(&spec(3, Some(15)), now), Some(("a", 3)));
        assert_eq!(holder(&spec(-30, None), now), Some(("a", 0)), "its clock is ahead");
        assert_eq!(holder(&spec(61, Some(15)), now), None);
        assert_eq!(holder(&spec(61, Some(i32::MIN)), now), None);
        assert_eq!(holder(&LeaseSpec { holder_identity: Some(String::new()), ..spec(1, None) }, now), None);
        assert_eq!(holder(&LeaseSpec::default(), now), None);
    }
}
