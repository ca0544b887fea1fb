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

{{- define "waybill.check" -}}
{{- if eq .Values.rbac.scope "namespaces" -}}
{{- $ingress := include "waybill.ingress" . | fromJson -}}
{{- if not (include "waybill.namespaces" . | fromJsonArray) -}}
{{- fail "rbac.scope is namespaces: list them in options.providers.kubernetesIngress.namespaces" -}}
{{- end -}}
{{- if not $ingress.disableClusterScopeResources -}}
{{- fail "rbac.scope is namespaces: set options.providers.kubernetesIngress.disableClusterScopeResources to true, since there is no ClusterRole" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled -}}
{{- fail "podMonitor and serviceMonitor would scrape every replica twice: enable one of them" -}}
{{- end -}}
{{- end -}}
