//! EndpointSlices by their Service.

use std::collections::HashMap;
use std::sync::Arc;

use crate::kubernetes::Slice;
use crate::kubernetes::key::ServiceKey;

/// The EndpointSlices of every Service, oldest first, then by name: the order of their addresses in the routing.
#[derive(Debug, Default)]
pub struct SlicesByService {
    slices: HashMap<ServiceKey, Vec<Arc<Slice>>>,
}

impl SlicesByService {
    /// The slices of a Service.
    pub fn get(&self, service: &ServiceKey) -> &[Arc<Slice>] {
        self.slices.get(service).map_or(&[], Vec::as_slice)
    }

    /// Adds a slice to its Service.
    pub fn insert(&mut self, service: ServiceKey, slice: Arc<Slice>) {
        let slices = self.slices.entry(service).or_default();
        let place = slices.partition_point(|other| other.order() < slice.order());
        slices.insert(place, slice);
    }

    /// Removes a slice from its Service.
    pub fn remove(&mut self, service: &ServiceKey, slice: &Arc<Slice>) {
        if let Some(slices) = self.slices.get_mut(service) {
            slices.retain(|other| !Arc::ptr_eq(other, slice));
            if slices.is_empty() {
                self.slices.remove(service);
            }
        }
    }
}
