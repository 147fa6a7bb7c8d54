{{/* The release's name; the namespace is part of the relay's contract with skerryctl. */}}
{{- define "relay.name" -}}
{{- if ne .Release.Namespace "skerry-system" -}}
{{- fail (printf "the relay, its CA and its tokens live in namespace skerry-system, not %s: install with --namespace skerry-system" .Release.Namespace) -}}
{{- end -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "relay.selector" -}}
app.kubernetes.io/name: skerry-relay
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "relay.labels" -}}
{{ include "relay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: skerry
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "relay.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/*
relay.mine KIND APIVERSION NAMESPACE NAME: "yes", unless somebody else has made the object, as `skerryctl init` does: Helm refuses to
take such an object over, and what it says is the same.
*/}}
{{- define "relay.mine" -}}
{{- $have := lookup .apiVersion .kind .namespace .name -}}
{{- if $have -}}
{{- $owner := index (($have.metadata.annotations) | default dict) "meta.helm.sh/release-name" -}}
{{- if eq ($owner | default "") .root.Release.Name -}}yes{{- end -}}
{{- else -}}yes{{- end -}}
{{- end -}}

{{- define "relay.config" -}}
{{- $c := deepCopy .Values.config -}}
{{- $_ := set $c "listen" ":7443" -}}
{{- $_ := set $c "metricsAddress" ":7480" -}}
{{- $_ := set $c "drain" (dict "period" (printf "%ds" (int .Values.drainSeconds))) -}}
{{- with .Values.kubelet -}}
{{- if .enabled -}}
{{- $k := dict "listen" ":10250" "address" (required "kubelet.address: the IP address at which the API server reaches the relays (docs/kubelet.md)" .address) "port" (int .port) "idleTimeout" .idleTimeout -}}
{{- if .domain }}{{ $_ := set $k "domain" .domain }}{{ end -}}
{{- if .nodePorts }}{{ $_ := set $k "nodePorts" .nodePorts }}{{ end -}}
{{- if .tlsSecret }}{{ $_ := set $k "certFile" "/etc/skerry-kubelet/tls.crt" }}{{ $_ := set $k "keyFile" "/etc/skerry-kubelet/tls.key" }}{{ end -}}
{{- if .clientCASecret }}{{ $_ := set $k "clientCAFile" "/etc/skerry-kubelet-ca/ca.crt" }}{{ end -}}
{{- $_ := set $c "kubelet" $k -}}
{{- end -}}
{{- end -}}
{{- toYaml $c -}}
{{- end -}}
