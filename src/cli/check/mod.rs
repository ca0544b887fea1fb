//! `waybill check`: checks whether a cluster has everything that the operator needs, and prints a line for each check.

mod rights;
mod rivals;

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::cluster::ClusterArguments;
use super::{CommandResult, PROBLEMS, SUCCESS, Streams};
use crate::kubernetes::IngressClass;
use crate::kubernetes::client::{Connection, Environment};
use crate::kubernetes::key::ServiceKey;
use crate::kubernetes::with_causes;
use crate::options::{Loaded, Options};
use crate::parameters::IngressClassParameters;
use crate::parameters::resolve::{is_ours, parameters_name};
use crate::parameters::resource::{GROUP, KIND, VERSION};
use crate::redact::hide_keys;
use crate::translate::settings::StatusSource;

/// The minor version from which EndpointSlices are served as they are read.
const OLDEST: u32 = 21;

/// The minor version from which the API server accepts the CRD's rules.
const OLDEST_WITH_CRD: u32 = 31;

/// The arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    #[command(flatten)]
    cluster: ClusterArguments,

    /// Check the rights of this user instead of yours, such as system:serviceaccount:waybill:waybill
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Ok,
    /// The operator works, but maybe not as expected.
    Note,
    Fail,
}

/// A cluster, and the findings so far.
struct Checklist<'a> {
    client: Client,
    options: &'a Options,
    /// Whose rights are checked; `None` for those of the connection.
    user: Option<&'a str>,
    lines: Vec<(Finding, String)>,
}

/// Our IngressClasses with the parameters that they name, if these exist.
type OwnClasses = BTreeMap<String, Option<IngressClassParameters>>;

impl CheckArguments {
    /// Checks and prints; gives the exit code.
    pub fn run(
        &self,
        loaded: &Loaded,
        environment: &Environment,
        streams: &mut Streams<'_>,
    ) -> CommandResult {
        let lines = self.cluster.ask(loaded, environment, async |connection| {
            let Connection { client, address, warnings, .. } = connection;
            let lines = warnings.into_iter().map(|warning| (Finding::Note, warning)).collect();
            let list = Checklist { client, options: &loaded.options, user: self.user.as_deref(), lines };
            list.filled(&address).await
        })?;
        streams.write(|out| {
            lines.iter().try_for_each(|(finding, text)| {
                let word = match finding {
                    Finding::Ok => "ok",
                    Finding::Note => "note",
                    Finding::Fail => "FAIL",
                };
                writeln!(out, "{word:<5} {}", hide_keys(text))
            })
        })?;
        let fails = lines.iter().any(|(finding, _)| *finding == Finding::Fail);
        Ok(if fails { PROBLEMS } else { SUCCESS })
    }
}

