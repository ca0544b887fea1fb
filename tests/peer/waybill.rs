//! Waybill's answers to the same objects and options.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::networking::v1::IngressLoadBalancerIngress;
use kube::runtime::watcher::Event;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use waybill::kubernetes::key::{IngressKey, SecretKey};
use waybill::kubernetes::{EndpointSlice, Ingress, IngressClass, Node, Secret, WireService};
use waybill::offline;
use waybill::options::{self, Options};
use waybill::routing::Routing;
use waybill::traefik::document::Keys;
use waybill::translate::status::{self, DesiredStatus};
use waybill::watch::{Scope, SecretSource, Touched};

use super::object;
use super::server::Snapshot;

/// The options of a file.
pub fn options(file: &Value) -> Options {
    let loaded = options::from_yaml_str(&file.to_string());
    loaded.unwrap_or_else(|faults| panic!("waybill refuses {file}: {faults:?}")).options
}

/// Waybill as a library: the very path that offline rendering and the running operator share.
pub struct Library {
    options: Options,
    pub(super) routing: Routing,
    /// The Secrets as they are, for those whose data is asked for again.
    secrets: BTreeMap<SecretKey, Value>,
    /// Its answer, until something changes.
    answer: OnceCell<Value>,
}

impl Library {
    /// Without objects.
    pub fn new(options: Options) -> Self {
        Self {
            routing: Routing::new(
                offline::watched(&options),
                options.class.clone(),
                std::sync::Arc::new(options.settings.clone()),
            ),
            options,
            secrets: BTreeMap::new(),
            answer: OnceCell::new(),
        }
    }

    /// With the objects of an API server, of which those of `owner=helm` and Ingresses that the selector does not
    /// select are already left out.
    pub fn with(options: Options, snapshot: &Snapshot) -> Self {
        let mut library = Self::new(options);
        // Ingresses last, so that it is known what they name.
        for (kind, objects) in &snapshot.objects {
            if *kind != "Secret" {
                for object in objects {
                    library.apply(object);
                }
            }
        }
        // Only the Secrets of an Ingress that is ours are kept, and its class says whether it is.
        library.routing.set_sources(|sources| sources.parameters = true);
        library.routing.resolve_classes();
        library.routing.note_all_dependencies();
        let mut fetch = Vec::new();
        for object in snapshot.objects.get("Secret").into_iter().flatten() {
            fetch.extend(library.apply(object).fetch);
        }
        for secret in fetch {
            let object = library.secrets.get(&secret).map(typed::<Secret>);
            let Some(asked) = library.routing.stores().secrets().ask(&secret) else { continue };
            library.routing.stores_mut().secret_fetched(&secret, &asked, object.as_ref());
        }
        library.routing.reconcile_all();
        library
    }

    /// Whether the API server would tell of an object, going by its labels.
    pub fn selects(&self, object: &Value) -> bool {
        let labels = BTreeMap::deserialize(&object["metadata"]["labels"]).unwrap_or_default();
        match object["kind"].as_str() {
            Some("Ingress") => self.options.label_selector.matches(&labels),
            Some("Secret") => labels.get("owner").is_none_or(|owner: &String| owner != "helm"),
            _ => true,
        }
    }

    /// An object came or changed. What has to be reconciled for it is returned.
    pub fn apply(&mut self, object: &Value) -> Touched {
        self.event(object, true)
    }

    /// An object went.
    pub fn delete(&mut self, object: &Value) -> Touched {
        self.event(object, false)
    }

