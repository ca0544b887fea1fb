//! The Helm chart's templates, schema and README: what kustomize renders, with values where installations differ.
//! The proxies are the example `traefik`.

mod values;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// Where the chart is in the repository.
pub const FOLDER: &str = "manifests/helm/waybill";

/// Templates that nothing writes.
pub const WRITTEN_BY_HAND: &[&str] =
    &["templates/_helpers.tpl", "templates/NOTES.txt", "templates/options.yaml"];

const MARK: &str = "{{- /* Made by `make manifests` from what kustomize renders. */ -}}\n";
const SECURE: &str = "(.Values.options.operator | default dict).metricsSecure";
const CLUSTER: &str = r#"eq .Values.rbac.scope "cluster""#;

/// What the chart is made from, by kustomize: all that is not in the others; the same with metrics over TLS; the rights in a
/// watched namespace; the proxies.
pub const RENDERED: [&str; 4] = [
    "manifests/helm/everything",
    "manifests/helm/secure",
    "manifests/namespaced/team-a",
    "manifests/examples/traefik",
];

/// Every generated file by its path in the chart.
pub fn files(rendered: &[String]) -> Result<BTreeMap<String, String>> {
    let [everything, secure, namespaced, proxies] = rendered else {
        bail!("name the files with what kustomize renders of {}", RENDERED.join(", "));
    };
    let mut files = BTreeMap::new();
    for document in proxies.split("\n---\n") {
        let object = Object::try_from(document)?;
        // The chart's IngressClass does without parameters: Helm installs no object whose CRD comes with it.
        if !matches!(object.kind, "IngressClass" | "IngressClassParameters") {
            let file = format!("templates/proxies-{}.yaml", object.kind.to_ascii_lowercase());
            let text = object.proxy_template().with_context(|| format!("{} of proxies", object.kind))?;
            files.insert(file, text);
        }
    }
    let plain: Vec<Object> = everything.split("\n---\n").map(Object::try_from).collect::<Result<_>>()?;
    for document in secure.split("\n---\n") {
        let secure = Object::try_from(document)?;
        if secure.is("Namespace", "waybill") || secure.name.starts_with("waybill-options-") {
            continue;
        }
        let plain = plain.iter().find(|object| object.is(secure.kind, secure.name));
        let text = match plain {
            Some(plain) => plain.template(&secure),
            None => Ok(conditional(SECURE, &common(secure.text))),
        };
        let text = text.with_context(|| format!("{} {}", secure.kind, secure.name))?;
        files.insert(secure.file(), text);
    }
    files.insert("templates/watched.yaml".to_owned(), watched(namespaced));
    files.insert("values.schema.json".to_owned(), format!("{:#}\n", values::schema()));
    files.insert("README.md".to_owned(), readme()?);
    Ok(files)
}

struct Object<'a> {
    kind: &'a str,
    name: &'a str,
    text: &'a str,
}

impl<'a> TryFrom<&'a str> for Object<'a> {
    type Error = anyhow::Error;

    fn try_from(text: &'a str) -> Result<Self> {
        let after = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
        Ok(Self {
            kind: after("kind: ").context("a document without a kind")?,
            name: after("  name: ").context("a document without a name")?,
            text: text.trim_end(),
        })
    }
}

