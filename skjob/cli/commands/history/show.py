"""`skjob show`: show what a past run did, from its record, or compare two runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skjob.cli.completion import complete_run
from skjob.cli.tables import aligned
from skjob.cli.terminal import write

if TYPE_CHECKING:
    from skjob.run.history.compare import ComparedValue
    from skjob.run.history.details import CandidateDetails, FailureGroup, RunDetails, SearchDetails

MAX_PARAMETERS = 6
"""Maximum number of parameter columns in a table of candidates: more do not fit a terminal."""

MAX_WIDTH = 24
"""Maximum width of a value in a table."""

RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="The id of a run, or its first or last part. [default: the last run in this folder]",
        show_default=False,
        autocompletion=complete_run,
    ),
]


def show(
    run: RunArgument = None,
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="[OTHER]",
            help="A second run, to compare the first with.",
            show_default=False,
            autocompletion=complete_run,
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="How many candidates to show.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Show a run: its outcome, the best candidates, failures by cause, workers, steps and notes; or compare two runs.

    It needs no cluster: each run leaves a record below `.skjob/runs`.
    """
    from skjob.cli.values import as_json
    from skjob.run.history.collect import read_details
    from skjob.run.history.compare import compare
    from skjob.run.history.records import find_run

    folder = Path.cwd()
    details = read_details(find_run(folder, run))
    if other is None:
        if json:
            typer.echo(as_json(run_data(details, top)))
        else:
            write(run_lines(details, top))
        return
    second = read_details(find_run(folder, other))
    compared = compare(details, second)
    if json:
        runs = [details.record.run_id, second.record.run_id]
        typer.echo(as_json({"runs": runs, "values": [{**vars(each), "same": each.same} for each in compared]}))
    else:
        write(comparison_lines(details, second, compared))


def run_data(details: RunDetails, top: int) -> dict[str, Any]:
    """Return what is shown, as plain data."""
    from dataclasses import asdict

    from skjob.run.history.summary import summary_of

    record = details.record
    return {
        "summary": summary_of(details),
        "searches": [
            {
                "title": search.title,
                "metric": search.metric,
                "chosen_by_callable": search.chosen_by_callable,
                "fits": {"total": search.total, "done": search.done, "reused": search.reused, "failed": search.failed},
                "candidates": [_candidate(each) for each in search.candidates[:top]],
            }
            for search in details.searches
        ],
        "others": details.others,
        "failures": [{**asdict(group), "workers": sorted(group.workers)} for group in details.failures],
        "workers": [
            {
                "name": worker.name,
                "done": worker.done,
                "failed": worker.failed,
                "busy_seconds": worker.busy,
                "idle_seconds": details.idle(worker),
                "peak_memory": record.peak_memory.get(worker.name),
            }
            for worker in details.workers
        ],
        "record": record,
    }


def _candidate(each: CandidateDetails) -> dict[str, Any]:
    candidate = each.candidate
    return {
        "candidate": candidate.number,
        "iteration": each.iteration,
        "mean": candidate.mean,
        "spread": candidate.spread,
        "splits": len(candidate.scores),
        "failed": candidate.failed,
        "seconds": each.mean_seconds,
        "scores": {metric: each.mean(metric) for metric in each.scores},
        "parameters": candidate.parameters,
    }


# ---- one run as lines


def run_lines(details: RunDetails, top: int) -> Iterator[str]:
    """Yield the lines that describe a run."""
    from skjob.utils.text import visible

    record = details.record
    yield from aligned(_head(details))
    for search in details.searches:
        yield ""
        yield visible(_search_line(search))
        yield from _indented(aligned(candidates(search, top)))
    if details.others:
        yield ""
        yield from aligned(_others(details))
    if not details.has_events:
        yield ""
        yield "This run has no scores yet, it made no search, or an earlier version of skjob wrote its record."
    if details.failures:
        yield ""
        yield "Failures"
        for group in details.failures:
            yield from _failure(group)
    if details.workers:
        yield ""
        yield from aligned(_workers(details))
    if record.steps:
        yield ""
        yield "Steps"
        yield from _indented(aligned([[step.name, _seconds(step.seconds)] for step in record.steps]))
    if record.notes:
        yield ""
        yield "Notes"
        for note in record.notes:
            first, *more = visible(note, lines=True).splitlines() or [""]
            yield f"  - {first}"
            yield from (f"    {line}" for line in more)


def _head(details: RunDetails) -> list[list[str]]:
    from skjob.cli.commands.history.runs import fits
    from skjob.cli.values import cost, outcome, when
    from skjob.errors import first_line
    from skjob.run.history.summary import summary_of

    record, summary = details.record, summary_of(details)
    words = " ".join([record.program, *record.arguments])
    where = record.why or record.place or "-"
    rows = [
        ["run", record.run_id],
        ["program", words],
        ["started", when(record.started)],
        ["where", where],
        ["outcome", outcome(summary.status, summary.exit_code)],
    ]
    if record.outcome.cause:
        rows.append(["cause", first_line(record.outcome.cause)])
    if record.outcome.cleanup:
        rows.append(["clean-up", first_line(record.outcome.cleanup)])
    rows += [["time", _seconds(summary.seconds)], ["fits", fits(summary)]]
    if record.workers:
        rows.append(["workers", f"at most {max(each.connected for each in record.workers)} connected"])
    if pool := record.cluster.get("node_pool"):
        rows.append(["node pool", str(pool)])
    if gpus := record.cluster.get("worker_gpu"):
        rows.append(["GPUs", f"{gpus} per worker"])
    if summary.cost is not None:
        maximum = record.cost.get("most")
        limit = f" of at most {maximum:g}" if isinstance(maximum, int | float) else ""
        rows.append(["cost", f"{cost(summary.cost, summary.currency)}{limit}"])
    if isinstance(gpu_hours := record.cost.get("gpu_hours"), int | float):
        rows.append(["GPU hours", f"{gpu_hours:.3g}"])
    rows.append(["scikit-learn", record.versions.get("scikit-learn", "-")])
    return rows


