"""What the nodes of a cluster can hold: whether a pod of some size can run on any of them, ever.

Pure over API objects. What counts is what nodes have, not what is free now (see `most_free`): a full node empties, a
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
    """Whether a pod of this size can ever run: by what the nodes have, not by what is free now."""

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
        # Name only what is too much.
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

    Of `pods`, those of DaemonSets and of the node itself count as permanent; leave them out if the user may not list
    them. The largest node is the one that comes closest to holding the pod, of those with the most GPUs if it needs
    any.
    """
    rooms = _free_capacity(nodes, [pod for pod in pods if _stays(pod)])
    there = {node["metadata"]["name"]: _gpus_of(node) for node in nodes}
    fitting = sum(room[1] >= cpu and room[2] >= memory and there[room[0]] >= gpus for room in rooms)
    most = min(gpus, max((there[name] for name, *_ in rooms), default=0))
    name, most_cpu, most_memory = _largest([room for room in rooms if there[room[0]] >= most], cpu, memory)
    return NodeFit(what, cpu, memory, len(rooms), fitting, name, most_cpu, most_memory, gpus, there.get(name, 0))


def most_free(nodes: Sequence[Manifest], pods: Sequence[Manifest], cpu: float, memory: int) -> str:
    """Return what is free now on the node that comes closest to holding a pod of this size; empty if no node takes any.

    `pods` are all that are on the nodes.
    """
    name, free_cpu, free_memory = _largest(_free_capacity(nodes, pods), cpu, memory)
    # Scheduling goes by cores and memory; what is left of one of them may be zero or less.
    size = f"{format_cpus(max(0.0, round(free_cpu, 2)))} and {format_bytes(max(0, free_memory))}"
    return f"{size}, on `{name}`" if name else ""


_Room = tuple[str, float, int]


def _free_capacity(nodes: Sequence[Manifest], pods: Sequence[Manifest]) -> list[_Room]:
    """Return the nodes that take ordinary pods, with what these pods leave of them."""
    rooms: list[_Room] = []
    for node in nodes:
        spec = node.get("spec", {})
        taints = spec.get("taints") or []
        if spec.get("unschedulable") or any(taint["effect"] in ("NoSchedule", "NoExecute") for taint in taints):
            continue
        name = node["metadata"]["name"]
        allocatable = node.get("status", {}).get("allocatable", {})
        there = [requests(pod) for pod in pods if pod.get("spec", {}).get("nodeName") == name]
        rooms.append(
            (
                name,
                quantity(allocatable.get("cpu", "0")) - sum(used for used, _ in there),
                int(quantity(allocatable.get("memory", "0"))) - sum(used for _, used in there),
            )
        )
    return rooms


def _largest(rooms: Sequence[_Room], cpu: float, memory: int) -> _Room:
    """Return the node that comes closest to holding a pod of this size."""
    return max(
        rooms,
        key=lambda room: (min(room[1] / (cpu or 1), room[2] / (memory or 1)), room[1], room[2]),
        default=("", 0.0, 0),
    )


def requests(pod: Manifest) -> tuple[float, int]:
    """Return the cores and bytes that a pod reserves: of its containers together, or of one that runs before them."""
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
    """Return a container's requests. A limit without a request is one."""
    resources = container.get("resources") or {}
    reserved = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return quantity(reserved.get("cpu", "0")), quantity(reserved.get("memory", "0"))


def _stays(pod: Manifest) -> bool:
    owners = pod["metadata"].get("ownerReferences") or []
    return any(owner.get("kind") in ("DaemonSet", "Node") for owner in owners)