    /// Reconciles what an event touched.
    pub fn reconcile(&mut self, touched: &Touched) {
        self.answer.take();
        let mut keys = self.routing.affected(touched);
        // The certificate of a Secret that is gone stays for seconds: here they have passed.
        let later = Instant::now() + Duration::from_secs(3600);
        let gone = self.routing.stores_mut().expire_gone_secrets(later);
        keys.extend(self.routing.affected(&gone));
        for class in self.routing.affected_classes(touched) {
            if self.routing.resolve_class(&class).settings {
                keys.extend(self.routing.of_class(&class));
            }
        }
        let mut fetch = touched.fetch.clone();
        loop {
            for key in std::mem::take(&mut keys) {
                fetch.extend(self.routing.reconcile(&key).unwrap().fetch);
            }
            let Some(secret) = fetch.pop() else { return };
            let object = self.secrets.get(&secret).map(typed::<Secret>);
            let Some(asked) = self.routing.stores().secrets().ask(&secret) else { continue };
            let touched = self.routing.stores_mut().secret_fetched(&secret, &asked, object.as_ref());
            keys = self.routing.affected(&touched);
        }
    }

    fn event(&mut self, object: &Value, there: bool) -> Touched {
        let namespace = object::namespace(object);
        let kind = object["kind"].as_str().unwrap_or_default();
        let scope = match kind {
            "IngressClass" | "Node" => Scope::All,
            _ if self.options.namespaces.is_empty() => Scope::All,
            _ if self.options.namespaces.contains(namespace) => Scope::Namespace(namespace.into()),
            _ => return Touched::default(),
        };
        let no_classes = self.options.class.lookup_disabled;
        let no_nodes = self.options.settings.disable_cluster_scope_resources;
        let stores = self.routing.stores_mut();
        match kind {
            "Ingress" => stores.apply_ingress(&scope, event::<Ingress>(object, there)),
            "IngressClass" if no_classes => Touched::default(),
            "IngressClass" => stores.apply_class(event::<IngressClass>(object, there)),
            "Service" => stores.apply_service(&scope, event::<WireService>(object, there)),
            "EndpointSlice" => stores.apply_slice(&scope, event::<EndpointSlice>(object, there)),
            "Node" if no_nodes => Touched::default(),
            "Node" => stores.apply_node(event::<Node>(object, there)),
            "Secret" => {
                let key = SecretKey::new(namespace, object::name(object));
                if there {
                    self.secrets.insert(key, object.clone());
                } else {
                    self.secrets.remove(&key);
                }
                let (stores, index) = self.routing.stores_and_index();
                let named = |key: &SecretKey| index.secret_is_named(key);
                if object["type"] == "kubernetes.io/tls" {
                    stores.apply_secret(SecretSource::Tls, &scope, event(object, there), named)
                } else {
                    stores.apply_secret_metadata(SecretSource::Others, &scope, event(object, there), named)
                }
            }
            _ => Touched::default(),
        }
    }

    /// The routing, with keys.
    pub fn answer(&self) -> &Value {
        self.answer.get_or_init(|| {
            let output = self.routing.table().output(&self.options.settings.output);
            let text = output.map_or_else(|| "{}".to_owned(), |output| output.assembled(Keys::Shown));
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
        })
    }

    /// Every router that could be the default one, as if it had been chosen.
    pub fn default_candidates(&self) -> Vec<Value> {
        let backends =
            self.routing.table().fragments().filter_map(|fragment| fragment.default_backend.clone());
        backends
            .map(|backend| {
                json!({"http": {"routers": {"default-router": backend.router},
                                "services": {"default-backend": backend.service}}})
            })
            .collect()
    }

    /// The status that an Ingress should have; `None` where it is left as it is.
    pub fn wanted_status(&self, namespace: &str, name: &str) -> Option<Vec<IngressLoadBalancerIngress>> {
        let settings = self.routing.settings(&IngressKey::new(namespace, name))?;
        match status::wanted(settings, self.routing.stores()) {
            Ok(DesiredStatus::Entries(entries)) => Some(entries),
            Ok(DesiredStatus::LeaveAlone) | Err(_) => None,
        }
    }
}

fn typed<K: DeserializeOwned>(object: &Value) -> K {
    K::deserialize(object).unwrap_or_else(|error| panic!("{}: {error}", object::title(object)))
}

fn event<K: DeserializeOwned>(object: &Value, there: bool) -> Event<K> {
    if there { Event::Apply(typed(object)) } else { Event::Delete(typed(object)) }
}
