//! Labels and annotations that more than one stage reads.

/// Names the class of an Ingress without `spec.ingressClassName`.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// What the annotations of Traefik's Ingress provider begin with. Case matters.
pub const TRAEFIK_PREFIX: &str = "traefik.ingress.kubernetes.io/";

/// The label that says what an object of waybill's is for: `index`, `routing`, `keys` or `classes`.
pub const PART_LABEL: &str = "waybill.dev/part";

/// The value of [`PART_LABEL`] on the ConfigMap in which a leader keeps the last accepted parameters of classes.
pub const CLASSES_PART: &str = "classes";

/// The label that says which program an object belongs to.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The value of [`MANAGED_BY_LABEL`] on waybill's objects.
pub const WAYBILL: &str = "waybill";

/// Whether an annotation is another ingress controller's, or Traefik's in a spelling that Traefik does not read. Such
/// a key is reported, and its value is never looked at.
pub fn is_foreign(key: &str) -> bool {
    if key.starts_with(TRAEFIK_PREFIX) || key == CLASS_ANNOTATION {
        return false;
    }
    let key = key.to_ascii_lowercase();
    key.contains("ingress.kubernetes.io/")
        || key.contains("traefik")
        || ["router.", "routers.", "service.", "services."].iter().any(|root| key.starts_with(root))
            && !key.contains('/')
}

/// Whether the value of an annotation is read.
pub(super) fn is_read(key: &str) -> bool {
    key == CLASS_ANNOTATION || key.starts_with(TRAEFIK_PREFIX) || key.starts_with("waybill.dev/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_an_annotation_for_routing_is_foreign() {
        for key in [
            "nginx.ingress.kubernetes.io/whitelist-source-range",
            "ingress.kubernetes.io/auth-type",
            "Traefik.ingress.kubernetes.io/router.tls",
            "traefik.io/router.middlewares",
            "traefik.http.routers.web.middlewares",
            "router.tls",
            "routers.tls",
        ] {
            assert!(is_foreign(key) && !is_read(key), "{key}");
        }
        for key in [
            "cert-manager.io/cluster-issuer",
            "kubernetes.io/ingress.class",
            "kubernetes.io/tls-acme",
            "kubectl.kubernetes.io/last-applied-configuration",
            "meta.helm.sh/release-name",
            "traefik.ingress.kubernetes.io/router.tls",
            "example.com/router.tls",
            "service.beta.kubernetes.io/aws-load-balancer-type",
        ] {
            assert!(!is_foreign(key), "{key}");
        }
    }
}
