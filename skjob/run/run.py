"""One run as a value: what is run, where, by which plan, and who observes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skjob.config.environment_variables import NO_VARIABLES, Variables
from skjob.config.plan import JobSpec, Plan
from skjob.run.observer import RunObserver

if TYPE_CHECKING:
    from skjob.environment.spec import EnvironmentSpec
    from skjob.run.target import RunTarget


@dataclass(frozen=True)
class RunOptions:
    """What a command says about one run alone, beside its settings.

    `keep` leaves the run's cluster behind, `resume` reuses unseeded fits of earlier runs, and `cluster` names a cluster
    that `skjob up` or `--keep` has left: the run uses it and leaves it again.
    """

    keep: bool = False
    resume: bool = False
    cluster: str | None = None

    @property
    def leaves_cluster(self) -> bool:
        """Whether the cluster outlives the run."""
        return self.keep or self.cluster is not None


@dataclass(frozen=True)
class Run:
    """A run, from its plan to its end.

    `private` is a folder for certificates and sockets, which nobody else can read. `environment` is what pods must
    have; None on this machine, whose workers have the environment that they are started in. `variables` are those that
    the user sets for program and workers.
    """

    job: JobSpec
    run_id: str
    target: RunTarget
    plan: Plan
    private: Path
    observer: RunObserver
    environment: EnvironmentSpec | None = None
    options: RunOptions = RunOptions()
    variables: Variables = NO_VARIABLES

    def describe_cluster(self, name: str) -> dict[str, Any]:
        """Return the cluster of this name as the record has it: sizes in cores and bytes."""
        described = {
            "name": name,
            "workers": str(self.plan.workers),
            "worker_threads": self.plan.size.threads,
            "worker_memory": self.plan.size.memory,
        }
        if (api := self.target.api) is not None:
            described |= {
                "context": api.context.name,
                "namespace": api.context.namespace,
                "image": self.plan.image,
                "worker_cpu": self.plan.size.cpu,
            }
        if (gpus := self.plan.size.gpus) > 0:
            described["worker_gpu"] = gpus
        if (pool := self.plan.rules.node_pool) is not None:
            described["node_pool"] = pool.name
        return described
