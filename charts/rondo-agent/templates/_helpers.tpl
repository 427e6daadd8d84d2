{{- define "rondo-agent.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "rondo-agent.selector" -}}
app.kubernetes.io/name: rondo-agent
app.kubernetes.io/component: agent
{{- end }}

{{- define "rondo-agent.labels" -}}
{{ include "rondo-agent.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "rondo-agent.invitationSecret" -}}
{{ .Values.existingInvitationSecret | default "rondo-agent-invitation" }}
{{- end }}

{{/* What only the site can decide has no default; the refusal says what to write. */}}
{{- define "rondo-agent.check" -}}
{{- if and (not .Values.invitation) (not .Values.existingInvitationSecret) }}
{{- fail "invitation: install with -f and the file that the operator's `rondo invite NAME -o values` printed, or set existingInvitationSecret" }}
{{- end }}
{{- if and .Values.invitation .Values.existingInvitationSecret }}
{{- fail "invitation and existingInvitationSecret exclude each other: keep one" }}
{{- end }}
{{- if not .Values.policy.images }}
{{- fail "policy.images: list the trainer images that this site runs, such as [ghcr.io/rondo-dev/trainer@sha256:…]" }}
{{- end }}
{{- if not .Values.policy.privacy }}
{{- fail "policy.privacy: write [secure], or [secure, trusted] if the operator may see this site's deltas" }}
{{- end }}
{{- if and (eq .Values.policy.trust.mode "pinned") (not .Values.policy.trust.roster) }}
{{- fail "policy.trust.roster: list each participant with the key that its site has told you, or set policy.trust.mode to firstUse" }}
{{- end }}
{{- end }}

{{- define "rondo-agent.config" -}}
{{- $template := mergeOverwrite (dict "spec" (dict "serviceAccountName" "rondo-trainer")) (deepCopy .Values.podTemplate) -}}
namespace: {{ .Release.Namespace }}
dataDir: /var/lib/rondo
invitation: /etc/rondo/invitation/invitation.json
identitySecret: rondo-agent-identity
tasks:
  address: 0.0.0.0:8445
  service: rondo-agent-tasks
metrics:
  address: 0.0.0.0:8080
policy: {{- toYaml .Values.policy | nindent 2 }}
gpuResourceName: {{ .Values.gpuResourceName }}
podTemplate: {{- toYaml $template | nindent 2 }}
log:
  level: {{ .Values.log.level }}
{{- end }}
