//! What an API server would have filled in, or written in another form.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

const TCP: &str = "TCP";

/// A Service's type and the protocol of its ports.
pub fn service(service: &mut Service) {
    let spec = service.spec.get_or_insert_default();
    if spec.type_.as_deref().unwrap_or_default().is_empty() {
        spec.type_ = Some("ClusterIP".to_owned());
    }
    for port in spec.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| TCP.to_owned());
    }
}

/// The name and the protocol of a slice's ports.
pub fn endpoint_slice(slice: &mut EndpointSlice) {
    for port in slice.ports.iter_mut().flatten() {
        port.name.get_or_insert_default();
        port.protocol.get_or_insert_with(|| TCP.to_owned());
    }
}

/// `stringData` is a way of writing `data`, and wins over it.
pub fn secret(secret: &mut Secret) {
    if let Some(texts) = secret.string_data.take() {
        let data = secret.data.get_or_insert_default();
        data.extend(texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
    }
}
