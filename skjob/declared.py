"""Runs a declared job, as the script that its user didn't have to write: load, search, report, save.

Called in the child process in place of a script, with joblib's active backend in place; so the search is built
without `n_jobs` and goes where any script's would. What the job asks for in vain (data that can't be read, a folder
that is gone) is a ConfigError; what the estimator raises while it is fitted is the program's own, and stays as it is.
scikit-learn and pandas are imported when a job runs, not before.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from skjob.errors import ConfigError
from skjob.job import (
    Component,
    Dataset,
    DeclaredJob,
    GridSearch,
    HalvingGridSearch,
    HalvingRandomSearch,
    RandomSearch,
    TableFile,
    build_estimator,
    build_space,
    in_a_line,
)
from skjob.jobfile import beside, importable_from


@dataclass(frozen=True)
class Samples:
    """What a search learns from."""

    features: Any
    target: Any
    groups: Any = None


def run_declared(job: DeclaredJob, folder: Path) -> None:
    """Runs the job. Its paths are relative to `folder`, and modules there can be imported."""
    with importable_from(folder):
        samples = load_samples(job.data, folder)
        search = build_search(job)
        groups = {} if samples.groups is None else {"groups": samples.groups}
        search.fit(samples.features, samples.target, **groups)
        _print_results(job, search)
        _save(job, search, folder)


# ---- data


def load_samples(data: TableFile | Dataset, folder: Path) -> Samples:
    """The samples of a file or of scikit-learn."""
    if isinstance(data, Dataset):
        try:
            return Samples(*data.build())
        except Exception as error:
            raise ConfigError(f"data set `{data.loader}` can't be loaded: {in_a_line(error)}") from error
    frame = _read_table(beside(folder, data.path), data)
    missing = int(frame[data.target].isna().sum())
    if frame.empty:
        raise ConfigError(f"`{data.path}` has no rows")
    if missing:
        rows = "1 row" if missing == 1 else f"{missing} rows"
        raise ConfigError(f"target column `{data.target}` of `{data.path}` is empty in {rows}", "remove or fill them")
    others = [column for column in frame.columns if column not in (data.target, data.groups)]
    return Samples(
        features=frame[list(data.features) if data.features else others],
        target=frame[data.target].to_numpy(),
        groups=frame[data.groups].to_numpy() if data.groups else None,
    )


def _read_table(path: Path, data: TableFile) -> Any:
    import pandas

    columns = None
    if data.features:
        columns = list(dict.fromkeys([*data.features, data.target, *([data.groups] if data.groups else [])]))
    try:
        if path.suffix == ".parquet":
            return pandas.read_parquet(path, columns=columns)
        return pandas.read_csv(path, usecols=columns)
    except Exception as error:
        raise ConfigError(f"`{data.path}` can't be read: {in_a_line(error)}") from error


# ---- search


def build_search(job: DeclaredJob) -> Any:
    """scikit-learn's search, unfitted."""
    # Halving is behind this import, whose only effect is to let it be imported.
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import (
        GridSearchCV,
        HalvingGridSearchCV,
        HalvingRandomSearchCV,
        RandomizedSearchCV,
    )

    classes = {
        GridSearch: GridSearchCV,
        RandomSearch: RandomizedSearchCV,
        HalvingGridSearch: HalvingGridSearchCV,
        HalvingRandomSearch: HalvingRandomSearchCV,
    }
    options = job.search.model_dump(exclude={"kind"})
    if options["error_score"] == "nan":
        options["error_score"] = math.nan
    return classes[type(job.search)](
        build_estimator(job.estimator),
        build_space(job),
        scoring=list(job.scoring) if isinstance(job.scoring, tuple) else job.scoring,
        cv=job.cv.build() if isinstance(job.cv, Component) else job.cv,
        **options,
    )


# ---- results


def _print_results(job: DeclaredJob, search: Any) -> None:
    print(f"candidates       {len(search.cv_results_['params'])}, {search.n_splits_} folds each")
    if hasattr(search, "best_params_"):
        chooser = job.search.refit if isinstance(job.search.refit, str) else job.scoring
        by = f" ({chooser})" if chooser else ""
        # `repr` of a plain float is exact: the same search prints the same line, wherever it ran.
        print(f"best score       {float(search.cv_results_[_mean_score(chooser, job)][search.best_index_])!r}{by}")
        print("best parameters")
        for name, value in sorted(search.best_params_.items()):
            print(f"  {name}: {value}")
    else:
        print("best score       none was chosen: several scorers and `refit: false`")


def _mean_score(chooser: object, job: DeclaredJob) -> str:
    return f"mean_test_{chooser if isinstance(job.scoring, tuple) else 'score'}"


def _save(job: DeclaredJob, search: Any, folder: Path) -> None:
    if job.outputs.table is not None:
        path = beside(folder, job.outputs.table)
        _write(path, lambda file: _write_table(search.cv_results_, path.suffix, file))
        print(f"table            {job.outputs.table}")
    if job.outputs.model is not None:
        import joblib

        _write(beside(folder, job.outputs.model), lambda file: joblib.dump(search.best_estimator_, file))
        print(f"model            {job.outputs.model}")


def _write_table(results: dict[str, Any], suffix: str, file: IO[bytes]) -> None:
    import pandas

    # `params` repeats the columns `param_*`, as mappings: no form for a table.
    columns = {name: [_plain(cell) for cell in cells] for name, cells in results.items() if name != "params"}
    if suffix == ".json":
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        # Not by pandas, which rounds to 15 digits.
        file.write(
            json.dumps([{name: _json_cell(cell) for name, cell in row.items()} for row in rows], indent=1).encode()
        )
        return
    frame = pandas.DataFrame({name: _of_one_kind(cells, suffix) for name, cells in columns.items()})
    if suffix == ".parquet":
        frame.to_parquet(file, index=False)
    else:
        frame.to_csv(file, index=False)


def _plain(cell: Any) -> Any:
    """A cell without numpy's types; None where a candidate does not have the parameter."""
    import numpy

    if cell is numpy.ma.masked:
        return None
    if isinstance(cell, numpy.generic):
        return cell.item()
    return cell if isinstance(cell, bool | int | float | str) or cell is None else _text(cell)


def _text(cell: Any) -> str:
    """Lists, tuples and estimators as Python writes them, in one line."""
    return " ".join(str(cell).split())


def _json_cell(cell: Any) -> Any:
    """JSON has no `nan` and no infinity."""
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def _of_one_kind(cells: list[Any], suffix: str) -> list[Any]:
    """A Parquet column has one type: where a parameter has values of several (`scale`, 0.1), they are texts."""
    kinds = {float if isinstance(cell, int) and not isinstance(cell, bool) else type(cell) for cell in cells}
    if suffix != ".parquet" or len(kinds - {type(None)}) <= 1:
        return cells
    return [None if cell is None else str(cell) for cell in cells]


def _write(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Writes a file that appears complete or not at all."""
    try:
        with _replacing(path) as file:
            fill(file)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"`{path}` can't be written: {reason}", "the search itself has ended") from error


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    # In the same folder: only within a file system is a rename atomic.
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
