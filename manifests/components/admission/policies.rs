//! Prints ValidatingAdmissionPolicies that say at `kubectl apply` what waybill would report later. They are made from its
//! table of annotations, with its words.
//!
//! The expressions read annotations as `waybill::translate` does: the prefix as it is, the rest in any case, of several
//! spellings the last. What CEL can't tell is let through.

use serde_json::{Value, json};
use waybill::translate::annotation::{
    self, MAY_BE_OPEN, NO_EFFECT, NO_SUCH, RESTRICTING, SEPARATED, ValueForm, WITHOUT_EFFECT,
};
use waybill::translate::problem::Category;

#[allow(dead_code, reason = "a test uses the rest")]
fn main() {
    print!("{}", policies());
}

const PREFIX: &str = "traefik.ingress.kubernetes.io/";
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Characters of a value that are shown.
const SHOWN: usize = 64;

const IS_BOOLEAN: &str = "['1', 't', 'T', 'TRUE', 'true', 'True', '0', 'f', 'F', 'FALSE', 'false', 'False']";
/// In expressions about values, `$v` is the value.
const EMPTY_ITEM: &str = r"$v != '' && $v.matches(r'(^|,)\s*(,|$)')";
const EMPTY_ITEMS: &str = r"$v.matches(r'^[\s,]+$')";
/// Texts of 19 digits are compared as texts.
const NOT_INTEGER: &str = r"(!$v.matches(r'^[+-]?0*[0-9]{1,19}$') || $v.matches(r'^[+-]?0*[0-9]{19}$') && $v.substring($v.size() - 19) > ($v.startsWith('-') ? '9223372036854775808' : '9223372036854775807'))";
/// An Ingress has paths whose matcher the annotation chooses.
const CHOOSES_MATCHER: &str = "has(object.spec.rules) && object.spec.rules.exists(r, has(r.http) && \
    r.http.paths.exists(p, p.pathType == 'ImplementationSpecific' && has(p.path) && p.path != ''))";

/// One kind of object.
struct Annotated {
    /// In the plural, as in a URL.
    resource: &'static str,
    group: &'static str,
    /// What its annotations begin with behind the prefix.
    root: &'static str,
    /// What is known below the keys of the table, as a pattern.
    more: &'static str,
    /// Which keys `k` of others are not read although it looks so.
    ignored: &'static str,
}

const INGRESSES: Annotated = Annotated {
    resource: "ingresses",
    group: "networking.k8s.io",
    root: "router",
    more: r"router\.(entrypoints|middlewares)\.[^.]+|router\.tls\.domains\.[^.]+(\.(main|sans(\.[^.]+)?))?|router\.observability\.metadata\.ingress(\.(namespace|ingressname|servicename|serviceport))?",
    ignored: r"k.lowerAscii().contains('ingress.kubernetes.io/') || k.lowerAscii().contains('traefik') || k.lowerAscii().matches(r'^(routers?|services?)\.[^/]*$')",
};

/// A Service has no class: only what is Traefik's is looked at.
const SERVICES: Annotated = Annotated {
    resource: "services",
    group: "",
    root: "service",
    more: r"service\.middlewares\.[^.]+",
    ignored: "false",
};

/// What is wrong with some annotations.
struct Rule {
    /// The variable that lists their keys.
    name: &'static str,
    category: Category,
    remedy: &'static str,
    /// The list, as an expression.
    keys: String,
}

/// All policies with their bindings, as YAML.
pub fn policies() -> String {
    let mut text = "# Made by `make manifests` from manifests/components/admission/policies.rs.\n".to_owned();
    for kind in [INGRESSES, SERVICES] {
        for (action, rules) in [("Deny", kind.refused()), ("Warn", kind.warned())] {
            for object in kind.policy(action, &rules) {
                let yaml = serde_saphyr::to_string(&object).unwrap_or_else(|error| format!("{error}"));
                text.push_str("---\n");
                text.push_str(&yaml);
            }
        }
    }
    text
}

