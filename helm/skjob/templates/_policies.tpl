{{/* What several of the policies say. */}}

{{/* The binding of a policy to the teams' namespaces. Takes (list root name with-limits). */}}
{{- define "skjob.binding" -}}
{{- $root := index . 0 -}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $root.Release.Name }}-{{ index . 1 }}
  labels:
    {{- include "skjob.labels" $root | nindent 4 }}
spec:
  policyName: {{ $root.Release.Name }}-{{ index . 1 }}
  validationActions: [Deny]
  matchResources:
    namespaceSelector:
      matchExpressions:
        - key: kubernetes.io/metadata.name
          operator: In
          values:
            {{- range $root.Values.teams }}
            - {{ .namespace }}
            {{- end }}
  {{- if index . 2 }}
  paramRef:
    # In the namespace of the request.
    name: skjob
    parameterNotFoundAction: Allow
  {{- end }}
{{- end }}

{{/* The name of a Job that keeps an environment (skjob/deploy/kubernetes/environment_cache.py). No run's cluster is called so. */}}
{{- define "skjob.keeperPattern" -}}
^skjob-environment-[0-9a-f]{12}$
{{- end }}

{{- define "skjob.limitVariables" -}}
- name: isNew
  expression: request.operation == 'CREATE'
- name: limits
  expression: "has(params.metadata.annotations) ? params.metadata.annotations : {}"
# As teams.yaml writes them: `pool=batch,zone=a`, and `batch:Equal:yes:NoSchedule:`.
- name: selector
  expression: "'skjob/node-selector' in variables.limits ? variables.limits['skjob/node-selector'].split(',') : []"
- name: tolerations
  expression: "'skjob/tolerations' in variables.limits ? variables.limits['skjob/tolerations'].split(',') : []"
# Each `[name, selector, tolerations, limits, schedulers]`, the last `schedulers` or `-`; lines that an older chart wrote lack
# it. No node is in two, so that no pod can have the labels of two.
- name: pools
  expression: >-
    ('skjob/node-pools' in variables.limits ? variables.limits['skjob/node-pools'].split('\n') : [])
    .map(line, line.split(' '))
{{- end }}

{{/* Of policies that have `pods`, with the one that counts last. Sidecars and init containers count as the others. */}}
{{- define "skjob.podVariables" -}}
- name: allContainers
  expression: "variables.pods.map(p, p.containers + (has(p.initContainers) ? p.initContainers : []))"
- name: containers
  expression: variables.allContainers[size(variables.allContainers) - 1]
- name: areSized
  expression: >-
    variables.allContainers.all(cs, cs.all(c, has(c.resources) && has(c.resources.limits) && has(c.resources.requests)
    && 'memory' in c.resources.limits && 'cpu' in c.resources.requests))
{{- end }}

{{- define "skjob.workerVariables" -}}
{{ include "skjob.podVariables" . }}
- name: workerLabels
  expression: >-
    has(object.spec.worker.metadata) && has(object.spec.worker.metadata.labels) ? object.spec.worker.metadata.labels : {}
- name: oldWorkerLabels
  expression: >-
    !variables.isNew && has(oldObject.spec.worker.metadata) && has(oldObject.spec.worker.metadata.labels) ?
    oldObject.spec.worker.metadata.labels : {}
# A limit of the workers' pool is in place of the team's.
- name: poolLimits
  expression: >-
    variables.pools.exists(pool, {{ include "skjob.isInPool" "object.spec.worker.spec" }}) ?
    variables.pools.filter(pool, {{ include "skjob.isInPool" "object.spec.worker.spec" }})[0][3].split(',') : []
- name: devices
  expression: "['nvidia.com/gpu']"
- name: workers
  expression: object.spec.worker.replicas
- name: oldWorkers
  expression: "variables.isNew ? -1 : oldObject.spec.worker.replicas"
- name: cpu
  expression: >-
    variables.areSized ? variables.containers.map(c, quantity(c.resources.requests.cpu).asApproximateFloat()).sum() : 0.0
- name: memory
  expression: >-
    variables.areSized ? variables.containers.map(c, quantity(c.resources.limits.memory).asApproximateFloat()).sum() : 0.0
