{{/*
What pods have of the platform team's, `pods` in the values: as text in annotations of the ResourceQuota, a line each, and
in the policies, which compare these lines with what a user's pods have. No part of a line but a value has a space in it,
so that no two things have the same line.
*/}}

{{/* Labels or annotations: `name=value`. */}}
{{- define "skjob.pairsText" -}}
{{- $lines := list -}}
{{- range $name, $value := . -}}{{- $lines = append $lines (printf "%s=%s" $name $value) -}}{{- end -}}
{{- join "\n" $lines -}}
{{- end }}

{{/* Variables whose values are elsewhere, `NAME secretKeyRef OBJECT KEY`. Others may have any value: users could set them. */}}
{{- define "skjob.variablesText" -}}
{{- $lines := list -}}
{{- range . -}}
{{- $name := .name -}}
{{- range $source, $key := .valueFrom | default dict -}}
{{- $lines = append $lines (printf "%s %s %s %s" $name $source $key.name $key.key) -}}
{{- end -}}
{{- end -}}
{{- join "\n" $lines -}}
{{- end }}

{{/* Mounts, `KIND NAME SUBPATH PATH ro`; of a token, `serviceAccountToken AUDIENCE SECONDS SUBPATH PATH ro`. `.` is no subPath. */}}
{{- define "skjob.mountsText" -}}
{{- $lines := list -}}
{{- range . -}}
{{- $volume := "" -}}
{{- with .persistentVolumeClaim -}}{{- $volume = printf "persistentVolumeClaim %s" .claimName -}}{{- end -}}
{{- with .configMap -}}{{- $volume = printf "configMap %s" .name -}}{{- end -}}
{{- with .secret -}}{{- $volume = printf "secret %s" .secretName -}}{{- end -}}
{{- with .serviceAccountToken -}}
{{- $volume = printf "serviceAccountToken %s %s" .audience (include "skjob.text" (.expirationSeconds | default 3600)) -}}
{{- end -}}
{{- $mode := and (hasKey . "readOnly") (not .readOnly) | ternary "rw" "ro" -}}
{{- $lines = append $lines (printf "%s %s %s %s" $volume (.subPath | default ".") .mountPath $mode) -}}
{{- end -}}
{{- join "\n" $lines -}}
{{- end }}

{{/* All of it, as annotations. Takes the team's `pods`. */}}
{{- define "skjob.podAnnotations" -}}
{{- $texts := dict "labels" (include "skjob.pairsText" .labels) "annotations" (include "skjob.pairsText" .annotations) -}}
{{- $_ := set $texts "imagePullSecrets" (join "\n" .imagePullSecrets) -}}
{{- $_ := set $texts "env" (include "skjob.variablesText" .env) -}}
{{- $_ := set $texts "mounts" (include "skjob.mountsText" .mounts) -}}
{{- $_ := set $texts "serviceAccountName" (.serviceAccountName | default "") -}}
{{- range $name, $text := $texts -}}
{{- if $text }}
skjob/pods.{{ $name }}: {{ $text | quote }}
{{- end }}
{{- end -}}
{{- end }}

{{/* Mistakes that the schema cannot see. Takes (list team-name pods). */}}
{{- define "skjob.checkPods" -}}
{{- $team := index . 0 -}}
{{- $pods := index . 1 -}}
{{- $seen := dict -}}
{{- range $pods.env -}}
{{- if hasKey $seen .name -}}{{- fail (printf "the team `%s` has the variable `%s` twice in `pods.env`" $team .name) -}}{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- range $pods.mounts -}}
{{- if hasKey $seen .mountPath -}}
{{- fail (printf "the team `%s` has two mounts at `%s` in `pods.mounts`" $team .mountPath) -}}
{{- end -}}
{{- $_ := set $seen .mountPath true -}}
{{- end -}}
{{- $size := toYaml $pods | len -}}
{{- if ge $size 8192 -}}
{{- fail (printf "`pods` of the team `%s` has %d characters, and it must have less than 8192: use a ConfigMap" $team $size) -}}
{{- end -}}
{{- end }}

{{/* The variables of policies that have `runName`, `pods`, `labelMaps`, `annotationMaps` and the same of the old object. */}}
{{- define "skjob.teamVariables" -}}
{{- range $variable, $name := dict "teamLabels" "labels" "teamAnnotations" "annotations" "pullSecrets" "imagePullSecrets" "teamEnv" "env" "teamMounts" "mounts" }}
- name: {{ $variable }}
  expression: >-
    ('skjob/pods.{{ $name }}' in variables.limits ? variables.limits['skjob/pods.{{ $name }}'].split('\n') : [])
    .filter(line, line != '')
{{- end }}
- name: accounts
  expression: >-
    ['', 'default'] +
    ('skjob/pods.serviceAccountName' in variables.limits ? [variables.limits['skjob/pods.serviceAccountName']] : [])
