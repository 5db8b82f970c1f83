"""Run a declared job as a script would do it: load the data, search or fit, report, save.

This runs in the child process instead of a script, with skjob's joblib backend active, so the search is built without
`n_jobs` and runs where a script's would. Data that cannot be read or a missing folder raises ConfigError; errors of the
estimator while it is fitted are passed on unchanged. scikit-learn and pandas are imported only when a job runs.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from skjob.errors import ConfigError, in_a_line
from skjob.jobfile.build import build_component, build_estimator, build_space, load_dataset
from skjob.jobfile.data.estimator_support import booster_library, classifies, input_mode_of, steps_of
from skjob.jobfile.data.files import File, files_of
from skjob.jobfile.data.out_of_core import FitRequest, FitResult, data_key, fit, unsupported_reasons
from skjob.jobfile.data.placement import Placement, Workers, choose_placement
from skjob.jobfile.data.table_size import Table, table_of
from skjob.jobfile.imports import importable_from, resolve_path
from skjob.jobfile.schema import Component, Dataset, DeclaredJob, TableFile
from skjob.jobfile.schema_search import GridSearch, HalvingGridSearch, HalvingRandomSearch, RandomSearch, Search
from skjob.utils.notify import Notify
from skjob.utils.units import format_bytes

HOLDOUT_SEED = 0
"""Seed of the draw of the rows that a single fit is scored on."""


@dataclass(frozen=True)
class Samples:
    """The rows that an estimator learns from."""

    features: Any
    target: Any
    groups: Any = None


def run_declared(
    job: DeclaredJob,
    folder: Path,
    placement: Placement | None = None,
    notify: Notify = lambda _: None,
    rounds: str | None = None,
) -> None:
    """Run the job with its data where the plan has placed it; in memory if `placement` is None.

    The job's paths are relative to `folder`, and modules there can be imported. `rounds` is the address below which a
    booster's training keeps its checkpoints, None for nowhere.
    """
    with importable_from(folder):
        if job.search is not None:
            samples = load_samples(job.data, folder)
            search = build_search(job, job.search)
            groups = {} if samples.groups is None else {"groups": samples.groups}
            search.fit(samples.features, samples.target, **groups)
            _print_results(job, job.search, search)
            _save(job, search, folder)
            return
        estimator = build_estimator(job.estimator)
        if placement is not None and placement.pieces and isinstance(job.data, TableFile):
            fitted = _fit_out_of_core(job, job.data, estimator, folder, placement, notify, rounds)
        else:
            fitted = _fit_in_memory(job, estimator, load_samples(job.data, folder))
        _print_fit(fitted)
        _save_model(job, fitted.model, folder)


# ---- data


def place_data(job: DeclaredJob, folder: Path, workers: Workers, *, shared_files: bool) -> Placement | None:
    """Choose where the data of a job goes, by its size and the workers' memory; None for a data set of scikit-learn.

    `shared_files` says whether workers see the files of this machine.

    Raises:
        ConfigError: it does not fit, or the estimator cannot learn from it in the way that fits; with all problems.
    """
    if isinstance(job.data, Dataset):
        return None
    with importable_from(folder):
        estimator = build_estimator(job.estimator)
    table = table_of(files_of(job.data.addresses, folder))
    request = _fit_request(job, job.data, table, estimator)
    columns = _columns(request.features, job.data)
    name = type(steps_of(estimator)[-1]).__name__
    placement = choose_placement(
        table, columns, request.address, name, input_mode_of(estimator), workers, search=job.search is not None
    )
    if not placement.pieces:
        sent = f"{format_bytes(table.file_bytes)} of files are read here and sent to workers once"
        return replace(placement, why=f"{placement.why}; {sent}")
    problems = unsupported_reasons(table, request, estimator)
    if not shared_files and not all(file.remote for file in table.files):
        problems.append(f"`{request.address}` is on this machine, where workers cannot read it: put it where they can")
    if problems:
        raise ConfigError.collect(problems, placement.why)
    return placement


def _fit_request(job: DeclaredJob, data: TableFile, table: Table, estimator: Any) -> FitRequest:
    remaining = tuple(name for name in table.names if name not in (data.target, data.groups))
    own = "accuracy" if classifies(estimator) else "r2"
    return FitRequest(
        data.display_name, data.features or remaining, data.target, job.holdout, HOLDOUT_SEED, job.scorers or (own,)
    )


def _columns(features: Sequence[str], data: TableFile) -> list[str]:
    """Return the columns of a table that a fit needs, each once."""
    return list(dict.fromkeys([*features, data.target, *([data.groups] if data.groups else [])]))


def load_samples(data: TableFile | Dataset, folder: Path) -> Samples:
    """Load the samples of files or of scikit-learn into this process."""
    if isinstance(data, Dataset):
        try:
            return Samples(*load_dataset(data))
        except Exception as error:
            raise ConfigError(f"data set `{data.loader}` cannot be loaded: {in_a_line(error)}") from error
    frame = _read_table(files_of(data.addresses, folder), data)
    missing = int(frame[data.target].isna().sum())
    if frame.empty:
        raise ConfigError(f"`{data.display_name}` has no rows")
    if missing:
        rows = "1 row" if missing == 1 else f"{missing} rows"
        raise ConfigError(
            f"target column `{data.target}` of `{data.display_name}` is empty in {rows}", "remove or fill them"
        )
    remaining = [column for column in frame.columns if column not in (data.target, data.groups)]
    return Samples(
        features=frame[list(data.features) if data.features else remaining],
        target=frame[data.target].to_numpy(),
        groups=frame[data.groups].to_numpy() if data.groups else None,
    )


def _read_table(files: Sequence[File], data: TableFile) -> Any:
    import pandas

    columns = _columns(data.features, data) if data.features else None
    frames = []
    for file in files:
        try:
            if file.parquet:
                frames.append(pandas.read_parquet(file.url, columns=columns))
            else:
                frames.append(pandas.read_csv(file.url, usecols=columns))
        except Exception as error:
            name = file.url if file.remote else data.display_name
            raise ConfigError(f"`{name}` cannot be read: {in_a_line(error)}") from error
    return frames[0] if len(frames) == 1 else pandas.concat(frames, ignore_index=True)


# ---- a single fit


def _fit_in_memory(job: DeclaredJob, estimator: Any, samples: Samples) -> FitResult:
    """Fit in this process on the rows that are not held out; its parallel calls run where a script's would."""
    from sklearn.metrics import get_scorer
    from sklearn.model_selection import train_test_split

    if not job.holdout:
        return FitResult(estimator.fit(samples.features, samples.target), {}, len(samples.target), 0)
    X, X_held_out, y, y_held_out = train_test_split(
        samples.features, samples.target, test_size=job.holdout, random_state=HOLDOUT_SEED
    )
    estimator.fit(X, y)
    if job.scorers:
        scores = {name: float(get_scorer(name)(estimator, X_held_out, y_held_out)) for name in job.scorers}
    else:
        scores = {"": float(estimator.score(X_held_out, y_held_out))}
    return FitResult(estimator, scores, len(y), len(y_held_out))


