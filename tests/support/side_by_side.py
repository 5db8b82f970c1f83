"""Run the scenarios of several tests at the same time: a run mostly waits, for pods or for a limit to be reached.

A scenario is the body of a test; its first argument is a `Stage` with its own namespace, folder and API.
`@side_by_side` turns it into a test. The first such test of a lane (`xdist_lanes.py`) that is run plays the scenarios
of all selected tests of the lane, in their order, `AT_ONCE` at a time; each test then reports the outcome of its own.

`waits=True` marks a scenario that mostly waits: such scenarios are played in addition to the others.

`one_by_one=…` names something that only one scenario can have at a time: its scenarios are played one after the other.

`during=…` is an outage, which takes a part of the whole cluster away. All scenarios with the same outage are played at
once; each calls `Stage.outage()` when it is ready for the outage. It begins when all of them are waiting for it, and
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

AT_ONCE = 4
"""Number of scenarios at a time, and as many that only wait: on two cores, more would only slow each other down."""

PLAYED_SECONDS = 1800
"""Time limit of a test that plays all scenarios of its lane."""

POLL_SECONDS = 0.1

Scenario = Callable[..., None]
Outage = Callable[[client.ApiClient, Mapping[str, Any]], AbstractContextManager[None]]
"""Context manager of an outage: gets the administrator's client, and what each scenario passed to `Stage.outage`."""

Share = Callable[["Played"], AbstractContextManager[Any]]


@dataclass
class Stage:
    """Resources of one scenario, and the rows that it adds to tables."""

    name: str
    runs: Runs
    api: Api
    kind_api: client.ApiClient
    meeting: _Meeting | None
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
        assert self.meeting is not None, "this scenario names no outage"
        self.meeting.wait(self.name, value)


def side_by_side(
    scenario: Scenario | None = None,
    *,
    stage: Callable[[Stage], AbstractContextManager[Any]] = nullcontext,
    waits: bool = False,
    one_by_one: str = "",
    during: Outage | None = None,
    shared: Mapping[str, Share] = MappingProxyType({}),
) -> Any:
    """Turn a scenario into a test. `stage` turns the `Stage` into the scenario's first argument.

    Its other arguments come from `parametrize`, or from `shared`, which creates them once for all scenarios that take
    an argument of that name.
    """

    def decorate(scenario: Scenario) -> Callable[..., None]:
        def test(request: pytest.FixtureRequest, **_: Any) -> None:
            for table, cells in request.getfixturevalue("played").show(request):
                request.getfixturevalue(table)(*cells)

        update_wrapper(test, scenario)
        first, *others = inspect.signature(scenario).parameters.values()
        parameters = [first.replace(name="request"), *(other for other in others if other.name not in shared)]
        test.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        test.part = _Part(scenario, stage, waits, one_by_one, during, shared)  # type: ignore[attr-defined]
        return pytest.mark.whole_cluster(test) if during else test

    return decorate if scenario is None else decorate(scenario)


@dataclass(frozen=True)
class _Part:
    """Options of a test that `side_by_side` has made."""

    scenario: Scenario
    stage: Callable[[Stage], AbstractContextManager[Any]]
    waits: bool
    one_by_one: str
    during: Outage | None
    shared: Mapping[str, Share]


def part_of(item: pytest.Item) -> _Part | None:
    """Return the options of a test, or None if `side_by_side` has not made it."""
    return getattr(getattr(item, "function", None), "part", None)


_outcomes = pytest.StashKey[dict[str, "Future[Stage]"]]()


def was_played(item: pytest.Item) -> bool:
    """Return whether a test's scenario was played already, so that it only reports the outcome."""
    return item.nodeid in item.session.stash.get(_outcomes, {})


