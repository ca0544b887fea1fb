//! Manifests into the API server, without a process for each.

use std::collections::HashMap;
use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiCapabilities, Scope, pinned_kind};
use kube::{Client, ResourceExt};

use super::eventually;

/// A kind of a CustomResourceDefinition that was applied just before takes a moment to be served.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// Applies every document by server-side apply, in order; a `status` in it to the status subresource as
/// well, where the kind has one. Documents without a namespace go to `default`. Panics at the first that
/// is refused.
pub async fn apply(client: &Client, manifests: &str) {
    let documents: Vec<Option<DynamicObject>> =
        serde_saphyr::from_multiple(manifests).unwrap_or_else(|error| panic!("{error}:\n{manifests}"));
    apply_objects(client, documents.into_iter().flatten().collect()).await;
}

/// As [`apply`].
pub async fn apply_objects(client: &Client, objects: Vec<DynamicObject>) {
    let params = PatchParams::apply("test").force();
    let mut kinds: HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)> = HashMap::new();
    for mut object in objects {
        let name = object.name_any();
        let types = object.types.clone().unwrap_or_else(|| panic!("{name}: no apiVersion or kind"));
        let kind = GroupVersionKind::try_from(&types).unwrap();
        if !kinds.contains_key(&kind) {
            let found = eventually(&format!("{kind:?} is served"), SERVED_WITHIN, async || {
                pinned_kind(client, &kind).await
            })
            .await;
            kinds.insert(kind.clone(), found);
        }
        let (resource, capabilities) = &kinds[&kind];
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(client.clone(), resource),
            Scope::Namespaced => {
                let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
                Api::namespaced_with(client.clone(), &namespace, resource)
            }
        };
        let status = object.data.get("status").is_some();
        let patch = Patch::Apply(&object);
        api.patch(&name, &params, &patch)
            .await
            .unwrap_or_else(|error| panic!("{} {name}: {error}", kind.kind));
        if status && capabilities.subresources.iter().any(|(sub, _)| sub.plural.ends_with("status")) {
            object.metadata.managed_fields = None;
            api.patch_status(&name, &params, &Patch::Apply(&object))
                .await
                .unwrap_or_else(|error| panic!("{} {name}, status: {error}", kind.kind));
        }
    }
}
