//! Labels and annotations that several stages read.

/// Names the class of an Ingress without `spec.ingressClassName`.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// The prefix of the annotations of Traefik's Ingress provider. Case matters.
pub const TRAEFIK_PREFIX: &str = "traefik.ingress.kubernetes.io/";

/// The label with the purpose of an object of waybill: `index`, `routing`, `keys`, `text`, `classes` or `agent`.
pub const PART_LABEL: &str = "waybill.dev/part";

/// The value of [`PART_LABEL`] on the ConfigMap in which a leader stores the last accepted parameters of classes.
pub const CLASSES_PART: &str = "classes";

/// The label with the program that manages an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The value of [`MANAGED_BY_LABEL`] on waybill's objects.
pub const WAYBILL: &str = "waybill";

/// Whether an annotation belongs to another ingress controller, or is Traefik's in a spelling that Traefik does not
/// read. Such a key is reported, and its value is never used.
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

/// The prefixes of annotations of other ingress controllers, with their names. The first match is used.
pub const CONTROLLERS: &[(&str, &str)] = &[
    ("nginx.ingress.kubernetes.io/", "ingress-nginx"),
    ("alb.ingress.kubernetes.io/", "the AWS Load Balancer Controller"),
    ("appgw.ingress.kubernetes.io/", "the Application Gateway controller"),
    ("haproxy-ingress.github.io/", "HAProxy Ingress"),
    ("haproxy.org/", "HAProxy's controller"),
    ("haproxy.com/", "HAProxy's controller"),
    ("konghq.com/", "Kong"),
    ("configuration.konghq.com/", "Kong"),
    ("plugins.konghq.com/", "Kong"),
    ("nginx.org/", "NGINX's own controller"),
    ("nginx.com/", "NGINX's own controller"),
    ("projectcontour.io/", "Contour"),
    ("networking.gke.io/", "GKE Ingress"),
    ("kubernetes.io/ingress.", "GKE Ingress"),
    ("traefik.ingress.kubernetes.io/", "Traefik 1"),
    ("ingress.kubernetes.io/", "Traefik 1"),
];

/// Whether an annotation is another controller's although [`is_foreign`] does not include it. The operator does not
/// store or report these, because the object may serve that controller too. Only `lint` reports them.
pub fn is_others(key: &str) -> bool {
    !is_foreign(key) && !is_read(key) && CONTROLLERS.iter().any(|(prefix, _)| key.starts_with(prefix))
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
            assert!(!is_foreign(key) && !is_others(key), "{key}");
        }
        for key in ["konghq.com/plugins", "nginx.org/rewrites", "kubernetes.io/ingress.allow-http"] {
            assert!(is_others(key), "{key}");
        }
    }
}