def _fit_out_of_core(
    job: DeclaredJob,
    data: TableFile,
    estimator: Any,
    folder: Path,
    placement: Placement,
    notify: Notify,
    rounds: str | None,
) -> FitResult:
    table = table_of(files_of(data.addresses, folder))
    request = _fit_request(job, data, table, estimator)
    return fit(
        estimator, table, request, placement, partial(_train, notify, rounds, data_key(table, request, placement))
    )


def _train(
    notify: Notify,
    rounds: str | None,
    content: str | None,
    estimator: Any,
    X: Any,
    y: Any,
    eval_set: Any,
) -> Any:
    """Train with XGBoost or LightGBM on all workers at once. Keep checkpoints if the data's `content` is known."""
    from distributed import Client

    client = Client.current()
    if booster_library(estimator) == "xgboost":
        from skjob.boosters.xgboost import train_xgboost

        if rounds is not None and content is None:
            notify(
                "xgboost: another run cannot resume this training: the data's storage does not show whether files "
                "have changed"
            )
            rounds = None
        return train_xgboost(
            estimator, X, y, client=client, folder=rounds, identity=content, eval_set=eval_set, notify=notify
        ).model
    from skjob.boosters.lightgbm import train_lightgbm

    return train_lightgbm(estimator, X, y, client=client, eval_set=eval_set, notify=notify).model


# ---- search


