//! Checks whether the operator has the rights that its options need.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{Api, PostParams};
use serde::Deserialize;

use super::{Checklist, OwnClasses};
use crate::kubernetes::with_causes;
use crate::offline::watched;
use crate::options::Options;
use crate::parameters::IngressClassParameters;
use crate::watch::Scope;

/// The shipped roles, which contain all needed rights and no others.
const OWN_ROLE: &str = include_str!("../../../manifests/base/role.yaml");
const CLUSTER_ROLE: &str = include_str!("../../../manifests/cluster/clusterrole.yaml");
const OUTPUT_ROLE: &str = include_str!("../../../manifests/examples/two-classes/output/role.yaml");
const NAMESPACES_ROLE: &str =
    include_str!("../../../manifests/components/namespace-selectors/clusterrole.yaml");
const REVIEWS_ROLE: &str = include_str!("../../../manifests/components/metrics-secure/reviews.yaml");

/// The number of concurrent questions.
const AT_ONCE: usize = 16;

/// A role, or a binding, which has no rules.
#[derive(Deserialize)]
struct ShippedRole {
    #[serde(default)]
    rules: Vec<PolicyRule>,
}

/// A right that the options need.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    /// With the subresource, such as `ingresses/status`.
    resource: String,
    /// `None` for all namespaces, and for cluster-scoped resources.
    namespace: Option<String>,
    verb: String,
    /// What does not work without it, if the operator can run without it.
    optional: Option<&'static str>,
    remedy: &'static str,
}

const APPLY: &str = "apply the manifests of this version";

impl Checklist<'_> {
    /// Checks every needed right.
    pub(super) async fn rights(&mut self, classes: Option<&OwnClasses>) {
        let rights = match needed(self.options, classes) {
            Ok(rights) => rights,
            Err(error) => return self.fail(format!("rights: the shipped roles can't be read: {error}")),
        };
        let asked = rights.len();
        let this = &*self;
        let missing = stream::iter(rights)
            .map(async |right| Ok::<_, kube::Error>((!this.may(&right).await?).then_some(right)))
            .buffer_unordered(AT_ONCE)
            .try_filter_map(async |missing| Ok(missing))
            .try_collect::<BTreeSet<Right>>()
            .await;
        let missing = match missing {
            Ok(missing) => missing,
            Err(error) => {
                return self.fail(format!("rights: they can't be checked: {}", with_causes(&error)));
            }
        };
        let who = self.user.unwrap_or("you");
        if missing.is_empty() {
            let who = who.to_owned();
            return self.ok(format!("rights: {who} may do everything that is needed ({asked} rights)"));
        }
        let mut lines: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for Right { resource, namespace, verb, optional, remedy, .. } in missing {
            lines.entry((resource, namespace, optional, remedy)).or_default().push(verb);
        }
        for ((resource, namespace, optional, remedy), verbs) in lines {
            let place = match namespace {
                Some(namespace) => format!(" in namespace {namespace}"),
                None if is_cluster_scoped(&resource) => String::new(),
                None => " in all namespaces".to_owned(),
            };
            let line = format!("rights: {who} may not {} {resource}{place}", verbs.join(", "));
            match optional {
                Some(lost) => self.note(format!("{line}, so {lost}; {remedy}")),
                None => self.fail(format!("{line}; {remedy}")),
            }
        }
    }

    async fn may(&self, right: &Right) -> kube::Result<bool> {
        let (resource, subresource) = right.resource.split_once('/').unwrap_or((&right.resource, ""));
        self.is_allowed(ResourceAttributes {
            group: Some(right.group.clone()),
            resource: Some(resource.to_owned()),
            subresource: Some(subresource.to_owned()),
            namespace: right.namespace.clone(),
            verb: Some(right.verb.clone()),
            ..ResourceAttributes::default()
        })
        .await
    }

    async fn is_allowed(&self, attributes: ResourceAttributes) -> kube::Result<bool> {
        let resource_attributes = Some(attributes);
        let params = PostParams::default();
        let status = if let Some(user) = self.user {
            let (user, groups) = (Some(user.to_owned()), Some(groups(user)));
            let spec = SubjectAccessReviewSpec { resource_attributes, user, groups, ..Default::default() };
            let review = SubjectAccessReview { spec, ..Default::default() };
            Api::all(self.client.clone()).create(&params, &review).await?.status
        } else {
            let spec = SelfSubjectAccessReviewSpec { resource_attributes, ..Default::default() };
            let review = SelfSubjectAccessReview { spec, ..Default::default() };
            Api::all(self.client.clone()).create(&params, &review).await?.status
        };
        Ok(status.is_some_and(|status| status.allowed))
    }

    /// Whether the connection itself may list Leases everywhere.
    pub(super) async fn may_list_all_leases(&self) -> bool {
        let attributes = ResourceAttributes {
            group: Some("coordination.k8s.io".to_owned()),
            resource: Some("leases".to_owned()),
            verb: Some("list".to_owned()),
            ..ResourceAttributes::default()
        };
        let own = Checklist { client: self.client.clone(), user: None, lines: Vec::new(), ..*self };
        own.is_allowed(attributes).await.unwrap_or(false)
    }
}

