"""Fit an estimator on data that stays in pieces on the workers, and score it on the rows held out.

Rows never leave the workers: the client gets a model, a few sums, and the distinct values of the target.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from skjob.errors import ConfigError
from skjob.jobfile.data.additive_scores import SCORERS, Sums
from skjob.jobfile.data.estimator_support import booster_library, classifies, is_dask_ml, is_dask_ml_model, steps_of
from skjob.jobfile.data.partitions import Part, Pieces, Rows, parts_of, read_column, read_numbers, read_part
from skjob.jobfile.data.placement import Placement
from skjob.jobfile.data.table_size import Table

MAX_CLASSES = 10_000


@dataclass(frozen=True)
class FitRequest:
    """What to fit: the columns, the share of rows to hold out, and the seed of their draw.

    `address` is the data's name in messages.
    """

    address: str
    features: tuple[str, ...]
    target: str
    holdout: float
    seed: int
    scorers: tuple[str, ...]


@dataclass(frozen=True)
class FitResult:
    """The model, and its scores on the rows held out; no scores without such rows."""

    model: Any
    scores: dict[str, float]
    learned_from: int
    held_out: int


def unsupported_reasons(table: Table, request: FitRequest, estimator: Any) -> list[str]:
    """Return why this estimator cannot learn from these pieces, as far as is known without reading them."""
    steps = steps_of(estimator)
    columns = {column.name: column for column in table.columns}
    not_numbers = [name for name in request.features if columns[name].kind != "number"]
    problems = []
    if not_numbers and (is_dask_ml_model(steps[0]) or not is_dask_ml(steps[0])):
        problems.append(
            f"column `{not_numbers[0]}` of `{request.address}` does not hold numbers, which learning from pieces "
            "requires: leave it out of `features`, or start with a step of `dask_ml.preprocessing`"
        )
    if columns[request.target].empty:
        rows = columns[request.target].empty
        problems.append(f"target column `{request.target}` of `{request.address}` is empty in {rows:,} rows: fill them")
    for name in request.scorers if request.holdout else ():
        if name not in SCORERS:
            known = ", ".join(f"`{each}`" for each in SCORERS)
            problems.append(f"`{name}` cannot be computed from pieces; choose from {known}")
    return problems


def data_key(table: Table, request: FitRequest, placement: Placement) -> str | None:
    """Return the key of the rows and columns that a fit learns from and is scored on, in their order.

    None if a file's storage has nothing that identifies its content.
    """
    if not all(file.state for file in table.files):
        return None
    files = [(file.url, file.size, file.state) for file in table.files]
    # The rows held out are drawn part by part, and the parts depend on the workers' memory.
    parts = parts_of(table, placement.piece_rows)
    return repr((files, parts, request.features, request.target, request.holdout, request.seed))


def fit(
    estimator: Any,
    table: Table,
    request: FitRequest,
    placement: Placement,
    train_booster: Callable[..., Any],
) -> FitResult:
    """Fit on the cluster of this process's Dask client.

    `train_booster(estimator, X, y, eval_set)` trains an estimator of XGBoost's or LightGBM's.

    Raises:
        ConfigError: the estimator cannot learn from the data.
    """
    parts = parts_of(table, placement.piece_rows)
    all_rows = Pieces(parts, table, holdout=request.holdout, seed=request.seed)
    learn = replace(all_rows, rows=Rows.LEARN if request.holdout else Rows.ALL)
    steps = steps_of(estimator)
    classes = _classes(steps[-1], parts, request)
    X = _features(learn, request)
    y = learn.column(request.target, _target_type(table, request.target, classes))
    if placement.kept:
        import dask

        X, y = dask.persist(X, y)
    fitted = []
    for step in steps[:-1]:
        step = _fit_step(copy.deepcopy(step), X, y, None)
        X = _transformed(step, X)
        fitted.append(step)
    last = steps[-1]
    if booster_library(last):
        held_out = replace(all_rows, rows=Rows.HELD_OUT)
        target = held_out.column(request.target, y.dtype)
        model = train_booster(last, X, y, [(_features(held_out, request), target)] if request.holdout else [])
    else:
        model = _fit_step(copy.deepcopy(last), X, y, classes)
    if hasattr(estimator, "steps"):
        names = [name for name, _ in estimator.steps]
        model = type(estimator)(list(zip(names, [*fitted, model], strict=True)))
    return FitResult(
        model,
        _scores(model, replace(all_rows, rows=Rows.HELD_OUT), request) if request.holdout else {},
        sum(learn.lengths()),
        sum(part.rows for part in parts) - sum(learn.lengths()),
    )


def _features(pieces: Pieces, request: FitRequest) -> Any:
    """Return an array, as dask-ml's models and `partial_fit` take it; a frame if the first step needs columns."""
    if pieces.dtype(request.features) is not None:
        return pieces.numbers(request.features)
    return pieces.frame(request.features, _example(pieces.table, request.features))


