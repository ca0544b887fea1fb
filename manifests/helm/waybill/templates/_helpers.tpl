{{- define "waybill.name" -}}
{{- if contains "waybill" .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ .Release.Name | trunc 32 | trimSuffix "-" }}-waybill
{{- end -}}
{{- end -}}

{{- define "waybill.image" -}}
{{ .Values.image.repository }}
{{- with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "waybill.ingress" -}}
{{- $providers := .Values.options.providers | default dict -}}
{{- $providers.kubernetesIngress | default dict | toJson -}}
{{- end -}}

{{- define "waybill.namespaces" -}}
{{- $namespaces := (include "waybill.ingress" . | fromJson).namespaces | default list -}}
{{- if kindIs "string" $namespaces -}}
{{- $namespaces = splitList "," $namespaces -}}
{{- end -}}
{{- toJson $namespaces -}}
{{- end -}}

{{- /* The options, with the proxies' Service as the source of statuses unless they name another. */ -}}
{{- define "waybill.options" -}}
{{- $options := deepCopy .Values.options -}}
{{- if and .Values.proxies.enabled (not (include "waybill.ingress" . | fromJson).ingressEndpoint) -}}
{{- $endpoint := dict "publishedService" (printf "%s/traefik" .Release.Namespace) -}}
{{- $options = merge $options (dict "providers" (dict "kubernetesIngress" (dict "ingressEndpoint" $endpoint))) -}}
{{- end -}}
{{- toYaml $options -}}
{{- end -}}

{{- define "waybill.output" -}}
{{- $operator := .Values.options.operator | default dict -}}
{{- $output := $operator.output | default dict -}}
{{ $operator.namespace | default .Release.Namespace }}/{{ $output.name | default "waybill" }}
{{- end -}}

{{- /* A list of texts in CEL, for YAML. */ -}}
{{- define "waybill.cel" -}}
{{ printf "['%s']" (join "', '" .) | quote }}
{{- end -}}

{{- define "waybill.admission.classes" -}}
{{ include "waybill.cel" (.Values.admission.classes | default (list .Values.ingressClass.name)) }}
{{- end -}}

{{- define "waybill.check" -}}
{{- $operator := .Values.options.operator | default dict -}}
{{- range $option, $port := dict "metricsAddress" ":8080" "metricsSecureAddress" ":8443" -}}
{{- with index $operator $option -}}
{{- if not (hasSuffix $port (toString .)) -}}
{{- fail (printf "options.operator.%s: the port of the probes and of what scrapes is %s; leave the option out, or write an address that ends in it" $option $port) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.proxies.enabled (ne (dir (include "waybill.output" .)) .Release.Namespace) -}}
{{- fail "proxies.enabled: the proxies read the output of their own namespace; remove options.operator.namespace" -}}
{{- end -}}
{{- if eq .Values.rbac.scope "namespaces" -}}
{{- $ingress := include "waybill.ingress" . | fromJson -}}
{{- if not (include "waybill.namespaces" . | fromJsonArray) -}}
{{- fail "rbac.scope is namespaces: list them in options.providers.kubernetesIngress.namespaces" -}}
{{- end -}}
{{- if not $ingress.disableClusterScopeResources -}}
{{- fail "rbac.scope is namespaces: set options.providers.kubernetesIngress.disableClusterScopeResources to true, since there is no ClusterRole" -}}
{{- end -}}
{{- if and .Values.proxies.enabled (not $ingress.ingressEndpoint) -}}
{{- if not (has .Release.Namespace (include "waybill.namespaces" . | fromJsonArray)) -}}
{{- fail (printf "rbac.scope is namespaces: waybill does not see the proxies' Service %s/traefik, whose address Ingresses get; add %s to options.providers.kubernetesIngress.namespaces, or set options.providers.kubernetesIngress.ingressEndpoint.ip or hostname" .Release.Namespace .Release.Namespace) -}}
{{- end -}}
{{- if eq .Values.proxies.service.type "NodePort" -}}
{{- fail "rbac.scope is namespaces: nodes are not read, so a proxies.service.type of NodePort has no address; set options.providers.kubernetesIngress.ingressEndpoint.ip or hostname, or another type" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled -}}
{{- fail "podMonitor and serviceMonitor would scrape every replica twice: enable one of them" -}}
{{- end -}}
{{- end -}}
