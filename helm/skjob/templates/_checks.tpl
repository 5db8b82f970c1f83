{{/* Pods of Helm's hooks that run check.py as one of a team's users. They are where the release is: elsewhere Helm looks for no logs. */}}

{{/* The service account, for as long as the hook takes. Takes (list root hook name). */}}
{{- define "skjob.checkAccount" -}}
{{- $root := index . 0 -}}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ index . 2 }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "skjob.labels" $root | nindent 4 }}
  annotations:
    helm.sh/hook: {{ index . 1 }}
    helm.sh/hook-weight: "1"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end }}

{{/* Its rights in a team's namespace. Takes (list root hook name namespace). */}}
{{- define "skjob.checkRights" -}}
{{- $root := index . 0 -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ index . 2 }}
  namespace: {{ index . 3 }}
  labels:
    {{- include "skjob.labels" $root | nindent 4 }}
  annotations:
    helm.sh/hook: {{ index . 1 }}
    helm.sh/hook-weight: "1"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: skjob-user
subjects:
  - kind: ServiceAccount
    name: {{ index . 2 }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}

{{/* The pod. Takes (list root hook name delete-policy image arguments). */}}
{{- define "skjob.checkPod" -}}
{{- $root := index . 0 -}}
---
apiVersion: v1
kind: Pod
metadata:
  name: {{ index . 2 }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "skjob.labels" $root | nindent 4 }}
  annotations:
    helm.sh/hook: {{ index . 1 }}
    helm.sh/hook-weight: "2"
    helm.sh/hook-delete-policy: {{ index . 3 }}
    helm.sh/hook-output-log-policy: hook-failed
spec:
  serviceAccountName: {{ index . 2 }}
  restartPolicy: Never
  activeDeadlineSeconds: 300
  terminationGracePeriodSeconds: 1
  enableServiceLinks: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: check
      image: {{ index . 4 | quote }}
      imagePullPolicy: IfNotPresent
      command: [python, -c]
      args:
        - {{ $root.Files.Get "check.py" | toJson }}
        {{- range index . 5 }}
        - {{ . | quote }}
        {{- end }}
      env:
        - name: PYTHONDONTWRITEBYTECODE
          value: "1"
      resources:
        requests:
          cpu: 10m
          memory: 64Mi
        limits:
          memory: 128Mi
      securityContext:
        allowPrivilegeEscalation: false
        capabilities:
          drop: [ALL]
        readOnlyRootFilesystem: true
{{- end }}