impl Checklist<'_> {
    fn ok(&mut self, text: impl Into<String>) {
        self.lines.push((Finding::Ok, text.into()));
    }

    fn note(&mut self, text: impl Into<String>) {
        self.lines.push((Finding::Note, text.into()));
    }

    fn fail(&mut self, text: impl Into<String>) {
        self.lines.push((Finding::Fail, text.into()));
    }

    /// Checks everything. If the API server does not answer, there is nothing more to check.
    async fn filled(mut self, address: &str) -> Vec<(Finding, String)> {
        match self.client.apiserver_version().await {
            Err(error) => {
                let error = with_causes(&error);
                self.fail(format!(
                    "API server: {address} does not answer ({error}); check address, token and network"
                ));
                return self.lines;
            }
            Ok(version) => self.version(address, &version),
        }
        let parameters_served = self.definition().await;
        let classes = self.classes(parameters_served).await;
        self.rights(classes.as_ref()).await;
        self.published_services(classes.as_ref()).await;
        self.lease().await;
        self.statuses(classes.as_ref()).await;
        self.lines
    }

    fn version(&mut self, address: &str, version: &Info) {
        let name = &version.git_version;
        // Some providers write 31+.
        let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
        match digits.parse::<u32>() {
            Ok(minor) if version.major == "1" && minor < OLDEST => self.fail(format!(
                "API server: {address} is {name}, which does not serve discovery.k8s.io/v1; upgrade to 1.{OLDEST} or newer"
            )),
            Ok(minor) if version.major == "1" && minor < OLDEST_WITH_CRD => self.note(format!(
                "API server: {address} is {name}, which does not accept the CRD; upgrade to \
                 1.{OLDEST_WITH_CRD} or newer \
                 for classes with parameters"
            )),
            _ => self.ok(format!("API server: {address} is {name}")),
        }
    }

    /// Whether IngressClassParameters are served. Reports nothing if they are not read.
    async fn definition(&mut self) -> bool {
        if self.options.class.lookup_disabled {
            return false;
        }
        match self.client.list_api_group_resources(&format!("{GROUP}/{VERSION}")).await {
            Ok(served) if served.resources.iter().any(|resource| resource.kind == KIND) => {
                self.ok(format!("CRD: {KIND} are served"));
                return true;
            }
            Err(error) if !is_absent(&error) => self.fail(format!("CRD: {}", with_causes(&error))),
            _ => self.note(format!(
                "CRD: {KIND} are not served, so classes can't have parameters; kubectl apply -k crds"
            )),
        }
        false
    }

    /// Our classes; `None` if classes are not read or can't be read.
    async fn classes(&mut self, parameters_served: bool) -> Option<OwnClasses> {
        if self.options.class.lookup_disabled {
            self.note(
                "classes: the options turn IngressClasses off, so Ingresses with spec.ingressClassName are ignored",
            );
            return None;
        }
        let controller = self.options.class.controller_name.clone();
        let all = match Api::<IngressClass>::all(self.client.clone()).list(&ListParams::default()).await {
            Ok(all) => all.items,
            Err(error) => {
                self.fail(format!("classes: they can't be listed: {}", with_causes(&error)));
                return None;
            }
        };
        let named = self.options.class.ingress_class.clone();
        let (ours, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|class| is_ours(class, &controller));
        let ours: Vec<_> =
            ours.into_iter().filter(|class| named.is_empty() || class.name_any() == named).collect();
        let names: Vec<String> = ours.iter().map(ResourceExt::name_any).collect();
        let other = others.iter().find(|class| class.name_any() == named);
        if let Some(other) = other {
            let theirs = other.spec.as_ref().and_then(|spec| spec.controller.as_deref()).unwrap_or_default();
            self.fail(format!(
                "classes: IngressClass {named} belongs to the controller {theirs:?}; name a class of \
                 {controller} in the option ingressClass, or create one with another name"
            ));
        } else if !names.is_empty() {
            self.ok(format!("classes: {} with the controller {controller}", names.join(", ")));
        } else if named.is_empty() {
            self.note(format!(
                "classes: no IngressClass has the controller {controller}, so Ingresses with spec.ingressClassName are \
                 ignored; kubectl apply -f manifests/components/ingress-class/ingressclass.yaml"
            ));
        } else {
            self.fail(format!(
                "classes: there is no IngressClass {named}, which the option ingressClass names; create it with the \
                 controller {controller}"
            ));
        }
        Some(self.with_parameters(ours, parameters_served).await)
    }

    async fn with_parameters(&mut self, classes: Vec<IngressClass>, served: bool) -> OwnClasses {
        let has_some =
            |class: &IngressClass| class.spec.as_ref().is_some_and(|spec| spec.parameters.is_some());
        let mut parameters = BTreeMap::new();
        if served && classes.iter().any(has_some) {
            match Api::<IngressClassParameters>::all(self.client.clone()).list(&ListParams::default()).await {
                Ok(list) => parameters.extend(list.into_iter().map(|one| (one.name_any(), one))),
                Err(error) => self.fail(format!("parameters: they can't be listed: {}", with_causes(&error))),
            }
        }
        let mut own = OwnClasses::new();
        for class in classes.iter() {
            let name = class.name_any();
            let named = parameters_name(class);
            let found = named.and_then(|named| parameters.get(named)).cloned();
            match (&found, named) {
                (Some(found), _) => self.accepted(&name, found),
                (None, Some(named)) => self.fail(format!(
                    "class {name}: {KIND} {named} does not exist; create it, or remove spec.parameters from the class"
                )),
                (None, None) if has_some(class) => self.fail(format!(
                    "class {name}: spec.parameters does not name {KIND} of {GROUP}; correct it, or remove it"
                )),
                (None, None) => {}
            }
            own.insert(name, found);
        }
        own
    }

    fn accepted(&mut self, class: &str, parameters: &IngressClassParameters) {
        let name = parameters.name_any();
        let conditions = parameters.status.iter().flat_map(|status| &status.conditions);
        match conditions.into_iter().find(|condition| condition.type_ == "Accepted") {
            Some(condition) if condition.status == "True" => {
                self.ok(format!("class {class}: its parameters {name} are accepted"));
            }
            Some(condition) => self.fail(format!(
                "class {class}: its parameters {name} are not accepted ({}): {}",
                condition.reason, condition.message
            )),
            None => self.note(format!("class {class}: no leader has checked its parameters {name} yet")),
        }
    }

    /// The Services whose addresses go into statuses.
    async fn published_services(&mut self, classes: Option<&OwnClasses>) {
        let mut services = BTreeSet::new();
        if let StatusSource::PublishedService(service) = &self.options.settings.status {
            services.insert(service.clone());
        }
        let endpoints = classes.into_iter().flat_map(OwnClasses::values).flatten();
        let endpoints = endpoints.filter_map(|parameters| parameters.spec.ingress_endpoint.as_ref());
        for named in endpoints.filter_map(|endpoint| endpoint.published_service.as_deref()) {
            if let Some((namespace, name)) = named.split_once('/') {
                services.insert(ServiceKey::new(namespace, name));
            }
        }
        for service in services {
            self.published_service(&service).await;
        }
    }

    async fn published_service(&mut self, key: &ServiceKey) {
        // The operator may list Services, but not get one.
        let list = ListParams::default().fields(&format!("metadata.name={}", key.name()));
        let found = Api::<Service>::namespaced(self.client.clone(), key.namespace()).list(&list).await;
        let service = match found.map(|list| list.items.into_iter().next()) {
            Err(error) => return self.fail(format!("published Service {key}: {}", with_causes(&error))),
            Ok(None) => {
                return self.fail(format!(
                    "published Service {key}: it does not exist, so Ingresses get no address; create it, or change \
                     ingressEndpoint.publishedService"
                ));
            }
            Ok(Some(service)) => service,
        };
        let spec = service.spec.unwrap_or_default();
        let balancer = service.status.and_then(|status| status.load_balancer).and_then(|one| one.ingress);
        match spec.type_.as_deref() {
            Some("LoadBalancer") if balancer.unwrap_or_default().is_empty() => self.note(format!(
                "published Service {key}: its load balancer has no address yet, so Ingresses get none"
            )),
            Some("ClusterIP") if spec.external_ips.unwrap_or_default().is_empty() => self.note(format!(
                "published Service {key}: it is of type ClusterIP without externalIPs, so Ingresses get no address; \
                 make it a LoadBalancer, or set ingressEndpoint.ip or hostname"
            )),
            Some("NodePort") if self.options.settings.disable_cluster_scope_resources => self.fail(format!(
                "published Service {key}: it is of type NodePort, and the options turn nodes off; make it a LoadBalancer"
            )),
            _ => self.ok(format!("published Service {key}: it exists")),
        }
    }
}

/// Whether the API server does not know the requested resource.
fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
