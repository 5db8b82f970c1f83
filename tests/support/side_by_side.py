"""Run the scenarios of several tests at the same time: a run mostly waits, for pods or for a limit to be reached.

A scenario is the body of a test; its first argument is a `Sandbox` with its own namespace, folder and API.
`@side_by_side` turns it into a test. The first such test of a lane (`xdist_lanes.py`) runs the scenarios of all
selected tests of the lane, in their order, `MAX_PARALLEL` at a time; each test then reports the outcome of its own.

`waits=True` marks a scenario that mostly waits: such scenarios run in addition to the others.

`exclusive=…` names a resource that only one scenario can use at a time: its scenarios run one after the other.

`during=…` is an outage, which takes a part of the whole cluster away. All scenarios with the same outage run at once;
each calls `Sandbox.outage()` when it is ready for the outage, which begins when all of them are waiting for it, and
ends when all have ended.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import update_wrapper
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from kubernetes import client

from skjob.deploy.kubernetes.api.client import Api, connect_api
from support.namespaces import leftovers_message, unchecked_namespace, wait_for_cleanup
from support.runs import Runs
from support.xdist_lanes import lane

MAX_PARALLEL = 4
"""Maximum number of scenarios at a time, and of those that only wait: more would slow each other on two cores."""

SCENARIOS_TIMEOUT = 1800
"""Time limit of a test that runs all scenarios of its lane."""

POLL_SECONDS = 0.1

Scenario = Callable[..., None]
Outage = Callable[[client.ApiClient, Mapping[str, Any]], AbstractContextManager[None]]
"""Context manager of an outage: gets the administrator's client, and what each scenario passed to `Sandbox.outage`."""

SharedResource = Callable[["ScenarioRunner"], AbstractContextManager[Any]]


@dataclass
class Sandbox:
    """Resources of one scenario, and the rows that it adds to tables."""

    name: str
    runs: Runs
    api: Api
    kind_api: client.ApiClient
    barrier: _OutageBarrier | None
    rows: list[tuple[str, tuple[object, ...]]] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return self.runs.namespace

    @property
    def folder(self) -> Path:
        return self.runs.folder

    def row(self, table: str, *cells: object) -> None:
        """Add a row to a table, named after the fixture that adds to it, such as `leftover_row`."""
        self.rows.append((table, cells))

    def outage(self, value: Any = None) -> None:
        """Wait until the outage has begun."""
        assert self.barrier is not None, "this scenario names no outage"
        self.barrier.wait(self.name, value)


def side_by_side(
    scenario: Scenario | None = None,
    *,
    setup: Callable[[Sandbox], AbstractContextManager[Any]] = nullcontext,
    waits: bool = False,
    exclusive: str = "",
    during: Outage | None = None,
    shared: Mapping[str, SharedResource] = MappingProxyType({}),
) -> Any:
    """Turn a scenario into a test. `setup` turns the `Sandbox` into the scenario's first argument.

    Its other arguments come from `parametrize`, or from `shared`, which creates them once for all scenarios that take
    an argument of that name.
    """

    def decorate(scenario: Scenario) -> Callable[..., None]:
        def test(request: pytest.FixtureRequest, **_: Any) -> None:
            for table, cells in request.getfixturevalue("scenario_runner").result_rows(request):
                request.getfixturevalue(table)(*cells)

        update_wrapper(test, scenario)
        first, *remaining = inspect.signature(scenario).parameters.values()
        parameters = [first.replace(name="request"), *(each for each in remaining if each.name not in shared)]
        test.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        options = _ScenarioOptions(scenario, setup, waits, exclusive, during, shared)
        test.scenario_options = options  # type: ignore[attr-defined]
        return pytest.mark.whole_cluster(test) if during else test

    return decorate if scenario is None else decorate(scenario)


@dataclass(frozen=True)
class _ScenarioOptions:
    """Options of a test that `side_by_side` has made."""

    scenario: Scenario
    setup: Callable[[Sandbox], AbstractContextManager[Any]]
    waits: bool
    exclusive: str
    during: Outage | None
    shared: Mapping[str, SharedResource]


def options_of(item: pytest.Item) -> _ScenarioOptions | None:
    """Return the options of a test, or None if `side_by_side` has not made it."""
    return getattr(getattr(item, "function", None), "scenario_options", None)


_outcomes = pytest.StashKey[dict[str, "Future[Sandbox]"]]()


def has_run(item: pytest.Item) -> bool:
    """Return whether a test's scenario has already run, so that the test only reports the outcome."""
    return item.nodeid in item.session.stash.get(_outcomes, {})