impl Object<'_> {
    fn is(&self, kind: &str, name: &str) -> bool {
        (self.kind, self.name) == (kind, name)
    }

    fn file(&self) -> String {
        let kind = self.kind.to_ascii_lowercase();
        match self.name.strip_prefix("waybill-") {
            Some(rest) => format!("templates/{kind}-{rest}.yaml"),
            None => format!("templates/{kind}.yaml"),
        }
    }

    /// When the chart renders it; nothing if always.
    fn condition(&self) -> Option<String> {
        let and = |value: &str| Some(format!("and ({CLUSTER}) .Values.{value}"));
        match (self.kind, self.name) {
            ("CustomResourceDefinition", _) => and("crds.install"),
            ("IngressClass", _) => and("ingressClass.enabled"),
            ("ClusterRole", "waybill-view" | "waybill-edit") => and("rbac.aggregate"),
            (_, "waybill-namespaces") => and("rbac.namespaceSelectors"),
            ("ClusterRole" | "ClusterRoleBinding", _) => Some(CLUSTER.to_owned()),
            ("PodDisruptionBudget", _) => Some("gt (int .Values.replicas) 1".to_owned()),
            ("PodMonitor", _) => Some(".Values.podMonitor.enabled".to_owned()),
            ("ServiceMonitor", _) => Some(".Values.serviceMonitor.enabled".to_owned()),
            ("PrometheusRule", _) => Some(".Values.alerts.enabled".to_owned()),
            ("ValidatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding", _) => and("admission.enabled"),
            ("NetworkPolicy", _) => Some(".Values.networkPolicy.enabled".to_owned()),
            (_, "waybill-dashboard") => Some(".Values.dashboard.enabled".to_owned()),
            _ => None,
        }
    }

    /// `secure` is the same object with metrics over TLS.
    fn template(&self, secure: &Self) -> Result<String> {
        let text = common(self.text);
        let differ = match (self.kind, self.name) {
            ("Deployment", "waybill") => Some(("        ports:\n", "        readinessProbe:\n")),
            ("Service", "waybill-metrics") => Some(("  ports:\n", "  selector:\n")),
            ("PodMonitor", "waybill") => Some(("  podMetricsEndpoints:\n", "  selector:\n")),
            ("ServiceMonitor", "waybill") => Some(("  endpoints:\n", "  selector:\n")),
            _ => None,
        };
        let text = match differ {
            Some((start, end)) => either(&text, &common(secure.text), start, end)?,
            None => text,
        };
        let text = match self.kind {
            "CustomResourceDefinition" => once(
                &text,
                "\nmetadata:\n",
                "\nmetadata:\n  annotations:\n    # `helm uninstall` would delete the settings of all classes with it.\n    \
                 helm.sh/resource-policy: keep\n",
            )?,
            "Deployment" => deployment(&text)?,
            "PodDisruptionBudget" => {
                once(&text, "minAvailable: 1", "minAvailable: {{ max 1 (sub (int .Values.replicas) 1) }}")?
            }
            "IngressClass" => {
                let text = once(&text, "  name: traefik\n", "  name: {{ .Values.ingressClass.name }}\n")?;
                once(
                    &text,
                    "\nmetadata:\n",
                    "\nmetadata:\n  {{- if .Values.ingressClass.default }}\n  annotations:\n    \
                     ingressclass.kubernetes.io/is-default-class: \"true\"\n  {{- end }}\n",
                )?
            }
            "PodMonitor" => monitor(&text, "podMonitor")?,
            "ServiceMonitor" => monitor(&text, "serviceMonitor")?,
            "PrometheusRule" => labelled(&text, "alerts")?
                .replace("docs/runbooks/", "{{ $.Values.alerts.runbookBase }}docs/runbooks/"),
            "NetworkPolicy" => once(
                &text,
                "    - port: 443\n      protocol: TCP\n    - port: 6443\n      protocol: TCP",
                &format!(
                    "    {{{{- range .Values.networkPolicy.apiServerPorts }}}}\n    - port: {{{{ . }}}}\n      protocol: \
                     TCP\n    {{{{- end }}}}\n{}",
                    optional(2, "networkPolicy.extraEgress").trim_end()
                ),
            )?,
            "ValidatingAdmissionPolicy" if self.name.starts_with("waybill-ingresses-") => {
                let text = once(&text, "'[''traefik'']'", "{{ include \"waybill.admission.classes\" . }}")?;
                let annotations = "{{ include \"waybill.cel\" .Values.admission.classAnnotations }}";
                once(&text, "'['''', ''traefik'']'", annotations)?
            }
            "ValidatingAdmissionPolicyBinding" if self.name.ends_with("-deny") => {
                once(&text, "  - Deny", "  - {{ ternary \"Deny\" \"Warn\" .Values.admission.deny }}")?
            }
            _ => text,
        };
        Ok(match self.condition() {
            Some(condition) => conditional(&condition, &text),
            None => format!("{MARK}{text}\n"),
        })
    }

    fn proxy_template(&self) -> Result<String> {
        let mut condition = ".Values.proxies.enabled";
        let text = common(self.text);
        let text = match self.kind {
            "Deployment" => proxy_deployment(&text)?,
            "Service" => {
                let text = once(
                    &text,
                    "\nmetadata:\n",
                    "\nmetadata:\n  {{- with .Values.proxies.service.annotations }}\n  annotations:\n    \
                     {{- toYaml . | nindent 4 }}\n  {{- end }}\n",
                )?;
                let text = once(
                    &text,
                    "  externalTrafficPolicy: Local\n",
                    "  {{- if ne .Values.proxies.service.type \"ClusterIP\" }}\n  externalTrafficPolicy: Local\n  \
                     {{- end }}\n",
                )?;
                once(&text, "type: LoadBalancer", "type: {{ .Values.proxies.service.type }}")?
            }
            "PodDisruptionBudget" => {
                condition = "and .Values.proxies.enabled (gt (int .Values.proxies.replicas) 1)";
                once(&text, "minAvailable: 1", "minAvailable: {{ sub (int .Values.proxies.replicas) 1 }}")?
            }
            _ => text,
        };
        Ok(conditional(condition, &text))
    }
}

