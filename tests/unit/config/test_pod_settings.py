"""The key `pods` of a platform team's ConfigMap: what it gives pods, and every mistake with its place and a remedy."""

from __future__ import annotations

import pytest

from skjob.config.namespace_policy import parse_rules
from skjob.config.pod_settings import (
    MAX_SIZE,
    PodMount,
    PodSettings,
    PodVariable,
    parse_pods,
    refused_folder,
    refused_key,
    refused_variable,
    token_audiences,
)
from skjob.errors import ConfigError

pytestmark = pytest.mark.unit

ORIGIN = "ConfigMap team/skjob-defaults"
EVERYTHING = """
labels: {cost-centre: "42", app.kubernetes.io/part-of: research}
annotations:
  cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
imagePullSecrets: [registry]
env:
  - {name: HTTPS_PROXY, value: "http://proxy:3128"}
  - {name: HUB_TOKEN, valueFrom: {secretKeyRef: {name: hub, key: token}}}
  - {name: REGION, valueFrom: {configMapKeyRef: {name: site, key: region}}}
mounts:
  - {mountPath: /mnt/data, persistentVolumeClaim: {claimName: data}}
  - {mountPath: /mnt/scratch, persistentVolumeClaim: {claimName: data}, readOnly: false, subPath: scratch/a}
  - {mountPath: /etc/site, configMap: {name: site}}
  - {mountPath: /etc/hub, secret: {secretName: hub}}
  - {mountPath: /var/run/secrets/cloud, serviceAccountToken: {audience: sts.amazonaws.com, expirationSeconds: 7200}}
serviceAccountName: trainer
"""
NO_SIDECAR = {"sidecar.istio.io/inject": "false"}


def problems(text: str) -> list[str]:
    """What is wrong, without the name of the ConfigMap."""
    with pytest.raises(ConfigError) as caught:
        parse_rules({"pods": text}, ORIGIN)
    assert caught.value.hint == "ask the platform team to fix the ConfigMap"
    return [problem.replace(f" in `{ORIGIN}`", "") for problem in caught.value.problems]


