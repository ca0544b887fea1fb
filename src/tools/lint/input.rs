//! Facts about the input that the routing does not keep: positions of fields, silenced codes, other objects.

use std::collections::{BTreeSet, HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{LintFinding, codes};
use crate::kubernetes::key::{IngressKey, SecretKey};
use crate::kubernetes::manifests::{ManifestPlace, ManifestTexts, Manifests, TraefikObject, UnreadFields};
use crate::tools::invalid;
use crate::traefik::dynamic::Certificate;
use crate::translate::problem::{Kind, Subject};

/// The annotation that silences codes for its object: their names, separated by commas.
const SILENCING: &str = "waybill.dev/lint-ignore";

/// Facts beside the routing.
#[derive(Debug, Default)]
pub struct LintInput {
    /// About the objects themselves.
    pub(super) findings: Vec<LintFinding>,
    pub(super) has_no_secrets: bool,
    pub(super) has_no_services: bool,
    /// `None` if they could not be read.
    traefik_objects: Option<BTreeSet<TraefikObject>>,
    places: HashMap<String, ManifestPlace>,
    texts: ManifestTexts,
    unread: HashMap<String, UnreadFields>,
    /// TLS Secrets that no Ingress names.
    pub(super) unused: Vec<(SecretKey, Certificate)>,
    silenced: HashMap<String, Vec<String>>,
}

impl LintInput {
    /// Takes the needed parts of manifests. Those of a cluster have no texts.
    pub fn take(manifests: &mut Manifests, texts: Option<ManifestTexts>) -> Self {
        let of_cluster = texts.is_none();
        let mut input = Self {
            has_no_secrets: !of_cluster && manifests.secrets.is_empty(),
            has_no_services: !of_cluster && manifests.services.is_empty(),
            ..Self::default()
        };
        let objects = std::mem::take(&mut manifests.traefik_objects);
        input.traefik_objects = (!of_cluster || !objects.is_empty()).then_some(objects);
        input.look(manifests);
        input.unused_secrets(manifests);
        input.unread = std::mem::take(&mut manifests.unread);
        if let Some(texts) = texts {
            input.places = manifests.take_places();
            input.texts = texts;
        }
        input
    }

    fn look(&mut self, manifests: &Manifests) {
        for ingress in &manifests.ingresses {
            self.note_silenced(Kind::Ingress, &ingress.metadata);
            self.findings.extend(invalid::fields(ingress).into_iter().map(|one| {
                let text = format!("an API server refuses this: {:?}", one.value);
                LintFinding::new("InvalidObject", one.subject.to_string(), one.field, text)
                    .with_remedy(one.remedy)
            }));
        }
        manifests.services.iter().for_each(|one| self.note_silenced(Kind::Service, &one.metadata));
        manifests.secrets.iter().for_each(|one| self.note_silenced(Kind::Secret, &one.metadata));
        manifests.classes.iter().for_each(|one| self.note_silenced(Kind::IngressClass, &one.metadata));
        let parameters = manifests.parameters.iter();
        parameters.for_each(|one| self.note_silenced(Kind::IngressClassParameters, &one.metadata));
        self.findings.extend(manifests.unnamed.iter().map(|one| {
            let text = "an API server refuses an Ingress without a name";
            LintFinding::new("InvalidObject", format!("Ingress {}", one.read_as), "metadata.name", text)
                .with_remedy("give it a name")
                .at(&one.place)
        }));
        self.findings.extend(manifests.quoted.iter().map(|one| {
            let text = format!("an API server refuses this: {:?} in quotes", one.value);
            LintFinding::new("InvalidObject", "", &one.field, text)
                .with_remedy("write the number without quotes")
                .at(&one.place)
        }));
        self.findings.extend(manifests.repeated.iter().map(|one| {
            let text = format!("the object is already in {}; the later one is used", one.before);
            LintFinding::new("RepeatedObject", &one.object, "", text).at(&one.again)
        }));
    }

    fn note_silenced(&mut self, kind: Kind, metadata: &ObjectMeta) {
        let Some(value) = metadata.annotations.as_ref().and_then(|all| all.get(SILENCING)) else { return };
        let object = Subject::new(kind, metadata).to_string();
        let named: Vec<String> = value.split(',').map(|code| code.trim().to_owned()).collect();
        let unknown = named.iter().filter(|code| !code.is_empty() && codes::find(code).is_none()).take(10);
        self.findings.extend(unknown.map(|code| {
            let field = format!("metadata.annotations[{SILENCING}]");
            let text = format!("there is no code {code:?}");
            LintFinding::new("UnknownLintCode", &object, field, text)
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
            let text = |name: &str| {
                let bytes = &secret.data.as_ref()?.get(name)?.0;
                Some(String::from_utf8_lossy(bytes).into_owned())
            };
            if let (Some(chain), Some(private), false) =
                (text("tls.crt"), text("tls.key"), named.contains(&key))
            {
                let text = "no Ingress of the input names this TLS Secret";
                self.findings.push(LintFinding::new("UnusedSecret", format!("Secret {key}"), "", text));
                self.unused.push((key, Certificate { cert_file: chain.into(), key_file: private.into() }));
            }
        }
    }

    /// The hosts of each entry of an Ingress's `spec.tls`.
    pub(super) fn tls_hosts(&self, ingress: &IngressKey) -> &[Vec<String>] {
        self.unread.get(&format!("Ingress {ingress}")).map_or(&[], |unread| &unread.tls_hosts)
    }

    /// Annotations of an object for other controllers that no problem names.
    pub(super) fn annotations_of_others(&self, object: &str) -> &[String] {
        self.unread.get(object).map_or(&[], |unread| &unread.annotations)
    }

    /// Whether the input lacks an object of Traefik's CRD provider; `None` if that is unknown. `Some(true)` if it has
    /// others of the kind.
    pub(super) fn lacks(&self, object: &TraefikObject) -> Option<bool> {
        let all = self.traefik_objects.as_ref().filter(|all| !all.contains(object))?;
        Some(all.iter().any(|one| one.kind == object.kind))
    }

    /// Whether the object of a finding silences its code.
    pub(super) fn is_silenced(&self, finding: &LintFinding) -> bool {
        self.silenced.get(&finding.object).is_some_and(|codes| codes.iter().any(|code| code == finding.code))
    }

    /// Adds the positions of findings: the line of the field, or else that of the object.
    pub fn locate(&self, findings: Vec<LintFinding>) -> Vec<LintFinding> {
        let place = |finding: &LintFinding| {
            finding.place.clone().or_else(|| self.places.get(&finding.object).cloned())
        };
        let places: Vec<Option<ManifestPlace>> = findings.iter().map(place).collect();
        let placed = places.iter().zip(&findings);
        let wanted: Vec<(&ManifestPlace, &str)> =
            placed.filter_map(|(place, finding)| Some((place.as_ref()?, finding.field.as_str()))).collect();
        let mut lines = self.texts.lines(&wanted).into_iter();
        let located = places.iter().zip(findings).map(|(place, finding)| match place {
            Some(place) => LintFinding {
                file: Some(place.file.to_string()),
                line: lines.next().flatten(),
                place: None,
                ..finding
            },
            None => finding,
        });
        located.collect()
    }
}
