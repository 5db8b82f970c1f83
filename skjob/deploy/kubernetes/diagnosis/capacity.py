"""Find out what the nodes of a cluster can hold: whether a pod of some size can ever run on any of them.

Pure: takes API objects. What counts is a node's size, not what is free now (see `most_free`): a full node empties, a
small one does not grow. Nodes that take no ordinary pods, cordoned or tainted, do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skjob.config.nodes import GPU
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.utils.units import format_bytes, format_cpus, format_gpus, format_size, quantity


@dataclass(frozen=True)
class NodeFit:
    """Whether a pod of this size can ever run: by the nodes' size, not by what is free now."""

    what: str
    cpu: float
    memory: int
    nodes: int
    fitting: int
    largest: str
    largest_cpu: float
    largest_memory: int
    gpus: int = 0
    largest_gpus: int = 0

    @property
    def fits(self) -> bool:
        """Whether at least one node can hold it."""
        return self.fitting > 0

    @property
    def message(self) -> str:
        """The result in one line."""
        size = format_size(self.cpu, self.memory, self.gpus)
        if not self.nodes:
            return f"no node takes a {self.what}: each is cordoned or has a taint"
        if self.gpus and not self.largest_gpus:
            return f"no node can hold a {self.what} of {size}: none of {self.nodes} nodes has a GPU"
        largest_gpus = self.largest_gpus if self.gpus else 0
        largest = f"`{self.largest}`, has {format_size(self.largest_cpu, self.largest_memory, largest_gpus)}"
        if self.fits:
            return f"{self.fitting} of {self.nodes} nodes can hold a {self.what} of {size}; the largest, {largest}"
        # Mention only what is too much.
        too_much = [format_cpus(self.cpu)] * (self.cpu > self.largest_cpu)
        too_much += [format_bytes(self.memory)] * (self.memory > self.largest_memory)
        too_much += [format_gpus(self.gpus)] * (self.gpus > self.largest_gpus)
        return f"no node can hold a {self.what} of {' and '.join(too_much) or size}; the largest, {largest}"


def best_node(
    nodes: Sequence[Manifest],
    cpu: float,
    memory: int,
    *,
    gpus: int = 0,
    pods: Sequence[Manifest] = (),
    what: str = "worker",
) -> NodeFit:
    """Return whether any node could hold a pod of `cpu` cores, `memory` bytes and `gpus` if nothing else ran there.

    Among `pods`, those of DaemonSets and of the node itself count as permanent; omit them if the user may not list
    them. The largest node is the one that comes closest to holding the pod, among those with the most GPUs if it needs
    any.
    """
    capacities = _free_capacity(nodes, [pod for pod in pods if _is_permanent(pod)])
    node_gpus = {node["metadata"]["name"]: _gpus_of(node) for node in nodes}
    fitting = sum(
        free_cpu >= cpu and free_memory >= memory and node_gpus[name] >= gpus
        for name, free_cpu, free_memory in capacities
    )
    most_gpus = min(gpus, max((node_gpus[name] for name, *_ in capacities), default=0))
    candidates = [capacity for capacity in capacities if node_gpus[capacity[0]] >= most_gpus]
    name, largest_cpu, largest_memory = _largest(candidates, cpu, memory)
    largest_gpus = node_gpus.get(name, 0)
    return NodeFit(what, cpu, memory, len(capacities), fitting, name, largest_cpu, largest_memory, gpus, largest_gpus)


def most_free(nodes: Sequence[Manifest], pods: Sequence[Manifest], cpu: float, memory: int) -> str:
    """Return what is free now on the node that comes closest to holding a pod of this size; empty if no node takes
    pods.

    `pods` are all pods on the nodes.
    """
    name, free_cpu, free_memory = _largest(_free_capacity(nodes, pods), cpu, memory)
    # Cores and memory are scheduled separately: one of them may be at zero or below.
    size = f"{format_cpus(max(0.0, round(free_cpu, 2)))} and {format_bytes(max(0, free_memory))}"
    return f"{size}, on `{name}`" if name else ""


_Capacity = tuple[str, float, int]


def _free_capacity(nodes: Sequence[Manifest], pods: Sequence[Manifest]) -> list[_Capacity]:
    """Return the nodes that take ordinary pods, with the capacity that `pods` leave on them."""
    capacities: list[_Capacity] = []
    for node in nodes:
        spec = node.get("spec", {})
        taints = spec.get("taints") or []
        if spec.get("unschedulable") or any(taint["effect"] in ("NoSchedule", "NoExecute") for taint in taints):
            continue
        name = node["metadata"]["name"]
        allocatable = node.get("status", {}).get("allocatable", {})
        used = [requests(pod) for pod in pods if pod.get("spec", {}).get("nodeName") == name]
        capacities.append(
            (
                name,
                quantity(allocatable.get("cpu", "0")) - sum(cores for cores, _ in used),
                int(quantity(allocatable.get("memory", "0"))) - sum(size for _, size in used),
            )
        )
    return capacities


def _largest(capacities: Sequence[_Capacity], cpu: float, memory: int) -> _Capacity:
    """Return the node that comes closest to holding a pod of this size."""
    return max(
        capacities,
        key=lambda capacity: (min(capacity[1] / (cpu or 1), capacity[2] / (memory or 1)), capacity[1], capacity[2]),
        default=("", 0.0, 0),
    )


def requests(pod: Manifest) -> tuple[float, int]:
    """Return the cores and bytes that a pod reserves: those of all containers, or of an init container if larger."""
    spec = pod.get("spec", {})
    together = [_requests(container) for container in spec.get("containers") or []]
    before = [_requests(container) for container in spec.get("initContainers") or []]
    cpu = max([sum(cores for cores, _ in together), *(cores for cores, _ in before)])
    memory = max([sum(size for _, size in together), *(size for _, size in before)])
    return cpu, int(memory)


def requests_of_gpus(pod: Manifest) -> int:
    """Return the GPUs that a pod reserves."""
    spec = pod.get("spec", {})
    together = sum(_gpus(container) for container in spec.get("containers") or [])
    return max([together, *(_gpus(container) for container in spec.get("initContainers") or [])])


def _gpus(container: Manifest) -> int:
    resources = container.get("resources") or {}
    return int(quantity((resources.get("limits") or {}).get(GPU, "0")))


def _gpus_of(node: Manifest) -> int:
    return int(quantity(node.get("status", {}).get("allocatable", {}).get(GPU, "0")))


def _requests(container: Manifest) -> tuple[float, float]:
    """Return a container's requests. A limit without a request counts as one."""
    resources = container.get("resources") or {}
    reserved = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return quantity(reserved.get("cpu", "0")), quantity(reserved.get("memory", "0"))


def _is_permanent(pod: Manifest) -> bool:
    owners = pod["metadata"].get("ownerReferences") or []
    return any(owner.get("kind") in ("DaemonSet", "Node") for owner in owners)
