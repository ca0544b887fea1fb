//! What the objects say that the routing does not keep: where they stand, what they silence, what else there is.

use std::collections::{BTreeSet, HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{LintFinding, codes};
use crate::kubernetes::key::SecretKey;
use crate::kubernetes::manifests::{ManifestPlace, Manifests, TraefikObject};
use crate::tools::invalid;

/// The annotation that silences codes for its object: their names, with commas between.
const SILENCING: &str = "waybill.dev/lint-ignore";

/// What is known beside the routing.
#[derive(Debug, Default)]
pub struct LintInput {
    /// About the objects themselves.
    pub(super) findings: Vec<LintFinding>,
    pub(super) has_no_secrets: bool,
    pub(super) has_no_services: bool,
    /// `None` where they could not be read.
    traefik_objects: Option<BTreeSet<TraefikObject>>,
    places: HashMap<String, ManifestPlace>,
    silenced: HashMap<String, Vec<String>>,
}

impl LintInput {
    /// Takes what is needed out of manifests. Those of a cluster have no place in a file.
    pub fn take(manifests: &mut Manifests, of_cluster: bool) -> Self {
        let mut input = Self {
            has_no_secrets: !of_cluster && manifests.secrets.is_empty(),
            has_no_services: !of_cluster && manifests.services.is_empty(),
            ..Self::default()
        };
        let objects = std::mem::take(&mut manifests.traefik_objects);
        input.traefik_objects = (!of_cluster || !objects.is_empty()).then_some(objects);
        input.look(manifests);
        input.unused_secrets(manifests);
        if !of_cluster {
            input.places = manifests.take_places();
        }
        input
    }

    fn look(&mut self, manifests: &Manifests) {
        for ingress in &manifests.ingresses {
            self.note_silenced("Ingress", &ingress.metadata);
            self.findings.extend(invalid::fields(ingress).into_iter().map(|one| {
                let text = format!("an API server refuses this: {:?}", one.value);
                LintFinding::new("InvalidObject", one.subject.to_string(), one.field, text, one.remedy)
            }));
        }
        manifests.services.iter().for_each(|one| self.note_silenced("Service", &one.metadata));
        manifests.secrets.iter().for_each(|one| self.note_silenced("Secret", &one.metadata));
        manifests.classes.iter().for_each(|one| self.note_silenced("IngressClass", &one.metadata));
        let parameters = manifests.parameters.iter();
        parameters.for_each(|one| self.note_silenced("IngressClassParameters", &one.metadata));

        for one in &manifests.unnamed {
            let text = "an API server refuses an Ingress without a name".to_owned();
            let object = format!("Ingress {}", one.read_as);
            let finding = LintFinding::new(
                "InvalidObject",
                object,
                "metadata.name".to_owned(),
                text,
                "give it a name".to_owned(),
            );
            self.findings.push(at(&one.place, finding));
        }
        for one in &manifests.quoted {
            let text = format!("an API server refuses this: {:?} in quotes", one.value);
            let remedy = "write the number without quotes".to_owned();
            let finding = LintFinding::new("InvalidObject", String::new(), one.field.clone(), text, remedy);
            self.findings.push(at(&one.place, finding));
        }
        for one in &manifests.repeated {
            let text = format!("the object is already in {}, and the later one counts", one.before);
            let finding =
                LintFinding::with_usual_remedy("RepeatedObject", one.object.clone(), String::new(), text);
            self.findings.push(at(&one.again, finding));
        }
    }

    fn note_silenced(&mut self, kind: &str, metadata: &ObjectMeta) {
        let Some(value) = metadata.annotations.as_ref().and_then(|all| all.get(SILENCING)) else { return };
        let name = metadata.name.as_deref().unwrap_or_default();
        let object = match metadata.namespace.as_deref() {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name}"),
        };
        let named: Vec<String> = value.split(',').map(|code| code.trim().to_owned()).collect();
        let unknown = named.iter().filter(|code| !code.is_empty() && codes::find(code).is_none()).take(10);
        self.findings.extend(unknown.map(|code| {
            let field = format!("metadata.annotations[{SILENCING}]");
            let text = format!("there is no code {code:?}");
            LintFinding::with_usual_remedy("UnknownLintCode", object.clone(), field, text)
        }));
        self.silenced.insert(object, named);
    }

    fn unused_secrets(&mut self, manifests: &Manifests) {
        let mut named: HashSet<SecretKey> = HashSet::new();
        for ingress in &manifests.ingresses {
            let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
            let entries = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
            let names = entries.filter_map(|entry| entry.secret_name.as_deref());
            named.extend(names.map(|name| SecretKey::new(namespace, name)));
        }
        for secret in &manifests.secrets {
            let metadata = &secret.metadata;
            let key = SecretKey::new(
                metadata.namespace.as_deref().unwrap_or_default(),
                metadata.name.as_deref().unwrap_or_default(),
            );
            let has = |name: &str| secret.data.as_ref().is_some_and(|data| data.contains_key(name));
            if has("tls.crt") && has("tls.key") && !named.contains(&key) {
                let text = "no Ingress of the input names this TLS Secret".to_owned();
                let object = format!("Secret {key}");
                self.findings.push(LintFinding::with_usual_remedy(
                    "UnusedSecret",
                    object,
                    String::new(),
                    text,
                ));
            }
        }
    }

    /// Whether the input lacks an object of Traefik's CRD provider; `None` where that can't be told. `Some(true)` where
    /// it has others of the kind.
    pub(super) fn lacks(&self, object: &TraefikObject) -> Option<bool> {
        let all = self.traefik_objects.as_ref().filter(|all| !all.contains(object))?;
        Some(all.iter().any(|one| one.kind == object.kind))
    }

    /// Whether the object of a finding silences its code.
    pub(super) fn is_silenced(&self, finding: &LintFinding) -> bool {
        self.silenced.get(&finding.object).is_some_and(|codes| codes.iter().any(|code| code == finding.code))
    }

    /// Adds where the object of a finding stands.
    pub fn locate(&self, finding: LintFinding) -> LintFinding {
        match self.places.get(&finding.object) {
            Some(place) if finding.file.is_none() => at(place, finding),
            _ => finding,
        }
    }
}

fn at(place: &ManifestPlace, finding: LintFinding) -> LintFinding {
    LintFinding { file: Some(place.file.to_string()), line: place.line, ..finding }
}