/// `plain`, with the lines between two others as `secure` has them where metrics are served over TLS.
fn either(plain: &str, secure: &str, start: &str, end: &str) -> Result<String> {
    let section = |text: &str| -> Result<(usize, usize)> {
        let from = text.find(start).with_context(|| format!("no {start:?}"))? + start.len();
        Ok((from, from + text[from..].find(end).with_context(|| format!("no {end:?}"))?))
    };
    let ((from, to), (secure_from, secure_to)) = (section(plain)?, section(secure)?);
    Ok(format!(
        "{}{{{{- if {SECURE} }}}}\n{}{{{{- else }}}}\n{}{{{{- end }}}}\n{}",
        &plain[..from],
        &secure[secure_from..secure_to],
        &plain[from..to],
        &plain[to..]
    ))
}

fn conditional(condition: &str, text: &str) -> String {
    format!("{MARK}{{{{- if {condition} }}}}\n{text}\n{{{{- end }}}}\n")
}

/// What holds for every object: braces are text, and names and namespaces are those of the release.
fn common(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let line = line.replace("{{", "{{ \"{{\" }}");
        let name = line
            .strip_prefix("  name: waybill")
            .or_else(|| line.strip_prefix("  policyName: waybill"))
            .or_else(|| line.strip_prefix("      serviceAccountName: waybill"));
        lines.push(match name {
            // Whatever names the account that reads metrics, or the Secret with its token.
            _ if line.ends_with(": waybill-metrics-reader") => {
                line.replace(": waybill-", ": {{ include \"waybill.name\" $ }}-")
            }
            _ if line == "  namespace: waybill" => "  namespace: {{ $.Release.Namespace }}".to_owned(),
            Some(rest) if rest.is_empty() || rest.starts_with('-') => {
                let (key, _) = line.split_once(": ").unwrap_or((&line, ""));
                format!("{key}: {{{{ include \"waybill.name\" $ }}}}{rest}")
            }
            _ => line,
        });
    }
    lines.join("\n")
}

fn deployment(text: &str) -> Result<String> {
    let start = text.find("\n        resources:\n").context("no resources")?;
    let end = start + text[start..].find("\n        securityContext:").context("no securityContext")?;
    let text = format!(
        "{{{{- include \"waybill.check\" . }}}}\n{}\n        resources:\n          {{{{- toYaml .Values.resources | \
         nindent 10 }}}}{}",
        &text[..start],
        &text[end..]
    );
    let text = once(&text, "  replicas: 2\n", "  replicas: {{ .Values.replicas }}\n")?;
    let text = own_image(&text)?;
    let volume = text.find("          name: waybill-options-").context("no volume of options")?;
    let line_end = volume + text[volume..].find('\n').context("nothing after it")?;
    let text = format!(
        "{}          name: {{{{ include \"waybill.name\" . }}}}-options{}",
        &text[..volume],
        &text[line_end..]
    );
    let text = once(
        &text,
        "  template:\n    metadata:\n      labels:\n",
        &format!(
            "  template:\n    metadata:\n      annotations:\n        # Changed options roll the pods.\n        \
             checksum/options: {{{{ include \"waybill.options\" . | sha256sum }}}}\n{}      labels:\n{}",
            optional(8, "podAnnotations"),
            optional(8, "podLabels")
        ),
    )?;
    let last = "        - mountPath: /etc/waybill\n          name: options\n          readOnly: true\n";
    let text = once(&text, last, &format!("{last}{}", optional(8, "extraVolumeMounts")))?;
    let last = "\n        name: options";
    let text = once(&text, last, &format!("{last}\n{}", optional(6, "extraVolumes").trim_end()))?;
    placed(&text, "")
}

fn proxy_deployment(text: &str) -> Result<String> {
    let text = once(text, "  replicas: 2\n", "  replicas: {{ .Values.proxies.replicas }}\n")?;
    let text = own_image(&text)?;
    let image = "        image: {{ .Values.proxies.image.repository }}:{{ .Values.proxies.image.tag }}\n";
    let text = once(&text, "        image: traefik:v3.7.13\n", image)?;
    let output = "          value: {{ include \"waybill.output\" . }}\n";
    let text = once(&text, "          value: waybill/waybill\n", output)?;
    let last = "        - --providers.providersThrottleDuration=100ms\n";
    let text = once(&text, last, &format!("{last}{}", optional(8, "proxies.args")))?;
    let text = once(
        &text,
        "        resources:\n          requests:\n            cpu: 100m\n            memory: 128Mi\n",
        "        resources:\n          {{- toYaml .Values.proxies.resources | nindent 10 }}\n",
    )?;
    let text = once(
        &text,
        "        resources:\n          limits:\n            memory: 256Mi\n          requests:\n            cpu: 20m\n            \
         memory: 48Mi\n",
        "        resources:\n          {{- toYaml .Values.proxies.agent.resources | nindent 10 }}\n",
    )?;
    let size = "sizeLimit: {{ .Values.proxies.agent.volumeSizeLimit }}";
    let text = once(&text, "sizeLimit: 256Mi", size)?;
    placed(&text, "proxies.")
}