def test_everything_is_read() -> None:
    token = {"audience": "sts.amazonaws.com", "expirationSeconds": 7200, "path": "token"}
    assert parse_rules({"pods": EVERYTHING}, ORIGIN).pods == PodSettings(
        labels=NO_SIDECAR | {"cost-centre": "42", "app.kubernetes.io/part-of": "research"},
        annotations=NO_SIDECAR | {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
        pull_secrets=("registry",),
        variables=(
            PodVariable("HTTPS_PROXY", value="http://proxy:3128"),
            PodVariable("HUB_TOKEN", source="secretKeyRef", name="hub", key="token"),
            PodVariable("REGION", source="configMapKeyRef", name="site", key="region"),
        ),
        mounts=(
            PodMount("/mnt/data", {"persistentVolumeClaim": {"claimName": "data"}}),
            PodMount("/mnt/scratch", {"persistentVolumeClaim": {"claimName": "data"}}, False, "scratch/a"),
            PodMount("/etc/site", {"configMap": {"name": "site", "defaultMode": 0o440}}),
            PodMount("/etc/hub", {"secret": {"secretName": "hub", "defaultMode": 0o440}}),
            PodMount(
                "/var/run/secrets/cloud",
                {"projected": {"sources": [{"serviceAccountToken": token}], "defaultMode": 0o440}},
            ),
        ),
        service_account="trainer",
    )


@pytest.mark.parametrize("text", ["", "{}", "labels: {}"])
def test_pods_have_no_sidecar_unless_the_team_wants_one(text: str) -> None:
    assert parse_pods(text) == PodSettings() == PodSettings(NO_SIDECAR, NO_SIDECAR)
    wanted = parse_pods('labels: {sidecar.istio.io/inject: "true", team: a}')
    assert wanted.labels == {"sidecar.istio.io/inject": "true", "team": "a"}
    assert wanted.annotations == NO_SIDECAR


def test_the_audiences_of_tokens() -> None:
    assert list(token_audiences(parse_pods(EVERYTHING))) == ["sts.amazonaws.com"]
    assert list(token_audiences(PodSettings())) == []


def test_all_mistakes_are_reported_at_once() -> None:
    text = """
labels: {skjob/run: a, cost: 5}
env:
  - {name: DASK_LOGGING, value: "x"}
  - {name: A}
  - {name: A, value: "1"}
mounts:
  - {mountPath: /tmp/x, secret: {secretName: a}, readOnly: false}
  - {mountPath: /t, serviceAccountToken: {audience: x, expirationSeconds: 5}, subPath: y}
imagePullSecrets: [a, a]
serviceAccount: b
"""
    assert problems(text) == [
        (
            "`pods.labels.skjob/run` cannot be set: labels and annotations of `skjob` are not the platform team's;"
            " leave it out"
        ),
        "`pods.labels.cost` must be text: put it in quotes",
        (
            "`pods.env[0].name` is `DASK_LOGGING`: skjob, Dask, Kubernetes, Python or the system sets it;"
            " choose another name, or leave it out"
        ),
        (
            "`pods.mounts[0].mountPath` is `/tmp/x`: pods need `/tmp` for themselves; choose a folder such as"
            " `/mnt/data`"
        ),
        "`pods.mounts[1].serviceAccountToken.expirationSeconds` must be 600 to 86400 seconds, not 5",
        "`pods` has `serviceAccount`, which there is not; did you mean `serviceAccountName`?",
        "`pods.env[1]` must have either `value` or `valueFrom`",
        "`pods.mounts[0].readOnly` can only be `false` for a `persistentVolumeClaim`: leave it out",
        "`pods.mounts[1].subPath` has no meaning for a `serviceAccountToken`: leave it out",
        "`pods.env[2].name` is `A`, as `pods.env[1].name`: leave one of them out",
        "`pods.imagePullSecrets[1]` is `a`, as `pods.imagePullSecrets[0]`: leave one of them out",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "`pods` must be a map"),
        ("env: {A: b}", "`pods.env` must be a list"),
        ("env: [5]", "`pods.env[0]` must be a map"),
        ("labels: [a]", "`pods.labels` must be a map"),
        ("labels: {a/b/c: d}", "`pods.labels.a/b/c` is not a name such as `example.org/cost-centre`"),
        ("labels: {a: -x}", "`pods.labels.a` must be at most 63 letters, digits, `.`, `_` and `-`, not `-x`"),
        (
            'annotations: {a: "b\\nc"}',
            "`pods.annotations.a` must be one line of text: take line breaks and other control characters out of it",
        ),
        ("env: [{name: 1A, value: x}]", "`pods.env[0].name` must be letters, digits and `_`, no digit first, not `1A`"),
        ("env: [{name: A, value: 5}]", "`pods.env[0].value` must be text: put it in quotes"),
        ("env: [{value: x}]", "`pods.env[0]` lacks `name`: add it"),
        (
            "env: [{name: A, value: x, valueFrom: {secretKeyRef: {name: a, key: b}}}]",
            "`pods.env[0]` must have either `value` or `valueFrom`",
        ),
        (
            "env: [{name: A, valueFrom: {}}]",
            "`pods.env[0].valueFrom` must have either `secretKeyRef` or `configMapKeyRef`",
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {}}}]",
            "`pods.env[0].valueFrom` has `fieldRef`, which there is not: leave it out",
        ),
        (
            "mounts: [{mountPath: /a, configMap: {name: a}, secret: {secretName: b}}]",
            "`pods.mounts[0]` must have one of `persistentVolumeClaim`, `configMap`, `secret`, `serviceAccountToken`",
        ),
        (
            "mounts: [{mountPath: /a, hostPath: {path: /}}]",
            "`pods.mounts[0]` must have one of `persistentVolumeClaim`, `configMap`, `secret`, `serviceAccountToken`",
        ),
        (
            "mounts: [{mountPath: /a, persistentVolumeClaim: {claimName: a}, subPath: ../b}]",
            "`pods.mounts[0].subPath` must be a path within the volume such as `team/a`, not `../b`",
        ),
        (
            "mounts: [{mountPath: /a, persistentVolumeClaim: {claimName: a}, readOnly: 1}]",
            "`pods.mounts[0].readOnly` must be `true` or `false`",
        ),
        (
            "mounts: [{mountPath: /a, secret: {secretName: a}}, {mountPath: /a, secret: {secretName: b}}]",
            "`pods.mounts[1].mountPath` is `/a`, as `pods.mounts[0].mountPath`: leave one of them out",
        ),
        ("serviceAccountName: My_Account", "`pods.serviceAccountName` must be the name of an object, not `My_Account`"),
        (f"labels: {{a: {'x' * MAX_SIZE}}}", f"`pods` has {MAX_SIZE + 13} characters, and 8192 are the most"),
    ],
)
def test_a_mistake_is_reported_where_it_is(text: str, said: str) -> None:
    assert any(problem.startswith(said) for problem in problems(text)), problems(text)


def test_yaml_that_is_none() -> None:
    [problem] = problems("[{")
    assert problem.startswith("`pods` is not valid YAML: while parsing")