- name: oldLabels
  expression: "variables.oldLabelMaps.map(m, m.map(key, key + '=' + m[key]))"
- name: oldAnnotations
  expression: "variables.oldAnnotationMaps.map(m, m.map(key, key + '=' + m[key]))"
{{- end }}

{{/* Whether a volume `v` is a run's own: its folders, its certificates and files, and those of an environment. */}}
{{- define "skjob.isOwnVolume" -}}
(has(v.emptyDir) ||
has(v.secret) && has(v.secret.secretName) && {{ include "skjob.isOwnName" "v.secret.secretName" }} ||
has(v.configMap) && has(v.configMap.name) && {{ include "skjob.isOwnName" "v.configMap.name" }})
{{- end }}

{{- define "skjob.isOwnName" -}}
({{ . }} == variables.runName || {{ . }}.matches('{{ include "skjob.keeperPattern" . }}'))
{{- end }}

{{/* The beginning of the lines of a volume `v` in `skjob/pods.mounts`. */}}
{{- define "skjob.volumeText" -}}
(has(v.persistentVolumeClaim) ? 'persistentVolumeClaim ' + v.persistentVolumeClaim.claimName :
has(v.configMap) ? 'configMap ' + (has(v.configMap.name) ? v.configMap.name : '') :
has(v.secret) ? 'secret ' + (has(v.secret.secretName) ? v.secret.secretName : '') :
has(v.projected) && has(v.projected.sources) && size(v.projected.sources) == 1 &&
has(v.projected.sources[0].serviceAccountToken) ? 'serviceAccountToken ' +
(has(v.projected.sources[0].serviceAccountToken.audience) ? v.projected.sources[0].serviceAccountToken.audience : '') + ' ' +
(has(v.projected.sources[0].serviceAccountToken.expirationSeconds) ?
string(v.projected.sources[0].serviceAccountToken.expirationSeconds) : '') : 'none') + ' '
{{- end }}

{{/*
Pods have what skjob gives them and what the platform team says, and nothing else that could let them reach further than
the user who made them.
*/}}
{{- define "skjob.teamRules" -}}
- expression: >-
    variables.labelMaps.all(m, m.all(key, key.startsWith('skjob/') || key.startsWith('dask.org/') ||
    key in ['app.kubernetes.io/name', 'app.kubernetes.io/instance', 'app.kubernetes.io/managed-by',
    'app.kubernetes.io/component', 'kueue.x-k8s.io/queue-name', 'batch.kubernetes.io/controller-uid',
    'batch.kubernetes.io/job-name', 'controller-uid', 'job-name'] ||
    key + '=' + m[key] in ['sidecar.istio.io/inject=false'] + variables.teamLabels ||
    variables.oldLabels.exists(old, key + '=' + m[key] in old)))
  message: a pod has skjob's labels and the platform team's, and no others (`pods.labels`, annotation `skjob/pods.labels` of ResourceQuota skjob)
- expression: >-
    variables.isEmpty || variables.podLabelMaps.all(m, variables.teamLabels.all(line,
    m.exists(key, key + '=' + m[key] == line) ||
    !variables.isPlaced && !variables.oldLabels.exists(old, line in old)))
  message: a pod must have the platform team's labels (`pods.labels`, annotation `skjob/pods.labels` of ResourceQuota skjob)
- expression: >-
    variables.annotationMaps.all(m, m.all(key, key.startsWith('skjob/') || key.startsWith('kopf.') ||
    key == 'kubectl.kubernetes.io/last-applied-configuration' ||
    key + '=' + m[key] in ['sidecar.istio.io/inject=false'] + variables.teamAnnotations ||
    variables.oldAnnotations.exists(old, key + '=' + m[key] in old)))
  message: a pod has skjob's annotations and the platform team's, and no others (`pods.annotations`, annotation `skjob/pods.annotations` of ResourceQuota skjob)
- expression: >-
    variables.isEmpty || variables.annotationMaps.all(m, variables.teamAnnotations.all(line,
    m.exists(key, key + '=' + m[key] == line) ||
    !variables.isPlaced && !variables.oldAnnotations.exists(old, line in old)))
  message: a pod must have the platform team's annotations (`pods.annotations`, annotation `skjob/pods.annotations` of ResourceQuota skjob)
- expression: >-
    !variables.isNew || variables.pods.all(p,
    (!has(p.serviceAccountName) || p.serviceAccountName in variables.accounts) &&
    (!has(p.serviceAccount) || p.serviceAccount in variables.accounts))
  message: a run's pods must not act as another service account than the platform team's (`pods.serviceAccountName`, annotation `skjob/pods.serviceAccountName` of ResourceQuota skjob)
- expression: >-
    !variables.isNew || variables.isEmpty || variables.pods.all(p,
    has(p.automountServiceAccountToken) && !p.automountServiceAccountToken)
  message: a run's pods have no token for the Kubernetes API (automountServiceAccountToken must be false)