fn own_image(text: &str) -> Result<String> {
    once(
        text,
        "        image: waybill:0.1.0\n",
        "        image: {{ include \"waybill.image\" . }}\n        {{- with .Values.image.pullPolicy }}\n        \
         imagePullPolicy: {{ . }}\n        {{- end }}\n",
    )
}

/// Where the pods of a Deployment run, by the values below `prefix`.
fn placed(text: &str, prefix: &str) -> Result<String> {
    let mut placement = "      enableServiceLinks: false\n".to_owned();
    for (key, value) in [
        ("imagePullSecrets", "image.pullSecrets".to_owned()),
        ("nodeSelector", format!("{prefix}nodeSelector")),
        ("tolerations", format!("{prefix}tolerations")),
        ("affinity", format!("{prefix}affinity")),
        ("priorityClassName", format!("{prefix}priorityClassName")),
    ] {
        let _ = write!(
            placement,
            "      {{{{- with .Values.{value} }}}}\n      {key}:\n        {{{{- toYaml . | nindent 8 }}}}\n      \
             {{{{- end }}}}\n"
        );
    }
    once(text, "      enableServiceLinks: false\n", &placement)
}

/// What a value has, at this indentation; nothing where it is empty.
fn optional(spaces: usize, value: &str) -> String {
    let indent = " ".repeat(spaces);
    format!(
        "{indent}{{{{- with .Values.{value} }}}}\n{indent}{{{{- toYaml . | nindent {spaces} \
         }}}}\n{indent}{{{{- end }}}}\n"
    )
}

/// With labels of the user's, by which a Prometheus may select.
fn labelled(text: &str, value: &str) -> Result<String> {
    once(
        text,
        "  labels:\n    app.kubernetes.io/name: waybill\n",
        &format!(
            "  labels:\n    app.kubernetes.io/name: waybill\n{}",
            optional(4, &format!("{value}.labels"))
        ),
    )
}

/// With labels of the user's, and how Prometheus knows the certificate. A Prometheus knows none that is made at every start.
fn monitor(text: &str, value: &str) -> Result<String> {
    let text = labelled(text, value)?;
    let any = "    tlsConfig:\n      insecureSkipVerify: true\n";
    if !text.contains(any) {
        return Ok(text);
    }
    once(
        &text,
        any,
        &format!(
            "    tlsConfig:\n      {{{{- with .Values.{value}.tlsConfig }}}}\n      {{{{- toYaml . | nindent 6 }}}}\n      \
             {{{{- else }}}}\n      insecureSkipVerify: true\n      {{{{- end }}}}\n"
        ),
    )
}

/// The rights in each watched namespace.
fn watched(namespaced: &str) -> String {
    let text = common(namespaced.trim_end()).replace("  namespace: team-a", "  namespace: {{ . }}");
    format!(
        "{MARK}{{{{- if eq .Values.rbac.scope \"namespaces\" }}}}\n{{{{- range include \"waybill.namespaces\" . | \
         fromJsonArray }}}}\n---\n{text}\n{{{{- end }}}}\n{{{{- end }}}}\n"
    )
}

fn once(text: &str, from: &str, to: &str) -> Result<String> {
    ensure!(text.matches(from).count() == 1, "{from:?} is not there exactly once");
    Ok(text.replacen(from, to, 1))
}

fn readme() -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let values = std::fs::read_to_string(root.join(FOLDER).join("values.yaml"))?;
    let text = std::fs::read_to_string(root.join("manifests/helm/README.template.md"))?;
    let mut table = "| value | default | |\n| --- | --- | --- |\n".to_owned();
    let mut sections: Vec<&str> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in values.lines() {
        let content = line.trim_start();
        let depth = (line.len() - content.len()) / 2;
        if let Some(words) = content.strip_prefix("# ") {
            comment.push(words);
            continue;
        }
        let Some((key, value)) = content.split_once(':').filter(|_| !comment.is_empty()) else {
            comment.clear();
            if let Some(section) = content.strip_suffix(':').filter(|_| depth <= sections.len()) {
                sections.truncate(depth);
                sections.push(section);
            }
            continue;
        };
        sections.truncate(depth);
        let path: Vec<&str> = sections.iter().copied().chain([key]).collect();
        let default = match value.trim() {
            "" => "see values.yaml".to_owned(),
            value => format!("`{value}`"),
        };
        let _ = writeln!(table, "| `{}` | {default} | {} |", path.join("."), comment.join(" "));
        comment.clear();
    }
    once(&text, "<!-- values -->\n", &table)
}