def test_the_value_of_a_variable_is_in_no_message() -> None:
    """Plain values are no place for secrets, but some have them there."""
    assert "s3cret" not in str(problems("env: [{name: A, value: [s3cret]}, {name: SKJOB_A, value: s3cret}]"))


@pytest.mark.parametrize("path", ["data", "/", "/data/", "/a//b", "/a/../b", "/a/./b", "/a/..", "/a b", "/a:b"])
def test_a_path_is_absolute_and_says_where_it_is(path: str) -> None:
    [problem] = problems(f'mounts: [{{mountPath: "{path}", secret: {{secretName: a}}}}]')
    assert problem.startswith("`pods.mounts[0].mountPath` must be an absolute path such as `/mnt/data`")


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/skjob", "/skjob"),
        ("/skjob/tls", "/skjob"),
        ("/tmp/cache", "/tmp"),
        ("/opt", "/opt/environment"),
        ("/usr", "/usr/bin"),
        ("/usr/local/lib/python3.11", "/usr/local/lib"),
        ("/etc", "/etc/hosts"),
        ("/run/secrets", "/run/secrets/kubernetes.io"),
        ("/var", "/var/run/secrets/kubernetes.io"),
        ("/dev/shm", "/dev"),
        ("/skjob-data", ""),
        ("/etc/site", ""),
        ("/opt/data", ""),
        ("/var/run/secrets/cloud", ""),
        ("/usr/local/share/ca-certificates", ""),
    ],
)
def test_nothing_is_mounted_where_pods_have_something_of_their_own(path: str, own: str) -> None:
    assert refused_folder(path) == own


@pytest.mark.parametrize(
    "name",
    [
        "SKJOB_X", "DASK_LOGGING", "KUBERNETES_SERVICE_HOST", "MALLOC_ARENA_MAX", "HOME", "PYTHONPATH",
        "PATH", "LD_PRELOAD", "PYTHONWARNINGS", "NVIDIA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS", "OMP_DYNAMIC", "MKL_DYNAMIC", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    ],
)  # fmt: skip
def test_names_of_variables_that_are_refused(name: str) -> None:
    assert refused_variable(name)


@pytest.mark.parametrize(
    "name", ["HTTPS_PROXY", "SSL_CERT_FILE", "AWS_ROLE_ARN", "SKJOBS", "MY_DASK_X", "OMPX", "NUM_THREADS"]
)
def test_names_of_variables_that_are_the_teams(name: str) -> None:
    assert refused_variable(name) == ""


@pytest.mark.parametrize(
    "key",
    [
        "skjob/run", "sub.skjob/x", "dask.org/cluster-name", "kubernetes.dask.org/x", "kubernetes.io/x", "k8s.io/x",
        "batch.kubernetes.io/job-name", "app.kubernetes.io/name", "app.kubernetes.io/component", "job-name",
        "kueue.x-k8s.io/queue-name", "kopf.zalando.org/last-handled-configuration",
    ],
)  # fmt: skip
def test_keys_that_are_refused(key: str) -> None:
    assert refused_key(key)
    for kind in ("labels", "annotations"):
        [problem] = problems(f"{kind}: {{{key}: x}}")
        assert problem.startswith(f"`pods.{kind}.{key}` cannot be set: ")


@pytest.mark.parametrize(
    "key",
    ["cost-centre", "app.kubernetes.io/part-of", "cluster-autoscaler.kubernetes.io/safe-to-evict", "notskjob/x"],
)
def test_keys_that_are_the_teams(key: str) -> None:
    assert refused_key(key) == ""


@pytest.mark.parametrize(
    "audience",
    [
        "", "a b", "kubernetes", "https://kubernetes.default.svc", "https://kubernetes.default.svc.cluster.local",
        "kubernetes.default.svc", "https://container.googleapis.com/v1/projects/a", "https://oidc.eks.eu.amazonaws.com/id/A",
    ],
)  # fmt: skip
def test_no_token_is_for_the_kubernetes_api(audience: str) -> None:
    [problem] = problems(f'mounts: [{{mountPath: /t, serviceAccountToken: {{audience: "{audience}"}}}}]')
    assert problem.startswith("`pods.mounts[0].serviceAccountToken.audience` ")


@pytest.mark.parametrize("audience", ["sts.amazonaws.com", "api://AzureADTokenExchange", "https://vault.example.org"])
def test_a_token_is_for_a_service_that_the_team_names(audience: str) -> None:
    settings = parse_pods(f'mounts: [{{mountPath: /t, serviceAccountToken: {{audience: "{audience}"}}}}]')
    assert list(token_audiences(settings)) == [audience]