# A pod must have as many of them in its limits as in its requests, where it has both.
- name: gpus
  expression: >-
    [variables.containers.map(c, has(c.resources) && has(c.resources.limits) && 'nvidia.com/gpu' in c.resources.limits ?
    quantity(string(c.resources.limits['nvidia.com/gpu'])).asApproximateFloat() : 0.0).sum(),
    variables.containers.map(c, has(c.resources) && has(c.resources.requests) && 'nvidia.com/gpu' in c.resources.requests ?
    quantity(string(c.resources.requests['nvidia.com/gpu'])).asApproximateFloat() : 0.0).sum()].max()
- name: maxGpus
  expression: >-
    variables.poolLimits.exists(l, l.startsWith('max-gpus=')) ?
    int(variables.poolLimits.filter(l, l.startsWith('max-gpus='))[0].split('=')[1]) :
    ('skjob/max-gpus' in variables.limits ? int(variables.limits['skjob/max-gpus']) : 0)
# For one more release a limit may have its old name, `most-…`, too: the stricter counts.
- name: maxWorkers
  expression: >-
    variables.poolLimits.exists(l, l.startsWith('max-workers=')) ?
    int(variables.poolLimits.filter(l, l.startsWith('max-workers='))[0].split('=')[1]) :
    (['skjob/max-workers', 'skjob/most-workers'].filter(n, n in variables.limits)
    .map(n, int(variables.limits[n])) + [2147483647]).min()
- name: maxCpu
  expression: >-
    variables.poolLimits.exists(l, l.startsWith('max-cpu=')) ?
    quantity(variables.poolLimits.filter(l, l.startsWith('max-cpu='))[0].split('=')[1]).asApproximateFloat() :
    (['skjob/max-cpu', 'skjob/most-cpu'].filter(n, n in variables.limits)
    .map(n, quantity(variables.limits[n]).asApproximateFloat()) + [1e300]).min()
- name: maxMemory
  expression: >-
    variables.poolLimits.exists(l, l.startsWith('max-memory=')) ?
    quantity(variables.poolLimits.filter(l, l.startsWith('max-memory='))[0].split('=')[1]).asApproximateFloat() :
    (['skjob/max-memory', 'skjob/most-memory'].filter(n, n in variables.limits)
    .map(n, quantity(variables.limits[n]).asApproximateFloat()) + [1e300]).min()
{{- end }}

{{/* Whether the pod of this name has all labels of the pool `pool`. */}}
{{- define "skjob.isInPool" -}}
pool[1].split(',').all(label,
    has({{ . }}.nodeSelector) && {{ . }}.nodeSelector.exists(key, key + '=' + {{ . }}.nodeSelector[key] == label))
{{- end }}

{{/* Pods that run no tasks, such as the one with this name, are in a pool that takes them. */}}
{{- define "skjob.schedulersRule" -}}
- expression: >-
    !variables.isPlaced || size(variables.pools) == 0 || variables.pools.exists(pool,
    (size(pool) < 5 || pool[4] == 'schedulers') && {{ include "skjob.isInPool" . }})
  message: this node pool takes workers alone (`schedulers`, `spot`; `node-pools`, annotation `skjob/node-pools` of ResourceQuota skjob)
{{- end }}

{{- define "skjob.totalRules" -}}
- expression: variables.workers <= variables.maxWorkers || variables.workers <= variables.oldWorkers
  messageExpression: >-
    string(variables.workers) + ' workers were asked for, and no run may have more than ' +
    string(variables.maxWorkers) + ' (`max-workers`, annotation `skjob/max-workers` of ResourceQuota skjob)'
# With a margin: the sum of floats may be slightly above the sum of what they stand for.
- expression: >-
    double(variables.workers) * variables.cpu <= variables.maxCpu * 1.000001 || variables.workers <= variables.oldWorkers
  messageExpression: >-
    string(variables.workers) + ' workers of ' + string(variables.cpu) + ' cores were asked for, and no run may have more'
    + ' than ' + string(variables.maxCpu) + ' in all (`max-cpu`, annotation `skjob/max-cpu` of ResourceQuota skjob)'
- expression: >-
    double(variables.workers) * variables.memory <= variables.maxMemory * 1.000001 ||
    variables.workers <= variables.oldWorkers
  messageExpression: >-
    string(variables.workers) + ' workers of ' + string(variables.memory / 1048576.0) + ' MiB were asked for, and no run'
    + ' may have more than ' + string(variables.maxMemory / 1048576.0)
    + ' MiB in all (`max-memory`, annotation `skjob/max-memory` of ResourceQuota skjob)'