class ScenarioRunner:
    """Runs scenarios, and remembers their outcomes in this session."""

    def __init__(
        self, kind_api: client.ApiClient, environment: dict[str, str], folders: pytest.TempPathFactory
    ) -> None:
        self.kind_api = kind_api
        self.environment = environment
        self.folders = folders

    def result_rows(self, request: pytest.FixtureRequest) -> list[tuple[str, tuple[object, ...]]]:
        """Return the rows of a test's scenario, running it first if needed; raise what it raised."""
        outcomes = request.session.stash.setdefault(_outcomes, {})
        if request.node.nodeid not in outcomes:
            batch = [_ScenarioRun(item) for item in _batch_of(request.node)]
            outcomes |= {each.item.nodeid: each.outcome for each in batch}
            self._run_batch(batch)
        return outcomes[request.node.nodeid].result().rows

    def _run_batch(self, batch: list[_ScenarioRun]) -> None:
        queues: dict[str, list[_ScenarioRun]] = defaultdict(list)
        for each in batch:
            queues[each.options.exclusive or each.item.nodeid].append(each)
        during = batch[0].options.during
        barrier = _OutageBarrier(len(batch)) if during else None
        pools = {waits: ThreadPoolExecutor(len(batch) if barrier else MAX_PARALLEL) for waits in (False, True)}
        try:
            with pytest.MonkeyPatch.context() as patch, ExitStack() as stack, ExitStack() as namespaces:
                patch.setenv("KUBECONFIG", self.environment["KUBECONFIG"])
                for each in batch:
                    each.namespace = namespaces.enter_context(unchecked_namespace(self.kind_api))
                shared: dict[str, Any] = {}
                # The longest queues start first, but after those that need no shared resources.
                for queue in sorted(queues.values(), key=lambda queue: (bool(queue[0].shared), -len(queue))):
                    for name, share in queue[0].shared.items():
                        if name not in shared:
                            shared[name] = stack.enter_context(share(self))
                    pools[queue[0].options.waits].submit(self._run_queue, queue, shared, barrier)
                if barrier is not None and during is not None:
                    barrier.run_outage(during, self.kind_api)
                wait([each.ended for each in batch])
                self._set_outcomes(batch)
        except BaseException as error:
            for each in batch:
                if not each.outcome.done():
                    each.outcome.set_exception(RuntimeError(f"the scenario did not run to its end: {error}"))
            raise
        finally:
            for pool in pools.values():
                pool.shutdown(wait=False, cancel_futures=True)

    def _run_queue(self, queue: list[_ScenarioRun], shared: Mapping[str, Any], barrier: _OutageBarrier | None) -> None:
        for each in queue:
            try:
                runs = Runs(self.folders.mktemp(each.item.originalname), dict(self.environment), each.namespace)
                api = connect_api("kind-skjob", each.namespace)
                sandbox = Sandbox(each.item.name, runs, api, self.kind_api, barrier)
                each.run(sandbox, shared)
                each.ended.set_result(sandbox)
            except BaseException as error:  # raised by its test
                each.ended.set_exception(error)
            finally:
                if barrier is not None:
                    barrier.mark_ended(each.item.name)

    def _set_outcomes(self, batch: list[_ScenarioRun]) -> None:
        """Set the outcome of each scenario: nothing of a run may be left in its namespace."""
        succeeded = [each for each in batch if each.ended.exception() is None]
        remaining = wait_for_cleanup(self.kind_api, [each.namespace for each in succeeded]) if succeeded else {}
        for each in batch:
            if each.namespace in remaining:
                each.outcome.set_exception(AssertionError(leftovers_message(each.namespace, remaining[each.namespace])))
            elif error := each.ended.exception():
                each.outcome.set_exception(error)
            else:
                each.outcome.set_result(each.ended.result())


class _ScenarioRun:
    """A test's scenario with its arguments, how it ended, and the outcome for the test."""

    def __init__(self, item: pytest.Function) -> None:
        options = options_of(item)
        assert options is not None
        self.item = item
        self.options = options
        self.namespace = ""
        self.ended: Future[Sandbox] = Future()
        self.outcome: Future[Sandbox] = Future()
        self._parameters = item.callspec.params if hasattr(item, "callspec") else {}
        _, *self._names = inspect.signature(options.scenario).parameters

    @property
    def shared(self) -> Mapping[str, SharedResource]:
        return {name: share for name, share in self.options.shared.items() if name in self._names}

    def run(self, sandbox: Sandbox, shared: Mapping[str, Any]) -> None:
        arguments = {name: self._parameters[name] if name in self._parameters else shared[name] for name in self._names}
        with self.options.setup(sandbox) as first:
            self.options.scenario(first, **arguments)


def _batch_of(item: pytest.Function) -> list[pytest.Function]:
    """Return the tests whose scenarios run together with this one's."""
    options = options_of(item)
    assert options is not None
    return [
        each
        for each in item.session.items
        if isinstance(each, pytest.Function)
        and lane(each.nodeid) == lane(item.nodeid)
        and (other := options_of(each)) is not None
        and other.during is options.during
    ]


class _OutageBarrier:
    """Makes the scenarios of an outage wait until it has begun."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._values: dict[str, Any] = {}
        self._ended: set[str] = set()
        self._begun = threading.Event()
        self._failed = False

    def wait(self, name: str, value: Any) -> None:
        """Wait until the outage has begun."""
        self._values[name] = value
        self._begun.wait()
        assert not self._failed, "the outage could not begin"

    def mark_ended(self, name: str) -> None:
        """Record that this scenario has ended."""
        self._ended.add(name)

    def run_outage(self, outage: Outage, api: client.ApiClient) -> None:
        """Begin the outage when all scenarios wait for it or have ended; end it when all have ended."""
        try:
            self._until(lambda: len(self._values.keys() | self._ended) == self._number)
            with outage(api, dict(self._values)):
                self._begun.set()
                self._until(lambda: len(self._ended) == self._number)
        except BaseException:
            self._failed = True
            raise
        finally:
            self._begun.set()

    def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # each scenario has deadlines of its own
            time.sleep(POLL_SECONDS)
