{{/* The labels of everything. */}}
{{- define "skjob.labels" -}}
app.kubernetes.io/name: skjob
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "skjob.operatorLabels" -}}
app.kubernetes.io/name: dask-kubernetes-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ include "skjob.operatorVersion" . | quote }}
{{- end }}

{{/* What the definitions beside this were made for, whatever the image's tag is. */}}
{{- define "skjob.operatorVersion" -}}2026.3.0{{- end }}

{{/*
A team with what it has of its own in place of what all have; as JSON. Takes (list root team). Not Helm's own way to merge:
a setting that is a map would be a mixture, one that neither of them has written, and an empty one would be no setting.
*/}}
{{- define "skjob.team" -}}
{{- $values := (index . 0).Values -}}
{{- $team := deepCopy (index . 1) -}}
{{- range $key := list "defaults" "placement" "pods" "limits" "costs" "quota" "networkPolicy" -}}
{{- $merged := deepCopy (get $values $key | default dict) -}}
{{- $own := get $team $key | default dict -}}
{{- if eq $key "limits" -}}
{{- $merged = include "skjob.limits" $merged | fromJson -}}
{{- $own = include "skjob.limits" $own | fromJson -}}
{{- range $name, $_ := $own -}}{{- $_ := unset $merged (replace "max-" "most-" $name) -}}{{- end -}}
{{- end -}}
{{- range $name, $value := $own -}}{{- $_ := set $merged $name $value -}}{{- end -}}
{{- $_ := set $team $key $merged -}}
{{- end -}}
{{- if not (hasKey $team "limitRange") -}}{{- $_ := set $team "limitRange" $values.limitRange -}}{{- end -}}
{{- toJson $team -}}
{{- end }}

{{/*
Limits under their names of today, as JSON. One that has its old name too, `most-…`, keeps both: whoever reads them takes the
stricter.
*/}}
{{- define "skjob.limits" -}}
{{- $limits := dict -}}
{{- range $name, $value := . -}}{{/* in the order of their names: `max-` first */}}
{{- $today := replace "most-" "max-" $name -}}
{{- $_ := set $limits (hasKey $limits $today | ternary $name $today) $value -}}
{{- end -}}
{{- toJson $limits -}}
{{- end }}

{{/* The old names of limits in the values, for all teams and for each, as text. */}}
{{- define "skjob.oldLimits" -}}
{{- $old := dict -}}
{{- range $limits := list .Values.limits -}}
{{- range $name, $_ := $limits | default dict -}}{{- if hasPrefix "most-" $name -}}{{- $_ := set $old $name true -}}{{- end -}}{{- end -}}
{{- end -}}
{{- range .Values.teams -}}
{{- range $name, $_ := .limits | default dict -}}{{- if hasPrefix "most-" $name -}}{{- $_ := set $old $name true -}}{{- end -}}{{- end -}}
{{- end -}}
{{- range $number, $name := keys $old | sortAlpha -}}{{- if $number }}, {{ end }}`{{ $name }}` is now `{{ replace "most-" "max-" $name }}`{{- end -}}
{{- end }}