/// The groups that the API server assigns to a user automatically.
fn groups(user: &str) -> Vec<String> {
    let mut groups = vec!["system:authenticated".to_owned()];
    let account = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    if let Some((namespace, _)) = account {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    groups
}

fn is_cluster_scoped(resource: &str) -> bool {
    let kind = resource.split('/').next().unwrap_or_default();
    matches!(
        kind,
        "ingressclasses"
            | "ingressclassparameters"
            | "namespaces"
            | "nodes"
            | "tokenreviews"
            | "subjectaccessreviews"
    )
}

/// All rights that the options and the classes need, without duplicates.
fn needed(options: &Options, classes: Option<&OwnClasses>) -> Result<BTreeSet<Right>, serde_saphyr::Error> {
    let mut needed = BTreeSet::new();
    let own = [Some(options.namespace.clone())];
    let is_election = |right: &Right| right.resource == "leases" && !matches!(&*right.verb, "list" | "watch");
    let elects = options.leader_election.enabled;
    needed.extend(of_role(OWN_ROLE, &own, APPLY)?.into_iter().filter(|right| elects || !is_election(right)));

    let watched: Vec<Option<String>> = watched(options)
        .scopes()
        .into_iter()
        .map(|scope| match scope {
            Scope::All => None,
            Scope::Namespace(namespace) => Some(namespace.to_string()),
        })
        .collect();
    for mut right in of_role(CLUSTER_ROLE, &watched, APPLY)? {
        let is_used = match right.resource.as_str() {
            "ingressclasses" | "ingressclassparameters" | "ingressclassparameters/status" => {
                !options.class.lookup_disabled
            }
            "nodes" => !options.settings.disable_cluster_scope_resources,
            "ingresses/status" => options.status,
            _ => true,
        };
        if right.resource.starts_with("ingressclassparameters") {
            right.optional = Some("parameters of classes are not read, or their status is not written");
        }
        if is_used {
            needed.insert(right);
        }
    }

    let named: Vec<&IngressClassParameters> =
        classes.into_iter().flat_map(OwnClasses::values).flatten().collect();
    let outputs = named.iter().filter_map(|parameters| parameters.spec.output.as_ref()?.namespace.as_ref());
    let outputs: BTreeSet<_> = outputs.filter(|namespace| **namespace != options.namespace).collect();
    let outputs: Vec<Option<String>> = outputs.into_iter().cloned().map(Some).collect();
    let remedy = "apply a Role there as in manifests/examples/two-classes/output";
    for mut right in of_role(OUTPUT_ROLE, &outputs, remedy)? {
        if right.resource == "leases" {
            right.optional = Some("statuses do not wait for the agents there");
        }
        needed.insert(right);
    }
    let selects = |parameters: &&IngressClassParameters| {
        parameters.spec.namespaces.as_ref().is_some_and(|namespaces| namespaces.selector.is_some())
    };
    if named.iter().any(selects) {
        needed.extend(of_role(NAMESPACES_ROLE, &[], "add manifests/components/namespace-selectors")?);
    }
    if options.metrics_secure {
        needed.extend(of_role(REVIEWS_ROLE, &[], "add manifests/components/metrics-secure")?);
    }
    Ok(needed)
}

/// The rights that a shipped role grants: once for each namespace, and cluster-scoped ones once.
fn of_role(
    manifest: &str,
    namespaces: &[Option<String>],
    remedy: &'static str,
) -> Result<Vec<Right>, serde_saphyr::Error> {
    let roles: Vec<ShippedRole> = serde_saphyr::from_multiple(manifest)?;
    let mut rights = Vec::new();
    for rule in roles.into_iter().flat_map(|role| role.rules) {
        let groups = rule.api_groups.unwrap_or_default();
        for (group, resource) in
            groups.iter().flat_map(|group| rule.resources.iter().flatten().map(move |name| (group, name)))
        {
            let places = if is_cluster_scoped(resource) { &[None] } else { namespaces };
            for (place, verb) in
                places.iter().flat_map(|place| rule.verbs.iter().map(move |verb| (place, verb)))
            {
                rights.push(Right {
                    group: group.clone(),
                    resource: resource.clone(),
                    namespace: place.clone(),
                    verb: verb.clone(),
                    optional: None,
                    remedy,
                });
            }
        }
    }
    Ok(rights)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::options::from_yaml_str;

    fn needed_by(options: &str, classes: &OwnClasses) -> Vec<String> {
        let options = from_yaml_str(options).unwrap().options;
        let rights = needed(&options, Some(classes)).unwrap();
        let text = |right: &Right| {
            let place = right.namespace.as_deref().unwrap_or("*");
            format!("{} {} {place}", right.verb, right.resource)
        };
        rights.iter().map(text).collect()
    }

    #[test]
    fn options_and_classes_decide_what_is_needed() {
        let none = OwnClasses::new();
        let all = needed_by("{}", &none);
        for right in
            ["list ingresses *", "watch nodes *", "patch ingresses/status *", "update leases waybill"]
        {
            assert!(all.iter().any(|one| one == right), "{right}: {all:?}");
        }
        assert!(!all.iter().any(|right| right.contains("namespaces")), "{all:?}");
        assert!(!all.iter().any(|right| right.contains("reviews")), "{all:?}");
        let secure = needed_by("operator: {metricsSecure: true}", &none);
        for right in ["create tokenreviews *", "create subjectaccessreviews *"] {
            assert!(secure.iter().any(|one| one == right), "{right}: {secure:?}");
        }
        let few = needed_by(
            "providers: {kubernetesIngress: {namespaces: [a, b], disableClusterScopeResources: true}}\n\
             operator: {status: false, leaderElection: {enabled: false}}",
            &none,
        );
        let has = |right: &str| few.iter().any(|one| one == right);
        assert!(has("list ingresses a") && has("watch secrets b") && has("list leases waybill"), "{few:?}");
        let unused = ["*", "nodes", "classes", "ingresses/status", "update leases"];
        assert!(!few.iter().any(|right| unused.iter().any(|word| right.contains(word))), "{few:?}");

        let parameters = json!({
            "metadata": {"name": "x"},
            "spec": {"output": {"namespace": "edge"}, "namespaces": {"selector": {}}},
        });
        let mut parameters: serde_json::Value = parameters;
        parameters["apiVersion"] = "waybill.dev/v1alpha1".into();
        parameters["kind"] = "IngressClassParameters".into();
        let classes = [("x".to_owned(), serde_json::from_value(parameters).unwrap())].into();
        let more = needed_by("{}", &classes);
        for right in ["create secrets edge", "watch leases edge", "list namespaces *"] {
            assert!(more.iter().any(|one| one == right), "{right}: {more:?}");
        }
    }
}