impl Annotated {
    fn table(&self) -> impl Iterator<Item = (&'static str, ValueForm)> + '_ {
        annotation::known().filter(|(key, _)| key.split('.').next() == Some(self.root))
    }

    /// A rule about values of a form, where there are annotations of that form: `bad` says which are wrong, and `among` is
    /// the variable with the keys that are looked at.
    fn about(
        &self,
        name: &'static str,
        category: Category,
        form: ValueForm,
        among: &str,
        bad: &str,
    ) -> Option<Rule> {
        let keys: Vec<String> =
            self.table().filter(|(_, own)| *own == form).map(|(key, _)| pattern(key)).collect();
        let keys = format!(
            "variables.{among}.filter(k, k.lowerAscii().matches(r'^{PREFIX}({})$') && {})",
            keys.join("|"),
            bad.replace("$v", "object.metadata.annotations[k]")
        );
        self.table().any(|(_, own)| own == form).then_some(Rule {
            name,
            category,
            remedy: form.remedy(),
            keys,
        })
    }

    /// Whether a key `k` is below the root. Traefik takes a number behind the root for an index, and reads nothing there.
    fn is_read(&self) -> String {
        format!(
            "(k.startsWith('{PREFIX}') && k.lowerAscii().startsWith('{PREFIX}{}.') && \
             !k.matches(r'^[^/]*/[a-zA-Z]+\\.[0-9]+\\.'))",
            self.root
        )
    }

    fn refused(&self) -> Vec<Rule> {
        use Category::{EmptyListItem, InvalidAnnotation, InvalidPathMatcher};
        let not_boolean = format!("!($v in {IS_BOOLEAN})");
        let not_scheme = "!($v.lowerAscii() in ['', 'http', 'https', 'h2c'])";
        let separated = |name, form| {
            let rule = self.about(name, InvalidAnnotation, form, "read", "$v.contains('║')");
            rule.map(|rule| Rule { remedy: SEPARATED, ..rule })
        };
        let not_matcher = format!("!($v in ['', 'Path', 'PathPrefix', 'PathRegexp']) && {CHOOSES_MATCHER}");
        [
            self.about("notBoolean", InvalidAnnotation, ValueForm::Boolean, "read", &not_boolean),
            self.about("notInteger", InvalidAnnotation, ValueForm::Integer, "read", NOT_INTEGER),
            self.about("notScheme", InvalidAnnotation, ValueForm::Scheme, "read", not_scheme),
            separated("splitMiddlewares", ValueForm::Middlewares),
            separated("splitEntryPoints", ValueForm::EntryPoints),
            separated("splitList", ValueForm::List),
            self.about("noMiddleware", EmptyListItem, ValueForm::Middlewares, "read", EMPTY_ITEM),
            self.about("noEntryPoint", EmptyListItem, ValueForm::EntryPoints, "read", EMPTY_ITEMS),
            self.about("notMatcher", InvalidPathMatcher, ValueForm::PathMatcher, "read", &not_matcher),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn warned(&self) -> Vec<Rule> {
        use Category::{EmptyListItem, IgnoredAnnotation, UnclearSwitch, UnknownAnnotation};
        let unclear = "!($v.lowerAscii() in ['', 'true', 'false', '0', 'f', 'no', 'off'])";
        let some_empty = format!("{EMPTY_ITEM} && !{EMPTY_ITEMS}");
        let some_entry_point =
            self.about("emptyEntryPoint", EmptyListItem, ValueForm::EntryPoints, "read", &some_empty);
        let names = self.table().map(|(key, _)| key).chain(WITHOUT_EFFECT.iter().copied());
        let names = names.filter(|key| key.strip_prefix(self.root).is_some_and(|rest| rest.starts_with('.')));
        let names: Vec<String> = names.map(pattern).chain([self.more.to_owned()]).collect();
        let unknown = format!(
            "variables.written.filter(k, !k.lowerAscii().matches(r'^{PREFIX}({})$'))",
            names.join("|")
        );
        let ignored = format!(
            "!variables.ours ? [] : object.metadata.annotations.filter(k, k.startsWith('{PREFIX}') ? \
             !{} && k.lowerAscii() != '{PREFIX}{}' : k != '{CLASS_ANNOTATION}' && ({}))",
            self.is_read(),
            self.root,
            self.ignored
        );
        let restricting = format!("k.lowerAscii().matches(r'({})[^/]*$')", RESTRICTING.join("|"));
        let rule = |name, category, remedy, keys| Some(Rule { name, category, remedy, keys });
        [
            self.about("unclear", UnclearSwitch, ValueForm::Switch, "counting", unclear),
            self.about("emptyItem", EmptyListItem, ValueForm::List, "read", EMPTY_ITEM),
            some_entry_point.map(|rule| Rule { remedy: ValueForm::List.remedy(), ..rule }),
            rule("unknown", UnknownAnnotation, NO_SUCH, unknown),
            rule("open", IgnoredAnnotation, MAY_BE_OPEN, format!("({ignored}).filter(k, {restricting})")),
            rule("ignored", IgnoredAnnotation, NO_EFFECT, format!("({ignored}).filter(k, !{restricting})")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What the rules build on.
    fn variables(&self) -> Vec<Value> {
        let variable = |name: &str, expression: String| json!({"name": name, "expression": expression});
        let switches = self.table().filter(|(_, form)| *form == ValueForm::Switch);
        let switches: Vec<String> = switches.map(|(key, _)| format!("'{PREFIX}{key}'")).collect();
        let mut variables = Vec::new();
        if self.root == "router" {
            variables.push(variable("classes", "['traefik']".to_owned()));
            variables.push(variable("classAnnotations", "['', 'traefik']".to_owned()));
            variables.push(variable(
                "ours",
                format!(
                    "has(object.spec.ingressClassName) ? object.spec.ingressClassName in variables.classes : \
                     ('{CLASS_ANNOTATION}' in object.metadata.annotations ? \
                     object.metadata.annotations['{CLASS_ANNOTATION}'] : '') in variables.classAnnotations"
                ),
            ));
        } else {
            variables.push(variable("ours", "true".to_owned()));
        }
        variables.push(variable(
            "written",
            format!("!variables.ours ? [] : object.metadata.annotations.filter(k, {})", self.is_read()),
        ));
        variables.push(variable(
            "counting",
            "variables.written.filter(k, !variables.written.exists(o, o > k && o.lowerAscii() == k.lowerAscii()))"
                .to_owned(),
        ));
        variables.push(variable(
            "off",
            format!(
                "[{}].filter(s, variables.counting.exists(k, k.lowerAscii() == s && \
                 !(object.metadata.annotations[k].lowerAscii() in ['', 'true'])))",
                switches.join(", ")
            ),
        ));
        variables.push(variable(
            "read",
            "variables.counting.filter(k, !variables.off.exists(s, k.lowerAscii().startsWith(s + '.')))"
                .to_owned(),
        ));
        variables
    }

    /// A policy and its binding.
    fn policy(&self, action: &str, rules: &[Rule]) -> [Value; 2] {
        let name = format!("waybill-{}-{}", self.resource, action.to_lowercase());
        let mut variables = self.variables();
        variables.extend(rules.iter().map(|rule| json!({"name": rule.name, "expression": rule.keys})));
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "waybill"}},
            "spec": {
                // What goes beyond the API server's cost limit is let through, and reported by waybill.
                "failurePolicy": "Ignore",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [self.group], "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"], "resources": [self.resource],
                }]},
                "matchConditions": [
                    {"name": "annotated", "expression": "has(object.metadata.annotations)"},
                    // Controllers may go on to edit the rest of an object that was there before the policy.
                    {
                        "name": "changed",
                        "expression": "request.operation == 'CREATE' || !has(oldObject.metadata.annotations) || \
                                       object.metadata.annotations != oldObject.metadata.annotations || \
                                       object.spec != oldObject.spec",
                    },
                ],
                "variables": variables,
                "validations": rules.iter().map(Rule::validation).collect::<Vec<_>>(),
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "waybill"}},
            "spec": {"policyName": name, "validationActions": [action]},
        });
        [policy, binding]
    }
}

/// A key of the table as a pattern; 0 stands for any label.
fn pattern(key: &str) -> String {
    key.replace('.', r"\.").replace(r"\.0\.", r"\.[^.]+\.")
}

impl Rule {
    fn validation(&self) -> Value {
        let Self { name, category, remedy, .. } = self;
        let key = format!("variables.{name}[0]");
        let value = format!("object.metadata.annotations[{key}]");
        let shown = format!("({value}.size() > {SHOWN} ? {value}.substring(0, {SHOWN}) + '…' : {value})");
        let remedy_quoted = remedy.replace('\'', "\\'");
        json!({
            "expression": format!("variables.{name}.size() == 0"),
            // A value with a line break can't be shown.
            "message": format!("{category}: metadata.annotations: {remedy}"),
            "messageExpression": format!(
                "'{category}: metadata.annotations[' + {key} + ']: \"' + {shown} + '\": {remedy_quoted}'"
            ),
        })
    }
}