def build_search(job: DeclaredJob, search: Search) -> Any:
    """Build scikit-learn's search, unfitted."""
    # Halving can only be imported after this.
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
    options = search.model_dump(exclude={"kind"})
    if options["error_score"] == "nan":
        options["error_score"] = math.nan
    return classes[type(search)](
        build_estimator(job.estimator),
        build_space(job),
        scoring=list(job.scoring) if isinstance(job.scoring, tuple) else job.scoring,
        cv=build_component(job.cv) if isinstance(job.cv, Component) else job.cv,
        **options,
    )


# ---- results


def _print_fit(fitted: FitResult) -> None:
    print(f"learned from     {fitted.learned_from} rows")
    for name, score in fitted.scores.items():
        by = f" ({name})" if name else ""
        print(f"score            {score!r}{by}, on {fitted.held_out} rows held out")


def _print_results(job: DeclaredJob, request: Search, search: Any) -> None:
    print(f"candidates       {len(search.cv_results_['params'])}, {search.n_splits_} folds each")
    if hasattr(search, "best_params_"):
        chooser = request.refit if isinstance(request.refit, str) else job.scoring
        by = f" ({chooser})" if chooser else ""
        # `repr` of a plain float is exact: the same search prints the same line, wherever it ran.
        print(f"best score       {float(search.cv_results_[_mean_score(chooser, job)][search.best_index_])!r}{by}")
        print("best parameters")
        for name, value in sorted(search.best_params_.items()):
            print(f"  {name}: {value}")
    else:
        print("best score       none: several scorers and `refit: false`")


def _mean_score(chooser: object, job: DeclaredJob) -> str:
    return f"mean_test_{chooser if isinstance(job.scoring, tuple) else 'score'}"


def _save(job: DeclaredJob, search: Any, folder: Path) -> None:
    if job.outputs.table is not None:
        path = resolve_path(folder, job.outputs.table)
        _write_atomically(path, lambda file: _write_table(search.cv_results_, path.suffix, file))
        print(f"table            {job.outputs.table}")
    if job.outputs.model is not None:
        _save_model(job, search.best_estimator_, folder)


def _save_model(job: DeclaredJob, model: Any, folder: Path) -> None:
    if job.outputs.model is not None:
        import joblib

        _write_atomically(resolve_path(folder, job.outputs.model), lambda file: joblib.dump(model, file))
        print(f"model            {job.outputs.model}")


def _write_table(results: dict[str, Any], suffix: str, file: IO[bytes]) -> None:
    import pandas

    # `params` repeats the columns `param_*` as mappings, which do not fit into a table.
    columns = {name: [_plain(cell) for cell in cells] for name, cells in results.items() if name != "params"}
    if suffix == ".json":
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        # Not with pandas, which rounds to 15 digits.
        file.write(
            json.dumps([{name: _json_cell(cell) for name, cell in row.items()} for row in rows], indent=1).encode()
        )
        return
    frame = pandas.DataFrame({name: _with_one_type(cells, suffix) for name, cells in columns.items()})
    if suffix == ".parquet":
        frame.to_parquet(file, index=False)
    else:
        frame.to_csv(file, index=False)


def _plain(cell: Any) -> Any:
    """Return a cell without numpy's types; None if a candidate does not have the parameter."""
    import numpy

    if cell is numpy.ma.masked:
        return None
    if isinstance(cell, numpy.generic):
        return cell.item()
    return cell if isinstance(cell, bool | int | float | str) or cell is None else _text(cell)


def _text(cell: Any) -> str:
    """Return a list, a tuple or an estimator as Python writes it, in one line."""
    return " ".join(str(cell).split())


def _json_cell(cell: Any) -> Any:
    """Return a cell as JSON can hold it, which has no `nan` and no infinity."""
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def _with_one_type(cells: list[Any], suffix: str) -> list[Any]:
    """Return cells of one type, as a Parquet column needs them: texts if they have several (`scale`, 0.1)."""
    kinds = {float if isinstance(cell, int) and not isinstance(cell, bool) else type(cell) for cell in cells}
    if suffix != ".parquet" or len(kinds - {type(None)}) <= 1:
        return cells
    return [None if cell is None else str(cell) for cell in cells]


def _write_atomically(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Write a file atomically: it appears complete or not at all."""
    try:
        with _replacing(path) as file:
            fill(file)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"`{path}` cannot be written: {reason}", "the fit itself is done") from error


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    # In the same folder, because a rename is atomic only within a file system.
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
