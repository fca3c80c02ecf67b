{{- define "balance-exporter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "balance-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "balance-exporter.labels" -}}
{{ include "balance-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{- define "balance-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "balance-exporter.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- /* Whether several replicas can share the state: "true" or empty. */ -}}
{{- define "balance-exporter.sharedState" -}}
{{- if hasPrefix "redis" .Values.state.url }}true{{ end -}}
{{- end -}}

{{- /* Whether the state is in a volume: "true" or empty. */ -}}
{{- define "balance-exporter.volumeState" -}}
{{- if and (hasPrefix "sqlite:" .Values.state.url) (not .Values.demo) }}true{{ end -}}
{{- end -}}

{{- /* Whether there are secret files to mount: "true" or empty. */ -}}
{{- define "balance-exporter.hasSecrets" -}}
{{- with .Values.secrets }}{{ if or .existingSecret .projected .data }}true{{ end }}{{ end -}}
{{- end -}}

{{- /* Fails for values that each are valid and do not fit together. */ -}}
{{- define "balance-exporter.validate" -}}
{{- with .Values -}}
{{- if and (gt (int .replicas) 1) (not (hasPrefix "redis" .state.url)) -}}
{{- fail (printf "replicas: %d replicas would each spend the whole quota of every account; set state.url to redis:, rediss: or redis-sentinel:, or replicas to 1" (int .replicas)) -}}
{{- end -}}
{{- if and (hasPrefix "sqlite:" .state.url) (not (hasPrefix "sqlite:/var/lib/balance_exporter/" .state.url)) -}}
{{- fail (printf "state.url: %s is outside the volume; set a path below /var/lib/balance_exporter" .state.url) -}}
{{- end -}}
{{- if not (or .demo .accounts .existingConfigMap) -}}
{{- fail "accounts: there is no account; set accounts, existingConfigMap or demo" -}}
{{- end -}}
{{- if and .existingConfigMap (or .accounts .recipes .files) -}}
{{- fail "existingConfigMap: is used instead of accounts, recipes and files; remove either" -}}
{{- end -}}
{{- $given := 0 -}}
{{- range list .secrets.existingSecret .secrets.projected .secrets.data }}{{ if . }}{{ $given = add1 $given }}{{ end }}{{ end -}}
{{- if gt (int $given) 1 -}}
{{- fail "secrets: set only one of existingSecret, projected and data" -}}
{{- end -}}
{{- if hasKey .files "config.yml" -}}
{{- fail "files: config.yml is made of accounts and recipes; remove it, or set existingConfigMap" -}}
{{- end -}}
{{- range .extraArgs -}}
{{- if regexMatch "^--(no-)?(demo|config\\.file|state\\.(url|password-file|prefix)|web\\.(listen-address|telemetry-path|config\\.file)|log\\.(level|format))(=|$)" . -}}
{{- fail (printf "extraArgs: %s belongs to the chart; remove it, and set the chart's own value" .) -}}
{{- end -}}
{{- end -}}
{{- range list "port" "path" "interval" "scrapeTimeout" "relabelings" -}}
{{- if hasKey $.Values.serviceMonitor.endpoint . -}}
{{- fail (printf "serviceMonitor.endpoint.%s: the chart sets it; remove it" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Ports of state.url, as a JSON list. */ -}}
{{- define "balance-exporter.statePorts" -}}
{{- $ports := list -}}
{{- if hasPrefix "redis" .Values.state.url -}}
{{- range regexFindAll ":[0-9]+(,|/|$)" .Values.state.url -1 }}{{ $ports = append $ports (regexFind "[0-9]+" . | int) }}{{ end -}}
{{- /* Sentinel answers with the address of the master. */ -}}
{{- if hasPrefix "redis-sentinel" .Values.state.url }}{{ $ports = append $ports 6379 }}{{ end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}