{{/* A number or text as text; Helm reads 1000000 as 1e+06. */}}
{{- define "skjob.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{- int64 . -}}{{- else -}}{{- . -}}{{- end -}}
{{- end }}

{{/* Labels in the order of their names, `pool=batch,zone=a`: neither can have one of these signs in it. */}}
{{- define "skjob.selectorText" -}}
{{- $labels := list -}}
{{- range $name, $value := . -}}{{- $labels = append $labels (printf "%s=%s" $name $value) -}}{{- end -}}
{{- join "," $labels -}}
{{- end }}

{{/* Tolerations, all that each may say in one order, `key:operator:value:effect:seconds`, as the policies compare them. */}}
{{- define "skjob.tolerationsText" -}}
{{- $texts := list -}}
{{- range . -}}
{{- $seconds := hasKey . "tolerationSeconds" | ternary (include "skjob.text" .tolerationSeconds) "" -}}
{{- $parts := list (.key | default "") (.operator | default "Equal") (.value | default "") (.effect | default "") $seconds -}}
{{- $texts = append $texts (join ":" $parts) -}}
{{- end -}}
{{- join "," $texts -}}
{{- end }}

{{/* `true` if a pool takes the pods that must not be lost: of its own accord one that is not `spot`. */}}
{{- define "skjob.takesSchedulers" -}}
{{- hasKey . "schedulers" | ternary .schedulers (not .spot) -}}
{{- end }}

{{/*
Named pools of nodes, a line each, `NAME SELECTOR TOLERATIONS LIMITS SCHEDULERS`, as the policies read them; the last is
`schedulers` where those may be. `-` stands for a part that is empty.
*/}}
{{- define "skjob.poolsText" -}}
{{- $lines := list -}}
{{- range . -}}
{{- $limits := list -}}
{{- range $name, $value := .limits | default dict -}}{{- $limits = append $limits (printf "%s=%s" $name (include "skjob.text" $value)) -}}{{- end -}}
{{- $selector := get . "node-selector" -}}
{{- $parts := list .name (include "skjob.selectorText" $selector) (include "skjob.tolerationsText" .tolerations | default "-") -}}
{{- $takes := eq (include "skjob.takesSchedulers" .) "true" | ternary "schedulers" "-" -}}
{{- $lines = append $lines (join " " (concat $parts (list (join "," $limits | default "-") $takes))) -}}
{{- end -}}
{{- join "\n" $lines -}}
{{- end }}

{{/* As JSON, the pool for the scheduler of a run in a pool: that one, or the first that takes it. Takes (list pool pools). */}}
{{- define "skjob.poolForSchedulers" -}}
{{- $pool := index . 0 -}}
{{- $arch := get (get $pool "node-selector") "kubernetes.io/arch" | default "" -}}
{{- $found := dict -}}
{{- range $other := prepend (index . 1) $pool -}}
{{- $theirs := get (get $other "node-selector") "kubernetes.io/arch" | default "" -}}
{{- if and (not $found) (eq (include "skjob.takesSchedulers" $other) "true") (or (not $arch) (not $theirs) (eq $arch $theirs)) -}}
{{- $found = $other -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}

{{/* Mistakes in pools that the schema cannot see. Takes (list team-name placement default-pool). */}}
{{- define "skjob.checkPools" -}}
{{- $team := index . 0 -}}
{{- $placement := index . 1 -}}
{{- $chosen := index . 2 -}}
{{- $pools := get $placement "node-pools" | default list -}}
{{- if and $pools (or (get $placement "node-selector") $placement.tolerations) -}}
{{- fail (printf "the team `%s` has `placement.node-pools`, beside which `node-selector` and `tolerations` say nothing: put them into a pool" $team) -}}
{{- end -}}
{{- $names := list -}}
{{- range $number, $pool := $pools -}}
{{- if has $pool.name $names -}}{{- fail (printf "the team `%s` has two node pools called `%s`" $team $pool.name) -}}{{- end -}}
{{- $names = append $names $pool.name -}}
{{- range $other := $pools -}}
{{- if ne $other.name $pool.name -}}
{{- $differ := false -}}
{{- range $key, $value := get $pool "node-selector" -}}
{{- $theirs := get $other "node-selector" -}}
{{- if and (hasKey $theirs $key) (ne (get $theirs $key) $value) -}}{{- $differ = true -}}{{- end -}}
{{- end -}}
{{- if not $differ -}}
{{- fail (printf "the node pools `%s` and `%s` of the team `%s` may share nodes: give both a label of the same name, with different values" $pool.name $other.name $team) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not (include "skjob.poolForSchedulers" (list $pool $pools) | fromJson) -}}
{{- fail (printf "the team `%s` has no node pool for the schedulers of runs in `%s`: set `schedulers: true` of one" $team $pool.name) -}}
{{- end -}}
{{- end -}}
{{- if and $chosen (not (has $chosen $names)) -}}
{{- fail (printf "the team `%s` has the default `node-pool` `%s`, which is not in `placement.node-pools`" $team $chosen) -}}
{{- end -}}
{{- end }}

{{/*
No two teams of a name or in a namespace, none where the operator does not look, and no defaults with which every run of
a team would be refused, as far as the schema cannot say it.
*/}}
{{- define "skjob.check" -}}
{{- $seen := dict -}}
{{- $names := dict -}}
{{- range .Values.teams -}}
{{- if hasKey $names .name -}}
{{- fail (printf "two teams are called `%s`: costs and tests of a team go by its name" .name) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
{{- if hasKey $seen .namespace -}}
{{- fail (printf "the teams `%s` and `%s` are both in the namespace `%s`: a team has one of its own" (get $seen .namespace) .name .namespace) -}}
{{- end -}}
{{- $_ := set $seen .namespace .name -}}
{{- if and $.Values.operator.enabled $.Values.operator.namespaces (not (has .namespace $.Values.operator.namespaces)) -}}
{{- fail (printf "the team `%s` is in the namespace `%s`, which is not in `operator.namespaces`: nothing would act on its runs" .name .namespace) -}}
{{- end -}}
{{- $team := include "skjob.team" (list $ .) | fromJson -}}
{{- if and (get $team.defaults "max-cost") (not $team.costs.prices) -}}
{{- fail (printf "the team `%s` has a default `max-cost` and no `costs.prices`: every run of it would be refused" .name) -}}
{{- end -}}
{{- include "skjob.checkPods" (list .name $team.pods) -}}
{{- include "skjob.checkPools" (list .name $team.placement (get $team.defaults "node-pool" | default "")) -}}
{{- $workers := splitList ":" (get $team.defaults "workers" | toString) -}}
{{- if gt (first $workers | int) (last $workers | int) -}}
{{- fail (printf "the team `%s` has the default `workers` %s: the fewest are more than the most" .name $team.defaults.workers) -}}
{{- end -}}
{{- end -}}
{{- end }}
