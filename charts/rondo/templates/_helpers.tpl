{{- define "rondo.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "rondo.selector" -}}
app.kubernetes.io/name: rondo
app.kubernetes.io/component: operator
{{- end }}

{{- define "rondo.labels" -}}
{{ include "rondo.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "rondo.endpoint" -}}
{{- .given | default (printf "rondo-agents.%s.svc:%d" .namespace .port) -}}
{{- end }}

{{- define "rondo.config" -}}
{{- $template := mergeOverwrite (dict "spec" (dict "serviceAccountName" "rondo-trainer")) (deepCopy .Values.initialise.podTemplate) -}}
namespace: {{ .Release.Namespace }}
dataDir: /var/lib/rondo
trustDomain: {{ .Values.trustDomain | quote }}
agents:
  address: 0.0.0.0:8443
  endpoint: {{ include "rondo.endpoint" (dict "given" .Values.agents.endpoint "namespace" .Release.Namespace "port" 8443) | quote }}
enrolment:
  address: 0.0.0.0:8444
  endpoint: {{ include "rondo.endpoint" (dict "given" .Values.enrolment.endpoint "namespace" .Release.Namespace "port" 8444) | quote }}
tasks:
  address: 0.0.0.0:8445
  service: rondo-tasks
metrics:
  address: 0.0.0.0:8080
storage:
  reserve: {{ .Values.persistence.reserve }}
initialise:
  podTemplate: {{- toYaml $template | nindent 4 }}
log:
  level: {{ .Values.log.level }}
{{- end }}