- expression: >-
    double(variables.workers) * variables.gpus <= double(variables.maxGpus) || variables.workers <= variables.oldWorkers
  messageExpression: >-
    string(variables.workers) + ' workers of ' + string(variables.gpus) + ' GPUs were asked for, and no run may have more'
    + ' than ' + string(variables.maxGpus) + ' in all (`max-gpus`, annotation `skjob/max-gpus` of ResourceQuota skjob)'
{{- end }}

{{/* Takes the finalizers that somebody is sure to take off, as a list in CEL. */}}
{{- define "skjob.finalizerRule" -}}
# Something that nobody takes off keeps an object, and with it what it owns, for ever; `orphan` sets that free.
- expression: >-
    !has(object.metadata.finalizers) ||
    object.metadata.finalizers.all(f, f in {{ . }}) ||
    !variables.isNew && has(oldObject.metadata.finalizers) &&
    object.metadata.finalizers.all(f, f in oldObject.metadata.finalizers)
  message: a finalizer would keep this when its time is over
{{- end }}

{{/*
What the operator notes down for itself, in annotations of 256 KiB at most: if it cannot read it, or cannot write it, its
finalizer stays, and the workers with it. It writes down all that is measured here, each byte as six at most. Who may
make Deployments is the operator, or could do what it does.
*/}}
{{- define "skjob.notesVariables" -}}
- name: isOperator
  expression: authorizer.group('apps').resource('deployments').namespace(request.namespace).check('create').allowed()
- name: notes
  expression: "has(object.metadata.annotations) ? object.metadata.annotations : {}"
- name: ownFinalizers
  expression: >-
    variables.isOperator ? ['foregroundDeletion', 'kopf.zalando.org/KopfFinalizerMarker'] : ['foregroundDeletion']
- name: oldNotes
  expression: "!variables.isNew && has(oldObject.metadata.annotations) ? oldObject.metadata.annotations : {}"
- name: workerNotes
  expression: >-
    has(object.spec.worker.metadata) && has(object.spec.worker.metadata.annotations) ?
    object.spec.worker.metadata.annotations : {}
- name: oldWorkerNotes
  expression: >-
    !variables.isNew && has(oldObject.spec.worker.metadata) && has(oldObject.spec.worker.metadata.annotations) ?
    oldObject.spec.worker.metadata.annotations : {}
{{- end }}

{{- define "skjob.notesRule" -}}
# Not even it has any to begin with: a group that had some would be no new one to it, and would never get its owner.
- expression: >-
    variables.isOperator && !variables.isNew ||
    variables.notes.all(n, !n.startsWith('kopf.') || n in variables.oldNotes && variables.oldNotes[n] == variables.notes[n])
    && variables.oldNotes.all(n, !n.startsWith('kopf.') || n in variables.notes)
  message: annotations that begin with `kopf.` are the operator's own
# These it gives to what it makes, as they are. So it does with labels, but sets over them those that it goes by.
- expression: size(variables.workerNotes) == 0 || variables.workerNotes == variables.oldWorkerNotes
  message: workers have no annotations of their own (spec.worker.metadata); the operator would take them for its notes
- expression: >-
    variables.isOperator || size(bytes('%s'.format([[object.spec,
    has(object.metadata.labels) ? object.metadata.labels : {}, has(object.status) ? object.status : {},
    variables.notes.map(n, n.startsWith('kopf.') ? '' : n + variables.notes[n])]]))) <= 32768
  message: this is more than 32 KiB in all, which the operator could not write down when it has to let it go
{{- end }}

{{/* A toleration `t` as teams.yaml writes it. */}}
{{- define "skjob.tolerationText" -}}
((has(t.key) ? t.key : '') + ':' + (has(t.operator) && t.operator != '' ? t.operator : 'Equal') + ':' +
    (has(t.value) ? t.value : '') + ':' + (has(t.effect) ? t.effect : '') + ':' +
    (has(t.tolerationSeconds) ? string(t.tolerationSeconds) : ''))
{{- end }}

{{- define "skjob.everyPodsTolerations" -}}
['node.kubernetes.io/not-ready:Exists::NoExecute:300', 'node.kubernetes.io/unreachable:Exists::NoExecute:300']
{{- end }}