class Played:
    """Plays scenarios, and remembers their outcomes in this session."""

    def __init__(
        self, kind_api: client.ApiClient, environment: dict[str, str], folders: pytest.TempPathFactory
    ) -> None:
        self.kind_api = kind_api
        self.environment = environment
        self.folders = folders

    def show(self, request: pytest.FixtureRequest) -> list[tuple[str, tuple[object, ...]]]:
        """Return the rows of a test's scenario, playing it first if needed; raise what it raised."""
        outcomes = request.session.stash.setdefault(_outcomes, {})
        if request.node.nodeid not in outcomes:
            playing = [_Playing(item) for item in _played_together(request.node)]
            outcomes |= {each.item.nodeid: each.outcome for each in playing}
            self._play(playing)
        return outcomes[request.node.nodeid].result().rows

    def _play(self, playing: list[_Playing]) -> None:
        rows: dict[str, list[_Playing]] = defaultdict(list)
        for each in playing:
            rows[each.part.one_by_one or each.item.nodeid].append(each)
        during = playing[0].part.during
        meeting = _Meeting(len(playing)) if during else None
        pools = {waits: ThreadPoolExecutor(len(playing) if meeting else AT_ONCE) for waits in (False, True)}
        try:
            with pytest.MonkeyPatch.context() as patch, ExitStack() as stack, ExitStack() as namespaces:
                patch.setenv("KUBECONFIG", self.environment["KUBECONFIG"])
                for each in playing:
                    each.namespace = namespaces.enter_context(unchecked_namespace(self.kind_api))
                shared: dict[str, Any] = {}
                # The longest rows start first, but before them those that need not wait for shared resources.
                for row in sorted(rows.values(), key=lambda row: (bool(row[0].shared), -len(row))):
                    for name, share in row[0].shared.items():
                        if name not in shared:
                            shared[name] = stack.enter_context(share(self))
                    pools[row[0].part.waits].submit(self._play_in_a_row, row, shared, meeting)
                if meeting is not None and during is not None:
                    meeting.hold(during, self.kind_api)
                wait([each.ended for each in playing])
                self._conclude(playing)
        except BaseException as error:
            for each in playing:
                if not each.outcome.done():
                    each.outcome.set_exception(RuntimeError(f"it was not played to the end: {error}"))
            raise
        finally:
            for pool in pools.values():
                pool.shutdown(wait=False, cancel_futures=True)

    def _play_in_a_row(self, row: list[_Playing], shared: Mapping[str, Any], meeting: _Meeting | None) -> None:
        for each in row:
            try:
                runs = Runs(self.folders.mktemp(each.item.originalname), dict(self.environment), each.namespace)
                api = connect_api("kind-skjob", each.namespace)
                stage = Stage(each.item.name, runs, api, self.kind_api, meeting)
                each.play(stage, shared)
                each.ended.set_result(stage)
            except BaseException as error:  # its test raises it
                each.ended.set_exception(error)
            finally:
                if meeting is not None:
                    meeting.leave(each.item.name)

    def _conclude(self, playing: list[_Playing]) -> None:
        """Set the outcome of each scenario: nothing of a run may be left in its namespace."""
        succeeded = [each for each in playing if each.ended.exception() is None]
        remaining = wait_for_cleanup(self.kind_api, [each.namespace for each in succeeded]) if succeeded else {}
        for each in playing:
            if each.namespace in remaining:
                each.outcome.set_exception(AssertionError(leftovers_message(each.namespace, remaining[each.namespace])))
            elif error := each.ended.exception():
                each.outcome.set_exception(error)
            else:
                each.outcome.set_result(each.ended.result())


class _Playing:
    """A test's scenario with its arguments, how it ended, and the outcome for the test."""

    def __init__(self, item: pytest.Function) -> None:
        part = part_of(item)
        assert part is not None
        self.item = item
        self.part = part
        self.namespace = ""
        self.ended: Future[Stage] = Future()
        self.outcome: Future[Stage] = Future()
        self._parameters = item.callspec.params if hasattr(item, "callspec") else {}
        _, *self._names = inspect.signature(part.scenario).parameters

    @property
    def shared(self) -> Mapping[str, Share]:
        return {name: share for name, share in self.part.shared.items() if name in self._names}

    def play(self, stage: Stage, shared: Mapping[str, Any]) -> None:
        arguments = {name: self._parameters[name] if name in self._parameters else shared[name] for name in self._names}
        with self.part.stage(stage) as first:
            self.part.scenario(first, **arguments)


def _played_together(item: pytest.Function) -> list[pytest.Function]:
    """Return the tests whose scenarios are played together with this one's."""
    part = part_of(item)
    assert part is not None
    return [
        each
        for each in item.session.items
        if isinstance(each, pytest.Function)
        and lane(each.nodeid) == lane(item.nodeid)
        and (other := part_of(each)) is not None
        and other.during is part.during
    ]


class _Meeting:
    """Makes the scenarios of an outage wait for its beginning."""

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

    def leave(self, name: str) -> None:
        """Record that this scenario has ended."""
        self._ended.add(name)

    def hold(self, outage: Outage, api: client.ApiClient) -> None:
        """Hold the outage: begin it when all scenarios wait for it or have ended, and end it when all have ended."""
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