- expression: >-
    !variables.isNew || variables.pods.all(p, !has(p.imagePullSecrets) || p.imagePullSecrets.all(s,
    has(s.name) && s.name in variables.pullSecrets))
  message: the Secrets for pulling images are the platform team's to choose (`pods.imagePullSecrets`, annotation `skjob/pods.imagePullSecrets` of ResourceQuota skjob)
# Another name, to the end of the word: the line goes on with a space.
- expression: >-
    !variables.isNew || variables.pods.all(p, !has(p.volumes) || p.volumes.all(v,
    {{ include "skjob.isOwnVolume" . | nindent 4 | trim }} ||
    variables.teamMounts.exists(line, line.startsWith({{ include "skjob.volumeText" . | nindent 4 | trim }}))))
  message: a pod has skjob's volumes and the platform team's, and no others (`pods.mounts`, annotation `skjob/pods.mounts` of ResourceQuota skjob)
- expression: >-
    !variables.isNew || variables.pods.all(p, !has(p.volumes) || p.volumes.all(v,
    {{ include "skjob.isOwnVolume" . | nindent 4 | trim }} ||
    (p.containers + (has(p.initContainers) ? p.initContainers : [])).all(c, !has(c.volumeMounts) ||
    c.volumeMounts.all(m, m.name != v.name || !has(m.subPathExpr) &&
    {{ include "skjob.volumeText" . | nindent 4 | trim }} + (has(m.subPath) && m.subPath != '' ? m.subPath : '.') + ' ' + m.mountPath
    + (has(m.readOnly) && m.readOnly ? ' ro' : ' rw') in variables.teamMounts))))
  message: where a volume of the platform team is mounted, and whether it can be written to, is the team's to choose (`pods.mounts`, annotation `skjob/pods.mounts` of ResourceQuota skjob)
# They would pass by the mounts.
- expression: >-
    !variables.isNew || variables.allContainers.all(cs, cs.all(c, !has(c.volumeDevices) || size(c.volumeDevices) == 0))
  message: a container has no volume as a device (volumeDevices)
- expression: >-
    !variables.isNew || variables.allContainers.all(cs, cs.all(c, (!has(c.envFrom) || size(c.envFrom) == 0) &&
    (!has(c.env) || c.env.all(e, !has(e.valueFrom) ||
    (!has(e.valueFrom.secretKeyRef) || has(e.valueFrom.secretKeyRef.name) &&
    (e.valueFrom.secretKeyRef.name == variables.runName ||
    e.name + ' secretKeyRef ' + e.valueFrom.secretKeyRef.name + ' ' + e.valueFrom.secretKeyRef.key in variables.teamEnv)) &&
    (!has(e.valueFrom.configMapKeyRef) || has(e.valueFrom.configMapKeyRef.name) &&
    e.name + ' configMapKeyRef ' + e.valueFrom.configMapKeyRef.name + ' ' + e.valueFrom.configMapKeyRef.key
    in variables.teamEnv)))))
  message: a variable's value is from the run's own Secret, or from where the platform team says (`pods.env`, annotation `skjob/pods.env` of ResourceQuota skjob)
# On some nodes a container has the GPUs that this variable names, and nothing counts them.
- expression: >-
    !variables.isNew || variables.allContainers.all(cs, cs.all(c, !has(c.env) || c.env.all(e,
    e.name != 'NVIDIA_VISIBLE_DEVICES' || has(e.value) && e.value == 'void')))
  message: a container has the GPUs that it asks for, and no others (NVIDIA_VISIBLE_DEVICES may be `void`, and nothing else)
{{- end }}

{{/*
The bindings of a team's service account, as text. Its tokens are for others than the Kubernetes API, but an account that
has no rights is safe whoever gets one of it. Takes (list namespace account). Without a cluster to ask, as in
`helm template`, none.
*/}}
{{- define "skjob.bindingsOf" -}}
{{- $namespace := index . 0 -}}
{{- $account := index . 1 -}}
{{- $found := list -}}
{{- $bindings := (lookup "rbac.authorization.k8s.io/v1" "RoleBinding" "" "").items | default list -}}
{{- $bindings = concat $bindings ((lookup "rbac.authorization.k8s.io/v1" "ClusterRoleBinding" "" "").items | default list) -}}
{{- range $binding := $bindings -}}
{{- range $subject := $binding.subjects | default list -}}
{{- $isAccount := and (eq $subject.kind "ServiceAccount") (eq $subject.name $account) (eq ($subject.namespace | default "") $namespace) -}}
{{- if or $isAccount (eq $subject.name (printf "system:serviceaccounts:%s" $namespace)) -}}
{{- $found = append $found (printf "%s `%s`" $binding.kind $binding.metadata.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- join ", " $found -}}
{{- end }}