def _search_line(search: SearchDetails) -> str:
    from skjob.utils.text import counts

    parts = [f"{search.title}: {search.done} of {search.total} fits"]
    parts += counts(reused=search.reused, failed=search.failed)
    if search.halving:
        parts.append(f"{len(search.calls)} iterations, latest first")
    return "; ".join(filter(None, [*parts, search.ordering]))


def candidates(search: SearchDetails, top: int) -> list[list[str]]:
    """Return the rows of a table of the best candidates, starting with its heading."""
    from skjob.utils.text import shortened
    from skjob.utils.units import format_score

    names = search.varying[:MAX_PARAMETERS]
    heading = ["#", "SCORE", "±", "SPLITS", "FIT TIME", *(shortened(name, MAX_WIDTH) for name in names)]
    rows = []
    for rank, each in enumerate(search.candidates[:top], 1):
        candidate = each.candidate
        splits = str(len(candidate.scores)) + (f" ({candidate.failed} failed)" if candidate.failed else "")
        values = [shortened(candidate.parameters.get(name, "-"), MAX_WIDTH) for name in names]
        spread = format_score(candidate.spread, 2)
        seconds = "reused" if each.mean_seconds is None else _seconds(each.mean_seconds)
        rows.append([str(rank), format_score(candidate.mean), spread, splits, seconds, *values])
        if search.halving:
            rows[-1].insert(1, str(each.iteration))
    if search.halving:
        heading.insert(1, "ITERATION")
    return [heading, *rows]


def _others(details: RunDetails) -> list[list[str]]:
    from skjob.utils.units import format_score

    heading = ["PARALLEL CALLS", "CALLS", "FITS OR TASKS", "TOTAL TIME", "MEAN SCORE"]
    rows = []
    for group in details.others:
        means = [f"{name} {format_score(sum(scores) / len(scores))}" for name, scores in group.scores.items() if scores]
        rows.append([group.title, str(group.calls), str(group.done), _seconds(group.seconds), ", ".join(means) or "-"])
    return [heading, *rows]


def _failure(group: FailureGroup) -> Iterator[str]:
    from skjob.utils.text import shortened, visible

    yield visible(f"  {group.fits} fits: {shortened(group.error or 'unknown reason', 300)}")
    if group.example:
        yield visible(f"    for example with {shortened(group.example, 200)}")


def _workers(details: RunDetails) -> list[list[str]]:
    from skjob.utils.units import format_bytes

    peaks = details.record.peak_memory
    rows = []
    for worker in details.workers:
        peak = peaks.get(worker.name)
        rows.append([
            worker.name or "(the program itself)",
            str(worker.done),
            str(worker.failed or "-"),
            _seconds(worker.busy),
            _seconds(details.idle(worker)),
            "-" if peak is None else format_bytes(peak),
        ])  # fmt: skip
    return [["WORKER", "FITS", "FAILED", "BUSY", "IDLE", "PEAK MEMORY"], *rows]


# ---- two runs


def comparison_lines(first: RunDetails, second: RunDetails, compared: list[ComparedValue]) -> Iterator[str]:
    """Yield the lines that compare two runs. Equal versions and settings are counted, not listed."""
    heading = ["", first.record.run_id, second.record.run_id, "CHANGE"]
    rows, same = [heading], dict[str, int]()
    section = ""
    for each in compared:
        if each.same and each.section != "run":
            same[each.section] = same.get(each.section, 0) + 1
            continue
        if each.first is None and each.second is None:
            continue
        if each.section != section and each.section != "run":
            rows.append([f"{each.section}:", "", "", ""])
        section = each.section
        indent = "" if section == "run" else "  "
        rows.append([indent + each.name, _value(each, each.first), _value(each, each.second), change(each)])
    yield from aligned(rows)
    if same:
        yield ""
        yield "the same in both: " + ", ".join(f"{name} ({number})" for name, number in same.items())


def change(each: ComparedValue) -> str:
    """Describe how a number has changed: a score by its difference, others in percent, and text as `differs`."""
    first, second = each.first, each.second
    if each.same:
        return ""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (first, second))
    if not numbers or each.name == "exit status":
        return "differs"
    if each.name == "best":
        return f"{second - first:+.3g}"
    return f"{(second - first) / abs(first):+.0%}" if first else "differs"


def _value(each: ComparedValue, value: Any) -> str:
    from skjob.cli.values import when
    from skjob.utils.text import shortened
    from skjob.utils.units import format_score

    if value is None:
        return "-"
    if each.name == "best":
        return format_score(value)
    if each.name == "started":
        return when(value)
    if isinstance(value, float):
        return _seconds(value) if each.name == "seconds" or each.section == "steps" else f"{value:.6g}"
    return shortened(str(value), 60)


def _seconds(seconds: float | None) -> str:
    from skjob.utils.units import format_duration

    return "-" if seconds is None else format_duration(seconds)


def _indented(lines: list[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)