{{/*
What pods that users write may not have. They are looked at once: later they cannot be changed. Where they go is looked
at when there may be pods of them, `isPlaced`: the Job that ends a run has none.
*/}}
{{- define "skjob.podRules" -}}
- expression: "!variables.isNew || variables.isEmpty || variables.areSized"
  message: each container must have a limit of memory and a request of cpu, so that what a run costs is known
- expression: >-
    !variables.isNew || variables.allContainers.all(cs, cs.all(c, !has(c.resources) ||
    (!has(c.resources.limits) ||
    c.resources.limits.all(r, r in ['cpu', 'memory', 'ephemeral-storage'] + variables.devices)) &&
    (!has(c.resources.requests) ||
    c.resources.requests.all(r, r in ['cpu', 'memory', 'ephemeral-storage'] + variables.devices))))
  message: a run's containers may ask for cpu, memory and ephemeral-storage, and for nothing else that costs something
- expression: >-
    !variables.isNew || variables.pods.all(p,
    !has(p.terminationGracePeriodSeconds) || p.terminationGracePeriodSeconds <= 60)
  message: a pod must end within 60 s when its time is over (terminationGracePeriodSeconds)
- expression: >-
    !variables.isNew || variables.pods.all(p, !has(p.priorityClassName) || p.priorityClassName == '' ||
    'skjob/priority-class' in variables.limits && p.priorityClassName == variables.limits['skjob/priority-class'])
  message: a pod's priority is the platform team's to choose (`priority-class`, annotation `skjob/priority-class` of ResourceQuota skjob)
- expression: >-
    !variables.isPlaced || variables.pods.all(p, variables.selector.all(label,
    has(p.nodeSelector) && p.nodeSelector.exists(key, key + '=' + p.nodeSelector[key] == label)))
  messageExpression: >-
    'each pod must have the nodeSelector ' + variables.limits['skjob/node-selector'] +
    ' (`node-selector`, annotation `skjob/node-selector` of ResourceQuota skjob)'
- expression: >-
    !variables.isPlaced || size(variables.pools) == 0 || variables.pods.all(p, variables.pools.exists(pool,
    {{ include "skjob.isInPool" "p" }}))
  messageExpression: >-
    'each pod must be in a node pool, with its whole nodeSelector: ' + variables.pools.map(p, p[0]).join(', ') +
    ' (`node-pools`, annotation `skjob/node-pools` of ResourceQuota skjob)'
- expression: >-
    !variables.isPlaced || size(variables.pools) == 0 || variables.pods.all(p, !has(p.tolerations) ||
    variables.pools.exists(pool, {{ include "skjob.isInPool" "p" }} && p.tolerations.all(t,
    {{ include "skjob.tolerationText" . }} in pool[2].split(',') + {{ include "skjob.everyPodsTolerations" . }})))
  message: a pod tolerates the taints of its node pool, and no others (`node-pools`, annotation `skjob/node-pools` of ResourceQuota skjob)
# What Kubernetes lets every pod tolerate may be said too.
- expression: >-
    !variables.isPlaced || size(variables.pools) > 0 || variables.pods.all(p, !has(p.tolerations) || p.tolerations.all(t,
    {{ include "skjob.tolerationText" . }} in variables.tolerations + {{ include "skjob.everyPodsTolerations" . }}))
  message: which taints a pod tolerates is the platform team's to choose (`tolerations`, annotation `skjob/tolerations` of ResourceQuota skjob)
# A class can bring tolerations of its own, and more than the containers ask for.
- expression: "!variables.isNew || variables.pods.all(p, !has(p.runtimeClassName) || p.runtimeClassName == '')"
  message: a pod's runtime class is the platform team's to choose (runtimeClassName)
# One pod could keep those of every namespace off its node, or off all of them.
- expression: >-
    !variables.isNew || variables.pods.all(p, !has(p.affinity) ||
    !has(p.affinity.podAffinity) && !has(p.affinity.podAntiAffinity))
  message: a pod must not choose which other pods it is near (podAffinity, podAntiAffinity)
# It would pass by the taints.
- expression: "!variables.isPlaced || variables.pods.all(p, !has(p.nodeName) || p.nodeName == '')"
  message: a pod's node is Kubernetes' to choose (nodeName)
{{ include "skjob.teamRules" . }}
{{- end }}
