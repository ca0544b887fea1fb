//! EndpointSlices by the Service that they belong to.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::kubernetes::key::ServiceKey;
use crate::watch::strip::SERVICE_NAME_LABEL;

/// The EndpointSlices of every Service, oldest first, then by name: the order of their addresses in the routing.
#[derive(Debug, Default)]
pub struct SlicesByService {
    slices: HashMap<ServiceKey, Vec<Arc<EndpointSlice>>>,
}

impl SlicesByService {
    /// The slices of a Service.
    pub fn get(&self, service: &ServiceKey) -> &[Arc<EndpointSlice>] {
        self.slices.get(service).map_or(&[], Vec::as_slice)
    }

    /// Adds a slice to its Service.
    pub fn insert(&mut self, service: ServiceKey, slice: Arc<EndpointSlice>) {
        let slices = self.slices.entry(service).or_default();
        let place = slices.partition_point(|other| order(other) < order(&slice));
        slices.insert(place, slice);
    }

    /// Takes a slice from its Service.
    pub fn remove(&mut self, service: &ServiceKey, slice: &Arc<EndpointSlice>) {
        if let Some(slices) = self.slices.get_mut(service) {
            slices.retain(|other| !Arc::ptr_eq(other, slice));
            if slices.is_empty() {
                self.slices.remove(service);
            }
        }
    }
}

/// The name of the Service that a slice belongs to.
pub fn service_of(slice: &EndpointSlice) -> Option<&str> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    (!name.is_empty()).then_some(name.as_str())
}

fn order(slice: &EndpointSlice) -> (i64, Option<&str>) {
    let created = slice.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second());
    (created, slice.metadata.name.as_deref())
}