def _example(table: Table, names: Sequence[str]) -> Any:
    """Return a frame without rows, with the types of a part."""
    first = next(group for group in table.groups if group.rows)
    return read_part(Part(first.url, (first.number,), first.rows, 0), names, Rows.ALL, 0.0, 0).iloc[:0]


def _target_type(table: Table, target: str, classes: Any) -> Any:
    if classes is not None:
        return classes.dtype
    width = next(column.width for column in table.columns if column.name == target)
    return "float32" if width == 4 else "float64"


# ---- classes


def _classes(last: Any, parts: Sequence[Part], request: FitRequest) -> Any:
    """Return the distinct values of a classifier's target, sorted; None for a regressor. Read the column once."""
    import dask
    import numpy

    logistic = is_dask_ml_model(last) and type(last).__name__ == "LogisticRegression"
    is_classifier = classifies(last)
    results = dask.compute([dask.delayed(_values)(part, request.target, is_classifier) for part in parts])[0]
    empty = sum(gaps for _, gaps in results)
    if empty:
        raise ConfigError(
            f"target column `{request.target}` of `{request.address}` is empty in {empty:,} rows", "fill them"
        )
    if not is_classifier:
        return None
    classes = numpy.unique(numpy.concatenate([values for values, _ in results]))
    if len(classes) > MAX_CLASSES:
        raise ConfigError(
            f"target column `{request.target}` of `{request.address}` has {len(classes):,} values: too many classes",
            "choose a regressor",
        )
    if logistic and not (len(classes) == 2 and set(classes.tolist()) <= {0, 1}):
        values = ", ".join(f"`{value}`" for value in classes.tolist()[:5])
        raise ConfigError(
            f"target column `{request.target}` of `{request.address}` has the values {values}: dask-ml's "
            "`LogisticRegression` takes 0 and 1",
            "write them as 0 and 1, or choose `sklearn.linear_model.SGDClassifier` with `loss: log_loss`",
        )
    return classes


def _values(part: Part, target: str, is_classifier: bool) -> tuple[Any, int]:
    import numpy
    import pandas

    column = read_column(part, target, Rows.ALL, 0.0, 0)
    gaps = int(pandas.isna(column).sum())
    values = numpy.unique(column) if is_classifier and not gaps else numpy.empty(0, column.dtype)
    return values[: MAX_CLASSES + 1], gaps


# ---- learning


def _fit_step(step: Any, X: Any, y: Any, classes: Any) -> Any:
    if is_dask_ml(step):
        return step.fit(X, y)
    return _by_partial_fit(step, X, y, classes)


def _by_partial_fit(step: Any, X: Any, y: Any, classes: Any) -> Any:
    """Fit piece by piece in a random order, drawn once: files are often sorted by time or by class."""
    import dask
    import numpy

    pieces = list(zip(_blocks(X), _blocks(y), strict=True))
    first = {} if classes is None else {"classes": classes}
    model = dask.delayed(step)
    for index in numpy.random.default_rng(0).permutation(len(pieces)):
        model = dask.delayed(_partial_fit_piece)(model, *pieces[index], first)
    return model.compute()


def _partial_fit_piece(step: Any, X: Any, y: Any, first: dict[str, Any]) -> Any:
    if not len(y):
        return step
    step = copy.deepcopy(step)  # a task that runs again must start from the same model
    return step.partial_fit(X, y, **first)


def _blocks(collection: Any) -> list[Any]:
    delayed = collection.to_delayed()
    return list(delayed.ravel()) if hasattr(delayed, "ravel") else list(delayed)


def _transformed(step: Any, X: Any) -> Any:
    if is_dask_ml(step):
        return step.transform(X)
    width = step.transform(X._meta_nonempty if hasattr(X, "_meta_nonempty") else _one_row(X)).shape[1]
    return X.map_blocks(step.transform, dtype=X.dtype, chunks=(X.chunks[0], (width,)))


def _one_row(X: Any) -> Any:
    import numpy

    return numpy.zeros((1, X.shape[1]), X.dtype)


# ---- scores


def _scores(model: Any, held_out: Pieces, request: FitRequest) -> dict[str, float]:
    """Score each piece on the worker that holds it, and merge the sums."""
    import dask

    delayed_model = dask.delayed(model)
    dtype = held_out.dtype(request.features)
    sums_of_parts = [dask.delayed(_sums_of_part)(delayed_model, part, request, dtype) for part in held_out.parts]
    (results,) = dask.compute(sums_of_parts)
    sums = Sums.merge(results)
    return {name: sums.score(name) for name in request.scorers}


def _sums_of_part(model: Any, part: Part, request: FitRequest, dtype: str | None) -> Sums:
    target = read_column(part, request.target, Rows.HELD_OUT, request.holdout, request.seed)
    if not len(target):
        return Sums()
    if dtype is None:
        features = read_part(part, request.features, Rows.HELD_OUT, request.holdout, request.seed)
    else:
        features = read_numbers(part, request.features, Rows.HELD_OUT, request.holdout, request.seed, dtype)
    return Sums.of(target, model.predict(features))
