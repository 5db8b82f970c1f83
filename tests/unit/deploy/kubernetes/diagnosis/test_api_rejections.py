"""Test rejections at the start of a run, in Kubernetes 1.34's words, and the messages for the user."""

from __future__ import annotations

from typing import Any

import pytest

from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import NotFound, Rejected
from skjob.deploy.kubernetes.diagnosis.api_rejections import explain_rejections
from skjob.errors import ConfigError, OperatorError, SkjobError, StartError

pytestmark = pytest.mark.unit


class Nobody:
    """An API of which only the context is used."""

    context = Context("ours", "team", "https://api.example.org")


REFUSALS = [
    (NotFound('namespaces "team" not found'), ConfigError, "namespace `team` does not exist", "`--namespace`"),
    (NotFound("404 page not found"), OperatorError, "no longer knows DaskClusters", "`skjob install"),
    (
        Rejected(
            'jobs.batch "a" is forbidden: unable to create new content in namespace team because it is being terminated'
        ),
        StartError,
        "the namespace `team` is being deleted",
        "`--namespace`",
    ),
    (
        Rejected(
            'DaskCluster in version "v1" cannot be handled as a DaskCluster: strict decoding error:'
            ' unknown field "spec.worker.metadata"'
        ),
        OperatorError,
        'has another version of DaskClusters than dask-kubernetes here: unknown field "spec.worker.metadata"',
        "`skjob install --context ours`",
    ),
    (
        Rejected(
            'DaskCluster.kubernetes.dask.org "a" is invalid: spec.minimum: Required value'
        ),
        OperatorError,
        "than dask-kubernetes here: spec.minimum: Required value",
        "`skjob install --context ours`",
    ),
    (
        Rejected("daskclusters \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: no"),
        StartError,
        "denied request: no",
        "ask your platform team",
    ),
    (
        Rejected('jobs.batch "a" is forbidden: exceeded quota: small, requested: pods=1, used: pods=5, limited: 5'),
        StartError,
        "exceeded quota: small",
        "`kubectl get resourcequota` shows it",
    ),
    (Rejected("jobs.batch is forbidden: because"), StartError, "because", "a rule of this cluster rejects the run"),
]  # fmt: skip


@pytest.mark.parametrize(("refusal", "kind", "message", "hint"), REFUSALS)
def test_what_is_refused(refusal: SkjobError, kind: type[SkjobError], message: str, hint: str) -> None:
    api: Any = Nobody()
    with pytest.raises(kind) as raised, explain_rejections(api):
        raise refusal
    assert message in raised.value.message
    assert hint in raised.value.hint
